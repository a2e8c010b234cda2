"""The controller's clock: wall time, monotonic time, and whether the wall time can be believed."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from edge.inputs import Distrust, Now
from pacs.decision import ClockReading

BUILT: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""No clock is right that is before this."""
TOLERANCE: Final = timedelta(minutes=5)
"""What is left for the clock of whoever signed a document."""
FAR_AHEAD: Final = timedelta(days=366)
"""No controller that is in use goes for so long without a document."""
SOFTWARE_LIFETIME: Final = timedelta(days=3_653)
"""No controller goes for so long without other software."""
SYNCHRONISED_AGAIN_S: Final = 1.0


def utc_now() -> datetime:
    """The wall clock, aware."""
    return datetime.now(UTC)


class Clock:
    """Reads both clocks at once.

    Wall time is trusted unless there is a ``Distrust``. It is before a moment that is proven to have passed: when this
    software was ``built``, when a trusted event was ``journalled``, when the newest signed document held was issued; a
    board without a battery clock that starts in the past is found by this. It is ``FAR_AHEAD`` of that issue, or
    further ahead of the software than that is used. Or it has to be synchronised and was not since the start; once it was,
    a network that is away takes nothing from it.
    """

    def __init__(
        self,
        built: datetime,
        *,
        journalled: datetime | None = None,
        synchronised: Callable[[], bool | None] | None = None,
        wall: Callable[[], datetime] = utc_now,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``synchronised``: whether the machine's clock is; None: need not be."""
        self._built = built
        self._journalled = journalled
        self._issued_at: datetime | None = None
        self._synchronised = synchronised
        self._asked_s = -SYNCHRONISED_AGAIN_S
        self._wall = wall
        self._monotonic_s = monotonic_s

    def now(self) -> Now:
        """Both clocks, read next to each other."""
        at, monotonic_s = self._wall(), self._monotonic_s()
        distrust = self._distrust(at, monotonic_s)
        return Now(
            clock=ClockReading(at=at, trusted=distrust is None), monotonic_s=monotonic_s, distrust=distrust
        )

    @property
    def document_issued_at(self) -> datetime | None:
        """When the newest document held was issued; None: there is none."""
        return self._issued_at

    def issued(self, at: datetime, *, just_arrived: bool = False) -> None:
        """The newest document held was issued at this aware moment, whatever was held before.

        A signer whose clock was ahead is thus forgotten with the document it signed. When one has just arrived
        and its signer's clock and this one agree within ``TOLERANCE``, they outweigh what the journal proved:
        this clock had been ahead then, and is right again.
        """
        if just_arrived and abs(self._wall() - at) <= TOLERANCE:
            self._journalled = None
        self._issued_at = at

    def _distrust(self, at: datetime, monotonic_s: float) -> Distrust | None:
        issued_at, journalled = self._issued_at, self._journalled
        if at < self._built - TOLERANCE:
            return Distrust.BEFORE_BUILD
        if journalled is not None and at < journalled - TOLERANCE:
            return Distrust.BEFORE_JOURNAL
        if issued_at is not None and at < issued_at - TOLERANCE:
            return Distrust.BEFORE_DOCUMENT
        if at > self._built + SOFTWARE_LIFETIME or (issued_at is not None and at > issued_at + FAR_AHEAD):
            return Distrust.FAR_AHEAD
        return None if self._is_synchronised(monotonic_s) else Distrust.NOT_SYNCHRONISED

    def _is_synchronised(self, monotonic_s: float) -> bool:
        ask = self._synchronised  # another thread may have asked meanwhile
        if ask is None:
            return True
        if monotonic_s - self._asked_s >= SYNCHRONISED_AGAIN_S:
            self._asked_s = monotonic_s
            if ask():
                self._synchronised = None
                return True
        return False
