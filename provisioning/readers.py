"""Provisioning of a controller: its keys, its certificates and its configuration, in a directory of its own."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs.certificates import serial_hex
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Side
from pacs.wiring import MAX_DOORS, Wiring, controller_toml, proposed_door
from provisioning.authority import Authority, Purpose, generate_key
from provisioning.keystore import (
    NewFile,
    Passphrase,
    PublicKey,
    make_directory,
    public_pem,
    read_file,
    read_public_key,
)
from provisioning.site import Site, secret_key

KEY_FILES: Final = {
    "device_certificate": "device.cert.pem",
    "device_key": "device.key.pem",
    "event_key": "event.key.pem",
    "root_certificate": "root.cert.pem",
    "policy_public_key": "policy.pub.pem",
    "passphrase_file": "passphrase",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorWiring:
    """One door of a controller: the serial port of its reader, and its strike.

    ``energise_to`` is ``unlock`` for a fail-secure strike and ``lock`` for a fail-safe one.
    """

    id: DoorId
    device: str
    side: Side = Side.ENTRY
    energise_to: str = "unlock"
    baud: int = 921600


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionedController:
    """A controller's directory, and what the hub has to know of it.

    ``event_public_key`` is 32 bytes; ``certificate_serial`` is hex.
    """

    id: ControllerId
    site_id: SiteId
    directory: Path
    doors: tuple[DoorId, ...]
    event_public_key: bytes
    certificate_serial: str


def add_controller(
    site: Site,
    authority: Authority,
    controller_id: ControllerId,
    doors: Sequence[DoorWiring],
    *,
    now: datetime,
    pins: str = "lgpio",
    broker_port: int = 8883,
    broker_host: str | None = None,
) -> ProvisionedController:
    """Make ``controllers/<id>`` in the site's directory: keys, certificates and ``controller.toml``.

    The keys are under a passphrase of the controller's own, so that no door can open the site's.
    ``pins`` is ``lgpio`` or ``mock``. Raises ``StoreError`` when the directory exists,
    ``MalformedData`` unless there are 1 to ``MAX_DOORS`` doors; then nothing was made.
    """
    if not 1 <= len(doors) <= MAX_DOORS:
        raise MalformedData(f"controller {controller_id}: 1 to {MAX_DOORS} doors expected")
    passphrase = Passphrase.generate()
    device_key, event_key = generate_key(), ed25519.Ed25519PrivateKey.generate()
    certificate = authority.certify(
        name=controller_id, public_key=device_key.public_key(), purpose=Purpose.CLIENT, now=now
    )
    host = broker_host or site.broker_host
    configuration = controller_toml(
        wired(doors, pins=pins),
        controller_id=controller_id,
        site_id=site.id,
        host=host,
        port=broker_port,
        keys=KEY_FILES,
    )
    directory = site.directory / "controllers" / controller_id
    make_directory(
        directory,
        [
            passphrase.file,
            NewFile(path=Path("controller.toml"), data=configuration.encode()),
            NewFile(path=Path("device.cert.pem"), data=authority.chain_pem(certificate)),
            secret_key("device.key.pem", device_key, passphrase),
            NewFile(path=Path("event.pub.pem"), data=public_pem(event_key.public_key())),
            secret_key("event.key.pem", event_key, passphrase),
            NewFile(path=Path("root.cert.pem"), data=read_file(site.directory / "root.cert.pem")),
            NewFile(path=Path("policy.pub.pem"), data=read_file(site.directory / "policy.pub.pem")),
        ],
    )
    return ProvisionedController(
        id=controller_id,
        site_id=site.id,
        directory=directory,
        doors=tuple(door.id for door in doors),
        event_public_key=_raw(event_key.public_key()),
        certificate_serial=serial_hex(certificate),
    )


def wired(doors: Sequence[DoorWiring], *, pins: str = "lgpio") -> Wiring:
    """A proposal of pins for these doors; raises ``MalformedData`` unless there are 1 to ``MAX_DOORS``."""
    return Wiring(
        pins=pins,
        doors=tuple(
            proposed_door(
                place, door.id, door.device, energise_to=door.energise_to, side=door.side, baud=door.baud
            )
            for place, door in enumerate(doors)
        ),
    )


def read_controller(site: Site, controller_id: ControllerId) -> ProvisionedController:
    """What ``add_controller`` returned, from the directory it made; raises ``StoreError``."""
    directory = site.directory / "controllers" / controller_id
    try:
        table = tomllib.loads(read_file(directory / "controller.toml").decode("utf-8"))
        site_id = SiteId(table["controller"]["site"])
        doors = tuple(DoorId(door["id"]) for door in table["door"])
        certificate = x509.load_pem_x509_certificate(read_file(directory / "device.cert.pem"))
    except (ValueError, KeyError, TypeError, MalformedData) as error:
        raise StoreError(f"{directory}: not a controller's directory ({error})") from error
    return ProvisionedController(
        id=controller_id,
        site_id=site_id,
        directory=directory,
        doors=doors,
        event_public_key=_raw(read_public_key(directory / "event.pub.pem")),
        certificate_serial=serial_hex(certificate),
    )


def _raw(key: PublicKey) -> bytes:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise StoreError("event.pub.pem: an Ed25519 key expected")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
