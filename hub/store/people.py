"""Which people a site knows: those who belong to it, and those who hold an access level of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Select, select, union

from hub.store.schema import access_levels, cardholder_levels, cardholders
from hub.store.sites import Sites, within
from pacs.identifiers import CardholderId, SiteId


def people_within(sites: Sites) -> Select[Any]:
    """The ids of whom these sites know."""
    belonging = select(cardholders.c.id).where(within(cardholders.c.site_id, sites))
    held = select(cardholder_levels.c.cardholder_id).join(access_levels)
    return select(union(belonging, held.where(within(access_levels.c.site_id, sites))).subquery().c[0])


def people_of(site_id: SiteId) -> Select[Any]:
    """The ids of whom one site knows."""
    return people_within((site_id,))


def sites_of(connection: Connection, cardholder_id: CardholderId) -> list[SiteId]:
    """The sites that know somebody, by id; the one they belong to included."""
    belonging = select(cardholders.c.site_id).where(cardholders.c.id == cardholder_id)
    held = select(access_levels.c.site_id).join(cardholder_levels)
    held = held.where(cardholder_levels.c.cardholder_id == cardholder_id)
    return sorted(map(SiteId, connection.scalars(union(belonging, held))))
