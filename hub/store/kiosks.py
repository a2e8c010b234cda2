"""Browsers that show a kiosk's page: which station each one belongs to, and for which times its page was shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, not_, select, update

from hub.store.holds import Hold
from hub.store.schema import kiosk_screens, kiosk_tokens, stations
from hub.store.sites import Sites, within
from hub.store.stations import StationKind
from pacs.identifiers import SiteId, StationId

GONE_AFTER: Final = timedelta(seconds=15)
"""A page that asked for nothing for longer is not known to have been shown; it asks several times as often."""
_NOTE_EVERY: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A time for which a kiosk's page is known to have been shown."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A kiosk, and when it is, or was, in use; ``until`` None: still."""

    id: StationId
    name: str
    since: datetime
    until: datetime | None


def placed(connection: Connection, site_id: SiteId, since: datetime, until: datetime) -> list[Placed]:
    """The kiosks that a site had in use at some time between, by id."""
    columns = stations.c
    query = select(columns.id, columns.name, columns.created_at, columns.retired_at).where(
        columns.site_id == site_id,
        columns.kind == StationKind.KIOSK,
        columns.created_at < until,
        columns.retired_at.is_(None) | (columns.retired_at > since),
    )
    return [
        Placed(id=StationId(row.id), name=row.name, since=row.created_at, until=row.retired_at)
        for row in connection.execute(query.order_by(columns.id))
    ]


def add_link(
    connection: Connection, station_id: StationId, token_hash: bytes, *, now: datetime, until: datetime
) -> None:
    """Store a link that pairs a browser with a station; earlier ones for it are void."""
    columns = kiosk_tokens.c
    connection.execute(delete(kiosk_tokens).where(columns.station_id == station_id, columns.is_link))
    _add(connection, station_id, token_hash, is_link=True, now=now, until=until)


def pair(
    connection: Connection, link_hash: bytes, token_hash: bytes, *, now: datetime, until: datetime
) -> StationId | None:
    """Follow a link: its station, whose page this browser alone shows from now on; None: the link is void."""
    columns = kiosk_tokens.c
    mine = (columns.token_hash == link_hash) & columns.is_link & (columns.expires_at > now)
    found: str | None = connection.scalar(select(columns.station_id).where(mine))
    station_id = None if found is None else StationId(found)
    if station_id is not None:
        connection.execute(delete(kiosk_tokens).where(columns.station_id == station_id))
        _add(connection, station_id, token_hash, is_link=False, now=now, until=until)
    return station_id


def station_of(connection: Connection, token_hash: bytes, now: datetime) -> StationId | None:
    """The station whose page a browser with this token shows."""
    columns = kiosk_tokens.c
    mine = (columns.token_hash == token_hash) & ~columns.is_link & (columns.expires_at > now)
    found: str | None = connection.scalar(select(columns.station_id).where(mine))
    return None if found is None else StationId(found)


def unpair(connection: Connection, station_id: StationId) -> None:
    """Void the link and the browser of a station."""
    connection.execute(delete(kiosk_tokens).where(kiosk_tokens.c.station_id == station_id))


def last_shown(connection: Connection, station_id: StationId) -> datetime | None:
    """When a station's page was last known to be shown."""
    last = _last(connection, station_id)
    return None if last is None else last[1]


def is_noted(connection: Connection, station_id: StationId, now: datetime) -> bool:
    """Whether the page was noted as shown so lately that it need not be again."""
    last = _last(connection, station_id)
    return last is not None and timedelta() <= now - last[1] < _NOTE_EVERY


def shown(connection: Connection, station_id: StationId, now: datetime) -> None:
    """The station's page is shown at this moment."""
    last = _last(connection, station_id)
    if last is not None and timedelta() <= now - last[1] <= GONE_AFTER:
        longer = update(kiosk_screens).where(kiosk_screens.c.id == last[0])
        connection.execute(longer.values(until=now))
        return
    connection.execute(insert(kiosk_screens).values(station_id=station_id, since=now, until=now))


def remove_before(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete when pages were shown, of a time of which no list is kept; how many."""
    columns = kiosk_screens.c
    over = select(columns.id).where(columns.until < before)
    if sites is not None:
        mine = select(stations.c.id).where(within(stations.c.site_id, sites))
        over = over.where(columns.station_id.in_(mine))
    for hold in held:
        if hold.door_id is None:
            over = over.where(not_((columns.since < hold.until) & (columns.until > hold.since)))
    due = list(connection.scalars(over.limit(limit)))
    connection.execute(delete(kiosk_screens).where(columns.id.in_(due)))
    return len(due)


def screens(connection: Connection, station_id: StationId, since: datetime, until: datetime) -> list[Shown]:
    """The times that reach between these two for which the station's page is known to have been shown, in order."""
    columns = kiosk_screens.c
    query = (
        select(columns.since, columns.until)
        .where(columns.station_id == station_id, columns.since < until, columns.until > since)
        .order_by(columns.since)
    )
    return [Shown(since=begins, until=ends) for begins, ends in connection.execute(query)]


def _last(connection: Connection, station_id: StationId) -> tuple[int, datetime] | None:
    columns = kiosk_screens.c
    query = select(columns.id, columns.until).where(columns.station_id == station_id)
    row = connection.execute(query.order_by(columns.id.desc()).limit(1)).first()
    return None if row is None else (row.id, row.until)


def _add(
    connection: Connection,
    station_id: StationId,
    token_hash: bytes,
    *,
    is_link: bool,
    now: datetime,
    until: datetime,
) -> None:
    row = {
        "token_hash": token_hash,
        "station_id": station_id,
        "is_link": is_link,
        "created_at": now,
        "expires_at": until,
    }
    connection.execute(insert(kiosk_tokens).values(row))
