"""From what happened to what the hub can fetch: append, make durable, tell the uplink.

What cannot be journalled waits in memory, in order; when even that is full the oldest events are given up. The site's
policy says whether entries go on meanwhile, and what happens at the journal's bound. An event says each of these:

* ``journal_full``: at the bound; ``outcome`` is the policy's word, ``journal``, ``first_sequence`` and
  ``last_sequence`` are what was given up, or what is held while entries are refused
* ``journal_gap``: ``lost_at_least`` events are missing behind ``last_sequence`` of ``journal``, or never got there
* ``journal_restored``: entries are journalled again after ``cause``; ``waited`` events were written late
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from edge.effects import Record
from edge.inputs import Acknowledged, EventsUnreadable, Now
from edge.journal_policy import JournalPolicy, WhenFull, WhenUnwritable
from pacs.errors import MalformedData, StoreError
from pacs.events import Detail, Event, EventDraft, EventKind
from pacs.identifiers import JournalId
from pacs.rules import Side

log = logging.getLogger(__name__)

WAITING_EVENTS: Final = 5_000
"""In memory: a day of an ordinary door; some 5 MB."""
IN_MEMORY: Final = 0
"""What ``record`` gives for an event that waits where the policy lets entries go on."""


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


class Range(Protocol):
    """Events of one journal."""

    @property
    def journal_id(self) -> JournalId:
        """The journal they are in."""
        ...

    @property
    def first_sequence(self) -> int:
        """The first one."""
        ...

    @property
    def last_sequence(self) -> int:
        """The last one."""
        ...


class EventJournal(Protocol):
    """Where events are kept until the hub has them. Every method raises ``StoreError``."""

    @property
    def is_lasting(self) -> bool:
        """Whether what is durable outlasts the power."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether no more than the reserve is left."""
        ...

    @property
    def held(self) -> Range:
        """The oldest and the newest event that are kept."""
        ...

    def prepare(self, draft: EventDraft) -> None:
        """``append`` may be called with this very draft next. Never raises ``StoreError``."""
        ...

    def append(self, draft: EventDraft) -> Event:
        """Write where a killed process cannot lose it."""
        ...

    def acknowledge(self, journal_id: JournalId, sequence: int) -> Gap | None:
        """The hub has these; a gap when it has more than is here."""
        ...

    def drop_oldest(self) -> Range | None:
        """Make room; None when there is nothing to drop. The next event appended has to say what went."""
        ...

    def skip_damage(self, journal_id: JournalId, sequence: int) -> Gap | None:
        """Events from there on cannot be read; a gap when one of them is damaged."""
        ...

    def leave_unclean(self) -> None:
        """The next start must not believe that everything is here."""
        ...

    def gaps_recorded(self) -> None:
        """Every known gap is an event."""
        ...

    def sync(self) -> None:
        """Make durable; called from a thread of its own."""
        ...


class Recorder:
    """Belongs to the thread that owns the state; a thread of its own waits for the disk."""

    def __init__(
        self, journal: EventJournal, notify: Callable[[], None], policy: JournalPolicy | None = None
    ) -> None:
        """``notify``: more events are durable; called from the recorder's thread."""
        self._journal = journal
        self._notify = notify
        self._policy = policy or JournalPolicy()
        self._waiting: deque[EventDraft] = deque()
        self._given_up = 0
        self._waited = 0
        self._refusing = False
        self._wanted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._keep_durable, name="durability", daemon=True)

    @property
    def is_behind(self) -> bool:
        """Whether events wait in memory for the journal."""
        return bool(self._waiting or self._given_up or self._waited)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, now: Now) -> None:
        """Try once more to append what waits; return once everything appended is durable, and end the thread.

        What is still not written then is lost, and the next start knows that the record has a hole.
        """
        try:
            if self.is_behind and not self.catch_up(now):
                log.error("%d events are lost: the journal cannot be written", len(self._waiting))
                self._journal.leave_unclean()
        finally:
            self._stopping = True
            self._wanted.set()
            self._thread.join()

    def prepare(self, draft: EventDraft) -> None:
        """This draft may be recorded next."""
        if not self._waiting:
            self._journal.prepare(draft)

    def record(self, draft: EventDraft, now: Now) -> int | None:
        """Append after everything that waits, and return its sequence.

        Otherwise it waits as well: ``IN_MEMORY`` when an entry may go on all the same, None when not.
        """
        is_entry = draft.kind is EventKind.ACCESS_GRANTED and draft.side is Side.ENTRY
        if not self._waiting or self.catch_up(now):
            try:
                if is_entry and self._is_refused(draft):
                    self._waiting.append(draft)
                    return None
                return self._append(draft).sequence
            except StoreError as error:
                if not self.is_behind:
                    log.error("an event cannot be journalled: %s", error)  # noqa: TRY400 - the message says it all
        has_room = len(self._waiting) < WAITING_EVENTS
        if not has_room and not is_entry:
            self._waiting.popleft()
            self._given_up += 1
        self._waiting.append(draft)
        goes_on = self._policy.when_unwritable is WhenUnwritable.CONTINUE_IN_MEMORY and has_room
        return IN_MEMORY if goes_on else None

    def withdraw(self) -> None:
        """Forget the event ``record`` returned None for last: what it says did not happen."""
        self._waiting.pop()

    def catch_up(self, now: Now) -> bool:
        """Append what waits, oldest first; False when the journal still fails."""
        try:
            self._say_lost(now)
            while self._waiting:
                try:
                    self._append(self._waiting[0])
                    self._waited += 1
                except MalformedData:  # none of those behind it may wait for an event that never fits
                    log.exception("an event cannot be written")
                    self._given_up += 1
                self._waiting.popleft()
            self._say_lost(now)
            if self._waited:
                details: dict[str, Detail] = {"cause": "journal_failed", "waited": self._waited}
                self._append(Record.of(EventKind.JOURNAL_RESTORED, now, details=details).draft)
                self._waited = 0
        except StoreError:
            return False
        return True

    def _say_lost(self, now: Now) -> None:
        if self._given_up:
            details: dict[str, Detail] = {"cause": "journal_failed", "lost_at_least": self._given_up}
            self._append(Record.of(EventKind.JOURNAL_GAP, now, details=details).draft)
            self._given_up = 0

    def _append(self, draft: EventDraft) -> Event:
        """Append; at the journal's bound make room first if that is the policy, and say so."""
        drops = self._policy.when_full is WhenFull.DROP_OLDEST
        if drops and self._journal.is_full and (dropped := self._journal.drop_oldest()):
            log.error(
                "events %d to %d of journal %s are given up: the hub is away too long",
                dropped.first_sequence,
                dropped.last_sequence,
                dropped.journal_id,
            )
            self._journal.append(_full(draft, self._policy.when_full, dropped))
        return self._journal.append(draft)

    def _is_refused(self, draft: EventDraft) -> bool:
        """Whether entries are refused because the journal is in memory only, or full; when it is, and when no longer, is said."""
        if not self._journal.is_lasting and self._policy.when_unwritable is WhenUnwritable.DENY:
            return True
        full = self._policy.when_full is WhenFull.REFUSE_ENTRY and self._journal.is_full
        if full is not self._refusing:
            if full:
                self._journal.append(_full(draft, self._policy.when_full, self._journal.held))
            else:
                details: dict[str, Detail] = {"cause": "journal_full", "waited": 0}
                self._journal.append(_instead_of(draft, EventKind.JOURNAL_RESTORED, details))
            self._refusing = full
        return full

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
            gap = self._journal.skip_damage(events.journal_id, events.sequence)
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


def _full(at: EventDraft, outcome: WhenFull, events: Range) -> EventDraft:
    """Said at the moment of the event that found the journal full."""
    return _instead_of(
        at,
        EventKind.JOURNAL_FULL,
        {
            "outcome": outcome.value,
            "journal": str(events.journal_id),
            "first_sequence": events.first_sequence,
            "last_sequence": events.last_sequence,
        },
    )


def _instead_of(at: EventDraft, kind: EventKind, details: dict[str, Detail]) -> EventDraft:
    return EventDraft(kind=kind, occurred_at=at.occurred_at, clock_trusted=at.clock_trusted, details=details)
