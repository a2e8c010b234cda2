"""Legal holds: what is kept longer than its time, because somebody asked and another agreed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import legal_holds
from hub.store.sites import Sites, within
from pacs.identifiers import CardholderId, DoorId, SiteId

UNCONFIRMED_FOR: Final = timedelta(hours=48)
"""So long what was asked for is kept while the second person is waited for."""
REMIND_BEFORE: Final = timedelta(days=7)
"""So long before its end a hold is pointed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What occurred from ``since`` to ``until`` at a site; of one person or of all, at one door or at any.

    ``requested_by`` and ``confirmed_by`` are as in the audit log, and never the same.
    """

    id: str
    site_id: SiteId
    cardholder_id: CardholderId | None
    door_id: DoorId | None
    since: datetime
    until: datetime
    reason: str
    requested_by: str
    requested_at: datetime
    ends_at: datetime
    confirmed_by: str | None = None
    confirmed_at: datetime | None = None
    lifted_at: datetime | None = None

    @property
    def keeps_until(self) -> datetime:
        """When it is over, or was, as things stand: lifted, ended, or never confirmed."""
        lapses_at = self.ends_at if self.confirmed_at else self.requested_at + UNCONFIRMED_FOR
        return min(self.lifted_at or self.ends_at, lapses_at)

    def keeps(self, now: datetime) -> bool:
        """Whether what it is about is kept at this moment."""
        return now < self.keeps_until

    def ends_soon(self, now: datetime) -> bool:
        """Whether it is about to be over, so that somebody has to agree, ask anew, or let it go knowingly."""
        return self.keeps(now) and now >= self.keeps_until - REMIND_BEFORE


def add(connection: Connection, hold: Hold) -> None:
    """Store a hold."""
    connection.execute(insert(legal_holds).values(asdict(hold)))


def change(connection: Connection, hold: Hold) -> None:
    """Store who confirmed a hold, or when it was lifted."""
    mine = legal_holds.c.id == hold.id
    values = {
        "confirmed_by": hold.confirmed_by,
        "confirmed_at": hold.confirmed_at,
        "lifted_at": hold.lifted_at,
    }
    connection.execute(update(legal_holds).where(mine).values(values))


def get(connection: Connection, hold_id: str) -> Hold:
    """One hold; raises ``NotFound``."""
    row = connection.execute(select(legal_holds).where(legal_holds.c.id == hold_id)).first()
    if row is None:
        raise NotFound("hold is not there")
    return _hold(row)


def list_all(connection: Connection, sites: Sites = None) -> list[Hold]:
    """Every hold of these sites, the newest first, those that are over included."""
    columns = legal_holds.c
    query = select(legal_holds).where(within(columns.site_id, sites))
    return [_hold(row) for row in connection.execute(query.order_by(columns.requested_at.desc(), columns.id))]


def keeping(connection: Connection, now: datetime) -> list[Hold]:
    """The holds that keep something at this moment."""
    query = select(legal_holds).where(legal_holds.c.lifted_at.is_(None), legal_holds.c.ends_at > now)
    return [hold for hold in map(_hold, connection.execute(query)) if hold.keeps(now)]


def _hold(row: Row[Any]) -> Hold:
    columns = fields(row)
    columns["site_id"] = SiteId(row.site_id)
    columns["cardholder_id"] = None if row.cardholder_id is None else CardholderId(row.cardholder_id)
    columns["door_id"] = None if row.door_id is None else DoorId(row.door_id)
    return Hold(**columns)
