"""Taps counted by door, outcome and hour, and for which times that is everything: what is left when events are gone.

An event is counted in the transaction in which it becomes coarse, or goes, and is coarse or gone from then on: once
each, whatever stops. A number from 1 to ``LEAST`` - 1 is kept for as long as coarse events are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Select,
    case,
    delete,
    func,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from hub.store.database import Instant
from hub.store.schema import LEAST, UNCOUNTED, doors, events, known_times, tap_totals
from hub.store.sites import Sites, controllers_within
from pacs.identifiers import DoorId

Counted = dict[tuple[DoorId, str, datetime], int | None]
"""Door, kind of event and the beginning of the hour, UTC → how many; None: some, of which it is not kept how many."""

ROWS: Final = 1_000


class _HourOf(FunctionElement[datetime]):
    """The beginning of the hour, UTC."""

    type = Instant()
    inherit_cache = True


@compiles(_HourOf, "sqlite")
def _hour_on_sqlite(element: _HourOf, compiler: Any, **options: Any) -> str:
    return f"strftime('%Y-%m-%d %H:00:00.000000', {compiler.process(element.clauses, **options)})"


@compiles(_HourOf, "postgresql")
def _hour_on_postgresql(element: _HourOf, compiler: Any, **options: Any) -> str:
    return f"date_trunc('hour', {compiler.process(element.clauses, **options)}, 'UTC')"


def add(connection: Connection, ids: Sequence[int]) -> None:
    """Count those of these events that are taps, and were not counted: they become coarse, or go, in this transaction."""
    rows = connection.execute(_uncounted(events.c.id.in_(ids)))
    found = [{"door_id": row.door_id, "kind": row.kind, "hour": row.hour, "taps": row.taps} for row in rows]
    if not found:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(tap_totals)
    columns, more = tap_totals.c, new.excluded.taps
    enough = case((more >= LEAST, more), else_=null())
    taps = case((columns.taps.is_(None), enough), else_=columns.taps + more)
    key = [column.name for column in tap_totals.primary_key]
    connection.execute(new.on_conflict_do_update(index_elements=key, set_={"taps": taps}), found)


def between(
    connection: Connection,
    *,
    since: datetime,
    until: datetime,
    door_id: DoorId | None = None,
    sites: Sites = None,
) -> Counted:
    """Taps at doors of these sites, counted before and not; times are the controllers' clocks', where those are trusted."""
    columns = tap_totals.c
    before = select(columns.door_id, columns.kind, columns.hour, columns.taps)
    before = before.where(columns.hour >= since, columns.hour < until)
    lately = _uncounted(events.c.occurred_at >= since, events.c.occurred_at < until)
    if door_id is not None:
        before = before.where(columns.door_id == door_id)
        lately = lately.where(events.c.door_id == door_id)
    if sites is not None:
        mine = _doors_of(sites)
        before = before.where(columns.door_id.in_(mine))
        lately = lately.where(events.c.door_id.in_(mine))
    found: Counted = {
        (DoorId(row.door_id), row.kind, row.hour): row.taps for row in connection.execute(before)
    }
    for row in connection.execute(lately):
        cell = DoorId(row.door_id), row.kind, row.hour
        known = found.get(cell, 0)
        if known is not None:
            found[cell] = known + row.taps
        elif row.taps >= LEAST:
            found[cell] = row.taps
    return found


def hide_small(
    connection: Connection, before: datetime, _held: object, limit: int, sites: Sites = None
) -> int:
    """Forget how many there were in the hours before, where there were few; how many hours of a door."""
    small = (tap_totals.c.taps < LEAST) & (tap_totals.c.hour < before)
    if sites is not None:
        small &= tap_totals.c.door_id.in_(_doors_of(sites))
    mine = small & (tap_totals.c.hour <= _last_hour(small, limit))
    return connection.execute(update(tap_totals).where(mine).values(taps=None)).rowcount


def remove(connection: Connection, before: datetime, _held: object, limit: int) -> int:
    """Delete the totals of the hours before, and for which times they were everything."""
    old = tap_totals.c.hour < before
    connection.execute(delete(known_times).where(known_times.c.until < before))
    return connection.execute(
        delete(tap_totals).where(old, tap_totals.c.hour <= _last_hour(old, limit))
    ).rowcount


def _doors_of(sites: Sites) -> Select[tuple[str]]:
    return select(doors.c.id).where(doors.c.controller_id.in_(controllers_within(sites)))


def _last_hour(of: ColumnElement[bool], limit: int) -> ScalarSelect[datetime]:
    """That of the last of so many rows, the oldest first; whole hours may be a few more."""
    oldest = select(tap_totals.c.hour).where(of).order_by(tap_totals.c.hour).limit(limit).subquery()
    return select(func.max(oldest.c.hour)).scalar_subquery()


def settle(
    connection: Connection, known: Mapping[DoorId, Sequence[tuple[datetime, datetime]]], since: datetime
) -> None:
    """Keep for which stretches behind ``since`` each door's record was whole; what is whole from there on continues."""
    columns = known_times.c
    for door_id, stretches in known.items():
        for begins, ends in stretches:
            mine = (columns.door_id == door_id) & (columns.until == begins)
            if begins == since:
                longer = connection.execute(update(known_times).where(mine).values(until=ends))
                if longer.rowcount:
                    continue
            connection.execute(insert(known_times).values(door_id=door_id, since=begins, until=ends))


def known(
    connection: Connection, since: datetime, door_ids: Collection[DoorId] | None = None
) -> dict[DoorId, list[tuple[datetime, datetime]]]:
    """Door → the stretches kept of its record that reach beyond ``since``, in order."""
    columns = known_times.c
    query = select(known_times).where(columns.until > since)
    if door_ids is not None:
        query = query.where(columns.door_id.in_(sorted(door_ids)))
    found: dict[DoorId, list[tuple[datetime, datetime]]] = {}
    for row in connection.execute(query.order_by(columns.door_id, columns.since)):
        found.setdefault(DoorId(row.door_id), []).append((row.since, row.until))
    return found


def _uncounted(*conditions: ColumnElement[bool]) -> Select[Any]:
    columns = events.c
    hour = _HourOf(columns.occurred_at).label("hour")
    query = select(columns.door_id, columns.kind, hour, func.count().label("taps"))
    query = query.where(text(UNCOUNTED), columns.clock_trusted, columns.door_id.is_not(None), *conditions)
    return query.group_by(columns.door_id, columns.kind, hour)
