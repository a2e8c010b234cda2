"""Letting go of what was kept as long as it may be: found in a snapshot, removed in small transactions.

Each function removes at most ``limit`` rows and returns how many; 0: nothing is left. What a hold keeps stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    false,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)

from hub.store.holds import Hold
from hub.store.schema import (
    alarms,
    anomalies,
    cardholders,
    cards,
    commands,
    controllers,
    events,
    import_jobs,
    one_time_links,
    order_commands,
    orders,
    quarantine,
    retention_runs,
    sessions,
)

_PERSONAL = ("access_granted", "access_denied", "access_referred")


def coarsen_events(connection: Connection, before: datetime, held: Iterable[Hold], limit: int) -> int:
    """Of events that say who it was, keep the hour, the door and what was decided, and nothing else."""
    columns = events.c
    due = _over(before) & ~columns.coarse & (columns.credential_id.is_not(None) | columns.kind.in_(_PERSONAL))
    found = connection.execute(
        select(columns.id, columns.occurred_at, columns.received_at)
        .where(due, not_(_held_events(held)))
        .limit(limit)
    ).all()
    for occurred_at, received_at, ids in _by_hour(found):
        connection.execute(
            update(events)
            .where(columns.id.in_(ids))
            .values(
                data=b"", credential_id=None, coarse=True, occurred_at=occurred_at, received_at=received_at
            )
        )
    return len(found)


def remove_events(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, *, personal: bool
) -> int:
    """Delete events: those about people, or those about doors and controllers."""
    about = events.c.kind.in_(_PERSONAL) | events.c.coarse | events.c.credential_id.is_not(None)
    due = _over(before) & (about if personal else not_(about)) & not_(_held_events(held))
    return _delete(connection, events, due, limit)


def clear_quarantine(connection: Connection, before: datetime, limit: int) -> int:
    """Forget what set-aside messages said; that there were any stays on record."""
    due = (quarantine.c.received_at < before) & (quarantine.c.payload != b"")
    return _clear(connection, quarantine, due, {"payload": b""}, limit)


def remove_quarantine(connection: Connection, before: datetime, limit: int) -> int:
    """Delete set-aside messages."""
    return _delete(connection, quarantine, quarantine.c.received_at < before, limit)


def clear_commands(connection: Connection, before: datetime, limit: int) -> int:
    """Forget whom attended grants were for."""
    due = (commands.c.expires_at < before) & (commands.c.data != b"")
    cleared = {"data": b"", "credential_id": None, "request_id": None}
    return _clear(connection, commands, due, cleared, limit)


def remove_commands(connection: Connection, before: datetime, limit: int) -> int:
    """Delete commands, with the orders they were given for."""
    old = select(orders.c.id).where(orders.c.issued_at < before)
    connection.execute(delete(order_commands).where(order_commands.c.order_id.in_(old)))
    connection.execute(delete(orders).where(orders.c.issued_at < before))
    needed = select(order_commands.c.command_id).where(order_commands.c.command_id.is_not(None))
    due = (commands.c.expires_at < before) & commands.c.id.not_in(needed)
    return _delete(connection, commands, due, limit)


def clear_imports(connection: Connection, before: datetime, limit: int) -> int:
    """Forget what was wrong with imports: a fault names an external id."""
    due = (import_jobs.c.ended_at < before) & (import_jobs.c.fault_count > 0)
    return _clear(connection, import_jobs, due, {"faults": [], "fault_count": 0}, limit)


def remove_imports(connection: Connection, before: datetime, limit: int) -> int:
    """Delete imports."""
    return _delete(connection, import_jobs, import_jobs.c.ended_at < before, limit)


def remove_alarms(connection: Connection, before: datetime, limit: int) -> int:
    """Delete closed alarms, whose notes may name somebody."""
    return _delete(connection, alarms, alarms.c.closed_at < before, limit)


def remove_anomalies(connection: Connection, before: datetime, limit: int) -> int:
    """Delete what was wrong with records of a time of which no event is kept; an open hole stays."""
    past = or_(not_(anomalies.c.has_hole), anomalies.c.unknown_until < before)
    return _delete(connection, anomalies, (anomalies.c.last_at < before) & past, limit)


def remove_sessions(connection: Connection, now: datetime, limit: int) -> int:
    """Delete sessions and links whose time is over."""
    over = _delete(connection, sessions, sessions.c.expires_at <= now, limit)
    return over + _delete(connection, one_time_links, one_time_links.c.expires_at <= now, limit)


def leavers(connection: Connection, before: datetime, held: Iterable[Hold], limit: int) -> list[str]:
    """Whose validity ended before, and of whom something is still known; the ids of cardholders."""
    columns = cardholders.c
    kept = [hold.cardholder_id for hold in held if hold.cardholder_id is not None]
    due = (columns.valid_until < before) & columns.erased_at.is_(None) & columns.id.not_in(kept)
    return list(connection.scalars(select(columns.id).where(due).order_by(columns.id).limit(limit)))


def overdue(
    connection: Connection, before: datetime, held: Iterable[Hold], *, gone_before: datetime
) -> datetime | None:
    """When the oldest event was received that should be coarse, or gone, by now; None: there is none."""
    columns = events.c
    precise = _over(before) & columns.credential_id.is_not(None)
    there = (precise | _over(gone_before) & columns.kind.in_(_PERSONAL)) & not_(_held_events(held))
    found: datetime | None = connection.scalar(select(func.min(columns.received_at)).where(there))
    return found


def ran(connection: Connection, purpose: str, now: datetime, removed: int) -> None:
    """A run for this purpose had nothing left to do."""
    mine = retention_runs.c.purpose == purpose
    total = connection.scalar(select(retention_runs.c.removed).where(mine))
    connection.execute(delete(retention_runs).where(mine))
    row = {"purpose": purpose, "ended_at": now, "removed": (total or 0) + removed}
    connection.execute(insert(retention_runs).values(row))


def runs(connection: Connection) -> dict[str, tuple[datetime, int]]:
    """Purpose → when the last run ended, and how much was removed since the first."""
    return {
        row.purpose: (row.ended_at, row.removed)
        for row in connection.execute(select(retention_runs).order_by(retention_runs.c.purpose))
    }


def _over(before: datetime) -> ColumnElement[bool]:
    """It occurred before, as far as its clock can be believed; at the latest it occurred when it was received."""
    columns = events.c
    return (columns.received_at < before) | and_(columns.clock_trusted, columns.occurred_at < before)


def _held_events(held: Iterable[Hold]) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [false()]
    columns = events.c
    for hold in held:
        of_site = select(controllers.c.id).where(controllers.c.site_id == hold.site_id)
        kept = columns.controller_id.in_(of_site) & (columns.occurred_at >= hold.since)
        kept &= columns.occurred_at < hold.until
        if hold.door_id is not None:
            kept &= columns.door_id == hold.door_id
        if hold.cardholder_id is not None:
            mine = select(cards.c.credential_id).where(cards.c.cardholder_id == hold.cardholder_id)
            kept &= func.coalesce(columns.credential_id.in_(mine), literal(value=False))
        conditions.append(kept)
    return func.coalesce(or_(*conditions), literal(value=False))


def _by_hour(found: Iterable[Any]) -> Iterable[tuple[datetime, datetime, list[int]]]:
    hours: dict[tuple[datetime, datetime], list[int]] = {}
    for row in found:
        hours.setdefault((_hour(row.occurred_at), _hour(row.received_at)), []).append(row.id)
    for (occurred_at, received_at), ids in hours.items():
        yield occurred_at, received_at, ids


def _hour(at: datetime) -> datetime:
    return at - timedelta(minutes=at.minute, seconds=at.second, microseconds=at.microsecond)


def _delete(connection: Connection, table: Any, due: ColumnElement[bool], limit: int) -> int:
    (key,) = table.primary_key.columns
    ids = list(connection.scalars(select(key).where(due).limit(limit)))
    connection.execute(delete(table).where(key.in_(ids)))
    return len(ids)


def _clear(
    connection: Connection, table: Any, due: ColumnElement[bool], values: dict[str, Any], limit: int
) -> int:
    (key,) = table.primary_key.columns
    ids = list(connection.scalars(select(key).where(due).limit(limit)))
    connection.execute(update(table).where(key.in_(ids)).values(values))
    return len(ids)
