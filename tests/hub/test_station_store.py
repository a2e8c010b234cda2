"""For which times a station is known to have worked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub.store import stations
from hub.store.database import Database
from hub.store.stations import SILENT_AFTER, Station, StationKind
from pacs.identifiers import StationId
from tests.hub.databases import SITE, fresh_database, make_site

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = fresh_database(tmp_path / "hub.sqlite")
    with found.write() as connection:
        make_site(connection)
        station = Station(
            id=StationId("kiosk"), site_id=SITE, kind=StationKind.KIOSK, name="Kiosk", created_at=NOW
        )
        stations.add(connection, station, b"hash")
    yield found
    found.close()


def test_a_record_is_whole_only_while_the_station_was_heard(database: Database) -> None:
    """One interval while it is heard often enough; a silence or another run ends it, and nothing is claimed between."""
    kiosk, day = StationId("kiosk"), timedelta(days=1)
    heard = [("a", 0), ("a", 20), ("a", 60), ("b", 70), ("b", 70 + 61), ("b", 150)]
    with database.write() as connection:
        for run, at_s in heard:
            stations.heard(connection, kiosk, run, NOW + at_s * SECOND)
    with database.read() as connection:
        found = stations.intervals(connection, kiosk, NOW - day, NOW + day)
        assert [((each.begins_at - NOW) // SECOND, (each.ends_at - NOW) // SECOND) for each in found] == [
            (0, 60),
            (70, 70),
            (131, 150),
        ]
        (cut,) = stations.intervals(connection, kiosk, NOW + 10 * SECOND, NOW + 30 * SECOND)
        assert (cut.begins_at, cut.ends_at) == (NOW + 10 * SECOND, NOW + 30 * SECOND)
        station = stations.get(connection, kiosk)
        assert station.is_heard(NOW + 150 * SECOND + SILENT_AFTER)
        assert not station.is_heard(NOW + 151 * SECOND + SILENT_AFTER)


def test_what_is_older_than_a_year_is_forgotten(database: Database) -> None:
    """Intervals, when a new one begins."""
    kiosk = StationId("kiosk")
    with database.write() as connection:
        stations.heard(connection, kiosk, "a", NOW - stations.KEPT - SECOND)
        stations.heard(connection, kiosk, "b", NOW)
        found = stations.intervals(connection, kiosk, NOW - 2 * stations.KEPT, NOW + SECOND)
    assert [each.begins_at for each in found] == [NOW]


def test_a_clock_that_was_set_back_claims_nothing(database: Database) -> None:
    """Intervals never grow backwards."""
    kiosk = StationId("kiosk")
    with database.write() as connection:
        for at_s in (0, 30, -500, 40):
            stations.heard(connection, kiosk, "a", NOW + at_s * SECOND)
        (found,) = stations.intervals(connection, kiosk, NOW - timedelta(days=1), NOW + timedelta(days=1))
    assert (found.begins_at, found.ends_at) == (NOW, NOW + 40 * SECOND)


def test_a_challenge_is_answered_once(database: Database) -> None:
    """By its own station; a newer one voids it."""
    kiosk = StationId("kiosk")
    with database.write() as connection:
        stations.set_challenge(connection, kiosk, b"a" * 16, NOW)
        assert stations.use_challenge(connection, StationId("other"), b"a" * 16) is None
        assert stations.use_challenge(connection, kiosk, b"b" * 16) is None
        assert stations.use_challenge(connection, kiosk, b"a" * 16) == NOW
        assert stations.use_challenge(connection, kiosk, b"a" * 16) is None
        stations.set_challenge(connection, kiosk, b"a" * 16, NOW)
        stations.set_challenge(connection, kiosk, b"c" * 16, NOW)
        assert stations.use_challenge(connection, kiosk, b"a" * 16) is None
