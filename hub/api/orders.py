"""Orders to every door of a site at once, and at which doors they were carried out."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import model_validator
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import controllers, doors
from hub.store import orders as store
from hub.store.commands import StoredCommand
from pacs.commands import Action
from pacs.reason import Reason
from pacs.rules import DoorMode

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/orders", tags=["orders"])

OrderInPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


@unique
class Arrival(StrEnum):
    """How far an order is at one door. ``not_given``: its controller is withdrawn."""

    SENT = "sent"
    EXECUTED = "executed"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    NOT_GIVEN = "not_given"


class NewOrder(Body):
    """``mode`` belongs to ``set_mode``; the reason is kept in the audit log."""

    action: Literal[Action.SET_MODE, Action.CLEAR_MODE]
    mode: DoorMode | None = None
    reason: fields.ReasonText
    site_id: fields.Site | None = None

    @model_validator(mode="after")
    def _consistent(self) -> NewOrder:
        if (self.action is Action.SET_MODE) is not (self.mode is not None):
            raise ValueError("mode is given with set_mode, and only with it")
        return self


class OrderAtDoor(Answer):
    """One door: what became of its command, and whether it is there. ``outcome_at``: by the controller's clock."""

    id: fields.Door
    name: str
    online: bool
    since: datetime | None
    state: Arrival
    refusal: Reason | None
    outcome_at: datetime | None


class OrderAnswer(Answer):
    """One order. ``executed``: at how many of ``doors`` it was carried out, by their own events."""

    id: str
    site_id: fields.Site
    action: Action
    mode: DoorMode | None
    given_by: str
    issued_at: datetime
    executed: int
    doors: list[OrderAtDoor]


@router.post("", status_code=202)
def give(
    body: NewOrder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_COMMAND)],
) -> OrderAnswer:
    """Set the mode of every door of a site, or give them back to its policy. Each request is another order."""
    hub = services(request)
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
    order = hub.orders.give(site_id, body.action, body.mode, reason=body.reason, actor=principal.actor)
    with hub.database.read() as connection:
        return arrival(connection, order, hub.clock())


@router.get("/{order_id}")
def one(
    order_id: OrderInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> OrderAnswer:
    """One order, and at which doors it has arrived."""
    hub = services(request)
    with hub.database.read() as connection:
        return arrival(connection, scope.order(connection, principal, order_id), hub.clock())


def arrival(connection: Connection, order: store.DoorsOrder, now: datetime) -> OrderAnswer:
    """Where an order stands, door by door."""
    named = {each.door.id: each for each in doors.list_all(connection)}
    states = controllers.states(connection, now)
    found = []
    for door_id, command in store.commands_of(connection, order.id).items():
        known = named.get(door_id)
        state = states.get(known.door.controller_id) if known else None
        found.append(
            OrderAtDoor(
                id=door_id,
                name=known.name if known else door_id,
                online=bool(state and state.online),
                since=state.since if state else None,
                state=_arrival(command, now),
                refusal=command.refusal if command else None,
                outcome_at=command.outcome_at if command else None,
            )
        )
    executed = sum(each.state is Arrival.EXECUTED for each in found)
    return OrderAnswer(
        id=order.id,
        site_id=order.site_id,
        action=order.action,
        mode=order.mode,
        given_by=order.given_by,
        issued_at=order.issued_at,
        executed=executed,
        doors=found,
    )


def _arrival(command: StoredCommand | None, now: datetime) -> Arrival:
    return Arrival.NOT_GIVEN if command is None else Arrival(command.state(now).value)
