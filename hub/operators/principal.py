"""Who a request comes from, and what they may; nobody gives, or acts on, more than they have."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from hub import audit
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import operators as rows
from hub.store import sites as site_rows
from hub.store.errors import NotFound
from hub.store.operators import OperatorRow, TokenRow
from pacs.errors import PacsError
from pacs.identifiers import SiteId


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


def seen(listed: list[str] | None) -> frozenset[SiteId] | None:
    """The sites of a row; None: every site."""
    return None if listed is None else frozenset(map(SiteId, listed))


def stored_sites(connection: Connection, sites: frozenset[SiteId] | None) -> list[str] | None:
    """``sites`` as a row has them; raises ``NotFound`` for a site that is not there."""
    for site in sites or ():
        site_rows.get(connection, site)
    return None if sites is None else sorted(sites)


def actor_of(by: Principal | None) -> str:
    """As the audit log names them; None: whoever has a shell on the hub."""
    return audit.SYSTEM if by is None else by.actor


def sees_operator(by: Principal, operator: OperatorRow | TokenRow) -> bool:
    """True when all that this operator or token sees is within the sites of ``by``."""
    sites = seen(operator.sites)
    return by.sites is None or (sites is not None and sites <= by.sites)


def check_reach(by: Principal | None, role: str, sites: list[str] | None) -> None:
    """Raise ``BeyondOwnRights`` when these rights are more than ``by`` has."""
    if by is not None and not by.reaches(Role(role), seen(sites)):
        raise BeyondOwnRights("That is more than your own role and sites allow.")


def within_reach(
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
    check_reach(by, operator.role, operator.sites)
    return operator


def rights_given(
    role: str, sites: list[str] | None, permissions: Collection[Permission] | None = None
) -> dict[str, str | int]:
    """What the audit log says of rights that are given; every site and every permission are not named."""
    said: dict[str, str | int] = {"role": str(role)}
    if sites is not None:
        said["sites"] = " ".join(sites)
    if permissions is not None:
        said["permissions"] = " ".join(sorted(permissions))
    return said
