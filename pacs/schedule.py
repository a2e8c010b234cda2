"""Weekly schedules: when an access rule holds, on the wall clock of the site.

The only module that knows local time. A window belongs to the day it starts on; one that runs past
midnight still belongs to that day, so a holiday replaces it as a whole. What counts is what the wall
clock shows: on the night the clocks go forward the skipped hour does not exist, on the night they go back
the repeated hour counts twice.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pacs.errors import MalformedData
from pacs.identifiers import ScheduleId

DAY_MINUTES = 24 * 60
ALL_DAYS = frozenset(range(7))
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Open from ``start_minute`` to before ``end_minute``, minutes after local midnight.

    ``weekdays``: 0 Monday … 6 Sunday, the days it starts on. 0 ≤ start < 1440, start < end ≤ start + 1440;
    an end above 1440 is on the next day.
    """

    weekdays: frozenset[int]
    start_minute: int
    end_minute: int

    def __post_init__(self) -> None:
        if not self.weekdays <= ALL_DAYS:
            raise MalformedData("Window: weekdays are 0 (Monday) to 6 (Sunday)")
        if not 0 <= self.start_minute < DAY_MINUTES:
            raise MalformedData("Window: start is 0 to 1439 minutes after midnight")
        if not self.start_minute < self.end_minute <= self.start_minute + DAY_MINUTES:
            raise MalformedData("Window: end is after the start and at most 24 hours later")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Windows of an ordinary week, and those that replace them on a holiday (weekdays ignored)."""

    id: ScheduleId
    windows: tuple[Window, ...]
    holiday_windows: tuple[Window, ...] = ()


ALWAYS = Window(weekdays=ALL_DAYS, start_minute=0, end_minute=DAY_MINUTES)


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of this name; raises ``MalformedData`` when there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise MalformedData("time zone: not an IANA name known here") from error


def local_time(at: datetime, time_zone: str) -> datetime:
    """``at`` (aware) on the wall clock of ``time_zone``."""
    return at.astimezone(zone(time_zone))


def wall_moment(day: date, minute: int, time_zone: str, *, last: bool = False) -> datetime:
    """When the wall clock shows ``minute`` minutes after the midnight of ``day``; UTC.

    The first time, or the ``last``, where the clocks go back; where they go forward past it, the moment they do.
    """
    here = zone(time_zone)
    wall = datetime.combine(day, time.min) + timedelta(minutes=minute)
    first, second = (wall.replace(tzinfo=here, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return second if last else first
    after = first.astimezone(here).utcoffset()
    low, high = second, first  # skipped: read with the offset of after, and of before, the change
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        low, high = (low, middle) if middle.astimezone(here).utcoffset() == after else (middle, high)
    return high


def active_since(schedule: Schedule, local: datetime, holidays: AbstractSet[date]) -> datetime | None:
    """When the window that covers this moment began, the latest of several; None when none covers it."""
    minute = local.hour * 60 + local.minute
    for days_ago in (0, 1):
        start_day = local.date() - timedelta(days=days_ago)
        start = _start(schedule, start_day, minute + days_ago * DAY_MINUTES, holidays)
        if start is not None:
            midnight = datetime.combine(start_day, time.min, local.tzinfo)
            return midnight + timedelta(minutes=start)  # on the wall clock
    return None


def _start(schedule: Schedule, start_day: date, minute: int, holidays: AbstractSet[date]) -> int | None:
    holiday = start_day in holidays
    windows = schedule.holiday_windows if holiday else schedule.windows
    weekday = start_day.weekday()
    return max(
        (
            window.start_minute
            for window in windows
            if window.start_minute <= minute < window.end_minute and (holiday or weekday in window.weekdays)
        ),
        default=None,
    )
