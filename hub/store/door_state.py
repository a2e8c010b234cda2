"""What the record says of each door last: its contact and its mode, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, insert, select, update

from hub.store.database import fields
from hub.store.schema import door_state
from pacs.identifiers import ControllerId, DoorId


@unique
class Contact(StrEnum):
    """What a door's contact said last."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorState:
    """One door's; None: the record says nothing of it since its controller started. Times are the controller's."""

    door_id: DoorId
    contact: Contact | None = None
    contact_at: datetime | None = None
    mode: str | None = None
    mode_cause: str | None = None
    mode_at: datetime | None = None


def forget(connection: Connection, controllers: Iterable[ControllerId]) -> None:
    """These started anew: how their doors stand is to be said again."""
    mine = door_state.c.controller_id.in_(list(controllers))
    nothing = dict.fromkeys(("contact", "contact_at", "mode", "mode_cause", "mode_at"))
    connection.execute(update(door_state).where(mine).values(nothing))


def say(
    connection: Connection, door_id: DoorId, controller_id: ControllerId, facts: Mapping[str, Any]
) -> None:
    """Store what is known now: any columns of ``DoorState``."""
    changed = connection.execute(
        update(door_state)
        .where(door_state.c.door_id == door_id)
        .values({**facts, "controller_id": controller_id})
    )
    if not changed.rowcount:
        connection.execute(
            insert(door_state).values({**facts, "door_id": door_id, "controller_id": controller_id})
        )


def of_doors(connection: Connection) -> dict[DoorId, DoorState]:
    """Every door of which anything is known."""
    found = {}
    for row in connection.execute(select(door_state)):
        columns = fields(row)
        del columns["controller_id"]
        columns["contact"] = None if row.contact is None else Contact(row.contact)
        state = DoorState(**{**columns, "door_id": DoorId(row.door_id)})
        found[state.door_id] = state
    return found
