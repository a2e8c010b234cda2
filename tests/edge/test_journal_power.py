"""Kill and power: what was durable is there, and what is lost is said."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from edge.journal import Journal
from pacs.events import Event
from tests.edge.journal_on_disk import (
    abandon,
    draft,
    drain,
    fill,
    open_journal,
    read_outgoing,
    segment_files,
)
from tests.edge.power_cut import PowerCut, PowerCutFiles, Survives

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
