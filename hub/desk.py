"""The identification desk: one operator at a desk's reader sees who holds a card to it, for a moment.

Whoever is signed on is asked again at each card: their session, their rights, and that nobody took the desk over.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import Connection

from hub import audit
from hub.operators import Principal, digest
from hub.roles import Permission
from hub.station_taps import StationTap
from hub.store import cardholders, cards, desks, photographs, posts, sites, stations
from hub.store.cardholders import Cardholder
from hub.store.database import Database
from hub.store.desks import SignOn
from hub.store.errors import NotFound
from hub.store.sites import Site
from hub.store.stations import Station, StationKind
from pacs.errors import PacsError
from pacs.identifiers import CardholderId, StationId

POST_PAGE_OPEN: Final = timedelta(seconds=15)
"""A post's page that said so less long ago is open."""


class DeskTaken(PacsError):
    """Somebody else is signed on there; ``by`` is the name of an operator."""

    def __init__(self, by: str) -> None:
        super().__init__("Somebody else is signed on there.")
        self.by = by


@unique
class Over(StrEnum):
    """Why a page shows no cards any more; wire strings."""

    IDLE = "idle"
    ELSEWHERE = "elsewhere"
    TAKEN_OVER = "taken_over"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """One open page of a session at a desk."""

    station: Station
    session_hash: bytes
    page: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What an operator is shown of one card, for ``shown_s``. ``photograph``: what one look at it costs; None: there is none.

    ``valid_until``: the end of the card or of its holder's stay, what comes first; None: no end.
    """

    tap: StationTap
    shown_s: int
    person: Cardholder | None = None
    valid_until: datetime | None = None
    photograph: str | None = None


class Desks:
    """Who is signed on where, and what they see. ``clock`` gives aware UTC datetimes."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def sign_on(self, principal: Principal, session: str, station_id: StationId, *, take_over: bool) -> None:
        """Sign a browser's session on to a desk; signed off from another one.

        Raises ``NotFound`` for what is no desk of theirs, and ``DeskTaken`` unless they ``take_over``.
        """
        now, mine = self._clock(), digest(session)
        with self._database.write() as connection:
            station = stations.get(connection, station_id)
            is_desk = station.kind is StationKind.DESK and station.retired_at is None
            if not is_desk or not principal.sees(station.site_id):
                raise NotFound(f"station {station_id} is not there")
            there = self._signed_on(connection, station, now)
            if there is not None and there.session_hash != mine and not take_over:
                raise DeskTaken(there.operator_name)
            desks.sign_on(connection, station_id, mine, now)
            _note(connection, now, principal, "desk.sign_on", station_id)

    def sign_off(self, principal: Principal, session: str) -> None:
        """Sign a session off; nothing happens when it is signed on nowhere."""
        with self._database.write() as connection:
            left = desks.sign_off(connection, digest(session))
            if left is not None:
                _note(connection, self._clock(), principal, "desk.sign_off", left)

    def of_session(self, connection: Connection, session: str) -> Station | None:
        """The desk that a session is signed on to."""
        found = desks.of_session(connection, digest(session))
        if found is None:
            return None
        station = stations.get(connection, found.station_id)
        return station if self._signed_on(connection, station, self._clock()) else None

    def signed_on(self, connection: Connection, station: Station) -> SignOn | None:
        """Who is signed on to a desk."""
        return self._signed_on(connection, station, self._clock())

    def open_page(self, session: str) -> Viewing | None:
        """Show cards on another page of this session, and on no earlier one; None: it is signed on nowhere."""
        mine, page = digest(session), secrets.token_hex(8)
        with self._database.write() as connection:
            station = self.of_session(connection, session)
            if station is None:
                return None
            desks.open_page(connection, mine, page)
        return Viewing(station=station, session_hash=mine, page=page)

    def close_page(self, viewing: Viewing) -> None:
        """A page is gone."""
        with self._database.write() as connection:
            desks.close_page(connection, viewing.page)

    def over(self, connection: Connection, viewing: Viewing, principal: Principal | None) -> Over | None:
        """Why a page shows nothing any more; None: it does. ``principal``: whose session it is now, if anybody's."""
        station = stations.get(connection, viewing.station.id)
        if (
            principal is None
            or station.retired_at is not None
            or not principal.may(Permission.DESK_IDENTIFY)
            or not principal.sees(station.site_id)
        ):
            return Over.ENDED
        there = desks.at_station(connection, station.id)
        if there is None:
            return Over.ENDED
        if there.session_hash != viewing.session_hash:
            return Over.TAKEN_OVER
        if there.page != viewing.page:
            return Over.ELSEWHERE
        return None if self._signed_on(connection, station, self._clock()) else Over.IDLE

    def look(self, viewing: Viewing, tap: StationTap, principal: Principal | None) -> Look | Over:
        """What the operator is shown of a card, which is in the audit log; or why they see nothing any more."""
        now = self._clock()
        with self._database.write() as connection:
            over = self.over(connection, viewing, principal)
            if over is not None or principal is None:
                return over or Over.ENDED
            desks.touch(connection, viewing.station.id, now)
            site = sites.get(connection, viewing.station.site_id)
            look = _look(connection, viewing, tap, site, now)
            _note_look(connection, now, principal, tap)
        return look

    def photograph(self, session: str, look: str) -> bytes:
        """The photograph (JPEG) of one look, which is used up; raises ``NotFound``."""
        with self._database.write() as connection:
            cardholder_id = desks.take_look(connection, digest(look), digest(session), self._clock())
        if cardholder_id is None:
            raise NotFound("photograph is not there")
        with self._database.read() as connection:
            return photographs.get(connection, cardholder_id)

    def is_watched(self, connection: Connection, station: Station) -> bool | None:
        """Whether a card would be shown to anybody, or count at a post's page; None: the station is no desk."""
        if station.kind is not StationKind.DESK:
            return None
        now = self._clock()
        there = self._signed_on(connection, station, now)
        if there is not None and there.page is not None:
            return True
        pages = (post.page_at for post in posts.of_station(connection, station.id))
        return any(at is not None and now - at < POST_PAGE_OPEN for at in pages)

    def _signed_on(self, connection: Connection, station: Station, now: datetime) -> SignOn | None:
        """Nobody whose time without a card or a sign of life is over."""
        there = desks.at_station(connection, station.id)
        if there is None:
            return None
        idle = timedelta(seconds=sites.get(connection, station.site_id).desk_idle_s)
        return there if now - there.used_at < idle else None


def _look(connection: Connection, viewing: Viewing, tap: StationTap, site: Site, now: datetime) -> Look:
    person = _person(connection, tap.cardholder_id)
    if person is None or tap.credential_id is None:
        return Look(tap=tap, shown_s=site.desk_shown_s)
    ends = (person.valid_until, cards.get(connection, tap.credential_id).valid_until)
    photograph = None
    if photographs.exists(connection, person.id):
        photograph = secrets.token_urlsafe(32)
        until = now + timedelta(seconds=site.desk_shown_s)
        desks.add_look(connection, digest(photograph), viewing.session_hash, person.id, now=now, until=until)
    return Look(
        tap=tap,
        shown_s=site.desk_shown_s,
        person=person,
        valid_until=min((end for end in ends if end is not None), default=None),
        photograph=photograph,
    )


def _person(connection: Connection, cardholder_id: CardholderId | None) -> Cardholder | None:
    try:
        return None if cardholder_id is None else cardholders.get(connection, cardholder_id)
    except NotFound:  # erased between tap and look
        return None


def _note(
    connection: Connection, now: datetime, principal: Principal, action: str, station_id: StationId
) -> None:
    audit.record(connection, now=now, actor=principal.actor, action=action, subject=f"station:{station_id}")


def _note_look(connection: Connection, now: datetime, principal: Principal, tap: StationTap) -> None:
    """Of a card that is nobody's, too: who looked is known, and what they were told."""
    detail = {"station": str(tap.station_id), "result": tap.result.value}
    if tap.credential_id is not None:
        detail["card"] = str(tap.credential_id)
    subject = f"cardholder:{tap.cardholder_id}" if tap.cardholder_id else f"station:{tap.station_id}"
    audit.record(
        connection, now=now, actor=principal.actor, action="desk.look", subject=subject, detail=detail
    )
