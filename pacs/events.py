"""Events: what happened at a door, chained so that none can be dropped or changed unseen.

Each event carries its sequence (from 1) and the SHA-256 of the event before it; the first one carries
``genesis(controller, journal)``. The controller signs the *head* of what it publishes, one event
or hundreds, and by it everything before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pacs import cbor, envelope
from pacs.cbor import Fields, milliseconds, without_none
from pacs.envelope import Sealed
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, CredentialId, DoorId, JournalId
from pacs.reason import Reason
from pacs.rules import Side

HEAD_MEDIA_TYPE = "application/drempel-event-head+cbor"
FORMAT = 1
MAX_EVENT_BYTES = 1_024
MAX_BATCH_BYTES = 64_000
MAX_BATCH_EVENTS = 500

type_of_detail = (int, str, bytes, bool)
Detail = int | str | bytes | bool


@unique
class EventKind(StrEnum):
    """Everything that is recorded; the values are wire strings."""

    ACCESS_GRANTED = "access_granted"
    ACCESS_DENIED = "access_denied"
    ACCESS_REFERRED = "access_referred"
    DOOR_OPENED = "door_opened"
    DOOR_CLOSED = "door_closed"
    DOOR_FORCED = "door_forced"
    DOOR_HELD_WARNING = "door_held_warning"
    DOOR_HELD = "door_held"
    DOOR_ALARM_CLEARED = "door_alarm_cleared"
    DOOR_MODE_CHANGED = "door_mode_changed"
    DOOR_ATTENDANCE_CHANGED = "door_attendance_changed"
    POST_OPENED = "post_opened"
    POST_CLOSED = "post_closed"
    TAMPER_OPENED = "tamper_opened"
    TAMPER_CLOSED = "tamper_closed"
    FIRE_REPORTED = "fire_reported"
    FIRE_CLEARED = "fire_cleared"
    TAPS_COUNTED = "taps_counted"
    REFERRAL_ENDED = "referral_ended"
    ANTIPASSBACK_FORGIVEN = "antipassback_forgiven"
    DOOR_NOT_ENTERED = "door_not_entered"
    EXIT_REQUESTED = "exit_requested"
    READER_LOST = "reader_lost"
    READER_RESTORED = "reader_restored"
    POLICY_APPLIED = "policy_applied"
    POLICY_REFUSED = "policy_refused"
    COMMAND_EXECUTED = "command_executed"
    COMMAND_REFUSED = "command_refused"
    CONTROLLER_STARTED = "controller_started"
    CONTROLLER_STOPPED = "controller_stopped"
    CLOCK_CHANGED = "clock_changed"
    JOURNAL_GAP = "journal_gap"
    JOURNAL_FULL = "journal_full"
    JOURNAL_RESTORED = "journal_restored"
    INTERNAL_FAULT = "internal_fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """What happened, before it has a place in the journal.

    ``occurred_at``: aware, kept to the millisecond. ``details``: at most 16 short facts, never about a person but by a credential id.
    """

    kind: EventKind
    occurred_at: datetime
    clock_trusted: bool
    door_id: DoorId | None = None
    side: Side | None = None
    credential_id: CredentialId | None = None
    reason: Reason | None = None
    details: Mapping[str, Detail] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A draft with its place in one journal."""

    sequence: int
    previous_hash: bytes
    draft: EventDraft

    def __bytes__(self) -> bytes:
        draft = self.draft
        encode = cbor.encode if draft.details else cbor.encode_in_order  # the fields below are in order
        return encode(
            without_none(
                {
                    0: FORMAT,
                    1: self.sequence,
                    2: self.previous_hash,
                    3: draft.kind.value,
                    4: milliseconds(draft.occurred_at),
                    5: draft.clock_trusted,
                    6: None if draft.door_id is None else str(draft.door_id),
                    7: None if draft.side is None else draft.side.value,
                    8: None if draft.credential_id is None else bytes(draft.credential_id),
                    9: None if draft.reason is None else draft.reason.value,
                    10: dict(draft.details) or None,
                }
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read one event; raises ``MalformedData``."""
        fields = Fields(cbor.decode(data, limit=MAX_EVENT_BYTES), "event")
        if fields.take(0, int) != FORMAT:
            raise MalformedData("event: format not known")
        sequence = fields.natural(1)
        previous_hash = fields.sized(2, 32)
        credential = fields.maybe(8, bytes)
        draft = EventDraft(
            kind=fields.known(3, _KINDS),
            occurred_at=fields.moment(4),
            clock_trusted=fields.take(5, bool),
            door_id=fields.maybe_parsed(6, DoorId),
            side=fields.maybe_known(7, _SIDES),
            credential_id=None if credential is None else CredentialId(credential),
            reason=fields.maybe_known(9, _REASONS),
            details=_details(fields.maybe(10, dict)),
        )
        fields.finish()
        if sequence < 1:
            raise MalformedData("event: sequences start at 1")
        return cls(sequence=sequence, previous_hash=previous_hash, draft=draft)


_KINDS = {kind.value: kind for kind in EventKind}
_SIDES = {side.value: side for side in Side}
_REASONS = {reason.value: reason for reason in Reason}


def _details(value: dict[object, object] | None) -> dict[str, Detail]:
    if value is None:
        return {}
    if not 1 <= len(value) <= 16:
        raise MalformedData("event details: 1 to 16 expected")
    details: dict[str, Detail] = {}
    for name, fact in value.items():
        if type(fact) not in type_of_detail:
            raise MalformedData("event details: number, text, bytes or flag expected")
        details[cbor.exactly(name, str, "event details")] = fact  # type: ignore[assignment]
    return details


def event_hash(data: bytes) -> bytes:
    """What the next event carries: SHA-256 over the event's exact bytes."""
    return hashlib.sha256(data).digest()


def genesis(controller_id: ControllerId, journal_id: JournalId) -> bytes:
    """What the first event of a journal carries."""
    return hashlib.sha256(f"drempel journal\0{controller_id}\0{journal_id}".encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Consecutive events of one journal under one signed head; 1 to ``MAX_BATCH_EVENTS``.

    ``encoded`` holds the exact bytes of ``events``, which are what was hashed.
    """

    controller_id: ControllerId
    journal_id: JournalId
    events: tuple[Event, ...]
    encoded: tuple[bytes, ...]
    last_hash: bytes
    head: Sealed

    @classmethod
    def open(
        cls, data: bytes, controller_id: ControllerId, trusted: Mapping[bytes, Ed25519PublicKey]
    ) -> Self:
        """Verify head, identity and the chain inside.

        The caller compares ``events[0].previous_hash`` with what it holds. Raises ``MalformedData`` when the
        bytes, the identity or the chain do not agree, ``VerificationError`` when the head is not authentic.
        """
        batch = cls.read(data, controller_id)
        batch.verify(trusted)
        return batch

    def verify(self, trusted: Mapping[bytes, Ed25519PublicKey]) -> None:
        """Prove these events, and by their chain those before; raises ``VerificationError``."""
        self.head.verify(trusted)

    @classmethod
    def read(cls, data: bytes, controller_id: ControllerId) -> Self:
        """As ``open``, but nothing is proven until this batch, or one that continues its chain, is verified.

        Raises ``MalformedData``.
        """
        parts = cbor.exactly(cbor.decode(data, limit=MAX_BATCH_BYTES), list, "batch")
        if len(parts) != 2:
            raise MalformedData("batch: head and events expected")
        head = Sealed.read(cbor.exactly(parts[0], bytes, "batch head"), HEAD_MEDIA_TYPE)
        fields = Fields(cbor.decode(head.unproven, limit=512), "event head")
        signed_controller = fields.take(1, str)
        journal_id = fields.parsed(2, JournalId)
        last_sequence, last_hash = fields.natural(3), fields.sized(4, 32)
        fields.finish()
        if signed_controller != controller_id:
            raise MalformedData("event head: signed for another controller")
        encoded = [cbor.exactly(item, bytes, "batch") for item in cbor.exactly(parts[1], list, "batch")]
        if not 1 <= len(encoded) <= MAX_BATCH_EVENTS:
            raise MalformedData(f"batch: 1 to {MAX_BATCH_EVENTS} events expected")
        events = tuple(map(Event.from_bytes, encoded))
        if events[-1].sequence != last_sequence or _last_hash(events, encoded) != last_hash:
            raise MalformedData("batch: events are not the ones the head was signed over")
        return cls(
            controller_id=controller_id,
            journal_id=journal_id,
            events=events,
            encoded=tuple(encoded),
            last_hash=last_hash,
            head=head,
        )


def _last_hash(events: Sequence[Event], encoded: Sequence[bytes]) -> bytes:
    before = events[0]
    digest = event_hash(encoded[0])
    for event, data in zip(events[1:], encoded[1:], strict=True):
        if event.sequence != before.sequence + 1 or event.previous_hash != digest:
            raise MalformedData("batch: the chain between its events is broken")
        before, digest = event, event_hash(data)
    return digest


def seal_batch(
    controller_id: ControllerId,
    journal_id: JournalId,
    last_sequence: int,
    encoded: Sequence[bytes],
    key: Ed25519PrivateKey,
) -> bytes:
    """Sign consecutive events, given as their exact bytes, for publication."""
    head = cbor.encode(
        {1: str(controller_id), 2: str(journal_id), 3: last_sequence, 4: event_hash(encoded[-1])}
    )
    return cbor.encode([envelope.seal(head, HEAD_MEDIA_TYPE, key), list(encoded)])
