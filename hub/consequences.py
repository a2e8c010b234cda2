"""What a change to access levels or schedules does to people, before it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, unique
from typing import TypeAlias

from sqlalchemy import Connection

from hub.store import access_levels, doors, schedules
from hub.store.access_levels import NamedLevel
from pacs.identifiers import AccessLevelId, DoorId, ScheduleId, SiteId
from pacs.rules import AccessLevel
from pacs.schedule import Schedule, Window

HOLIDAY = 7
"""Stands behind the weekdays 0 to 6."""
Hours: TypeAlias = frozenset[tuple[int, int, int]]
"""Day it begins on, first minute, minute it ends before: no two of a day touch."""
Opens: TypeAlias = Mapping[AccessLevelId, Mapping[DoorId, frozenset[ScheduleId]]]


@unique
class Change(StrEnum):
    """What becomes of somebody's access to a door."""

    LOST = "lost"
    GAINED = "gained"
    OTHER_HOURS = "other_hours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequence:
    """How many people's access to a door changes in this way."""

    door_id: DoorId
    change: Change
    people: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Who may when, at one site; without doors' own rules and without dates."""

    opens: Opens
    schedules: Mapping[ScheduleId, Schedule]

    def hours(self, held: Iterable[AccessLevelId]) -> dict[DoorId, Hours]:
        """When a holder of these levels is let in, by door; not the doors where it is never."""
        through: dict[DoorId, set[ScheduleId]] = {}
        for level_id in held:
            for door_id, timed in self.opens.get(level_id, {}).items():
                through.setdefault(door_id, set()).update(timed)
        found = {
            door_id: hours_of(map(self.schedules.__getitem__, timed)) for door_id, timed in through.items()
        }
        return {door_id: hours for door_id, hours in found.items() if hours}

    def with_level(self, level: AccessLevel) -> Rules:
        """The same, with this level as it is here."""
        return replace(self, opens={**self.opens, level.id: _opens(level)})

    def with_schedule(self, schedule: Schedule) -> Rules:
        """The same, with this schedule as it is here."""
        return replace(self, schedules={**self.schedules, schedule.id: schedule})


def rules_of(connection: Connection, site_id: SiteId) -> Rules:
    """The rules of a site as they are stored."""
    levels: list[NamedLevel] = access_levels.list_all(connection, (site_id,))
    timed = schedules.list_all(connection, (site_id,))
    return Rules(
        opens={each.level.id: _opens(each.level) for each in levels},
        schedules={each.schedule.id: each.schedule for each in timed},
    )


def of_level(connection: Connection, level: AccessLevel, now: datetime) -> list[Consequence]:
    """What it would do to make a stored level this one; raises ``NotFound`` when it is not there."""
    before = rules_of(connection, access_levels.get(connection, level.id).site_id)
    people = access_levels.held_with(connection, (level.id,), now)
    return consequences(people, before, before.with_level(level))


def of_schedule(connection: Connection, schedule: Schedule, now: datetime) -> list[Consequence]:
    """What it would do to make a stored schedule this one; raises ``NotFound`` when it is not there."""
    before = rules_of(connection, schedules.get(connection, schedule.id).site_id)
    using = [level_id for level_id, through in before.opens.items() if _names(through, schedule.id)]
    people = access_levels.held_with(connection, using, now)
    return consequences(people, before, before.with_schedule(schedule))


def doors_led_by(connection: Connection, schedule_id: ScheduleId) -> list[DoorId]:
    """The doors of which a schedule sets the mode, by id."""
    site_id = schedules.get(connection, schedule_id).site_id
    return [
        each.door.id
        for each in doors.list_all(connection, sites=(site_id,))
        if any(rule.schedule_id == schedule_id for rule in each.door.mode_rules)
    ]


def consequences(
    people: Iterable[Collection[AccessLevelId]], before: Rules, after: Rules
) -> list[Consequence]:
    """How many of these people, each given by the levels they hold, lose, gain or have otherwise which door."""
    found: Counter[tuple[DoorId, Change]] = Counter()
    for held, count in Counter(map(frozenset, people)).items():
        for door_id, change in _changes(before.hours(held), after.hours(held)):
            found[door_id, change] += count
    return [
        Consequence(door_id=door_id, change=change, people=count)
        for (door_id, change), count in sorted(found.items())
    ]


def hours_of(timed: Iterable[Schedule]) -> Hours:
    """When one of these schedules holds at least."""
    windows: dict[int, list[Window]] = {}
    for schedule in timed:
        for window in schedule.windows:
            for day in window.weekdays:
                windows.setdefault(day, []).append(window)
        windows.setdefault(HOLIDAY, []).extend(schedule.holiday_windows)
    return frozenset((day, start, end) for day, found in windows.items() for start, end in _merged(found))


def _merged(windows: Iterable[Window]) -> Iterator[tuple[int, int]]:
    start = end = -1
    for each in sorted(windows, key=lambda window: window.start_minute):
        if each.start_minute > end:
            if end >= 0:
                yield start, end
            start, end = each.start_minute, each.end_minute
        end = max(end, each.end_minute)
    if end >= 0:
        yield start, end


def _changes(
    before: Mapping[DoorId, Hours], after: Mapping[DoorId, Hours]
) -> Iterator[tuple[DoorId, Change]]:
    for door_id in before.keys() | after.keys():
        if door_id not in after:
            yield door_id, Change.LOST
        elif door_id not in before:
            yield door_id, Change.GAINED
        elif before[door_id] != after[door_id]:
            yield door_id, Change.OTHER_HOURS


def _opens(level: AccessLevel) -> dict[DoorId, frozenset[ScheduleId]]:
    found: dict[DoorId, set[ScheduleId]] = {}
    for rule in level.rules:
        found.setdefault(rule.door_id, set()).add(rule.schedule_id)
    return {door_id: frozenset(timed) for door_id, timed in found.items()}


def _names(through: Mapping[DoorId, frozenset[ScheduleId]], schedule_id: ScheduleId) -> bool:
    return any(schedule_id in timed for timed in through.values())
