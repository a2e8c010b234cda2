"""Durable store-and-forward of events: each is kept here until the hub has acknowledged it.

::

    journal/lock                            one process at a time
            acknowledged                    up to where the hub has stored (journal id, sequence)
            closed                          there only between a proper end and the next start
            gaps                            what was lost and is not yet an event of its own
            <ordinal>.<journal id>/         one hash chain, its segments
            quarantine/                     damaged files, kept for a technician

A chain that cannot be continued is ended: what is whole in it still goes to the hub, what is damaged goes to
``quarantine``, and new events begin another chain under a journal id of its own. A sequence is thus never used
twice in one journal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from edge import journal_recovery as recovery
from edge import segments
from edge.chain import Chain, Inspection, Segment, begin_chain, begin_segment
from edge.journal_recovery import GapCause, JournalGap
from edge.segments import SegmentHeader
from edge.state_files import StateFiles
from pacs.errors import MalformedData, StoreError
from pacs.events import MAX_EVENT_BYTES, Event, EventDraft, event_hash
from pacs.identifiers import ControllerId, JournalId

MAX_RENUMBERED = 500
"""Events that are taken over when a chain has to end before them; older ones are counted as lost and kept aside."""

LOOKED_BACK = 100
"""Events that are looked at to find the time; those of a board that starts in the past again and again say none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """``max_bytes``: all files together. ``segment_bytes``: when the next segment is begun; what is freed at once."""

    max_bytes: int = 32 * 1024 * 1024
    segment_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How the journal was found.

    ``created``: there was none. ``unclean``: its last process did not close it. ``gaps``: record each as an
    event, then call ``gaps_recorded``; until then they are reported at every opening.
    """

    created: bool
    unclean: bool
    gaps: tuple[JournalGap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """The chain the hub has to get first: ``first_sequence`` to ``last_sequence`` can be read."""

    journal_id: JournalId
    first_sequence: int
    acknowledged: int
    last_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """An event with its place, as it is written."""

    event: Event
    record: bytes
    hash: bytes

    @classmethod
    def next(cls, draft: EventDraft, chain: Chain) -> Self:
        event = Event(sequence=chain.last_sequence + 1, previous_hash=chain.last_hash, draft=draft)
        data = bytes(event)
        if len(data) > MAX_EVENT_BYTES:
            raise MalformedData(f"event: {len(data)} bytes, at most {MAX_EVENT_BYTES} allowed")
        return cls(event=event, record=segments.record(event.sequence, data), hash=event_hash(data))

    def is_next(self, draft: EventDraft, chain: Chain) -> bool:
        return self.event.draft is draft and self.event.previous_hash == chain.last_hash


class Journal:
    """``prepare``, ``append``, ``acknowledge`` and ``close`` belong to one thread, and of these only ``close`` waits for the disk;
    ``sync`` and ``read`` may be called from others.

    Every method raises ``StoreError`` when the disk fails; what was appended before stays.
    """

    def __init__(
        self,
        directory: Path,
        *,
        controller_id: ControllerId,
        limits: JournalLimits | None = None,
        files: StateFiles | None = None,
    ) -> None:
        """Open or create the journal in ``directory``.

        Raises ``StoreError`` when it cannot be read or written, or another process has it.
        """
        self._directory = directory
        self._controller_id = controller_id
        self._limits = limits or JournalLimits()
        self._files = files or StateFiles()
        self._guard = threading.Lock()
        self._syncing = threading.Lock()
        self._prepared: _Prepared | None = None
        self._unsynced: list[int] = []
        self._spent: list[Path] = []
        self._abandoned: Path | None = None
        self._untidy = False
        with self._naming(), contextlib.ExitStack() as undo:
            self._files.make_directory(directory)
            self._lock = _lock(directory / "lock")
            undo.callback(os.close, self._lock)
            found = recovery.recover(directory, controller_id, self._files)
            self._next_ordinal = found.next_ordinal
            self._chains = found.chains
            if found.ended:
                self._chains += (self._begin_chain(),)
            self._fd = self._files.open(self._segment.path)
            undo.callback(os.close, self._fd)
            self._files.sync(self._fd)
            path = directory / recovery.ACKNOWLEDGED
            self._acknowledged_fd = self._files.open(path, create=not path.exists())
            undo.callback(os.close, self._acknowledged_fd)
            self._size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            self._drop_acknowledged()
            self._remove_spent()
            recovery.remove_mark(directory, self._files)
            undo.pop_all()
        self.opening = Opening(
            created=found.created, unclean=found.unclean and not found.created, gaps=found.gaps
        )

    # ---- the thread that decides

    @property
    def journal_id(self) -> JournalId:
        """Of the chain that takes new events."""
        return self._chains[-1].journal_id

    @property
    def last_sequence(self) -> int:
        """Of the chain that takes new events; 0 before the first."""
        return self._chains[-1].last_sequence

    def newest_trusted_time(self) -> datetime | None:
        """When the newest event happened whose clock was trusted; None when ``LOOKED_BACK`` held events say nothing.

        Raises ``StoreError``.
        """
        with self._naming():
            for chain in reversed(self._chains):
                for draft in reversed(chain.drafts(chain.last_sequence - LOOKED_BACK + 1)):
                    if draft.clock_trusted:
                        return draft.occurred_at
        return None

    def prepare(self, draft: EventDraft) -> None:
        """Make ready what ``append`` writes if this very draft comes next; writes nothing.

        Raises ``MalformedData`` as ``append`` does.
        """
        self._prepared = _Prepared.next(draft, self._chains[-1])

    def append(self, draft: EventDraft) -> Event:
        """Give the draft its place and write it with one call, where a killed process cannot lose it.

        Raises ``StoreError`` when the journal is full or cannot be written, ``MalformedData`` when the draft is
        longer than an event may be; nothing was appended then.
        """
        with self._guard:
            chain = self._chains[-1]
            prepared = self._prepared
            if prepared is None or not prepared.is_next(draft, chain):
                prepared = _Prepared.next(draft, chain)
            event, record = prepared.event, prepared.record
            if self._size + len(record) > self._limits.max_bytes:
                raise StoreError(
                    f"{self._directory}: full with {self._size} bytes of events the hub has not acknowledged; "
                    "restore the connection to the hub"
                )
            try:
                if self._untidy:
                    self._tidy()
                if self._segment.size >= self._limits.segment_bytes:
                    self._next_segment(chain)
                self._write(self._segment, record)
            except OSError as error:
                raise self._store_error(error) from error
            chain.last_hash = prepared.hash
            self._prepared = None
            self._segment.offsets.append(self._segment.size + len(record))
            self._size += len(record)
            return event

    def acknowledge(self, journal_id: JournalId, sequence: int) -> JournalGap | None:
        """The hub has stored every event of this journal up to ``sequence``; the next ``sync`` frees the space.

        An older or another journal's acknowledgement changes nothing. Returns a gap, to be recorded, when the
        hub has events that were never read here: a disk lost what it had confirmed. Then another chain begins,
        with the events the hub cannot have under numbers of their own.
        """
        chain = self._chains[0]
        if journal_id != chain.journal_id or sequence <= chain.acknowledged:
            return None
        gap = None
        with self._naming():
            if sequence > chain.read_through and len(self._chains) == 1:
                gap = self._end(
                    chain, chain.read_through, GapCause.HUB_AHEAD, f"the hub has events up to {sequence}"
                )
                self._abandoned = chain.directory
            chain.acknowledged = chain.last_sequence if gap else min(sequence, chain.last_sequence)
            self._drop_acknowledged()
        return gap

    def end_at_damage(self, journal_id: JournalId, sequence: int) -> JournalGap | None:
        """``read`` failed from ``sequence`` on: if a record is damaged there, its chain ends before it.

        Returns the gap, to be recorded; events behind it that can be read are in another chain, under numbers of
        their own. None when every record passes its check. Waits for the disk.
        """
        chain = next((chain for chain in self._chains if chain.journal_id == journal_id), None)
        with self._naming():
            damaged = chain.damaged_from(sequence) if chain else None
            if chain is None or damaged is None:
                return None
            gap = self._end(chain, damaged - 1, GapCause.DAMAGED, f"record {damaged} can no longer be read")
            self.sync()  # what was taken over, before it is cut off there
            self._cut(chain, damaged)
            self._drop_acknowledged()
        return gap

    def gaps_recorded(self) -> None:
        """Every gap of ``opening``, ``acknowledge`` and ``end_at_damage`` is an event: make it durable and forget them."""
        self.sync()
        with self._naming():
            recovery.forget_gaps(self._directory, self._files)

    def close(self) -> None:
        """Make everything durable and mark the end as proper."""
        try:
            self.sync()
            with self._naming():
                self._files.sync(self._acknowledged_fd)
                chain = self._chains[-1]
                recovery.write_mark(self._directory, chain, self._files)
        finally:
            for fd in (*self._unsynced, self._fd, self._acknowledged_fd, self._lock):
                os.close(fd)

    # ---- any thread

    def sync(self) -> None:
        """Return once everything appended before the call is durable, and readable by the uplink.

        Afterwards removes the files of what the hub has acknowledged.
        """
        with self._syncing, self._naming():
            with self._guard:
                chain, last, fds = self._chains[-1], self.last_sequence, [*self._unsynced, self._fd]
                rolled = len(self._unsynced)
            if last != chain.readable_through or rolled:
                try:
                    for fd in fds:
                        self._files.sync(fd)
                    if rolled:
                        self._files.sync_directory(chain.directory)
                finally:
                    # when the disk fails the hub is the last hope of these events: they become readable all the same
                    chain.readable_through = last
                with self._guard:
                    del self._unsynced[:rolled]
                for fd in fds[:rolled]:
                    os.close(fd)
            self._remove_spent()

    @property
    def outgoing(self) -> Outgoing:
        """What the hub has to get next: an ended chain before the one that takes new events."""
        chain = self._chains[0]
        return Outgoing(
            journal_id=chain.journal_id,
            first_sequence=chain.segments[0].first_sequence,
            acknowledged=chain.acknowledged,
            last_sequence=chain.readable_through,
        )

    def read(
        self, journal_id: JournalId, from_sequence: int, *, max_events: int, max_bytes: int
    ) -> list[bytes]:
        """Durable events from ``from_sequence`` on, at least one if there is one.

        None when the journal or the event was dropped meanwhile, because the hub has it.
        """
        chain = self._chains[0]
        if chain.journal_id != journal_id:
            return []
        try:
            return chain.read(from_sequence, max_events, max_bytes)
        except FileNotFoundError:
            return []
        except (OSError, MalformedData) as error:
            raise StoreError(f"{chain.directory}: {error}; check the disk") from error

    # ---- inside

    @property
    def _segment(self) -> Segment:
        return self._chains[-1].segments[-1]

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._store_error(error) from error
        except MalformedData as error:
            raise StoreError(f"{self._directory}: {error}; check the disk") from error

    def _store_error(self, error: OSError) -> StoreError:
        return StoreError(f"{error.filename or self._directory}: {error.strerror or error}; check the disk")

    def _write(self, segment: Segment, record: bytes) -> None:
        try:
            if self._files.write_at(self._fd, record, segment.size) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(segment.path))
        except OSError:
            self._untidy = True
            with contextlib.suppress(OSError):
                self._tidy()
            raise

    def _tidy(self) -> None:
        """Cut off what a failed write left."""
        self._files.truncate(self._fd, self._segment.size)
        self._untidy = False

    def _next_segment(self, chain: Chain) -> None:
        header = SegmentHeader(
            journal_id=chain.journal_id,
            first_sequence=chain.last_sequence + 1,
            previous_hash=chain.last_hash,
        )
        segment, fd = begin_segment(self._files, chain.directory, header)
        self._unsynced.append(self._fd)
        self._fd = fd
        chain.segments = (*chain.segments, segment)
        self._size += segment.size

    def _begin_chain(self) -> Chain:
        chain = begin_chain(self._files, self._directory, self._next_ordinal, self._controller_id)
        self._next_ordinal += 1
        return chain

    def _end(self, chain: Chain, held: int, cause: GapCause, explanation: str) -> JournalGap:
        """Let a chain end after ``held``; what can be read behind it gets numbers in the newest chain."""
        first = max(held + 1, chain.last_sequence - MAX_RENUMBERED + 1)
        taken_over = chain.drafts(first)
        gap = JournalGap(
            journal_id=chain.journal_id,
            last_sequence=held,
            cause=cause,
            lost_at_least=chain.last_sequence - held - len(taken_over),
            explanation=explanation,
        )
        recovery.write_gaps(self._directory, (*recovery.read_gaps(self._directory), gap), self._files)
        if chain is self._chains[-1]:
            following = self._begin_chain()
            fd = self._files.open(following.segments[-1].path)
            with self._guard:
                self._unsynced.append(self._fd)
                self._fd = fd
                self._chains += (following,)
        for draft in taken_over:
            self.append(draft)
        return gap

    def _cut(self, chain: Chain, damaged: int) -> None:
        """Set aside this record and all behind it."""
        before = chain.size
        with self._guard:
            unusable = chain.cut(damaged)
            self._size -= before - chain.size
        found = Inspection(
            last_hash=chain.last_hash,
            parts=list(chain.segments),
            cut=chain.segments[-1],
            unusable=unusable,
            faults=["damaged"],
        )
        recovery.set_aside(self._directory, chain.directory, found, self._files)

    def _drop_acknowledged(self) -> None:
        """Write down what the hub has; let go of ended chains and whole segments it does not need. Never waits."""
        chains = self._chains
        while len(chains) > 1 and chains[0].acknowledged >= chains[0].last_sequence:
            chains = chains[1:]
        chain = chains[0]
        parts = chain.segments
        while len(parts) > 1 and parts[0].last_sequence <= chain.acknowledged:
            parts = parts[1:]
        self._files.write_at(
            self._acknowledged_fd, recovery.acknowledged_bytes(chain.journal_id, chain.acknowledged), 0
        )
        drained, spent = self._chains[: -len(chains)], chain.segments[: -len(parts)]
        with self._guard:
            self._chains, chain.segments = chains, parts
            for ended in drained:
                self._spent += [*(segment.path for segment in ended.segments), ended.directory]
            self._spent += [segment.path for segment in spent]
            self._size -= sum(ended.size for ended in drained) + sum(segment.size for segment in spent)

    def _remove_spent(self) -> None:
        """Remove what was let go of, once it is durable that the hub has it; an abandoned chain is kept aside."""
        with self._guard:
            spent, self._spent = self._spent, []
        if spent:
            self._files.sync(self._acknowledged_fd)
        for path in spent:
            if path.is_dir():
                self._files.remove_directory(path)
            elif path.parent == self._abandoned:
                recovery.quarantine(self._directory, path, self._files)
            else:
                self._files.remove(path)


def _lock(path: Path) -> int:
    """Hold the journal for this process until the descriptor is closed."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StoreError(f"{path}: another process has this journal; stop it first") from error
    except OSError:
        os.close(fd)
        raise
    return fd
