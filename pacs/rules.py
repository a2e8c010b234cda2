"""What a site has laid down: doors, access levels, who holds which, and the snapshot of it all.

Holds opaque ids, keys and times; never a name (rule R6).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum, unique
from functools import cached_property
from typing import Protocol, runtime_checkable

from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, AreaId, ControllerId, CredentialId, DoorId, ScheduleId, SiteId
from pacs.schedule import Schedule

MAX_UNLOCK_MS = 120_000
MAX_ADMITTED = 8
"""By one tap of a card that admits others."""


@unique
class DoorMode(StrEnum):
    """What a door does with entitled people."""

    SECURED = "secured"
    UNLOCKED = "unlocked"
    ATTENDED = "attended"
    LOCKDOWN = "lockdown"
    OUT_OF_SERVICE = "out_of_service"


@unique
class Side(StrEnum):
    """Which way a reader leads."""

    ENTRY = "entry"
    EXIT = "exit"


@unique
class WhenTooOld(StrEnum):
    """What a door does when its policy or revocation list is older than its bound."""

    DENY = "deny"
    CONTINUE = "continue"


@unique
class WhenClockUntrusted(StrEnum):
    """What a door does when the controller cannot vouch for the time of day.

    ``continue``: time is taken as the clock shows it. ``levels_only``: no time is judged at all, neither dates nor
    schedules nor ages, and of the modes its schedules could give it the door takes the strictest.
    """

    DENY = "deny"
    CONTINUE = "continue"
    LEVELS_ONLY = "levels_only"


@unique
class WhenUnlisted(StrEnum):
    """What a door does with an authentic PKOC V2 credential that was issued since its policy and is not listed in it."""

    DENY = "deny"
    REFER = "refer"
    ADMIT = "admit"


@unique
class WhenHubAway(StrEnum):
    """What a door does, for a time, where a person decides and the hub cannot be asked for one.

    ``local``: holders of the door's ``admitting_levels`` alone decide. ``unattended``: as if it were secured; about a
    cardholder of whom a person decides at every door, they still do.
    """

    DENY = "deny"
    LOCAL = "local"
    UNATTENDED = "unattended"


@unique
class Antipassback(StrEnum):
    """What a door does with a credential that entered its area and was not seen leaving.

    ``soft``: admit and say so. ``hard``: deny. ``timed``: deny for ``Door.antipassback_s`` after the entry. What would
    be denied is admitted, and said so, when no contact saw that entry.
    """

    OFF = "off"
    SOFT = "soft"
    HARD = "hard"
    TIMED = "timed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeRule:
    """This mode, while this schedule holds."""

    schedule_id: ScheduleId
    mode: DoorMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One door and its own rules.

    ``mode``: while none of ``mode_rules`` holds; the first that holds decides. ``unlock_ms``, ``extended_unlock_ms``:
    1 to 120,000. ``relock_on_open``: lock as soon as the contact reports open. ``held_open_after_s``,
    ``extended_held_open_after_s``: 1 to 3,600; ``held_warning_s``: how long before it the door warns, at most half of
    it, 0 for not at all. ``max_policy_age_s``: how old either document may be before ``when_too_old`` applies.

    ``area``: what the entry side leads into; ``outside``: what the exit side does; None: no area.
    ``first_person_levels``: until a holder of one of them was admitted in the current window, nobody else is, and no
    schedule unlocks the door; empty: the rule is off. ``escort_window_s``: how long an escort may be ahead or behind.
    ``interlock_with``: doors of the same controller of which none may be open or released when this one is.
    ``attended_timeout_s``: how long a referral waits for a person's answer. ``private``: taps are counted, not recorded.
    ``admitting_levels``: their holders are referred to nobody by an attended door, and by their own card admit up to
    ``admits_at_most`` (1 to 8) of those who are: who wait, or come within ``escort_window_s``; empty: nobody does.
    ``hub_away_max_s``: 30 to 86,400; for so long after the hub was last heard ``when_hub_away`` holds, then ``deny``.
    """

    id: DoorId
    controller_id: ControllerId
    mode: DoorMode = DoorMode.SECURED
    unlock_ms: int = 5_000
    extended_unlock_ms: int = 15_000
    held_open_after_s: int = 30
    max_policy_age_s: int = 4 * 3_600
    when_too_old: WhenTooOld = WhenTooOld.DENY
    when_clock_untrusted: WhenClockUntrusted = WhenClockUntrusted.DENY
    allow_v1: bool = False
    mode_rules: tuple[ModeRule, ...] = ()
    relock_on_open: bool = False
    held_warning_s: int = 10
    extended_held_open_after_s: int = 90
    when_unlisted: WhenUnlisted = WhenUnlisted.DENY
    area: AreaId | None = None
    outside: AreaId | None = None
    antipassback: Antipassback = Antipassback.OFF
    antipassback_s: int = 0
    first_person_levels: frozenset[AccessLevelId] = frozenset()
    escort_window_s: int = 30
    interlock_with: frozenset[DoorId] = frozenset()
    attended_timeout_s: int = 60
    private: bool = False
    admitting_levels: frozenset[AccessLevelId] = frozenset()
    admits_at_most: int = 1
    when_hub_away: WhenHubAway = WhenHubAway.DENY
    hub_away_max_s: int = 3_600

    def __post_init__(self) -> None:
        if not (1 <= self.unlock_ms <= MAX_UNLOCK_MS and 1 <= self.extended_unlock_ms <= MAX_UNLOCK_MS):
            raise MalformedData(f"Door: an unlock time is 1 to {MAX_UNLOCK_MS} ms")
        if not (1 <= self.held_open_after_s <= 3_600 and 1 <= self.extended_held_open_after_s <= 3_600):
            raise MalformedData("Door: a time for standing open is 1 to 3600 s")
        if not 0 <= self.held_warning_s <= 3_600:
            raise MalformedData("Door: held_warning_s is 0 to 3600")
        if not (1 <= self.escort_window_s <= 600 and 1 <= self.attended_timeout_s <= 600):
            raise MalformedData("Door: escort_window_s and attended_timeout_s are 1 to 600")
        if self.antipassback is not Antipassback.OFF and self.area is None:
            raise MalformedData("Door: anti-passback needs the area it is about")
        if (self.antipassback is Antipassback.TIMED) is not (1 <= self.antipassback_s <= 86_400):
            raise MalformedData("Door: antipassback_s is 1 to 86400, for timed anti-passback only")
        if self.id in self.interlock_with:
            raise MalformedData("Door: no door is interlocked with itself")
        if not 60 <= self.max_policy_age_s <= 31 * 86_400:
            raise MalformedData("Door: max_policy_age_s is 60 s to 31 days")
        self._check_attendance()

    def _check_attendance(self) -> None:
        if not 1 <= self.admits_at_most <= MAX_ADMITTED:
            raise MalformedData(f"Door: admits_at_most is 1 to {MAX_ADMITTED}")
        if not 30 <= self.hub_away_max_s <= 86_400:
            raise MalformedData("Door: hub_away_max_s is 30 s to a day")
        if self.when_hub_away is WhenHubAway.LOCAL and not self.admitting_levels:
            raise MalformedData("Door: nobody's card admits others, so none can stand in for the hub")

    def starts_with(self, entitlement: Entitlement) -> bool:
        """Whether admitting this holder lets everybody else follow."""
        return not self.first_person_levels.isdisjoint(entitlement.access_level_ids)

    def may_admit(self, entitlement: Entitlement) -> bool:
        """Whether this holder's card answers for others here. Nobody's does of whom a person has to decide."""
        needs_others = entitlement.attended or entitlement.escort_required
        return not needs_others and not self.admitting_levels.isdisjoint(entitlement.access_level_ids)

    def unlock_ms_for(self, entitlement: Entitlement | None) -> int:
        """How long it stays unlocked for this holder; None: for somebody of whom nothing is known."""
        extended = entitlement is not None and entitlement.extended_opening
        return self.extended_unlock_ms if extended else self.unlock_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRule:
    """This door, while this schedule holds."""

    door_id: DoorId
    schedule_id: ScheduleId


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLevel:
    """A set of access rules that people hold together."""

    id: AccessLevelId
    rules: tuple[AccessRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entitlement:
    """What one credential may do.

    ``status_index``: its place in the revocation list. ``valid_from`` inclusive, ``valid_until`` exclusive;
    None: no bound of its own. ``attended``: a person decides at every door. ``extended_opening``: the door
    stays unlocked for ``Door.extended_unlock_ms`` and may stand open for ``Door.extended_held_open_after_s``.
    ``escort_required``: admitted together with somebody who ``may_escort`` only.
    """

    credential_id: CredentialId
    status_index: int
    access_level_ids: tuple[AccessLevelId, ...]
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    attended: bool = False
    extended_opening: bool = False
    escort_required: bool = False
    may_escort: bool = False

    def __post_init__(self) -> None:
        if self.escort_required and self.may_escort:
            raise MalformedData("Entitlement: who needs an escort cannot be one")


@runtime_checkable
class NamesLevels(Protocol):
    """Entitlements that were checked already to name no access levels but these."""

    @property
    def level_ids(self) -> Collection[AccessLevelId]:
        """Every one that may occur."""
        ...


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Everything a site's doors need to decide, as signed at ``issued_at`` under one version.

    ``issuers``: IIR → 65-byte uncompressed P-256 point of a card issuer. ``time_zone``: IANA name.
    Raises ``MalformedData`` when something names a schedule, a level or a door that is not there, or doors of two
    controllers are interlocked.
    """

    site_id: SiteId
    version: int
    issued_at: datetime
    expires_at: datetime
    time_zone: str
    issuers: Mapping[str, bytes]
    doors: Mapping[DoorId, Door]
    access_levels: Mapping[AccessLevelId, AccessLevel] = field(default_factory=dict)
    schedules: Mapping[ScheduleId, Schedule] = field(default_factory=dict)
    holidays: frozenset[date] = frozenset()
    entitlements: Mapping[CredentialId, Entitlement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for level in self.access_levels.values():
            for rule in level.rules:
                if rule.schedule_id not in self.schedules:
                    raise MalformedData("Policy: an access rule names a schedule that is not there")
        for door in self.doors.values():
            self._check_door(door)
        if not self.access_levels.keys() >= _named_levels(self.entitlements):
            raise MalformedData("Policy: an entitlement names an access level that is not there")

    def _check_door(self, door: Door) -> None:
        if not all(rule.schedule_id in self.schedules for rule in door.mode_rules):
            raise MalformedData("Policy: a door's mode names a schedule that is not there")
        if not self.access_levels.keys() >= door.first_person_levels | door.admitting_levels:
            raise MalformedData("Policy: a door names an access level that is not there")
        for other in door.interlock_with:
            if other not in self.doors or self.doors[other].controller_id != door.controller_id:
                raise MalformedData(
                    "Policy: a door is interlocked with one that its controller does not have"
                )

    def make_ready(self) -> None:
        """Work out what deciding looks up, so that no tap has to wait for it."""
        _ = self.interlocks, self.schedules_by_door_and_level

    @cached_property
    def interlocks(self) -> Mapping[DoorId, frozenset[DoorId]]:
        """For each interlocked door those that may not be open while it is, whichever of the two says so."""
        found: dict[DoorId, frozenset[DoorId]] = {}
        for door in self.doors.values():
            for other in door.interlock_with:
                found[door.id] = found.get(door.id, frozenset()) | {other}
                found[other] = found.get(other, frozenset()) | {door.id}
        return found

    @cached_property
    def schedules_by_door_and_level(self) -> Mapping[tuple[DoorId, AccessLevelId], tuple[Schedule, ...]]:
        """Which schedules let the holders of a level through a door."""
        found: dict[tuple[DoorId, AccessLevelId], tuple[Schedule, ...]] = {}
        for level in self.access_levels.values():
            for rule in level.rules:
                key = (rule.door_id, level.id)
                found[key] = (*found.get(key, ()), self.schedules[rule.schedule_id])
        return found


def _named_levels(entitlements: Mapping[CredentialId, Entitlement]) -> set[AccessLevelId]:
    if isinstance(entitlements, NamesLevels):
        return set(entitlements.level_ids)
    return {level_id for entry in entitlements.values() for level_id in entry.access_level_ids}
