"""Weekly schedules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from hub.store.database import insert_new
from hub.store.errors import InUse, NotFound
from hub.store.schema import access_rules, doors, schedules
from hub.store.sites import Sites, within
from pacs.identifiers import ScheduleId, SiteId
from pacs.schedule import Schedule, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSchedule:
    """A site's schedule, with the name people call it by."""

    schedule: Schedule
    site_id: SiteId
    name: str
    created_at: datetime


def add(
    connection: Connection, schedule: Schedule, *, site_id: SiteId, name: str, now: datetime
) -> NamedSchedule:
    """Add a schedule; raises ``AlreadyExists``."""
    row = {"id": schedule.id, "site_id": site_id, **_columns(schedule), "name": name, "created_at": now}
    insert_new(connection, schedules, row)
    return NamedSchedule(schedule=schedule, site_id=site_id, name=name, created_at=now)


def change(connection: Connection, schedule: Schedule, *, name: str) -> None:
    """Store a schedule's new windows and name; raises ``NotFound``."""
    changed = connection.execute(
        update(schedules).where(schedules.c.id == schedule.id).values(**_columns(schedule), name=name)
    )
    if changed.rowcount != 1:
        raise NotFound(f"schedule {schedule.id} is not there")


def get(connection: Connection, schedule_id: ScheduleId) -> NamedSchedule:
    """One schedule; raises ``NotFound``."""
    row = connection.execute(select(schedules).where(schedules.c.id == schedule_id)).first()
    if row is None:
        raise NotFound(f"schedule {schedule_id} is not there")
    return _named(row)


def remove(connection: Connection, schedule_id: ScheduleId) -> None:
    """Delete a schedule; raises ``NotFound``, and ``InUse`` while an access level or a door's mode names it."""
    get(connection, schedule_id)
    levels = select(access_rules.c.access_level_id).where(access_rules.c.schedule_id == schedule_id)
    if named := sorted(set(connection.scalars(levels))):
        raise InUse(f"schedule {schedule_id} is of access levels: {', '.join(named)}")
    rows = connection.execute(select(doors.c.id, doors.c.mode_rules).order_by(doors.c.id))
    if named := [row.id for row in rows if any(rule[0] == schedule_id for rule in row.mode_rules)]:
        raise InUse(f"schedule {schedule_id} sets the mode of doors: {', '.join(named)}")
    connection.execute(delete(schedules).where(schedules.c.id == schedule_id))


def list_all(connection: Connection, sites: Sites = None) -> list[NamedSchedule]:
    """Every schedule of these sites, by id."""
    query = select(schedules).where(within(schedules.c.site_id, sites)).order_by(schedules.c.id)
    return [_named(row) for row in connection.execute(query)]


def _columns(schedule: Schedule) -> dict[str, Any]:
    return {
        "windows": [_plain(window) for window in schedule.windows],
        "holiday_windows": [_plain(window) for window in schedule.holiday_windows],
    }


def _plain(window: Window) -> list[Any]:
    return [sorted(window.weekdays), window.start_minute, window.end_minute]


def _windows(plain: Iterable[list[Any]]) -> tuple[Window, ...]:
    return tuple(
        Window(weekdays=frozenset(weekdays), start_minute=start, end_minute=end)
        for weekdays, start, end in plain
    )


def _named(row: Row[Any]) -> NamedSchedule:
    schedule = Schedule(
        id=ScheduleId(row.id), windows=_windows(row.windows), holiday_windows=_windows(row.holiday_windows)
    )
    return NamedSchedule(
        schedule=schedule, site_id=SiteId(row.site_id), name=row.name, created_at=row.created_at
    )
