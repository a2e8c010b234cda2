"""What a PN532 does as initiator: it looks for a card and carries frames (PN532 user manual §7.3).

A step that takes time is a generator: it yields the instant until which it waits (CLOCK_MONOTONIC in ns; None: until the
field's occupancy changes), is sent the instant it continues, and returns its result. Closing it abandons the step.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TypeVar

from simulator import airtime
from simulator.rf_field import RfField
from simulator.rf_link import CASCADE, CASCADE_SAK, ISO_DEP_SAK, REQA, AirFrame, Answer, check_crc, with_crc
from simulator.timing import Timing, ns

T = TypeVar("T")
Waiting = Generator[int | None, int, T]
"""Yields instants to wait for; returns ``T``."""

TX_MODE, RX_MODE, TX_CONTROL, ERROR, FIFO_DATA, BIT_FRAMING = 0x6302, 0x6303, 0x6304, 0x6336, 0x6339, 0x633D
TEMPERATURE_ERROR = 0x40
CRC_ENABLED = 0x80
AUTOMATIC_RATS = 0x10
RATS_FSD_64 = b"\xe0\x50"
ENDLESS = 0xFF
SELECTION_WINDOW_MS = 0.5
"""How long the chip listens for an answer to REQA, anticollision and SELECT."""
ENDLESS_PAUSE_NS = 1_000_000
"""Between two REQA at a silent card when times are not played."""

OK, TIMEOUT, CRC_ERROR, FRAMING_ERROR, NOT_ACCEPTABLE = 0x00, 0x01, 0x02, 0x05, 0x27


class SyntaxFault(Exception):
    """The command's parameters are not of its form: the chip sends its error frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The card selected last; ``ats`` when the chip itself sent RATS. ``sens_res``: most significant byte first."""

    sens_res: bytes
    sel_res: int
    uid: bytes
    ats: bytes = b""

    def __bytes__(self) -> bytes:
        head = b"\x01" + self.sens_res + bytes([self.sel_res, len(self.uid)])
        return head + self.uid + self.ats


@dataclass(slots=True, kw_only=True)
class RfState:
    """What host commands set for the antenna's side; a power cycle resets it."""

    parameters: int = 0x14
    timeout_code: int = 0x0A
    passive_retries: int = ENDLESS
    registers: dict[int, int] = field(default_factory=dict)
    target: Target | None = None
    last_error: int = OK
    last_heard_ns: int = 0


class Initiator:
    """The contactless half of the chip, feeding one field."""

    def __init__(self, rf_field: RfField, timing: Timing) -> None:
        self.state = RfState()
        self.field = rf_field
        self._timing = timing
        self.answered: Answer | None = None
        """The frame which the running command brought from the card."""

    def register(self, address: int) -> int:
        """A register's value; TxControl shows the field, Error whether it is too hot for one."""
        value = self.state.registers.get(address, 0)
        if address == ERROR and self.field.overheated:
            value |= TEMPERATURE_ERROR
        return value & 0xFC | (3 if self.field.on else 0) if address == TX_CONTROL else value

    def _transceive(
        self, frame: AirFrame, at_ns: int, timeout_ns: int | None
    ) -> Waiting[tuple[Answer | None, int]]:
        """Send a frame, wait for its answer. ``timeout_ns`` counts to the answer's start; None waits for ever."""
        start_ns = max(at_ns, self.state.last_heard_ns + self._timing.of(airtime.READER_DELAY_MS))
        sent_ns = start_ns + self._timing.of(frame.air_ms)
        # The card hears the frame when it has been sent: it may be pulled, or come, before that.
        yield sent_ns
        answer = self.field.deliver(frame, started_ns=start_ns, ended_ns=sent_ns)
        if answer is not None:
            delay_ns = self._timing.of(airtime.card_delay_ms(frame.last_bit, answer.computing_ms))
            heard_ns = sent_ns + delay_ns + self._timing.of(answer.air_ms)
            if timeout_ns is None or delay_ns <= timeout_ns:
                yield heard_ns
                if self.field.occupied_at(heard_ns):
                    self.state.last_heard_ns = heard_ns
                    return answer, heard_ns
        while timeout_ns is None:
            yield None
        yield sent_ns + timeout_ns
        return None, sent_ns + timeout_ns

    def _timeout_ns(self) -> int | None:
        """RFConfiguration item 2: 100 µs × 2^(n−1); code 0 waits for ever."""
        code = self.state.timeout_code
        return 100_000 << (code - 1) if code else None

    def communicate_thru(self, data: bytes, at_ns: int) -> Waiting[tuple[bytes, int]]:
        """Bytes to the card as the registers say, its answer back (§7.3.9)."""
        if not data:
            raise SyntaxFault
        status, answer, at_ns = yield from self._raw(data, at_ns, self._timeout_ns())
        return bytes([status]) + answer, at_ns

    def _raw(self, data: bytes, at_ns: int, timeout_ns: int | None) -> Waiting[tuple[int, bytes, int]]:
        """One frame by the registers; returns status, bytes and the instant."""
        tx_mode, rx_mode = self.register(TX_MODE), self.register(RX_MODE)
        framed = with_crc(data) if tx_mode & CRC_ENABLED else data
        frame = AirFrame(data=framed, last_bits=self.register(BIT_FRAMING) & 7, rate_kbps=_rate(tx_mode))
        answer, at_ns = yield from self._transceive(frame, at_ns, timeout_ns)
        if answer is None:
            status, received = TIMEOUT, b""
        elif answer.status:
            status, received = answer.status, b""
        elif answer.rate_kbps != _rate(rx_mode):
            status, received = FRAMING_ERROR, b""
        elif rx_mode & CRC_ENABLED:
            checked = check_crc(answer.data)
            status, received = (CRC_ERROR, b"") if checked is None else (OK, checked)
        else:
            status, received = OK, answer.data
        if status == OK:
            self.answered = answer
        self.state.last_error = status
        return status, received, at_ns

    def list_passive_target(self, data: bytes, at_ns: int) -> Waiting[tuple[bytes, int]]:
        """Look for a type A card as often as RFConfiguration item 5 says (§7.3.5)."""
        if len(data) < 2 or not 1 <= data[0] <= 2 or data[1] > 4:
            raise SyntaxFault
        self.state.target = None
        at_ns = self.field.switch(on=True, at_ns=at_ns)
        retries = self.state.passive_retries
        attempts: Iterator[object] = repeat(None) if retries == ENDLESS else iter(range(retries + 1))
        for _ in attempts:
            tried_ns = at_ns
            if data[1] == 0:
                target, at_ns = yield from self._select(data[2:], at_ns)
                if target is not None:
                    self.state.target = target
                    return b"\x01" + bytes(target), at_ns
            at_ns = max(at_ns, tried_ns + self._timing.of(self._timing.poll_ms))
            if retries == ENDLESS:
                at_ns = yield from self._until_occupied(at_ns)
            else:
                yield at_ns
        return b"\x00", at_ns

    def _until_occupied(self, at_ns: int) -> Waiting[int]:
        """Nothing to do while the field is empty; then the poll that would have come next."""
        period_ns = self._timing.of(self._timing.poll_ms) or ENDLESS_PAUSE_NS
        if not self._timing.modelled:
            at_ns += ENDLESS_PAUSE_NS
        now_ns = yield at_ns
        if self.field.occupied_at(now_ns):
            return at_ns
        while not self.field.occupied_at(now_ns):
            now_ns = yield None
        return at_ns - (at_ns - now_ns) // period_ns * period_ns

    def _select(self, wanted: bytes, at_ns: int) -> Waiting[tuple[Target | None, int]]:
        """REQA, anticollision and SELECT, and RATS when SetParameters asks for it."""
        registers = self.state.registers
        window_ns = self._timing.of(SELECTION_WINDOW_MS)
        registers.update({TX_MODE: 0, RX_MODE: 0, BIT_FRAMING: 7, FIFO_DATA: REQA})
        atqa, at_ns = yield from self._transceive(AirFrame(data=bytes([REQA]), last_bits=7), at_ns, window_ns)
        if atqa is None or atqa.status:
            return None, at_ns
        registers.update({BIT_FRAMING: 0, FIFO_DATA: atqa.data[-1]})
        uid, sak = b"", CASCADE_SAK
        for code in CASCADE:
            part, at_ns = yield from self._transceive(AirFrame(data=bytes([code, 0x20])), at_ns, window_ns)
            if part is None or part.status or len(part.data) != 5:
                return None, at_ns
            frame = AirFrame(data=with_crc(bytes([code, 0x70]) + part.data))
            selected, at_ns = yield from self._transceive(frame, at_ns, window_ns)
            checked = None if selected is None or selected.status else check_crc(selected.data)
            if checked is None:
                return None, at_ns
            sak = checked[0]
            uid += part.data[1:4] if sak & CASCADE_SAK else part.data[:4]
            if not sak & CASCADE_SAK:
                break
        if sak & CASCADE_SAK or (wanted and not _matches(wanted, uid)):
            return None, at_ns
        registers.update({TX_MODE: CRC_ENABLED, RX_MODE: CRC_ENABLED})
        target = Target(sens_res=atqa.data[::-1], sel_res=sak, uid=uid)
        if sak & ISO_DEP_SAK and self.state.parameters & AUTOMATIC_RATS:
            status, ats, at_ns = yield from self._raw(RATS_FSD_64, at_ns, ns(airtime.fwt_ms(4)))
            if status != OK:
                return None, at_ns
            target = replace(target, ats=ats)
        return target, at_ns

    def release(self, data: bytes, at_ns: int) -> Waiting[tuple[bytes, int]]:
        """InDeselect and InRelease: the card is sent to sleep (§7.3.10, §7.3.11)."""
        if len(data) != 1 or data[0] > 2:
            raise SyntaxFault
        target = self.state.target
        if target is None or data[0] == 2:
            return bytes([NOT_ACCEPTABLE if data[0] else OK]), at_ns
        self.state.target = None
        command = b"\xc2" if target.ats else b"\x50\x00"
        _, _, at_ns = yield from self._raw(command, at_ns, self._timing.of(SELECTION_WINDOW_MS))
        return bytes([OK]), at_ns

    def in_select(self, data: bytes, _at_ns: int) -> bytes:
        """InSelect: the one target is always selected (§7.3.12)."""
        if len(data) != 1:
            raise SyntaxFault
        return bytes([OK if self.state.target and data[0] == 1 else NOT_ACCEPTABLE])


def _rate(mode: int) -> int:
    """Bits 4 to 6 of TxMode and RxMode; 0 stands for a rate no card speaks."""
    index = mode >> 4 & 7
    return airtime.RATES_KBPS[index] if index < len(airtime.RATES_KBPS) and not mode & 3 else 0


def _matches(wanted: bytes, uid: bytes) -> bool:
    """Whether initiator data, which carries the cascade tags, names this UID."""
    levels = [uid[start : start + 3] for start in range(0, len(uid) - 4, 3)]
    return wanted == b"".join(b"\x88" + part for part in levels) + uid[3 * len(levels) :]
