"""The sites of this hub: what each is called, its clock, and how its doors are; adding and renaming one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import fields
from hub.api import sites as api
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import ChangedMeanwhile
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.certificates import RENEWED_BY_HUB, site_certificates
from hub.operators import Principal
from hub.pages.outdated import Version, changed_meanwhile, tag_of
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import controllers, doors
from hub.store import sites as store
from hub.versions import version_of

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/sites")

Manager = Annotated[Principal, requires(Permission.SITES_MANAGE, everywhere=True)]
_DONE = {
    "added": N_("Added. Register its controllers with its id next."),
    "changed": N_("Saved. Its doors follow with their next policy version."),
}
_PROBLEM = N_(
    "Give an id that no other site has, of letters, digits, - and _, a name, and a time zone such as Europe/Amsterdam."
)

_PARTS = {
    "name": N_("Name"),
    "time_zone": N_("Time zone"),
    "blur_photos": N_("Blurred photographs"),
    "desk_shown_s": N_("How long a desk shows a card"),
    "desk_idle_s": N_("When a desk signs its operator off"),
}


class SiteForm(Body):
    """A site as typed; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    version: Version = ""
    id: Annotated[str, Field(max_length=100)] = ""
    name: Annotated[str, Field(max_length=200)] = ""
    time_zone: Annotated[str, Field(max_length=100)] = ""
    blur_photos: bool = False


@router.get("")
def sites_page(
    request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]
) -> Response:
    """The sites that one sees, with their doors."""
    return _page(request, principal)


@router.post("")
def add(request: Request, principal: Manager, form: Annotated[SiteForm, Form()]) -> Response:
    """Add a site."""
    typed = {"id": form.id.strip(), "name": form.name.strip(), "time_zone": form.time_zone.strip()}
    try:
        body = api.NewSite.model_validate(typed)
        api.add_site(body, request, Response(), principal)
    except (ValidationError, Problem):
        return _page(request, principal, typed=typed, problem=_PROBLEM)
    return RedirectResponse("/sites?done=added", 303)


@router.post("/{site_id}")
def change(
    site_id: fields.Site, request: Request, principal: Manager, form: Annotated[SiteForm, Form()]
) -> Response:
    """Change what a site is called, its clock, or how photographs are shown at its doors."""
    try:
        body = api.SiteChange.model_validate(
            {
                "name": form.name.strip(),
                "time_zone": form.time_zone.strip(),
                "blur_photos": form.blur_photos,
            }
        )
        api.change_site(site_id, body, request, Response(), principal, if_match=tag_of(form.version))
    except ValidationError:
        return _page(request, principal, problem=N_("Give a name, and a time zone such as Europe/Amsterdam."))
    except ChangedMeanwhile as error:
        said = changed_meanwhile(pages_of(request), form.version, error, _PARTS)
        return _page(request, principal, problem=said, status_code=409)
    return RedirectResponse("/sites?done=changed", 303)


def _page(
    request: Request,
    principal: Principal,
    *,
    typed: dict[str, str] | None = None,
    problem: str = "",
    status_code: int = 422,
) -> Response:
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    sees_keys = principal.may(Permission.CONTROLLERS_READ) and principal.sites is None
    held = site_certificates(hub.settings.site_dir, hub.settings.certificate) if sees_keys else []
    with hub.database.read() as connection:
        seen = store.list_all(connection, principal.sites)
        found: dict[Any, dict[str, Any]] = {
            each.id: {
                "id": each.id,
                "name": each.name,
                "time_zone": each.time_zone,
                "blur_photos": each.blur_photos,
                "version": version_of(api.site_parts(each)),
                "doors": 0,
                "away": 0,
            }
            for each in seen
        }
        states = controllers.presence(connection, now)
        for named in doors.list_all(connection, sites=list(found)):
            found[named.site_id]["doors"] += 1
            found[named.site_id]["away"] += not states[named.door.controller_id].online
    return pages.response(
        request,
        "sites.html",
        principal,
        status_code=status_code if problem else 200,
        sites=sorted(found.values(), key=lambda each: each["name"]),
        typed=typed or {"id": "", "name": "", "time_zone": "Europe/Amsterdam"},
        may_manage=principal.may(Permission.SITES_MANAGE) and principal.sites is None,
        certificates_due=sum(now >= each.due_at and each.part not in RENEWED_BY_HUB for each in held),
        may_transfer=principal.may(Permission.CARDHOLDERS_READ),
        may_see_controllers=principal.may(Permission.CONTROLLERS_READ),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )
