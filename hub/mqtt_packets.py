"""MQTT 3.1.1 (OASIS standard, 2014) as the hub speaks it: its packets, written and read many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, unique

from pacs.errors import MalformedData

MAX_PACKET_BYTES = 256 * 1024
DISCONNECT = b"\xe0\x00"
PING = b"\xc0\x00"

_PACKET_IDS = 65_535
_CLEAN_SESSION = 0x02
_DUPLICATE = 0x08
_PUBACK = b"\x40\x02"


@unique
class Kind(IntEnum):
    """What is read: the high four bits of a packet's first byte (§2.2.1)."""

    CONNECT_ANSWER = 2
    PUBLISH = 3
    PUBLISH_ANSWER = 4
    SUBSCRIBE_ANSWER = 9
    PING_ANSWER = 13


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet that was received; ``flags`` are the low four bits of its first byte."""

    kind: Kind
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """A PUBLISH that was received; ``packet_id`` 0 at QoS 0, which nobody confirms."""

    topic: str
    payload: bytes
    packet_id: int
    is_repeated: bool


def connect(client_id: str, keepalive_s: int) -> bytes:
    """CONNECT (§3.1) with a clean session, without will and password."""
    return _packet(
        0x10, _text("MQTT") + bytes((4, _CLEAN_SESSION)) + keepalive_s.to_bytes(2) + _text(client_id)
    )


def subscribe(topic_filter: str, qos: int) -> bytes:
    """SUBSCRIBE (§3.8) to one filter; one at a time, so that its packet id is always 1."""
    return _packet(0x82, b"\0\1" + _text(topic_filter) + bytes((qos,)))


def publish(topic: str, payload: bytes) -> bytes:
    """PUBLISH at QoS 0 (§3.3), not retained."""
    return _packet(0x30, _text(topic) + payload)


def publish_confirmed(topic: str, payload: bytes, *, number: int) -> bytes:
    """PUBLISH at QoS 1 (§3.3), not retained; ``number`` counts from 0 and gives the packet id."""
    return _packet(0x32, _text(topic) + (number % _PACKET_IDS + 1).to_bytes(2) + payload)


def confirm(packet_id: int) -> bytes:
    """PUBACK (§3.4)."""
    return _PUBACK + packet_id.to_bytes(2)


def take(received: bytearray) -> Iterator[Packet]:
    """Take all whole packets off the front of ``received``.

    Raises ``MalformedData`` for a packet of a kind that no server sends to this client, or of more than
    ``MAX_PACKET_BYTES``.
    """
    begin = 0
    try:
        while (found := _body(received, begin)) is not None:
            first = received[begin]
            yield Packet(_kind(first), first & 0x0F, bytes(received[found]))
            begin = found.stop
    finally:
        del received[:begin]


def published(packet: Packet) -> Published:
    """Read a PUBLISH at QoS 0 or 1; raises ``MalformedData``."""
    body, qos = packet.body, packet.flags >> 1 & 0x03
    topic_ends = 2 + int.from_bytes(body[:2])
    begins = topic_ends + 2 * (qos > 0)
    if qos > 1 or len(body) < begins:
        raise MalformedData("MQTT: a message cut short, or of a quality nobody asked for")
    try:
        topic = body[2:topic_ends].decode()
    except UnicodeDecodeError as error:
        raise MalformedData("MQTT: a topic that is not text") from error
    packet_id = int.from_bytes(body[topic_ends:begins])
    if qos and not packet_id:
        raise MalformedData("MQTT: a message to be confirmed without a number")
    return Published(topic, body[begins:], packet_id, bool(packet.flags & _DUPLICATE))


def refusal(packet: Packet) -> int:
    """The reason of a CONNACK (§3.2.2.3) or SUBACK (§3.9.3), 0 when it was not refused.

    Raises ``MalformedData``.
    """
    if packet.kind is Kind.CONNECT_ANSWER and len(packet.body) == 2:
        return packet.body[1]
    if packet.kind is Kind.SUBSCRIBE_ANSWER and len(packet.body) == 3:
        return packet.body[2] & 0x80
    raise MalformedData("MQTT: an answer of the wrong length")


def _kind(first: int) -> Kind:
    try:
        return Kind(first >> 4)
    except ValueError as error:
        raise MalformedData("MQTT: a packet no server sends") from error


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2) + encoded


def _packet(first: int, body: bytes) -> bytes:
    """Fixed header (§2.2) and body."""
    length, rest = bytearray(), len(body)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes((first,)) + length + body


def _body(received: bytearray, begin: int) -> slice | None:
    """Where the body of the packet at ``begin`` is; None while it is not all there."""
    length = 0
    for place, digit in enumerate(received[begin + 1 : begin + 5]):
        length |= (digit & 0x7F) << 7 * place
        if length > MAX_PACKET_BYTES:
            raise MalformedData("MQTT: a packet larger than any the broker lets pass")
        if not digit & 0x80:
            start = begin + 2 + place
            return slice(start, start + length) if start + length <= len(received) else None
    if len(received) >= begin + 5:
        raise MalformedData("MQTT: a length of more than four bytes")
    return None
