"""Looking every so often in a thread: whatever a look raises, while this process leads, and until it is stopped."""

from __future__ import annotations

import math
import threading

from hub.lookout import Lookout
from tests.hub.controller import eventually


def test_a_look_that_fails_is_not_the_last() -> None:
    """The next one is tried after the usual time; stopping ends the thread."""
    looks: list[int] = []

    def look() -> None:
        looks.append(len(looks))
        if len(looks) < 3:
            raise OSError("no space left on device")

    lookout = Lookout("test", look, every_s=0.001, failed="test_failed")
    assert not lookout.is_running
    lookout.start()
    eventually(lambda: len(looks) > 3, "it looks again")
    lookout.stop()
    assert not lookout.is_running


def test_a_look_says_when_the_next_is_due_and_others_may_have_it_now() -> None:
    """``inf`` waits for who wakes it, however short the usual time is; nobody looks who does not lead."""
    looked, leads = threading.Semaphore(0), threading.Event()

    def look() -> float:
        looked.release()
        return math.inf

    lookout = Lookout("test", look, every_s=0.001, failed="test_failed", leads=leads.is_set)
    lookout.start()
    leads.set()
    assert looked.acquire(timeout=20)
    for _ in range(3):
        lookout.wake()
        assert looked.acquire(timeout=20)
    lookout.stop()
    assert not looked.acquire(blocking=False)
