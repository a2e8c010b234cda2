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

from hub import commands
from hub.alarms import Noticed
from hub.completeness import hole_before
from hub.store import controllers, documents, events, journals
from hub.store.journals import Anomaly, AnomalyKind, Head
from pacs.events import Batch, Event, EventKind, event_hash, genesis
from pacs.identifiers import ControllerId, JournalId
from pacs.messages import CONFIRMED_DIGEST_BYTES, DocumentKind

UNKNOWN_HASH = b""
"""A head whose last event is not here: what follows is taken on its signature alone."""

CLOCKS_DIFFER = timedelta(minutes=2)
"""Further ahead of the hub's own a clock is wrong, whatever the controller thinks of it."""
EARLIEST = datetime(2025, 1, 1, tzinfo=UTC)
"""Before this nothing was recorded by anybody."""


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
        self._alive: set[ControllerId] = set()
        self._until: dict[tuple[ControllerId, str], datetime] = {}
        self._noticed = Noticed(connection, now)
        self.now = now
        self.counts = Counts()
        # for after the commit
        self.heads: dict[tuple[ControllerId, str], Head] = {}
        self.to_acknowledge: dict[tuple[ControllerId, JournalId], None] = {}
        self.told: list[Callable[[Documents], None]] = []
        self.changed: dict[ControllerId, None] = {}

    def finish(self) -> None:
        """Write what was gathered; to be called once, at the end of the transaction.

        Raises ``HeadMoved`` when a journal was continued by another process: nothing of this may be committed.
        """
        for key, head in self.heads.items():
            committed = self._committed.get(key)
            journals.advance(self.connection, head, since=committed.sequence if committed else 0)
        self._write_rows()
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
        latest = self.now + CLOCKS_DIFFER
        wrong = None
        for index in range(stored, len(batch.events)):
            event = batch.events[index]
            draft = event.draft
            if not EARLIEST <= draft.occurred_at <= latest and draft.clock_trusted:
                wrong = event
            self._consequences(controller_id, journal_id, event, batch.events[index - 1] if index else None)
            self._rows.append(events.row(controller_id, journal_id, event, batch.encoded[index], self.now))
        last = batch.events[-1]
        if wrong is not None:
            self._clock_wrong(batch, wrong)
        self.counts.stored += len(batch.events) - stored
        self.heads[controller_id, journal_id] = replace(head, sequence=last.sequence, hash=batch.last_hash)
        clock_is_right = last.draft.clock_trusted and last.draft.occurred_at <= self.now
        self._until[controller_id, journal_id] = last.draft.occurred_at if clock_is_right else self.now

    def _clock_wrong(self, batch: Batch, event: Event) -> None:
        """One for the whole journal, counted: the clock goes on being wrong."""
        at = event.draft.occurred_at.isoformat(timespec="seconds")
        self.note(
            Anomaly(
                controller_id=batch.controller_id,
                journal_id=batch.journal_id,
                kind=AnomalyKind.CLOCK_WRONG,
                detail=f"event {event.sequence} says {at}",
                at=self.now,
                last_sequence=event.sequence,
            )
        )

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
        self.note(
            Anomaly(
                controller_id=batch.controller_id,
                journal_id=batch.journal_id,
                kind=kind,
                detail=f"events {first} to {last} are kept aside",
                at=self.now,
                first_sequence=first,
                last_sequence=last,
            )
        )
        self._quarantine(batch.controller_id, topic, payload, kind)

    def _consequences(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        """What an event means beyond being stored."""
        self._noticed.see(controller_id, journal_id, event)
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
                    until=draft.occurred_at,
                    door_id=draft.door_id,
                    detail=str(draft.side),
                )
            case EventKind.CONTROLLER_STARTED | EventKind.JOURNAL_GAP:
                self._hole_before(controller_id, journal_id, event, before)
            case _:
                return

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
                unknown_from=event.draft.occurred_at,
            )
        )

    def _hole_before(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        if before is not None:
            previous_at: datetime | None = before.draft.occurred_at
        else:
            self._write_rows()
            previous_at = events.before(self.connection, controller_id, journal_id, event.sequence)
            previous_at = (
                previous_at or controllers.state(self.connection, controller_id, self.now).complete_until
            )
        hole = hole_before(controller_id, journal_id, event, previous_at)
        if hole is not None:
            self.note(hole)
        if (
            event.draft.kind is EventKind.CONTROLLER_STARTED
        ):  # a reader that is still lost is said to be again
            until = event.draft.occurred_at
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
            self.note(
                Anomaly(
                    controller_id=controller_id,
                    journal_id=journal_id,
                    kind=AnomalyKind.JOURNAL_REPLACED,
                    detail=f"a new journal begins at {first}",
                    at=self.now,
                    has_hole=True,
                    unknown_from=controllers.state(self.connection, controller_id, self.now).complete_until,
                    unknown_until=begins_at,
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
