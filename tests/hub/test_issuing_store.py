"""Issuing jobs as they are stored: who may take which, until when, and what is let go of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from hub import erasure
from hub.store import card_stock, cardholders, issuing, stations
from hub.store.card_stock import StockCause, StockMovement
from hub.store.cardholders import Cardholder, Category
from hub.store.database import Database
from hub.store.issuing import LEASE, Failure, IssuingJob, JobState, Step
from hub.store.stations import Station, StationKind
from pacs.credential import Technology
from pacs.identifiers import CardholderId, CredentialId, StationId
from tests.hub.databases import SITE, fresh_database, make_site

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DESK, OTHER = StationId("desk"), StationId("other")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = fresh_database(tmp_path / "hub.sqlite")
    with found.write() as connection:
        make_site(connection)
        for station in (DESK, OTHER):
            made = Station(id=station, site_id=SITE, kind=StationKind.ISSUING, name="Cards", created_at=NOW)
            stations.add(connection, made, station.encode())
        for person in ("ama", "ben", "eve"):
            cardholders.add(
                connection,
                Cardholder(
                    id=CardholderId(person),
                    site_id=SITE,
                    category=Category.RESIDENT,
                    given_name=person,
                    family_name="Example",
                    access_level_ids=(),
                    created_at=NOW,
                ),
            )
    yield found
    found.close()


def job(number: int, person: str = "ama", station: StationId = DESK) -> IssuingJob:
    return IssuingJob(
        id=f"{number:032x}",
        site_id=SITE,
        station_id=station,
        cardholder_id=CardholderId(person),
        technology=Technology.PKOC_V2,
        first_day=date(2027, 3, 1),
        last_day=date(2028, 2, 29),
        created_by="operator:nadia",
        created_at=NOW,
    )


def test_a_job_comes_back_as_it_was_stored(database: Database) -> None:
    """Each field, also those that stand empty at first."""
    full = replace(
        job(1),
        state=JobState.DONE,
        step=Step.CHECKED,
        attempt="ab" * 16,
        lease_until=NOW,
        failure=Failure.TORN,
        credential_id=CredentialId(bytes(16)),
        ended_at=NOW + SECOND,
    )
    with database.write() as connection:
        stored = issuing.add(connection, job(1))
        assert issuing.get(connection, stored.id) == stored
        changed = issuing.change(connection, replace(full, number=stored.number))
        assert issuing.get(connection, stored.id) == changed
        assert issuing.list_all(connection, [SITE]) == [changed]
        assert issuing.list_all(connection, []) == []


def test_a_station_holds_one_job_at_a_time_and_the_oldest_first(database: Database) -> None:
    """Another station's are not its own; while its lease runs it gets nothing, after it the same job under a new attempt."""
    with database.write() as connection:
        for number, person in enumerate(("ama", "ben")):
            issuing.add(connection, job(number, person))
        assert issuing.take(connection, OTHER, NOW) is None
        first = issuing.take(connection, DESK, NOW)
        assert first is not None
        assert (first.cardholder_id, first.state) == ("ama", JobState.TAKEN)
        assert issuing.take(connection, DESK, NOW + LEASE) is None
        later = NOW + LEASE + SECOND
        assert first.is_interrupted(later)
        again = issuing.take(connection, DESK, later)
        assert again is not None
        assert again.id == first.id
        assert again.attempt != first.attempt
        issuing.change(connection, replace(again, state=JobState.CANCELLED, ended_at=later))
        second = issuing.take(connection, DESK, later)
        assert second is not None
        assert second.cardholder_id == "ben"


def test_who_is_forgotten_gets_no_card(database: Database) -> None:
    """An open job ends with the person; one that has ended stays as it was."""
    with database.write() as connection:
        ended = issuing.add(connection, replace(job(1), state=JobState.FAILED, ended_at=NOW))
        waiting = issuing.add(connection, job(2))
        others = issuing.add(connection, job(3, "ben"))
        erasure.erase(connection, CardholderId("ama"), reason="asked", actor="operator:nadia", now=NOW)
        found = issuing.get(connection, waiting.id)
        assert (found.state, found.failure, found.ended_at) == (
            JobState.CANCELLED,
            Failure.PERSON_ERASED,
            NOW,
        )
        assert issuing.get(connection, ended.id) == ended
        assert issuing.get(connection, others.id).is_open


def test_jobs_are_let_go_of_after_their_time(database: Database) -> None:
    """Those that ended before, so many at a time; an open one stays."""
    with database.write() as connection:
        for number, ago in enumerate((3, 2, 1)):
            ended = replace(job(number), state=JobState.DONE, ended_at=NOW - ago * SECOND)
            issuing.add(connection, ended)
        issuing.add(connection, job(9, "ben"))
        assert issuing.remove_before(connection, NOW - SECOND, (), 1) == 1
        assert issuing.remove_before(connection, NOW - SECOND, (), 9) == 1
        assert issuing.remove_before(connection, NOW - SECOND, (), 9) == 0
        assert len(issuing.list_all(connection)) == 2


def test_the_stock_is_the_sum_of_what_came_and_went(database: Database) -> None:
    """A card takes one from it only where a stock of its kind is kept; sites and kinds are apart."""
    v2, v1 = Technology.PKOC_V2, Technology.PKOC_V1
    with database.write() as connection:
        card_stock.take_one(connection, SITE, v2, StockCause.ISSUED, made_by="station:desk", now=NOW)
        assert card_stock.balances(connection) == {}
        received = StockMovement(
            site_id=SITE,
            technology=v2,
            cards=50,
            cause=StockCause.RECEIVED,
            reason="delivery",
            made_by="operator:nadia",
            at=NOW,
        )
        card_stock.add(connection, received)
        for kind in (v2, v1, v2):
            card_stock.take_one(connection, SITE, kind, StockCause.ISSUED, made_by="station:desk", now=NOW)
        assert card_stock.balances(connection, [SITE]) == {SITE: {v2: 48}}
        assert card_stock.balances(connection, []) == {}
        moved = card_stock.newest(connection, [SITE], limit=9)
    assert [each.cards for each in moved] == [-1, -1, 50]
    assert moved[-1] == received
