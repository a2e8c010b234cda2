"""One door's hardware as the controller knows it: released or not, open or closed, and what that means.

=====================  ==============================================================================
``door_opened``        opened while released, or held unlocked, or already open at the start
``door_forced``        opened otherwise
``door_not_entered``   a card was granted and the door stayed closed until it locked again
``door_held``          open for longer than its rule allows; recorded once
``door_closed``        closed
=====================  ==============================================================================
"""

from __future__ import annotations

from typing import Final

from edge.effects import EndHold, HoldStrike, Record, ReleaseStrike
from edge.inputs import Now
from pacs.events import EventDraft, EventKind
from pacs.identifiers import DoorId

OPENING_GRACE_S: Final = 0.5
"""How long after the strike locked an opening still belongs to the release: a door is pulled, then reported."""


class DoorState:
    """The state machine of one door; all times are monotonic seconds."""

    __slots__ = (
        "_before_release",
        "_grant",
        "_has_contact",
        "_held_open_at_s",
        "_open",
        "_released_until_s",
        "_unlocked",
        "id",
    )

    def __init__(self, door_id: DoorId, *, has_contact: bool) -> None:
        self.id = door_id
        self._has_contact = has_contact
        self._open: bool | None = None
        self._unlocked = False
        self._released_until_s = 0.0
        self._grant: EventDraft | None = None
        self._before_release: tuple[float, EventDraft | None] = (0.0, None)
        self._held_open_at_s: float | None = None

    @property
    def deadline_s(self) -> float | None:
        """When ``tick`` has something to say; None: nothing is awaited."""
        entered_by_s = self._released_until_s + OPENING_GRACE_S if self._grant else None
        return min((at for at in (entered_by_s, self._held_open_at_s) if at is not None), default=None)

    def release(
        self, unlock_ms: int, now: Now, *, grant: EventDraft | None = None, even_unrecorded: bool = False
    ) -> ReleaseStrike:
        """Release the strike; ``grant`` is the event of the card whose person is awaited."""
        self._before_release = self._released_until_s, self._grant
        self._released_until_s = max(self._released_until_s, now.monotonic_s + unlock_ms / 1000)
        if grant and self._has_contact and not self._open:
            self._grant = grant
        return ReleaseStrike(door_id=self.id, unlock_ms=unlock_ms, even_unrecorded=even_unrecorded)

    def withheld(self) -> None:
        """The last release did not happen; one before it may still last."""
        self._released_until_s, self._grant = self._before_release

    def hold(self, now: Now, *, unlocked: bool, held_open_after_s: int) -> HoldStrike | EndHold | None:
        """Keep the strike released, or end that; None when it is so already.

        A door that stands open at the end may do so for ``held_open_after_s`` from then on.
        """
        if unlocked is self._unlocked:
            return None
        self._unlocked = unlocked
        if unlocked:
            self._held_open_at_s = None
            return HoldStrike(door_id=self.id)
        self._released_until_s = max(self._released_until_s, now.monotonic_s)
        self._held_open_at_s = now.monotonic_s + held_open_after_s if self._open else None
        return EndHold(door_id=self.id)

    def contact(self, now: Now, *, is_open: bool, held_open_after_s: int) -> Record | None:
        """The contact reports; None when nothing changed."""
        known, self._open = self._open, is_open
        if is_open is bool(known):
            return None
        if not is_open:
            self._held_open_at_s = None
            return Record.of(EventKind.DOOR_CLOSED, now, self.id)
        self._grant = None
        self._held_open_at_s = None if self._unlocked else now.monotonic_s + held_open_after_s
        if known is None:
            return Record.of(EventKind.DOOR_OPENED, now, self.id, details={"at_start": True})
        released = self._unlocked or now.monotonic_s <= self._released_until_s + OPENING_GRACE_S
        return Record.of(EventKind.DOOR_OPENED if released else EventKind.DOOR_FORCED, now, self.id)

    def tick(self, now: Now) -> list[Record]:
        """What the passing of time alone brings about."""
        records = []
        if self._grant and now.monotonic_s > self._released_until_s + OPENING_GRACE_S:
            grant, self._grant = self._grant, None
            records.append(
                Record.of(
                    EventKind.DOOR_NOT_ENTERED,
                    now,
                    self.id,
                    side=grant.side,
                    credential_id=grant.credential_id,
                )
            )
        if self._held_open_at_s is not None and now.monotonic_s >= self._held_open_at_s:
            self._held_open_at_s = None
            records.append(Record.of(EventKind.DOOR_HELD, now, self.id))
        return records
