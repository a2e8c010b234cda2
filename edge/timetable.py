"""What has to happen later: lock a strike, change a light, look at an input again.

One thread runs every entry; nothing in it may block.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

log = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 1.0
"""So often the thread comes round with nothing to do, which shows that it does not hang."""


class Timetable:
    """One entry for each key, run once at its monotonic time."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Hashable, Callable[[], object]]] = []
        self._current: dict[Hashable, int] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.failed = False
        """Whether an entry or an input ever raised: the pins may then not be as they should."""
        self.came_round_ns = time.monotonic_ns()
        """When the thread last came round; CLOCK_MONOTONIC in ns."""

    def now_s(self) -> float:
        """The monotonic time entries are compared with."""
        return self._monotonic_s()

    def set(self, key: Hashable, at_s: float, action: Callable[[], object]) -> None:
        """Run ``action`` at ``at_s``, in place of what was set for ``key`` before."""
        with self._changed:
            number = next(self._numbers)
            self._current[key] = number
            heapq.heappush(self._heap, (at_s, number, key, action))
            if self._heap[0][1] == number:
                self._changed.notify()

    def run_due(self) -> float | None:
        """Run what is due, and return when the next entry is; None when there is none."""
        while True:
            with self._changed:
                while self._heap and self._current.get(self._heap[0][2]) != self._heap[0][1]:
                    heapq.heappop(self._heap)
                if not self._heap:
                    return None
                at_s, _, key, action = self._heap[0]
                if at_s > self._monotonic_s():
                    return at_s
                heapq.heappop(self._heap)
                del self._current[key]
            try:
                action()
            except Exception:  # the other entries still have to lock their strikes
                self.failed = True
                log.exception("an entry of the timetable failed: %s", key)

    def start(self) -> None:
        """Run entries in a thread of their own until ``stop``."""
        self.came_round_ns = time.monotonic_ns()
        self._thread = threading.Thread(target=self._run, name="timetable", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; entries that are not due yet are forgotten."""
        with self._changed:
            self._stopped = True
            self._current.clear()
            self._changed.notify()
        if self._thread:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self.came_round_ns = time.monotonic_ns()
            next_s = self.run_due()
            with self._changed:
                if self._stopped:
                    return
                if next_s is None and not self._heap:
                    self._changed.wait(LONGEST_WAIT_S)
                elif next_s is not None and self._heap and self._heap[0][0] >= next_s:
                    self._changed.wait(min(max(0.0, next_s - self._monotonic_s()), LONGEST_WAIT_S))
