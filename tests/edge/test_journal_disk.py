"""A disk that fails: what is refused is refused as a whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import segments
from edge.journal import Journal, JournalLimits
from edge.journal_damage import TRIES
from pacs.errors import MalformedData, StoreError
from pacs.events import Event, EventDraft, EventKind
from tests.edge.failing_disk import FailingFiles
from tests.edge.journal_on_disk import (
    START,
    abandon,
    append_until_it_fails,
    draft,
    drain,
    fill,
    open_journal,
    read_outgoing,
    segment_files,
)


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[tuple[Journal, FailingFiles]]:
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    yield journal, files
    journal.close()


def test_full_disk(tmp_path: Path) -> None:
    """At every number of bytes left, what does not fit is refused as a whole; with room again the journal goes on."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
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
    reopened.close()


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


def test_disk_that_cannot_make_durable(tmp_path: Path) -> None:
    """The events can be read, the hub being their last hope; nothing counts as durable until it was written once more."""

    class Written(FailingFiles):
        written = b""

        def write_at(self, fd: int, data: bytes, offset: int) -> int:
            self.written = (self.written if offset else b"") + data
            return super().write_at(fd, data, offset)

    files = Written()
    journal = open_journal(tmp_path / "journal", files=files)
    events = [journal.append(draft(1))]
    files.sync_failure = errno.EIO
    for _ in range(2):
        with pytest.raises(StoreError, match="check the disk"):
            journal.sync()
        assert (journal.undurable, journal.waiting) == (1, 1)
    assert read_outgoing(journal) == events
    with pytest.raises(StoreError):
        journal.gaps_recorded()
    files.sync_failure, files.written = None, b""
    journal.sync()
    assert journal.undurable == 0
    assert files.written == segment_files(tmp_path / "journal")[0].read_bytes()
    assert bytes(events[0]) in files.written
    journal.close()


def test_an_end_that_is_not_durable_is_no_proper_one(tmp_path: Path) -> None:
    """A journal whose last events could not be made durable says at its next opening that it was not closed."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    journal.append(draft(1))
    files.sync_failure = errno.EIO
    with pytest.raises(StoreError):
        journal.sync()
    with pytest.raises(StoreError):
        journal.close()
    journal = open_journal(tmp_path / "journal")
    assert journal.opening.unclean
    journal.close()


def test_unreadable_sectors_at_the_start(tmp_path: Path) -> None:
    """Whichever file cannot be read: the journal opens, and what is elsewhere arrives; a lost event is a gap."""
    original = tmp_path / "original"
    events = fill(original, 12)
    for file in [path for path in original.rglob("*") if path.is_file() and path.name != "lock"]:
        directory = tmp_path / "copy"
        shutil.copytree(original, directory)
        files = FailingFiles()
        files.unreadable[file.name] = (0, 1 << 20)
        journal = open_journal(directory, files=files)
        received = [event for _, event in drain(journal)]
        lost = [event.sequence for event in events if event not in received]
        assert bool(lost) == (file.suffix == ".segment" and file.stat().st_size > segments.HEADER_BYTES)
        assert sum(gap.lost_at_least for gap in journal.opening.gaps if not gap.is_end) in (0, len(lost))
        assert bool(journal.opening.gaps) == bool(lost)
        journal.append(draft(99))
        journal.close()
        shutil.rmtree(directory)


def test_one_unreadable_sector_costs_the_events_in_it(tmp_path: Path) -> None:
    """A sector in the midst of a long segment: everything before and behind arrives."""
    journal = open_journal(tmp_path / "journal", limits=JournalLimits())
    events = [journal.append(draft(number)) for number in range(400)]
    journal.close()
    files = FailingFiles()
    files.unreadable[segment_files(tmp_path / "journal")[0].name] = (8_192, 12_287)
    journal = open_journal(tmp_path / "journal", limits=JournalLimits(), files=files)
    (gap,) = journal.opening.gaps
    files.unreadable.clear()
    received = [event for _, event in drain(journal)]
    lost = [event.sequence for event in events if event not in received]
    assert lost == list(range(gap.last_sequence + 1, gap.last_sequence + 1 + gap.lost_at_least))
    assert 40 < len(lost) < 60
    journal.close()


def test_sectors_that_become_unreadable(tmp_path: Path) -> None:
    """After some tries the events in them are given up, and those behind them arrive; a passing fault costs nothing."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    for number in range(1, 13):
        journal.append(draft(number))
    journal.sync()
    second = journal._chains[0].segments[1]
    files.unreadable[second.path.name] = (0, 1 << 20)
    for _ in range(TRIES - 1):
        with pytest.raises(StoreError):
            journal.read(journal.journal_id, second.first_sequence, max_events=3, max_bytes=9_999)
        assert not journal.skip_damage(journal.journal_id, second.first_sequence)
    with pytest.raises(StoreError):
        journal.read(journal.journal_id, second.first_sequence, max_events=3, max_bytes=9_999)
    files.read_files.clear()
    (gap,) = journal.skip_damage(journal.journal_id, second.first_sequence)
    assert second.path.name not in files.read_files
    assert (gap.last_sequence + 1, gap.last_sequence + gap.lost_at_least) == (
        second.first_sequence,
        second.last_sequence,
    )
    gone = range(second.first_sequence, second.last_sequence + 1)
    assert [event.sequence for _, event in drain(journal)] == [n for n in range(1, 13) if n not in gone]
    journal.close()


def test_a_file_that_vanishes_is_a_gap(tmp_path: Path) -> None:
    """A segment that is gone while its events are needed keeps nothing back."""
    journal = open_journal(tmp_path / "journal")
    for number in range(1, 13):
        journal.append(draft(number))
    journal.sync()
    second = journal._chains[0].segments[1]
    second.path.unlink()
    with pytest.raises(StoreError):
        read_outgoing(journal)
    (gap,) = journal.skip_damage(journal.journal_id, second.first_sequence)
    assert gap.last_sequence == second.first_sequence - 1
    assert len(drain(journal)) == 12 - gap.lost_at_least
    journal.acknowledge(journal.journal_id, 12)
    journal.sync()
    journal.close()


def test_a_file_that_cannot_be_removed_is_tried_again_and_counted(tmp_path: Path) -> None:
    """Its bytes count for the bound until it is gone."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    for number in range(1, 60):
        journal.append(draft(number))
    journal.sync()
    first, second = segment_files(tmp_path / "journal")[:2]
    files.stuck = {first.name}
    read_outgoing(journal)
    journal.acknowledge(journal.journal_id, 59)
    for _ in range(2):
        with pytest.raises(StoreError):
            journal.sync()
        assert first.exists()
    left = sum(path.stat().st_size for path in segment_files(tmp_path / "journal"))
    assert journal._size >= left
    files.stuck.clear()
    journal.sync()
    assert not first.exists()
    assert not second.exists()
    assert journal._size < left
    journal.close()


def test_no_event_waits_for_a_file_to_be_made(tmp_path: Path) -> None:
    """Where each event is made durable before the next one, the next file is there before an event needs it."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    for number in range(1, 40):
        made = len(files.made)
        journal.append(draft(number))
        assert len(files.made) == made
        journal.sync()
    assert len(segment_files(tmp_path / "journal")) > 5
    assert [event.sequence for event in read_outgoing(journal)] == list(range(1, 40))
    journal.close()


def test_a_file_made_for_an_event_that_went_elsewhere(tmp_path: Path) -> None:
    """An event that comes while its file is being made does not wait: the file is let go of, also after a kill."""
    for is_killed in (False, True):
        directory = tmp_path / str(is_killed)

        class Files(FailingFiles):
            journal: Journal | None = None

            def sync_directory(self, path: Path) -> None:
                journal, self.journal = self.journal, None
                if journal:
                    journal.append(draft(99))

            def remove(self, path: Path) -> None:
                if not (is_killed and path.suffix == ".segment"):  # noqa: B023 - used in this turn only
                    super().remove(path)

        files = Files()
        journal = open_journal(directory, files=files)
        while journal._chains[-1].segments[-1].size < 300:
            journal.append(draft(journal.last_sequence + 1))
        files.journal = journal
        journal.sync()
        assert len(segment_files(directory)) == 1 + is_killed
        appended = journal.last_sequence
        abandon(journal) if is_killed else journal.close()
        journal = open_journal(directory)
        assert not journal.opening.gaps
        assert journal.last_sequence == appended
        assert journal.append(draft(1)).sequence == appended + 1
        journal.close()


def test_what_was_dropped_is_said_even_when_the_disk_was_full_just_then(tmp_path: Path) -> None:
    """Until an event says so nothing more is dropped, the files stay, and the same range is given again."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", files=files)
    for number in range(1, 30):
        journal.append(draft(number))
    journal.sync()
    before = segment_files(tmp_path / "journal")
    dropped = journal.drop_oldest()
    files.failure = errno.ENOSPC
    with pytest.raises(StoreError):
        journal.append(draft(30), says=dropped)
    files.failure = None
    journal.append(draft(30))  # says something else
    journal.sync()
    assert segment_files(tmp_path / "journal")[: len(before)] == before
    assert journal.drop_oldest() == dropped == journal.dropped
    journal.append(draft(31), says=dropped)
    assert journal.dropped is None
    journal.sync()
    assert before[0] not in segment_files(tmp_path / "journal")
    journal.close()


def test_hub_ahead_on_a_disk_that_fails(tmp_path: Path) -> None:
    """Wherever it fails: nothing is taken over, or all of it; the next acknowledgement brings the rest."""
    for fails_from in range(40):
        files = FailingFiles()
        journal = open_journal(tmp_path / str(fails_from), files=files)
        for number in range(1, 21):
            journal.append(draft(number))
        journal.sync()
        first_id = journal.journal_id
        for sequence in range(1, 11):
            journal.read(first_id, sequence, max_events=1, max_bytes=9_999)
        files._later, files._fails_from, files.operations = errno.ENOSPC, fails_from, 0
        try:
            gap, failed = journal.acknowledge(first_id, 25), False
        except StoreError:
            failed = True
            files._fails_from, files.failure = None, None
            gap = journal.acknowledge(first_id, 25)
        files._fails_from, files.failure = None, None
        journal.sync()
        assert journal.journal_id != first_id
        assert [event.draft for _, event in drain(journal)] == [draft(number) for number in range(11, 21)]
        assert gap is not None
        assert gap.lost_at_least == 0
        journal.close()
        if not failed:
            assert fails_from > 3
            return
    pytest.fail("the work never came to its end")


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


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_disk_that_fails_from_any_operation_on(tmp_path: Path, error: int) -> None:
    """Wherever it begins, at the start or later: a named error, nothing appended is lost, and it goes on afterwards."""
    limits = JournalLimits(max_bytes=4_000, segment_bytes=400)
    for fails_from in range(1_000):
        directory = tmp_path / str(fails_from)
        fill(directory, 12)
        data = segment_files(directory)[1].read_bytes()
        segment_files(directory)[1].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        files = FailingFiles(failure=error, fails_from=fails_from)
        appended: list[Event] = []
        failures = released = 0
        try:
            journal = open_journal(directory, limits=limits, files=files)
            for number in range(13, 30):
                try:
                    appended.append(journal.append(draft(number)))
                    journal.sync()
                    outgoing = journal.outgoing
                    if number == 20:
                        dropped = journal.drop_oldest()
                        appended.append(journal.append(draft(100), says=dropped))
                    head = max(outgoing.acknowledged, outgoing.first_sequence - 1)
                    while raw := journal.read(outgoing.journal_id, head + 1, max_events=99, max_bytes=9_999):
                        head += len(raw)
                    released = max(released, outgoing.first_sequence - 1, outgoing.acknowledged + 1)
                    journal.acknowledge(outgoing.journal_id, outgoing.acknowledged + 1)
                except StoreError:
                    failures += 1
            released = max(released, journal.outgoing.first_sequence - 1)
            journal.close()
        except StoreError:
            failures += 1
        if not failures:
            assert fails_from > 20
            return
        journal = open_journal(directory, limits=limits)
        assert sum(gap.lost_at_least for gap in journal.opening.gaps) <= 1
        received = [event for _, event in drain(journal)]
        assert [event for event in appended if event.sequence > released and event not in received] == []
        journal.append(draft(99))
        journal.close()
        shutil.rmtree(directory)
    pytest.fail("the work never came to its end")
