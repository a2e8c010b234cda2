"""Why an operator is looking at somebody's movements, for as long as they need not say it again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from hub.store.schema import given_reasons


def give(connection: Connection, session_hash: bytes, subject: str, reason: str, until: datetime) -> None:
    """Keep the reason of this session for this subject; it takes the place of an earlier one."""
    mine = (given_reasons.c.session_hash == session_hash) & (given_reasons.c.subject == subject)
    connection.execute(delete(given_reasons).where(mine))
    connection.execute(
        insert(given_reasons).values(session_hash=session_hash, subject=subject, reason=reason, until=until)
    )


def given(connection: Connection, session_hash: bytes, subject: str, now: datetime) -> str | None:
    """The reason this session gave for this subject; None when there is none, or its time is over."""
    columns = given_reasons.c
    query = select(columns.reason).where(
        columns.session_hash == session_hash, columns.subject == subject, columns.until > now
    )
    found: str | None = connection.scalar(query)
    return found


def forget_old(connection: Connection, now: datetime) -> None:
    """Forget the reasons whose time is over."""
    connection.execute(delete(given_reasons).where(given_reasons.c.until <= now))
