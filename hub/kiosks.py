"""Kiosks: which browser shows which one's page, who tapped there last, and for which times each is known to have worked.

A kiosk could take reports while its reader was heard of and its page was shown: both are needed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from hub import registration
from hub.live import LiveBus
from hub.operators import digest
from hub.registration import KioskRecord, Stretch
from hub.station_taps import StationTap
from hub.store import kiosks as store
from hub.store import stations
from hub.store.database import Database
from hub.store.stations import Station, StationKind
from pacs.identifiers import SiteId, StationId

LINK_LIFETIME: Final = timedelta(minutes=15)
PAIRED_FOR: Final = timedelta(days=400)  # as long as a browser keeps a cookie
TAP_LIFETIME: Final = timedelta(seconds=90)


def records(connection: Connection, site_id: SiteId, since: datetime, until: datetime) -> list[KioskRecord]:
    """Which kiosks a site had in use between two moments, and when each could take reports."""
    return [
        KioskRecord(
            station_id=kiosk.id,
            name=kiosk.name,
            since=kiosk.since,
            until=kiosk.until,
            worked=registration.both(
                (
                    Stretch(since=each.begins_at, until=each.ends_at)
                    for each in stations.intervals(connection, kiosk.id, since, until)
                ),
                [
                    Stretch(since=each.since, until=each.until)
                    for each in store.screens(connection, kiosk.id, since, until)
                ],
            ),
        )
        for kiosk in store.placed(connection, site_id, since, until)
    ]


class Kiosks:
    """The kiosks of one hub process."""

    def __init__(self, database: Database, live: LiveBus, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._live = live
        self._clock = clock
        self._taps: dict[StationId, StationTap] = {}

    async def follow(self) -> None:
        """Remember who tapped last at each station; runs until it is cancelled."""
        with self._live.subscribe() as subscription:
            async for event in subscription:
                if isinstance(event, StationTap):
                    self._taps[event.station_id] = event

    def last_tap(self, station_id: StationId) -> StationTap | None:
        """Whoever tapped last at a kiosk, unless that is too long ago to be still there."""
        tap = self._taps.get(station_id)
        is_there = tap is not None and timedelta() <= self._clock() - tap.at < TAP_LIFETIME
        return tap if is_there else None

    def link(self, connection: Connection, station_id: StationId) -> tuple[str, datetime]:
        """A token that makes the browser that follows it in time show this kiosk's page; an earlier one is void."""
        token, now = secrets.token_urlsafe(32), self._clock()
        store.add_link(connection, station_id, digest(token), now=now, until=now + LINK_LIFETIME)
        return token, now + LINK_LIFETIME

    def pair(self, connection: Connection, token: str) -> tuple[StationId, str] | None:
        """Follow a link: the kiosk, and the token of the browser that shows it from now on; None: the link is void."""
        browser, now = secrets.token_urlsafe(32), self._clock()
        station_id = store.pair(connection, digest(token), digest(browser), now=now, until=now + PAIRED_FOR)
        return None if station_id is None else (station_id, browser)

    def by_browser(self, token: str) -> Station | None:
        """The kiosk whose page a browser shows; None for another browser, and for a kiosk out of use."""
        with self._database.read() as connection:
            station_id = store.station_of(connection, digest(token), self._clock())
            if station_id is None:
                return None
            found = stations.get(connection, station_id)
        return found if found.kind is StationKind.KIOSK and found.retired_at is None else None

    def shown(self, station_id: StationId) -> None:
        """A kiosk's page is shown at this moment."""
        now = self._clock()
        with self._database.read() as connection:
            if store.is_noted(connection, station_id, now):
                return
        with self._database.write() as connection:
            store.shown(connection, station_id, now)
