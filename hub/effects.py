"""What a new event means beyond being stored, in the transaction that stores it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from hub import attendance, commands, post_leases
from hub.alarms import Noticed
from hub.completeness import hole_before
from hub.store import controllers, documents, journals
from hub.store.journals import Anomaly, AnomalyKind
from hub.times import Times
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, JournalId
from pacs.messages import CONFIRMED_DIGEST_BYTES, DocumentKind

_ONLY_STORED = frozenset({EventKind.ACCESS_GRANTED, EventKind.ACCESS_DENIED})
"""Nothing follows from them, and they are most of a backlog: they need not be asked what they mean."""


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


class Effects:
    """Of the events of one write transaction, each once and in its order."""

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        *,
        times: Times,
        noticed: Noticed,
        note: Callable[[Anomaly], None],
        told: list[Callable[[Documents], None]],
        changed: dict[ControllerId, None],
    ) -> None:
        """``note``: puts an anomaly on record; to ``told`` and ``changed`` is added what others hear after the commit."""
        self._connection = connection
        self._now = now
        self._times = times
        self._noticed = noticed
        self._note = note
        self._told = told
        self._changed = changed

    def follow(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> bool:
        """Let an event have its effect; whether attended requests look different now.

        ``before``: the event before it, None when that came in an earlier batch.
        """
        if event.draft.kind in _ONLY_STORED:
            return False
        self._noticed.see(controller_id, journal_id, event)
        believed = self._times.is_believed(event)
        looks_different = attendance.noted(
            self._connection, controller_id, event, is_believed=believed, now=self._now
        )
        post_leases.noted(self._connection, controller_id, event)
        self._of_kind(controller_id, journal_id, event, before)
        return looks_different

    def _of_kind(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        draft = event.draft
        match draft.kind:
            case EventKind.POLICY_APPLIED:
                self._policy_applied(controller_id, event)
            case EventKind.POLICY_REFUSED:
                kind = draft.details.get("kind")
                if kind in (*DocumentKind,):
                    refused = DocumentKind(str(kind))
                    self._told.append(lambda documents: documents.refused(controller_id, refused))
                self._changed[controller_id] = None
            case EventKind.COMMAND_EXECUTED | EventKind.COMMAND_REFUSED:
                commands.ended(self._connection, controller_id, event)
            case EventKind.READER_LOST:
                self._reader_lost(controller_id, journal_id, event)
            case EventKind.READER_RESTORED:
                journals.end_holes(
                    self._connection,
                    controller_id,
                    AnomalyKind.READER_LOST,
                    until=draft.occurred_at if self._times.is_believed(event) else self._now,
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
                self._connection,
                controller_id,
                document,
                version,
                self._now,
                digest=digest,
                happened_at=draft.occurred_at if draft.clock_trusted else None,
            ):
                return
            self._told.append(lambda documents: documents.applied(controller_id, document, version))

    def _reader_lost(self, controller_id: ControllerId, journal_id: JournalId, event: Event) -> None:
        self._note(
            Anomaly(
                controller_id=controller_id,
                door_id=event.draft.door_id,
                journal_id=journal_id,
                kind=AnomalyKind.READER_LOST,
                detail=str(event.draft.side),
                at=self._now,
                first_sequence=event.sequence,
                last_sequence=event.sequence,
                has_hole=True,
                unknown_from=(
                    event.draft.occurred_at
                    if self._times.is_believed(event)
                    else controllers.state(self._connection, controller_id, self._now).complete_until
                ),
            )
        )

    def _hole_before(
        self, controller_id: ControllerId, journal_id: JournalId, event: Event, before: Event | None
    ) -> None:
        hole = hole_before(
            controller_id,
            journal_id,
            event,
            self._times.known_until(controller_id, journal_id, event, before),
        )
        if hole is not None and not self._times.is_believed(event):
            hole = replace(hole, unknown_until=self._now)
        if hole is not None:
            self._note(hole)
        if event.draft.kind is EventKind.CONTROLLER_STARTED:
            # a reader that is still lost is said to be again
            until = event.draft.occurred_at if self._times.is_believed(event) else self._now
            journals.end_holes(self._connection, controller_id, AnomalyKind.READER_LOST, until=until)
