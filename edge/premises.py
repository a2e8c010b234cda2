"""The doors of a controller with what is held about them: documents, orders, presence; and what follows from these.

Nothing here looks at a card: this is what a decision about one is made from, and what becomes of the strikes between
two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from edge.admitting import AdmittingCards
from edge.door_state import Alarm, DoorState, Unseen, unlisted
from edge.effects import Effect, Record
from edge.hub_contact import HubContact
from edge.inputs import Now
from edge.posts import Posts
from edge.presence import Presence
from edge.snapshot import DoorSnapshot
from pacs.decision import door_refusal
from pacs.events import Detail, EventKind
from pacs.identifiers import AreaId, CredentialId, DoorId
from pacs.modes import EffectiveMode, ModeCause, effective_mode
from pacs.revocation import StatusList
from pacs.rules import DoorMode, Policy, Side, WhenHubAway
from pacs.situation import Attendance, ModeOrder, Situation

_UNSEEN: Final = {Alarm.FORCED: Unseen.FORCED, Alarm.HELD: Unseen.HELD}
_ALARM_KINDS: Final = {
    Alarm.FORCED: EventKind.DOOR_FORCED,
    Alarm.HELD: EventKind.DOOR_HELD,
    Alarm.TAMPER: EventKind.TAMPER_OPENED,
}


class Premises:
    """One to four doors; belongs to the thread that owns the state."""

    def __init__(
        self,
        doors: Iterable[DoorState],
        *,
        policy: Policy | None,
        revocations: StatusList | None,
        orders: Mapping[DoorId, ModeOrder],
    ) -> None:
        self.doors = {door.id: door for door in doors}
        self.presence = Presence()
        self.admitting = AdmittingCards()
        self.hub = HubContact()
        self.posts = Posts()
        self._attendance: dict[DoorId, Attendance] = {}
        self.orders = dict(orders)
        self.modes: dict[DoorId, EffectiveMode] = {}
        self.broken: frozenset[tuple[DoorId, Side]] = frozenset()  # another thread reads it
        self.fire = False
        self.private: frozenset[DoorId] = frozenset()
        """Doors of which nothing about a person is recorded."""
        self._hold(policy, revocations)

    def adopt(self, policy: Policy | None, revocations: StatusList | None, now: Now) -> list[Record]:
        """Hold these documents from here on; an event for each area that has other doors by them, if anybody was inside.

        Who came in by one set of doors was not seen leaving by another.
        """
        before = _doors_by_area(self.policy)
        self._hold(policy, revocations)
        since = _doors_by_area(policy)
        changed = (area for area in before if before[area] != since.get(area))
        return self.presence.forgive_areas(changed, Unseen.POLICY_CHANGED, now)

    def _hold(self, policy: Policy | None, revocations: StatusList | None) -> None:
        self.policy, self.revocations = policy, revocations
        listed = policy.doors if policy else {}
        for door in self.doors.values():
            door.rules = listed.get(door.id) or unlisted(door.id)
        self.private = frozenset(door.id for door in self.doors.values() if door.rules.private)
        elsewhere = [door for door in listed.values() if door.id not in self.doors]
        self.presence.shared = frozenset(
            area for door in elsewhere for area in (door.area, door.outside) if area
        )

    # ---- what a decision is made from

    def situation(
        self, door_id: DoorId, now: Now, credential_id: CredentialId, *, escorted: bool = False
    ) -> Situation:
        """What is known about this door, and this credential at it. ``escorted``: by a card that is there at this moment."""
        rules, presence = self.doors[door_id].rules, self.presence
        inside_s = presence.inside_s(credential_id, rules.area, now)
        return Situation(
            order=self._order(door_id, now),
            interlocked=self.is_interlocked(door_id, now),
            first_person_at=presence.first_person_at(door_id, now),
            inside_s=inside_s,
            entry_seen=inside_s is None or presence.entry_seen(credential_id),
            escorted=escorted or presence.escorted(rules, now),
            attendance=self.hub.attendance(rules, now),
            post=self.watched_by(door_id, now),
        )

    def watched_by(self, door_id: DoorId, now: Now) -> bytes | None:
        """The command that opened the door's post, while it is open and the hub is there to show who passes."""
        post = self.posts.at(door_id, now)
        return post.opened_by if post and self.hub.away_s(now) is None else None

    def _order(self, door_id: DoorId, now: Now) -> ModeOrder | None:
        """The order a door is under. One that a trusted clock saw at its end has ended, whatever the clock shows later."""
        order = self.orders.get(door_id)
        if order and order.until and now.clock.trusted and now.clock.at >= order.until:
            del self.orders[door_id]
            return None
        return order

    def is_interlocked(self, door_id: DoorId, now: Now) -> bool:
        """Whether a door that may not be open together with this one is, or could be pushed open. Never in a fire."""
        if self.fire or not self.policy:
            return False
        others = self.policy.interlocks.get(door_id, ())
        return any(self.doors[other].is_passable(now) for other in others if other in self.doors)

    # ---- what follows

    def settle(self, now: Now) -> list[Effect]:
        """Bring modes, strikes and areas in line with everything held and everything seen."""
        effects: list[Effect] = [
            *self.posts.end(now),
            *self._modes_changed(now),
            *self._attendance_changed(now),
        ]
        for door in self.doors.values():
            effects += door.hold(now, unlocked=self._is_unlocked(door, now))
        rules = {door.id: door.rules for door in self.doors.values()}
        return [*effects, *self.presence.leaks(self._leaks(), rules, now)]

    def _modes_changed(self, now: Now) -> list[Record]:
        """An event for each door whose mode, or what gave it, changed; at first for one that is not in its own mode."""
        records = []
        for door in self.doors.values():
            known, found = self.modes.get(door.id), self._mode(door, now)
            if found is None:
                self.modes.pop(door.id, None)
                continue
            self.modes[door.id] = found
            if found != known and (known or found.cause is not ModeCause.POLICY):
                details: dict[str, Detail] = {"mode": found.mode.value, "cause": found.cause.value}
                if found.by:
                    details["by"] = found.by
                records.append(Record.of(EventKind.DOOR_MODE_CHANGED, now, door.id, details=details))
        return records

    def _attendance_changed(self, now: Now) -> list[Record]:
        """An event for each door at which somebody else decides from here on than before, if a person has to."""
        records = []
        for door in self.doors.values():
            known = self._attendance.get(door.id, Attendance.HUB)
            found = self.hub.attendance(door.rules, now)
            is_told = known is not Attendance.HUB or self._is_attended(door)
            if found is known or not is_told:
                continue
            self._attendance[door.id] = found
            details: dict[str, Detail] = {"attendance": found.value, "before": known.value}
            if (away_s := self.hub.away_s(now)) is not None:
                details["away_s"] = int(away_s)
            records.append(Record.of(EventKind.DOOR_ATTENDANCE_CHANGED, now, door.id, details=details))
        return records

    def _is_attended(self, door: DoorState) -> bool:
        mode = self.modes.get(door.id)
        is_so_now = mode is not None and mode.mode is DoorMode.ATTENDED
        return is_so_now or door.rules.when_hub_away is not WhenHubAway.DENY

    def _mode(self, door: DoorState, now: Now) -> EffectiveMode | None:
        if self.policy is None or door.id not in self.policy.doors:
            return None
        known = Situation(
            order=self._order(door.id, now),
            first_person_at=self.presence.first_person_at(door.id, now),
            post=self.watched_by(door.id, now),
        )
        return effective_mode(
            door.rules, self.policy, known, at=now.clock.at, clock_trusted=now.clock.trusted
        )

    def _is_unlocked(self, door: DoorState, now: Now) -> bool:
        mode = self.modes.get(door.id)
        if mode is None or mode.mode is not DoorMode.UNLOCKED or not (self.policy and self.revocations):
            return False
        if door_refusal(door.rules, mode.mode, self.policy, self.revocations, now.clock):
            return False
        return not self.is_interlocked(door.id, now)

    def _leaks(self) -> frozenset[tuple[DoorId, Unseen]]:
        found = {(door_id, Unseen.READER_LOST) for door_id, _ in self.broken}
        for door in self.doors.values():
            found |= {(door.id, _UNSEEN[alarm]) for alarm in door.alarms if alarm in _UNSEEN}
            if door.unlocked:
                found.add((door.id, Unseen.UNLOCKED))
            if self.fire:
                found.add((door.id, Unseen.FIRE))
        return frozenset(found)

    # ---- what is told

    def snapshot(self, now: Now, waiting: Mapping[DoorId, int]) -> tuple[DoorSnapshot, ...]:
        """How every door stands; ``waiting``: how many wait for a person there."""
        return tuple(self._door_snapshot(door, now, waiting) for door in self.doors.values())

    def _door_snapshot(self, door: DoorState, now: Now, waiting: Mapping[DoorId, int]) -> DoorSnapshot:
        found, order = self.modes.get(door.id), self.orders.get(door.id)
        cause = "door_unknown" if self.policy else "policy_missing"
        until = order.until if order and found and found.cause is ModeCause.COMMAND else None
        alarms = [_ALARM_KINDS[alarm].value for alarm in door.alarms]
        if door.warned:
            alarms.append(EventKind.DOOR_HELD_WARNING.value)
        if self.fire:
            alarms.append(EventKind.FIRE_REPORTED.value)
        return DoorSnapshot(
            door=door.id,
            mode=found.mode.value if found else DoorMode.SECURED.value,
            cause=found.cause.value if found else cause,
            by=found.by if found else "",
            until=until.isoformat(timespec="seconds") if until else None,
            contact=door.contact_state,
            strike="released" if door.is_released(now) else "locked",
            alarms=tuple(sorted(alarms)),
            waiting=waiting.get(door.id, 0),
            attendance=self.hub.attendance(door.rules, now).value,
        )


def _doors_by_area(policy: Policy | None) -> dict[AreaId, set[tuple[DoorId, Side]]]:
    """For each area the doors that lead into it, and out of it, by the side that does."""
    found: dict[AreaId, set[tuple[DoorId, Side]]] = {}
    for door in policy.doors.values() if policy else ():
        for side, area in ((Side.ENTRY, door.area), (Side.EXIT, door.outside)):
            if area:
                found.setdefault(area, set()).add((door.id, side))
    return found
