"""What becomes of a decision: who is let in and who with them, who waits for a person, and how that ends.

Every event stands before the strike it explains.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

from edge.admitting import Admitting
from edge.deciding import Decided, Deciding, by_card, signal_of
from edge.door_state import Admitted, DoorState
from edge.effects import Effect, Indicate, Record, Signal, Sync, command_refused
from edge.inputs import CardPresented, Now
from edge.premises import Premises
from edge.referrals import Ending, Referral, Referrals
from pacs.commands import Action
from pacs.credential import VerifiedCredential
from pacs.decision import Decision, Outcome
from pacs.events import EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Entitlement, Side

log = logging.getLogger(__name__)


class Admission:
    """Belongs to the thread that owns the state."""

    def __init__(self, premises: Premises, referrals: Referrals, deciding: Deciding) -> None:
        self._premises = premises
        self._referrals = referrals
        self._deciding = deciding
        self._follow_ups: list[Callable[[], None]] = []
        """What follows from the last grants, unless they cannot be recorded."""
        self._granted: tuple[EventDraft, ...] = ()
        """For whom the last release was."""

    # ---- after the last input

    def follow_up(self, now: Now) -> list[Record]:
        """The last grants were recorded: do what follows; an event for each part of it that fails."""
        if not self._follow_ups:
            return []
        follow_ups, self._follow_ups = self._follow_ups, []
        faults = []
        for follow in follow_ups:
            try:
                follow()
            except Exception as error:  # the next input is not to suffer for it
                log.exception("what follows from a grant failed")
                details = {"about": "follow_up", "error": type(error).__name__}
                faults.append(Record.of(EventKind.INTERNAL_FAULT, now, details=details))
        return faults

    def abandon(self) -> None:
        """The last grants came to nothing: nothing follows."""
        self._follow_ups.clear()

    def record_failed(self, draft: EventDraft, now: Now) -> list[Effect]:
        """Nobody is let in without an event: whoever was granted is denied, the command refused."""
        self.abandon()
        if draft.door_id is None:
            return []
        self._premises.doors[draft.door_id].withheld()
        effects: list[Effect] = []
        together = self._granted if draft in self._granted else (draft,)
        if command := together[0].details.get("command"):
            action = together[0].details.get("action", Action.GRANT.value)
            details = {"command": command, "action": action}
            effects.append(command_refused(now, draft.door_id, Reason.JOURNAL_FAILED, details))
        if draft.kind is EventKind.ACCESS_GRANTED and draft.side:
            effects += (
                denied(draft.door_id, draft.side, person.credential_id, Reason.JOURNAL_FAILED, now)
                for person in together
            )
            effects += Indicate(door_id=draft.door_id, side=draft.side, signal=Signal.REFUSED), Sync()
        return effects

    # ---- cards

    def answer(self, card: CardPresented, decided: Decided, now: Now) -> list[Effect]:
        """What is done about a card that was decided about."""
        door_id, side, decision, record = card.door_id, card.side, decided.decision, decided.record
        shown = Indicate(door_id=door_id, side=side, signal=decided.signal)
        if decision.outcome is Outcome.GRANT:
            door = self._premises.doors[door_id]
            by_itself = self._admits(card.credential, door, side)
            let_in, companions = self._let_in(
                card.credential, door, side, record, decision.unlock_ms, now, by_itself=by_itself
            )
            if decision.reason is Reason.LOCAL_GRANT:
                self._follow_ups.append(partial(self._premises.admitting.used, door_id))
            effects = [*self._displaced(card, now, adding=False, but=companions), *let_in]
            if side is Side.EXIT:
                effects += self._premises.settle(now)  # a door that it is interlocked with is held no longer
            return [*effects, shown]
        if decision.outcome is Outcome.REFER:
            referral = self._referral(card, decided, now)
            if referral is None:
                return [record, Indicate(door_id=door_id, side=side, signal=Signal.REFUSED)]
            displaced = self._displaced(card, now, adding=True)
            self._referrals.add(referral)
            if door_id not in self._premises.private:
                self._premises.hub.asked(now)
            return [*displaced, record, shown]
        return [record, shown]

    def _displaced(
        self, card: CardPresented, now: Now, *, adding: bool, but: Collection[Referral] = ()
    ) -> list[Record]:
        rules = self._premises.doors[card.door_id].rules
        found = self._referrals.displaced(
            card.door_id,
            card.side,
            card.credential.credential_id,
            adding=adding,
            together=rules.admits_at_most if rules.admitting_levels else 1,
        )
        displaced = [referral for referral in found if referral not in but]
        for referral in displaced:
            self._referrals.end(referral)
        return [referral.ended(Ending.REPLACED, now) for referral in displaced]

    def _referral(self, card: CardPresented, decided: Decided, now: Now) -> Referral | None:
        """To have a person asked; at a private door nobody is told who stands there, so nobody can be asked."""
        decision, request = decided.decision, decided.record.draft.details["request"]
        is_private = card.door_id in self._premises.private
        if (is_private and decision.reason is not Reason.ESCORT_AWAITED) or not isinstance(request, bytes):
            return None
        return Referral(
            request=request,
            credential=card.credential,
            door_id=card.door_id,
            side=card.side,
            reason=decision.reason,
            expires_s=now.monotonic_s + self._deciding.timeout_s(card.door_id, decision),
        )

    # ---- who is let in, and who with them

    def let_in_referred(
        self, referral: Referral, granted: Record, decision: Decision, now: Now
    ) -> list[Effect]:
        """Record that a person granted this, release, and end the referral once that is done."""
        door, entitlement = self._premises.doors[referral.door_id], self._entitlement(referral.credential)
        unlock_ms = decision.unlock_ms or door.rules.unlock_ms_for(entitlement)
        self._follow_ups.append(partial(self._referrals.end, referral))
        effects, _ = self._let_in(referral.credential, door, referral.side, granted, unlock_ms, now)
        return effects

    def _let_in(
        self,
        credential: VerifiedCredential,
        door: DoorState,
        side: Side,
        granted: Record,
        unlock_ms: int,
        now: Now,
        *,
        by_itself: bool = False,
    ) -> tuple[list[Effect], list[Referral]]:
        """Release the door for whoever was granted, and for those who waited for this very card; who these are.

        ``by_itself``: it is one that admits others, and nobody answered for it.
        """
        rules, presence, entitlement = door.rules, self._premises.presence, self._entitlement(credential)
        escorts = bool(entitlement and entitlement.may_escort and side is Side.ENTRY)
        places = rules.admits_at_most if by_itself else 0
        people, together = [credential.credential_id], [entitlement]
        records, ended = [granted], []
        watched = {"watched": True} if self._premises.watched_by(door.id, now) else {}
        companions = self._companions(door.id, side, now, escorted=escorts, places=places)
        for referral, decision in companions:
            local = decision.reason is Reason.LOCAL_GRANT
            places -= local
            self._follow_ups.append(partial(self._referrals.end, referral))
            people.append(referral.credential.credential_id)
            together.append(self._entitlement(referral.credential))
            unlock_ms = max(unlock_ms, decision.unlock_ms)
            said = {**(by_card(credential) if local else {}), **watched}
            records.append(referral.granted(decision.reason, now, said))
            ended.append(referral.ended(Ending.GRANTED, now))
        if escorts:
            self._follow_ups.append(partial(presence.escort_granted, rules, credential.credential_id, now))
        if by_itself:
            until_s = now.monotonic_s + rules.escort_window_s
            admitting = Admitting(card=credential, places=places, until_s=until_s)
            self._follow_ups.append(partial(self._premises.admitting.granted, door.id, admitting))
        self._granted = tuple(record.draft for record in records)
        released = self._release(door, side, people, unlock_ms, together, now)
        return [*records, *released, *ended], [referral for referral, _ in companions]

    def _companions(
        self, door_id: DoorId, side: Side, now: Now, *, escorted: bool, places: int
    ) -> list[tuple[Referral, Decision]]:
        """Those who wait at this side and may pass with an escort, or, up to ``places`` of them, by a card: oldest first."""
        found = []
        for referral in self._referrals.at(door_id, side) if escorted or places else ():
            if referral.is_over(now):
                continue
            decision = self._deciding.again(referral, now, escorted=escorted, admitted=places > 0)
            places -= decision.reason is Reason.LOCAL_GRANT
            if decision.reason is Reason.LOCAL_GRANT or (escorted and decision.reason is Reason.ESCORTED):
                found.append((referral, decision))
        return found

    def _admits(self, credential: VerifiedCredential, door: DoorState, side: Side) -> bool:
        entitlement = self._entitlement(credential)
        return side is Side.ENTRY and entitlement is not None and door.rules.may_admit(entitlement)

    def _release(
        self,
        door: DoorState,
        side: Side,
        people: list[CredentialId],
        unlock_ms: int,
        entitlements: list[Entitlement | None],
        now: Now,
    ) -> tuple[Effect, ...]:
        presence, rules = self._premises.presence, door.rules
        admitted = tuple(Admitted(credential_id=person, side=side) for person in people)
        if not door.has_contact or door.is_open:  # nobody will see them pass
            policy = self._premises.policy
            self._follow_ups.append(partial(presence.passed, rules, admitted, policy, now, seen=False))
        elif side is Side.EXIT:
            self._follow_ups += [partial(presence.let_out, rules, person, now) for person in people]
        return door.release(
            unlock_ms,
            now,
            admitted=admitted,
            extended=any(entitlement and entitlement.extended_opening for entitlement in entitlements),
            even_unrecorded=side is Side.EXIT,
        )

    def _entitlement(self, credential: VerifiedCredential) -> Entitlement | None:
        policy = self._premises.policy
        return policy.entitlements.get(credential.credential_id) if policy else None

    # ---- who waits no longer

    def reviewed(self, now: Now) -> list[Effect]:
        """Nobody waits for what is not asked any more, or must not be answered any more."""
        effects: list[Effect] = []
        for referral in self._referrals:
            ending, reason, signal = Ending.TIMEOUT, None, Signal.REFUSED
            if not referral.is_over(now):
                decision = self._deciding.again(referral, now)
                if decision.outcome is Outcome.REFER:
                    effects += self._asked_elsewhere(referral, decision, now)
                if decision.outcome is Outcome.REFER or decision.reason is Reason.INTERLOCKED:
                    continue
                ending = Ending.WITHDRAWN
                if decision.outcome is Outcome.DENY:
                    reason, signal = decision.reason, signal_of(decision)
                else:  # would be let in from here on: is asked to present the card again
                    signal = Signal.NOT_READ
            self._referrals.end(referral)
            effects += referral.ended(ending, now, reason=reason), referral.shown(signal)
        return effects

    def _asked_elsewhere(self, referral: Referral, decision: Decision, now: Now) -> tuple[Effect, ...]:
        """The hub went away, or came back: who waits is told for whom, and goes on waiting under the same request."""
        local = Reason.LOCAL_AWAITED
        if referral.awaits_escort or (referral.reason is local) is (decision.reason is local):
            return ()
        changed = replace(referral, reason=decision.reason)
        self._referrals.change(changed)
        self._premises.hub.asked(now)
        return changed.asked(now), changed.shown(signal_of(decision))

    def withdrawn(self, door_ids: Iterable[DoorId], now: Now) -> list[Effect]:
        """Nobody waits at these doors any longer."""
        effects: list[Effect] = []
        for referral in self._referrals:
            if referral.door_id in door_ids:
                self._referrals.end(referral)
                effects += referral.ended(Ending.WITHDRAWN, now), referral.shown(Signal.REFUSED)
        return effects


def denied(
    door_id: DoorId, side: Side, credential_id: CredentialId | None, reason: Reason, now: Now
) -> Record:
    """The event that says so."""
    return Record.of(
        EventKind.ACCESS_DENIED, now, door_id, side=side, credential_id=credential_id, reason=reason
    )
