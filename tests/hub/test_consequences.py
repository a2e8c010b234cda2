"""What a change to rules does to whom, said before it is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.consequences import Change, Consequence, Rules, consequences, hours_of
from pacs.identifiers import AccessLevelId, DoorId, ScheduleId
from pacs.rules import AccessLevel, AccessRule
from pacs.schedule import ALWAYS, Schedule, Window

RESIDENTS, STAFF = AccessLevelId("residents"), AccessLevelId("staff")
KITCHEN, HALL = DoorId("kitchen"), DoorId("hall")
DAY, LONG, NEVER = ScheduleId("day"), ScheduleId("always"), ScheduleId("never")
WEEK = frozenset(range(5))


def window(start: int, end: int, days: frozenset[int] = WEEK) -> Window:
    return Window(weekdays=days, start_minute=start, end_minute=end)


def level(level_id: AccessLevelId, *rules: tuple[DoorId, ScheduleId]) -> AccessLevel:
    return AccessLevel(
        id=level_id, rules=tuple(AccessRule(door_id=door, schedule_id=timed) for door, timed in rules)
    )


SCHEDULES = {
    DAY: Schedule(id=DAY, windows=(window(420, 1380),)),
    LONG: Schedule(id=LONG, windows=(ALWAYS,), holiday_windows=(ALWAYS,)),
    NEVER: Schedule(id=NEVER, windows=()),
}
BEFORE = (
    Rules(opens={}, schedules=SCHEDULES)
    .with_level(level(RESIDENTS, (KITCHEN, DAY), (HALL, DAY)))
    .with_level(level(STAFF, (KITCHEN, LONG)))
)
PEOPLE = [{RESIDENTS}] * 14 + [{RESIDENTS, STAFF}] * 2 + [{STAFF}]


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (BEFORE, []),
        (BEFORE.with_level(level(RESIDENTS, (HALL, DAY))), [(KITCHEN, Change.LOST, 14)]),
        (
            BEFORE.with_level(level(RESIDENTS, (KITCHEN, NEVER), (HALL, DAY))),
            [(KITCHEN, Change.LOST, 14)],
        ),
        (BEFORE.with_level(level(STAFF, (KITCHEN, LONG), (HALL, DAY))), [(HALL, Change.GAINED, 1)]),
        (
            BEFORE.with_level(level(RESIDENTS, (KITCHEN, LONG), (HALL, LONG))),
            [(HALL, Change.OTHER_HOURS, 16), (KITCHEN, Change.OTHER_HOURS, 14)],
        ),
        (
            BEFORE.with_schedule(Schedule(id=DAY, windows=())),
            [(HALL, Change.LOST, 16), (KITCHEN, Change.LOST, 14)],
        ),
        (
            BEFORE.with_schedule(Schedule(id=DAY, windows=(window(420, 720), window(720, 1380)))),
            [],
        ),
    ],
)
def test_who_loses_gains_or_has_other_hours(after: Rules, found: list[tuple[DoorId, Change, int]]) -> None:
    """Counted by what all their levels together open: who keeps a door by another level loses nothing."""
    assert consequences(PEOPLE, BEFORE, after) == [
        Consequence(door_id=door_id, change=change, people=people) for door_id, change, people in found
    ]


windows = st.builds(
    lambda day, start, length: window(start, start + length, frozenset({day})),
    st.integers(0, 6),
    st.integers(0, 1439),
    st.integers(1, 1440),
)


@given(st.lists(windows, max_size=6), st.lists(windows, max_size=3))
def test_hours_are_the_minutes_that_windows_cover(week: list[Window], special: list[Window]) -> None:
    """Whatever the windows' order and overlap, and however they are shared out among schedules."""
    together = hours_of([Schedule(id=DAY, windows=tuple(week), holiday_windows=tuple(special))])
    apart = hours_of(
        [Schedule(id=DAY, windows=(each,)) for each in reversed(week)]
        + [Schedule(id=DAY, windows=(), holiday_windows=tuple(special))]
    )
    assert together == apart
    covered = {(day, minute) for day, start, end in together for minute in range(start, end)}
    wanted = {
        (day, m) for each in week for day in each.weekdays for m in range(each.start_minute, each.end_minute)
    }
    wanted |= {(7, m) for each in special for m in range(each.start_minute, each.end_minute)}
    assert covered == wanted
    assert len(covered) == sum(end - start for _, start, end in together)
