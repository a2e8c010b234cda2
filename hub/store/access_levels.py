"""Access levels and their rules."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.database import insert_new
from hub.store.errors import NotFound
from hub.store.schema import access_levels, access_rules
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
    """Replace a level's rules and name; raises ``NotFound``."""
    changed = connection.execute(
        update(access_levels).where(access_levels.c.id == level.id).values(name=name)
    )
    if changed.rowcount != 1:
        raise NotFound(f"access level {level.id} is not there")
    connection.execute(delete(access_rules).where(access_rules.c.access_level_id == level.id))
    _write_rules(connection, level)


def list_all(connection: Connection) -> list[NamedLevel]:
    """Every level with its rules, by id."""
    rules: dict[str, list[AccessRule]] = {}
    for row in connection.execute(select(access_rules).order_by(*access_rules.primary_key)):
        rule = AccessRule(door_id=DoorId(row.door_id), schedule_id=ScheduleId(row.schedule_id))
        rules.setdefault(row.access_level_id, []).append(rule)
    return [
        NamedLevel(
            level=AccessLevel(id=AccessLevelId(row.id), rules=tuple(rules.get(row.id, ()))),
            name=row.name,
            created_at=row.created_at,
        )
        for row in connection.execute(select(access_levels).order_by(access_levels.c.id))
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
