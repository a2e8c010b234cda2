"""Schedules, and the access levels that join them to doors."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictInt
from sqlalchemy import Connection

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import create, portion
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import access_levels as level_store
from hub.store import schedules as schedule_store
from hub.store.access_levels import NamedLevel
from hub.store.errors import NotFound
from hub.store.schedules import NamedSchedule
from pacs import rules, schedule
from pacs.identifiers import AccessLevelId

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


class Schedule(Answer):
    """A weekly schedule on the site's wall clock."""

    id: fields.Schedule
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


class Level(Answer):
    """An access level."""

    id: fields.Level
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
        id=body.id, windows=_windows(body.windows), holiday_windows=_windows(body.holiday_windows)
    )
    made = create(
        hub,
        principal,
        response,
        subject=f"schedule:{body.id}",
        find=lambda connection: schedule_store.get(connection, body.id),
        add=lambda connection: schedule_store.add(connection, new, name=body.name, now=hub.clock()),
        same=lambda found: (found.schedule, found.name) == (new, body.name),
    )
    return _schedule(made)


@router.get("/schedules")
def list_schedules(
    request: Request,
    _: Annotated[Principal, requires(Permission.ACCESS_READ)],
    after: fields.Schedule | None = None,
    limit: fields.Limit = 100,
) -> Schedules:
    """Schedules by id."""
    with services(request).database.read() as connection:
        every = [_schedule(each) for each in schedule_store.list_all(connection)]
    found, next_after = portion(every, after, limit)
    return Schedules(schedules=list(found), next_after=next_after)


@router.post("/access-levels", status_code=201)
def create_level(
    body: NewLevel,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Level:
    """Create an access level."""
    hub = services(request)
    rule_set = {rules.AccessRule(door_id=each.door_id, schedule_id=each.schedule_id) for each in body.rules}
    new = rules.AccessLevel(id=body.id, rules=tuple(sorted(rule_set, key=_by_door)))
    made = create(
        hub,
        principal,
        response,
        subject=f"access_level:{body.id}",
        find=lambda connection: _find_level(connection, body.id),
        add=lambda connection: level_store.add(connection, new, name=body.name, now=hub.clock()),
        same=lambda found: (set(found.level.rules), found.name) == (rule_set, body.name),
    )
    return _level(made)


@router.get("/access-levels")
def list_levels(
    request: Request,
    _: Annotated[Principal, requires(Permission.ACCESS_READ)],
    after: fields.Level | None = None,
    limit: fields.Limit = 100,
) -> Levels:
    """Access levels by id."""
    with services(request).database.read() as connection:
        every = [_level(each) for each in level_store.list_all(connection)]
    found, next_after = portion(every, after, limit)
    return Levels(access_levels=list(found), next_after=next_after)


def _windows(bodies: list[Window]) -> tuple[schedule.Window, ...]:
    return tuple(
        schedule.Window(
            weekdays=frozenset(each.weekdays), start_minute=each.start_minute, end_minute=each.end_minute
        )
        for each in bodies
    )


def _window(window: schedule.Window) -> Window:
    return Window(
        weekdays=sorted(window.weekdays), start_minute=window.start_minute, end_minute=window.end_minute
    )


def _schedule(named: NamedSchedule) -> Schedule:
    return Schedule(
        id=named.schedule.id,
        name=named.name,
        windows=[_window(each) for each in named.schedule.windows],
        holiday_windows=[_window(each) for each in named.schedule.holiday_windows],
        created_at=named.created_at,
    )


def _by_door(rule: rules.AccessRule) -> tuple[str, str]:
    return rule.door_id, rule.schedule_id


def _find_level(connection: Connection, level_id: AccessLevelId) -> NamedLevel:
    for found in level_store.list_all(connection):
        if found.level.id == level_id:
            return found
    raise NotFound(f"access level {level_id} is not there")


def _level(named: NamedLevel) -> Level:
    return Level(
        id=named.level.id,
        name=named.name,
        rules=[Rule(door_id=each.door_id, schedule_id=each.schedule_id) for each in named.level.rules],
        created_at=named.created_at,
    )
