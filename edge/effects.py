"""Everything a controller can do: the values ``DoorController.on`` answers with, performed in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Self, TypeAlias

from edge.inputs import Now
from pacs.events import Detail, EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side


@unique
class Signal(StrEnum):
    """What a reader shows, or a door sounds; ``edge.door_io`` says how each one looks and sounds.

    A reader shows those from ``READING`` to ``TEST``; a door sounds ``HELD_WARNING`` and ``ALARM`` until ``SILENT``.
    """

    READING = "reading"
    GRANTED = "granted"
    REFUSED = "refused"
    NOT_READ = "not_read"
    WAITING = "waiting"
    CARD_AWAITED = "card_awaited"
    NOBODY = "nobody"
    TEST = "test"
    HELD_WARNING = "held_warning"
    ALARM = "alarm"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Append this event to the journal."""

    draft: EventDraft

    @classmethod
    def of(
        cls,
        kind: EventKind,
        now: Now,
        door_id: DoorId | None = None,
        *,
        side: Side | None = None,
        credential_id: CredentialId | None = None,
        reason: Reason | None = None,
        details: Mapping[str, Detail] | None = None,
    ) -> Self:
        """Record that this happened ``now``."""
        return cls(
            draft=EventDraft(
                kind=kind,
                occurred_at=now.clock.at,
                clock_trusted=now.clock.trusted,
                door_id=door_id,
                side=side,
                credential_id=credential_id,
                reason=reason,
                details=details or {},
            )
        )


def command_refused(
    now: Now, door_id: DoorId | None, reason: Reason, details: Mapping[str, Detail]
) -> Record:
    """Record that a command was not carried out; ``details``: which, where that is known."""
    return Record.of(EventKind.COMMAND_REFUSED, now, door_id, reason=reason, details=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """This event may have to be recorded in a moment; nothing is written."""

    draft: EventDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStrike:
    """Unlock for ``unlock_ms`` (1 to 120,000), then lock; longer of two overlapping releases wins.

    ``even_unrecorded``: also when the event before it cannot be journalled. True on the way out only.
    """

    door_id: DoorId
    unlock_ms: int
    even_unrecorded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldStrike:
    """Unlock until ``EndHold``."""

    door_id: DoorId


@dataclass(frozen=True, slots=True, kw_only=True)
class EndHold:
    """Lock, unless a release is in progress: then when that ends."""

    door_id: DoorId


@dataclass(frozen=True, slots=True, kw_only=True)
class LockStrike:
    """Lock at once."""

    door_id: DoorId


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicate:
    """Show this signal at this side's reader."""

    door_id: DoorId
    side: Side
    signal: Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """Sound this signal at the whole door: its sounder, or every buzzer it has; one replaces the one before."""

    door_id: DoorId
    signal: Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptIssuers:
    """Trust exactly these card issuers: IIR → 65-byte uncompressed P-256 point."""

    issuers: Mapping[str, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examine:
    """Have the controller examine itself, elsewhere and later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Make every recorded event durable, then tell the uplink."""


StrikeEffect: TypeAlias = ReleaseStrike | HoldStrike | EndHold | LockStrike
Effect: TypeAlias = Record | Prepare | StrikeEffect | Indicate | Sound | AdoptIssuers | Examine | Sync
