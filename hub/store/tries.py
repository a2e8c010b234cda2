"""Tries to sign in, counted over all processes; each is known by a hash of what it is counted for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from hub.store.schema import sign_in_tries


def counts(connection: Connection, counted: Collection[bytes]) -> Mapping[bytes, int]:
    """How many there were for each, of those that had any."""
    column = sign_in_tries.c.counted
    query = select(column, func.count()).where(column.in_(counted)).group_by(column)
    return {row[0]: row[1] for row in connection.execute(query)}


def add(connection: Connection, counted: Collection[bytes], at: datetime) -> None:
    """Count one for each."""
    connection.execute(insert(sign_in_tries), [{"counted": each, "at": at} for each in counted])


def forget(connection: Connection, counted: bytes) -> None:
    """Forget those for this."""
    connection.execute(delete(sign_in_tries).where(sign_in_tries.c.counted == counted))


def forget_before(connection: Connection, at: datetime) -> None:
    """Forget those up to then."""
    connection.execute(delete(sign_in_tries).where(sign_in_tries.c.at <= at))
