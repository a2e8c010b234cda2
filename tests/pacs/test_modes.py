"""Which mode a door is in, and what gave it that mode."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pacs.identifiers import AccessLevelId, ControllerId, DoorId, ScheduleId, SiteId
from pacs.modes import EffectiveMode, ModeCause, effective_mode
from pacs.rules import AccessLevel, Door, DoorMode, ModeRule, Policy, WhenClockUntrusted
from pacs.schedule import ALL_DAYS, Schedule, Window
from pacs.situation import NOTHING_KNOWN, ModeOrder, Situation

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAY, NIGHT, STAFF = ScheduleId("day"), ScheduleId("night"), AccessLevelId("staff")
HALL = Door(
    id=DoorId("hall"),
    controller_id=ControllerId("hall-1"),
    mode=DoorMode.ATTENDED,
    mode_rules=(
        ModeRule(schedule_id=DAY, mode=DoorMode.UNLOCKED),
        ModeRule(schedule_id=NIGHT, mode=DoorMode.SECURED),
    ),
)
POLICY = Policy(
    site_id=SiteId("site"),
    version=1,
    issued_at=NOON,
    expires_at=NOON + timedelta(days=7),
    time_zone="UTC",
    issuers={},
    doors={HALL.id: HALL},
    access_levels={STAFF: AccessLevel(id=STAFF, rules=())},
    schedules={
        DAY: Schedule(id=DAY, windows=(Window(weekdays=ALL_DAYS, start_minute=540, end_minute=1020),)),
        NIGHT: Schedule(id=NIGHT, windows=(Window(weekdays=ALL_DAYS, start_minute=960, end_minute=1920),)),
    },
)
FIRST = replace(HALL, first_person_levels=frozenset({STAFF}))
COMMAND = bytes(range(16))


def _order(mode: DoorMode, until: datetime | None = None) -> Situation:
    return Situation(order=ModeOrder(mode=mode, until=until, command_id=COMMAND))


def _by_schedule(mode: DoorMode, schedule_id: ScheduleId) -> EffectiveMode:
    return EffectiveMode(mode=mode, cause=ModeCause.SCHEDULE, by=schedule_id)


def _by_command(mode: DoorMode) -> EffectiveMode:
    return EffectiveMode(mode=mode, cause=ModeCause.COMMAND, by=COMMAND.hex())


OWN = EffectiveMode(mode=DoorMode.ATTENDED, cause=ModeCause.POLICY)


@pytest.mark.parametrize(
    ("door", "clock", "situation", "expected"),
    [
        (HALL, "12:00", NOTHING_KNOWN, _by_schedule(DoorMode.UNLOCKED, DAY)),
        (HALL, "16:30", NOTHING_KNOWN, _by_schedule(DoorMode.UNLOCKED, DAY)),
        (HALL, "17:00", NOTHING_KNOWN, _by_schedule(DoorMode.SECURED, NIGHT)),
        (HALL, "03:00", NOTHING_KNOWN, _by_schedule(DoorMode.SECURED, NIGHT)),
        (HALL, "08:30", NOTHING_KNOWN, OWN),
        (HALL, "12:00", _order(DoorMode.LOCKDOWN), _by_command(DoorMode.LOCKDOWN)),
        (
            HALL,
            "12:00",
            _order(DoorMode.LOCKDOWN, NOON + timedelta(seconds=1)),
            _by_command(DoorMode.LOCKDOWN),
        ),
        (HALL, "12:00", _order(DoorMode.LOCKDOWN, NOON), _by_schedule(DoorMode.UNLOCKED, DAY)),
        (FIRST, "12:00", NOTHING_KNOWN, OWN),
        (FIRST, "16:30", NOTHING_KNOWN, _by_schedule(DoorMode.SECURED, NIGHT)),
        (
            FIRST,
            "12:00",
            Situation(first_person_at=NOON - timedelta(hours=3)),
            _by_schedule(DoorMode.UNLOCKED, DAY),
        ),
        (FIRST, "12:00", Situation(first_person_at=NOON - timedelta(hours=4)), OWN),
    ],
)
def test_precedence(door: Door, clock: str, situation: Situation, expected: EffectiveMode) -> None:
    """An order, then the first schedule that holds, then the door's own mode; a first person may be awaited."""
    at = datetime.fromisoformat(f"2026-11-20T{clock}+00:00")
    assert effective_mode(door, POLICY, situation, at=at, clock_trusted=True) == expected


@pytest.mark.parametrize(
    ("untrusted", "situation", "expected"),
    [
        (WhenClockUntrusted.DENY, NOTHING_KNOWN, _by_schedule(DoorMode.UNLOCKED, DAY)),
        (WhenClockUntrusted.CONTINUE, NOTHING_KNOWN, _by_schedule(DoorMode.UNLOCKED, DAY)),
        (
            WhenClockUntrusted.LEVELS_ONLY,
            NOTHING_KNOWN,
            EffectiveMode(mode=DoorMode.ATTENDED, cause=ModeCause.CLOCK_UNTRUSTED),
        ),
        (WhenClockUntrusted.LEVELS_ONLY, _order(DoorMode.UNLOCKED), _by_command(DoorMode.UNLOCKED)),
        (
            WhenClockUntrusted.LEVELS_ONLY,
            _order(DoorMode.UNLOCKED, NOON + timedelta(days=1)),
            EffectiveMode(mode=DoorMode.ATTENDED, cause=ModeCause.CLOCK_UNTRUSTED),
        ),
        (
            WhenClockUntrusted.LEVELS_ONLY,
            _order(DoorMode.LOCKDOWN, NOON - timedelta(days=1)),
            _by_command(DoorMode.LOCKDOWN),
        ),
    ],
)
def test_on_an_untrusted_clock(
    untrusted: WhenClockUntrusted, situation: Situation, expected: EffectiveMode
) -> None:
    """No time is judged at a door of levels only: the strictest mode; an order that ends unlocks nothing."""
    door = replace(HALL, when_clock_untrusted=untrusted)
    assert effective_mode(door, POLICY, situation, at=NOON, clock_trusted=False) == expected
