"""The hub's connection to the broker: mutual TLS, everything handed on at once.

One thread of our own turns the MQTT library, and hands on all messages that are here at a time: to wake the one who
stores them for each would cost as much as storing it. Nothing waits for the hub at the broker: controllers send what is not acknowledged again, and
an old hello or heartbeat would say what is no longer so. The hub subscribes at QoS 0 therefore, which also spares the
nodes of a cluster from agreeing on every message twice, and on who hears it when one of them is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import select
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from hub.inbox import Message
from hub.keys import HubKeys
from pacs.topics import DOWN_QOS, DownTopic, HubTopic

KEEPALIVE_S = 20
CONNECT_WITHIN_S = 15.0
LONGEST_RECONNECT_S = 5.0
END_WITHIN_S = 3.0
STOP_WAIT_S = 10.0
UNSENT_BYTES = 64 * 1024 * 1024
MOST_AT_ONCE = 1_000

log = structlog.get_logger(__name__)


class HubClient:
    """Receives what is published on its subscriptions; publishes to controllers and to other hub processes."""

    def __init__(self, keys: HubKeys, name: str, subscriptions: Sequence[tuple[str, int]]) -> None:
        """``name``: the client id; ``subscriptions``: filter and QoS of each."""
        self._on_messages: Callable[[Sequence[Message]], None] = _ignore
        self._on_lost: Callable[[], None] = _ignore
        self._servers: Sequence[tuple[str, int]] = ()
        self._subscriptions = subscriptions
        self._received: list[Message] = []
        self._subscribed = threading.Event()
        self._stopping = threading.Event()
        self._unsent_bytes = 0
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._keys, self._name = keys, name
        self._certificates_changed = threading.Event()
        self._client = self._made(keys, name)
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def _made(self, keys: HubKeys, name: str) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        client.tls_set_context(_context(keys))
        client.connect_timeout = CONNECT_WITHIN_S
        client.on_connect = self._connected
        client.on_subscribe = self._subscription
        client.on_message = self._message
        client.on_socket_register_write = self._wake
        return client

    @property
    def is_connected(self) -> bool:
        """Whether messages are being received."""
        return self._subscribed.is_set()

    def start(
        self,
        servers: Sequence[tuple[str, int]],
        *,
        on_messages: Callable[[Sequence[Message]], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Connect to one of these, and keep connecting, in a thread of its own, which calls the two functions.

        ``on_lost``: the connection ended, and at once there is none to another of the servers either.
        """
        self._on_messages, self._on_lost = on_messages, on_lost
        self._servers = random.sample(servers, len(servers))
        self._thread.start()

    def stop(self) -> None:
        """Send what was published, and disconnect."""
        self._stopping.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(STOP_WAIT_S)
        self._woken.close()
        self._waker.close()
        _let_go(self._client)
        self._on_messages = self._on_lost = _ignore

    def read_certificates_again(self) -> None:
        """Use what the files of the certificates hold with the next connection; the present one stays."""
        self._certificates_changed.set()

    def wait_until_connected(self, timeout_s: float) -> bool:
        """Whether it is within this time."""
        return self._subscribed.wait(timeout_s)

    def publish(self, topic: DownTopic | HubTopic, payload: bytes) -> None:
        """Send at most once; without a connection the message is lost, and sent again by whoever needs it."""
        if self._subscribed.is_set() and self._unsent_bytes < UNSENT_BYTES:
            self._unsent_bytes += len(payload)  # roughly: two threads may count one
            self._client.publish(str(topic), payload, qos=DOWN_QOS)

    @property
    def has_room(self) -> bool:
        """Whether large things may be published now: what is small then still finds room behind them."""
        return self._unsent_bytes < UNSENT_BYTES // 4 or not self._subscribed.is_set()

    def _wake(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # full: the thread is about to look anyway
            self._waker.send(b"\0")

    # -- the thread

    def _run(self) -> None:
        bound_s, tries, others, owes_loss = 1.0, 0, 0, False
        while not self._stopping.is_set():
            try:
                if self._certificates_changed.is_set():
                    self._certificates_changed.clear()
                    before, self._client = self._client, self._made(self._keys, self._name)
                    _let_go(before)
                self._client.connect(*self._servers[tries % len(self._servers)], keepalive=KEEPALIVE_S)
                self._serve()
            except (OSError, ValueError) as error:
                log.warning("broker_disconnected", reason=str(error))
            except Exception:
                log.exception("broker_connection_failed")
            self._received = []
            if self._subscribed.is_set():
                self._subscribed.clear()
                self._unsent_bytes = 0
                bound_s, owes_loss, others = 1.0, True, len(self._servers) - 1
            else:
                others -= 1
            tries += 1
            if others > 0:  # another server may be there at once
                continue
            if owes_loss:
                owes_loss = False
                self._lost()
            self._stopping.wait(bound_s * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret
            bound_s = min(2 * bound_s, LONGEST_RECONNECT_S)

    def _lost(self) -> None:
        try:
            self._on_lost()
        except Exception:
            log.exception("loss_of_broker_not_handled")

    def _serve(self) -> None:
        """One connection, until the hub stops; raises ``OSError`` when it ends before."""
        connection = self._client.socket()
        if not isinstance(connection, ssl.SSLSocket):
            raise ConnectionError("no connection")
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                if not connection.pending():
                    writes = selectors.EVENT_WRITE if self._client.want_write() else 0
                    selector.modify(connection, selectors.EVENT_READ | writes)
                    selector.select(1.0)
                    with contextlib.suppress(BlockingIOError):
                        self._woken.recv(4096)
                self._read()
                self._write()
                _check(self._client.loop_misc())
        self._end(connection)

    def _read(self) -> None:
        """Hand on all messages that are here; the library confirms them."""
        before = -1
        while before < len(self._received) < MOST_AT_ONCE:
            before = len(self._received)
            _check(self._client.loop_read())
        messages, self._received = self._received, []
        if messages:
            try:
                self._on_messages(messages)
            except Exception:
                log.exception("messages_not_taken", messages=len(messages))

    def _write(self) -> None:
        if self._client.want_write():
            _check(self._client.loop_write())
            if not self._client.want_write():
                self._unsent_bytes = 0

    def _end(self, connection: ssl.SSLSocket) -> None:
        """Send everything, for a few seconds at most."""
        ends_s = time.monotonic() + END_WITHIN_S
        self._client.disconnect()
        while self._client.want_write() and time.monotonic() < ends_s:
            select.select([], [connection], [], END_WITHIN_S)
            self._client.loop_write()

    # -- callbacks, in that thread; what they raise ends the connection

    def _connected(
        self, client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _: Any
    ) -> None:
        if reason.is_failure:
            raise ConnectionRefusedError(f"the broker refuses the hub: {reason}")
        client.subscribe(list(self._subscriptions))

    def _subscription(
        self, _client: Client, _data: Any, _mid: int, reasons: list[ReasonCode], _: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            raise ConnectionRefusedError("the broker refuses the subscription")
        self._subscribed.set()
        log.info("broker_connected")

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._received.append(Message(message.topic, bytes(message.payload), message.dup))


def _let_go(client: Client) -> None:
    """Without these references it is freed as soon as nobody has it."""
    client.on_connect = client.on_subscribe = client.on_message = None
    client.on_socket_register_write = None


def _check(code: MQTTErrorCode) -> None:
    if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
        raise ConnectionError(code.name)


def client_id(keys: HubKeys, shard: int | None = None) -> str:
    """The same over restarts and processes, for all shards or one: whoever has it last takes over; not to be guessed.

    The broker lets whoever names a client id take its session over, a controller too.
    """
    name = "hub-" + hashlib.sha256(b"drempel hub session\0" + keys.broker_key_pem).hexdigest()[:32]
    return name if shard is None else f"{name}-{shard:02}"


def _ignore(*_: object) -> None:
    """Before ``start`` nobody listens."""


def _context(keys: HubKeys) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(keys.root_certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(keys.client_certificate), str(keys.client_key), keys.passphrase)
    return context
