"""Cards that answer for others: who may pass by one that was granted a moment ago. Kept in memory, gone at a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.inputs import Now
from pacs.credential import VerifiedCredential
from pacs.identifiers import DoorId


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitting:
    """``places``: how many more may pass by this card; ``until_s``: monotonic, exclusive."""

    card: VerifiedCredential
    places: int
    until_s: float


class AdmittingCards:
    """At each door the last one."""

    def __init__(self) -> None:
        self._by_door: dict[DoorId, Admitting] = {}

    def at(self, door_id: DoorId, now: Now) -> Admitting | None:
        """The one by which somebody may still pass."""
        found = self._by_door.get(door_id)
        return found if found and found.places > 0 and now.monotonic_s < found.until_s else None

    def granted(self, door_id: DoorId, admitting: Admitting) -> None:
        """A card that admits others was granted; it takes the place of the one before."""
        self._by_door[door_id] = admitting

    def used(self, door_id: DoorId) -> None:
        """Somebody passed by it."""
        found = self._by_door[door_id]
        self._by_door[door_id] = replace(found, places=found.places - 1)
