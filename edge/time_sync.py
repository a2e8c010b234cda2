"""Whether the machine's clock is synchronised, as the kernel knows it from whoever disciplines it."""

from __future__ import annotations

import ctypes
from typing import Final

STA_UNSYNC: Final = 0x0040
"""``<sys/timex.h>``: the clock is not synchronised."""


class _Timex(ctypes.Structure):
    """The beginning of ``struct timex``, adjtimex(2), and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def is_synchronised() -> bool | None:
    """Whether it is; None where the kernel does not say. Reads only, needs no privilege."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else not timex.status & STA_UNSYNC
