"""What the recorder does when an event cannot be kept as it should: by the site's choice, and never silently."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge import recorder as recorder_module
from edge.inputs import Now
from edge.journal import Journal, JournalLimits
from edge.journal_notes import GapCause
from edge.journal_opening import open_journal as open_anywhere
from edge.journal_policy import JournalPolicy, WhenFull, WhenUnwritable
from edge.recorder import IN_MEMORY, Recorder
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
        """Whether the strike is released; what is not is withdrawn, as the service does."""
        released = self.recorder.record(of(number), NOW) is not None
        if not released and of is entry:
            self.recorder.withdraw()
        return released

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
    assert door.recorder.record(entry(0), NOW) == IN_MEMORY
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
