"""Which threads come first."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from edge.priority import come_first


def may_come_first() -> bool:
    """Whether this machine lets a process like this one have it, tried in a process of its own."""
    attempt = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    return subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False).returncode == 0


def test_only_the_thread_that_asks_comes_first() -> None:
    """It gets the lowest real-time priority where that is allowed; a thread it starts is an ordinary one."""
    policies: list[int] = []

    def ask() -> None:
        come_first()
        policies.append(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK)
        child = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
        child.start()
        child.join()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert policies == [os.SCHED_RR if may_come_first() else os.SCHED_OTHER, os.SCHED_OTHER]


def test_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real-time by turns, not to be inherited, at the lowest level: said also where a machine refuses it."""
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(
        os,
        "sched_setscheduler",
        lambda pid, policy, param: asked.append((pid, policy, param.sched_priority)),
    )
    come_first()
    assert asked == [(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, 1)]


def test_it_is_never_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not permitted nothing happens."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    come_first()
