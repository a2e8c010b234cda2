"""A hub's end over a real broker, a controller's journal with its uplink, and a line between them that can be cut."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from socket import create_server
from typing import Any, Self

import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from edge.inputs import Acknowledged, CommandReceived, DocumentReceived, EventsUnreadable, LinkChanged
from edge.journal import Journal
from edge.send_window import Patience
from edge.uplink import Uplink, UplinkSettings
from pacs.envelope import trusted_keys
from pacs.events import Batch, Event, EventDraft, EventKind, event_hash, genesis
from pacs.identifiers import ControllerId, JournalId
from pacs.messages import (
    Acknowledgement,
    ControllerStatus,
    DocumentKind,
    Hello,
    Report,
)
from pacs.topics import Down, DownTopic, Up, UpTopic, up_filter
from tests.broker import Identity, TestBroker

C1 = ControllerId("c1")
DEADLINE_S = 20.0
DRAFT = EventDraft(
    kind=EventKind.DOOR_OPENED, occurred_at=datetime(2026, 1, 5, 12, tzinfo=UTC), clock_trusted=True
)


def until(condition: Callable[[], Any], what: str = "condition") -> None:
    """Wait until it holds; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not reached: {what}"
        time.sleep(0.01)


@dataclass
class HubEnd:
    """Stores what arrives in order, as the hub does; ``answers`` off: it listens and says nothing.

    ``stored`` has an empty place for each event that is nowhere.
    """

    broker: TestBroker
    identity: Identity
    trusted: Any
    answers: bool = True
    acknowledges: bool = True
    stored: dict[JournalId, list[bytes]] = field(default_factory=dict)
    last_hash: dict[JournalId, bytes] = field(default_factory=dict)
    hellos: list[Hello] = field(default_factory=list)
    statuses: list[ControllerStatus] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    ahead: list[Event] = field(default_factory=list)
    batch_sizes: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def connect(self) -> None:
        self.subscribed = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, "hub", clean_session=False)
        self.client.tls_set_context(self.identity.tls_context())
        self.client.on_message = self._on_message
        self.client.on_connect = lambda client, *_: client.subscribe(up_filter(), qos=1)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("localhost", self.broker.port)
        self.client.loop_start()
        assert self.subscribed.wait(DEADLINE_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def say(self, kind: Down, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(str(DownTopic(C1, kind)), payload, qos=0, retain=retain)

    def acknowledge(self, journal_id: JournalId) -> None:
        sequence = len(self.stored.get(journal_id, []))
        self.say(Down.ACKNOWLEDGED, bytes(Acknowledgement(journal_id=journal_id, sequence=sequence)))

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic, payload = UpTopic.parse(message.topic), bytes(message.payload)
            if topic.kind is Up.REPORT:
                self.reports.append(Report.from_bytes(payload))
            else:
                self._take(topic, payload)
        except Exception as error:  # noqa: BLE001 - a fault here fails the test, not paho's thread
            self.faults.append(repr(error))

    def _take(self, topic: UpTopic, payload: bytes) -> None:
        if topic.kind is Up.HELLO:
            hello = Hello.from_bytes(payload)
            self.hellos.append(hello)
            held = self.stored.setdefault(hello.journal_id, [])
            if (missing := hello.first_sequence - 1 - len(held)) > 0:
                held += [b""] * missing
                self.last_hash.pop(hello.journal_id, None)
            if self.answers:
                self.acknowledge(self.hellos[-1].journal_id)
        elif topic.kind is Up.STATUS:
            self.statuses.append(ControllerStatus.from_bytes(payload))
        elif topic.kind is Up.AHEAD:
            self.ahead += Batch.open(payload, topic.controller_id, self.trusted).events
        else:
            batch = Batch.open(payload, topic.controller_id, self.trusted)
            self.batch_sizes.append(len(batch.events))
            if not self.acknowledges:
                return
            held = self.stored.setdefault(batch.journal_id, [])
            for event, data in zip(batch.events, batch.encoded, strict=True):
                if event.sequence == len(held) + 1:
                    held_hash = self.last_hash.get(batch.journal_id, genesis(C1, batch.journal_id))
                    assert event.previous_hash == held_hash or (held and not held[-1])
                    held.append(data)
                    self.last_hash[batch.journal_id] = event_hash(data)
            if self.answers:
                self.acknowledge(batch.journal_id)


class Controller:
    """A journal and its uplink, as the process wires them."""

    def __init__(
        self, directory: Path, port: int, context: Callable[[], ssl.SSLContext], **changes: Any
    ) -> None:
        self.event_key = Ed25519PrivateKey.generate()
        self.journal = Journal(directory / "journal", controller_id=C1)
        self.inputs: SimpleQueue[Any] = SimpleQueue()
        self.acknowledged = 0
        self.links: list[bool] = []
        self.documents: list[DocumentReceived] = []
        self.standing = "as always"
        self.report: Report | None = None
        self.commands: list[CommandReceived] = []
        settings = {
            "host": "localhost",
            "reconnect_min_s": 0.1,
            "reconnect_max_s": 0.3,
            "connect_timeout_s": 2.0,
            "patience": Patience(batches=4, first_s=0.5, longest_s=1.0),
        }
        self.uplink = Uplink(
            UplinkSettings(controller_id=C1, port=port, software="test", **settings | changes),  # type: ignore[arg-type]
            journal=self.journal,
            event_key=self.event_key,
            tls_context=context,
            put=self.inputs.put,
            status=lambda: ControllerStatus(
                online=True, sent_at=datetime.now(UTC), versions={DocumentKind.POLICY: 3}
            ),
            standing=lambda: self.standing,
            report=lambda: self.report,
        )

    def record(self, count: int = 1) -> None:
        for _ in range(count):
            self.journal.append(DRAFT)
        self.journal.sync()
        self.uplink.notify()

    def handle(self) -> bool:
        """Take the inputs off the queue, as the service's thread does; true once a document came."""
        while not self.inputs.empty():
            happened = self.inputs.get()
            match happened:
                case Acknowledged(journal_id=journal_id, sequence=sequence):
                    self.journal.acknowledge(journal_id, sequence)
                case EventsUnreadable(journal_id=journal_id, sequence=sequence):
                    self.journal.skip_damage(journal_id, sequence)
                case LinkChanged(online=online):
                    self.links.append(online)
                case DocumentReceived():
                    self.documents.append(happened)
                case CommandReceived():
                    self.commands.append(happened)
        return bool(self.documents)

    def until_acknowledged(self, sequence: int) -> None:
        def reached() -> bool:
            self.handle()
            return self.journal.outgoing.acknowledged >= sequence

        until(reached, f"event {sequence} acknowledged")

    def until_link(self, online: bool) -> None:
        def reached() -> bool:
            self.handle()
            return self.links[-1:] == [online]

        until(reached, f"online: {online}")

    def close(self) -> None:
        self.uplink.stop(10.0)
        self.journal.close()


class Relay:
    """Carries connections to the broker; can cut them, or carry no more bytes on those there are."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server = create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._frozen: set[socket.socket] = set()
        self._closing = False
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join(DEADLINE_S)
        for sock in (self._server, *self._open()):
            sock.close()

    def lead_to(self, port: int) -> None:
        """Where connections go from here on."""
        self._target_port = port

    def cut(self) -> None:
        for sock in self._open():
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Carry nothing more on the connections there are, in either direction."""
        self._frozen.update(self._open())

    def _open(self) -> list[socket.socket]:
        return [sock for pair in self._pairs for sock in pair]

    def _carry(self) -> None:
        while not self._closing:
            watched = [sock for sock in self._open() if sock not in self._frozen and sock.fileno() >= 0]
            for ready in select.select([self._server, *watched], [], [], 0.05)[0]:
                if ready is self._server:
                    near = self._server.accept()[0]
                    self._pairs.append((near, socket.create_connection(("127.0.0.1", self._target_port))))
                else:
                    self._pass_on(ready)

    def _pass_on(self, ready: socket.socket) -> None:
        pair = next(pair for pair in self._pairs if ready in pair)
        other = pair[0] if ready is pair[1] else pair[1]
        try:
            data = ready.recv(65536)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            for sock in pair:
                sock.close()


@contextmanager
def running(
    directory: Path, broker: TestBroker, *, port: int, **changes: Any
) -> Iterator[tuple[Controller, HubEnd]]:
    """A started controller whose broker is at this port, and the hub."""
    controller = Controller(directory, port, broker.identity("c1").tls_context, **changes)
    hub = HubEnd(broker, broker.identity("hub"), trusted_keys(controller.event_key.public_key()))
    hub.connect()
    controller.uplink.start()
    try:
        yield controller, hub
    finally:
        controller.close()
        hub.close()
        assert not hub.faults
