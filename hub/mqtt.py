"""The hub's connection to the broker: mutual TLS, everything handed on at once.

One thread reads, confirms and writes, as many packets at a time as there are: a call for each message would cost
more than storing it. Nothing waits for the hub at the broker: controllers send what is not acknowledged again, and
an old hello or heartbeat would say what is no longer so. That the broker is told of what was taken (PUBACK) only
keeps it from sending more than the hub takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

import structlog

from hub import mqtt_packets as packets
from hub.inbox import Message
from hub.keys import HubKeys
from hub.mqtt_packets import Kind
from pacs.errors import MalformedData
from pacs.topics import UP_QOS, DownTopic, up_filter

KEEPALIVE_S = 20
CONNECT_WITHIN_S = 15.0
LONGEST_RECONNECT_S = 5.0
END_WITHIN_S = 3.0
STOP_WAIT_S = 10.0
UNSENT_BYTES = 64 * 1024 * 1024
_READ_BYTES = _WRITE_BYTES = 64 * 1024
_READS = 32  # of at most one TLS record each

log = structlog.get_logger(__name__)


class HubClient:
    """Receives what all controllers publish; publishes to each on its own topics."""

    def __init__(self, keys: HubKeys) -> None:
        self._keys = keys
        self._on_messages: Callable[[Sequence[Message]], None] = _ignore
        self._on_lost: Callable[[], None] = _ignore
        self._address = ("", 0)
        self._subscribed = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def is_connected(self) -> bool:
        """Whether messages are being received."""
        return self._subscribed.is_set()

    def start(
        self,
        host: str,
        port: int,
        *,
        on_messages: Callable[[Sequence[Message]], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Connect, and keep connecting, in a thread of its own, which calls ``on_messages`` and ``on_lost``."""
        self._on_messages, self._on_lost = on_messages, on_lost
        self._address = (host, port)
        self._thread.start()

    def stop(self) -> None:
        """Send what was published, and disconnect."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)
        self._woken.close()
        self._waker.close()

    def wait_until_connected(self, timeout_s: float) -> bool:
        """Whether it is within this time."""
        return self._subscribed.wait(timeout_s)

    def publish(self, topic: DownTopic, payload: bytes) -> None:
        """Send at most once; without a connection the message is lost, and sent again by whoever needs it."""
        packet = packets.publish(str(topic), payload)
        with self._lock:
            if not self._subscribed.is_set() or len(self._unsent) > UNSENT_BYTES:
                return
            wakes = not self._unsent
            self._unsent += packet
        if wakes:
            self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: the thread is about to look anyway
            self._waker.send(b"\0")

    # -- the thread

    def _run(self) -> None:
        bound_s = 1.0
        while not self._stopping.is_set():
            try:
                self._serve()
            except (OSError, MalformedData) as error:
                log.warning("broker_disconnected", reason=str(error))
            except Exception:
                log.exception("broker_connection_failed")
            if self._subscribed.is_set():
                bound_s = 1.0
                self._lost()
            self._stopping.wait(bound_s * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret
            bound_s = min(2 * bound_s, LONGEST_RECONNECT_S)

    def _lost(self) -> None:
        with self._lock:
            self._subscribed.clear()
            self._unsent.clear()
        try:
            self._on_lost()
        except Exception:
            log.exception("loss_of_broker_not_handled")

    def _serve(self) -> None:
        """One connection, until the hub stops; raises ``OSError`` or ``MalformedData`` when it ends before."""
        with (
            socket.create_connection(self._address, CONNECT_WITHIN_S) as plain,
            _context(self._keys).wrap_socket(plain, server_hostname=self._address[0]) as connection,
            _Wire(connection, self._woken) as wire,
        ):
            wire.send(packets.connect(client_id(self._keys), KEEPALIVE_S))
            while not self._stopping.is_set():
                wire.wait()
                if received := wire.receive():
                    self._take(wire, received)
                wire.send(self._taken_unsent())
            wire.end(self._taken_unsent() + packets.DISCONNECT)

    def _take(self, wire: _Wire, received: bytearray) -> None:
        """Hand on what was published, confirm it, and answer the rest."""
        messages: list[Message] = []
        confirmations = bytearray()
        for packet in packets.take(received):
            match packet.kind:
                case Kind.PUBLISH:
                    found = packets.published(packet)
                    messages.append(Message(found.topic, found.payload, found.is_repeated))
                    if found.packet_id:
                        confirmations += packets.confirm(found.packet_id)
                case Kind.CONNECT_ANSWER:
                    _refused(packet)
                    wire.send(packets.subscribe(up_filter(), UP_QOS))
                case Kind.SUBSCRIBE_ANSWER:
                    _refused(packet)
                    self._subscribed.set()
                    log.info("broker_connected")
                case Kind.PUBLISH_ANSWER | Kind.PING_ANSWER:
                    pass
        if messages:
            try:
                self._on_messages(messages)
            except Exception:
                log.exception("messages_not_taken", messages=len(messages))
            wire.send(confirmations)

    def _taken_unsent(self) -> bytes:
        with self._lock:
            taken = bytes(self._unsent)
            self._unsent.clear()
            return taken


class _Wire:
    """A connection that nobody waits for; ``waker`` becomes readable when there is something to send."""

    def __init__(self, connection: ssl.SSLSocket, waker: socket.socket) -> None:
        connection.setblocking(False)
        self._connection, self._waker = connection, waker
        self._received, self._unsent = bytearray(), bytearray()
        self._heard_s = self._pinged_s = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._selector.register(waker, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def send(self, data: bytes | bytearray) -> None:
        """Send as much as goes, and the rest later; raises ``OSError``."""
        self._unsent += data
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._unsent:
                del self._unsent[: self._connection.send(self._unsent[:_WRITE_BYTES])]

    def wait(self) -> None:
        """Until there is something to do, at most a second; raises ``TimeoutError`` when the broker is silent."""
        now_s = time.monotonic()
        if now_s - self._heard_s > 1.5 * KEEPALIVE_S:
            raise TimeoutError("the broker is silent")
        if now_s - max(self._heard_s, self._pinged_s) > KEEPALIVE_S / 2:
            self._pinged_s = now_s
            self.send(packets.PING)
        if self._connection.pending():
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        self._selector.modify(self._connection, wanted)
        self._selector.select(1.0)
        with contextlib.suppress(BlockingIOError):
            self._waker.recv(4096)

    def receive(self) -> bytearray:
        """What was received and not taken yet; raises ``OSError``, also at the end of the connection."""
        self.send(b"")
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            for _ in range(_READS):
                data = self._connection.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("the broker closed the connection")
                self._received += data
                self._heard_s = time.monotonic()
        return self._received

    def end(self, last: bytes) -> None:
        """Send everything, for a few seconds at most."""
        self._connection.settimeout(END_WITHIN_S)
        self._connection.sendall(self._unsent + last)


def _refused(packet: packets.Packet) -> None:
    reason = packets.refusal(packet)
    if reason:
        raise ConnectionRefusedError(f"the broker refuses the hub: {reason}")


def client_id(keys: HubKeys) -> str:
    """The same over restarts, so that a second hub with the same keys takes over; not to be guessed.

    The broker lets whoever names a client id take its session over, a controller too.
    """
    return "hub-" + hashlib.sha256(b"drempel hub session\0" + keys.broker_key_pem).hexdigest()[:32]


def _ignore(*_: object) -> None:
    """Before ``start`` nobody listens."""


def _context(keys: HubKeys) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(keys.root_certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(keys.client_certificate), str(keys.client_key), keys.passphrase)
    return context
