"""What a controller says of its own health, as the hub stores and shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.roles import Role
from pacs import cbor
from pacs.health import ControllerHealth, DoorHealth, ReaderHealth
from pacs.identifiers import DoorId
from pacs.messages import MAX_MESSAGE_BYTES, ControllerStatus
from pacs.topics import Up
from tests.hub.controller import FakeController, eventually
from tests.hub.running import RunningHub, running_hub

HEALTH = ControllerHealth(
    uptime_s=3_600,
    policy_age_s=40,
    clock_distrust="not_synchronised",
    waiting_events=12,
    oldest_waiting_s=700,
    temperature_millicelsius=48_312,
    free_bytes=2**33,
    connections=3,
    refused_commands={"command_repeated": 2},
    doors=(
        DoorHealth(
            door_id=DoorId("kitchen"),
            mode="lockdown",
            cause="command",
            alarms=("door_held", "tamper_opened"),
            attendance="local",
        ),
    ),
    readers=(ReaderHealth(reader="kitchen/entry", state="ok", reads=9, failed=1, losses=0, resets=0),),
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def kitchen(hub: RunningHub) -> FakeController:
    return hub.door("kitchen")


def say(kitchen: FakeController, health: ControllerHealth | None, **unknown: Any) -> None:
    """A heartbeat, with fields that this hub does not know."""
    status = ControllerStatus(online=True, sent_at=datetime.now(UTC), clock_trusted=True, health=health)
    fields = cbor.decode(bytes(status), limit=MAX_MESSAGE_BYTES)
    kitchen.publish(Up.STATUS, cbor.encode({**fields, 99: unknown, 100: [1, 2]}))


def test_health_is_stored_and_shown(hub: RunningHub, kitchen: FakeController) -> None:
    """The technician sees all of it, the guard the modes of doors; what a newer controller adds does no harm."""
    say(kitchen, HEALTH, colour="green")
    with hub.token(Role.TECHNICIAN) as technician:

        def shown() -> Any:
            return technician.get("/api/v1/controllers/kitchen/status").json()["health"]

        health = eventually(shown, "the health")
    assert health["temperature_millicelsius"] == 48_312
    assert health["clock_distrust"] == "not_synchronised"
    assert (health["waiting_events"], health["oldest_waiting_s"]) == (12, 700)
    assert health["revocations_age_s"] is None
    assert health["doors"][0]["alarms"] == ["door_held", "tamper_opened"]
    assert health["readers"][0]["reader"] == "kitchen/entry"
    with hub.token(Role.GUARD) as guard:
        assert guard.get("/api/v1/controllers/kitchen/status").status_code == 403
        (door,) = guard.get("/api/v1/doors").json()["doors"]
    assert (door["mode"], door["effective_mode"], door["effective_cause"]) == (
        "secured",
        "lockdown",
        "command",
    )
    assert (door["attendance"], door["without_hub"]) == ("local", None)


def test_a_heartbeat_is_acknowledged_although_nothing_is_new(kitchen: FakeController) -> None:
    """A controller knows by it that the hub is there to be asked."""
    kitchen.until_acknowledged()
    before = len(kitchen.acknowledgements)
    kitchen.heartbeat()
    eventually(lambda: len(kitchen.acknowledgements) > before, "the heartbeat's acknowledgement")


def test_nobody_vouches_for_the_mode_of_a_silent_door(hub: RunningHub, kitchen: FakeController) -> None:
    """Its effective mode is not known; what it said last stays to be read, and what its rules have it do meanwhile."""
    say(kitchen, replace(HEALTH, doors=(replace(HEALTH.doors[0], mode="attended"),)))
    kitchen.drop()
    with hub.token(Role.SITE_MANAGER) as manager:
        manager.patch("/api/v1/doors/kitchen", json={"when_hub_away": "unattended", "hub_away_max_s": 600})

        def away() -> bool:
            (door,) = manager.get("/api/v1/doors").json()["doors"]
            return not door["online"] and door["effective_mode"] is None

        eventually(away, "the door away")
        (door,) = manager.get("/api/v1/doors").json()["doors"]
        status = manager.get("/api/v1/controllers/kitchen/status").json()
    assert status["online"] is False
    assert status["health"]["uptime_s"] == 3_600
    assert door["attendance"] is None
    until = datetime.fromisoformat(door["last_seen"]) + timedelta(seconds=600)
    assert door["without_hub"]["attendance"] == "unattended"
    assert datetime.fromisoformat(door["without_hub"]["until"]) == until
    with hub.signed_in(Role.GUARD) as guard:
        assert "Who decides" in guard.get("/").text
