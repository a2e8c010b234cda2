"""When a rule holds: weekdays, holidays, midnight, and the two nights a year the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.errors import MalformedData
from pacs.identifiers import ScheduleId
from pacs.schedule import ALWAYS, Schedule, Window, active_since, local_time, wall_moment
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
EVERY_DAY = frozenset(range(7))
NIGHTS = _schedule(_window("22:00", "06:00", EVERY_DAY, next_day=True))
AFTER_MIDNIGHT = _schedule(_window("00:00", "01:00", EVERY_DAY))
BEFORE_MIDNIGHT = _schedule(_window("23:00", "24:00", EVERY_DAY))
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
    assert (active_since(schedule, datetime.fromisoformat(local), HOLIDAYS) is not None) is active


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
    assert (active_since(schedule, local_time(at, zone), frozenset()) is not None) is active


CLOCK_CHANGES = [
    # zone, window on Saturday/Sunday wall clock, UTC moment, active
    # a night shift 22:00-06:00 over the night the clocks go forward is 7 hours long, over the one they go back 9
    ("Europe/Amsterdam", NIGHTS, "2026-03-28T20:59", False),
    ("Europe/Amsterdam", NIGHTS, "2026-03-28T21:00", True),
    ("Europe/Amsterdam", NIGHTS, "2026-03-29T03:59", True),
    ("Europe/Amsterdam", NIGHTS, "2026-03-29T04:00", False),
    ("Europe/Amsterdam", NIGHTS, "2026-10-24T20:00", True),
    ("Europe/Amsterdam", NIGHTS, "2026-10-25T04:59", True),
    ("Europe/Amsterdam", NIGHTS, "2026-10-25T05:00", False),
    ("America/New_York", NIGHTS, "2026-03-08T09:59", True),
    ("America/New_York", NIGHTS, "2026-03-08T10:00", False),
    ("America/New_York", NIGHTS, "2026-11-01T10:59", True),
    ("America/New_York", NIGHTS, "2026-11-01T11:00", False),
    # the southern hemisphere changes the other way round
    ("Australia/Sydney", NIGHTS, "2026-10-03T18:59", True),
    ("Australia/Sydney", NIGHTS, "2026-10-03T19:00", False),
    # Lord Howe Island moves its clocks by half an hour
    ("Australia/Lord_Howe", NIGHTS, "2026-10-03T18:59", True),
    ("Australia/Lord_Howe", NIGHTS, "2026-10-03T19:00", False),
    ("Australia/Lord_Howe", NIGHTS, "2026-04-04T19:29", True),
    ("Australia/Lord_Howe", NIGHTS, "2026-04-04T19:30", False),
    # in Santiago the skipped hour is the one after midnight, and the repeated one the one before
    ("America/Santiago", AFTER_MIDNIGHT, "2026-09-06T03:59", False),
    ("America/Santiago", AFTER_MIDNIGHT, "2026-09-06T04:00", False),
    ("America/Santiago", BEFORE_MIDNIGHT, "2026-04-05T02:30", True),
    ("America/Santiago", BEFORE_MIDNIGHT, "2026-04-05T03:30", True),
    ("America/Santiago", BEFORE_MIDNIGHT, "2026-04-05T04:00", False),
    # zones that are not whole hours from Greenwich
    ("Pacific/Chatham", NIGHTS, "2026-06-15T09:14", False),
    ("Pacific/Chatham", NIGHTS, "2026-06-15T09:15", True),
    ("Asia/Kolkata", NIGHTS, "2026-06-15T16:29", False),
    ("Asia/Kolkata", NIGHTS, "2026-06-15T16:30", True),
    # a whole day that never was: Apia went from 29 to 31 December 2011
    ("Pacific/Apia", NIGHTS, "2011-12-30T09:30", True),
    ("Pacific/Apia", NIGHTS, "2011-12-30T10:30", True),
    ("Pacific/Apia", NIGHTS, "2011-12-30T16:00", False),
]


@pytest.mark.parametrize(("zone", "schedule", "utc", "active"), CLOCK_CHANGES)
def test_nights_on_which_the_clocks_change(zone: str, schedule: Schedule, utc: str, active: bool) -> None:
    """A night is as long as the wall clock makes it, in every zone and in both directions."""
    at = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert (active_since(schedule, local_time(at, zone), frozenset()) is not None) is active


@pytest.mark.parametrize(
    ("zone", "utc", "since"),
    [
        ("UTC", "2026-11-20T23:00", "2026-11-20T22:00+00:00"),
        ("UTC", "2026-11-21T05:59", "2026-11-20T22:00+00:00"),
        ("Europe/Amsterdam", "2026-03-29T03:30", "2026-03-28T21:00+00:00"),
        ("Europe/Amsterdam", "2026-10-25T04:30", "2026-10-24T20:00+00:00"),
        ("Asia/Kathmandu", "2026-11-20T18:30", "2026-11-20T16:15+00:00"),
        ("UTC", "2026-11-20T12:00", None),
    ],
)
def test_when_a_window_began(zone: str, utc: str, since: str | None) -> None:
    """A window began at its first minute on the wall clock, also before midnight and before a clock change."""
    at = datetime.fromisoformat(utc).replace(tzinfo=UTC)
    found = active_since(NIGHTS, local_time(at, zone), frozenset())
    assert found == (datetime.fromisoformat(since) if since else None)


def test_of_overlapping_windows_the_latest_began() -> None:
    """Where two windows cover a moment, the one that began last says since when."""
    schedule = _schedule(_window("08:00", "18:00"), _window("12:00", "14:00"))
    found = active_since(schedule, datetime.fromisoformat("2026-11-20 13:00"), frozenset())
    assert found == datetime.fromisoformat("2026-11-20 12:00")


@given(
    schedule=st.builds(
        _schedule, own.windows(), own.windows(), holiday=st.lists(own.windows(), max_size=1).map(tuple)
    ),
    at=own.moments,
    name=st.sampled_from(
        ["Europe/Amsterdam", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"]
    ),
    holiday_ahead=st.integers(min_value=-1, max_value=1),
)
def test_active_and_since_agree(schedule: Schedule, at: datetime, name: str, holiday_ahead: int) -> None:
    """A schedule is active exactly when a window began, not later than this moment and no more than a day before."""
    local = local_time(at, name)
    holidays = frozenset({local.date() + timedelta(days=holiday_ahead)})
    since = active_since(schedule, local, holidays)
    assert (active_since(schedule, local, holidays) is not None) is (since is not None)
    if since is not None:
        assert since.replace(tzinfo=None) <= local.replace(tzinfo=None)
        assert local.replace(tzinfo=None) - since.replace(tzinfo=None) < timedelta(days=1)


@given(window=own.windows(), start=own.moments, zone=st.sampled_from(["Europe/Amsterdam", "Asia/Kolkata"]))
def test_a_window_is_open_for_no_longer_than_it_says(window: Window, start: datetime, zone: str) -> None:
    """Over any day, a window is active exactly in the minutes it names, seen from the wall clock."""
    schedule = _schedule(window)
    for hours in range(0, 48, 5):
        local = local_time(start + timedelta(hours=hours), zone)
        minute = local.hour * 60 + local.minute
        today = local.weekday() in window.weekdays and window.start_minute <= minute < window.end_minute
        yesterday = (local.weekday() - 1) % 7 in window.weekdays and minute + 1440 < window.end_minute
        assert (active_since(schedule, local, frozenset()) is not None) is (today or yesterday)


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


@given(
    day=st.dates(date(2000, 1, 1), date(2040, 1, 1)),
    minute=st.integers(0, 2880),
    zone_name=st.sampled_from(
        ["Europe/Amsterdam", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe", "UTC"]
    ),
    last=st.booleans(),
)
def test_a_moment_is_when_the_wall_clock_shows_it(day: date, minute: int, zone_name: str, last: bool) -> None:
    """At that moment the clock shows that minute, or a later one where the minute is skipped, and a second before an earlier one."""
    wanted = datetime.combine(day, time.min) + timedelta(minutes=minute)
    at = wall_moment(day, minute, zone_name, last=last)
    shows = local_time(at, zone_name).replace(tzinfo=None)
    assert at.tzinfo is UTC
    assert shows >= wanted
    before = local_time(at - timedelta(seconds=1), zone_name).replace(tzinfo=None)
    if shows != wanted:
        assert before < wanted


@pytest.mark.parametrize(
    ("day", "minute", "last", "expected"),
    [
        (date(2026, 3, 29), 150, False, datetime(2026, 3, 29, 1, tzinfo=UTC)),
        (date(2026, 10, 25), 150, False, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        (date(2026, 10, 25), 150, True, datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        (date(2026, 10, 24), 1590, True, datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_on_the_nights_the_clocks_change(
    day: date, minute: int, last: bool, expected: datetime
) -> None:
    """What is skipped is when the clocks go forward; what comes twice, its first time or its last."""
    assert wall_moment(day, minute, "Europe/Amsterdam", last=last) == expected
