"""Counts of taps without persons: by door, hour and outcome, small numbers hidden.

The one thing that is ever published is the number of one door, outcome and ended hour, and not when it is from 1 to
``THRESHOLD`` - 1. Every sum is made of what is published, so no difference of sums gives away what is hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from zoneinfo import ZoneInfo

from hub.store.schema import LEAST
from pacs.identifiers import DoorId

THRESHOLD = LEAST
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """One door, one outcome, one hour by its beginning, UTC."""

    door_id: DoorId
    outcome: str
    hour: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """``at_least`` so many taps; in ``hidden`` hours more there were a few, which are not counted."""

    at_least: int
    hidden: int


@unique
class Per(StrEnum):
    """What hours are summed over, on the site's clock."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"

    def begin(self, hour: datetime, zone: ZoneInfo) -> datetime:
        """When the hour, day or week begins that this hour lies in."""
        if self is Per.HOUR:
            return hour
        local = hour.astimezone(zone).replace(hour=0, minute=0, fold=0)
        if self is Per.WEEK:
            local -= timedelta(days=local.weekday())
        return local

    def end(self, begin: datetime, zone: ZoneInfo) -> datetime:
        """When it ends; a day in which the clocks change has 23 or 25 hours."""
        if self is Per.HOUR:
            return begin + HOUR
        days = timedelta(days=7 if self is Per.WEEK else 1)
        return (begin.astimezone(zone) + days).astimezone(UTC)


def published(counts: Mapping[Cell, int | None]) -> dict[Cell, int | None]:
    """Each number, None for one that is hidden, or of which it is not kept how many there were."""
    return {cell: None if count is None or 0 < count < THRESHOLD else count for cell, count in counts.items()}


def sums(
    cells: Mapping[Cell, int | None], per: Per, zone_of: Callable[[DoorId], ZoneInfo]
) -> dict[tuple[DoorId, str, datetime], Sum]:
    """What is published, by door, outcome and the beginning of each hour, day or week on the clock of the door's site."""
    known: dict[tuple[DoorId, str, datetime], int] = defaultdict(int)
    hidden: dict[tuple[DoorId, str, datetime], int] = defaultdict(int)
    for cell, count in cells.items():
        key = cell.door_id, cell.outcome, per.begin(cell.hour, zone_of(cell.door_id))
        known[key] += count or 0
        hidden[key] += count is None
    return {key: Sum(at_least=known[key], hidden=hidden[key]) for key in known}


def whole_hours(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The ended hours between, so that nobody compares a part of an hour with the whole."""
    begins = _hour(since)
    return (begins if begins == since else begins + HOUR), _hour(until)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
