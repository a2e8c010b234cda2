"""Duties to report in: who has to, and when."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field, StrictInt, model_validator
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, note, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import duties as store
from hub.store.cardholders import Category
from hub.store.duties import LONGEST_MARGIN_MIN, Whom
from hub.store.errors import NotFound
from hub.versions import Parts
from pacs.identifiers import CardholderId
from pacs.schedule import Window, local_time

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/registration", tags=["registration"])

DutyInPath = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
_Margin = Annotated[StrictInt, Field(ge=0, le=LONGEST_MARGIN_MIN)]
_Weekdays = Annotated[list[Annotated[StrictInt, Field(ge=0, le=6)]], Field(min_length=1, max_length=7)]
_Start = Annotated[StrictInt, Field(ge=0, lt=1440)]
_End = Annotated[StrictInt, Field(ge=1, le=2880)]
_People = Annotated[list[fields.Cardholder], Field(max_length=2_000)]


class NewDuty(Body):
    """When, in minutes after local midnight on the weekdays (0 is Monday) it begins on, and for whom.

    ``early_min`` before and ``late_min`` after it a report is taken, too. ``first_day`` is today if absent. ``category``,
    ``access_level_id`` or ``people`` as ``whom`` says.
    """

    name: fields.Name
    whom: Whom
    category: Category | None = None
    access_level_id: fields.Level | None = None
    people: _People = Field(default_factory=list)
    weekdays: _Weekdays
    start_minute: _Start
    end_minute: _End
    early_min: _Margin = 0
    late_min: _Margin = 0
    on_holidays: bool = False
    first_day: fields.Day | None = None
    last_day: fields.Day | None = None
    site_id: fields.Site | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NewDuty:
        given = {
            Whom.CATEGORY: self.category is not None,
            Whom.ACCESS_LEVEL: self.access_level_id is not None,
            Whom.PEOPLE: bool(self.people),
        }
        if any(is_given and whom is not self.whom for whom, is_given in given.items()):
            raise ValueError("only what whom names is given")
        if self.whom is not Whom.PEOPLE and not given[self.whom]:
            raise ValueError(f"{self.whom.value} is to be given")
        return self


class DutyChange(Body):
    """What may change; what is absent stays. Lists of times that have begun stay as they are."""

    name: fields.Name | None = None
    people: _People | None = None
    weekdays: _Weekdays | None = None
    start_minute: _Start | None = None
    end_minute: _End | None = None
    early_min: _Margin | None = None
    late_min: _Margin | None = None
    on_holidays: bool | None = None
    last_day: fields.Day | None = None


class Duty(Answer):
    """A duty to report in. ``in_force_since``: when its rules were last changed."""

    id: str
    site_id: fields.Site
    name: str
    whom: Whom
    category: Category | None
    access_level_id: fields.Level | None
    people: list[fields.Cardholder]
    weekdays: list[int]
    start_minute: int
    end_minute: int
    early_min: int
    late_min: int
    on_holidays: bool
    first_day: date
    last_day: date | None
    in_force_since: datetime
    created_at: datetime


class Duties(Answer):
    """Every duty of the sites that you see, by name."""

    duties: list[Duty]


@router.post("/duties", status_code=201)
def add_duty(
    body: NewDuty,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Duty:
    """Lay down a duty; it counts from now, also where its time has begun today. Each request makes another."""
    hub = services(request)
    now = hub.clock()
    with hub.database.write() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
        site = scope.site(connection, principal, site_id)
        duty = store.Duty(
            id=secrets.token_hex(8),
            site_id=site_id,
            name=body.name,
            whom=body.whom,
            category=body.category,
            access_level_id=body.access_level_id,
            people=_known(connection, principal, body.people),
            window=Window(
                weekdays=frozenset(body.weekdays), start_minute=body.start_minute, end_minute=body.end_minute
            ),
            early_min=body.early_min,
            late_min=body.late_min,
            on_holidays=body.on_holidays,
            first_day=body.first_day or local_time(now, site.time_zone).date(),
            last_day=body.last_day,
            in_force_since=now,
            created_at=now,
        )
        try:
            store.add(connection, duty)
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
        note(connection, hub, principal, action="duty.create", subject=f"duty:{duty.id}")
    return _tagged(response, duty)


@router.get("/duties")
def list_duties(
    request: Request, principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)]
) -> Duties:
    """Every duty there is, those whose last day is over included."""
    with services(request).database.read() as connection:
        return Duties(duties=[_duty(each) for each in store.list_all(connection, principal.sites)])


@router.get("/duties/{duty_id}")
def one_duty(
    duty_id: DutyInPath,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
) -> Duty:
    """One duty."""
    with services(request).database.read() as connection:
        return _tagged(response, scope.duty(connection, principal, duty_id))


@router.patch("/duties/{duty_id}")
def change_duty(
    duty_id: DutyInPath,
    body: DutyChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
    if_match: IfMatch = None,
) -> Duty:
    """Change a duty from now on: what has begun keeps its times, and whom it expects."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.duty(connection, principal, duty_id)
        unchanged(if_match, parts_of(_duty(found)))
        said = body.model_dump(exclude_unset=True, exclude_none=True)
        if body.people is not None:
            said["people"] = _known(connection, principal, body.people, beside=found.people)
        if "last_day" in body.model_fields_set:
            said["last_day"] = body.last_day
        names = ("weekdays", "start_minute", "end_minute")
        times: dict[str, Any] = {name: said.pop(name) for name in names if name in said}
        if "weekdays" in times:
            times["weekdays"] = frozenset(times["weekdays"])
        changed = replace(found, **said, window=replace(found.window, **times))
        if changed != found:
            if replace(changed, name=found.name, last_day=found.last_day) != found:
                changed = replace(changed, in_force_since=hub.clock())
            store.change(connection, changed)
            note(connection, hub, principal, action="duty.change", subject=f"duty:{duty_id}")
    return _tagged(response, changed)


@router.delete("/duties/{duty_id}", status_code=204)
def delete_duty(
    duty_id: DutyInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Response:
    """Delete a duty that has never occurred; others get a last day (``in_use``)."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.duty(connection, principal, duty_id)
        store.remove(connection, duty_id)
        note(connection, hub, principal, action="duty.delete", subject=f"duty:{duty_id}")
    return Response(status_code=204)


def _known(
    connection: Connection,
    principal: Principal,
    people: Iterable[CardholderId],
    *,
    beside: Iterable[CardholderId] = (),
) -> tuple[CardholderId, ...]:
    """People of the principal's sites, and those who stood there before, in order and once."""
    stood = set(beside)
    found = sorted(set(people))
    try:
        for each in found:
            if each not in stood:
                scope.own_cardholder(connection, principal, each)
    except NotFound as error:
        raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
    return tuple(found)


def parts_of(duty: Duty) -> Parts:
    """What of a duty can be changed."""
    return duty.model_dump(mode="json", include=set(DutyChange.model_fields))


def _tagged(response: Response, duty: store.Duty) -> Duty:
    shown = _duty(duty)
    tagged(response, parts_of(shown))
    return shown


def _duty(duty: store.Duty) -> Duty:
    plain = {name: getattr(duty, name) for name in store.Duty.__slots__ if name not in ("window", "people")}
    return Duty(
        **plain,
        people=list(duty.people),
        weekdays=sorted(duty.window.weekdays),
        start_minute=duty.window.start_minute,
        end_minute=duty.window.end_minute,
    )
