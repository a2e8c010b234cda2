"""The PN532's high-speed UART framing: bytes in any split ⇄ frames (PN532 user manual §6.2.1).

A decoder reads from the host's side unless told otherwise; it never raises on any bytes and holds at most one frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

START = b"\x00\xff"
ACK = bytes.fromhex("0000ff00ff00")
NACK = bytes.fromhex("0000ffff0000")
ERROR = bytes.fromhex("0000ff01ff7f8100")
FROM_HOST = 0xD4
FROM_CHIP = 0xD5
MAX_LENGTH = 265
"""Longest LEN of a frame: identifier, command and 263 bytes (user manual §6.2.1.2)."""
LONGEST_NORMAL = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """ACK: to the chip it also means: abandon what you do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """NACK: send your last answer again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Information:
    """A frame with data; ``data`` is what follows the identifier (command code first)."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationError:
    """The chip's one-byte error frame: it does not know the command, or its syntax."""


Frame = Acknowledge | Repeat | Information | ApplicationError


def encode(data: bytes, *, identifier: int = FROM_CHIP, extended: bool = False) -> bytes:
    """One information frame: normal up to LEN 255, extended above, or always if so asked.

    Raises ValueError when ``data`` is longer than a frame carries.
    """
    body = bytes([identifier]) + data
    if len(body) > MAX_LENGTH:
        raise ValueError(f"{len(body)} bytes do not fit a frame of {MAX_LENGTH}")
    if len(body) <= LONGEST_NORMAL and not extended:
        head = bytes([len(body), -len(body) & 0xFF])
    else:
        high, low = divmod(len(body), 256)
        head = bytes([0xFF, 0xFF, high, low, -(high + low) & 0xFF])
    return b"\x00" + START + head + body + bytes([-sum(body) & 0xFF, 0x00])


class Decoder:
    """Frames out of a byte stream; what is no frame is skipped."""

    def __init__(self, *, identifier: int = FROM_HOST) -> None:
        self._identifier = identifier
        self._pending = bytearray()

    def clear(self) -> None:
        """Forget a frame that has not ended."""
        self._pending.clear()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take more bytes; yields each frame that they complete, in order."""
        self._pending += data
        while True:
            start = self._pending.find(START)
            if start < 0:
                del self._pending[: max(0, len(self._pending) - 1)]
                return
            del self._pending[:start]
            frame, used = self._parse()
            if not used:
                return
            del self._pending[:used]
            if frame is not None:
                yield frame

    def _parse(self) -> tuple[Frame | None, int]:
        """The frame at the start code and its length; no frame: skip that many; 0: more bytes are needed."""
        pending = self._pending
        head = bytes(pending[2:4])
        if head in _SIGNS:
            return _SIGNS[head], 4
        extended = head == b"\xff\xff"
        body = 7 if extended else 4
        if len(pending) < body:
            return None, 0
        length = pending[4] << 8 | pending[5] if extended else pending[2]
        check = sum(pending[4:7]) if extended else sum(head)
        if check & 0xFF or not 1 <= length <= MAX_LENGTH:
            return None, 1
        end = body + length + 1
        if len(pending) < end:
            return None, 0
        if sum(pending[body:end]) & 0xFF:
            return None, 1
        return self._read(bytes(pending[body : end - 1])), end

    def _read(self, body: bytes) -> Frame | None:
        if body == b"\x7f":
            return ApplicationError()
        return Information(data=body[1:]) if body[0] == self._identifier and len(body) > 1 else None


_SIGNS: dict[bytes, Frame] = {b"\x00\xff": Acknowledge(), b"\xff\x00": Repeat()}
