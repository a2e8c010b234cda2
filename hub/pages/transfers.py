"""Moving people to another site: finding them, moving all of them at once, and seeing where that has arrived."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field, ValidationError
from sqlalchemy import Connection

from hub.api import scope
from hub.api import sites as api
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.api.sites import TransferInPath
from hub.operators import Principal
from hub.pages.arrival import lacking_line
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import access_levels, directory, doors, sites
from hub.store import transfers as store
from hub.store.cardholders import Category
from hub.store.directory import ListedPerson
from hub.store.errors import NotFound
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/transfers")

SHOWN = 50
MOST = 500
"""People that one form can move."""
_NOT_MOVED = N_("Nobody was moved: choose people and where they go, say why, and confirm it.")
_NOBODY = N_("Nobody was found who belongs to another site than the one they are to go to.")
_NO_SITE = N_("Choose the site that they go to.")

_Text = Annotated[str, Field(max_length=200)]


class TransferForm(Body):
    """Whom to find, or whom to move; ``csrf_token`` is checked before. ``ids``: numbers, apart by spaces or lines."""

    csrf_token: str = ""
    step: Literal["find", "move"]
    to: _Text = ""
    origin: _Text = ""
    category: Category | Literal[""] = ""
    room: _Text = ""
    search: _Text = ""
    ids: Annotated[str, Field(max_length=40_000)] = ""
    who: Annotated[list[_Text], Field(max_length=MOST, default_factory=list)]
    level: Annotated[list[_Text], Field(max_length=100, default_factory=list)]
    reason: Annotated[str, Field(max_length=1000)] = ""
    confirmed: _Text = ""


@router.get("")
def transfers_page(
    request: Request, principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)]
) -> Response:
    """The newest transfers from or to the sites that one sees."""
    hub = services(request)
    with hub.database.read() as connection:
        found = store.newest(connection, principal.sites, limit=SHOWN)
        named = {each.id: each.name for each in sites.list_all(connection)}
        seen = sites.list_all(connection, principal.sites)
    return pages_of(request).response(
        request,
        "transfers.html",
        principal,
        transfers=[
            {"id": each.id, "to": named[each.to_site_id], "people": each.people, "at": each.at}
            for each in found
        ],
        may_transfer=principal.may(Permission.CARDHOLDERS_MANAGE),
        sites=len(seen),
    )


@router.get("/new")
def new_page(
    request: Request, principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)]
) -> Response:
    """The form that finds whom to move."""
    return _form(request, principal, TransferForm(step="find", who=[], level=[]))


@router.post("/new")
def find_or_move(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    form: Annotated[TransferForm, Form()],
) -> Response:
    """Show whom the form finds; or move those who were chosen, all of them or nobody."""
    if form.step == "find":
        return _form(request, principal, form)
    if form.confirmed != "yes":
        return _form(request, principal, form, problem=_NOT_MOVED)
    try:
        body = api.NewTransfer.model_validate(
            {
                "cardholder_ids": form.who,
                "to_site_id": form.to,
                "access_level_ids": form.level,
                "reason": form.reason,
            }
        )
        made = api.transfer(body, request, principal)
    except (ValidationError, NotFound, Problem):
        return _form(request, principal, form, problem=_NOT_MOVED)
    return RedirectResponse(f"/transfers/{made.id}", 303)


@router.get("/{transfer_id}")
def transfer_page(
    transfer_id: TransferInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
) -> Response:
    """One transfer, and at which doors it has arrived."""
    transfer = _transfer(request, principal, transfer_id)
    may_watch = principal.may(Permission.EVENTS_READ)
    return pages_of(request).response(
        request, "transfer.html", principal, transfer=transfer, may_watch=may_watch
    )


@router.get("/{transfer_id}/doors")
def transfer_part(
    transfer_id: TransferInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
) -> Response:
    """The part of a transfer's page that says at which doors it has arrived."""
    transfer = _transfer(request, principal, transfer_id)
    return HTMLResponse(pages_of(request).fragment("transfer_doors.html", transfer=transfer))


def _transfer(request: Request, principal: Principal, transfer_id: str) -> dict[str, Any]:
    hub, pages = services(request), pages_of(request)
    found = api.one_transfer(transfer_id, request, principal)
    with hub.database.read() as connection:
        named = {each.id: each.name for each in sites.list_all(connection)}
        door_names = doors.names(connection, [each.door_id for each in found.confirmations])
    lacking = [each for each in found.confirmations if each.confirmed_at is None]
    return {
        "id": found.id,
        "at": found.at,
        "people": found.people,
        "to": named[found.to_site_id],
        "tone": "warn" if lacking or not found.doors else "good",
        "headline": pages.gettext("%d of %d doors confirmed") % (found.confirmed, found.doors),
        "confirmed": found.confirmed,
        "doors": found.doors,
        "lines": [lacking_line(pages, door_names[each.door_id], each) for each in lacking],
        "sites": [
            {
                "name": named[each.site_id],
                "comes": each.site_id == found.to_site_id,
                "doors": sum(door.site_id == each.site_id for door in found.confirmations),
                "confirmed": sum(
                    door.site_id == each.site_id and door.confirmed_at is not None
                    for door in found.confirmations
                ),
            }
            for each in found.documents
        ],
    }


def _form(request: Request, principal: Principal, form: TransferForm, *, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    found: list[ListedPerson] = []
    unknown: list[str] = []
    with hub.database.read() as connection:
        seen = sites.list_all(connection, principal.sites)
        named = {each.id: each.name for each in seen}
        asked = request.method == "POST"
        to = next((each.id for each in seen if each.id == form.to), None)
        levels = access_levels.list_all(connection, [to]) if to else []
        if asked and to is None:
            problem = problem or _NO_SITE
        elif asked and to is not None:
            found, unknown = _found(connection, principal, form, to)
            problem = problem or ("" if found else _NOBODY)
    looked(hub, principal, "transfer", shown=len(found[:MOST]))
    is_narrow = bool(form.category or form.room or form.search or form.ids)
    return pages.response(
        request,
        "transfer_form.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        typed=form,
        sites=list(named.items()),
        categories=list(Category),
        people=[
            {
                "id": each.id,
                "name": each.name,
                "category": each.category,
                "room": each.room,
                "site": named[each.site_id],
                "chosen": each.id in form.who if form.step == "move" else is_narrow,
            }
            for each in found[:MOST]
        ],
        more=max(0, len(found) - MOST),
        unknown=unknown,
        to=to,
        to_name=named.get(to, "") if to else "",
        levels=[(each.level.id, each.name) for each in levels],
        problem=pages.gettext(problem),
    )


def _found(
    connection: Connection, principal: Principal, form: TransferForm, to: SiteId
) -> tuple[list[ListedPerson], list[str]]:
    """Those whom the form describes and who belong to another site that one sees; and the numbers of nobody."""
    origin = scope.site(connection, principal, SiteId(form.origin)).id if form.origin else None
    every = [
        each
        for each in directory.find_people(
            connection,
            form.search,
            sites=principal.sites,
            category=form.category or None,
            room=form.room,
        )
        if each.site_id != to and principal.sees(each.site_id) and origin in (None, each.site_id)
    ]
    wanted = [each for each in re.split(r"[\s,;]+", form.ids) if each]
    if not wanted:
        return every, []
    by_number = {number: each for each in every for number in (str(each.id), each.external_id) if number}
    people = {by_number[number].id: by_number[number] for number in wanted if number in by_number}
    return list(people.values()), [number for number in wanted if number not in by_number]
