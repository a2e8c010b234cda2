"""Who reported in, who is exempt, who has not, and of whom it cannot be told; what staff corrects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy import Connection

from hub import audit, registration, reporting, spreadsheets
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import note
from hub.api.duties import DutyInPath
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.kiosks import records
from hub.operators import Principal
from hub.registration import Line, Standing, Timing
from hub.reporting import THRESHOLD, Roll
from hub.roles import Permission
from hub.store import directory, duties, reports
from hub.store.errors import NotFound
from hub.store.reports import CorrectionKind, Occurrence
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/registration", tags=["registration"])

LONGEST = timedelta(days=31)
DutyDay = Annotated[fields.Day, Path(description="On the site's clock, that its window begins on.")]
ReceiptInPath = Annotated[str, Path(min_length=1, max_length=30)]
_COLUMNS = (
    "cardholder_id",
    "person",
    "standing",
    "timing",
    "reported_at",
    "reported_by",
    "receipt",
    "reason",
)


@unique
class Format(StrEnum):
    """How a list is written to a file."""

    CSV = "csv"
    JSON = "json"


class Count(Answer):
    """How many of one standing there are; of those who reported, early, on time, late or by staff's word."""

    standing: str
    people: int


class OccurrenceAnswer(Answer):
    """One time at which a duty is, or was, to be fulfilled; ``counts`` is null where persons are no longer kept."""

    duty_id: str
    duty_name: str
    site_id: fields.Site
    day: date
    opens_at: datetime
    starts_at: datetime
    ends_at: datetime
    closes_at: datetime
    settled: bool
    whole: bool
    counts: list[Count] | None


class Occurrences(Answer):
    """In order of time."""

    since: datetime
    until: datetime
    occurrences: list[OccurrenceAnswer]


class HoleAnswer(Answer):
    """A kiosk could not take reports from ``since`` to ``until``; without one: the site had none."""

    since: datetime
    until: datetime
    station_id: str | None
    name: str


class ReportAnswer(Answer):
    """One report; ``reported_by`` is null when whoever it was is forgotten."""

    at: datetime
    timing: Timing | None
    reported_by: fields.Cardholder | None
    reported_by_person: str | None
    station_id: str
    receipt: str


class CorrectionAnswer(Answer):
    """What staff said."""

    at: datetime
    kind: CorrectionKind
    reason: str
    made_by: str


class LineAnswer(Answer):
    """One person; names are null for who may not see them. ``reports`` and ``corrections``: all there were, in order."""

    cardholder_id: fields.Cardholder
    person: str | None
    standing: Standing
    timing: Timing | None
    exempt_because: str | None
    reports: list[ReportAnswer]
    corrections: list[CorrectionAnswer]


class RollAnswer(Answer):
    """The list of one occurrence, as of ``at``; ``settled``: only corrections can still change it.

    Who has not reported is ``not_reported`` only when every kiosk of the site is known to have worked all the time that
    reports were taken; where ``holes`` says that one did not, it is ``cannot_be_told``.
    """

    occurrence: OccurrenceAnswer
    at: datetime
    holes: list[HoleAnswer]
    lines: list[LineAnswer]


class NewCorrection(Body):
    """``reported``: they did, or were seen to be there; ``withdrawn``: what stands as their report was not theirs."""

    cardholder_id: fields.Cardholder
    kind: CorrectionKind
    reason: fields.ReasonText


class ReceiptLine(Answer):
    """For whom, and which duty of which day; ``stands``: staff did not withdraw it, and no later report took its place."""

    cardholder_id: fields.Cardholder
    person: str | None
    duty_id: str
    duty_name: str
    day: date
    timing: Timing | None
    stands: bool


class Receipt(Answer):
    """What one act at a kiosk reported, as it stands now."""

    receipt: str
    at: datetime
    station_id: str
    reported_by: fields.Cardholder | None
    reported_by_person: str | None
    lines: list[ReceiptLine]


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
    found = [_occurrence(each) for each in rolls(hub, principal, begins, max(begins, ends), site=site)]
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
    written = _csv(found) if form is Format.CSV else found.model_dump_json(indent=1)
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


@router.get("/receipts/{receipt}")
def verify_receipt(
    receipt: ReceiptInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
) -> Receipt:
    """Whether a receipt is genuine, and what it is for; audited. Unknown: never given out here, or no longer kept."""
    hub = services(request)
    try:
        number = registration.read_receipt(receipt)
    except MalformedData as error:
        raise Problem(Code.INVALID, "No receipt has this number: it was mistyped.") from error
    with hub.database.write() as connection:
        found = [each for each, site in reports.by_receipt(connection, number) if principal.sees(site)]
        if not found:
            raise NotFound("receipt is not there: never given out here, or no longer kept")
        shown = _receipt(connection, principal, number, found)
        note(connection, hub, principal, action="receipt.verify", subject=f"receipt:{number}")
    return shown


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


def rolls(
    hub: Services,
    principal: Principal,
    since: datetime,
    until: datetime,
    *,
    site: fields.Site | None = None,
) -> list[Roll]:
    """The lists of all occurrences that were open at some time between, and that ``principal`` sees, in order."""
    hub.reporting.fix(principal.sites)
    now = hub.clock()
    with hub.database.read() as connection:
        named = {
            each.id: each
            for each in duties.list_all(connection, principal.sites)
            if site in (None, each.site_id)
        }
        every = reports.list_between(connection, since, until, principal.sites)
        return [
            reporting.roll(connection, named[each.duty_id], each, records, now)
            for each in every
            if each.duty_id in named
        ]


def called(hub: Services, principal: Principal, duty_id: str, day: date) -> Roll:
    """The list of one occurrence; raises ``NotFound``."""
    hub.reporting.fix(principal.sites)
    with hub.database.read() as connection:
        duty = scope.duty(connection, principal, duty_id)
        occurrence = reports.get(connection, duty_id, day)
        return reporting.roll(connection, duty, occurrence, records, hub.clock())


def answered(hub: Services, principal: Principal, roll: Roll, *, reason: str = "") -> RollAnswer:
    """A list as the interface shows it, with the audit entry that it was shown; ``reason``: as a file."""
    reported_by = {each.reported_by for line in roll.lines for each in line.reports}
    people = {*(line.cardholder_id for line in roll.lines), *(each for each in reported_by if each)}
    with hub.database.write() as connection:
        may = principal.may(Permission.NAMES_READ)
        names = directory.names_of(connection, people) if may else {}
        audit.record(
            connection,
            now=hub.clock(),
            actor=principal.actor,
            action="registration.export" if reason else "registration.read",
            subject=f"duty:{roll.duty.id}",
            reason=reason,
            detail={"day": roll.occurrence.day.isoformat(), "shown": len(roll.lines)},
        )
    return RollAnswer(
        occurrence=_occurrence(roll),
        at=roll.at,
        holes=[HoleAnswer.model_validate(each) for each in roll.holes],
        lines=[_line(roll.occurrence, line, names) for line in roll.lines],
    )


def _occurrence(roll: Roll) -> OccurrenceAnswer:
    occurrence = roll.occurrence
    counts = None
    if occurrence.counts is None:
        found = reporting.counted(roll.lines)
        counts = [Count(standing=name, people=people) for name, people in sorted(found.items())]
    return OccurrenceAnswer(
        duty_id=roll.duty.id,
        duty_name=roll.duty.name,
        site_id=roll.duty.site_id,
        day=occurrence.day,
        opens_at=occurrence.opens_at,
        starts_at=occurrence.starts_at,
        ends_at=occurrence.ends_at,
        closes_at=occurrence.closes_at,
        settled=roll.settled,
        whole=not roll.holes,
        counts=counts,
    )


def _line(occurrence: Occurrence, line: Line, names: Mapping[CardholderId, str]) -> LineAnswer:
    return LineAnswer(
        cardholder_id=line.cardholder_id,
        person=names.get(line.cardholder_id),
        standing=line.standing,
        timing=line.timing,
        exempt_because=line.exemption.reason if line.exemption else None,
        reports=[
            ReportAnswer(
                at=each.at,
                timing=registration.timing(occurrence, each.at),
                reported_by=each.reported_by,
                reported_by_person=names.get(each.reported_by) if each.reported_by else None,
                station_id=each.station_id,
                receipt=registration.written_receipt(each.receipt),
            )
            for each in line.reports
        ],
        corrections=[CorrectionAnswer.model_validate(each) for each in line.corrections],
    )


def _receipt(
    connection: Connection, principal: Principal, number: str, found: Sequence[reports.Report]
) -> Receipt:
    first = found[0]
    people = {each.cardholder_id for each in found} | ({first.reported_by} if first.reported_by else set())
    may = principal.may(Permission.NAMES_READ)
    names = directory.names_of(connection, people) if may else {}
    lines = []
    for each in found:
        duty = duties.get(connection, each.duty_id)
        occurrence = reports.get(connection, each.duty_id, each.day)
        made, said = reports.of_occurrence(connection, each.duty_id, each.day, {each.cardholder_id})
        (line,) = registration.listed(
            occurrence, (), reports=made, corrections=said, exemptions=(), holes=(), now=first.at
        )
        lines.append(
            ReceiptLine(
                cardholder_id=each.cardholder_id,
                person=names.get(each.cardholder_id),
                duty_id=duty.id,
                duty_name=duty.name,
                day=each.day,
                timing=registration.timing(occurrence, each.at),
                stands=line.report is not None and line.report.receipt == number,
            )
        )
    return Receipt(
        receipt=registration.written_receipt(number),
        at=first.at,
        station_id=first.station_id,
        reported_by=first.reported_by,
        reported_by_person=names.get(first.reported_by) if first.reported_by else None,
        lines=lines,
    )


def _csv(found: RollAnswer) -> str:
    lines = [spreadsheets.line([f"# {said}"]) for said in _sentences(found)]
    lines.append(spreadsheets.line(_COLUMNS))
    for line in found.lines:
        last = line.reports[-1] if line.reports else None
        said = line.corrections[-1].reason if line.corrections else line.exempt_because
        lines.append(
            spreadsheets.line(
                [
                    line.cardholder_id,
                    line.person,
                    line.standing.value,
                    line.timing.value if line.timing else "",
                    last.at.isoformat() if last else "",
                    last.reported_by if last else "",
                    last.receipt if last else "",
                    said,
                ]
            )
        )
    return "".join(lines)


def _sentences(found: RollAnswer) -> Iterable[str]:
    yield f"{found.occurrence.duty_name}, {found.occurrence.day}, as of {found.at.isoformat()}"
    for hole in found.holes:
        who = f"kiosk {hole.station_id}" if hole.station_id else "no kiosk"
        yield f"{who}: reports could not be taken from {hole.since.isoformat()} to {hole.until.isoformat()}"
    if not found.holes:
        yield "every kiosk is known to have worked while reports were taken"
