"""The timetable runs each entry once, at its time."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic, monotonic_ns, sleep

import pytest

from edge import timetable as timetable_module
from edge import watchdog
from edge.timetable import Timetable
from edge.wiring import guard_of


class FakeTime:
    """Monotonic seconds that move when told."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def timetable(time: FakeTime) -> Timetable:
    return Timetable(time)


def test_entries_run_in_the_order_of_their_times(timetable: Timetable, time: FakeTime) -> None:
    """Not before their time, each once; the next time is returned."""
    ran: list[str] = []
    timetable.set("b", 102, lambda: ran.append("b"))
    timetable.set("a", 101, lambda: ran.append("a"))
    assert timetable.run_due() == 101
    time.s = 101
    assert timetable.run_due() == 102
    time.s = 200
    assert timetable.run_due() is None
    assert ran == ["a", "b"]


def test_a_later_entry_for_a_key_replaces_the_earlier(timetable: Timetable, time: FakeTime) -> None:
    """Whether it is due before or after it."""
    ran: list[int] = []
    for number, at_s in enumerate((105, 103, 104)):
        timetable.set("key", at_s, lambda number=number: ran.append(number))  # type: ignore[misc]
    assert timetable.run_due() == 104
    time.s = 110
    timetable.run_due()
    assert ran == [2]


def test_an_entry_may_set_the_next(timetable: Timetable, time: FakeTime) -> None:
    """Also one that is due at once."""
    ran: list[float] = []

    def again() -> None:
        ran.append(time.s)
        if len(ran) < 3:
            timetable.set("again", time.s, again)

    timetable.set("again", 100, again)
    assert timetable.run_due() is None
    assert len(ran) == 3


def test_an_entry_that_fails_keeps_no_other_from_running(timetable: Timetable, time: FakeTime) -> None:
    """The failure is remembered, so that the watchdog is no longer fed."""
    ran: list[str] = []
    timetable.set("bad", 100, lambda: 1 // 0)
    timetable.set("good", 100, lambda: ran.append("good"))
    assert not timetable.failed
    timetable.run_due()
    assert (ran, timetable.failed) == (["good"], True)


def test_its_thread_runs_what_is_set_from_another_one() -> None:
    """Later entries first, then one that is due before them; stopping forgets the rest."""
    timetable = Timetable()
    timetable.start()
    ran = threading.Event()
    timetable.set("late", timetable.now_s() + 3600, lambda: None)
    timetable.set("soon", timetable.now_s() + 0.01, ran.set)
    assert ran.wait(10)
    timetable.stop()


def test_a_thread_with_nothing_to_do_comes_round_and_one_that_hangs_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a watchdog of a controller looks at: an entry that never returns ends the feeding."""
    monkeypatch.setattr(timetable_module, "LONGEST_WAIT_S", 0.01)
    timetable = Timetable()
    timetable.start()
    for far_ahead in (False, True):
        if far_ahead:
            timetable.set("late", timetable.now_s() + 3600, lambda: None)
        since_ns, deadline_s = monotonic_ns(), monotonic() + 10
        while timetable.came_round_ns <= since_ns:
            assert monotonic() < deadline_s
            sleep(0.005)
    guard = guard_of({}, timetable, tmp_path)
    assert guard.feed()
    hangs, goes_on = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait(10)

    timetable.set("hangs", timetable.now_s(), hang)
    assert hangs.wait(10)
    timetable.came_round_ns -= int((watchdog.HANGS_AFTER_S + 1) * 1e9)
    assert not guard.feed()
    goes_on.set()
    timetable.stop()


def test_an_entry_that_failed_ends_the_feeding(tmp_path: Path) -> None:
    """The pins may not be as they should."""
    timetable = Timetable()
    guard = guard_of({}, timetable, tmp_path)
    assert guard.feed()
    timetable.failed = True
    assert not guard.feed()
