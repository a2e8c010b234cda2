"""Forgetting a person: names, photograph, room and the rest; what stays is that their cards open nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from hub import audit
from hub.store import cardholders, cards, expiry, holds, issuing, photographs, reports
from hub.store.cards import CardStatus
from hub.store.held import holds_person
from hub.store.holds import Hold
from hub.store.sites import Sites
from pacs.errors import StoreError
from pacs.identifiers import CardholderId


class HeldBack(StoreError):
    """A legal hold keeps what is known of this person."""


def erase(
    connection: Connection, cardholder_id: CardholderId, *, reason: str, actor: str, now: datetime
) -> bool:
    """Forget somebody and revoke their cards; False: that was done before.

    Call ``site_changed`` after the commit: the documents that say so follow. Raises ``NotFound`` and ``HeldBack``.
    """
    if holds_person(connection, cardholder_id, holds.keeping(connection, now)):
        raise HeldBack("a legal hold keeps what is known of this person; lift it first")
    if not cardholders.erase(connection, cardholder_id, now):
        return False
    photographs.remove(connection, cardholder_id)
    reports.forget_person(connection, cardholder_id)
    issuing.cancel_of_person(connection, cardholder_id, now)
    for card in cards.list_all(connection, cardholder_id=cardholder_id):
        if card.status is not CardStatus.REVOKED:
            cards.set_status(connection, card.credential_id, CardStatus.REVOKED, now=now)
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="cardholder.erase",
        subject=f"cardholder:{cardholder_id}",
        reason=reason,
    )
    return True


def erase_leavers(
    connection: Connection,
    before: datetime,
    held: Iterable[Hold],
    limit: int,
    sites: Sites = None,
    *,
    now: datetime,
) -> int:
    """Forget people whose validity ended ``before``; how many."""
    found = expiry.leavers(connection, before, held, min(limit, 100), sites)
    for each in found:
        erase(connection, CardholderId(each), reason="retention", actor=audit.SYSTEM, now=now)
    return len(found)
