"""How operators sign in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from hub.store import oidc as oidc_rows
from hub.store import passkeys as passkey_rows
from hub.store.operators import OperatorRow


@dataclass(frozen=True, slots=True, kw_only=True)
class WaysIn:
    """By a password, by one of so many ``passkeys``, by an account at the ``provider`` that the hub is told."""

    password: bool
    passkeys: int
    provider: bool


def ways_in(connection: Connection, people: Iterable[OperatorRow], issuer: str | None) -> dict[str, WaysIn]:
    """Operator → the ways in; ``issuer``: the OpenID provider there is, None: there is none."""
    passkeys = passkey_rows.counts(connection)
    connected = oidc_rows.owners(connection, issuer) if issuer else set()
    return {
        each.id: WaysIn(
            password=each.password_hash is not None,
            passkeys=passkeys.get(each.id, 0),
            provider=each.id in connected,
        )
        for each in people
    }
