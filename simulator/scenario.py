"""What is laid down for a site: its doors, rules and people, as a description and as the hub is told of it.

People are fictitious; their names exist at the hub alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from pacs.credential import VerifiedCredential
from pacs.identifiers import (
    AccessLevelId,
    AreaId,
    CardholderId,
    ControllerId,
    DoorId,
    ScheduleId,
    SiteId,
)
from pacs.reason import ReadFault, Reason
from pacs.rules import AccessLevel, AccessRule, Door
from pacs.schedule import ALWAYS, Schedule, Window
from simulator.link_faults import LinkFault, LinkOptions
from simulator.virtual_card import ReplayingCard, VirtualCard

NOT_READ: Final = "not_read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A fictitious person and the access levels they hold; a visitor holds them until ``valid_until``."""

    id: CardholderId
    given_name: str
    family_name: str
    levels: tuple[AccessLevelId, ...]
    category: str = "resident"
    attended: bool = False
    extended_opening: bool = False
    escort_required: bool = False
    may_escort: bool = False
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fittings:
    """What a door has besides strike, contact, request-to-exit button, tamper switch and entry reader."""

    exit_reader: bool = False
    sounder: bool = False
    fail_safe: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is laid down for one site. ``names``: how each door is called on the hub's pages; ``areas``: each area.

    ``fittings``: of the doors that have more than the usual.
    """

    site_id: SiteId
    doors: tuple[Door, ...]
    names: dict[DoorId, str]
    schedules: tuple[Schedule, ...]
    access_levels: tuple[AccessLevel, ...]
    residents: tuple[Resident, ...]
    time_zone: str = "Europe/Amsterdam"
    areas: dict[AreaId, str] = field(default_factory=dict)
    fittings: dict[DoorId, Fittings] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Holder:
    """A card in somebody's hand.

    ``credential``: what a correct reader verifies on it; ``refusal``: why it does not get that far. ``link``: how the
    card stands on the air, with ``uid`` as its 7-byte number.
    """

    label: str
    card: VirtualCard
    credential: VerifiedCredential | None = None
    refusal: Reason | ReadFault | None = None
    link: LinkOptions = field(default_factory=LinkOptions)
    uid: bytes = field(default_factory=lambda: b"\x04" + secrets.token_bytes(6))

    @property
    def is_refused(self) -> bool:
        """Whether ``refusal`` holds already: a replaying card is genuine until it has its recording."""
        recording = isinstance(self.card, ReplayingCard) and not self.card.recorded
        return self.refusal is not None and not recording


HOSTILE_LINKS: Final = {
    "pulled mid-tap": LinkOptions(fault=LinkFault.PULLED, after=2),
    "garbage": LinkOptions(fault=LinkFault.GARBAGE),
    "endless waiting time": LinkOptions(fault=LinkFault.ENDLESS_WAIT),
    "endless chaining": LinkOptions(fault=LinkFault.ENDLESS_CHAINING),
    "1-byte ATS": LinkOptions(fault=LinkFault.ATS_ONE_BYTE),
}
"""Cards that break the link: not read, and nobody's event."""


def small_site(now: datetime, *, site_id: str = "wilgenoord", unlock_ms: int = 5_000) -> Description:
    """Three doors, each with a controller of its own, and twelve residents."""
    gate, kitchen, workshop = DoorId("main-entrance"), DoorId("kitchen"), DoorId("workshop")
    always = Schedule(id=ScheduleId("always"), windows=(ALWAYS,), holiday_windows=(ALWAYS,))
    other_days = frozenset((now.weekday() + ahead) % 7 for ahead in (3, 4))
    closed_today = Schedule(
        id=ScheduleId("closed-today"),
        windows=(Window(weekdays=other_days, start_minute=9 * 60, end_minute=17 * 60),),
    )
    residents, workers, evening = (
        AccessLevelId(name) for name in ("residents", "workshop", "workshop-class")
    )
    return Description(
        site_id=SiteId(site_id),
        doors=(
            Door(id=gate, controller_id=ControllerId("gate-1"), unlock_ms=unlock_ms),
            Door(id=kitchen, controller_id=ControllerId("kitchen-1"), unlock_ms=unlock_ms),
            Door(id=workshop, controller_id=ControllerId("workshop-1"), unlock_ms=unlock_ms, allow_v1=True),
        ),
        names={gate: "Main entrance", kitchen: "Kitchen", workshop: "Workshop"},
        schedules=(always, closed_today),
        access_levels=(
            AccessLevel(
                id=residents,
                rules=tuple(AccessRule(door_id=door, schedule_id=always.id) for door in (gate, kitchen)),
            ),
            AccessLevel(id=workers, rules=(AccessRule(door_id=workshop, schedule_id=always.id),)),
            AccessLevel(id=evening, rules=(AccessRule(door_id=workshop, schedule_id=closed_today.id),)),
        ),
        residents=tuple(
            Resident(
                id=CardholderId(f"person-{number:02}"),
                given_name=given,
                family_name=family,
                levels=(
                    residents,
                    *((workers,) if number % 3 == 0 else (evening,) if number % 3 == 1 else ()),
                ),
                extended_opening=number == 5,
            )
            for number, (given, family) in enumerate(PEOPLE, 1)
        ),
    )


PEOPLE: Final = (
    ("Amina", "Warsame"),
    ("Davit", "Petrosyan"),
    ("Selam", "Tesfay"),
    ("Yusuf", "Al-Hassan"),
    ("Nasrin", "Karimi"),
    ("Oksana", "Bondarenko"),
    ("Mehmet", "Yıldız"),
    ("María", "Quispe"),
    ("Idil", "Farah"),
    ("جواد", "رضایی"),
    ("Anahit", "Grigoryan"),
    ("Joseph", "Mbala"),
)


def door_body(door: Door, name: str) -> dict[str, Any]:
    """A door's rules as the hub's interface takes them: those that are not what a door has anyway."""
    usual = Door(id=door.id, controller_id=door.controller_id)
    rules = {each.name: getattr(door, each.name) for each in fields(door)}
    body = {field: value for field, value in rules.items() if value != getattr(usual, field)}
    if "mode_rules" in body:
        body["mode_rules"] = [
            {"schedule_id": rule.schedule_id, "mode": rule.mode} for rule in door.mode_rules
        ]
    return {
        field: sorted(value) if isinstance(value, frozenset) else value for field, value in body.items()
    } | {"name": name}


def resident_body(resident: Resident) -> dict[str, Any]:
    """A person as the hub's interface takes them."""
    rights = ("attended", "extended_opening", "escort_required", "may_escort")
    until = resident.valid_until
    return {
        "id": resident.id,
        "category": resident.category,
        "given_name": resident.given_name,
        "family_name": resident.family_name,
        "access_level_ids": list(resident.levels),
        **{right: True for right in rights if getattr(resident, right)},
        **({} if until is None else {"valid_until": until.isoformat()}),
    }


def schedule_body(schedule: Schedule) -> dict[str, Any]:
    """A schedule as the hub's interface takes it."""

    def windows(of: tuple[Window, ...]) -> list[dict[str, Any]]:
        return [
            {
                "weekdays": sorted(window.weekdays),
                "start_minute": window.start_minute,
                "end_minute": window.end_minute,
            }
            for window in of
        ]

    return {
        "id": schedule.id,
        "name": schedule.id.replace("-", " ").capitalize(),
        "windows": windows(schedule.windows),
        "holiday_windows": windows(schedule.holiday_windows),
    }
