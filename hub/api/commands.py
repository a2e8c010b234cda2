"""Commands to doors, and what became of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import model_validator

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.commands import Order
from hub.operators import Principal
from hub.roles import Permission
from hub.store import commands as store
from hub.store.commands import CommandState, StoredCommand
from pacs.commands import Action
from pacs.reason import Reason
from pacs.rules import DoorMode

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["commands"])

COMMANDS_SHOWN = 100

CommandInPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class NewCommand(Body):
    """``mode`` belongs to ``set_mode``, and ``until``, its exclusive end, may; the reason is kept in the audit log."""

    action: Literal[Action.UNLOCK_ONCE, Action.SET_MODE, Action.CLEAR_MODE]
    mode: DoorMode | None = None
    until: fields.Instant | None = None
    reason: fields.ReasonText

    @model_validator(mode="after")
    def _consistent(self) -> NewCommand:
        sets = self.action is Action.SET_MODE
        if sets is not (self.mode is not None):
            raise ValueError("mode is given with set_mode, and only with it")
        if self.until is not None and not sets:
            raise ValueError("until belongs to set_mode")
        return self


class NewTest(Body):
    """What a technician has a door do once; the reason is kept in the audit log."""

    action: Literal[Action.UNLOCK_ONCE, Action.TEST_SIGNALS, Action.EXAMINE]
    reason: fields.ReasonText


class Command(Answer):
    """One command.

    ``state``: ``sent``, ``executed``, ``refused`` (``refusal`` says why), or ``unanswered``: it expired, and its
    controller has not said what became of it. ``outcome_at``: by the controller's clock.
    """

    id: str
    door_id: fields.Door
    controller_id: fields.Controller
    action: Action
    mode: DoorMode | None
    until: datetime | None
    given_by: str
    issued_at: datetime
    expires_at: datetime
    state: CommandState
    refusal: Reason | None
    outcome_at: datetime | None


class Commands(Answer):
    """The newest commands to a door, newest first."""

    commands: list[Command]


@router.post("/doors/{door_id}/commands", status_code=202)
def give(
    door_id: fields.Door,
    body: NewCommand,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_COMMAND)],
) -> Command:
    """Unlock a door once, set its mode, or give it back to its policy. Each request is another command."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.door(connection, principal, door_id)
    order = Order(door_id=door_id, action=body.action, mode=body.mode, until=body.until)
    given = hub.commands.give(order, reason=body.reason, actor=principal.actor)
    return _answer(given, hub.clock())


@router.post("/doors/{door_id}/tests", status_code=202)
def test(
    door_id: fields.Door,
    body: NewTest,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_TEST)],
) -> Command:
    """Unlock a door once, have its readers show each light and sound, or its controller examine itself: nothing that lasts."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.door(connection, principal, door_id)
    order = Order(door_id=door_id, action=body.action)
    return _answer(hub.commands.give(order, reason=body.reason, actor=principal.actor), hub.clock())


@router.get("/doors/{door_id}/commands")
def of_door(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
    limit: fields.Limit = COMMANDS_SHOWN,
) -> Commands:
    """The newest commands to one door."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.door(connection, principal, door_id)
        found = store.of_door(connection, door_id, limit=limit)
    now = hub.clock()
    return Commands(commands=[_answer(each, now) for each in found])


@router.get("/commands/{command_id}")
def one(
    command_id: CommandInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Command:
    """One command, and what became of it."""
    hub = services(request)
    with hub.database.read() as connection:
        found = scope.command(connection, principal, command_id)
    return _answer(found, hub.clock())


def _answer(command: StoredCommand, now: datetime) -> Command:
    shown = {name: getattr(command, name) for name in Command.model_fields if name != "state"}
    return Command(**shown, state=command.state(now))
