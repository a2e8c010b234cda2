"""The uplink and everything that can be wrong at its other end: each is named, and the journal goes on."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import create_server
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from edge.link_state import LinkCause, LinkPhase, LinkState
from pacs.commands import MAX_COMMAND_BYTES
from pacs.envelope import trusted_keys
from pacs.identifiers import JournalId
from pacs.messages import Acknowledgement, DocumentKind, split_document
from pacs.topics import Down
from provisioning.authority import Authority, Purpose, certificate_pem, generate_key
from tests.broker import TestBroker, free_port
from tests.edge.hub_end import Controller, HubEnd, Relay, running, until

pytestmark = pytest.mark.slow


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[TestBroker]:
    with TestBroker(tmp_path) as broker:
        yield broker


class Listener:
    """A server that takes connections; ``serve`` does with each what it likes."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._server = create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for each in (self._server, *self.taken):
            each.close()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                taken = self._server.accept()[0]
                self.taken.append(taken)
                threading.Thread(target=self._serve, args=(taken,), daemon=True).start()


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[Listener]:
    listener = Listener(serve)
    try:
        yield listener
    finally:
        listener.close()


def silent(_taken: socket.socket) -> None:
    """Take it, and say nothing."""


def hangs_up(taken: socket.socket) -> None:
    """Take it, and end it."""
    taken.close()


def tls(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Complete a handshake, and say nothing."""

    def serve(taken: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError), context.wrap_socket(taken, server_side=True) as wrapped:
            while wrapped.recv(4096):
                pass

    return serve


def server_context(directory: Path, authority: Authority, now: datetime, days: int = 30) -> ssl.SSLContext:
    """A broker's, with a certificate for localhost that is valid from ``now``."""
    key = generate_key()
    certificate = authority.certify(
        name="localhost",
        public_key=key.public_key(),
        purpose=Purpose.SERVER,
        now=now,
        hosts=("127.0.0.1",),
        days=days,
    )
    chain = directory / "other.pem"
    chain.write_bytes(
        certificate_pem(certificate) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    return context


def failing(controller: Controller) -> LinkState:
    """The state once it has failed twice and waits; meanwhile events are journalled."""
    controller.uplink.start()
    found: list[LinkState] = []

    def failed_twice() -> bool:
        found[:] = [controller.uplink.state]
        return found[0].failures >= 2 and found[0].phase is LinkPhase.WAITING

    until(failed_twice, "two failures")
    controller.record(3)
    assert controller.journal.outgoing.last_sequence == 3
    assert controller.uplink.counts.connections == 0
    return found[0]


@contextmanager
def controller_at(directory: Path, broker: TestBroker, port: int, **changes: Any) -> Iterator[Controller]:
    context = broker.identity("c1").tls_context
    controller = Controller(directory, port, context, **{"connect_timeout_s": 0.5} | changes)
    try:
        yield controller
    finally:
        controller.close()
        assert not controller.uplink._thread.is_alive()
        assert controller.uplink.state.phase is LinkPhase.STOPPED


def other_authority(directory: Path, broker: TestBroker) -> ssl.SSLContext:
    """A broker of another site."""
    del broker
    now = datetime.now(UTC)
    return server_context(directory, Authority.create("another root", now), now)


def not_yet_valid(directory: Path, broker: TestBroker) -> ssl.SSLContext:
    """The right broker, as seen by a clock that is behind."""
    return server_context(directory, broker.authority, datetime.now(UTC) + timedelta(days=2))


def expired(directory: Path, broker: TestBroker) -> ssl.SSLContext:
    """The right broker, whose certificate nobody renewed."""
    return server_context(directory, broker.authority, datetime.now(UTC) - timedelta(days=9), days=3)


@pytest.mark.parametrize(
    ("made", "cause"),
    [
        (other_authority, LinkCause.OTHER_AUTHORITY),
        (not_yet_valid, LinkCause.CLOCK_BEHIND),
        (expired, LinkCause.CERTIFICATE_EXPIRED),
    ],
)
def test_a_certificate_that_is_not_believed(
    tmp_path: Path, broker: TestBroker, made: Callable[[Path, TestBroker], ssl.SSLContext], cause: LinkCause
) -> None:
    """Another authority, not valid yet by this clock, no longer valid: each has its name and its next step."""
    with (
        listening(tls(made(tmp_path, broker))) as server,
        controller_at(tmp_path, broker, server.port) as controller,
    ):
        state = failing(controller)
    assert state.cause is cause
    assert state.words
    assert not state.answered


def test_a_clock_that_is_set_right_brings_the_hub_back(tmp_path: Path, broker: TestBroker) -> None:
    """While certificates are "not yet valid" it is said and tried again; once they are, everything goes up."""
    with (
        listening(tls(not_yet_valid(tmp_path, broker))) as server,
        Relay(server.port) as relay,
        running(tmp_path, broker, port=relay.port) as (controller, hub),
    ):
        until(lambda: controller.uplink.state.cause is LinkCause.CLOCK_BEHIND, "the named state")
        controller.record(5)
        relay.lead_to(broker.port)
        controller.until_acknowledged(5)
        until(lambda: controller.uplink.state.answered, "the hub's answer")
        state = controller.uplink.state
        assert (state.phase, state.cause, state.failures) == (LinkPhase.ONLINE, None, 0)
        assert len(hub.stored[controller.journal.journal_id]) == 5


@pytest.mark.parametrize(
    ("serve", "causes"),
    [
        (silent, {LinkCause.TIMED_OUT, LinkCause.STALLED}),
        (hangs_up, {LinkCause.TLS_FAILED, LinkCause.UNREACHABLE}),
    ],
)
def test_a_broker_that_accepts_and(
    tmp_path: Path, broker: TestBroker, serve: Callable[[socket.socket], None], causes: set[LinkCause]
) -> None:
    """A port that takes connections and says nothing, or hangs up, is left, named, and tried again."""
    with listening(serve) as server, controller_at(tmp_path, broker, server.port) as controller:
        assert failing(controller).cause in causes


def test_a_broker_that_says_nothing_after_the_handshake(tmp_path: Path, broker: TestBroker) -> None:
    """TLS and then silence is a broker that stalls."""
    context = server_context(tmp_path, broker.authority, datetime.now(UTC))
    with listening(tls(context)) as server, controller_at(tmp_path, broker, server.port) as controller:
        state = failing(controller)
    assert state.cause is LinkCause.STALLED


def test_nobody_there(tmp_path: Path, broker: TestBroker) -> None:
    """A refused connection says so, and the waits grow up to their bound."""
    with controller_at(
        tmp_path, broker, free_port(), reconnect_min_s=0.01, reconnect_max_s=0.2
    ) as controller:
        state = failing(controller)
        assert state.cause is LinkCause.NOBODY_LISTENS
        assert state.next_attempt_s is not None
        waits: dict[int, float] = {}

        def grown() -> bool:
            now = controller.uplink.state
            if now.next_attempt_s is not None:
                waits[now.failures] = now.next_attempt_s - now.since_s
            return now.failures >= 8

        until(grown, "eight failures")
        assert max(waits.values()) <= 0.21
        assert waits[max(waits)] > 0.09


def test_a_name_that_nobody_knows(tmp_path: Path, broker: TestBroker) -> None:
    """A host that cannot be resolved is named as that."""
    with controller_at(tmp_path, broker, broker.port, host="no-such-host.invalid") as controller:
        assert failing(controller).cause in {LinkCause.NAME_UNKNOWN, LinkCause.TIMED_OUT}


def test_a_controller_that_the_broker_does_not_know(tmp_path: Path, broker: TestBroker) -> None:
    """One that is not registered, or was withdrawn, learns that it is not admitted."""
    stranger = Controller(tmp_path, broker.port, broker.identity("c9").tls_context)
    state = failing(stranger)
    stranger.close()
    assert state.cause is LinkCause.NOT_ADMITTED


@pytest.mark.parametrize("newest", ["TLSv1_2", "TLSv1_3"])
def test_a_certificate_of_ours_that_has_expired(tmp_path: Path, broker: TestBroker, newest: str) -> None:
    """The broker's alert says so: within the handshake, or after it in TLS 1.3."""
    identity = broker.identity("c1", expired=True)

    def context() -> ssl.SSLContext:
        context = identity.tls_context()
        context.maximum_version = ssl.TLSVersion[newest]
        return context

    controller = Controller(tmp_path, broker.port, context)
    controller.uplink.start()
    # an alert that is overtaken by the end of its connection comes with one of the next
    until(lambda: controller.uplink.state.cause is LinkCause.CERTIFICATE_REFUSED, "the alert")
    assert "reader re-enrol" in controller.uplink.state.words
    controller.close()


def test_an_alert_that_was_lost_is_made_up_for_by_the_date(tmp_path: Path, broker: TestBroker) -> None:
    """A connection that ends without a word is blamed on our certificate where that has expired."""
    controller = Controller(tmp_path, broker.port, broker.identity("c9").tls_context)
    object.__setattr__(controller.uplink._parts, "has_expired", lambda: True)
    state = failing(controller)
    controller.close()
    assert state.cause is LinkCause.CERTIFICATE_REFUSED


def test_a_connection_on_which_nothing_moves(tmp_path: Path, broker: TestBroker) -> None:
    """When a broker stops reading in the middle of a backlog, the connection is given up and the rest goes up anew."""
    with (
        Relay(broker.port) as relay,
        running(tmp_path, broker, port=relay.port, keepalive_s=1) as (controller, hub),
    ):
        controller.record(1)
        controller.until_acknowledged(1)
        relay.freeze()
        controller.record(3_000)
        controller.until_link(online=False)
        assert controller.uplink.state.cause is LinkCause.ENDED
        controller.until_acknowledged(3_001)
        assert len(hub.stored[controller.journal.journal_id]) == 3_001


def test_a_hub_that_answers_for_another_journal(tmp_path: Path, broker: TestBroker) -> None:
    """Its word about a journal that is not here moves nothing; nothing is sent or forgotten until it is about this one."""
    controller = Controller(tmp_path, broker.port, broker.identity("c1").tls_context)
    hub = HubEnd(broker, broker.identity("hub"), trusted_keys(controller.event_key.public_key()))
    hub.answers = False
    hub.connect()
    controller.record(4)
    controller.uplink.start()
    until(lambda: hub.hellos, "a hello")
    for sequence in (0, 3, 2**40):
        hub.say(Down.ACKNOWLEDGED, bytes(Acknowledgement(journal_id=JournalId("e" * 32), sequence=sequence)))
    before = len(hub.hellos)
    until(lambda: len(hub.hellos) >= before + 2, "the hello repeated")
    controller.handle()
    assert hub.batch_sizes == []
    assert controller.journal.outgoing.acknowledged == 0
    hub.answers = True
    controller.until_acknowledged(4)
    controller.close()
    hub.close()
    assert hub.faults == []


def _commands() -> Iterator[bytes]:
    return (number.to_bytes(4, "big") * (MAX_COMMAND_BYTES // 4) for number in range(4_000))


def _documents() -> Iterator[bytes]:
    return (
        bytes(chunk)
        for number in range(4_000)
        for chunk in split_document(DocumentKind.POLICY, number, number.to_bytes(4, "big") * 200)
    )


def _acknowledgements() -> Iterator[bytes]:
    return (
        bytes(Acknowledgement(journal_id=JournalId(f"{number:032x}"), sequence=1)) for number in range(4_000)
    )


@pytest.mark.parametrize(
    ("kind", "flood", "most"),
    [
        (Down.COMMAND, _commands, 600),
        (Down.DOCUMENT, _documents, 2_400),
        (Down.ACKNOWLEDGED, _acknowledgements, 3_999),
    ],
)
def test_a_flood_from_the_broker(
    tmp_path: Path, broker: TestBroker, kind: Down, flood: Callable[[], Iterator[bytes]], most: int
) -> None:
    """Of thousands of messages at once few reach the thread that owns the doors; events go on to the hub meanwhile."""
    with running(tmp_path, broker, port=broker.port) as (controller, hub):
        until(lambda: hub.hellos, "a hello")
        until(lambda: controller.uplink.state.answered, "an answer")
        controller.handle()
        for message in flood():
            hub.say(kind, message)
        controller.record(3)
        until(lambda: controller.uplink.counts.refused["flooded"] > 0, "the flood noticed")
        until(lambda: len(hub.stored.get(controller.journal.journal_id, [])) == 3, "the events at the hub")
        assert controller.inputs.qsize() <= most
        controller.until_acknowledged(3)


def test_commands_arrive_as_they_were_sent(tmp_path: Path, broker: TestBroker) -> None:
    """The uplink hands every command on unread, with the broker's word on whether it had been kept."""
    with running(tmp_path, broker, port=broker.port) as (controller, hub):
        until(lambda: hub.hellos, "a hello")
        hub.say(Down.COMMAND, b"first")
        until(lambda: not controller.handle() and controller.commands, "the command")
        (received,) = controller.commands
        assert (received.data, received.retained) == (b"first", False)
        hub.say(Down.COMMAND, b"kept", retain=True)
        until(lambda: not controller.handle() and len(controller.commands) == 2, "the live one")
        broker.kill()
        controller.until_link(online=False)
        broker.start()
        until(lambda: not controller.handle() and len(controller.commands) >= 3, "the kept one")
        assert (controller.commands[2].data, controller.commands[2].retained) == (b"kept", True)
