"""One-time links: how somebody begins, and comes back after forgetting what they signed in with.

There is no default password. Somebody with a shell on the hub makes a link, or an administrator does; whoever follows
it within 15 minutes chooses a name and, if they like, a password.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection

from hub import audit
from hub.operators.passwords import Passwords, check_name, check_password, name_key
from hub.operators.principal import (
    Principal,
    actor_of,
    check_reach,
    rights_given,
    sees_operator,
    stored_sites,
)
from hub.operators.refusal import SignInRefused, digest
from hub.operators.sessions import SESSION_IDLE, audit_operator, open_session
from hub.roles import Role
from hub.store import oidc as oidc_rows
from hub.store import operators as rows
from hub.store import passkeys as passkey_rows
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.operators import LinkRow, OperatorRow
from pacs.identifiers import SiteId

LINK_LIFETIME = timedelta(minutes=15)


class OneTimeLinks:
    """Links that make an operator, or let one set up anew what they sign in with."""

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    def create(
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
        Raises ``NotFound`` for a site that is not there, and when ``name`` is somebody's whose sites ``by`` does not see
        (None: whoever has a shell on the hub); ``SignInRefused`` when ``name`` exists with another role;
        ``BeyondOwnRights`` when that is more than ``by`` has.
        """
        token = secrets.token_urlsafe(32)
        with self._database.write() as connection:
            known = rows.operator_by_key(connection, name_key(check_name(name))) if name else None
            if known and by is not None and not sees_operator(by, known):
                raise NotFound("operator is not there")
            if known and role not in (None, known.role):
                raise SignInRefused("role_differs", f"that operator exists and is {known.role}")
            link = LinkRow(
                token_hash=digest(token),
                name=known.name if known else name,
                role=known.role if known else (role or otherwise),
                sites=known.sites if known else stored_sites(connection, sites),
                created_at=now,
                expires_at=now + LINK_LIFETIME,
                used_at=None,
            )
            check_reach(by, link.role, link.sites)
            rows.end_expired(connection, now, now - SESSION_IDLE)
            if not name and not rows.operator_count(connection):  # only one link at a time makes the first
                rows.void_unnamed_links(connection)
            rows.add_link(connection, link)
            subject = f"operator:{known.id}" if known else "operator:new"
            audit.record(
                connection, now=now, actor=actor_of(by), action="link.create", subject=subject,
                detail=rights_given(link.role, link.sites),
            )  # fmt: skip
        return token

    def look_at(self, token: str, now: datetime) -> LinkRow:
        """The link, while it can still be followed; looking does not use it."""
        with self._database.read() as connection:
            return _usable_link(connection, digest(token), now)

    def follow(self, token: str, *, name: str, password: str | None, now: datetime) -> str:
        """Use a link and return a session token.

        A link without a name makes the operator ``name``; ``password`` None leaves the password as it
        was, or makes an operator who has none. The link stays usable when this is refused.
        """
        self.look_at(token, now)
        password_hash = (
            self._passwords.hashed(check_password(password, name)) if password is not None else None
        )
        with self._database.write() as connection:
            operator = accept_link(connection, digest(token), name, now)
            if password_hash is not None:
                forget_ways_in(connection, operator.id)
                rows.set_password_hash(connection, operator.id, password_hash)
                audit_operator(connection, operator, "operator.set_password", now)
            return open_session(connection, operator, now, "session.open_by_link")


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


def free_name(connection: Connection, name: str) -> str:
    """``name`` as ``check_name`` has it; raises ``SignInRefused`` when somebody has it."""
    name = check_name(name)
    if rows.operator_by_key(connection, name_key(name)) is not None:
        raise SignInRefused("name_taken", "Somebody has that name. Choose another one.")
    return name


def _usable_link(connection: Connection, link_hash: bytes, now: datetime) -> LinkRow:
    link = rows.link_by_hash(connection, link_hash)
    if link is None or link.used_at is not None or now >= link.expires_at:
        raise SignInRefused("link_unusable", "This link was used before, or is more than 15 minutes old.")
    return link


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
    audit_operator(connection, operator, "operator.create", now)
    return operator
