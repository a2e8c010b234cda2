"""What the service manager hears: ready, alive, stopping (sd_notify, without a library).

A datagram to ``NOTIFY_SOCKET``; nothing when it is not set.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

LONGEST_TURN_S: Final = 8.0
"""A thread that has not come round for this long hangs; waiting to re-open a broken reader is shorter."""


class ComesRound(Protocol):
    """A thread that shows that it does not hang."""

    @property
    def came_round_ns(self) -> int:
        """When it last did; CLOCK_MONOTONIC in ns."""
        ...


def tell(state: str, *, environment: Mapping[str, str] = os.environ) -> None:
    """Send one assignment such as ``READY=1``; a manager that does not listen is no fault."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(state.encode(), address)


class Watchdog:
    """Feeds the manager's watchdog only while every thread that opens or locks a door comes round."""

    def __init__(
        self,
        threads: Iterable[ComesRound],
        *,
        is_sound: Callable[[], bool],
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        send: Callable[[str], None] = tell,
    ) -> None:
        """``is_sound``: False once a pin was not switched as due."""
        self._threads = tuple(threads)
        self._is_sound = is_sound
        self._monotonic_ns = monotonic_ns
        self._send = send

    def feed(self) -> bool:
        """Called by the thread that owns the state; returns whether it was fed."""
        oldest_ns = self._monotonic_ns() - int(LONGEST_TURN_S * 1e9)
        alive = self._is_sound() and all(thread.came_round_ns >= oldest_ns for thread in self._threads)
        if alive:
            self._send("WATCHDOG=1")
        return alive
