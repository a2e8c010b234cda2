"""BER-TLV as cards use it (ISO/IEC 7816-4 §6.3, ISO/IEC 8825-1): definite lengths only.

A parsed TLV keeps the exact bytes it came from, so that a signature over it can be verified even
when the writer did not choose the shortest length form.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from pacs.errors import MalformedData

MAX_TAG_BYTES = 3
MAX_VALUE_BYTES = 0xFFFF


class Tlv(NamedTuple):
    """One data object; ``tag`` is its tag bytes read as a big-endian number (0x7F21)."""

    tag: int
    value: bytes
    raw: bytes

    @classmethod
    def build(cls, tag: int, value: bytes | Iterable[Tlv]) -> Self:
        """Encode with the shortest length form; a constructed value is given as its parts.

        Raises ``MalformedData`` above 65,535 bytes.
        """
        content = value if isinstance(value, bytes) else b"".join(part.raw for part in value)
        return cls(tag, content, encode_tag(tag) + _encode_length(len(content)) + content)

    def __bytes__(self) -> bytes:
        return self.raw


def encode_tag(tag: int) -> bytes:
    """The tag's own bytes, 1 to 3. Raises ``MalformedData`` when no tag has that number."""
    raw = tag.to_bytes((max(tag, 0).bit_length() + 7) // 8 or 1, "big") if tag >= 0 else b""
    if not raw or _tag_end(raw, 0) != len(raw):
        raise MalformedData(f"TLV: {tag:#x} is not a tag")
    return raw


def _encode_length(length: int) -> bytes:
    if length < 0x80:
        return bytes((length,))
    if length <= 0xFF:
        return bytes((0x81, length))
    if length <= MAX_VALUE_BYTES:
        return b"\x82" + length.to_bytes(2, "big")
    raise MalformedData(f"TLV: value of {length} bytes; at most {MAX_VALUE_BYTES}")


def _tag_end(data: bytes, start: int) -> int:
    """Position after the tag at ``start``. ISO/IEC 7816-4 §6.3: '00' and 'FF' start no tag."""
    if start >= len(data):
        raise MalformedData("TLV: tag missing")
    first = data[start]
    if first in (0x00, 0xFF):
        raise MalformedData(f"TLV: tag starts with {first:02X}")
    end = start + 1
    if first & 0x1F == 0x1F:
        while True:
            if end >= len(data) or end - start >= MAX_TAG_BYTES:
                raise MalformedData("TLV: tag has no end")
            end += 1
            if not data[end - 1] & 0x80:
                break
    return end


def read(data: bytes, start: int = 0) -> Tlv:
    """The data object that begins at ``start``; what follows it is not looked at.

    Raises ``MalformedData`` on an indefinite length, a length of more than two bytes, or a value
    longer than the data.
    """
    tag_end = _tag_end(data, start)
    if tag_end >= len(data):
        raise MalformedData("TLV: length missing")
    length = data[tag_end]
    value_start = tag_end + 1
    if length >= 0x80:
        count = length & 0x7F
        if count not in (1, 2):
            raise MalformedData(f"TLV: length form {length:02X}")
        value_start += count
        if value_start > len(data):
            raise MalformedData("TLV: length cut off")
        length = int.from_bytes(data[tag_end + 1 : value_start], "big")
    end = value_start + length
    if end > len(data):
        raise MalformedData(f"TLV: value of {length} bytes is cut off")
    return Tlv(int.from_bytes(data[start:tag_end], "big"), data[value_start:end], data[start:end])


def parse(data: bytes) -> tuple[Tlv, ...]:
    """All data objects of ``data``, which they fill exactly. Raises ``MalformedData``."""
    found: list[Tlv] = []
    position = 0
    while position < len(data):
        item = read(data, position)
        found.append(item)
        position += len(item.raw)
    return tuple(found)


def parse_one_byte(data: bytes) -> tuple[Tlv, ...]:
    """All data objects of ``data`` with tag and length of exactly one byte each (PKOC SE V1).

    Here 7F and 5F are whole tags and 81 is a length of 129. Raises ``MalformedData``.
    """
    found: list[Tlv] = []
    position = 0
    while position < len(data):
        end = position + 2 + (data[position + 1] if position + 1 < len(data) else 0)
        if end > len(data):
            raise MalformedData("TLV: data object is cut off")
        raw = data[position:end]
        found.append(Tlv(raw[0], raw[2:], raw))
        position = end
    return tuple(found)


def find(items: Iterable[Tlv], tag: int) -> bytes | None:
    """The value of the one object with ``tag``, or None. Raises ``MalformedData`` on a second one."""
    found: bytes | None = None
    for item in items:
        if item.tag == tag:
            if found is not None:
                raise MalformedData(f"TLV: tag {tag:X} occurs twice")
            found = item.value
    return found


def require(items: Iterable[Tlv], tag: int, length: int) -> bytes:
    """The value of the one object with ``tag``. Raises ``MalformedData`` unless it has ``length`` bytes."""
    value = find(items, tag)
    if value is None:
        raise MalformedData(f"TLV: tag {tag:X} missing")
    if len(value) != length:
        raise MalformedData(f"TLV: tag {tag:X} has {len(value)} bytes, {length} expected")
    return value
