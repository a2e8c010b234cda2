"""A strike on its pin: released for a time, held released, locked.

The line is active high with an external pull-down, so that a line nobody drives is de-energised, as after a power
cut: a fail-secure strike is then locked, a fail-safe one open. While the process lives the strike is locked unless
it was told otherwise: from the start, again after each release by a monotonic timer of its own, and once more before
the line is let go. A process that is killed leaves the line as it was; ``drempel-edge safe-pins`` follows it.
"""

from __future__ import annotations

import threading
from typing import Any

from edge.config import DoorConfig, EnergiseTo
from edge.timetable import Timetable


class Strike:
    """One strike. ``release`` does nothing before the pin has changed."""

    def __init__(self, config: DoorConfig, factory: Any, timetable: Timetable) -> None:
        from gpiozero import OutputDevice

        fail_safe = config.energise_to is EnergiseTo.LOCK
        self._key = ("strike", config.id)
        self._timetable = timetable
        self._guard = threading.Lock()
        self._held = False
        self._until_s = 0.0
        self._device = OutputDevice(config.strike_pin, initial_value=fail_safe, pin_factory=factory)
        self._unlock, self._lock = self._device.on, self._device.off
        if fail_safe:
            self._unlock, self._lock = self._lock, self._unlock

    def release(self, unlock_ms: int) -> None:
        """Unlock, and lock after ``unlock_ms``; a release that ends later stays as it is."""
        with self._guard:
            self._unlock()
            until_s = self._timetable.now_s() + unlock_ms / 1000
            if until_s <= self._until_s:
                return
            self._until_s = until_s
        self._timetable.set(self._key, until_s, self._expire)

    def hold(self) -> None:
        """Unlock until ``end_hold``."""
        with self._guard:
            self._unlock()
            self._held = True

    def end_hold(self) -> None:
        """Lock, or leave it to a release that has not ended yet."""
        with self._guard:
            self._held = False
            self._lock_if_due()

    def lock(self) -> None:
        """Lock at once."""
        with self._guard:
            self._lock()
            self._held, self._until_s = False, 0.0

    def close(self) -> None:
        """Lock, then let go of the line."""
        try:
            self.lock()
        finally:
            self._device.close()

    def _expire(self) -> None:
        with self._guard:
            self._lock_if_due()

    def _lock_if_due(self) -> None:
        if not self._held and self._timetable.now_s() >= self._until_s:
            self._lock()
