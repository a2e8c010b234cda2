"""When a rule holds: weekdays, holidays, midnight, and the two nights a year the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.errors import MalformedData
from pacs.identifiers import ScheduleId
from pacs.schedule import ALWAYS, Schedule, Window, is_active, local_time
from tests.pacs import strategies as own

WEEK = frozenset(range(5))


def _schedule(*windows: Window, holiday: tuple[Window, ...] = ()) -> Schedule:
    return Schedule(id=ScheduleId("s"), windows=windows, holiday_windows=holiday)


def _window(start: str, end: str, days: frozenset[int] = WEEK, *, next_day: bool = False) -> Window:
    def minutes(text: str) -> int:
        return int(text[:2]) * 60 + int(text[3:])

    return Window(
        weekdays=days, start_minute=minutes(start), end_minute=minutes(end) + (1440 if next_day else 0)
    )


OFFICE = _schedule(_window("08:00", "17:30"), holiday=(_window("10:00", "12:00"),))
NIGHT = _schedule(_window("22:00", "06:00", next_day=True))
HOLIDAYS = frozenset({date(2026, 12, 25)})  # a Friday


@pytest.mark.parametrize(
    ("schedule", "local", "active"),
    [
        (OFFICE, "2026-11-20 07:59", False),
        (OFFICE, "2026-11-20 08:00", True),
        (OFFICE, "2026-11-20 17:29", True),
        (OFFICE, "2026-11-20 17:30", False),
        (OFFICE, "2026-11-21 12:00", False),
        (OFFICE, "2026-12-25 08:00", False),
        (OFFICE, "2026-12-25 10:00", True),
        (NIGHT, "2026-11-20 21:59", False),
        (NIGHT, "2026-11-20 22:00", True),
        (NIGHT, "2026-11-21 00:00", True),
        (NIGHT, "2026-11-21 05:59", True),
        (NIGHT, "2026-11-21 06:00", False),
        (NIGHT, "2026-11-21 22:00", False),
        (NIGHT, "2026-11-22 01:00", False),
        (NIGHT, "2026-12-25 01:00", True),
        (NIGHT, "2026-12-25 22:00", False),
        (NIGHT, "2026-12-26 01:00", False),
        (_schedule(ALWAYS), "2026-11-22 00:00", True),
        (_schedule(ALWAYS), "2026-12-25 12:00", False),
        (_schedule(), "2026-11-20 12:00", False),
    ],
)
def test_windows(schedule: Schedule, local: str, active: bool) -> None:
    """A window includes its first minute, excludes its last, and belongs to the day it starts on."""
    assert is_active(schedule, datetime.fromisoformat(local), HOLIDAYS) is active


@pytest.mark.parametrize(
    ("zone", "utc", "window", "active"),
    [
        # 2026-03-29 01:00 UTC: Amsterdam goes from 02:00 to 03:00
        ("Europe/Amsterdam", "2026-03-29T00:59", ("01:00", "02:00"), True),
        ("Europe/Amsterdam", "2026-03-29T01:00", ("02:00", "03:00"), False),
        ("Europe/Amsterdam", "2026-03-29T01:00", ("03:00", "04:00"), True),
        # 2026-10-25 01:00 UTC: Amsterdam goes from 03:00 back to 02:00
        ("Europe/Amsterdam", "2026-10-25T00:30", ("02:00", "03:00"), True),
        ("Europe/Amsterdam", "2026-10-25T01:30", ("02:00", "03:00"), True),
        ("Europe/Amsterdam", "2026-10-25T02:00", ("02:00", "03:00"), False),
        ("America/St_Johns", "2026-11-20T03:29", ("23:30", "24:00"), True),
        ("Asia/Kathmandu", "2026-11-20T18:14", ("23:59", "24:00"), True),
        ("Asia/Kathmandu", "2026-11-20T18:15", ("00:00", "00:01"), True),
        ("Pacific/Kiritimati", "2026-11-20T10:00", ("00:00", "00:01"), True),
    ],
)
def test_wall_clock(zone: str, utc: str, window: tuple[str, str], active: bool) -> None:
    """What counts is what the clock on the site's wall shows."""
    schedule = _schedule(_window(*window, days=frozenset(range(7))))
    at = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert is_active(schedule, local_time(at, zone), frozenset()) is active


@given(window=own.windows(), start=own.moments, zone=st.sampled_from(["Europe/Amsterdam", "Asia/Kolkata"]))
def test_a_window_is_open_for_no_longer_than_it_says(window: Window, start: datetime, zone: str) -> None:
    """Over any day, a window is active exactly in the minutes it names, seen from the wall clock."""
    schedule = _schedule(window)
    for hours in range(0, 48, 5):
        local = local_time(start + timedelta(hours=hours), zone)
        minute = local.hour * 60 + local.minute
        today = local.weekday() in window.weekdays and window.start_minute <= minute < window.end_minute
        yesterday = (local.weekday() - 1) % 7 in window.weekdays and minute + 1440 < window.end_minute
        assert is_active(schedule, local, frozenset()) is (today or yesterday)


@pytest.mark.parametrize(
    ("days", "start", "end"), [({7}, 0, 10), ({0}, -1, 10), ({0}, 1440, 1450), ({0}, 10, 10), ({0}, 10, 1451)]
)
def test_impossible_windows_are_refused(days: set[int], start: int, end: int) -> None:
    """A window that makes no sense cannot be built."""
    with pytest.raises(MalformedData):
        Window(weekdays=frozenset(days), start_minute=start, end_minute=end)


@pytest.mark.parametrize("name", ["Nowhere/Land", "../../etc/passwd", "", "a" * 300, "\0"])
def test_unknown_time_zones_are_refused(name: str) -> None:
    """A time zone that is not known here is a malformed policy, not a crash at the door."""
    with pytest.raises(MalformedData):
        local_time(datetime(2026, 1, 1, tzinfo=UTC), name)
