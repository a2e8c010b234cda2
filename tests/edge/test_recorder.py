"""What the recorder does when an event cannot be kept as it should: by the site's choice, and never silently."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge import recorder as recorder_module
from edge.inputs import Now
from edge.journal import Journal, JournalLimits
from edge.journal_notes import GapCause, JournalGap
from edge.journal_opening import open_journal as open_anywhere
from edge.journal_policy import JournalPolicy, WhenFull, WhenUnwritable
from edge.recorder import CATCH_UP_EVENTS, DURABLE_WITHIN_S, IN_MEMORY, Recorder
from pacs.decision import ClockReading
from pacs.errors import StoreError
from pacs.events import EventDraft, EventKind
from pacs.rules import Side
from tests.edge.failing_disk import FailingFiles
from tests.edge.journal_on_disk import C1, START, draft, drain, open_journal

NOW = Now(clock=ClockReading(at=START, trusted=True), monotonic_s=0.0)
LIMITS = JournalLimits(max_bytes=8_000, segment_bytes=1_000)


def entry(number: int) -> EventDraft:
    return replace(draft(number), kind=EventKind.ACCESS_GRANTED, side=Side.ENTRY)


def way_out(number: int) -> EventDraft:
    return replace(draft(number), kind=EventKind.ACCESS_GRANTED, side=Side.EXIT)


@dataclass
class Door:
    """A journal, its disk and its recorder."""

    journal: Journal
    files: FailingFiles
    recorder: Recorder
    directory: Path

    def pass_by(self, number: int, of: Callable[[int], EventDraft] = entry) -> bool:
        """Whether the strike is released."""
        return self.recorder.record(of(number), NOW, opens=of is entry) is not None

    def recorded_bytes(self) -> int:
        """What is on the disk."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    def fetched(self) -> list[EventDraft]:
        """What the hub gets."""
        self.journal.sync()
        return [event.draft for _, event in drain(self.journal)]


@pytest.fixture
def make(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Door]]:
    doors: list[Door] = []
    caplog.set_level(logging.CRITICAL)

    def build(**policy: Any) -> Door:
        files = FailingFiles()
        journal = open_journal(tmp_path / "journal", limits=LIMITS, files=files)
        doors.append(
            Door(
                journal, files, Recorder(journal, lambda: None, JournalPolicy(**policy)), tmp_path / "journal"
            )
        )
        return doors[-1]

    yield build
    for door in doors:
        door.journal.close()


def is_said(drafts: list[EventDraft], kind: EventKind) -> list[dict[str, object]]:
    return [dict(draft.details) for draft in drafts if draft.kind is kind]


# ---- full


def test_full_and_oldest_dropped(make: Callable[..., Door]) -> None:
    """Everybody gets in; every event that is gone is in a range that was said, and everything else arrives."""
    door = make(when_full=WhenFull.DROP_OLDEST)
    first_id = door.journal.journal_id
    assert all(door.pass_by(number) for number in range(200))
    first_held = door.journal.held.first_sequence
    fetched = door.fetched()
    said = is_said(fetched, EventKind.JOURNAL_FULL)
    numbers = [draft.door_id for draft in fetched if draft.kind is EventKind.ACCESS_GRANTED]
    assert numbers == [entry(number).door_id for number in range(200 - len(numbers), 200)]
    assert len(numbers) > 30
    assert all(each["outcome"] == "drop_oldest" and each["journal"] == str(first_id) for each in said)
    assert (said[-1]["first_sequence"], said[-1]["last_sequence"]) == (1, first_held - 1)
    assert 0 < door.recorded_bytes() <= LIMITS.max_bytes + LIMITS.segment_bytes


def test_full_and_entry_refused(make: Callable[..., Door]) -> None:
    """Nothing is dropped; nobody gets in, everybody gets out, and beginning and end are said once each."""
    door = make(when_full=WhenFull.REFUSE_ENTRY)
    number = 0
    while door.pass_by(number):
        number += 1
    assert not door.pass_by(number)
    assert door.pass_by(number, way_out)
    held = door.journal.held
    assert door.recorder.record(draft(number + 1), NOW) == held.last_sequence + 1
    fetched = door.fetched()  # the hub has everything: there is room
    assert door.pass_by(number + 2)
    fetched += door.fetched()
    (full,) = is_said(fetched, EventKind.JOURNAL_FULL)
    assert (full["outcome"], full["first_sequence"], full["last_sequence"]) == ("refuse_entry", 1, number)
    assert is_said(fetched, EventKind.JOURNAL_RESTORED) == [{"cause": "journal_full", "waited": 0}]
    said = (EventKind.JOURNAL_FULL, EventKind.JOURNAL_RESTORED)
    assert [draft for draft in fetched if draft.kind not in said] == [
        *map(entry, range(number)),
        way_out(number),
        draft(number + 1),
        entry(number + 2),
    ]


def test_full_to_the_brim_exits_stay_open(make: Callable[..., Door], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reserve used up as well, exits open and what memory cannot hold is counted."""
    monkeypatch.setattr(recorder_module, "WAITING_EVENTS", 10)
    door = make(when_full=WhenFull.REFUSE_ENTRY)
    for number in range(200):
        door.recorder.record(way_out(number), NOW)
    assert door.recorder.is_behind
    held = len(door.fetched())
    assert door.recorder.catch_up(NOW)
    late = door.fetched()
    assert is_said(late, EventKind.JOURNAL_GAP) == [
        {"cause": "journal_failed", "lost_at_least": 200 - held - 10}
    ]
    assert is_said(late, EventKind.JOURNAL_RESTORED) == [{"cause": "journal_failed", "waited": 10}]


# ---- unwritable


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_unwritable_and_denied(make: Callable[..., Door], error: int) -> None:
    """No entry without its event; what else happened is written when the disk is back, and that is said."""
    door = make(when_unwritable=WhenUnwritable.DENY)
    assert door.pass_by(1)
    door.files.failure = error
    assert not door.pass_by(2)
    door.recorder.record(draft(3), NOW)
    assert not door.recorder.catch_up(NOW)
    door.files.failure = None
    assert door.pass_by(4)
    fetched = door.fetched()
    assert fetched.pop(2).details == {"cause": "journal_failed", "waited": 1}
    assert fetched == [entry(1), draft(3), entry(4)]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_unwritable_and_continued(
    make: Callable[..., Door], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Entries go on while there is room in memory, no longer; all of them are written later, in order."""
    monkeypatch.setattr(recorder_module, "WAITING_EVENTS", 5)
    door = make(when_unwritable=WhenUnwritable.CONTINUE_IN_MEMORY)
    door.files.failure = error
    assert door.recorder.record(entry(0), NOW, opens=True) == IN_MEMORY
    assert [door.pass_by(number) for number in range(1, 8)] == [True] * 4 + [False] * 3
    door.files.failure = None
    assert door.recorder.catch_up(NOW)
    *fetched, restored = door.fetched()
    assert fetched == list(map(entry, range(5)))
    assert restored.details == {"cause": "journal_failed", "waited": 5}


def test_what_is_lost_at_the_end_makes_the_next_start_unclean(
    make: Callable[..., Door], tmp_path: Path
) -> None:
    """A process that ends with events in memory is not taken for one that ended properly."""
    door = make(when_full=WhenFull.REFUSE_ENTRY)
    door.recorder.start()
    while not door.recorder.is_behind:
        door.recorder.record(draft(1), NOW)
    door.recorder.stop(NOW)
    door.journal.close()
    again = open_journal(tmp_path / "journal", limits=LIMITS)
    assert again.opening.unclean
    again.close()
    door.journal = open_journal(tmp_path / "other")


def test_what_was_dropped_is_said_although_it_could_not_be_at_once(make: Callable[..., Door]) -> None:
    """The disk fails between the drop and its event: the event comes later, and before anything else."""
    door = make(when_full=WhenFull.DROP_OLDEST)
    number = 0
    while not door.journal.is_full:
        number += 1
        assert door.pass_by(number)
    door.files.failure = errno.ENOSPC
    assert not door.pass_by(number + 1)
    door.recorder.record(draft(number + 2), NOW)
    assert door.recorder.in_memory == 2
    door.files.failure = None
    assert door.recorder.catch_up(NOW)
    fetched = door.fetched()
    (full,) = is_said(fetched, EventKind.JOURNAL_FULL)
    granted = [each for each in fetched if each.kind is EventKind.ACCESS_GRANTED]
    assert (full["first_sequence"], full["last_sequence"]) == (1, number - len(granted))
    assert door.recorder.in_memory == 0


def test_a_backlog_is_written_in_slices(tmp_path: Path) -> None:
    """Nobody's card waits for all of it: an entry without its event is refused meanwhile, what else happened waits its turn."""
    files = FailingFiles()
    journal = open_journal(tmp_path / "journal", limits=JournalLimits(), files=files)
    recorder = Recorder(journal, lambda: None)
    files.failure = errno.ENOSPC
    for number in range(3 * CATCH_UP_EVENTS):
        assert recorder.record(draft(number), NOW) == IN_MEMORY
    files.failure = None
    assert recorder.record(entry(900), NOW, opens=True) is None
    assert journal.last_sequence == CATCH_UP_EVENTS
    assert recorder.record(draft(901), NOW) == IN_MEMORY
    assert journal.last_sequence == 2 * CATCH_UP_EVENTS
    while recorder.is_behind:
        assert recorder.catch_up(NOW)
    assert recorder.record(entry(902), NOW, opens=True) == journal.last_sequence
    journal.sync()
    *late, restored, last = [event.draft for _, event in drain(journal)]
    assert late == [*map(draft, range(3 * CATCH_UP_EVENTS)), draft(901)]
    assert restored.details == {"cause": "journal_failed", "waited": 3 * CATCH_UP_EVENTS + 1}
    assert last == entry(902)
    journal.close()


def test_a_refusal_at_full_memory_costs_no_older_event(
    make: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may not happen without its event takes no room."""
    monkeypatch.setattr(recorder_module, "WAITING_EVENTS", 5)
    door = make(when_unwritable=WhenUnwritable.CONTINUE_IN_MEMORY)
    door.files.failure = errno.EIO
    for number in range(5):
        door.recorder.record(draft(number), NOW)
    for number in range(50):
        assert door.recorder.record(draft(number), NOW, opens=True) is None
    door.files.failure = None
    assert door.recorder.catch_up(NOW)
    *fetched, restored = door.fetched()
    assert fetched == list(map(draft, range(5)))
    assert restored.details == {"cause": "journal_failed", "waited": 5}


def test_somebody_who_is_let_in_with_another_is_recorded_at_a_full_journal(make: Callable[..., Door]) -> None:
    """A grant that no strike depends on is an event like any other, and says nothing about the journal."""
    door = make(when_full=WhenFull.REFUSE_ENTRY)
    number = 0
    while door.pass_by(number):
        number += 1
    assert door.recorder.record(entry(number), NOW) == door.journal.last_sequence
    fetched = door.fetched()
    assert fetched[-1] == entry(number)
    assert is_said(fetched, EventKind.JOURNAL_RESTORED) == []


def test_a_gap_in_memory_is_not_recorded_yet(make: Callable[..., Door]) -> None:
    """A power cut would take its event: it is found again at the next start."""
    door = make(when_unwritable=WhenUnwritable.CONTINUE_IN_MEMORY)
    forgotten = []
    gap = JournalGap(
        journal_id=door.journal.journal_id,
        last_sequence=3,
        cause=GapCause.DAMAGED,
        lost_at_least=1,
        explanation="",
        is_end=False,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.journal, "gaps_recorded", lambda: forgotten.append(1))
        door.files.failure = errno.ENOSPC
        door.recorder.record_gaps([gap], NOW)
        assert forgotten == []
        door.files.failure = None
        assert door.recorder.catch_up(NOW)
        door.recorder.record_gaps([gap], NOW)
        assert forgotten == [1]


# ---- the disk that makes nothing durable


def at(seconds: float) -> Now:
    return replace(NOW, monotonic_s=seconds)


def test_a_disk_that_hangs_is_overdue(make: Callable[..., Door], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds without anything made durable that should be; not a moment after it is."""
    door, free, hangs = make(), threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        assert free.wait(20)

    monkeypatch.setattr(door.journal, "sync", hang)
    door.recorder.start()
    door.recorder.want_durable()
    assert hangs.wait(20)
    assert not door.recorder.is_overdue(at(100))
    assert not door.recorder.is_overdue(at(100 + DURABLE_WITHIN_S))
    assert door.recorder.is_overdue(at(101 + DURABLE_WITHIN_S))
    free.set()
    door.recorder.stop(NOW)
    assert not door.recorder.is_overdue(at(200))
    monkeypatch.undo()


@pytest.mark.parametrize("fault", [StoreError("a broken disk"), ZeroDivisionError()])
def test_a_sync_that_fails_is_tried_again(
    make: Callable[..., Door], monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Whatever it failed with, the thread lives, and the next turn has it done."""
    door, synced = make(), threading.Event()
    faults = [fault]

    def sync() -> None:
        if faults:
            failed.set()
            raise faults.pop()
        synced.set()

    failed = threading.Event()
    monkeypatch.setattr(door.journal, "sync", sync)
    door.recorder.start()
    door.recorder.want_durable()
    assert failed.wait(20)
    deadline = time.monotonic() + 20
    while not synced.wait(0.01) and time.monotonic() < deadline:
        door.recorder.is_overdue(at(1))
    assert synced.is_set()
    door.recorder.stop(NOW)
    monkeypatch.undo()


# ---- at the start


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("policy", list(WhenUnwritable))
def test_a_start_without_a_disk(tmp_path: Path, error: int, policy: WhenUnwritable) -> None:
    """The way out opens and the hub hears of it; entries are as the site wants them, and nothing outlasts the process."""
    memory = tmp_path / "memory"
    memory.mkdir()
    chosen = JournalPolicy(when_unwritable=policy)
    journal = open_anywhere(
        tmp_path / "journal",
        controller_id=C1,
        policy=chosen,
        files=FailingFiles(failure=error),
        environment={"RUNTIME_DIRECTORY": str(memory)},
    )
    assert not journal.is_lasting
    assert journal.opening.unclean
    assert [gap.cause for gap in journal.opening.gaps] == [GapCause.UNWRITABLE]
    door = Door(journal, FailingFiles(), Recorder(journal, lambda: None, chosen), memory)
    assert door.pass_by(1) == (policy is WhenUnwritable.CONTINUE_IN_MEMORY)
    assert door.pass_by(2, way_out)
    assert way_out(2) in door.fetched()
    journal.close()


def test_a_start_beside_another_process_is_refused(tmp_path: Path) -> None:
    """It is no fault of the disk, and two processes must not drive one door."""
    journal = open_journal(tmp_path / "journal")
    with pytest.raises(StoreError, match="another process"):
        open_anywhere(tmp_path / "journal", controller_id=C1, policy=JournalPolicy())
    journal.close()
