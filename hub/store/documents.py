"""The signed documents in all their versions, and which controller confirmed which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import confirmations, controllers, documents
from pacs.identifiers import ControllerId
from pacs.messages import DocumentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One version of one signed document, exactly as it travels.

    ``digest`` is SHA-256 of ``data``; ``content_digest`` of what it says, whatever its version and dates.
    """

    kind: DocumentKind
    version: int
    data: bytes
    digest: bytes
    content_digest: bytes
    cause: str
    created_at: datetime
    expires_at: datetime


def add(connection: Connection, document: Document) -> None:
    """Store the next version; the data of versions before the last but one is let go."""
    connection.execute(insert(documents).values(**asdict(document)))
    connection.execute(
        update(documents)
        .where(documents.c.kind == document.kind, documents.c.version < document.version - 1)
        .values(data=b"")
    )


def newest(connection: Connection, kind: DocumentKind) -> Document | None:
    """The version in force, None before the first."""
    query = select(documents).where(documents.c.kind == kind).order_by(documents.c.version.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Document(**{**fields(row), "kind": kind})


def history(connection: Connection, kind: DocumentKind, *, limit: int = 50) -> list[Mapping[str, Any]]:
    """Version, cause and dates, newest first."""
    columns = documents.c
    query = select(columns.version, columns.cause, columns.created_at, columns.expires_at)
    query = query.where(columns.kind == kind).order_by(columns.version.desc()).limit(limit)
    return [fields(row) for row in connection.execute(query)]


def confirm(
    connection: Connection, controller_id: ControllerId, kind: DocumentKind, version: int, now: datetime
) -> None:
    """The controller enforces this version; a repetition keeps the first time."""
    columns = confirmations.c
    key = (columns.controller_id == controller_id, columns.kind == kind, columns.version == version)
    if connection.execute(select(columns.version).where(*key)).first() is None:
        connection.execute(
            insert(confirmations).values(
                controller_id=controller_id, kind=kind, version=version, confirmed_at=now
            )
        )


def withdraw(connection: Connection, controller_id: ControllerId, kind: DocumentKind, *, above: int) -> int:
    """The controller says it holds only version ``above``: what it confirmed beyond that no longer holds.

    Returns how many confirmations were taken back.
    """
    columns = confirmations.c
    return connection.execute(
        delete(confirmations).where(
            columns.controller_id == controller_id, columns.kind == kind, columns.version > above
        )
    ).rowcount


def confirmed_at(
    connection: Connection, kind: DocumentKind, version: int
) -> dict[ControllerId, datetime | None]:
    """Every controller in use → when it first confirmed this version or a later one; None: not yet."""
    columns = confirmations.c
    first = (
        select(columns.controller_id, func.min(columns.confirmed_at).label("at"))
        .where(columns.kind == kind, columns.version >= version)
        .group_by(columns.controller_id)
        .subquery()
    )
    query = (
        select(controllers.c.id, first.c.at)
        .outerjoin(first, first.c.controller_id == controllers.c.id)
        .where(controllers.c.retired_at.is_(None))
        .order_by(controllers.c.id)
    )
    return {ControllerId(row.id): row.at for row in connection.execute(query)}


def confirmed_versions(connection: Connection) -> dict[tuple[ControllerId, DocumentKind], int]:
    """(controller, kind) → the highest version confirmed."""
    columns = confirmations.c
    query = select(columns.controller_id, columns.kind, func.max(columns.version))
    rows = connection.execute(query.group_by(columns.controller_id, columns.kind))
    return {(ControllerId(controller), DocumentKind(kind)): version for controller, kind, version in rows}


def required_newest(connection: Connection, kind: DocumentKind) -> Document:
    """The version in force; raises ``NotFound`` before the first."""
    document = newest(connection, kind)
    if document is None:
        raise NotFound(f"no {kind} document yet")
    return document
