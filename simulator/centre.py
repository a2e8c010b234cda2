"""A reception centre with every kind of door: a sluice with a way back, an office, a day room, a private room."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from pacs.identifiers import (
    AccessLevelId,
    AreaId,
    CardholderId,
    ControllerId,
    DoorId,
    ScheduleId,
    SiteId,
)
from pacs.rules import AccessLevel, AccessRule, Antipassback, Door, DoorMode, ModeRule
from pacs.schedule import ALL_DAYS, ALWAYS, Schedule, Window
from simulator.scenario import PEOPLE, Description, Fittings, Resident

GATE: Final = DoorId("gate")
"""Outer door of the sluice, where people come home and leave: entry and exit reader, anti-passback that only says so."""
SLUICE: Final = DoorId("sluice")
"""Inner door of the sluice: opens while the outer one is shut."""
OFFICE: Final = DoorId("office")
"""Attended."""
DAY_ROOM: Final = DoorId("day-room")
"""Unlocked by schedule in the days around now, secured otherwise."""
ROOM: Final = DoorId("room-12")
"""Private."""
HOME: Final = AreaId("home")
_GATE_CONTROLLER, _WING_CONTROLLER = ControllerId("gate-1"), ControllerId("wing-1")
_ALWAYS, _DAYS = ScheduleId("always"), ScheduleId("day-room-days")
_RESIDENTS: Final = AccessLevelId("residents")

_DOORS: Final = (
    Door(
        id=GATE,
        controller_id=_GATE_CONTROLLER,
        area=HOME,
        antipassback=Antipassback.SOFT,
        interlock_with=frozenset({SLUICE}),
        relock_on_open=True,
    ),
    Door(id=SLUICE, controller_id=_GATE_CONTROLLER, interlock_with=frozenset({GATE})),
    Door(id=OFFICE, controller_id=_WING_CONTROLLER, mode=DoorMode.ATTENDED, attended_timeout_s=5),
    Door(
        id=DAY_ROOM,
        controller_id=_WING_CONTROLLER,
        mode_rules=(ModeRule(schedule_id=_DAYS, mode=DoorMode.UNLOCKED),),
    ),
    Door(id=ROOM, controller_id=_WING_CONTROLLER, private=True),
)


def reception_centre(
    now: datetime, *, unlock_ms: int = 5_000, held_open_after_s: int = 30, held_warning_s: int = 10
) -> Description:
    """Five doors at two controllers. The last of its people needs an escort; the one before may be one."""
    return Description(
        site_id=SiteId("oosterwei"),
        doors=tuple(
            replace(
                door,
                unlock_ms=unlock_ms,
                held_open_after_s=held_open_after_s,
                held_warning_s=held_warning_s,
            )
            for door in _DOORS
        ),
        names={
            GATE: "Main entrance",
            SLUICE: "Sluice",
            OFFICE: "Office",
            DAY_ROOM: "Day room",
            ROOM: "Room 12",
        },
        areas={HOME: "The centre"},
        fittings={
            GATE: Fittings(exit_reader=True, sounder=True, fail_safe=True),
            SLUICE: Fittings(sounder=True),
        },
        schedules=(
            Schedule(id=_ALWAYS, windows=(ALWAYS,), holiday_windows=(ALWAYS,)),
            Schedule(id=_DAYS, windows=(_around(now),), holiday_windows=(ALWAYS,)),
        ),
        access_levels=(
            AccessLevel(
                id=_RESIDENTS,
                rules=tuple(
                    AccessRule(door_id=door, schedule_id=_ALWAYS)
                    for door in (GATE, SLUICE, OFFICE, DAY_ROOM, ROOM)
                ),
            ),
        ),
        residents=tuple(
            _resident(number, given, family, now) for number, (given, family) in enumerate(PEOPLE, 1)
        ),
    )


def _around(now: datetime) -> Window:
    days = frozenset((now.weekday() + ahead) % len(ALL_DAYS) for ahead in (-1, 0, 1))
    return Window(weekdays=days, start_minute=ALWAYS.start_minute, end_minute=ALWAYS.end_minute)


def _resident(number: int, given_name: str, family_name: str, now: datetime) -> Resident:
    return Resident(
        id=CardholderId(f"person-{number:02}"),
        given_name=given_name,
        family_name=family_name,
        levels=(_RESIDENTS,),
        category="staff" if number == len(PEOPLE) - 1 else "visitor" if number == len(PEOPLE) else "resident",
        extended_opening=number == 5,
        may_escort=number == len(PEOPLE) - 1,
        escort_required=number == len(PEOPLE),
        valid_until=now + timedelta(days=2) if number == len(PEOPLE) else None,
    )
