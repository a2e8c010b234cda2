"""Cards whose validity has ended, and of which ends somebody was told: of each once, whichever process tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, case, or_, select, union
from sqlalchemy.dialects import postgresql, sqlite

from hub.store.cards import CardStatus
from hub.store.schema import card_ends_told, cardholders, cards
from pacs.identifiers import CredentialId, SiteId

LATELY: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A card at its person's site, and when its own validity or that of its person ended."""

    credential_id: CredentialId
    site_id: SiteId
    at: datetime


_OWN, _PERSONS = cards.c.valid_until, cardholders.c.valid_until
_END = case((_OWN.is_(None), _PERSONS), (_PERSONS.is_(None), _OWN), (_OWN < _PERSONS, _OWN), else_=_PERSONS)
_UNTOLD = (
    select(cards.c.credential_id, cardholders.c.site_id, _END.label("at"))
    .join(cardholders, cardholders.c.id == cards.c.cardholder_id)
    .outerjoin(card_ends_told, card_ends_told.c.credential_id == cards.c.credential_id)
    .where(
        cards.c.status != CardStatus.REVOKED,
        or_(card_ends_told.c.ended_at.is_(None), card_ends_told.c.ended_at != _END),
    )
)


def untold(
    connection: Connection, now: datetime, *, limit: int, credential_id: CredentialId | None = None
) -> list[Ended]:
    """Some of the cards that are not revoked, whose validity ended within ``LATELY``, and of whose end nobody was told."""
    since = now - LATELY
    own = select(cards.c.credential_id).where(since < _OWN, now >= _OWN)
    persons = select(cards.c.credential_id).join(cardholders).where(since < _PERSONS, now >= _PERSONS)
    query = _UNTOLD.where(cards.c.credential_id.in_(union(own, persons)), since < _END, now >= _END)
    query = query.order_by(cards.c.credential_id).limit(limit)
    if credential_id is not None:
        query = query.where(cards.c.credential_id == str(credential_id))
    return [
        Ended(credential_id=CredentialId.parse(row.credential_id), site_id=SiteId(row.site_id), at=row.at)
        for row in connection.execute(query)
    ]


def take(connection: Connection, ended: Ended) -> bool:
    """Whether it is for this transaction to tell of it; False: somebody has."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(card_ends_told).values(credential_id=str(ended.credential_id), ended_at=ended.at)
    columns = card_ends_told.c
    taken = new.on_conflict_do_update(
        index_elements=[columns.credential_id],
        set_={"ended_at": ended.at},
        where=columns.ended_at != ended.at,
    )
    return connection.execute(taken.returning(columns.credential_id)).first() is not None
