"""What came too late: it is recorded, and no door moves any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge.effects import Effect, Record, ReleaseStrike
from edge.inputs import (
    CardClaimed,
    CardDetected,
    CardPresented,
    CardRefused,
    CommandAccepted,
    Input,
    Now,
    ReadFailed,
    RexPressed,
    Stopping,
    Tick,
)
from pacs.events import EventKind
from pacs.reason import Reason

_UNSERVED = (CardClaimed, CardDetected, CardPresented, CardRefused, ReadFailed, RexPressed, Stopping, Tick)
"""Nobody is let in or out by these any more, and nothing says that they were."""


def after_stopping(happened: Input, now: Now, react: Callable[[], Sequence[Effect]]) -> list[Record]:
    """The events that follow from an input behind ``Stopping``; a command that would open a door is refused.

    ``react``: what would follow from it otherwise.
    """
    if isinstance(happened, _UNSERVED):
        return []
    effects = react()
    if isinstance(happened, CommandAccepted) and any(isinstance(each, ReleaseStrike) for each in effects):
        command = happened.command
        details = {"command": command.command_id, "action": command.action.value}
        reason = Reason.COMMAND_OUT_OF_PLACE
        return [Record.of(EventKind.COMMAND_REFUSED, now, command.door_id, reason=reason, details=details)]
    return [effect for effect in effects if isinstance(effect, Record)]
