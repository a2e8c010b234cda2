"""What was reported: occurrences of duties, whom each one expects, reports, and what staff corrected.

Who is expected is laid down once for each occurrence, when it opens, and changes no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, Table, and_, delete, insert, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.holds import Hold
from hub.store.schema import (
    duties,
    duty_people,
    exemptions,
    expected,
    occurrences,
    report_corrections,
    reporters,
    reports,
)
from hub.store.sites import Sites, within
from pacs.identifiers import CardholderId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """One time at which a duty is to be fulfilled; ``day``: on the site's clock, that its window begins on.

    Reports are taken from ``opens_at`` to before ``closes_at``; the window is from ``starts_at`` to ``ends_at``.
    ``fixed_at``: when it was laid down who is expected; None: it is not yet. ``counts``: what is left of it, without
    persons, when its time is over; None within: a few, which is not said.
    """

    duty_id: str
    day: date
    opens_at: datetime
    starts_at: datetime
    ends_at: datetime
    closes_at: datetime
    fixed_at: datetime | None = None
    counts: Mapping[str, int | None] | None = None

    @property
    def key(self) -> tuple[str, date]:
        """What no other occurrence has."""
        return self.duty_id, self.day


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Somebody reported in at a kiosk, for themselves or for another; ``receipt``: of the act, which may be for several.

    ``reported_by`` None: whoever that was is forgotten.
    """

    duty_id: str
    day: date
    cardholder_id: CardholderId
    reported_by: CardholderId | None
    station_id: str
    at: datetime
    receipt: str


@unique
class CorrectionKind(StrEnum):
    """What a member of staff says of somebody: that they reported, or that what stands as their report was not theirs."""

    REPORTED = "reported"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What staff said of somebody at one occurrence, after what stood there; ``made_by``: as in the audit log."""

    duty_id: str
    day: date
    cardholder_id: CardholderId
    kind: CorrectionKind
    reason: str
    made_by: str
    at: datetime


def fix(
    connection: Connection, occurrence: Occurrence, people: Iterable[CardholderId], now: datetime
) -> None:
    """Lay down whom an occurrence expects; raises ``AlreadyExists`` when that was done."""
    row = {name: getattr(occurrence, name) for name in occurrences.c.keys()}  # noqa: SIM118
    insert_new(connection, occurrences, row | {"fixed_at": now})
    rows = [
        {"duty_id": occurrence.duty_id, "day": occurrence.day, "cardholder_id": each}
        for each in sorted(people)
    ]
    if rows:
        connection.execute(insert(expected), rows)


def get(connection: Connection, duty_id: str, day: date) -> Occurrence:
    """One occurrence that was fixed; raises ``NotFound``."""
    columns = occurrences.c
    row = connection.execute(
        select(occurrences).where(columns.duty_id == duty_id, columns.day == day)
    ).first()
    if row is None:
        raise NotFound("the duty does not occur on this day, or has not yet")
    return Occurrence(**fields(row))


def fixed_since(connection: Connection, day: date) -> set[tuple[str, date]]:
    """The keys of those that were fixed, from this day on."""
    query = select(occurrences.c.duty_id, occurrences.c.day).where(occurrences.c.day >= day)
    return {(duty_id, found) for duty_id, found in connection.execute(query)}


def list_between(
    connection: Connection, since: datetime, until: datetime, sites: Sites = None
) -> list[Occurrence]:
    """Fixed occurrences of these sites that are open at some time between, in order."""
    columns = occurrences.c
    query = (
        select(occurrences)
        .join(duties)
        .where(within(duties.c.site_id, sites), columns.opens_at < until, columns.closes_at > since)
        .order_by(columns.starts_at, columns.duty_id)
    )
    return [Occurrence(**fields(row)) for row in connection.execute(query)]


def expected_at(connection: Connection, duty_id: str, day: date) -> set[CardholderId]:
    """Whom one occurrence expects."""
    columns = expected.c
    query = select(columns.cardholder_id).where(columns.duty_id == duty_id, columns.day == day)
    return {CardholderId(each) for each in connection.scalars(query)}


def expects(
    connection: Connection, occurrence: Occurrence, people: Collection[CardholderId]
) -> set[CardholderId]:
    """Those of these people whom an occurrence expects."""
    columns = expected.c
    query = select(columns.cardholder_id).where(
        columns.duty_id == occurrence.duty_id,
        columns.day == occurrence.day,
        columns.cardholder_id.in_(people),
    )
    return {CardholderId(each) for each in connection.scalars(query)}


def add(connection: Connection, made: Iterable[Report]) -> None:
    """Store reports of one act."""
    rows = [{name: getattr(each, name) for name in Report.__slots__} for each in made]
    if rows:
        connection.execute(insert(reports), rows)


def correct(connection: Connection, correction: Correction) -> None:
    """Store what staff said; what stood before stays."""
    row = {name: getattr(correction, name) for name in Correction.__slots__}
    connection.execute(insert(report_corrections).values(row))


def of_occurrence(
    connection: Connection, duty_id: str, day: date, people: Collection[CardholderId] | None = None
) -> tuple[dict[CardholderId, list[Report]], dict[CardholderId, list[Correction]]]:
    """Person → reports, and → corrections, in order; of these people, or of all."""
    made: dict[CardholderId, list[Report]] = {}
    for row in _of(connection, reports, duty_id, day, people):
        made.setdefault(CardholderId(row.cardholder_id), []).append(_report(row))
    said: dict[CardholderId, list[Correction]] = {}
    for row in _of(connection, report_corrections, duty_id, day, people):
        said.setdefault(CardholderId(row.cardholder_id), []).append(_correction(row))
    return made, said


def by_receipt(connection: Connection, receipt: str) -> list[tuple[Report, SiteId]]:
    """What one act reported, each with the site of its duty; empty: no such number was given, or is kept."""
    query = select(reports, duties.c.site_id).join(duties).where(reports.c.receipt == receipt)
    return [(_report(row), SiteId(row.site_id)) for row in connection.execute(query.order_by(reports.c.id))]


def set_counts(connection: Connection, occurrence: Occurrence, counts: Mapping[str, int | None]) -> None:
    """Keep this much of an occurrence."""
    columns = occurrences.c
    mine = (columns.duty_id == occurrence.duty_id) & (columns.day == occurrence.day)
    connection.execute(update(occurrences).where(mine).values(counts=dict(counts)))


def closed_before(connection: Connection, before: datetime, sites: Sites = None) -> list[Occurrence]:
    """Occurrences whose persons are still kept, and which were closed before; the oldest first."""
    columns = occurrences.c
    query = select(occurrences).where(columns.closes_at < before, columns.counts.is_(None))
    if sites is not None:
        query = query.where(columns.duty_id.in_(select(duties.c.id).where(within(duties.c.site_id, sites))))
    return [Occurrence(**fields(row)) for row in connection.execute(query.order_by(columns.closes_at))]


def forget_occurrence(connection: Connection, occurrence: Occurrence) -> None:
    """Delete who was expected, who reported and what was corrected."""
    for table in (reports, report_corrections, expected):
        mine = (table.c.duty_id == occurrence.duty_id) & (table.c.day == occurrence.day)
        connection.execute(delete(table).where(mine))


def remove_before(connection: Connection, before: datetime, _held: Iterable[Hold], limit: int) -> int:
    """Delete what is left of occurrences without persons; how many."""
    columns = occurrences.c
    query = select(columns.duty_id, columns.day).where(
        columns.closes_at < before, columns.counts.is_not(None)
    )
    due = connection.execute(query.limit(limit)).all()
    for duty_id, day in due:
        connection.execute(delete(occurrences).where(columns.duty_id == duty_id, columns.day == day))
    return len(due)


def forget_person(connection: Connection, cardholder_id: CardholderId) -> None:
    """Delete everything about somebody's reporting in."""
    for table in (reports, report_corrections, expected, exemptions, duty_people, reporters):
        connection.execute(delete(table).where(table.c.cardholder_id == cardholder_id))
    by_them = update(reports).where(reports.c.reported_by == cardholder_id)
    connection.execute(by_them.values(reported_by=None))
    connection.execute(delete(reporters).where(reporters.c.reporter_id == cardholder_id))


def _of(
    connection: Connection, table: Table, duty_id: str, day: date, people: Collection[CardholderId] | None
) -> Iterable[Row[Any]]:
    mine = and_(table.c.duty_id == duty_id, table.c.day == day)
    if people is not None:
        mine &= table.c.cardholder_id.in_(people)
    return connection.execute(select(table).where(mine).order_by(table.c.id))


def _report(row: Row[Any]) -> Report:
    return Report(
        duty_id=row.duty_id,
        day=row.day,
        cardholder_id=CardholderId(row.cardholder_id),
        reported_by=CardholderId(row.reported_by) if row.reported_by else None,
        station_id=row.station_id,
        at=row.at,
        receipt=row.receipt,
    )


def _correction(row: Row[Any]) -> Correction:
    return Correction(
        duty_id=row.duty_id,
        day=row.day,
        cardholder_id=CardholderId(row.cardholder_id),
        kind=CorrectionKind(row.kind),
        reason=row.reason,
        made_by=row.made_by,
        at=row.at,
    )
