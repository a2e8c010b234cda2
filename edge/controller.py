"""What a controller decides: inputs in, effects out, no adapter in reach.

Every presentation is decided on one line here, at first and whenever it is looked at again. An event always stands
before the strike it explains, and nothing at an exit side is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from edge.clock_steps import ClockSteps, distrust_of
from edge.command_execution import CommandExecution
from edge.door_state import Admitted, DoorState
from edge.effects import (
    AdoptIssuers,
    Effect,
    Indicate,
    LockStrike,
    Prepare,
    Record,
    Signal,
    Sync,
)
from edge.inputs import (
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
from edge.presence import Unseen
from edge.private_doors import TapCounts
from edge.referrals import Ending, Referral, Referrals
from edge.snapshot import DoorSnapshot
from pacs.commands import Action
from pacs.credential import VerifiedCredential
from pacs.decision import Decision, Outcome, decide
from pacs.events import Detail, EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Entitlement, Policy, Side
from pacs.situation import ModeOrder, Situation

FORESEEN_S: Final = 0.25
"""How long a decision may have been made before its card proved itself."""

_HARMLESS: Final = frozenset({CardDetected, CardClaimed})
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
    situation: Situation
    now: Now
    decision: Decision
    record: Record


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
        self._draw = draw
        self._counts = TapCounts()
        self._clock_steps = ClockSteps()
        self._execution = CommandExecution(
            self._premises, self._referrals, decided=self._decided_again, admit=self._admit_referred
        )
        self._foreseen: _Foreseen | None = None
        self._grants: list[Callable[[], None]] = []
        """What follows from the last grants, unless they cannot be recorded."""
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
            CommandRefused: self._command_refused,
            RecordFailed: self._record_failed,
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
        grants, self._grants = self._grants, []
        if type(happened) is not RecordFailed:
            for follow in grants:
                follow()
        effects = self._handlers[type(happened)](happened, now)
        if effects and type(happened) not in _HARMLESS:
            self._foreseen = None  # events keep the order of their times
        private = self._premises.private
        return self._counts.without_persons(effects, private, now) if private else effects

    # ---- cards

    def _detected(self, card: CardDetected, _now: Now) -> list[Effect]:
        return [Indicate(door_id=card.door_id, side=card.side, signal=Signal.READING)]

    def _claimed(self, card: CardClaimed, now: Now) -> list[Effect]:
        self._foreseen = foreseen = self._decided(card, now)
        return [] if card.door_id in self._premises.private else [Prepare(draft=foreseen.record.draft)]

    def _presented(self, card: CardPresented, now: Now) -> list[Effect]:
        foreseen = self._foreseen
        if foreseen is None or not self._still_holds(foreseen, card, now):
            foreseen = self._decided(card, now)
        door_id, side, decision, record = card.door_id, card.side, foreseen.decision, foreseen.record
        _, signal = _KINDS[decision.outcome]
        effects: list[Effect] = [*self._displace(card, now), record]
        if decision.outcome is Outcome.GRANT:
            effects += self._granted(card, decision, now)
        elif decision.outcome is Outcome.REFER and not self._wait(card, record, decision, now):
            signal = Signal.REFUSED
        return [*effects, Indicate(door_id=door_id, side=side, signal=signal), Sync()]

    def _decided(self, card: CardClaimed | CardPresented, now: Now) -> _Foreseen:
        credential_id = card.credential.credential_id
        situation = self._premises.situation(card.door_id, card.side, now, credential_id)
        decision = self._ask(card.credential, card.door_id, card.side, situation, now)
        details: dict[str, Detail] = {}
        if decision.outcome is Outcome.REFER:
            details = {"request": self._draw(), "timeout_s": self._timeout_s(card.door_id, decision)}
        kind, _ = _KINDS[decision.outcome]
        record = Record.of(
            kind,
            now,
            card.door_id,
            side=card.side,
            credential_id=credential_id,
            reason=decision.reason,
            details=details,
        )
        return _Foreseen(
            card=card,
            policy=self._premises.policy,
            revocations=self._premises.revocations,
            situation=situation,
            now=now,
            decision=decision,
            record=record,
        )

    def _ask(
        self, credential: VerifiedCredential, door_id: DoorId, side: Side, situation: Situation, now: Now
    ) -> Decision:
        held, listed = self._premises.policy, self._premises.revocations
        return decide(
            credential, door_id, side, policy=held, revocations=listed, clock=now.clock, situation=situation
        )

    def _still_holds(self, foreseen: _Foreseen, card: CardPresented, now: Now) -> bool:
        """Whether it is about this card, from what is held and known, and of this moment by both clocks."""
        claimed, then = foreseen.card, foreseen.now
        return (
            claimed.door_id == card.door_id
            and claimed.side is card.side
            and claimed.credential == card.credential
            and foreseen.policy is self._premises.policy
            and foreseen.revocations is self._premises.revocations
            and then.clock.trusted is now.clock.trusted
            and 0.0 <= now.monotonic_s - then.monotonic_s <= FORESEEN_S
            and 0.0 <= (now.clock.at - then.clock.at).total_seconds() <= FORESEEN_S
            and _is_same(
                foreseen.situation,
                self._premises.situation(card.door_id, card.side, now, card.credential.credential_id),
            )
        )

    def _refused(self, card: CardRefused, now: Now) -> list[Effect]:
        if card.side is Side.EXIT:
            return self._free_exit(card.door_id, card.side, now, presented=card.reason.value)
        # without a policy no issuer is known, so what verification found says nothing
        reason = card.reason if self._premises.policy else Reason.POLICY_MISSING
        return self._denied(card.door_id, card.side, card.credential_id, reason, now)

    def _denied(
        self, door_id: DoorId, side: Side, credential_id: CredentialId | None, reason: Reason, now: Now
    ) -> list[Effect]:
        record = Record.of(
            EventKind.ACCESS_DENIED, now, door_id, side=side, credential_id=credential_id, reason=reason
        )
        return [record, Indicate(door_id=door_id, side=side, signal=Signal.REFUSED), Sync()]

    def _not_read(self, card: ReadFailed, now: Now) -> list[Effect]:
        self.unread_count += 1
        if card.door_id in self._premises.private:
            self._counts.unread(card.door_id, now)
        if card.side is Side.EXIT:
            return self._free_exit(card.door_id, card.side, now, presented=card.fault.value)
        return [Indicate(door_id=card.door_id, side=card.side, signal=Signal.NOT_READ)]

    # ---- who is granted, and who with them

    def _granted(self, card: CardPresented, decision: Decision, now: Now) -> list[Effect]:
        """Release the door for whoever was granted, and for those who waited for this very escort."""
        door, side = self._premises.doors[card.door_id], card.side
        entitlement = self._entitlement(card.credential)
        together = [entitlement]
        companions: list[tuple[Referral, Decision]] = []
        unlock_ms = decision.unlock_ms
        if entitlement and entitlement.may_escort and side is Side.ENTRY:
            self._grants.append(partial(self._premises.presence.escort_granted, door.id, side, now))
            for referral in self._referrals.at(door.id, side):
                if not referral.awaits_escort or referral.is_over(now):
                    continue
                escorted = self._decided_again(referral, now, escorted=True)
                if escorted.outcome is Outcome.GRANT:
                    companions.append((referral, escorted))
                    together.append(self._entitlement(referral.credential))
                    unlock_ms = max(unlock_ms, escorted.unlock_ms)
        people = [card.credential.credential_id, *(r.credential.credential_id for r, _ in companions)]
        effects = self._release(door, side, people, unlock_ms, together, now)
        if side is Side.EXIT:
            effects += self._premises.settle(now)  # a door that it is interlocked with is held no longer
        for referral, escorted in companions:
            self._grants.append(partial(self._referrals.end, referral))
            effects += (
                Record.of(
                    EventKind.ACCESS_GRANTED,
                    now,
                    door.id,
                    side=side,
                    credential_id=referral.credential.credential_id,
                    reason=escorted.reason,
                    details={"request": referral.request},
                ),
                referral.ended(Ending.GRANTED, now),
            )
        return effects

    def _release(
        self,
        door: DoorState,
        side: Side,
        people: list[CredentialId],
        unlock_ms: int,
        entitlements: list[Entitlement | None],
        now: Now,
    ) -> list[Effect]:
        admitted = tuple(Admitted(credential_id=person, side=side) for person in people)
        extended = any(entitlement and entitlement.extended_opening for entitlement in entitlements)
        if not door.has_contact or door.is_open:  # nobody will see them pass
            passed = self._premises.presence.passed
            self._grants.append(partial(passed, door.rules, admitted, self._premises.policy, now))
        return [
            *door.release(
                unlock_ms, now, admitted=admitted, extended=extended, even_unrecorded=side is Side.EXIT
            )
        ]

    def _entitlement(self, credential: VerifiedCredential) -> Entitlement | None:
        policy = self._premises.policy
        return policy.entitlements.get(credential.credential_id) if policy else None

    def _record_failed(self, failed: RecordFailed, now: Now) -> list[Effect]:
        """Nobody is let in without an event: whoever was granted is denied, the command refused."""
        draft = failed.draft
        if draft.door_id is None:
            return []
        self._premises.doors[draft.door_id].withheld()
        effects: list[Effect] = []
        if draft.kind is EventKind.ACCESS_GRANTED and draft.side:
            effects = self._denied(draft.door_id, draft.side, draft.credential_id, Reason.JOURNAL_FAILED, now)
        if command := draft.details.get("command"):
            refused = Record.of(
                EventKind.COMMAND_REFUSED,
                now,
                draft.door_id,
                reason=Reason.JOURNAL_FAILED,
                details={"command": command, "action": draft.details.get("action", Action.GRANT.value)},
            )
            effects = [refused, *effects]
        return effects

    # ---- who waits for a person

    def _wait(self, card: CardPresented, record: Record, decision: Decision, now: Now) -> bool:
        """Have a person asked; at a private door nobody is told who stands there, so nobody can be asked."""
        request = record.draft.details["request"]
        is_private = card.door_id in self._premises.private
        if (is_private and decision.reason is not Reason.ESCORT_AWAITED) or not isinstance(request, bytes):
            return False
        self._referrals.add(
            Referral(
                request=request,
                credential=card.credential,
                door_id=card.door_id,
                side=card.side,
                reason=decision.reason,
                expires_s=now.monotonic_s + self._timeout_s(card.door_id, decision),
            )
        )
        return True

    def _timeout_s(self, door_id: DoorId, decision: Decision) -> int:
        rules = self._premises.doors[door_id].rules
        escort = decision.reason is Reason.ESCORT_AWAITED
        return rules.escort_window_s if escort else rules.attended_timeout_s

    def _displace(self, card: CardPresented, now: Now) -> list[Record]:
        displaced = self._referrals.displaced(card.door_id, card.side, card.credential.credential_id)
        for referral in displaced:
            self._referrals.end(referral)
        return [referral.ended(Ending.REPLACED, now) for referral in displaced]

    def _decided_again(self, referral: Referral, now: Now, *, escorted: bool = False) -> Decision:
        credential, door_id, side = referral.credential, referral.door_id, referral.side
        situation = self._premises.situation(door_id, side, now, credential.credential_id, escorted=escorted)
        return self._ask(credential, door_id, side, situation, now)

    def _admit_referred(self, referral: Referral, granted: Record, unlock_ms: int, now: Now) -> list[Effect]:
        door, entitlement = self._premises.doors[referral.door_id], self._entitlement(referral.credential)
        if not unlock_ms:  # decided by a person
            extended = entitlement is not None and entitlement.extended_opening
            unlock_ms = door.rules.extended_unlock_ms if extended else door.rules.unlock_ms
        people = [referral.credential.credential_id]
        self._grants.append(partial(self._referrals.end, referral))
        return [granted, *self._release(door, referral.side, people, unlock_ms, [entitlement], now)]

    def _reviewed(self, now: Now) -> list[Effect]:
        """Nobody waits for what is not asked any more, or must not be answered any more."""
        effects: list[Effect] = []
        for referral in self._referrals:
            ending, reason, signal = Ending.TIMEOUT, None, Signal.REFUSED
            if not referral.is_over(now):
                decision = self._decided_again(referral, now)
                if decision.outcome is Outcome.REFER or decision.reason is Reason.INTERLOCKED:
                    continue
                ending = Ending.WITHDRAWN
                if decision.outcome is Outcome.DENY:
                    reason = decision.reason
                else:  # would be let in from here on: is asked to present the card again
                    signal = Signal.NOT_READ
            self._referrals.end(referral)
            effects += (
                referral.ended(ending, now, reason=reason),
                Indicate(door_id=referral.door_id, side=referral.side, signal=signal),
            )
        return effects

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
        effects: list[Effect] = [record, *door.release(door.rules.unlock_ms, now, even_unrecorded=True)]
        if side:
            effects.append(Indicate(door_id=door_id, side=side, signal=Signal.GRANTED))
        forgiven = self._premises.presence.forgive(door.rules, Unseen.EXIT_REQUESTED, now)
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
        door = self._premises.doors[contact.door_id]
        report = door.contact(now, is_open=contact.open)
        if report.entered:
            self._premises.presence.passed(door.rules, report.entered, self._premises.policy, now)
        return self._synced([*report.effects, *self._settled(now)])

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
            effects += door.tick(now)
        counted_by_s = self._counts.deadline_s
        if counted_by_s is not None and now.monotonic_s >= counted_by_s:
            effects += self._counts.tell(now)
        return self._synced([*effects, *self._settled(now)])

    def _settled(self, now: Now) -> list[Effect]:
        """Modes, strikes, areas and those who wait, by what is held and known at this moment."""
        return [*self._premises.settle(now), *self._reviewed(now)]

    def _synced(self, effects: list[Effect]) -> list[Effect]:
        return [*effects, Sync()] if any(isinstance(effect, Record) for effect in effects) else effects

    # ---- documents, commands and the process

    def _accepted(self, document: DocumentAccepted, now: Now) -> list[Effect]:
        self._premises.adopt(document.policy, document.revocations)
        applied = {"kind": document.kind.value, "version": document.version, "digest": document.digest}
        record = Record.of(EventKind.POLICY_APPLIED, now, details=applied)
        return [*self._trust(), record, *self._settled(now), Sync()]

    def _document_refused(self, document: DocumentRefused, now: Now) -> list[Effect]:
        kind = {"kind": document.kind.value}
        return [
            Record.of(EventKind.POLICY_REFUSED, now, reason=document.reason, details=kind),
            Sync(),
        ]

    def _command(self, accepted: CommandAccepted, now: Now) -> list[Effect]:
        before = self._settled(now)  # nobody is granted by an answer to what is not asked any more
        return [*before, *self._execution.execute(accepted.command, now), *self._settled(now), Sync()]

    def _command_refused(self, refused: CommandRefused, now: Now) -> list[Effect]:
        details: dict[str, Detail] = {"command": refused.command_id} if refused.command_id else {}
        record = Record.of(
            EventKind.COMMAND_REFUSED, now, refused.door_id, reason=refused.reason, details=details
        )
        return [record, Sync()]

    def _part_failed(self, failed: PartFailed, now: Now) -> list[Effect]:
        details = {"about": failed.part, "error": failed.error}
        return [Record.of(EventKind.INTERNAL_FAULT, now, details=details), Sync()]

    def _started(self, started: Started, now: Now) -> list[Effect]:
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


def _is_same(then: Situation, since: Situation) -> bool:
    """Whether nothing but time has passed."""
    return (
        then.order == since.order
        and then.interlocked is since.interlocked
        and then.escorted is since.escorted
        and (then.inside_s is None) is (since.inside_s is None)
        and (then.first_person_at is None) is (since.first_person_at is None)
    )
