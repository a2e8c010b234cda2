from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from hub.inbox import Message
from hub.ingest import Ingest
from hub.live import LiveBus
from hub.store import controllers, documents, events, journals
from hub.store.controllers import Controller
from hub.store.journals import AnomalyKind
from pacs.events import Event, EventDraft, EventKind, seal_batch
from pacs.identifiers import ControllerId, DoorId
from pacs.messages import Acknowledgement, ControllerStatus, DocumentKind, Hello
from pacs.reason import Reason
from pacs.rules import Side
from pacs.topics import DownTopic, Up, UpTopic
from tests.hub.controller import MemoryJournal
from tests.hub.databases import SITE, fresh_database, make_site

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GATE, YARD = ControllerId("gate"), ControllerId("yard")
POLICY, REVOCATIONS = DocumentKind.POLICY, DocumentKind.REVOCATIONS


class Told:
    """What ingest tells distribution, and what it publishes."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[str, int]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.unproven: set[DocumentKind] = set()

    def publish(self, topic: DownTopic, payload: bytes) -> None:
        self.acknowledged.append((topic.controller_id, Acknowledgement.from_bytes(payload).sequence))

    def said(
        self,
        controller_id: ControllerId,
        held: Mapping[DocumentKind, int],
        *,
        hello: bool,
        unproven: Collection[DocumentKind] = (),
    ) -> None:
        self.calls.append(("said", controller_id, dict(held), hello))
        self.unproven = set(unproven)

    def applied(self, controller_id: ControllerId, kind: DocumentKind, version: int) -> None:
        self.calls.append(("applied", controller_id, kind, version))

    def refused(self, controller_id: ControllerId, kind: DocumentKind) -> None:
        self.calls.append(("refused", controller_id, kind))

    def gone(self, controller_id: ControllerId | None = None) -> None:
        self.calls.append(("gone", controller_id))


class Desk:
    """Ingest on a real database, its queue replaced by direct delivery."""

    def __init__(self, path: Path) -> None:
        self.database = fresh_database(path)
        self.keys = {name: Ed25519PrivateKey.generate() for name in (GATE, YARD)}
        self.now = NOW
        with self.database.write() as connection:
            make_site(connection)
            for name, key in self.keys.items():
                raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
                controllers.register(
                    connection,
                    Controller(
                        site_id=SITE,
                        id=name,
                        event_public_key=raw,
                        certificate_serial=None,
                        software=None,
                        registered_at=NOW,
                    ),
                )
        self.told = Told()
        self.ingest = self.restarted()

    def restarted(self) -> Ingest:
        """A hub that knows only what the database says."""
        self.ingest = Ingest(
            self.database,
            publish=self.told.publish,
            documents=self.told,
            live=LiveBus(),
            clock=lambda: self.now,
        )
        self.ingest.start()
        self.ingest.stop()
        return self.ingest

    def deliver(self, *messages: Message) -> None:
        """All in one group."""
        self.ingest._take(self.ingest._read(messages))

    def batch(self, journal: MemoryJournal, first: int, last: int, *, signer: ControllerId = GATE) -> Message:
        return events_message(journal.batch(self.keys[signer], first, last), journal.controller_id)

    def hello(
        self, journal: MemoryJournal, *, first: int = 1, repeated: bool = False, **versions: int
    ) -> None:
        hello = Hello(
            journal_id=journal.journal_id,
            first_sequence=first,
            last_sequence=journal.last_sequence,
            versions={DocumentKind(kind): version for kind, version in versions.items()},
            software="test",
        )
        topic = str(UpTopic(journal.controller_id, Up.HELLO))
        self.deliver(Message(topic, bytes(hello), repeated))

    def issued(self, *versions: int) -> None:
        """Revocations of these versions are made now."""
        with self.database.write() as connection:
            for version in versions:
                document = documents.Document(
                    site_id=SITE,
                    kind=REVOCATIONS,
                    version=version,
                    data=b"",
                    digest=digest(version) + bytes(24),
                    content_digest=b"%d" % version,
                    cause="",
                    created_at=self.now,
                    expires_at=self.now,
                )
                documents.add(connection, document)

    def confirmed(self) -> int:
        """The highest version of the revocations that the gate confirmed, 0 for none."""
        with self.database.read() as connection:
            return documents.confirmed_versions(connection).get((GATE, REVOCATIONS), 0)

    def stored(self, journal: MemoryJournal) -> list[bytes]:
        with self.database.read() as connection:
            listing = events.listing(connection, controller_id=journal.controller_id, limit=10_000)
        return [event.data for event in listing if event.journal_id == journal.journal_id]

    def anomalies(self, *kinds: AnomalyKind) -> list[journals.Anomaly]:
        with self.database.read() as connection:
            found = journals.list_anomalies(connection)
        return [anomaly for anomaly in found if not kinds or anomaly.kind in kinds]

    def quarantined(self) -> int:
        with self.database.read() as connection:
            return journals.quarantined(connection)

    def state(self) -> controllers.ControllerState:
        with self.database.read() as connection:
            return controllers.state(connection, GATE, self.now)


def events_message(payload: bytes, controller_id: ControllerId = GATE) -> Message:
    return Message(str(UpTopic(controller_id, Up.EVENTS)), payload)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "hub.sqlite")
    yield desk
    desk.database.close()


@pytest.fixture(scope="module")
def one_desk(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[Desk]:
    """For examples by the hundred, each with a journal of its own."""
    assert database_kind
    desk = Desk(tmp_path_factory.mktemp("desk") / "hub.sqlite")
    yield desk
    desk.database.close()


def filled(count: int, controller_id: ControllerId = GATE) -> MemoryJournal:
    journal = MemoryJournal(controller_id)
    for number in range(count):
        journal.append(
            EventKind.DOOR_OPENED,
            door_id=DoorId("front"),
            occurred_at=NOW - timedelta(seconds=count - number),
        )
    return journal


def test_events_are_stored_as_they_were_signed(desk: Desk) -> None:
    """Every column is what the event says, its bytes are kept exactly, and the last sequence is acknowledged."""
    journal = MemoryJournal(GATE)
    journal.append(
        EventKind.ACCESS_DENIED,
        occurred_at=NOW,
        door_id=DoorId("front"),
        side=Side.ENTRY,
        reason=Reason.OUTSIDE_SCHEDULE,
        clock_trusted=False,
    )
    desk.deliver(desk.batch(journal, 1, 1))
    with desk.database.read() as connection:
        (event,) = events.listing(connection)
    assert event.data == journal.encoded[0]
    assert (event.kind, event.occurred_at, event.received_at) == (EventKind.ACCESS_DENIED, NOW, NOW)
    assert (event.door_id, event.side, event.reason) == ("front", Side.ENTRY, Reason.OUTSIDE_SCHEDULE)
    assert (event.sequence, event.clock_trusted, event.cardholder_id) == (1, False, None)
    assert desk.told.acknowledged == [(GATE, 1)]


def test_one_acknowledgement_for_a_group(desk: Desk) -> None:
    """Many messages of two controllers in one group: one transaction, one acknowledgement each."""
    mine, other = filled(20), filled(5, YARD)
    group = [desk.batch(mine, n, n) for n in range(1, 21)]
    group += [desk.batch(other, n, n, signer=YARD) for n in range(1, 6)]
    desk.deliver(*group)
    assert desk.told.acknowledged == [(GATE, 20), (YARD, 5)]
    assert desk.stored(mine) == mine.encoded
    assert desk.stored(other) == other.encoded


@pytest.mark.parametrize("same_group", [True, False])
def test_what_is_stored_already_is_only_acknowledged(desk: Desk, same_group: bool) -> None:
    """A repeated batch, an older one and an overlapping one add nothing but their new end."""
    journal = filled(8)
    messages = [
        desk.batch(journal, 1, 5),
        desk.batch(journal, 1, 5),
        desk.batch(journal, 2, 3),
        desk.batch(journal, 4, 8),
    ]
    if same_group:
        desk.deliver(*messages)
    else:
        for message in messages:
            desk.restarted()
            desk.deliver(message)
    assert desk.stored(journal) == journal.encoded
    assert desk.anomalies() == []
    assert desk.told.acknowledged[-1] == (GATE, 8)


def test_what_comes_too_early_waits_for_what_is_before(desk: Desk) -> None:
    """A batch behind a gap is not stored; the acknowledgement says from where to go on."""
    journal = filled(6)
    desk.deliver(desk.batch(journal, 1, 2), desk.batch(journal, 5, 6))
    assert desk.told.acknowledged == [(GATE, 2)]
    assert desk.stored(journal) == journal.encoded[:2]
    desk.deliver(desk.batch(journal, 3, 4), desk.batch(journal, 5, 6))
    assert desk.stored(journal) == journal.encoded
    assert desk.anomalies() == []


def forged_tail(journal: MemoryJournal, keep: int) -> MemoryJournal:
    """The same journal with other events behind the first ``keep``."""
    other = MemoryJournal(GATE)
    other.journal_id = journal.journal_id
    other.encoded = journal.encoded[:keep]
    while other.last_sequence < journal.last_sequence:
        other.append(EventKind.DOOR_CLOSED, occurred_at=NOW)
    return other


@pytest.mark.parametrize(
    ("first", "last"),
    [(3, 6), (6, 6), (1, 6), (4, 4), (5, 8)],
    ids=["part", "head", "all", "middle", "beyond"],
)
def test_other_content_in_a_taken_place_is_set_aside(desk: Desk, first: int, last: int) -> None:
    """A signed batch that differs from what is stored changes nothing, and both it and the fact are kept."""
    journal = filled(6)
    desk.deliver(desk.batch(journal, 1, 6))
    other = forged_tail(journal, 2)
    other.append(EventKind.DOOR_CLOSED, occurred_at=NOW)
    other.append(EventKind.DOOR_CLOSED, occurred_at=NOW)
    desk.deliver(desk.batch(other, first, last))
    assert desk.stored(journal) == journal.encoded
    (anomaly,) = desk.anomalies()
    assert (anomaly.kind, anomaly.first_sequence, anomaly.last_sequence) == (
        AnomalyKind.DUPLICATE_DIFFERS,
        first,
        last,
    )
    assert desk.quarantined() == 1


def test_a_chain_that_does_not_continue_is_set_aside(desk: Desk) -> None:
    """An event whose previous hash is not the stored head's is not stored, and others go on."""
    journal = filled(4)
    desk.deliver(desk.batch(journal, 1, 4))
    other = forged_tail(journal, 3)
    other.append(EventKind.DOOR_CLOSED, occurred_at=NOW)
    mine = filled(1, YARD)
    desk.deliver(desk.batch(other, 5, 5), desk.batch(mine, 1, 1, signer=YARD))
    assert desk.stored(journal) == journal.encoded
    assert [anomaly.kind for anomaly in desk.anomalies()] == [AnomalyKind.CHAIN_BROKEN]
    assert desk.stored(mine) == mine.encoded


def test_a_journal_that_does_not_begin_at_its_genesis_is_set_aside(desk: Desk) -> None:
    """The first event of a journal must carry the hash that follows from controller and journal."""
    journal = MemoryJournal(GATE)
    draft = EventDraft(kind=EventKind.DOOR_OPENED, occurred_at=NOW, clock_trusted=True)
    journal.encoded = [bytes(Event(sequence=1, previous_hash=bytes(32), draft=draft))]
    desk.deliver(desk.batch(journal, 1, 1))
    assert desk.stored(journal) == []
    assert [anomaly.kind for anomaly in desk.anomalies()] == [AnomalyKind.CHAIN_BROKEN]


def test_another_controllers_signature_is_worth_nothing(desk: Desk) -> None:
    """A batch signed with another key, or for another controller, is set aside and not acknowledged."""
    journal, others = filled(1), filled(1, YARD)
    for_another = events_message(others.batch(desk.keys[GATE], 1, 1))
    desk.deliver(desk.batch(journal, 1, 1, signer=YARD), for_another)
    assert desk.stored(journal) == desk.stored(others) == []
    assert [anomaly.kind for anomaly in desk.anomalies()] == [
        AnomalyKind.SIGNATURE_INVALID,
        AnomalyKind.BATCH_MALFORMED,
    ]
    assert desk.quarantined() == 2
    assert desk.told.acknowledged == []


def test_a_chain_is_proven_by_its_last_signature(desk: Desk) -> None:
    """Of a chain in pieces the last head proves those before; what nothing authentic continues is not stored."""
    journal = filled(5)
    head_by_another = desk.batch(journal, 2, 2, signer=YARD)
    desk.deliver(desk.batch(journal, 1, 1), head_by_another, desk.batch(journal, 3, 4))
    assert desk.stored(journal) == journal.encoded[:4]
    assert desk.anomalies() == []
    desk.deliver(desk.batch(journal, 5, 5, signer=YARD))
    assert desk.stored(journal) == journal.encoded[:4]
    assert [anomaly.kind for anomaly in desk.anomalies()] == [AnomalyKind.SIGNATURE_INVALID]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_forged_piece_of_a_chain_is_found(desk: Desk, place: int) -> None:
    """One forged event among authentic ones in a group is never stored, wherever it stands."""
    journal = filled(3)
    forged = forged_tail(journal, place)
    messages = [desk.batch(journal, number, number) for number in (1, 2, 3)]
    messages[place] = desk.batch(forged, place + 1, place + 1, signer=YARD)
    desk.deliver(*messages)
    assert desk.stored(journal) == journal.encoded[:place]
    assert [anomaly.kind for anomaly in desk.anomalies()] == [AnomalyKind.SIGNATURE_INVALID]
    desk.deliver(*(desk.batch(journal, number, number) for number in (1, 2, 3)))
    assert desk.stored(journal) == journal.encoded


@given(payload=st.binary(max_size=200), kind=st.sampled_from(Up))
def test_no_bytes_stop_the_stream(one_desk: Desk, payload: bytes, kind: Up) -> None:
    """Whatever a controller sends, what others sent in the same group is stored."""
    journal, set_aside = filled(1), one_desk.ingest.counts.set_aside
    one_desk.deliver(Message(str(UpTopic(GATE, kind)), payload), one_desk.batch(journal, 1, 1))
    assert one_desk.stored(journal) == journal.encoded
    assert one_desk.ingest.counts.set_aside == set_aside + 1


def test_nobody_known_is_ignored(desk: Desk) -> None:
    """A topic that is none of ours, or of a controller that is not registered, is dropped and counted."""
    stranger = filled(1, ControllerId("stranger"))
    desk.deliver(
        Message("drempel/up/00/gate/else", b""), desk.batch(stranger, 1, 1), Message("/", b"\xff" * 9)
    )
    assert desk.ingest.counts.dropped == 3
    assert desk.told.acknowledged == []


def test_one_message_that_cannot_be_stored_does_not_take_others_with_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of our own on one message: it is set aside, all others of its group are stored."""
    journal, others = filled(3), filled(2, YARD)
    whole = events.row

    def breaks(controller_id: ControllerId, *rest: Any) -> dict[str, Any]:
        if controller_id == YARD:
            raise ZeroDivisionError
        return whole(controller_id, *rest)

    monkeypatch.setattr(events, "row", breaks)
    desk.deliver(desk.batch(others, 1, 2, signer=YARD), desk.batch(journal, 1, 3))
    assert desk.stored(journal) == journal.encoded
    assert [anomaly.kind for anomaly in desk.anomalies()] == [AnomalyKind.NOT_STORABLE]
    assert desk.told.acknowledged == [(GATE, 3)]


def test_nothing_is_acknowledged_that_was_not_committed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database refuses the commit nothing is acknowledged, and the same messages are stored later."""
    journal = filled(3)

    def full(*_: Any) -> None:
        raise OperationalError("INSERT", {}, Exception("disk is full"))

    with monkeypatch.context() as patched:
        patched.setattr("hub.ingest.AFTER_FAILURE_S", 0.0)
        patched.setattr(events, "add_many", full)
        desk.deliver(desk.batch(journal, 1, 3))
    assert desk.told.acknowledged == []
    assert desk.stored(journal) == []
    desk.deliver(desk.batch(journal, 1, 3))
    assert desk.told.acknowledged == [(GATE, 3)]
    assert desk.stored(journal) == journal.encoded


def test_hello_is_answered_with_what_is_stored(desk: Desk) -> None:
    """A hello gets the highest sequence stored, 0 for a journal never seen, and its facts are kept."""
    journal = filled(3)
    desk.hello(journal, policy=2, revocations=5)
    assert desk.told.acknowledged == [(GATE, 0)]
    assert ("said", GATE, {POLICY: 2, REVOCATIONS: 5}, True) in desk.told.calls
    assert desk.state().online
    assert (desk.state().last_sequence, desk.state().complete_until) == (3, None)
    desk.deliver(desk.batch(journal, 1, 3))
    assert desk.state().complete_until == NOW - timedelta(seconds=1)
    desk.hello(journal)
    assert desk.told.acknowledged[-1] == (GATE, 3)
    assert desk.state().complete_until == NOW - timedelta(seconds=1)


def test_events_that_are_nowhere_are_put_on_record(desk: Desk) -> None:
    """A controller that no longer has what the hub lacks goes on behind the gap; the gap is named."""
    journal = filled(9)
    desk.deliver(desk.batch(journal, 1, 2))
    desk.hello(journal, first=6)
    (anomaly,) = desk.anomalies()
    assert (anomaly.kind, anomaly.first_sequence, anomaly.last_sequence) == (AnomalyKind.EVENTS_MISSING, 3, 5)
    assert anomaly.has_hole
    assert desk.told.acknowledged[-1] == (GATE, 5)
    desk.restarted()
    desk.deliver(desk.batch(journal, 6, 9))
    assert desk.stored(journal) == journal.encoded[:2] + journal.encoded[5:]


def test_a_replaced_journal_is_put_on_record(desk: Desk) -> None:
    """Another journal of a known controller is stored beside the first, with the time between unknown."""
    first, second = filled(2), filled(2)
    desk.hello(first)
    desk.deliver(desk.batch(first, 1, 2))
    known_until = desk.state().complete_until
    desk.deliver(desk.batch(second, 1, 2))
    (anomaly,) = desk.anomalies()
    assert (anomaly.kind, anomaly.journal_id) == (AnomalyKind.JOURNAL_REPLACED, second.journal_id)
    assert (anomaly.unknown_from, anomaly.unknown_until) == (known_until, NOW - timedelta(seconds=2))
    assert desk.stored(first) + desk.stored(second) == first.encoded + second.encoded


@pytest.mark.parametrize("repeated", [False, True])
def test_a_controller_that_lost_its_documents_is_no_longer_confirmed(desk: Desk, repeated: bool) -> None:
    """A hello with older versions takes confirmations back, unless it is an old hello delivered again."""
    desk.issued(4)
    journal = MemoryJournal(GATE)
    applied(journal, 4)
    desk.deliver(desk.batch(journal, 1, 1))
    assert ("applied", GATE, REVOCATIONS, 4) in desk.told.calls
    with desk.database.read() as connection:
        assert documents.confirmed_at(connection, SITE, REVOCATIONS, 4) == {GATE: NOW, YARD: None}
    desk.hello(journal, revocations=3, repeated=repeated)
    with desk.database.read() as connection:
        still = documents.confirmed_at(connection, SITE, REVOCATIONS, 4)[GATE] is not None
    assert still is repeated


def digest(version: int) -> bytes:
    """The first bytes of a document's digest."""
    return b"digest%02d" % version


def applied(journal: MemoryJournal, version: int, at: datetime = NOW, *, other: bytes | None = None) -> None:
    details = {"kind": "revocations", "version": version, "digest": other or digest(version)}
    journal.append(EventKind.POLICY_APPLIED, details=details, occurred_at=at)


def test_a_held_version_is_proven_by_its_event_alone(desk: Desk) -> None:
    """Saying so in a hello confirms nothing; without events on their way it is handed on as not proven."""
    desk.issued(4)
    journal = MemoryJournal(GATE)
    desk.hello(journal, revocations=3)
    assert desk.told.unproven == set()
    desk.hello(journal, revocations=4)
    assert (desk.told.unproven, desk.confirmed()) == ({REVOCATIONS}, 0)
    desk.hello(journal, revocations=4, repeated=True)
    assert desk.told.unproven == set()
    applied(journal, 4)
    desk.hello(journal, revocations=4)
    assert (desk.told.unproven, desk.confirmed()) == (set(), 0)  # the event is on its way
    desk.deliver(desk.batch(journal, 1, 1))
    desk.hello(journal, revocations=4)
    assert (desk.told.unproven, desk.confirmed()) == (set(), 4)


def test_what_a_restored_hub_never_made_is_not_confirmed(desk: Desk) -> None:
    """Events about versions that this hub has not, or made only later, are stored and confirm nothing."""
    desk.issued(4, 5)
    journal = MemoryJournal(GATE)
    for version, ago_s in ((9, 0), (4, 0), (5, 3600)):
        applied(journal, version, NOW - timedelta(seconds=ago_s))
        desk.deliver(desk.batch(journal, journal.last_sequence, journal.last_sequence))
        assert desk.confirmed() == (0 if version == 9 else 4)
    assert [call[3] for call in desk.told.calls if call[0] == "applied"] == [4]


def test_another_document_of_the_same_number_is_not_confirmed(desk: Desk) -> None:
    """A door that says again what it holds, after a restored hub gave the number to another one, confirms nothing."""
    desk.issued(4)
    journal = MemoryJournal(GATE)
    applied(journal, 4, other=b"another0")
    desk.hello(journal, revocations=4)
    desk.deliver(desk.batch(journal, 1, 1))
    assert desk.confirmed() == 0
    desk.hello(journal, revocations=4)
    assert desk.told.unproven == {REVOCATIONS}


def test_the_last_event_about_a_document_counts(desk: Desk) -> None:
    """A controller that says again what it holds changes nothing; one that went back is no longer confirmed."""
    desk.issued(4, 5)
    journal = MemoryJournal(GATE)
    for version, held in ((4, 4), (5, 5), (5, 5), (4, 4)):
        applied(journal, version)
        desk.deliver(desk.batch(journal, journal.last_sequence, journal.last_sequence))
        assert desk.confirmed() == held


def test_one_fault_does_not_end_the_thread(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a key cannot be read once, what was sent is lost, and what is sent again is stored."""
    monkeypatch.setattr("hub.ingest.AFTER_FAILURE_S", 0.0)
    ingest = Ingest(
        desk.database, publish=desk.told.publish, documents=desk.told, live=LiveBus(), clock=lambda: desk.now
    )
    ingest.start()
    journal, read, failed = filled(1), desk.database.read, threading.Event()

    def fails() -> Any:
        failed.set()
        monkeypatch.setattr(desk.database, "read", read)
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(desk.database, "read", fails)
    ingest.put([desk.batch(journal, 1, 1)])
    assert failed.wait(30)
    ingest.put([desk.batch(journal, 1, 1)])
    ingest.stop()
    assert desk.stored(journal) == journal.encoded


def test_a_full_queue_holds_up_nobody_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing is taken off the queue, messages are dropped and counted, and the loss of the connection is told."""
    monkeypatch.setattr("hub.ingest.FULL_WAIT_S", 0.01)
    monkeypatch.setattr("hub.ingest.QUEUE_BYTES", 1)
    ingest = Ingest(
        desk.database, publish=desk.told.publish, documents=desk.told, live=LiveBus(), clock=lambda: desk.now
    )
    ingest.put([Message("", b""), Message("", b""), Message("", b"")])
    ingest.put([Message("", b"")])
    assert ingest.counts.dropped == 3
    ingest.link_lost()
    ingest.start()
    ingest.stop()
    assert desk.told.calls == [("gone", None)]


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"kind": "else", "version": 1, "digest": b"digest01"},
        {"kind": "policy", "digest": b"digest01"},
        {"kind": "policy", "version": True, "digest": b"digest01"},
        {"kind": "policy", "version": 1},
        {"kind": "policy", "version": 1, "digest": "digest01"},
        {"kind": "policy", "version": 1, "digest": b""},
        {"kind": 7},
    ],
)
def test_a_confirmation_that_names_nothing_confirms_nothing(desk: Desk, details: dict[str, Any]) -> None:
    """A policy event without a known kind and a version is stored like any other and confirms nothing."""
    journal = MemoryJournal(GATE)
    journal.append(EventKind.POLICY_APPLIED, details=details, occurred_at=NOW)
    journal.append(EventKind.POLICY_REFUSED, details=details, occurred_at=NOW)
    desk.deliver(desk.batch(journal, 1, 2))
    with desk.database.read() as connection:
        assert documents.confirmed_versions(connection) == {}
    assert desk.stored(journal) == journal.encoded


def test_a_heartbeat_and_a_last_will(desk: Desk) -> None:
    """A heartbeat is a sign of life with facts; the last will says offline and keeps the last sign of life."""
    status = ControllerStatus(
        online=True, sent_at=NOW, clock_trusted=True, unread_count=3, broken_readers=("front/entry",)
    )
    topic = str(UpTopic(GATE, Up.STATUS))
    desk.deliver(Message(topic, bytes(status)))
    state = desk.state()
    assert (state.online, state.unread_count, state.broken_readers) == (True, 3, ["front/entry"])
    desk.now = NOW + timedelta(minutes=5)
    desk.deliver(Message(topic, bytes(ControllerStatus(online=False, sent_at=NOW))))
    state = desk.state()
    assert (state.online, state.since, state.last_seen) == (False, desk.now, NOW)
    assert ("gone", GATE) in desk.told.calls


@pytest.mark.parametrize("goes_last", [True, False])
def test_what_a_controller_did_last_counts(desk: Desk, goes_last: bool) -> None:
    """In one group: whoever sends events and goes is offline, whoever goes and sends events is online."""
    journal = filled(1)
    farewell = Message(str(UpTopic(GATE, Up.STATUS)), bytes(ControllerStatus(online=False, sent_at=NOW)))
    heartbeat = Message(str(UpTopic(GATE, Up.STATUS)), bytes(ControllerStatus(online=True, sent_at=NOW)))
    group = [heartbeat, desk.batch(journal, 1, 1), farewell]
    desk.deliver(*(group if goes_last else group[::-1]))
    assert desk.state().online is not goes_last
    assert desk.told.calls[-1][0] == ("gone" if goes_last else "said")


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(1, 12), max_size=12), seed=st.randoms(use_true_random=False))
def test_any_order_and_repetition_stores_each_event_once(one_desk: Desk, cuts: list[int], seed: Any) -> None:
    """Batches cut anyhow, shuffled, repeated and grouped anyhow: never a double, never one out of order, and
    all of them after one ordered repetition.
    """
    desk, journal = one_desk, filled(13)
    batches = [desk.batch(journal, first + 1, last) for first, last in pairwise(sorted({0, 13, *cuts}))]
    shuffled = batches * 2
    seed.shuffle(shuffled)
    while shuffled:
        size = seed.randint(1, 4)
        desk.deliver(*shuffled[:size])
        del shuffled[:size]
        stored = desk.stored(journal)
        assert stored == journal.encoded[: len(stored)]
    desk.deliver(*batches)
    assert desk.stored(journal) == journal.encoded
    assert desk.anomalies(AnomalyKind.DUPLICATE_DIFFERS, AnomalyKind.CHAIN_BROKEN) == []


def test_a_batch_of_hundreds(desk: Desk) -> None:
    """Catching up: a batch as large as one may be is stored whole."""
    journal = filled(300)
    batch = seal_batch(GATE, journal.journal_id, 300, journal.encoded, desk.keys[GATE])
    desk.deliver(events_message(batch))
    assert desk.stored(journal) == journal.encoded


def test_a_backlog_is_stored_in_its_order(desk: Desk) -> None:
    """Groups that are read while the one before them is stored are stored once, each behind it, before the end."""
    journal = filled(2_500)
    ingest = Ingest(
        desk.database, publish=desk.told.publish, documents=desk.told, live=LiveBus(), clock=lambda: desk.now
    )
    ingest.put([desk.batch(journal, first, first + 249) for first in range(1, 2_500, 250)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("hub.ingest.GROUP_BYTES", 30_000)
        ingest.start()
        ingest.stop()
    assert desk.stored(journal) == journal.encoded
    assert [sequence for _, sequence in desk.told.acknowledged] == [*range(500, 2_501, 500)]


def test_a_controller_that_is_revoked_before_its_turn_is_not_believed(desk: Desk) -> None:
    """What was read when its controller was still believed is read again, and set aside."""
    journal = filled(1)
    read = desk.ingest._read([desk.batch(journal, 1, 1)])
    with desk.database.write() as connection:
        controllers.revoke(connection, GATE, NOW)
    desk.ingest.controllers_changed()
    desk.ingest._take(read)
    assert desk.stored(journal) == []
    assert [each.kind for each in desk.anomalies()] == [AnomalyKind.CONTROLLER_REVOKED]
