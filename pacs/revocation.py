"""The revocation list: an IETF Token Status List in CWT form, two bits a credential.

draft-ietf-oauth-status-list: claims 2 (subject), 6 (issued at), 4 (expires), 65533 ``{bits, lst}`` with
``lst`` zlib-compressed, least significant bits first (§4.1). The list's version, which the draft does
not have, is the private claim -65537.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, unique
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pacs import cbor, envelope
from pacs.errors import MalformedData
from pacs.identifiers import SiteId

MEDIA_TYPE = "application/statuslist+cwt"
BITS = 2
MAX_CREDENTIALS = 4_000_000

_SUBJECT, _EXPIRES, _ISSUED, _STATUS_LIST, _VERSION = 2, 4, 6, 65533, -65537
_SUBJECT_PREFIX = "urn:drempel:site:"
_MAX_LIST_BYTES = MAX_CREDENTIALS * BITS // 8


@unique
class Status(IntEnum):
    """A credential's status (draft §7.1)."""

    VALID = 0
    INVALID = 1
    SUSPENDED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusList:
    """Every credential's status at one site, as signed at ``issued_at`` under one version.

    ``packed`` holds four statuses a byte. Times have a resolution of one second.
    """

    site_id: SiteId
    version: int
    issued_at: datetime
    expires_at: datetime
    packed: bytes

    @classmethod
    def build(
        cls,
        *,
        site_id: SiteId,
        version: int,
        issued_at: datetime,
        expires_at: datetime,
        size: int,
        statuses: Mapping[int, Status],
    ) -> Self:
        """A list of ``size`` credentials, all valid but those in ``statuses``; indices < ``size``."""
        packed = bytearray((size * BITS + 7) // 8)
        for index, status in statuses.items():
            packed[index // 4] |= status << (index % 4 * BITS)
        return cls(
            site_id=site_id,
            version=version,
            issued_at=issued_at.replace(microsecond=0),
            expires_at=expires_at.replace(microsecond=0),
            packed=bytes(packed),
        )

    def status(self, index: int) -> Status | None:
        """The status at this index; None when the list does not reach that far or the bits mean nothing."""
        place, shift = divmod(index, 4)
        if not 0 <= place < len(self.packed):
            return None
        bits = self.packed[place] >> (shift * BITS) & 0b11
        return Status(bits) if bits < 3 else None

    def seal(self, key: Ed25519PrivateKey, statement: bytes = b"") -> bytes:
        """The signed CWT that is sent to the doors; ``statement``: the key statement that goes with it."""
        claims = {
            _SUBJECT: _SUBJECT_PREFIX + self.site_id,
            _ISSUED: int(self.issued_at.timestamp()),
            _EXPIRES: int(self.expires_at.timestamp()),
            _STATUS_LIST: {"bits": BITS, "lst": zlib.compress(self.packed, 9)},
            _VERSION: self.version,
        }
        return envelope.seal(cbor.encode(claims), MEDIA_TYPE, key, statement)

    @classmethod
    def open(cls, data: bytes, trusted: Mapping[bytes, Ed25519PublicKey]) -> Self:
        """Verify and read; raises ``MalformedData`` or ``VerificationError``. Site and age are the caller's."""
        payload = envelope.open_sealed(data, MEDIA_TYPE, trusted)
        fields = cbor.Fields(cbor.decode(payload, limit=envelope.MAX_SEALED_BYTES), "status list")
        subject = fields.take(_SUBJECT, str)
        issued_at, expires_at = (
            datetime.fromtimestamp(fields.natural(claim, below=int(cbor.END_OF_TIME.timestamp())), UTC)
            for claim in (_ISSUED, _EXPIRES)
        )
        version = fields.natural(_VERSION)
        status_list = fields.take(_STATUS_LIST, dict)
        fields.finish()
        if not subject.startswith(_SUBJECT_PREFIX):
            raise MalformedData("status list: subject does not name a site")
        if set(status_list) != {"bits", "lst"} or status_list["bits"] != BITS:
            raise MalformedData("status list: two bits a credential expected")
        return cls(
            site_id=SiteId(subject.removeprefix(_SUBJECT_PREFIX)),
            version=version,
            issued_at=issued_at,
            expires_at=expires_at,
            packed=_inflate(cbor.exactly(status_list["lst"], bytes, "status list")),
        )


def statement_of(data: bytes) -> bytes:
    """The key statement that goes with a list, unproven; empty: none. Raises ``MalformedData``."""
    return envelope.Sealed.read(data, MEDIA_TYPE).statement


def _inflate(compressed: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        packed = inflater.decompress(compressed, _MAX_LIST_BYTES)
    except zlib.error as error:
        raise MalformedData("status list: not zlib data") from error
    if not inflater.eof or inflater.unused_data:
        raise MalformedData("status list: longer than allowed, cut short, or with bytes behind it")
    return packed
