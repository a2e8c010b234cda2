"""Duties, whom they expect, reports and corrections as they are stored, on both databases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from hub import registration, reporting, visits
from hub.kiosks import records
from hub.registration import KioskRecord, Standing, Stretch, Timing
from hub.store import access_levels, cardholders, duties, kiosks, reports, sites
from hub.store.cardholders import Cardholder, Category
from hub.store.database import Database
from hub.store.duties import Duty, Exemption, Whom
from hub.store.errors import AlreadyExists, InUse, NotFound
from hub.store.holds import Hold
from hub.store.reports import Correction, CorrectionKind, Occurrence, Report
from hub.visits import NothingDue
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CardholderId, SiteId, StationId
from pacs.rules import AccessLevel
from pacs.schedule import ALL_DAYS, Window
from tests.hub.databases import SITE, fresh_database, make_site

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ADA, BEN, CEM, DOE = map(CardholderId, ("ada", "ben", "cem", "doe"))
HALL = StationId("hall")
MONDAY = date(2026, 3, 2)
OPENS = datetime(2026, 3, 2, 7, 30, tzinfo=UTC)
AFTER = datetime(2026, 3, 2, 12, tzinfo=UTC)
DUTY = Duty(
    id="00112233aabbccdd",
    site_id=SITE,
    name="Morning",
    whom=Whom.CATEGORY,
    category=Category.RESIDENT,
    window=Window(weekdays=ALL_DAYS, start_minute=9 * 60, end_minute=11 * 60),
    early_min=30,
    late_min=60,
    first_day=MONDAY,
    in_force_since=LONG_AGO,
    created_at=LONG_AGO,
)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    database: Database = fresh_database(tmp_path / "hub.sqlite")
    with database.write() as connection:
        make_site(connection)
        level = AccessLevel(id=AccessLevelId("wing"), rules=())
        access_levels.add(connection, level, site_id=SITE, name="Wing", now=LONG_AGO)
        for each in (ADA, BEN, CEM):
            cardholders.add(connection, somebody(each))
        cardholders.add(
            connection, somebody(DOE, category=Category.STAFF, access_level_ids=(AccessLevelId("wing"),))
        )
        yield connection
    database.close()


def somebody(person: CardholderId, **changed: Any) -> Cardholder:
    made: dict[str, Any] = {
        "id": person,
        "site_id": SITE,
        "category": Category.RESIDENT,
        "given_name": person.title(),
        "family_name": "Example",
        "access_level_ids": (),
        "created_at": LONG_AGO,
    }
    return Cardholder(**made | changed)


def whole(_connection: Connection, _site: SiteId, since: datetime, until: datetime) -> list[KioskRecord]:
    """A kiosk that always worked."""
    worked = (Stretch(since=since, until=until),)
    return [KioskRecord(station_id="hall", name="Hall", since=LONG_AGO, until=None, worked=worked)]


def opened(connection: Connection, duty: Duty = DUTY) -> Occurrence:
    duties.add(connection, duty)
    assert reporting.fix_due(connection, OPENS + MINUTE, since=OPENS - DAY) == 1
    return reports.get(connection, duty.id, MONDAY)


def report(person: CardholderId, at: datetime, by: CardholderId | None = None) -> Report:
    return Report(
        duty_id=DUTY.id,
        day=MONDAY,
        cardholder_id=person,
        reported_by=by or person,
        station_id="hall",
        at=at,
        receipt=registration.new_receipt(),
    )


def exemption(person: CardholderId, **changed: Any) -> Exemption:
    made: dict[str, Any] = {
        "id": f"{person:0<32}",
        "cardholder_id": person,
        "duty_id": None,
        "first_day": MONDAY,
        "last_day": MONDAY,
        "reason": "Away with leave",
        "given_by": "operator:one",
        "given_at": LONG_AGO,
    }
    return Exemption(**made | changed)


def standings(connection: Connection, now: datetime = AFTER) -> dict[CardholderId, Standing]:
    occurrence = reports.get(connection, DUTY.id, MONDAY)
    found = reporting.roll(connection, duties.get(connection, DUTY.id), occurrence, whole, now)
    return {line.cardholder_id: line.standing for line in found.lines}


@pytest.mark.parametrize(
    ("changed", "people"),
    [
        ({}, {ADA, BEN, CEM}),
        ({"category": Category.STAFF}, {DOE}),
        ({"whom": Whom.ACCESS_LEVEL, "category": None, "access_level_id": AccessLevelId("wing")}, {DOE}),
        ({"whom": Whom.PEOPLE, "category": None, "people": (BEN, DOE)}, {BEN, DOE}),
    ],
)
def test_whom_a_duty_expects(
    connection: Connection, changed: dict[str, Any], people: set[CardholderId]
) -> None:
    """Everybody of a category, who holds a level, or those listed; the duty is read back as it was stored."""
    duty = replace(DUTY, **changed)
    occurrence = opened(connection, duty)
    assert duties.get(connection, duty.id) == duty
    assert duties.list_all(connection, (SITE,)) == [duty]
    assert reports.expected_at(connection, *occurrence.key) == people


def test_whom_it_expects_is_laid_down_once(connection: Connection) -> None:
    """Who leaves, comes or gets another category later changes no list of before, nor does a change of the duty."""
    cardholders.change(connection, somebody(CEM, valid_until=OPENS + HOUR))
    cardholders.add(connection, somebody(CardholderId("eve"), created_at=OPENS + MINUTE))
    occurrence = opened(connection)
    assert occurrence.opens_at == OPENS
    assert reports.expected_at(connection, *occurrence.key) == {ADA, BEN}
    cardholders.change(connection, somebody(BEN, category=Category.STAFF))
    cardholders.change(connection, somebody(CEM))
    afternoon = replace(DUTY.window, start_minute=14 * 60, end_minute=15 * 60)
    duties.change(connection, replace(DUTY, window=afternoon, in_force_since=AFTER))
    assert reporting.fix_due(connection, AFTER + HOUR, since=AFTER - DAY) == 0
    assert reports.expected_at(connection, *occurrence.key) == {ADA, BEN}
    assert reports.get(connection, DUTY.id, MONDAY) == occurrence
    with pytest.raises(AlreadyExists):
        reports.fix(connection, occurrence, [], AFTER)


def test_nothing_occurs_on_a_holiday(connection: Connection) -> None:
    """A holiday of the site's that is there in time."""
    duties.add(connection, DUTY)
    sites.set_holiday(connection, SITE, MONDAY, "Carnival")
    assert reporting.fix_due(connection, AFTER, since=AFTER - DAY) == 0


def test_what_a_duty_names_is_there(connection: Connection) -> None:
    """A level of another site, and people who are not there, are refused; what is named stays."""
    nobody = replace(DUTY, whom=Whom.PEOPLE, category=None, people=(ADA, CardholderId("nobody")))
    level = replace(DUTY, whom=Whom.ACCESS_LEVEL, category=None, access_level_id=AccessLevelId("wing"))
    make_site(connection, SiteId("elsewhere"))
    for wrong in (nobody, replace(level, site_id=SiteId("elsewhere"))):
        with pytest.raises(NotFound):
            duties.add(connection, wrong)
    duties.add(connection, level)
    cardholders.change(connection, somebody(DOE))
    with pytest.raises(InUse, match="duties"):
        access_levels.remove(connection, AccessLevelId("wing"))
    duties.remove(connection, level.id)
    access_levels.remove(connection, AccessLevelId("wing"))
    opened(connection)
    with pytest.raises(InUse):
        duties.remove(connection, DUTY.id)


def test_reports_and_corrections(connection: Connection) -> None:
    """What was reported stays beside what staff said of it, which counts from then on."""
    opened(connection)
    mine, hers = report(ADA, OPENS + HOUR), report(BEN, OPENS + HOUR, by=ADA)
    reports.add(connection, [mine, replace(hers, receipt=mine.receipt)])
    assert standings(connection) == {
        ADA: Standing.REPORTED,
        BEN: Standing.REPORTED,
        CEM: Standing.NOT_REPORTED,
    }
    found = reports.by_receipt(connection, mine.receipt)
    assert [(each.cardholder_id, each.reported_by, site) for each, site in found] == [
        (ADA, ADA, SITE),
        (BEN, ADA, SITE),
    ]
    assert reports.by_receipt(connection, registration.new_receipt()) == []
    for person, kind in ((BEN, CorrectionKind.WITHDRAWN), (CEM, CorrectionKind.REPORTED)):
        said = Correction(
            duty_id=DUTY.id,
            day=MONDAY,
            cardholder_id=person,
            kind=kind,
            reason="Seen by the desk",
            made_by="operator:one",
            at=AFTER,
        )
        reports.correct(connection, said)
    assert standings(connection) == {
        ADA: Standing.REPORTED,
        BEN: Standing.NOT_REPORTED,
        CEM: Standing.REPORTED,
    }
    made, corrected = reports.of_occurrence(connection, DUTY.id, MONDAY, {BEN})
    assert (len(made[BEN]), len(corrected[BEN]), set(made)) == (1, 1, {BEN})


def test_exemptions(connection: Connection) -> None:
    """They hold for their days and their duty, until they are lifted; then they never held."""
    opened(connection)
    duties.add_exemption(connection, exemption(ADA))
    duties.add_exemption(connection, exemption(BEN, first_day=MONDAY + DAY, last_day=MONDAY + 2 * DAY))
    duties.add_exemption(connection, exemption(CEM, duty_id=DUTY.id))
    assert standings(connection) == {ADA: Standing.EXEMPT, BEN: Standing.NOT_REPORTED, CEM: Standing.EXEMPT}
    assert duties.get_exemption(connection, exemption(CEM).id) == exemption(CEM, duty_id=DUTY.id)
    duties.lift_exemption(connection, exemption(CEM).id, lifted_by="operator:two", now=AFTER)
    assert standings(connection)[CEM] is Standing.NOT_REPORTED
    assert len(duties.list_exemptions(connection, sites=(SITE,))) == 3
    with pytest.raises(NotFound):
        duties.add_exemption(connection, exemption(CardholderId("nobody")))


def test_who_reports_for_whom(connection: Connection) -> None:
    """It is set for one direction, once, between two people who are there."""
    for _again in range(2):
        duties.set_reporter(connection, ADA, BEN, set_by="operator:one", now=OPENS)
    assert duties.reported_for(connection, ADA) == [BEN]
    assert duties.reported_for(connection, BEN) == []
    assert duties.reporters_for(connection, BEN) == [ADA]
    with pytest.raises(MalformedData):
        duties.set_reporter(connection, ADA, ADA, set_by="operator:one", now=OPENS)
    duties.remove_reporter(connection, ADA, BEN)
    with pytest.raises(NotFound):
        duties.remove_reporter(connection, ADA, BEN)
    with pytest.raises(NotFound):
        duties.set_reporter(connection, ADA, CardholderId("nobody"), set_by="operator:one", now=OPENS)


def test_a_forgotten_person_leaves_what_others_reported(connection: Connection) -> None:
    """Their own reports, exemptions and links go; what they reported for somebody else stays, without them."""
    occurrence = opened(connection)
    reports.add(connection, [report(ADA, OPENS), report(BEN, OPENS, by=ADA)])
    duties.set_reporter(connection, ADA, BEN, set_by="operator:one", now=OPENS)
    duties.add_exemption(connection, exemption(ADA))
    reports.forget_person(connection, ADA)
    made, _said = reports.of_occurrence(connection, *occurrence.key)
    assert {person: each[0].reported_by for person, each in made.items()} == {BEN: None}
    assert reports.expected_at(connection, *occurrence.key) == {BEN, CEM}
    assert duties.list_exemptions(connection) == []
    assert duties.reporters_for(connection, BEN) == []


def test_what_is_left_is_counts_without_persons(connection: Connection) -> None:
    """After its time an occurrence keeps numbers, of which small ones are not said; a hold keeps all of it."""
    for number in range(6):
        cardholders.add(connection, somebody(CardholderId(f"more-{number}")))
    occurrence = opened(connection)
    reports.add(connection, [report(ADA, OPENS)])
    hold = Hold(
        id="0" * 32,
        site_id=SITE,
        cardholder_id=BEN,
        door_id=None,
        since=OPENS - DAY,
        until=OPENS + DAY,
        reason="Asked by the court",
        requested_by="operator:one",
        requested_at=AFTER,
        ends_at=AFTER + 90 * DAY,
    )
    now = AFTER + 15 * DAY

    def coarsened(*held: Hold) -> int:
        return reporting.coarsen(connection, AFTER, held, 10, kiosks=whole, now=now)

    assert coarsened(hold) == 0
    assert coarsened(replace(hold, site_id=SiteId("elsewhere"))) == 1
    left = reports.get(connection, *occurrence.key)
    assert left.counts == {"early": None, "not_reported": 8}
    assert reports.expected_at(connection, *occurrence.key) == set()
    assert reports.of_occurrence(connection, *occurrence.key) == ({}, {})
    assert coarsened() == 0
    assert reports.remove_before(connection, now, (), 10) == 1
    assert reports.list_between(connection, LONG_AGO, now) == []


def test_a_browser_shows_one_kiosks_page(connection: Connection) -> None:
    """A link pairs once and in time; pairing another browser ends the first."""
    link, first, second = (bytes([number]) * 32 for number in range(3))

    def paired(token: bytes, now: datetime) -> str | None:
        return kiosks.pair(connection, link, token, now=now, until=now + 100 * DAY)

    kiosks.add_link(connection, HALL, link, now=OPENS, until=OPENS + HOUR)
    assert paired(first, OPENS + HOUR) is None
    assert paired(first, OPENS) == HALL
    assert paired(second, OPENS) is None
    assert kiosks.station_of(connection, first, OPENS + DAY) == HALL
    assert kiosks.station_of(connection, link, OPENS) is None
    assert kiosks.station_of(connection, first, OPENS + 100 * DAY) is None
    kiosks.add_link(connection, HALL, link, now=OPENS, until=OPENS + HOUR)
    assert paired(second, OPENS) == HALL
    assert kiosks.station_of(connection, first, OPENS) is None
    kiosks.unpair(connection, HALL)
    assert kiosks.station_of(connection, second, OPENS) is None


def test_when_a_page_was_shown(connection: Connection) -> None:
    """Askings close together are one stretch; a gap, or a clock that goes back, begins another."""
    seconds = (0, 5, 20, 36, 40, 39)
    for second in seconds:
        kiosks.shown(connection, HALL, OPENS + timedelta(seconds=second))
    found = kiosks.screens(connection, HALL, OPENS - DAY, OPENS + DAY)
    assert [((each.since - OPENS).seconds, (each.until - OPENS).seconds) for each in found] == [
        (0, 20),
        (36, 40),
        (39, 39),
    ]
    assert kiosks.screens(connection, StationId("gate"), OPENS - DAY, OPENS + DAY) == []


def test_reporting_in_asks_nothing_of_doors(connection: Connection) -> None:
    """From the opening of a time to what is left of it, no statement names a table in which a door's taps are."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    event.listen(connection.engine, "before_cursor_execute", note)
    occurrence = opened(connection)
    duties.set_reporter(connection, ADA, BEN, set_by="operator:one", now=OPENS)
    now = OPENS + HOUR
    offers = visits.visit(connection, SITE, ADA, now).offers
    assert [(each.person.id, each.is_self) for each in offers] == [(ADA, True), (BEN, False)]
    chosen = [each.choice for each in offers]
    receipt = visits.report(connection, SITE, HALL, ADA, chosen, now)
    assert [line.timing for line in receipt.lines] == [Timing.ON_TIME, Timing.ON_TIME]
    with pytest.raises(NothingDue):
        visits.report(connection, SITE, HALL, ADA, chosen, now)
    found = reporting.roll(connection, DUTY, occurrence, records, AFTER)
    assert [hole.station_id for hole in found.holes] == [None]
    assert reporting.coarsen(connection, AFTER, (), 10, kiosks=records, now=AFTER) == 1
    event.remove(connection.engine, "before_cursor_execute", note)
    named = set(re.findall(r"(?:FROM|JOIN|INTO|UPDATE) (\w+)", " ".join(asked)))
    assert {"reports", "expected", "stations"} <= named
    assert named & {"events", "doors", "door_state", "controllers", "journal_heads", "alarms"} == set()
