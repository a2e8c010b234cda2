"""Giving a door to another controller without claiming more of its record than is known (rule R2)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from hub import completeness
from hub.store import controllers, doors, journals
from hub.store.journals import Anomaly, AnomalyKind
from pacs.identifiers import ControllerId
from pacs.rules import Door


def move(connection: Connection, door: Door, to: ControllerId, *, now: datetime) -> None:
    """Give ``door`` to another controller, with all holes that its record has.

    What is unknown at ``now`` stays so until that controller goes by a policy made later; read the clock in the
    transaction. Raises what ``hub.store.doors.move`` does.
    """
    before = completeness.of_doors(connection, now)[door.id]
    complete_until = controllers.state(connection, door.controller_id, now).complete_until
    doors.move(connection, door.id, to)
    closed = [(hole.since, hole.until) for hole in before.holes if hole.until is not None]
    still = (complete_until if before.complete else before.unknown_since, None)
    holes = [
        Anomaly(
            controller_id=to,
            door_id=door.id,
            kind=AnomalyKind.DOOR_MOVED,
            detail=f"from controller {door.controller_id}",
            at=now,
            has_hole=True,
            unknown_from=since,
            unknown_until=until,
        )
        for since, until in (*closed, still)
    ]
    journals.add_holes(connection, holes)
