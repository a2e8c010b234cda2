"""The controller's clock: wall time, monotonic time, and whether the wall time can be believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from edge.inputs import Now
from pacs.decision import ClockReading

TOLERANCE: Final = timedelta(minutes=5)


def utc_now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


class Clock:
    """Reads both clocks at once.

    Wall time is trusted while it is not before ``not_before``: the newest moment that is proven to have passed,
    such as the issue of a signed document held or the time of the last journalled event. A board without a
    battery clock that starts in the past is found by this. ``TOLERANCE`` is left for the signer's own clock.
    """

    def __init__(
        self,
        not_before: datetime,
        *,
        wall: Callable[[], datetime] = utc_now,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._not_before = not_before
        self._wall = wall
        self._monotonic_s = monotonic_s

    def now(self) -> Now:
        """Both clocks, read next to each other."""
        at = self._wall()
        return Now(
            clock=ClockReading(at=at, trusted=at >= self._not_before - TOLERANCE),
            monotonic_s=self._monotonic_s(),
        )

    def prove(self, passed: datetime) -> None:
        """Take note that this aware moment has passed; an earlier one than known changes nothing."""
        self._not_before = max(self._not_before, passed)
