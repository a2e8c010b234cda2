"""A visit to a kiosk: what somebody who tapped may report, for themselves and for those they report for, and the report."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import Connection

from hub import registration
from hub.registration import Line, Standing, Timing
from hub.store import cardholders, duties, reports, sites
from hub.store.cardholders import Cardholder
from hub.store.duties import Duty
from hub.store.errors import NotFound
from hub.store.reports import Occurrence, Report
from pacs.errors import PacsError
from pacs.identifiers import CardholderId, SiteId, StationId

AHEAD: Final = timedelta(days=8)
BEHIND: Final = timedelta(hours=12)

Choice = tuple[str, date, CardholderId]
"""A duty, its day, and for whom."""


class NothingDue(PacsError):
    """Of what was chosen nothing can be reported now."""


@unique
class State(StrEnum):
    """What an offer is."""

    DUE = "due"
    REPORTED = "reported"
    EXEMPT = "exempt"
    """Need not, and may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One duty of one person that can be reported now; ``reported_at``: when that was done, None: not at a kiosk."""

    duty: Duty
    occurrence: Occurrence
    person: Cardholder
    is_self: bool
    state: State
    reported_at: datetime | None = None

    @property
    def choice(self) -> Choice:
        """What stands for it in a form."""
        return self.duty.id, self.occurrence.day, self.person.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What is shown to who tapped. ``next_at``: when they, or those they report for, can report next.

    ``missed_at``: when the last time of today for this ended that they did not report.
    """

    person: Cardholder
    offers: tuple[Offer, ...]
    next_at: datetime | None
    missed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One line of a receipt."""

    duty: Duty
    occurrence: Occurrence
    person: Cardholder
    timing: Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was just reported; ``number`` as people read it."""

    number: str
    at: datetime
    lines: tuple[Reported, ...]


def visit(connection: Connection, site_id: SiteId, cardholder_id: CardholderId, now: datetime) -> Visit:
    """What somebody may report at a site now. What is open was laid down before. Raises ``NotFound``."""
    people = _people(connection, cardholder_id)
    offers = tuple(_offers(connection, site_id, people, now))
    return Visit(
        person=people[0],
        offers=offers,
        next_at=_next(connection, site_id, people, now),
        missed_at=None if offers else _missed(connection, site_id, people[0], now),
    )


def report(
    connection: Connection,
    site_id: SiteId,
    station_id: StationId,
    reporter: CardholderId,
    chosen: Collection[Choice],
    now: datetime,
) -> Receipt:
    """Store what was chosen of what is due, with one receipt; raises ``NothingDue``, and ``NotFound`` for who reports."""
    offers = _offers(connection, site_id, _people(connection, reporter), now)
    taken = [
        (each, timing)
        for each in offers
        if each.choice in chosen
        and each.state is not State.REPORTED
        and (timing := registration.timing(each.occurrence, now))
    ]
    if not taken:
        raise NothingDue("nothing of this is due now")
    number = registration.new_receipt()
    reports.add(
        connection,
        [
            Report(
                duty_id=each.duty.id,
                day=each.occurrence.day,
                cardholder_id=each.person.id,
                reported_by=reporter,
                station_id=station_id,
                at=now,
                receipt=number,
            )
            for each, _timing in taken
        ],
    )
    return Receipt(
        number=registration.written_receipt(number),
        at=now,
        lines=tuple(
            Reported(duty=each.duty, occurrence=each.occurrence, person=each.person, timing=timing)
            for each, timing in taken
        ),
    )


def _people(connection: Connection, cardholder_id: CardholderId) -> list[Cardholder]:
    """Who tapped, and then whom they report for; without who was erased."""
    found = [cardholders.get(connection, cardholder_id)]
    for each in duties.reported_for(connection, cardholder_id):
        try:
            found.append(cardholders.get(connection, each))
        except NotFound:
            continue
    return found


def _offers(
    connection: Connection, site_id: SiteId, people: Sequence[Cardholder], now: datetime
) -> list[Offer]:
    named = {each.id: each for each in duties.list_all(connection, (site_id,))}
    ids = {person.id for person in people}
    found = []
    for occurrence in reports.list_between(connection, now, now + timedelta(microseconds=1), (site_id,)):
        duty = named[occurrence.duty_id]
        concerned = reports.expects(connection, occurrence, ids) | _members(connection, duty, now, ids)
        lines = _lines(connection, occurrence, concerned, now)
        for person in people:
            if person.id in concerned:
                line = lines[person.id]
                states = {Standing.REPORTED: State.REPORTED, Standing.EXEMPT: State.EXEMPT}
                offer = Offer(
                    duty=duty,
                    occurrence=occurrence,
                    person=person,
                    is_self=person is people[0],
                    state=states.get(line.standing, State.DUE),
                    reported_at=line.report.at if line.report else None,
                )
                found.append(offer)
    return found


def _members(
    connection: Connection, duty: Duty, at: datetime, ids: Collection[CardholderId]
) -> set[CardholderId]:
    """Those of these people whom a duty is for, though they may have come when it was open already."""
    return duties.members(connection, duty, enrolled_by=at, since=at, until=at) & set(ids)


def _lines(
    connection: Connection, occurrence: Occurrence, ids: Collection[CardholderId], now: datetime
) -> dict[CardholderId, Line]:
    made, said = reports.of_occurrence(connection, *occurrence.key, ids)
    exempt = duties.list_exemptions(connection, of=ids)
    lines = registration.listed(
        occurrence, ids, reports=made, corrections=said, exemptions=exempt, holes=(), now=now
    )
    return {line.cardholder_id: line for line in lines}


def _next(
    connection: Connection, site_id: SiteId, people: Sequence[Cardholder], now: datetime
) -> datetime | None:
    site = sites.get(connection, site_id)
    holidays = frozenset(sites.list_holidays(connection, site_id))
    ids = {person.id for person in people}
    exempt = duties.list_exemptions(connection, of=ids)
    found = []
    for duty in duties.list_all(connection, (site_id,)):
        for each in registration.occurrences_of(duty, site.time_zone, holidays, since=now, until=now + AHEAD):
            free = {one.cardholder_id for one in exempt if one.covers(*each.key)}
            if each.opens_at > now and _members(connection, duty, each.starts_at, ids) - free:
                found.append(each.opens_at)
                break
    return min(found, default=None)


def _missed(connection: Connection, site_id: SiteId, person: Cardholder, now: datetime) -> datetime | None:
    for occurrence in reversed(reports.list_between(connection, now - BEHIND, now, (site_id,))):
        if occurrence.closes_at <= now and occurrence.counts is None:
            ids = reports.expects(connection, occurrence, {person.id})
            lines = _lines(connection, occurrence, ids, now)
            if any(line.standing not in (Standing.REPORTED, Standing.EXEMPT) for line in lines.values()):
                return occurrence.closes_at
    return None
