"""For how long sites keep what, where they keep it for less than the whole hub does; what is reduced there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import Connection, insert, or_, select, update

from hub.store.schema import retention_sites
from pacs.identifiers import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Shorter:
    """What a site asked for, in whole seconds; None: as in the whole hub. The names are those of ``hub.periods.Periods``."""

    precise: timedelta | None = None
    coarse: timedelta | None = None
    leavers: timedelta | None = None
    registration: timedelta | None = None


_NAMES = tuple(each.name for each in fields(Shorter))


def list_all(connection: Connection) -> dict[SiteId, Shorter]:
    """Site → what it asked for; sites that never did are not there."""
    rows = connection.execute(select(retention_sites).order_by(retention_sites.c.site_id)).mappings()
    return {
        SiteId(columns["site_id"]): Shorter(**{name: _read(columns[f"{name}_s"]) for name in _NAMES})
        for columns in rows
    }


def put(connection: Connection, site_id: SiteId, asked: Shorter) -> None:
    """Store what a site asks for from now on; up to when it is reduced stays."""
    values = {f"{name}_s": _written(getattr(asked, name)) for name in _NAMES}
    mine = retention_sites.c.site_id == site_id
    if not connection.execute(update(retention_sites).where(mine).values(values)).rowcount:
        connection.execute(insert(retention_sites).values(site_id=site_id, **values))


def reduce(connection: Connection, sites: Iterable[SiteId], before: datetime) -> None:
    """From here on it cannot be told who it was that tapped there ``before``."""
    columns = retention_sites.c
    earlier = or_(columns.reduced_before.is_(None), columns.reduced_before < before)
    mine = columns.site_id.in_(sorted(sites)) & earlier
    connection.execute(update(retention_sites).where(mine).values(reduced_before=before))


def reduced_before(connection: Connection) -> dict[SiteId, datetime]:
    """Site → before when who it was is no longer kept, where that is known apart from the whole hub's."""
    columns = retention_sites.c
    query = select(columns.site_id, columns.reduced_before).where(columns.reduced_before.is_not(None))
    return {SiteId(row.site_id): row.reduced_before for row in connection.execute(query)}


def _read(seconds: int | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _written(period: timedelta | None) -> int | None:
    return None if period is None else int(period.total_seconds())
