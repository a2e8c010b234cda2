"""Everything that can happen to a controller: the values put on its queue.

Readers, pins and the uplink only put these values; one thread takes them off and owns all state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import TypeAlias

from pacs.commands import Command
from pacs.credential import Technology, VerifiedCredential
from pacs.decision import ClockReading
from pacs.events import Detail, EventDraft
from pacs.identifiers import CredentialId, DoorId, JournalId
from pacs.messages import DocumentKind
from pacs.reason import ReadFault, Reason
from pacs.revocation import StatusList
from pacs.rules import Policy, Side

Marks: TypeAlias = tuple[tuple[str, int], ...]
"""Phases of one presentation in order: (name, ``time.monotonic_ns()`` at its end)."""


# ---- from a reader


@dataclass(frozen=True, slots=True, kw_only=True)
class CardDetected:
    """A card was activated; its conversation has begun."""

    door_id: DoorId
    side: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class CardClaimed:
    """An authentic certificate was read and its card is asked to prove itself: nothing is proven, so nothing is done.

    Only that what ``CardPresented`` would bring about may be made ready. Put again and again until the card answers.
    """

    door_id: DoorId
    side: Side
    credential: VerifiedCredential


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPresented:
    """A card proved an authentic credential; whether it may pass is not yet decided."""

    door_id: DoorId
    side: Side
    credential: VerifiedCredential
    marks: Marks = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRefused:
    """A card was read completely and is not authentic.

    ``credential_id``: whom an authentic certificate on it names; whoever held the card did not prove to be that.
    None when no issuer vouches for a name.
    """

    door_id: DoorId
    side: Side
    reason: Reason
    credential_id: CredentialId | None
    technology: Technology | None
    marks: Marks = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFailed:
    """A card was there but its conversation did not end; says nothing about a person."""

    door_id: DoorId
    side: Side
    fault: ReadFault


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLost:
    """The reader stopped working; put once, until ``ReaderRestored``. ``cause`` is for a technician."""

    door_id: DoorId
    side: Side
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderRestored:
    """The reader works again."""

    door_id: DoorId
    side: Side


# ---- from the pins


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactChanged:
    """The door contact changed, debounced. ``at_s``: when, monotonic; None: when it is handled."""

    door_id: DoorId
    open: bool
    at_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RexPressed:
    """Someone asks to leave (request to exit), debounced."""

    door_id: DoorId


@dataclass(frozen=True, slots=True, kw_only=True)
class TamperChanged:
    """A door's tamper circuit was opened, or closed again, debounced."""

    door_id: DoorId
    open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FireChanged:
    """The fire alarm's input became active, or inactive, debounced; one for the whole controller."""

    active: bool


# ---- from the uplink


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentReceived:
    """A signed document arrived whole; nothing about it is verified yet."""

    kind: DocumentKind
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReceived:
    """A sealed command arrived; nothing about it is verified yet. ``retained``: the broker had kept it."""

    data: bytes
    retained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The hub has stored every event of this journal up to and including ``sequence``."""

    journal_id: JournalId
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsUnreadable:
    """The journal could not be read from ``sequence`` on."""

    journal_id: JournalId
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkChanged:
    """The connection to the broker came up or went down."""

    online: bool


# ---- from our own rim


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentAccepted:
    """A document was verified and is durable; ``policy`` and ``revocations`` are what is held with it.

    ``digest``: 8 bytes that tell it from another document of the same version.
    """

    kind: DocumentKind
    version: int
    digest: bytes
    policy: Policy | None
    revocations: StatusList | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRefused:
    """A document was not accepted; what was held before still is."""

    kind: DocumentKind
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAccepted:
    """A command is authentic, for this controller, in time and used for the first and last time; that is durable.

    It ends as ``command_executed`` or ``command_refused``.
    """

    command: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRefused:
    """A command is not carried out; ``command_id`` and ``door_id`` are those of an authentic one."""

    reason: Reason
    command_id: bytes | None = None
    door_id: DoorId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFailed:
    """This event could not be journalled, so the strike it stood before was not released."""

    draft: EventDraft


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFailed:
    """A part that no door needs does not work, or had to begin again; ``part`` and ``error`` are one word each."""

    part: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The process is up; ``details`` go into the event."""

    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """The process was asked to end."""


# ---- from the clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed: look at the timers."""


@unique
class Distrust(StrEnum):
    """Why the wall clock is not believed; wire strings.

    It shows less than a moment that is proven to have passed: the making of this software, an event in the journal,
    the issue of a document. It shows so much more than the issue of the documents that it cannot be right. Or it is
    to be synchronised over the network, and was not yet.
    """

    BEFORE_BUILD = "before_build"
    BEFORE_JOURNAL = "before_journal"
    BEFORE_DOCUMENT = "before_document"
    FAR_AHEAD = "far_ahead"
    NOT_SYNCHRONISED = "not_synchronised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """When an input is handled: wall time for rules and events, monotonic seconds for durations.

    ``distrust``: why the wall clock is not trusted; None while it is.
    """

    clock: ClockReading
    monotonic_s: float
    distrust: Distrust | None = None


Read: TypeAlias = CardDetected | CardClaimed | CardPresented | CardRefused | ReadFailed
ReaderInput: TypeAlias = Read | ReaderLost | ReaderRestored
PinInput: TypeAlias = ContactChanged | RexPressed | TamperChanged | FireChanged
UplinkInput: TypeAlias = DocumentReceived | CommandReceived | Acknowledged | EventsUnreadable | LinkChanged
IntakeInput: TypeAlias = DocumentAccepted | DocumentRefused | CommandAccepted | CommandRefused
RimInput: TypeAlias = IntakeInput | RecordFailed | PartFailed | Started | Stopping
Input: TypeAlias = ReaderInput | PinInput | UplinkInput | RimInput | Tick
