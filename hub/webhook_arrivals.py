"""Noticing that a card's status has arrived at every door, so that webhooks are told of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from hub.store import documents, doors
from hub.store import webhooks as store
from hub.store.database import Database
from hub.store.webhooks import Awaited, Told
from pacs.identifiers import SiteId
from pacs.messages import DocumentKind

LOOK_AGAIN = timedelta(seconds=60)
"""Doors are moved and controllers withdrawn as well, which no confirmation tells of."""


class Arrivals:
    """Looks at what is awaited when something was confirmed since; one thread's."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._seen: tuple[Any, ...] = ()
        self._looked_at: datetime | None = None

    def look(self) -> None:
        """Tell of what has arrived everywhere."""
        now = self._clock()
        with self._database.read() as connection:
            awaited = store.awaited(connection)
            seen = (awaited, documents.last_confirmation(connection)) if awaited else ()
            is_due = self._looked_at is None or not timedelta() <= now - self._looked_at < LOOK_AGAIN
            if not awaited or (seen == self._seen and not is_due):
                return
            arrived = [(each, count) for each in awaited if (count := _doors_confirmed(connection, each))]
        for each, count in arrived:
            with self._database.write() as connection:
                if store.no_longer_awaited(connection, each.id):
                    facts = {
                        "credential_id": each.credential_id,
                        "status": each.status,
                        "since": each.created_at.isoformat(),
                        "doors": count,
                    }
                    store.tell(connection, Told.CARD_ARRIVED, facts, now=now, site_id=each.site_id)
        self._seen, self._looked_at = seen, now


def _doors_confirmed(connection: Connection, awaited: Awaited) -> int:
    """At how many doors it is in force; 0 while one is not known to have it."""
    counted: dict[SiteId, int] = {}
    for site_id, kind, version in awaited.carried:
        count = _everywhere(connection, site_id, kind, version)
        if count is None:
            return 0
        counted[site_id] = count
    return sum(counted.values())


def _everywhere(connection: Connection, site_id: SiteId, kind: DocumentKind, version: int) -> int | None:
    """How many doors a site has, when all of them have confirmed this version; else None."""
    confirmed = documents.confirmed_at(connection, site_id, kind, version)
    here = doors.list_all(connection, sites=(site_id,))
    return len(here) if all(confirmed.get(named.door.controller_id) for named in here) else None
