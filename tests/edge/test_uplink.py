"""The uplink against a real broker with mutual TLS, and a hub's end that answers, or does not."""

from __future__ import annotations

import logging
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
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion

from edge import hub_connection
from edge.inputs import Acknowledged, DocumentReceived, EventsUnreadable, LinkChanged
from edge.journal import Journal
from edge.segments import RECORD_OVERHEAD
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
    split_document,
)
from pacs.topics import Down, DownTopic, Up, UpTopic, up_filter
from tests.broker import Identity, TestBroker, free_port

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
            self._take(UpTopic.parse(message.topic), bytes(message.payload))
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

    def cut(self) -> None:
        for sock in self._open():
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
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


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TestBroker]:
    with TestBroker(tmp_path) as broker:
        yield broker


@pytest.fixture
def controller(tmp_path: Path, broker: TestBroker) -> Iterator[Controller]:
    controller = Controller(tmp_path, broker.port, broker.identity("c1").tls_context)
    yield controller
    controller.close()


@pytest.fixture
def hub(broker: TestBroker, controller: Controller) -> Iterator[HubEnd]:
    hub = HubEnd(broker, broker.identity("hub"), trusted_keys(controller.event_key.public_key()))
    hub.connect()
    yield hub
    hub.close()
    assert not hub.faults


def test_hello_then_events_then_acknowledgement(controller: Controller, hub: HubEnd) -> None:
    """A connection begins with a hello that says what is held; events go up one at once and are acknowledged."""
    controller.record(2)
    controller.uplink.start()
    controller.until_acknowledged(2)
    assert hub.hellos[0].last_sequence == 2
    assert hub.hellos[0].journal_id == controller.journal.journal_id
    assert hub.hellos[0].versions == {DocumentKind.POLICY: 3, DocumentKind.REVOCATIONS: 0}
    assert controller.links == [True]
    for sequence in range(3, 8):
        controller.record()
        controller.until_acknowledged(sequence)
    assert hub.batch_sizes == [2, 1, 1, 1, 1, 1]


def test_damage_found_while_reading(
    controller: Controller, hub: HubEnd, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be read is said to the thread that owns the journal; what is behind it then goes up."""
    monkeypatch.setattr(hub_connection, "_READ_AGAIN_S", 0.05)
    controller.record(2)
    segment = controller.journal._chains[-1].segments[-1]
    data = bytearray(segment.path.read_bytes())
    data[segment.offsets[0] + RECORD_OVERHEAD] ^= 1
    segment.path.write_bytes(data)
    with caplog.at_level(logging.CRITICAL):
        controller.uplink.start()
        until(
            lambda: controller.handle() or controller.journal.outgoing.first_sequence == 2,
            "the damage is found",
        )
        controller.record()
        controller.until_acknowledged(3)
    lost, *stored = hub.stored[controller.journal.journal_id]
    assert lost == b""
    assert [Event.from_bytes(data).draft for data in stored] == [DRAFT] * 2


def test_heartbeat_and_goodbye(controller: Controller, hub: HubEnd) -> None:
    """The status says online once connected, and offline when the controller is stopped."""
    controller.uplink.start()
    until(lambda: hub.statuses, "a heartbeat")
    controller.uplink.stop()
    until(lambda: not hub.statuses[-1].online, "the goodbye")


def test_last_will(tmp_path: Path, broker: TestBroker) -> None:
    """When the connection breaks without a goodbye the broker says offline, and the controller comes back."""
    with Relay(broker.port) as relay, running(tmp_path, broker, port=relay.port) as (controller, hub):
        until(lambda: hub.statuses, "a heartbeat")
        relay.cut()
        until(lambda: any(not status.online for status in hub.statuses), "the last will")
        until(lambda: hub.statuses[-1].online, "the next heartbeat")
        controller.record()
        controller.until_acknowledged(1)


def test_connection_that_freezes(tmp_path: Path, broker: TestBroker) -> None:
    """A connection over which nothing passes any more is given up, and its events go over the next one."""
    with (
        Relay(broker.port) as relay,
        running(tmp_path, broker, port=relay.port, keepalive_s=1) as (controller, hub),
    ):
        until(lambda: hub.hellos, "hello")
        relay.freeze()
        controller.record(3)
        controller.until_acknowledged(3)
        assert controller.uplink.counts.connections >= 2


def test_broker_away_then_everything_in_order(controller: Controller, hub: HubEnd) -> None:
    """Events made while the broker is dead arrive afterwards, all of them and in order, in large batches."""
    controller.uplink.start()
    controller.record(3)
    controller.until_acknowledged(3)
    hub.broker.kill()
    controller.until_link(online=False)
    controller.record(1_200)
    hub.broker.start()
    controller.until_acknowledged(1_203)
    journal_id = controller.journal.journal_id
    assert len(hub.stored[journal_id]) == 1_203
    assert max(hub.batch_sizes) > 100


def test_without_acknowledgement_it_is_sent_again(controller: Controller, hub: HubEnd) -> None:
    """A hub that loses what it got, and then stores again, has every event in the end."""
    hub.acknowledges = False
    controller.record(5)
    controller.uplink.start()
    until(lambda: len(hub.batch_sizes) >= 2, "sent again")
    hub.acknowledges = True
    controller.until_acknowledged(5)
    assert len(hub.stored[controller.journal.journal_id]) == 5


def test_silent_hub_gets_no_events(controller: Controller, hub: HubEnd) -> None:
    """While the hub does not answer the hello only hellos are sent; events follow its first answer."""
    hub.answers = False
    controller.record(5)
    controller.uplink.start()
    until(lambda: len(hub.hellos) >= 3, "hello repeated")
    assert not hub.batch_sizes
    hub.answers = True
    controller.until_acknowledged(5)


def test_hub_that_lost_its_database(controller: Controller, hub: HubEnd) -> None:
    """A hub that knows less than it acknowledged before gets every event that is still held."""
    controller.uplink.start()
    controller.record(4)
    controller.until_acknowledged(4)
    hub.stored.clear()
    hub.last_hash.clear()
    hub.broker.kill()
    hub.broker.start()
    controller.record()
    until(lambda: len(hub.stored.get(controller.journal.journal_id, [])) == 5, "everything again")


def test_ended_chain_goes_first(tmp_path: Path, broker: TestBroker) -> None:
    """After damage the hub gets what is whole of the old journal, under its id, and then the new one."""
    before = Journal(tmp_path / "journal", controller_id=C1)
    for _ in range(3):
        before.append(DRAFT)
    before.close()
    (file,) = (tmp_path / "journal").glob("*/*.segment")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with running(tmp_path, broker, port=broker.port) as (controller, hub):
        controller.record(4)
        new = controller.journal.journal_id
        until(lambda: not controller.handle() and len(hub.stored.get(new, [])) == 4, "both journals")
        assert len(hub.stored[before.journal_id]) == 2
        assert [hello.journal_id for hello in hub.hellos][:2] == [before.journal_id, new]


def test_document_in_chunks(controller: Controller, hub: HubEnd) -> None:
    """A document larger than one message arrives whole; a repeated chunk does no harm."""
    controller.uplink.start()
    until(lambda: hub.hellos, "hello")
    document = bytes(range(256)) * 600
    chunks = split_document(DocumentKind.REVOCATIONS, 7, document)
    assert len(chunks) > 1
    for chunk in [*chunks[:2], *chunks]:
        hub.say(Down.DOCUMENT, bytes(chunk))
    until(controller.handle, "the document")
    assert controller.documents == [DocumentReceived(kind=DocumentKind.REVOCATIONS, data=document)]


@pytest.mark.parametrize("kind", list(Down))
def test_poison_from_the_hub(controller: Controller, hub: HubEnd, kind: Down) -> None:
    """A message that is not understood is counted by its reason and the uplink goes on."""
    controller.uplink.start()
    until(lambda: hub.hellos, "hello")
    for poison in (b"", b"\xff" * 100, bytes(60_000), b"\xa1\x00\x01"):
        hub.say(kind, poison)
    until(lambda: controller.uplink.counts.refused["malformed"] == 4, "four refusals")
    controller.record()
    controller.until_acknowledged(1)


def test_retained_message_is_refused(controller: Controller, hub: HubEnd) -> None:
    """What a broker kept for later is not taken as said by the hub."""
    stale = Acknowledgement(journal_id=controller.journal.journal_id, sequence=9)
    hub.say(Down.ACKNOWLEDGED, bytes(stale), retain=True)
    time_of_hello = len(hub.hellos)
    controller.uplink.start()
    until(lambda: len(hub.hellos) > time_of_hello, "hello")
    until(lambda: controller.uplink.counts.refused["malformed"] == 1, "refusal")
    controller.record()
    controller.until_acknowledged(1)


def test_fault_in_a_callback_does_not_end_the_uplink(tmp_path: Path, broker: TestBroker) -> None:
    """When putting an input fails, the next ones are still handled."""
    controller = Controller(tmp_path, broker.port, broker.identity("c1").tls_context)
    hub = HubEnd(broker, broker.identity("hub"), trusted_keys(controller.event_key.public_key()))
    hub.connect()
    put, failures = controller.inputs.put, iter([RuntimeError("no room")])

    def put_or_fail(happened: Any) -> None:
        if isinstance(happened, Acknowledged):
            with suppress(StopIteration):
                raise next(failures)
        put(happened)

    object.__setattr__(controller.uplink._parts, "put", put_or_fail)
    controller.uplink.start()
    controller.record()
    controller.until_acknowledged(1)
    assert controller.uplink.counts.refused["internal_fault"] == 1
    controller.close()
    hub.close()


def test_broker_that_accepts_and_stalls(tmp_path: Path, broker: TestBroker) -> None:
    """A broker that takes the connection and says nothing is left again; stopping does not hang on it."""
    with create_server(("127.0.0.1", 0)) as stalling:
        accepted: list[Any] = []
        threading.Thread(target=_accept_all, args=(stalling, accepted), daemon=True).start()
        context = broker.identity("c1").tls_context
        controller = Controller(tmp_path, stalling.getsockname()[1], context, connect_timeout_s=0.3)
        controller.uplink.start()
        until(lambda: len(accepted) >= 3, "three attempts")
        controller.record()
        assert controller.journal.outgoing.last_sequence == 1
        controller.close()
        assert not controller.uplink._thread.is_alive()
    for sock in accepted:
        sock.close()


def _accept_all(server: Any, accepted: list[Any]) -> None:
    with suppress(OSError):
        while True:
            accepted.append(server.accept()[0])


def test_broker_that_stalls_after_the_handshake(tmp_path: Path, broker: TestBroker) -> None:
    """A server that completes TLS and never answers CONNECT is left again."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(broker.directory / "localhost.cert.pem", broker.directory / "localhost.key.pem")
    accepted: list[Any] = []
    with create_server(("127.0.0.1", 0)) as plain, context.wrap_socket(plain, server_side=True) as stalling:
        threading.Thread(target=_accept_all, args=(stalling, accepted), daemon=True).start()
        client = broker.identity("c1").tls_context
        controller = Controller(tmp_path, stalling.getsockname()[1], client, connect_timeout_s=0.5)
        controller.uplink.start()
        until(lambda: len(accepted) >= 2, "two attempts")
        controller.close()
        assert controller.uplink.counts.connections == 0
    for sock in accepted:
        sock.close()


def test_server_with_another_name_is_not_trusted(tmp_path: Path, broker: TestBroker) -> None:
    """The certificate must be for the name that was configured."""
    identity = broker.identity("c1")
    controller = Controller(tmp_path, broker.port, identity.tls_context, host="127.0.0.2")
    attempts: list[ssl.SSLContext] = []
    context = controller.uplink._parts.tls_context

    def counted() -> ssl.SSLContext:
        attempts.append(context())
        return attempts[-1]

    object.__setattr__(controller.uplink._parts, "tls_context", counted)
    controller.uplink.start()
    until(lambda: len(attempts) >= 3, "three attempts")
    controller.close()
    assert controller.uplink.counts.connections == 0


def test_nobody_listens(tmp_path: Path, broker: TestBroker) -> None:
    """Without a broker the controller goes on journalling, and stops at once when asked."""
    controller = Controller(tmp_path, free_port(), broker.identity("c1").tls_context)
    controller.uplink.start()
    controller.record(10)
    controller.close()
    assert not controller.uplink._thread.is_alive()
