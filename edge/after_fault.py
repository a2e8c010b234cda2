"""What happens when the controller itself fails."""

from __future__ import annotations

from edge.effects import Effect, Indicate, Record, ReleaseStrike, Signal, command_refused
from edge.inputs import CardPresented, CardRefused, CommandAccepted, Input, Now, ReadFailed, RexPressed
from edge.private_doors import is_personal
from pacs.decision import EXIT_UNLOCK_MS
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side


def after_fault(happened: Input, now: Now, private: frozenset[DoorId] = frozenset()) -> list[Effect]:
    """What a person at a door gets when ``DoorController.on`` raised: the way in stays shut, the way out opens.

    Uses no state: the state is what failed. A command is refused. Of ``private`` doors nothing about a person is
    recorded.
    """
    return [
        effect
        for effect in _after_fault(happened, now)
        if not (isinstance(effect, Record) and effect.draft.door_id in private and is_personal(effect.draft))
    ]


def _after_fault(happened: Input, now: Now) -> list[Effect]:
    match happened:
        case (
            CardPresented(door_id=door_id, side=Side.EXIT)
            | CardRefused(door_id=door_id, side=Side.EXIT)
            | ReadFailed(door_id=door_id, side=Side.EXIT)
            | RexPressed(door_id=door_id)
        ):
            return [
                Record.of(EventKind.EXIT_REQUESTED, now, door_id, reason=Reason.EXIT_FREE),
                ReleaseStrike(door_id=door_id, unlock_ms=EXIT_UNLOCK_MS, even_unrecorded=True),
            ]
        case CommandAccepted(command=command):
            return [
                command_refused(
                    now,
                    command.door_id,
                    Reason.INTERNAL_FAULT,
                    {"command": command.command_id, "action": command.action.value},
                )
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
