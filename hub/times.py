"""Which times of events can be believed; those that cannot leave a hole in the record (rule R2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from hub.store import controllers, events, journals
from hub.store.journals import Anomaly, AnomalyKind
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, JournalId

CLOCKS_DIFFER = timedelta(minutes=2)
"""Further ahead of the hub's own a clock is wrong, whatever the controller thinks of it."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before this nothing was recorded by anybody."""
_LONGEST_STEP_MS = 366 * 86_400_000
_CLOCK_HOLES = (AnomalyKind.CLOCK_WRONG, AnomalyKind.CLOCK_UNTRUSTED)


class Times:
    """Judges the events of one write transaction, each once and in its order."""

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        *,
        note: Callable[[Anomaly], None],
        settle: Callable[[], None],
    ) -> None:
        """``note``: puts an anomaly on record; ``settle``: writes what was gathered, before it is read."""
        self._connection = connection
        self._now = now
        self._latest = now + CLOCKS_DIFFER
        self._note = note
        self._settle = settle
        self._disbelieved: dict[ControllerId, bool] = {}

    def is_believed(self, event: Event) -> bool:
        """Whether it occurred when it says, as far as the controller and the hub can tell."""
        draft = event.draft
        return draft.clock_trusted and EARLIEST <= draft.occurred_at <= self._latest

    def judge(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        """A time that cannot be believed makes a hole, from the last that could be to the next.

        ``before``: the event before it, None when that came in an earlier batch.
        """
        disbelieved = self._disbelieved.get(controller_id)
        if disbelieved is None:
            disbelieved = journals.has_open_hole(self._connection, controller_id, _CLOCK_HOLES)
        if self.is_believed(event):
            if disbelieved:
                for kind in _CLOCK_HOLES:
                    journals.end_holes(self._connection, controller_id, kind, until=event.draft.occurred_at)
            disbelieved = False
            if event.draft.kind is EventKind.CLOCK_CHANGED:
                self._stepped(controller_id, journal_id, event)
        elif not disbelieved:
            trusted = event.draft.clock_trusted
            at = event.draft.occurred_at.isoformat(timespec="seconds")
            self._note(
                Anomaly(
                    controller_id=controller_id,
                    journal_id=journal_id,
                    kind=AnomalyKind.CLOCK_WRONG if trusted else AnomalyKind.CLOCK_UNTRUSTED,
                    detail=f"event {event.sequence} says {at}",
                    at=self._now,
                    first_sequence=event.sequence,
                    last_sequence=event.sequence,
                    has_hole=True,
                    unknown_from=self.known_until(controller_id, journal_id, event, before),
                )
            )
            disbelieved = True
        self._disbelieved[controller_id] = disbelieved

    def _stepped(self, controller_id: ControllerId, journal_id: JournalId, event: Event) -> None:
        """A clock that was trusted turns out to have been wrong: since when is not known, at most since it was set."""
        step_ms = event.draft.details.get("step_ms")
        if type(step_ms) is not int:
            return
        step = timedelta(milliseconds=max(-_LONGEST_STEP_MS, min(step_ms, _LONGEST_STEP_MS)))
        if abs(step) <= CLOCKS_DIFFER:
            return
        self._settle()
        set_at = events.clock_set_before(self._connection, controller_id, journal_id, event.sequence)
        at = event.draft.occurred_at
        self._note(
            Anomaly(
                controller_id=controller_id,
                journal_id=journal_id,
                kind=AnomalyKind.CLOCK_WRONG,
                detail=f"event {event.sequence}: the clock was set by {step_ms} ms",
                at=self._now,
                first_sequence=event.sequence,
                last_sequence=event.sequence,
                has_hole=True,
                unknown_from=None if set_at is None else min(set_at, set_at + step),
                unknown_until=max(at, at - step),
            )
        )

    def known_until(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> datetime | None:
        """A moment before this event up to which the record is whole, by times that can be believed; None: unknown."""
        complete_until = controllers.state(self._connection, controller_id, self._now).complete_until
        if before is not None:
            at = before.draft.occurred_at if self.is_believed(before) else None
        else:
            self._settle()
            at = events.before(self._connection, controller_id, journal_id, event.sequence)
            if at is not None and not EARLIEST <= at <= self._now:
                at = None
        return at or complete_until
