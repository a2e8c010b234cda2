"""The keys of a site in one encrypted file, and what opens it split into shares (key_shares.py).

The file: a line that names it, then CBOR of header, nonce and the files under AES-256-GCM, which vouches for the
header too.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pacs import cbor
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import SiteId
from provisioning.key_shares import MAX_SHARES, Share, ShareSet, split
from provisioning.keystore import NewFile, read_file

MAGIC: Final = b"drempel keys 1\n"
MAX_BYTES: Final = 64 * 1024 * 1024
LEFT_OUT: Final = ("data", "state")
"""Directories in which a hub or a controller that ran here keeps what it does; no keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the file says of itself without a share."""

    site: SiteId
    made_at: datetime
    shares: ShareSet

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raise ``MalformedData`` for anything but a header of this version."""
        fields = cbor.Fields(cbor.decode(data, limit=1024), "header")
        header = cls(
            site=fields.parsed(1, SiteId),
            made_at=fields.moment(2),
            shares=ShareSet(
                identifier=fields.natural(3, below=1 << 15),
                count=fields.natural(4, below=MAX_SHARES + 1),
                threshold=fields.natural(5, below=MAX_SHARES + 1),
            ),
        )
        fields.finish()
        return header

    def __bytes__(self) -> bytes:
        return cbor.encode(
            {
                1: str(self.site),
                2: cbor.milliseconds(self.made_at),
                3: self.shares.identifier,
                4: self.shares.count,
                5: self.shares.threshold,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The encrypted file, read but not opened."""

    header: Header
    _header_bytes: bytes = field(repr=False)
    _nonce: bytes = field(repr=False)
    _sealed: bytes = field(repr=False)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raise ``MalformedData`` for anything but such a file; whether it was changed shows when it is opened."""
        if not data.startswith(MAGIC):
            raise MalformedData("not a backup of a site's keys")
        parts = cbor.decode(data.removeprefix(MAGIC), limit=MAX_BYTES)
        if not isinstance(parts, list) or len(parts) != 3 or not all(isinstance(p, bytes) for p in parts):
            raise MalformedData("not a backup of a site's keys")
        header, nonce, sealed = parts
        if len(nonce) != 12:
            raise MalformedData("backup: a nonce of 12 bytes expected")
        return cls(header=Header.from_bytes(header), _header_bytes=header, _nonce=nonce, _sealed=sealed)

    def open(self, shares: Sequence[Share]) -> list[NewFile]:
        """The files in it. Raises ``MalformedData`` saying which share is wrong, or how many are missing."""
        secret = self.header.shares.combine(shares)
        try:
            plain = AESGCM(secret).decrypt(self._nonce, self._sealed, self._header_bytes)
        except InvalidTag as error:
            raise MalformedData(
                "the shares do not open this file: it was damaged, or they are of another backup"
            ) from error
        return _files(plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBackup:
    """An encrypted file and the words of its shares."""

    header: Header
    archive: bytes = field(repr=False)
    shares: tuple[tuple[str, ...], ...] = field(repr=False)

    def files(self) -> list[NewFile]:
        """The archive, and a page for each share; all of them secret."""
        return [
            NewFile(path=Path(f"{self.header.site}.keys"), data=self.archive, is_secret=True),
            *(
                NewFile(
                    path=Path(f"share-{n}.txt"), data=_page(self.header, n, words).encode(), is_secret=True
                )
                for n, words in enumerate(self.shares, start=1)
            ),
        ]


def make(files: Iterable[NewFile], site: SiteId, *, shares: int, threshold: int, now: datetime) -> KeyBackup:
    """Encrypt the files under a fresh key, split it, and open the result by the last shares before it is believed.

    Raises ``MalformedData`` unless 2 ≤ ``threshold`` ≤ ``shares`` ≤ ``MAX_SHARES``.
    """
    files = list(files)
    secret = secrets.token_bytes(32)
    common, words = split(secret, count=shares, threshold=threshold)
    header = Header(site=site, made_at=now, shares=common)
    plain = cbor.encode({str(file.path): [file.data, file.is_secret] for file in files})
    nonce, said = os.urandom(12), bytes(header)
    archive = MAGIC + cbor.encode([said, nonce, AESGCM(secret).encrypt(nonce, plain, said)])
    tried = [Share.parse(_page(header, 0, each), "share") for each in words[-threshold:]]
    if sorted(Archive.from_bytes(archive).open(tried), key=_path) != sorted(files, key=_path):
        raise StoreError("the backup does not open to what was put into it; nothing was written")
    return KeyBackup(header=header, archive=archive, shares=tuple(words))


def collect(directory: Path) -> list[NewFile]:
    """Every file below ``directory`` but what a hub or controller that runs there writes; raises ``StoreError``."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    kept = [path for path in paths if not set(path.relative_to(directory).parts[:-1]).intersection(LEFT_OUT)]
    return [
        NewFile(
            path=path.relative_to(directory),
            data=read_file(path),
            is_secret=not path.stat().st_mode & 0o077,
        )
        for path in kept
    ]


def without_passphrase(files: Iterable[NewFile]) -> list[str]:
    """The directories whose keys nothing in the files opens; ``.`` is the site's own."""
    files = list(files)
    opened = {file.path.parent for file in files if file.path.name == "passphrase"}
    locked = {file.path.parent for file in files if file.path.name.endswith(".key.pem")} - opened
    return sorted(str(path) for path in locked)


def _files(plain: bytes) -> list[NewFile]:
    table = cbor.exactly(cbor.decode(plain, limit=MAX_BYTES), dict, "files")
    return [_file(path, value) for path, value in table.items()]


def _file(path: object, value: object) -> NewFile:
    if not isinstance(path, str) or not isinstance(value, list) or len(value) != 2:
        raise MalformedData("backup: a path and what is there expected")
    data, is_secret = value
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
        raise MalformedData(f"backup: the path {path!r} leads out of its directory")
    if not isinstance(data, bytes) or not isinstance(is_secret, bool):
        raise MalformedData(f"backup: {path!r} has no bytes")
    return NewFile(path=Path(path), data=data, is_secret=is_secret)


def _path(file: NewFile) -> str:
    return str(file.path)


def _page(header: Header, number: int, words: Sequence[str]) -> str:
    numbered = [f"{n:2}. {word:12}" for n, word in enumerate(words, start=1)]
    lines = ["".join(numbered[at : at + 3]).rstrip() for at in range(0, len(numbered), 3)]
    return "\n".join(
        [
            f"# Drempel: share {number} of {header.shares.count} of the backup of the keys of site {header.site}",
            f"# Made {header.made_at:%Y-%m-%d %H:%M} UTC; any {header.shares.threshold} of the {header.shares.count} shares open it.",
            "# Keep this page where the others are not, and not where the backup is.",
            "",
            *lines,
            "",
        ]
    )
