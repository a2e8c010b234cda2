"""A PN532 on a pseudo-terminal: what an NFC stack opens as its reader.

One thread owns the terminal, the chip and the card; ``insert``, ``remove`` and ``fault`` hand it what happens. A host which
speaks at another speed than the chip reads and is read as garbage, as on a wire.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from types import TracebackType
from typing import Self

from simulator import hsu
from simulator.pn532_chip import FIRMWARE, WAKE_BY_HSU, Chip
from simulator.pseudo_terminal import PseudoTerminal, garbled
from simulator.rf_field import RfField
from simulator.rf_link import AnsweredApdu, Card
from simulator.timing import NS_PER_MS, Timing

_RISING_EDGES_TO_WAKE = 5
FAST_BAUD = 921_600
_NOISE = bytes.fromhex("55aa0000ff05fb") * 4
"""What looks like the beginning of frames is the worst noise."""
_NOISE_EVERY_S = 0.001


@unique
class ReaderFault(StrEnum):
    """What can be wrong with a reader; ``NONE`` ends the lasting ones.

    ``LATE``: the answer to a command, its acknowledgement included, comes when the next has been asked. ``CHATTER``: noise
    without an end, and no answer. ``EXTENDED``: every answer in an extended frame. ``LEFT_FAST``: as a host leaves the
    chip that is killed while it listens at 921600 baud. ``OVERHEATED``: the field is off and stays off.
    """

    NONE = "none"
    DEAF = "deaf"
    DROP_ACK = "drop_ack"
    DROP_RESPONSE = "drop_response"
    CORRUPT_RESPONSE = "corrupt_response"
    LATE = "late"
    CHATTER = "chatter"
    EXTENDED = "extended"
    LEFT_FAST = "left_fast"
    OVERHEATED = "overheated"
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
        firmware: bytes = FIRMWARE,
        on_apdu: Callable[[ApduSent], None] | None = None,
    ) -> None:
        self._timing = timing or Timing.none()
        self._link = link
        self._on_apdu = on_apdu
        self._handed_ns = 0
        self._field = RfField(self._timing)
        self.chip = Chip(self._field, self._timing, firmware)
        self._decoder = hsu.Decoder()
        self._terminal: PseudoTerminal | None = None
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._stopping = self._interrupted = False
        self._actions: deque[Callable[[], None]] = deque()
        self._frames: deque[tuple[hsu.Frame, int]] = deque()
        self._fault, self._fault_left = ReaderFault.NONE, 0
        self._received_ns = 0
        self._edges = 0
        self._last_response = self._overdue = b""

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
        """Make something be wrong; ``times``: with so many commands from now on (-1: until another fault, or ``NONE``, is named)."""
        match fault:
            case ReaderFault.BROWN_OUT:
                self._do(self._brown_out, done=True)
            case ReaderFault.UNPLUG:
                self._do(self._unplug, done=True)
            case ReaderFault.PLUG:
                self._do(self._plug, done=True)
            case ReaderFault.LEFT_FAST:
                self._do(self._leave_fast, done=True)
            case _:
                self._do(lambda: self._set_fault(fault, times), done=True)

    def __enter__(self) -> Self:
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._plug()
        except OSError:
            os.close(self._wake)
            raise
        self._stopping = self._interrupted = False
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
            self._thread = None
        self._unplug()
        self._field.remove()
        os.close(self._wake)

    # -------------------------------------------------------------- what happens, in the reader's thread

    def _do(self, action: Callable[[], None], *, done: bool = False) -> None:
        """Have the reader's thread do something; ``done``: return when it has, unless this is that thread or it rests."""
        finished = threading.Event()
        self._actions.append(action)
        self._actions.append(finished.set)
        os.eventfd_write(self._wake, 1)
        rests = self._thread is None or self._thread is threading.current_thread()
        if done and not rests and not finished.wait(timeout=10):
            raise RuntimeError("the reader's thread does not react")

    def _set_fault(self, fault: ReaderFault, times: int) -> None:
        self._fault, self._fault_left = fault, times
        self._field.overheated = fault is ReaderFault.OVERHEATED
        if self._field.overheated:
            self._field.switch(on=False, at_ns=time.monotonic_ns())

    def _leave_fast(self) -> None:
        state = self.chip.state
        state.baud, state.pending_baud, state.asleep, state.sam_configured = FAST_BAUD, None, False, True
        self._forget_line()

    def _stop(self) -> None:
        self._stopping = self._interrupted = True

    def _brown_out(self) -> None:
        self.chip.power_cycle(time.monotonic_ns())
        self._forget_line()
        self._interrupted = True

    def _plug(self) -> None:
        if self._terminal is None:
            self._terminal = PseudoTerminal(self._link)
            self.chip.power_cycle(time.monotonic_ns())
            self._forget_line()

    def _unplug(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
            self._brown_out()

    def _forget_line(self) -> None:
        self._decoder.clear()
        self._frames.clear()
        self._edges = 0
        self._last_response = self._overdue = b""

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
        if self._fault is ReaderFault.CHATTER and self._terminal is not None:
            self._terminal.write(_NOISE)
            timeout = _NOISE_EVERY_S if timeout is None else min(timeout, _NOISE_EVERY_S)
        watched = [self._wake] if self._terminal is None else [self._wake, self._terminal.master]
        ready = select.select(watched, [], [], timeout)[0]
        acted = self._wake in ready
        if acted:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            while self._actions:
                self._actions.popleft()()
            if self._interrupted:
                self._interrupted = False
                raise _Interrupted
        if self._terminal is not None and self._terminal.master in ready:
            self._read(self._terminal)
        return acted

    def _read(self, terminal: PseudoTerminal) -> None:
        """Take what the host wrote; the last byte has arrived when the line has had time for all."""
        data = terminal.read()
        state, baud = self.chip.state, terminal.baud()
        if state.pending_baud == baud:
            state.baud, state.pending_baud = baud, None
        line_ns = self._timing.serial(len(data), baud or state.baud)
        self._received_ns = max(self._received_ns, time.monotonic_ns()) + line_ns
        if state.asleep:
            data = self._wake_up(data)
        if not data:
            return
        if baud != state.baud:
            data = garbled(data)
        for frame in self._decoder.feed(data):
            self._frames.append((frame, self._received_ns))

    def _wake_up(self, data: bytes) -> bytes:
        """Rising edges on the line wake the chip; the bytes that bring them are lost (user manual §7.2.11)."""
        if not self.chip.state.wake_sources & WAKE_BY_HSU:
            return b""
        for index, octet in enumerate(data):
            bits = octet << 1 | 0x200  # start bit, data, stop bit as they pass the line
            self._edges += (bits >> 1 & ~bits).bit_count()
            if self._edges >= _RISING_EDGES_TO_WAKE:
                self.chip.state.asleep, self._edges = False, 0
                self._decoder.clear()
                return data[index + 1 :]
        return b""

    def _serve(self, frame: hsu.Frame, at_ns: int) -> None:
        state = self.chip.state
        if self._strikes(ReaderFault.DEAF) or self._strikes(ReaderFault.CHATTER):
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
        if self._overdue:
            at_ns = self._send(self._overdue, at_ns)
            self._overdue = b""
        is_late = self._strikes(ReaderFault.LATE)
        if not is_late and not self._strikes(ReaderFault.DROP_ACK):
            at_ns = self._send(hsu.ACK, at_ns)
        running = self.chip.execute(command, at_ns)
        try:
            response, at_ns = self._drive(running)
        finally:
            running.close()
        extended = self._strikes(ReaderFault.EXTENDED)
        encoded = hsu.ERROR if response is None else hsu.encode(response, extended=extended)
        self._last_response = encoded
        if is_late:
            self._overdue = hsu.ACK + encoded
            return
        if self._strikes(ReaderFault.DROP_RESPONSE):
            return
        if self._strikes(ReaderFault.CORRUPT_RESPONSE):
            encoded = encoded[:-2] + bytes([encoded[-2] ^ 0xFF, encoded[-1]])
        self._send(encoded, at_ns)
        answered = self.chip.rf.answered
        if answered is not None and answered.apdu is not None and self._on_apdu is not None:
            self._on_apdu(ApduSent(apdu=answered.apdu, sent_ns=self._handed_ns))

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
            data = data if self._terminal.baud() == self.chip.state.baud else garbled(data)
            self._handed_ns = time.monotonic_ns()
            self._terminal.write(data)
        return sent_ns
