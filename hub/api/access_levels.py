"""Schedules, and the access levels that join them to doors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictInt

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, create, note, portion, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import access_levels as level_store
from hub.store import schedules as schedule_store
from hub.store.access_levels import NamedLevel
from hub.store.errors import NotFound
from hub.store.schedules import NamedSchedule
from hub.versions import Parts
from pacs import rules, schedule

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["access levels"])


class Window(Body):
    """Minutes after local midnight; an end above 1440 is on the next day. Weekday 0 is Monday."""

    weekdays: Annotated[list[Annotated[StrictInt, Field(ge=0, le=6)]], Field(max_length=7)]
    start_minute: Annotated[StrictInt, Field(ge=0, lt=1440)]
    end_minute: Annotated[StrictInt, Field(ge=1, le=2880)]


Windows = Annotated[list[Window], Field(max_length=50)]


class NewSchedule(Body):
    """``holiday_windows`` replace ``windows`` on a holiday; their weekdays are ignored."""

    id: fields.Schedule
    name: fields.Name
    windows: Windows
    holiday_windows: Windows = Field(default_factory=list)
    site_id: fields.Site | None = None


class ScheduleChange(Body):
    """What may change; what is absent stays."""

    name: fields.Name | None = None
    windows: Windows | None = None
    holiday_windows: Windows | None = None


class Schedule(Answer):
    """A weekly schedule on the site's wall clock."""

    id: fields.Schedule
    site_id: fields.Site
    name: str
    windows: list[Window]
    holiday_windows: list[Window]
    created_at: datetime


class Schedules(Answer):
    """A portion of the list."""

    schedules: list[Schedule]
    next_after: str | None


class Rule(Body):
    """This door, while this schedule holds."""

    door_id: fields.Door
    schedule_id: fields.Schedule


class NewLevel(Body):
    """An access level: its rules add up."""

    id: fields.Level
    name: fields.Name
    rules: Annotated[list[Rule], Field(max_length=2000)]
    site_id: fields.Site | None = None


class LevelChange(Body):
    """What may change; what is absent stays."""

    name: fields.Name | None = None
    rules: Annotated[list[Rule], Field(max_length=2000)] | None = None


class Level(Answer):
    """An access level."""

    id: fields.Level
    site_id: fields.Site
    name: str
    rules: list[Rule]
    created_at: datetime


class Levels(Answer):
    """A portion of the list."""

    access_levels: list[Level]
    next_after: str | None


@router.post("/schedules", status_code=201)
def create_schedule(
    body: NewSchedule,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Schedule:
    """Create a weekly schedule."""
    hub = services(request)
    new = schedule.Schedule(
        id=body.id, windows=as_windows(body.windows), holiday_windows=as_windows(body.holiday_windows)
    )
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
    made = create(
        hub,
        principal,
        response,
        subject=f"schedule:{body.id}",
        find=lambda connection: schedule_store.get(connection, body.id),
        add=lambda connection: schedule_store.add(
            connection, new, site_id=site_id, name=body.name, now=hub.clock()
        ),
        same=lambda found: (found.schedule, found.site_id, found.name) == (new, site_id, body.name),
    )
    tagged(response, schedule_parts(made))
    return _schedule(made)


@router.get("/schedules")
def list_schedules(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
    after: fields.Schedule | None = None,
    limit: fields.Limit = 100,
) -> Schedules:
    """Schedules by id."""
    with services(request).database.read() as connection:
        every = [_schedule(each) for each in schedule_store.list_all(connection, principal.sites)]
    found, next_after = portion(every, after, limit)
    return Schedules(schedules=list(found), next_after=next_after)


@router.get("/schedules/{schedule_id}")
def one_schedule(
    schedule_id: fields.Schedule,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
) -> Schedule:
    """One schedule."""
    with services(request).database.read() as connection:
        found = scope.schedule(connection, principal, schedule_id)
    tagged(response, schedule_parts(found))
    return _schedule(found)


@router.patch("/schedules/{schedule_id}")
def change_schedule(
    schedule_id: fields.Schedule,
    body: ScheduleChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    if_match: IfMatch = None,
) -> Schedule:
    """Change a schedule; doors follow with their next policy version."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.schedule(connection, principal, schedule_id)
        unchanged(if_match, schedule_parts(found))
        changed = replace(
            found,
            name=body.name or found.name,
            schedule=schedule.Schedule(
                id=schedule_id,
                windows=found.schedule.windows if body.windows is None else as_windows(body.windows),
                holiday_windows=found.schedule.holiday_windows
                if body.holiday_windows is None
                else as_windows(body.holiday_windows),
            ),
        )
        if changed != found:
            schedule_store.change(connection, changed.schedule, name=changed.name)
            note(connection, hub, principal, action="schedule.change", subject=f"schedule:{schedule_id}")
    hub.site_changed()
    tagged(response, schedule_parts(changed))
    return _schedule(changed)


@router.delete("/schedules/{schedule_id}", status_code=204)
def delete_schedule(
    schedule_id: fields.Schedule,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Response:
    """Delete a schedule; refused (``in_use``) while an access level or a door's mode names it."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.schedule(connection, principal, schedule_id)
        schedule_store.remove(connection, schedule_id)
        note(connection, hub, principal, action="schedule.delete", subject=f"schedule:{schedule_id}")
    hub.site_changed()
    return Response(status_code=204)


@router.post("/access-levels", status_code=201)
def create_level(
    body: NewLevel,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Level:
    """Create an access level."""
    hub = services(request)
    new = rules.AccessLevel(id=body.id, rules=as_rules(body.rules))
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
    made = create(
        hub,
        principal,
        response,
        subject=f"access_level:{body.id}",
        find=lambda connection: level_store.get(connection, body.id),
        add=lambda connection: level_store.add(
            connection, new, site_id=site_id, name=body.name, now=hub.clock()
        ),
        same=lambda found: (
            (set(found.level.rules), found.site_id, found.name) == (set(new.rules), site_id, body.name)
        ),
    )
    tagged(response, level_parts(made))
    return _level(made)


@router.get("/access-levels")
def list_levels(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
    after: fields.Level | None = None,
    limit: fields.Limit = 100,
) -> Levels:
    """Access levels by id."""
    with services(request).database.read() as connection:
        every = [_level(each) for each in level_store.list_all(connection, principal.sites)]
    found, next_after = portion(every, after, limit)
    return Levels(access_levels=list(found), next_after=next_after)


@router.get("/access-levels/{level_id}")
def one_level(
    level_id: fields.Level,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
) -> Level:
    """One access level."""
    with services(request).database.read() as connection:
        found = scope.access_level(connection, principal, level_id)
    tagged(response, level_parts(found))
    return _level(found)


@router.patch("/access-levels/{level_id}")
def change_level(
    level_id: fields.Level,
    body: LevelChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    if_match: IfMatch = None,
) -> Level:
    """Change an access level; doors follow with their next policy version."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.access_level(connection, principal, level_id)
        unchanged(if_match, level_parts(found))
        wanted = found.level.rules if body.rules is None else as_rules(body.rules)
        changed = replace(
            found, name=body.name or found.name, level=rules.AccessLevel(id=level_id, rules=wanted)
        )
        if (changed.name, set(wanted)) != (found.name, set(found.level.rules)):
            try:
                level_store.change(connection, changed.level, name=changed.name)
            except NotFound as error:
                raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
            note(connection, hub, principal, action="access_level.change", subject=f"access_level:{level_id}")
    hub.site_changed()
    tagged(response, level_parts(changed))
    return _level(changed)


@router.delete("/access-levels/{level_id}", status_code=204)
def delete_level(
    level_id: fields.Level,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Response:
    """Delete an access level; refused (``in_use``) while somebody holds it or a door names it."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.access_level(connection, principal, level_id)
        level_store.remove(connection, level_id)
        note(connection, hub, principal, action="access_level.delete", subject=f"access_level:{level_id}")
    hub.site_changed()
    return Response(status_code=204)


def as_rules(bodies: list[Rule]) -> tuple[rules.AccessRule, ...]:
    """The rules that these say, each once."""
    found = {rules.AccessRule(door_id=each.door_id, schedule_id=each.schedule_id) for each in bodies}
    return tuple(sorted(found, key=_by_door))


def as_windows(bodies: list[Window]) -> tuple[schedule.Window, ...]:
    """The windows that these say; raises ``MalformedData``."""
    return tuple(
        schedule.Window(
            weekdays=frozenset(each.weekdays), start_minute=each.start_minute, end_minute=each.end_minute
        )
        for each in bodies
    )


def as_bodies(windows: Iterable[schedule.Window]) -> list[Window]:
    """These windows as the interface says them."""
    return [
        Window(weekdays=sorted(each.weekdays), start_minute=each.start_minute, end_minute=each.end_minute)
        for each in windows
    ]


def schedule_parts(named: NamedSchedule) -> Parts:
    """What of a schedule can be changed."""
    windows_of = asdict(named.schedule)
    return {"name": named.name} | {name: windows_of[name] for name in ("windows", "holiday_windows")}


def level_parts(named: NamedLevel) -> Parts:
    """What of an access level can be changed."""
    rules_of = sorted((rule.door_id, rule.schedule_id) for rule in named.level.rules)
    return {"name": named.name, "rules": rules_of}


def _schedule(named: NamedSchedule) -> Schedule:
    return Schedule(
        id=named.schedule.id,
        site_id=named.site_id,
        name=named.name,
        windows=as_bodies(named.schedule.windows),
        holiday_windows=as_bodies(named.schedule.holiday_windows),
        created_at=named.created_at,
    )


def _by_door(rule: rules.AccessRule) -> tuple[str, str]:
    return rule.door_id, rule.schedule_id


def _level(named: NamedLevel) -> Level:
    return Level(
        id=named.level.id,
        site_id=named.site_id,
        name=named.name,
        rules=[Rule(door_id=each.door_id, schedule_id=each.schedule_id) for each in named.level.rules],
        created_at=named.created_at,
    )
