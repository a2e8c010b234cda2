"""The service performs effects in order, with a real journal and policy store on disk."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge import recorder as recorder_module
from edge.clock import Clock
from edge.controller import DoorController
from edge.door_state import DoorState
from edge.effects import Signal
from edge.inputs import (
    Acknowledged,
    CardClaimed,
    CardPresented,
    CardRefused,
    CommandReceived,
    DocumentReceived,
    EventsUnreadable,
    Input,
    LinkChanged,
    Now,
    ReadFailed,
    RexPressed,
    Started,
    Stopping,
    TamperChanged,
    Tick,
)
from edge.journal import Journal
from edge.policy_store import PolicyStore
from edge.segments import RECORD_OVERHEAD
from edge.service import Service, Trace
from edge.signers import Signers
from edge.state_files import StateFiles
from pacs import bundle
from pacs.commands import Action
from pacs.envelope import trusted_keys
from pacs.errors import MalformedData, StoreError
from pacs.events import Event, EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.messages import DocumentKind
from pacs.reason import ReadFault, Reason
from pacs.rules import Side
from tests.edge.at_the_door import accepted, commanded
from tests.edge.small_site import (
    CONTROLLER,
    FRONT,
    NOON,
    RESIDENT,
    SITE,
    STAFF,
    STRANGER,
    VISITOR,
    credential,
    policy,
    revocations,
)

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
WITHIN_S = 10.0


class Disk(StateFiles):
    """A disk that can be full."""

    full = False

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write_at(fd, data, offset)


class Doors:
    """Remembers what the pins were told, with what the journal held at that moment."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.told: list[tuple[str, Any]] = []
        self.last_sequence_at_release = 0

    def release(self, door_id: DoorId, unlock_ms: int) -> None:
        self.last_sequence_at_release = self.journal.last_sequence
        self.told.append(("release", unlock_ms))

    def hold(self, door_id: DoorId) -> None:
        self.told.append(("hold", door_id))

    def end_hold(self, door_id: DoorId) -> None:
        self.told.append(("end_hold", door_id))

    def lock(self, door_id: DoorId) -> None:
        self.told.append(("lock", door_id))

    def indicate(self, door_id: DoorId, side: Side, signal: Signal) -> None:
        self.told.append(("indicate", signal))

    def sound(self, door_id: DoorId, signal: Signal) -> None:
        self.told.append(("sound", signal))


class Faulty(DoorController):
    """Fails at the inputs of one kind."""

    fails_at: type = Stopping

    def on(self, happened: Input, now: Now) -> list[Any]:
        if isinstance(happened, self.fails_at):
            raise ZeroDivisionError
        return super().on(happened, now)


class Commands:
    """Judges nothing, remembers it."""

    def __init__(self) -> None:
        self.taken: list[CommandReceived] = []
        self.at_last: Callable[[], None] = lambda: None

    def take(self, received: CommandReceived) -> None:
        self.taken.append(received)

    def stop(self) -> None:
        self.at_last()


class House:
    """A service on its thread, with everything it touches."""

    def __init__(self, directory: Path, *, controller: type[DoorController] = DoorController) -> None:
        self.disk = Disk()
        self.journal = Journal(directory / "journal", controller_id=CONTROLLER, files=self.disk)
        self.store = PolicyStore(
            directory / "policy", site_id=SITE, signers=Signers(trusted_keys(SIGNER.public_key()))
        )
        self.doors = Doors(self.journal)
        self.notified = threading.Event()
        self.traces: list[Trace] = []
        self.issuers: list[Mapping[str, bytes]] = []
        self.commands = Commands()
        self.ticks = 0
        self.controller = controller(
            [DoorState(FRONT, has_contact=False)],
            draw=lambda: bytes(16),
            policy=policy(),
            revocations=revocations(),
        )
        self.service = Service(
            self.controller,
            clock=Clock(NOON, wall=lambda: NOON, monotonic_s=time.monotonic),
            journal=self.journal,
            doors=self.doors,
            documents=self.store,
            commands=self.commands,
            notify=self.notified.set,
            adopt=self.issuers.append,
            on_tick=self._tick,
            on_trace=self.traces.append,
        )
        opening = self.journal.opening
        self.thread = threading.Thread(
            target=self.service.run, args=(Started(details={"unclean": opening.unclean}), opening.gaps)
        )

    def _tick(self) -> None:
        self.ticks += 1

    def stop(self) -> None:
        if self.thread.is_alive():
            self.service.put(Stopping())
            self.thread.join(WITHIN_S)
        assert not self.thread.is_alive()

    def events(self) -> list[EventDraft]:
        """What the journal holds and the uplink can read."""
        outgoing = self.journal.outgoing
        found: list[EventDraft] = []
        first = outgoing.first_sequence
        while first + len(found) <= outgoing.last_sequence:
            raw = self.journal.read(outgoing.journal_id, first + len(found), max_events=500, max_bytes=10**6)
            found += [Event.from_bytes(data).draft for data in raw]
        return found

    def kinds(self) -> list[EventKind]:
        return [draft.kind for draft in self.events()]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WITHIN_S
        while not condition():
            assert time.monotonic() < deadline_s
            time.sleep(0.005)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    house.thread.start()
    yield house
    house.stop()
    house.journal.close()


def faulty(tmp_path: Path, fails_at: type) -> House:
    house = House(tmp_path, controller=type("FaultyHere", (Faulty,), {"fails_at": fails_at}))
    house.thread.start()
    return house


def presented(who: CredentialId = RESIDENT, *, side: Side = Side.ENTRY) -> CardPresented:
    return CardPresented(door_id=FRONT, side=side, credential=credential(who), marks=(("verify", 1),))


def test_a_granted_card_is_journalled_then_released_then_durable(house: House) -> None:
    """The event has its sequence before the strike moves; afterwards it is durable and the uplink is told."""
    house.service.put(presented())
    house.until(lambda: ("indicate", Signal.GRANTED) in house.doors.told)
    house.until(lambda: house.kinds() == [EventKind.CONTROLLER_STARTED, EventKind.ACCESS_GRANTED])
    assert house.doors.told == [("release", 5_000), ("indicate", Signal.GRANTED)]
    assert house.doors.last_sequence_at_release == 2
    assert house.notified.wait(WITHIN_S)


def claimed(who: CredentialId = RESIDENT) -> CardClaimed:
    return CardClaimed(door_id=FRONT, side=Side.ENTRY, credential=credential(who))


def test_a_claim_alone_does_nothing(house: House) -> None:
    """However often a card is claimed: nothing is journalled, released or shown; then its grant is one event."""
    for _ in range(5):
        house.service.put(claimed())
        house.service.put(claimed(STRANGER))
    house.service.put(claimed())
    house.service.put(presented())
    house.until(lambda: house.kinds() == [EventKind.CONTROLLER_STARTED, EventKind.ACCESS_GRANTED])
    assert house.doors.told == [("release", 5_000), ("indicate", Signal.GRANTED)]
    assert len(house.traces) == 1


def test_a_fault_at_a_claim_is_met_when_the_card_is_presented(tmp_path: Path) -> None:
    """Nothing is alarmed about or recorded for what nobody has proved; the card is then decided about."""
    house = faulty(tmp_path, CardClaimed)
    house.service.put(claimed())
    house.service.put(presented())
    house.until(lambda: house.kinds() == [EventKind.CONTROLLER_STARTED, EventKind.ACCESS_GRANTED])
    house.stop()
    house.journal.close()


def test_a_trace_carries_every_phase_in_order(house: House) -> None:
    """The reader's marks, then decide, journal and strike; with the outcome and the event's sequence."""
    for happened in (
        presented(),
        presented(STRANGER),
        CardRefused(
            door_id=FRONT,
            side=Side.ENTRY,
            reason=Reason.ISSUER_UNKNOWN,
            credential_id=None,
            technology=None,
        ),
        ReadFailed(door_id=FRONT, side=Side.ENTRY, fault=ReadFault.DEADLINE),
    ):
        house.service.put(happened)
    house.until(lambda: len(house.traces) == 4)
    granted, denied, refused, unread = house.traces
    assert [name for name, _ in granted.marks] == ["verify", "decide", "journal", "strike"]
    assert [at for _, at in granted.marks] == sorted(at for _, at in granted.marks)
    assert (granted.outcome, granted.reason, granted.sequence) == ("access_granted", "entitled", 2)
    assert (denied.outcome, denied.reason, denied.credential_id) == (
        "access_denied",
        "credential_unlisted",
        STRANGER,
    )
    assert (refused.reason, refused.sequence) == ("issuer_unknown", 4)
    assert (unread.outcome, unread.reason, unread.sequence) == ("not_read", "deadline", None)


def test_a_fault_while_deciding_is_denied_alarmed_and_survived(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Internal fault as reason, an alarm once, no strike; the next input is served."""
    house = faulty(tmp_path, CardPresented)
    with caplog.at_level(logging.CRITICAL):
        for _ in range(3):
            house.service.put(presented())
        house.service.put(RexPressed(door_id=FRONT))
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.stop()
    assert house.kinds() == [
        EventKind.CONTROLLER_STARTED,
        EventKind.INTERNAL_FAULT,
        *[EventKind.ACCESS_DENIED] * 3,
        EventKind.EXIT_REQUESTED,
        EventKind.CONTROLLER_STOPPED,
    ]
    events = house.events()
    assert events[1].details == {"about": "CardPresented", "error": "ZeroDivisionError"}
    assert {draft.reason for draft in events[2:5]} == {Reason.INTERNAL_FAULT}
    house.journal.close()


def test_a_fault_at_the_exit_still_opens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever failed, the way out is released and recorded."""
    house = faulty(tmp_path, RexPressed)
    with caplog.at_level(logging.CRITICAL):
        house.service.put(RexPressed(door_id=FRONT))
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.stop()
    assert EventKind.EXIT_REQUESTED in house.kinds()
    house.journal.close()


def test_a_timer_that_always_fails_starves_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its fault is recorded once, the watchdog's turn still comes, and cards are decided."""
    house = faulty(tmp_path, Tick)
    with caplog.at_level(logging.CRITICAL):
        house.until(lambda: house.ticks >= 2)
        house.service.put(presented())
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.stop()
    assert house.kinds().count(EventKind.INTERNAL_FAULT) == 1
    house.journal.close()


def test_a_pin_that_fails_does_not_keep_the_rest_from_happening(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal is shown and the alarm recorded when the strike cannot be switched."""

    def broken(door_id: DoorId, unlock_ms: int) -> None:
        raise OSError(errno.EIO, "pin")

    monkeypatch.setattr(house.doors, "release", broken)
    with caplog.at_level(logging.CRITICAL):
        house.service.put(presented())
        house.until(lambda: EventKind.INTERNAL_FAULT in house.kinds())
    assert ("indicate", Signal.GRANTED) in house.doors.told


# ---- a full disk


def test_without_its_event_nobody_is_let_in_but_everybody_out(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """No strike without an event at the entry; the exit opens; afterwards the journal says what happened."""
    house.until(lambda: len(house.kinds()) == 1)
    house.disk.full = True
    with caplog.at_level(logging.CRITICAL):
        house.service.put(presented())
        house.until(lambda: ("indicate", Signal.REFUSED) in house.doors.told)
        assert ("release", 5_000) not in house.doors.told
        house.service.put(presented(side=Side.EXIT))
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.disk.full = False
        house.until(lambda: len(house.kinds()) == 4)
    _, refused, left, restored = house.events()
    assert (refused.kind, refused.reason, refused.credential_id) == (
        EventKind.ACCESS_DENIED,
        Reason.JOURNAL_FAILED,
        RESIDENT,
    )
    assert (left.kind, left.side) == (EventKind.ACCESS_GRANTED, Side.EXIT)
    assert (restored.kind, restored.details) == (
        EventKind.JOURNAL_RESTORED,
        {"cause": "journal_failed", "waited": 2},
    )
    assert (house.traces[0].outcome, house.traces[0].reason) == ("access_denied", "journal_failed")
    house.service.put(presented())
    house.until(lambda: house.kinds()[-1] is EventKind.ACCESS_GRANTED and len(house.kinds()) == 5)


@pytest.mark.parametrize("fault", [MemoryError(), MalformedData("event"), ZeroDivisionError()])
def test_whatever_fails_while_recording_nobody_is_let_in_but_everybody_out(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    """A fault that is not the disk's withholds the strike at the entry too, and never at the exit."""
    append = house.journal.append

    def faulty(draft: EventDraft) -> Event:
        if draft.kind is EventKind.ACCESS_GRANTED:
            raise fault
        return append(draft)

    monkeypatch.setattr(house.journal, "append", faulty)
    with caplog.at_level(logging.CRITICAL):
        house.service.put(presented())
        house.until(lambda: ("indicate", Signal.REFUSED) in house.doors.told)
        assert ("release", 5_000) not in house.doors.told
        house.service.put(presented(side=Side.EXIT))
        house.until(lambda: ("release", 5_000) in house.doors.told)
    house.until(lambda: len(house.kinds()) == 3)
    _, alarm, refused = house.events()
    assert (alarm.kind, alarm.details["error"]) == (EventKind.INTERNAL_FAULT, type(fault).__name__)
    assert (refused.kind, refused.reason) == (EventKind.ACCESS_DENIED, Reason.JOURNAL_FAILED)
    assert (house.traces[0].outcome, house.traces[0].reason) == ("access_denied", "journal_failed")


def test_out_even_when_nothing_at_all_can_be_recorded(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The alarm fails with the event; the exit opens all the same, and the thread lives."""

    def broken(_: EventDraft) -> Event:
        raise ZeroDivisionError

    house.until(lambda: len(house.kinds()) == 1)
    with caplog.at_level(logging.CRITICAL):
        monkeypatch.setattr(house.journal, "append", broken)
        house.service.put(RexPressed(door_id=FRONT))
        house.until(lambda: ("release", 5_000) in house.doors.told)
        monkeypatch.undo()
    house.service.put(presented(STRANGER))
    house.until(lambda: EventKind.ACCESS_DENIED in house.kinds())


def test_a_fault_anywhere_while_serving_ends_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An acknowledgement that raises what nobody foresaw is an alarm, and the next card is decided."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(house.journal, "acknowledge", broken)
    with caplog.at_level(logging.CRITICAL):
        house.service.put(Acknowledged(journal_id=house.journal.journal_id, sequence=1))
        house.service.put(presented())
        house.until(lambda: ("release", 5_000) in house.doors.told)
    house.until(lambda: EventKind.ACCESS_GRANTED in house.kinds())
    assert house.events()[1].details == {"about": "Acknowledged", "error": "ZeroDivisionError"}


def test_events_beyond_the_memory_become_a_gap_that_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest are given up, and how many is an event when the disk is back."""
    monkeypatch.setattr(recorder_module, "WAITING_EVENTS", 5)
    house.until(lambda: len(house.kinds()) == 1)
    house.disk.full = True
    with caplog.at_level(logging.CRITICAL):
        for _ in range(8):
            house.service.put(presented(STRANGER))
        house.until(lambda: len(house.traces) == 8)
        house.disk.full = False
        house.until(lambda: len(house.kinds()) == 8)
    gap = house.events()[1]
    assert (gap.kind, gap.details) == (
        EventKind.JOURNAL_GAP,
        {"cause": "journal_failed", "lost_at_least": 3},
    )


def test_what_waits_is_tried_once_more_at_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is back after the last input: nothing that happened is forgotten."""
    house.until(lambda: len(house.kinds()) == 1)
    stop = house.service._intake.stop

    def disk_is_back() -> None:
        house.disk.full = False
        stop()

    monkeypatch.setattr(house.service._intake, "stop", disk_is_back)
    house.disk.full = True
    with caplog.at_level(logging.CRITICAL):
        house.service.put(presented(side=Side.EXIT))
        house.stop()
    assert house.kinds()[1:] == [
        EventKind.ACCESS_GRANTED,
        EventKind.CONTROLLER_STOPPED,
        EventKind.JOURNAL_RESTORED,
    ]


def test_a_private_door_opens_whatever_the_journal_does(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no event before its strike, so none is waited for; the trace names nobody."""
    house.service.put(accepted(private=True))
    house.until(lambda: EventKind.POLICY_APPLIED in house.kinds())
    house.disk.full = True
    with caplog.at_level(logging.CRITICAL):
        house.service.put(presented())
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.until(lambda: len(house.traces) == 1)
        house.disk.full = False
    assert (house.traces[0].outcome, house.traces[0].credential_id) == ("not_recorded", None)


def test_a_command_without_its_event_opens_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Refused by name, once the disk takes it."""
    house.until(lambda: len(house.kinds()) == 1)
    house.disk.full = True
    with caplog.at_level(logging.CRITICAL):
        house.service.put(Tick())
        house.service.put(commanded(Action.UNLOCK_ONCE))
        house.service.put(RexPressed(door_id=FRONT))
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.disk.full = False
        house.until(lambda: EventKind.COMMAND_REFUSED in house.kinds())
    assert EventKind.COMMAND_EXECUTED not in house.kinds()
    assert house.doors.told.count(("release", 5_000)) == 1


def test_sounds_reach_the_door_and_commands_whoever_judges_them(house: House) -> None:
    """Neither waits for the other."""
    house.service.put(TamperChanged(door_id=FRONT, open=True))
    house.service.put(CommandReceived(data=b"sealed", retained=True))
    house.until(lambda: ("sound", Signal.ALARM) in house.doors.told)
    house.until(lambda: house.commands.taken == [CommandReceived(data=b"sealed", retained=True)])


# ---- documents and acknowledgements


def receive(house: House, data: bytes, kind: DocumentKind = DocumentKind.POLICY) -> None:
    house.service.put(DocumentReceived(kind=kind, data=data))


def test_a_document_is_applied_confirmed_and_trusted(house: House) -> None:
    """The confirmation is an event; the readers get the issuers; a repeated one is not confirmed again."""
    newer = bundle.seal(policy(version=3), SIGNER)
    receive(house, newer)
    receive(house, newer)
    receive(house, revocations(version=9).seal(SIGNER), DocumentKind.REVOCATIONS)
    house.until(lambda: house.kinds().count(EventKind.POLICY_APPLIED) == 2)
    details = [draft.details for draft in house.events() if draft.kind is EventKind.POLICY_APPLIED]
    listed = revocations(version=9).seal(SIGNER)
    assert details == [
        {"kind": "policy", "version": 3, "digest": sha256(newer).digest()[:8]},
        {"kind": "revocations", "version": 9, "digest": sha256(listed).digest()[:8]},
    ]
    assert house.issuers[-1] == policy().issuers
    assert EventKind.POLICY_REFUSED not in house.kinds()


def test_a_document_that_is_not_right_is_refused_recorded_once_and_the_old_one_stays(house: House) -> None:
    """Malformed, signed by another key: each a reason; repeated by the hub: no second event."""
    stranger = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
    for data in (b"nonsense", b"nonsense", bundle.seal(policy(version=3), stranger)):
        receive(house, data)
    house.until(lambda: house.kinds().count(EventKind.POLICY_REFUSED) == 2)
    refused = [draft.reason for draft in house.events() if draft.kind is EventKind.POLICY_REFUSED]
    assert refused == [Reason.DOCUMENT_MALFORMED, Reason.SIGNER_UNKNOWN]
    house.service.put(presented())
    house.until(lambda: house.kinds()[-1] is EventKind.ACCESS_GRANTED)


def test_a_document_that_cannot_be_kept_is_refused_by_name(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of our own while verifying neither kills the thread nor passes for a confirmation."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(house.store, "accept", broken)
    with caplog.at_level(logging.CRITICAL):
        receive(house, b"x")
        house.until(lambda: EventKind.POLICY_REFUSED in house.kinds())
    monkeypatch.undo()
    assert house.events()[-1].reason is Reason.INTERNAL_FAULT
    receive(house, bundle.seal(policy(version=3), SIGNER))
    house.until(lambda: EventKind.POLICY_APPLIED in house.kinds())


def test_what_the_hub_has_acknowledged_is_not_sent_again(house: House) -> None:
    """An acknowledgement reaches the journal; the link's state moves nothing."""
    house.service.put(LinkChanged(online=True))
    house.service.put(presented())
    house.until(lambda: len(house.kinds()) == 2)
    house.service.put(Acknowledged(journal_id=house.journal.journal_id, sequence=2))
    house.until(lambda: house.journal.outgoing.acknowledged == 2)


def test_a_hub_that_is_ahead_is_recorded_as_a_gap(house: House) -> None:
    """It has events this disk lost: a new journal begins, and says so."""
    house.until(lambda: len(house.kinds()) == 1)
    before = house.journal.journal_id
    house.service.put(Acknowledged(journal_id=before, sequence=50))
    house.until(lambda: house.journal.journal_id != before and house.kinds() == [EventKind.JOURNAL_GAP])
    assert house.events()[0].details["journal"] == str(before)


def test_a_record_that_is_damaged_while_running_becomes_a_gap_and_later_ones_flow(house: House) -> None:
    """The uplink says what it cannot read; afterwards everything else can be read."""
    house.service.put(presented(STRANGER))
    house.until(lambda: len(house.kinds()) == 2)
    segment = house.journal._chains[-1].segments[-1]
    data = bytearray(segment.path.read_bytes())
    data[segment.offsets[0] + RECORD_OVERHEAD] ^= 1
    segment.path.write_bytes(data)
    before = house.journal.journal_id
    with pytest.raises(StoreError):
        house.kinds()  # as the uplink reads
    house.service.put(EventsUnreadable(journal_id=before, sequence=1))
    house.until(lambda: house.journal.outgoing.first_sequence == 2 and len(house.kinds()) == 2)
    assert house.kinds() == [EventKind.ACCESS_DENIED, EventKind.JOURNAL_GAP]
    assert house.events()[1].details == {
        "journal": str(before),
        "last_sequence": 0,
        "cause": "damaged",
        "lost_at_least": 1,
    }


def test_an_event_that_never_fits_keeps_no_other_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given up when its turn comes, and counted."""
    append = house.journal.append

    def choosy(draft: EventDraft) -> Event:
        if draft.kind is EventKind.ACCESS_DENIED and not house.disk.full:
            raise MalformedData("event")
        return append(draft)

    house.until(lambda: len(house.kinds()) == 1)
    house.disk.full = True
    monkeypatch.setattr(house.journal, "append", choosy)
    with caplog.at_level(logging.CRITICAL):
        for happened in (presented(STRANGER), RexPressed(door_id=FRONT)):
            house.service.put(happened)
        house.until(lambda: ("release", 5_000) in house.doors.told)
        house.disk.full = False
        house.until(lambda: EventKind.JOURNAL_GAP in house.kinds())
    assert house.kinds()[1:] == [
        EventKind.EXIT_REQUESTED,
        EventKind.JOURNAL_GAP,
        EventKind.JOURNAL_RESTORED,
    ]
    assert house.events()[2].details == {"cause": "journal_failed", "lost_at_least": 1}


def test_an_overdue_tick_waits_for_what_happened_before_it_was_due(tmp_path: Path) -> None:
    """And for nothing that comes meanwhile: a flood of inputs does not stop the timers."""
    house = House(tmp_path)
    earlier, later = presented(), RexPressed(door_id=FRONT)
    for happened in (earlier, earlier):
        house.service._queue.put(happened)
    taken: list[Input] = []
    for _ in range(4):
        taken.append(house.service._next())
        house.service._queue.put(later)
    assert taken == [earlier, earlier, Tick(), later]
    house.journal.close()


@pytest.mark.parametrize("kept", [0, 1])
def test_an_escort_and_who_comes_with_them_are_let_in_with_an_event_each_or_not_at_all(
    tmp_path: Path, kept: int
) -> None:
    """One release: whichever of the two cannot be written, nobody is said to have been granted for good."""
    house = House(tmp_path)
    service = house.service
    for happened in (Started(), presented(VISITOR)):
        service._handle(happened)
    append, left = house.journal.append, [kept]

    def fails(draft: EventDraft) -> Event:
        if draft.kind is EventKind.ACCESS_GRANTED:
            left[0] -= 1
            if left[0] < 0:
                raise StoreError("no")
        return append(draft)

    house.journal.append = fails  # type: ignore[assignment, method-assign]
    service._handle(presented(STAFF))
    house.journal.append = append  # type: ignore[method-assign]
    service._handle(Tick())
    assert not [told for told in house.doors.told if told[0] == "release"]
    house.journal.sync()
    found = [(draft.kind, draft.credential_id) for draft in house.events()][2:]
    granted = [(EventKind.ACCESS_GRANTED, STAFF)][:kept]
    assert found[: kept + 2] == [
        *granted,
        (EventKind.ACCESS_DENIED, STAFF),
        (EventKind.ACCESS_DENIED, VISITOR),
    ]
    assert EventKind.ACCESS_GRANTED not in [kind for kind, _ in found[kept:]]
    house.journal.close()


# ---- the end


def test_stopping_locks_records_and_makes_everything_durable(tmp_path: Path) -> None:
    """Inputs before it are still served; the next start finds a proper end."""
    house = House(tmp_path)
    house.thread.start()
    house.service.put(presented())
    house.stop()
    assert house.doors.told[-1] == ("lock", FRONT)
    assert house.kinds() == [
        EventKind.CONTROLLER_STARTED,
        EventKind.ACCESS_GRANTED,
        EventKind.CONTROLLER_STOPPED,
    ]
    house.journal.close()
    again = House(tmp_path)
    assert not again.journal.opening.unclean
    again.journal.close()


def test_what_comes_behind_the_end_is_recorded_and_moves_nothing(tmp_path: Path) -> None:
    """A command that is used up is refused, a document that is kept is confirmed; whoever comes is not let in."""
    house = House(tmp_path)
    unlock = commanded(Action.UNLOCK_ONCE)

    def last_words() -> None:
        house.service.put(unlock)
        house.service.put(TamperChanged(door_id=FRONT, open=True))

    house.commands.at_last = last_words
    for happened in (Stopping(), presented(), accepted(version=3), RexPressed(door_id=FRONT)):
        house.service._queue.put(happened)
    house.thread.start()
    house.stop()
    behind = house.events()[2:]
    assert [draft.kind for draft in behind] == [
        EventKind.POLICY_APPLIED,
        EventKind.COMMAND_REFUSED,
        EventKind.TAMPER_OPENED,
    ]
    assert (behind[1].reason, behind[1].details["command"]) == (
        Reason.COMMAND_OUT_OF_PLACE,
        unlock.command.command_id,
    )
    assert house.doors.told == [("lock", FRONT)]
    house.journal.close()


def test_a_disk_that_makes_nothing_durable_is_an_alarm(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It hangs or fails: said in an event as soon as it can be."""
    monkeypatch.setattr(recorder_module, "DURABLE_WITHIN_S", 0.5)
    house.until(lambda: len(house.kinds()) == 1)

    def broken() -> None:
        raise StoreError("a broken disk")

    with caplog.at_level(logging.CRITICAL):
        monkeypatch.setattr(house.journal, "sync", broken)
        house.service.put(presented(STRANGER))
        house.until(lambda: house.journal.last_sequence == 3)
        monkeypatch.undo()
    house.until(lambda: EventKind.INTERNAL_FAULT in house.kinds())
    assert house.events()[2].details == {"about": "journal", "error": "not_durable"}


def test_what_is_recorded_while_the_disk_is_busy_is_durable_at_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop in the middle of a sync still syncs what came after its beginning."""
    busy, free = threading.Event(), threading.Event()
    sync = house.journal.sync

    def slow_sync() -> None:
        sync()
        busy.set()
        assert free.wait(WITHIN_S)

    house.until(lambda: len(house.kinds()) == 1)
    monkeypatch.setattr(house.journal, "sync", slow_sync)
    house.service.put(presented())
    assert busy.wait(WITHIN_S)
    house.service.put(presented(STRANGER))
    house.service.put(Stopping())
    house.until(lambda: ("lock", FRONT) in house.doors.told)
    free.set()
    house.stop()
    assert house.kinds()[-2:] == [EventKind.ACCESS_DENIED, EventKind.CONTROLLER_STOPPED]
