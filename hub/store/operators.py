"""Rows of those who work with the hub: operators, sessions, one-time links and API tokens.

Secrets are kept as hashes only; ``token_hash`` is always SHA-256 of a 256-bit random token.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from hub.store.database import fields
from hub.store.schema import api_tokens, one_time_links, operators, sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """Somebody who signs in; ``name_key`` is the name as it is compared. ``sites`` None: every site."""

    id: str
    name: str
    name_key: str
    role: str
    sites: list[str] | None
    password_hash: str | None
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """A signed-in browser."""

    token_hash: bytes
    operator_id: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """A one-time sign-in link; an empty ``name`` is chosen by whoever follows it. ``sites`` None: every site."""

    token_hash: bytes
    name: str
    role: str
    sites: list[str] | None
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A program's key to the API. ``sites`` None: every site."""

    name: str
    token_hash: bytes
    role: str
    sites: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    permissions: list[str] | None = None
    last_used_at: datetime | None = None


def operator_count(connection: Connection) -> int:
    """How many operators there are, disabled ones included."""
    return connection.execute(select(func.count()).select_from(operators)).scalar_one()


def operator_by_key(connection: Connection, name_key: str) -> OperatorRow | None:
    """The operator of that name."""
    return _operator(connection, select(operators).where(operators.c.name_key == name_key))


def operator_by_id(connection: Connection, operator_id: str) -> OperatorRow | None:
    """The operator with that id."""
    return _operator(connection, select(operators).where(operators.c.id == operator_id))


def list_operators(connection: Connection) -> list[OperatorRow]:
    """All operators by name."""
    query = select(operators).order_by(operators.c.name_key)
    return [OperatorRow(**fields(row)) for row in connection.execute(query)]


def add_operator(connection: Connection, row: OperatorRow) -> None:
    """Store a new operator."""
    connection.execute(insert(operators).values(asdict(row)))


def set_password_hash(connection: Connection, operator_id: str, password_hash: str | None) -> None:
    """Replace an operator's password; None: they have none."""
    query = update(operators).where(operators.c.id == operator_id)
    connection.execute(query.values(password_hash=password_hash))


def set_disabled(connection: Connection, operator_id: str, disabled_at: datetime | None) -> None:
    """Shut an operator out, or let them in again; their sessions are ended either way."""
    connection.execute(update(operators).where(operators.c.id == operator_id).values(disabled_at=disabled_at))
    end_sessions_of(connection, operator_id)


def set_rights(connection: Connection, operator_id: str, role: str, sites: list[str] | None) -> None:
    """Change an operator's role and sites (None: every site)."""
    query = update(operators).where(operators.c.id == operator_id)
    connection.execute(query.values(role=role, sites=sites))


def add_session(connection: Connection, row: SessionRow) -> None:
    """Store a new session."""
    connection.execute(insert(sessions).values(asdict(row)))


def session_by_hash(connection: Connection, token_hash: bytes) -> tuple[SessionRow, OperatorRow] | None:
    """A session and whose it is."""
    query = select(sessions).where(sessions.c.token_hash == token_hash)
    found = connection.execute(query).one_or_none()
    if found is None:
        return None
    session = SessionRow(**fields(found))
    operator = operator_by_id(connection, session.operator_id)
    return None if operator is None else (session, operator)


def touch_session(connection: Connection, token_hash: bytes, now: datetime) -> None:
    """Note that a session was used."""
    query = update(sessions).where(sessions.c.token_hash == token_hash)
    connection.execute(query.values(last_used_at=now))


def end_session(connection: Connection, token_hash: bytes) -> None:
    """Forget a session."""
    connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))


def end_sessions_of(connection: Connection, operator_id: str) -> None:
    """Forget every session of an operator."""
    connection.execute(delete(sessions).where(sessions.c.operator_id == operator_id))


def end_expired(connection: Connection, now: datetime, idle_before: datetime) -> None:
    """Forget the sessions and links whose time is over."""
    over = (sessions.c.expires_at <= now) | (sessions.c.last_used_at <= idle_before)
    connection.execute(delete(sessions).where(over))
    connection.execute(delete(one_time_links).where(one_time_links.c.expires_at <= now))


def add_link(connection: Connection, row: LinkRow) -> None:
    """Store a one-time link."""
    connection.execute(insert(one_time_links).values(asdict(row)))


def link_by_hash(connection: Connection, token_hash: bytes) -> LinkRow | None:
    """The link whose token has that hash, used or not."""
    query = select(one_time_links).where(one_time_links.c.token_hash == token_hash)
    row = connection.execute(query).one_or_none()
    return None if row is None else LinkRow(**fields(row))


def use_link(connection: Connection, token_hash: bytes, now: datetime) -> bool:
    """Mark a link used; False when somebody was first."""
    unused = (one_time_links.c.token_hash == token_hash) & one_time_links.c.used_at.is_(None)
    return connection.execute(update(one_time_links).where(unused).values(used_at=now)).rowcount == 1


def void_unnamed_links(connection: Connection) -> None:
    """Forget every unused link that would make a new operator of any name."""
    unused = (one_time_links.c.name == "") & one_time_links.c.used_at.is_(None)
    connection.execute(delete(one_time_links).where(unused))


def add_token(connection: Connection, row: TokenRow) -> None:
    """Store an API token."""
    connection.execute(insert(api_tokens).values(asdict(row)))


def token_by_name(connection: Connection, name: str) -> TokenRow | None:
    """The token of that name."""
    return _token(connection, select(api_tokens).where(api_tokens.c.name == name))


def token_by_hash(connection: Connection, token_hash: bytes) -> TokenRow | None:
    """The token with that hash."""
    return _token(connection, select(api_tokens).where(api_tokens.c.token_hash == token_hash))


def list_tokens(connection: Connection) -> list[TokenRow]:
    """All API tokens by name."""
    return [
        TokenRow(**fields(row)) for row in connection.execute(select(api_tokens).order_by(api_tokens.c.name))
    ]


def revoke_token(connection: Connection, name: str, now: datetime) -> None:
    """Make a token useless; its name stays taken."""
    unrevoked = (api_tokens.c.name == name) & api_tokens.c.revoked_at.is_(None)
    connection.execute(update(api_tokens).where(unrevoked).values(revoked_at=now))


def touch_token(connection: Connection, name: str, now: datetime) -> None:
    """Note that a token was used."""
    connection.execute(update(api_tokens).where(api_tokens.c.name == name).values(last_used_at=now))


def _operator(connection: Connection, query: Select[Any]) -> OperatorRow | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else OperatorRow(**fields(row))


def _token(connection: Connection, query: Select[Any]) -> TokenRow | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else TokenRow(**fields(row))
