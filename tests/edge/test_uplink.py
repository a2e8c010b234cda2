"""The uplink against a real broker with mutual TLS, and a hub's end that answers, or does not."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from socket import create_server
from typing import Any

import pytest

from edge import hub_connection
from edge.inputs import Acknowledged, DocumentReceived
from edge.journal import Journal
from edge.segments import RECORD_OVERHEAD
from edge.send_window import Patience
from pacs.envelope import trusted_keys
from pacs.events import Event, EventKind
from pacs.messages import (
    Acknowledgement,
    DocumentKind,
    Report,
    split_document,
)
from pacs.topics import Down
from tests.broker import TestBroker, free_port
from tests.edge.hub_end import C1, DRAFT, Controller, HubEnd, Relay, running, until


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


def test_what_changes_is_said_at_once(controller: Controller, hub: HubEnd) -> None:
    """A change in how the controller stands brings a heartbeat long before the next one is due, and one only."""
    controller.uplink.start()
    until(lambda: hub.statuses, "a heartbeat")
    controller.standing = "locked down"
    until(lambda: len(hub.statuses) == 2, "the next one")
    controller.record()
    controller.until_acknowledged(1)
    assert len(hub.statuses) == 2


def test_a_report_is_sent_once_and_the_next_one_again(controller: Controller, hub: HubEnd) -> None:
    """Whatever else is sent meanwhile."""
    first, second = (
        Report(examined_at=at, findings=()) for at in (datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6))
    )
    controller.report = first
    controller.uplink.start()
    until(lambda: hub.reports == [first], "the report")
    controller.record()
    controller.until_acknowledged(1)
    controller.report = second
    controller.record()
    until(lambda: hub.reports == [first, second], "the next one")


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


def test_who_waits_is_told_before_their_turn(tmp_path: Path, broker: TestBroker) -> None:
    """Behind a record that the hub has not taken yet, once; nothing else is."""
    patience = Patience(batches=1, first_s=60.0, longest_s=60.0)
    controller = Controller(tmp_path, broker.port, broker.identity("c1").tls_context, patience=patience)
    hub = HubEnd(broker, broker.identity("hub"), trusted_keys(controller.event_key.public_key()))
    hub.connect()
    try:
        controller.record(2)
        hub.acknowledges = False
        controller.uplink.start()
        until(lambda: hub.batch_sizes, "a batch that is not acknowledged")
        for kind in (EventKind.ACCESS_DENIED, EventKind.ACCESS_REFERRED, EventKind.REFERRAL_ENDED):
            controller.journal.append(replace(DRAFT, kind=kind))
            controller.journal.sync()
            controller.uplink.notify()
        until(lambda: len(hub.ahead) == 2, "those that cannot wait")
        assert [(each.sequence, each.draft.kind) for each in hub.ahead] == [
            (4, EventKind.ACCESS_REFERRED),
            (5, EventKind.REFERRAL_ENDED),
        ]
    finally:
        controller.close()
        hub.close()
    assert (len(hub.ahead), hub.batch_sizes, hub.faults) == (2, [2], [])


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
    """A message that is not understood is counted by its reason, or left to who judges commands; the uplink goes on."""
    controller.uplink.start()
    until(lambda: hub.hellos, "hello")
    for poison in (b"", b"\xff" * 100, bytes(60_000), b"\xa1\x00\x01"):
        hub.say(kind, poison)
    refused = 1 if kind is Down.COMMAND else 4
    until(lambda: controller.uplink.counts.refused["malformed"] == refused, "the refusals")
    controller.record()
    controller.until_acknowledged(1)
    assert len(controller.commands) == 4 - refused


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
