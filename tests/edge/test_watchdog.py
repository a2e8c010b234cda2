"""The watchdog is fed only while everything that opens or locks a door comes round."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.watchdog import LONGEST_TURN_S, Watchdog, tell


@dataclass
class Thread:
    came_round_ns: int


@pytest.mark.parametrize(
    ("turns_ago_s", "sound", "fed"),
    [
        ((0.0,), True, True),
        ((LONGEST_TURN_S, 1.0), True, True),
        ((0.0, LONGEST_TURN_S + 1), True, False),
        ((0.0,), False, False),
        ((), True, True),
    ],
)
def test_one_thread_that_hangs_ends_the_feeding(
    turns_ago_s: tuple[float, ...], *, sound: bool, fed: bool
) -> None:
    """Every thread must have come round lately, and every pin been switched as due."""
    sent: list[str] = []
    threads = [Thread(10**12 - int(ago_s * 1e9)) for ago_s in turns_ago_s]
    guard = Watchdog(threads, is_sound=lambda: sound, monotonic_ns=lambda: 10**12, send=sent.append)
    assert guard.feed() is fed
    assert sent == (["WATCHDOG=1"] if fed else [])


def test_the_manager_hears_a_datagram(tmp_path: Path) -> None:
    """One assignment in one datagram to the socket the environment names."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        tell("READY=1", environment={"NOTIFY_SOCKET": str(path)})
        assert manager.recv(64) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nonexistent/socket"}])
def test_no_manager_is_no_fault(environment: dict[str, str]) -> None:
    """Without a manager, or with one that has gone, nothing is raised."""
    tell("READY=1", environment=environment)
