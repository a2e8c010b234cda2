"""The masters of the issuer's keys on cards, in one file under the site's passphrase.

*Transport* masters belong to a batch of blank cards and are shared with their maker; the *administration* master is the
site's own, and a card gets a set diversified from it when it is locked. With neither can anybody make a card that opens
a door: that takes the card issuer's key.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from pacs.card import card_keys
from pacs.card.card_keys import CardSerial, check_batch, diversify
from pacs.card.secure_channel import Greeting, KeySet
from pacs.errors import MalformedData, PacsError, StoreError
from provisioning.keystore import NewFile, Passphrase, read_file

FILE_NAME: Final = "card-keys"
_HEAD: Final = b"drempel card keys 1\n"
_RANDOM, _CHOSEN = b"r", b"c"  # what the passphrase is: it is stretched only where a person chose it
_SALT, _NONCE = 16, 12


class KeyMissing(PacsError):
    """The site does not have the keys of this card; the message says which, and how to come by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKeys:
    """``administration``: masters by the version of the set they make; ``transport``: masters by batch. 32 bytes each."""

    administration: Mapping[int, bytes] = field(repr=False)
    transport: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        """A fresh administration master, and no batch."""
        made = {card_keys.FIRST_ADMINISTRATION_VERSION: secrets.token_bytes(card_keys.MASTER_BYTES)}
        return cls(administration=MappingProxyType(made), transport=MappingProxyType({}))

    def with_batch(self, batch: str, master: bytes) -> Self:
        """The same with the transport master of a batch. Raises ``MalformedData``; another master is not replaced."""
        if len(master) != card_keys.MASTER_BYTES:
            raise MalformedData("transport key of a batch: 32 bytes expected")
        if self.transport.get(check_batch(batch), master) != master:
            raise MalformedData(f"batch {batch}: there is another transport key of that name")
        return replace(self, transport=MappingProxyType({**self.transport, batch: master}))

    def with_simulated_batch(self) -> Self:
        """The same with the published key of the simulator's cards."""
        return self.with_batch(card_keys.SIMULATED_BATCH, card_keys.SIMULATED_MASTER)

    def rotated(self) -> Self:
        """The same with another administration master for cards locked from now on. Raises ``StoreError`` at the last."""
        version = max(self.administration) + 1
        if version > card_keys.LAST_ADMINISTRATION_VERSION:
            raise StoreError("card keys: no version is left for another administration key")
        made = {**self.administration, version: secrets.token_bytes(card_keys.MASTER_BYTES)}
        return replace(self, administration=MappingProxyType(made))

    def keys(self, greeting: Greeting) -> KeySet:
        """``pacs.card.personalisation.Bureau.keys``. Raises ``KeyMissing``."""
        try:
            serial = CardSerial(greeting.serial)
        except MalformedData as error:
            raise KeyMissing(f"a card of another make: {error}") from error
        version = greeting.key_version
        if version == card_keys.TRANSPORT_VERSION:
            master, what = self.transport.get(serial.batch), f"the transport key of batch {serial.batch}"
        else:
            master, what = self.administration.get(version), f"administration key {version}"
        if master is None:
            raise KeyMissing(
                f"card {serial}: this site does not have {what}; add it with drempel-provision card keys add-batch,"
                " or the card is another site's"
            )
        return diversify(master, version, serial)

    def newest_administration(self, serial: CardSerial) -> KeySet:
        """The set that a card gets when it is locked."""
        version = max(self.administration)
        return diversify(self.administration[version], version, serial)

    # ---- the file

    @classmethod
    def open(cls, data: bytes, passphrase: Passphrase, name: str) -> Self:
        """Read what ``seal`` wrote. Raises ``StoreError`` naming the file ``name``."""
        kind, salt = data[len(_HEAD) : len(_HEAD) + 1], data[len(_HEAD) + 1 :][:_SALT]
        rest = data[len(_HEAD) + 1 + _SALT :]
        if not data.startswith(_HEAD) or kind not in (_RANDOM, _CHOSEN):
            raise StoreError(f"{name}: not a file of card keys")
        try:
            cipher = AESGCM(_file_key(passphrase.secret, salt, kind))
            plain = cipher.decrypt(rest[:_NONCE], rest[_NONCE:], _HEAD + kind)
        except (InvalidTag, ValueError) as error:
            raise StoreError(f"{name}: the passphrase does not open these keys") from error
        try:
            table = json.loads(plain)
            administration = {int(v): bytes.fromhex(key) for v, key in table["administration"].items()}
            transport = {check_batch(batch): bytes.fromhex(key) for batch, key in table["transport"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, MalformedData) as error:
            raise StoreError(f"{name}: written by another version") from error
        return cls(administration=MappingProxyType(administration), transport=MappingProxyType(transport))

    def seal(self, passphrase: Passphrase) -> bytes:
        """AES-256-GCM under a key from the passphrase."""
        kind = _RANDOM if passphrase.is_random else _CHOSEN
        salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
        plain = json.dumps(
            {
                "administration": {str(version): key.hex() for version, key in self.administration.items()},
                "transport": {batch: key.hex() for batch, key in self.transport.items()},
            }
        ).encode()
        cipher = AESGCM(_file_key(passphrase.secret, salt, kind))
        return _HEAD + kind + salt + nonce + cipher.encrypt(nonce, plain, _HEAD + kind)

    def file(self, passphrase: Passphrase) -> NewFile:
        """The file that holds them, in a site's directory."""
        return NewFile(path=Path(FILE_NAME), data=self.seal(passphrase), is_secret=True)

    @classmethod
    def read(cls, directory: Path, passphrase: Passphrase) -> Self:
        """Those of the site in ``directory``. Raises ``StoreError``."""
        path = directory / FILE_NAME
        if not os.path.lexists(path):
            raise StoreError(f"{path}: is not there; make it with drempel-provision card keys create")
        return cls.open(read_file(path), passphrase, str(path))

    def write(self, directory: Path, passphrase: Passphrase) -> None:
        """Replace the file, whole or not at all. Raises ``StoreError``."""
        replace_secret(directory / FILE_NAME, self.seal(passphrase))


def replace_secret(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 that is there whole, or as it was. Raises ``StoreError``."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(partial, flags, 0o600), "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error


def sync_directory(directory: Path) -> None:
    """Make names in it durable. Raises ``OSError``."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _file_key(secret: bytes, salt: bytes, kind: bytes) -> bytes:
    if kind == _RANDOM:
        return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt, info=_HEAD).derive(secret)
    return Scrypt(salt=salt, length=32, n=1 << 14, r=8, p=5).derive(secret)
