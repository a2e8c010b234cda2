"""For which times each door's record is whole (rule R2: absence of a tap is not absence of a person).

A record is whole as far as its controller has said what it holds and all of that is stored. It has a hole
where events are known to be missing, where the controller or the door's reader did not work, and, until they
arrive, where events wait at the door.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from sqlalchemy import Connection

from hub.store import controllers, doors, journals
from hub.store.controllers import Controller, ControllerState
from hub.store.journals import Anomaly, AnomalyKind
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, DoorId, JournalId


@unique
class Cause(StrEnum):
    """Why a door's record is not known to be whole."""

    NEVER_SEEN = "never_seen"  # its controller has not connected yet
    OFFLINE = "offline"  # its controller is not connected, or silent
    NOT_PROVEN = "not_proven"  # its controller has not yet said what it holds
    ARRIVING = "arriving"  # its controller holds events that are not stored yet, or that it cannot send yet
    NOT_RUNNING = "not_running"
    UNCLEAN_START = "unclean_start"  # the last moments before may be missing
    READER_LOST = "reader_lost"
    EVENTS_MISSING = "events_missing"
    JOURNAL_REPLACED = "journal_replaced"
    JOURNAL_GAP = "journal_gap"
    DOOR_MOVED = "door_moved"  # to another controller, which does not go by that yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Nothing can be concluded from ``since`` (None: the beginning) to ``until`` (None: still)."""

    since: datetime | None
    until: datetime | None
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """One door's record. ``complete``: nothing is unknown up to this moment, whatever was before.

    ``unknown_since``: the beginning of what is still unknown; None when complete, or when it is unknown from
    the very beginning. ``holes``: all of them, the oldest first, what is still unknown included.
    """

    door_id: DoorId
    complete: bool
    unknown_since: datetime | None
    holes: tuple[Hole, ...]


def of_doors(
    connection: Connection, now: datetime, *, since: datetime | None = None
) -> Mapping[DoorId, Completeness]:
    """Every door's record, with the holes that reach beyond ``since`` (None: all)."""
    states = controllers.states(connection, now)
    heads = {(head.controller_id, head.journal_id): head.sequence for head in journals.heads(connection)}
    registered = {controller.id: controller for controller in controllers.list_all(connection)}
    anomalies = journals.list_anomalies(connection, only_holes=True)
    found: dict[DoorId, Completeness] = {}
    for door in (named.door for named in doors.list_all(connection)):
        state = states[door.controller_id]
        stored = heads.get((door.controller_id, state.journal_id or ""), 0)
        holes = [_hole(anomaly) for anomaly in anomalies if _concerns(anomaly, door.id, door.controller_id)]
        holes += _open_holes(state, registered.get(door.controller_id), stored)
        found[door.id] = _completeness(door.id, holes, since)
    return found


def hole_before(
    controller_id: ControllerId, journal_id: JournalId, event: Event, previous_at: datetime | None
) -> Anomaly | None:
    """What an event says about the time before it; ``previous_at``: when the event before it occurred."""
    draft = event.draft
    match draft.kind:
        case EventKind.CONTROLLER_STARTED:
            unclean = draft.details.get("unclean") is True
            kind = AnomalyKind.UNCLEAN_START if unclean else AnomalyKind.NOT_RUNNING
        case EventKind.JOURNAL_GAP:
            kind = AnomalyKind.JOURNAL_GAP
        case _:
            return None
    return Anomaly(
        controller_id=controller_id,
        journal_id=journal_id,
        kind=kind,
        detail=", ".join(f"{name}={fact!r}" for name, fact in draft.details.items()),
        at=draft.occurred_at,
        first_sequence=event.sequence,
        last_sequence=event.sequence,
        has_hole=True,
        unknown_from=previous_at,
        unknown_until=draft.occurred_at,
    )


def _open_holes(state: ControllerState, controller: Controller | None, stored: int) -> Iterable[Hole]:
    since = state.complete_until or (controller.registered_at if controller else None)
    if state.last_seen is None:
        yield Hole(since=since, until=None, cause=Cause.NEVER_SEEN)
        return
    if not state.online:
        yield Hole(since=since, until=None, cause=Cause.OFFLINE)
    if stored < (state.last_sequence or 0):
        yield Hole(since=since, until=None, cause=Cause.ARRIVING)
    elif state.complete_until is None:
        yield Hole(since=since, until=None, cause=Cause.NOT_PROVEN)


def _concerns(anomaly: Anomaly, door_id: DoorId, controller_id: ControllerId) -> bool:
    return anomaly.controller_id == controller_id and anomaly.door_id in (None, door_id)


def _hole(anomaly: Anomaly) -> Hole:
    return Hole(since=anomaly.unknown_from, until=anomaly.unknown_until, cause=Cause(anomaly.kind.value))


def _completeness(door_id: DoorId, holes: Iterable[Hole], since: datetime | None) -> Completeness:
    recent = [hole for hole in holes if since is None or hole.until is None or hole.until > since]
    recent.sort(key=lambda hole: (hole.since is not None, hole.since))
    still = [hole.since for hole in recent if hole.until is None]
    beginnings = [beginning for beginning in still if beginning is not None]
    return Completeness(
        door_id=door_id,
        complete=not still,
        unknown_since=min(beginnings) if len(beginnings) == len(still) and still else None,
        holes=tuple(recent),
    )
