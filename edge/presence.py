"""Who was seen passing: areas and their forgiveness, first persons, escorts. Kept in memory, gone at a restart.

Anti-passback never holds against a person what the doors cannot know. An area is forgiven, and nobody counts as
inside it, for as long as one could pass a door of it unseen: while that door is held unlocked, was forced, is held
open, stands in a fire, or has a reader that does not work. It is forgiven when somebody asks to leave by a press, or by
a card that is not authentic, or a command opens a door of it, and again when that door opens; and when a policy gives it
other doors. A restart forgives everybody. An area whose doors hang at several controllers is known to none of them, and
nobody is remembered as inside it. Whoever is let out is out, whether or not a contact sees it. When a door opens that
was released for people on both sides, or for somebody unknown as well, nobody knows who passed: none of them is
remembered anywhere.

After a restart the first person has to come again: a door that forgot stays shut for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from edge.door_state import Admitted, Passage, Unseen
from edge.effects import Record
from edge.inputs import Now
from pacs.antipassback import Whereabouts
from pacs.events import Detail, EventKind
from pacs.identifiers import AreaId, CredentialId, DoorId
from pacs.rules import Door, Policy, Side


class Presence:
    """What was seen, of one controller's doors; durations are monotonic."""

    def __init__(self) -> None:
        self._whereabouts = Whereabouts()
        self._first_s: dict[DoorId, float] = {}
        self._escorts_s: dict[tuple[DoorId, CredentialId], float] = {}
        self._leaks: frozenset[tuple[DoorId, Unseen]] = frozenset()
        self._leaking: frozenset[AreaId] = frozenset()
        self.shared: frozenset[AreaId] = frozenset()
        """Areas that doors of other controllers lead into or out of: what is seen there is not known here."""

    # ---- what a decision is made from

    def inside_s(self, credential_id: CredentialId, area: AreaId | None, now: Now) -> float | None:
        """How long ago this credential entered the area; None when that is not known."""
        if area in self._leaking:
            return None
        return self._whereabouts.inside_s(credential_id, area, now.monotonic_s)

    def entry_seen(self, credential_id: CredentialId) -> bool:
        """Whether a contact saw that."""
        return self._whereabouts.was_seen(credential_id)

    def first_person_at(self, door_id: DoorId, now: Now) -> datetime | None:
        """When the door's first person was last admitted, on the wall clock as it is."""
        seen_s = self._first_s.get(door_id)
        return None if seen_s is None else now.clock.at - timedelta(seconds=now.monotonic_s - seen_s)

    def escorted(self, door: Door, now: Now) -> bool:
        """Whether somebody who may escort was granted within the door's window, and is not known to have stayed outside."""
        return any(
            door_id == door.id and now.monotonic_s - granted_s <= door.escort_window_s
            for (door_id, _), granted_s in self._escorts_s.items()
        )

    # ---- what was seen

    def escort_granted(self, door: Door, credential_id: CredentialId, now: Now) -> None:
        """Somebody who may escort was granted at the entry side."""
        at_s = now.monotonic_s
        for key, granted_s in tuple(self._escorts_s.items()):
            if key[0] == door.id and at_s - granted_s > door.escort_window_s:
                del self._escorts_s[key]
        self._escorts_s[door.id, credential_id] = at_s

    def let_out(self, door: Door, credential_id: CredentialId, now: Now) -> None:
        """Somebody may leave, and nothing will hold it against them that no contact sees it."""
        if door.area or door.outside:
            self._whereabouts.moved(credential_id, None, now.monotonic_s)

    def passed(
        self, door: Door, people: Iterable[Admitted], policy: Policy | None, now: Now, *, seen: bool
    ) -> None:
        """These went through the door. ``seen``: by its contact; otherwise they were admitted where none can tell.

        Whoever admits others may have stayed where they were, whatever the contact saw.
        """
        for person in people:
            entitlement = policy.entitlements.get(person.credential_id) if policy else None
            if door.area or door.outside:
                into = door.area if person.side is Side.ENTRY else door.outside
                if into in self.shared:
                    into = None
                certain = seen and not (entitlement and door.may_admit(entitlement))
                self._whereabouts.moved(person.credential_id, into, now.monotonic_s, seen=certain)
            if person.side is Side.ENTRY and entitlement and door.starts_with(entitlement):
                self._first_s[door.id] = now.monotonic_s

    def noticed(self, door: Door, passage: Passage, policy: Policy | None, now: Now) -> list[Record]:
        """This came of a release; an event for each area in which somebody had to be forgiven."""
        for person in (*passage.missed, *passage.doubtful):
            self._escorts_s.pop((door.id, person.credential_id), None)
        self.passed(door, passage.passed, policy, now, seen=True)
        records = [record for cause in sorted(passage.unseen) for record in self.forgive(door, cause, now)]
        if passage.doubtful and (door.area or door.outside):
            moved = self._whereabouts.moved
            left = Counter(moved(person.credential_id, None, now.monotonic_s) for person in passage.doubtful)
            records += (
                _forgiven(door.id, area, Unseen.OVERLAPPED, count, now)
                for area, count in left.items()
                if area
            )
        return records

    # ---- what was not

    def forgive(self, door: Door, cause: Unseen, now: Now) -> list[Record]:
        """Somebody could have passed this door unseen; an event for each area in which that forgave anybody."""
        # by an exit one leaves the area, and nobody was seen to come into it
        areas = (door.area,) if cause is Unseen.EXIT_REQUESTED else (door.area, door.outside)
        return self.forgive_areas((area for area in areas if area), cause, now, door.id)

    def forgive_areas(
        self, areas: Iterable[AreaId], cause: Unseen, now: Now, door_id: DoorId | None = None
    ) -> list[Record]:
        """The same of these areas."""
        return [
            _forgiven(door_id, area, cause, count, now)
            for area in dict.fromkeys(areas)
            if (count := self._whereabouts.forgive(area))
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


def _forgiven(door_id: DoorId | None, area: AreaId, cause: Unseen, count: int, now: Now) -> Record:
    details: dict[str, Detail] = {"area": str(area), "cause": cause.value, "count": count}
    return Record.of(EventKind.ANTIPASSBACK_FORGIVEN, now, door_id, details=details)
