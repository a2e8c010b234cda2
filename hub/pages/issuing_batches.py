"""Cards for everybody at a site who has none: chosen on a page, made by one station, paused, and reported."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub import spreadsheets
from hub.api import issuing_batches as api
from hub.api import scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages.card_stock import few_left
from hub.pages.issuing_words import FAILURES, JOB_STATES
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import cardholders, directory, issuing, sites, stations
from hub.store import issuing_batches as store
from hub.store.stations import StationKind
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/issuing/batches")

Issues = Annotated[Principal, requires(Permission.CARDS_MANAGE)]
LISTED: Final = 20
_COLUMNS: Final = (
    "cardholder_id", "external_id", "given_name", "family_name", "latin_given_name", "latin_family_name", "room", "state", "reason", "card", "ended_at",
)  # fmt: skip


class BatchForm(Body):
    """Who is ticked, and the station; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    station: Annotated[str, Field(max_length=48)] = ""
    site: Annotated[str, Field(max_length=48)] = ""
    who: Annotated[list[str], Field(max_length=api.MOST, default_factory=list)]


class PauseForm(Body):
    """Pause or go on; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    what: Literal["pause", "resume"]


@router.get("")
def choose_page(
    request: Request, principal: Issues, site: Annotated[str, Query(max_length=48)] = ""
) -> Response:
    """Who at a site has no card, and the batches so far."""
    return _choose(request, principal, site)


@router.post("")
def start(request: Request, principal: Issues, form: Annotated[BatchForm, Form()]) -> Response:
    """Ask the station for all of them."""
    try:
        body = api.NewBatch.model_validate({"station_id": form.station, "cardholder_ids": form.who})
        batch = api.ask(body, request, principal)
    except (ValidationError, Problem):
        return _choose(request, principal, form.site, N_("Tick at least one person, and choose a station."))
    return RedirectResponse(f"/issuing/batches/{batch.id}", 303)


@router.get("/{batch_id}")
def batch_page(batch_id: api.BatchId, request: Request, principal: Issues) -> Response:
    """How far a batch is; the page looks again by itself while cards are to come."""
    hub, pages = services(request), pages_of(request)
    batch = api.one(batch_id, request, principal)
    with hub.database.read() as connection:
        station = stations.get(connection, batch.station_id)
        jobs = issuing.list_all(connection, principal.sites, batch_id=batch_id)
        names = directory.names_of(connection, [job.cardholder_id for job in jobs])
    looked(hub, principal, f"issuing_batch:{batch_id}", shown=len(names))
    left = batch.queued + batch.taken
    return pages.response(
        request,
        "issuing_batch.html",
        principal,
        headers={"Cache-Control": "no-store"} | ({"Refresh": "5"} if left and not batch.paused else {}),
        batch=batch,
        left=left,
        total=len(jobs),
        station=station.name,
        is_heard=station.is_heard(hub.clock()),
        jobs=[
            {
                "id": job.id,
                "name": names.get(job.cardholder_id, ""),
                "state": pages.gettext(JOB_STATES[job.state]),
                "why": pages.gettext(FAILURES[job.failure][0]) if job.failure else "",
                "tone": "good" if job.state == "done" else "warn" if job.is_open else "bad",
            }
            for job in reversed(jobs)
        ],
    )


@router.post("/{batch_id}")
def pause(
    batch_id: api.BatchId, request: Request, principal: Issues, form: Annotated[PauseForm, Form()]
) -> Response:
    """Pause it, or let it go on."""
    (api.pause if form.what == "pause" else api.resume)(batch_id, request, principal)
    return RedirectResponse(f"/issuing/batches/{batch_id}", 303)


@router.get("/{batch_id}/report.csv")
def report(batch_id: api.BatchId, request: Request, principal: Issues) -> Response:
    """What has become of each card, as a table, with names for who may see them."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.issuing_batch(connection, principal, batch_id)
        jobs = issuing.list_all(connection, principal.sites, batch_id=batch_id)
        wanted = {job.cardholder_id for job in jobs}
        known = {
            each.id: each for each in cardholders.list_all(connection, limit=1_000_000) if each.id in wanted
        }
    named = principal.may(Permission.NAMES_READ)
    looked(hub, principal, f"issuing_batch:{batch_id}", shown=len(known))
    lines = [spreadsheets.line(_COLUMNS)]
    for job in reversed(jobs):
        person = known.get(job.cardholder_id)
        who = [(getattr(person, name) or "") if person and named else "" for name in _COLUMNS[1:7]]
        ended = job.ended_at.isoformat(timespec="seconds") if job.ended_at else ""
        card = str(job.credential_id or "")
        lines.append(spreadsheets.line([job.cardholder_id, *who, job.state, job.failure or "", card, ended]))
    headers = {"Content-Disposition": 'attachment; filename="cards.csv"', "Cache-Control": "no-store"}
    return Response("".join(lines), media_type="text/csv; charset=utf-8", headers=headers)


def _choose(request: Request, principal: Principal, wanted: str, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    with hub.database.read() as connection:
        seen = sites.list_all(connection, principal.sites)
        site = next((each for each in seen if each.id == wanted), seen[0] if len(seen) == 1 else None)
        without = set(store.without_card(connection, SiteId(site.id), now)) if site else set()
        found = [
            each for each in directory.find_people(connection, sites=principal.sites) if each.id in without
        ]
        desks = stations.list_all(connection, principal.sites, StationKind.ISSUING)
        earlier = store.newest(connection, principal.sites, limit=LISTED)
    people = found[: api.MOST]
    looked(hub, principal, "issuing_batch", shown=len(people))
    shown: list[dict[str, Any]] = [{"id": each.id, "name": each.name, "room": each.room} for each in people]
    return pages.response(
        request,
        "issuing_batches.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        sites=[(each.id, each.name) for each in seen],
        site=site.id if site else "",
        people=shown,
        more=len(found) - len(people),
        stations=[{"id": each.id, "name": each.name, "is_heard": each.is_heard(now)} for each in desks],
        few_left=few_left(hub, principal),
        batches=[{"id": each.id, "at": each.created_at, "paused": each.paused} for each in earlier],
        problem=pages.gettext(problem),
    )
