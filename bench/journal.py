"""The journal of a controller that the hub has not heard for months: its size, its start, its writes, its replay.

Writes are counted on the real files; how long ``append`` takes is measured while another thread reads everything for
the hub, as the uplink does.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.journal import Journal
from edge.state_files import StateFiles
from pacs.events import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, EventDraft, EventKind, seal_batch
from pacs.identifiers import ControllerId, CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side

HELD = 250_000
TAPS = 1_000
TAPS_WHILE_REPLAYING = 2_000
BETWEEN_TAPS_S = 0.002
SWITCH_INTERVAL_S = 0.0005
"""As the controller sets it."""
CONTROLLER = ControllerId("bench")
START = datetime(2026, 1, 5, tzinfo=UTC)


class CountingFiles(StateFiles):
    """The real disk, counted; ``waits`` off: what is written is not made durable."""

    def __init__(self, *, waits: bool = True) -> None:
        self.waits = waits
        self.writes = 0
        self.syncs = 0

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        """Counted."""
        self.writes += 1
        return super().write_at(fd, data, offset)

    def sync(self, fd: int) -> None:
        """Counted."""
        self.syncs += 1
        if self.waits:
            super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        """Counted."""
        self.syncs += 1
        if self.waits:
            super().sync_directory(path)


def measure(held: int = HELD) -> dict[str, float]:
    """Fill a journal with ``held`` events, open it again, replay it; sizes in bytes, times as the names say."""
    with tempfile.TemporaryDirectory(prefix="drempel-bench-") as name:
        directory = Path(name) / "journal"
        fill_s = _fill(directory, held)
        begun = time.perf_counter()
        journal = Journal(directory, controller_id=CONTROLLER)
        open_s = time.perf_counter() - begun
        kept, interval_s = journal.held, sys.getswitchinterval()
        try:
            size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            sys.setswitchinterval(SWITCH_INTERVAL_S)
            appended_us, replayed, replay_s = _append_while_replaying(journal)
        finally:
            sys.setswitchinterval(interval_s)
            journal.close()
    return {
        "journal.events_held": float(kept.last_sequence - kept.first_sequence + 1),
        "journal.bytes_per_event": size / held,
        "journal.fill_us_per_event": fill_s * 1e6 / held,
        "journal.open_s": open_s,
        "journal.append_us_p50": statistics.median(appended_us),
        "journal.append_us_p99": statistics.quantiles(appended_us, n=100)[98],
        "journal.replayed_events_per_s": replayed / replay_s,
        **_writes(),
    }


def tap(number: int) -> tuple[EventDraft, EventDraft, EventDraft]:
    """Somebody comes in: granted, opened, closed."""
    at = START + timedelta(seconds=10 * number)
    door_id = DoorId("front-entrance")
    credential_id = CredentialId(number.to_bytes(16, "big"))
    granted = EventDraft(
        kind=EventKind.ACCESS_GRANTED,
        occurred_at=at,
        clock_trusted=True,
        door_id=door_id,
        side=Side.ENTRY,
        credential_id=credential_id,
        reason=Reason.ENTITLED,
    )
    opened, closed = (
        EventDraft(kind=kind, occurred_at=at + timedelta(seconds=later), clock_trusted=True, door_id=door_id)
        for kind, later in ((EventKind.DOOR_OPENED, 1), (EventKind.DOOR_CLOSED, 5))
    )
    return granted, opened, closed


def _fill(directory: Path, held: int) -> float:
    journal = Journal(directory, controller_id=CONTROLLER, files=CountingFiles(waits=False))
    begun = time.perf_counter()
    for number in range(held):
        journal.append(tap(number)[0])
    fill_s = time.perf_counter() - begun
    journal.close()
    return fill_s


def _append_while_replaying(journal: Journal) -> tuple[list[float], int, float]:
    key = Ed25519PrivateKey.generate()
    ended = threading.Event()
    outgoing = journal.outgoing
    replayed = 0
    replay_s = 0.0

    def replay() -> None:
        nonlocal replayed, replay_s
        begun = time.perf_counter()
        first = outgoing.first_sequence
        while not ended.is_set():
            events = journal.read(
                outgoing.journal_id, first, max_events=MAX_BATCH_EVENTS, max_bytes=MAX_BATCH_BYTES - 512
            )
            if events:
                seal_batch(CONTROLLER, outgoing.journal_id, first + len(events) - 1, events, key)
            replayed += len(events)
            replay_s = time.perf_counter() - begun
            first = first + len(events) if events else outgoing.first_sequence

    thread = threading.Thread(target=replay, name="replay")
    thread.start()
    appended_us = []
    for number in range(TAPS_WHILE_REPLAYING):
        draft = tap(number)[0]
        begun = time.perf_counter()
        journal.append(draft)
        appended_us.append((time.perf_counter() - begun) * 1e6)
        time.sleep(BETWEEN_TAPS_S)
    ended.set()
    thread.join()
    return appended_us, replayed, replay_s


def _writes() -> dict[str, float]:
    """Of a day of ``TAPS``, each with its three events made durable one by one and acknowledged by the hub."""
    files = CountingFiles(waits=False)
    with tempfile.TemporaryDirectory(prefix="drempel-bench-") as name:
        journal = Journal(Path(name) / "journal", controller_id=CONTROLLER, files=files)
        files.writes = files.syncs = 0
        for number in range(TAPS):
            for draft in tap(number):
                event = journal.append(draft)
                journal.sync()
                journal.read(journal.journal_id, event.sequence, max_events=1, max_bytes=MAX_BATCH_BYTES)
                journal.acknowledge(journal.journal_id, event.sequence)
        writes, syncs = files.writes, files.syncs
        journal.close()
    return {
        "journal.writes_per_event": writes / (3 * TAPS),
        "journal.fsyncs_per_1000_taps": syncs * 1_000 / TAPS,
    }
