"""Numbers of taps outlive the events they were counted from, and so does for which times they are everything."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hub import completeness, statistics
from hub import holds as hold_rules
from hub.completeness import Cause
from hub.periods import Periods
from hub.retention import Retention
from hub.statistics import Cell
from hub.store import controllers, journals, totals
from hub.store.events import hour
from hub.store.journals import Anomaly, AnomalyKind
from hub.store.schema import events as event_rows
from hub.store.schema import tap_totals
from pacs.events import EventKind
from pacs.identifiers import DoorId
from tests.hub.test_retention import ADA, BEN, DAY, FRONT, GATE, HOUR, MANAGER, NOW, ROOM, Archive

BEGIN, END = NOW - 100 * DAY, NOW + 200 * DAY


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    yield archive
    archive.database.close()


def published(archive: Archive) -> dict[Cell, int | None]:
    """What statistics say of all times."""
    with archive.database.read() as connection:
        found = totals.between(connection, since=BEGIN, until=END)
    return statistics.published(
        {Cell(door_id=door, outcome=kind, hour=at): taps for (door, kind, at), taps in found.items()}
    )


def tapped_often(archive: Archive) -> Counter[tuple[DoorId, datetime]]:
    """Taps at two doors in some hours of 40 days; how many in each."""
    chosen = random.Random(7)
    counted: Counter[tuple[DoorId, datetime]] = Counter()
    for _ in range(24):
        ago = timedelta(hours=chosen.choice([5, 71, 75, 200, 700, 725, 900]), minutes=chosen.randrange(50))
        door, times = chosen.choice([FRONT, ROOM]), chosen.choice([1, 4, 7])
        for _ in range(times):
            archive.tapped(ago, door=door, who=chosen.choice([ADA, BEN]))
        counted[door, hour(archive.now - ago)] += times
    archive.tapped(3 * HOUR, clock_trusted=False)
    return counted


def test_statistics_are_the_same_before_and_after_retention(archive: Archive) -> None:
    """Precise, coarse or gone: each number stays, few stay few, and what few were is not kept."""
    counted = tapped_often(archive)
    before = published(archive)
    assert {(cell.door_id, cell.hour): taps for cell, taps in before.items()} == {
        cell: taps if taps >= statistics.THRESHOLD else None for cell, taps in counted.items()
    }
    for later in (timedelta(), 2 * HOUR, 70 * HOUR, 20 * DAY, 40 * DAY):
        archive.now = NOW + later
        archive.job.run()
        assert published(archive) == before, later
    with archive.database.read() as connection:
        assert len(connection.execute(select(event_rows)).all()) == 1
        kept = list(connection.scalars(select(tap_totals.c.taps)))
    assert None in kept
    assert min(taps for taps in kept if taps is not None) >= statistics.THRESHOLD
    archive.now = NOW + 800 * DAY
    archive.job.run()
    assert published(archive) == {}


@pytest.mark.parametrize("stops_at", [2, 3, 4, 5])
def test_nothing_is_counted_twice_or_not_at_all_whatever_stops(archive: Archive, stops_at: int) -> None:
    """A run that ends anywhere, and the next one, leave the numbers that one run leaves."""
    tapped_often(archive)
    before, looks = published(archive), 0

    def clock() -> datetime:
        nonlocal looks
        looks += 1
        if looks == stops_at:
            raise RuntimeError("the power is out")
        return archive.now

    job = Retention(archive.database, Periods(), clock=clock, site_changed=lambda: None)
    with pytest.raises(RuntimeError, match="power"):
        job.run()
    assert published(archive) == before
    job.run()
    assert published(archive) == before


def test_what_is_held_is_counted_once(archive: Archive) -> None:
    """While it is held, and when it goes after all."""
    for _ in range(6):
        archive.tapped(80 * HOUR, who=ADA)
        archive.tapped(80 * HOUR, who=BEN)
    hold = archive.hold(cardholder_id=ADA)
    archive.job.run()
    assert set(published(archive).values()) == {12}
    archive.now += 40 * DAY
    archive.tapped(timedelta(), kind=EventKind.DOOR_FORCED)
    archive.job.run()
    assert set(published(archive).values()) == {12}
    with archive.database.write() as connection:
        hold_rules.lift(connection, hold.id, reason="settled", actor=MANAGER, now=archive.now)
    archive.job.run()
    assert set(published(archive).values()) == {12}


def test_a_hole_outlives_what_told_of_it(archive: Archive) -> None:
    """Nothing was counted in it: long after, too, that is unknown and not nobody (rule R2); the rest stays proven."""
    hole = (NOW - 20 * DAY, NOW - 19 * DAY)
    with archive.database.write() as connection:
        gap = Anomaly(
            controller_id=GATE,
            kind=AnomalyKind.JOURNAL_GAP,
            detail="",
            at=hole[1],
            has_hole=True,
            unknown_from=hole[0],
            unknown_until=hole[1],
        )
        journals.record(connection, gap)
        connection.execute(event_rows.metadata.tables["doors"].update().values(created_at=NOW - 25 * DAY))
    for days in range(0, 61, 6):
        archive.now = NOW + days * DAY
        with archive.database.write() as connection:
            controllers.saw(connection, GATE, archive.now, online=True)
            controllers.said(
                connection, GATE, journal_id="j", last_sequence=0, complete_until=archive.now, hello_at=NOW
            )
        archive.job.run()
        with archive.database.read() as connection:
            front = completeness.counted(
                connection, archive.now, since=NOW - 26 * DAY, until=archive.now, door_ids=[FRONT]
            )[0]
            left = journals.list_anomalies(connection, only_holes=True)
        assert [(each.since, each.until) for each in front.known] == [
            (NOW - 25 * DAY, hole[0]),
            (hole[1], archive.now),
        ], days
    assert left == []
    assert [(each.since, each.until, each.cause) for each in front.unknown] == [
        (NOW - 26 * DAY, NOW - 25 * DAY, Cause.NOT_THERE_YET),
        (*hole, Cause.NOT_WHOLE),
    ]
