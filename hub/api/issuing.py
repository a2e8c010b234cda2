"""Issuing jobs: asking a station for a card; and what the station says of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Self

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field, StrictBool, model_validator

from hub import issuing
from hub.api import fields, scope
from hub.api.access import FROM_STATION, DeclaredRoute, requires
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.issuing import Wanted
from hub.operators import Principal
from hub.roles import Permission
from hub.store import issuing as store
from hub.store.errors import NotFound
from hub.store.issuing import Failure, JobState, Loss, Step
from hub.store.stations import Station, StationKind
from pacs.credential import Technology

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["issuing"])

Reporting = Annotated[Station, FROM_STATION]
Issues = Annotated[Principal, requires(Permission.CARDS_MANAGE)]
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Attempt = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class NewIssuingJob(Body):
    """A card to be made at a station. Days are inclusive; absent: as long as its holder stays.

    ``replaces`` and ``why`` come together; a card that is ``lost`` or ``stolen`` is suspended at once.
    """

    cardholder_id: fields.Cardholder
    station_id: fields.Station
    technology: Technology = Technology.PKOC_V2
    first_day: fields.Day | None = None
    last_day: fields.Day | None = None
    replaces: fields.Credential | None = None
    why: Loss | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.replaces is None) is not (self.why is None):
            raise ValueError("replaces and why come together")
        return self


class IssuingJob(Answer):
    """One job. ``interrupted``: its station took it and is not heard any more; it can take it again.

    ``step``: the last that the station told of. ``credential_id``: of the card that was made, or spoilt.
    """

    id: str
    site_id: fields.Site
    station_id: fields.Station
    cardholder_id: fields.Cardholder
    technology: Technology
    first_day: date
    last_day: date
    replaces: fields.Credential | None
    why: Loss | None
    created_by: str
    created_at: datetime
    state: JobState
    interrupted: bool
    step: Step | None
    failure: Failure | None
    credential_id: fields.Credential | None
    ended_at: datetime | None


class IssuingJobs(Answer):
    """A portion of the list, the newest first; go on with ``after=next_after`` until it is null."""

    jobs: list[IssuingJob]
    next_after: int | None


class TakenJob(Answer):
    """What a station has to know to make a card; nothing of whose it is. Its lease ends ``lease_s`` after each report."""

    job_id: str
    attempt: str
    technology: Technology
    first_day: date
    last_day: date
    lease_s: int


class NextJob(Answer):
    """The station's next job; null: there is none now."""

    job: TakenJob | None


class ToldStep(Body):
    """How far the card is. From ``card_found`` on nobody can cancel the job."""

    attempt: Attempt
    step: Step


class PutBack(Body):
    """The job is given back before anything was written."""

    attempt: Attempt


class MadeCard(Body):
    """The card, locked and tried by a whole tap; ``public_key``: its uncompressed P-256 point in hex.

    ``issuer``: as in what registers a card.
    """

    attempt: Attempt
    credential_id: fields.Credential
    public_key: Annotated[str, Field(pattern="^04[0-9a-f]{128}$")]
    issuer: fields.Issuer | None = None


class VoidedCard(Body):
    """An id that will never be used: its card was torn away, and issued anew with another one."""

    credential_id: fields.Credential


class NotMade(Body):
    """Loss no card came of it. ``spoilt``: the blank card cannot be used again.

    ``credential_id``: what a spoilt card may carry a certificate for; it is revoked.
    """

    attempt: Attempt
    failure: Failure
    spoilt: StrictBool
    credential_id: fields.Credential | None = None


class JobStanding(Answer):
    """What has become of the job."""

    job_id: str
    state: JobState


@router.post("/issuing/jobs", status_code=201)
def ask(body: NewIssuingJob, request: Request, principal: Issues) -> IssuingJob:
    """Ask a station for a card."""
    hub = services(request)
    with hub.database.read() as connection:
        try:
            scope.own_cardholder(connection, principal, body.cardholder_id)
            scope.station(connection, principal, body.station_id)
            if body.replaces is not None:
                scope.card(connection, principal, body.replaces)
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
    try:
        return answer(hub, hub.issuing.ask(Wanted(**body.model_dump()), actor=principal.actor))
    except NotFound as error:
        raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error


@router.get("/issuing/jobs")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
    station: fields.Station | None = None,
    cardholder: fields.Cardholder | None = None,
    *,
    is_open: Annotated[bool, Query(alias="open")] = False,
    after: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: fields.Limit = 100,
) -> IssuingJobs:
    """Jobs, the newest first; of one station or person, or only the open ones."""
    hub = services(request)
    with hub.database.read() as connection:
        found = store.list_all(
            connection,
            principal.sites,
            station_id=station,
            cardholder_id=cardholder,
            only_open=is_open,
            before=after,
            limit=limit + 1,
        )
    return IssuingJobs(
        jobs=[answer(hub, each) for each in found[:limit]],
        next_after=found[limit - 1].number if len(found) > limit else None,
    )


@router.get("/issuing/jobs/{job_id}")
def one(
    job_id: JobId, request: Request, principal: Annotated[Principal, requires(Permission.CARDS_READ)]
) -> IssuingJob:
    """One job."""
    hub = services(request)
    with hub.database.read() as connection:
        return answer(hub, scope.issuing_job(connection, principal, job_id))


@router.post("/issuing/jobs/{job_id}/cancel")
def cancel(job_id: JobId, request: Request, principal: Issues) -> IssuingJob:
    """End a job of which no card came yet; not while a card is being written."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.issuing_job(connection, principal, job_id)
    return answer(hub, hub.issuing.cancel(job_id, actor=principal.actor))


@router.post("/station/issuing/take")
def take(request: Request, station: Reporting) -> NextJob:
    """An issuing station takes its next job; it holds one at a time."""
    job = services(request).issuing.take(_issuing(station))
    if job is None or job.attempt is None:
        return NextJob(job=None)
    taken = TakenJob(
        job_id=job.id,
        attempt=job.attempt,
        technology=job.technology,
        first_day=job.first_day,
        last_day=job.last_day,
        lease_s=round(store.LEASE.total_seconds()),
    )
    return NextJob(job=taken)


@router.post("/station/issuing/jobs/{job_id}/step")
def told(job_id: JobId, body: ToldStep, request: Request, station: Reporting) -> JobStanding:
    """A station says how far the card is, or that it still waits for one."""
    told = services(request).issuing.told(_issuing(station), job_id, body.attempt, body.step)
    return _standing(told)


@router.post("/station/issuing/jobs/{job_id}/put-back")
def put_back(job_id: JobId, body: PutBack, request: Request, station: Reporting) -> JobStanding:
    """A station gives a job back before it wrote anything, because it stops."""
    return _standing(services(request).issuing.put_back(_issuing(station), job_id, body.attempt))


@router.post("/station/issuing/jobs/{job_id}/done")
def done(job_id: JobId, body: MadeCard, request: Request, station: Reporting) -> JobStanding:
    """A station has made the card: it is registered, or replaces the other one; sent again it is the same."""
    made = issuing.MadeCard(
        credential_id=body.credential_id, public_key=bytes.fromhex(body.public_key), issuer=body.issuer
    )
    return _standing(services(request).issuing.done(_issuing(station), job_id, body.attempt, made))


@router.post("/station/issuing/jobs/{job_id}/failed")
def failed(job_id: JobId, body: NotMade, request: Request, station: Reporting) -> JobStanding:
    """A station could not make the card; sent again it is the same."""
    ended = services(request).issuing.failed(
        _issuing(station),
        job_id,
        body.attempt,
        body.failure,
        spoilt=body.spoilt,
        credential_id=body.credential_id,
    )
    return _standing(ended)


@router.post("/station/issuing/jobs/{job_id}/voided")
def voided(job_id: JobId, body: VoidedCard, request: Request, station: Reporting) -> JobStanding:
    """A station tells of an id that it certified and that is on no card: registered as revoked; sent again it is the same."""
    return _standing(services(request).issuing.voided(_issuing(station), job_id, body.credential_id))


def answer(hub: Services, job: store.IssuingJob) -> IssuingJob:
    """A job as callers see it."""
    known = {name: getattr(job, name) for name in IssuingJob.model_fields if name != "interrupted"}
    return IssuingJob(**known, interrupted=job.is_interrupted(hub.clock()))


def _issuing(station: Station) -> Station:
    if station.kind is not StationKind.ISSUING:
        raise Problem(Code.NOT_PERMITTED, "This station makes no cards.")
    return station


def _standing(job: store.IssuingJob) -> JobStanding:
    return JobStanding(job_id=job.id, state=job.state)
