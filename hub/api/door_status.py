"""What is known of every door at one moment: the same for the API, the pages and the live stream."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection

from hub import completeness
from hub.api import fields
from hub.api.fields import Answer
from hub.completeness import Cause
from hub.store import alarms, controllers, documents, door_state, doors, events, journals
from hub.store.alarms import AlarmKind, Subject
from hub.store.controllers import ControllerState
from hub.store.door_state import Contact, DoorState
from hub.store.journals import AnomalyKind
from hub.store.sites import Sites
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.rules import Door, DoorMode, Side, WhenHubAway
from pacs.situation import Attendance


@unique
class Lock(StrEnum):
    """Whether a door opens without a card."""

    LOCKED = "locked"
    UNLOCKED = "unlocked"


class LastEvent(Answer):
    """The newest event stored of a door; never says who."""

    id: int
    kind: EventKind
    occurred_at: datetime
    side: Side | None
    reason: Reason | None


class Interval(Answer):
    """An interval for which the door's record is not known to be complete; ``until`` null: up to now."""

    since: datetime | None
    until: datetime | None
    cause: Cause


class Completeness(Answer):
    """How far a door's record reaches, and the holes of the last three days."""

    door_id: fields.Door
    complete: bool
    complete_until: datetime | None
    unknown_since: datetime | None
    holes: list[Interval]


class Anomaly(Answer):
    """What a door's controller sent and could not be taken into its record: how often, and when last."""

    kind: AnomalyKind
    times: int
    last_at: datetime


class LastKnown(Answer):
    """How a door stood when it was last heard of; each with the moment since which it did. Null: not known.

    ``contact``: from the stored events; a door without one, and a private one, never says. ``lock``: what its mode
    means for it, apart from single openings. ``as_of``: the last sign of life.
    """

    mode: DoorMode | None
    mode_cause: str | None
    mode_since: datetime | None
    contact: Contact | None
    contact_since: datetime | None
    lock: Lock | None
    as_of: datetime | None


class WithoutHub(Answer):
    """Who decides by its rules where a person has to, while the hub is not heard; ``until``: then nobody can be asked."""

    attendance: Attendance
    until: datetime | None


class DoorStatus(Answer):
    """A door's connection, versions and record.

    ``complete``: every event up to ``complete_until`` is stored. Otherwise people may have passed who are
    in no list since ``unknown_since`` (null: since ever). Versions are those the controller confirmed;
    ``*_newest`` those in force, 0 for none. ``mode`` is the policy's; ``effective_mode`` and what gave it are the
    controller's word while it is online, and so is ``attendance``, who decides there where a person has to;
    ``without_hub``: while it is offline, if it was attended. ``last_known`` is never to be shown as how the door stands at this moment.
    """

    id: fields.Door
    site_id: fields.Site
    controller_id: fields.Controller
    name: str
    mode: DoorMode
    effective_mode: str | None
    effective_cause: str | None
    attendance: Attendance | None
    without_hub: WithoutHub | None
    online: bool
    since: datetime | None
    last_seen: datetime | None
    policy_version: int
    policy_newest: int
    revocations_version: int
    revocations_newest: int
    last_known: LastKnown
    alarms: list[AlarmKind]
    last_event: LastEvent | None
    complete: bool
    complete_until: datetime | None
    unknown_since: datetime | None
    holes: list[Interval]
    anomalies: list[Anomaly]


HOLES_SHOWN = timedelta(days=3)


def statuses(
    connection: Connection,
    now: datetime,
    *,
    sites: Sites = None,
    controller_ids: Collection[ControllerId] | None = None,
) -> list[DoorStatus]:
    """Every door of these sites, or of some controllers, by id, with the holes of the last three days."""
    if controller_ids is None and sites is not None:
        controller_ids = [each.id for each in controllers.list_all(connection, sites, even_retired=True)]
    named_doors = doors.list_all(connection, controller_ids=controller_ids)
    states = controllers.states(connection, now, controller_ids)
    records = completeness.of_doors(
        connection,
        now,
        since=now - HOLES_SHOWN,
        places=doors.places(connection, controller_ids=controller_ids),
        states=states,
    )
    newest_events = events.newest_per_door(connection, [named.door.id for named in named_doors])
    confirmed = documents.confirmed_versions(connection)
    newest = documents.newest_versions(connection)
    doubts = journals.doubts(connection)
    known = door_state.of_doors(connection)
    standing = [alarm.subject for alarm in alarms.standing(connection).values()]
    found = []
    for named in named_doors:
        door = named.door
        state, record = states[door.controller_id], records[door.id]
        event = newest_events.get(door.id)
        said = _said(state, door.id) if state.online else {}
        found.append(
            DoorStatus(
                id=door.id,
                site_id=named.site_id,
                controller_id=door.controller_id,
                name=named.name,
                mode=door.mode,
                effective_mode=said.get("mode"),
                effective_cause=said.get("cause"),
                attendance=_attendance(said.get("attendance")),
                without_hub=_without_hub(door, state, now),
                online=state.online,
                since=state.since,
                last_seen=state.last_seen,
                policy_version=confirmed.get((door.controller_id, DocumentKind.POLICY), 0),
                policy_newest=newest.get((named.site_id, DocumentKind.POLICY), 0),
                revocations_version=confirmed.get((door.controller_id, DocumentKind.REVOCATIONS), 0),
                revocations_newest=newest.get((named.site_id, DocumentKind.REVOCATIONS), 0),
                last_known=_last_known(door, state, known.get(door.id)),
                alarms=[subject.kind for subject in standing if _concerns(subject, door)],
                last_event=LastEvent.model_validate(event) if event else None,
                complete=record.complete,
                complete_until=state.complete_until,
                unknown_since=record.unknown_since,
                holes=[Interval.model_validate(hole) for hole in record.holes],
                anomalies=[Anomaly.model_validate(each) for each in doubts.get(door.controller_id, ())],
            )
        )
    return found


def _said(state: ControllerState, door_id: DoorId) -> Mapping[str, Any]:
    """What the controller said of its door last."""
    said = state.health["doors"] if state.health else ()
    return next((door for door in said if door["door_id"] == door_id), {})


def _attendance(said: Any) -> Attendance | None:
    return Attendance(said) if said in (*Attendance,) else None


def _without_hub(door: Door, state: ControllerState, now: datetime) -> WithoutHub | None:
    """The door counts from when it heard the hub last, which was about when the hub did."""
    mode = _said(state, door.id).get("mode", door.mode)
    if state.online or state.last_seen is None or mode != DoorMode.ATTENDED:
        return None
    until = state.last_seen + timedelta(seconds=door.hub_away_max_s)
    if door.when_hub_away is WhenHubAway.DENY or now >= until:
        return WithoutHub(attendance=Attendance.NOBODY, until=None)
    return WithoutHub(attendance=Attendance(door.when_hub_away.value), until=until)


def _last_known(door: Door, state: ControllerState, known: DoorState | None) -> LastKnown:
    """From the heartbeat, which tells the mode at any time, and the record, which tells since when."""
    known = known or DoorState(door_id=door.id)
    said = _said(state, door.id)
    mode, cause = said.get("mode"), said.get("cause")
    if mode is None:
        mode, cause = known.mode, known.mode_cause
    if mode not in (*DoorMode,):
        mode = None
    same = (mode, cause) == (known.mode, known.mode_cause)
    unlocked = mode == DoorMode.UNLOCKED
    return LastKnown(
        mode=None if mode is None else DoorMode(mode),
        mode_cause=cause,
        mode_since=known.mode_at if same else None,
        contact=None if door.private else known.contact,
        contact_since=None if door.private else known.contact_at,
        lock=None if mode is None else Lock.UNLOCKED if unlocked else Lock.LOCKED,
        as_of=state.last_seen,
    )


def _concerns(subject: Subject, door: Door) -> bool:
    return subject.controller_id == door.controller_id and subject.door_id in (None, door.id)


def completeness_of(
    connection: Connection, now: datetime, door: DoorId | None, *, sites: Sites = None
) -> list[Completeness]:
    """How far the record of one door, or of every door of these sites, reaches."""
    names = tuple(Completeness.model_fields)[1:]
    return [
        Completeness(door_id=each.id, **{name: getattr(each, name) for name in names})
        for each in statuses(connection, now, sites=sites)
        if door in (None, each.id)
    ]
