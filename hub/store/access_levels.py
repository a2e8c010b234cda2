"""Access levels and their rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.database import insert_new
from hub.store.errors import InUse, NotFound
from hub.store.schema import access_levels, access_rules, cardholder_levels, doors
from pacs.identifiers import AccessLevelId, DoorId, ScheduleId
from pacs.rules import AccessLevel, AccessRule


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLevel:
    """An access level, with the name people call it by."""

    level: AccessLevel
    name: str
    created_at: datetime


def add(connection: Connection, level: AccessLevel, *, name: str, now: datetime) -> NamedLevel:
    """Add a level; raises ``AlreadyExists``, or ``NotFound`` when a door or schedule is not there."""
    insert_new(connection, access_levels, {"id": level.id, "name": name, "created_at": now})
    _write_rules(connection, level)
    return NamedLevel(level=level, name=name, created_at=now)


def change(connection: Connection, level: AccessLevel, *, name: str) -> None:
    """Replace a level's rules and name; raises ``NotFound``, also when a door or schedule is not there."""
    changed = connection.execute(
        update(access_levels).where(access_levels.c.id == level.id).values(name=name)
    )
    if changed.rowcount != 1:
        raise NotFound(f"access level {level.id} is not there")
    connection.execute(delete(access_rules).where(access_rules.c.access_level_id == level.id))
    _write_rules(connection, level)


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
    rows = connection.execute(select(doors.c.id, doors.c.first_person_levels).order_by(doors.c.id))
    if named := [row.id for row in rows if level_id in row.first_person_levels]:
        raise InUse(f"access level {level_id} is a first person's at doors: {', '.join(named)}")
    connection.execute(delete(access_rules).where(access_rules.c.access_level_id == level_id))
    connection.execute(delete(access_levels).where(access_levels.c.id == level_id))


def list_all(connection: Connection) -> list[NamedLevel]:
    """Every level with its rules, by id."""
    return _read(connection)


def _read(connection: Connection, level_id: AccessLevelId | None = None) -> list[NamedLevel]:
    rules: dict[str, list[AccessRule]] = {}
    rows = select(access_rules).order_by(*access_rules.primary_key)
    levels = select(access_levels).order_by(access_levels.c.id)
    if level_id is not None:
        rows = rows.where(access_rules.c.access_level_id == level_id)
        levels = levels.where(access_levels.c.id == level_id)
    for row in connection.execute(rows):
        rule = AccessRule(door_id=DoorId(row.door_id), schedule_id=ScheduleId(row.schedule_id))
        rules.setdefault(row.access_level_id, []).append(rule)
    return [
        NamedLevel(
            level=AccessLevel(id=AccessLevelId(row.id), rules=tuple(rules.get(row.id, ()))),
            name=row.name,
            created_at=row.created_at,
        )
        for row in connection.execute(levels)
    ]


def _write_rules(connection: Connection, level: AccessLevel) -> None:
    rows = [
        {"access_level_id": level.id, "door_id": rule.door_id, "schedule_id": rule.schedule_id}
        for rule in dict.fromkeys(level.rules)
    ]
    try:
        if rows:
            connection.execute(insert(access_rules), rows)
    except IntegrityError as error:
        raise NotFound(f"access level {level.id}: a door or schedule is not there") from error
