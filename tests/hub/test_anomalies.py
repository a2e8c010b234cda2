"""What does not fit in a controller's record, sent over the real broker: found, kept, shown, and merged with nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from hub.store import controllers, events, journals
from hub.store.journals import Anomaly, AnomalyKind
from hub.store.schema import quarantine
from pacs.events import EventKind
from pacs.identifiers import DoorId
from pacs.topics import Up
from tests.hub import databases
from tests.hub.controller import FakeController, MemoryJournal, eventually
from tests.hub.running import RunningHub, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[RunningHub]:
    address = databases.empty_address() if database_kind == "postgresql" else ""
    with running_hub(tmp_path_factory.mktemp("hub"), database_url=address) as hub:
        yield hub


@pytest.fixture
def door(hub: RunningHub) -> Iterator[FakeController]:
    """A controller of this test's own, all of whose events are stored, and who adds none by itself."""
    door = hub.door(f"door-{len(hub.controllers)}")
    hub.until_confirmed()
    door.confirms = False
    for _ in range(3):
        door.record(door_id=DoorId(door.id))
    door.until_acknowledged()
    yield door
    door.drop()


def anomaly(hub: RunningHub, door: FakeController, kind: AnomalyKind) -> Anomaly:
    """The one of this kind, once it is there; the door's page says so, too."""

    def found() -> list[Anomaly]:
        with hub.database.read() as connection:
            listed = journals.list_anomalies(connection, door.id)
        return [each for each in listed if each.kind is kind]

    eventually(lambda: bool(found()), f"{kind} at {door.id}")
    (one,) = found()
    if not one.has_hole:
        with hub.token() as program:
            (shown,) = (
                each for each in program.get("/api/v1/doors").json()["doors"] if each["id"] == door.id
            )
        assert kind in [each["kind"] for each in shown["anomalies"]]
    return one


def stored(hub: RunningHub, door: FakeController) -> dict[str, list[bytes]]:
    """Journal → the bytes of its events."""
    found: dict[str, list[bytes]] = {}
    with hub.database.read() as connection:
        for event in events.listing(connection, controller_id=door.id, limit=1_000):
            found.setdefault(event.journal_id, []).append(event.data)
    return found


def kept_aside(hub: RunningHub, door: FakeController) -> int:
    with hub.database.read() as connection:
        query = select(func.count()).select_from(quarantine).where(quarantine.c.controller_id == door.id)
        return connection.scalar(query) or 0


def forked(door: FakeController, after: int) -> MemoryJournal:
    """The same journal with another history behind ``after``, signed with the right key."""
    fork = MemoryJournal(door.id)
    fork.journal_id = door.journal.journal_id
    fork.encoded = door.journal.encoded[:after]
    for _ in range(door.journal.last_sequence - after):
        fork.append(EventKind.EXIT_REQUESTED, door_id=DoorId(door.id), occurred_at=datetime.now(UTC))
    return fork


def test_a_duplicate_with_other_content(hub: RunningHub, door: FakeController) -> None:
    """The second version of an event is set aside; the first stays."""
    before = stored(hub, door)
    fork = forked(door, door.journal.last_sequence - 1)
    last = fork.last_sequence
    door.publish(Up.EVENTS, fork.batch(door.event_key, last, last))
    assert anomaly(hub, door, AnomalyKind.DUPLICATE_DIFFERS).first_sequence == last
    assert stored(hub, door) == before
    assert kept_aside(hub, door) == 1
    door.record(door_id=DoorId(door.id))
    door.until_acknowledged()


def test_a_broken_chain(hub: RunningHub, door: FakeController) -> None:
    """An event that continues another history is set aside; the true one is stored when it comes."""
    before = stored(hub, door)
    fork = forked(door, door.journal.last_sequence - 1)
    fork.append(EventKind.EXIT_REQUESTED, door_id=DoorId(door.id), occurred_at=datetime.now(UTC))
    last = fork.last_sequence
    door.publish(Up.EVENTS, fork.batch(door.event_key, last, last))
    assert anomaly(hub, door, AnomalyKind.CHAIN_BROKEN).first_sequence == last
    assert (stored(hub, door), kept_aside(hub, door)) == (before, 1)
    door.record(door_id=DoorId(door.id))
    door.until_acknowledged()
    assert stored(hub, door)[door.journal.journal_id] == door.journal.encoded


def test_a_gap(hub: RunningHub, door: FakeController) -> None:
    """Events the controller no longer has are named as missing, and what follows is stored."""
    have = door.journal.last_sequence
    for _ in range(4):
        door.journal.append(EventKind.DOOR_OPENED, door_id=DoorId(door.id), occurred_at=datetime.now(UTC))
    door.pruned = have + 2
    door.hello()
    found = anomaly(hub, door, AnomalyKind.EVENTS_MISSING)
    assert (found.first_sequence, found.last_sequence, found.has_hole) == (have + 1, have + 2, True)
    eventually(lambda: door.acknowledged == have + 2, "the gap is passed")
    door.until_acknowledged()
    encoded = door.journal.encoded
    assert stored(hub, door)[door.journal.journal_id] == encoded[:have] + encoded[have + 2 :]


def test_a_controller_restarted_from_an_old_backup(hub: RunningHub, door: FakeController) -> None:
    """It has less than the hub: that is found at its hello; what it records anew under old numbers is set aside."""
    before = stored(hub, door)
    old = door.journal.last_sequence - 2
    door.journal.encoded = door.journal.encoded[:old]
    door.hello()
    assert anomaly(hub, door, AnomalyKind.JOURNAL_BEHIND).journal_id == door.journal.journal_id
    door.record(EventKind.EXIT_REQUESTED, door_id=DoorId(door.id))
    anomaly(hub, door, AnomalyKind.DUPLICATE_DIFFERS)
    assert (stored(hub, door), kept_aside(hub, door)) == (before, 1)


def test_a_replaced_journal(hub: RunningHub, door: FakeController) -> None:
    """A new journal is stored beside the old one, never appended to it."""
    before = stored(hub, door)
    door.journal, door.acknowledged = MemoryJournal(door.id), -1
    door.hello()
    door.record(door_id=DoorId(door.id))
    door.until_acknowledged()
    assert anomaly(hub, door, AnomalyKind.JOURNAL_REPLACED).has_hole
    assert stored(hub, door) == {**before, door.journal.journal_id: door.journal.encoded}


@pytest.mark.parametrize("at", [datetime.now(UTC) + timedelta(days=400), datetime(1971, 1, 1, tzinfo=UTC)])
def test_a_clock_that_cannot_be_right(hub: RunningHub, door: FakeController, at: datetime) -> None:
    """The event is stored as it was signed and named; the record is not held to be whole up to that time."""
    for _ in range(2):
        door.record(door_id=DoorId(door.id), occurred_at=at)
    door.until_acknowledged()
    found = anomaly(hub, door, AnomalyKind.CLOCK_WRONG)
    assert at.isoformat(timespec="seconds") in found.detail
    assert stored(hub, door)[door.journal.journal_id] == door.journal.encoded
    with hub.database.read() as connection:
        until = controllers.state(connection, door.id, hub.clock()).complete_until
    assert until is None or until <= hub.clock()


def test_a_clock_known_to_be_wrong_is_no_surprise(hub: RunningHub, door: FakeController) -> None:
    """A controller that says it does not trust its clock is believed: when it happened is unknown."""
    past = datetime(1971, 1, 1, tzinfo=UTC)
    door.record(door_id=DoorId(door.id), occurred_at=past, clock_trusted=False)
    door.until_acknowledged()
    with hub.database.read() as connection:
        (found,) = journals.list_anomalies(connection, door.id)
    assert (found.kind, found.has_hole, found.unknown_until) == (AnomalyKind.CLOCK_UNTRUSTED, True, None)
