from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from hub.roles import Role
from hub.statistics import THRESHOLD, Cell, Per, published, sums, whole_hours
from pacs.events import EventKind
from pacs.identifiers import DoorId
from tests.hub.running import running_hub

NOW = datetime(2026, 3, 28, 22, 0, tzinfo=UTC)  # a night in which the clocks change
ZONE = ZoneInfo("Europe/Amsterdam")
HOUR = timedelta(hours=1)

cells = st.builds(
    Cell,
    door_id=st.sampled_from([DoorId("front"), DoorId("back")]),
    outcome=st.sampled_from(["granted", "denied"]),
    hour=st.integers(0, 200).map(lambda hours: NOW + hours * HOUR),
)
tables = st.dictionaries(cells, st.integers(0, 12), max_size=30)


@given(table=tables, others=st.lists(st.integers(1, THRESHOLD - 1), min_size=30, max_size=30))
def test_nothing_that_is_published_depends_on_what_is_hidden(
    table: dict[Cell, int], others: list[int]
) -> None:
    """For any counts: put other small numbers in place of the hidden ones, and no number of any sum changes."""
    another = {
        cell: other if 0 < count < THRESHOLD else count
        for (cell, count), other in zip(table.items(), others, strict=False)
    }
    for per in Per:
        assert sums(published(table), per, lambda _: ZONE) == sums(published(another), per, lambda _: ZONE)


@given(table=tables)
def test_every_sum_is_of_what_is_shown(table: dict[Cell, int]) -> None:
    """Days and weeks are on the site's clock, hold every hour once, and never claim more than there was."""
    for per in Per:
        found = sums(published(table), per, lambda _: ZONE)
        assert sum(each.at_least for each in found.values()) == sum(
            count for count in table.values() if count >= THRESHOLD
        )
        assert sum(each.hidden for each in found.values()) == sum(
            0 < count < THRESHOLD for count in table.values()
        )
        if per is not Per.HOUR:
            assert all(at.astimezone(ZONE).hour == 0 for _, _, at in found)


def test_only_ended_hours_are_counted() -> None:
    """A part of an hour cannot be compared with the whole: both ends move inwards."""
    assert whole_hours(NOW + timedelta(minutes=1), NOW + 3.5 * HOUR) == (NOW + HOUR, NOW + 3 * HOUR)
    assert whole_hours(NOW, NOW + HOUR) == (NOW, NOW + HOUR)


def test_a_day_in_which_the_clocks_change_is_as_long_as_it_is() -> None:
    """23 hours in spring, 25 in autumn, and a week accordingly; days begin at midnight."""
    spring, autumn = datetime(2026, 3, 29, 12, tzinfo=UTC), datetime(2026, 10, 25, 12, tzinfo=UTC)
    for moment, hours in ((spring, 23), (autumn, 25)):
        begin = Per.DAY.begin(moment, ZONE)
        assert (Per.DAY.end(begin, ZONE) - begin.astimezone(UTC)) == hours * HOUR
        begin = Per.WEEK.begin(moment, ZONE)
        assert (Per.WEEK.end(begin, ZONE) - begin.astimezone(UTC)) == (6 * 24 + hours) * HOUR


def test_counts_say_nothing_about_who_and_where_they_are_not_all(tmp_path: Path) -> None:
    """Through the interface: an hour with many taps is a number, one with few is hidden, and the gap is stated."""
    with running_hub(tmp_path) as hub:
        front = hub.door("front", "Front door")
        card, now = hub.card(), hub.clock()
        for hours, taps in ((-2, 6), (-1, 2)):
            for _ in range(taps):
                at = now + hours * HOUR
                front.record(
                    EventKind.ACCESS_GRANTED, door_id=DoorId("front"), credential_id=card, occurred_at=at
                )
        front.until_acknowledged()
        with hub.token(Role.AUDITOR) as auditor:
            hourly = auditor.get("/api/v1/statistics", params={"per": "hour"}).json()
            table = auditor.get("/api/v1/statistics/export").text
        with hub.signed_in(Role.AUDITOR) as browser:
            page = browser.get("/statistics").text
            chosen = browser.get("/statistics", params={"door": "front", "days": 366, "per": "week"})
    assert [(each["at_least"], each["hidden_hours"]) for each in hourly["counts"]] == [(6, 0), (0, 1)]
    assert not any(each["complete"] for each in hourly["counts"])  # the door was added after that
    assert str(card) not in table
    assert "not there yet" in table
    assert "Ama" not in page
    assert chosen.status_code == 200
    assert '<option value="front" selected>' in chosen.text
    assert "per=week&amp;since=" in chosen.text
    assert "<svg" in page
    assert "Front door" in page
