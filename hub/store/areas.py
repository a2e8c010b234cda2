"""Areas: what doors lead into, for anti-passback and the roll call."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.schema import areas
from hub.store.sites import Sites, within
from pacs.identifiers import AreaId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """One area, with the name people call it by."""

    id: AreaId
    site_id: SiteId
    name: str
    created_at: datetime


def add(connection: Connection, area: Area) -> Area:
    """Add an area; raises ``AlreadyExists``."""
    insert_new(connection, areas, asdict(area))
    return area


def get(connection: Connection, area_id: AreaId) -> Area:
    """One area; raises ``NotFound``."""
    row = connection.execute(select(areas).where(areas.c.id == area_id)).first()
    if row is None:
        raise NotFound(f"area {area_id} is not there")
    return Area(**fields(row))


def list_all(connection: Connection, sites: Sites = None) -> list[Area]:
    """Every area of these sites, by id."""
    query = select(areas).where(within(areas.c.site_id, sites)).order_by(areas.c.id)
    return [Area(**fields(row)) for row in connection.execute(query)]
