"""Cards: which credential is whose, and its status.

Change a status through ``hub.revocation``, which also makes the version that carries it to the doors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, literal, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.people import people_of, people_within
from hub.store.schema import (
    access_levels,
    card_status_versions,
    cardholder_levels,
    cardholders,
    cards,
    issuers,
)
from hub.store.sites import Sites
from pacs.credential import Technology
from pacs.identifiers import AccessLevelId, CardholderId, CredentialId, SiteId
from pacs.revocation import Status
from pacs.rules import Entitlement


@unique
class CardStatus(StrEnum):
    """Whether a card may be used at all."""

    VALID = "valid"
    SUSPENDED = "suspended"
    REVOKED = "revoked"

    @property
    def listed(self) -> Status:
        """How the revocation list says it."""
        return _LISTED[self]


_LISTED = {
    CardStatus.VALID: Status.VALID,
    CardStatus.SUSPENDED: Status.SUSPENDED,
    CardStatus.REVOKED: Status.INVALID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card.

    ``issuer``: the reference of whose certificate is on it, None: not known, or PKOC V1. ``public_key``: its 65-byte
    P-256 point when known. ``status_index``: its place in the revocation list.
    ``valid_from`` inclusive, ``valid_until`` exclusive.
    """

    credential_id: CredentialId
    cardholder_id: CardholderId
    technology: str
    issuer: str | None
    public_key: bytes | None
    status_index: int
    status: CardStatus
    status_since: datetime
    valid_from: datetime | None
    valid_until: datetime | None
    created_at: datetime


def add(
    connection: Connection,
    *,
    credential_id: CredentialId,
    cardholder_id: CardholderId,
    technology: str,
    now: datetime,
    issuer: str | None = None,
    public_key: bytes | None = None,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
) -> Card:
    """Register a card under the next free status index, valid at once; without an ``issuer`` it is the only one there is.

    Raises ``AlreadyExists``, or ``NotFound`` when the cardholder is not there.
    """
    card = Card(
        credential_id=credential_id,
        cardholder_id=cardholder_id,
        technology=technology,
        issuer=issuer or _only_issuer(connection, technology),
        public_key=public_key,
        status_index=next_index(connection),
        status=CardStatus.VALID,
        status_since=now,
        valid_from=valid_from,
        valid_until=valid_until,
        created_at=now,
    )
    insert_new(connection, cards, {**asdict(card), "credential_id": str(credential_id)})
    return card


def _only_issuer(connection: Connection, technology: str) -> str | None:
    if technology != Technology.PKOC_V2:
        return None
    known = connection.scalars(select(issuers.c.iir).limit(2)).all()
    return known[0] if len(known) == 1 else None


def set_status(
    connection: Connection, credential_id: CredentialId, status: CardStatus, *, now: datetime
) -> None:
    """Store a new status, which no document carries yet; raises ``NotFound``."""
    mine = cards.c.credential_id == str(credential_id)
    changed = connection.execute(update(cards).where(mine).values(status=status, status_since=now))
    if changed.rowcount != 1:
        raise NotFound("card is not there")
    carried = card_status_versions.c.credential_id == str(credential_id)
    connection.execute(delete(card_status_versions).where(carried))


def set_end(connection: Connection, credential_id: CredentialId, valid_until: datetime) -> None:
    """Store when a card's validity ends; raises ``NotFound``."""
    mine = cards.c.credential_id == str(credential_id)
    if connection.execute(update(cards).where(mine).values(valid_until=valid_until)).rowcount != 1:
        raise NotFound("card is not there")


def set_carried(
    connection: Connection, site_id: SiteId, version: int, *, also: CredentialId | None = None
) -> None:
    """These revocations of a site carry the status of every card on its list that is not valid, and of ``also``.

    An earlier version that says the same stays.
    """
    columns, carried = cards.c, card_status_versions
    known = select(carried.c.credential_id).where(carried.c.site_id == site_id)
    wanted = columns.status != CardStatus.VALID
    if also is not None:
        wanted |= columns.credential_id == str(also)
    lacking = select(columns.credential_id, literal(str(site_id)), literal(version)).where(
        wanted, columns.cardholder_id.in_(people_of(site_id)), columns.credential_id.not_in(known)
    )
    connection.execute(insert(carried).from_select(["credential_id", "site_id", "version"], lacking))


def status_versions(connection: Connection, credential_id: CredentialId) -> dict[SiteId, int]:
    """Site → the version of its revocations that carries the card's status; empty before its first change."""
    columns = card_status_versions.c
    query = select(columns.site_id, columns.version).where(columns.credential_id == str(credential_id))
    return {SiteId(site_id): version for site_id, version in connection.execute(query)}


def get(connection: Connection, credential_id: CredentialId) -> Card:
    """One card; raises ``NotFound``."""
    row = connection.execute(select(cards).where(cards.c.credential_id == str(credential_id))).first()
    if row is None:
        raise NotFound("card is not there")
    return _card(row)


def list_all(
    connection: Connection,
    *,
    cardholder_id: CardholderId | None = None,
    sites: Sites = None,
    after: CredentialId | None = None,
    limit: int = 1_000,
) -> list[Card]:
    """Cards by credential id, from behind ``after``; all that these sites list, or one person's."""
    query = select(cards).order_by(cards.c.credential_id).limit(limit)
    if sites is not None:
        query = query.where(cards.c.cardholder_id.in_(people_within(sites)))
    if cardholder_id is not None:
        query = query.where(cards.c.cardholder_id == cardholder_id)
    if after is not None:
        query = query.where(cards.c.credential_id > str(after))
    return [_card(row) for row in connection.execute(query)]


def usable_of(connection: Connection, site_id: SiteId) -> list[Card]:
    """The cards that are not revoked of people who belong to a site, by credential id."""
    belonging = select(cardholders.c.id).where(cardholders.c.site_id == site_id)
    query = select(cards).where(cards.c.cardholder_id.in_(belonging), cards.c.status != CardStatus.REVOKED)
    return [_card(row) for row in connection.execute(query.order_by(cards.c.credential_id))]


def next_index(connection: Connection) -> int:
    """The next status index; one that was given out is no other card's at any site."""
    highest: int | None = connection.scalar(select(func.max(cards.c.status_index)))
    return 0 if highest is None else highest + 1


def list_size(connection: Connection, site_id: SiteId) -> int:
    """How long a site's revocation list must be: one more than the largest index of a card it lists."""
    mine = cards.c.cardholder_id.in_(people_of(site_id))
    highest: int | None = connection.scalar(select(func.max(cards.c.status_index)).where(mine))
    return 0 if highest is None else highest + 1


def listed_statuses(connection: Connection, site_id: SiteId) -> dict[int, Status]:
    """Status index → status, for every card a site lists that is not valid."""
    query = select(cards.c.status_index, cards.c.status).where(
        cards.c.status != CardStatus.VALID, cards.c.cardholder_id.in_(people_of(site_id))
    )
    return {index: CardStatus(status).listed for index, status in connection.execute(query)}


def _card(row: Row[Any]) -> Card:
    columns = fields(row)
    columns["credential_id"] = CredentialId.parse(row.credential_id)
    columns["cardholder_id"] = CardholderId(row.cardholder_id)
    columns["status"] = CardStatus(row.status)
    return Card(**columns)


def entitlements(connection: Connection, site_id: SiteId) -> dict[CredentialId, Entitlement]:
    """What every card may do at a site: the part of its policy that follows from cards and their holders.

    Listed are the cards of whoever belongs to the site or holds an access level of it. A card is valid while both it and
    its holder are.
    """
    levels = _levels_held(connection, site_id)
    people, card = cardholders.c, cards.c
    flags = (people.attended, people.extended_opening, people.escort_required, people.may_escort)
    bounds = (card.valid_from, card.valid_until, people.valid_from, people.valid_until)
    query = select(card.credential_id, card.status_index, people.id, *bounds, *flags)
    query = query.join(cardholders, people.id == card.cardholder_id).order_by(card.credential_id)
    query = query.where(people.id.in_(people_of(site_id)))
    found: dict[CredentialId, Entitlement] = {}
    for credential, index, holder, begins, ends, person_begins, person_ends, *flag in connection.execute(
        query
    ):
        credential_id = CredentialId.parse(credential)
        attended, extended_opening, escort_required, may_escort = flag
        found[credential_id] = Entitlement(
            credential_id=credential_id,
            status_index=index,
            access_level_ids=levels.get(holder, ()),
            valid_from=max(begins, person_begins) if begins and person_begins else begins or person_begins,
            valid_until=min(ends, person_ends) if ends and person_ends else ends or person_ends,
            attended=attended,
            extended_opening=extended_opening,
            escort_required=escort_required,
            may_escort=may_escort,
        )
    return found


def _levels_held(connection: Connection, site_id: SiteId) -> dict[str, tuple[AccessLevelId, ...]]:
    """Cardholder → access levels of a site in order; those who have the same ones share them."""
    held: dict[str, tuple[AccessLevelId, ...]] = {}
    columns = cardholder_levels.c
    query = select(columns.cardholder_id, columns.access_level_id).join(access_levels)
    query = query.where(access_levels.c.site_id == site_id).order_by(*cardholder_levels.primary_key)
    named = lru_cache(None)(AccessLevelId)
    shared: dict[tuple[AccessLevelId, ...], tuple[AccessLevelId, ...]] = {}
    for holder, level_id in connection.execute(query):
        levels = (*held.get(holder, ()), named(level_id))
        held[holder] = shared.setdefault(levels, levels)
    return held
