"""A PN532 on a pseudo-terminal: what an NFC stack opens as its reader.

One thread owns the terminal, the chip and the card; ``insert``, ``remove`` and ``fault`` hand it what happens. A host which
speaks at another speed than the chip reads and is read as garbage, as on a wire.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from types import TracebackType
from typing import Self

from simulator import hsu
from simulator.pn532_chip import WAKE_BY_HSU, Chip
from simulator.rf_field import RfField
from simulator.rf_link import AnsweredApdu, Card
from simulator.timing import NS_PER_MS, Timing

_SPEEDS = {
    getattr(termios, f"B{baud}"): baud
    for baud in (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
    if hasattr(termios, f"B{baud}")
}
_RISING_EDGES_TO_WAKE = 5


@unique
class ReaderFault(StrEnum):
    """What can be wrong with a reader; ``NONE`` ends the lasting ones."""

    NONE = "none"
    DEAF = "deaf"
    DROP_ACK = "drop_ack"
    DROP_RESPONSE = "drop_response"
    CORRUPT_RESPONSE = "corrupt_response"
    BROWN_OUT = "brown_out"
    UNPLUG = "unplug"
    PLUG = "plug"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApduSent:
    """The last byte of an APDU's answer was handed to the terminal at ``sent_ns`` (CLOCK_MONOTONIC)."""

    apdu: AnsweredApdu
    sent_ns: int


class _Interrupted(Exception):
    """What the chip was doing is over: the host spoke, or the reader lost its power or its plug."""


class VirtualPn532:
    """A context manager: the reader is there from ``with`` on, at ``path`` (and at ``link``, which follows each re-plugging).

    ``on_apdu`` is called in the reader's thread. Raises OSError when no pseudo-terminal can be had.
    """

    def __init__(
        self,
        *,
        timing: Timing | None = None,
        link: Path | None = None,
        on_apdu: Callable[[ApduSent], None] | None = None,
    ) -> None:
        self._timing = timing or Timing.none()
        self._link = link
        self._on_apdu = on_apdu
        self._field = RfField(self._timing)
        self.chip = Chip(self._field, self._timing)
        self._decoder = hsu.Decoder()
        self._terminal: _Terminal | None = None
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._actions: deque[Callable[[], None]] = deque()
        self._frames: deque[tuple[hsu.Frame, int]] = deque()
        self._fault, self._fault_left = ReaderFault.NONE, 0
        self._received_ns = 0
        self._edges = 0
        self._last_response = b""

    # -------------------------------------------------------------- for whoever plays the world

    @property
    def path(self) -> str:
        """The terminal's name; empty while unplugged."""
        terminal = self._terminal
        return terminal.path if terminal is not None else ""

    def insert(self, card: Card, *, pulled_after_ms: float | None = None) -> int:
        """Lay a card into the field; returns the instant (CLOCK_MONOTONIC ns). It is pulled by itself if so asked."""
        at_ns = time.monotonic_ns()
        until_ns = None if pulled_after_ms is None else at_ns + round(pulled_after_ms * NS_PER_MS)
        self._do(lambda: self._field.insert(card, at_ns=at_ns, until_ns=until_ns))
        return at_ns

    def remove(self) -> int:
        """Pull the card, if there is one; returns the instant."""
        at_ns = time.monotonic_ns()
        self._do(self._field.remove)
        return at_ns

    def fault(self, fault: ReaderFault, *, times: int = -1) -> None:
        """Make something be wrong; ``times``: with so many commands (-1: until another fault, or ``NONE``, is named)."""
        match fault:
            case ReaderFault.BROWN_OUT:
                self._do(self._brown_out)
            case ReaderFault.UNPLUG:
                self._do(self._unplug, done=True)
            case ReaderFault.PLUG:
                self._do(self._plug, done=True)
            case _:
                self._do(lambda: self._set_fault(fault, times))

    def __enter__(self) -> Self:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._plug()
        except OSError:
            os.close(self._wake)
            raise
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="pn532", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._do(self._stop)
        if self._thread is not None:
            self._thread.join()
        self._unplug_quietly()
        self._field.remove()
        os.close(self._wake)

    # -------------------------------------------------------------- what happens, in the reader's thread

    def _do(self, action: Callable[[], None], *, done: bool = False) -> None:
        """Have the reader's thread do something; ``done``: return when it has."""
        if not done:
            self._actions.append(action)
            os.eventfd_write(self._wake, 1)
            return
        finished = threading.Event()

        def announced() -> None:
            try:
                action()
            finally:
                finished.set()

        self._actions.append(announced)
        os.eventfd_write(self._wake, 1)
        finished.wait()

    def _set_fault(self, fault: ReaderFault, times: int) -> None:
        self._fault, self._fault_left = fault, times

    def _stop(self) -> None:
        self._stopping = True
        raise _Interrupted

    def _brown_out(self) -> None:
        self.chip.power_cycle(time.monotonic_ns())
        self._forget_line()
        raise _Interrupted

    def _plug(self) -> None:
        if self._terminal is None:
            self._terminal = _Terminal(self._link)
            self.chip.power_cycle(time.monotonic_ns())
            self._forget_line()

    def _unplug(self) -> None:
        self._unplug_quietly()
        raise _Interrupted

    def _unplug_quietly(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
            self.chip.power_cycle(time.monotonic_ns())

    def _forget_line(self) -> None:
        self._decoder.clear()
        self._frames.clear()
        self._edges = 0
        self._last_response = b""

    # -------------------------------------------------------------- the loop

    def _run(self) -> None:
        while not self._stopping:
            with contextlib.suppress(_Interrupted):
                while not self._frames:
                    self._look(None)
                frame, at_ns = self._frames.popleft()
                self._serve(frame, at_ns)

    def _look(self, until_ns: int | None) -> bool:
        """Wait for the host or an action, at most until then; returns whether an action was done."""
        timeout = None if until_ns is None else max(0, until_ns - time.monotonic_ns()) / 1e9
        watched = [self._wake] if self._terminal is None else [self._wake, self._terminal.master]
        ready = select.select(watched, [], [], timeout)[0]
        acted = self._wake in ready
        if acted:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            while self._actions:
                self._actions.popleft()()
        if self._terminal is not None and self._terminal.master in ready:
            self._read(self._terminal)
        return acted

    def _read(self, terminal: _Terminal) -> None:
        """Take what the host wrote; the last byte has arrived when the line has had time for all."""
        data = terminal.read()
        state, baud = self.chip.state, terminal.baud()
        if state.pending_baud == baud:
            state.baud, state.pending_baud = baud, None
        line_ns = self._timing.serial(len(data), baud)
        self._received_ns = max(self._received_ns, time.monotonic_ns()) + line_ns
        if state.asleep:
            data = self._wake_up(data)
        if not data:
            return
        if baud != state.baud:
            data = _garbled(data)
        for frame in self._decoder.feed(data):
            self._frames.append((frame, self._received_ns))

    def _wake_up(self, data: bytes) -> bytes:
        """Rising edges on the line wake the chip; the bytes that bring them are lost (user manual §7.2.11)."""
        if not self.chip.state.wake_sources & WAKE_BY_HSU:
            return b""
        for index, octet in enumerate(data):
            self._edges += (octet << 1 ^ (octet | 0x100)).bit_count() + 1 >> 1
            if self._edges >= _RISING_EDGES_TO_WAKE:
                self.chip.state.asleep, self._edges = False, 0
                self._decoder.clear()
                return data[index + 1 :]
        return b""

    def _serve(self, frame: hsu.Frame, at_ns: int) -> None:
        state = self.chip.state
        if self._fault is ReaderFault.DEAF and self._strikes(ReaderFault.DEAF):
            return
        match frame:
            case hsu.Acknowledge():
                if state.pending_baud is not None:
                    state.baud, state.pending_baud = state.pending_baud, None
            case hsu.Repeat():
                self._send(self._last_response, at_ns)
            case hsu.Information(data=command):
                self._execute(command, at_ns)

    def _execute(self, command: bytes, at_ns: int) -> None:
        """ACK, do it, answer; whatever the host says meanwhile ends it."""
        if not self._strikes(ReaderFault.DROP_ACK):
            at_ns = self._send(hsu.ACK, at_ns)
        running = self.chip.execute(command, at_ns)
        try:
            response, at_ns = self._drive(running)
        finally:
            running.close()
        encoded = hsu.ERROR if response is None else hsu.encode(response)
        self._last_response = encoded
        if self._strikes(ReaderFault.DROP_RESPONSE):
            return
        if self._strikes(ReaderFault.CORRUPT_RESPONSE):
            encoded = encoded[:-2] + bytes([encoded[-2] ^ 0xFF, encoded[-1]])
        self._send(encoded, at_ns)
        answered = self.chip.answered
        if answered is not None and answered.apdu is not None and self._on_apdu is not None:
            self._on_apdu(ApduSent(apdu=answered.apdu, sent_ns=time.monotonic_ns()))

    def _strikes(self, fault: ReaderFault) -> bool:
        """Whether this fault is on for this command."""
        if self._fault is not fault or not self._fault_left:
            return False
        self._fault_left -= self._fault_left > 0
        return True

    def _drive(
        self, running: Generator[int | None, int, tuple[bytes | None, int]]
    ) -> tuple[bytes | None, int]:
        try:
            until_ns = next(running)
            while True:
                until_ns = running.send(self._wait(until_ns))
        except StopIteration as end:
            result: tuple[bytes | None, int] = end.value
            return result

    def _wait(self, until_ns: int | None) -> int:
        """Wait until that instant, or (None) until something happens in the field; raises when the host speaks."""
        while True:
            now_ns = time.monotonic_ns()
            if until_ns is not None and now_ns >= until_ns:
                return now_ns
            acted = self._look(until_ns)
            if self._frames:
                raise _Interrupted
            if until_ns is None and acted:
                return time.monotonic_ns()

    def _send(self, data: bytes, at_ns: int) -> int:
        """Hand bytes to the terminal at the instant the last one would have arrived; returns it."""
        sent_ns = at_ns + self._timing.serial(len(data), self.chip.state.baud)
        self._wait(sent_ns)
        if self._terminal is not None:
            wrong_speed = self._terminal.baud() != self.chip.state.baud
            self._terminal.write(_garbled(data) if wrong_speed else data)
        return sent_ns


class _Terminal:
    """A pseudo-terminal in raw mode. One slave stays open here, so that hosts may close and open theirs."""

    def __init__(self, link: Path | None) -> None:
        self.master, self._slave = os.openpty()
        try:
            tty.setraw(self._slave)
            os.set_blocking(self.master, False)
            self.path = os.ttyname(self._slave)
            self._link = link
            if link is not None:
                fresh = link.with_name(f"{link.name}.new")
                fresh.unlink(missing_ok=True)
                fresh.symlink_to(self.path)
                fresh.replace(link)
        except OSError:
            os.close(self.master)
            os.close(self._slave)
            raise

    def close(self) -> None:
        """Hang up: whoever has the terminal open gets errors from then on."""
        os.close(self._slave)
        os.close(self.master)
        if self._link is not None:
            self._link.unlink(missing_ok=True)

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


def _garbled(data: bytes) -> bytes:
    """What a receiver at another speed makes of bytes: as many, none of them a start code."""
    return bytes(0x80 | octet * 37 + 11 & 0x7E for octet in data)
