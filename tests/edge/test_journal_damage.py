"""Damage to the journal: it costs the events it is in, and is never silent."""

from __future__ import annotations

import errno
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from edge import journal as journal_module
from edge import segments
from edge.journal import Journal, JournalLimits
from edge.journal_notes import GapCause, read_gaps
from edge.journal_opening import open_journal as open_anywhere
from edge.journal_policy import JournalPolicy
from edge.segments import SegmentHeader
from edge.state_files import StateFiles, checked_line, text_of
from pacs.errors import StoreError
from tests.edge.failing_disk import FailingFiles
from tests.edge.journal_on_disk import (
    C1,
    SMALL,
    QuickFiles,
    abandon,
    damage,
    draft,
    drain,
    fill,
    open_journal,
    read_outgoing,
    segment_files,
)


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Cut off anywhere, the whole events before the cut still reach the hub, and a torn one is reported."""
    original = tmp_path / "original"
    events = fill(original, 8, close=False)
    last = segment_files(original)[-1]
    data = last.read_bytes()
    first = SegmentHeader.from_bytes(data).first_sequence
    ends = list(segments.scan(data, first).runs[0].offsets)
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


def is_kept(directory: Path, damaged: bytes | bytearray) -> bool:
    """Whether a technician can still find these bytes."""
    return any(damaged in path.read_bytes() for path in directory.rglob("*") if path.is_file())


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
def test_flipped_bit_in_every_byte(tmp_path: Path, close: bool) -> None:
    """No flipped bit passes unseen: an event arrives unchanged or its absence is reported, and the bytes are kept."""
    original = tmp_path / "original"
    events = fill(original, 6, close=close)
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
            journal.sync()
            assert last == added
            missing = [event for event in events if event not in (event for _, event in old)]
            in_record = file.suffix == ".segment" and position >= segments.HEADER_BYTES
            if in_record:
                assert len(missing) == 1
                (gap,) = gaps
                assert gap.last_sequence == missing[0].sequence - 1
                assert gap.is_end == (missing == events[-1:])
                assert gap.lost_at_least == 1 or (gap.is_end and not close)
                assert gap.cause is GapCause.DAMAGED or (gap.is_end and not close)
                ends = segments.scan(file.read_bytes(), int(file.stem)).runs[0].offsets
                end = next(end for end in ends if end > position)
                assert is_kept(copy, data[position:end])
                assert added.sequence == (1 if gap.is_end else 7)
            else:
                assert not missing
                assert not gaps
                assert added.sequence == 7
                assert journal.opening.unclean == (file.name == "closed" or not close)
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
    """A segment that vanished costs its own events, and the gap says which; also the last one of a closed journal."""
    directory = tmp_path / "journal"
    events = fill(directory, 12)
    file = segment_files(directory)[missing]
    scan = segments.scan(file.read_bytes(), first := int(file.stem))
    gone = range(first, first + len(scan.runs[0].offsets) - 1)
    file.unlink()
    journal = open_journal(directory)
    (gap,) = journal.opening.gaps
    assert (gap.cause, gap.is_end) == (GapCause.DAMAGED, missing == -1)
    assert (gap.last_sequence, gap.lost_at_least) == (gone[0] - 1, len(gone))
    assert [event for _, event in drain(journal)] == [event for event in events if event.sequence not in gone]
    journal.close()


@pytest.mark.parametrize("size", [1, 4, 130, 700])
@pytest.mark.parametrize("filler", [b"\0", b"\xff", None], ids=["zeroes", "ones", "noise"])
def test_destroyed_stretch(tmp_path: Path, size: int, filler: bytes | None) -> None:
    """Wherever a stretch is overwritten: every event outside it arrives, each at its own place, and the rest is counted."""
    original = tmp_path / "original"
    journal = open_journal(original, limits=JournalLimits())
    events = [journal.append(draft(number)) for number in range(1, 16)]
    journal.close()
    (file,) = segment_files(original)
    offsets = segments.scan(file.read_bytes(), 1).runs[0].offsets
    noise = random.Random(5)
    for begin in range(segments.HEADER_BYTES, offsets[-1] - size, 37):
        copy = tmp_path / "copy"
        shutil.copytree(original, copy)
        data = bytearray(file.read_bytes())
        stretch = filler * size if filler else noise.randbytes(size)
        changed = data[begin : begin + size] != stretch
        data[begin : begin + size] = stretch
        (copy / file.relative_to(original)).write_bytes(data)
        hit = [
            event
            for event, at, end in zip(events, offsets, offsets[1:], strict=False)
            if at < begin + size and end > begin
        ]
        journal = open_journal(copy)
        gaps = journal.opening.gaps
        received = [event for _, event in drain(journal)]
        lost = [event for event in events if event not in received]
        assert all(event in hit for event in lost)
        assert bool(lost) == changed or (size <= 4 and not lost)
        assert sum(gap.lost_at_least for gap in gaps) == len(lost)
        journal.append(draft(99))
        abandon(journal)
        journal = open_journal(copy)
        assert journal.opening.gaps == gaps
        journal.gaps_recorded()
        journal.close()
        journal = open_journal(copy)
        assert not journal.opening.gaps
        assert [event.draft for _, event in drain(journal)] == [draft(99)]
        journal.close()
        shutil.rmtree(copy)


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
    first_id, segment = journal.journal_id, journal._chains[-1].segments[-1]
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
        assert not journal.skip_damage(first_id, acknowledged + 1)
        assert [event.sequence for event in read_outgoing(journal)] == [4, 5, 6, 7, 8]
        journal.close()
        return
    with pytest.raises(StoreError):
        read_outgoing(journal)
    (gap,) = journal.skip_damage(first_id, damaged)
    assert (gap.cause, gap.journal_id, gap.last_sequence, gap.lost_at_least) == (
        GapCause.DAMAGED,
        first_id,
        damaged - 1,
        1,
    )
    assert not journal.skip_damage(first_id, damaged)
    journal.append(draft(20))
    journal.gaps_recorded()
    if reopened:
        journal.close()
        journal = open_journal(directory)
        assert not journal.opening.gaps
    expected = [draft(n) for n in (*range(acknowledged + 1, damaged), *range(damaged + 1, 9), 20)]
    assert [event.draft for _, event in drain(journal)] == expected
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


def test_opening_reads_one_segment(tmp_path: Path) -> None:
    """Of all but the last only the header is read; damage in them is found before any of their events is given away."""
    directory = tmp_path / "journal"
    events = fill(directory, 30)
    paths = segment_files(directory)
    data = bytearray(paths[1].read_bytes())
    data[-1] ^= 1
    paths[1].write_bytes(data)

    class Files(QuickFiles):
        whole: ClassVar[list[Path]] = []

        def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
            if path.suffix == ".segment" and size < 0:
                self.whole.append(path)
            return super().read(path, offset, size)

    files = Files()
    journal = Journal(directory, controller_id=C1, limits=SMALL, files=files)
    assert set(files.whole) <= set(paths[-2:])
    assert not journal.opening.gaps
    first = int(paths[1].stem)
    with pytest.raises(StoreError):
        journal.read(journal.journal_id, first, max_events=1, max_bytes=9_999)
    (gap,) = journal.skip_damage(journal.journal_id, first)
    assert gap.lost_at_least == 1
    received = [event for _, event in drain(journal)]
    assert [event for event in events if event not in received] == [events[gap.last_sequence]]
    journal.close()


def test_segment_of_another_past(tmp_path: Path) -> None:
    """Records that pass their check but do not lead to the segment behind are not given to anybody."""
    directory = tmp_path / "journal"
    events = fill(directory, 12)
    first = segment_files(directory)[0]
    header = first.read_bytes()[: segments.HEADER_BYTES]
    count = int(segment_files(directory)[1].stem) - 1
    others = [
        segments.record(n, bytes(replace(events[n - 1], draft=draft(70 + n)))) for n in range(1, count + 1)
    ]
    first.write_bytes(header + b"".join(others))
    journal = open_journal(directory)
    (gap,) = journal.opening.gaps
    assert (gap.last_sequence, gap.lost_at_least) == (0, count)
    assert [event for _, event in drain(journal)] == events[count:]
    journal.close()


def test_flipped_bit_in_the_list_of_gaps(tmp_path: Path) -> None:
    """Whatever became of it, the journal opens and says that something is missing."""
    original = tmp_path / "original"
    fill(original, 4, close=False)
    with segment_files(original)[-1].open("ab") as file:
        file.write(b"\x00\x00")
    abandon(open_journal(original))
    gaps = (original / "gaps").read_bytes()
    for content in (
        *(gaps[:at] + bytes([gaps[at] ^ 1]) + gaps[at + 1 :] for at in range(len(gaps))),
        checked_line('[{"journal_id": 1}]'),
        checked_line('{"a": 1}'),
        checked_line("7"),
        checked_line(text_of(gaps).replace('"lost_at_least": 0', '"lost_at_least": "0"')),
        b"",
    ):
        (original / "gaps").write_bytes(content)
        assert [gap.explanation for gap in read_gaps(original, QuickFiles())] == [
            "the list of gaps is damaged"
        ]
    journal = open_journal(original)
    assert journal.opening.gaps
    journal.close()


def opened(directory: Path, memory: Path, files: StateFiles | None = None) -> Journal:
    return open_anywhere(
        directory,
        controller_id=C1,
        policy=JournalPolicy(),
        files=files or QuickFiles(),
        environment={"RUNTIME_DIRECTORY": str(memory)},
    )


def test_events_kept_in_memory_are_on_the_disk_after_the_next_start(tmp_path: Path) -> None:
    """When the disk works again they are moved there, and no end in between hides them."""
    directory, memory = tmp_path / "journal", tmp_path / "memory"
    memory.mkdir()
    journal = opened(directory, memory)
    journal.append(draft(1))
    journal.close()
    journal = opened(directory, memory, FailingFiles(failure=errno.ENOSPC))
    assert not journal.is_lasting
    meanwhile = journal.journal_id
    for number in range(2, 12):
        journal.append(draft(number))
    journal.close()
    journal = opened(directory, memory)
    assert journal.is_lasting
    assert journal.journal_id == meanwhile
    assert not list(memory.iterdir())
    journal.append(draft(12))
    journal.sync()
    assert [event.draft for _, event in drain(journal)] == [draft(number) for number in range(1, 13)]
    journal.close()


def test_memory_that_was_cleared_leaves_an_unclean_end(tmp_path: Path) -> None:
    """A disk that took no events but still could be changed says at the next start that something is missing."""
    directory, memory = tmp_path / "journal", tmp_path / "memory"
    memory.mkdir()
    opened(directory, memory).close()
    opened(directory, memory, FailingFiles(failure=errno.ENOSPC)).close()
    shutil.rmtree(next(memory.iterdir()))
    journal = opened(directory, memory)
    assert journal.opening.unclean
    journal.close()
