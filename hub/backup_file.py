r"""The file of a backup: records, each encrypted and authenticated, and a last one, without which the file is not whole.

::

    "drempel backup 1\n" ‖ salt (32 random bytes) ‖ check (16 bytes) ‖ frames
    frame: 1 for a record, 2 for the last one ‖ length (4 bytes) ‖ sealed record

The 48 bytes HKDF-SHA256(key, salt, "drempel backup 1") are a key for this file alone and the check, by which a wrong
key is told from damage. A record is CBOR, compressed with zlib, sealed with AES-256-GCM; its nonce is its number,
counted from 0, and its additional data are the file's head and its own first five bytes. So none can be changed,
dropped, repeated or moved, and nothing can be cut off or added.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pacs.errors import MalformedData, StoreError

_LABEL = b"drempel backup 1"
_MAGIC = _LABEL + b"\n"
_SALT_BYTES = 32
_KEY_BYTES = 32
_CHECK_BYTES = 16
_HEAD_BYTES = len(_MAGIC) + _SALT_BYTES + _CHECK_BYTES
_RECORD, _LAST = 1, 2
_MAX_SEALED_BYTES = 64 * 1024 * 1024
_KEY_PREFIX = "drempel-backup-key-1:"


class NotABackup(MalformedData):
    """The file does not begin as a backup does."""


class WrongKey(MalformedData):
    """The file was made with another key, or its first bytes were changed."""


class Damaged(MalformedData):
    """Something in the file is not what was written."""


class CutOff(MalformedData):
    """The file ends before its last record: it was cut off, or never finished."""


@dataclass(frozen=True, slots=True)
class BackupKey:
    """32 secret bytes, which open every backup made with them."""

    secret: bytes

    def __repr__(self) -> str:
        return "BackupKey(…)"

    @classmethod
    def make(cls, path: Path) -> Self:
        """A new key in a new file of mode 0600; raises ``StoreError`` when ``path`` is there already."""
        key = cls(secrets.token_bytes(_KEY_BYTES))
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{_KEY_PREFIX}{key.secret.hex()}\n")
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError as error:
            raise StoreError(f"{path}: is there already; a key is never overwritten") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror})") from error
        return key

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key that ``make`` wrote; raises ``StoreError`` when others can read it, or it is something else."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                said = file.read(1024).decode("ascii", "replace")
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        if mode & 0o077:
            raise StoreError(f"{path}: others can read it; run: chmod 600 {path}")
        found = re.fullmatch(rf"{_KEY_PREFIX}([0-9a-f]{{{2 * _KEY_BYTES}}})\n?", said)
        if found is None:
            raise StoreError(f"{path}: not a key of backups; make one: drempel-hub backup-key FILE")
        return cls(bytes.fromhex(found[1]))


class BackupWriter:
    """Writes records to a file that is open for writing; without a last one it is never whole."""

    def __init__(self, file: BinaryIO, key: BackupKey) -> None:
        self._file = file
        salt = secrets.token_bytes(_SALT_BYTES)
        self._cipher, check = _derived(key, salt)
        self._head = _MAGIC + salt + check
        self._number = 0
        file.write(self._head)

    def write(self, record: object, *, last: bool = False) -> None:
        """Add a record; raises ``StoreError`` when it is larger than a reader takes."""
        data = zlib.compress(cbor2.dumps(record))
        begin = _begin(_LAST if last else _RECORD, len(data) + 16)
        if len(data) + 16 > _MAX_SEALED_BYTES:
            raise StoreError("backup: a record is larger than 64 MiB")
        self._file.write(begin + self._cipher.encrypt(_nonce(self._number), data, self._head + begin))
        self._number += 1


def records(file: BinaryIO, key: BackupKey) -> Iterator[Any]:
    """Every record in order, each proven to be what was written; that they are all is proven when it ends.

    Raises ``NotABackup``, ``WrongKey``, ``Damaged`` or ``CutOff``.
    """
    head, cipher = _unlocked(file, key)
    for number in range(1 << 62):
        begin = file.read(5)
        kind, length = begin[:1], int.from_bytes(begin[1:])
        if len(begin) < 5:
            raise CutOff(f"the backup is cut off after record {number}")
        if length > _MAX_SEALED_BYTES:
            raise Damaged(f"record {number + 1} of the backup was changed")
        sealed = file.read(length)
        if len(sealed) < length:
            raise CutOff(f"the backup is cut off within record {number + 1}")
        try:
            data = cipher.decrypt(_nonce(number), sealed, head + begin)
        except InvalidTag as error:
            raise Damaged(f"record {number + 1} of the backup was changed") from error
        yield cbor2.loads(zlib.decompress(data))
        if kind[0] == _LAST:
            break
    if file.read(1):
        raise Damaged("something follows the end of the backup")


def _unlocked(file: BinaryIO, key: BackupKey) -> tuple[bytes, AESGCM]:
    head = file.read(_HEAD_BYTES)
    if not head.startswith(_MAGIC[: len(head)]) or not head:
        raise NotABackup("this is not a backup made by drempel-hub")
    if len(head) < _HEAD_BYTES:
        raise CutOff("the backup is cut off within its head")
    cipher, check = _derived(key, head[len(_MAGIC) : -_CHECK_BYTES])
    if check != head[-_CHECK_BYTES:]:
        raise WrongKey("this key does not open the backup: it was made with another, or its head was changed")
    return head, cipher


def _derived(key: BackupKey, salt: bytes) -> tuple[AESGCM, bytes]:
    hkdf = HKDF(algorithm=SHA256(), length=_KEY_BYTES + _CHECK_BYTES, salt=salt, info=_LABEL)
    derived = hkdf.derive(key.secret)
    return AESGCM(derived[:_KEY_BYTES]), derived[_KEY_BYTES:]


def _begin(kind: int, length: int) -> bytes:
    return bytes([kind]) + length.to_bytes(4)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)
