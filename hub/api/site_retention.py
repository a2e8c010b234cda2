"""How long what is kept at each site, and keeping it there for less than in the whole hub."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictInt

from hub import audit, periods
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.periods import Periods
from hub.roles import Permission
from hub.store import site_periods, sites
from hub.store.site_periods import Shorter
from hub.versions import Parts

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["retention"])


class ShorterPeriods(Body):
    """What a site keeps for less than the whole hub; null: for as long as that. What is over by it goes within minutes, for good.

    ``reason`` is kept in the audit log.
    """

    precise_h: Annotated[StrictInt, Field(ge=1, le=72)] | None = None
    coarse_days: Annotated[StrictInt, Field(ge=1, le=30)] | None = None
    leavers_days: Annotated[StrictInt, Field(ge=0, le=30)] | None = None
    registration_days: Annotated[StrictInt, Field(ge=1, le=92)] | None = None
    reason: fields.ReasonText


class SitePeriods(Answer):
    """What is in force at a site, in seconds, and which of it the site asked for itself."""

    site_id: fields.Site
    name: str
    precise_s: int
    coarse_s: int
    leavers_s: int
    registration_s: int
    shorter: list[str]


class AllSitePeriods(Answer):
    """Every site that you see, by id."""

    sites: list[SitePeriods]


@router.get("/retention/sites")
def list_periods(
    request: Request, principal: Annotated[Principal, requires(Permission.RETENTION_READ)]
) -> AllSitePeriods:
    """How long what is kept at each site."""
    hub = services(request)
    whole = hub.retention.periods
    with hub.database.read() as connection:
        asked = site_periods.list_all(connection)
        seen = sites.list_all(connection, principal.sites)
    return AllSitePeriods(sites=[_answer(each, whole, asked.get(each.id, Shorter())) for each in seen])


@router.get("/retention/sites/{site_id}")
def one_site(
    site_id: fields.Site,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.RETENTION_READ)],
) -> SitePeriods:
    """How long what is kept at one site."""
    hub = services(request)
    with hub.database.read() as connection:
        site = scope.site(connection, principal, site_id)
        asked = site_periods.list_all(connection).get(site_id, Shorter())
    shown = _answer(site, hub.retention.periods, asked)
    tagged(response, parts_of(shown))
    return shown


@router.put("/retention/sites/{site_id}")
def shorten(
    site_id: fields.Site,
    body: ShorterPeriods,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.RETENTION_SHORTEN)],
    if_match: IfMatch = None,
) -> SitePeriods:
    """Keep less long at a site; refused (``invalid``) for longer than in the whole hub. Legal holds keep what they are about."""
    hub = services(request)
    whole = hub.retention.periods
    asked = Shorter(
        precise=None if body.precise_h is None else timedelta(hours=body.precise_h),
        coarse=_days(body.coarse_days),
        leavers=_days(body.leavers_days),
        registration=_days(body.registration_days),
    )
    whole.check(asked)
    with hub.database.write() as connection:
        site = scope.site(connection, principal, site_id)
        before = site_periods.list_all(connection).get(site_id, Shorter())
        unchanged(if_match, parts_of(_answer(site, whole, before)))
        if asked != before:
            site_periods.put(connection, site_id, asked)
            audit.record(
                connection,
                now=hub.clock(),
                actor=principal.actor,
                action="retention.shorten",
                subject=f"site:{site_id}",
                reason=body.reason,
                detail=body.model_dump(exclude={"reason"}, exclude_none=True),
            )
    shown = _answer(site, whole, asked)
    tagged(response, parts_of(shown))
    return shown


def parts_of(said: SitePeriods) -> Parts:
    """What of a site's periods can be changed: null, as in the whole hub, or seconds."""
    return {name: getattr(said, f"{name}_s") if name in said.shorter else None for name in periods.OF_SITES}


def _days(days: int | None) -> timedelta | None:
    return None if days is None else timedelta(days=days)


def _answer(site: sites.Site, whole: Periods, asked: Shorter) -> SitePeriods:
    here = whole.at(asked)
    return SitePeriods(
        site_id=site.id,
        name=site.name,
        shorter=[name for name in periods.OF_SITES if getattr(here, name) < getattr(whole, name)],
        **{f"{name}_s": int(getattr(here, name).total_seconds()) for name in periods.OF_SITES},
    )
