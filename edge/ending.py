"""The end of the process: asked for by a signal, with the strikes locked whatever hangs, and within a bounded time."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, Final

from edge import watchdog

log = logging.getLogger(__name__)

LOCK_AFTER_S: Final = 1.0
"""A state thread that has not locked the strikes by then hangs, and they are locked without it."""
END_AFTER_S: Final = 8.0
"""The process ends then, whatever a disk or a broker still keeps it waiting for; ``TimeoutStopSec`` is longer."""
PARTS_S: Final = 4.0
"""What readers and uplink are given to end together."""
_LAST_WORDS_S: Final = 0.5
_LOCK_WITHIN_S: Final = 0.5
"""A line that takes longer hangs, and keeps nothing else waiting."""
OVERDUE: Final = 1
"""Exit status of a process that did not end by itself."""


class Ending:
    """``handle`` the signals, ``lock`` once there are strikes, ``over`` at the end."""

    def __init__(
        self,
        stop: Callable[[], None],
        *,
        lock_after_s: float = LOCK_AFTER_S,
        end_after_s: float = END_AFTER_S,
        exit_now: Callable[[int], Any] = os._exit,
    ) -> None:
        """``stop`` asks the state thread to end; called from a signal handler."""
        self._stop = stop
        self._lock_after_s = lock_after_s
        self._end_after_s = end_after_s
        self._exit_now = exit_now
        self._near: SimpleQueue[bool] = SimpleQueue()  # which a signal handler may put on at any moment
        self._over = threading.Event()
        self._former: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._insist, name="ending", daemon=True)
        self.lock: Callable[[], None] = lambda: None
        """Locks every strike, from any thread, as often as it is called."""

    def handle(self, *numbers: int) -> None:
        """Have these signals end the process; in the main thread only. A second one changes nothing."""
        self._thread.start()
        for number in numbers:
            self._former[number] = signal.signal(number, self._asked)

    def begin(self) -> None:
        """From here on the end is near, and its time is bounded. A second call does nothing."""
        self._near.put(True)

    def over(self) -> None:
        """Everything has ended; the signals mean again what they meant before."""
        self._over.set()
        self.begin()
        for number, former in self._former.items():
            signal.signal(number, former)

    def _asked(self, *_: object) -> None:
        self.begin()
        self._stop()

    def _insist(self) -> None:
        self._near.get()
        watchdog.tell("STOPPING=1\nSTATUS=stopping")
        if self._over.wait(self._lock_after_s):
            return
        self._lock_strikes()
        if self._over.wait(self._end_after_s - self._lock_after_s):
            return
        self._lock_strikes()
        last_words = threading.Thread(target=_name_threads, daemon=True)  # a log can hang as well
        last_words.start()
        last_words.join(_LAST_WORDS_S)
        self._exit_now(OVERDUE)

    def _lock_strikes(self) -> None:
        """In a thread of its own, since what switches a line can hang."""
        locking = threading.Thread(target=self._lock_all, name="locking", daemon=True)
        locking.start()
        locking.join(_LOCK_WITHIN_S)
        if locking.is_alive():
            threading.Thread(target=log.error, args=("locking the strikes hangs",), daemon=True).start()

    def _lock_all(self) -> None:
        try:
            self.lock()
        except Exception:
            log.exception("a strike cannot be locked")


def _name_threads() -> None:
    own = ("ending", threading.current_thread().name)
    alive = sorted(thread.name for thread in threading.enumerate() if thread.name not in own)
    log.critical("the process ended before these threads did: %s", ", ".join(alive))


def stop_together(stops: Iterable[Callable[[], object]], within_s: float = PARTS_S) -> None:
    """Call every one of these at once; return when all have, or after ``within_s``."""
    threads = [threading.Thread(target=stop, name="stop", daemon=True) for stop in stops]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + within_s
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
