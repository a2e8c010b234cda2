"""The stock of blank cards of each site: what came, what went and why; what is there is their sum."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique

from sqlalchemy import Connection, func, insert, select

from hub.store.database import fields
from hub.store.schema import card_stock
from hub.store.sites import Sites, within
from pacs.credential import Technology
from pacs.identifiers import SiteId


@unique
class StockCause(StrEnum):
    """Why the stock changed."""

    RECEIVED = "received"
    ISSUED = "issued"
    SPOILT = "spoilt"
    RETURNED = "returned"
    COUNTED = "counted"


@dataclass(frozen=True, slots=True, kw_only=True)
class StockMovement:
    """``cards`` that came to a site's stock; below 0: that went. Of a count: the difference that it showed."""

    site_id: SiteId
    technology: Technology
    cards: int
    cause: StockCause
    reason: str
    made_by: str
    at: datetime


def add(connection: Connection, movement: StockMovement) -> None:
    """Store what came or went."""
    connection.execute(insert(card_stock).values(asdict(movement)))


def take_one(
    connection: Connection,
    site_id: SiteId,
    technology: Technology,
    cause: StockCause,
    *,
    made_by: str,
    now: datetime,
) -> None:
    """A blank card was used; where no stock of this kind was ever kept, nothing is stored."""
    if technology in balances(connection, [site_id]).get(site_id, {}):
        used = StockMovement(
            site_id=site_id, technology=technology, cards=-1, cause=cause, reason="", made_by=made_by, at=now
        )
        add(connection, used)


def balances(connection: Connection, sites: Sites = None) -> dict[SiteId, dict[Technology, int]]:
    """Site → technology → how many there should be, where a stock is kept. Below 0: more were used than received."""
    columns = card_stock.c
    query = select(columns.site_id, columns.technology, func.sum(columns.cards))
    query = query.where(within(columns.site_id, sites)).group_by(columns.site_id, columns.technology)
    found: dict[SiteId, dict[Technology, int]] = {}
    for site_id, technology, cards in connection.execute(query.order_by(columns.site_id, columns.technology)):
        found.setdefault(SiteId(site_id), {})[Technology(technology)] = int(cards)
    return found


def newest(connection: Connection, sites: Sites = None, *, limit: int) -> list[StockMovement]:
    """What came and went last, the newest first."""
    query = select(card_stock).where(within(card_stock.c.site_id, sites))
    found = []
    for row in connection.execute(query.order_by(card_stock.c.id.desc()).limit(limit)):
        values = fields(row)
        del values["id"]
        values |= {
            "site_id": SiteId(row.site_id),
            "technology": Technology(row.technology),
            "cause": StockCause(row.cause),
        }
        found.append(StockMovement(**values))
    return found
