"""Signing in: one-time links, passwords, sessions, and API tokens for programs.

There is no default password. Somebody with a shell on the hub makes a one-time link; whoever follows it
within 15 minutes chooses a name and, if they like, a password. Tokens are 256 random bits and are stored
as SHA-256; passwords as argon2id. None of them is logged.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection

from hub import audit
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import operators as rows
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.operators import LinkRow, OperatorRow, SessionRow, TokenRow
from pacs.errors import PacsError
from pacs.identifiers import SiteId

LINK_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(hours=12)  # a shift
SESSION_IDLE = timedelta(hours=1)
API_PREFIX = "drempel_"
PASSWORD_LENGTHS = range(12, 257)
_TOUCH_EVERY = timedelta(minutes=1)


class SignInRefused(PacsError):
    """Not signed in; ``code`` is stable, the message may be shown and tells nothing about accounts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a request comes from; ``actor`` is how the audit log names them. ``sites`` None: every site."""

    actor: str
    name: str
    role: Role
    expires_at: datetime | None
    sites: frozenset[SiteId] | None = None
    csrf_token: str | None = field(
        default=None, repr=False
    )  # None: not a browser's session, nothing to forge

    def may(self, permission: Permission) -> bool:
        """True when this principal's role holds ``permission``."""
        return permission in PERMISSIONS[self.role]

    def sees(self, site_id: SiteId) -> bool:
        """True when what belongs to this site is shown to this principal, and theirs to act on."""
        return self.sites is None or site_id in self.sites


class Operators:
    """Those who work with the hub. Every method that checks a secret raises ``SignInRefused``."""

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self._database = database
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.BoundedSemaphore(2)  # each hash takes 64 MiB
        self._decoy = self._hasher.hash(secrets.token_urlsafe())

    def are_there_any(self) -> bool:
        """False until somebody has followed the first one-time link."""
        with self._database.read() as connection:
            return rows.operator_count(connection) > 0

    def create_link(
        self,
        *,
        name: str,
        role: Role | None,
        now: datetime,
        otherwise: Role = Role.ADMINISTRATOR,
        sites: frozenset[SiteId] | None = None,
        actor: str = audit.SYSTEM,
    ) -> str:
        """A one-time link's token for the operator ``name``, or, with no name, for a new one.

        A new operator gets ``role``, or ``otherwise`` when that is None, and sees ``sites`` (None: every site).
        Raises ``SignInRefused`` when ``name`` exists with another role.
        """
        token = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            known = rows.operator_by_key(connection, name_key(check_name(name))) if name else None
            if known and role not in (None, known.role):
                raise SignInRefused("role_differs", f"that operator exists and is {known.role}")
            link = LinkRow(
                token_hash=_digest(token),
                name=known.name if known else name,
                role=known.role if known else (role or otherwise),
                sites=known.sites if known else _listed(sites),
                created_at=now,
                expires_at=now + LINK_LIFETIME,
                used_at=None,
            )
            rows.end_expired(connection, now, now - SESSION_IDLE)
            if not name and not rows.operator_count(connection):  # only one link at a time makes the first
                rows.void_unnamed_links(connection)
            rows.add_link(connection, link)
            subject = f"operator:{known.id}" if known else "operator:new"
            audit.record(
                connection, now=now, actor=actor, action="link.create", subject=subject,
                detail={"role": str(link.role)},
            )  # fmt: skip
        return token

    def look_at_link(self, token: str, now: datetime) -> LinkRow:
        """The link, while it can still be followed; looking does not use it."""
        with self._database.read() as connection:
            return _usable_link(connection, token, now)

    def follow_link(self, token: str, *, name: str, password: str | None, now: datetime) -> str:
        """Use a link and return a session token.

        A link without a name makes the operator ``name``; ``password`` None leaves the password as it
        was, or makes an operator who has none. The link stays usable when this is refused.
        """
        password_hash = self._hash(check_password(password, name)) if password is not None else None
        with self._database.write() as connection:
            link = _usable_link(connection, token, now)
            operator_is_first = not rows.operator_count(connection)
            operator = rows.operator_by_key(connection, name_key(link.name)) if link.name else None
            if operator is None:
                operator = _new_operator(connection, link, link.name or name, now)
            elif operator.disabled_at is not None:
                raise SignInRefused("link_unusable", "This link no longer works. Ask for another one.")
            if password_hash is not None:
                rows.set_password_hash(connection, operator.id, password_hash)
                rows.end_sessions_of(connection, operator.id)
                _audit_operator(connection, operator, "operator.set_password", now)
            rows.use_link(connection, _digest(token), now)
            if operator_is_first:
                rows.void_unnamed_links(connection)
            return _open_session(connection, operator, now, "session.open_by_link")

    def set_disabled(
        self, operator_id: str, *, disabled: bool, now: datetime, actor: str = audit.SYSTEM
    ) -> None:
        """Shut an operator out, ending their sessions, or let them in again; raises ``NotFound``."""
        with self._database.write() as connection:
            if rows.operator_by_id(connection, operator_id) is None:
                raise NotFound("operator is not there")
            rows.set_disabled(connection, operator_id, now if disabled else None)
            action = "operator.disable" if disabled else "operator.enable"
            audit.record(connection, now=now, actor=actor, action=action, subject=f"operator:{operator_id}")

    def sign_in(self, name: str, password: str, now: datetime) -> str:
        """A session token for the operator with that name and password.

        An unknown name costs the same time as a wrong password and is refused in the same words.
        """
        with self._database.read() as connection:
            operator = rows.operator_by_key(connection, name_key(name))
        usable = operator is not None and operator.password_hash is not None and operator.disabled_at is None
        stored = operator.password_hash if operator and usable else None
        matches = self._matches(stored or self._decoy, password[: PASSWORD_LENGTHS.stop])
        if operator is None or stored is None or not matches:
            raise SignInRefused("name_or_password_wrong", "The name or the password is not right.")
        fresh = self._hash(password) if self._hasher.check_needs_rehash(stored) else None
        with self._database.write() as connection:
            if fresh:
                rows.set_password_hash(connection, operator.id, fresh)
            return _open_session(connection, operator, now, "session.open")

    def by_session(self, token: str, now: datetime, *, is_use: bool = True) -> Principal | None:
        """Whose browser this is; None when the session is over or was never there.

        ``is_use`` keeps the session from ending idle.
        """
        digest = _digest(token)
        with self._database.read() as connection:
            found = rows.session_by_hash(connection, digest)
        if found is None:
            return None
        session, operator = found
        over = now >= session.expires_at or now - session.last_used_at >= SESSION_IDLE
        if over or operator.disabled_at is not None:
            return None
        if is_use and now - session.last_used_at >= _TOUCH_EVERY:
            with self._database.write() as connection:
                rows.touch_session(connection, digest, now)
        return Principal(
            actor=f"operator:{operator.id}",
            name=operator.name,
            role=Role(operator.role),
            sites=_seen(operator.sites),
            expires_at=session.expires_at,
            csrf_token=_digest("csrf:" + token).hex(),
        )

    def sign_out(self, token: str, principal: Principal, now: datetime) -> None:
        """End this session."""
        with self._database.write() as connection:
            rows.end_session(connection, _digest(token))
            audit.record(
                connection, now=now, actor=principal.actor, action="session.close", subject=principal.actor
            )

    def create_token(
        self,
        *,
        name: str,
        role: Role,
        lifetime: timedelta | None,
        now: datetime,
        sites: frozenset[SiteId] | None = None,
    ) -> str:
        """A program's API token, to be shown once. Raises ``SignInRefused`` when the name is taken."""
        token = API_PREFIX + secrets.token_urlsafe(32)
        row = TokenRow(
            name=name,
            token_hash=_digest(token),
            role=role,
            sites=_listed(sites),
            created_at=now,
            expires_at=now + lifetime if lifetime else None,
            revoked_at=None,
        )
        with self._database.write() as connection:
            if rows.token_by_name(connection, name) is not None:
                raise SignInRefused("token_name_taken", f"a token named {name} exists; choose another name")
            rows.add_token(connection, row)
            audit.record(
                connection, now=now, actor=audit.SYSTEM, action="token.create", subject=f"token:{name}",
                detail={"role": str(role)},
            )  # fmt: skip
        return token

    def revoke_token(self, name: str, now: datetime) -> None:
        """Make a token useless at once. Raises ``SignInRefused`` when there is none of that name."""
        with self._database.write() as connection:
            if rows.token_by_name(connection, name) is None:
                raise SignInRefused("token_unknown", f"there is no token named {name}")
            rows.revoke_token(connection, name, now)
            audit.record(
                connection, now=now, actor=audit.SYSTEM, action="token.revoke", subject=f"token:{name}"
            )

    def by_token(self, token: str, now: datetime) -> Principal | None:
        """Which program this is; None for an unknown, expired or revoked token."""
        with self._database.read() as connection:
            row = rows.token_by_hash(connection, _digest(token))
        if (
            row is None
            or row.revoked_at is not None
            or (row.expires_at is not None and now >= row.expires_at)
        ):
            return None
        return Principal(
            actor=f"token:{row.name}",
            name=row.name,
            role=Role(row.role),
            sites=_seen(row.sites),
            expires_at=row.expires_at,
        )

    def _hash(self, password: str) -> str:
        with self._hashing:
            return self._hasher.hash(password)

    def _matches(self, stored: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._hasher.verify(stored, password)
            except (VerifyMismatchError, InvalidHashError):
                return False


def session_hash(token: str) -> bytes:
    """What is stored of a session's cookie."""
    return _digest(token)


def name_key(name: str) -> str:
    """A name as it is compared: compatibility forms, case and outer spaces do not matter."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def check_name(name: str) -> str:
    """``name`` without outer spaces; raises ``SignInRefused`` unless 1–64 printable characters."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise SignInRefused("name_unusable", "Choose a name of 1 to 64 ordinary characters.")
    return name


def check_password(password: str, name: str) -> str:
    """``password``; raises ``SignInRefused`` unless 12–256 characters that are not the name."""
    if len(password) not in PASSWORD_LENGTHS:
        raise SignInRefused(
            "password_unusable", "Choose a password of at least 12 characters; a sentence is fine."
        )
    if name_key(password) == name_key(name) or len(set(password)) < 4:
        raise SignInRefused("password_unusable", "That password is too easy to guess. Choose another one.")
    return password


def _usable_link(connection: Connection, token: str, now: datetime) -> LinkRow:
    link = rows.link_by_hash(connection, _digest(token))
    if link is None or link.used_at is not None or now >= link.expires_at:
        raise SignInRefused("link_unusable", "This link was used before, or is more than 15 minutes old.")
    return link


def _new_operator(connection: Connection, link: LinkRow, name: str, now: datetime) -> OperatorRow:
    name = check_name(name)
    if rows.operator_by_key(connection, name_key(name)) is not None:
        raise SignInRefused("name_taken", "Somebody has that name. Choose another one.")
    operator = OperatorRow(
        id=secrets.token_hex(8),
        name=name,
        name_key=name_key(name),
        role=link.role,
        sites=link.sites,
        password_hash=None,
        created_at=now,
        disabled_at=None,
    )
    rows.add_operator(connection, operator)
    _audit_operator(connection, operator, "operator.create", now)
    return operator


def _open_session(connection: Connection, operator: OperatorRow, now: datetime, action: str) -> str:
    token = secrets.token_urlsafe(32)
    session = SessionRow(
        token_hash=_digest(token),
        operator_id=operator.id,
        created_at=now,
        last_used_at=now,
        expires_at=now + SESSION_LIFETIME,
    )
    rows.end_expired(connection, now, now - SESSION_IDLE)
    rows.add_session(connection, session)
    _audit_operator(connection, operator, action, now)
    return token


def _audit_operator(connection: Connection, operator: OperatorRow, action: str, now: datetime) -> None:
    audit.record(
        connection,
        now=now,
        actor=f"operator:{operator.id}",
        action=action,
        subject=f"operator:{operator.id}",
        detail={"role": operator.role},
    )


def _listed(sites: frozenset[SiteId] | None) -> list[str] | None:
    return None if sites is None else sorted(sites)


def _seen(listed: list[str] | None) -> frozenset[SiteId] | None:
    return None if listed is None else frozenset(map(SiteId, listed))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
