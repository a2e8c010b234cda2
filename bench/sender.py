"""A controller's end of the wire, as light as can be, so that what is measured is the hub and not its load.

Load and hub share the machine: a client that does more for each message would be measured, too. It speaks as much of
MQTT 3.1.1 (OASIS standard, 2014) as it needs, and believes the broker.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Self

_WITHIN_S = 30.0
_CONNECT_ANSWER, _PUBLISH, _SUBSCRIBE_ANSWER = 2, 3, 9  # the high four bits of a packet's first byte
_PACKET_IDS = 65_535


class Sender(asyncio.Protocol):
    """One connection; ``heard`` gets topic and payload of every message that the one filter it subscribes to lets by.

    What is sent is not sent again.
    """

    def __init__(self, client_id: str, topic: str, heard: Callable[[str, bytes], None]) -> None:
        self._client_id, self._topic, self._heard = client_id, topic, heard
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answered = asyncio.Event()

    @classmethod
    async def connect(
        cls,
        port: int,
        context: ssl.SSLContext,
        client_id: str,
        topic: str,
        heard: Callable[[str, bytes], None],
    ) -> Self:
        """Connect to the broker on loopback and subscribe; raises ``OSError``, ``TimeoutError`` after 30 s.

        ``ConnectionError``, an ``OSError``, when the broker closes it before that.
        """
        async with asyncio.timeout(_WITHIN_S):
            _, sender = await asyncio.get_running_loop().create_connection(
                lambda: cls(client_id, topic, heard), "127.0.0.1", port, ssl=context
            )
            await sender._answered.wait()  # noqa: SLF001 -- its own
        if not sender.is_connected:
            raise ConnectionError("the broker closed the connection before it was subscribed")
        return sender

    @property
    def is_connected(self) -> bool:
        """Whether the broker has not closed it."""
        return self._transport is not None

    def send(self, sent: Iterable[bytes]) -> None:
        """Hand packets to the connection; raises ``ConnectionError`` when the broker closed it."""
        if self._transport is None:
            raise ConnectionError("the broker closed the connection")
        self._transport.write(b"".join(sent))

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who this is, with a clean session and without a keepalive."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self.send([_packet(0x10, _text("MQTT") + b"\4\2\0\0" + _text(self._client_id))])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        """Nothing can be sent any more."""
        self._transport = None
        self._answered.set()

    def data_received(self, data: bytes) -> None:
        """Take whole packets off what was received."""
        self._received += data
        for kind, body in _taken(self._received):
            if kind == _CONNECT_ANSWER and not body[1]:
                self.send([_packet(0x82, b"\0\1" + _text(self._topic) + b"\0")])
            elif kind == _SUBSCRIBE_ANSWER and not body[2]:
                self._answered.set()
            elif kind == _PUBLISH:  # at QoS 0
                end = 2 + int.from_bytes(body[:2])
                self._heard(body[2:end].decode(), body[end:])


def publish_confirmed(topic: str, payload: bytes, *, number: int) -> bytes:
    """PUBLISH at QoS 1 (§3.3), not retained; ``number`` counts from 0 and gives the packet id."""
    return _packet(0x32, _text(topic) + (number % _PACKET_IDS + 1).to_bytes(2) + payload)


def _taken(received: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take all whole packets off the front of ``received``: kind and body."""
    begin = 0
    while (start_and_end := _body(received, begin)) is not None:
        start, end = start_and_end
        yield received[begin] >> 4, bytes(received[start:end])
        begin = end
    del received[:begin]


def _body(received: bytearray, begin: int) -> tuple[int, int] | None:
    """Where the body of the packet at ``begin`` is (§2.2.3); None while it is not all there."""
    length = 0
    for place, digit in enumerate(received[begin + 1 : begin + 5]):
        length |= (digit & 0x7F) << 7 * place
        if not digit & 0x80:
            start = begin + 2 + place
            return (start, start + length) if start + length <= len(received) else None
    return None


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
