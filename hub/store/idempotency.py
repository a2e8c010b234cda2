"""Requests with a key: begun, written to the database, answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique

from sqlalchemy import Connection, delete, insert, select, update

from hub.store.database import fields
from hub.store.schema import idempotency_keys as table

KEPT = timedelta(hours=24)


@unique
class State(StrEnum):
    """How far a request is. ``written``: at least one transaction of it is committed, or about to be."""

    BEGUN = "begun"
    WRITTEN = "written"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedRequest:
    """One row. ``status`` None in an answered one: its answer is not kept."""

    actor: str
    key: str
    fingerprint: bytes
    attempt: str
    state: State
    begun_at: datetime
    status: int | None = None
    headers: Mapping[str, str] | None = None
    body: bytes | None = None


def get(connection: Connection, actor: str, key: str) -> KeyedRequest | None:
    """What is known of this actor's key."""
    row = connection.execute(select(table).filter_by(actor=actor, key=key)).first()
    if row is None:
        return None
    found = fields(row)
    return KeyedRequest(**found | {"state": State(found["state"])})


def begin(connection: Connection, request: KeyedRequest) -> None:
    """Put this request in place of whatever is known of its key; forget what is older than a day."""
    connection.execute(delete(table).where(table.c.begun_at < request.begun_at - KEPT))
    connection.execute(delete(table).filter_by(actor=request.actor, key=request.key))
    connection.execute(
        insert(table).values(
            actor=request.actor,
            key=request.key,
            fingerprint=request.fingerprint,
            attempt=request.attempt,
            state=State.BEGUN,
            begun_at=request.begun_at,
        )
    )


def mark_written(connection: Connection, request: KeyedRequest) -> bool:
    """Say, in the transaction that does it, that it is done; False when another attempt has taken the key over."""
    mine = update(table).filter_by(actor=request.actor, key=request.key, attempt=request.attempt)
    return connection.execute(mine.values(state=State.WRITTEN)).rowcount == 1


def answered(
    connection: Connection,
    request: KeyedRequest,
    *,
    status: int | None,
    headers: Mapping[str, str],
    body: bytes | None,
) -> None:
    """Keep the answer; ``status`` None: only that there was one."""
    mine = update(table).filter_by(actor=request.actor, key=request.key, attempt=request.attempt)
    connection.execute(mine.values(state=State.ANSWERED, status=status, headers=dict(headers), body=body))


def forget(connection: Connection, request: KeyedRequest) -> None:
    """The request failed before it wrote anything: its key is free again."""
    connection.execute(
        delete(table).filter_by(
            actor=request.actor, key=request.key, attempt=request.attempt, state=State.BEGUN
        )
    )
