"""The browsers that somebody signed in with before: nobody's guessing keeps those out."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from hub.operators.passwords import name_key
from hub.operators.refusal import digest
from hub.store import operators as rows
from hub.store import passkeys as passkey_rows
from hub.store.database import Database

BROWSER_LIFETIME = timedelta(days=180)


class Browsers:
    """Known by a token of their own, for everybody who signed in with them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def knows(self, browser: str | None, name: str, now: datetime) -> bool:
        """True when the operator of that name signed in with this browser before."""
        if browser is None:
            return False
        with self._database.read() as connection:
            operator = rows.operator_by_key(connection, name_key(name))
            return operator is not None and operator.id in passkey_rows.known_with(
                connection, digest(browser), now
            )

    def remember(self, session: str, browser: str | None, now: datetime) -> str | None:
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
