"""The issuing desk's page: find or enrol somebody, let a station make their card, and watch it come about."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Body
from hub.api.issuing import JobId
from hub.api.services import Services, services
from hub.issuing import JobOver, NoStay, Wanted, days_of
from hub.operators import Principal
from hub.pages import people
from hub.pages.card_stock import few_left, stock_lines
from hub.pages.issuing_words import FAILURES, ISSUING_STEPS, JOB_STATES, LOSSES
from hub.pages.people import NO_PHOTOGRAPH, PersonForm
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import cards, directory, photographs, sites, stations
from hub.store import issuing as store
from hub.store.cardholders import Category
from hub.store.cards import CardStatus
from hub.store.errors import InUse, NotFound
from hub.store.issuing import Failure, IssuingJob, JobState, Loss, Step
from hub.store.stations import StationKind
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId, CredentialId, StationId
from pacs.schedule import local_time

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/issuing")

Issues = Annotated[Principal, requires(Permission.CARDS_MANAGE)]
Enrols = Annotated[Principal, requires(Permission.CARDHOLDERS_ENROL)]
FOUND: Final = 20
RECENT: Final = 10
_TONES: Final = {
    JobState.QUEUED: "warn",
    JobState.TAKEN: "warn",
    JobState.DONE: "good",
    JobState.FAILED: "bad",
    JobState.VOIDED: "bad",
    JobState.CANCELLED: "bad",
}
_Text = Annotated[str, Field(max_length=100)]


class IssueForm(Body):
    """The button that starts a card; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    station: _Text = ""
    last_day: _Text = ""
    replaces: _Text = ""
    why: _Text = ""


class CancelForm(Body):
    """The button that ends a job; ``csrf_token`` is checked before."""

    csrf_token: str = ""


@router.get("")
def issuing_page(
    request: Request, principal: Issues, search: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Whom to make a card for, the stations, and the jobs of late."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = directory.find_people(connection, search, sites=principal.sites) if search.strip() else []
        jobs = store.list_all(connection, principal.sites, limit=RECENT)
        names = directory.names_of(connection, [job.cardholder_id for job in jobs])
    own = [person for person in found if principal.sees(person.site_id)]
    looked(hub, principal, "issuing", shown=len(own[:FOUND]) + len(names))
    return pages.response(
        request,
        "issuing.html",
        principal,
        headers={"Cache-Control": "no-store"},
        search=search,
        people=[
            {
                "id": person.id,
                "name": person.name,
                "room": person.room,
                "number": person.external_id,
                "cards": sum(card.status == CardStatus.VALID for card in person.cards),
            }
            for person in own[:FOUND]
        ],
        more=max(0, len(own) - FOUND),
        may_enrol=principal.may(Permission.CARDHOLDERS_ENROL),
        stations=_stations(hub, principal),
        stock=stock_lines(hub, principal),
        few_left=few_left(hub, principal),
        jobs=[
            {
                "id": job.id,
                "name": names.get(job.cardholder_id, ""),
                "created_at": job.created_at,
                "state": pages.gettext(_state_text(hub, job)),
                "tone": _TONES[job.state],
            }
            for job in jobs
        ],
    )


@router.get("/new")
def new_page(request: Request, principal: Enrols) -> Response:
    """The short form for somebody who is not enrolled yet."""
    return _new(request, principal, {"category": Category.RESIDENT, "access_level_ids": []}, {})


@router.post("/new")
def enrol(request: Request, principal: Enrols, form: Annotated[PersonForm, Form()]) -> Response:
    """Enrol the person and go on to their card, or show the form again with what is wrong."""
    made, faults = people.enrolled(request, principal, form)
    if made is not None:
        return RedirectResponse(f"/issuing/people/{made}", 303)
    return _new(request, principal, form.model_dump(exclude={"csrf_token"}), faults)


@router.get("/people/{cardholder_id}")
def person_page(cardholder_id: fields.Cardholder, request: Request, principal: Issues) -> Response:
    """One person, the cards they have, and the button that starts another one."""
    return _person(request, principal, cardholder_id)


@router.post("/people/{cardholder_id}/photo")
def put_photograph(
    cardholder_id: fields.Cardholder, request: Request, principal: Enrols, picture: UploadFile
) -> Response:
    """Store the photograph that was chosen."""
    try:
        people.store_photograph(request, principal, cardholder_id, picture)
    except MalformedData:
        return _person(request, principal, cardholder_id, NO_PHOTOGRAPH)
    return RedirectResponse(f"/issuing/people/{cardholder_id}", 303)


@router.post("/people/{cardholder_id}")
def issue(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Issues,
    form: Annotated[IssueForm, Form()],
) -> Response:
    """Let the station make a card, and show how far it is."""
    hub = services(request)
    try:
        wanted = _wanted(cardholder_id, form)
    except (ValueError, MalformedData):
        return _person(request, principal, cardholder_id, N_("Choose a station and a day, and say why."))
    with hub.database.read() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        scope.station(connection, principal, wanted.station_id)
    try:
        job = hub.issuing.ask(wanted, actor=principal.actor)
    except NoStay:
        problem = N_("The card would be valid on no day. See until when this person stays.")
        return _person(request, principal, cardholder_id, problem)
    except InUse:
        with hub.database.read() as connection:
            running = store.open_of(connection, cardholder_id)
        return RedirectResponse(f"/issuing/jobs/{running.id}" if running else "/issuing", 303)
    return RedirectResponse(f"/issuing/jobs/{job.id}", 303)


@router.get("/jobs/{job_id}")
def job_page(job_id: JobId, request: Request, principal: Issues) -> Response:
    """One job, as it goes on."""
    return _job_page(request, principal, job_id)


@router.get("/jobs/{job_id}/progress")
def progress_part(job_id: JobId, request: Request, principal: Issues) -> Response:
    """The part of a job's page that says how far it is; it names nobody."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        job = scope.issuing_job(connection, principal, job_id)
    return HTMLResponse(
        pages.fragment("issuing_progress.html", **_progress(hub, pages, job)),
        headers={"Cache-Control": "no-store"},
    )


@router.post("/jobs/{job_id}/cancel")
def cancel(
    job_id: JobId,
    request: Request,
    principal: Issues,
    form: Annotated[CancelForm, Form()],  # noqa: ARG001 - reads the form
) -> Response:
    """End a job, unless its card is being written."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.issuing_job(connection, principal, job_id)
    try:
        hub.issuing.cancel(job_id, actor=principal.actor)
    except InUse:
        problem = N_("Not cancelled: the card is being written. It takes a moment.")
        return _job_page(request, principal, job_id, problem)
    except JobOver:
        pass  # the page says how it ended
    return RedirectResponse(f"/issuing/jobs/{job_id}", 303)


def _wanted(cardholder_id: CardholderId, form: IssueForm) -> Wanted:
    """What the form asks for; raises ``ValueError`` or ``MalformedData``."""
    replaces = CredentialId.parse(form.replaces) if form.replaces else None
    return Wanted(
        cardholder_id=cardholder_id,
        station_id=StationId(form.station),
        last_day=date.fromisoformat(form.last_day) if form.last_day else None,
        replaces=replaces,
        why=Loss(form.why) if replaces is not None else None,
    )


def _new(request: Request, principal: Principal, typed: dict[str, Any], faults: dict[str, str]) -> Response:
    return pages_of(request).response(
        request,
        "issuing_new.html",
        principal,
        status_code=422 if faults else 200,
        **people.form_context(request, principal, typed, faults),
    )


def _person(
    request: Request, principal: Principal, cardholder_id: CardholderId, problem: str = ""
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        person = scope.own_cardholder(connection, principal, cardholder_id)
        held = cards.list_all(connection, cardholder_id=cardholder_id)
        has_photograph = photographs.exists(connection, cardholder_id)
        time_zone = sites.get(connection, person.site_id).time_zone
        running = store.open_of(connection, cardholder_id)
    today = local_time(hub.clock(), time_zone).date()
    _, last_day = days_of(person, today, time_zone)
    looked(hub, principal, f"cardholder:{cardholder_id}", shown=1)
    return pages.response(
        request,
        "issuing_person.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        person=person,
        name=person.name,
        few_left=few_left(hub, principal),
        has_photograph=has_photograph,
        may_enrol=principal.may(Permission.CARDHOLDERS_ENROL),
        stations=_stations(hub, principal),
        today=today.isoformat(),
        last_day=last_day.isoformat(),
        is_over=last_day < today,
        cards=[
            {"credential_id": str(card.credential_id), "short_id": str(card.credential_id)[:8], "status": card.status}
            for card in held
        ],
        replaceable=[
            {"credential_id": str(card.credential_id), "short_id": str(card.credential_id)[:8]}
            for card in held
            if card.status is not CardStatus.REVOKED
        ],
        whys=[(each.value, pages.gettext(text)) for each, text in LOSSES.items()],
        running=running.id if running else None,
        problem=pages.gettext(problem),
    )  # fmt: skip


def _job_page(request: Request, principal: Principal, job_id: str, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        job = scope.issuing_job(connection, principal, job_id)
        name = directory.names_of(connection, [job.cardholder_id]).get(job.cardholder_id, "")
    looked(hub, principal, f"cardholder:{job.cardholder_id}", shown=1 if name else 0)
    return pages.response(
        request,
        "issuing_job.html",
        principal,
        status_code=409 if problem else 200,
        headers={"Cache-Control": "no-store"},
        name=name,
        problem=pages.gettext(problem),
        **_progress(hub, pages, job),
    )


def _progress(hub: Services, pages: Pages, job: IssuingJob) -> dict[str, Any]:
    with hub.database.read() as connection:
        station = stations.get(connection, job.station_id)
        try:
            card = cards.get(connection, job.credential_id) if job.credential_id else None
        except NotFound:
            card = None
    now = hub.clock()
    is_begun = job.step not in (None, Step.WAITING_FOR_CARD)
    done = list(Step).index(job.step) + 1 if job.step and is_begun else 0
    failure = FAILURES[job.failure] if job.failure else ("", "")
    return {
        "job": job,
        "interrupted": job.is_interrupted(now),
        "state": pages.gettext(_state_text(hub, job)),
        "tone": _TONES[job.state],
        "station": station.name,
        "is_heard": station.is_heard(now),
        "can_cancel": job.is_open and (not job.is_being_written or job.is_interrupted(now)),
        "steps": [
            {
                "text": pages.gettext(ISSUING_STEPS[step]),
                "is_done": index < done,
                "is_now": index == done and job.state is JobState.TAKEN,
            }
            for index, step in enumerate(Step)
        ],
        "failure": pages.gettext(failure[0]),
        "advice": pages.gettext(failure[1]),
        "again": job.failure is not Failure.PERSON_ERASED,
        "card": card,
        "short_id": str(job.credential_id)[:8] if job.credential_id else "",
        "seconds": round((job.ended_at - job.created_at).total_seconds(), 1) if job.ended_at else None,
    }


def _state_text(hub: Services, job: IssuingJob) -> str:
    if job.is_interrupted(hub.clock()):
        return N_("Interrupted: the station is not heard. It goes on when it is back.")
    return JOB_STATES[job.state]


def _stations(hub: Services, principal: Principal) -> list[dict[str, Any]]:
    now = hub.clock()
    with hub.database.read() as connection:
        found = stations.list_all(connection, principal.sites, StationKind.ISSUING)
    return [{"id": each.id, "name": each.name, "is_heard": each.is_heard(now)} for each in found]
