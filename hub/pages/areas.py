"""Areas: what the doors of a site lead into, and what each door does with who enters one twice."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import areas as api
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import ChangedMeanwhile
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages import words
from hub.pages.naming import NAME_TAKEN, made
from hub.pages.outdated import Version, changed_meanwhile, tag_of
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import areas, doors, sites
from hub.store.errors import AlreadyExists, InUse
from hub.versions import version_of
from pacs.identifiers import AreaId, SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/areas")

_DONE = {
    "created": N_("Saved. Now say at each door that leads into it or out into it."),
    "changed": N_("Saved."),
    "deleted": N_("The area is deleted."),
}
_NAME = N_("Write a name of 1 to 100 ordinary characters.")
_SITE = N_("Choose the site.")
_IN_USE = N_("Not deleted: a door leads into it or out into it.")

_Text = Annotated[str, Field(max_length=200)]


class AreaForm(Body):
    """What an area is called, and where; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    version: Version = ""
    name: _Text = ""
    site_id: _Text = ""


@router.get("")
def areas_page(
    request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]
) -> Response:
    """Every area with the doors that lead into it and out into it."""
    return _page(request, principal)


@router.post("")
def create(
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    form: Annotated[AreaForm, Form()],
) -> Response:
    """Add an area, or show the form again with what is wrong."""

    def make(area_id: str) -> api.Area:
        body = api.NewArea.model_validate({"id": area_id, "name": form.name, "site_id": form.site_id or None})
        return api.add_area(body, request, Response(), principal)

    def site_of(area_id: str) -> SiteId:
        with services(request).database.read() as connection:
            return scope.area(connection, principal, AreaId(area_id)).site_id

    try:
        made(form.name, form.site_id, make, site_of)
    except AlreadyExists:
        return _page(request, principal, form, faults={"name": NAME_TAKEN})
    except ValidationError:
        return _page(request, principal, form, faults={"name": _NAME})
    except Problem:
        return _page(request, principal, form, faults={"site_id": _SITE})
    return RedirectResponse("/areas?done=created", 303)


@router.post("/{area_id}/rename")
def rename(
    area_id: fields.Area,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    form: Annotated[AreaForm, Form()],
) -> Response:
    """Call an area otherwise."""
    try:
        body = api.AreaChange.model_validate({"name": form.name})
        api.rename_area(area_id, body, request, Response(), principal, if_match=tag_of(form.version))
    except ValidationError:
        return _page(request, principal, problem=_NAME)
    except ChangedMeanwhile as error:
        said = changed_meanwhile(pages_of(request), form.version, error, {"name": N_("Name")})
        return _page(request, principal, problem=said, status_code=409)
    return RedirectResponse("/areas?done=changed", 303)


@router.post("/{area_id}/delete")
def delete(
    area_id: fields.Area,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
) -> Response:
    """Delete an area that no door names."""
    try:
        api.delete_area(area_id, request, principal)
    except InUse:
        return _page(request, principal, problem=_IN_USE)
    return RedirectResponse("/areas?done=deleted", 303)


def _page(
    request: Request,
    principal: Principal,
    form: AreaForm | None = None,
    *,
    faults: dict[str, str] | None = None,
    problem: str = "",
    status_code: int = 422,
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = areas.list_all(connection, principal.sites)
        every = doors.list_all(connection, sites=principal.sites)
        named = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
    shown: list[dict[str, Any]] = [
        {
            "id": area.id,
            "version": version_of(api.area_parts(area)),
            "name": area.name,
            "site": named[area.site_id],
            "into": [
                (each.door.id, each.name, pages.gettext(words.ANTIPASSBACK[each.door.antipassback]))
                for each in every
                if each.door.area == area.id
            ],
            "out": [(each.door.id, each.name) for each in every if each.door.outside == area.id],
        }
        for area in found
    ]
    return pages.response(
        request,
        "areas.html",
        principal,
        status_code=status_code if faults or problem else 200,
        areas=shown,
        sites=list(named.items()),
        many_sites=len(named) > 1,
        typed=(form or AreaForm()).model_dump(),
        faults={name: pages.gettext(text) for name, text in (faults or {}).items()},
        may_manage=principal.may(Permission.DOORS_MANAGE),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )
