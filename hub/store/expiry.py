"""Letting go of what was kept as long as it may be: found in a snapshot, removed in small transactions.

Each function removes at most ``limit`` rows and returns how many; 0: nothing is left. What a hold keeps stays. With
``sites`` it looks at nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    true,
    update,
)

from hub.store import totals
from hub.store.events import hour
from hub.store.held import (
    alarms_held,
    anomalies_held,
    commands_held,
    events_held,
    imports_held,
    orders_held,
    people_held,
    quarantine_held,
    requests_held,
)
from hub.store.holds import Hold
from hub.store.schema import (
    alarms,
    anomalies,
    attended_looks,
    attended_requests,
    cardholders,
    commands,
    events,
    given_reasons,
    idempotency_keys,
    import_jobs,
    one_time_links,
    order_commands,
    orders,
    quarantine,
    retention_runs,
    sessions,
)
from hub.store.sites import Sites, controllers_within, within
from pacs.events import EventKind

PERSONAL = (
    EventKind.ACCESS_GRANTED,
    EventKind.ACCESS_DENIED,
    EventKind.ACCESS_REFERRED,
    EventKind.REFERRAL_ENDED,
    EventKind.DOOR_NOT_ENTERED,
    EventKind.EXIT_REQUESTED,
    EventKind.DOOR_OPENED,
    EventKind.DOOR_CLOSED,
    EventKind.ANTIPASSBACK_FORGIVEN,
)
"""Kinds that say when somebody came or went, whether or not they say who."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """Events whose time is over: to become coarse, to lose their bytes, to be deleted."""

    coarse: Sequence[int]
    bytes: Sequence[int]
    gone: Sequence[int]


def due_events(
    connection: Connection,
    held: Iterable[Hold],
    *,
    precise: datetime,
    coarse: datetime,
    doors: datetime,
    behind: int,
    late: bool,
    sites: Sites = None,
) -> tuple[Due, int]:
    """What is over in this snapshot, by what was kept until ``precise``, ``coarse`` and ``doors``.

    Events are numbered as they are received, so only those ``behind`` what was found before have to be looked at for the
    first bound; the second result is up to where that is. ``late``: look at all others, too, for what happened long before
    it was received, and for what was received while this machine's clock was wrong. The newest event stays, so that no number is given twice.
    """
    columns = events.c
    newest = connection.scalar(select(func.max(columns.id))) or 0
    kept = not_(events_held(held)) & _at(events, sites)
    until = _received_before(connection, precise, newest)
    early = (columns.id > behind) & (columns.id <= until) & (columns.received_at < precise)
    named = columns.credential_id.is_not(None) & columns.clock_trusted & (columns.occurred_at < precise)
    over = early | named | (_over(precise) if late else false())
    personal = columns.kind.in_(PERSONAL) | columns.credential_id.is_not(None)
    chosen = select(columns.id).where(over, kept)
    to_coarsen = connection.scalars(chosen.where(~columns.coarse, personal))
    to_strip = connection.scalars(chosen.where(not_(personal), columns.data != b""))
    ends = (
        (_received_before(connection, coarse, newest), coarse, personal | columns.coarse),
        (_received_before(connection, doors, newest), doors, not_(personal | columns.coarse)),
    )
    gone: list[int] = []
    for last, before, about in ends:
        old = (columns.id <= last) & (columns.received_at < before)
        if late:
            old |= _over(before)
        gone += connection.scalars(select(columns.id).where(old, about, kept, columns.id < newest))
    return (
        Due(coarse=list(to_coarsen), bytes=list(to_strip), gone=gone),
        until,
    )


def not_held(connection: Connection, ids: Sequence[int], held: Iterable[Hold]) -> list[int]:
    """Those of these events that no hold keeps."""
    return list(connection.scalars(select(events.c.id).where(events.c.id.in_(ids), not_(events_held(held)))))


def coarsen(connection: Connection, ids: Sequence[int]) -> None:
    """Keep the hour, the door and what was decided, and nothing else; taps are in the totals from then on."""
    totals.add(connection, ids)
    columns = events.c
    found = select(columns.id, columns.occurred_at, columns.received_at).where(columns.id.in_(ids))
    hours: dict[tuple[datetime, datetime], list[int]] = {}
    for row in connection.execute(found):
        hours.setdefault((hour(row.occurred_at), hour(row.received_at)), []).append(row.id)
    for (occurred_at, received_at), of_hour in hours.items():
        connection.execute(
            update(events)
            .where(columns.id.in_(of_hour))
            .values(
                data=b"", credential_id=None, coarse=True, occurred_at=occurred_at, received_at=received_at
            )
        )


def strip(connection: Connection, ids: Sequence[int]) -> None:
    """Let go of signed bytes: they hold the hash of the event before, by which that one could be guessed."""
    connection.execute(update(events).where(events.c.id.in_(ids)).values(data=b""))


def remove_events(connection: Connection, ids: Sequence[int]) -> None:
    """Delete events; taps that were in no total are."""
    totals.add(connection, ids)
    connection.execute(delete(events).where(events.c.id.in_(ids)))


def _over(before: datetime) -> ColumnElement[bool]:
    """It occurred before, by a clock that is trusted; at the latest it occurred when it was received."""
    columns = events.c
    return (columns.received_at < before) | (columns.clock_trusted & (columns.occurred_at < before))


def _received_before(connection: Connection, before: datetime, newest: int) -> int:
    """The number of the last event that was received before; 0: none was. By halves: they arrive in order."""
    columns = events.c
    low, high = 0, newest
    while low < high:
        middle = (low + high + 1) // 2
        query = select(columns.id, columns.received_at).where(columns.id <= middle)
        row = connection.execute(query.order_by(columns.id.desc()).limit(1)).first()
        if row is None or row.received_at < before:
            low = middle
        else:
            high = row.id - 1
    return low


def clear_quarantine(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Forget what set-aside messages said; that there were any stays on record."""
    due = (quarantine.c.received_at < before) & (quarantine.c.payload != b"")
    due &= not_(quarantine_held(held)) & _at(quarantine, sites)
    return _clear(connection, quarantine, due, {"payload": b""}, limit)


def remove_quarantine(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete set-aside messages."""
    due = (quarantine.c.received_at < before) & not_(quarantine_held(held)) & _at(quarantine, sites)
    return _delete(connection, quarantine, due, limit)


def remove_requests(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete attended requests with everything that they say of anybody."""
    columns = attended_requests.c
    due = (columns.received_at < before) | (columns.clock_trusted & (columns.asked_at < before))
    due &= columns.ended_at.is_not(None) & not_(requests_held(held)) & _at(attended_requests, sites)
    numbers = list(connection.scalars(select(columns.number).where(due).limit(limit)))
    connection.execute(delete(attended_looks).where(attended_looks.c.number.in_(numbers)))
    return connection.execute(delete(attended_requests).where(columns.number.in_(numbers))).rowcount


def clear_commands(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Forget whom attended grants were for."""
    due = (commands.c.expires_at < before) & (commands.c.data != b"") & not_(commands_held(held))
    due &= _at(commands, sites)
    cleared = {"data": b"", "credential_id": None, "request_id": None}
    return _clear(connection, commands, due, cleared, limit)


def remove_orders(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete orders to doors: each one whole, so many that about ``limit`` doors were named."""
    due = (orders.c.issued_at < before) & not_(orders_held(held)) & within(orders.c.site_id, sites)
    named = select(func.count()).where(order_commands.c.order_id == orders.c.id).scalar_subquery()
    ids: list[str] = []
    room = limit
    for order_id, count in connection.execute(select(orders.c.id, named).where(due).limit(limit)):
        if room <= 0:
            break
        ids.append(order_id)
        room -= 1 + count
    connection.execute(delete(order_commands).where(order_commands.c.order_id.in_(ids)))
    connection.execute(delete(orders).where(orders.c.id.in_(ids)))
    return len(ids)


def remove_commands(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete commands that neither an order nor an attended request is kept with."""
    due = (commands.c.expires_at < before) & not_(commands_held(held)) & _at(commands, sites)
    for kept_with in (order_commands.c.command_id, attended_requests.c.command_id):
        due &= commands.c.id.not_in(select(kept_with).where(kept_with.is_not(None)))
    return _delete(connection, commands, due, limit)


def clear_imports(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Forget what was wrong with imports: a fault names an external id."""
    due = (import_jobs.c.ended_at < before) & (import_jobs.c.fault_count > 0)
    due &= not_(imports_held(connection, held)) & within(import_jobs.c.site_id, sites)
    return _clear(connection, import_jobs, due, {"faults": [], "fault_count": 0}, limit)


def remove_imports(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete imports."""
    due = (import_jobs.c.ended_at < before) & not_(imports_held(connection, held))
    due &= within(import_jobs.c.site_id, sites)
    return _delete(connection, import_jobs, due, limit)


def remove_alarms(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete closed alarms, whose notes may name somebody."""
    due = (alarms.c.closed_at < before) & not_(alarms_held(held)) & _at(alarms, sites)
    return _delete(connection, alarms, due, limit)


def remove_anomalies(connection: Connection, before: datetime, held: Iterable[Hold], limit: int) -> int:
    """Delete what was wrong with records of a time of which no event is kept; an open hole stays."""
    past = or_(not_(anomalies.c.has_hole), anomalies.c.unknown_until < before)
    due = (anomalies.c.last_at < before) & past & not_(anomalies_held(held))
    return _delete(connection, anomalies, due, limit)


def remove_sessions(connection: Connection, now: datetime, _held: Iterable[Hold], limit: int) -> int:
    """Delete sessions and links whose time is over; no hold is about those."""
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.begun_at < now - timedelta(days=1)))
    connection.execute(delete(given_reasons).where(given_reasons.c.until <= now))
    over = _delete(connection, sessions, sessions.c.expires_at <= now, limit)
    return over + _delete(connection, one_time_links, one_time_links.c.expires_at <= now, limit)


def leavers(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> list[str]:
    """Whose validity ended before, and of whom something is still known; the ids of cardholders."""
    columns = cardholders.c
    due = (columns.valid_until < before) & columns.erased_at.is_(None) & not_(people_held(held))
    due &= within(columns.site_id, sites)
    return list(connection.scalars(select(columns.id).where(due).order_by(columns.id).limit(limit)))


def overdue(
    connection: Connection, before: datetime, held: Iterable[Hold], sites: Sites = None
) -> datetime | None:
    """When the oldest event was received that should not say any more who it was; None: there is none."""
    columns = events.c
    due = columns.credential_id.is_not(None) & (columns.occurred_at < before) & columns.clock_trusted
    found: datetime | None = connection.scalar(
        select(func.min(columns.received_at)).where(due, not_(events_held(held)), _at(events, sites))
    )
    return found


def ran(
    connection: Connection, purpose: str, now: datetime, removed: int, before: datetime | None = None
) -> None:
    """A run for this purpose had nothing left to do; it let go of what was ``before``, if none let go of later things."""
    mine = retention_runs.c.purpose == purpose
    last = connection.execute(select(retention_runs).where(mine)).first()
    total = last.removed if last else 0
    if last and last.before and before:
        before = max(last.before, before)
    connection.execute(delete(retention_runs).where(mine))
    row = {"purpose": purpose, "ended_at": now, "removed": total + removed, "before": before}
    connection.execute(insert(retention_runs).values(row))


def reduce(connection: Connection, before: datetime) -> None:
    """From here on it cannot be told who it was that tapped ``before``; said by a run that is about to let go of it."""
    columns = retention_runs.c
    mine = (columns.purpose == "precise") & (columns.before < before)
    connection.execute(update(retention_runs).where(mine).values(before=before))


def ran_before(connection: Connection, purpose: str) -> datetime | None:
    """What was older than this the last run for this purpose let go of, or settled; None: there was none."""
    found: datetime | None = connection.scalar(
        select(retention_runs.c.before).where(retention_runs.c.purpose == purpose)
    )
    return found


def runs(connection: Connection) -> dict[str, tuple[datetime, int]]:
    """Purpose → when the last run ended, and how much was removed since the first."""
    return {
        row.purpose: (row.ended_at, row.removed)
        for row in connection.execute(select(retention_runs).order_by(retention_runs.c.purpose))
    }


def latest_moment(connection: Connection) -> datetime | None:
    """The latest that the hub's clock is known to have said: at the newest event, or at a run; None: nothing yet."""
    said = [
        connection.scalar(select(events.c.received_at).order_by(events.c.id.desc()).limit(1)),
        connection.scalar(select(func.max(retention_runs.c.ended_at))),
    ]
    return max((at for at in said if at is not None), default=None)


def reduced_before(connection: Connection) -> datetime | None:
    """Of what happened before it is no longer kept who it was; None: nothing was let go yet."""
    return ran_before(connection, "precise")


def _at(table: Any, sites: Sites) -> ColumnElement[bool]:
    """It came from a controller of one of these sites."""
    return true() if sites is None else table.c.controller_id.in_(controllers_within(sites))


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
