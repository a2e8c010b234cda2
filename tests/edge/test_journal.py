"""The journal: what is appended is kept, read and dropped as the hub acknowledges."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.journal import CountingFiles
from edge.journal import JournalLimits
from pacs.errors import StoreError
from pacs.events import Event, EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId, JournalId
from pacs.reason import Reason
from pacs.rules import Side
from tests.edge.journal_on_disk import (
    SMALL,
    START,
    QuickFiles,
    abandon,
    draft,
    fill,
    open_journal,
    read_outgoing,
    segment_files,
)


def test_first_opening_creates(tmp_path: Path) -> None:
    """A journal that never was is created, says so, and is no unclean start."""
    journal = open_journal(tmp_path / "journal")
    assert journal.opening.created
    assert not journal.opening.unclean
    assert not journal.opening.gaps
    assert journal.last_sequence == 0
    assert journal.outgoing.first_sequence == 1
    journal.close()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 12)),
            st.tuples(st.just("prepare"), st.integers(0, 2)),
            st.tuples(st.sampled_from(["sync", "close", "kill"]), st.just(0)),
            st.tuples(st.just("acknowledge"), st.integers(0, 40)),
        ),
        max_size=25,
    )
)
def test_round_trip(steps: list[tuple[str, int]]) -> None:
    """Whatever order of preparing, appending, acknowledging, closing and killing: the same events, one chain and id."""
    with TemporaryDirectory() as name:
        directory = Path(name) / "journal"
        journal = open_journal(directory)
        journal_id, appended, acknowledged = journal.journal_id, list[Event](), 0
        for step, number in steps:
            if step == "append":
                appended += [journal.append(draft(len(appended) + 1)) for _ in range(number)]
            elif step == "prepare":  # and others come first
                foreseen = draft(len(appended) + 1)
                journal.prepare(foreseen)
                appended += [journal.append(draft(len(appended) + 1)) for _ in range(number)]
                appended.append(journal.append(foreseen))
            elif step == "sync":
                journal.sync()
            elif step == "acknowledge":
                durable = journal.outgoing.last_sequence
                acknowledged = max(acknowledged, min(number, durable))
                read_outgoing(journal)
                assert journal.acknowledge(journal_id, min(number, durable)) is None
            else:
                journal.close() if step == "close" else abandon(journal)
                journal = open_journal(directory)
                assert journal.opening.unclean == (step == "kill")
                assert not journal.opening.gaps
            assert journal.journal_id == journal_id
            assert journal.last_sequence == len(appended)
        journal.sync()
        assert journal.outgoing.acknowledged == acknowledged
        assert read_outgoing(journal) == appended[acknowledged:]
        journal.close()


def test_preparing_writes_nothing(tmp_path: Path) -> None:
    """What was only prepared is in no file and in no sequence."""
    journal = open_journal(tmp_path / "journal")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    journal.prepare(draft(1))
    journal.sync()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert journal.last_sequence == 0
    journal.close()


def test_only_durable_events_are_read(tmp_path: Path) -> None:
    """An event that a power cut could still take is not sent."""
    journal = open_journal(tmp_path / "journal")
    journal.append(draft(1))
    journal.sync()
    journal.append(draft(2))
    assert [event.sequence for event in read_outgoing(journal)] == [1]
    journal.sync()
    assert [event.sequence for event in read_outgoing(journal)] == [1, 2]
    journal.close()


def test_bounds_of_reading(tmp_path: Path) -> None:
    """Reading respects both bounds, gives one event even when it alone exceeds the bytes, and none past the end."""
    fill(tmp_path / "journal", 3)
    journal = open_journal(tmp_path / "journal", limits=JournalLimits())
    journal_id = journal.journal_id
    assert len(journal.read(journal_id, 1, max_events=2, max_bytes=60_000)) == 2
    assert len(journal.read(journal_id, 1, max_events=9, max_bytes=1)) == 1
    assert journal.read(journal_id, 4, max_events=9, max_bytes=60_000) == []
    assert journal.read(JournalId("0" * 32), 1, max_events=9, max_bytes=60_000) == []
    journal.close()


def test_acknowledged_segments_are_dropped(tmp_path: Path) -> None:
    """Only whole segments go, only up to the hub's acknowledgement, and that is remembered."""
    directory = tmp_path / "journal"
    events = fill(directory, 20)
    before = len(segment_files(directory))
    journal = open_journal(directory)
    journal_id = journal.journal_id
    journal.acknowledge(JournalId("0" * 32), 20)
    assert journal.outgoing.acknowledged == 0
    journal.acknowledge(journal_id, 12)
    journal.acknowledge(journal_id, 3)
    assert len(segment_files(directory)) == before
    journal.sync()
    assert 1 < len(segment_files(directory)) < before
    assert 1 < journal.outgoing.first_sequence <= 13
    abandon(journal)
    journal = open_journal(directory)
    assert journal.outgoing.acknowledged == 12
    assert read_outgoing(journal) == events[12:]
    journal.acknowledge(journal_id, 20)
    journal.sync()
    assert len(segment_files(directory)) == 1
    assert journal.append(draft(21)).sequence == 21
    journal.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second process is told that the journal is taken."""
    journal = open_journal(tmp_path / "journal")
    with pytest.raises(StoreError, match="another process"):
        open_journal(tmp_path / "journal")
    journal.close()
    open_journal(tmp_path / "journal").close()


def test_reading_while_writing_and_dropping(tmp_path: Path) -> None:
    """The uplink's thread reads whole, chained events while another appends, makes durable and acknowledges."""
    journal = open_journal(tmp_path / "journal")
    journal_id, total, faults = journal.journal_id, 3_000, []
    received: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        try:
            while len(received) < total and not done.is_set():
                received.extend(journal.read(journal_id, len(received) + 1, max_events=50, max_bytes=20_000))
        except Exception as error:  # noqa: BLE001 - reported by the test's own thread
            faults.append(error)

    def make_durable() -> None:
        while not done.is_set():
            journal.sync()

    threads = [threading.Thread(target=read), threading.Thread(target=make_durable)]
    for thread in threads:
        thread.start()
    for number in range(1, total + 1):
        journal.append(draft(number))
        if number % 7 == 0:
            journal.acknowledge(journal_id, len(received))
    threads[0].join(60)
    done.set()
    threads[1].join(60)
    assert not faults
    assert [Event.from_bytes(data).sequence for data in received] == list(range(1, total + 1))
    journal.close()


class _HeldAhead(QuickFiles):
    """The durability thread is about to begin a segment, and then does nothing until it is let go."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def remove(self, path: Path) -> None:
        if threading.current_thread().name == "durability":
            self.begun.set()
            assert self.goes_on.wait(20)
        super().remove(path)


def test_two_threads_that_need_the_same_next_segment(tmp_path: Path) -> None:
    """While one is made ahead, the event that would begin it goes where there is room, and the next one goes on."""
    files = _HeldAhead()
    journal = open_journal(tmp_path / "journal", files=files)
    count = 0
    while journal._chains[-1].segments[-1].size < SMALL.segment_bytes:
        count += 1
        journal.append(draft(count))
    ahead = threading.Thread(target=journal.sync, name="durability")
    ahead.start()
    assert files.begun.wait(20)
    for number in range(count + 1, count + 12):
        journal.append(draft(number))
    files.goes_on.set()
    ahead.join(20)
    journal.sync()
    assert [event.sequence for event in read_outgoing(journal)] == list(range(1, count + 12))
    journal.close()
    again = open_journal(tmp_path / "journal")
    assert not again.opening.gaps
    assert [event.sequence for event in read_outgoing(again)] == list(range(1, count + 12))
    again.close()


# ---- for months


def test_a_quarter_of_a_million_events_are_held(tmp_path: Path) -> None:
    """They fit the default bound, each with the longest names; opening reads one segment at a time and keeps an index."""
    held, directory = 250_000, tmp_path / "journal"
    journal = open_journal(directory, limits=JournalLimits())
    longest = EventDraft(
        kind=EventKind.ACCESS_REFERRED,
        occurred_at=START,
        clock_trusted=True,
        door_id=DoorId("d" * 48),
        side=Side.ENTRY,
        credential_id=CredentialId(bytes(32)),
        reason=max(Reason, key=len),
    )
    for _ in range(held):
        journal.append(longest)
    assert not journal.is_full
    journal.close()
    tracemalloc.start()
    journal = open_journal(directory, limits=JournalLimits())
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (journal.held.first_sequence, journal.held.last_sequence) == (1, held)
    assert kept < 8 * held
    assert peak < 8 * held + 4 * JournalLimits().segment_bytes
    (last,) = journal.read(journal.journal_id, held, max_events=9, max_bytes=60_000)
    assert Event.from_bytes(last).sequence == held
    journal.close()


def test_writes_of_an_event(tmp_path: Path) -> None:
    """One write and one sync for each event that is sent on its own; one sync for however many together."""
    files = CountingFiles(waits=False)
    journal = open_journal(tmp_path / "journal", limits=JournalLimits(), files=files)
    files.writes = files.syncs = 0
    for number in range(1, 101):
        journal.append(draft(number))
        journal.sync()
    assert (files.writes, files.syncs) == (100, 100)
    for number in range(101, 201):
        journal.append(draft(number))
    journal.sync()
    journal.sync()
    assert (files.writes, files.syncs) == (200, 101)
    assert journal.acknowledge(journal.journal_id, 0) is None
    read_outgoing(journal)
    journal.acknowledge(journal.journal_id, 200)
    journal.sync()
    assert (files.writes, files.syncs) == (201, 101)
    journal.close()


def test_files_stay_until_the_event_that_explains_their_end_is_durable(tmp_path: Path) -> None:
    """What was dropped to make room is on the disk until it is on record that it was dropped."""
    directory = tmp_path / "journal"
    fill(directory, 12)
    journal = open_journal(directory)
    before = segment_files(directory)
    dropped = journal.drop_oldest()
    assert dropped is not None
    assert journal.outgoing.first_sequence == dropped.last_sequence + 1
    journal.sync()
    assert segment_files(directory) == before
    journal.append(draft(13), says=dropped)
    assert segment_files(directory) == before
    journal.sync()
    assert segment_files(directory)[:2] == before[1:]
    journal.close()


def test_neither_a_slow_disk_nor_a_reader_keeps_append_waiting(tmp_path: Path) -> None:
    """While the disk makes durable, events are appended and earlier ones are read; reading takes none of the writer's locks."""
    slow, free = threading.Event(), threading.Event()

    class SlowFiles(QuickFiles):
        def sync(self, fd: int) -> None:
            slow.set()
            assert free.wait(60)

    fill(tmp_path / "journal", 5)
    free.set()
    journal = open_journal(tmp_path / "journal", files=SlowFiles())
    free.clear()
    slow.clear()
    journal.append(draft(6))
    syncing = threading.Thread(target=journal.sync)
    syncing.start()
    assert slow.wait(60)
    appended = [journal.append(draft(number)) for number in range(7, 40)]
    with journal._guard:
        assert len(journal.read(journal.journal_id, 1, max_events=9, max_bytes=60_000)) > 0
    assert journal.outgoing.last_sequence == 5
    free.set()
    syncing.join(60)
    journal.sync()
    assert read_outgoing(journal)[-1] == appended[-1]
    journal.close()
