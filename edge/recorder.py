"""From what happened to what the hub can fetch: append, make durable, tell the uplink.

While the journal cannot be written, events wait in memory, in order; when even that is full the oldest are given
up, and counted in a ``journal_gap``.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from edge.effects import Record
from edge.inputs import Acknowledged, EventsUnreadable, Now
from pacs.errors import MalformedData, StoreError
from pacs.events import Detail, Event, EventDraft, EventKind
from pacs.identifiers import JournalId

log = logging.getLogger(__name__)

WAITING_EVENTS: Final = 1_000


class Gap(Protocol):
    """After ``last_sequence`` of this journal, ``lost_at_least`` events are missing."""

    @property
    def journal_id(self) -> JournalId:
        """The journal it is in."""
        ...

    @property
    def last_sequence(self) -> int:
        """The last event before it."""
        ...

    @property
    def lost_at_least(self) -> int:
        """Events that are known to be missing."""
        ...

    @property
    def cause(self) -> str:
        """One word."""
        ...


class EventJournal(Protocol):
    """Where events are kept until the hub has them. Every method raises ``StoreError``."""

    def prepare(self, draft: EventDraft) -> None:
        """``append`` may be called with this very draft next. Never raises ``StoreError``."""
        ...

    def append(self, draft: EventDraft) -> Event:
        """Write where a killed process cannot lose it."""
        ...

    def acknowledge(self, journal_id: JournalId, sequence: int) -> Gap | None:
        """The hub has these; a gap when it has more than is here."""
        ...

    def end_at_damage(self, journal_id: JournalId, sequence: int) -> Gap | None:
        """Events from there on cannot be read; a gap when one of them is damaged."""
        ...

    def gaps_recorded(self) -> None:
        """Every known gap is an event."""
        ...

    def sync(self) -> None:
        """Make durable; called from a thread of its own."""
        ...


class Recorder:
    """Belongs to the thread that owns the state; a thread of its own waits for the disk."""

    def __init__(self, journal: EventJournal, notify: Callable[[], None]) -> None:
        """``notify``: more events are durable; called from the recorder's thread."""
        self._journal = journal
        self._notify = notify
        self._waiting: deque[EventDraft] = deque()
        self._given_up = 0
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._keep_durable, name="durability", daemon=True)

    @property
    def is_behind(self) -> bool:
        """Whether events wait in memory for the journal."""
        return bool(self._waiting or self._given_up)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, now: Now) -> None:
        """Try once more to append what waits; return once everything appended is durable, and end the thread."""
        try:
            if self.is_behind:
                self.catch_up(now)
        finally:
            self._stopping = True
            self._wanted.set()
            self._thread.join()

    def prepare(self, draft: EventDraft) -> None:
        """This draft may be recorded next."""
        if not self._waiting:
            self._journal.prepare(draft)

    def record(self, draft: EventDraft, now: Now) -> int | None:
        """Append after everything that waits; return its sequence, or None when it has to wait as well."""
        if not self._waiting or self.catch_up(now):
            try:
                return self._journal.append(draft).sequence
            except StoreError as error:
                log.error("an event cannot be journalled: %s", error)  # noqa: TRY400 - the message says it all
        if len(self._waiting) >= WAITING_EVENTS:
            self._waiting.popleft()
            self._given_up += 1
        self._waiting.append(draft)
        return None

    def withdraw(self) -> None:
        """Forget the event ``record`` returned None for last: what it says did not happen."""
        self._waiting.pop()

    def catch_up(self, now: Now) -> bool:
        """Append what waits, oldest first; False when the journal still fails."""
        try:
            if self._given_up:
                details: dict[str, Detail] = {"cause": "journal_failed", "lost_at_least": self._given_up}
                self._journal.append(Record.of(EventKind.JOURNAL_GAP, now, details=details).draft)
                self._given_up = 0
            while self._waiting:
                try:
                    self._journal.append(self._waiting[0])
                except MalformedData:  # none of those behind it may wait for an event that never fits
                    log.exception("an event cannot be written")
                    self._given_up += 1
                self._waiting.popleft()
        except StoreError:
            return False
        return True

    def record_gaps(self, gaps: Iterable[Gap], now: Now) -> None:
        """Make an event of each gap the journal found."""
        sequences = []
        for gap in gaps:
            details: dict[str, Detail] = {
                "journal": str(gap.journal_id),
                "last_sequence": gap.last_sequence,
                "cause": str(gap.cause),
                "lost_at_least": gap.lost_at_least,
            }
            sequences.append(self.record(Record.of(EventKind.JOURNAL_GAP, now, details=details).draft, now))
        if sequences and None not in sequences:
            try:
                self._journal.gaps_recorded()
            except StoreError as error:  # they are found and recorded again at the next start
                log.error("recorded gaps cannot be forgotten: %s", error)  # noqa: TRY400

    def acknowledged(self, up_to: Acknowledged, now: Now) -> None:
        """The hub has stored these."""
        try:
            gap = self._journal.acknowledge(up_to.journal_id, up_to.sequence)
        except StoreError as error:  # the hub acknowledges again
            log.error("an acknowledgement cannot be kept: %s", error)  # noqa: TRY400
            return
        self._record_gap(gap, now)

    def unreadable(self, events: EventsUnreadable, now: Now) -> None:
        """The uplink cannot read these: what is damaged becomes a gap, so that later events get to the hub."""
        try:
            gap = self._journal.end_at_damage(events.journal_id, events.sequence)
        except StoreError as error:  # the uplink reads again
            log.error("damaged events cannot be set aside: %s", error)  # noqa: TRY400
            return
        self._record_gap(gap, now)

    def _record_gap(self, gap: Gap | None, now: Now) -> None:
        if gap:
            self.record_gaps([gap], now)
            self.want_durable()

    def want_durable(self) -> None:
        """Have everything appended made durable soon, and the uplink told."""
        self._wanted.set()

    def _keep_durable(self) -> None:
        stopping = False
        while not stopping:
            self._wanted.wait()
            self._wanted.clear()
            stopping = self._stopping  # looked at before the last sync, so that nothing is left behind it
            try:
                self._journal.sync()
            except StoreError as error:
                log.error("events cannot be made durable: %s", error)  # noqa: TRY400
            self._notify()
