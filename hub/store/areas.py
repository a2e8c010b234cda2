"""Areas: what doors lead into, for anti-passback and the roll call."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, or_, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import InUse, NotFound
from hub.store.schema import areas, doors
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


def rename(connection: Connection, area_id: AreaId, name: str) -> None:
    """Call an area otherwise; raises ``NotFound``."""
    changed = connection.execute(update(areas).where(areas.c.id == area_id).values(name=name))
    if changed.rowcount != 1:
        raise NotFound(f"area {area_id} is not there")


def remove(connection: Connection, area_id: AreaId) -> None:
    """Delete an area; raises ``NotFound``, and ``InUse`` while a door leads into it or out into it."""
    get(connection, area_id)
    leading = select(doors.c.id).where(or_(doors.c.area == area_id, doors.c.outside == area_id))
    if named := sorted(connection.scalars(leading)):
        raise InUse(f"area {area_id} is of doors: {', '.join(named)}")
    connection.execute(delete(areas).where(areas.c.id == area_id))


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
