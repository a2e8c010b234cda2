"""The audit log's rows: appended and read, never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from hub.store.database import fields
from hub.store.schema import audit


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One entry, with the hash of the one before it and its own (SHA-256, 32 bytes each)."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    detail: Mapping[str, Any]
    previous_hash: bytes
    hash: bytes


def last(connection: Connection) -> AuditRow | None:
    """The newest entry, or None in an empty log."""
    row = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(1)).one_or_none()
    return None if row is None else AuditRow(**fields(row))


def actions_after(connection: Connection, entry_id: int) -> set[str]:
    """What was done since this entry was written."""
    return set(connection.scalars(select(audit.c.action).where(audit.c.id > entry_id).distinct()))


def append(connection: Connection, row: AuditRow) -> None:
    """Add ``row``; the caller holds the write transaction in which it read ``last``."""
    columns = {name: getattr(row, name) for name in AuditRow.__dataclass_fields__}
    connection.execute(insert(audit).values(columns))


def oldest_first(connection: Connection) -> Iterator[AuditRow]:
    """Every entry in order, read in portions."""
    for row in connection.execute(select(audit).order_by(audit.c.id)).yield_per(1000):
        yield AuditRow(**fields(row))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries; None: any. ``since`` is included, ``until`` is not."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def page(
    connection: Connection, *, before: int | None, limit: int, wanted: Wanted | None = None
) -> list[AuditRow]:
    """The newest ``limit`` entries that are ``wanted`` and whose id is below ``before``, newest first."""
    columns = audit.c
    query = select(audit).order_by(columns.id.desc()).limit(limit)
    if before is not None:
        query = query.where(columns.id < before)
    for name in ("actor", "action", "subject"):
        if (value := getattr(wanted, name, None)) is not None:
            query = query.where(columns[name] == value)
    if wanted and wanted.since:
        query = query.where(columns.at >= wanted.since)
    if wanted and wanted.until:
        query = query.where(columns.at < wanted.until)
    return [AuditRow(**fields(row)) for row in connection.execute(query)]
