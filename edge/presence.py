"""Who was seen passing: areas and their forgiveness, first persons, escorts. Kept in memory, gone at a restart.

Anti-passback never holds against a person what the doors cannot know. An area is forgiven, and nobody counts as
inside it, for as long as one could pass a door of it unseen: while that door is held unlocked, was forced, is held
open, stands in a fire, or has a reader that does not work. It is forgiven once when somebody leaves by a press, or by a
card that is not authentic, and when a command opens a door of it. A restart forgives everybody. An area whose doors hang
at several controllers is known to none of them, and nobody counts as inside it.

After a restart the first person has to come again: a door that forgot stays shut for the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum, unique

from edge.door_state import Admitted
from edge.effects import Record
from edge.inputs import Now
from pacs.antipassback import Whereabouts
from pacs.events import EventKind
from pacs.identifiers import AreaId, CredentialId, DoorId
from pacs.rules import Door, Policy, Side


@unique
class Unseen(StrEnum):
    """How somebody could have passed without being seen; wire strings."""

    EXIT_REQUESTED = "exit_requested"
    COMMANDED = "commanded"
    FORCED = "forced"
    HELD = "held"
    UNLOCKED = "unlocked"
    FIRE = "fire"
    READER_LOST = "reader_lost"


class Presence:
    """What was seen, of one controller's doors; durations are monotonic."""

    def __init__(self) -> None:
        self._whereabouts = Whereabouts()
        self._first_s: dict[DoorId, float] = {}
        self._escort_s: dict[tuple[DoorId, Side], float] = {}
        self._leaks: frozenset[tuple[DoorId, Unseen]] = frozenset()
        self._leaking: frozenset[AreaId] = frozenset()
        self.shared: frozenset[AreaId] = frozenset()
        """Areas that doors of other controllers lead into or out of: what is seen there is not known here."""

    # ---- what a decision is made from

    def inside_s(self, credential_id: CredentialId, area: AreaId | None, now: Now) -> float | None:
        """How long ago this credential entered the area; None when that is not known."""
        if area in self._leaking or area in self.shared:
            return None
        return self._whereabouts.inside_s(credential_id, area, now.monotonic_s)

    def first_person_at(self, door_id: DoorId, now: Now) -> datetime | None:
        """When the door's first person was last admitted, on the wall clock as it is."""
        seen_s = self._first_s.get(door_id)
        return None if seen_s is None else now.clock.at - timedelta(seconds=now.monotonic_s - seen_s)

    def escorted(self, door: Door, side: Side, now: Now) -> bool:
        """Whether somebody who may escort was granted at this side within the door's window."""
        granted_s = self._escort_s.get((door.id, side))
        return granted_s is not None and now.monotonic_s - granted_s <= door.escort_window_s

    # ---- what was seen

    def escort_granted(self, door_id: DoorId, side: Side, now: Now) -> None:
        """Somebody who may escort was granted."""
        self._escort_s[door_id, side] = now.monotonic_s

    def passed(self, door: Door, people: Iterable[Admitted], policy: Policy | None, now: Now) -> None:
        """These went through the door."""
        for person in people:
            if door.area or door.outside:
                into = door.area if person.side is Side.ENTRY else door.outside
                self._whereabouts.moved(person.credential_id, into, now.monotonic_s)
            entitlement = policy.entitlements.get(person.credential_id) if policy else None
            if person.side is Side.ENTRY and entitlement and door.starts_with(entitlement):
                self._first_s[door.id] = now.monotonic_s

    # ---- what was not

    def forgive(self, door: Door, cause: Unseen, now: Now) -> list[Record]:
        """Somebody could have passed this door unseen; an event for each area in which that forgave anybody."""
        # by an exit one leaves the area, and nobody was seen to come into it
        areas = (door.area,) if cause is Unseen.EXIT_REQUESTED else (door.area, door.outside)
        return [
            Record.of(
                EventKind.ANTIPASSBACK_FORGIVEN,
                now,
                door.id,
                details={"area": str(area), "cause": cause.value, "count": count},
            )
            for area in dict.fromkeys(areas)
            if area and (count := self._whereabouts.forgive(area))
        ]

    def leaks(
        self, found: frozenset[tuple[DoorId, Unseen]], rules: Mapping[DoorId, Door], now: Now
    ) -> list[Record]:
        """These doors can be passed unseen at this moment, and no others; forgives when that begins and when it ends."""
        if not found and not self._leaks:
            return []
        changed, self._leaks = found ^ self._leaks, found
        sides = ((rules[door_id].area, rules[door_id].outside) for door_id, _ in found)
        self._leaking = frozenset(area for areas in sides for area in areas if area)
        return [
            record
            for door_id, cause in sorted(changed)
            for record in self.forgive(rules[door_id], cause, now)
        ]
