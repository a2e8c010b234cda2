"""What a controller says of itself, from what its parts say."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.clock import Clock
from edge.heartbeat import Heartbeat
from edge.hub_connection import Counts
from edge.inputs import Now
from edge.journal import Outgoing
from edge.recorder import Recorder
from edge.snapshot import (
    ControllerSnapshot,
    DocumentSnapshot,
    DoorSnapshot,
    JournalSnapshot,
    LinkSnapshot,
    ReaderSnapshot,
    WatchdogSnapshot,
)
from pacs.decision import ClockReading
from pacs.errors import StoreError
from pacs.events import Event, EventDraft, EventKind
from pacs.identifiers import DoorId, JournalId
from pacs.messages import MAX_MESSAGE_BYTES, ControllerStatus, DocumentKind
from tests.edge.failing_disk import FailingFiles
from tests.edge.journal_on_disk import draft, open_journal

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT_NOON = Now(clock=ClockReading(at=NOON, trusted=True), monotonic_s=0.0)
JOURNAL = JournalId("a" * 32)
DOOR = DoorSnapshot(
    door="front", mode="attended", cause="schedule", contact="closed", strike="locked", alarms=("door_held",)
)
READER = ReaderSnapshot(
    door="front",
    side="entry",
    device="/dev/ttyUSB0",
    state="ok",
    state_s=5.0,
    cause=None,
    firmware=None,
    last_card_s=7.9,
    reads=40,
    faults={"card_gone": 2, "deadline": 1},
    losses=1,
    resets=3,
)
SNAPSHOT = ControllerSnapshot(
    controller="gate-1",
    site="utrecht",
    software="drempel 0",
    at=NOON,
    taken_s=1.0,
    uptime_s=90.7,
    clock_trusted=True,
    clock_distrust="not_synchronised",
    policy=DocumentSnapshot(
        version=4, issued_at=NOON - timedelta(hours=1), expires_at=NOON + timedelta(days=7)
    ),
    revocations=None,
    journal=JournalSnapshot(journal_id=JOURNAL, last_sequence=20, acknowledged=8, waiting=12),
    link=LinkSnapshot(state="online"),
    watchdog=WatchdogSnapshot(interval_s=None, fed_s_ago=0.1),
    doors=(DOOR,),
    readers=(READER,),
)


class Journal:
    """Twelve events wait; the oldest is ``age`` old."""

    outgoing = Outgoing(journal_id=JOURNAL, first_sequence=1, acknowledged=8, last_sequence=20)

    def __init__(self, age: timedelta = timedelta(minutes=20), *, trusted: bool = True) -> None:
        self.draft = EventDraft(kind=EventKind.DOOR_OPENED, occurred_at=NOON - age, clock_trusted=trusted)
        self.failure: Exception | None = None

    def read(self, _journal: JournalId, from_sequence: int, **_bounds: int) -> list[bytes]:
        assert from_sequence == 9
        if self.failure:
            raise self.failure
        return [bytes(Event(sequence=9, previous_hash=bytes(32), draft=self.draft))]


class Cards:
    """Nobody's card could be read three times."""

    unread_count = 3
    broken_readers = ("front/exit",)
    private_doors: frozenset[DoorId] = frozenset()


class PrivateCards(Cards):
    """The front door is private."""

    private_doors = frozenset({DoorId("front")})


def heartbeat(directory: Path, journal: Any = None, **changes: Any) -> Heartbeat:
    refused: Mapping[str, int] = {"command_repeated": 2}
    parts: dict[str, Any] = {
        "clock": Clock(NOON, wall=lambda: NOON),
        "journal": journal or Journal(),
        "cards": Cards(),
        "versions": lambda: {DocumentKind.POLICY: 4},
        "snapshot": lambda: SNAPSHOT,
        "counts": Counts(connections=2, batches=5),
        "refused_commands": lambda: refused,
        "in_memory": lambda: 0,
    }
    return Heartbeat(directory, **parts | changes)


def test_everything_a_technician_asks_for(tmp_path: Path) -> None:
    """Versions and ages, clock, journal, modes, readers, temperature, disk and link stand in one message."""
    zone = tmp_path / "temp"
    zone.write_text("48312\n")
    status = ControllerStatus.from_bytes(bytes(heartbeat(tmp_path, thermal_zone=zone).status()))
    assert (status.online, status.sent_at, status.last_sequence, status.acknowledged_sequence) == (
        True,
        NOON,
        20,
        8,
    )
    assert status.versions[DocumentKind.POLICY] == 4
    assert (status.unread_count, status.broken_readers) == (3, ("front/exit",))
    health = status.health
    assert health is not None
    assert (health.uptime_s, health.policy_age_s, health.revocations_age_s) == (90, 3_600, None)
    assert health.clock_distrust == "not_synchronised"
    assert (health.waiting_events, health.oldest_waiting_s) == (12, 1_200)
    assert health.temperature_millicelsius == 48_312
    assert health.free_bytes
    assert (health.connections, health.batches) == (2, 5)
    assert health.refused_commands == {"command_repeated": 2}
    (door,), (reader,) = health.doors, health.readers
    assert (door.door_id, door.mode, door.cause, door.alarms) == (
        "front",
        "attended",
        "schedule",
        ("door_held",),
    )
    assert (reader.reader, reader.state, reader.reads, reader.failed) == ("front/entry", "ok", 40, 3)
    assert (reader.losses, reader.resets, reader.last_card_s) == (1, 3, 7)


def test_what_is_said_at_once(tmp_path: Path) -> None:
    """Another mode, alarm or reader state, or a clock not believed, is something else; a card read is not."""
    held = [SNAPSHOT]
    said = heartbeat(tmp_path, snapshot=lambda: held[0])
    before = said.standing()
    for change in (
        {"doors": (replace(DOOR, mode="lockdown"),)},
        {"doors": (replace(DOOR, alarms=()),)},
        {"readers": (replace(READER, state="lost"),)},
        {"clock_distrust": None},
    ):
        held[0] = replace(SNAPSHOT, **change)
        assert said.standing() != before
    held[0] = replace(SNAPSHOT, readers=(replace(READER, reads=41),), uptime_s=91.7)
    assert said.standing() == before


def test_before_the_first_turn(tmp_path: Path) -> None:
    """Nothing is made up: there is a heartbeat, and no health in it."""
    assert heartbeat(tmp_path, snapshot=lambda: None).status().health is None


def test_everything_that_waits_is_said(tmp_path: Path) -> None:
    """What is in memory, what is not durable yet and what is in a later chain cannot be sent: the hub is told how much."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    recorder = Recorder(journal, lambda: None)
    for number in range(3):
        recorder.record(draft(number), AT_NOON)
    journal.sync()
    journal.read(journal.journal_id, 1, max_events=3, max_bytes=60_000)
    said = heartbeat(tmp_path, journal, in_memory=lambda: recorder.in_memory)

    def waiting() -> tuple[int, int, int]:
        status = ControllerStatus.from_bytes(bytes(said.status()))
        assert status.health is not None
        return status.last_sequence, status.withheld_count, status.health.waiting_events

    assert waiting() == (3, 0, 3)
    recorder.record(draft(3), AT_NOON)
    assert waiting() == (3, 1, 4)
    files.failure = errno.ENOSPC
    recorder.record(draft(4), AT_NOON)
    assert waiting() == (3, 2, 5)
    files.failure = None
    recorder.catch_up(AT_NOON)
    assert waiting() == (3, 3, 6)
    journal.sync()
    assert waiting() == (6, 0, 6)
    journal.close()


def test_what_cannot_be_known_is_absent(tmp_path: Path) -> None:
    """No sensor, no directory, an unreadable journal, an event whose clock was not believed: absent, not zero."""
    journal = Journal()
    journal.failure = StoreError("a broken disk")
    missing = tmp_path / "nowhere"
    health = heartbeat(missing, journal, thermal_zone=missing).status().health
    assert health is not None
    assert (health.oldest_waiting_s, health.temperature_millicelsius, health.free_bytes) == (None, None, None)
    health = heartbeat(tmp_path, Journal(trusted=False)).status().health
    assert health is not None
    assert health.oldest_waiting_s is None
    zone = tmp_path / "temp"
    zone.write_text("hot")
    health = heartbeat(tmp_path, thermal_zone=zone).status().health
    assert health is not None
    assert health.temperature_millicelsius is None


def test_an_event_from_the_future_is_not_older_than_now(tmp_path: Path) -> None:
    """A clock that was set back since gives no negative age."""
    health = heartbeat(tmp_path, Journal(timedelta(minutes=-5))).status().health
    assert health is not None
    assert health.oldest_waiting_s == 0


@given(
    word=st.text(max_size=300),
    counts=st.dictionaries(st.text(max_size=200), st.integers(0, 2**50), max_size=80),
)
def test_whatever_its_parts_say_it_is_one_message(
    tmp_path_factory: Any, word: str, counts: dict[str, int]
) -> None:
    """Long words and many reasons are cut, never an error and never too much."""
    directory = tmp_path_factory.getbasetemp()
    door = replace(DOOR, mode=word, cause=word, alarms=(word,) * 40)
    snapshot = replace(SNAPSHOT, doors=(door,) * 4, readers=(replace(READER, state=word),) * 8)
    said = heartbeat(directory, snapshot=lambda: snapshot, refused_commands=lambda: counts).status()
    assert len(bytes(said)) <= MAX_MESSAGE_BYTES
    again = ControllerStatus.from_bytes(bytes(said))
    assert again.health == said.health


def test_of_a_private_doors_reader_it_is_not_told_when_somebody_came(tmp_path: Path) -> None:
    """Neither how long ago nor by a count that moves; what a technician needs stays."""
    told = heartbeat(tmp_path, cards=PrivateCards()).status()
    assert told.health is not None
    (reader,) = ControllerStatus.from_bytes(bytes(told)).health.readers  # type: ignore[union-attr]
    assert (reader.reads, reader.last_card_s) == (None, None)
    assert (reader.state, reader.failed, reader.losses, reader.resets) == ("ok", 3, 1, 3)
