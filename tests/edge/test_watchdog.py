"""The watchdog is fed only when everything that opens or locks a door has moved on since the last feeding."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.nfc.pn532 import OPEN_S
from edge.nfc.reader import Reader, ReaderSettings
from edge.timetable import Timetable
from edge.watchdog import HANGS_AFTER_S, Watchdog, interval_s, tell
from pacs.credential import TrustAnchors
from pacs.identifiers import DoorId
from pacs.rules import Side


@dataclass
class Thread:
    came_round_ns: int = 1


class Manager:
    """Hears what is sent, at a time that moves when told."""

    def __init__(self, *threads: Thread, is_sound: bool = True, within_s: float | None = 10.0) -> None:
        self.sent: list[str] = []
        self.ns = 10**9
        self.is_sound = is_sound
        self.guard = Watchdog(
            {str(number): thread for number, thread in enumerate(threads)},
            is_sound=lambda: self.is_sound,
            within_s=within_s,
            monotonic_ns=lambda: self.ns,
            send=self.sent.append,
        )

    def feed(self) -> bool:
        before = len(self.sent)
        fed = self.guard.feed()
        assert self.sent[before:] == (["WATCHDOG=1"] if fed else [])
        return fed


def test_every_thread_has_to_move_on_between_two_feedings() -> None:
    """One of three that stands still ends the feeding, and one turn of it brings the next."""
    threads = [Thread(), Thread(), Thread()]
    manager = Manager(*threads)
    assert manager.feed()
    for hanging in threads:
        for thread in threads:
            thread.came_round_ns += thread is not hanging
        assert not manager.feed()
        hanging.came_round_ns += 1
        assert manager.feed()


def test_threads_that_are_slow_at_different_times_are_fed_for() -> None:
    """Whoever moved on since the last feeding need not do so again before it."""
    one, other = Thread(), Thread()
    manager = Manager(one, other)
    assert manager.feed()
    one.came_round_ns += 1
    assert not manager.feed()
    other.came_round_ns += 1
    manager.ns += 3 * 10**9
    assert manager.guard.fed_s_ago == 3.0
    assert manager.feed()
    assert manager.guard.fed_s_ago == 0.0


def test_a_pin_that_was_not_switched_ends_the_feeding_for_good() -> None:
    """However lively the threads are."""
    thread = Thread()
    manager = Manager(thread)
    manager.is_sound = False
    for _ in range(3):
        thread.came_round_ns += 1
        assert not manager.feed()


def test_nothing_is_sent_to_a_manager_that_does_not_watch() -> None:
    """The reckoning goes on for whoever asks how the controller stands."""
    thread = Thread()
    manager = Manager(thread, within_s=None)
    assert manager.guard.feed()
    assert not manager.guard.feed()
    assert manager.sent == []


# ---- a reader that hangs


class Start:
    """One start of a controller with two readers: each second the threads that do not hang come round, and it feeds."""

    def __init__(self, memory: Path, *, ns: int = 10**9, hangs: str = "") -> None:
        self.ns = ns
        self.hangs = hangs
        self.fed_ns = [ns]
        self.threads = {name: Thread(ns) for name in ("front", "back", "timetable")}
        self.guard = Watchdog(
            {"timetable": self.threads["timetable"]},
            readers={name: self.threads[name] for name in ("front", "back")},
            memory=memory,
            is_sound=lambda: True,
            within_s=10.0,
            monotonic_ns=lambda: self.ns,
            send=lambda _: self.fed_ns.append(self.ns),
        )

    def survives(self, seconds: int) -> bool:
        """Whether the manager lets it live that long, with a turn late by half a second now and then."""
        for second in range(seconds):
            self.ns += 10**9 + (second % 7 == 0) * 5 * 10**8
            for name, thread in self.threads.items():
                if name != self.hangs:
                    thread.came_round_ns = self.ns
            self.guard.feed()
            if self.ns - self.fed_ns[-1] > 10 * 10**9:
                return False
        return True


def test_a_reader_that_hangs_costs_one_restart(tmp_path: Path) -> None:
    """Its hang outlives the start: the next ones serve the other doors for as long as it takes, and name it."""
    assert not Start(tmp_path / "memory", hangs="back").survives(60)
    again = Start(tmp_path / "memory", hangs="back")
    assert again.survives(8_000)
    assert again.guard.hanging == ("back",)
    assert Start(tmp_path / "memory", hangs="back").survives(60), "also after a restart for another reason"
    assert not Start(tmp_path / "memory", hangs="front").survives(60), "the other reader is worth one as well"


def test_a_reader_that_goes_on_is_waited_for_again(tmp_path: Path) -> None:
    """It is left out only while it hangs; once it has worked for an hour it is worth another restart."""
    assert not Start(tmp_path / "memory", hangs="back").survives(60)
    again = Start(tmp_path / "memory", hangs="back")
    assert again.survives(60)
    again.hangs = ""
    assert again.survives(60)
    assert again.guard.hanging == ()
    again.hangs = "back"
    assert again.survives(60)
    again.hangs = ""
    assert again.survives(4_000)
    again.hangs = "back"
    assert not again.survives(60)


def test_the_thread_that_locks_is_never_left_out(tmp_path: Path) -> None:
    """However often it was restarted for."""
    for _ in range(3):
        assert not Start(tmp_path / "memory", hangs="timetable").survives(60)


def test_a_restart_that_cannot_be_remembered_is_not_made(tmp_path: Path) -> None:
    """It would be made again and again."""
    assert Start(tmp_path / "absent" / "memory", hangs="back").survives(60)
    (tmp_path / "memory").write_bytes(b"\xff\n")
    assert not Start(tmp_path / "memory", hangs="back").survives(60), "nonsense is no memory"


def test_a_reader_that_waits_to_be_plugged_in_does_not_hang(tmp_path: Path) -> None:
    """Neither the longest search nor the longest rest between two attempts is told as a hang."""
    start = Start(tmp_path / "memory")
    longest_s = max(OPEN_S, ReaderSettings().longest_back_off_s)
    start.hangs = "back"
    for _ in range(20):
        assert start.survives(int(longest_s))
        assert start.guard.hanging == ()
        start.threads["back"].came_round_ns = start.ns


# ---- the real threads


class HangingAntenna:
    """A reader that answers until it is told to hang."""

    device = "reader"
    baud = None

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        self._never = threading.Event()

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def check(self) -> str:
        return "reader"

    def poll(self, until_ns: int) -> None:
        self.goes_on.wait(60)
        self._never.wait(0.005)


def until(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.002)


@contextmanager
def running_reader(antenna: Any) -> Iterator[Reader]:
    reader = Reader(
        antenna,
        door_id=DoorId("front"),
        side=Side.ENTRY,
        reader_identifier=bytes(32),
        trust=TrustAnchors(issuers={}),
        put=lambda _: None,
        now=lambda: pytest.fail("no card was shown"),
    )
    reader.start()
    try:
        yield reader
    finally:
        antenna.goes_on.set()
        reader.stop()


def test_a_reader_that_hangs_is_not_fed_for() -> None:
    """A real reader's thread in a call that does not return; when it does, feeding goes on."""
    antenna = HangingAntenna()
    with running_reader(antenna) as reader:
        guard = Watchdog({"reader": reader}, is_sound=lambda: True, within_s=10, send=lambda _: None)
        until(guard.feed)
        until(guard.feed)
        antenna.goes_on.clear()
        seen_ns = 0
        while reader.came_round_ns != seen_ns:  # until it has stood still for a while
            seen_ns = reader.came_round_ns
            time.sleep(0.1)
        guard.feed()
        assert not guard.feed()
        antenna.goes_on.set()
        until(guard.feed)


def test_a_timer_thread_that_hangs_is_not_fed_for() -> None:
    """An entry that does not return keeps strikes from being locked."""
    timetable, goes_on, hangs = Timetable(), threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        goes_on.wait(60)

    timetable.start()
    try:
        guard = Watchdog({"timer": timetable}, is_sound=lambda: True, within_s=10, send=lambda _: None)
        until(guard.feed)
        timetable.set("hang", timetable.now_s(), hang)
        assert hangs.wait(10)
        guard.feed()
        assert not guard.feed()
        goes_on.set()
        until(guard.feed)
    finally:
        goes_on.set()
        timetable.stop()


# ---- the manager's side


@pytest.mark.parametrize("form", ["path", "abstract"])
def test_the_manager_hears_a_datagram(tmp_path: Path, form: str) -> None:
    """One assignment in one datagram to the socket the environment names, wherever that is."""
    name = f"drempel-{secrets.token_hex(8)}" if form == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if form == "abstract" else name)
        manager.settimeout(10)
        tell(
            "READY=1\nSTATUS=two doors",
            environment={"NOTIFY_SOCKET": "@" + name if form == "abstract" else name},
        )
        assert manager.recv(64) == b"READY=1\nSTATUS=two doors"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nonexistent/socket"}])
def test_no_manager_is_no_fault(environment: dict[str, str]) -> None:
    """Without a manager, or with one that has gone, nothing is raised."""
    tell("READY=1", environment=environment)


def test_a_manager_that_does_not_listen_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its full queue is passed over."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        for _ in range(2_000):
            tell("STATUS=" + "x" * 1_000, environment={"NOTIFY_SOCKET": str(path)})
        assert manager.recv(2_048)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({}, None),
    ],
)
def test_the_manager_says_how_often_it_wants_to_be_fed(
    environment: dict[str, str], expected: float | None
) -> None:
    """WATCHDOG_USEC counts for the process WATCHDOG_PID names; nonsense is no watchdog."""
    assert interval_s(environment=environment) == expected


def test_a_manager_more_impatient_than_a_broken_reader_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Its wish is kept, and whoever set it is told what will happen."""
    with caplog.at_level(logging.WARNING):
        assert interval_s(environment={"WATCHDOG_USEC": "5000000"}) == 5.0
    assert f"at least {HANGS_AFTER_S + 2:.0f} s" in caplog.text
