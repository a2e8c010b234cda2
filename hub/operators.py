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
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection

from hub import audit
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import oidc as oidc_rows
from hub.store import operators as rows
from hub.store import passkeys as passkey_rows
from hub.store import sites as site_rows
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.operators import LinkRow, OperatorRow, SessionRow, TokenRow
from pacs.errors import PacsError
from pacs.identifiers import SiteId

LINK_LIFETIME = timedelta(minutes=15)
SESSION_LIFETIME = timedelta(hours=12)  # a shift
SESSION_IDLE = timedelta(hours=1)
API_PREFIX = "drempel_"
TOKEN_LIFETIME = timedelta(days=90)
BROWSER_LIFETIME = timedelta(days=180)
PASSWORD_LENGTHS = range(12, 257)
_HASHING_S = 2.0  # how long a stranger's password waits for its turn
_TOUCH_EVERY = timedelta(minutes=1)


class SignInRefused(PacsError):
    """Not signed in; ``code`` is stable, the message may be shown and tells nothing about accounts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BeyondOwnRights(PacsError):
    """Somebody would give, or act on, more than they have themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who a request comes from; ``actor`` is how the audit log names them. ``sites`` None: every site.

    ``permissions`` narrows what the role holds; None: all of it.
    """

    actor: str
    name: str
    role: Role
    expires_at: datetime | None
    sites: frozenset[SiteId] | None = None
    permissions: frozenset[Permission] | None = None
    csrf_token: str | None = field(
        default=None, repr=False
    )  # None: not a browser's session, nothing to forge

    def may(self, permission: Permission) -> bool:
        """True when this principal's role holds ``permission``, and nothing narrows it."""
        return permission in PERMISSIONS[self.role] and (
            self.permissions is None or permission in self.permissions
        )

    def reaches(self, role: Role, sites: frozenset[SiteId] | None) -> bool:
        """True when somebody of this role and these sites (None: every site) may do nothing that this one may not."""
        return all(map(self.may, PERMISSIONS[role])) and (
            self.sites is None or (sites is not None and sites <= self.sites)
        )

    def sees(self, site_id: SiteId) -> bool:
        """True when what belongs to this site is shown to this principal, and theirs to act on."""
        return self.sites is None or site_id in self.sites


class Operators:
    """Those who work with the hub. Every method that checks a secret raises ``SignInRefused``."""

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self._database = database
        self._hasher = hasher or PasswordHasher()
        self._hashing = threading.BoundedSemaphore(2)  # each hash takes 64 MiB; for those who are known …
        self._hashing_of_strangers = threading.BoundedSemaphore(1)  # … and for everybody else
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
        by: Principal | None = None,
    ) -> str:
        """A one-time link's token for the operator ``name``, or, with no name, for a new one.

        A new operator gets ``role``, or ``otherwise`` when that is None, and sees ``sites`` (None: every site).
        Raises ``SignInRefused`` when ``name`` exists with another role, ``BeyondOwnRights`` when that is more than
        ``by`` has (None: whoever has a shell on the hub), ``NotFound`` for a site that is not there.
        """
        token = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            known = rows.operator_by_key(connection, name_key(check_name(name))) if name else None
            if known and role not in (None, known.role):
                raise SignInRefused("role_differs", f"that operator exists and is {known.role}")
            link = LinkRow(
                token_hash=digest(token),
                name=known.name if known else name,
                role=known.role if known else (role or otherwise),
                sites=known.sites if known else _listed(connection, sites),
                created_at=now,
                expires_at=now + LINK_LIFETIME,
                used_at=None,
            )
            _check_reach(by, link.role, link.sites)
            rows.end_expired(connection, now, now - SESSION_IDLE)
            if not name and not rows.operator_count(connection):  # only one link at a time makes the first
                rows.void_unnamed_links(connection)
            rows.add_link(connection, link)
            subject = f"operator:{known.id}" if known else "operator:new"
            audit.record(
                connection, now=now, actor=_actor(by), action="link.create", subject=subject,
                detail=_rights(link.role, link.sites),
            )  # fmt: skip
        return token

    def look_at_link(self, token: str, now: datetime) -> LinkRow:
        """The link, while it can still be followed; looking does not use it."""
        with self._database.read() as connection:
            return _usable_link(connection, digest(token), now)

    def follow_link(self, token: str, *, name: str, password: str | None, now: datetime) -> str:
        """Use a link and return a session token.

        A link without a name makes the operator ``name``; ``password`` None leaves the password as it
        was, or makes an operator who has none. The link stays usable when this is refused.
        """
        self.look_at_link(token, now)
        password_hash = self._hash(check_password(password, name)) if password is not None else None
        with self._database.write() as connection:
            operator = accept_link(connection, digest(token), name, now)
            if password_hash is not None:
                forget_ways_in(connection, operator.id)
                rows.set_password_hash(connection, operator.id, password_hash)
                _audit_operator(connection, operator, "operator.set_password", now)
            return open_session(connection, operator, now, "session.open_by_link")

    def set_disabled(
        self, operator_id: str, *, disabled: bool, now: datetime, by: Principal | None = None
    ) -> None:
        """Shut an operator out, ending their sessions and passkeys, or let them in again.

        Raises ``NotFound`` when there is none within the sites of ``by``, ``BeyondOwnRights`` as ``change`` does.
        """
        with self._database.write() as connection:
            operator = _within_reach(connection, operator_id, by)
            rows.set_disabled(connection, operator.id, now if disabled else None)
            if disabled:
                passkey_rows.forget_browsers_of(connection, operator.id)
                passkey_rows.remove_all_of(connection, operator.id)
            action = "operator.disable" if disabled else "operator.enable"
            audit.record(
                connection, now=now, actor=_actor(by), action=action, subject=f"operator:{operator_id}"
            )

    def change(
        self,
        operator_id: str,
        *,
        role: Role,
        sites: frozenset[SiteId] | None,
        now: datetime,
        by: Principal | None = None,
    ) -> None:
        """Give an operator another role and other sites, at once.

        Raises ``NotFound`` when there is no such operator or site, ``BeyondOwnRights`` when what they have or would
        get is more than ``by`` has, or they are ``by``.
        """
        with self._database.write() as connection:
            operator = _within_reach(connection, operator_id, by)
            listed = _listed(connection, sites)
            _check_reach(by, role, listed)
            rows.set_rights(connection, operator.id, role, listed)
            audit.record(
                connection, now=now, actor=_actor(by), action="operator.change",
                subject=f"operator:{operator_id}", detail=_rights(role, listed),
            )  # fmt: skip

    def end_sessions(self, operator_id: str, *, now: datetime, by: Principal | None = None) -> None:
        """Sign an operator out everywhere; raises as ``set_disabled`` does."""
        with self._database.write() as connection:
            operator = _within_reach(connection, operator_id, by, is_own_allowed=True)
            rows.end_sessions_of(connection, operator.id)
            passkey_rows.forget_browsers_of(connection, operator.id)
            audit.record(
                connection, now=now, actor=_actor(by), action="operator.end_sessions",
                subject=f"operator:{operator_id}",
            )  # fmt: skip

    def knows_browser(self, browser: str | None, name: str, now: datetime) -> bool:
        """True when the operator of that name signed in with this browser before."""
        if browser is None:
            return False
        with self._database.read() as connection:
            operator = rows.operator_by_key(connection, name_key(name))
            return operator is not None and operator.id in passkey_rows.known_with(
                connection, digest(browser), now
            )

    def remember_browser(self, session: str, browser: str | None, now: datetime) -> str | None:
        """A token by which this browser is known for whose session it has; None when it is known already.

        A desk's browser is known for everybody who signed in with it.
        """
        with self._database.write() as connection:
            found = rows.session_by_hash(connection, digest(session))
            known = passkey_rows.known_with(connection, digest(browser), now) if browser else set()
            if found is None or found[1].id in known:
                return None
            token = browser if browser and known else secrets.token_urlsafe(32)
            passkey_rows.forget_expired(connection, now)
            passkey_rows.add_browser(connection, digest(token), found[1].id, now + BROWSER_LIFETIME)
            return token

    def sign_in(self, name: str, password: str, now: datetime, *, is_known_browser: bool = False) -> str:
        """A session token for the operator with that name and password.

        An unknown name costs the same time as a wrong password and is refused in the same words. Strangers take
        turns, and are refused (``busy``) when theirs does not come; ``is_known_browser`` is never held up by them.
        """
        with self._database.read() as connection:
            operator = rows.operator_by_key(connection, name_key(name))
        usable = operator is not None and operator.password_hash is not None and operator.disabled_at is None
        stored = operator.password_hash if operator and usable else None
        matches = self._matches(
            stored or self._decoy, password[: PASSWORD_LENGTHS.stop], is_known=is_known_browser
        )
        if operator is None or stored is None or not matches:
            raise SignInRefused("name_or_password_wrong", "The name or the password is not right.")
        fresh = self._hash(password) if self._hasher.check_needs_rehash(stored) else None
        with self._database.write() as connection:
            if fresh:
                rows.set_password_hash(connection, operator.id, fresh)
            return open_session(connection, operator, now, "session.open")

    def by_session(self, token: str, now: datetime, *, is_use: bool = True) -> Principal | None:
        """Whose browser this is; None when the session is over or was never there.

        ``is_use`` keeps the session from ending idle.
        """
        session_hash = digest(token)
        with self._database.read() as connection:
            found = rows.session_by_hash(connection, session_hash)
        if found is None:
            return None
        session, operator = found
        over = now >= session.expires_at or now - session.last_used_at >= SESSION_IDLE
        if over or operator.disabled_at is not None:
            return None
        if is_use and now - session.last_used_at >= _TOUCH_EVERY:
            with self._database.write() as connection:
                rows.touch_session(connection, session_hash, now)
        return Principal(
            actor=f"operator:{operator.id}",
            name=operator.name,
            role=Role(operator.role),
            sites=seen(operator.sites),
            expires_at=session.expires_at,
            csrf_token=digest("csrf:" + token).hex(),
        )

    def sign_out(self, token: str, principal: Principal, now: datetime) -> None:
        """End this session."""
        with self._database.write() as connection:
            rows.end_session(connection, digest(token))
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
        permissions: Collection[Permission] | None = None,
        by: Principal | None = None,
    ) -> str:
        """A program's API token, to be shown once; ``permissions`` are those of the role that it has (None: all).

        Raises ``SignInRefused`` when the name is taken or the role lacks one of ``permissions``, ``BeyondOwnRights``
        and ``NotFound`` as ``create_link`` does.
        """
        lacking = sorted(set(permissions or ()) - PERMISSIONS[role])
        if lacking:
            raise SignInRefused("role_lacks_permission", f"the role {role} has no permission {lacking[0]}")
        token = API_PREFIX + secrets.token_urlsafe(32)
        with self._database.write() as connection:
            row = TokenRow(
                name=name,
                token_hash=digest(token),
                role=role,
                sites=_listed(connection, sites),
                created_at=now,
                expires_at=now + lifetime if lifetime else None,
                revoked_at=None,
                permissions=None if permissions is None else sorted(permissions),
            )
            _check_reach(by, role, row.sites)
            if rows.token_by_name(connection, name) is not None:
                raise SignInRefused("token_name_taken", f"a token named {name} exists; choose another name")
            rows.add_token(connection, row)
            audit.record(
                connection, now=now, actor=_actor(by), action="token.create", subject=f"token:{name}",
                detail=_rights(role, row.sites, permissions),
            )  # fmt: skip
        return token

    def revoke_token(self, name: str, now: datetime, by: Principal | None = None) -> None:
        """Make a token useless at once. Raises ``SignInRefused`` when there is none of that name within reach."""
        with self._database.write() as connection:
            row = rows.token_by_name(connection, name)
            if row is None or (by is not None and not by.reaches(Role(row.role), seen(row.sites))):
                raise SignInRefused("token_unknown", f"there is no token named {name}")
            rows.revoke_token(connection, name, now)
            audit.record(
                connection, now=now, actor=_actor(by), action="token.revoke", subject=f"token:{name}"
            )

    def by_token(self, token: str, now: datetime) -> Principal | None:
        """Which program this is; None for an unknown, expired or revoked token."""
        with self._database.read() as connection:
            row = rows.token_by_hash(connection, digest(token))
        if (
            row is None
            or row.revoked_at is not None
            or (row.expires_at is not None and now >= row.expires_at)
        ):
            return None
        if row.last_used_at is None or now - row.last_used_at >= _TOUCH_EVERY:
            with self._database.write() as connection:
                rows.touch_token(connection, row.name, now)
        return Principal(
            actor=f"token:{row.name}",
            name=row.name,
            role=Role(row.role),
            sites=seen(row.sites),
            expires_at=row.expires_at,
            permissions=None if row.permissions is None else frozenset(map(Permission, row.permissions)),
        )

    def _hash(self, password: str) -> str:
        with self._hashing:
            return self._hasher.hash(password)

    def _matches(self, stored: str, password: str, *, is_known: bool) -> bool:
        turn = self._hashing if is_known else self._hashing_of_strangers
        if not turn.acquire(timeout=None if is_known else _HASHING_S):
            raise SignInRefused("busy", "Too many people are signing in. Try again in a moment.")
        try:
            return self._hasher.verify(stored, password)
        except (VerifyMismatchError, InvalidHashError):
            return False
        finally:
            turn.release()


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


def accept_link(connection: Connection, link_hash: bytes, name: str, now: datetime) -> OperatorRow:
    """Use a link up: whose it is, or who it makes of ``name``. Raises ``SignInRefused``."""
    link = _usable_link(connection, link_hash, now)
    operator_is_first = not rows.operator_count(connection)
    operator = rows.operator_by_key(connection, name_key(link.name)) if link.name else None
    if operator is None:
        operator = _new_operator(connection, link, link.name or name, now)
    elif operator.disabled_at is not None:
        raise SignInRefused("link_unusable", "This link no longer works. Ask for another one.")
    rows.use_link(connection, link_hash, now)
    if operator_is_first:
        rows.void_unnamed_links(connection)
    return operator


def forget_ways_in(connection: Connection, operator_id: str) -> None:
    """Forget by what an operator signed in, and end their sessions: whoever set any of it up may not be the operator."""
    rows.set_password_hash(connection, operator_id, None)
    rows.end_sessions_of(connection, operator_id)
    passkey_rows.forget_browsers_of(connection, operator_id)
    passkey_rows.remove_all_of(connection, operator_id)
    oidc_rows.remove_identity_of(connection, operator_id)


def _usable_link(connection: Connection, link_hash: bytes, now: datetime) -> LinkRow:
    link = rows.link_by_hash(connection, link_hash)
    if link is None or link.used_at is not None or now >= link.expires_at:
        raise SignInRefused("link_unusable", "This link was used before, or is more than 15 minutes old.")
    return link


def free_name(connection: Connection, name: str) -> str:
    """``name`` as ``check_name`` has it; raises ``SignInRefused`` when somebody has it."""
    name = check_name(name)
    if rows.operator_by_key(connection, name_key(name)) is not None:
        raise SignInRefused("name_taken", "Somebody has that name. Choose another one.")
    return name


def _new_operator(connection: Connection, link: LinkRow, name: str, now: datetime) -> OperatorRow:
    name = free_name(connection, name)
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


def _within_reach(
    connection: Connection, operator_id: str, by: Principal | None, *, is_own_allowed: bool = False
) -> OperatorRow:
    """The operator, whom ``by`` may act on; of other sites they are not there."""
    operator = rows.operator_by_id(connection, operator_id)
    if operator is None or (by is not None and not sees_operator(by, operator)):
        raise NotFound("operator is not there")
    if by is not None and by.actor == f"operator:{operator_id}":
        if is_own_allowed:
            return operator
        raise BeyondOwnRights("Nobody changes their own rights; somebody else has to.")
    _check_reach(by, operator.role, operator.sites)
    return operator


def sees_operator(by: Principal, operator: OperatorRow | TokenRow) -> bool:
    """True when all that this operator or token sees is within the sites of ``by``."""
    sites = seen(operator.sites)
    return by.sites is None or (sites is not None and sites <= by.sites)


def _check_reach(by: Principal | None, role: str, sites: list[str] | None) -> None:
    if by is not None and not by.reaches(Role(role), seen(sites)):
        raise BeyondOwnRights("That is more than your own role and sites allow.")


def _actor(by: Principal | None) -> str:
    return audit.SYSTEM if by is None else by.actor


def _rights(
    role: str, sites: list[str] | None, permissions: Collection[Permission] | None = None
) -> dict[str, str | int]:
    """What the audit log says of rights that are given; every site and every permission are not named."""
    said: dict[str, str | int] = {"role": str(role)}
    if sites is not None:
        said["sites"] = " ".join(sites)
    if permissions is not None:
        said["permissions"] = " ".join(sorted(permissions))
    return said


def _listed(connection: Connection, sites: frozenset[SiteId] | None) -> list[str] | None:
    """As stored; raises ``NotFound`` for a site that is not there."""
    for site in sites or ():
        site_rows.get(connection, site)
    return None if sites is None else sorted(sites)


def seen(listed: list[str] | None) -> frozenset[SiteId] | None:
    """The sites of a row; None: every site."""
    return None if listed is None else frozenset(map(SiteId, listed))


def digest(token: str) -> bytes:
    """What is stored of a secret of 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
