"""What a controller decides: inputs in, effects out, no adapter in reach.

Every presentation is decided on one line here. An event always stands before the strike it explains, and
nothing at an exit side is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edge.door_state import DoorState
from edge.effects import (
    AdoptIssuers,
    Effect,
    Indicate,
    LockStrike,
    Prepare,
    Record,
    ReleaseStrike,
    Signal,
    Sync,
)
from edge.inputs import (
    CardClaimed,
    CardDetected,
    CardPresented,
    CardRefused,
    ContactChanged,
    DocumentAccepted,
    DocumentRefused,
    Input,
    Now,
    PartFailed,
    ReaderLost,
    ReaderRestored,
    ReadFailed,
    RecordFailed,
    RexPressed,
    Started,
    Stopping,
    Tick,
)
from edge.snapshot import DoorSnapshot
from pacs.decision import EXIT_UNLOCK_MS, Decision, Outcome, decide, door_refusal
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.modes import effective_mode
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Door, DoorMode, Policy, Side
from pacs.situation import NOTHING_KNOWN

HELD_OPEN_AFTER_S: Final = 30
"""For a door the policy does not name."""
CLOCK_STEP_S: Final = 2.0
"""A wall clock that moves this much against the monotonic one was set."""
FORESEEN_S: Final = 0.25
"""How long a decision may have been made before its card proved itself."""

_HARMLESS: Final = frozenset({CardDetected, CardClaimed})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Final = {
    Outcome.GRANT: (EventKind.ACCESS_GRANTED, Signal.GRANTED),
    Outcome.DENY: (EventKind.ACCESS_DENIED, Signal.REFUSED),
    Outcome.REFER: (EventKind.ACCESS_REFERRED, Signal.WAITING),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foreseen:
    """A decision and the event that says so, and all that the decision was made from."""

    card: CardClaimed | CardPresented
    policy: Policy | None
    revocations: StatusList | None
    now: Now
    decision: Decision
    record: Record


class DoorController:
    """The state of one to four doors, and what follows from each input."""

    def __init__(
        self,
        doors: Iterable[DoorState],
        *,
        policy: Policy | None = None,
        revocations: StatusList | None = None,
    ) -> None:
        """The documents are those held at the start."""
        self._doors = {door.id: door for door in doors}
        self._policy = policy
        self._revocations = revocations
        self._foreseen: _Foreseen | None = None
        self._clock_offset: timedelta | None = None
        self._clock_trusted = True
        self._broken: frozenset[tuple[DoorId, Side]] = frozenset()  # another thread reads it
        self.unread_count = 0
        """Cards that could not be read since the start."""
        self._handlers: dict[type, Callable[[Any, Now], list[Effect]]] = {
            CardDetected: self._detected,
            CardClaimed: self._claimed,
            CardPresented: self._presented,
            CardRefused: self._refused,
            ReadFailed: self._not_read,
            ReaderLost: self._reader_lost,
            ReaderRestored: self._reader_restored,
            ContactChanged: self._contact,
            RexPressed: self._rex,
            DocumentAccepted: self._accepted,
            DocumentRefused: self._document_refused,
            RecordFailed: self._record_failed,
            PartFailed: self._part_failed,
            Started: self._started,
            Stopping: self._stopping,
            Tick: self._tick,
        }

    @property
    def broken_readers(self) -> tuple[str, ...]:
        """``door/side`` of each reader that does not work."""
        return tuple(sorted(f"{door_id}/{side.value}" for door_id, side in self._broken))

    @property
    def deadline_s(self) -> float | None:
        """The monotonic time by which the next ``Tick`` is needed; None: no timer runs."""
        deadlines = (door.deadline_s for door in self._doors.values())
        return min((at for at in deadlines if at is not None), default=None)

    def snapshot(self, now: Now) -> tuple[DoorSnapshot, ...]:
        """How every door stands, with its effective mode; for the thread that owns the state."""
        return tuple(self._door_snapshot(door, now) for door in self._doors.values())

    def on(self, happened: Input, now: Now) -> list[Effect]:
        """Return what to do, in order; raises only on a fault of our own."""
        effects = self._handlers[type(happened)](happened, now)
        if effects and type(happened) not in _HARMLESS:
            self._foreseen = None  # events keep the order of their times
        return effects

    # ---- cards

    def _detected(self, card: CardDetected, _now: Now) -> list[Effect]:
        return [Indicate(door_id=card.door_id, side=card.side, signal=Signal.READING)]

    def _claimed(self, card: CardClaimed, now: Now) -> list[Effect]:
        self._foreseen = foreseen = self._decided(card, now)
        return [Prepare(draft=foreseen.record.draft)]

    def _presented(self, card: CardPresented, now: Now) -> list[Effect]:
        foreseen = self._foreseen
        if foreseen is None or not self._still_holds(foreseen, card, now):
            foreseen = self._decided(card, now)
        door_id, side, decision, record = card.door_id, card.side, foreseen.decision, foreseen.record
        _, signal = _KINDS[decision.outcome]
        effects: list[Effect] = [record]
        if decision.outcome is Outcome.GRANT:
            way_out = side is Side.EXIT
            door = self._doors[door_id]
            effects.append(door.release(decision.unlock_ms, now, grant=record.draft, even_unrecorded=way_out))
        effects += (Indicate(door_id=door_id, side=side, signal=signal), Sync())
        return effects

    def _decided(self, card: CardClaimed | CardPresented, now: Now) -> _Foreseen:
        credential, door_id, side = card.credential, card.door_id, card.side
        held, listed = self._policy, self._revocations
        decision = decide(credential, door_id, side, policy=held, revocations=listed, clock=now.clock)
        kind, _ = _KINDS[decision.outcome]
        record = Record.of(
            kind, now, door_id, side=side, credential_id=credential.credential_id, reason=decision.reason
        )
        return _Foreseen(
            card=card, policy=held, revocations=listed, now=now, decision=decision, record=record
        )

    def _still_holds(self, foreseen: _Foreseen, card: CardPresented, now: Now) -> bool:
        """Whether it is about this card, from what is held, and of this moment by both clocks."""
        claimed, then = foreseen.card, foreseen.now
        return (
            claimed.door_id == card.door_id
            and claimed.side is card.side
            and claimed.credential == card.credential
            and foreseen.policy is self._policy
            and foreseen.revocations is self._revocations
            and then.clock.trusted is now.clock.trusted
            and 0.0 <= now.monotonic_s - then.monotonic_s <= FORESEEN_S
            and 0.0 <= (now.clock.at - then.clock.at).total_seconds() <= FORESEEN_S
        )

    def _refused(self, card: CardRefused, now: Now) -> list[Effect]:
        if card.side is Side.EXIT:
            return self._free_exit(card.door_id, card.side, now, presented=card.reason.value)
        # without a policy no issuer is known, so what verification found says nothing
        reason = card.reason if self._policy else Reason.POLICY_MISSING
        record = Record.of(
            EventKind.ACCESS_DENIED,
            now,
            card.door_id,
            side=card.side,
            credential_id=card.credential_id,
            reason=reason,
        )
        return [record, Indicate(door_id=card.door_id, side=card.side, signal=Signal.REFUSED), Sync()]

    def _not_read(self, card: ReadFailed, now: Now) -> list[Effect]:
        self.unread_count += 1
        if card.side is Side.EXIT:
            return self._free_exit(card.door_id, card.side, now, presented=card.fault.value)
        return [Indicate(door_id=card.door_id, side=card.side, signal=Signal.NOT_READ)]

    def _record_failed(self, failed: RecordFailed, now: Now) -> list[Effect]:
        self._doors[failed.door_id].withheld()
        record = Record.of(
            EventKind.ACCESS_DENIED,
            now,
            failed.door_id,
            side=failed.side,
            credential_id=failed.credential_id,
            reason=Reason.JOURNAL_FAILED,
        )
        return [record, Indicate(door_id=failed.door_id, side=failed.side, signal=Signal.REFUSED), Sync()]

    # ---- the way out

    def _rex(self, rex: RexPressed, now: Now) -> list[Effect]:
        return self._free_exit(rex.door_id, None, now, presented=None)

    def _free_exit(
        self, door_id: DoorId, side: Side | None, now: Now, *, presented: str | None
    ) -> list[Effect]:
        """Open for whoever stands inside; what was ``presented`` instead of an authentic card proves nobody."""
        details = {} if presented is None else {"presented": presented}
        record = Record.of(
            EventKind.EXIT_REQUESTED, now, door_id, side=side, reason=Reason.EXIT_FREE, details=details
        )
        in_policy = self._in_policy(door_id)
        unlock_ms = in_policy.unlock_ms if in_policy else EXIT_UNLOCK_MS
        effects: list[Effect] = [record, self._doors[door_id].release(unlock_ms, now, even_unrecorded=True)]
        if side:
            effects.append(Indicate(door_id=door_id, side=side, signal=Signal.GRANTED))
        return [*effects, Sync()]

    # ---- the hardware

    def _reader_lost(self, reader: ReaderLost, now: Now) -> list[Effect]:
        self._broken |= {(reader.door_id, reader.side)}
        cause = {"cause": reader.cause[:200]}
        return [
            Record.of(EventKind.READER_LOST, now, reader.door_id, side=reader.side, details=cause),
            Sync(),
        ]

    def _reader_restored(self, reader: ReaderRestored, now: Now) -> list[Effect]:
        self._broken -= {(reader.door_id, reader.side)}
        return [Record.of(EventKind.READER_RESTORED, now, reader.door_id, side=reader.side), Sync()]

    def _contact(self, contact: ContactChanged, now: Now) -> list[Effect]:
        in_policy = self._in_policy(contact.door_id)
        record = self._doors[contact.door_id].contact(
            now,
            is_open=contact.open,
            held_open_after_s=in_policy.held_open_after_s if in_policy else HELD_OPEN_AFTER_S,
        )
        return [record, Sync()] if record else []

    def _tick(self, _tick: Tick, now: Now) -> list[Effect]:
        records = [*self._clock_records(now), *(r for door in self._doors.values() for r in door.tick(now))]
        strikes = self._hold_unlocked(now)
        return [*records, *strikes, Sync()] if records else strikes

    def _clock_records(self, now: Now) -> list[Record]:
        """Say that the wall clock was set, or is believed from here on, or is no longer."""
        offset = now.clock.at - _EPOCH - timedelta(seconds=now.monotonic_s)
        known, was_trusted = self._clock_offset, self._clock_trusted
        self._clock_offset, self._clock_trusted = offset, now.clock.trusted
        step_s = (offset - known).total_seconds() if known else 0.0
        if known is None or (abs(step_s) < CLOCK_STEP_S and was_trusted is now.clock.trusted):
            return []
        return [Record.of(EventKind.CLOCK_CHANGED, now, details={"step_ms": round(step_s * 1000)})]

    def _hold_unlocked(self, now: Now) -> list[Effect]:
        """Hold the doors whose mode is unlocked, for as long as the documents may be acted on."""
        effects: list[Effect] = []
        for door in self._doors.values():
            in_policy = self._in_policy(door.id)
            strike = door.hold(
                now,
                unlocked=self._is_unlocked(in_policy, now),
                held_open_after_s=in_policy.held_open_after_s if in_policy else HELD_OPEN_AFTER_S,
            )
            if strike:
                effects.append(strike)
        return effects

    def _is_unlocked(self, door: Door | None, now: Now) -> bool:
        if door is None or door.mode is not DoorMode.UNLOCKED or not (self._policy and self._revocations):
            return False
        return door_refusal(door, door.mode, self._policy, self._revocations, now.clock) is None

    def _door_snapshot(self, door: DoorState, now: Now) -> DoorSnapshot:
        in_policy = self._in_policy(door.id)
        mode, cause, by = DoorMode.SECURED.value, "door_unknown" if self._policy else "policy_missing", ""
        if in_policy and self._policy:
            found = effective_mode(
                in_policy, self._policy, NOTHING_KNOWN, at=now.clock.at, clock_trusted=now.clock.trusted
            )
            mode, cause, by = found.mode.value, found.cause.value, found.by
        return DoorSnapshot(
            door=door.id,
            mode=mode,
            cause=cause,
            by=by,
            contact=door.contact_state,
            strike="released" if door.is_released(now) else "locked",
        )

    def _in_policy(self, door_id: DoorId) -> Door | None:
        return self._policy.doors.get(door_id) if self._policy else None

    # ---- documents and the process

    def _accepted(self, document: DocumentAccepted, now: Now) -> list[Effect]:
        self._policy, self._revocations = document.policy, document.revocations
        applied = {"kind": document.kind.value, "version": document.version}
        record = Record.of(EventKind.POLICY_APPLIED, now, details=applied)
        return [*self._trust(), record, *self._hold_unlocked(now), Sync()]

    def _document_refused(self, document: DocumentRefused, now: Now) -> list[Effect]:
        kind = {"kind": document.kind.value}
        return [
            Record.of(EventKind.POLICY_REFUSED, now, reason=document.reason, details=kind),
            Sync(),
        ]

    def _part_failed(self, failed: PartFailed, now: Now) -> list[Effect]:
        details = {"about": failed.part, "error": failed.error}
        return [Record.of(EventKind.INTERNAL_FAULT, now, details=details), Sync()]

    def _started(self, started: Started, now: Now) -> list[Effect]:
        self._clock_records(now)
        record = Record.of(EventKind.CONTROLLER_STARTED, now, details=started.details)
        return [*self._trust(), record, *self._hold_unlocked(now), Sync()]

    def _stopping(self, _stopping: Stopping, now: Now) -> list[Effect]:
        locks = [LockStrike(door_id=door_id) for door_id in self._doors]
        return [*locks, Record.of(EventKind.CONTROLLER_STOPPED, now), Sync()]

    def _trust(self) -> list[Effect]:
        return [AdoptIssuers(issuers=self._policy.issuers)] if self._policy else []


def after_fault(happened: Input, now: Now) -> list[Effect]:
    """What a person at a door gets when ``DoorController.on`` raised: the way in stays shut, the way out opens.

    Uses no state: the state is what failed.
    """
    match happened:
        case (
            CardPresented(door_id=door_id, side=Side.EXIT)
            | CardRefused(door_id=door_id, side=Side.EXIT)
            | ReadFailed(door_id=door_id, side=Side.EXIT)
            | RexPressed(door_id=door_id)
        ):
            exit_requested = Record.of(EventKind.EXIT_REQUESTED, now, door_id, reason=Reason.EXIT_FREE)
            return [
                exit_requested,
                ReleaseStrike(door_id=door_id, unlock_ms=EXIT_UNLOCK_MS, even_unrecorded=True),
            ]
        case CardPresented(door_id=door_id, side=side):
            credential_id: CredentialId | None = happened.credential.credential_id
        case CardRefused(door_id=door_id, side=side, credential_id=credential_id):
            pass
        case _:
            return []
    denied = Record.of(
        EventKind.ACCESS_DENIED,
        now,
        door_id,
        side=side,
        credential_id=credential_id,
        reason=Reason.INTERNAL_FAULT,
    )
    return [denied, Indicate(door_id=door_id, side=side, signal=Signal.REFUSED)]
