"""What webhooks are to be told of once it has arrived at every door."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from hub.store import webhooks
from hub.store.schema import webhook_awaited
from hub.store.webhooks import Told
from pacs.identifiers import CredentialId, SiteId
from pacs.messages import DocumentKind

KEPT = timedelta(days=30)
"""What has not arrived everywhere by then is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A card's status that is to be told once these versions of these sites' documents are confirmed everywhere."""

    id: int
    credential_id: str
    site_id: SiteId
    status: str
    carried: tuple[tuple[SiteId, DocumentKind, int], ...]
    created_at: datetime


def expect(
    connection: Connection,
    credential_id: CredentialId,
    status: str,
    carried: Iterable[tuple[SiteId, DocumentKind, int]],
    *,
    site_id: SiteId,
    now: datetime,
) -> None:
    """Have it told, once these versions are confirmed everywhere, that this is so; what was awaited of the card before is not."""
    connection.execute(delete(webhook_awaited).filter_by(credential_id=str(credential_id)))
    if webhooks.is_wanted(connection, Told.CARD_ARRIVED, site_id):
        row = {
            "credential_id": str(credential_id),
            "site_id": site_id,
            "status": status,
            "carried": [[str(site), kind.value, version] for site, kind, version in carried],
            "created_at": now,
        }
        connection.execute(insert(webhook_awaited).values(row))


def list_all(connection: Connection) -> list[Awaited]:
    """What is to be told once it has arrived everywhere."""
    return [
        Awaited(
            id=row.id,
            credential_id=row.credential_id,
            site_id=SiteId(row.site_id),
            status=row.status,
            carried=tuple((SiteId(site), DocumentKind(kind), version) for site, kind, version in row.carried),
            created_at=row.created_at,
        )
        for row in connection.execute(select(webhook_awaited).order_by(webhook_awaited.c.id))
    ]


def remove(connection: Connection, awaited_id: int) -> bool:
    """Forget it; False: somebody else did."""
    return connection.execute(delete(webhook_awaited).filter_by(id=awaited_id)).rowcount == 1


def forget_old(connection: Connection, now: datetime) -> None:
    """Forget what has not arrived for ``KEPT``."""
    connection.execute(delete(webhook_awaited).where(webhook_awaited.c.created_at < now - KEPT))
