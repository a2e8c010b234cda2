"""Alarms: what stands, what is over and not yet taken note of, and taking note of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.door_status import Completeness, completeness_of
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import alarms as store
from hub.store import controllers, doors, journals, operators, sites
from hub.store.alarms import Alarm, AlarmKind, Clearance, Subject
from hub.store.sites import Sites
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Side

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/alarms", tags=["alarms"])

LATE_AFTER: Final = timedelta(minutes=1)
"""An event that took longer to arrive tells of the past, and says so."""

AlarmInPath = Annotated[int, Path(ge=1, le=2**62)]
_OPERATOR = "operator:"


@unique
class AlarmState(StrEnum):
    """What an alarm asks for. ``over``: it ended by itself, and nobody has taken note of it."""

    STANDING = "standing"
    ACKNOWLEDGED = "acknowledged"
    OVER = "over"
    CLOSED = "closed"


class AlarmDoor(Answer):
    """A door that an alarm is about."""

    id: fields.Door
    name: str


class AlarmAnswer(Answer):
    """One alarm.

    ``since`` and ``cleared_at`` are by the clock of whoever noticed, to be believed when ``clock_trusted``;
    ``noticed_at`` is the hub's. ``late``: the event took more than a minute to arrive. ``doors``: one, or all of its
    controller. ``detail``: which document or what of the record. ``reminder``: acknowledged, and back because it still
    stands. ``rings``: somebody has to come; false while a late event's own end may still be on its way.
    ``acknowledged_by`` is as in the audit log; the name is null for those who may not see names.
    """

    id: int
    kind: AlarmKind
    state: AlarmState
    rings: bool
    reminder: bool
    late: bool
    site_id: fields.Site
    controller_id: fields.Controller
    doors: list[AlarmDoor]
    side: Side | None
    detail: str
    since: datetime
    clock_trusted: bool
    noticed_at: datetime
    cleared_at: datetime | None
    clearance: Clearance | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    acknowledged_name: str | None
    note: str
    remind_at: datetime | None

    def without_names(self) -> AlarmAnswer:
        """The same alarm, saying nothing about who took note of it."""
        return self.model_copy(update={"acknowledged_name": None})


class Alarms(Answer):
    """A portion of the list in the order in which the hub noticed; go on with ``after=next_after`` until it is null.

    ``completeness``: where a door's record is not whole, something may have happened that is no alarm here.
    """

    alarms: list[AlarmAnswer]
    next_after: int | None
    completeness: list[Completeness]


class Acknowledgement(Body):
    """What whoever takes note of an alarm did or saw, or nothing; kept in the audit log."""

    note: fields.ReasonText | Literal[""] = ""


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    is_open: Annotated[bool | None, Query(alias="open")] = None,
    door: fields.Door | None = None,
    kind: Annotated[list[AlarmKind], Query(max_length=20)] = [],  # noqa: B006 - copied by the framework
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: fields.Limit = 100,
) -> Alarms:
    """Alarms behind ``after``: open ones (standing, or not acknowledged), closed ones, or all; of one door or kind."""
    hub = services(request)
    with hub.database.read() as connection:
        named = scope.door(connection, principal, door) if door else None
        found = store.listing(
            connection,
            is_open=is_open,
            kinds=kind,
            door_id=door,
            controller_id=named.door.controller_id if named else None,
            after=after,
            limit=limit + 1,
            sites=principal.sites,
        )
        shown = answers(connection, found[:limit], hub.clock())
        records = completeness_of(connection, hub.clock(), door, sites=principal.sites)
    if not principal.may(Permission.NAMES_READ):
        shown = [each.without_names() for each in shown]
    more = found[limit - 1].id if len(found) > limit else None
    return Alarms(alarms=shown, next_after=more, completeness=records)


@router.get("/{alarm_id}")
def one(
    alarm_id: AlarmInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
) -> AlarmAnswer:
    """One alarm."""
    hub = services(request)
    with hub.database.read() as connection:
        (shown,) = answers(connection, [scope.alarm(connection, principal, alarm_id)], hub.clock())
    return shown if principal.may(Permission.NAMES_READ) else shown.without_names()


@router.post("/{alarm_id}/acknowledge")
def acknowledge(
    alarm_id: AlarmInPath,
    body: Acknowledgement,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ALARMS_ACKNOWLEDGE)],
) -> AlarmAnswer:
    """Take note of an alarm. While it stands it comes back later; once it is over this closes it."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.alarm(connection, principal, alarm_id)
    changed = hub.alarms.acknowledge(alarm_id, note=body.note, actor=principal.actor)
    with hub.database.read() as connection:
        (shown,) = answers(connection, [changed], hub.clock())
    return shown if principal.may(Permission.NAMES_READ) else shown.without_names()


def open_alarms(connection: Connection, now: datetime, *, seen: Sites = None) -> list[AlarmAnswer]:
    """Everything at these sites that stands or that nobody has taken note of; what asks for somebody first, then by urgency."""
    shown = answers(connection, store.listing(connection, is_open=True, sites=seen), now)
    return sorted(shown, key=urgency)


def with_ids(connection: Connection, ids: Iterable[int], now: datetime) -> list[AlarmAnswer]:
    """These alarms."""
    return answers(connection, [store.get(connection, each) for each in ids], now)


def urgency(alarm: AlarmAnswer) -> tuple[int, int, int]:
    """Its place in the list."""
    states = (AlarmState.STANDING, AlarmState.OVER, AlarmState.ACKNOWLEDGED, AlarmState.CLOSED)
    return states.index(alarm.state), list(AlarmKind).index(alarm.kind), -alarm.id


def answers(connection: Connection, alarms: Sequence[Alarm], now: datetime) -> list[AlarmAnswer]:
    """Alarms with the names of doors and operators."""
    if not alarms:
        return []
    arriving = _arriving(connection, now)
    site_of = sites.of_controllers(connection)
    everyone = {row.id: row.name for row in operators.list_operators(connection)}
    every: dict[DoorId, AlarmDoor] = {}
    of_controller: dict[ControllerId, list[AlarmDoor]] = {}
    for named in doors.list_all(connection):
        shown = every[named.door.id] = AlarmDoor(id=named.door.id, name=named.name)
        of_controller.setdefault(named.door.controller_id, []).append(shown)
    return [
        _answer(alarm, site_of[alarm.subject.controller_id], concerned, everyone, arriving, now)
        for alarm in alarms
        for concerned in [_concerned(alarm.subject, every, of_controller)]
    ]


def _arriving(connection: Connection, now: datetime) -> set[ControllerId]:
    """Whoever said that it holds more than is stored."""
    stored = {(head.controller_id, head.journal_id): head.sequence for head in journals.heads(connection)}
    return {
        controller_id
        for controller_id, state in controllers.states(connection, now).items()
        if state.online
        and stored.get((controller_id, state.journal_id or ""), 0) < (state.last_sequence or 0)
    }


def _concerned(
    subject: Subject, every: dict[DoorId, AlarmDoor], of_controller: dict[ControllerId, list[AlarmDoor]]
) -> list[AlarmDoor]:
    if subject.door_id is None:
        return of_controller.get(subject.controller_id, [])
    return [every.get(subject.door_id) or AlarmDoor(id=subject.door_id, name=subject.door_id)]


def _answer(
    alarm: Alarm,
    site_id: SiteId,
    concerned: list[AlarmDoor],
    everyone: dict[str, str],
    arriving: set[ControllerId],
    now: datetime,
) -> AlarmAnswer:
    subject = alarm.subject
    state, reminder = _state(alarm, now)
    late = alarm.said_by_door and alarm.noticed_at - alarm.since > LATE_AFTER
    actor = alarm.acknowledged_by
    return AlarmAnswer(
        id=alarm.id,
        kind=subject.kind,
        state=state,
        rings=state is AlarmState.STANDING and not (late and subject.controller_id in arriving),
        reminder=reminder,
        late=late,
        site_id=site_id,
        controller_id=subject.controller_id,
        doors=concerned,
        side=subject.side,
        detail=subject.detail,
        since=alarm.since,
        clock_trusted=alarm.clock_trusted,
        noticed_at=alarm.noticed_at,
        cleared_at=alarm.cleared_at,
        clearance=alarm.clearance,
        acknowledged_at=alarm.acknowledged_at,
        acknowledged_by=actor,
        acknowledged_name=everyone.get(actor.removeprefix(_OPERATOR)) if actor else None,
        note=alarm.note,
        remind_at=alarm.remind_at,
    )


def _state(alarm: Alarm, now: datetime) -> tuple[AlarmState, bool]:
    if alarm.closed_at is not None:
        return AlarmState.CLOSED, False
    if not alarm.stands:
        return AlarmState.OVER, False
    if alarm.reminds(now):
        return AlarmState.STANDING, True
    return (AlarmState.ACKNOWLEDGED if alarm.acknowledged_at else AlarmState.STANDING), False
