"""Orders to one door or to all of them, and where they have arrived."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.door_status import DoorStatus, statuses
from hub.api.fields import Body
from hub.api.orders import Arrival, OrderInPath, arrival
from hub.api.services import Services, services
from hub.commands import Order
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import Pages, pages_of
from hub.pages.views import arrival_text, door_context, order_context
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import commands, sites
from pacs.commands import Action
from pacs.identifiers import DoorId
from pacs.rules import DoorMode

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

COMMANDS_SHOWN = 5
_REASON: TypeAdapter[str] = TypeAdapter(fields.ReasonText)
_NEEDS_REASON = N_("Say in a few words why.")
_NOT_CONFIRMED = N_("Confirm that you mean every door.")

Choice = tuple[Action, DoorMode | None, str]
_CHOICES: dict[str, Choice] = {
    "unlock_once": (Action.UNLOCK_ONCE, None, N_("Opens now, for one person, and locks again.")),
    "clear_mode": (Action.CLEAR_MODE, None, N_("Ends what was ordered; its schedule holds again.")),
    "secured": (
        Action.SET_MODE,
        DoorMode.SECURED,
        N_("Opens for cards with access, whatever its schedule says."),
    ),
    "attended": (Action.SET_MODE, DoorMode.ATTENDED, N_("A person decides about each card.")),
    "lockdown": (Action.SET_MODE, DoorMode.LOCKDOWN, N_("Nobody comes in. The way out stays free.")),
    "unlocked": (Action.SET_MODE, DoorMode.UNLOCKED, N_("Anybody can walk in, until another order.")),
    "out_of_service": (
        Action.SET_MODE,
        DoorMode.OUT_OF_SERVICE,
        N_("Cards are refused. The way out stays free."),
    ),
}


class OrderForm(Body):
    """The forms of both pages; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    order: Annotated[str, Field(max_length=20)]
    reason: Annotated[str, Field(max_length=1000)] = ""
    confirmed: Annotated[str, Field(max_length=10)] = ""
    site_id: fields.Site | None = None


@router.get("/doors/{door_id}/command")
def door_page(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_COMMAND)],
) -> Response:
    """One door: what to order, and what became of earlier orders."""
    return _door_page(request, principal, door_id)


@router.post("/doors/{door_id}/command")
def command_door(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_COMMAND)],
    form: Annotated[OrderForm, Form()],
) -> Response:
    """Give one door an order."""
    reason = _reason(form)
    if reason is None or form.order not in _CHOICES:
        return _door_page(request, principal, door_id, problem=_NEEDS_REASON, reason=form.reason)
    action, mode, _help = _CHOICES[form.order]
    with services(request).database.read() as connection:
        scope.door(connection, principal, door_id)
    services(request).commands.give(
        Order(door_id=door_id, action=action, mode=mode), reason=reason, actor=principal.actor
    )
    return RedirectResponse(f"/doors/{door_id}/command", 303)


@router.get("/doors/{door_id}/commands")
def door_commands_part(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Response:
    """The part of a door's page that says what became of its orders."""
    pages = pages_of(request)
    with services(request).database.read() as connection:
        scope.door(connection, principal, door_id)
        shown = newest_commands(services(request), pages, connection, door_id)
    return HTMLResponse(pages.fragment("door_commands.html", door={"id": door_id}, commands=shown))


@router.get("/lockdown")
def lockdown_page(
    request: Request, principal: Annotated[Principal, requires(Permission.DOORS_COMMAND)]
) -> Response:
    """The form for an order to every door."""
    return _lockdown_page(request, principal)


@router.post("/lockdown")
def lockdown(
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_COMMAND)],
    form: Annotated[OrderForm, Form()],
) -> Response:
    """Give every door an order."""
    reason = _reason(form)
    if reason is None:
        return _lockdown_page(request, principal, problem=_NEEDS_REASON, reason=form.reason)
    if form.confirmed != "yes" or form.order not in ("lockdown", "normal"):
        return _lockdown_page(request, principal, problem=_NOT_CONFIRMED, reason=form.reason)
    is_lockdown = form.order == "lockdown"
    with services(request).database.read() as connection:
        site_id = scope.site_for(connection, principal, form.site_id)
    order = services(request).orders.give(
        site_id,
        Action.SET_MODE if is_lockdown else Action.CLEAR_MODE,
        DoorMode.LOCKDOWN if is_lockdown else None,
        reason=reason,
        actor=principal.actor,
    )
    return RedirectResponse(f"/orders/{order.id}", 303)


@router.get("/orders/{order_id}")
def order_page(
    order_id: OrderInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Response:
    """One order, door by door."""
    return pages_of(request).response(
        request, "order.html", principal, order=_order(request, principal, order_id)
    )


@router.get("/orders/{order_id}/doors")
def order_doors_part(
    order_id: OrderInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Response:
    """The part of an order's page that says where it has arrived."""
    return HTMLResponse(
        pages_of(request).fragment("order_doors.html", order=_order(request, principal, order_id))
    )


@router.get("/orders/{order_id}/arrival")
def order_arrival_part(
    order_id: OrderInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Response:
    """The part of the live page that says where the newest order has arrived."""
    return HTMLResponse(pages_of(request).fragment("order.html", order=_order(request, principal, order_id)))


def _order(request: Request, principal: Principal, order_id: str) -> dict[str, Any]:
    hub = services(request)
    with hub.database.read() as connection:
        arrived = arrival(connection, scope.order(connection, principal, order_id), hub.clock())
    return order_context(pages_of(request), arrived)


def _door_page(
    request: Request, principal: Principal, door_id: DoorId, *, problem: str = "", reason: str = ""
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        scope.door(connection, principal, door_id)
        (door,) = _doors(hub, connection, door_id)
        shown = newest_commands(hub, pages, connection, door_id)
    return pages.response(
        request,
        "door_command.html",
        principal,
        status_code=422 if problem else 200,
        door=door_context(pages, door),
        commands=shown,
        choices=[
            (value, pages.gettext(_title(action, mode)), pages.gettext(text))
            for value, (action, mode, text) in _CHOICES.items()
        ],
        problem=pages.gettext(problem) if problem else "",
        reason=reason,
    )


def _lockdown_page(
    request: Request, principal: Principal, *, problem: str = "", reason: str = ""
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        every = statuses(connection, hub.clock(), sites=principal.sites)
        named = sites.list_all(connection, principal.sites)
    return pages.response(
        request,
        "lockdown.html",
        principal,
        status_code=422 if problem else 200,
        sites=[{"id": site.id, "name": site.name} for site in named],
        doors=len(every),
        away=[door.name for door in every if not door.online],
        problem=pages.gettext(problem) if problem else "",
        reason=reason,
    )


def _doors(hub: Services, connection: Connection, door_id: DoorId) -> list[DoorStatus]:
    return [door for door in statuses(connection, hub.clock()) if door.id == door_id]


def newest_commands(
    hub: Services, pages: Pages, connection: Connection, door_id: DoorId
) -> list[dict[str, Any]]:
    """What was ordered of a door, the newest first, and what became of it."""
    shown = []
    for command in commands.of_door(connection, door_id, limit=COMMANDS_SHOWN):
        state = Arrival(command.state(hub.clock()).value)
        shown.append(
            {
                "what": pages.gettext(_title(command.action, command.mode)),
                "issued_at": command.issued_at,
                "is_open": state is Arrival.SENT,
                "tone": "good" if state is Arrival.EXECUTED else "warn",
                "text": arrival_text(pages, state, command.refusal),
            }
        )
    return shown


def _title(action: Action, mode: DoorMode | None) -> str:
    return words.MODE_NAMES[mode] if mode else words.ACTIONS[action]


def _reason(form: OrderForm) -> str | None:
    try:
        return _REASON.validate_python(form.reason)
    except ValidationError:
        return None
