"""A pseudo-terminal that stands for a serial line, its speed included."""

from __future__ import annotations

import contextlib
import errno
import os
import termios
import tty
from pathlib import Path

_SPEEDS = {
    getattr(termios, f"B{baud}"): baud
    for baud in (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
    if hasattr(termios, f"B{baud}")
}


class PseudoTerminal:
    """A pseudo-terminal in raw mode, reachable at ``path`` and at ``link``, which may replace a link and nothing else.

    Raises OSError when there is no terminal to be had, or no such link. One slave stays open here, so that hosts may close and open theirs.
    """

    def __init__(self, link: Path | None) -> None:
        self.master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave)
            os.set_blocking(self.master, False)
            self.path = os.ttyname(self._slave)
            self._link = link
            if link is not None:
                _point(link, self.path)
        except OSError:
            os.close(self.master)
            os.close(self._slave)
            raise

    def close(self) -> None:
        """Hang up: whoever has the terminal open gets errors from then on."""
        os.close(self._slave)
        os.close(self.master)
        if self._link is not None and self._link.is_symlink() and str(self._link.readlink()) == self.path:
            self._link.unlink()

    def baud(self) -> int:
        """The speed the host has set; 0 for one the chip does not know."""
        return _SPEEDS.get(termios.tcgetattr(self._slave)[5], 0)

    def read(self) -> bytes:
        """What the host has written since; empty when nothing."""
        try:
            return os.read(self.master, 4096)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> None:
        """Bytes nobody reads are lost once the terminal's buffer is full, as on a wire."""
        with contextlib.suppress(BlockingIOError):
            os.write(self.master, data)


def _point(link: Path, terminal: str) -> None:
    """Make the link in one step: it leads to a terminal at any time."""
    if link.exists() and not link.is_symlink():
        raise FileExistsError(errno.EEXIST, "exists and is no link", str(link))
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        fresh.symlink_to(terminal)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(link)) from error
    fresh.replace(link)


def garbled(data: bytes) -> bytes:
    """What a receiver at another speed makes of bytes: as many, none of them a start code."""
    return bytes(0x80 | octet * 37 + 11 & 0x7E for octet in data)
