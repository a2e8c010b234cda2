"""A journal in a test's directory: events that can be told apart, and what the hub would receive."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from edge import segments
from edge.journal import Journal, JournalLimits
from edge.journal_notes import JournalGap
from edge.state_files import StateFiles
from pacs.errors import MalformedData
from pacs.events import Event, EventDraft, EventKind, event_hash, genesis
from pacs.identifiers import ControllerId, DoorId, JournalId

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
    """With everything in it checked, which otherwise waits until it is read; ``opening`` says what that found."""
    journal = Journal(directory, controller_id=C1, limits=limits, files=files or QuickFiles())
    try:
        found = check_everything(journal)
    except BaseException:
        abandon(journal)
        raise
    gaps = sorted((*journal.opening.gaps, *found), key=lambda gap: (gap.journal_id, gap.last_sequence))
    journal.opening = replace(journal.opening, gaps=tuple(gaps))
    return journal


def check_everything(journal: Journal) -> list[JournalGap]:
    """The gaps that are found when every segment is read."""
    gaps = list[JournalGap]()
    with journal._naming():
        for chain in journal._chains:
            for segment in [segment for segment in chain.segments if segment.unchecked]:
                journal._damage.look(chain, segment.first_sequence, MalformedData("not checked"))
                gaps += journal.skip_damage(chain.journal_id, segment.first_sequence)
    return gaps


def abandon(journal: Journal) -> None:
    """What a killed process leaves: its descriptors are closed by the system, nothing else happens."""
    for fd in (*journal._writer.unsynced(), journal._spent._noted_fd, journal._lock):
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
    """What the hub receives until nothing is left: every chain, and what is behind a hole once it has been told of it."""
    received: list[tuple[JournalId, Event]] = []
    while True:
        outgoing = journal.outgoing
        journal_id, head = outgoing.journal_id, max(outgoing.acknowledged, outgoing.first_sequence - 1)
        events = list[Event]()
        while raw := journal.read(journal_id, head + 1, max_events=3, max_bytes=60_000):
            events += map(Event.from_bytes, raw)
            assert [event.sequence for event in events[-len(raw) :]] == list(
                range(head + 1, head + 1 + len(raw))
            )
            head += len(raw)
        assert all(after.previous_hash == event_hash(bytes(before)) for before, after in pairwise(events))
        received += [(journal_id, event) for event in events]
        assert journal.acknowledge(journal_id, head) is None
        if journal.outgoing == outgoing:
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


def damage(journal: Journal, sequence: int) -> None:
    """One bit of this event's record turns while the journal is open."""
    for segment in (segment for chain in journal._chains for segment in chain.segments):
        if segment.first_sequence <= sequence <= segment.last_sequence:
            data = bytearray(segment.path.read_bytes())
            data[segment.offsets[sequence - segment.first_sequence] + segments.RECORD_OVERHEAD] ^= 1
            segment.path.write_bytes(data)
