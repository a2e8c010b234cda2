"""Command and response APDUs (ISO/IEC 7816-4 §5.1), short and extended length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from pacs.errors import MalformedData

SUCCESS: Final = 0x9000
SHORT_DATA_BYTES: Final = 255
SHORT_LE: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAPDU:
    """A command. ``le`` is the most answer bytes wanted, 1 to 65,536, or None for no Le field.

    ``data`` up to 255 bytes with ``le`` up to 256 is written in short form, anything else extended.
    """

    cla: int
    ins: int
    p1: int = 0
    p2: int = 0
    data: bytes = b""
    le: int | None = None

    def __post_init__(self) -> None:
        if not all(0 <= byte <= 0xFF for byte in (self.cla, self.ins, self.p1, self.p2)):
            raise MalformedData("command APDU: a header byte is out of range")
        if len(self.data) > 0xFFFF:
            raise MalformedData("command APDU: more than 65535 bytes of data")
        if self.le is not None and not 1 <= self.le <= 0x10000:
            raise MalformedData("command APDU: Le is 1 to 65536")

    @property
    def is_extended(self) -> bool:
        """Whether the wire form needs three-byte length fields."""
        return len(self.data) > SHORT_DATA_BYTES or (self.le or 0) > SHORT_LE

    def __bytes__(self) -> bytes:
        header = bytes((self.cla, self.ins, self.p1, self.p2))
        if not self.is_extended:
            body = bytes((len(self.data),)) + self.data if self.data else b""
            tail = b"" if self.le is None else bytes((self.le & 0xFF,))
            return header + body + tail
        body = b"\x00" + len(self.data).to_bytes(2, "big") + self.data if self.data else b""
        if self.le is None:
            return header + body
        tail = (self.le & 0xFFFF).to_bytes(2, "big")
        return header + body + (tail if self.data else b"\x00" + tail)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read any of the seven forms of ISO/IEC 7816-4 §5.1. Raises ``MalformedData``."""
        if len(raw) < 4:
            raise MalformedData("command APDU: shorter than its header")
        data, le = _split_body(raw[4:])
        return cls(cla=raw[0], ins=raw[1], p1=raw[2], p2=raw[3], data=data, le=le)


def _split_body(body: bytes) -> tuple[bytes, int | None]:
    if not body:
        return b"", None
    if len(body) == 1:
        return b"", body[0] or SHORT_LE
    if body[0]:
        end = 1 + body[0]
        if len(body) == end:
            return body[1:], None
        if len(body) == end + 1:
            return body[1:end], body[end] or SHORT_LE
        raise MalformedData("command APDU: Lc does not match")
    if len(body) < 3:
        raise MalformedData("command APDU: extended length cut off")
    number = int.from_bytes(body[1:3], "big")
    if len(body) == 3:
        return b"", number or 0x10000
    end = 3 + number
    if number and len(body) == end:
        return body[3:], None
    if number and len(body) == end + 2:
        return body[3:end], int.from_bytes(body[end:], "big") or 0x10000
    raise MalformedData("command APDU: extended Lc does not match")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseAPDU:
    """An answer: ``data``, then ``status_word`` SW1 SW2 as one 16-bit number (§5.6)."""

    data: bytes = b""
    status_word: int = SUCCESS

    @property
    def ok(self) -> bool:
        """Whether the status word is 9000."""
        return self.status_word == SUCCESS

    def __bytes__(self) -> bytes:
        return self.data + self.status_word.to_bytes(2, "big")

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Split off the status word. Raises ``MalformedData`` when it is missing or SW1 is not 6X or 9X."""
        if len(raw) < 2:
            raise MalformedData("response APDU: no status word")
        if raw[-2] & 0xF0 not in (0x60, 0x90) or raw[-2] == 0x60:
            raise MalformedData(f"response APDU: {raw[-2]:02X} is not an SW1")
        return cls(data=raw[:-2], status_word=int.from_bytes(raw[-2:], "big"))
