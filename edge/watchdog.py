"""What the service manager hears: ready, how it goes, alive, stopping (sd_notify, without a library).

A datagram to ``NOTIFY_SOCKET``; nothing when it is not set.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

from edge.nfc.reader import LONGEST_TURN_S, LOOK_S

log = logging.getLogger(__name__)

HANGS_AFTER_S: Final = LONGEST_TURN_S + LOOK_S
"""By then a reader that hangs is an alarm already, so that its loss is recorded before a restart."""
SOON_S: Final = 3600.0
"""A reader that hangs again within this time of a start was not cured by it."""


class ComesRound(Protocol):
    """A thread that shows that it does not hang."""

    @property
    def came_round_ns(self) -> int:
        """When it last did; CLOCK_MONOTONIC in ns."""
        ...


def tell(state: str, *, environment: Mapping[str, str] = os.environ) -> None:
    """Send assignments such as ``READY=1``, one in each line; a manager that does not listen is no fault.

    The socket is a path, or in the abstract namespace where its name begins with ``@``. Never waits.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.sendto(state.encode(), address)


def interval_s(*, environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """The time within which the manager wants to be fed (``WATCHDOG_USEC``); None when it does not watch this process."""
    watched = environment.get("WATCHDOG_PID", "")
    if watched and watched != str(pid or os.getpid()):
        return None
    usec = environment.get("WATCHDOG_USEC", "")
    if not (usec.isascii() and usec.isdigit() and int(usec)):
        return None
    if int(usec) < HANGS_AFTER_S * 1e6:
        log.warning(
            "WatchdogSec is %.1f s: a reader that is unplugged will restart the controller; set at least %.0f s",
            int(usec) / 1e6,
            HANGS_AFTER_S + 2,
        )
    return int(usec) / 1e6


class Watchdog:
    """Feeds the manager once every thread that opens or locks a door has come round since the last feeding.

    Belongs to the thread that owns the state: where that one hangs, nobody feeds. A reader that hangs is worth one
    restart, which opens every fail-safe strike for a moment; when it hangs again within ``SOON_S`` of it, it is left
    out until it comes round, and the other doors go on.
    """

    def __init__(
        self,
        threads: Mapping[str, ComesRound],
        *,
        readers: Mapping[str, ComesRound] | None = None,
        memory: Path | None = None,
        is_sound: Callable[[], bool],
        within_s: float | None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        send: Callable[[str], None] = tell,
    ) -> None:
        """``threads``, ``readers``: by the name to be shown. ``is_sound``: False once a pin was not switched as due.

        ``memory``: a file that outlives a restart of the process; without one, no reader is worth a restart.
        ``within_s``: how often the manager wants to be fed; None: it does not, and nothing is sent.
        """
        self._readers = frozenset(readers or ())
        self._threads = {**threads, **(readers or {})}
        self._memory = memory
        self._restarted_for = self._recalled()
        self._restarting_for: set[str] = set()
        self._left_out: frozenset[str] = frozenset()
        self._is_sound = is_sound
        self._monotonic_ns = monotonic_ns
        self._send = send
        self._seen_ns: dict[str, int] = {}
        self._started_ns = self._fed_ns = monotonic_ns()
        self.within_s = within_s

    @property
    def hanging(self) -> tuple[str, ...]:
        """The threads that have not come round for ``HANGS_AFTER_S``."""
        since_ns = self._monotonic_ns() - round(HANGS_AFTER_S * 1e9)
        return tuple(name for name, thread in self._threads.items() if thread.came_round_ns <= since_ns)

    @property
    def fed_s_ago(self) -> float:
        """Since the last feeding, or since the start."""
        return (self._monotonic_ns() - self._fed_ns) / 1e9

    def feed(self) -> bool:
        """Feed when that is deserved; returns whether it was."""
        self._leave_out(self._readers.intersection(self.hanging))
        deserved = self._is_sound() and all(
            thread.came_round_ns > self._seen_ns.get(name, -1)
            for name, thread in self._threads.items()
            if name not in self._left_out
        )
        if deserved:
            self._seen_ns = {name: thread.came_round_ns for name, thread in self._threads.items()}
            self._fed_ns = self._monotonic_ns()
            if self.within_s is not None:
                self._send("WATCHDOG=1")
        return deserved

    def _leave_out(self, hanging: frozenset[str]) -> None:
        if self._monotonic_ns() - self._started_ns > SOON_S * 1e9 and self._restarted_for - hanging:
            self._restarted_for &= hanging
            self._remember()
        for name in hanging - self._restarted_for - self._restarting_for:
            self._restarting_for.add(name)
            if not self._remember():
                self._restarting_for.discard(name)
                self._restarted_for.add(name)
        left_out = hanging & self._restarted_for
        for name in left_out - self._left_out:
            log.error("%s hangs and no restart cures it: the other doors go on; plug it out and in", name)
        self._left_out = left_out

    def _recalled(self) -> set[str]:
        try:
            return (
                set(self._memory.read_text("utf-8").splitlines()) & self._readers if self._memory else set()
            )
        except (OSError, ValueError):
            return set()

    def _remember(self) -> bool:
        """Return whether a restart will find it. Not made durable: the machine's own restart begins anew."""
        if self._memory is None:
            return False
        names = sorted(self._restarted_for | self._restarting_for)
        try:
            self._memory.write_text("".join(f"{name}\n" for name in names), "utf-8")
        except OSError as error:
            log.error("%s: %s", self._memory, error.strerror)  # noqa: TRY400 - the message says it all
            return False
        return True
