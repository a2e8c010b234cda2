"""Blank cards: how many there are at each site, and what came, was spoilt or counted."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import Field, StrictInt

from hub import audit
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import note
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import card_stock as store
from hub.store import sites
from hub.store.card_stock import StockCause, StockMovement
from pacs.credential import Technology

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/issuing/stock", tags=["issuing"])


class NewMovement(Body):
    """``cards`` that were received, were spoilt, came back blank, or were ``counted``: then how many there are."""

    technology: Technology
    cause: Literal[StockCause.RECEIVED, StockCause.SPOILT, StockCause.RETURNED, StockCause.COUNTED]
    cards: Annotated[int, Field(ge=0, le=1_000_000)]
    reason: fields.ReasonText
    site_id: fields.Site | None = None


class StockLine(Answer):
    """One kind of blank card at one site; ``few``: fewer than the site wants to have. Below 0: more were used than received."""

    site_id: fields.Site
    technology: Technology
    cards: int
    few: bool


class Stock(Answer):
    """The stocks that are kept, by site."""

    stock: list[StockLine]


class Few(Body):
    """Below how many blank cards of a kind it is time to order; 0: never."""

    few: Annotated[StrictInt, Field(ge=0, le=100_000)]
    site_id: fields.Site | None = None


class FewAtSite(Answer):
    """What a site goes by."""

    site_id: fields.Site
    few: int


class Moved(Answer):
    """``difference``: by how much the stock changed. ``cards``: how many there are now."""

    site_id: fields.Site
    technology: Technology
    difference: int
    cards: int


@router.get("")
def listed(request: Request, principal: Annotated[Principal, requires(Permission.CARDS_READ)]) -> Stock:
    """How many blank cards there should be."""
    with services(request).database.read() as connection:
        found = store.balances(connection, principal.sites)
        few = {each.id: each.few_blank_cards for each in sites.list_all(connection, principal.sites)}
    return Stock(
        stock=[
            StockLine(site_id=site_id, technology=technology, cards=cards, few=cards < few[site_id])
            for site_id, kinds in found.items()
            for technology, cards in kinds.items()
        ]
    )


@router.put("/few")
def set_few(
    body: Few, request: Request, principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)]
) -> FewAtSite:
    """Say below how many blank cards it is time to order."""
    hub = services(request)
    with hub.database.write() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
        if sites.get(connection, site_id).few_blank_cards != body.few:
            sites.set_few_blank_cards(connection, site_id, body.few)
            note(connection, hub, principal, action="stock.few", subject=f"site:{site_id}")
    return FewAtSite(site_id=site_id, few=body.few)


@router.post("", status_code=201)
def move(
    body: NewMovement,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
) -> Moved:
    """Note what came or went, or what a count showed."""
    hub = services(request)
    with hub.database.write() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
        before = store.balances(connection, [site_id]).get(site_id, {}).get(body.technology, 0)
        if body.cause is StockCause.COUNTED:
            difference = body.cards - before
        else:
            difference = -body.cards if body.cause is StockCause.SPOILT else body.cards
        movement = StockMovement(
            site_id=site_id,
            technology=body.technology,
            cards=difference,
            cause=body.cause,
            reason=body.reason,
            made_by=principal.actor,
            at=hub.clock(),
        )
        store.add(connection, movement)
        audit.record(
            connection,
            now=hub.clock(),
            actor=principal.actor,
            action=f"stock.{body.cause}",
            subject=f"site:{site_id}",
            reason=body.reason,
            detail={"technology": body.technology.value, "difference": difference},
        )
    return Moved(
        site_id=site_id, technology=body.technology, difference=difference, cards=before + difference
    )
