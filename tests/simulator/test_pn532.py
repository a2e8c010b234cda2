"""Unmodified nfcpy against the virtual PN532."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nfc
import nfc.clf
import nfc.clf.pn532
import nfc.clf.transport
import nfc.tag

from simulator.pn532 import VirtualPn532
from simulator.rf_link import IsoDepCard


class Mirror:
    """An application that answers each command with itself reversed and 9000."""

    def answer(self, command: bytes) -> bytes:
        return command[::-1] + b"\x90\x00"

    def computing_ms(self, command: bytes) -> float:
        return 0.0

    def reset(self) -> None:
        pass


class PatientTty(nfc.clf.transport.TTY):  # type: ignore[misc] # nfcpy has no annotations
    """nfcpy's transport with a host that may be held up for a while by other work."""

    def read(self, timeout: float) -> Any:
        return super().read(max(timeout, 3000))


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """A frontend the way ``ContactlessFrontend.open`` makes it, without the name lookup in /dev."""
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


def test_reads_a_card() -> None:
    """Unmodified nfcpy opens the reader, finds nothing, then a card, activates it and exchanges APDUs of any length."""
    with VirtualPn532() as reader, opened(reader.path) as frontend:
        assert frontend.sense(nfc.clf.RemoteTarget("106A")) is None
        reader.insert(IsoDepCard(Mirror()))
        target = frontend.sense(nfc.clf.RemoteTarget("106A"))
        tag = nfc.tag.activate(frontend, target)
        assert tag.TYPE == "Type4Tag"
        for length in (1, 5, 250, 251, 252, 253, 254, 255, 600, 3000):
            command = bytes(index * 7 & 0xFF for index in range(length))
            assert tag.transceive(command) == command[::-1] + b"\x90\x00"
