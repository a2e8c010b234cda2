"""Whether a database holds what was written to it: schema, audit log, every controller's chain of events, documents."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row

from hub import audit
from hub.certificates import TO_DO, SiteCertificate
from hub.fit import UNKNOWN_HASH
from hub.store import events, journals, soundness
from hub.store.database import newest_revision, revision_of
from hub.store.journals import Head
from pacs.errors import MalformedData, StoreError
from pacs.events import Event, event_hash, genesis
from pacs.identifiers import ControllerId, JournalId

_DERIVED = ("kind", "occurred_at", "clock_trusted", "door_id", "side", "credential_id", "reason")
_FAULTS_OF_ONE_JOURNAL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is not what was written; ``part``: schema, database, audit, events, documents or certificates."""

    part: str
    detail: str

    def __str__(self) -> str:
        return f"{self.part}: {self.detail}"


def faults(connection: Connection, said: Callable[[int], None] = lambda _events: None) -> Iterator[Fault]:
    """Everything that is wrong with a database, in one snapshot; ``said`` is told how many events were looked at.

    Events may have gone when their time was over: a chain is followed through all that are whole and next to each
    other.
    """
    if (found := revision_of(connection)) != newest_revision():
        yield Fault(
            part="schema", detail=f"is {found}, this program needs {newest_revision()}: start the hub once"
        )
        return
    for line in soundness.broken_pages(connection):
        yield Fault(part="database", detail=line)
    try:
        audit.verify(connection)
    except StoreError as error:
        yield Fault(part="audit", detail=str(error).removeprefix("audit log: "))
    try:
        yield from _chains(connection, said)
    except MalformedData as error:
        yield Fault(part="events", detail=f"cannot be read ({error})")
    yield from _documents(connection)


def certificates_due(held: Iterable[SiteCertificate], now: datetime) -> Iterator[Fault]:
    """Those of which two thirds of their life are over, so that somebody has to renew them."""
    for each in held:
        if now >= each.due_at:
            left = each.days_left(now)
            ends = f"ended on {each.ends_at:%Y-%m-%d}" if left < 0 else f"{left} days left"
            yield Fault(part="certificates", detail=f"{each.part}: {ends}; {TO_DO[each.part]}")


def _chains(connection: Connection, said: Callable[[int], None]) -> Iterator[Fault]:
    heads = {(head.controller_id, head.journal_id): head for head in journals.heads(connection)}
    counted = 0
    journal = groupby(
        soundness.events_in_chains(connection),
        lambda row: (ControllerId(row.controller_id), JournalId(row.journal_id)),
    )
    for (controller_id, journal_id), rows in journal:
        found = 0
        before: Row[Any] | None = None
        for row in rows:
            if found < _FAULTS_OF_ONE_JOURNAL and (detail := _wrong(row, before)) is not None:
                found += 1
                yield _event_fault(controller_id, journal_id, f"event {row.sequence} {detail}")
            before = row
            counted += 1
            if counted % 1000 == 0:
                said(counted)
        if (
            before is not None
            and (detail := _beyond(heads.get((controller_id, journal_id)), before)) is not None
        ):
            yield _event_fault(controller_id, journal_id, detail)
    said(counted)


def _event_fault(controller_id: ControllerId, journal_id: str, detail: str) -> Fault:
    return Fault(part="events", detail=f"{controller_id}, journal {journal_id}: {detail}")


def _wrong(row: Row[Any], before: Row[Any] | None) -> str | None:
    """What is wrong with an event that is whole, None: nothing."""
    if not row.data:
        return None
    try:
        event = Event.from_bytes(row.data)
    except MalformedData as error:
        return f"was changed ({error})"
    journal_id = JournalId(row.journal_id)
    controller_id = ControllerId(row.controller_id)
    said = events.row(controller_id, journal_id, event, row.data, row.received_at)
    for name in ("sequence", *_DERIVED):
        if said[name] != getattr(row, name):
            return f"says another {name} than is stored beside it"
    if row.sequence == 1:
        return None if event.previous_hash == genesis(controller_id, journal_id) else "begins another journal"
    follows = before is not None and before.data and before.sequence == row.sequence - 1
    if follows and before is not None and event.previous_hash != event_hash(before.data):
        return "does not follow the one before it"
    return None


def _beyond(head: Head | None, newest: Row[Any]) -> str | None:
    """What is wrong with how far a journal is said to be stored, None: nothing."""
    if head is None:
        return "has events, and is not known"
    if newest.sequence > head.sequence:
        return f"is said to be stored up to {head.sequence}, and has event {newest.sequence}"
    if (
        newest.sequence == head.sequence
        and newest.data
        and head.hash not in (UNKNOWN_HASH, event_hash(newest.data))
    ):
        return f"event {newest.sequence} is not the one up to which it is said to be stored"
    return None


def _documents(connection: Connection) -> Iterator[Fault]:
    for row in soundness.documents_with_data(connection):
        if hashlib.sha256(row.data).digest() != row.digest:
            yield Fault(part="documents", detail=f"{row.kind} {row.version} of {row.site_id} was changed")
    for row in soundness.confirmed_but_not_there(connection):
        said = f"{row.controller_id} confirmed {row.kind} {row.version}, which was never made here"
        yield Fault(part="documents", detail=said)
