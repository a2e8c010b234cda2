"""Those who wait at a door for a person: asked, answered, or ended some other way.

Every referral has a request of its own, drawn at random, and ends exactly once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from edge.effects import Record
from edge.inputs import Now
from pacs.credential import VerifiedCredential
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side

MAX_WAITING: Final = 8
"""At one side of a door, for the same escort; the oldest gives way."""


@unique
class Ending(StrEnum):
    """How a referral ended; wire strings."""

    GRANTED = "granted"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Referral:
    """Somebody waits; ``expires_s`` is monotonic. ``reason``: why a person decides."""

    request: bytes
    credential: VerifiedCredential
    door_id: DoorId
    side: Side
    reason: Reason
    expires_s: float

    @property
    def awaits_escort(self) -> bool:
        """Whether it is ended by somebody's card at the door, not by an answer."""
        return self.reason is Reason.ESCORT_AWAITED

    def is_over(self, now: Now) -> bool:
        """Whether its time is over."""
        return now.monotonic_s >= self.expires_s

    def ended(self, ending: Ending, now: Now, *, reason: Reason | None = None) -> Record:
        """The event that says how."""
        return Record.of(
            EventKind.REFERRAL_ENDED,
            now,
            self.door_id,
            side=self.side,
            credential_id=self.credential.credential_id,
            reason=reason,
            details={"request": self.request, "outcome": ending.value},
        )


class Referrals:
    """Those that wait, oldest first: at each side of a door one for an answer, and some for the same escort."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, Referral] = {}

    def __iter__(self) -> Iterator[Referral]:
        return iter(tuple(self._waiting.values()))

    @property
    def deadline_s(self) -> float | None:
        """When the next one times out."""
        return min((referral.expires_s for referral in self), default=None)

    def at(self, door_id: DoorId, side: Side) -> tuple[Referral, ...]:
        """Those at one side of a door."""
        return tuple(referral for referral in self if (referral.door_id, referral.side) == (door_id, side))

    def find(self, request: bytes | None) -> Referral | None:
        """The one with this request, while it waits."""
        return self._waiting.get(request) if request is not None else None

    def add(self, referral: Referral) -> None:
        """It waits from here on."""
        self._waiting[referral.request] = referral

    def end(self, referral: Referral) -> None:
        """It waits no longer."""
        del self._waiting[referral.request]

    def displaced(self, door_id: DoorId, side: Side, credential_id: CredentialId) -> tuple[Referral, ...]:
        """Those that a newer presentation at their side puts an end to: it answers for its own card, and is asked next.

        Whoever waits for an escort goes on waiting when another card is presented, while there is room.
        """
        here = self.at(door_id, side)
        others = [r for r in here if r.awaits_escort and r.credential.credential_id != credential_id]
        staying = others[-(MAX_WAITING - 1) :]
        return tuple(referral for referral in here if referral not in staying)
