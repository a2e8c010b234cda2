"""The accounts of those who work with the hub: what they may, and shutting them out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from argon2 import PasswordHasher

from hub import audit
from hub.operators.api_tokens import ApiTokens
from hub.operators.browsers import Browsers
from hub.operators.one_time_links import OneTimeLinks
from hub.operators.passwords import Passwords
from hub.operators.principal import Principal, actor_of, check_reach, rights_given, stored_sites, within_reach
from hub.operators.sessions import Sessions
from hub.roles import Role
from hub.store import operators as rows
from hub.store import passkeys as passkey_rows
from hub.store.database import Database
from hub.store.operators import OperatorRow
from pacs.identifiers import SiteId


def _whoever(_operator: OperatorRow) -> None:
    """Anybody is meant."""


class Operators:
    """Those who work with the hub, and by what they are known. What checks a secret raises ``SignInRefused``."""

    def __init__(self, database: Database, hasher: PasswordHasher | None = None) -> None:
        self._database = database
        passwords = Passwords(hasher)
        self.links = OneTimeLinks(database, passwords)
        self.sessions = Sessions(database, passwords)
        self.browsers = Browsers(database)
        self.tokens = ApiTokens(database)

    def are_there_any(self) -> bool:
        """False until somebody has followed the first one-time link."""
        with self._database.read() as connection:
            return rows.operator_count(connection) > 0

    def set_disabled(
        self,
        operator_id: str,
        *,
        disabled: bool,
        now: datetime,
        by: Principal | None = None,
        meant: Callable[[OperatorRow], None] = _whoever,
    ) -> None:
        """Shut an operator out, ending their sessions and passkeys, or let them in again.

        ``meant`` raises when they are no longer as whoever asks knows them. Raises ``NotFound`` when there is none within
        the sites of ``by``, ``BeyondOwnRights`` as ``change`` does.
        """
        with self._database.write() as connection:
            operator = within_reach(connection, operator_id, by)
            meant(operator)
            rows.set_disabled(connection, operator.id, now if disabled else None)
            if disabled:
                passkey_rows.forget_browsers_of(connection, operator.id)
                passkey_rows.remove_all_of(connection, operator.id)
            action = "operator.disable" if disabled else "operator.enable"
            audit.record(
                connection, now=now, actor=actor_of(by), action=action, subject=f"operator:{operator_id}"
            )

    def change(
        self,
        operator_id: str,
        *,
        role: Role,
        sites: frozenset[SiteId] | None,
        now: datetime,
        by: Principal | None = None,
        meant: Callable[[OperatorRow], None] = _whoever,
    ) -> None:
        """Give an operator another role and other sites, at once; ``meant`` as for ``set_disabled``.

        Raises ``NotFound`` when there is no such operator or site, ``BeyondOwnRights`` when what they have or would
        get is more than ``by`` has, or they are ``by``.
        """
        with self._database.write() as connection:
            operator = within_reach(connection, operator_id, by)
            meant(operator)
            given = stored_sites(connection, sites)
            check_reach(by, role, given)
            rows.set_rights(connection, operator.id, role, given)
            audit.record(
                connection, now=now, actor=actor_of(by), action="operator.change",
                subject=f"operator:{operator_id}", detail=rights_given(role, given),
            )  # fmt: skip

    def end_sessions(self, operator_id: str, *, now: datetime, by: Principal | None = None) -> None:
        """Sign an operator out everywhere; raises as ``set_disabled`` does."""
        with self._database.write() as connection:
            operator = within_reach(connection, operator_id, by, is_own_allowed=True)
            rows.end_sessions_of(connection, operator.id)
            passkey_rows.forget_browsers_of(connection, operator.id)
            audit.record(
                connection, now=now, actor=actor_of(by), action="operator.end_sessions",
                subject=f"operator:{operator_id}",
            )  # fmt: skip
