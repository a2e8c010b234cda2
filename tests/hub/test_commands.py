"""Commands at the hub: signed and stored before they are sent, repeated, and ended by the door's own event alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub import commands as hub_commands
from hub.commands import CommandRefused, Commands, Order, operator_id
from hub.keys import SigningKey
from hub.roles import Role
from hub.store import commands as store
from hub.store import controllers, doors
from hub.store.audit import oldest_first
from hub.store.commands import CommandState, Outcome
from hub.store.controllers import Controller
from hub.store.errors import NotFound
from pacs.commands import MAX_LIFETIME, Action, open_command
from pacs.envelope import trusted_keys
from pacs.events import Detail, Event, EventDraft, EventKind
from pacs.identifiers import ControllerId, DoorId
from pacs.reason import Reason
from pacs.rules import Door, DoorMode
from pacs.topics import Down, DownTopic
from tests.hub.controller import FakeController, eventually
from tests.hub.databases import SITE, fresh_database, make_site
from tests.hub.running import RunningHub, running_hub

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
TRUSTED = trusted_keys(KEY.public_key())
GATE, FRONT = ControllerId("gate"), DoorId("front")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Bench:
    """``Commands`` over a real database, with a clock and a broker's end that a test moves and reads."""

    def __init__(self, directory: Path) -> None:
        self.database = fresh_database(directory / "hub.sqlite")
        self.now = NOON
        self.sent: list[tuple[DownTopic, bytes]] = []
        with self.database.write() as connection:
            make_site(connection)
            controllers.register(
                connection,
                Controller(
                    site_id=SITE,
                    id=GATE,
                    event_public_key=bytes(32),
                    certificate_serial="00",
                    software=None,
                    registered_at=NOON,
                ),
            )
            doors.add(connection, Door(id=FRONT, controller_id=GATE), name="Front", now=NOON)
        self.commands = self.new()

    def new(self) -> Commands:
        """Another process over the same database."""
        return Commands(
            self.database,
            signing=lambda: SigningKey(key=KEY),
            publish=lambda topic, payload: self.sent.append((topic, payload)),
            clock=lambda: self.now,
        )

    def give(self, action: Action = Action.UNLOCK_ONCE, **details: Any) -> store.StoredCommand:
        order = Order(door_id=FRONT, action=action, **details)
        return self.commands.give(order, reason="somebody rang", actor="operator:op-1")

    def told(self, command_id: str, kind: EventKind, *, of: ControllerId = GATE, **fields: Any) -> None:
        """Ingest stores what a controller recorded of a command."""
        details: dict[str, Detail] = {"command": bytes.fromhex(command_id), "action": "unlock_once"}
        draft = EventDraft(kind=kind, occurred_at=self.now, clock_trusted=True, details=details, **fields)
        with self.database.write() as connection:
            event = Event(sequence=1, previous_hash=bytes(32), draft=draft)
            hub_commands.ended(connection, of, event)

    def state(self, command_id: str) -> CommandState:
        with self.database.read() as connection:
            return store.get(connection, command_id).state(self.now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.commands.lookout.stop()
    bench.database.close()


@pytest.mark.parametrize(
    ("action", "details", "lifetime"),
    [
        (Action.UNLOCK_ONCE, {}, timedelta(minutes=1)),
        (Action.SET_MODE, {"mode": DoorMode.LOCKDOWN}, MAX_LIFETIME),
        (Action.SET_MODE, {"mode": DoorMode.UNLOCKED, "until": NOON + timedelta(hours=2)}, MAX_LIFETIME),
        (Action.CLEAR_MODE, {}, MAX_LIFETIME),
    ],
)
def test_a_command_is_signed_for_one_door_for_minutes(
    bench: Bench, action: Action, details: dict[str, Any], lifetime: timedelta
) -> None:
    """What is sent on the controller's own topic opens with the site's policy key and says what was asked for."""
    given = bench.give(action, **details)
    ((topic, payload),) = bench.sent
    command = open_command(payload, TRUSTED)
    assert topic == DownTopic(GATE, Down.COMMAND)
    assert (command.site_id, command.controller_id, command.door_id) == (SITE, GATE, FRONT)
    assert (command.action, command.mode, command.until) == (
        action,
        details.get("mode"),
        details.get("until"),
    )
    assert (command.issued_at, command.expires_at) == (NOON, NOON + lifetime)
    assert command.command_id.hex() == given.id
    assert bench.state(given.id) is CommandState.SENT


def test_the_door_learns_nothing_of_the_operator(bench: Bench) -> None:
    """The operator's id in a command is always the same for one operator and does not hold theirs."""
    bench.give()
    bench.give()
    found = {open_command(payload, TRUSTED).operator_id for _, payload in bench.sent}
    assert found == {operator_id("operator:op-1")}
    assert "op-1" not in found.pop()


def test_who_gave_it_and_why_is_in_the_audit_log(bench: Bench) -> None:
    """Command and audit entry are one transaction; the entry has operator, door, action and reason."""
    given = bench.give(Action.SET_MODE, mode=DoorMode.LOCKDOWN)
    with bench.database.read() as connection:
        entry = list(oldest_first(connection))[-1]
    assert (entry.actor, entry.action, entry.subject) == ("operator:op-1", "command.give", "door:front")
    assert entry.reason == "somebody rang"
    assert entry.detail == {"command": given.id, "action": "set_mode", "mode": "lockdown"}


@pytest.mark.parametrize(
    "order",
    [
        Order(door_id=FRONT, action=Action.SET_MODE),
        Order(door_id=FRONT, action=Action.UNLOCK_ONCE, mode=DoorMode.UNLOCKED),
        Order(door_id=FRONT, action=Action.SET_MODE, mode=DoorMode.UNLOCKED, until=NOON),
        Order(
            door_id=FRONT, action=Action.SET_MODE, mode=DoorMode.UNLOCKED, until=NOON + timedelta(days=400)
        ),
        Order(door_id=FRONT, action=Action.GRANT),
    ],
)
def test_an_order_that_makes_no_sense_is_not_given(bench: Bench, order: Order) -> None:
    """Nothing is stored, audited or sent for it."""
    with pytest.raises(CommandRefused):
        bench.commands.give(order, reason="because", actor="operator:op-1")
    with bench.database.read() as connection:
        assert store.of_door(connection, FRONT, limit=10) == []
        assert list(oldest_first(connection)) == []
    assert bench.sent == []


def test_a_withdrawn_controller_gets_no_commands(bench: Bench) -> None:
    """Its doors are still known, and refuse to be commanded."""
    with bench.database.write() as connection:
        controllers.retire(connection, GATE, NOON)
    with pytest.raises(NotFound):
        bench.give()


def test_it_is_repeated_until_the_door_says_what_became_of_it(bench: Bench) -> None:
    """The same bytes go out again and again; not once more after the outcome is stored."""
    given = bench.give()
    bench.commands.lookout.start()
    eventually(lambda: len(bench.sent) >= 3, "repeated")
    assert {payload for _, payload in bench.sent} == {given.data}
    bench.told(given.id, EventKind.COMMAND_EXECUTED)
    other = bench.give()
    eventually(lambda: [payload for _, payload in bench.sent].count(other.data) >= 3, "the other repeated")
    assert bench.sent[-1][1] == other.data
    assert bench.sent[-2][1] == other.data


def test_an_expired_one_is_repeated_no_longer(bench: Bench) -> None:
    """After its time it is unanswered and not sent; what the door recorded in time still counts later."""
    given = bench.give()
    bench.now += timedelta(minutes=2)
    fresh = bench.give()
    bench.commands.lookout.start()
    eventually(
        lambda: [payload for _, payload in bench.sent].count(fresh.data) >= 2, "the fresh one repeated"
    )
    assert [payload for _, payload in bench.sent].count(given.data) == 1
    assert bench.state(given.id) is CommandState.UNANSWERED
    bench.told(given.id, EventKind.COMMAND_EXECUTED)
    assert bench.state(given.id) is CommandState.EXECUTED


def test_a_new_process_goes_on_repeating(bench: Bench) -> None:
    """What was given before a restart and is in its time is sent again."""
    given = bench.give()
    bench.sent.clear()
    again = bench.new()
    again.lookout.start()
    eventually(lambda: bench.sent, "sent again")
    again.lookout.stop()
    assert bench.sent[0][1] == given.data


def test_the_first_word_of_its_own_controller_counts(bench: Bench) -> None:
    """A repetition that the door refused afterwards, or another controller's word, changes nothing."""
    given = bench.give()
    bench.told(given.id, EventKind.COMMAND_EXECUTED, of=ControllerId("other"))
    assert bench.state(given.id) is CommandState.SENT
    bench.told(given.id, EventKind.COMMAND_EXECUTED)
    bench.told(given.id, EventKind.COMMAND_REFUSED, reason=Reason.COMMAND_REPEATED)
    assert bench.state(given.id) is CommandState.EXECUTED
    refused = bench.give()
    bench.told(refused.id, EventKind.COMMAND_REFUSED, reason=Reason.CLOCK_UNTRUSTED)
    with bench.database.read() as connection:
        found = store.get(connection, refused.id)
    assert (found.outcome, found.refusal, found.outcome_at) == (
        Outcome.REFUSED,
        Reason.CLOCK_UNTRUSTED,
        NOON,
    )


def test_that_it_came_before_is_no_outcome(bench: Bench) -> None:
    """A door that lost the event of what it did refuses the repetition; that does not mean it stayed shut."""
    given = bench.give()
    bench.told(given.id, EventKind.COMMAND_REFUSED, reason=Reason.COMMAND_REPEATED)
    assert bench.state(given.id) is CommandState.SENT


@pytest.mark.parametrize(
    "details",
    [{}, {"command": "text"}, {"command": b"short"}, {"command": 7}, {"command": b"\x07" * 16}],
    ids=["absent", "text", "short", "number", "of nobody"],
)
def test_an_event_about_no_command_says_nothing(bench: Bench, details: dict[str, Any]) -> None:
    """What a controller may write there does no harm."""
    draft = EventDraft(kind=EventKind.COMMAND_REFUSED, occurred_at=NOON, clock_trusted=True, details=details)
    given = bench.give()
    with bench.database.write() as connection:
        hub_commands.ended(connection, GATE, Event(sequence=1, previous_hash=bytes(32), draft=draft))
    assert bench.state(given.id) is CommandState.SENT


# ---- through the whole hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def kitchen(hub: RunningHub) -> FakeController:
    return hub.door("kitchen")


def test_from_the_guard_to_the_door_and_back(hub: RunningHub, kitchen: FakeController) -> None:
    """A guard's command reaches the controller over the broker; its event makes it executed."""
    with hub.token(Role.GUARD) as guard:
        answer = guard.post(
            "/api/v1/doors/kitchen/commands", json={"action": "unlock_once", "reason": "delivery"}
        )
        assert answer.status_code == 202, answer.text
        given = answer.json()
        assert given["state"] == "sent"
        eventually(lambda: kitchen.commands, "the command")
        command = open_command(kitchen.commands[0], kitchen.trusted)
        assert command.command_id.hex() == given["id"]
        kitchen.record(
            EventKind.COMMAND_EXECUTED,
            door_id=DoorId("kitchen"),
            details={"command": command.command_id, "action": command.action.value},
        )

        def executed() -> bool:
            found: dict[str, Any] = guard.get(f"/api/v1/commands/{given['id']}").json()
            return bool(found["state"] == "executed")

        eventually(executed, "executed")
        listed = guard.get("/api/v1/doors/kitchen/commands").json()["commands"]
    assert [each["id"] for each in listed][:1] == [given["id"]]
    assert "reason" not in listed[0]


@pytest.mark.parametrize(
    "body",
    [
        {"action": "unlock_once"},
        {"action": "unlock_once", "reason": "x"},
        {"action": "set_mode", "reason": "drill"},
        {"action": "set_mode", "mode": "ajar", "reason": "drill"},
        {"action": "unlock_once", "mode": "unlocked", "reason": "drill"},
        {"action": "clear_mode", "until": "2030-01-01T00:00:00Z", "reason": "drill"},
        {"action": "set_mode", "mode": "lockdown", "until": "2020-01-01T00:00:00Z", "reason": "drill"},
        {"action": "set_mode", "mode": "lockdown", "until": "9999-12-31T23:59:59Z", "reason": "drill"},
        {"action": "grant", "reason": "drill"},
    ],
)
def test_what_is_no_command_is_an_invalid_request(
    hub: RunningHub, kitchen: FakeController, body: dict[str, str]
) -> None:
    """No reason, no mode, a mode too many, an end in the past: each is refused before anything is signed."""
    del kitchen
    with hub.token(Role.GUARD) as guard:
        answer = guard.post("/api/v1/doors/kitchen/commands", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_unknown_doors_and_commands(hub: RunningHub) -> None:
    """A door or a command that is not there is not found."""
    with hub.token(Role.GUARD) as guard:
        command = {"action": "unlock_once", "reason": "delivery"}
        assert guard.post("/api/v1/doors/nowhere/commands", json=command).status_code == 404
        assert guard.get("/api/v1/doors/nowhere/commands").status_code == 404
        assert guard.get(f"/api/v1/commands/{'0' * 32}").status_code == 404
