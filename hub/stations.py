"""Stations: what a reader beside a desk or in a kiosk reports, and who was there.

The hub draws each challenge and verifies each answer itself: a presentation that was recorded answers a challenge that
is void. Whoever has a station's token can do nothing but report presentations.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from hub.desk import Desks
from hub.live import LiveBus
from hub.operators import API_PREFIX, digest
from hub.station_taps import NOT_OURS, REFUSALS, StationTap, TapResult
from hub.store import cardholders, cards, issuers, people, sites
from hub.store import stations as store
from hub.store.cards import CardStatus
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.stations import SILENT_AFTER, Station
from pacs.card import p256, pkoc
from pacs.credential import (
    Presentation,
    Technology,
    TrustAnchors,
    VerifiedCredential,
    Verifier,
    check_dates,
)
from pacs.errors import VerificationError
from pacs.identifiers import CardholderId, SiteId, StationId
from pacs.reason import ReadFault
from pacs.schedule import local_time

TOKEN_PREFIX: Final = f"{API_PREFIX}station_"
CHALLENGE_LIFETIME: Final = SILENT_AFTER
HEARTBEAT: Final = SILENT_AFTER / 3
_BLOCKED: Final = {CardStatus.SUSPENDED: TapResult.SUSPENDED, CardStatus.REVOKED: TapResult.REVOKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardAnswer:
    """What a card said to a challenge: PKOC V2 with its ``certificate``, V1 with its ``public_key``."""

    technology: Technology
    signature: bytes
    certificate: bytes = b""
    public_key: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """What a station is given for the next card. ``signed_on``: whether a desk's cards are shown to anybody; None: no desk."""

    challenge: pkoc.Challenge
    signed_on: bool | None


def new_token() -> str:
    """A station's token; what is stored of it is its digest."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


class Stations:
    """Hears the stations of one hub process, and tells ``live`` of each card."""

    def __init__(
        self, database: Database, live: LiveBus, clock: Callable[[], datetime], desks: Desks
    ) -> None:
        self._database = database
        self._live = live
        self._desks = desks
        self._clock = clock
        self._lock = threading.Lock()
        self._verifier = Verifier(TrustAnchors(issuers={}))

    def by_token(self, token: str) -> Station | None:
        """Whose token this is; None when nobody's, or that of a station out of use."""
        if not token.startswith(TOKEN_PREFIX):
            return None
        with self._database.read() as connection:
            return store.by_token(connection, digest(token))

    def heartbeat(self, station: Station, *, run: str, works: bool) -> Following:
        """Note that a station is there, and whether its reader ``works``."""
        with self._database.write() as connection:
            if works:
                store.heard(connection, station.id, run, self._clock())
            return self._following(connection, station)

    def presented(
        self, station: Station, answer: CardAnswer, *, random: bytes, run: str
    ) -> tuple[StationTap, Following]:
        """What became of a card that answered the challenge with this ``random``."""
        now = self._clock()
        with self._database.write() as connection:
            given_at = store.use_challenge(connection, station.id, random)
            following = self._came(connection, station, run)
        if given_at is None or not timedelta() <= now - given_at <= CHALLENGE_LIFETIME:
            return self._tell(_tap(station, now, TapResult.REPLAYED)), following
        challenge = _challenge(station, given_at, random)
        with self._database.read() as connection:
            tap = self._identified(connection, station, challenge, answer, now)
        return self._tell(tap), following

    def not_read(self, station: Station, fault: ReadFault, *, run: str) -> tuple[StationTap, Following]:
        """A card was there and could not be read."""
        with self._database.write() as connection:
            following = self._came(connection, station, run)
        result = TapResult.NOT_OURS if fault in NOT_OURS else TapResult.NOT_READ
        return self._tell(_tap(station, self._clock(), result)), following

    def _tell(self, tap: StationTap) -> StationTap:
        self._live.publish(tap)
        return tap

    def _came(self, connection: Connection, station: Station, run: str) -> Following:
        """A card was held to it."""
        store.heard(connection, station.id, run, self._clock())
        following = self._following(connection, station)
        if following.signed_on is False:
            store.count_unseen(connection, station.id)
        return following

    def _following(self, connection: Connection, station: Station) -> Following:
        now, random = self._clock(), secrets.token_bytes(pkoc.RANDOM_BYTES)
        store.set_challenge(connection, station.id, random, now)
        signed_on = self._desks.is_watched(connection, station)
        return Following(challenge=_challenge(station, now, random), signed_on=signed_on)

    def _identified(
        self,
        connection: Connection,
        station: Station,
        challenge: pkoc.Challenge,
        answer: CardAnswer,
        now: datetime,
    ) -> StationTap:
        is_v1 = answer.technology is Technology.PKOC_V1
        presentation = Presentation(
            technology=answer.technology,
            message=challenge.transaction_identifier if is_v1 else bytes(challenge),
            signature=answer.signature,
            certificate=answer.certificate,
            public_key=answer.public_key,
        )
        trusted = issuers.trusted(connection)
        trust = TrustAnchors(issuers={name: p256.parse_point(point) for name, point in trusted.items()})
        try:
            with self._lock:
                self._verifier = self._verifier.with_trust(trust)
                credential = self._verifier.verify(presentation)
        except VerificationError as error:
            return _tap(station, now, REFUSALS[error.reason])
        result, cardholder_id = standing(connection, station.site_id, credential, now)
        return _tap(station, now, result, credential, cardholder_id)


def standing(
    connection: Connection, site_id: SiteId, credential: VerifiedCredential, now: datetime
) -> tuple[TapResult, CardholderId | None]:
    """How an authentic card stands at a site, and whose it is; nobody's whom the site does not know."""
    try:
        card = cards.get(connection, credential.credential_id)
    except NotFound:
        return TapResult.UNKNOWN, None
    if site_id not in people.sites_of(connection, card.cardholder_id):
        return TapResult.UNKNOWN, None
    try:
        person = cardholders.get(connection, card.cardholder_id)
    except NotFound:  # erased
        return _BLOCKED.get(card.status, TapResult.EXPIRED), None
    if card.status in _BLOCKED:
        return _BLOCKED[card.status], person.id
    try:
        check_dates(credential, local_time(now, sites.get(connection, site_id).time_zone).date())
    except VerificationError as error:
        return REFUSALS[error.reason], person.id
    if any(each.valid_until is not None and now >= each.valid_until for each in (card, person)):
        return TapResult.EXPIRED, person.id
    if any(each.valid_from is not None and now < each.valid_from for each in (card, person)):
        return TapResult.NOT_YET_VALID, person.id
    return TapResult.VALID, person.id


def reader_identifier(station_id: StationId, site_id: SiteId) -> bytes:
    """What is bound into each challenge of a station; no door's is the same."""
    return pkoc.reader_identifier(site_id, f"station/{station_id}")


def _challenge(station: Station, at: datetime, random: bytes) -> pkoc.Challenge:
    identifier = reader_identifier(station.id, station.site_id)
    return pkoc.Challenge(reader_identifier=identifier, at=at, random=random)


def _tap(
    station: Station,
    at: datetime,
    result: TapResult,
    credential: VerifiedCredential | None = None,
    cardholder_id: CardholderId | None = None,
) -> StationTap:
    return StationTap(
        tap_id=secrets.token_hex(16),
        station_id=station.id,
        site_id=station.site_id,
        at=at,
        result=result,
        credential_id=credential.credential_id if credential else None,
        cardholder_id=cardholder_id,
    )
