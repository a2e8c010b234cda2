"""What a PN532 does with each host command (PN532 user manual §7), without wires, threads or a clock.

A command runs as a generator: it yields the instant until which it waits (CLOCK_MONOTONIC in ns; None: until the field's
occupancy changes), is sent the instant it continues, and returns its answer with the instant it is ready. Closing the
generator abandons the command, as an ACK from the host does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
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

BAUD_RATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
POWER_UP_BAUD = 115200
FIRMWARE = bytes.fromhex("32010607")
RF_COMMANDS = frozenset((0x40, 0x42, 0x44, 0x4A, 0x52, 0x54, 0x58))
"""Refused until SAMConfiguration has ended the power-up state (§7.2.10)."""
TX_MODE, RX_MODE, TX_CONTROL, FIFO_DATA, BIT_FRAMING = 0x6302, 0x6303, 0x6304, 0x6339, 0x633D
CRC_ENABLED = 0x80
WAKE_BY_HSU = 0x10
AUTOMATIC_RATS = 0x10
ENDLESS = 0xFF
SELECTION_WINDOW_MS = 0.5
"""How long the chip listens for an answer to REQA, anticollision and SELECT."""
ENDLESS_PAUSE_NS = 1_000_000
"""Between two REQA at a silent card when times are not played."""

OK, TIMEOUT, CRC_ERROR, FRAMING_ERROR, NOT_ACCEPTABLE = 0x00, 0x01, 0x02, 0x05, 0x27


class SyntaxFault(Exception):
    """The command's parameters are not of its form: the chip sends its error frame."""


@dataclass(slots=True, kw_only=True)
class Target:
    """The card selected last; ``link`` is set when the chip itself speaks ISO-DEP to it."""

    sens_res: bytes
    sel_res: int
    uid: bytes
    ats: bytes = b""


@dataclass(slots=True, kw_only=True)
class State:
    """Everything a power cycle resets."""

    baud: int = POWER_UP_BAUD
    pending_baud: int | None = None
    asleep: bool = True
    wake_sources: int = WAKE_BY_HSU
    sam_configured: bool = False
    parameters: int = 0x14
    timeout_code: int = 0x0A
    passive_retries: int = ENDLESS
    registers: dict[int, int] = field(default_factory=dict)
    target: Target | None = None
    last_error: int = OK
    last_heard_ns: int = 0


class Chip:
    """The chip: its state, its commands, the field it feeds."""

    def __init__(self, rf_field: RfField, timing: Timing) -> None:
        self.state = State()
        self._field = rf_field
        self._timing = timing
        self.answered: Answer | None = None
        """The frame which the running command brought from the card."""

    def power_cycle(self, at_ns: int) -> None:
        """Everything is as after power-up: asleep, slow, field off."""
        self.state = State()
        self._field.switch(on=False, at_ns=at_ns)

    def execute(self, command: bytes, at_ns: int) -> Waiting[tuple[bytes | None, int]]:
        """Run one command (code and parameters); the answer begins with its code, None is the error frame."""
        self.answered = None
        code, data = command[0], command[1:]
        at_ns += ns(self._timing.firmware_ms) if self._timing.modelled else 0
        if code in RF_COMMANDS and not self.state.sam_configured:
            return None, at_ns
        try:
            if code in self._IMMEDIATE:
                answer = self._IMMEDIATE[code](self, data, at_ns)
            elif code in self._WAITING:
                answer, at_ns = yield from self._WAITING[code](self, data, at_ns)
            else:
                return None, at_ns
        except SyntaxFault:
            return None, at_ns
        return bytes([code + 1]) + answer, at_ns

    # -------------------------------------------------------------- the chip itself

    def _diagnose(self, data: bytes, _at_ns: int) -> bytes:
        """Line test: the same bytes back; ROM and RAM tests: good (§7.2.1)."""
        if not data:
            raise SyntaxFault
        return data if data[0] == 0x00 else b"\x00"

    def _firmware_version(self, _data: bytes, _at_ns: int) -> bytes:
        return FIRMWARE

    def _general_status(self, _data: bytes, _at_ns: int) -> bytes:
        state = self.state
        targets = b"\x01\x01\x00\x00\x00" if state.target else b"\x00"
        return bytes([state.last_error, int(self._field.on)]) + targets + b"\x80"

    def _read_register(self, data: bytes, _at_ns: int) -> bytes:
        if not data or len(data) % 2:
            raise SyntaxFault
        addresses = [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]
        return bytes(self._register(address) for address in addresses)

    def _register(self, address: int) -> int:
        value = self.state.registers.get(address, 0)
        return value & 0xFC | (3 if self._field.on else 0) if address == TX_CONTROL else value

    def _write_register(self, data: bytes, at_ns: int) -> bytes:
        if not data or len(data) % 3:
            raise SyntaxFault
        for i in range(0, len(data), 3):
            address, value = int.from_bytes(data[i : i + 2]), data[i + 2]
            self.state.registers[address] = value
            if address == TX_CONTROL:
                self._field.switch(on=bool(value & 3), at_ns=at_ns)
        return b""

    def _serial_baud_rate(self, data: bytes, _at_ns: int) -> bytes:
        """Takes effect once the host has acknowledged the answer (§7.2.8)."""
        if len(data) != 1 or data[0] >= len(BAUD_RATES):
            raise SyntaxFault
        self.state.pending_baud = BAUD_RATES[data[0]]
        return b""

    def _parameters(self, data: bytes, _at_ns: int) -> bytes:
        if len(data) != 1:
            raise SyntaxFault
        self.state.parameters = data[0]
        return b""

    def _sam_configuration(self, data: bytes, _at_ns: int) -> bytes:
        if not 1 <= len(data) <= 3 or not 1 <= data[0] <= 4:
            raise SyntaxFault
        self.state.sam_configured = True
        return b""

    def _power_down(self, data: bytes, at_ns: int) -> bytes:
        """Asleep after the answer; only the sources named wake it (§7.2.11)."""
        if not 1 <= len(data) <= 2:
            raise SyntaxFault
        self._field.switch(on=False, at_ns=at_ns)
        self.state.wake_sources, self.state.asleep, self.state.target = data[0], True, None
        return b"\x00"

    def _rf_configuration(self, data: bytes, at_ns: int) -> bytes:
        """Field, timeouts and retries matter here; analogue settings are taken and kept nowhere (§7.3.1)."""
        item, values = data[:1], data[1:]
        lengths = {b"\x01": 1, b"\x02": 3, b"\x04": 1, b"\x05": 3}
        if len(values) != lengths.get(item, len(values)) or not values:
            raise SyntaxFault
        if item == b"\x01":
            self._field.switch(on=bool(values[0] & 1), at_ns=at_ns)
        elif item == b"\x02":
            self.state.timeout_code = min(values[2], 16)
        elif item == b"\x05":
            self.state.passive_retries = values[2]
        return b""

    # -------------------------------------------------------------- the card

    def _transceive(
        self, frame: AirFrame, at_ns: int, timeout_ns: int | None
    ) -> Waiting[tuple[Answer | None, int]]:
        """Send a frame, wait for its answer. ``timeout_ns`` counts to the answer's start; None waits for ever."""
        start_ns = max(at_ns, self.state.last_heard_ns + self._timing.of(airtime.READER_DELAY_MS))
        sent_ns = start_ns + self._timing.of(frame.air_ms)
        # The card hears the frame when it has been sent: it may be pulled, or come, before that.
        yield sent_ns
        answer = self._field.deliver(frame, sent_ns)
        if answer is not None:
            delay_ns = self._timing.of(airtime.card_delay_ms(frame.last_bit, answer.computing_ms))
            heard_ns = sent_ns + delay_ns + self._timing.of(answer.air_ms)
            if timeout_ns is None or delay_ns <= timeout_ns:
                yield heard_ns
                if self._field.occupied_at(heard_ns):
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

    def _communicate_thru(self, data: bytes, at_ns: int) -> Waiting[tuple[bytes, int]]:
        """Bytes to the card as the registers say, its answer back (§7.3.9)."""
        if not data:
            raise SyntaxFault
        status, answer, at_ns = yield from self._raw(data, at_ns, self._timeout_ns())
        return bytes([status]) + answer, at_ns

    def _raw(self, data: bytes, at_ns: int, timeout_ns: int | None) -> Waiting[tuple[int, bytes, int]]:
        """One frame by the registers; returns status, bytes and the instant."""
        tx_mode, rx_mode = self._register(TX_MODE), self._register(RX_MODE)
        framed = with_crc(data) if tx_mode & CRC_ENABLED else data
        frame = AirFrame(data=framed, last_bits=self._register(BIT_FRAMING) & 7, rate_kbps=_rate(tx_mode))
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

    def _list_passive_target(self, data: bytes, at_ns: int) -> Waiting[tuple[bytes, int]]:
        """Look for a type A card as often as RFConfiguration item 5 says (§7.3.5)."""
        if len(data) < 2 or not 1 <= data[0] <= 2 or data[1] > 4:
            raise SyntaxFault
        self.state.target = None
        at_ns = self._field.switch(on=True, at_ns=at_ns)
        retries = self.state.passive_retries
        attempts: Iterator[object] = repeat(None) if retries == ENDLESS else iter(range(retries + 1))
        for _ in attempts:
            tried_ns = at_ns
            if data[1] == 0:
                target, at_ns = yield from self._select(data[2:], at_ns)
                if target is not None:
                    self.state.target = target
                    return self._describe(target), at_ns
            at_ns = max(at_ns, tried_ns + self._timing.of(self._timing.poll_ms))
            if retries == ENDLESS:
                at_ns = yield from self._until_occupied(at_ns)
            else:
                yield at_ns
        return b"\x00", at_ns

    def _until_occupied(self, at_ns: int) -> Waiting[int]:
        """Nothing to do while the field is empty; then the poll that would have come next."""
        period_ns = self._timing.of(self._timing.poll_ms) or ENDLESS_PAUSE_NS
        now_ns = yield at_ns if self._timing.modelled else at_ns + ENDLESS_PAUSE_NS
        while not self._field.occupied_at(now_ns):
            now_ns = yield None
        return at_ns + max(0, -(-(now_ns - at_ns) // period_ns)) * period_ns

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
            status, ats, at_ns = yield from self._raw(b"\xe0\x50", at_ns, ns(airtime.fwt_ms(4)))
            if status != OK:
                return None, at_ns
            target = replace(target, ats=ats)
        return target, at_ns

    def _describe(self, target: Target) -> bytes:
        head = b"\x01\x01" + target.sens_res + bytes([target.sel_res, len(target.uid)])
        return head + target.uid + target.ats

    def _release(self, data: bytes, at_ns: int) -> Waiting[tuple[bytes, int]]:
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

    def _in_select(self, data: bytes, _at_ns: int) -> bytes:
        if len(data) != 1:
            raise SyntaxFault
        return bytes([OK if self.state.target and data[0] == 1 else NOT_ACCEPTABLE])

    _IMMEDIATE: dict[int, Callable[[Chip, bytes, int], bytes]] = {  # noqa: RUF012 - a constant table
        0x00: _diagnose,
        0x02: _firmware_version,
        0x04: _general_status,
        0x06: _read_register,
        0x08: _write_register,
        0x10: _serial_baud_rate,
        0x12: _parameters,
        0x14: _sam_configuration,
        0x16: _power_down,
        0x32: _rf_configuration,
        0x54: _in_select,
    }
    _WAITING: dict[int, Callable[[Chip, bytes, int], Waiting[tuple[bytes, int]]]] = {  # noqa: RUF012 - likewise
        0x42: _communicate_thru,
        0x44: _release,
        0x4A: _list_passive_target,
        0x52: _release,
    }


def _rate(mode: int) -> int:
    """Bits 4 to 6 of TxMode and RxMode; 0 stands for a rate no card speaks."""
    index = mode >> 4 & 7
    return airtime.RATES_KBPS[index] if index < len(airtime.RATES_KBPS) and not mode & 3 else 0


def _matches(wanted: bytes, uid: bytes) -> bool:
    """Whether initiator data, which carries the cascade tags, names this UID."""
    levels = [uid[start : start + 3] for start in range(0, len(uid) - 4, 3)]
    return wanted == b"".join(b"\x88" + part for part in levels) + uid[3 * len(levels) :]
