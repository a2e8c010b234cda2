"""Doors, each with the rules it takes to its controller."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.schema import doors
from pacs.identifiers import ControllerId, DoorId
from pacs.rules import Door, DoorMode, WhenClockUntrusted, WhenTooOld


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDoor:
    """A door's rules, with the name people call it by."""

    door: Door
    name: str
    created_at: datetime


def add(connection: Connection, door: Door, *, name: str, now: datetime) -> NamedDoor:
    """Add a door; raises ``AlreadyExists``, or ``NotFound`` when its controller is not registered."""
    insert_new(connection, doors, {**asdict(door), "name": name, "created_at": now})
    return NamedDoor(door=door, name=name, created_at=now)


def change(connection: Connection, door: Door, *, name: str) -> None:
    """Store a door's new rules and name; raises ``NotFound``."""
    changed = connection.execute(update(doors).where(doors.c.id == door.id).values(**asdict(door), name=name))
    if changed.rowcount != 1:
        raise NotFound(f"door {door.id} is not there")


def get(connection: Connection, door_id: DoorId) -> NamedDoor:
    """One door; raises ``NotFound``."""
    row = connection.execute(select(doors).where(doors.c.id == door_id)).first()
    if row is None:
        raise NotFound(f"door {door_id} is not there")
    return _named(row)


def list_all(connection: Connection, controller_id: ControllerId | None = None) -> list[NamedDoor]:
    """Every door, or every door of one controller, by id."""
    query = select(doors).order_by(doors.c.id)
    if controller_id is not None:
        query = query.where(doors.c.controller_id == controller_id)
    return [_named(row) for row in connection.execute(query)]


_PARSE: dict[str, Any] = {
    "id": DoorId,
    "controller_id": ControllerId,
    "mode": DoorMode,
    "when_too_old": WhenTooOld,
    "when_clock_untrusted": WhenClockUntrusted,
}


def _named(row: Row[Any]) -> NamedDoor:
    columns = fields(row)
    rules = {
        field.name: _PARSE.get(field.name, lambda value: value)(columns[field.name])
        for field in fields_of(Door)
    }
    return NamedDoor(door=Door(**rules), name=row.name, created_at=row.created_at)
