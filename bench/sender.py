"""A controller's end of the wire, as light as can be, so that what is measured is the hub and not its load."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Self

from hub import mqtt_packets as packets
from hub.mqtt_packets import Kind

_WITHIN_S = 30.0


class Sender(asyncio.Protocol):
    """One connection; ``heard`` gets the payload of every message on the one topic it subscribes to.

    What is sent is not sent again.
    """

    def __init__(self, client_id: str, topic: str, heard: Callable[[bytes], None]) -> None:
        self._client_id, self._topic, self._heard = client_id, topic, heard
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self.is_subscribed = asyncio.Event()

    @classmethod
    async def connect(
        cls, port: int, context: ssl.SSLContext, client_id: str, topic: str, heard: Callable[[bytes], None]
    ) -> Self:
        """Connect to the broker on loopback and subscribe; raises ``OSError``, ``TimeoutError`` after 30 s."""
        async with asyncio.timeout(_WITHIN_S):
            _, sender = await asyncio.get_running_loop().create_connection(
                lambda: cls(client_id, topic, heard), "127.0.0.1", port, ssl=context
            )
            await sender.is_subscribed.wait()
        return sender

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
        """Say who this is, without a keepalive."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self.send([packets.connect(self._client_id, 0)])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        """Nothing can be sent any more."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Take whole packets off what was received."""
        self._received += data
        for packet in packets.take(self._received):
            match packet.kind:
                case Kind.CONNECT_ANSWER if not packets.refusal(packet):
                    self.send([packets.subscribe(self._topic, 0)])
                case Kind.SUBSCRIBE_ANSWER if not packets.refusal(packet):
                    self.is_subscribed.set()
                case Kind.PUBLISH:
                    self._heard(packets.published(packet).payload)
                case _:
                    pass
