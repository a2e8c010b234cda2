"""API tokens: what programs are known by."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

from hub import audit
from hub.operators.principal import Principal, actor_of, check_reach, rights_given, seen, stored_sites
from hub.operators.refusal import SignInRefused, digest
from hub.operators.sessions import TOUCH_EVERY
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import operators as rows
from hub.store.database import Database
from hub.store.operators import TokenRow
from pacs.identifiers import SiteId

API_PREFIX = "drempel_"
TOKEN_LIFETIME = timedelta(days=90)


class ApiTokens:
    """Tokens of 256 random bits, stored as SHA-256."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
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
        and ``NotFound`` as ``OneTimeLinks.create`` does.
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
                sites=stored_sites(connection, sites),
                created_at=now,
                expires_at=now + lifetime if lifetime else None,
                revoked_at=None,
                permissions=None if permissions is None else sorted(permissions),
            )
            check_reach(by, role, row.sites)
            if rows.token_by_name(connection, name) is not None:
                raise SignInRefused("token_name_taken", f"a token named {name} exists; choose another name")
            rows.add_token(connection, row)
            audit.record(
                connection, now=now, actor=actor_of(by), action="token.create", subject=f"token:{name}",
                detail=rights_given(role, row.sites, permissions),
            )  # fmt: skip
        return token

    def revoke(self, name: str, now: datetime, by: Principal | None = None) -> None:
        """Make a token useless at once. Raises ``SignInRefused`` when there is none of that name within reach."""
        with self._database.write() as connection:
            row = rows.token_by_name(connection, name)
            if row is None or (by is not None and not by.reaches(Role(row.role), seen(row.sites))):
                raise SignInRefused("token_unknown", f"there is no token named {name}")
            rows.revoke_token(connection, name, now)
            audit.record(
                connection, now=now, actor=actor_of(by), action="token.revoke", subject=f"token:{name}"
            )

    def principal(self, token: str, now: datetime) -> Principal | None:
        """Which program this is; None for an unknown, expired or revoked token."""
        with self._database.read() as connection:
            row = rows.token_by_hash(connection, digest(token))
        if (
            row is None
            or row.revoked_at is not None
            or (row.expires_at is not None and now >= row.expires_at)
        ):
            return None
        if row.last_used_at is None or now - row.last_used_at >= TOUCH_EVERY:
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
