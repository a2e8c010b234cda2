"""Noticing that cards' validity has ended by itself, so that webhooks are told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from hub.store import card_ends, webhooks
from hub.store.database import Database
from hub.store.webhooks import Told

EVERY_S: Final = 10.0
AT_ONCE: Final = 500


class Ends:
    """Looks now and then; one thread's, of as many processes as there are."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._next_s = 0.0

    def look(self) -> None:
        """Tell of what has ended, each card in the transaction that says it was told."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + EVERY_S
        now = self._clock()
        with self._database.read() as connection:
            found = card_ends.untold(connection, now, limit=AT_ONCE)
        if not found:
            return
        if len(found) == AT_ONCE:
            self._next_s = 0.0
        with self._database.write() as connection:
            for each in found:
                if card_ends.take(connection, each):
                    facts = {"credential_id": str(each.credential_id), "at": each.at.isoformat()}
                    webhooks.tell(connection, Told.CARD_ENDED, facts, now=now, site_id=each.site_id)
