"""Finding people and their cards by name, as somebody at a desk does."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from hub.store.cardholders import Category, full_name
from hub.store.people import people_within
from hub.store.schema import access_levels, cardholder_levels, cardholders, cards
from hub.store.sites import Sites, within
from pacs.identifiers import AccessLevelId, CardholderId, CredentialId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCard:
    """A card, and whose it is."""

    credential_id: CredentialId
    status: str
    category: str
    cardholder_id: CardholderId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPerson:
    """A person with the names of their access levels and their cards; ``site_id``: where they belong."""

    id: CardholderId
    name: str
    category: str
    site_id: SiteId
    room: str
    external_id: str
    levels: list[str] = field(default_factory=list)
    cards: list[ListedCard] = field(default_factory=list)


def find_cards(
    connection: Connection, search: str = "", *, by_name: bool = True, sites: Sites = None
) -> list[ListedCard]:
    """Cards that these sites list, by name of their holder; ``search`` is part of a name, or how a credential id begins.

    Not ``by_name``, for who may not see names: by credential id, which alone is searched.
    """
    columns = (cards.c.credential_id, cards.c.status, cards.c.cardholder_id, cardholders.c.category, *_NAMES)
    query = select(*columns).join(cardholders)
    query = query.where(cardholders.c.erased_at.is_(None))
    if sites is not None:
        query = query.where(cardholders.c.id.in_(people_within(sites)))
    wanted = _folded(search)
    found = []
    for row in connection.execute(query):
        name = _full_name(row)
        if (by_name and _matches(wanted, name)) or row.credential_id.startswith(search.strip().lower()):
            found.append(
                ListedCard(
                    credential_id=CredentialId.parse(row.credential_id),
                    status=row.status,
                    category=row.category,
                    cardholder_id=CardholderId(row.cardholder_id),
                    name=name,
                )
            )
    return sorted(found, key=lambda card: (_folded(card.name) if by_name else "", card.credential_id))


def find_people(
    connection: Connection,
    search: str = "",
    *,
    sites: Sites = None,
    level: AccessLevelId | None = None,
    category: Category | None = None,
    room: str = "",
) -> list[ListedPerson]:
    """Whom these sites know, by name; ``search``: parts of a name, a room or an external id. Accents and case do not matter.

    ``level``: only those who hold it. ``room``: how it begins.
    """
    wanted, room = _folded(search), _folded(room)
    known = cardholders.c.erased_at.is_(None) & cardholders.c.id.in_(people_within(sites))
    if category is not None:
        known &= cardholders.c.category == category
    every = connection.execute(select(cardholders).where(known))
    rows = [row for row in every if _folded(row.room or "").startswith(room)]
    people = {
        row.id: ListedPerson(
            id=CardholderId(row.id),
            name=_full_name(row),
            category=row.category,
            site_id=SiteId(row.site_id),
            room=row.room or "",
            external_id=row.external_id or "",
        )
        for row in rows
    }
    sought = {row.id: f"{people[row.id].name} {row.room or ''} {row.external_id or ''}" for row in rows}
    held = select(cardholder_levels.c.cardholder_id, access_levels.c.name).join(access_levels)
    held = held.where(within(access_levels.c.site_id, sites)).order_by(access_levels.c.name)
    for row in connection.execute(held):
        if row.cardholder_id in people:
            people[row.cardholder_id].levels.append(row.name)
    for card in find_cards(connection, sites=sites):
        if card.cardholder_id in people:
            people[card.cardholder_id].cards.append(card)
    found = [person for person in people.values() if _matches(wanted, sought[person.id])]
    if level is not None:
        columns = cardholder_levels.c
        holders = set(
            connection.scalars(select(columns.cardholder_id).where(columns.access_level_id == level))
        )
        found = [person for person in found if person.id in holders]
    return sorted(found, key=lambda person: (_folded(person.name), person.id))


def names_of(connection: Connection, people: Iterable[CardholderId]) -> Mapping[CardholderId, str]:
    """Cardholder → full name, with that in Latin letters, for those who are there."""
    wanted = list(dict.fromkeys(people))
    query = select(cardholders.c.id, *_NAMES)
    rows = connection.execute(query.where(cardholders.c.id.in_(wanted), cardholders.c.erased_at.is_(None)))
    return {CardholderId(row.id): _full_name(row) for row in rows}


_NAMES = (
    cardholders.c.given_name,
    cardholders.c.family_name,
    cardholders.c.latin_given_name,
    cardholders.c.latin_family_name,
)


def _full_name(row: Any) -> str:
    return full_name(row.given_name, row.family_name, row.latin_given_name, row.latin_family_name)


def _folded(text: str) -> str:
    """Without case and accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in decomposed if not unicodedata.combining(each)).strip()


def _matches(wanted: str, name: str) -> bool:
    folded = _folded(name)
    return all(part in folded for part in wanted.split())
