"""The hub's connection to the broker: mutual TLS, everything handed on at once.

Nothing waits for the hub at the broker: controllers send what is not acknowledged again, and an old hello or
heartbeat would say what is no longer so.
"""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Callable
from typing import Any

import structlog
from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from hub.inbox import Message
from hub.keys import HubKeys
from pacs.topics import DOWN_QOS, UP_QOS, DownTopic, up_filter

KEEPALIVE_S = 20
LONGEST_RECONNECT_S = 5

log = structlog.get_logger(__name__)


class HubClient:
    """Receives what all controllers publish; publishes to each on its own topics."""

    def __init__(self, keys: HubKeys) -> None:
        self._on_message: Callable[[Message], None] = _ignore
        self._on_lost: Callable[[], None] = _ignore
        self._subscribed = threading.Event()
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id(keys),
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.tls_set_context(_context(keys))
        client.reconnect_delay_set(1, LONGEST_RECONNECT_S)
        client.on_connect = self._connected
        client.on_subscribe = self._subscription
        client.on_disconnect = self._disconnected
        client.on_message = self._message
        self._client = client

    @property
    def is_connected(self) -> bool:
        """Whether messages are being received."""
        return self._subscribed.is_set()

    def start(
        self, host: str, port: int, *, on_message: Callable[[Message], None], on_lost: Callable[[], None]
    ) -> None:
        """Connect, and keep connecting, in a thread of its own, which calls ``on_message`` and ``on_lost``."""
        self._on_message, self._on_lost = on_message, on_lost
        self._client.connect_async(host, port, KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
        # without these references the client is freed, and closes its sockets, as soon as nobody has it
        self._client.on_connect = self._client.on_subscribe = None
        self._client.on_disconnect = self._client.on_message = None
        self._on_message = self._on_lost = _ignore

    def wait_until_connected(self, timeout_s: float) -> bool:
        """Whether it is within this time."""
        return self._subscribed.wait(timeout_s)

    def publish(self, topic: DownTopic, payload: bytes) -> None:
        """Send at most once; without a connection the message is lost, and sent again by whoever needs it."""
        if self._subscribed.is_set():
            self._client.publish(str(topic), payload, qos=DOWN_QOS)

    # -- callbacks, in paho's thread: an exception would end it

    def _connected(
        self,
        client: Client,
        _data: Any,
        _flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.error("broker_refused_the_hub", reason=str(reason))
            return
        client.subscribe(up_filter(), qos=UP_QOS)

    def _subscription(
        self,
        _client: Client,
        _data: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            log.error("broker_refused_the_subscription")
            return
        self._subscribed.set()
        log.info("broker_connected")

    def _disconnected(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._subscribed.clear()
        log.warning("broker_disconnected", reason=str(reason))
        try:
            self._on_lost()
        except Exception:
            log.exception("loss_of_broker_not_handled")

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            self._on_message(Message(message.topic, bytes(message.payload), message.dup))
        except Exception:
            log.exception("message_not_taken")


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
