"""The sites this hub administers, each with its holidays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

from sqlalchemy import Column, ColumnElement, Connection, Select, delete, insert, select, true, update

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.schema import controllers, holidays, sites
from pacs.identifiers import SiteId

Sites: TypeAlias = Collection[SiteId] | None
"""Which sites somebody sees; None: every one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One reception centre; ``time_zone`` is an IANA name. ``blur_photos``: until somebody touches them.

    ``few_blank_cards``: below so many of a kind it is time to order. ``desk_shown_s``: how long a desk shows a card. ``desk_idle_s``: after so long without one, its operator is signed off.
    """

    id: SiteId
    name: str
    time_zone: str
    created_at: datetime
    blur_photos: bool = False
    desk_shown_s: int = 30
    desk_idle_s: int = 900
    few_blank_cards: int = 20


def within(column: Column[Any], seen: Sites) -> ColumnElement[bool]:
    """The condition that the site in ``column`` is among those ``seen``."""
    return true() if seen is None else column.in_(sorted(seen))


def controllers_within(seen: Sites) -> Select[tuple[str]]:
    """The ids of all controllers of these sites, withdrawn ones included."""
    return select(controllers.c.id).where(within(controllers.c.site_id, seen))


def ensure(connection: Connection, site: Site) -> Site:
    """Return the site of this id, which becomes ``site`` in a database that has none.

    Raises ``NotFound`` when the database belongs to other sites.
    """
    known = list_all(connection)
    found = next((each for each in known if each.id == site.id), None)
    if found is None and known:
        names = ", ".join(each.id for each in known)
        raise NotFound(f"this database belongs to {names}, not to site {site.id}")
    return found or add(connection, site)


def add(connection: Connection, site: Site) -> Site:
    """Add a site; raises ``AlreadyExists``."""
    insert_new(connection, sites, asdict(site))
    return site


def get(connection: Connection, site_id: SiteId) -> Site:
    """One site; raises ``NotFound``."""
    row = connection.execute(select(sites).where(sites.c.id == site_id)).first()
    if row is None:
        raise NotFound(f"site {site_id} is not there")
    return Site(**{**fields(row), "id": SiteId(row.id)})


def list_all(connection: Connection, seen: Sites = None) -> list[Site]:
    """The sites, by id."""
    query = select(sites).where(within(sites.c.id, seen)).order_by(sites.c.id)
    return [Site(**{**fields(row), "id": SiteId(row.id)}) for row in connection.execute(query)]


def change(
    connection: Connection, site_id: SiteId, *, name: str, time_zone: str, blur_photos: bool | None = None
) -> None:
    """Change what a site is called, the clock its schedules follow, and how its photographs are shown (None: as before).

    Raises ``NotFound``.
    """
    values = {"name": name, "time_zone": time_zone} | (
        {} if blur_photos is None else {"blur_photos": blur_photos}
    )
    changed = connection.execute(update(sites).where(sites.c.id == site_id).values(values))
    if changed.rowcount != 1:
        raise NotFound(f"site {site_id} is not there")


def set_desks(connection: Connection, site_id: SiteId, *, shown_s: int, idle_s: int) -> None:
    """Change for how long desks show a card, and when their operators are signed off."""
    values = {"desk_shown_s": shown_s, "desk_idle_s": idle_s}
    connection.execute(update(sites).where(sites.c.id == site_id).values(values))


def set_few_blank_cards(connection: Connection, site_id: SiteId, few: int) -> None:
    """Change below how many blank cards of a kind it is time to order."""
    connection.execute(update(sites).where(sites.c.id == site_id).values(few_blank_cards=few))


def of_controllers(connection: Connection) -> Mapping[str, SiteId]:
    """Controller → its site, withdrawn ones included."""
    known: dict[str, SiteId] = {}
    query = select(controllers.c.id, controllers.c.site_id)
    return {row.id: known.setdefault(row.site_id, SiteId(row.site_id)) for row in connection.execute(query)}


def set_holiday(connection: Connection, site_id: SiteId, day: date, name: str) -> None:
    """Add or rename a site's holiday."""
    remove_holiday(connection, site_id, day)
    connection.execute(insert(holidays).values(site_id=site_id, day=day, name=name))


def remove_holiday(connection: Connection, site_id: SiteId, day: date) -> None:
    """Make it an ordinary day at a site; nothing happens when it is one."""
    connection.execute(delete(holidays).where(holidays.c.site_id == site_id, holidays.c.day == day))


def list_holidays(connection: Connection, site_id: SiteId) -> Mapping[date, str]:
    """Day → name, in order, at a site."""
    query = select(holidays).where(holidays.c.site_id == site_id).order_by(holidays.c.day)
    return {row.day: row.name for row in connection.execute(query)}
