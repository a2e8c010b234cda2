"""A disk that fails: what is refused is refused as a whole."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.journal import Journal, JournalLimits
from pacs.errors import MalformedData, StoreError
from pacs.events import Event, EventDraft, EventKind
from tests.edge.failing_disk import FailingFiles
from tests.edge.journal_on_disk import (
    START,
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
