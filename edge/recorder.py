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
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from edge.effects import Record
from edge.inputs import Acknowledged, EventsUnreadable, Now
from edge.journal import Journal
from edge.journal_notes import JournalGap
from edge.journal_policy import JournalPolicy, WhenFull, WhenUnwritable
from edge.journal_values import EventRange
from pacs.errors import MalformedData, StoreError
from pacs.events import Detail, Event, EventDraft, EventKind

log = logging.getLogger(__name__)

WAITING_EVENTS: Final = 5_000
"""In memory: a day of an ordinary door; some 5 MB."""
CATCH_UP_EVENTS: Final = 50
"""Written late at once: a card waits for no more of them."""
DURABLE_WITHIN_S: Final = 10.0
"""A disk that takes longer hangs or fails, which is alarmed about."""
IN_MEMORY: Final = 0
"""What ``record`` gives for an event that waits in memory."""


class Recorder:
    """Belongs to the thread that owns the state; a thread of its own waits for the disk."""

    def __init__(
        self, journal: Journal, notify: Callable[[], None], policy: JournalPolicy | None = None
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
        self._asked = self._durable = 0
        self._durable_before = -1  # not looked at yet
        self._durable_since_s = 0.0
        self._fails = False
        self._stopping = False
        self._thread = threading.Thread(target=self._keep_durable, name="durability", daemon=True)

    @property
    def is_behind(self) -> bool:
        """Whether something waits in memory for the journal."""
        return bool(self._waiting or self._given_up or self._waited or self._journal.dropped)

    @property
    def in_memory(self) -> int:
        """Events that wait, or are lost without an event that says so; from any thread."""
        return len(self._waiting) + self._given_up + bool(self._journal.dropped)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, now: Now) -> None:
        """Try once more to append what waits; return once everything appended is durable, and end the thread.

        What is still not written then is lost, and the next start knows that the record has a hole.
        """
        try:
            while self.is_behind:
                if not self.catch_up(now):
                    log.error("%d events are lost: the journal cannot be written", len(self._waiting))
                    self._journal.leave_unclean()
                    break
        finally:
            self._stopping = True
            self._wanted.set()
            self._thread.join()

    def prepare(self, draft: EventDraft) -> None:
        """This draft may be recorded next."""
        if not self.is_behind:
            self._journal.prepare(draft)

    def record(self, draft: EventDraft, now: Now, *, opens: bool = False) -> int | None:
        """Append after everything that waits, and return its sequence; ``IN_MEMORY`` when it waits as well.

        ``opens``: somebody is let in by it. None when that must not be: this event is not kept then. Raises
        ``MalformedData`` when it is longer than an event may be.
        """
        if not self.is_behind or (self.catch_up(now) and not self.is_behind):
            try:
                if opens and self._is_refused(draft):
                    return None
                return self._append(draft).sequence
            except StoreError as error:
                if not self.is_behind:
                    log.error("an event cannot be journalled: %s", error)  # noqa: TRY400 - the message says it all
        has_room = len(self._waiting) < WAITING_EVENTS
        if opens and not (has_room and self._policy.when_unwritable is WhenUnwritable.CONTINUE_IN_MEMORY):
            return None
        if not has_room:
            self._waiting.popleft()
            self._given_up += 1
        self._waiting.append(draft)
        return IN_MEMORY

    def catch_up(self, now: Now) -> bool:
        """Append some of what waits, oldest first; False when the journal still fails."""
        try:
            self._say_dropped(Record.of(EventKind.JOURNAL_FULL, now).draft)
            self._say_lost(now)
            for _ in range(min(CATCH_UP_EVENTS, len(self._waiting))):
                try:
                    self._append(self._waiting[0])
                    self._waited += 1
                except MalformedData:  # none of those behind it may wait for an event that never fits
                    log.exception("an event cannot be written")
                    self._given_up += 1
                self._waiting.popleft()
            if self._waiting:
                return True
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
        journal = self._journal
        drops = self._policy.when_full is WhenFull.DROP_OLDEST
        if drops and journal.is_full and not journal.dropped and (dropped := journal.drop_oldest()):
            log.error(
                "events %d to %d of journal %s are given up: the hub is away too long",
                dropped.first_sequence,
                dropped.last_sequence,
                dropped.journal_id,
            )
        self._say_dropped(draft)
        return journal.append(draft)

    def _say_dropped(self, at: EventDraft) -> None:
        """Nothing else is appended before what was given up is an event."""
        if dropped := self._journal.dropped:
            self._journal.append(_full(at, self._policy.when_full, dropped), says=dropped)

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

    def record_gaps(self, gaps: Iterable[JournalGap], now: Now) -> None:
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
        if sequences and all(sequences):  # one in memory is not recorded yet
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
        if gap:
            self._record_found([gap], now)

    def unreadable(self, events: EventsUnreadable, now: Now) -> None:
        """The uplink cannot read these: what is damaged becomes a gap, so that later events get to the hub."""
        try:
            gaps = self._journal.skip_damage(events.journal_id, events.sequence)
        except StoreError as error:  # the uplink reads again
            log.error("damaged events cannot be set aside: %s", error)  # noqa: TRY400
            return
        self._record_found(gaps, now)

    def _record_found(self, gaps: Sequence[JournalGap], now: Now) -> None:
        if gaps:
            self.record_gaps(gaps, now)
            self.want_durable()

    def want_durable(self) -> None:
        """Have everything appended made durable soon, and the uplink told."""
        self._asked += 1
        self._wanted.set()

    def is_overdue(self, now: Now) -> bool:
        """Whether the disk has made nothing durable for ``DURABLE_WITHIN_S`` that should be; tries again when it failed.

        To be asked again and again.
        """
        durable = self._durable
        if durable == self._asked or durable != self._durable_before:
            self._durable_before, self._durable_since_s = durable, now.monotonic_s
            return False
        self._wanted.set()
        return now.monotonic_s - self._durable_since_s > DURABLE_WITHIN_S

    def _keep_durable(self) -> None:
        stopping = False
        while not stopping:
            self._wanted.wait()
            self._wanted.clear()
            stopping = self._stopping  # looked at before the last sync, so that nothing is left behind it
            try:
                self._make_durable()
                self._notify()
            except Exception:  # the thread is needed for the next event
                log.exception("making events durable failed")

    def _make_durable(self) -> None:
        asked = self._asked
        try:
            self._journal.sync()
        except StoreError as error:
            if not self._fails:
                log.error("events cannot be made durable: %s", error)  # noqa: TRY400
            self._fails = True
        else:
            self._durable, self._fails = asked, False


def _full(at: EventDraft, outcome: WhenFull, events: EventRange) -> EventDraft:
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
