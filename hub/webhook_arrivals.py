"""Noticing that a card's status has arrived at every door, so that webhooks are told of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from hub.store import documents, doors, webhooks
from hub.store import webhook_arrivals as store
from hub.store.database import Database
from hub.store.webhook_arrivals import Awaited
from hub.store.webhooks import Told
from pacs.identifiers import ControllerId, SiteId

SOON_S, LATER_S = 2.0, 60.0
"""How often is looked: while something was changed a moment ago, and while only doors that are away lack it."""
A_MOMENT = timedelta(minutes=10)


class Arrivals:
    """Looks now and then at what is awaited; one thread's."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock
        self._next_s = 0.0

    def look(self) -> None:
        """Tell of what has arrived everywhere."""
        if time.monotonic() < self._next_s:
            return
        now = self._clock()
        with self._database.read() as connection:
            awaited = store.list_all(connection)
            arrived = _arrived(connection, awaited) if awaited else {}
        for each in awaited:
            if each.id in arrived:
                self._tell(each, arrived[each.id], now)
        lacking = [each for each in awaited if each.id not in arrived]
        is_old = bool(lacking) and all(now - each.created_at > A_MOMENT for each in lacking)
        self._next_s = time.monotonic() + (LATER_S if is_old else SOON_S)

    def _tell(self, awaited: Awaited, count: int, now: datetime) -> None:
        facts = {
            "credential_id": awaited.credential_id,
            "status": awaited.status,
            "since": awaited.created_at.isoformat(),
            "doors": count,
        }
        with self._database.write() as connection:
            if store.remove(connection, awaited.id):
                webhooks.tell(connection, Told.CARD_ARRIVED, facts, now=now, site_id=awaited.site_id)


def _arrived(connection: Connection, awaited: list[Awaited]) -> dict[int, int]:
    """What every door concerned is known to have → how many doors that are."""
    confirmed = documents.confirmed_versions(connection)
    sites = {site_id for each in awaited for site_id, _kind, _version in each.carried}
    at: dict[SiteId, list[ControllerId]] = {site_id: [] for site_id in sites}
    for named in doors.list_all(connection, sites=sites):
        at[named.site_id].append(named.door.controller_id)
    return {
        each.id: sum(len(at[site_id]) for site_id in {site_id for site_id, _kind, _version in each.carried})
        for each in awaited
        if all(
            confirmed.get((controller_id, kind), 0) >= version
            for site_id, kind, version in each.carried
            for controller_id in at[site_id]
        )
    }
