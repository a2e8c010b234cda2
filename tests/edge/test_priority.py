"""Which threads come first."""

from __future__ import annotations

import os
import threading

import pytest

from edge.priority import come_first


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
    assert policies[0] in (os.SCHED_RR, os.SCHED_OTHER)
    assert policies[1] == os.SCHED_OTHER


def test_it_is_never_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not permitted nothing happens."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    come_first()
