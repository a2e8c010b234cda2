"""Which threads the machine runs first: those between a card and its strike."""

from __future__ import annotations

import contextlib
import os


def come_first() -> None:
    """Have the calling thread run as soon as it can, before ordinary processes; threads it starts do not.

    The lowest real-time priority, below the kernel's own. Does nothing where the process may not ask for it
    (root, CAP_SYS_NICE or RLIMIT_RTPRIO), which costs time on a busy machine and nothing else.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
