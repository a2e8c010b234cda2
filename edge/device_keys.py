"""A controller's own keys, made on the device: P-256 for TLS and Ed25519 for its events.

``DeviceKeys`` is what enrolment and renewal ask for, so that another keeper can take the place of files. Files encrypted
with a passphrase beside them are the only one there is: a TPM or a secure element is not used (docs/enrolment.md says why).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from edge.keystore import read_event_key, read_passphrase, read_private_key
from edge.state_files import StateFiles, replace_file, store_error
from pacs import certificates
from pacs.enrolment import proof_of
from pacs.errors import StoreError

PASSPHRASE, DEVICE_KEY, EVENT_KEY = "passphrase", "device.key.pem", "event.key.pem"


class DeviceKeys(Protocol):
    """Proves what it has, and never gives a private key away in the clear."""

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Of the device, for its certificate."""
        ...

    @property
    def event_public_key(self) -> bytes:
        """32 bytes."""
        ...

    def request(self) -> bytes:
        """A certificate request (PKCS#10, DER)."""
        ...

    def prove(self, request: bytes) -> bytes:
        """The event key's signature that binds it to the request."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKeys:
    """Keys in memory, whose files are encrypted with ``passphrase``."""

    passphrase: bytes = field(repr=False)
    device_key: ec.EllipticCurvePrivateKey = field(repr=False)
    event_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def kept_in(
        cls, directory: Path, *, passphrase_file: Path | None = None, event_key_file: Path | None = None
    ) -> Self:
        """The keys in this directory; those that are not there are made first, and are durable when this returns.

        ``passphrase_file`` and ``event_key_file``: of a device that has these already. Raises ``StoreError``.
        """
        if passphrase_file is None:
            passphrase_file = directory / PASSPHRASE
            if not passphrase_file.exists():
                write_secret(passphrase_file, secrets.token_urlsafe(32).encode() + b"\n")
        passphrase = read_passphrase(passphrase_file)
        device_file = directory / DEVICE_KEY
        if not device_file.exists():
            write_secret(device_file, sealed(ec.generate_private_key(ec.SECP256R1()), passphrase))
        device_key = read_private_key(device_file, passphrase)
        if event_key_file is None:
            event_key_file = directory / EVENT_KEY
            if not event_key_file.exists():
                write_secret(event_key_file, sealed(Ed25519PrivateKey.generate(), passphrase))
        event_key = read_event_key(event_key_file, passphrase)
        if not isinstance(device_key, ec.EllipticCurvePrivateKey):
            raise StoreError(f"{device_file}: not a P-256 key; remove {directory} and enrol again")
        return cls(passphrase=passphrase, device_key=device_key, event_key=event_key)

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """As in ``DeviceKeys``."""
        return self.device_key.public_key()

    @property
    def event_public_key(self) -> bytes:
        """As in ``DeviceKeys``."""
        return self.event_key.public_key().public_bytes_raw()

    def request(self) -> bytes:
        """As in ``DeviceKeys``."""
        return certificates.request(self.device_key)

    def prove(self, request: bytes) -> bytes:
        """As in ``DeviceKeys``."""
        return self.event_key.sign(proof_of(request))

    def device_file(self, chain: str) -> bytes:
        """What one file holds of the device: its certificate with those above it, and its encrypted key."""
        return chain.encode("ascii") + sealed(self.device_key, self.passphrase)


def sealed(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: bytes) -> bytes:
    """PEM of a private key, encrypted; the passphrase has 256 random bits."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))


def write_secret(path: Path, data: bytes) -> None:
    """Make ``path`` hold exactly ``data``, 0600 and durable; raises ``StoreError``."""
    try:
        replace_file(StateFiles(), path, data)
    except OSError as error:
        raise store_error(error, path) from error
