"""Stations: card readers that open no door, and for which times each one is known to have worked.

A station has one challenge at a time, which one presentation may answer once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from hub.store.database import insert_new
from hub.store.errors import NotFound
from hub.store.schema import desk_sign_ons, station_intervals, stations
from hub.store.sites import Sites, within
from pacs.identifiers import SiteId, StationId

SILENT_AFTER: Final = timedelta(seconds=60)
"""What was not heard for longer is not known to have worked; the program says something three times as often."""
KEPT: Final = timedelta(days=366)
"""For so long it is known for which times a station worked."""


@unique
class StationKind(StrEnum):
    """Where a station stands."""

    DESK = "desk"
    KIOSK = "kiosk"
    ISSUING = "issuing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One reader and its place. ``heard_at``: when it last said that its reader works; None: never.

    ``unseen_taps``: cards that were held to it while nobody was signed on.
    """

    id: StationId
    site_id: SiteId
    kind: StationKind
    name: str
    created_at: datetime
    retired_at: datetime | None = None
    heard_at: datetime | None = None
    unseen_taps: int = 0

    def is_heard(self, now: datetime) -> bool:
        """Whether it can be counted on at this moment."""
        return self.heard_at is not None and now - self.heard_at <= SILENT_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A time for which a station is known to have worked, and to have told of every card: ``begins_at`` to ``ends_at``."""

    begins_at: datetime
    ends_at: datetime


def add(connection: Connection, station: Station, token_hash: bytes) -> None:
    """Add a station that reports with this token; raises ``AlreadyExists``, or ``NotFound`` for the site."""
    row = {name: value for name, value in asdict(station).items() if name != "heard_at"}
    insert_new(connection, stations, row | {"token_hash": token_hash})


def get(connection: Connection, station_id: StationId) -> Station:
    """One station, in use or retired; raises ``NotFound``."""
    found = _found(connection, _query().where(stations.c.id == station_id))
    if found is None:
        raise NotFound(f"station {station_id} is not there")
    return found


def by_token(connection: Connection, token_hash: bytes) -> Station | None:
    """The station in use that reports with this token."""
    mine = (stations.c.token_hash == token_hash) & stations.c.retired_at.is_(None)
    return _found(connection, _query().where(mine))


def list_all(connection: Connection, sites: Sites = None, kind: StationKind | None = None) -> list[Station]:
    """The stations in use of these sites, by id; of one kind, or all."""
    query = _query().where(within(stations.c.site_id, sites), stations.c.retired_at.is_(None))
    if kind is not None:
        query = query.where(stations.c.kind == kind)
    return [_station(row) for row in connection.execute(query.order_by(stations.c.id))]


def set_token(connection: Connection, station_id: StationId, token_hash: bytes) -> None:
    """Let a station report with another token than before."""
    mine = stations.c.id == station_id
    connection.execute(update(stations).where(mine).values(token_hash=token_hash, challenge=None))


def retire(connection: Connection, station_id: StationId, now: datetime) -> bool:
    """Take a station out of use for good, and whoever is signed on off it; False: it was before."""
    connection.execute(delete(desk_sign_ons).where(desk_sign_ons.c.station_id == station_id))
    in_use = (stations.c.id == station_id) & stations.c.retired_at.is_(None)
    retired = update(stations).where(in_use).values(retired_at=now, challenge=None)
    return connection.execute(retired).rowcount == 1


def count_unseen(connection: Connection, station_id: StationId) -> None:
    """A card was held to it while nobody was signed on."""
    mine = stations.c.id == station_id
    connection.execute(update(stations).where(mine).values(unseen_taps=stations.c.unseen_taps + 1))


def set_challenge(connection: Connection, station_id: StationId, challenge: bytes, now: datetime) -> None:
    """Let this be what the station's next presentation answers; an earlier one is void."""
    mine = stations.c.id == station_id
    connection.execute(update(stations).where(mine).values(challenge=challenge, challenge_at=now))


def use_challenge(connection: Connection, station_id: StationId, challenge: bytes) -> datetime | None:
    """When the station was given this challenge, which is void from now on; None: it is void already."""
    columns = stations.c
    mine = (columns.id == station_id) & (columns.challenge == challenge)
    given_at: datetime | None = connection.scalar(select(columns.challenge_at).where(mine))
    used = connection.execute(update(stations).where(mine).values(challenge=None)).rowcount == 1
    return given_at if used else None


def heard(connection: Connection, station_id: StationId, run: str, now: datetime) -> None:
    """A station says that it works, and has told of every card since it began this ``run`` (hex)."""
    columns = station_intervals.c
    mine = columns.station_id == station_id
    last = connection.execute(
        select(columns.begins_at, columns.ends_at, columns.run)
        .where(mine)
        .order_by(columns.begins_at.desc())
        .limit(1)
    ).first()
    if last is not None and (
        now <= last.begins_at or (last.run == run and now - last.ends_at <= SILENT_AFTER)
    ):
        longer = update(station_intervals).where(mine, columns.begins_at == last.begins_at)
        connection.execute(longer.values(ends_at=max(now, last.ends_at)))
        return
    connection.execute(delete(station_intervals).where(mine, columns.ends_at < now - KEPT))
    connection.execute(
        insert(station_intervals).values(station_id=station_id, begins_at=now, ends_at=now, run=run)
    )


def intervals(
    connection: Connection, station_id: StationId, since: datetime, until: datetime
) -> list[Interval]:
    """The times between these for which the station is known to have worked, in order, cut to fit."""
    columns = station_intervals.c
    query = (
        select(columns.begins_at, columns.ends_at)
        .where(columns.station_id == station_id, columns.begins_at < until, columns.ends_at > since)
        .order_by(columns.begins_at)
    )
    return [
        Interval(begins_at=max(begins_at, since), ends_at=min(ends_at, until))
        for begins_at, ends_at in connection.execute(query)
    ]


def _query() -> Select[Any]:
    mine = station_intervals.c.station_id == stations.c.id
    heard_at = select(func.max(station_intervals.c.ends_at)).where(mine).scalar_subquery()
    columns = stations.c
    facts = (columns.id, columns.site_id, columns.kind, columns.name, columns.created_at, columns.retired_at)
    return select(*facts, columns.unseen_taps, heard_at.label("heard_at"))


def _found(connection: Connection, query: Select[Any]) -> Station | None:
    row = connection.execute(query).first()
    return None if row is None else _station(row)


def _station(row: Row[Any]) -> Station:
    return Station(
        id=StationId(row.id),
        site_id=SiteId(row.site_id),
        kind=StationKind(row.kind),
        name=row.name,
        created_at=row.created_at,
        retired_at=row.retired_at,
        heard_at=row.heard_at,
        unseen_taps=row.unseen_taps,
    )
