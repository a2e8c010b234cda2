"""What a PN532 does with each host command (PN532 user manual §7), without wires, threads or a clock.

A command runs as a generator: it yields the instant until which it waits (CLOCK_MONOTONIC in ns; None: until the field's
occupancy changes), is sent the instant it continues, and returns its answer with the instant it is ready. Closing the
generator abandons the command, as an ACK from the host does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from simulator.pn532_initiator import TX_CONTROL, Initiator, RfState, SyntaxFault, Waiting
from simulator.rf_field import RfField
from simulator.timing import Timing

BAUD_RATES = (9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600, 1288000)
POWER_UP_BAUD = 115200
FIRMWARE = bytes.fromhex("32010607")
"""What GetFirmwareVersion tells: IC, version, revision, what it supports (§7.2.2)."""
RF_COMMANDS = frozenset((0x42, 0x44, 0x4A, 0x52, 0x54))
"""Refused until SAMConfiguration has ended the power-up state (§7.2.10)."""
WAKE_BY_HSU = 0x10


@dataclass(slots=True, kw_only=True)
class HostState:
    """What host commands set for the host's side; a power cycle resets it."""

    baud: int = POWER_UP_BAUD
    pending_baud: int | None = None
    asleep: bool = True
    wake_sources: int = WAKE_BY_HSU
    sam_configured: bool = False


class Chip:
    """The chip: its state, its commands, and the antenna's side in ``rf``."""

    def __init__(self, rf_field: RfField, timing: Timing, firmware: bytes = FIRMWARE) -> None:
        self.firmware = firmware
        self.state = HostState()
        self.rf = Initiator(rf_field, timing)
        self._timing = timing
        self._immediate: dict[int, Callable[[bytes, int], bytes]] = {
            0x00: self._diagnose,
            0x02: self._firmware_version,
            0x04: self._general_status,
            0x06: self._read_register,
            0x08: self._write_register,
            0x10: self._serial_baud_rate,
            0x12: self._parameters,
            0x14: self._sam_configuration,
            0x16: self._power_down,
            0x32: self._rf_configuration,
            0x54: self.rf.in_select,
        }
        self._waiting: dict[int, Callable[[bytes, int], Waiting[tuple[bytes, int]]]] = {
            0x42: self.rf.communicate_thru,
            0x44: self.rf.release,
            0x4A: self.rf.list_passive_target,
            0x52: self.rf.release,
        }

    def power_cycle(self, at_ns: int) -> None:
        """Everything is as after power-up: asleep, slow, field off."""
        self.state = HostState()
        self.rf.state = RfState()
        self.rf.field.switch(on=False, at_ns=at_ns)

    def execute(self, command: bytes, at_ns: int) -> Waiting[tuple[bytes | None, int]]:
        """Run one command (code and parameters); the answer begins with its code, None is the error frame."""
        self.rf.answered = None
        code, data = command[0], command[1:]
        at_ns += self._timing.of(self._timing.firmware_ms)
        if code in RF_COMMANDS and not self.state.sam_configured:
            return None, at_ns
        try:
            if code in self._immediate:
                answer = self._immediate[code](data, at_ns)
            elif code in self._waiting:
                answer, at_ns = yield from self._waiting[code](data, at_ns)
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
        return self.firmware

    def _general_status(self, _data: bytes, _at_ns: int) -> bytes:
        state = self.rf.state
        targets = b"\x01\x01\x00\x00\x00" if state.target else b"\x00"
        return bytes([state.last_error, int(self.rf.field.on)]) + targets + b"\x80"

    def _read_register(self, data: bytes, _at_ns: int) -> bytes:
        if not data or len(data) % 2:
            raise SyntaxFault
        addresses = [int.from_bytes(data[i : i + 2]) for i in range(0, len(data), 2)]
        return bytes(self.rf.register(address) for address in addresses)

    def _write_register(self, data: bytes, at_ns: int) -> bytes:
        if not data or len(data) % 3:
            raise SyntaxFault
        for i in range(0, len(data), 3):
            address, value = int.from_bytes(data[i : i + 2]), data[i + 2]
            self.rf.state.registers[address] = value
            if address == TX_CONTROL:
                self.rf.field.switch(on=bool(value & 3), at_ns=at_ns)
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
        self.rf.state.parameters = data[0]
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
        self.rf.field.switch(on=False, at_ns=at_ns)
        self.state.wake_sources, self.state.asleep, self.rf.state.target = data[0], True, None
        return b"\x00"

    def _rf_configuration(self, data: bytes, at_ns: int) -> bytes:
        """Field, timeouts and retries matter here; analogue settings are taken and kept nowhere (§7.3.1)."""
        item, values = data[:1], data[1:]
        lengths = {b"\x01": 1, b"\x02": 3, b"\x04": 1, b"\x05": 3}
        if len(values) != lengths.get(item, len(values)) or not values:
            raise SyntaxFault
        if item == b"\x01":
            self.rf.field.switch(on=bool(values[0] & 1), at_ns=at_ns)
        elif item == b"\x02":
            self.rf.state.timeout_code = min(values[2], 16)
        elif item == b"\x05":
            self.rf.state.passive_retries = values[2]
        return b""
