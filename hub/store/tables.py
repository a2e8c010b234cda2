"""Whole tables, row by row, for a copy of everything that is the same on every kind of database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, String, Table, collate, func, insert, select, text

from hub.store.schema import metadata

LEFT_OUT = frozenset(
    {
        "sessions",
        "one_time_links",
        "given_reasons",
        "challenges",
        "oidc_requests",
        "sign_in_tries",
        "idempotency_keys",
        "desk_sign_ons",
        "desk_looks",
    }
)
"""What only concerns those who are at work now: nobody is signed in by a copy, and no link in it works again."""
_ROWS_AT_A_TIME = 500


def copied() -> list[Table]:
    """Every table that a copy holds, what others refer to first."""
    return [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]


def rows(connection: Connection, table: Table) -> Iterator[tuple[Any, ...]]:
    """Every row, its columns as they stand in the table, in an order that no database's collation changes."""
    query = select(table).order_by(*(_in_order(connection, column) for column in table.primary_key))
    for row in connection.execute(query).yield_per(_ROWS_AT_A_TIME):
        yield tuple(row)


def add(connection: Connection, table: Table, some: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows as ``rows`` gave them."""
    connection.execute(insert(table), list(some))


def count(connection: Connection, table: Table) -> int:
    """How many rows there are."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


def first_with_rows(connection: Connection) -> str | None:
    """The name of a table that is not empty, None when all are."""
    for table in metadata.sorted_tables:
        if connection.execute(select(*table.primary_key).limit(1)).first() is not None:
            return table.name
    return None


def go_on_numbering(connection: Connection, table: Table) -> None:
    """Let the database number further rows after the highest that was added with its number."""
    column = table.autoincrement_column
    if connection.dialect.name != "postgresql" or column is None or column.foreign_keys:
        return
    sequence = connection.scalar(
        text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
    )
    highest = connection.scalar(select(func.max(column)))
    if sequence is not None and highest is not None:
        connection.execute(
            text("SELECT setval(:sequence, :highest)"), {"sequence": sequence, "highest": highest}
        )


def _in_order(connection: Connection, column: Column[Any]) -> Any:
    if connection.dialect.name == "postgresql" and isinstance(column.type, String):
        return collate(column, "C")
    return column
