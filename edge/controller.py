"""What a controller decides: inputs in, effects out, no adapter in reach.

Cards are decided about in ``edge.deciding``; what becomes of that is in ``edge.admission``. An event always stands
before the strike it explains, and nothing at an exit side is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from edge.admission import Admission, denied
from edge.clock_steps import ClockSteps, distrust_of
from edge.command_execution import CommandExecution
from edge.deciding import Deciding
from edge.door_state import DoorState, Passage, Unseen
from edge.effects import (
    AdoptIssuers,
    Effect,
    Indicate,
    LockStrike,
    Prepare,
    Record,
    Signal,
    Sync,
    command_refused,
)
from edge.inputs import (
    Acknowledged,
    CardClaimed,
    CardDetected,
    CardPresented,
    CardRefused,
    CommandAccepted,
    CommandRefused,
    ContactChanged,
    DocumentAccepted,
    DocumentRefused,
    FireChanged,
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
    TamperChanged,
    Tick,
)
from edge.premises import Premises
from edge.private_doors import TapCounts
from edge.referrals import Ending, Referrals
from edge.snapshot import DoorSnapshot
from pacs.events import Detail, EventKind
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Policy, Side
from pacs.situation import ModeOrder

_HARMLESS: Final = frozenset({CardDetected, CardClaimed})


class DoorController:
    """The state of one to four doors, and what follows from each input."""

    def __init__(
        self,
        doors: Iterable[DoorState],
        *,
        draw: Callable[[], bytes],
        policy: Policy | None = None,
        revocations: StatusList | None = None,
        orders: Mapping[DoorId, ModeOrder] | None = None,
    ) -> None:
        """The documents and orders are those held at the start. ``draw``: 16 bytes nobody can foretell."""
        self._premises = Premises(doors, policy=policy, revocations=revocations, orders=orders or {})
        self._referrals = Referrals()
        self._counts = TapCounts()
        self._clock_steps = ClockSteps()
        self._deciding = Deciding(self._premises, self._referrals, draw)
        self._admission = Admission(self._premises, self._referrals, self._deciding)
        self._execution = CommandExecution(
            self._premises,
            self._referrals,
            decided=self._deciding.again,
            admit=self._admission.let_in_referred,
        )
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
            TamperChanged: self._tamper,
            FireChanged: self._fire,
            DocumentAccepted: self._accepted,
            DocumentRefused: self._document_refused,
            CommandAccepted: self._command,
            Acknowledged: self._acknowledged,
            CommandRefused: self._command_refused,
            RecordFailed: lambda failed, now: self._admission.record_failed(failed.draft, now),
            PartFailed: self._part_failed,
            Started: self._started,
            Stopping: self._stopping,
            Tick: self._tick,
        }

    @property
    def broken_readers(self) -> tuple[str, ...]:
        """``door/side`` of each reader that does not work."""
        return tuple(sorted(f"{door_id}/{side.value}" for door_id, side in self._premises.broken))

    @property
    def private_doors(self) -> frozenset[DoorId]:
        """Those of which nothing about a person is recorded."""
        return self._premises.private

    @property
    def deadline_s(self) -> float | None:
        """The monotonic time by which the next ``Tick`` is needed; None: no timer runs."""
        deadlines = [door.deadline_s for door in self._premises.doors.values()]
        deadlines += [self._referrals.deadline_s, self._counts.deadline_s]
        return min((at for at in deadlines if at is not None), default=None)

    def snapshot(self, now: Now) -> tuple[DoorSnapshot, ...]:
        """How every door stands, with its effective mode; for the thread that owns the state."""
        waiting = Counter(referral.door_id for referral in self._referrals)
        return self._premises.snapshot(now, waiting)

    def on(self, happened: Input, now: Now) -> list[Effect]:
        """Return what to do, in order; raises only on a fault of our own."""
        private = (
            self._premises.private
        )  # of a door that becomes private it is yet said that nobody waits there
        effects: list[Effect] = []
        if type(happened) is not RecordFailed:
            effects += self._admission.follow_up(now)
        try:
            effects += self._handlers[type(happened)](happened, now)
        except Exception:
            self._admission.abandon()
            raise
        if effects and type(happened) not in _HARMLESS:
            self._deciding.forget()
        return self._counts.without_persons(effects, private, now) if private else effects

    # ---- cards

    def _detected(self, card: CardDetected, _now: Now) -> list[Effect]:
        return [Indicate(door_id=card.door_id, side=card.side, signal=Signal.READING)]

    def _claimed(self, card: CardClaimed, now: Now) -> list[Effect]:
        record = self._deciding.ahead(card, now)
        return [] if card.door_id in self._premises.private else [Prepare(draft=record.draft)]

    def _presented(self, card: CardPresented, now: Now) -> list[Effect]:
        return [*self._admission.answer(card, self._deciding.about(card, now), now), Sync()]

    def _refused(self, card: CardRefused, now: Now) -> list[Effect]:
        if card.side is Side.EXIT:
            return self._free_exit(card.door_id, card.side, now, presented=card.reason.value)
        # without a policy no issuer is known, so what verification found says nothing
        reason = card.reason if self._premises.policy else Reason.POLICY_MISSING
        record = denied(card.door_id, card.side, card.credential_id, reason, now)
        return [record, Indicate(door_id=card.door_id, side=card.side, signal=Signal.REFUSED), Sync()]

    def _not_read(self, card: ReadFailed, now: Now) -> list[Effect]:
        self.unread_count += 1
        if card.door_id in self._premises.private:
            self._counts.unread(card.door_id, now)
        if card.side is Side.EXIT:
            return self._free_exit(card.door_id, card.side, now, presented=card.fault.value)
        return [Indicate(door_id=card.door_id, side=card.side, signal=Signal.NOT_READ)]

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
        door = self._premises.doors[door_id]
        unseen = Unseen.EXIT_REQUESTED
        released = door.release(door.rules.unlock_ms, now, unseen=unseen, even_unrecorded=True)
        effects: list[Effect] = [record, *released]
        if side:
            effects.append(Indicate(door_id=door_id, side=side, signal=Signal.GRANTED))
        forgiven = self._premises.presence.forgive(door.rules, unseen, now)
        return [*effects, *forgiven, *self._settled(now), Sync()]

    # ---- the hardware

    def _reader_lost(self, reader: ReaderLost, now: Now) -> list[Effect]:
        self._premises.broken |= {(reader.door_id, reader.side)}
        cause = {"cause": reader.cause[:200]}
        record = Record.of(EventKind.READER_LOST, now, reader.door_id, side=reader.side, details=cause)
        return [record, *self._settled(now), Sync()]

    def _reader_restored(self, reader: ReaderRestored, now: Now) -> list[Effect]:
        self._premises.broken -= {(reader.door_id, reader.side)}
        record = Record.of(EventKind.READER_RESTORED, now, reader.door_id, side=reader.side)
        return [record, *self._settled(now), Sync()]

    def _contact(self, contact: ContactChanged, now: Now) -> list[Effect]:
        happened_s = now.monotonic_s if contact.at_s is None else min(contact.at_s, now.monotonic_s)
        door, then = self._premises.doors[contact.door_id], replace(now, monotonic_s=happened_s)
        passage = door.contact(then, is_open=contact.open)
        return self._synced([*self._noticed(door, passage, then), *self._settled(now)])

    def _noticed(self, door: DoorState, passage: Passage, now: Now) -> list[Effect]:
        forgiven = self._premises.presence.noticed(door.rules, passage, self._premises.policy, now)
        return [*passage.effects, *forgiven]

    def _tamper(self, tamper: TamperChanged, now: Now) -> list[Effect]:
        return self._synced([*self._premises.doors[tamper.door_id].tamper(now, is_open=tamper.open)])

    def _fire(self, fire: FireChanged, now: Now) -> list[Effect]:
        if fire.active is self._premises.fire:
            return []
        self._premises.fire = fire.active
        kind = EventKind.FIRE_REPORTED if fire.active else EventKind.FIRE_CLEARED
        effects: list[Effect] = [Record.of(kind, now)]
        for door in self._premises.doors.values():
            effects += door.fire_changed(now, active=fire.active)
        return self._synced([*effects, *self._settled(now)])

    def _tick(self, _tick: Tick, now: Now) -> list[Effect]:
        effects: list[Effect] = [*self._clock_steps.seen(now)]
        for door in self._premises.doors.values():
            effects += self._noticed(door, door.tick(now), now)
        counted_by_s = self._counts.deadline_s
        if counted_by_s is not None and now.monotonic_s >= counted_by_s:
            effects += self._counts.tell(now)
        return self._synced([*effects, *self._settled(now)])

    def _settled(self, now: Now) -> list[Effect]:
        """Modes, strikes, areas and those who wait, by what is held and known at this moment."""
        return [*self._premises.settle(now), *self._admission.reviewed(now)]

    def _synced(self, effects: list[Effect]) -> list[Effect]:
        return [*effects, Sync()] if any(isinstance(effect, Record) for effect in effects) else effects

    # ---- documents, commands and the process

    def _accepted(self, document: DocumentAccepted, now: Now) -> list[Effect]:
        private = self._premises.private
        forgiven = self._premises.adopt(document.policy, document.revocations, now)
        withdrawn = self._admission.withdrawn(private ^ self._premises.private, now)
        applied = {"kind": document.kind.value, "version": document.version, "digest": document.digest}
        record = Record.of(EventKind.POLICY_APPLIED, now, details=applied)
        return [*self._trust(), record, *forgiven, *withdrawn, *self._settled(now), Sync()]

    def _document_refused(self, document: DocumentRefused, now: Now) -> list[Effect]:
        kind = {"kind": document.kind.value}
        return [
            Record.of(EventKind.POLICY_REFUSED, now, reason=document.reason, details=kind),
            Sync(),
        ]

    def _command(self, accepted: CommandAccepted, now: Now) -> list[Effect]:
        before = self._settled(now)  # nobody is granted by an answer to what is not asked any more
        return [*before, *self._execution.execute(accepted.command, now), *self._settled(now), Sync()]

    def _acknowledged(self, _acknowledged: Acknowledged, now: Now) -> list[Effect]:
        hub = self._premises.hub
        was_away = hub.away_s(now) is not None
        hub.heard(now)
        return self._synced(self._settled(now)) if was_away else []

    def _command_refused(self, refused: CommandRefused, now: Now) -> list[Effect]:
        details: dict[str, Detail] = {"command": refused.command_id} if refused.command_id else {}
        return [command_refused(now, refused.door_id, refused.reason, details), Sync()]

    def _part_failed(self, failed: PartFailed, now: Now) -> list[Effect]:
        details = {"about": failed.part, "error": failed.error}
        return [Record.of(EventKind.INTERNAL_FAULT, now, details=details), Sync()]

    def _started(self, started: Started, now: Now) -> list[Effect]:
        self._premises.hub.begin(now)
        self._clock_steps.seen(now)
        distrust = distrust_of(now)
        details = {**started.details, **({"distrust": distrust} if distrust else {})}
        record = Record.of(EventKind.CONTROLLER_STARTED, now, details=details)
        return [*self._trust(), record, *self._settled(now), Sync()]

    def _stopping(self, _stopping: Stopping, now: Now) -> list[Effect]:
        effects: list[Effect] = [LockStrike(door_id=door_id) for door_id in self._premises.doors]
        for referral in self._referrals:
            self._referrals.end(referral)
            effects.append(referral.ended(Ending.WITHDRAWN, now))
        return [
            *effects,
            *self._counts.tell(now),
            Record.of(EventKind.CONTROLLER_STOPPED, now),
            Sync(),
        ]

    def _trust(self) -> list[Effect]:
        policy = self._premises.policy
        return [AdoptIssuers(issuers=policy.issuers)] if policy else []
