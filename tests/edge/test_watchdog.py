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

from edge.nfc.reader import Reader
from edge.timetable import Timetable
from edge.watchdog import LONGEST_TURN_S, Watchdog, interval_s, tell
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
        assert manager.guard.stalled == (str(threads.index(hanging)),)
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
        assert guard.stalled == ("reader",)
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
    assert f"at least {LONGEST_TURN_S + 2:.0f} s" in caplog.text
