"""Cards and the people who hold them; blocking a card and seeing where the block has arrived."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field, TypeAdapter, ValidationError

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Body
from hub.api.services import services
from hub.card_changes import NewCard
from hub.operators import Principal
from hub.pages.rendering import pages_of
from hub.pages.views import card_context, spread_context
from hub.pages.words import N_
from hub.revocation import CardDistribution
from hub.roles import Permission
from hub.store import card_stock, cardholders, controllers, directory, doors
from hub.store.card_stock import StockCause, StockMovement
from hub.store.cardholders import Category
from hub.store.cards import CardStatus
from hub.store.errors import AlreadyExists
from pacs.credential import Technology
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

PER_PAGE = 50
Search = Annotated[str, Query(max_length=100)]
After = Annotated[int, Query(ge=0, le=1_000_000)]


class ReinstateForm(Body):
    """The form on a blocked card's page; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    reason: Annotated[str, Field(max_length=1000)] = ""


class BlockForm(ReinstateForm):
    """The form on a valid card's page."""

    status: Literal[CardStatus.SUSPENDED, CardStatus.REVOKED, "expired"]


class ReturnForm(Body):
    """The button for a card that was handed in; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    reusable: bool = False


class ReplaceForm(ReinstateForm):
    """The form for another card of the same holder; ``credential_id`` as the issuing desk says it."""

    credential_id: Annotated[str, Field(max_length=64)] = ""


_REASON: TypeAdapter[str] = TypeAdapter(fields.ReasonText)


@router.get("/cards")
def cards_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
    search: Search = "",
    after: After = 0,
) -> Response:
    """Cards by name, with a search."""
    names = principal.may(Permission.NAMES_READ)
    with services(request).database.read() as connection:
        found = directory.find_cards(connection, search, by_name=names, sites=principal.sites)
    shown = [
        {
            "credential_id": str(card.credential_id),
            "short_id": str(card.credential_id)[:8],
            "name": card.name if names else None,
            "status": card.status,
            "category": card.category,
        }
        for card in found[after : after + PER_PAGE]
    ]
    looked(services(request), principal, "cards", shown=len(shown))
    return pages_of(request).response(
        request,
        "cards.html",
        principal,
        cards=shown,
        by_name=names,
        search=search,
        next_after=_next(after, len(found)),
    )


@router.get("/cardholders")
def cardholders_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
    search: Search = "",
    after: After = 0,
    level: fields.Level | None = None,
    category: Category | Literal[""] = "",
) -> Response:
    """People by name, with a search; all, or the holders of an access level, or those of a category."""
    with services(request).database.read() as connection:
        held = scope.access_level(connection, principal, level) if level else None
        found = directory.find_people(
            connection, search, sites=principal.sites, level=level, category=category or None
        )
    shown = [
        {
            "id": person.id,
            "name": person.name,
            "category": person.category,
            "levels": person.levels,
            "cards": [
                {"credential_id": str(card.credential_id), "short_id": str(card.credential_id)[:8]}
                for card in person.cards
            ],
        }
        for person in found[after : after + PER_PAGE]
    ]
    looked(services(request), principal, "cardholders", shown=len(shown))
    return pages_of(request).response(
        request,
        "cardholders.html",
        principal,
        people=shown,
        may_enrol=principal.may(Permission.CARDHOLDERS_ENROL),
        search=search,
        category=category,
        categories=list(Category),
        level={"id": level, "name": held.name} if held else None,
        next_after=_next(after, len(found)),
    )


@router.get("/cards/{credential_id}")
def card_page(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
) -> Response:
    """One card: its status, where that has arrived, and what can be done."""
    return _card_page(request, principal, credential_id)


@router.get("/cards/{credential_id}/distribution")
def distribution_part(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
) -> Response:
    """The part of the card page that says at which doors its status has arrived."""
    spread = _distribution(request, principal, credential_id)
    pages = pages_of(request)
    return HTMLResponse(
        pages.fragment(
            "distribution.html",
            card={"credential_id": str(credential_id)},
            spread=_spread(request, spread),
        )
    )


@router.post("/cards/{credential_id}/block")
def block_card(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_BLOCK)],
    form: Annotated[BlockForm, Form()],
) -> Response:
    """Suspend or revoke the card, or end its validity."""
    if (text := _reason(form.reason)) is None:
        return _card_page(
            request, principal, credential_id, N_("Say in a few words why the card is blocked.")
        )
    _distribution(request, principal, credential_id)
    hub = services(request)
    if form.status == "expired":
        hub.card_changes.expire(credential_id, reason=text, actor=principal.actor)
    else:
        hub.revocation.block(credential_id, form.status, reason=text, actor=principal.actor)
    return RedirectResponse(f"/cards/{credential_id}", 303)


@router.post("/cards/{credential_id}/reinstate")
def reinstate_card(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_BLOCK)],
    form: Annotated[ReinstateForm, Form()],
) -> Response:
    """Make the card valid again."""
    if (text := _reason(form.reason)) is None:
        return _card_page(
            request, principal, credential_id, N_("Say in a few words why the card is reinstated.")
        )
    _distribution(request, principal, credential_id)
    services(request).revocation.reinstate(credential_id, reason=text, actor=principal.actor)
    return RedirectResponse(f"/cards/{credential_id}", 303)


@router.post("/cards/{credential_id}/replace")
def replace_card(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
    form: Annotated[ReplaceForm, Form()],
) -> Response:
    """Give the holder another card and revoke this one."""
    hub = services(request)
    with hub.database.read() as connection:
        card = scope.card(connection, principal, credential_id)
        scope.own_cardholder(connection, principal, card.cardholder_id)
    text = _reason(form.reason)
    try:
        new = CredentialId.parse(form.credential_id.strip())
    except MalformedData:
        text = None
    if text is None:
        return _card_page(request, principal, credential_id, N_("Give the new card's number, and say why."))
    technology = Technology.PKOC_V1 if len(bytes(new)) == 32 else Technology.PKOC_V2
    try:
        hub.card_changes.replace(
            credential_id,
            NewCard(credential_id=new, technology=technology, valid_until=card.valid_until),
            reason=text,
            actor=principal.actor,
        )
    except AlreadyExists:
        return _card_page(
            request, principal, credential_id, N_("That card is registered already. Take another one.")
        )
    return RedirectResponse(f"/cards/{new}", 303)


@router.post("/cards/{credential_id}/returned")
def returned_card(
    credential_id: fields.CredentialInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
    form: Annotated[ReturnForm, Form()],
) -> Response:
    """Revoke a card that was handed in, and count it with the blank ones if it can be used again."""
    hub = services(request)
    with hub.database.read() as connection:
        card = scope.card(connection, principal, credential_id)
        person = scope.own_cardholder(connection, principal, card.cardholder_id)
    if card.status is not CardStatus.REVOKED:
        hub.revocation.block(credential_id, CardStatus.REVOKED, reason="handed in", actor=principal.actor)
        if form.reusable:
            with hub.database.write() as connection:
                card_stock.add(
                    connection,
                    StockMovement(
                        site_id=person.site_id,
                        technology=Technology(card.technology),
                        cards=1,
                        cause=StockCause.RETURNED,
                        reason=str(credential_id)[:8],
                        made_by=principal.actor,
                        at=hub.clock(),
                    ),
                )
    return RedirectResponse(f"/cards/{credential_id}", 303)


def _card_page(
    request: Request, principal: Principal, credential_id: CredentialId, problem: str = ""
) -> Response:
    hub, pages = services(request), pages_of(request)
    spread = _distribution(request, principal, credential_id)
    with hub.database.read() as connection:
        person = cardholders.get(connection, spread.card.cardholder_id)
    looked(hub, principal, f"card:{credential_id}", shown=1)
    name = person.name if principal.may(Permission.NAMES_READ) else None
    return pages.response(
        request,
        "card.html",
        principal,
        status_code=422 if problem else 200,
        card=card_context(spread.card, name, person.category),
        spread=_spread(request, spread),
        may_watch=principal.may(Permission.EVENTS_READ),
        may_see_movements=principal.may(Permission.MOVEMENTS_READ),
        may_block=principal.may(Permission.CARDS_BLOCK),
        may_replace=principal.may(Permission.CARDS_MANAGE) and principal.sees(person.site_id),
        problem=pages.gettext(problem),
    )


def _distribution(request: Request, principal: Principal, credential_id: CredentialId) -> CardDistribution:
    """Where the card's status has arrived, of the sites that the principal sees; raises ``NotFound``."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.card(connection, principal, credential_id)
    return hub.revocation.distribution_of(credential_id).seen_by(principal.sees)


def _spread(request: Request, spread: CardDistribution) -> dict[str, object]:
    with services(request).database.read() as connection:
        names = {named.door.id: named.name for named in doors.list_all(connection)}
        states = dict(controllers.states(connection, services(request).clock()))
    return spread_context(pages_of(request), spread, names, states)


def _reason(text: str) -> str | None:
    try:
        return _REASON.validate_python(text)
    except ValidationError:
        return None


def _next(after: int, total: int) -> int | None:
    return after + PER_PAGE if after + PER_PAGE < total else None
