"""What one group of messages changes: the rules by which a controller's events become its record.

Everything here runs inside one write transaction of ``hub.ingest``; what others have to be told is collected
for after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto, unique
from typing import Any, Protocol

from sqlalchemy import Connection

from hub import attendance, commands, post_leases
from hub.alarms import Noticed
from hub.completeness import hole_before
from hub.store import controllers, documents, doors, events, expiry, journals, webhooks
from hub.store.journals import Anomaly, AnomalyKind, Head
from pacs.events import Batch, Event, EventKind, event_hash, genesis
from pacs.identifiers import ControllerId, DoorId, JournalId
from pacs.messages import CONFIRMED_DIGEST_BYTES, DocumentKind

UNKNOWN_HASH = b""
"""A head whose last event is not here: what follows is taken on its signature alone."""

CLOCKS_DIFFER = timedelta(minutes=2)
"""Further ahead of the hub's own a clock is wrong, whatever the controller thinks of it."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before this nothing was recorded by anybody."""
_LONGEST_STEP_MS = 366 * 86_400_000
_CLOCK_HOLES = (AnomalyKind.CLOCK_WRONG, AnomalyKind.CLOCK_UNTRUSTED)
_ONLY_STORED = frozenset({EventKind.ACCESS_GRANTED, EventKind.ACCESS_DENIED})
"""Nothing follows from them, and they are most of a backlog: they need not be asked what they mean."""


@unique
class Fit(Enum):
    """How a batch relates to what is stored."""

    NEW = auto()  # all of it, or its end, continues the chain
    OLD = auto()  # all of it is stored, or something else is in its place
    AHEAD = auto()  # events before it have not arrived
    BROKEN = auto()  # it should continue the chain, and does not
    DIFFERS = auto()  # it overlaps what is stored with other content


def fit(head: Head, batch: Batch) -> Fit:
    """Compare sequences and hashes; without reading what is stored."""
    first, last = batch.events[0].sequence, batch.events[-1].sequence
    if first > head.sequence + 1:
        return Fit.AHEAD
    if last <= head.sequence:
        return Fit.OLD
    stored = head.sequence + 1 - first
    before = event_hash(batch.encoded[stored - 1]) if stored else batch.events[0].previous_hash
    if head.hash in (UNKNOWN_HASH, before):
        return Fit.NEW
    return Fit.DIFFERS if stored else Fit.BROKEN


class Documents(Protocol):
    """What distribution wants to know, after the commit."""

    def said(
        self,
        controller_id: ControllerId,
        held: Mapping[DocumentKind, int],
        *,
        hello: bool,
        unproven: Collection[DocumentKind] = (),
    ) -> None:
        """A controller says that it enforces these versions; no stored event of its proves the ``unproven``."""
        ...

    def applied(self, controller_id: ControllerId, kind: DocumentKind, version: int) -> None:
        """A confirmation was stored."""
        ...

    def refused(self, controller_id: ControllerId, kind: DocumentKind) -> None:
        """A refusal was stored."""
        ...

    def gone(self, controller_id: ControllerId | None = None) -> None:
        """A controller, or every one, is offline."""
        ...


@dataclass(slots=True)
class Counts:
    """Events stored, events that were stored already, batches that came too early, messages set aside or dropped."""

    stored: int = 0
    duplicate: int = 0
    ahead: int = 0
    set_aside: int = 0
    dropped: int = 0

    def add(self, more: Counts) -> None:
        """Add up."""
        self.stored += more.stored
        self.duplicate += more.duplicate
        self.ahead += more.ahead
        self.set_aside += more.set_aside
        self.dropped += more.dropped


class Recording:
    """One transaction's work. ``committed`` heads are read, never changed."""

    def __init__(
        self, connection: Connection, committed: Mapping[tuple[ControllerId, str], Head], now: datetime
    ) -> None:
        self.connection = connection
        self._committed = committed
        self._rows: list[dict[str, Any]] = []
        self._taps: list[dict[str, Any]] = []
        self._alive: set[ControllerId] = set()
        self._until: dict[tuple[ControllerId, str], datetime] = {}
        self._disbelieved: dict[ControllerId, bool] = {}
        self._private: frozenset[DoorId] | None = None
        self._noticed = Noticed(connection, now)
        self.now = now
        self.counts = Counts()
        # for after the commit
        self.heads: dict[tuple[ControllerId, str], Head] = {}
        self.to_acknowledge: dict[tuple[ControllerId, JournalId], None] = {}
        self.told: list[Callable[[Documents], None]] = []
        self.changed: dict[ControllerId, None] = {}
        self.requests_changed = False
        self.certificates: list[tuple[ControllerId, str]] = []
        self.certificates_changed = False

    def finish(self) -> None:
        """Write what was gathered; to be called once, at the end of the transaction.

        Raises ``HeadMoved`` when a journal was continued by another process: nothing of this may be committed.
        """
        for key, head in self.heads.items():
            committed = self._committed.get(key)
            journals.advance(self.connection, head, since=committed.sequence if committed else 0)
        self._write_rows()
        webhooks.tell_taps(self.connection, self._taps, now=self.now)
        self._noticed.finish()
        for (controller_id, journal_id), until in self._until.items():
            sequence = self.heads[controller_id, journal_id].sequence
            controllers.stored_up_to(self.connection, controller_id, journal_id, sequence, until)

    def alive(self, controller_id: ControllerId) -> None:
        """A sign of life."""
        if controller_id not in self._alive:
            self._alive.add(controller_id)
            controllers.saw(self.connection, controller_id, self.now, online=True)

    def offline(self, controller_id: ControllerId) -> None:
        """The broker says that the connection is gone."""
        self._alive.discard(controller_id)
        controllers.saw(self.connection, controller_id, self.now, online=False)
        self.told.append(lambda documents: documents.gone(controller_id))
        self.changed[controller_id] = None

    # -- events

    def batch(self, batch: Batch, *, topic: str, payload: bytes) -> None:
        """Append what is new; set aside what contradicts what is stored."""
        controller_id, journal_id = batch.controller_id, batch.journal_id
        head = self.head(controller_id, journal_id, batch.events[0].draft.occurred_at)
        self.to_acknowledge[controller_id, journal_id] = None
        self.alive(controller_id)
        match fit(head, batch):
            case Fit.NEW:
                self._append(head, batch)
            case Fit.AHEAD:
                self.counts.ahead += 1
            case Fit.OLD if self._is_stored(head, batch):
                self.counts.duplicate += len(batch.events)
            case Fit.OLD | Fit.DIFFERS:
                self._contradicts(batch, AnomalyKind.DUPLICATE_DIFFERS, topic, payload)
            case Fit.BROKEN:
                self._contradicts(batch, AnomalyKind.CHAIN_BROKEN, topic, payload)

    def ahead(self, batch: Batch) -> None:
        """Let what cannot wait for its turn have its effect: who waits at an attended door, and who no longer does.

        Nothing is stored or acknowledged: it comes again in its turn.
        """
        head = self.known_head(batch.controller_id, batch.journal_id)
        for event in batch.events:
            if head is not None and event.sequence > head.sequence:
                believed = self._is_believed(event)
                self.requests_changed |= attendance.announced(
                    self.connection, batch.controller_id, event, is_believed=believed, now=self.now
                )

    def set_aside(
        self, controller_id: ControllerId, kind: AnomalyKind, *, topic: str, payload: bytes, detail: str
    ) -> None:
        """Keep a message that cannot be stored, and say so."""
        self.note(Anomaly(controller_id=controller_id, kind=kind, detail=detail, at=self.now))
        self._quarantine(controller_id, topic, payload, kind)

    def _append(self, head: Head, batch: Batch) -> None:
        controller_id, journal_id = batch.controller_id, batch.journal_id
        stored = head.sequence + 1 - batch.events[0].sequence
        self.counts.duplicate += stored
        before = batch.events[stored - 1] if stored else None
        for event, data in zip(batch.events[stored:], batch.encoded[stored:], strict=True):
            self._believe(controller_id, journal_id, event, before)
            if event.draft.kind not in _ONLY_STORED:
                self._consequences(controller_id, journal_id, event, before)
            row = events.row(controller_id, journal_id, event, data, self.now)
            if event.draft.door_id is not None:
                row = self._without_private(controller_id, event, row)
            self._rows.append(row)
            if row["kind"] in events.ABOUT_PEOPLE and not row["coarse"]:
                self._taps.append(row)
            before = event
        last = batch.events[-1]
        self.counts.stored += len(batch.events) - stored
        self.heads[controller_id, journal_id] = replace(head, sequence=last.sequence, hash=batch.last_hash)
        if self._is_believed(last):  # else it is not known which time the record reaches up to
            self._until[controller_id, journal_id] = min(last.draft.occurred_at, self.now)

    def _without_private(
        self, controller_id: ControllerId, event: Event, row: dict[str, Any]
    ) -> dict[str, Any]:
        """What is stored of an event: of one at a private door, which its controller should not record, not who or when."""
        draft = event.draft
        if draft.kind not in expiry.PERSONAL:
            return row
        if self._private is None:
            self._private = doors.private(self.connection)
        if draft.door_id not in self._private:
            return row
        if draft.credential_id is not None:
            self.note(
                Anomaly(
                    controller_id=controller_id,
                    door_id=draft.door_id,
                    kind=AnomalyKind.PRIVATE_TAP,
                    detail="not stored",
                    at=self.now,
                )
            )
        return row | {
            "data": b"",
            "credential_id": None,
            "coarse": True,
            "occurred_at": events.hour(draft.occurred_at),
            "received_at": events.hour(self.now),
        }

    # -- times

    def _is_believed(self, event: Event) -> bool:
        """Whether it occurred when it says, as far as the controller and the hub can tell."""
        draft = event.draft
        return draft.clock_trusted and EARLIEST <= draft.occurred_at <= self.now + CLOCKS_DIFFER

    def _believe(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        """Times that cannot be believed make a hole, from the last that could be to the next (rule R2)."""
        disbelieved = self._disbelieved.get(controller_id)
        if disbelieved is None:
            disbelieved = journals.has_open_hole(self.connection, controller_id, _CLOCK_HOLES)
        if self._is_believed(event):
            if disbelieved:
                for kind in _CLOCK_HOLES:
                    journals.end_holes(self.connection, controller_id, kind, until=event.draft.occurred_at)
            disbelieved = False
            if event.draft.kind is EventKind.CLOCK_CHANGED:
                self._stepped(controller_id, journal_id, event)
        elif not disbelieved:
            trusted = event.draft.clock_trusted
            at = event.draft.occurred_at.isoformat(timespec="seconds")
            self.note(
                Anomaly(
                    controller_id=controller_id,
                    journal_id=journal_id,
                    kind=AnomalyKind.CLOCK_WRONG if trusted else AnomalyKind.CLOCK_UNTRUSTED,
                    detail=f"event {event.sequence} says {at}",
                    at=self.now,
                    first_sequence=event.sequence,
                    last_sequence=event.sequence,
                    has_hole=True,
                    unknown_from=self._known_until(controller_id, journal_id, event, before),
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
        self._write_rows()
        set_at = events.clock_set_before(self.connection, controller_id, journal_id, event.sequence)
        at = event.draft.occurred_at
        self.note(
            Anomaly(
                controller_id=controller_id,
                journal_id=journal_id,
                kind=AnomalyKind.CLOCK_WRONG,
                detail=f"event {event.sequence}: the clock was set by {step_ms} ms",
                at=self.now,
                first_sequence=event.sequence,
                last_sequence=event.sequence,
                has_hole=True,
                unknown_from=None if set_at is None else min(set_at, set_at + step),
                unknown_until=max(at, at - step),
            )
        )

    def _known_until(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> datetime | None:
        """A moment before this event up to which the record is whole, by times that can be believed; None: unknown."""
        complete_until = controllers.state(self.connection, controller_id, self.now).complete_until
        if before is not None:
            at = before.draft.occurred_at if self._is_believed(before) else None
        else:
            self._write_rows()
            at = events.before(self.connection, controller_id, journal_id, event.sequence)
            if at is not None and not EARLIEST <= at <= self.now:
                at = None
        return at or complete_until

    def _is_stored(self, head: Head, batch: Batch) -> bool:
        """Whether the batch is what is stored; its last event proves those before."""
        last = batch.events[-1].sequence
        if last == head.sequence and head.hash != UNKNOWN_HASH:
            return batch.last_hash == head.hash
        self._write_rows()
        data = events.data_at(self.connection, batch.controller_id, batch.journal_id, last)
        return data is None or data == batch.encoded[-1]

    def _contradicts(self, batch: Batch, kind: AnomalyKind, topic: str, payload: bytes) -> None:
        first, last = batch.events[0].sequence, batch.events[-1].sequence
        times = [event.draft.occurred_at for event in batch.events if self._is_believed(event)]
        until = controllers.state(self.connection, batch.controller_id, self.now).complete_until
        self.note(
            Anomaly(
                controller_id=batch.controller_id,
                journal_id=batch.journal_id,
                kind=kind,
                detail=f"events {first} to {last} are kept aside",
                at=self.now,
                first_sequence=first,
                last_sequence=last,
                has_hole=True,  # what they say happened is in no list
                unknown_from=min([*times, until]) if until and len(times) == len(batch.events) else None,
                unknown_until=self.now,
            )
        )
        self._quarantine(batch.controller_id, topic, payload, kind)

    def _consequences(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        """What an event means beyond being stored."""
        self._noticed.see(controller_id, journal_id, event)
        self._noted(controller_id, event)
        draft = event.draft
        match draft.kind:
            case EventKind.POLICY_APPLIED:
                self._policy_applied(controller_id, event)
            case EventKind.POLICY_REFUSED:
                kind = draft.details.get("kind")
                if kind in (*DocumentKind,):
                    refused = DocumentKind(str(kind))
                    self.told.append(lambda documents: documents.refused(controller_id, refused))
                self.changed[controller_id] = None
            case EventKind.COMMAND_EXECUTED | EventKind.COMMAND_REFUSED:
                commands.ended(self.connection, controller_id, event)
            case EventKind.READER_LOST:
                self._reader_lost(controller_id, journal_id, event)
            case EventKind.READER_RESTORED:
                journals.end_holes(
                    self.connection,
                    controller_id,
                    AnomalyKind.READER_LOST,
                    until=draft.occurred_at if self._is_believed(event) else self.now,
                    door_id=draft.door_id,
                    detail=str(draft.side),
                )
            case EventKind.CONTROLLER_STARTED | EventKind.JOURNAL_GAP:
                self._hole_before(controller_id, journal_id, event, before)
            case _:
                return

    def _noted(self, controller_id: ControllerId, event: Event) -> None:
        believed = self._is_believed(event)
        self.requests_changed |= attendance.noted(
            self.connection, controller_id, event, is_believed=believed, now=self.now
        )
        post_leases.noted(self.connection, controller_id, event)

    def _policy_applied(self, controller_id: ControllerId, event: Event) -> None:
        draft = event.draft
        kind, version, digest = (draft.details.get(key) for key in ("kind", "version", "digest"))
        if (
            kind in (*DocumentKind,)
            and type(version) is int
            and version > 0
            and isinstance(digest, bytes)
            and len(digest) == CONFIRMED_DIGEST_BYTES
        ):
            document = DocumentKind(str(kind))
            if not documents.confirm(
                self.connection,
                controller_id,
                document,
                version,
                self.now,
                digest=digest,
                happened_at=draft.occurred_at if draft.clock_trusted else None,
            ):
                return
            self.told.append(lambda documents: documents.applied(controller_id, document, version))

    def _reader_lost(self, controller_id: ControllerId, journal_id: JournalId, event: Event) -> None:
        self.note(
            Anomaly(
                controller_id=controller_id,
                door_id=event.draft.door_id,
                journal_id=journal_id,
                kind=AnomalyKind.READER_LOST,
                detail=str(event.draft.side),
                at=self.now,
                first_sequence=event.sequence,
                last_sequence=event.sequence,
                has_hole=True,
                unknown_from=(
                    event.draft.occurred_at
                    if self._is_believed(event)
                    else controllers.state(self.connection, controller_id, self.now).complete_until
                ),
            )
        )

    def _hole_before(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        hole = hole_before(
            controller_id, journal_id, event, self._known_until(controller_id, journal_id, event, before)
        )
        if hole is not None and not self._is_believed(event):
            hole = replace(hole, unknown_until=self.now)
        if hole is not None:
            self.note(hole)
        if (
            event.draft.kind is EventKind.CONTROLLER_STARTED
        ):  # a reader that is still lost is said to be again
            until = event.draft.occurred_at if self._is_believed(event) else self.now
            journals.end_holes(self.connection, controller_id, AnomalyKind.READER_LOST, until=until)

    # -- heads

    def known_head(self, controller_id: ControllerId, journal_id: str) -> Head | None:
        """The journal's head, None for a journal not seen before."""
        key = (controller_id, journal_id)
        return self.heads.get(key) or self._committed.get(key)

    def head(
        self, controller_id: ControllerId, journal_id: JournalId, begins_at: datetime, *, first: int = 1
    ) -> Head:
        """The journal's head; a journal not seen before is opened, and replaces an earlier one."""
        head = self.known_head(controller_id, journal_id)
        if head is not None:
            return head
        earlier = any(
            controller == controller_id for controller, _ in (*self._committed.keys(), *self.heads.keys())
        )
        head = Head(
            controller_id=controller_id,
            journal_id=journal_id,
            sequence=0,
            hash=genesis(controller_id, journal_id),
            opened_at=self.now,
        )
        journals.open_journal(self.connection, head)
        self.heads[controller_id, journal_id] = head
        if earlier:
            journals.end_holes(self.connection, controller_id, AnomalyKind.JOURNAL_BEHIND, until=self.now)
            self.note(
                Anomaly(
                    controller_id=controller_id,
                    journal_id=journal_id,
                    kind=AnomalyKind.JOURNAL_REPLACED,
                    detail=f"a new journal begins at {first}",
                    at=self.now,
                    has_hole=True,
                    unknown_from=controllers.state(self.connection, controller_id, self.now).complete_until,
                    unknown_until=min(begins_at, self.now) if begins_at >= EARLIEST else self.now,
                )
            )
        return head

    # -- writing

    def _write_rows(self) -> None:
        events.add_many(self.connection, self._rows)
        self._rows = []

    def note(self, anomaly: Anomaly) -> None:
        """Put an anomaly on record."""
        self.changed[anomaly.controller_id] = None
        journals.record(self.connection, anomaly)
        self._noticed.doubt(anomaly)

    def _quarantine(self, controller_id: ControllerId, topic: str, payload: bytes, kind: AnomalyKind) -> None:
        self.counts.set_aside += 1
        journals.set_aside(
            self.connection, controller_id, topic=topic, payload=payload, cause=kind, now=self.now
        )
