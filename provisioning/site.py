"""One site's directory: its root, its card issuer, its policy signer, and what its hub is given.

::

    DIR/  site.toml  passphrase  root.*  card-issuer.*  policy.*
          hub/       what the hub's machine gets, under a passphrase of its own
          controllers/<id>/   what each controller gets (readers.py), likewise

The root's key and the card issuer's key stay here: neither the hub nor a controller can make a card
or another device.
"""

from __future__ import annotations

import json
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pacs import envelope
from pacs.card.cvc import check_issuer
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import SiteId
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key
from provisioning.keystore import (
    NewFile,
    Passphrase,
    make_directory,
    public_pem,
    read_file,
    read_key,
    read_public_key,
    seal_key,
)

HUB_NAME: Final = "hub"
BROKER_NAME: Final = "broker"
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_ISSUER_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

Table = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An existing site directory. ``issuer`` is the card issuer's identification reference (16 characters).

    ``broker_host`` is the name by which controllers reach the broker; its certificate carries it.
    """

    directory: Path
    id: SiteId
    issuer: str
    policy_key_id: str
    broker_host: str

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read ``site.toml``. Raises ``StoreError`` when there is none or it is damaged."""
        path = directory / "site.toml"
        try:
            table = tomllib.loads(read_file(path).decode("utf-8"))
            return cls(
                directory=directory,
                id=SiteId(table["site"]),
                issuer=check_issuer(table["issuer"]),
                policy_key_id=str(table["policy_key_id"]),
                broker_host=str(table["broker_host"]),
            )
        except (ValueError, KeyError, TypeError, MalformedData) as error:
            raise StoreError(f"{path}: not a site's description ({error})") from error

    def at(self, site_id: SiteId) -> Self:
        """The same keys for another site of the same hub."""
        return replace(self, id=site_id)

    @property
    def hub_directory(self) -> Path:
        """What the hub's machine is given."""
        return self.directory / "hub"

    def passphrase(self, file: Path | None = None) -> Passphrase:
        """The site's passphrase, from ``file`` or the directory's own; raises ``StoreError``."""
        return Passphrase.from_file(file or self.directory / "passphrase")

    def authority(self, passphrase: Passphrase) -> Authority:
        """The root, able to certify; raises ``StoreError``."""
        certificate = x509.load_pem_x509_certificate(read_file(self.directory / "root.cert.pem"))
        return Authority(certificate, self._p256("root.key.pem", passphrase))

    def card_issuer_key(self, passphrase: Passphrase) -> ec.EllipticCurvePrivateKey:
        """The key that signs card certificates; raises ``StoreError``."""
        return self._p256("card-issuer.key.pem", passphrase)

    def card_issuer_public_key(self) -> ec.EllipticCurvePublicKey:
        """The key that verifies card certificates; raises ``StoreError``."""
        path = self.directory / "card-issuer.pub.pem"
        key = read_public_key(path)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise StoreError(f"{path}: a P-256 key expected")
        return key

    def _p256(self, name: str, passphrase: Passphrase) -> ec.EllipticCurvePrivateKey:
        path = self.directory / name
        key = read_key(path, passphrase)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{path}: a P-256 key expected")
        return key


def create_site(
    directory: Path,
    site_id: SiteId,
    *,
    now: datetime,
    passphrase: Passphrase | None = None,
    broker_hosts: Sequence[str] = ("localhost",),
    issuer: str | None = None,
) -> Site:
    """Make a site's directory with all its keys, and return it.

    Without a ``passphrase`` one is generated and kept in ``directory/passphrase``. ``broker_hosts`` are
    names or addresses of the hub's machine, the first being the one controllers use. ``issuer`` is
    random unless given. Raises ``StoreError`` when ``directory`` exists, ``MalformedData`` for a bad
    host or issuer; then nothing was made.
    """
    files = site_files(
        site_id, now=now, passphrase=passphrase, broker_hosts=broker_hosts, issuer=issuer or generate_issuer()
    )
    make_directory(directory, files)
    return Site.open(directory)


def generate_issuer() -> str:
    """A random issuer identification reference: strangers can read it, so it names nobody."""
    return "".join(secrets.choice(_ISSUER_CHARACTERS) for _ in range(16))


def site_files(
    site_id: SiteId, *, now: datetime, passphrase: Passphrase | None, broker_hosts: Sequence[str], issuer: str
) -> list[NewFile]:
    """Everything that ``create_site`` writes."""
    check_issuer(issuer)
    own, hubs = passphrase or Passphrase.generate(), Passphrase.generate()
    root = Authority.create(f"Drempel site {site_id}", now)
    issuer_key, policy_key = generate_key(), ed25519.Ed25519PrivateKey.generate()
    broker_key, client_key = generate_key(), generate_key()
    broker = root.certify(
        name=BROKER_NAME,
        public_key=broker_key.public_key(),
        purpose=Purpose.NODE,
        now=now,
        hosts=(*broker_hosts, *LOOPBACK),
    )
    client = root.certify(name=HUB_NAME, public_key=client_key.public_key(), purpose=Purpose.CLIENT, now=now)
    description = NewFile(
        path=Path("site.toml"),
        data=toml_table(
            {
                "site": site_id,
                "issuer": issuer,
                "policy_key_id": envelope.key_id(policy_key.public_key()).hex(),
                "broker_host": broker_hosts[0],
                "created_at": now.isoformat(timespec="seconds"),
            }
        ).encode(),
    )
    public = [
        NewFile(path=Path("root.cert.pem"), data=certificate_pem(root.certificate)),
        NewFile(path=Path("card-issuer.pub.pem"), data=public_pem(issuer_key.public_key())),
        NewFile(path=Path("policy.pub.pem"), data=public_pem(policy_key.public_key())),
        description,
    ]
    return [
        *public,
        *([own.file] if passphrase is None else []),
        secret_key("root.key.pem", root.key, own),
        secret_key("card-issuer.key.pem", issuer_key, own),
        secret_key("policy.key.pem", policy_key, own),
        *(
            NewFile(path=Path("hub") / file.path, data=file.data, is_secret=file.is_secret)
            for file in (
                *public,
                hubs.file,
                NewFile(path=Path("broker.cert.pem"), data=certificate_pem(broker)),
                secret_key("broker.key.pem", broker_key, hubs),
                NewFile(path=Path("client.cert.pem"), data=certificate_pem(client)),
                secret_key("client.key.pem", client_key, hubs),
                secret_key("policy.key.pem", policy_key, hubs),
                NewFile(path=Path("hub.toml"), data=_hub_toml(broker_hosts[0]).encode()),
            )
        ),
    ]


def secret_key(
    name: str, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, passphrase: Passphrase
) -> NewFile:
    """The file of an encrypted private key."""
    return NewFile(path=Path(name), data=seal_key(key, passphrase), is_secret=True)


def toml_table(values: Table, *, header: str = "") -> str:
    """Lines of one TOML table; texts are written as basic strings (TOML 1.0, whose escapes JSON shares)."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([*([header] if header else []), *lines, ""])


def _hub_toml(broker_host: str) -> str:
    listen = "127.0.0.1:8883" if broker_host in LOOPBACK else "0.0.0.0:8883"
    return "\n".join(
        [
            "# drempel-hub run --config hub.toml; relative paths start at this file.",
            toml_table({"data_dir": "data", "passphrase_file": "passphrase"}),
            toml_table({"listen": "127.0.0.1:8000"}, header="[http]"),
            "# Mutual TLS: only devices certified by root.cert.pem are let in.",
            toml_table({"listen": listen}, header="[mqtt]"),
        ]
    )
