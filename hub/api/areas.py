"""Areas that doors lead into, and the holidays of each site."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, create, note, portion, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import areas as store
from hub.store import sites
from hub.versions import Parts

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["areas and holidays"])


class NewArea(Body):
    """Rooms that one enters and leaves through doors."""

    id: fields.Area
    name: fields.Name
    site_id: fields.Site | None = None


class Area(Answer):
    """One area."""

    id: fields.Area
    site_id: fields.Site
    name: str
    created_at: datetime


class Areas(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    areas: list[Area]
    next_after: str | None


class AreaChange(Body):
    """What an area is called from now on."""

    name: fields.Name


class NamedHoliday(Body):
    """What the day is called."""

    name: fields.Name


class Holiday(Answer):
    """A day on which schedules have their holiday windows."""

    day: date
    name: str


class Holidays(Answer):
    """Every holiday of a site, in order."""

    site_id: fields.Site
    holidays: list[Holiday]

    def named(self, day: date) -> str | None:
        """What a day is called; None: it is none of them."""
        return next((each.name for each in self.holidays if each.day == day), None)


@router.post("/areas", status_code=201)
def add_area(
    body: NewArea,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
) -> Area:
    """Add an area; doors name it as ``area`` or ``outside``."""
    hub = services(request)
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
    new = store.Area(id=body.id, site_id=site_id, name=body.name, created_at=hub.clock())
    made = create(
        hub,
        principal,
        response,
        subject=f"area:{body.id}",
        find=lambda connection: store.get(connection, body.id),
        add=lambda connection: store.add(connection, new),
        same=lambda found: (found.site_id, found.name) == (site_id, body.name),
    )
    tagged(response, area_parts(made))
    return Area.model_validate(made)


@router.get("/areas")
def list_areas(
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
    after: fields.Area | None = None,
    limit: fields.Limit = 100,
) -> Areas:
    """Areas by id."""
    with services(request).database.read() as connection:
        every = store.list_all(connection, principal.sites)
    found, next_after = portion(every, after, limit)
    return Areas(areas=[Area.model_validate(each) for each in found], next_after=next_after)


@router.get("/areas/{area_id}")
def one_area(
    area_id: fields.Area,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Area:
    """One area."""
    with services(request).database.read() as connection:
        found = scope.area(connection, principal, area_id)
    tagged(response, area_parts(found))
    return Area.model_validate(found)


@router.patch("/areas/{area_id}")
def rename_area(
    area_id: fields.Area,
    body: AreaChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    if_match: IfMatch = None,
) -> Area:
    """Call an area otherwise."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.area(connection, principal, area_id)
        unchanged(if_match, area_parts(found))
        if body.name != found.name:
            store.rename(connection, area_id, body.name)
            note(connection, hub, principal, action="area.change", subject=f"area:{area_id}")
    changed = replace(found, name=body.name)
    tagged(response, area_parts(changed))
    return Area.model_validate(changed)


@router.delete("/areas/{area_id}", status_code=204)
def delete_area(
    area_id: fields.Area,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
) -> None:
    """Delete an area; refused (``in_use``) while a door leads into it or out into it."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.area(connection, principal, area_id)
        store.remove(connection, area_id)
        note(connection, hub, principal, action="area.delete", subject=f"area:{area_id}")


@router.get("/holidays")
def list_holidays(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
    site: fields.Site | None = None,
) -> Holidays:
    """A site's holidays, in order; ``site`` may be absent when there is one."""
    with services(request).database.read() as connection:
        site_id = scope.site_for(connection, principal, site)
        named = sites.list_holidays(connection, site_id)
    return Holidays(site_id=site_id, holidays=[Holiday(day=day, name=name) for day, name in named.items()])


@router.put("/holidays/{day}")
def set_holiday(
    day: fields.Day,
    body: NamedHoliday,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    site: fields.Site | None = None,
) -> Holiday:
    """Make a day a holiday of a site, or rename one."""
    hub = services(request)
    with hub.database.write() as connection:
        site_id = scope.site_for(connection, principal, site)
        if sites.list_holidays(connection, site_id).get(day) != body.name:
            sites.set_holiday(connection, site_id, day, body.name)
            note(connection, hub, principal, action="holiday.set", subject=f"holiday:{site_id}/{day}")
    hub.site_changed(site_id)
    return Holiday(day=day, name=body.name)


@router.delete("/holidays/{day}", status_code=204)
def remove_holiday(
    day: fields.Day,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    site: fields.Site | None = None,
) -> None:
    """Make a day an ordinary one of a site."""
    hub = services(request)
    with hub.database.write() as connection:
        site_id = scope.site_for(connection, principal, site)
        if day in sites.list_holidays(connection, site_id):
            sites.remove_holiday(connection, site_id, day)
            note(connection, hub, principal, action="holiday.remove", subject=f"holiday:{site_id}/{day}")
    hub.site_changed(site_id)


def area_parts(area: store.Area) -> Parts:
    """What of an area can be changed."""
    return {"name": area.name}
