"""Signing in by name and password, and the session that a browser has then."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from hub import audit
from hub.operators.passwords import Passwords, name_key
from hub.operators.principal import Principal, seen
from hub.operators.refusal import SignInRefused, digest
from hub.roles import Role
from hub.store import operators as rows
from hub.store.database import Database
from hub.store.operators import OperatorRow, SessionRow

SESSION_LIFETIME = timedelta(hours=12)  # a shift
SESSION_IDLE = timedelta(hours=1)
TOUCH_EVERY = timedelta(minutes=1)


class Sessions:
    """Sessions of browsers; their tokens are 256 random bits, stored as SHA-256."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    def sign_in(self, name: str, password: str, now: datetime, *, is_known_browser: bool = False) -> str:
        """A session token for the operator with that name and password.

        An unknown name costs the same time as a wrong password and is refused in the same words. Strangers take
        turns, and are refused (``busy``) when theirs does not come; ``is_known_browser`` is never held up by them.
        """
        with self._database.read() as connection:
            operator = rows.operator_by_key(connection, name_key(name))
        usable = operator is not None and operator.password_hash is not None and operator.disabled_at is None
        stored = operator.password_hash if operator and usable else None
        matches = self._passwords.match(stored, password, is_known=is_known_browser)
        if operator is None or stored is None or not matches:
            raise SignInRefused("name_or_password_wrong", "The name or the password is not right.")
        fresh = self._passwords.hashed(password) if self._passwords.are_outdated(stored) else None
        with self._database.write() as connection:
            if fresh:
                rows.set_password_hash(connection, operator.id, fresh)
            return open_session(connection, operator, now, "session.open")

    def principal(self, token: str, now: datetime, *, is_use: bool = True) -> Principal | None:
        """Whose browser this is; None when the session is over or was never there.

        ``is_use`` keeps the session from ending idle.
        """
        session_hash = digest(token)
        principal = self.by_hash(session_hash, now, is_use=is_use)
        return principal and replace(principal, csrf_token=digest("csrf:" + token).hex())

    def by_hash(self, session_hash: bytes, now: datetime, *, is_use: bool = False) -> Principal | None:
        """The same by what is stored of a session's token; without what its forms carry."""
        with self._database.read() as connection:
            found = rows.session_by_hash(connection, session_hash)
        if found is None:
            return None
        session, operator = found
        over = now >= session.expires_at or now - session.last_used_at >= SESSION_IDLE
        if over or operator.disabled_at is not None:
            return None
        if is_use and now - session.last_used_at >= TOUCH_EVERY:
            with self._database.write() as connection:
                rows.touch_session(connection, session_hash, now)
        return Principal(
            actor=f"operator:{operator.id}",
            name=operator.name,
            role=Role(operator.role),
            sites=seen(operator.sites),
            expires_at=session.expires_at,
        )

    def sign_out(self, token: str, principal: Principal, now: datetime) -> None:
        """End this session."""
        with self._database.write() as connection:
            rows.end_session(connection, digest(token))
            audit.record(
                connection, now=now, actor=principal.actor, action="session.close", subject=principal.actor
            )


def open_session(connection: Connection, operator: OperatorRow, now: datetime, action: str) -> str:
    """A new session's token, with the audit entry ``action``."""
    token = secrets.token_urlsafe(32)
    session = SessionRow(
        token_hash=digest(token),
        operator_id=operator.id,
        created_at=now,
        last_used_at=now,
        expires_at=now + SESSION_LIFETIME,
    )
    rows.end_expired(connection, now, now - SESSION_IDLE)
    rows.add_session(connection, session)
    audit_operator(connection, operator, action, now)
    return token


def audit_operator(connection: Connection, operator: OperatorRow, action: str, now: datetime) -> None:
    """Write down what an operator does about themselves."""
    audit.record(
        connection,
        now=now,
        actor=f"operator:{operator.id}",
        action=action,
        subject=f"operator:{operator.id}",
        detail={"role": operator.role},
    )
