"""Two hosts of a PN532 for the tests: unmodified nfcpy, and the least a host can be."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nfc
import nfc.clf
import nfc.clf.pn532
import nfc.clf.transport
import serial

from simulator import hsu

TYPE_A = nfc.clf.RemoteTarget("106A")


class PatientTty(nfc.clf.transport.TTY):  # type: ignore[misc] # nfcpy has no annotations
    """nfcpy's transport on a host that other work may hold up for a while."""

    patience_ms = 3000

    def read(self, timeout: float) -> Any:
        return super().read(max(timeout, self.patience_ms))


@contextmanager
def nfcpy_frontend(path: str) -> Iterator[Any]:
    """A frontend as ``ContactlessFrontend.open`` makes it, without its search in /dev."""
    transport = PatientTty(path)
    try:
        device = nfc.clf.pn532.init(transport)
        device._path = path
        frontend = nfc.clf.ContactlessFrontend()
        frontend.device = device
        yield frontend
        frontend.close()
    finally:
        transport.close()


class BareHost:
    """Host frames on a serial port, nothing else; at the speed it is told."""

    def __init__(self, path: str, baud: int = 115200) -> None:
        self.port = serial.Serial(path, baud, timeout=0)
        self._decoder = hsu.Decoder(identifier=hsu.FROM_CHIP)

    def close(self) -> None:
        self.port.close()

    def send(self, data: bytes) -> None:
        self.port.write(data)

    def frame(self, within_s: float = 5.0) -> hsu.Frame | None:
        """The next frame from the chip; None: none came in time."""
        deadline = time.monotonic() + within_s
        while True:
            frame = next(self._decoder.feed(self.port.read(4096)), None)
            left = deadline - time.monotonic()
            if frame is not None or left <= 0:
                return frame
            select.select([self.port], [], [], left)

    def start(self, command: bytes) -> None:
        """Send a command; returns after its ACK."""
        self.send(hsu.encode(command, identifier=hsu.FROM_HOST))
        assert self.frame() == hsu.Acknowledge()

    def finish(self) -> bytes:
        """The answer to the command started last, without its code; the error frame raises."""
        frame = self.frame()
        assert isinstance(frame, hsu.Information), frame
        return frame.data[1:]

    def command(self, command: bytes) -> bytes:
        self.start(command)
        return self.finish()

    def wake(self) -> None:
        """From power-up to ready for cards."""
        self.send(b"\x55\x55" + bytes(14))
        self.command(bytes.fromhex("140100"))

    def speed(self, baud: int, code: int) -> None:
        """SetSerialBaudRate and follow."""
        self.command(bytes([0x10, code]))
        self.send(hsu.ACK)
        self.port.baudrate = baud

    def communicate(self, data: bytes) -> tuple[int, bytes]:
        """InCommunicateThru: status and bytes."""
        answer = self.command(b"\x42" + data)
        return answer[0], answer[1:]

    def activate(self) -> bytes:
        """Find the card (CRC comes on with it) and send RATS; returns the ATS."""
        found = self.command(bytes.fromhex("4a0100"))
        assert found[:1] == b"\x01"
        status, ats = self.communicate(bytes.fromhex("e080"))
        assert status == 0
        return ats

    def apdu(self, command: bytes, number: int, *, fsc: int = 256) -> tuple[bytes, int]:
        """One APDU over ISO-DEP, starting with that block number; the answer and the number of the next block."""
        limit = fsc - 3
        pieces = [command[start : start + limit] for start in range(0, len(command), limit)]
        for piece in pieces[:-1]:
            assert self.communicate(bytes([0x12 | number]) + piece) == (0, bytes([0xA2 | number]))
            number ^= 1
        received, block = b"", bytes([0x02 | number]) + pieces[-1]
        while True:
            status, answer = self.communicate(block)
            assert status == 0
            if answer == b"\xf2\x01":
                block = answer
                continue
            assert answer[0] & 0xEF == 0x02 | number
            received, number = received + answer[1:], number ^ 1
            if not answer[0] & 0x10:
                return received, number
            block = bytes([0xA2 | number])
