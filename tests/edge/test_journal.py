"""The journal: nothing appended and made durable is lost, and nothing that is lost is lost silently."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import journal as journal_module
from edge import segments
from edge.journal import Journal, JournalLimits
from edge.journal_recovery import GapCause
from edge.segments import SegmentHeader
from edge.state_files import StateFiles
from pacs.errors import MalformedData, StoreError
from pacs.events import Event, EventDraft, EventKind, event_hash, genesis
from pacs.identifiers import ControllerId, DoorId, JournalId
from tests.edge.power_cut import PowerCut, PowerCutFiles, Survives

C1 = ControllerId("c1")
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
SMALL = JournalLimits(segment_bytes=400)


def draft(number: int) -> EventDraft:
    """An event that can be told from the others."""
    return EventDraft(
        kind=EventKind.DOOR_OPENED,
        occurred_at=START + timedelta(seconds=number),
        clock_trusted=True,
        door_id=DoorId(f"door-{number}"),
    )


class QuickFiles(StateFiles):
    """Does not wait for the real disk: what a test about content needs."""

    def sync(self, fd: int) -> None:
        os.fstat(fd)

    def sync_directory(self, path: Path) -> None:
        assert path.is_dir()


def open_journal(
    directory: Path, *, limits: JournalLimits = SMALL, files: StateFiles | None = None
) -> Journal:
    return Journal(directory, controller_id=C1, limits=limits, files=files or QuickFiles())


def abandon(journal: Journal) -> None:
    """What a killed process leaves: its descriptors are closed by the system, nothing else happens."""
    for fd in (*journal._unsynced, journal._fd, journal._acknowledged_fd, journal._lock):
        os.close(fd)


def read_outgoing(journal: Journal) -> list[Event]:
    """Every event of the outgoing chain that is not acknowledged, chain verified, in steps of three."""
    outgoing = journal.outgoing
    sequence, events = outgoing.acknowledged + 1, list[Event]()
    while raw := journal.read(outgoing.journal_id, sequence, max_events=3, max_bytes=60_000):
        for data in raw:
            event = Event.from_bytes(data)
            assert event.sequence == sequence
            before = event_hash(bytes(events[-1])) if events else None
            if before is None and sequence == 1:
                before = genesis(C1, outgoing.journal_id)
            assert before in (None, event.previous_hash)
            events.append(event)
            sequence += 1
    assert sequence == outgoing.last_sequence + 1
    return events


def drain(journal: Journal) -> list[tuple[JournalId, Event]]:
    """What the hub receives until nothing is left: every chain, each acknowledged when it is read."""
    received: list[tuple[JournalId, Event]] = []
    while True:
        journal_id = journal.outgoing.journal_id
        events = read_outgoing(journal)
        received += [(journal_id, event) for event in events]
        if events:
            assert journal.acknowledge(journal_id, events[-1].sequence) is None
        if journal.outgoing.journal_id == journal_id:
            return received


def fill(directory: Path, count: int, *, close: bool = True) -> list[Event]:
    """A journal of ``count`` events, closed or as a killed process leaves it."""
    journal = open_journal(directory)
    events = [journal.append(draft(number)) for number in range(1, count + 1)]
    journal.sync()
    if close:
        journal.close()
    else:
        abandon(journal)
    return events


def append_until_it_fails(journal: Journal) -> None:
    for _ in range(1_000):
        journal.append(draft(journal.last_sequence + 1))


def segment_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*/*.segment"))


# ---- going on


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


# ---- damage


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Cut off anywhere, the whole events before the cut still reach the hub, and a torn one is reported."""
    original = tmp_path / "original"
    events = fill(original, 8, close=False)
    last = segment_files(original)[-1]
    data = last.read_bytes()
    first = SegmentHeader.from_bytes(data).first_sequence
    ends = list(segments.scan(data, first).offsets)
    for size in range(1, len(data)):
        copy = tmp_path / "copy"
        shutil.copytree(original, copy)
        os.truncate(copy / last.relative_to(original), size)
        journal = open_journal(copy)
        whole = first - 1 + max(0, sum(end <= size for end in ends) - 1)
        assert journal.opening.unclean
        added = journal.append(draft(99))
        journal.sync()
        if size in ends:
            assert not journal.opening.gaps
            assert added.sequence == whole + 1
        else:
            (gap,) = journal.opening.gaps
            assert gap.cause is GapCause.TORN
            assert gap.last_sequence == whole
            assert added.sequence == 1
        assert [event for _, event in drain(journal)] == [*events[:whole], added]
        journal.close()
        shutil.rmtree(copy)


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_flipped_bit_in_every_byte(tmp_path: Path, close: bool) -> None:
    """No flipped bit passes unseen: an event arrives unchanged or its absence is reported, and the bytes are kept."""
    original = tmp_path / "original"
    events = fill(original, 4, close=close)
    for file in [*segment_files(original), *original.glob("closed"), original / "acknowledged"]:
        for position in range(file.stat().st_size):
            copy = tmp_path / "copy"
            shutil.copytree(original, copy)
            damaged = copy / file.relative_to(original)
            data = bytearray(damaged.read_bytes())
            data[position] ^= 1 << position % 8
            damaged.write_bytes(data)
            journal = open_journal(copy)
            gaps = journal.opening.gaps
            added = journal.append(draft(99))
            journal.sync()
            *old, (_, last) = drain(journal)
            assert last == added
            assert [event for _, event in old] == events[: len(old)]
            if file.suffix == ".segment":
                assert len(gaps) == 1
                assert gaps[0].last_sequence == len(old) < len(events)
                assert gaps[0].cause is GapCause.DAMAGED or not close
                assert list((copy / "quarantine").iterdir())
                assert added.sequence == 1
            else:
                assert len(old) == len(events)
                assert journal.opening.unclean or file.name == "acknowledged"
            journal.close()
            shutil.rmtree(copy)


def test_damage_to_what_the_hub_has(tmp_path: Path) -> None:
    """A damaged record that the hub has acknowledged costs nothing: the journal goes on."""
    directory = tmp_path / "journal"
    journal = open_journal(directory, limits=JournalLimits())
    events = [journal.append(draft(number)) for number in range(1, 7)]
    journal.sync()
    read_outgoing(journal)
    journal.acknowledge(journal.journal_id, 3)
    journal_id = journal.journal_id
    journal.close()
    (file,) = segment_files(directory)
    data = bytearray(file.read_bytes())
    data[segments.HEADER_BYTES + segments.RECORD_OVERHEAD] ^= 1
    file.write_bytes(data)
    journal = open_journal(directory)
    assert not journal.opening.gaps
    assert journal.journal_id == journal_id
    assert read_outgoing(journal) == events[3:]
    journal.close()


@pytest.mark.parametrize("missing", [0, 1, -1])
def test_missing_segment(tmp_path: Path, missing: int) -> None:
    """A segment that vanished is reported, also the last one of a journal that was closed."""
    directory = tmp_path / "journal"
    events = fill(directory, 12)
    segment_files(directory)[missing].unlink()
    journal = open_journal(directory)
    (gap,) = journal.opening.gaps
    assert gap.cause is GapCause.DAMAGED
    assert [event for _, event in drain(journal)] == events[: gap.last_sequence]
    assert gap.last_sequence < 12
    journal.close()


def test_vanished_chain(tmp_path: Path) -> None:
    """When only the note of what was acknowledged is left, it is not taken for a first start."""
    directory = tmp_path / "journal"
    fill(directory, 3)
    shutil.rmtree(segment_files(directory)[0].parent)
    journal = open_journal(directory)
    assert not journal.opening.created
    assert len(journal.opening.gaps) == 1
    assert journal.last_sequence == 0
    journal.close()


def test_gaps_are_reported_until_they_are_recorded(tmp_path: Path) -> None:
    """A gap is reported at every opening until it is an event; then no more."""
    directory = tmp_path / "journal"
    fill(directory, 4, close=False)
    with segment_files(directory)[-1].open("ab") as file:
        file.write(b"\x00\x00")
    for _ in range(2):
        journal = open_journal(directory)
        assert len(journal.opening.gaps) == 1
        abandon(journal)
    journal = open_journal(directory)
    journal.append(draft(1))
    journal.gaps_recorded()
    journal.close()
    journal = open_journal(directory)
    assert not journal.opening.gaps
    assert [event.sequence for _, event in drain(journal)] == [1, 2, 3, 4, 1]
    journal.close()


@pytest.mark.parametrize("added", [0, 1, 2, 5])
@pytest.mark.parametrize("at_hub", [4, 5])
def test_disk_that_lost_what_it_had_confirmed(tmp_path: Path, added: int, at_hub: int) -> None:
    """The hub has events 4 and 5, the disk has lost them: what happened since gets numbers the hub does not have."""
    directory = tmp_path / "journal"
    journal = open_journal(directory, limits=JournalLimits())
    for number in range(1, at_hub + 1):
        journal.append(draft(number))
    journal.sync()
    first_id, segment = journal.journal_id, journal._segment
    abandon(journal)
    os.truncate(segment.path, segment.offsets[3])
    journal = open_journal(directory)
    assert journal.last_sequence == 3
    for number in range(added):
        journal.append(draft(100 + number))
    journal.sync()
    # the uplink goes on from the hub's answer before the answer is handled here
    ahead = journal.read(first_id, at_hub + 1, max_events=9, max_bytes=60_000)
    assert bool(ahead) == (3 + added > at_hub)
    gap = journal.acknowledge(first_id, at_hub)
    assert gap is not None
    assert (gap.cause, gap.journal_id, gap.last_sequence) == (GapCause.HUB_AHEAD, first_id, 3)
    assert gap.lost_at_least == 0
    journal.append(draft(200))
    journal.gaps_recorded()
    assert journal.journal_id != first_id
    expected = [draft(100 + number) for number in range(added)] + [draft(200)]
    assert [event.draft for _, event in drain(journal)] == expected
    assert list((directory / "quarantine").iterdir())
    journal.close()
    journal = open_journal(directory)
    assert not journal.opening.gaps
    assert journal.last_sequence == added + 1
    journal.close()


def test_hub_that_claims_more_than_it_was_sent(tmp_path: Path) -> None:
    """Also later on: an acknowledgement of what was never appended ends the chain, and is reported."""
    journal = open_journal(tmp_path / "journal")
    for number in range(1, 4):
        journal.append(draft(number))
    journal.sync()
    read_outgoing(journal)
    assert journal.acknowledge(journal.journal_id, 2) is None
    gap = journal.acknowledge(journal.journal_id, 9)
    assert gap is not None
    assert gap.last_sequence == 3
    assert journal.last_sequence == 0
    journal.close()


def test_hub_ahead_of_a_disk_that_is_damaged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read, and what is more than is taken over, is counted; the rest gets numbers of its own."""
    monkeypatch.setattr(journal_module, "MAX_RENUMBERED", 4)
    journal = open_journal(tmp_path / "journal")
    for number in range(1, 9):
        journal.append(draft(number))
    journal.sync()
    damage(journal, 6)
    gap = journal.acknowledge(journal.journal_id, 99)
    assert gap is not None
    assert (gap.last_sequence, gap.lost_at_least) == (0, 5)
    journal.gaps_recorded()
    assert [event.draft for _, event in drain(journal)] == [draft(5), draft(7), draft(8)]
    journal.close()


def damage(journal: Journal, sequence: int) -> None:
    """One bit of this event's record turns while the journal is open."""
    for segment in (segment for chain in journal._chains for segment in chain.segments):
        if segment.first_sequence <= sequence <= segment.last_sequence:
            data = bytearray(segment.path.read_bytes())
            data[segment.offsets[sequence - segment.first_sequence] + segments.RECORD_OVERHEAD] ^= 1
            segment.path.write_bytes(data)


@pytest.mark.parametrize("damaged", range(1, 9))
@pytest.mark.parametrize("acknowledged", [0, 3])
@pytest.mark.parametrize("reopened", [False, True])
def test_damage_while_running(tmp_path: Path, damaged: int, acknowledged: int, *, reopened: bool) -> None:
    """Everything but the damaged event gets to the hub, and the gap names its place."""
    directory = tmp_path / "journal"
    journal = open_journal(directory)
    first_id = journal.journal_id
    for number in range(1, 9):
        journal.append(draft(number))
    journal.sync()
    read_outgoing(journal)
    journal.acknowledge(first_id, acknowledged)
    damage(journal, damaged)
    if damaged <= acknowledged:
        assert journal.end_at_damage(first_id, acknowledged + 1) is None
        assert [event.sequence for event in read_outgoing(journal)] == [4, 5, 6, 7, 8]
        journal.close()
        return
    with pytest.raises(StoreError):
        read_outgoing(journal)
    gap = next(filter(None, (journal.end_at_damage(first_id, at) for at in range(acknowledged + 1, 9))))
    assert (gap.cause, gap.journal_id, gap.last_sequence, gap.lost_at_least) == (
        GapCause.DAMAGED,
        first_id,
        damaged - 1,
        1,
    )
    assert journal.end_at_damage(first_id, damaged) is None
    journal.append(draft(20))
    journal.gaps_recorded()
    if reopened:
        journal.close()
        journal = open_journal(directory)
        assert not journal.opening.gaps
    expected = [draft(n) for n in (*range(acknowledged + 1, damaged), *range(damaged + 1, 9), 20)]
    assert [event.draft for _, event in drain(journal)] == expected
    assert list((directory / "quarantine").iterdir())
    journal.close()


def test_the_newest_trusted_time_is_found_over_restarts(tmp_path: Path) -> None:
    """Not that of a clock nobody vouched for, and not after too many of those."""
    directory = tmp_path / "journal"
    journal = open_journal(directory)
    assert journal.newest_trusted_time() is None
    for number in (5, 3):
        journal.append(draft(number))
    journal.close()
    journal = open_journal(directory)
    for _ in range(journal_module.LOOKED_BACK - 1):
        journal.append(replace(draft(0), clock_trusted=False))
    assert journal.newest_trusted_time() == draft(3).occurred_at
    journal.append(replace(draft(0), clock_trusted=False))
    assert journal.newest_trusted_time() is None
    journal.close()


# ---- kill and power


_WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from edge.journal import Journal, JournalLimits
from pacs.events import EventDraft, EventKind
from pacs.identifiers import ControllerId, DoorId
journal = Journal(Path(sys.argv[1]), controller_id=ControllerId("c1"), limits=JournalLimits(segment_bytes=400))
start = datetime(2026, 1, 5, 12, tzinfo=UTC)
while True:
    number = journal.last_sequence + 1
    event = journal.append(EventDraft(
        kind=EventKind.DOOR_OPENED, occurred_at=start + timedelta(seconds=number), clock_trusted=True,
        door_id=DoorId(f"door-{number}"),
    ))
    print(event.sequence, flush=True)
    if journal.last_sequence % 5 == 0:
        journal.sync()
"""


def test_killed_writer(tmp_path: Path) -> None:
    """After kill -9 at any moment every event whose append returned is there, without a gap."""
    directory = tmp_path / "journal"
    dice = random.Random(7)
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, directory], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(dice.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        told = [int(line) for line in (first + writer.stdout.read()).splitlines()]
        writer.wait()
        writer.stdout.close()
        journal = open_journal(directory)
        assert journal.opening.unclean
        assert not journal.opening.gaps
        assert journal.last_sequence >= told[-1]
        events = read_outgoing(journal)
        assert [event.draft for event in events] == [draft(event.sequence) for event in events]
        journal.acknowledge(journal.journal_id, told[-1] // 2)
        journal.close()


def run_until_cut(directory: Path, files: PowerCutFiles, work: Callable[[Journal], None]) -> None:
    """Open, work and close until the power goes."""
    with suppress(PowerCut):
        journal = open_journal(directory / "journal", files=files)
        try:
            work(journal)
        except PowerCut:
            abandon(journal)
            raise
        journal.close()


@pytest.mark.parametrize("survives", list(Survives), ids=lambda survives: survives.value)
def test_power_cut_at_every_operation(tmp_path: Path, survives: Survives) -> None:
    """Whenever the power goes: what was durable is there, and new events get numbers of their own."""

    def work(journal: Journal) -> None:
        for number in range(3, 13):
            journal.append(draft(number))
            if number % 3 == 0:
                journal.sync()
                outgoing = journal.outgoing
                durable.update({event.sequence: event for event in read_outgoing(journal)})
                acknowledged.append(outgoing.last_sequence - 2)
                journal.acknowledge(outgoing.journal_id, acknowledged[-1])

    original = tmp_path / "original"
    original.mkdir()
    fill(original / "journal", 2)
    journal = open_journal(original / "journal")
    journal.acknowledge(journal.journal_id, 1)
    journal.close()
    for cut_at in range(200):
        durable: dict[int, Event] = {}
        acknowledged = [1]
        live, after = tmp_path / f"live{cut_at}", tmp_path / f"after{cut_at}"
        shutil.copytree(original, live)
        files = PowerCutFiles(live, cut_at)
        run_until_cut(live, files, work)
        if files.operations < cut_at:
            break
        files.image(after, survives)
        journal = open_journal(after / "journal")
        if survives in (Survives.NOTHING, Survives.EVERYTHING):
            assert not journal.opening.gaps
        first_id = journal.outgoing.journal_id
        added = journal.append(draft(99))
        journal.sync()
        received = drain(journal)
        old = {event.sequence: event for journal_id, event in received if journal_id == first_id}
        for sequence, event in durable.items():
            assert sequence <= acknowledged[-1] or old[sequence] == event
        assert received[-1] == (journal.journal_id, added)
        journal.close()
    else:
        pytest.fail("the work never came to its end")


@pytest.mark.parametrize("survives", list(Survives), ids=lambda survives: survives.value)
def test_power_cut_while_recovering(tmp_path: Path, survives: Survives) -> None:
    """Whenever the power goes while damage is being set aside, the damage is reported at the next start."""
    original = tmp_path / "original"
    original.mkdir()
    events = fill(original / "journal", 12)
    damaged = segment_files(original / "journal")[1]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    for cut_at in range(200):
        live, after = tmp_path / f"live{cut_at}", tmp_path / f"after{cut_at}"
        shutil.copytree(original, live)
        files = PowerCutFiles(live, cut_at)
        run_until_cut(live, files, lambda journal: None)
        if files.operations < cut_at:
            break
        files.image(after, survives)
        journal = open_journal(after / "journal")
        (gap,) = journal.opening.gaps
        journal.append(draft(99))
        journal.gaps_recorded()
        received = [event for _, event in drain(journal)]
        assert received[:-1] == events[: gap.last_sequence]
        assert received[-1].sequence == 1
        journal.close()
    else:
        pytest.fail("recovery never came to its end")


# ---- the disk fails


class FailingFiles(StateFiles):
    """``failure``: the error of every writing operation while it is set; ``room``: bytes until the disk is full."""

    def __init__(self) -> None:
        self.failure: int | None = None
        self.sync_failure: int | None = None
        self.room: int | None = None

    def open(self, path: Path, *, create: bool = False) -> int:
        if create or self.failure == errno.EROFS:
            self._fail(path)
        return super().open(path, create=create)

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        self._fail()
        if self.room is not None:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        if self.sync_failure:
            raise OSError(self.sync_failure, os.strerror(self.sync_failure))
        super().sync(fd)

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            self._fail(path)
        super().make_directory(path)

    def _fail(self, path: Path | None = None) -> None:
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure), path and str(path))


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[Journal, FailingFiles]]:
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    yield journal, files
    journal.close()


def test_full_disk(failing: tuple[Journal, FailingFiles]) -> None:
    """At every number of bytes left, what does not fit is refused as a whole; with room again the journal goes on."""
    journal, files = failing
    appended = 0
    for room in range(160):
        files.room, before = room, appended
        with pytest.raises(StoreError, match=os.strerror(errno.ENOSPC)):
            append_until_it_fails(journal)
        appended = journal.last_sequence
        assert appended <= before + 1
        files.room = None
        assert journal.append(draft(appended + 1)).sequence == appended + 1
        appended += 1
    journal.sync()
    events = read_outgoing(journal)
    assert [event.draft for event in events] == [draft(number) for number in range(1, appended + 1)]
    files.room = 20
    with pytest.raises(StoreError):
        journal.append(draft(0))
    files.room = None
    path = journal._directory
    journal.close()
    reopened = open_journal(path)
    assert not reopened.opening.gaps
    assert reopened.last_sequence == appended
    # the fixture closes what it has opened
    journal.__dict__.update(reopened.__dict__)


def test_read_only_disk(tmp_path: Path, failing: tuple[Journal, FailingFiles]) -> None:
    """A disk that became read-only: appending is refused and what is there can be read; opening is refused."""
    journal, files = failing
    event = journal.append(draft(1))
    journal.sync()
    files.failure = errno.EROFS
    with pytest.raises(StoreError, match="check the disk"):
        journal.append(draft(2))
    assert read_outgoing(journal) == [event]
    with pytest.raises(StoreError, match="check the disk"):
        open_journal(tmp_path / "other", files=files)
    files.failure = None


def test_disk_that_cannot_make_durable(failing: tuple[Journal, FailingFiles]) -> None:
    """When making durable fails it is said, and the events can be read: the hub is their last hope."""
    journal, files = failing
    event = journal.append(draft(1))
    files.sync_failure = errno.EIO
    with pytest.raises(StoreError, match="check the disk"):
        journal.sync()
    files.sync_failure = None
    assert read_outgoing(journal) == [event]


def test_full_journal(tmp_path: Path) -> None:
    """At its bound the journal refuses, says what to do, and takes events again after an acknowledgement."""
    journal = open_journal(tmp_path / "journal", limits=JournalLimits(max_bytes=3_000, segment_bytes=400))
    with pytest.raises(StoreError, match="hub"):
        append_until_it_fails(journal)
    held = journal.last_sequence
    assert sum(path.stat().st_size for path in (tmp_path / "journal").rglob("*") if path.is_file()) <= 3_000
    journal.sync()
    assert len(read_outgoing(journal)) == held
    journal.acknowledge(journal.journal_id, held)
    assert journal.append(draft(held + 1)).sequence == held + 1
    journal.close()


def test_event_that_is_too_long(tmp_path: Path) -> None:
    """An event over the format's bound is refused and takes no number."""
    journal = open_journal(tmp_path / "journal")
    long = EventDraft(
        kind=EventKind.INTERNAL_FAULT, occurred_at=START, clock_trusted=True, details={"error": "x" * 2_000}
    )
    with pytest.raises(MalformedData):
        journal.append(long)
    assert journal.append(draft(1)).sequence == 1
    journal.close()


# ---- the file format


@given(st.binary(min_size=16, max_size=16), st.integers(1, 2**53), st.binary(min_size=32, max_size=32))
def test_header_round_trip(journal_id: bytes, sequence: int, previous_hash: bytes) -> None:
    """A header reads back as what was written."""
    header = SegmentHeader(
        journal_id=JournalId(journal_id.hex()), first_sequence=sequence, previous_hash=previous_hash
    )
    assert SegmentHeader.from_bytes(bytes(header)) == header


@given(st.binary(max_size=200), st.booleans())
def test_header_of_anything(data: bytes, begins_right: bool) -> None:
    """Bytes that are no header are refused by their own error only."""
    with suppress(MalformedData):
        SegmentHeader.from_bytes(segments.MAGIC + data if begins_right else data)


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.binary(max_size=60), st.integers(1, 2**40)
)
def test_scan(events: list[bytes], rest: bytes, first: int) -> None:
    """Every whole record is found, whatever follows, and is read back only at its own place."""
    records = [segments.record(first + place, event) for place, event in enumerate(events)]
    scan = segments.scan(bytes(segments.HEADER_BYTES) + b"".join(records) + rest, first)
    assert list(scan.offsets)[-1] == segments.HEADER_BYTES + sum(map(len, records))
    assert scan.unreadable_bytes == len(rest)
    assert not scan.damaged
    for place, (event, record) in enumerate(zip(events, records, strict=True)):
        assert segments.event_of(first + place, record) == event
        with pytest.raises(MalformedData):
            segments.event_of(first + place + 1, record)
