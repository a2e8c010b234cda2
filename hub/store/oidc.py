"""Whom an OpenID provider vouches for, and the requests to it that are under way."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from hub.store.database import fields
from hub.store.schema import oidc_identities, oidc_requests


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRow:
    """An account at a provider, and the one operator whose it is."""

    issuer: str
    subject: str
    operator_id: str
    linked_at: datetime
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A sign-in that was begun: of ``operator_id`` who connects an account, of who follows a link, or of a stranger."""

    state_hash: bytes
    browser_hash: bytes
    nonce: str
    verifier: str
    operator_id: str | None
    link_hash: bytes | None
    name: str
    next: str
    expires_at: datetime
    used_at: datetime | None = None


def add_request(connection: Connection, row: RequestRow) -> None:
    """Store a request."""
    connection.execute(insert(oidc_requests).values(asdict(row)))


def request_by_hash(connection: Connection, state_hash: bytes) -> RequestRow | None:
    """The request with that state, answered or not."""
    query = select(oidc_requests).where(oidc_requests.c.state_hash == state_hash)
    row = connection.execute(query).one_or_none()
    return None if row is None else RequestRow(**fields(row))


def use_request(connection: Connection, state_hash: bytes, now: datetime) -> bool:
    """Mark a request answered; False when somebody was first."""
    unused = (oidc_requests.c.state_hash == state_hash) & oidc_requests.c.used_at.is_(None)
    return connection.execute(update(oidc_requests).where(unused).values(used_at=now)).rowcount == 1


def remove_request(connection: Connection, state_hash: bytes) -> None:
    """Forget a request."""
    connection.execute(delete(oidc_requests).where(oidc_requests.c.state_hash == state_hash))


def forget_requests(connection: Connection, before: datetime) -> None:
    """Forget the requests whose time was over by then."""
    connection.execute(delete(oidc_requests).where(oidc_requests.c.expires_at <= before))


def add_identity(connection: Connection, row: IdentityRow) -> None:
    """Store whose account it is."""
    connection.execute(insert(oidc_identities).values(asdict(row)))


def identity(connection: Connection, issuer: str, subject: str) -> IdentityRow | None:
    """Whose account it is."""
    columns = oidc_identities.c
    return _identity(
        connection, select(oidc_identities).where(columns.issuer == issuer, columns.subject == subject)
    )


def identity_of(connection: Connection, operator_id: str) -> IdentityRow | None:
    """The account of this operator."""
    return _identity(connection, select(oidc_identities).where(oidc_identities.c.operator_id == operator_id))


def owners(connection: Connection, issuer: str) -> set[str]:
    """The operators who have an account at this provider."""
    query = select(oidc_identities.c.operator_id).where(oidc_identities.c.issuer == issuer)
    return set(connection.scalars(query))


def used_identity(connection: Connection, operator_id: str, now: datetime) -> None:
    """Note that somebody signed in with it."""
    query = update(oidc_identities).where(oidc_identities.c.operator_id == operator_id)
    connection.execute(query.values(last_used_at=now))


def remove_identity_of(connection: Connection, operator_id: str) -> bool:
    """Forget an operator's account; False when there was none."""
    query = delete(oidc_identities).where(oidc_identities.c.operator_id == operator_id)
    return connection.execute(query).rowcount == 1


def _identity(connection: Connection, query: Select[Any]) -> IdentityRow | None:
    row = connection.execute(query).one_or_none()
    return None if row is None else IdentityRow(**fields(row))
