"""Where every presentation is decided, at first and whenever it is looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from edge.admitting import Admitting
from edge.effects import Record, Signal
from edge.inputs import CardClaimed, CardPresented, Now
from edge.premises import Premises
from edge.referrals import Referral, Referrals
from pacs.credential import VerifiedCredential
from pacs.decision import Decision, Outcome, decide
from pacs.events import Detail, EventKind
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.revocation import StatusList
from pacs.rules import Policy, Side
from pacs.situation import Situation

FORESEEN_S: Final = 0.25
"""How long a decision may have been made before its card proved itself."""

_KINDS: Final = {
    Outcome.GRANT: (EventKind.ACCESS_GRANTED, Signal.GRANTED),
    Outcome.DENY: (EventKind.ACCESS_DENIED, Signal.REFUSED),
    Outcome.REFER: (EventKind.ACCESS_REFERRED, Signal.WAITING),
}
_SIGNALS: Final = {Reason.LOCAL_AWAITED: Signal.CARD_AWAITED, Reason.HUB_AWAY: Signal.NOBODY}
"""Of reasons that are told apart at the reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision, the event and the signal that say so, and all that the decision was made from."""

    card: CardClaimed | CardPresented
    policy: Policy | None
    revocations: StatusList | None
    situation: Situation
    now: Now
    decision: Decision
    record: Record
    signal: Signal


class Deciding:
    """Asks the rules, with what is held and known at this moment."""

    def __init__(self, premises: Premises, referrals: Referrals, draw: Callable[[], bytes]) -> None:
        """``draw``: 16 bytes nobody can foretell."""
        self._premises = premises
        self._referrals = referrals
        self._draw = draw
        self._ahead: Decided | None = None

    def ahead(self, card: CardClaimed, now: Now) -> Record:
        """Decide about a card that has not proved itself; the event there would be. It is used if nothing changes."""
        self._ahead = self._decided(card, now)
        return self._ahead.record

    def forget(self) -> None:
        """An event came in between: events keep the order of their times."""
        self._ahead = None

    def about(self, card: CardPresented, now: Now) -> Decided:
        """The decision about a card that has proved itself."""
        ahead = self._ahead
        return ahead if ahead and self._still_holds(ahead, card, now) else self._decided(card, now)

    def again(
        self, referral: Referral, now: Now, *, escorted: bool = False, admitted: bool = False
    ) -> Decision:
        """The decision about somebody who waits. ``escorted``, ``admitted``: by a card that is there at this moment."""
        credential, door_id = referral.credential, referral.door_id
        situation = self._premises.situation(door_id, now, credential.credential_id, escorted=escorted)
        situation = replace(situation, admitted=admitted)
        return self._ask(credential, door_id, referral.side, situation, now)

    def timeout_s(self, door_id: DoorId, decision: Decision) -> int:
        """How long somebody waits who was referred by this decision."""
        rules = self._premises.doors[door_id].rules
        escort = decision.reason is Reason.ESCORT_AWAITED
        return rules.escort_window_s if escort else rules.attended_timeout_s

    def _decided(self, card: CardClaimed | CardPresented, now: Now) -> Decided:
        door_id, side, credential_id = card.door_id, card.side, card.credential.credential_id
        admitting = self._admitting(door_id, side, now)
        situation = self._premises.situation(door_id, now, credential_id)
        situation = replace(situation, admitted=admitting is not None)
        decision = self._ask(card.credential, door_id, side, situation, now)
        details: dict[str, Detail] = {}
        if decision.reason is Reason.LOCAL_GRANT and admitting:
            details = by_card(admitting.card)
        if situation.post and side is Side.ENTRY:
            details["watched"] = True
        if decision.outcome is Outcome.REFER:
            waiting = self._referrals.of(door_id, side, credential_id)
            request = waiting.request if waiting else self._draw()
            details |= {"request": request, "timeout_s": self.timeout_s(door_id, decision)}
        kind, _ = _KINDS[decision.outcome]
        record = Record.of(
            kind,
            now,
            door_id,
            side=side,
            credential_id=credential_id,
            reason=decision.reason,
            details=details,
        )
        return Decided(
            card=card,
            policy=self._premises.policy,
            revocations=self._premises.revocations,
            situation=situation,
            now=now,
            decision=decision,
            record=record,
            signal=signal_of(decision),
        )

    def _admitting(self, door_id: DoorId, side: Side, now: Now) -> Admitting | None:
        """The card by which somebody may pass, if it would be granted at this moment as well."""
        found = self._premises.admitting.at(door_id, now) if side is Side.ENTRY else None
        policy = self._premises.policy
        if found is None or policy is None:
            return None
        credential_id = found.card.credential_id
        entitlement = policy.entitlements.get(credential_id)
        if entitlement is None or not self._premises.doors[door_id].rules.may_admit(entitlement):
            return None
        situation = self._premises.situation(door_id, now, credential_id)
        granted = self._ask(found.card, door_id, side, situation, now).outcome is Outcome.GRANT
        return found if granted else None

    def _ask(
        self, credential: VerifiedCredential, door_id: DoorId, side: Side, situation: Situation, now: Now
    ) -> Decision:
        held, listed = self._premises.policy, self._premises.revocations
        return decide(
            credential, door_id, side, policy=held, revocations=listed, clock=now.clock, situation=situation
        )

    def _still_holds(self, ahead: Decided, card: CardPresented, now: Now) -> bool:
        """Whether it is about this card, from what is held and known, and of this moment by both clocks."""
        claimed, then = ahead.card, ahead.now
        known = self._premises.situation(card.door_id, now, card.credential.credential_id)
        admitted = self._admitting(card.door_id, card.side, now) is not None
        return (
            claimed.door_id == card.door_id
            and claimed.side is card.side
            and claimed.credential == card.credential
            and ahead.policy is self._premises.policy
            and ahead.revocations is self._premises.revocations
            and then.clock.trusted is now.clock.trusted
            and 0.0 <= now.monotonic_s - then.monotonic_s <= FORESEEN_S
            and 0.0 <= (now.clock.at - then.clock.at).total_seconds() <= FORESEEN_S
            and _is_same(ahead.situation, replace(known, admitted=admitted))
        )


def _is_same(then: Situation, since: Situation) -> bool:
    """Whether nothing but time has passed."""
    return (
        then.order == since.order
        and then.interlocked is since.interlocked
        and then.escorted is since.escorted
        and then.admitted is since.admitted
        and then.attendance is since.attendance
        and then.post == since.post
        and (then.inside_s is None) is (since.inside_s is None)
        and then.entry_seen is since.entry_seen
        and (then.first_person_at is None) is (since.first_person_at is None)
    )


def signal_of(decision: Decision) -> Signal:
    """What says so at the reader."""
    return _SIGNALS.get(decision.reason) or _KINDS[decision.outcome][1]


def by_card(card: VerifiedCredential) -> dict[str, Detail]:
    """Of an event: whose card answered for this person."""
    return {"by": bytes(card.credential_id)}
