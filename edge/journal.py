"""Durable store-and-forward of events: each is kept here until the hub has acknowledged it.

::

    journal/lock                            one process at a time
            acknowledged                    up to where the hub has stored (journal id, sequence)
            closed                          there only between a proper end and the next start
            gaps                            what was lost: until it is an event, or its place is gone
            <ordinal>.<journal id>/         one hash chain, its segments
            quarantine/                     damaged files, kept for a technician

Damage costs the events it is in; the chain goes on behind them, and a gap says which they were. A chain whose end
cannot be known is ended: what is whole in it still goes to the hub, and new events begin another chain under a journal
id of its own. A sequence is thus never used twice in one journal.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from edge import journal_notes as notes
from edge import journal_recovery as recovery
from edge import segments
from edge.chain import Chain, begin_chain
from edge.journal_damage import DamageFinder
from edge.journal_notes import GapCause, JournalGap
from edge.journal_values import EventRange, JournalFull, JournalLimits, Opening, Outgoing
from edge.segment_writer import SegmentWriter
from edge.spent_files import Awaited, SpentFiles
from edge.state_files import StateFiles, hold_lock, store_error
from pacs.errors import MalformedData, StoreError
from pacs.events import MAX_EVENT_BYTES, Event, EventDraft, event_hash
from pacs.identifiers import ControllerId, JournalId

__all__ = ["EventRange", "Journal", "JournalFull", "JournalLimits", "Opening", "Outgoing"]

MAX_RENUMBERED = 500
"""Events that are taken over when a chain has to end before them; older ones are counted as lost and kept aside."""

LOOKED_BACK = 100
"""Events that are looked at to find the time; those of a board that starts in the past again and again say none."""


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
    """``sync``, ``read``, ``outgoing``, ``waiting`` and ``undurable`` may be used from any thread; everything else belongs to
    one, and waits for the disk only in ``close``, ``gaps_recorded`` and where the hub is ahead.

    Every method raises ``StoreError`` when the disk fails; what was appended before stays.
    """

    def __init__(
        self,
        directory: Path,
        *,
        controller_id: ControllerId,
        limits: JournalLimits | None = None,
        files: StateFiles | None = None,
        is_lasting: bool = True,
        adopt: Sequence[Path] = (),
    ) -> None:
        """Open or create the journal in ``directory``. ``is_lasting``: what is durable there outlasts the power.

        ``adopt``: journals that were kept elsewhere meanwhile; this one goes on with their events, and they are removed.

        Raises ``StoreError`` when it cannot be read or written, or another process has it.
        """
        self._directory = directory
        self._controller_id = controller_id
        self._limits = limits or JournalLimits()
        self.is_lasting = is_lasting
        self._files = files or StateFiles()
        self._guard = threading.Lock()
        self._syncing = threading.Lock()
        self._prepared: _Prepared | None = None
        self._leave_unclean = False
        self._ending: JournalGap | None = None
        self._dropped: tuple[EventRange, Awaited] | None = None
        with self._naming(), contextlib.ExitStack() as undo:
            self._files.make_directory(directory)
            if directory.stat().st_uid != os.geteuid():
                raise StoreError(f"{directory}: belongs to somebody else; give it to the controller's user")
            self._lock = hold_lock(directory / "lock")
            undo.callback(os.close, self._lock)
            for kept_meanwhile in adopt:
                recovery.adopt(directory, kept_meanwhile, self._files)
            found = recovery.recover(directory, controller_id, self._files)
            self._next_ordinal = found.next_ordinal
            self._chains = found.chains
            if found.ended:
                self._chains += (self._begin_chain(),)
            self._writer = SegmentWriter(self._chains[-1].segments[-1], self._files)
            undo.callback(self._writer.close)
            self._spent = SpentFiles(directory, self._files, self._guard)
            undo.callback(self._spent.close)
            self._damage = DamageFinder(directory, self._files)
            self._spent.left_bytes = recovery.quarantined_bytes(directory)
            everything = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            self._held_bytes = everything - self._spent.left_bytes
            self._release()
            self._spent.note(self._chains[0])
            self._spent.remove(self._chains[0])
            notes.remove_mark(directory, self._files)
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

    @property
    def _size(self) -> int:
        return self._held_bytes + self._spent.left_bytes

    @property
    def is_full(self) -> bool:
        """Whether no more than the reserve is left."""
        return self._size + self._limits.reserve_bytes > self._limits.max_bytes

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

    def append(self, draft: EventDraft, *, says: EventRange | None = None) -> Event:
        """Give the draft its place and write it with one call, where a killed process cannot lose it.

        ``says``: what ``drop_oldest`` let go of and this event puts on record: its files go once the event is durable.
        Raises ``JournalFull`` at the bound, ``StoreError`` when the disk fails, ``MalformedData`` when the draft is longer
        than an event may be; nothing was appended then.
        """
        with self._guard:
            chain = self._chains[-1]
            prepared = self._prepared
            if prepared is None or not prepared.is_next(draft, chain):
                prepared = _Prepared.next(draft, chain)
            event, record = prepared.event, prepared.record
            if self._size + len(record) > self._limits.max_bytes:
                raise JournalFull(
                    f"{self._directory}: full with {self._size} bytes of events the hub has not acknowledged; "
                    "restore the connection to the hub"
                )
            try:
                is_long = chain.segments[-1].size >= self._limits.segment_bytes
                if is_long and self._writer.may_go_on(chain):
                    following = self._writer.go_on(chain)
                    chain.segments = (*chain.segments, following)
                    self._held_bytes += following.size
                self._writer.write(chain.segments[-1], record)
            except OSError as error:
                raise store_error(error, self._directory) from error
            chain.last_hash = prepared.hash
            self._prepared = None
            self._held_bytes += len(record)
            if self._dropped and says == self._dropped[0]:
                self._dropped[1].is_said(chain, event.sequence)
                self._dropped = None
            return event

    def acknowledge(self, journal_id: JournalId, sequence: int) -> JournalGap | None:
        """The hub has stored every event of this journal up to ``sequence``; the next ``sync`` frees the space.

        An older or another journal's acknowledgement changes nothing. Returns a gap, to be recorded, when the
        hub has events that were never read here: a disk lost what it had confirmed. Then another chain begins,
        with the events the hub cannot have under numbers of their own. All of that is done, or, when the disk fails,
        nothing: the hub acknowledges again.
        """
        chain = self._chains[0]
        if journal_id != chain.journal_id or sequence <= chain.acknowledged:
            return None
        gap = None
        with self._naming():
            if not chain.may_have_been_read(sequence):
                gap = self._ending = self._ending or self._end(chain, f"the hub has events up to {sequence}")
                self._spent.abandoned = chain.directory
                with self._damage.noting:
                    notes.add_gap(self._directory, gap, self._files)
                self._ending = None
            chain.acknowledged = chain.last_sequence if gap else min(sequence, chain.last_sequence)
            self._release()
            # a gap is returned in any case; what is released is noted before its files go
            with contextlib.suppress(*([OSError] if gap else [])):
                self._spent.note(self._chains[0])
        return gap

    @property
    def held(self) -> EventRange:
        """The oldest event that is kept, and the newest of its chain."""
        chain = self._chains[0]
        return EventRange(
            journal_id=chain.journal_id,
            first_sequence=chain.segments[0].first_sequence,
            last_sequence=chain.last_sequence,
        )

    @property
    def dropped(self) -> EventRange | None:
        """What ``drop_oldest`` let go of and no event says yet."""
        return self._dropped[0] if self._dropped else None

    @property
    def waiting(self) -> int:
        """Events that the hub has not acknowledged, in every chain, also those that are not durable yet. From any thread."""
        return sum(
            chain.last_sequence - max(chain.released, chain.first_sequence - 1) for chain in self._chains
        )

    @property
    def undurable(self) -> int:
        """Events that were appended and that a power cut could still take. From any thread."""
        chain = self._chains[-1]
        return chain.last_sequence - chain.durable_through

    def drop_oldest(self) -> EventRange | None:
        """Let go of the oldest file of events the hub does not have; ``append`` has to be given an event that says so.

        Returns everything given up since the hub last acknowledged or this process began: what was said before may
        itself be in it. Until that is said the same is returned again and nothing more goes. None when there is but
        the file being written.
        """
        if self._dropped:
            return self._dropped[0]
        chain = self._chains[0]
        path = chain.segments[0].path
        parts = [segment for segment in chain.segments if segment.path == path]
        if len(self._chains) == 1 and len(parts) == len(chain.segments):
            return None
        first = min(parts[0].first_sequence, chain.acknowledged + 1)
        last = parts[-1].last_sequence
        chain.given_up = max(chain.given_up, last)
        dropped = EventRange(journal_id=chain.journal_id, first_sequence=first, last_sequence=last)
        self._dropped = dropped, Awaited()
        self._release(self._dropped[1])
        return dropped

    def skip_damage(self, journal_id: JournalId, sequence: int) -> tuple[JournalGap, ...]:
        """``read`` failed at ``sequence``: go on behind the damage it has found around there.

        Returns the gaps, to be recorded; none when it has found no damage, or what is damaged is not needed.
        """
        chain = next((chain for chain in self._chains if chain.journal_id == journal_id), None)
        found = self._damage.take(journal_id, sequence)
        if chain is None or found is None:
            return ()
        with self._guard:
            if not chain.skip(found.damage):
                return ()
        self._release()
        return found.gaps

    def gaps_recorded(self) -> None:
        """Every gap of ``opening``, ``acknowledge`` and ``skip_damage`` is an event: make it durable and forget them."""
        self.sync()
        held = {chain.journal_id: chain.released for chain in self._chains}
        with self._naming(), self._damage.noting:
            notes.keep_gaps(self._directory, held, self._files, recorded=True)

    def leave_unclean(self) -> None:
        """Events were lost that never got here: the next start must not take this end for a proper one."""
        self._leave_unclean = True

    def close(self) -> None:
        """Make everything durable and mark the end as proper."""
        try:
            self.sync()
            with self._naming():
                self._spent.sync()
                if not self._leave_unclean:
                    notes.write_mark(self._directory, self._chains[-1], self._files)
        finally:
            self._writer.close()
            self._spent.close()
            os.close(self._lock)

    # ---- any thread

    def sync(self) -> None:
        """Return once everything appended before the call is durable; the uplink can read it from then on.

        Afterwards removes the files of what the hub has acknowledged, and begins the next file when this one is nearly
        full. When the disk fails, what was appended can be read all the same, since the hub is its last hope; it is not
        durable, and the next call makes it so.
        """
        with self._syncing, self._naming():
            with self._guard:
                chain, last, fds = self._chains[-1], self.last_sequence, self._writer.unsynced()
            if last != chain.durable_through or len(fds) > 1:
                try:
                    self._writer.make_durable(fds)
                    if len(fds) > 1:
                        self._files.sync_directory(chain.directory)
                finally:
                    chain.readable_through = last
                chain.durable_through = last
                with self._guard:
                    self._writer.synced(fds)
            self._begin_segment_ahead(chain)
            self._spent.remove(self._chains[0])

    def _begin_segment_ahead(self, chain: Chain) -> None:
        """So that no card waits for a file to be made."""
        nearly_full = self._limits.segment_bytes * 3 // 4
        if chain.segments[-1].size < nearly_full or chain is not self._chains[-1]:
            return
        with contextlib.suppress(OSError):  # it is made, or its failure met, by the event that needs it
            following = self._writer.prepare(chain, self._guard)
            with self._guard:
                self._held_bytes += following.size if following else 0

    @property
    def outgoing(self) -> Outgoing:
        """What the hub has to get next: an ended chain before the one that takes new events."""
        chain, *later = self._chains
        appended = chain.last_sequence  # first: what becomes readable meanwhile is counted, not missed
        readable = chain.readable_through
        return Outgoing(
            journal_id=chain.journal_id,
            first_sequence=chain.segments[0].first_sequence,
            acknowledged=chain.acknowledged,
            last_sequence=readable,
            withheld=max(0, appended - readable)
            + sum(each.last_sequence - each.segments[0].first_sequence + 1 for each in later),
        )

    def read(
        self, journal_id: JournalId, from_sequence: int, *, max_events: int, max_bytes: int
    ) -> list[bytes]:
        """Durable events from ``from_sequence`` on, at least one if there is one.

        None where the journal or the event was dropped meanwhile, because the hub has it. Raises ``StoreError`` when they
        cannot be read; what is damaged there is found then, for ``skip_damage``.
        """
        chain = self._chains[0]
        if chain.journal_id != journal_id:
            return []
        try:
            return chain.read(from_sequence, max_events, max_bytes)
        except (OSError, MalformedData) as error:
            if isinstance(error, FileNotFoundError) and not chain.segment_of(from_sequence):
                return []
            with self._naming():
                self._damage.look(chain, from_sequence, error)
            raise StoreError(f"{chain.directory}: {error}; check the disk") from error

    # ---- inside

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise store_error(error, self._directory) from error
        except MalformedData as error:
            raise StoreError(f"{self._directory}: {error}; check the disk") from error

    def _begin_chain(self, drafts: Sequence[EventDraft] = ()) -> Chain:
        chain = begin_chain(self._files, self._directory, self._next_ordinal, self._controller_id, drafts)
        self._next_ordinal += 1
        return chain

    def _end(self, chain: Chain, explanation: str) -> JournalGap:
        """Let a chain end after what the hub may have; what can be read behind it gets numbers in another chain."""
        held = chain.read_through
        taken_over = list[EventDraft]()
        if chain is self._chains[-1]:
            taken_over = chain.drafts(max(held + 1, chain.last_sequence - MAX_RENUMBERED + 1))
            following = self._begin_chain(taken_over)
            with self._guard:
                self._writer.follow(following.segments[-1])
                chain.durable_through = chain.last_sequence  # in the other chain it is
                self._chains += (following,)
                self._held_bytes += following.segments[-1].size
        return JournalGap(
            journal_id=chain.journal_id,
            last_sequence=held,
            cause=GapCause.HUB_AHEAD,
            lost_at_least=chain.last_sequence - held - len(taken_over),
            explanation=explanation,
            is_end=True,
        )

    def _release(self, because: Awaited | None = None) -> None:
        with self._guard:
            self._chains, freed = self._spent.release(self._chains, because)
            self._held_bytes -= freed
