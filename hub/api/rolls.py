"""The list of an occurrence as the interface shows it: who reported, who is exempt, who has not; and as a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime

from hub import audit, registration, reporting, spreadsheets
from hub.api import fields, scope
from hub.api.fields import Answer
from hub.api.services import Services
from hub.kiosks import records
from hub.operators import Principal
from hub.registration import Line, Standing, Timing
from hub.reporting import Roll
from hub.roles import Permission
from hub.store import directory, duties, reports
from hub.store.reports import CorrectionKind, Occurrence
from pacs.identifiers import CardholderId

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
        occurrence=occurrence_answer(roll),
        at=roll.at,
        holes=[HoleAnswer.model_validate(each) for each in roll.holes],
        lines=[_line(roll.occurrence, line, names) for line in roll.lines],
    )


def occurrence_answer(roll: Roll) -> OccurrenceAnswer:
    """An occurrence without its people."""
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


def as_csv(found: RollAnswer) -> str:
    """The list as a file, headed by what is not known."""
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
