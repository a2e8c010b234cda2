"""Those who wait at a door for a person: asked, answered, or ended some other way.

As many wait together for an answer as one card admits there, and some for the same escort.

Every referral has a request of its own, drawn at random, and ends exactly once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from edge.effects import Indicate, Record, Signal
from edge.inputs import Now
from pacs.credential import VerifiedCredential
from pacs.events import Detail, EventKind
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
        """Whether it began as waiting for somebody's card at the door, not for an answer."""
        return self.reason is Reason.ESCORT_AWAITED

    def is_over(self, now: Now) -> bool:
        """Whether its time is over."""
        return now.monotonic_s >= self.expires_s

    def asked(self, now: Now) -> Record:
        """The event that says that it waits, for whom, and for how long yet."""
        left_s = max(1, math.ceil(self.expires_s - now.monotonic_s))
        return Record.of(
            EventKind.ACCESS_REFERRED,
            now,
            self.door_id,
            side=self.side,
            credential_id=self.credential.credential_id,
            reason=self.reason,
            details={"request": self.request, "timeout_s": left_s},
        )

    def shown(self, signal: Signal) -> Indicate:
        """At the reader."""
        return Indicate(door_id=self.door_id, side=self.side, signal=signal)

    def granted(self, reason: Reason, now: Now, by: Mapping[str, Detail] | None = None) -> Record:
        """The event that says that it was; ``by``: whose answer."""
        return Record.of(
            EventKind.ACCESS_GRANTED,
            now,
            self.door_id,
            side=self.side,
            credential_id=self.credential.credential_id,
            reason=reason,
            details={"request": self.request, **(by or {})},
        )

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
    """Those that wait, oldest first."""

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

    def of(self, door_id: DoorId, side: Side, credential_id: CredentialId) -> Referral | None:
        """That of this credential at one side of a door."""
        found = (each for each in self.at(door_id, side) if each.credential.credential_id == credential_id)
        return next(found, None)

    def add(self, referral: Referral) -> None:
        """It waits from here on, as the newest; or goes on waiting under its request."""
        self._waiting.pop(referral.request, None)
        self._waiting[referral.request] = referral

    def change(self, referral: Referral) -> None:
        """It waits for somebody else from here on, under its request and in its place."""
        self._waiting[referral.request] = referral

    def end(self, referral: Referral) -> None:
        """It waits no longer."""
        del self._waiting[referral.request]

    def displaced(
        self, door_id: DoorId, side: Side, credential_id: CredentialId, *, adding: bool, together: int
    ) -> tuple[Referral, ...]:
        """Those that a newer card at their side puts an end to, which was granted, or is ``adding`` a referral.

        Its own goes on when it is referred again, and is answered for when it was granted. Whoever waits for an escort
        goes on waiting when another card is presented, while there is room; of those who wait for an answer as many as
        make up ``together`` with the newer one, the newest of them.
        """
        here = self.at(door_id, side)
        own = [each for each in here if each.credential.credential_id == credential_id]
        asking = [each for each in here if not each.awaits_escort and each not in own]
        others = [each for each in here if each.awaits_escort and each not in own]
        staying = asking[len(asking) - min(len(asking), together - 1) :]
        staying += others[-(MAX_WAITING - 1) :] + own if adding else others
        return tuple(referral for referral in here if referral not in staying)
