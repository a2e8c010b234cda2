"""One connection to the broker, from its attempt to its end; ``edge.uplink`` makes the next one.

MQTT 3.1.1, QoS 1 up, QoS 0 down, a clean session, nothing retained. The broker's PUBACK means nothing here:
only the hub's own acknowledgement does.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from edge.allowance import Allowance
from edge.inputs import Acknowledged, CommandReceived, DocumentReceived, EventsUnreadable, LinkChanged
from edge.journal import Outgoing
from edge.link_state import LinkCause, LinkLog, Stalled
from edge.renewal import Renewal
from edge.send_window import Patience, SendWindow
from pacs.commands import MAX_COMMAND_BYTES
from pacs.errors import MalformedData, StoreError
from pacs.events import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Event, EventKind, seal_batch
from pacs.identifiers import ControllerId, JournalId
from pacs.messages import (
    MAX_CHUNKS,
    Acknowledgement,
    ControllerStatus,
    DocumentAssembler,
    DocumentChunk,
    DocumentKind,
    Hello,
    IssuedCertificate,
    Report,
)
from pacs.topics import DOWN_QOS, UP_QOS, Down, DownTopic, Up, UpTopic

_log = logging.getLogger(__name__)

_HEAD_BYTES = 512  # room for a batch's signed head
_LONGEST_SELECT_S = 0.5
_READ_AGAIN_S = 10.0
_SOONEST_HEARTBEAT_S = 1.0
_AHEAD = frozenset({EventKind.ACCESS_REFERRED, EventKind.REFERRAL_ENDED})
"""What somebody at the hub waits for, and somebody at the door: told before its turn where the record is behind."""
_LOOK_BACK_EVENTS = 64  # of a connection's first look: who asked just before it may wait yet
_FLOOD_PAUSE_S = 0.02  # before more is read from a broker that brings too much

Received: TypeAlias = Acknowledged | DocumentReceived | CommandReceived | EventsUnreadable | LinkChanged


class EventSource(Protocol):
    """Where the events come from."""

    @property
    def outgoing(self) -> Outgoing:
        """What the hub has to get next."""
        ...

    def read(
        self, journal_id: JournalId, from_sequence: int, *, max_events: int, max_bytes: int
    ) -> list[bytes]:
        """Consecutive events, none when there is none yet; raises ``StoreError``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSettings:
    """``host`` is the name in the broker's certificate; the times are in seconds.

    The wait before a connection is drawn between half and the whole of a bound that doubles from
    ``reconnect_min_s`` to ``reconnect_max_s``.
    """

    host: str
    port: int
    controller_id: ControllerId
    software: str
    reconnect_min_s: float = 1.0
    reconnect_max_s: float = 60.0
    connect_timeout_s: float = 10.0
    keepalive_s: int = 20
    heartbeat_s: float = 30.0
    patience: Patience = field(default_factory=Patience)


@dataclass(slots=True)
class Counts:
    """Since the start. ``refused``: messages from the broker that were not used, by reason."""

    connections: int = 0
    batches: int = 0
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What every connection of one uplink works with."""

    settings: UplinkSettings
    journal: EventSource
    event_key: Ed25519PrivateKey
    tls_context: Callable[[], ssl.SSLContext]
    put: Callable[[Received], None]
    status: Callable[[], ControllerStatus]
    standing: Callable[[], object]
    has_expired: Callable[[], bool]
    wake: socket.socket
    stopping: threading.Event
    counts: Counts
    log: LinkLog
    renewal: Renewal | None = None
    report: Callable[[], Report | None] = lambda: None


class HubConnection:
    """Used by one thread: ``serve`` once, then ``close``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._window = SendWindow(parts.settings.patience)
        self._documents = {kind: DocumentAssembler() for kind in DocumentKind}
        self._allowances = _allowances()
        self._flooded = False
        self._client = self._new_client()
        self._online = False
        self._heartbeat_s = -math.inf
        self._told: object = None
        self._reported: Report | None = None
        self._read_again_at_s = 0.0
        self._looked: tuple[JournalId | None, int] = (None, 0)
        self.was_answered = False
        """Whether the hub has spoken on it."""
        self.ended_by = (LinkCause.NOT_ADMITTED, "")
        """Why it ended when ``serve`` returns."""

    def serve(self) -> None:
        """Connect and exchange until the connection ends or the uplink stops.

        Raises ``OSError`` when there is no connection to be had, ``StoreError`` when the keys cannot be read.
        """
        settings = self._settings
        context = self._parts.tls_context()
        context.sslsocket_class = _TlsSocket
        self._client.tls_set_context(context)
        self._client.connect_async(settings.host, settings.port, keepalive=settings.keepalive_s)
        self._client.reconnect()
        online_by_s = time.monotonic() + settings.connect_timeout_s
        taken = None
        while not self._parts.stopping.is_set() and (sock := self._client.socket()):
            taken = sock
            self._exchange(sock)
            now_s = time.monotonic()
            if self._online:
                self._send(now_s)
            elif now_s > online_by_s:
                raise Stalled("the broker accepted the connection and said no more")
        if self._parts.stopping.is_set():
            if self._online:
                self._say_goodbye()
        elif not self._online and isinstance(taken, _TlsSocket) and taken.alert:
            raise taken.alert
        elif self.ended_by[0] is LinkCause.NOT_ADMITTED and self._parts.has_expired():
            self.ended_by = (LinkCause.CERTIFICATE_REFUSED, self.ended_by[1])

    def close(self) -> None:
        """End it, whatever state it is in; never waits."""
        with contextlib.suppress(OSError, ValueError):
            self._client.disconnect()
        if sock := self._client.socket():
            sock.close()
        if self._online:
            self._online = False
            self._parts.put(LinkChanged(online=False))

    # ---- the client and its callbacks

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id(self._settings.controller_id, self._parts.event_key),
            clean_session=True,
            protocol=mqtt.MQTTv311,
        )
        client.connect_timeout = self._settings.connect_timeout_s
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        farewell = replace(self._parts.status(), online=False, health=None)
        client.will_set(self._topic(Up.STATUS), bytes(farewell), qos=UP_QOS, retain=False)
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            _log.warning("the broker refused the connection: %s", reason)
            self.ended_by = (LinkCause.NOT_ADMITTED, str(reason))
            return
        topics = [str(DownTopic(self._settings.controller_id, kind)) for kind in Down]
        client.subscribe([(topic, DOWN_QOS) for topic in topics])

    def _on_subscribe(self, client: mqtt.Client, _data: Any, _id: Any, reasons: Any, _more: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            _log.warning("the broker refused a subscription; is this controller registered at the hub?")
            client.disconnect()
            return
        self._online = True
        self.ended_by = (LinkCause.ENDED, "")
        self._parts.log.online()
        self._parts.counts.connections += 1
        self._parts.put(LinkChanged(online=True))

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        cause, words = self.ended_by
        self.ended_by = (cause, words or str(reason))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic, payload = DownTopic.parse(message.topic), bytes(message.payload)
            if not self._allowances[topic.kind].take(time.monotonic()):
                self._flooded = True
                self._parts.counts.refused["flooded"] += 1
            elif topic.kind is Down.COMMAND:
                self._command(payload, retained=message.retain)
            elif message.retain:
                raise MalformedData("a retained message")
            elif topic.kind is Down.ACKNOWLEDGED:
                self._acknowledged(Acknowledgement.from_bytes(payload))
            elif topic.kind is Down.DOCUMENT:
                self._chunk(DocumentChunk.from_bytes(payload))
            elif topic.kind is Down.CERTIFICATE:
                self._certificate(IssuedCertificate.from_bytes(payload))
        except MalformedData as error:
            self._refuse("malformed", error)
        except Exception as error:  # noqa: BLE001 - the client ends its loop on anything raised here
            self._refuse("internal_fault", error)
            _log.exception("a message from the hub could not be handled")

    def _refuse(self, reason: str, error: Exception) -> None:
        self._parts.counts.refused[reason] += 1
        times = self._parts.counts.refused[reason]
        if times & (times - 1) == 0:  # each time twice as many
            _log.warning("messages from the hub that were not used: %d %s (%s)", times, reason, error)

    def _command(self, payload: bytes, *, retained: bool) -> None:
        if len(payload) > MAX_COMMAND_BYTES:
            raise MalformedData("a command that is too long")
        self._parts.put(CommandReceived(data=payload, retained=retained))

    def _acknowledged(self, acknowledgement: Acknowledgement) -> None:
        self.was_answered = True
        self._parts.log.answered()
        if self._parts.renewal:
            self._parts.renewal.answered()
        self._window.acknowledged(acknowledgement, time.monotonic())
        self._parts.put(
            Acknowledged(journal_id=acknowledgement.journal_id, sequence=acknowledgement.sequence)
        )

    def _chunk(self, chunk: DocumentChunk) -> None:
        document = self._documents[chunk.kind].add(chunk)
        if document is not None:
            self._parts.put(DocumentReceived(kind=chunk.kind, data=document))

    def _certificate(self, issued: IssuedCertificate) -> None:
        if self._parts.renewal and self._parts.renewal.received(issued.chain):
            self._client.disconnect()  # and connects anew with it

    # ---- the exchange

    def _exchange(self, sock: Any) -> None:
        """Wait for the broker or a ``notify``, and let the client read and write."""
        client, wake = self._client, self._parts.wake
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        readable, writable, _ = select.select(
            [sock, wake], [sock] if client.want_write() else [], [], 0 if pending else _LONGEST_SELECT_S
        )
        if wake in readable:
            with contextlib.suppress(BlockingIOError):
                while wake.recv(4096):
                    pass
        if pending or sock in readable:
            client.loop_read()
        if writable:
            client.loop_write()
        client.loop_misc()
        if self._flooded:
            self._flooded = False
            self._parts.stopping.wait(_FLOOD_PAUSE_S)

    def _send(self, now_s: float) -> None:
        """Hello when it is due, the heartbeat when it is due, events as the window allows."""
        outgoing = self._parts.journal.outgoing
        if self._window.must_ask(outgoing.journal_id, now_s):
            self._publish(Up.HELLO, bytes(self._hello(outgoing)))
            self._window.asked(outgoing.journal_id, now_s)
        if renewal := self._parts.renewal:
            if request := renewal.request(now_s):
                self._publish(Up.RENEWAL, request)
            if renewal.is_to_be_tried(now_s):
                self._client.disconnect()  # and connects anew with it
                return
        if (report := self._parts.report()) and report is not self._reported:
            self._publish(Up.REPORT, bytes(report))
            self._reported = report
        standing = self._parts.standing()
        wait_s = self._settings.heartbeat_s if standing == self._told else _SOONEST_HEARTBEAT_S
        if now_s - self._heartbeat_s >= wait_s:
            self._publish(Up.STATUS, bytes(self._parts.status()))
            self._heartbeat_s, self._told = now_s, standing
        if now_s >= self._read_again_at_s:
            try:
                self._send_ahead(outgoing)
                self._send_events(outgoing, now_s)
            except StoreError as error:
                _log.error("events cannot be read: %s", error)
                first = max(self._window.next_sequence, outgoing.first_sequence)
                self._parts.put(EventsUnreadable(journal_id=outgoing.journal_id, sequence=first))
                self._read_again_at_s = now_s + _READ_AGAIN_S

    def _send_events(self, outgoing: Outgoing, now_s: float) -> None:
        while self._window.open(outgoing.journal_id):
            first = max(self._window.next_sequence, outgoing.first_sequence)
            events = self._parts.journal.read(
                outgoing.journal_id,
                first,
                max_events=MAX_BATCH_EVENTS,
                max_bytes=MAX_BATCH_BYTES - _HEAD_BYTES,
            )
            if not events:
                return
            last = first + len(events) - 1
            batch = seal_batch(
                self._settings.controller_id, outgoing.journal_id, last, events, self._parts.event_key
            )
            self._publish(Up.EVENTS, batch)
            self._window.sent(last, now_s)
            self._parts.counts.batches += 1

    def _send_ahead(self, outgoing: Outgoing) -> None:
        """Of events that do not have their turn yet, those that cannot wait; each comes again in its turn."""
        if not self._window.is_behind(outgoing.journal_id, outgoing.last_sequence, MAX_BATCH_EVENTS):
            return
        journal_id, looked = self._looked
        if journal_id != outgoing.journal_id:
            looked = outgoing.last_sequence - _LOOK_BACK_EVENTS
        first = max(looked + 1, self._window.next_sequence, outgoing.first_sequence)
        events = self._parts.journal.read(
            outgoing.journal_id, first, max_events=MAX_BATCH_EVENTS, max_bytes=MAX_BATCH_BYTES - _HEAD_BYTES
        )
        self._looked = (outgoing.journal_id, first + len(events) - 1)
        for sequence, data in enumerate(events, first):
            if Event.from_bytes(data).draft.kind in _AHEAD:
                batch = seal_batch(
                    self._settings.controller_id,
                    outgoing.journal_id,
                    sequence,
                    [data],
                    self._parts.event_key,
                )
                self._publish(Up.AHEAD, batch)

    def _hello(self, outgoing: Outgoing) -> Hello:
        return Hello(
            journal_id=outgoing.journal_id,
            first_sequence=outgoing.first_sequence,
            last_sequence=outgoing.last_sequence,
            versions=self._parts.status().versions,
            software=self._settings.software,
        )

    def _publish(self, kind: Up, payload: bytes) -> None:
        self._client.publish(self._topic(kind), payload, qos=UP_QOS, retain=False)

    def _say_goodbye(self) -> None:
        """A clean disconnection sends no last will, so the status is sent; waits for it one second at most."""
        self._publish(Up.STATUS, bytes(replace(self._parts.status(), online=False, health=None)))
        until_s = time.monotonic() + 1.0
        while self._client.want_write() and time.monotonic() < until_s and (sock := self._client.socket()):
            select.select([], [sock], [], 0.1)
            self._client.loop_write()

    def _topic(self, kind: Up) -> str:
        return str(UpTopic(self._settings.controller_id, kind))


def _allowances() -> dict[Down, Allowance]:
    """Far above what a hub sends; everything it sends is sent again."""
    return {
        Down.ACKNOWLEDGED: Allowance(burst=1_000, per_s=500.0),
        Down.DOCUMENT: Allowance(burst=2 * MAX_CHUNKS, per_s=50.0),
        Down.COMMAND: Allowance(burst=50, per_s=10.0),
        Down.CERTIFICATE: Allowance(burst=5, per_s=0.1),
    }


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when its handshake fails: the client forgets it then. Keeps the alert it was ended by.

    In TLS 1.3 a server refuses its client's certificate after the handshake, and the client forgets why it was ended.
    """

    alert: ssl.SSLError | None = None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self.alert = error
            raise

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the library's signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def client_id(controller_id: ControllerId, event_key: Ed25519PrivateKey) -> str:
    """The same over restarts, so that a connection left behind is taken over; not to be guessed.

    A broker ends the session of a client id when somebody else connects with it, whoever that is.
    """
    secret = hashlib.sha256(b"drempel controller session\0" + event_key.private_bytes_raw()).hexdigest()
    return f"{controller_id}-{secret[:32]}"
