"""What the wall clock did against the monotonic one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from edge.effects import Record
from edge.inputs import Now
from pacs.events import Detail, EventKind

CLOCK_STEP_S: Final = 2.0
"""A wall clock that moves this much against the monotonic one was set."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ClockSteps:
    """Says that the wall clock was set, or is believed from here on, or is no longer, or for another reason."""

    def __init__(self) -> None:
        self._offset: timedelta | None = None
        self._distrust: str | None = None

    def seen(self, now: Now) -> list[Record]:
        """The event, if there is one to record; the first reading is only remembered."""
        offset = now.clock.at - _EPOCH - timedelta(seconds=now.monotonic_s)
        known, distrusted = self._offset, self._distrust
        self._offset, self._distrust = offset, distrust_of(now)
        if known is None:
            return []
        step_s = (offset - known).total_seconds()
        if abs(step_s) < CLOCK_STEP_S and distrusted == self._distrust:
            return []
        details: dict[str, Detail] = {"step_ms": round(step_s * 1000)}
        if self._distrust:
            details["distrust"] = self._distrust
        return [Record.of(EventKind.CLOCK_CHANGED, now, details=details)]


def distrust_of(now: Now) -> str | None:
    """Why the wall clock is not believed; None while it is."""
    if now.clock.trusted:
        return None
    return now.distrust.value if now.distrust else "unknown"
