"""What a release of the controller's program is: a version, and the one archive that a signed manifest names.

Format 1: a map of small integers under the envelope of ``pacs.envelope``. Whether a controller may take a release,
and when, is judged at the controller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pacs import cbor, envelope
from pacs.cbor import Fields, milliseconds
from pacs.errors import MalformedData

MEDIA_TYPE: Final = "application/drempel-release+cbor"
FORMAT: Final = 1
NEWEST: Final = "newest.manifest"
"""The file name of the manifest of the release that controllers are to have."""
MAX_MANIFEST_BYTES: Final = 1_024
MAX_ARCHIVE_BYTES: Final = 256 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 1024 * 1024 * 1024
_SHA256_BYTES: Final = 32
_VERSION: Final = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Three numbers, compared as numbers: 0.10.0 is newer than 0.9.1."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``1.2.3``; raises ``MalformedData`` for any other spelling, so that one version has one name."""
        found = _VERSION.fullmatch(text)
        if found is None:
            raise MalformedData("release: a version such as 1.2.3 expected")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def archive_name(version: Version) -> str:
    """How the archive of a version is called, wherever it lies."""
    return f"drempel-{version}.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version and its archive. Raises ``MalformedData`` when a size is not allowed.

    ``archive_bytes``: its exact length; ``archive_sha256``: 32 bytes; ``unpacked_bytes``: what its files hold
    together; ``built_at``: aware, kept to the millisecond.
    """

    version: Version
    built_at: datetime
    archive_bytes: int
    archive_sha256: bytes
    unpacked_bytes: int

    def __post_init__(self) -> None:
        if not 0 < self.archive_bytes <= MAX_ARCHIVE_BYTES:
            raise MalformedData(f"release: an archive of at most {MAX_ARCHIVE_BYTES} bytes expected")
        if not 0 < self.unpacked_bytes <= MAX_UNPACKED_BYTES:
            raise MalformedData(f"release: at most {MAX_UNPACKED_BYTES} unpacked bytes expected")
        if len(self.archive_sha256) != _SHA256_BYTES:
            raise MalformedData(f"release: a SHA-256 of {_SHA256_BYTES} bytes expected")

    @property
    def archive_name(self) -> str:
        """The archive's file name, beside the manifest."""
        return archive_name(self.version)

    def __bytes__(self) -> bytes:
        return cbor.encode(
            {
                0: FORMAT,
                1: str(self.version),
                2: milliseconds(self.built_at),
                3: self.archive_bytes,
                4: self.archive_sha256,
                5: self.unpacked_bytes,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a payload; raises ``MalformedData``, also for a format this code does not know."""
        fields = Fields(cbor.decode(data, limit=MAX_MANIFEST_BYTES), "release")
        if fields.take(0, int) != FORMAT:
            raise MalformedData("release: unknown format")
        release = cls(
            version=fields.parsed(1, Version.parse),
            built_at=fields.moment(2),
            archive_bytes=fields.natural(3),
            archive_sha256=fields.sized(4, _SHA256_BYTES),
            unpacked_bytes=fields.natural(5),
        )
        fields.finish()
        return release

    def seal(self, key: Ed25519PrivateKey) -> bytes:
        """The manifest: this release, signed with the release key."""
        return envelope.seal(bytes(self), MEDIA_TYPE, key)

    @classmethod
    def open(cls, data: bytes, trusted: Mapping[bytes, Ed25519PublicKey]) -> Self:
        """Verify a manifest and read it; raises ``MalformedData`` or ``VerificationError``."""
        if len(data) > MAX_MANIFEST_BYTES:
            raise MalformedData(f"release: a manifest of at most {MAX_MANIFEST_BYTES} bytes expected")
        return cls.from_bytes(envelope.open_sealed(data, MEDIA_TYPE, trusted))
