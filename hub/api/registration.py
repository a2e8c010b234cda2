"""Who reported in, who is exempt, who has not, and of whom it cannot be told; what staff corrects."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from hub import reporting
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import note
from hub.api.duties import DutyInPath
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.rolls import (
    CorrectionAnswer,
    OccurrenceAnswer,
    RollAnswer,
    answered,
    as_csv,
    called,
    occurrence_answer,
    rolls,
)
from hub.api.services import services
from hub.operators import Principal
from hub.reporting import THRESHOLD
from hub.roles import Permission
from hub.store import reports
from hub.store.errors import NotFound
from hub.store.reports import CorrectionKind

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/registration", tags=["registration"])

LONGEST = timedelta(days=31)
DutyDay = Annotated[fields.Day, Path(description="On the site's clock, that its window begins on.")]


@unique
class Format(StrEnum):
    """How a list is written to a file."""

    CSV = "csv"
    JSON = "json"


class Occurrences(Answer):
    """In order of time."""

    since: datetime
    until: datetime
    occurrences: list[OccurrenceAnswer]


class NewCorrection(Body):
    """``reported``: they did, or were seen to be there; ``withdrawn``: what stands as their report was not theirs."""

    cardholder_id: fields.Cardholder
    kind: CorrectionKind
    reason: fields.ReasonText


class PublishedCount(Answer):
    """``people`` is null for fewer than the threshold, and more than none."""

    standing: str
    people: int | None


class PublishedOccurrence(Answer):
    """One occurrence that is settled, without persons."""

    duty_id: str
    duty_name: str
    site_id: fields.Site
    day: date
    counts: list[PublishedCount]


class RegistrationStatistics(Answer):
    """Settled occurrences; there is no sum, by which a small number could be found out."""

    threshold: int
    occurrences: list[PublishedOccurrence]


@router.get("/occurrences")
def list_occurrences(
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
    since: Annotated[fields.Instant | None, Query()] = None,
    until: Annotated[fields.Instant | None, Query()] = None,
    site: fields.Site | None = None,
) -> Occurrences:
    """Those that were open at some time between, the last day if not said; 31 days at most. Counts, nobody's name."""
    hub = services(request)
    now = hub.clock()
    ends = min(until or now, now)
    begins = max(since or ends - timedelta(days=1), ends - LONGEST)
    found = [occurrence_answer(each) for each in rolls(hub, principal, begins, max(begins, ends), site=site)]
    return Occurrences(since=begins, until=max(begins, ends), occurrences=found)


@router.get("/occurrences/{duty_id}/{duty_day}")
def one_occurrence(
    duty_id: DutyInPath,
    duty_day: DutyDay,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
) -> RollAnswer:
    """The list: who reported, when and by whom; who is exempt; who has not; of whom it cannot be told. Audited."""
    hub = services(request)
    return answered(hub, principal, called(hub, principal, duty_id, duty_day))


@router.get("/occurrences/{duty_id}/{duty_day}/export", response_class=Response)
def export(
    duty_id: DutyInPath,
    duty_day: DutyDay,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
    reason: Annotated[fields.ReasonText, Query()],
    form: Annotated[Format, Query(alias="format")] = Format.CSV,
) -> Response:
    """The same list as a file, headed by when kiosks could not take reports; for a reason, which is audited."""
    hub = services(request)
    found = answered(hub, principal, called(hub, principal, duty_id, duty_day), reason=reason)
    written = as_csv(found) if form is Format.CSV else found.model_dump_json(indent=1)
    headers = {
        "Content-Disposition": f'attachment; filename="reported-{duty_day}.{form.value}"',
        "Cache-Control": "no-store",
    }
    media_type = "text/csv; charset=utf-8" if form is Format.CSV else "application/json"
    return Response(written, media_type=media_type, headers=headers)


@router.post("/occurrences/{duty_id}/{duty_day}/corrections", status_code=201)
def correct(
    duty_id: DutyInPath,
    duty_day: DutyDay,
    body: NewCorrection,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_CORRECT)],
) -> CorrectionAnswer:
    """Say that somebody reported, or that their report was not theirs; what stood before stays, and is shown. Audited."""
    hub = services(request)
    now = hub.clock()
    with hub.database.write() as connection:
        scope.duty(connection, principal, duty_id)
        occurrence = reports.get(connection, duty_id, duty_day)
        try:
            scope.cardholder(connection, principal, body.cardholder_id)
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
        if occurrence.counts is not None:
            raise Problem(Code.IN_USE, "Who reported on that day is no longer kept.")
        made = reports.Correction(
            duty_id=duty_id,
            day=duty_day,
            cardholder_id=body.cardholder_id,
            kind=body.kind,
            reason=body.reason,
            made_by=principal.actor,
            at=now,
        )
        reports.correct(connection, made)
        note(
            connection,
            hub,
            principal,
            action=f"report.{'mark' if body.kind is CorrectionKind.REPORTED else 'withdraw'}",
            subject=f"cardholder:{body.cardholder_id}",
            reason=body.reason,
        )
    return CorrectionAnswer.model_validate(made)


@router.get("/statistics")
def statistics(
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
    since: Annotated[fields.Instant | None, Query()] = None,
    until: Annotated[fields.Instant | None, Query()] = None,
    site: fields.Site | None = None,
) -> RegistrationStatistics:
    """Settled occurrences between, the last 31 days if not said, at most a year; small numbers are hidden."""
    hub = services(request)
    now = hub.clock()
    ends = min(until or now, now)
    begins = max(since or ends - LONGEST, ends - timedelta(days=366))
    found = []
    for each in rolls(hub, principal, min(begins, ends), ends, site=site):
        if each.settled:
            counts = each.occurrence.counts
            said = reporting.published(reporting.counted(each.lines)) if counts is None else counts
            found.append(
                PublishedOccurrence(
                    duty_id=each.duty.id,
                    duty_name=each.duty.name,
                    site_id=each.duty.site_id,
                    day=each.occurrence.day,
                    counts=[
                        PublishedCount(standing=name, people=people) for name, people in sorted(said.items())
                    ],
                )
            )
    return RegistrationStatistics(threshold=THRESHOLD, occurrences=found)
