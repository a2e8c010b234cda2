"""What is read to find out whether a database holds what was written to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, func, select

from hub.store.schema import confirmations, controllers, documents, events


def broken_pages(connection: Connection) -> list[str]:
    """What SQLite says of its own file and of references to what is not there; PostgreSQL looks after that itself."""
    if connection.dialect.name != "sqlite":
        return []
    said = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check").all()]
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    return [line for line in said if line != "ok"] + [
        f"{row[0]}, row {row[1]}: refers to {row[2]}, which is not there" for row in broken
    ]


def events_in_chains(connection: Connection) -> Iterator[Row[Any]]:
    """Every event, journal by journal in the order in which they were recorded."""
    columns = events.c
    query = select(events).order_by(columns.controller_id, columns.journal_id, columns.sequence)
    yield from connection.execute(query).yield_per(1000)


def confirmed_but_not_there(connection: Connection) -> list[Row[Any]]:
    """Controller, kind and version of each confirmation above every document of its site."""
    said = confirmations.c
    newest = (
        select(func.max(documents.c.version))
        .where(documents.c.site_id == controllers.c.site_id, documents.c.kind == said.kind)
        .scalar_subquery()
    )
    query = select(said.controller_id, said.kind, said.version)
    query = query.join(controllers, controllers.c.id == said.controller_id)
    return list(connection.execute(query.where(said.version > func.coalesce(newest, 0))))


def documents_with_data(connection: Connection) -> Iterator[Row[Any]]:
    """Each document whose data is still held."""
    query = select(documents).where(documents.c.data != b"")
    yield from connection.execute(query).yield_per(10)
