"""What a site has laid down: doors, access levels, who holds which, and the snapshot of it all.

Holds opaque ids, keys and times; never a name (rule R6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum, unique
from functools import cached_property

from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, ControllerId, CredentialId, DoorId, ScheduleId, SiteId
from pacs.schedule import Schedule

MAX_UNLOCK_MS = 120_000


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
    """What a door does when the controller cannot vouch for the time of day."""

    DENY = "deny"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """One door and its own rules.

    ``unlock_ms``, ``extended_unlock_ms``: 1 to 120,000. ``held_open_after_s``: 1 to 3,600.
    ``max_policy_age_s``: how old either document may be before ``when_too_old`` applies.
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

    def __post_init__(self) -> None:
        if not (1 <= self.unlock_ms <= MAX_UNLOCK_MS and 1 <= self.extended_unlock_ms <= MAX_UNLOCK_MS):
            raise MalformedData(f"Door: an unlock time is 1 to {MAX_UNLOCK_MS} ms")
        if not 1 <= self.held_open_after_s <= 3_600:
            raise MalformedData("Door: held_open_after_s is 1 to 3600")
        if not 60 <= self.max_policy_age_s <= 31 * 86_400:
            raise MalformedData("Door: max_policy_age_s is 60 s to 31 days")


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
    stays unlocked for ``Door.extended_unlock_ms``.
    """

    credential_id: CredentialId
    status_index: int
    access_level_ids: tuple[AccessLevelId, ...]
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    attended: bool = False
    extended_opening: bool = False


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Everything a site's doors need to decide, as signed at ``issued_at`` under one version.

    ``issuers``: IIR → 65-byte uncompressed P-256 point of a card issuer. ``time_zone``: IANA name.
    Raises ``MalformedData`` when a rule names a schedule or an entitlement names a level that is not there.
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
        known = self.access_levels.keys()
        for entitlement in self.entitlements.values():
            if not known >= set(entitlement.access_level_ids):
                raise MalformedData("Policy: an entitlement names an access level that is not there")

    @cached_property
    def schedules_by_door_and_level(self) -> Mapping[tuple[DoorId, AccessLevelId], tuple[Schedule, ...]]:
        """Which schedules let the holders of a level through a door."""
        found: dict[tuple[DoorId, AccessLevelId], tuple[Schedule, ...]] = {}
        for level in self.access_levels.values():
            for rule in level.rules:
                key = (rule.door_id, level.id)
                found[key] = (*found.get(key, ()), self.schedules[rule.schedule_id])
        return found
