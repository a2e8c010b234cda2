"""How long what is kept at each site, and the forms that shorten it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import fields
from hub.api import site_retention as api
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import ChangedMeanwhile
from hub.api.fields import Body
from hub.api.services import services
from hub.operators import Principal
from hub.pages.outdated import Version, changed_meanwhile, tag_of
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.versions import version_of
from pacs.errors import MalformedData
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/retention/sites")

_HOUR, _DAY = 3600, 86_400
_PROBLEM = N_(
    "Not saved: give whole numbers that are not longer than in the whole hub, hours no longer than the days "
    "without a name, and a reason of at least three letters."
)
_DONE = N_("Saved. What is over by it goes within minutes.")
_PARTS = {
    "precise": N_("Who tapped where and when"),
    "coarse": N_("In which hour, at which door, without a name"),
    "leavers": N_("People whose validity ended"),
    "registration": N_("Who reported in"),
}

_Text = Annotated[str, Field(max_length=300)]


class PeriodsForm(Body):
    """What is asked for at a site; empty: as in the whole hub. ``csrf_token`` is checked before."""

    csrf_token: str = ""
    version: Version = ""
    precise_h: _Text = ""
    coarse_days: _Text = ""
    leavers_days: _Text = ""
    registration_days: _Text = ""
    reason: _Text = ""


@router.get("")
def periods_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_READ)],
    site: fields.Site | None = None,
) -> Response:
    """How long what is kept at each site that one sees; with the form for one of them."""
    return _page(request, principal, site)


@router.post("/{site_id}")
def shorten(
    site_id: fields.Site,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_SHORTEN)],
    form: Annotated[PeriodsForm, Form()],
) -> Response:
    """Keep less long at a site, or show the form again."""
    typed = form.model_dump(exclude={"csrf_token", "version"})
    try:
        asked = {name: _number(value) for name, value in typed.items() if name != "reason"}
        body = api.ShorterPeriods.model_validate(asked | {"reason": form.reason})
        api.shorten(site_id, body, request, Response(), principal, if_match=tag_of(form.version))
    except (ValidationError, ValueError, MalformedData):
        return _page(request, principal, site_id, typed)
    except ChangedMeanwhile as error:
        said = changed_meanwhile(pages_of(request), form.version, error, _PARTS)
        return _page(request, principal, site_id, outdated=said)
    return RedirectResponse("/retention/sites?done=shortened", 303)


def _number(typed: str) -> int | None:
    return int(typed) if typed.strip() else None


def _page(
    request: Request,
    principal: Principal,
    chosen: SiteId | None,
    refused: dict[str, str] | None = None,
    *,
    outdated: str = "",
) -> Response:
    hub, pages = services(request), pages_of(request)
    whole, may_shorten = hub.retention.periods, principal.may(Permission.RETENTION_SHORTEN)
    return pages.response(
        request,
        "site_retention.html",
        principal,
        status_code=409 if outdated else 422 if refused else 200,
        whole={
            "precise_h": int(whole.precise.total_seconds()) // _HOUR,
            "coarse_days": whole.coarse.days,
            "leavers_days": whole.leavers.days,
            "registration_days": whole.registration.days,
        },
        sites=[_shown(each) for each in api.list_periods(request, principal).sites],
        chosen=chosen if may_shorten else None,
        typed=refused,
        may_shorten=may_shorten,
        done=pages.gettext(_DONE) if request.query_params.get("done") == "shortened" else "",
        problem=outdated or (pages.gettext(_PROBLEM) if refused else ""),
    )


def _shown(each: api.SitePeriods) -> dict[str, Any]:
    return {
        "id": each.site_id,
        "name": each.name,
        "precise_h": each.precise_s // _HOUR,
        "coarse_days": each.coarse_s // _DAY,
        "leavers_days": each.leavers_s // _DAY,
        "registration_days": each.registration_s // _DAY,
        "shorter": each.shorter,
        "version": version_of(api.parts_of(each)),
    }
