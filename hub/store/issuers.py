"""The card issuers that the hub knows, all sites alike: who is trusted, who was, and how many cards each still has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from hub.store.cards import CardStatus
from hub.store.database import fields
from hub.store.errors import InUse, NotFound
from hub.store.schema import cardholders, cards, issuers
from pacs.credential import Technology


@dataclass(frozen=True, slots=True, kw_only=True)
class CardIssuer:
    """``iir``: its identification reference; ``public_key``: its 65-byte uncompressed P-256 point.

    ``retired_at``: since when no policy names it; None: it is trusted.
    """

    iir: str
    public_key: bytes
    created_at: datetime
    retired_at: datetime | None


def trust(connection: Connection, iir: str, public_key: bytes, now: datetime) -> None:
    """Trust a card issuer; replaces an earlier one of this reference."""
    connection.execute(delete(issuers).where(issuers.c.iir == iir))
    connection.execute(insert(issuers).values(iir=iir, public_key=public_key, created_at=now))


def list_all(connection: Connection) -> list[CardIssuer]:
    """Every issuer that is or was trusted, the oldest first."""
    query = select(issuers).order_by(issuers.c.created_at, issuers.c.iir)
    return [CardIssuer(**fields(row)) for row in connection.execute(query)]


def trusted(connection: Connection) -> Mapping[str, bytes]:
    """Reference → point, of those that policies name."""
    query = select(issuers).where(issuers.c.retired_at.is_(None)).order_by(issuers.c.iir)
    return {row.iir: row.public_key for row in connection.execute(query)}


def follow(connection: Connection, stated: Mapping[str, bytes], now: datetime, *, alone: bool) -> bool:
    """Trust those ``stated`` that are new, or have another key now; whether that changed anything.

    ``alone``: retire all others. What was retired stays so.
    """
    known = {each.iir: each for each in list_all(connection)}
    new = {iir: key for iir, key in stated.items() if iir not in known or known[iir].public_key != key}
    for iir, key in new.items():
        trust(connection, iir, key, now)
    gone = [each.iir for each in known.values() if each.retired_at is None and each.iir not in stated]
    if not alone:
        gone = []
    connection.execute(update(issuers).where(issuers.c.iir.in_(gone)).values(retired_at=now))
    return bool(new or gone)


def retire(connection: Connection, iir: str, now: datetime, *, with_cards: bool = False) -> int:
    """Have no policy name an issuer any more; how many live cards stop opening by that.

    Raises ``NotFound`` when it is not trusted, and ``InUse`` when there are such cards, unless ``with_cards``.
    """
    if iir not in trusted(connection):
        raise NotFound(f"card issuer {iir} is not trusted here")
    live = live_cards(connection, now)
    left = live.get(iir, 0) + live.get(None, 0)
    if left and not with_cards:
        raise InUse(
            f"{left} cards that somebody may still use are of issuer {iir}, or of one that is not known"
        )
    connection.execute(update(issuers).where(issuers.c.iir == iir).values(retired_at=now))
    return left


def live_cards(connection: Connection, now: datetime) -> Mapping[str | None, int]:
    """Reference → cards with its certificate that are not revoked and have not ended, nor has their holder's stay.

    None: cards of which the hub was not told who made them.
    """
    card, people = cards.c, cardholders.c
    query = (
        select(card.issuer, func.count())
        .join(cardholders, people.id == card.cardholder_id)
        .where(card.technology == Technology.PKOC_V2, card.status != CardStatus.REVOKED)
        .where(or_(card.valid_until.is_(None), card.valid_until > now))
        .where(or_(people.valid_until.is_(None), people.valid_until > now))
        .group_by(card.issuer)
    )
    return {iir: count for iir, count in connection.execute(query)}  # noqa: C416 - rows, made into a mapping
