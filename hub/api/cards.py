"""Cards: registering, blocking, reinstating, replacing, ending, and at which doors that has arrived."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import Field, model_validator
from sqlalchemy import Connection

from hub import card_changes
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import create
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.operators import Principal
from hub.revocation import CardDistribution
from hub.roles import Permission
from hub.store import cards as store
from hub.store import issuers
from hub.store.cards import CardStatus
from pacs.credential import Technology
from pacs.identifiers import CredentialId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/cards", tags=["cards"])


class NewCardFacts(Body):
    """``public_key``: the card's uncompressed P-256 point, 130 hex digits. ``valid_until`` is exclusive.

    ``issuer``: the reference of the issuer whose certificate is on it; without one it is the only issuer there is.
    """

    credential_id: fields.Credential
    technology: Technology
    issuer: fields.Issuer | None = None
    public_key: Annotated[str, Field(pattern="^04[0-9A-Fa-f]{128}$")] | None = None
    valid_from: fields.Instant | None = None
    valid_until: fields.Instant | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_from and self.valid_until and self.valid_from >= self.valid_until:
            raise ValueError("valid_until must be after valid_from")
        v1_id = len(bytes(self.credential_id)) == 32
        if v1_id is not (self.technology is Technology.PKOC_V1):
            raise ValueError("a pkoc-v1 credential id has 64 hex digits, a pkoc-v2 one is a UUID")
        if v1_id and self.issuer is not None:
            raise ValueError("a pkoc-v1 card has no issuer")
        return self


class NewCard(NewCardFacts):
    """A card of a cardholder. ``status`` ``revoked``: it was spoilt when it was made, and nobody is to be given its id."""

    cardholder_id: fields.Cardholder
    status: Literal[CardStatus.VALID, CardStatus.REVOKED] = CardStatus.VALID


class Block(Body):
    """``suspended``: for now; ``revoked``: for good. The reason is kept in the audit log."""

    status: Literal[CardStatus.SUSPENDED, CardStatus.REVOKED]
    reason: fields.ReasonText


class Replacement(NewCardFacts):
    """The card that takes the place of another, which is revoked; its holder is the same."""

    reason: fields.ReasonText


class End(Body):
    """When the card's validity ends; absent: now. The reason is kept in the audit log."""

    at: fields.Instant | None = None
    reason: fields.ReasonText


class Reinstatement(Body):
    """The reason is kept in the audit log."""

    reason: fields.ReasonText


class Card(Answer):
    """One card."""

    credential_id: fields.Credential
    cardholder_id: fields.Cardholder
    technology: Technology
    issuer: str | None
    public_key: str | None
    status: CardStatus
    status_since: datetime
    valid_from: datetime | None
    valid_until: datetime | None
    created_at: datetime


class Cards(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    cards: list[Card]
    next_after: str | None


class Confirmation(Answer):
    """One door; ``confirmed_at`` null: it is not known to enforce ``version``.

    ``stops_at``: without confirming anything more it refuses every card from then on, by its own bound on the age of
    what it goes by, or before; null: it has confirmed, or nothing is known.
    """

    door_id: fields.Door
    site_id: fields.Site
    controller_id: fields.Controller
    version: int
    confirmed_at: datetime | None
    confirmed_version: int
    online: bool
    last_seen: datetime | None
    stops_at: datetime | None


class Distribution(Answer):
    """A card's status, the document versions that carry it, and every door's word on its site's version.

    ``versions``: by site, 0 where the status never changed. ``confirmations``: of the doors of sites that you see.
    """

    credential_id: fields.Credential
    status: CardStatus
    document: str
    versions: dict[fields.Site, int]
    confirmations: list[Confirmation]
    confirmed: int
    doors: int


class Carried(Answer):
    """The document versions of one site that carry a change."""

    site_id: fields.Site
    policy_version: int
    revocations_version: int


class CardChange(Answer):
    """A card after a change, and every concerned door's word on the policy version of its site that carries it.

    Ask again with ``GET /api/v1/documents/{site_id}/policy/{version}``.
    """

    card: Card
    documents: list[Carried]
    confirmations: list[Confirmation]
    confirmed: int
    doors: int


@router.post("", status_code=201)
def register(
    body: NewCard,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
) -> Card:
    """Register a card, valid at once, for a cardholder; or one that was spoilt, revoked from the start."""
    hub = services(request)
    public_key = bytes.fromhex(body.public_key) if body.public_key else None
    content = (body.cardholder_id, body.technology, public_key, body.valid_from, body.valid_until)

    def add(connection: Connection) -> store.Card:
        scope.own_cardholder(connection, principal, body.cardholder_id)
        added = store.add(
            connection,
            credential_id=body.credential_id,
            cardholder_id=body.cardholder_id,
            technology=body.technology,
            now=hub.clock(),
            issuer=_trusted(connection, body.issuer),
            public_key=public_key,
            valid_from=body.valid_from,
            valid_until=body.valid_until,
        )
        if body.status is CardStatus.VALID:
            return added
        store.set_status(connection, body.credential_id, body.status, now=hub.clock())
        return store.get(connection, body.credential_id)

    made = create(
        hub,
        principal,
        response,
        subject=f"card:{body.credential_id}",
        find=lambda connection: store.get(connection, body.credential_id),
        add=add,
        same=lambda found: _content(found) == content and body.status in (CardStatus.VALID, found.status),
    )
    return _answer(made)


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
    cardholder: fields.Cardholder | None = None,
    after: fields.AfterCredential = None,
    limit: fields.Limit = 100,
) -> Cards:
    """Cards by credential id; of one cardholder, or all."""
    with services(request).database.read() as connection:
        found = store.list_all(
            connection, cardholder_id=cardholder, sites=principal.sites, after=after, limit=limit + 1
        )
    return Cards(
        cards=[_answer(each) for each in found[:limit]],
        next_after=str(found[limit - 1].credential_id) if len(found) > limit else None,
    )


@router.get("/{credential_id}")
def one(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
) -> Card:
    """One card."""
    with services(request).database.read() as connection:
        return _answer(scope.card(connection, principal, credential_id))


@router.post("/{credential_id}/block")
def block(
    credential_id: fields.CredentialInPath,
    body: Block,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_BLOCK)],
) -> Distribution:
    """Suspend or revoke a card. The answer, and ``distribution`` later, say which doors confirmed it."""
    hub = _seen(request, principal, credential_id)
    done = hub.revocation.block(credential_id, body.status, reason=body.reason, actor=principal.actor)
    return _distribution(done, principal)


@router.post("/{credential_id}/reinstate")
def reinstate(
    credential_id: fields.CredentialInPath,
    body: Reinstatement,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_BLOCK)],
) -> Distribution:
    """Make a suspended card valid again; a revoked one stays revoked."""
    hub = _seen(request, principal, credential_id)
    done = hub.revocation.reinstate(credential_id, reason=body.reason, actor=principal.actor)
    return _distribution(done, principal)


@router.post("/{credential_id}/replace", status_code=201)
def replace_card(
    credential_id: fields.CredentialInPath,
    body: Replacement,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
) -> CardChange:
    """Give the holder another card and revoke this one, in one transaction; the answer says which doors confirmed it."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.own_cardholder(
            connection, principal, scope.card(connection, principal, credential_id).cardholder_id
        )
        issuer = _trusted(connection, body.issuer)
    new = card_changes.NewCard(
        credential_id=body.credential_id,
        technology=body.technology,
        issuer=issuer,
        public_key=bytes.fromhex(body.public_key) if body.public_key else None,
        valid_from=body.valid_from,
        valid_until=body.valid_until,
    )
    changed = hub.card_changes.replace(credential_id, new, reason=body.reason, actor=principal.actor)
    return _change(changed, principal)


@router.post("/{credential_id}/expire")
def expire(
    credential_id: fields.CredentialInPath,
    body: End,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_BLOCK)],
) -> CardChange:
    """End a card's validity, now or later; the answer says which doors confirmed it."""
    hub = _seen(request, principal, credential_id)
    changed = hub.card_changes.expire(credential_id, at=body.at, reason=body.reason, actor=principal.actor)
    return _change(changed, principal)


@router.get("/{credential_id}/distribution")
def distribution(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
) -> Distribution:
    """At which doors this card's status has arrived."""
    hub = _seen(request, principal, credential_id)
    return _distribution(hub.revocation.distribution_of(credential_id), principal)


def _seen(request: Request, principal: Principal, credential_id: CredentialId) -> Services:
    hub = services(request)
    with hub.database.read() as connection:
        scope.card(connection, principal, credential_id)
    return hub


def _trusted(connection: Connection, issuer: str | None) -> str | None:
    """The issuer of a new card; raises ``Problem`` for one whose cards open no door."""
    if issuer is not None and issuer not in issuers.trusted(connection):
        raise Problem(
            Code.REFERENCE_UNKNOWN, "The issuer of this card is not trusted here: no door would open to it."
        )
    return issuer


def _content(card: store.Card) -> tuple[object, ...]:
    return card.cardholder_id, card.technology, card.public_key, card.valid_from, card.valid_until


def _answer(card: store.Card) -> Card:
    return Card(
        credential_id=card.credential_id,
        cardholder_id=card.cardholder_id,
        technology=Technology(card.technology),
        issuer=card.issuer,
        public_key=card.public_key.hex() if card.public_key else None,
        status=card.status,
        status_since=card.status_since,
        valid_from=card.valid_from,
        valid_until=card.valid_until,
        created_at=card.created_at,
    )


def _change(changed: card_changes.CardChange, principal: Principal) -> CardChange:
    seen = [each for each in changed.confirmations if principal.sees(each.site_id)]
    return CardChange(
        card=_answer(changed.card),
        documents=[Carried.model_validate(each) for each in changed.carried if principal.sees(each.site_id)],
        confirmations=[Confirmation.model_validate(each) for each in seen],
        confirmed=sum(each.confirmed_at is not None for each in seen),
        doors=len(seen),
    )


def _distribution(done: CardDistribution, principal: Principal) -> Distribution:
    seen = done.seen_by(principal.sees)
    confirmations = [Confirmation.model_validate(each) for each in seen.confirmations]
    return Distribution(
        credential_id=done.card.credential_id,
        status=done.card.status,
        document=done.kind,
        versions=dict(seen.versions),
        confirmations=confirmations,
        confirmed=sum(each.confirmed_at is not None for each in confirmations),
        doors=len(confirmations),
    )
