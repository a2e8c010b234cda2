"""Doors: their rules, whether they are online, what they confirmed and how far their record reaches."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, PlainSerializer, StrictBool, StrictInt
from sqlalchemy import Connection

from hub import moves
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, create, note, portion, tagged, unchanged
from hub.api.door_status import DoorStatus, statuses
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import doors as store
from hub.store.errors import NotFound
from hub.versions import Parts
from pacs import rules
from pacs.rules import (
    MAX_ADMITTED,
    MAX_UNLOCK_MS,
    Antipassback,
    DoorMode,
    WhenClockUntrusted,
    WhenHubAway,
    WhenTooOld,
    WhenUnlisted,
)
from pacs.rules import Door as DoorRules

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/doors", tags=["doors"])

UnlockMs = Annotated[StrictInt, Field(ge=1, le=MAX_UNLOCK_MS)]
HeldOpenAfterS = Annotated[StrictInt, Field(ge=1, le=3600)]
MaxPolicyAgeS = Annotated[StrictInt, Field(ge=60, le=31 * 86_400)]
HubAwayMaxS = Annotated[StrictInt, Field(ge=30, le=86_400)]
AdmitsAtMost = Annotated[StrictInt, Field(ge=1, le=MAX_ADMITTED)]
WindowS = Annotated[StrictInt, Field(ge=1, le=600)]
Levels = Annotated[
    frozenset[fields.Level], Field(max_length=20), PlainSerializer(sorted, return_type=list[str])
]
OtherDoors = Annotated[
    frozenset[fields.Door], Field(max_length=3), PlainSerializer(sorted, return_type=list[str])
]


class ModeRule(Body):
    """This mode, while this schedule holds; of several rules the first that holds decides."""

    schedule_id: fields.Schedule
    mode: DoorMode


class DoorChange(Body):
    """What may change; what is absent stays. ``area`` and ``outside`` may be set to null: no area."""

    name: fields.Name | None = None
    mode: DoorMode | None = None
    unlock_ms: UnlockMs | None = None
    extended_unlock_ms: UnlockMs | None = None
    held_open_after_s: HeldOpenAfterS | None = None
    max_policy_age_s: MaxPolicyAgeS | None = None
    when_too_old: WhenTooOld | None = None
    when_clock_untrusted: WhenClockUntrusted | None = None
    allow_v1: StrictBool | None = None
    mode_rules: Annotated[list[ModeRule], Field(max_length=20)] | None = None
    relock_on_open: StrictBool | None = None
    held_warning_s: Annotated[StrictInt, Field(ge=0, le=3600)] | None = None
    extended_held_open_after_s: HeldOpenAfterS | None = None
    when_unlisted: WhenUnlisted | None = None
    area: fields.Area | None = None
    outside: fields.Area | None = None
    antipassback: Antipassback | None = None
    antipassback_s: Annotated[StrictInt, Field(ge=0, le=86_400)] | None = None
    first_person_levels: Levels | None = None
    escort_window_s: WindowS | None = None
    interlock_with: OtherDoors | None = None
    attended_timeout_s: WindowS | None = None
    private: StrictBool | None = None
    admitting_levels: Levels | None = None
    admits_at_most: AdmitsAtMost | None = None
    when_hub_away: WhenHubAway | None = None
    hub_away_max_s: HubAwayMaxS | None = None

    def applied_to(self, door: DoorRules) -> DoorRules:
        """``door`` with the rules that are present here; raises ``MalformedData`` when they do not go together."""
        present: dict[str, Any] = {
            name: getattr(self, name)
            for name in self.model_fields_set - {"name", "id", "controller_id"}
            if name in {"area", "outside"} or getattr(self, name) is not None
        }
        if "mode_rules" in present:
            present["mode_rules"] = tuple(
                rules.ModeRule(schedule_id=rule.schedule_id, mode=rule.mode) for rule in present["mode_rules"]
            )
        return replace(door, **present)


class NewDoor(DoorChange):
    """A door; absent rules take their defaults."""

    id: fields.Door
    controller_id: fields.Controller
    name: fields.Name


class Move(Body):
    """The controller that is wired to the door from now on, and perhaps why."""

    controller_id: fields.Controller
    reason: fields.ReasonText | None = None


class DoorAnswer(Answer):
    """A door's rules."""

    id: fields.Door
    site_id: fields.Site
    controller_id: fields.Controller
    name: str
    mode: DoorMode
    unlock_ms: int
    extended_unlock_ms: int
    held_open_after_s: int
    max_policy_age_s: int
    when_too_old: WhenTooOld
    when_clock_untrusted: WhenClockUntrusted
    allow_v1: bool
    mode_rules: list[ModeRule]
    relock_on_open: bool
    held_warning_s: int
    extended_held_open_after_s: int
    when_unlisted: WhenUnlisted
    area: fields.Area | None
    outside: fields.Area | None
    antipassback: Antipassback
    antipassback_s: int
    first_person_levels: Levels
    escort_window_s: int
    interlock_with: OtherDoors
    attended_timeout_s: int
    private: bool
    admitting_levels: Levels
    admits_at_most: int
    when_hub_away: WhenHubAway
    hub_away_max_s: int
    created_at: datetime


class DoorWithStatus(DoorStatus):
    """What is known of a door, and its rules."""

    rules: DoorAnswer


class Doors(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    doors: list[DoorWithStatus]
    next_after: str | None


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
    after: fields.Door | None = None,
    limit: fields.Limit = 100,
) -> Doors:
    """Doors by id, each with what is known of it."""
    hub = services(request)
    with hub.database.read() as connection:
        every = statuses(connection, hub.clock(), sites=principal.sites)
        named = {each.door.id: each for each in store.list_all(connection, sites=principal.sites)}
    found, next_after = portion(every, after, limit)
    doors = [
        DoorWithStatus(
            rules=_answer(named[each.id]), **{name: getattr(each, name) for name in DoorStatus.model_fields}
        )
        for each in found
    ]
    return Doors(doors=doors, next_after=next_after)


@router.post("", status_code=201)
def add_door(
    body: NewDoor,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
) -> DoorAnswer:
    """Add a door to a registered controller."""
    hub = services(request)
    new = body.applied_to(DoorRules(id=body.id, controller_id=body.controller_id))

    def add(connection: Connection) -> store.NamedDoor:
        scope.controller(connection, principal, body.controller_id)
        return store.add(connection, new, name=body.name, now=hub.clock())

    made = create(
        hub,
        principal,
        response,
        subject=f"door:{body.id}",
        find=lambda connection: store.get(connection, body.id),
        add=add,
        same=lambda found: (
            (found.door, found.name) == (body.applied_to(found.door), body.name)
            and found.door.controller_id == body.controller_id
        ),
    )
    tagged(response, parts_of(made))
    return _answer(made)


@router.get("/{door_id}")
def one_door(
    door_id: fields.Door,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> DoorAnswer:
    """A door's rules."""
    with services(request).database.read() as connection:
        found = scope.door(connection, principal, door_id)
    tagged(response, parts_of(found))
    return _answer(found)


@router.patch("/{door_id}")
def change_door(
    door_id: fields.Door,
    body: DoorChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    if_match: IfMatch = None,
) -> DoorAnswer:
    """Change a door's rules; its controller confirms the policy version that carries them."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.door(connection, principal, door_id)
        unchanged(if_match, parts_of(found))
        changed = replace(found, door=body.applied_to(found.door), name=body.name or found.name)
        if changed != found:
            try:
                store.change(connection, changed.door, name=changed.name)
            except NotFound as error:
                raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
            note(connection, hub, principal, action="door.change", subject=f"door:{door_id}")
    hub.site_changed()
    tagged(response, parts_of(changed))
    return _answer(changed)


@router.post("/{door_id}/move")
def move_door(
    door_id: fields.Door,
    body: Move,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
) -> DoorAnswer:
    """Give a door to another controller; its record has a hole until that one goes by a policy made since."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.door(connection, principal, door_id)
        if found.door.controller_id != body.controller_id:
            try:
                moves.move(connection, found.door, body.controller_id, now=hub.clock())
            except NotFound as error:
                raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
            note(
                connection,
                hub,
                principal,
                action="door.move",
                subject=f"door:{door_id}",
                reason=body.reason or "",
            )
            found = store.get(connection, door_id)
    hub.site_changed()
    return _answer(found)


def parts_of(named: store.NamedDoor) -> Parts:
    """What of a door can be changed."""
    rules_of = asdict(named.door)
    return {"name": named.name} | {name: rules_of[name] for name in rules_of if name != "id"}


def _answer(named: store.NamedDoor) -> DoorAnswer:
    return DoorAnswer(
        **asdict(named.door), site_id=named.site_id, name=named.name, created_at=named.created_at
    )
