"""Doors to private rooms: what happens there is counted, and what is about a person is not recorded (rule R7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

from edge.effects import Effect, Record
from edge.inputs import Now
from pacs.events import Detail, EventDraft, EventKind
from pacs.identifiers import DoorId

COUNTED_EVERY_S: Final = 3_600.0

_COUNTED_AS: Final = {
    EventKind.ACCESS_GRANTED: "granted",
    EventKind.ACCESS_DENIED: "denied",
    EventKind.ACCESS_REFERRED: "denied",
}
_PERSONAL: Final = frozenset(
    {
        *_COUNTED_AS,
        EventKind.REFERRAL_ENDED,
        EventKind.DOOR_NOT_ENTERED,
        EventKind.EXIT_REQUESTED,
        EventKind.DOOR_OPENED,
        EventKind.DOOR_CLOSED,
        EventKind.ANTIPASSBACK_FORGIVEN,
    }
)
"""When somebody comes and goes, or is inside; what was forced, held or tampered with is about the door."""


def is_personal(draft: EventDraft) -> bool:
    """Whether this event of a private door is about a person."""
    return draft.kind in _PERSONAL or draft.credential_id is not None


class TapCounts:
    """How many taps there were at each private door since they were last told; never whose."""

    def __init__(self) -> None:
        self._counts: dict[DoorId, Counter[str]] = {}
        self._told_s: float | None = None

    @property
    def deadline_s(self) -> float | None:
        """When the counts are to be told; None while there is nothing to tell."""
        return None if self._told_s is None or not self._counts else self._told_s + COUNTED_EVERY_S

    def unread(self, door_id: DoorId, now: Now) -> None:
        """A card could not be read."""
        self._count(door_id, "unread", now)

    def without_persons(
        self, effects: Iterable[Effect], private: AbstractSet[DoorId], now: Now
    ) -> list[Effect]:
        """These effects, with what is about a person at one of these doors counted in place of recorded."""
        kept: list[Effect] = []
        for effect in effects:
            draft = effect.draft if isinstance(effect, Record) else None
            if (
                draft is None
                or draft.door_id is None
                or draft.door_id not in private
                or not is_personal(draft)
            ):
                kept.append(effect)
            elif counted_as := _COUNTED_AS.get(draft.kind):
                self._count(draft.door_id, counted_as, now)
        return kept

    def tell(self, now: Now) -> list[Record]:
        """An event for each door at which there was a tap; the counts begin again."""
        counts, self._counts = self._counts, {}
        return [
            Record.of(EventKind.TAPS_COUNTED, now, door_id, details=_details(counted))
            for door_id, counted in sorted(counts.items())
        ]

    def _count(self, door_id: DoorId, counted_as: str, now: Now) -> None:
        if not self._counts:
            self._told_s = now.monotonic_s
        self._counts.setdefault(door_id, Counter())[counted_as] += 1


def _details(counted: Counter[str]) -> dict[str, Detail]:
    return {name: counted[name] for name in ("granted", "denied", "unread")}
