"""Blank cards as a page: what is there, what came and went, and the form that says so."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import card_stock as api
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import Services, services
from hub.operators import Principal
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import card_stock as store
from hub.store import sites
from hub.store.card_stock import StockCause
from pacs.credential import Technology

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/issuing/stock")

SHOWN: Final = 30
CAUSES: Final = {
    StockCause.RECEIVED: N_("Received"),
    StockCause.COUNTED: N_("Counted: so many are there"),
    StockCause.SPOILT: N_("Spoilt"),
    StockCause.RETURNED: N_("Came back blank"),
    StockCause.ISSUED: N_("Issued"),
}
_Text = Annotated[str, Field(max_length=300)]


class StockForm(Body):
    """The form as a browser sends it; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    site_id: _Text = ""
    technology: _Text = ""
    cause: _Text = ""
    cards: _Text = ""
    reason: _Text = ""


class FewForm(Body):
    """Below how many it is time to order; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    site_id: _Text = ""
    few: _Text = ""


@router.get("")
def stock_page(
    request: Request, principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)]
) -> Response:
    """What is there, and what came and went last."""
    return _page(request, principal)


@router.post("")
def move(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
    form: Annotated[StockForm, Form()],
) -> Response:
    """Note what came or went, or what a count showed."""
    said = {name: value.strip() for name, value in form.model_dump(exclude={"csrf_token"}).items()}
    try:
        api.move(
            api.NewMovement.model_validate(said | {"site_id": said["site_id"] or None}), request, principal
        )
    except (ValidationError, Problem):
        problem = N_("Not stored: choose the site and the kind, give a number, and say in a few words why.")
        return _page(request, principal, problem, said)
    return RedirectResponse("/issuing/stock", 303)


@router.post("/few")
def set_few(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_MANAGE)],
    form: Annotated[FewForm, Form()],
) -> Response:
    """Say below how many blank cards it is time to order."""
    few = form.few.strip()
    wanted = {"few": int(few) if few.isascii() and few.isdecimal() else -1, "site_id": form.site_id or None}
    try:
        api.set_few(api.Few.model_validate(wanted), request, principal)
    except (ValidationError, Problem):
        return _page(request, principal, N_("Not stored: give a number of cards, from 0 to 100,000."))
    return RedirectResponse("/issuing/stock", 303)


def few_left(hub: Services, principal: Principal) -> list[dict[str, Any]]:
    """The kinds of blank cards, and where, of which it is time to order more."""
    return [line for line in stock_lines(hub, principal) if line["is_low"]]


def stock_lines(hub: Services, principal: Principal) -> list[dict[str, Any]]:
    """The stocks that are kept, the site named where there are several."""
    with hub.database.read() as connection:
        found = store.balances(connection, principal.sites)
        seen = {each.id: each for each in sites.list_all(connection, principal.sites)}
    return [
        {
            "site": seen[site_id].name if len(seen) > 1 else "",
            "technology": technology.value,
            "cards": cards,
            "is_low": cards < seen[site_id].few_blank_cards,
        }
        for site_id, kinds in found.items()
        for technology, cards in kinds.items()
    ]


def _page(
    request: Request, principal: Principal, problem: str = "", typed: dict[str, str] | None = None
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        moved = store.newest(connection, principal.sites, limit=SHOWN)
        seen = sites.list_all(connection, principal.sites)
    named = {each.id: each.name for each in seen}
    causes = {cause: pages.gettext(text) for cause, text in CAUSES.items()}
    return pages.response(
        request,
        "card_stock.html",
        principal,
        status_code=422 if problem else 200,
        stock=stock_lines(hub, principal),
        moved=[
            {
                "at": each.at,
                "site": named[each.site_id] if len(named) > 1 else "",
                "technology": each.technology.value,
                "cause": causes[each.cause],
                "cards": each.cards,
                "reason": each.reason,
            }
            for each in moved
        ],
        typed=dict.fromkeys(StockForm.model_fields, "") | (typed or {}),
        faults={},
        sites=list(named.items()),
        kinds=[(each.value, each.value) for each in Technology],
        causes=[(cause.value, text) for cause, text in causes.items() if cause is not StockCause.ISSUED],
        few=[{"id": each.id, "name": each.name, "few": each.few_blank_cards} for each in seen],
        problem=pages.gettext(problem),
    )
