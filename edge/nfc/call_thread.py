"""A thread for calls that may never come back: whoever begins one decides how long to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any


class CallThread:
    """Makes one call after another on its own thread, until it is told to end."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="pcsc", daemon=True)
        self._thread.start()

    def start(self, call: Callable[[], Any]) -> SimpleQueue[Any]:
        """Begin a call; what it returns, or the exception it raises, comes out of the queue."""
        outcome: SimpleQueue[Any] = SimpleQueue()
        self._calls.put((call, outcome))
        return outcome

    def end(self, wait_s: float) -> None:
        """End after the calls begun; waits for them for at most ``wait_s``."""
        self._calls.put(None)
        self._thread.join(wait_s)

    def is_alive(self) -> bool:
        """Whether a call has not come back, or it was not told to end."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while order := self._calls.get():
            call, outcome = order
            try:
                outcome.put(call())
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                outcome.put(error)
