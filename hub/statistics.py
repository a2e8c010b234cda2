"""Counts of taps without persons: by door, hour and outcome, small numbers hidden.

The one thing that is ever published is the number of one door, outcome and ended hour, and not when it is from 1 to
``THRESHOLD`` - 1. Every sum is made of what is published, so no difference of sums gives away what is hidden.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from zoneinfo import ZoneInfo

from pacs.identifiers import DoorId

THRESHOLD = 5
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


def published(counts: Mapping[Cell, int]) -> dict[Cell, int | None]:
    """Each number, None for one that is hidden."""
    return {cell: None if 0 < count < THRESHOLD else count for cell, count in counts.items()}


def sums(
    cells: Mapping[Cell, int | None], per: Per, zone: ZoneInfo
) -> dict[tuple[DoorId, str, datetime], Sum]:
    """What is published, by door, outcome and the beginning of each hour, day or week."""
    known: dict[tuple[DoorId, str, datetime], int] = defaultdict(int)
    hidden: dict[tuple[DoorId, str, datetime], int] = defaultdict(int)
    for cell, count in cells.items():
        key = cell.door_id, cell.outcome, per.begin(cell.hour, zone)
        known[key] += count or 0
        hidden[key] += count is None
    return {key: Sum(at_least=known[key], hidden=hidden[key]) for key in known}


def whole_hours(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """The ended hours between, so that nobody compares a part of an hour with the whole."""
    begins = _hour(since)
    return (begins if begins == since else begins + HOUR), _hour(until)


def counted(taps: Iterable[tuple[DoorId, str, datetime]]) -> dict[Cell, int]:
    """How many of these taps lie in each hour."""
    found: dict[Cell, int] = defaultdict(int)
    for door_id, outcome, at in taps:
        found[Cell(door_id=door_id, outcome=outcome, hour=_hour(at))] += 1
    return dict(found)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
