"""A controller's own keys, made on the device: P-256 for TLS and Ed25519 for its events.

Where there is a TPM the first is made in it and never leaves it, and the passphrase that the second's file is encrypted with
is sealed to it; without one both are files, encrypted with a passphrase beside them.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from edge import tpm
from edge.config import KeyPaths, UseTpm
from edge.keystore import is_kept_by_tpm, read_event_key, read_passphrase, read_private_key
from edge.state_files import StateFiles, replace_file, store_error
from pacs import certificates
from pacs.enrolment import proof_of
from pacs.errors import StoreError

_log = logging.getLogger(__name__)

PASSPHRASE, DEVICE_KEY, EVENT_KEY = "passphrase", "device.key.pem", "event.key.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """What enrolment and renewal ask for; ``passphrase`` encrypts whichever key is a file's."""

    passphrase: bytes = field(repr=False)
    device_key: ec.EllipticCurvePrivateKey = field(repr=False)
    event_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def kept_in(
        cls,
        directory: Path,
        *,
        use_tpm: UseTpm,
        passphrase_file: Path | None = None,
        event_key_file: Path | None = None,
    ) -> Self:
        """The keys in this directory; those that are not there are made first, and are durable when this returns.

        ``passphrase_file`` and ``event_key_file``: of a device that has these already. Raises ``StoreError``.
        """
        if passphrase_file is None:
            passphrase_file = directory / PASSPHRASE
            if not passphrase_file.exists():
                write_secret(passphrase_file, new_passphrase(use_tpm))
        passphrase = read_passphrase(passphrase_file)
        device_file = directory / DEVICE_KEY
        if not device_file.exists():
            write_secret(device_file, new_device_key(use_tpm, passphrase))
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
        """Of the device, for its certificate."""
        return self.device_key.public_key()

    @property
    def event_public_key(self) -> bytes:
        """32 bytes."""
        return self.event_key.public_key().public_bytes_raw()

    def request(self) -> bytes:
        """A certificate request (PKCS#10, DER); raises ``StoreError`` when a TPM does not sign it."""
        return certificates.request(self.device_key)

    def prove(self, request: bytes) -> bytes:
        """The event key's signature that binds it to the request."""
        return self.event_key.sign(proof_of(request))

    def device_file(self, chain: str) -> bytes:
        """What one file holds of the device: its certificate with those above it, and its key."""
        return chain.encode("ascii") + sealed(self.device_key, self.passphrase)


def new_passphrase(use_tpm: UseTpm) -> bytes:
    """What the file of a new passphrase holds: 256 random bits as text, sealed where there is a TPM; raises ``StoreError``."""
    passphrase = secrets.token_urlsafe(32).encode() + b"\n"
    return _by_tpm(use_tpm, lambda: tpm.seal(passphrase)) or passphrase


def use_after(present: KeyPaths) -> UseTpm:
    """For the key that takes the place of the present one: what a TPM keeps goes into no file by itself.

    Raises ``StoreError``.
    """
    if present.tpm is UseTpm.AUTO and is_kept_by_tpm(present.device_key):
        return UseTpm.REQUIRED
    return present.tpm


def new_device_key(use_tpm: UseTpm, passphrase: bytes) -> bytes:
    """PEM of a new P-256 key: of the TPM where there is one, else encrypted; raises ``StoreError``."""
    return _by_tpm(use_tpm, tpm.make_key) or sealed(ec.generate_private_key(ec.SECP256R1()), passphrase)


def _by_tpm(use_tpm: UseTpm, make: Callable[[], bytes]) -> bytes | None:
    """None: without one, or by a file because the TPM that is there does nothing and need not."""
    if use_tpm is UseTpm.NEVER:
        return None
    if use_tpm is UseTpm.AUTO and not tpm.is_there():
        return None
    try:
        return make()
    except StoreError as error:
        if use_tpm is UseTpm.REQUIRED:
            raise
        _log.warning("a file keeps what the TPM should: %s", error)
        return None


def sealed(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, passphrase: bytes) -> bytes:
    """PEM of a private key, encrypted (the passphrase has 256 random bits), or the blob of a TPM's key."""
    if isinstance(key, tpm.TpmKey):
        return key.pem
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))


def write_secret(path: Path, data: bytes) -> None:
    """Make ``path`` hold exactly ``data``, 0600 and durable; raises ``StoreError``."""
    try:
        replace_file(StateFiles(), path, data)
    except OSError as error:
        raise store_error(error, path) from error
