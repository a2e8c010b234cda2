"""Passkeys, the challenges they answer, and the browsers that somebody signed in with before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from hub.store.database import fields
from hub.store.schema import challenges, known_browsers, passkeys


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRow:
    """A WebAuthn credential; ``public_key`` is a COSE key, ``name`` what its owner calls it."""

    credential_id: bytes
    operator_id: str
    name: str
    public_key: bytes
    sign_count: int
    created_at: datetime
    last_used_at: datetime | None


def add(connection: Connection, row: PasskeyRow) -> None:
    """Store a new passkey."""
    connection.execute(insert(passkeys).values(asdict(row)))


def get(connection: Connection, credential_id: bytes) -> PasskeyRow | None:
    """The passkey with this id."""
    row = connection.execute(select(passkeys).where(passkeys.c.credential_id == credential_id)).one_or_none()
    return None if row is None else PasskeyRow(**fields(row))


def of_operator(connection: Connection, operator_id: str) -> list[PasskeyRow]:
    """An operator's passkeys, the oldest first."""
    query = select(passkeys).where(passkeys.c.operator_id == operator_id)
    query = query.order_by(passkeys.c.created_at, passkeys.c.credential_id)
    return [PasskeyRow(**fields(row)) for row in connection.execute(query)]


def counts(connection: Connection) -> dict[str, int]:
    """How many passkeys each operator has who has any."""
    query = select(passkeys.c.operator_id, func.count()).group_by(passkeys.c.operator_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def used(connection: Connection, credential_id: bytes, sign_count: int, now: datetime) -> None:
    """Note a use, and where the counter stands."""
    query = update(passkeys).where(passkeys.c.credential_id == credential_id)
    connection.execute(query.values(sign_count=sign_count, last_used_at=now))


def remove(connection: Connection, credential_id: bytes) -> None:
    """Forget a passkey."""
    connection.execute(delete(passkeys).where(passkeys.c.credential_id == credential_id))


def remove_all_of(connection: Connection, operator_id: str) -> None:
    """Forget every passkey of an operator."""
    connection.execute(delete(passkeys).where(passkeys.c.operator_id == operator_id))


def add_challenge(
    connection: Connection, challenge_hash: bytes, operator_id: str | None, expires_at: datetime
) -> None:
    """Keep a challenge: of an operator who adds a passkey, or of a stranger (None) who signs in."""
    connection.execute(
        insert(challenges).values(
            challenge_hash=challenge_hash, operator_id=operator_id, expires_at=expires_at
        )
    )


def take_challenge(
    connection: Connection, challenge_hash: bytes, operator_id: str | None, now: datetime
) -> bool:
    """Use up a challenge; False when there is none, it is somebody else's, or its time is over."""
    mine = (
        challenges.c.operator_id.is_(None) if operator_id is None else challenges.c.operator_id == operator_id
    )
    query = delete(challenges).where(challenges.c.challenge_hash == challenge_hash)
    return connection.execute(query.where(mine, challenges.c.expires_at > now)).rowcount == 1


def add_browser(connection: Connection, token_hash: bytes, operator_id: str, expires_at: datetime) -> None:
    """Know a browser of this operator until then."""
    connection.execute(
        insert(known_browsers).values(token_hash=token_hash, operator_id=operator_id, expires_at=expires_at)
    )


def known_with(connection: Connection, token_hash: bytes, now: datetime) -> set[str]:
    """The operators who signed in with this browser before."""
    columns = known_browsers.c
    query = select(columns.operator_id).where(columns.token_hash == token_hash, columns.expires_at > now)
    return set(connection.scalars(query))


def forget_browsers_of(connection: Connection, operator_id: str) -> None:
    """Know no browser of this operator any longer."""
    connection.execute(delete(known_browsers).where(known_browsers.c.operator_id == operator_id))


def forget_expired(connection: Connection, now: datetime) -> None:
    """Forget the challenges and browsers whose time is over."""
    connection.execute(delete(challenges).where(challenges.c.expires_at <= now))
    connection.execute(delete(known_browsers).where(known_browsers.c.expires_at <= now))
