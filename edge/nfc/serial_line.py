"""The serial line to a PN532: nfcpy's ``TTY``, owned by one process, framed strictly, with one error type."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import termios
import time
from collections.abc import Callable, Iterator
from typing import Final

import serial
from nfc.clf.transport import TTY

INITIAL_BAUD: Final = 115_200
_START: Final = b"\x00\x00\xff"
_ACK_BYTES: Final = 6
_LONGEST_FRAME: Final = 8 + 265 + 2
WRITE_S: Final = 1.0
"""A frame takes 25 ms at the lowest speed; a line that has not taken it after this is broken."""
_HARDWARE_S: Final = 0.004  # an UART's own buffer at 115200 baud, behind the one the kernel counts
_PSEUDO_TERMINALS: Final = range(136, 144)  # major numbers of the Unix98 slaves


class SerialLine(TTY):  # type: ignore[misc]
    """What nfcpy's chipset reads from and writes to. Every failure is an ``OSError``.

    A second process cannot take the device (``flock``, and TIOCEXCL except on a pseudo-terminal, where
    it would outlive its holder). Frames are found by their own length, so that an answer of LEN 255
    in a normal frame is not taken for an extended one, and ``read`` leaves the port's settings alone.
    """

    tty: serial.Serial | None
    until_s: float = math.inf
    """No use of the line waits beyond this instant (``time.monotonic()``)."""
    while_waiting: Callable[[], float | None] | None = None
    """Called while ``read`` waits and nothing has come yet: at once, and after each pause (s) it returns; None ends it."""

    def open(self, port: str, baudrate: int = INITIAL_BAUD) -> None:
        """Take the device. Raises ``OSError`` when it is absent, taken, or not a serial line."""
        self.close()
        self._pending = bytearray()
        with _os_errors():
            self.tty = serial.Serial(port, baudrate, timeout=0, exclusive=True)
            try:
                if os.major(os.fstat(self._descriptor).st_rdev) not in _PSEUDO_TERMINALS:
                    fcntl.ioctl(self._descriptor, termios.TIOCEXCL)
            except OSError:
                self.close()
                raise

    def set_baud(self, baud: int) -> None:
        """Let what was written leave, then change the speed. Raises ``OSError`` when it is not supported."""
        with _os_errors():
            self._drain()
            self.baudrate = baud

    def read(self, timeout: int) -> bytearray:
        """The next whole frame, waiting up to ``timeout`` ms. Noise before a frame is skipped."""
        deadline = min(time.monotonic() + timeout / 1000, self.until_s)
        pause_s = 0.0 if self.while_waiting and not self._pending else None
        is_late = False
        while True:
            frame = self._take_frame()
            if frame:
                return frame
            if is_late:  # also on a line that never falls silent
                raise OSError(errno.ETIMEDOUT, "no frame from the reader")
            remaining = max(0.0, deadline - time.monotonic())
            is_late = not remaining
            patience = remaining if pause_s is None else min(pause_s, remaining)
            with _os_errors():
                ready, _, _ = select.select([self._descriptor], [], [], patience)
                if ready:
                    self._pending += self._receive()
                    pause_s = None
            if pause_s is not None and self.while_waiting and not ready and not is_late:
                pause_s = self.while_waiting()

    def write(self, frame: bytes) -> None:
        """Send ``frame``; what arrived before belongs to nobody and is dropped."""
        with _os_errors():
            termios.tcflush(self._descriptor, termios.TCIFLUSH)
            self._pending.clear()
            rest, deadline = memoryview(frame), min(time.monotonic() + WRITE_S, self.until_s)
            while rest:
                _, ready, _ = select.select([], [self._descriptor], [], max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise OSError(errno.ETIMEDOUT, "the serial line takes no bytes")
                rest = rest[os.write(self._descriptor, rest) :]

    def _drain(self) -> None:
        """Wait until the bytes written have left; ``tcdrain`` would do so without an end."""
        deadline = min(time.monotonic() + WRITE_S, self.until_s)
        while any(fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4))):
            if time.monotonic() >= deadline:
                raise OSError(errno.ETIMEDOUT, "the serial line sends no bytes")
            time.sleep(_HARDWARE_S)
        time.sleep(_HARDWARE_S)

    def close(self) -> None:
        """Give the device back. Never raises."""
        if self.tty is not None:
            with contextlib.suppress(OSError, termios.error):
                termios.tcflush(self.tty.fileno(), termios.TCIOFLUSH)
            with contextlib.suppress(OSError, termios.error):
                self.tty.close()
            self.tty = None

    @property
    def _descriptor(self) -> int:
        if self.tty is None:
            raise OSError(errno.ENODEV, "the serial line is closed")
        return self.tty.fileno()

    def _receive(self) -> bytes:
        try:
            data = os.read(self._descriptor, 512)
        except BlockingIOError:
            return b""
        if not data:
            raise OSError(errno.ENODEV, "the device is unplugged")
        return data

    def _take_frame(self) -> bytearray | None:
        """Cut one frame off what has arrived; None while it is incomplete (user manual §6.2.1)."""
        pending = self._pending
        start = pending.find(_START)
        if start < 0:
            del pending[: max(0, len(pending) - len(_START) + 1)]
            return None
        del pending[:start]
        if len(pending) < _ACK_BYTES:
            return None
        head = bytes(pending[3:5])
        if head in (b"\x00\xff", b"\xff\x00"):  # ACK, NACK
            size = _ACK_BYTES
        elif head == b"\xff\xff":
            size = 8 + int.from_bytes(pending[5:7], "big") + 2 if len(pending) >= 7 else _LONGEST_FRAME
        else:
            size = 5 + pending[3] + 2
        if size > _LONGEST_FRAME:
            raise OSError(errno.EPROTO, "a frame longer than the chip sends")
        if len(pending) < size:
            return None
        frame = pending[:size]
        del pending[:size]
        return frame


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    """``termios.error`` (an unplugged adapter), pyserial's errors and its ``ValueError`` (a speed) as ``OSError``."""
    try:
        yield
    except serial.SerialException as error:
        if error.errno is None:  # it opened, and takes no settings
            raise OSError(errno.ENOTTY, "not a serial line") from error
        raise OSError(error.errno, os.strerror(error.errno)) from error
    except termios.error as error:
        raise OSError(errno.ENODEV, f"the serial line: {error}") from error
    except (ValueError, OverflowError, TypeError) as error:
        raise OSError(errno.EINVAL, f"the serial line: {error}") from error
