"""Looking every so often in a thread: whatever a look raises, while this process leads, and until it is stopped."""

from __future__ import annotations

import math
import threading

from hub.watch import Watch
from tests.hub.controller import eventually


def test_a_look_that_fails_is_not_the_last() -> None:
    """The next one is tried after the usual time; stopping ends the thread."""
    looks: list[int] = []

    def look() -> None:
        looks.append(len(looks))
        if len(looks) < 3:
            raise OSError("no space left on device")

    watch = Watch("test", look, every_s=0.001, failed="test_failed")
    assert not watch.is_running
    watch.start()
    eventually(lambda: len(looks) > 3, "it looks again")
    watch.stop()
    assert not watch.is_running


def test_a_look_says_when_the_next_is_due_and_others_may_have_it_now() -> None:
    """``inf`` waits for who wakes it, however short the usual time is; nobody looks who does not lead."""
    looked, leads = threading.Semaphore(0), threading.Event()

    def look() -> float:
        looked.release()
        return math.inf

    watch = Watch("test", look, every_s=0.001, failed="test_failed", leads=leads.is_set)
    watch.start()
    leads.set()
    assert looked.acquire(timeout=20)
    for _ in range(3):
        watch.wake()
        assert looked.acquire(timeout=20)
    watch.stop()
    assert not looked.acquire(blocking=False)
