"""The end of the process: strikes locked whatever hangs, in a bounded time."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from edge.ending import OVERDUE, Ending, stop_together


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


class World:
    """What an ending does."""

    def __init__(self, **times_s: float) -> None:
        self.stops = 0
        self.locks = 0
        self.exited = threading.Event()
        self.status: int | None = None
        self.ending = Ending(self._stop, exit_now=self._exit, **times_s)
        self.ending.lock = self._lock

    def _stop(self) -> None:
        self.stops += 1

    def has_stopped(self, times: int) -> bool:
        return self.stops == times

    def _lock(self) -> None:
        self.locks += 1

    def _exit(self, status: int) -> None:
        self.status = status
        self.exited.set()


def test_a_signal_asks_to_stop_and_a_second_one_changes_nothing() -> None:
    """Each is passed on; who ends in time is not interfered with, and the signals mean again what they meant."""
    former = signal.getsignal(signal.SIGTERM)
    world = World(lock_after_s=60, end_after_s=120)
    world.ending.handle(signal.SIGTERM)
    try:
        for number in (1, 2, 3):
            os.kill(os.getpid(), signal.SIGTERM)
            until(partial(world.has_stopped, number))
    finally:
        world.ending.over()
    assert signal.getsignal(signal.SIGTERM) is former
    assert (world.locks, world.status) == (0, None)


def test_who_does_not_end_is_ended_with_every_strike_locked(caplog: pytest.LogCaptureFixture) -> None:
    """Locked after a moment, again at the last; the log names the threads that were still there."""
    stay = threading.Event()
    threading.Thread(target=stay.wait, name="a disk that hangs", daemon=True).start()
    world = World(lock_after_s=0.01, end_after_s=0.03)
    world.ending.handle()
    with caplog.at_level(logging.CRITICAL):
        world.ending.begin()
        assert world.exited.wait(10)
    stay.set()
    assert (world.status, world.locks) == (OVERDUE, 2)
    assert "a disk that hangs" in caplog.text


def test_a_strike_that_cannot_be_locked_does_not_keep_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and the process ends."""

    def fail() -> None:
        raise OSError("no such line")

    world = World(lock_after_s=0.01, end_after_s=0.02)
    world.ending.lock = fail
    world.ending.handle()
    with caplog.at_level(logging.ERROR):
        world.ending.begin()
        assert world.exited.wait(10)
    assert "cannot be locked" in caplog.text


def test_a_lock_that_hangs_does_not_keep_the_process() -> None:
    """Whoever holds the line for ever, the process ends in its time."""
    stay = threading.Event()

    def hang() -> None:
        stay.wait()

    world = World(lock_after_s=0.01, end_after_s=0.02)
    world.ending.lock = hang
    world.ending.handle()
    world.ending.begin()
    assert world.exited.wait(10)
    assert world.status == OVERDUE
    stay.set()


def test_parts_end_together_and_one_that_hangs_is_left_behind() -> None:
    """Eight readers and an uplink share one time."""
    goes_on, ended = threading.Event(), []
    began_s = time.monotonic()
    stop_together(
        [lambda: goes_on.wait(60), lambda: ended.append(1), lambda: goes_on.wait(60)], within_s=0.05
    )
    assert time.monotonic() - began_s < 30
    goes_on.set()
    assert ended == [1]
