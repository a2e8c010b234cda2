"""Orders to every door: one command each, and an arrival that claims no more than doors have said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from hub.roles import Role
from pacs.commands import open_command
from pacs.events import EventKind
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.rules import DoorMode
from tests.hub.controller import eventually
from tests.hub.databases import empty_address
from tests.hub.running import RunningHub, running_hub

LOCKDOWN = {"action": "set_mode", "mode": "lockdown", "reason": "A threat at the gate"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[RunningHub]:
    address = empty_address() if database_kind == "postgresql" else ""
    with running_hub(tmp_path_factory.mktemp("orders"), database_url=address) as running:
        running.door("front", "Front door")
        running.door("kitchen", "Kitchen")
        running.door("shed", "Shed", connect=False)
        with running.token() as administrator:
            assert administrator.delete("/api/v1/controllers/shed").status_code in (200, 204)
        running.until_confirmed()
        yield running


def test_every_door_is_given_its_own_command(hub: RunningHub) -> None:
    """Executed and refused are what the doors' events say; a door without a controller in use stays in the list."""
    with hub.token(Role.GUARD) as guard:
        answer = guard.post("/api/v1/orders", json=LOCKDOWN)
        assert answer.status_code == 202
        order = answer.json()
        assert (order["mode"], order["executed"]) == ("lockdown", 0)
        path = f"/api/v1/orders/{order['id']}"
        assert states(guard.get(path).json()) == {"front": "sent", "kitchen": "sent", "shed": "not_given"}
        for name, kind, reason in (
            ("front", EventKind.COMMAND_EXECUTED, None),
            ("kitchen", EventKind.COMMAND_REFUSED, Reason.COMMAND_OUT_OF_PLACE),
        ):
            controller = hub.controllers[name]
            eventually(partial(bool, controller.commands), "sent")
            command = open_command(controller.commands[-1], controller.trusted)
            assert (command.mode, command.until) == (DoorMode.LOCKDOWN, None)
            details = {"command": command.command_id, "action": "set_mode"}
            controller.record(kind, door_id=DoorId(name), reason=reason, details=details)
            controller.until_acknowledged()
        order = guard.get(path).json()
    assert states(order) == {"front": "executed", "kitchen": "refused", "shed": "not_given"}
    assert order["executed"] == 1
    assert {door["refusal"] for door in order["doors"]} == {None, "command_out_of_place"}
    with hub.token(Role.AUDITOR) as auditor:
        entries = auditor.get("/api/v1/audit").json()["entries"]
    (noted,) = (each for each in entries if each["action"] == "order.give")
    assert (noted["reason"], noted["detail"]["order"]) == (LOCKDOWN["reason"], order["id"])


def states(order: Any) -> dict[str, str]:
    return {door["id"]: door["state"] for door in order["doors"]}


@pytest.mark.parametrize(
    "change",
    [{"mode": None}, {"action": "clear_mode"}, {"action": "unlock_once", "mode": None}, {"reason": ""}],
)
def test_what_makes_no_sense_is_refused(hub: RunningHub, change: dict[str, Any]) -> None:
    """Before any door hears of it; to open every door at once is a mode, not a command."""
    with hub.token(Role.GUARD) as guard:
        before = guard.get("/api/v1/doors/front/commands").json()
        assert guard.post("/api/v1/orders", json=LOCKDOWN | change).status_code == 422
        assert guard.get("/api/v1/doors/front/commands").json() == before


def test_an_order_that_is_not_there(hub: RunningHub) -> None:
    """Is said not to be."""
    with hub.token(Role.GUARD) as guard:
        assert guard.get(f"/api/v1/orders/{'0' * 32}").status_code == 404
