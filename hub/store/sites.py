"""The site this hub administers, its card issuers and its holidays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime

from sqlalchemy import Connection, delete, insert, select, update

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import holidays, issuers, sites
from pacs.identifiers import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One reception centre; ``time_zone`` is an IANA name."""

    id: SiteId
    name: str
    time_zone: str
    created_at: datetime


def ensure(connection: Connection, site: Site) -> Site:
    """Return the site of this database, which becomes ``site`` when there is none.

    Raises ``NotFound`` when the database belongs to another site.
    """
    row = connection.execute(select(sites)).first()
    if row is None:
        connection.execute(insert(sites).values(**asdict(site)))
        return site
    if row.id != site.id:
        raise NotFound(f"this database belongs to site {row.id}, not {site.id}")
    return Site(**fields(row))


def get(connection: Connection) -> Site:
    """The site; raises ``NotFound`` before ``ensure``."""
    row = connection.execute(select(sites)).first()
    if row is None:
        raise NotFound("no site yet")
    return Site(**{**fields(row), "id": SiteId(row.id)})


def rename(connection: Connection, *, name: str, time_zone: str) -> None:
    """Change what the site is called and the clock its schedules follow."""
    connection.execute(update(sites).values(name=name, time_zone=time_zone))


def trust_issuer(connection: Connection, iir: str, public_key: bytes, now: datetime) -> None:
    """Trust a card issuer: ``public_key`` is its 65-byte uncompressed P-256 point; replaces an earlier one."""
    connection.execute(delete(issuers).where(issuers.c.iir == iir))
    connection.execute(insert(issuers).values(iir=iir, public_key=public_key, created_at=now))


def trusted_issuers(connection: Connection) -> Mapping[str, bytes]:
    """Issuer identification reference → public key point."""
    return {row.iir: row.public_key for row in connection.execute(select(issuers).order_by(issuers.c.iir))}


def set_holiday(connection: Connection, day: date, name: str) -> None:
    """Add or rename a holiday."""
    remove_holiday(connection, day)
    connection.execute(insert(holidays).values(day=day, name=name))


def remove_holiday(connection: Connection, day: date) -> None:
    """Make it an ordinary day; nothing happens when it is one."""
    connection.execute(delete(holidays).where(holidays.c.day == day))


def list_holidays(connection: Connection) -> Mapping[date, str]:
    """Day → name, in order."""
    return {row.day: row.name for row in connection.execute(select(holidays).order_by(holidays.c.day))}
