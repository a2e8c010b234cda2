"""Looking at something every so often, in a thread of its own."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


def _always() -> bool:
    return True


class Lookout:
    """Calls ``look`` again and again until it is stopped; what a look raises is logged as ``failed``, and the next one tried."""

    def __init__(
        self,
        name: str,
        look: Callable[[], float | None],
        *,
        every_s: float,
        failed: str,
        first_s: float = 0.0,
        leads: Callable[[], bool] = _always,
        ends_in_s: float = 10.0,
    ) -> None:
        """``look`` may return in how many seconds the next one is due, ``inf``: when somebody wakes it; None: ``every_s``.

        ``every_s``: also after a look that failed. ``first_s``: before the first look. ``leads``: asked before each look
        whether it is this process that looks. ``ends_in_s``: for how long ``stop`` waits for a look that is under way.
        """
        self._look = look
        self._every_s = every_s
        self._failed = failed
        self._first_s = first_s
        self._leads = leads
        self._ends_in_s = ends_in_s
        self._woken = threading.Event()
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def wake(self) -> None:
        """Have the next look now."""
        self._woken.set()

    def stop(self) -> None:
        """End the thread."""
        self.stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(self._ends_in_s)

    @property
    def is_running(self) -> bool:
        """Whether anybody looks."""
        return self._thread.is_alive()

    def _run(self) -> None:
        wait_s = self._first_s
        while not self._is_over(wait_s):
            wait_s = self._every_s
            try:
                said = self._look() if self._leads() else None
            except Exception:  # a full disk, or a database that is away, today must not end it for good
                log.exception(self._failed)
            else:
                wait_s = self._every_s if said is None else said

    def _is_over(self, wait_s: float) -> bool:
        self._woken.wait(None if wait_s == math.inf else wait_s)
        self._woken.clear()
        return self.stopping.is_set()
