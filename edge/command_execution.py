"""What an accepted command does. Each ends in exactly one ``command_executed`` or ``command_refused``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from edge.door_state import Unseen
from edge.effects import Effect, Examine, Indicate, Record, Signal, command_refused
from edge.inputs import Now
from edge.posts import Closing, Post
from edge.premises import Premises
from edge.referrals import Ending, Referral, Referrals
from pacs.commands import Action, Command
from pacs.decision import Decision, Outcome
from pacs.events import Detail, EventKind
from pacs.reason import Reason
from pacs.rules import DoorMode, Side
from pacs.situation import ModeOrder

_SHUT: Final = frozenset({DoorMode.LOCKDOWN, DoorMode.OUT_OF_SERVICE})


class CommandExecution:
    """Carries out commands at the doors of one controller."""

    def __init__(
        self,
        premises: Premises,
        referrals: Referrals,
        *,
        decided: Callable[[Referral, Now], Decision],
        admit: Callable[[Referral, Record, Decision, Now], list[Effect]],
    ) -> None:
        """``decided``: the decision about a referral at this moment.

        ``admit``: record this, release as that decision says, and end the referral once that is done.
        """
        self._premises = premises
        self._referrals = referrals
        self._decided = decided
        self._admit = admit
        self._executions: Mapping[Action, Callable[[Command, Now], list[Effect]]] = {
            Action.UNLOCK_ONCE: self._unlock_once,
            Action.TEST_SIGNALS: self._test_signals,
            Action.EXAMINE: lambda command, now: [_executed(command, now), Examine()],
            Action.GRANT: self._answer,
            Action.REFUSE: self._answer,
        }

    def execute(self, command: Command, now: Now) -> list[Effect]:
        """Carry it out, or refuse it by name."""
        premises = self._premises
        if command.door_id not in premises.doors:
            return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
        if execution := self._executions.get(command.action):
            return execution(command, now)
        match command.action:
            case Action.SET_MODE if command.mode is not None:
                premises.orders[command.door_id] = ModeOrder(
                    mode=command.mode, command_id=command.command_id, until=command.until
                )
                return self._close_post(command, Closing.ORDER, now)
            case Action.CLEAR_MODE:
                premises.orders.pop(command.door_id, None)
            case Action.OPEN_POST if command.until is not None:
                return self._open_post(command, command.until, now)
            case Action.CLOSE_POST:
                if premises.posts.is_overtaken(command.door_id, command.issued_at):
                    return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
                return self._close_post(command, Closing.COMMAND, now)
            case _:
                return [_refused(command, now, Reason.COMMAND_MALFORMED)]
        return [_executed(command, now)]

    def _open_post(self, command: Command, until: datetime, now: Now) -> list[Effect]:
        premises, door_id = self._premises, command.door_id
        mode = premises.modes.get(door_id)
        if mode is None or mode.mode in _SHUT or door_id in premises.private:
            return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
        if premises.posts.is_overtaken(door_id, command.issued_at):
            return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
        left_s = (until - now.clock.at).total_seconds()
        if left_s <= 0:
            return [_refused(command, now, Reason.COMMAND_EXPIRED)]
        post = Post(opened_by=command.command_id, until_s=now.monotonic_s + left_s)
        opened = premises.posts.open(door_id, post, now, issued_at=command.issued_at)
        return [_executed(command, now), *opened]

    def _close_post(self, command: Command, closing: Closing, now: Now) -> list[Effect]:
        closed = self._premises.posts.ordered(command.door_id, closing, now, issued_at=command.issued_at)
        return [_executed(command, now), *closed]

    def _unlock_once(self, command: Command, now: Now) -> list[Effect]:
        premises, door_id = self._premises, command.door_id
        mode = premises.modes.get(door_id)
        if mode is None or mode.mode in _SHUT:
            return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
        if premises.is_interlocked(door_id, now):
            return [_refused(command, now, Reason.INTERLOCKED)]
        door = premises.doors[door_id]
        return [
            _executed(command, now),
            *door.release(door.rules.unlock_ms, now, unseen=Unseen.COMMANDED),
            *premises.presence.forgive(door.rules, Unseen.COMMANDED, now),
        ]

    def _test_signals(self, command: Command, now: Now) -> list[Effect]:
        """At every reader of the door; not in place of an alarm, nor of what is shown to somebody who waits."""
        door_id = command.door_id
        waits = any(referral.door_id == door_id for referral in self._referrals)
        if waits or not self._premises.doors[door_id].is_quiet:
            return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
        shown = [Indicate(door_id=door_id, side=side, signal=Signal.TEST) for side in Side]
        return [_executed(command, now), *shown]

    def _answer(self, command: Command, now: Now) -> list[Effect]:
        referral = self._referrals.find(command.request_id)
        if (
            referral is None
            or referral.is_over(now)
            or referral.door_id != command.door_id
            or referral.credential.credential_id != command.credential_id
        ):
            return [_refused(command, now, Reason.REQUEST_UNKNOWN)]
        if command.action is Action.REFUSE:
            self._referrals.end(referral)
            ended = referral.ended(Ending.REFUSED, now, reason=Reason.ATTENDED_REFUSED)
            return [ended, referral.shown(Signal.REFUSED), _executed(command, now)]
        return self._grant(command, referral, now)

    def _grant(self, command: Command, referral: Referral, now: Now) -> list[Effect]:
        """Who may not pass any more is not admitted by an answer either, and no answer from afar replaces an escort."""
        decision = self._decided(referral, now)
        if decision.reason is Reason.ESCORT_AWAITED:
            return [_refused(command, now, Reason.COMMAND_OUT_OF_PLACE)]
        if decision.outcome is Outcome.DENY:
            refused = _refused(command, now, decision.reason)
            if (
                decision.reason is Reason.INTERLOCKED
            ):  # the other door closes in a moment: may be granted again
                return [refused]
            self._referrals.end(referral)
            ended = referral.ended(Ending.WITHDRAWN, now, reason=decision.reason)
            return [ended, referral.shown(Signal.REFUSED), refused]
        granted = referral.granted(Reason.ATTENDED_GRANT, now, {"command": command.command_id})
        return [
            *self._admit(referral, granted, decision, now),
            referral.ended(Ending.GRANTED, now),
            referral.shown(Signal.GRANTED),
            _executed(command, now),
        ]


def _details(command: Command) -> dict[str, Detail]:
    return {"command": command.command_id, "action": command.action.value}


def _executed(command: Command, now: Now) -> Record:
    return Record.of(
        EventKind.COMMAND_EXECUTED,
        now,
        command.door_id,
        reason=Reason.COMMANDED,
        details=_details(command),
    )


def _refused(command: Command, now: Now, reason: Reason) -> Record:
    return command_refused(now, command.door_id, reason, _details(command))
