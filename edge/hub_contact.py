"""Whether the hub is there, by what it says itself: it acknowledges events and heartbeats once they are stored.

That the broker takes messages proves nothing. All times are monotonic.
"""

from __future__ import annotations

from typing import Final

from edge.inputs import Now
from pacs.rules import Door, WhenHubAway
from pacs.situation import Attendance

SILENT_S: Final = 70.0
"""Longer than two heartbeats, each of which it acknowledges."""
ANSWERED_WITHIN_S: Final = 10.0
"""By then it has acknowledged that somebody waits; or has been reached, after the start."""

_FALLBACKS: Final = {
    WhenHubAway.DENY: Attendance.NOBODY,
    WhenHubAway.LOCAL: Attendance.LOCAL,
    WhenHubAway.UNATTENDED: Attendance.UNATTENDED,
}


class HubContact:
    """When it was last heard. It counts as there until ``begin``."""

    def __init__(self) -> None:
        self._heard_s: float | None = None
        self._asked_s: float | None = None

    def begin(self, now: Now) -> None:
        """The controller has started: what happened before it is not known."""
        self._heard_s = self._asked_s = now.monotonic_s

    def heard(self, now: Now) -> None:
        """It has stored something, and said so."""
        if self._heard_s is not None:
            self._heard_s, self._asked_s = now.monotonic_s, None

    def asked(self, now: Now) -> None:
        """It is to have somebody decide, and to acknowledge that."""
        if self._asked_s is None:
            self._asked_s = now.monotonic_s

    def away_s(self, now: Now) -> float | None:
        """How long it has not been heard; None while it counts as there."""
        if self._heard_s is None:
            return None
        silent_s = now.monotonic_s - self._heard_s
        unanswered = self._asked_s is not None and now.monotonic_s - self._asked_s > ANSWERED_WITHIN_S
        return silent_s if unanswered or silent_s > SILENT_S else None

    def attendance(self, door: Door, now: Now) -> Attendance:
        """Who decides at this door about those of whom a person has to."""
        away_s = self.away_s(now)
        if away_s is None:
            return Attendance.HUB
        return _FALLBACKS[door.when_hub_away] if away_s <= door.hub_away_max_s else Attendance.NOBODY
