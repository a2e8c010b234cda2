"""Access levels and their rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from hub.store.database import insert_new
from hub.store.errors import InUse, NotFound
from hub.store.schema import (
    access_levels,
    access_rules,
    cardholder_levels,
    cardholders,
    controllers,
    doors,
    duties,
    schedules,
)
from hub.store.sites import Sites, within
from pacs.identifiers import AccessLevelId, DoorId, ScheduleId, SiteId
from pacs.rules import AccessLevel, AccessRule


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLevel:
    """A site's access level, with the name people call it by."""

    level: AccessLevel
    site_id: SiteId
    name: str
    created_at: datetime


def add(
    connection: Connection, level: AccessLevel, *, site_id: SiteId, name: str, now: datetime
) -> NamedLevel:
    """Add a level; raises ``AlreadyExists``, or ``NotFound`` when a door or schedule is not one of the site's."""
    row = {"id": level.id, "site_id": site_id, "name": name, "created_at": now}
    insert_new(connection, access_levels, row)
    _write_rules(connection, level, site_id)
    return NamedLevel(level=level, site_id=site_id, name=name, created_at=now)


def change(connection: Connection, level: AccessLevel, *, name: str) -> None:
    """Replace a level's rules and name.

    Raises ``NotFound``, also when a door or schedule is not one of the level's site.
    """
    site_id = get(connection, level.id).site_id
    connection.execute(update(access_levels).where(access_levels.c.id == level.id).values(name=name))
    connection.execute(delete(access_rules).where(access_rules.c.access_level_id == level.id))
    _write_rules(connection, level, site_id)


def get(connection: Connection, level_id: AccessLevelId) -> NamedLevel:
    """One level; raises ``NotFound``."""
    found = _read(connection, level_id)
    if not found:
        raise NotFound(f"access level {level_id} is not there")
    return found[0]


def remove(connection: Connection, level_id: AccessLevelId) -> None:
    """Delete a level and its rules; raises ``NotFound``, and ``InUse`` while somebody holds it or a door names it."""
    get(connection, level_id)
    holders = select(func.count()).select_from(cardholder_levels)
    held: int = connection.scalar(holders.where(cardholder_levels.c.access_level_id == level_id)) or 0
    if held:
        raise InUse(f"access level {level_id} is held by cardholders: {held}")
    columns = (doors.c.id, doors.c.first_person_levels, doors.c.admitting_levels)
    rows = connection.execute(select(*columns).order_by(doors.c.id))
    if named := [row.id for row in rows if level_id in (*row.first_person_levels, *row.admitting_levels)]:
        raise InUse(f"access level {level_id} is named by doors: {', '.join(named)}")
    if connection.scalar(select(duties.c.id).where(duties.c.access_level_id == level_id).limit(1)):
        raise InUse(f"access level {level_id} says whom duties to report in are for")
    connection.execute(delete(access_rules).where(access_rules.c.access_level_id == level_id))
    connection.execute(delete(access_levels).where(access_levels.c.id == level_id))


def list_all(connection: Connection, sites: Sites = None) -> list[NamedLevel]:
    """Every level of these sites with its rules, by id."""
    return _read(connection, sites=sites)


def site_of(connection: Connection, levels: Iterable[AccessLevelId]) -> Mapping[AccessLevelId, SiteId]:
    """Access level → its site, for those that are there."""
    columns = access_levels.c
    rows = connection.execute(select(columns.id, columns.site_id).where(columns.id.in_(list(levels))))
    return {AccessLevelId(row.id): SiteId(row.site_id) for row in rows}


def held_with(
    connection: Connection, levels: Collection[AccessLevelId], now: datetime
) -> list[frozenset[AccessLevelId]]:
    """For everybody who holds one of these levels, and whose validity has not ended: all levels they hold."""
    columns = cardholder_levels.c
    holders = select(columns.cardholder_id).where(columns.access_level_id.in_(sorted(levels)))
    ended = cardholders.c.valid_until <= now
    rows = connection.execute(
        select(columns.cardholder_id, columns.access_level_id)
        .join(cardholders)
        .where(columns.cardholder_id.in_(holders), or_(cardholders.c.valid_until.is_(None), ~ended))
    )
    found: dict[str, set[AccessLevelId]] = {}
    for row in rows:
        found.setdefault(row.cardholder_id, set()).add(AccessLevelId(row.access_level_id))
    return [frozenset(each) for each in found.values()]


def holders(connection: Connection, levels: Collection[AccessLevelId]) -> Mapping[AccessLevelId, int]:
    """Access level → how many people hold it; those whose validity has ended included."""
    column = cardholder_levels.c.access_level_id
    query = select(column, func.count().label("people")).where(column.in_(sorted(levels))).group_by(column)
    return {AccessLevelId(row.access_level_id): row.people for row in connection.execute(query)}


def _read(
    connection: Connection, level_id: AccessLevelId | None = None, *, sites: Sites = None
) -> list[NamedLevel]:
    rules: dict[str, list[AccessRule]] = {}
    levels = select(access_levels).where(within(access_levels.c.site_id, sites)).order_by(access_levels.c.id)
    rows = select(access_rules).join(access_levels).where(within(access_levels.c.site_id, sites))
    rows = rows.order_by(*access_rules.primary_key)
    if level_id is not None:
        rows = rows.where(access_rules.c.access_level_id == level_id)
        levels = levels.where(access_levels.c.id == level_id)
    for row in connection.execute(rows):
        rule = AccessRule(door_id=DoorId(row.door_id), schedule_id=ScheduleId(row.schedule_id))
        rules.setdefault(row.access_level_id, []).append(rule)
    return [
        NamedLevel(
            level=AccessLevel(id=AccessLevelId(row.id), rules=tuple(rules.get(row.id, ()))),
            site_id=SiteId(row.site_id),
            name=row.name,
            created_at=row.created_at,
        )
        for row in connection.execute(levels)
    ]


def _write_rules(connection: Connection, level: AccessLevel, site_id: SiteId) -> None:
    of_site = select(doors.c.id).join(controllers).where(controllers.c.site_id == site_id)
    timed = select(schedules.c.id).where(schedules.c.site_id == site_id)
    if {rule.door_id for rule in level.rules} - set(connection.scalars(of_site)) or {
        rule.schedule_id for rule in level.rules
    } - set(connection.scalars(timed)):
        raise NotFound(f"access level {level.id}: a door or schedule is not there")
    rows = [
        {"access_level_id": level.id, "door_id": rule.door_id, "schedule_id": rule.schedule_id}
        for rule in dict.fromkeys(level.rules)
    ]
    if rows:
        connection.execute(insert(access_rules), rows)
