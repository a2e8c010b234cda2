"""Schedules: when rules hold, drawn as a week and edited window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError
from sqlalchemy import Connection

from hub import consequences
from hub.api import access_levels as api
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import unchanged
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages.arrival import arrival_context
from hub.pages.changes import confirm_page, effects_of
from hub.pages.naming import NAME_TAKEN, made
from hub.pages.outdated import Version, is_outdated, tag_of
from hub.pages.rendering import Pages, pages_of
from hub.pages.week import Row, drawn, rows_of, rows_typed, summary, windows_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import access_levels, doors, schedules, sites
from hub.store.errors import AlreadyExists, InUse
from hub.store.schedules import NamedSchedule
from hub.versions import changed_since, version_of
from pacs.errors import MalformedData
from pacs.identifiers import ScheduleId, SiteId
from pacs.schedule import Schedule, Window

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

MOST_ROWS = 50
_DONE = {
    "created": N_("Saved. Now let access levels or doors go by it."),
    "changed": N_("Saved."),
    "deleted": N_("The schedule is deleted."),
}
_FAULTS = {
    "name": N_("Write a name of 1 to 100 ordinary characters."),
    "site_id": N_("Choose the site."),
    "windows": N_("Correct the windows that are marked."),
    "holiday_windows": N_("Correct the windows that are marked."),
}

_Text = Annotated[str, Field(max_length=200)]
_Texts = Annotated[list[_Text], Field(max_length=7 * MOST_ROWS)]


class ScheduleForm(Body):
    """The form as a browser sends it; ``day`` is ``row:weekday``; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    version: Version = ""
    name: _Text = ""
    site_id: _Text = ""
    start: _Texts = Field(default_factory=list)
    end: _Texts = Field(default_factory=list)
    day: _Texts = Field(default_factory=list)
    holiday_start: _Texts = Field(default_factory=list)
    holiday_end: _Texts = Field(default_factory=list)
    do: _Text = "save"
    confirmed: _Text = ""

    def rows(self) -> tuple[list[Row], list[Row]]:
        """The windows of the week and those of holidays, after a row was added or taken out as asked."""
        week, special = (
            rows_typed(self.start, self.end, self.day),
            rows_typed(self.holiday_start, self.holiday_end),
        )
        action, _, of = self.do.partition(":")
        which, _, number = of.partition(":")
        rows = special if which == "holiday" else week
        if action == "add" and len(rows) < MOST_ROWS:
            rows.append(Row())
        elif action == "remove" and number.isdecimal() and int(number) < len(rows):
            del rows[int(number)]
        return week, special


@router.get("/schedules")
def schedules_page(
    request: Request, principal: Annotated[Principal, requires(Permission.ACCESS_READ)]
) -> Response:
    """Every schedule, and what goes by it."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = schedules.list_all(connection, principal.sites)
        named = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
        used = _used(connection, principal)
    return pages.response(
        request,
        "schedules.html",
        principal,
        schedules=[
            {
                "id": each.schedule.id,
                "name": each.name,
                "site": named[each.site_id],
                "summary": summary(pages, api.as_bodies(each.schedule.windows)),
                "used": len(used.get(each.schedule.id, ())),
            }
            for each in found
        ],
        many_sites=len(named) > 1,
        may_manage=principal.may(Permission.ACCESS_MANAGE),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem="",
    )


@router.get("/new-schedule")
def new_page(
    request: Request, principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)]
) -> Response:
    """The form for a new schedule, with one window to begin with."""
    return _form(request, principal, ScheduleForm(), [Row()], [])


@router.post("/new-schedule")
def create(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    form: Annotated[ScheduleForm, Form()],
) -> Response:
    """Create the schedule, or show the form again: with what is wrong, or with a row more or less."""
    week, special = form.rows()
    if form.do != "save":
        return _form(request, principal, form, week, special)
    said, faults = _said(form, week, special)

    def make(schedule_id: str) -> api.Schedule:
        body = api.NewSchedule.model_validate({**said, "id": schedule_id, "site_id": form.site_id or None})
        return api.create_schedule(body, request, Response(), principal)

    def site_of(schedule_id: str) -> SiteId:
        with services(request).database.read() as connection:
            return scope.schedule(connection, principal, ScheduleId(schedule_id)).site_id

    try:
        if not faults:
            schedule = made(form.name, form.site_id, make, site_of)
            return RedirectResponse(f"/schedules/{schedule.id}?done=created", 303)
    except AlreadyExists:
        faults = {"name": NAME_TAKEN}
    except (ValidationError, MalformedData, Problem) as error:
        faults = _faults(error)
    return _form(request, principal, form, week, special, faults=faults)


@router.get("/schedules/{schedule_id}")
def schedule_page(
    schedule_id: fields.Schedule,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
) -> Response:
    """One schedule: its week, what goes by it, and where the rules have arrived."""
    return _page(request, principal, schedule_id)


@router.get("/schedules/{schedule_id}/edit")
def edit_page(
    schedule_id: fields.Schedule,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Response:
    """The form with the windows as they are."""
    with services(request).database.read() as connection:
        stored = scope.schedule(connection, principal, schedule_id)
    form = ScheduleForm(name=stored.name, version=version_of(api.schedule_parts(stored)))
    week = rows_of(api.as_bodies(stored.schedule.windows))
    special = rows_of(api.as_bodies(stored.schedule.holiday_windows))
    return _form(request, principal, form, week, special, schedule_id=schedule_id)


@router.post("/schedules/{schedule_id}/edit")
def change(
    schedule_id: fields.Schedule,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    form: Annotated[ScheduleForm, Form()],
) -> Response:
    """Say what the change would do to whom; make it once that is confirmed."""
    with services(request).database.read() as connection:
        stored = scope.schedule(connection, principal, schedule_id)
    week, special = form.rows()
    if form.do != "save":
        return _form(request, principal, form, week, special, schedule_id=schedule_id)
    said, faults = _said(form, week, special)
    try:
        if not faults:
            body = api.ScheduleChange.model_validate(said)
            unchanged(tag_of(form.version), api.schedule_parts(stored))
            if not form.confirmed and (effects := _effects(request, schedule_id, body)):
                return confirm_page(request, principal, form, effects, thing=form.name)
            api.change_schedule(
                schedule_id, body, request, Response(), principal, if_match=tag_of(form.version)
            )
            return RedirectResponse(f"/schedules/{schedule_id}?done=changed", 303)
    except (ValidationError, MalformedData) as error:
        faults = _faults(error)
    except Problem as error:
        if not is_outdated(error):
            raise
        return _form(request, principal, form, week, special, schedule_id=schedule_id, outdated=True)
    return _form(request, principal, form, week, special, schedule_id=schedule_id, faults=faults)


@router.post("/schedules/{schedule_id}/delete")
def delete(
    schedule_id: fields.Schedule,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Response:
    """Delete a schedule that nothing goes by."""
    try:
        api.delete_schedule(schedule_id, request, principal)
    except InUse:
        return _page(request, principal, schedule_id, problem=N_("Not deleted: something goes by it."))
    return RedirectResponse("/schedules?done=deleted", 303)


def _page(request: Request, principal: Principal, schedule_id: ScheduleId, *, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    found = api.one_schedule(schedule_id, request, Response(), principal)
    with hub.database.read() as connection:
        used = _used(connection, principal).get(schedule_id, [])
    return pages.response(
        request,
        "schedule.html",
        principal,
        status_code=409 if problem else 200,
        schedule=found,
        week=drawn(pages, found.windows, found.holiday_windows),
        used=used,
        arrival=arrival_context(request, found.site_id),
        may_manage=principal.may(Permission.ACCESS_MANAGE),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )


def _used(connection: Connection, principal: Principal) -> dict[ScheduleId, list[tuple[str, str]]]:
    """Schedule → the address and the name of each access level and door that goes by it."""
    found: dict[ScheduleId, list[tuple[str, str]]] = {}
    for level in access_levels.list_all(connection, principal.sites):
        for schedule_id in sorted({rule.schedule_id for rule in level.level.rules}):
            found.setdefault(schedule_id, []).append((f"/access-levels/{level.level.id}", level.name))
    for door in doors.list_all(connection, sites=principal.sites):
        for schedule_id in sorted({rule.schedule_id for rule in door.door.mode_rules}):
            found.setdefault(schedule_id, []).append((f"/doors/{door.door.id}", door.name))
    return found


def _form(
    request: Request,
    principal: Principal,
    form: ScheduleForm,
    week: Sequence[Row],
    special: Sequence[Row],
    *,
    schedule_id: ScheduleId | None = None,
    faults: dict[str, str] | None = None,
    outdated: bool = False,
) -> Response:
    """``outdated``: somebody else changed it meanwhile; the form goes on from what it is now."""
    hub, pages = services(request), pages_of(request)
    version, changed = form.version, []
    with hub.database.read() as connection:
        named = sites.list_all(connection, principal.sites)
        if outdated and schedule_id is not None:
            stored = scope.schedule(connection, principal, schedule_id)
            version, changed = version_of(api.schedule_parts(stored)), _changed(pages, form.version, stored)
    for row in (*week, *special):
        row.fault = pages.gettext(row.fault)
    return pages.response(
        request,
        "schedule_form.html",
        principal,
        status_code=409 if outdated else 422 if faults else 200,
        version=version,
        outdated=changed,
        typed=form.model_dump(include={"name", "site_id"}),
        schedule_id=schedule_id,
        faults={name: pages.gettext(text) for name, text in (faults or {}).items()},
        rows=[
            ("week", pages.gettext("Every week"), week),
            ("holiday", pages.gettext("On holidays"), special),
        ],
        added=form.do.removeprefix("add:") if form.do.startswith("add:") else "",
        days=[
            (day, pages.language.weekday(day, short=True), pages.language.weekday(day)) for day in range(7)
        ],
        sites=[(each.id, each.name) for each in named],
    )


def _changed(pages: Pages, version: str, stored: NamedSchedule) -> list[tuple[str, str]]:
    """What is changed since, and what it is now, in words."""
    said = {
        "name": (pages.gettext("Name"), stored.name),
        "windows": (pages.gettext("Every week"), _windows(pages, stored.schedule.windows)),
        "holiday_windows": (pages.gettext("On holidays"), _windows(pages, stored.schedule.holiday_windows)),
    }
    return [said[name] for name in changed_since(version, api.schedule_parts(stored))]


def _windows(pages: Pages, windows: Sequence[Window]) -> str:
    return "; ".join(summary(pages, api.as_bodies(windows))) if windows else pages.gettext("none")


def _said(form: ScheduleForm, week: list[Row], special: list[Row]) -> tuple[dict[str, Any], dict[str, str]]:
    """The form as the interface takes it, and which fields cannot be read."""
    said = {
        "name": form.name,
        "windows": windows_of(week),
        "holiday_windows": windows_of(special, of_holidays=True),
    }
    faults = {"windows": _FAULTS["windows"]} if any(row.fault for row in (*week, *special)) else {}
    return said, faults


def _faults(error: Exception) -> dict[str, str]:
    """Field → what is wrong with it; under the empty name what is wrong with the whole."""
    named = ["site_id"] if isinstance(error, Problem) else ["windows"]
    if isinstance(error, ValidationError):
        named = [str(each["loc"][0]) for each in error.errors()]
    return {name: _FAULTS.get(name, N_("This cannot be stored as it is.")) for name in named}


def _effects(request: Request, schedule_id: ScheduleId, body: api.ScheduleChange) -> list[str]:
    """What the change would do to people and doors, in words."""
    hub, pages = services(request), pages_of(request)
    wanted = Schedule(
        id=schedule_id,
        windows=api.as_windows(body.windows or []),
        holiday_windows=api.as_windows(body.holiday_windows or []),
    )
    with hub.database.read() as connection:
        if schedules.get(connection, schedule_id).schedule == wanted:
            return []
        found = consequences.of_schedule(connection, wanted, hub.clock())
        led = doors.names(connection, consequences.doors_led_by(connection, schedule_id))
        said = effects_of(pages, connection, found)
    mode = pages.gettext("%s changes its mode at other times")
    return [*said, *(mode % name for name in led.values())]
