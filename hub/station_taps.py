"""What became of one card at a station: a reader beside a desk or in a kiosk, which opens no door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final, Self

from pacs import cbor
from pacs.cbor import Fields
from pacs.identifiers import CardholderId, CredentialId, SiteId, StationId
from pacs.reason import ReadFault, Reason

MAX_BYTES: Final = 1024


@unique
class TapResult(StrEnum):
    """What the hub found; wire strings. Up to ``REVOKED`` the card is authentic, and known at the station's site."""

    VALID = "valid"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    """Authentic, and nobody's whom this site knows."""
    ISSUER_UNKNOWN = "issuer_unknown"
    UNSUPPORTED = "unsupported"
    FORGED = "forged"
    REPLAYED = "replayed"
    """An answer to another challenge than the one that the station was given last."""
    NOT_READ = "not_read"
    NOT_OURS = "not_ours"
    """No card of a kind that is read here."""


REFUSALS: Final[Mapping[Reason, TapResult]] = {
    Reason.ISSUER_UNKNOWN: TapResult.ISSUER_UNKNOWN,
    Reason.CERTIFICATE_UNSUPPORTED: TapResult.UNSUPPORTED,
    Reason.CERTIFICATE_FORGED: TapResult.FORGED,
    Reason.SIGNATURE_INVALID: TapResult.FORGED,
    Reason.ANSWER_REPLAYED: TapResult.REPLAYED,
    Reason.CERTIFICATE_NOT_YET_VALID: TapResult.NOT_YET_VALID,
    Reason.CERTIFICATE_EXPIRED: TapResult.EXPIRED,
}
NOT_OURS: Final = frozenset({ReadFault.NOT_PKOC, ReadFault.TECHNOLOGY_UNSUPPORTED})
_RESULTS: Final = {result.value: result for result in TapResult}


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTap:
    """One card at one station, published on ``hub.live``. Ids only.

    ``credential_id``: whose possession was proved; None for what is not authentic. ``cardholder_id``: whose card it
    is, of those whom the station's site knows. Only a ``VALID`` one may have any effect.
    """

    tap_id: str
    station_id: StationId
    site_id: SiteId
    at: datetime
    result: TapResult
    credential_id: CredentialId | None = None
    cardholder_id: CardholderId | None = None

    def __bytes__(self) -> bytes:
        fields = {
            0: self.tap_id,
            1: str(self.station_id),
            2: str(self.site_id),
            3: cbor.milliseconds(self.at),
            4: self.result.value,
            5: self.credential_id and str(self.credential_id),
            6: self.cardholder_id and str(self.cardholder_id),
        }
        return cbor.encode(cbor.without_none(fields))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises ``MalformedData``."""
        fields = Fields(cbor.decode(data, limit=MAX_BYTES), "station tap")
        tap = cls(
            tap_id=fields.take(0, str),
            station_id=fields.parsed(1, StationId),
            site_id=fields.parsed(2, SiteId),
            at=fields.moment(3),
            result=fields.known(4, _RESULTS),
            credential_id=fields.maybe_parsed(5, CredentialId.parse),
            cardholder_id=fields.maybe_parsed(6, CardholderId),
        )
        fields.finish()
        return tap
