"""Which document versions carry a change to the doors, and which door has confirmed them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from hub.documents import SiteDocuments
from hub.revocation import DoorConfirmation, confirmations_of
from hub.store.transfers import Carried
from pacs.identifiers import SiteId
from pacs.messages import DocumentKind


def issue(
    connection: Connection,
    site_documents: SiteDocuments,
    sites: Iterable[SiteId],
    *,
    cause: str,
    actor: str,
    now: datetime,
) -> list[Carried]:
    """Issue both documents of these sites in the caller's transaction; by site."""
    found = []
    for site_id in sorted(set(sites)):
        versions = {
            kind: site_documents.issue(connection, site_id, kind, cause=cause, now=now, actor=actor).version
            for kind in (DocumentKind.REVOCATIONS, DocumentKind.POLICY)
        }
        found.append(
            Carried(
                site_id=site_id,
                policy_version=versions[DocumentKind.POLICY],
                revocations_version=versions[DocumentKind.REVOCATIONS],
            )
        )
    return found


def confirmations(
    connection: Connection, carried: Iterable[Carried], now: datetime
) -> tuple[DoorConfirmation, ...]:
    """Every door of these sites, with its word on its site's policy version."""
    return tuple(
        confirmation
        for each in carried
        for confirmation in confirmations_of(
            connection, each.site_id, DocumentKind.POLICY, each.policy_version, now
        )
    )
