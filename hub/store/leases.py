"""Who does which share of the work, as session advisory locks of PostgreSQL: they end with the connection that took them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, NullPool, create_engine, text

from hub.store.database import Database

_CLASS = int.from_bytes(b"drem")  # of the locks of this product in a database
_MEMBER = 1_000  # every process has this one, shared
_CONNECT = {
    "application_name": "drempel-hub leases",
    "connect_timeout": 5,
    "keepalives_idle": 3,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 9_000,
    "options": "-c tcp_keepalives_idle=3 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
    " -c statement_timeout=5000",
}
"""Neither side waits long for the other when the network between them is cut."""


@dataclass(slots=True)
class Member:
    """One process that takes part, by its session; ``idle_s``: since it last asked for anything."""

    session: int
    idle_s: float
    held: set[int] = field(default_factory=set)


@contextmanager
def session(database: Database) -> Iterator[Connection]:
    """A connection of its own that takes part; when it ends, all that it holds is free."""
    engine = create_engine(
        database.engine.url, poolclass=NullPool, connect_args=_CONNECT, isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock_shared(:class, :number)"), _lock(_MEMBER))
        yield connection


def own(connection: Connection) -> int:
    """The number of this session."""
    return int(connection.scalar(text("SELECT pg_backend_pid()")) or 0)


def members(connection: Connection) -> dict[int, Member]:
    """Every process that takes part, by its session."""
    query = text(
        "SELECT locks.pid, locks.objid::bigint AS number,"
        " extract(epoch FROM clock_timestamp() - activity.state_change)::float AS idle_s"
        " FROM pg_locks AS locks JOIN pg_stat_activity AS activity ON activity.pid = locks.pid"
        " WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 2"
        " AND locks.classid::bigint = :class"
        " AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    found: dict[int, Member] = {}
    for row in connection.execute(query, {"class": _CLASS}):
        member = found.setdefault(row.pid, Member(session=row.pid, idle_s=row.idle_s or 0.0))
        if row.number != _MEMBER:
            member.held.add(row.number)
    return found


def take(connection: Connection, number: int) -> bool:
    """Take a lease; False when another session has it."""
    return bool(connection.scalar(text("SELECT pg_try_advisory_lock(:class, :number)"), _lock(number)))


def give_up(connection: Connection, number: int) -> None:
    """Give a lease back."""
    connection.execute(text("SELECT pg_advisory_unlock(:class, :number)"), _lock(number))


def end(connection: Connection, member: int) -> None:
    """End the session of a process that no longer asks for anything."""
    connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": member})


def _lock(number: int) -> dict[str, int]:
    return {"class": _CLASS, "number": number}
