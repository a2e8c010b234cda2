"""Kill and power: what was durable is there, and what is lost is said."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.inputs import Now
from edge.journal import Journal, JournalLimits
from edge.journal_policy import JournalPolicy, WhenFull
from edge.recorder import Recorder
from pacs.decision import ClockReading
from pacs.events import Event, EventKind
from pacs.identifiers import JournalId
from tests.edge.journal_on_disk import (
    SMALL,
    START,
    abandon,
    draft,
    drain,
    fill,
    open_journal,
    read_outgoing,
    segment_files,
)
from tests.edge.power_cut import PowerCut, PowerCutFiles, Survives

pytestmark = pytest.mark.slow

NOW = Now(clock=ClockReading(at=START, trusted=True), monotonic_s=0.0)

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


def run_until_cut(
    directory: Path, files: PowerCutFiles, work: Callable[[Journal], None], limits: JournalLimits = SMALL
) -> None:
    """Open, work and close until the power goes."""
    with suppress(PowerCut):
        journal = open_journal(directory / "journal", files=files, limits=limits)
        try:
            work(journal)
        except PowerCut:
            abandon(journal)
            raise
        journal.close()


CUTS = [*((survives, 0) for survives in Survives), *((Survives.SOME, seed) for seed in range(1, 6))]
each_cut = pytest.mark.parametrize(
    ("survives", "seed"), CUTS, ids=[f"{survives.value}-{seed}" for survives, seed in CUTS]
)


def after_every_cut(
    tmp_path: Path,
    work: Callable[[Journal], None],
    survives: Survives,
    seed: int,
    limits: JournalLimits = SMALL,
) -> Iterator[Journal]:
    """The journal as it is found after the power went at the first operation, at the second, and so on."""
    original = tmp_path / "original"
    original.mkdir()
    fill(original / "journal", 2)
    journal = open_journal(original / "journal")
    journal.acknowledge(journal.journal_id, 1)
    journal.close()
    for cut_at in range(1_000):
        live, after = tmp_path / "live", tmp_path / "after"
        shutil.copytree(original, live)
        files = PowerCutFiles(live, cut_at)
        run_until_cut(live, files, work, limits=limits)
        if files.operations < cut_at:
            return
        files.image(after, survives, random.Random(f"{seed}/{cut_at}"))
        journal = open_journal(after / "journal", limits=limits)
        yield journal
        journal.close()
        shutil.rmtree(live)
        shutil.rmtree(after)
    pytest.fail("the work never came to its end")


@each_cut
def test_power_cut_at_every_operation(tmp_path: Path, survives: Survives, seed: int) -> None:
    """Whenever the power goes: what was durable is there, and new events get numbers of their own."""
    durable: dict[tuple[JournalId, int], Event] = {}
    acknowledged = 1

    def work(journal: Journal) -> None:
        nonlocal acknowledged
        durable.clear()
        acknowledged = 1
        for number in range(3, 13):
            journal.append(draft(number))
            if number % 3 == 0:
                journal.sync()
                outgoing = journal.outgoing
                durable.update(
                    {(outgoing.journal_id, event.sequence): event for event in read_outgoing(journal)}
                )
                acknowledged = outgoing.last_sequence - 2
                journal.acknowledge(outgoing.journal_id, acknowledged)

    for journal in after_every_cut(tmp_path, work, survives, seed):
        if survives in (Survives.NOTHING, Survives.EVERYTHING):
            assert not journal.opening.gaps
        added = journal.append(draft(99))
        assert (journal.journal_id, added.sequence) not in durable
        journal.sync()
        received = {(journal_id, event.sequence): event for journal_id, event in drain(journal)}
        for place, event in durable.items():
            assert place[1] <= acknowledged or received[place] == event
        assert received[journal.journal_id, added.sequence] == added


@each_cut
def test_power_cut_while_dropping_the_oldest(tmp_path: Path, survives: Survives, seed: int) -> None:
    """Whenever the power goes in a full journal: what was durable is there, or its loss has been said."""
    limits = JournalLimits(max_bytes=2_600, segment_bytes=400)
    durable: set[int] = set()

    def work(journal: Journal) -> None:
        durable.clear()
        recorder = Recorder(journal, lambda: None, JournalPolicy(when_full=WhenFull.DROP_OLDEST))
        for number in range(3, 40):
            recorder.record(draft(number), NOW)
            if number % 3 == 0:
                journal.sync()
                durable.update(range(1, journal.last_sequence + 1))

    for journal in after_every_cut(tmp_path, work, survives, seed, limits=limits):
        first_id = journal.outgoing.journal_id
        known = {
            gap.last_sequence + at for gap in journal.opening.gaps for at in range(1, gap.lost_at_least + 1)
        }
        received = drain(journal)
        for journal_id, event in received:
            if journal_id == first_id:
                known.add(event.sequence)
            details = event.draft.details
            if event.draft.kind is EventKind.JOURNAL_FULL:
                known |= set(range(int(details["first_sequence"]), int(details["last_sequence"]) + 1))
        assert durable <= known | {1}  # the hub had the first one


@pytest.mark.parametrize("survives", list(Survives), ids=lambda survives: survives.value)
@pytest.mark.parametrize("place", [1, -1], ids=["midst", "end"])
def test_power_cut_while_recovering(tmp_path: Path, survives: Survives, place: int) -> None:
    """Whenever the power goes while damage is being set aside, the damage is reported at the next start."""
    original = tmp_path / "original"
    original.mkdir()
    events = fill(original / "journal", 12)
    damaged = segment_files(original / "journal")[place]
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
        assert gap.is_end == (place == -1)
        assert received[:-1] == [*events[: gap.last_sequence], *events[gap.last_sequence + 1 :]]
        assert received[-1].sequence == (1 if gap.is_end else 13)
        journal.close()
    else:
        pytest.fail("recovery never came to its end")
