"""The holidays of a site, and what each schedule does on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, TypeAdapter, ValidationError

from hub.api import access_levels, fields, scope
from hub.api import areas as api
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages.arrival import arrival_context
from hub.pages.rendering import pages_of
from hub.pages.week import told
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import schedules, sites
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/holidays")

_DONE = {"set": N_("Saved."), "removed": N_("It is an ordinary day again.")}
_FAULTS = {
    "day": N_("Write a day that is still to come."),
    "name": N_("Write a name of 1 to 100 ordinary characters."),
}
_DAY: TypeAdapter[fields.Day] = TypeAdapter(fields.Day)

_Text = Annotated[str, Field(max_length=200)]


class HolidayForm(Body):
    """A day and what it is called; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    site_id: _Text = ""
    day: _Text = ""
    name: _Text = ""


@router.get("")
def holidays_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
    site: fields.Site | None = None,
) -> Response:
    """The holidays of a site; of the first one when several are seen and none is named."""
    with services(request).database.read() as connection:
        if site is not None:
            scope.site(connection, principal, site)
        seen = sites.list_all(connection, principal.sites)
    if not seen:
        raise Problem(Code.NOT_FOUND, "There is no site that you see.")
    site_id = site or seen[0].id
    return _page(request, principal, site_id, HolidayForm())


@router.post("")
def set_holiday(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    form: Annotated[HolidayForm, Form()],
) -> Response:
    """Make a day a holiday, or show the form again with what is wrong."""
    site_id = _site(request, principal, form)
    faults = {}
    try:
        day = _DAY.validate_python(form.day)
        if day < pages_of(request).today():
            faults["day"] = _FAULTS["day"]
    except ValidationError:
        faults["day"] = _FAULTS["day"]
    try:
        body = api.NamedHoliday.model_validate({"name": form.name})
    except ValidationError:
        faults["name"] = _FAULTS["name"]
    if not faults and api.list_holidays(request, principal, site_id).named(day) not in (None, body.name):
        faults["day"] = N_("That is a holiday already. To call it otherwise, make it an ordinary day first.")
    if faults:
        return _page(request, principal, site_id, form, faults=faults)
    api.set_holiday(day, body, request, principal, site_id)
    return RedirectResponse(f"/holidays?site={site_id}&done=set", 303)


@router.post("/{day}/remove")
def remove_holiday(
    day: fields.Day,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    form: Annotated[HolidayForm, Form()],
) -> Response:
    """Make a day an ordinary one."""
    site_id = _site(request, principal, form)
    api.remove_holiday(day, request, principal, site_id)
    return RedirectResponse(f"/holidays?site={site_id}&done=removed", 303)


def _site(request: Request, principal: Principal, form: HolidayForm) -> SiteId:
    """The site that the form is about; raises ``Problem``."""
    with services(request).database.read() as connection:
        return scope.site_for(connection, principal, SiteId(form.site_id) if form.site_id else None)


def _page(
    request: Request,
    principal: Principal,
    site_id: SiteId,
    form: HolidayForm,
    *,
    faults: dict[str, str] | None = None,
) -> Response:
    hub, pages = services(request), pages_of(request)
    found = api.list_holidays(request, principal, site_id).holidays
    with hub.database.read() as connection:
        named = sites.list_all(connection, principal.sites)
        timed = schedules.list_all(connection, (site_id,))
    return pages.response(
        request,
        "holidays.html",
        principal,
        status_code=422 if faults else 200,
        site_id=site_id,
        sites=[(each.id, each.name) for each in named],
        holidays=[
            {"day": each.day, "said": pages.language.day(each.day), "name": each.name} for each in found
        ],
        effects=[
            (
                each.schedule.id,
                each.name,
                [told(pages, window) for window in access_levels.as_bodies(each.schedule.holiday_windows)],
            )
            for each in timed
        ],
        arrival=arrival_context(request, site_id),
        typed=form.model_dump(),
        faults={name: pages.gettext(text) for name, text in (faults or {}).items()},
        may_manage=principal.may(Permission.ACCESS_MANAGE),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem="",
    )
