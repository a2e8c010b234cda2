"""nfcpy's PN532 chipset, which can work between the acknowledgement of a command and its answer."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Final

from nfc.clf import pn532

from edge.nfc.serial_line import SerialLine
from pacs.card.dialogue import nothing

# nfcpy logs a search through the speeds as errors; what matters is in our exceptions
QUIET: Final = logging.getLogger("edge.nfc.chipset")
QUIET.setLevel(logging.CRITICAL)

ACKNOWLEDGE_MS: Final = 60
"""More than a chip takes to acknowledge a command (15 ms) behind a slow adapter."""


class Chip(pn532.Chipset):  # type: ignore[misc]
    """Commands and answers over ``line``; raises what nfcpy's chipset raises.

    ``acknowledge_ms`` bounds the wait for the acknowledgement, ``patience_ms`` is the least it waits for an answer.
    """

    def __init__(self, line: SerialLine) -> None:
        super().__init__(line, logger=QUIET)
        self.acknowledge_ms = self.patience_ms = ACKNOWLEDGE_MS
        self._acknowledged = True
        self._meanwhile: Callable[[], None] = nothing

    def write_frame(self, frame: bytes) -> None:
        """Send a command, or the acknowledgement that aborts one."""
        self._acknowledged = frame == self.ACK
        super().write_frame(frame)

    def read_frame(self, timeout: int) -> bytearray:
        """The acknowledgement, and then the answer within ``timeout`` ms. Raises ``OSError``."""
        if self._acknowledged:
            answer: bytearray = super().read_frame(max(timeout, self.patience_ms))
            if answer == self.ACK:  # nfcpy would wait for the answer anew, for as long as they come
                raise OSError(errno.EIO, "acknowledged twice")
            return answer
        self._acknowledged = True
        acknowledgement: bytearray = super().read_frame(self.acknowledge_ms)
        self._meanwhile()
        return acknowledgement

    def thru(self, block: bytes, wait_ms: float, meanwhile: Callable[[], None]) -> bytes:
        """InCommunicateThru: one frame to the card, ``meanwhile``, one frame back."""
        patience_ms, self.patience_ms, self._meanwhile = self.patience_ms, 0, meanwhile
        try:
            return bytes(self.in_communicate_thru(block, wait_ms / 1000))
        finally:
            self.patience_ms, self._meanwhile = patience_ms, nothing
