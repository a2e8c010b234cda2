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

    Wall time is trusted while it is not before a moment that is proven to have passed: ``not_before``, such as
    the time of an event journalled before the start, and the issue of the newest signed document held. A board
    without a battery clock that starts in the past is found by this. ``TOLERANCE`` is left for the signer's own
    clock.
    """

    def __init__(
        self,
        not_before: datetime,
        *,
        wall: Callable[[], datetime] = utc_now,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._not_before = self._issued_at = not_before
        self._wall = wall
        self._monotonic_s = monotonic_s

    def now(self) -> Now:
        """Both clocks, read next to each other."""
        at = self._wall()
        return Now(
            clock=ClockReading(at=at, trusted=at >= max(self._not_before, self._issued_at) - TOLERANCE),
            monotonic_s=self._monotonic_s(),
        )

    def issued(self, at: datetime, *, just_arrived: bool = False) -> None:
        """The newest document held was issued at this aware moment, whatever was held before.

        A signer whose clock was ahead is thus forgotten with the document it signed. When one has just arrived
        and its signer's clock and this one agree within ``TOLERANCE``, they outweigh what was proven at the
        start: this clock had been ahead then, and is right again.
        """
        if just_arrived and abs(self._wall() - at) <= TOLERANCE:
            self._not_before = at
        self._issued_at = at
