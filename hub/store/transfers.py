"""Transfers of people between sites, and the documents that carry each one to the doors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import transfer_documents, transfers
from hub.store.sites import Sites, within
from pacs.identifiers import SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One transfer; ``id``: hex. ``people``: how many. ``given_by``: as in the audit log."""

    id: str
    to_site_id: SiteId
    people: int
    given_by: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The versions of a site's documents that carry a transfer."""

    site_id: SiteId
    policy_version: int
    revocations_version: int


def add(connection: Connection, transfer: Transfer, carried: Iterable[Carried]) -> None:
    """Store a transfer and what carries it."""
    connection.execute(insert(transfers).values(asdict(transfer)))
    rows = [{"transfer_id": transfer.id, **asdict(each)} for each in carried]
    connection.execute(insert(transfer_documents), rows)


def get(connection: Connection, transfer_id: str) -> Transfer:
    """One transfer; raises ``NotFound``."""
    row = connection.execute(select(transfers).where(transfers.c.id == transfer_id)).first()
    if row is None:
        raise NotFound("transfer is not there")
    return Transfer(**{**fields(row), "to_site_id": SiteId(row.to_site_id)})


def newest(connection: Connection, seen: Sites = None, *, limit: int) -> list[Transfer]:
    """Transfers that concern one of these sites, the newest first."""
    columns = transfer_documents.c
    concerning = select(columns.transfer_id).where(within(columns.site_id, seen))
    query = select(transfers).where(transfers.c.id.in_(concerning))
    query = query.order_by(transfers.c.at.desc(), transfers.c.id).limit(limit)
    return [
        Transfer(**{**fields(row), "to_site_id": SiteId(row.to_site_id)}) for row in connection.execute(query)
    ]


def carried(connection: Connection, transfer_id: str) -> list[Carried]:
    """What carries a transfer, by site."""
    columns = transfer_documents.c
    query = select(columns.site_id, columns.policy_version, columns.revocations_version)
    query = query.where(columns.transfer_id == transfer_id).order_by(columns.site_id)
    return [
        Carried(
            site_id=SiteId(row.site_id),
            policy_version=row.policy_version,
            revocations_version=row.revocations_version,
        )
        for row in connection.execute(query)
    ]
