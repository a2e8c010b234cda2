"""A device takes a controller's place: keys, certificate, configuration and documents, in an order that can be interrupted.

Keys are durable before the hub hears of them, in ``.enrolling`` beside the configuration; the code that was used with them
can be used again by nobody else. ``controller.toml`` is written last: once it is there, everything is.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from edge.config import Config, UseTpm
from edge.config_file import RENEWED, load
from edge.device_keys import EVENT_KEY, PASSPHRASE, DeviceKeys, write_secret
from edge.enrolment_hub import EnrolmentHub, EnrolmentRefused, Place
from edge.keystore import read_policy_keys, root_keys_of
from edge.policy_store import PolicyStore
from edge.signers import Signers
from edge.state_dir import make_state_dir
from edge.tpm import TpmKey
from pacs.certificates import check_device_chain, read_chain
from pacs.decision import ClockReading
from pacs.enrolment import EnrolmentCode
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.wiring import Wiring, controller_toml

CONFIGURATION: Final = "controller.toml"
STAGE: Final = ".enrolling"
DONE: Final = ".enrolled"
"""Which code was used up for what is here, by its digest."""
DEVICE: Final = "device.pem"
ROOT: Final = "root.cert.pem"
POLICY_KEYS: Final = "policy.pub.pem"
KEY_FILES: Final = {
    "device_certificate": DEVICE,
    "device_key": DEVICE,
    "event_key": EVENT_KEY,
    "root_certificate": ROOT,
    "policy_public_key": POLICY_KEYS,
    "passphrase_file": PASSPHRASE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """One attempt. ``directory`` gets configuration and keys, ``state_dir`` what a running controller writes."""

    code: EnrolmentCode
    directory: Path
    state_dir: Path
    now: datetime
    say: Callable[[str], None]
    use_tpm: UseTpm | None = None
    """None: as the configuration that is there says, or where there is one."""

    def present(self) -> Config | None:
        """The controller that this device is already; None: none. Raises ``ConfigError``, or ``StoreError`` for its remains."""
        path = self.directory / CONFIGURATION
        if path.exists():
            return load(path)
        journal = self.state_dir / "journal"
        with suppress(FileNotFoundError):
            if any(journal.iterdir()):
                raise StoreError(
                    f"{journal}: holds the events of a controller that was here before, and the hub may lack some; "
                    f"move {self.state_dir} away, or name another with --state-dir"
                )
        return None

    def rehearse(self) -> list[str]:
        """What would be done, one line each; the hub is asked for its root, and nothing is written."""
        present = self.present()
        hub = EnrolmentHub(self.code)
        hub.check(hub.root())
        would = [f"ask {self.code.address}, whose root is the one that the code names, for a certificate"]
        if present is not None:
            return [
                *would,
                f"keep {present.path} and the event key; put the new device key into {present.keys.renewed}",
            ]
        return [
            *would,
            f"make keys in {self.directory}",
            f"write {self.directory / CONFIGURATION} and {self.state_dir}",
        ]

    def run(self) -> Path:
        """Enrol, or go on where it stopped; the configuration's path.

        Raises ``EnrolmentRefused``, ``HubUnreachable``, ``StoreError``, ``MalformedData``.
        """
        present = self.present()
        if present is not None and _says(self.directory / DONE, self._mark):
            self.say("Enrolled with this code before.")
            return present.path
        hub = EnrolmentHub(self.code)
        root = hub.root()
        self.say("The hub's root certificate is the one that the code names.")
        keys = self._keys(present)
        request = keys.request()
        asked: dict[str, Any] = {
            "certificate_request": base64.b64encode(request).decode(),
            "event_public_key": keys.event_public_key.hex(),
            "proof": keys.prove(request).hex(),
        }
        if present is not None:
            asked["controller_id"] = present.controller_id
        place = hub.take_place(root, asked)
        self._check(place, root, keys)
        self.say(f"Certified as controller {place.controller_id} of site {place.site_id}.")
        if present is None:
            wiring = _wiring(place)
            self._install(place, keys)
            self._keep_documents(place, self.state_dir, self.directory / POLICY_KEYS)
            write_secret(self.directory / CONFIGURATION, self._configuration(place, wiring))
        else:
            self._renew(place, keys, present)
            self._keep_documents(place, present.state_dir, present.keys.policy_public_key)
        self._clear()
        return self.directory / CONFIGURATION

    @property
    def _mark(self) -> str:
        return hashlib.sha256(b"drempel enrolment code\0" + self.code.secret).hexdigest()

    @property
    def _stage(self) -> Path:
        return self.directory / STAGE

    def _keys(self, present: Config | None) -> DeviceKeys:
        """Those made for this code before, or fresh ones; a device that is a controller keeps its event key."""
        mark = self._stage / "code"
        is_begun = _says(mark, self._mark)
        try:
            if self._stage.exists() and not is_begun:
                shutil.rmtree(self._stage)
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._stage.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._stage}: {error.strerror}; run this as the controller's user") from error
        if present is None:
            keys = DeviceKeys.kept_in(self._stage, use_tpm=self.use_tpm or UseTpm.AUTO)
        else:
            keys = DeviceKeys.kept_in(
                self._stage,
                use_tpm=self.use_tpm or present.keys.tpm,
                passphrase_file=present.keys.passphrase_file,
                event_key_file=present.keys.event_key,
            )
        made = (
            "Made keys on this device"
            if not is_begun
            else "Going on with the keys that were made for this code"
        )
        self.say(f"{made}; the TPM keeps them." if isinstance(keys.device_key, TpmKey) else f"{made}.")
        write_secret(mark, self._mark.encode())
        return keys

    def _check(self, place: Place, root: x509.Certificate, keys: DeviceKeys) -> None:
        """Whatever TLS said: what is believed from now on leads to the root that the code names."""
        if read_chain(place.root) != [root]:
            raise EnrolmentRefused(
                "the hub gives another root certificate than it showed; nothing was written"
            )
        chain = read_chain(place.certificates.encode())
        check_device_chain(chain, [root], name=place.controller_id, public_key=keys.public_key)
        if not chain[0].not_valid_before_utc <= self.now < chain[0].not_valid_after_utc:
            raise EnrolmentRefused(
                f"by this machine's clock it is {self.now:%Y-%m-%d %H:%M} UTC, when the new certificate is not valid; "
                "set the clock, then run this again"
            )
        if place.wiring is not None and place.wiring.door_ids != place.doors:
            raise MalformedData("the hub's answer: its wiring is of other doors")

    def _install(self, place: Place, keys: DeviceKeys) -> None:
        for name in (PASSPHRASE, EVENT_KEY):
            write_secret(self.directory / name, (self._stage / name).read_bytes())
        write_secret(self.directory / DEVICE, keys.device_file(place.certificates))
        write_secret(self.directory / ROOT, place.root)
        write_secret(self.directory / POLICY_KEYS, place.policy_keys.encode())

    def _renew(self, place: Place, keys: DeviceKeys, present: Config) -> None:
        """The same controller: its file and its event key stay, and whom it believes is brought up to date."""
        write_secret(present.keys.root_certificate, place.root)
        write_secret(present.keys.policy_public_key, place.policy_keys.encode())
        make_state_dir(present.state_dir)
        write_secret(present.state_dir / RENEWED, keys.device_file(place.certificates))

    def _keep_documents(self, place: Place, state_dir: Path, policy_keys: Path) -> None:
        """Verified by the policy's key before they are kept; what is held already, or newer, stays."""
        make_state_dir(state_dir)
        signers = Signers(read_policy_keys(policy_keys), partial(root_keys_of, place.root))
        store = PolicyStore(state_dir / "policy", site_id=place.site_id, signers=signers)
        for kind in DocumentKind:
            try:
                store.accept(kind, place.documents[kind], ClockReading(at=self.now, trusted=True))
            except VerificationError as error:
                if error.reason is not Reason.DOCUMENT_NOT_NEWER:
                    raise EnrolmentRefused(
                        f"the hub's {kind.value} document is not to be believed: {error.reason.value}"
                    ) from error
        self.say(
            f"Holds policy {store.versions[DocumentKind.POLICY]} and revocations {store.versions[DocumentKind.REVOCATIONS]}."
        )

    def _configuration(self, place: Place, wiring: Wiring) -> bytes:
        return controller_toml(
            wiring,
            controller_id=place.controller_id,
            site_id=place.site_id,
            host=place.host,
            port=place.port,
            keys=KEY_FILES if self.use_tpm is None else KEY_FILES | {"tpm": self.use_tpm.value},
            state_dir=str(self.state_dir),
        ).encode()

    def _clear(self) -> None:
        """What is left behind would only lead the next one to the same keys."""
        write_secret(self.directory / DONE, self._mark.encode())
        shutil.rmtree(self._stage, ignore_errors=True)


def _wiring(place: Place) -> Wiring:
    if place.wiring is None:
        raise EnrolmentRefused(
            "the hub knows no wiring of this place; see drempel-provision reader wiring --help"
        )
    return place.wiring


def _says(path: Path, text: str) -> bool:
    """Whether the file holds exactly this."""
    try:
        return path.read_text("ascii") == text
    except (OSError, UnicodeDecodeError):
        return False
