"""Reporting in: when a duty occurs, and what may be said of each person it expects (rules R2 and R9).

A report is an act at a kiosk, knowingly done; nothing here knows of doors. That somebody did not report is said only
when every kiosk of the site is known to have worked, from the first to the last moment at which they could have.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from hub.store.duties import Duty, Exemption
from hub.store.reports import Correction, CorrectionKind, Occurrence, Report
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId
from pacs.schedule import local_time, wall_moment

SETTLING: Final = timedelta(seconds=90)
"""So long after a time is over, kiosks may not have said yet that they worked to its end."""
_DAY: Final = timedelta(days=1)

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: nothing that looks like another
_READ_AS: Final = str.maketrans("OIL", "011", " -")


@unique
class Timing(StrEnum):
    """How a report lies to the window; of an early or late one it is a margin that makes it count."""

    EARLY = "early"
    ON_TIME = "on_time"
    LATE = "late"


@unique
class Standing(StrEnum):
    """What is said of one person at one occurrence."""

    REPORTED = "reported"
    EXEMPT = "exempt"
    NOT_YET = "not_yet"
    """There is still time."""
    NOT_REPORTED = "not_reported"
    """Proven: they could have, at any moment, and did not."""
    CANNOT_BE_TOLD = "cannot_be_told"
    """They may have come while a kiosk could not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From ``since`` to ``until``."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KioskRecord:
    """One kiosk: when it was in use (``until`` None: still), and the stretches for which it could take reports, in order."""

    station_id: str
    name: str
    since: datetime
    until: datetime | None
    worked: tuple[Stretch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """From ``since`` to ``until`` a kiosk could not take reports; without one: the site had none."""

    since: datetime
    until: datetime
    station_id: str | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One person on the list of an occurrence.

    ``report`` or ``correction`` is what makes them ``REPORTED``; ``correction`` may also say why they are not.
    ``reports`` and ``corrections``: all there were, in order.
    """

    cardholder_id: CardholderId
    standing: Standing
    timing: Timing | None = None
    report: Report | None = None
    correction: Correction | None = None
    exemption: Exemption | None = None
    reports: tuple[Report, ...] = ()
    corrections: tuple[Correction, ...] = ()


def occurrences_of(
    duty: Duty, time_zone: str, holidays: AbstractSet[date], *, since: datetime, until: datetime
) -> list[Occurrence]:
    """The times at which a duty, as it is now, is to be fulfilled, of which a part lies between two moments; in order.

    What was over before its rules were in force does not count; what had begun, counts from then on.
    """
    margins = timedelta(minutes=duty.early_min), timedelta(minutes=duty.late_min)
    day = local_time(since, time_zone).date() - 3 * _DAY  # a window, and margins, of a day each
    last = local_time(until, time_zone).date() + _DAY
    found = []
    while day <= last:
        if _falls_on(duty, day, holidays):
            starts_at = wall_moment(day, duty.window.start_minute, time_zone)
            ends_at = wall_moment(day, duty.window.end_minute, time_zone, last=True)
            occurrence = Occurrence(
                duty_id=duty.id,
                day=day,
                opens_at=max(starts_at - margins[0], duty.in_force_since),
                starts_at=starts_at,
                ends_at=ends_at,
                closes_at=ends_at + margins[1],
            )
            is_one = starts_at < ends_at and duty.in_force_since < ends_at
            if is_one and occurrence.opens_at < until and occurrence.closes_at > since:
                found.append(occurrence)
        day += _DAY
    return found


def _falls_on(duty: Duty, day: date, holidays: AbstractSet[date]) -> bool:
    within = duty.first_day <= day and (duty.last_day is None or day <= duty.last_day)
    return within and day.weekday() in duty.window.weekdays and (duty.on_holidays or day not in holidays)


def timing(occurrence: Occurrence, at: datetime) -> Timing | None:
    """How a report at this moment lies to the window; None: it is not taken."""
    if not occurrence.opens_at <= at < occurrence.closes_at:
        return None
    if at < occurrence.starts_at:
        return Timing.EARLY
    return Timing.ON_TIME if at < occurrence.ends_at else Timing.LATE


def both(some: Iterable[Stretch], others: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """What lies in one of ``some`` and in one of ``others``, in order."""
    found = []
    for one in some:
        for other in others:
            since, until = max(one.since, other.since), min(one.until, other.until)
            if since < until:
                found.append(Stretch(since=since, until=until))
    return tuple(sorted(found, key=lambda stretch: stretch.since))


def holes(kiosks: Iterable[KioskRecord], since: datetime, until: datetime) -> list[Hole]:
    """When, between two moments, a kiosk that was in use could not take a report, or there was none; in order."""
    found = []
    in_use = []
    for kiosk in kiosks:
        begins, ends = max(since, kiosk.since), min(until, kiosk.until or until)
        if begins < ends:
            in_use.append(Stretch(since=begins, until=ends))
            found += [
                Hole(since=gap.since, until=gap.until, station_id=kiosk.station_id, name=kiosk.name)
                for gap in _gaps(kiosk.worked, begins, ends)
            ]
    found += [Hole(since=gap.since, until=gap.until) for gap in _gaps(in_use, since, until)]
    return sorted(found, key=lambda hole: (hole.since, hole.until, hole.station_id or ""))


def _gaps(stretches: Iterable[Stretch], since: datetime, until: datetime) -> list[Stretch]:
    found = []
    at = since
    for stretch in sorted(stretches, key=lambda each: each.since):
        if stretch.since > at and at < until:
            found.append(Stretch(since=at, until=min(stretch.since, until)))
        at = max(at, stretch.until)
    if at < until:
        found.append(Stretch(since=at, until=until))
    return found


def holes_of(occurrence: Occurrence, kiosks: Iterable[KioskRecord], now: datetime) -> list[Hole]:
    """When, of the time that an occurrence was open up to now, kiosks could not take reports.

    While it is not settled, the last moments, of which kiosks have not spoken yet, are no hole.
    """
    until = min(now, occurrence.closes_at)
    found = holes(kiosks, occurrence.opens_at, until)
    if is_settled(occurrence, now):
        return found
    return [hole for hole in found if hole.until < until or now - hole.since > SETTLING]


def is_settled(occurrence: Occurrence, now: datetime) -> bool:
    """Whether it is over, and all kiosks had the time to say that they worked to its end."""
    return now >= occurrence.closes_at + SETTLING


def listed(
    occurrence: Occurrence,
    people: Collection[CardholderId],
    *,
    reports: Mapping[CardholderId, Sequence[Report]],
    corrections: Mapping[CardholderId, Sequence[Correction]],
    exemptions: Iterable[Exemption],
    holes: Collection[Hole],
    now: datetime,
) -> list[Line]:
    """What is said of each of ``people``, and of everybody else of whom a report or correction is there; by id.

    ``holes`` are those that ``holes_of`` finds; who was expected, and laid down too late, cannot be told either.
    """
    exempt = {each.cardholder_id: each for each in exemptions if each.covers(*occurrence.key)}
    doubtful = bool(holes) or (occurrence.fixed_at or now) >= occurrence.closes_at
    found = []
    for person in sorted({*people, *reports, *corrections}):
        line = _said(person, occurrence, reports.get(person, ()), corrections.get(person, ()))
        if line.standing is not Standing.REPORTED:
            line = replace(line, standing=_without(occurrence, doubtful=doubtful, now=now))
            if person in exempt:
                line = replace(line, standing=Standing.EXEMPT, exemption=exempt[person])
        found.append(line)
    return found


def _said(
    person: CardholderId, occurrence: Occurrence, reports: Sequence[Report], corrections: Sequence[Correction]
) -> Line:
    """By the newest of what was reported and corrected; a correction of the same moment is the newer."""
    report = max(reports, key=lambda each: each.at, default=None)
    correction = max(corrections, key=lambda each: each.at, default=None)
    stands = report is not None and (correction is None or correction.at < report.at)
    by_staff = not stands and correction is not None and correction.kind is CorrectionKind.REPORTED
    return Line(
        cardholder_id=person,
        standing=Standing.REPORTED if stands or by_staff else Standing.NOT_YET,
        timing=timing(occurrence, report.at) if stands and report else None,
        report=report if stands else None,
        correction=None if stands else correction,
        reports=tuple(reports),
        corrections=tuple(corrections),
    )


def _without(occurrence: Occurrence, *, doubtful: bool, now: datetime) -> Standing:
    """What is said of who is expected and has not reported."""
    if doubtful:
        return Standing.CANNOT_BE_TOLD
    return Standing.NOT_REPORTED if is_settled(occurrence, now) else Standing.NOT_YET


def new_receipt() -> str:
    """A number for a receipt: nine characters by lot, and one by which a mistyped one is known."""
    body = "".join(secrets.choice(_ALPHABET) for _ in range(9))
    return body + _check(body)


def written_receipt(receipt: str) -> str:
    """As people read it: ``K7QF2-M9DXT``."""
    return f"{receipt[:5]}-{receipt[5:]}"


def read_receipt(typed: str) -> str:
    """The number that somebody typed, in either case, with or without the stroke; O is read as 0, I and L as 1.

    Raises ``MalformedData`` for what no receipt bears.
    """
    receipt = typed.strip().upper().translate(_READ_AS)
    if len(receipt) != 10 or set(receipt) - set(_ALPHABET) or _check(receipt[:9]) != receipt[9]:
        raise MalformedData("no receipt has this number: it was mistyped")
    return receipt


def _check(body: str) -> str:
    """Luhn's digit to the base of the alphabet: finds one wrong character, and nearly every two that changed places."""
    total = 0
    for position, character in enumerate(reversed(body)):
        value = _ALPHABET.index(character) * (2 - position % 2)
        total += value // 32 + value % 32
    return _ALPHABET[-total % 32]
