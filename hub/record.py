"""What one group of messages changes: the rules by which a controller's events become its record.

Everything here runs inside one write transaction of ``hub.ingest``; what others have to be told is collected
for after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from hub import attendance
from hub.alarms import Noticed
from hub.effects import Documents, Effects
from hub.fit import UNKNOWN_HASH, Fit, fit
from hub.store import controllers, doors, events, expiry, journals, webhooks
from hub.store.journals import Anomaly, AnomalyKind, Head
from hub.times import EARLIEST, Times
from pacs.events import Batch, Event, genesis
from pacs.identifiers import ControllerId, DoorId, JournalId


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
        self._rows = _Rows(connection)
        self._taps: list[dict[str, Any]] = []
        self._alive: set[ControllerId] = set()
        self._until: dict[tuple[ControllerId, str], datetime] = {}
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
        self.note = partial(_put_on_record, connection, self._noticed, self.changed)
        """Puts an anomaly on record."""
        self._times = Times(connection, now, note=self.note, settle=self._rows.write)
        self._effects = Effects(
            connection,
            now,
            times=self._times,
            noticed=self._noticed,
            note=self.note,
            told=self.told,
            changed=self.changed,
        )

    def finish(self) -> None:
        """Write what was gathered; to be called once, at the end of the transaction.

        Raises ``HeadMoved`` when a journal was continued by another process: nothing of this may be committed.
        """
        for key, head in self.heads.items():
            committed = self._committed.get(key)
            journals.advance(self.connection, head, since=committed.sequence if committed else 0)
        self._rows.write()
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
                believed = self._times.is_believed(event)
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
            self._times.judge(controller_id, journal_id, event, before)
            self.requests_changed |= self._effects.follow(controller_id, journal_id, event, before)
            row = events.row(controller_id, journal_id, event, data, self.now)
            if event.draft.door_id is not None:
                row = self._without_private(controller_id, event, row)
            self._rows.add(row)
            if row["kind"] in events.ABOUT_PEOPLE and not row["coarse"]:
                self._taps.append(row)
            before = event
        last = batch.events[-1]
        self.counts.stored += len(batch.events) - stored
        self.heads[controller_id, journal_id] = replace(head, sequence=last.sequence, hash=batch.last_hash)
        if self._times.is_believed(last):  # else it is not known which time the record reaches up to
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

    def _is_stored(self, head: Head, batch: Batch) -> bool:
        """Whether the batch is what is stored; its last event proves those before."""
        last = batch.events[-1].sequence
        if last == head.sequence and head.hash != UNKNOWN_HASH:
            return batch.last_hash == head.hash
        self._rows.write()
        data = events.data_at(self.connection, batch.controller_id, batch.journal_id, last)
        return data is None or data == batch.encoded[-1]

    def _contradicts(self, batch: Batch, kind: AnomalyKind, topic: str, payload: bytes) -> None:
        first, last = batch.events[0].sequence, batch.events[-1].sequence
        times = [event.draft.occurred_at for event in batch.events if self._times.is_believed(event)]
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

    def _quarantine(self, controller_id: ControllerId, topic: str, payload: bytes, kind: AnomalyKind) -> None:
        self.counts.set_aside += 1
        journals.set_aside(
            self.connection, controller_id, topic=topic, payload=payload, cause=kind, now=self.now
        )


class _Rows:
    """Events that are written many at a time, in the order in which they were added."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._gathered: list[dict[str, Any]] = []

    def add(self, row: dict[str, Any]) -> None:
        self._gathered.append(row)

    def write(self) -> None:
        gathered, self._gathered = self._gathered, []
        events.add_many(self._connection, gathered)


def _put_on_record(
    connection: Connection, noticed: Noticed, changed: dict[ControllerId, None], anomaly: Anomaly
) -> None:
    changed[anomaly.controller_id] = None
    journals.record(connection, anomaly)
    noticed.doubt(anomaly)
