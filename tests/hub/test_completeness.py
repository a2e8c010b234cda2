from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import completeness
from hub.completeness import Cause, Completeness, Hole
from hub.inbox import Message
from hub.store import controllers, doors
from hub.store.controllers import SILENT_AFTER
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId
from pacs.messages import ControllerStatus, Hello
from pacs.rules import Door, Side
from pacs.topics import Up, UpTopic
from tests.hub.controller import MemoryJournal
from tests.hub.test_ingest import GATE, NOW, YARD, Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FRONT, BACK, FAR = DoorId("front"), DoorId("back"), DoorId("far")
SECOND = timedelta(seconds=1)
DOORS: dict[DoorId, ControllerId] = {FRONT: GATE, BACK: GATE, FAR: YARD}


class Watch(Desk):
    """Ingest with three doors, and a clock that the test moves."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.journal = MemoryJournal(GATE)
        with self.database.write() as connection:
            for door_id, controller_id in DOORS.items():
                door = Door(id=door_id, controller_id=controller_id)
                doors.add(connection, door, name=door_id, now=NOW)

    def at(self, seconds: float) -> datetime:
        """Move the clock to so many seconds after the start."""
        self.now = NOW + timedelta(seconds=seconds)
        return self.now

    def happens(self, kind: EventKind, **fields: Any) -> None:
        """An event of now, stored at once."""
        self.journal.append(kind, occurred_at=self.now, **fields)
        last = self.journal.last_sequence
        self.deliver(self.batch(self.journal, last, last))

    def status(self, *, online: bool = True, last: int | None = None, withheld: int = 0) -> None:
        status = ControllerStatus(
            online=online,
            sent_at=self.now,
            clock_trusted=True,
            journal_id=self.journal.journal_id,
            last_sequence=self.journal.last_sequence if last is None else last,
            withheld_count=withheld,
        )
        self.deliver(Message(str(UpTopic(GATE, Up.STATUS)), bytes(status)))

    def door(self, door_id: DoorId = FRONT, *, since: datetime | None = None) -> Completeness:
        with self.database.read() as connection:
            return completeness.of_doors(connection, self.now, since=since)[door_id]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(tmp_path / "hub.sqlite")
    yield watch
    watch.database.close()


def test_a_door_never_heard_of_proves_nothing(watch: Watch) -> None:
    """Before its controller connects, a door's record is unknown since it was registered."""
    watch.at(10)
    door = watch.door()
    assert not door.complete
    assert door.unknown_since == NOW
    assert door.holes == (Hole(since=NOW, until=None, cause=Cause.NEVER_SEEN),)


def test_a_connected_controller_with_everything_stored_is_complete(watch: Watch) -> None:
    """Hello, all events stored: complete; the first start itself marks where the record begins."""
    watch.hello(watch.journal)
    watch.at(1)
    watch.happens(EventKind.CONTROLLER_STARTED)
    door = watch.door()
    assert door.complete
    assert door.unknown_since is None
    assert [(hole.until, hole.cause) for hole in door.holes] == [(NOW + SECOND, Cause.NOT_RUNNING)]
    assert not watch.door(FAR).complete
    assert watch.door(since=NOW + 2 * SECOND).holes == ()


def test_what_still_waits_at_the_door_is_unknown(watch: Watch) -> None:
    """A controller that says it holds more than is stored is incomplete from the last proof on, until it arrives."""
    watch.hello(watch.journal)
    watch.at(5)
    watch.status()
    watch.at(6)
    watch.journal.append(EventKind.DOOR_OPENED, occurred_at=watch.now)
    watch.status()
    door = watch.door()
    assert (door.complete, door.unknown_since) == (False, NOW + 5 * SECOND)
    assert door.holes[-1].cause is Cause.ARRIVING
    watch.at(7)
    watch.deliver(watch.batch(watch.journal, 1, 1))
    assert watch.door().complete


def test_what_cannot_be_sent_yet_is_unknown(watch: Watch) -> None:
    """Events that wait in a door's memory hold its record back, also while others arrive; until none waits any more."""
    watch.hello(watch.journal)
    watch.at(5)
    watch.status()
    watch.at(6)
    watch.status(withheld=2)
    watch.at(7)
    door = watch.door()
    assert (door.complete, door.unknown_since) == (False, NOW + 5 * SECOND)
    assert door.holes[-1].cause is Cause.ARRIVING
    watch.happens(EventKind.DOOR_OPENED)
    assert not watch.door().complete
    watch.happens(EventKind.DOOR_CLOSED)
    assert watch.door().complete
    watch.at(8)
    watch.status(withheld=1)
    assert not watch.door().complete
    watch.at(9)
    watch.status()
    assert watch.door().complete


@pytest.mark.parametrize("how", ["last will", "silence", "hub restarted"])
def test_a_controller_out_of_touch_is_unknown_since_the_last_proof(watch: Watch, how: str) -> None:
    """Offline, silent, or not heard of since the hub started: unknown since everything was last known stored."""
    watch.hello(watch.journal)
    watch.at(20)
    watch.status()
    watch.at(25)
    if how == "last will":
        watch.status(online=False)
    elif how == "silence":
        watch.at(21 + SILENT_AFTER.total_seconds())
    else:
        watch.restarted().link_lost()  # as the process that takes its shard over says
        watch.ingest._everybody_is_gone()
    door = watch.door()
    assert (door.complete, door.unknown_since) == (False, NOW + 20 * SECOND)
    assert [hole.cause for hole in door.holes] == [Cause.OFFLINE]
    watch.status()
    assert watch.door().complete


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ({}, Cause.NOT_RUNNING),
        ({"unclean": False}, Cause.NOT_RUNNING),
        ({"unclean": True}, Cause.UNCLEAN_START),
    ],
)
def test_the_time_a_controller_did_not_run_stays_unknown(
    watch: Watch, details: dict[str, Any], cause: Cause
) -> None:
    """From the last event before a start to the start nothing is proven, even when all events are stored."""
    watch.hello(watch.journal)
    watch.at(10)
    watch.happens(EventKind.DOOR_OPENED)
    watch.at(70)
    watch.happens(EventKind.CONTROLLER_STARTED, details=details)
    door = watch.door()
    assert door.complete
    assert door.holes == (Hole(since=NOW + 10 * SECOND, until=NOW + 70 * SECOND, cause=cause),)
    assert watch.door(BACK).holes == door.holes


def test_a_lost_reader_makes_its_own_door_unknown(watch: Watch) -> None:
    """While a reader does not work its door is incomplete, the controller's other door is not."""
    watch.hello(watch.journal)
    watch.at(10)
    watch.happens(EventKind.READER_LOST, door_id=FRONT, side=Side.ENTRY, details={"cause": "silent"})
    assert (watch.door().complete, watch.door().unknown_since) == (False, NOW + 10 * SECOND)
    assert watch.door(BACK).complete
    watch.happens(EventKind.READER_RESTORED, door_id=FRONT, side=Side.EXIT)
    assert not watch.door().complete
    watch.at(15)
    watch.happens(EventKind.READER_RESTORED, door_id=FRONT, side=Side.ENTRY)
    expected = Hole(since=NOW + 10 * SECOND, until=NOW + 15 * SECOND, cause=Cause.READER_LOST)
    assert watch.door().complete
    assert watch.door().holes == (expected,)


def test_a_reader_lost_before_a_restart_is_not_lost_for_ever(watch: Watch) -> None:
    """A start ends the hole of a reader that was lost; one that is still lost is said to be again."""
    watch.hello(watch.journal)
    watch.at(10)
    watch.happens(EventKind.READER_LOST, door_id=FRONT, side=Side.ENTRY)
    watch.at(20)
    watch.happens(EventKind.CONTROLLER_STARTED)
    assert watch.door().complete


def test_events_a_controller_gave_up_leave_a_hole(watch: Watch) -> None:
    """A journal gap said by the controller is a hole from the event before it."""
    watch.hello(watch.journal)
    watch.at(3)
    watch.happens(EventKind.DOOR_OPENED)
    watch.at(9)
    watch.happens(EventKind.JOURNAL_GAP, details={"cause": "journal_failed", "lost_at_least": 4})
    (hole,) = watch.door().holes
    assert (hole.since, hole.until, hole.cause) == (NOW + 3 * SECOND, NOW + 9 * SECOND, Cause.JOURNAL_GAP)


@pytest.mark.parametrize("silent", [False, True])
def test_a_heartbeat_without_a_journal_proves_nothing(watch: Watch, silent: bool) -> None:
    """A controller that never said what it holds is incomplete since it was registered, online or not."""
    watch.at(10)
    watch.deliver(
        Message(str(UpTopic(GATE, Up.STATUS)), bytes(ControllerStatus(online=True, sent_at=watch.now)))
    )
    if silent:
        watch.at(11 + SILENT_AFTER.total_seconds())
    door = watch.door()
    assert (door.complete, door.unknown_since) == (False, NOW)
    assert [hole.cause for hole in door.holes] == [Cause.OFFLINE, Cause.NOT_PROVEN][not silent :]


@pytest.mark.parametrize("repeated", [False, True])
def test_a_late_hello_proves_nothing_of_this_moment(watch: Watch, repeated: bool) -> None:
    """A hello that was long on its way does not move the record's end to the moment it was taken."""
    watch.hello(watch.journal)
    watch.at(5)
    watch.status()
    hello = Hello(
        journal_id=watch.journal.journal_id, first_sequence=1, last_sequence=0, versions={}, software=""
    )
    watch.at(7200)
    watch.deliver(Message(str(UpTopic(GATE, Up.HELLO)), bytes(hello), repeated))
    with watch.database.read() as connection:
        assert controllers.state(connection, GATE, watch.now).complete_until == NOW + 5 * SECOND


def test_a_repeated_heartbeat_without_a_clock_proves_nothing(watch: Watch) -> None:
    """An old heartbeat whose own time means nothing does not move the record's end when it is told again."""
    watch.hello(watch.journal)
    watch.at(5)
    watch.status()
    watch.at(7200)
    status = ControllerStatus(online=True, sent_at=NOW, journal_id=watch.journal.journal_id)
    for repeated, until in ((True, NOW + 5 * SECOND), (False, watch.now)):
        watch.deliver(Message(str(UpTopic(GATE, Up.STATUS)), bytes(status), repeated))
        with watch.database.read() as connection:
            assert controllers.state(connection, GATE, watch.now).complete_until == until


def test_a_silent_controller_is_not_online(watch: Watch) -> None:
    """Without a sign of life for long a controller is offline since the last one, whatever the broker says."""
    watch.hello(watch.journal)
    for silent_s, online in ((0, True), (SILENT_AFTER.total_seconds(), True), (91, False)):
        with watch.database.read() as connection:
            state = controllers.state(connection, GATE, watch.at(silent_s))
        assert (state.online, state.since) == (online, NOW)


def test_every_hole_has_its_cause(watch: Watch) -> None:
    """A replaced journal and events that are nowhere are holes with their own causes."""
    watch.hello(watch.journal)
    watch.at(1)
    watch.happens(EventKind.DOOR_OPENED)
    other = MemoryJournal(GATE)
    for second in range(2, 8):
        other.append(EventKind.DOOR_OPENED, occurred_at=watch.at(second))
    watch.hello(other, first=4)
    watch.deliver(watch.batch(other, 4, 6))
    assert [hole.cause for hole in watch.door().holes] == [Cause.JOURNAL_REPLACED, Cause.EVENTS_MISSING]
    assert watch.door().complete


def at_s(*seconds: float) -> tuple[datetime, ...]:
    return tuple(NOW + second * SECOND for second in seconds)


def test_times_that_cannot_be_believed_are_a_hole(watch: Watch) -> None:
    """From the last event whose time is believed to the next one: what happened then may have any other time."""
    watch.hello(watch.journal)
    watch.at(10)
    watch.happens(EventKind.DOOR_OPENED)
    for second, untrusted in ((20, {"clock_trusted": False}), (30, {"occurred_at": NOW + timedelta(days=9)})):
        watch.at(second)
        watch.journal.append(EventKind.DOOR_OPENED, **{"occurred_at": watch.now, **untrusted})
        last = watch.journal.last_sequence
        watch.deliver(watch.batch(watch.journal, last, last))
        assert (watch.door().complete, watch.door().unknown_since) == (False, NOW + 10 * SECOND)
    watch.at(40)
    watch.happens(EventKind.DOOR_CLOSED)
    assert watch.door().complete
    (hole,) = watch.door().holes
    assert (hole.since, hole.until, hole.cause) == (*at_s(10, 40), Cause.CLOCK_UNTRUSTED)


def test_a_clock_that_was_trusted_and_set_far_leaves_a_hole(watch: Watch) -> None:
    """Since it was last set nobody knows what its times were worth; a small correction is no matter."""
    watch.hello(watch.journal)
    watch.at(10)
    watch.happens(EventKind.CLOCK_CHANGED, details={"step_ms": 20_000})
    watch.at(1000)
    watch.happens(EventKind.CLOCK_CHANGED, details={"step_ms": 600_000})
    (hole,) = watch.door().holes
    assert (hole.since, hole.until, hole.cause) == (*at_s(10, 1000), Cause.CLOCK_WRONG)


def test_a_reader_lost_at_an_unbelievable_time_is_lost_now(watch: Watch) -> None:
    """Its hole begins where the record was last whole, not where a wrong clock puts it."""
    watch.hello(watch.journal)
    watch.at(5)
    watch.happens(EventKind.DOOR_OPENED)
    watch.at(10)
    lost = {"door_id": FRONT, "side": Side.ENTRY, "occurred_at": NOW + timedelta(days=900)}
    watch.journal.append(EventKind.READER_LOST, **lost)
    watch.deliver(watch.batch(watch.journal, 2, 2))
    watch.at(20)
    watch.happens(EventKind.DOOR_OPENED)
    assert (watch.door().complete, watch.door().unknown_since) == (False, NOW + 5 * SECOND)


def test_a_controller_set_back_proves_nothing_until_it_begins_anew(watch: Watch) -> None:
    """What it records under numbers that are taken is in no list, whatever its heartbeats say."""
    watch.hello(watch.journal)
    for second in (1, 2, 3):
        watch.at(second)
        watch.happens(EventKind.DOOR_OPENED)
    old = MemoryJournal(GATE)
    old.journal_id, old.encoded = watch.journal.journal_id, watch.journal.encoded[:1]
    watch.at(60)
    watch.hello(old)
    old.append(EventKind.ACCESS_GRANTED, occurred_at=watch.now)
    watch.deliver(watch.batch(old, 2, 2))
    watch.journal = old
    watch.at(90)
    watch.status()
    door = watch.door()
    assert (door.complete, door.unknown_since) == (False, NOW + 3 * SECOND)
    assert {hole.cause for hole in door.holes} == {Cause.JOURNAL_BEHIND, Cause.DUPLICATE_DIFFERS}
    watch.journal = MemoryJournal(GATE)
    watch.at(100)
    watch.hello(watch.journal)
    watch.happens(EventKind.DOOR_OPENED)
    assert watch.door().complete
    assert all(hole.until for hole in watch.door().holes)


def test_what_is_proven_says_every_moment_once(watch: Watch) -> None:
    """Known and unknown together are the time that was asked about; the last moments are not told of yet."""
    watch.hello(watch.journal)
    watch.at(10)
    watch.happens(EventKind.DOOR_OPENED)
    watch.at(30)
    watch.happens(EventKind.JOURNAL_GAP)
    watch.at(50)
    watch.status()
    watch.at(70)
    begin, end = at_s(-20, 70)
    with watch.database.read() as connection:
        found = completeness.proven(connection, watch.now, since=begin, until=end, door_ids=[FRONT])
    (front,) = found
    assert [(stretch.since, stretch.until) for stretch in front.known] == [at_s(0, 10), at_s(30, 50)]
    assert [(hole.since, hole.until, hole.cause) for hole in front.unknown] == [
        (*at_s(-20, 0), Cause.NOT_THERE_YET),
        (*at_s(10, 30), Cause.JOURNAL_GAP),
        (*at_s(50, 70), Cause.NOT_TOLD_YET),
    ]
    assert front.covers(*at_s(31, 50))
    assert not front.covers(*at_s(9, 11))


_SECONDS = st.none() | st.integers(-50, 150)


@given(
    holes=st.lists(st.tuples(_SECONDS, _SECONDS, st.sampled_from(Cause)), max_size=8),
    known_until=_SECONDS,
    window=st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted),
)
def test_no_moment_is_known_that_lies_in_a_hole(
    holes: list[tuple[int | None, int | None, Cause]], known_until: int | None, window: list[int]
) -> None:
    """For any holes: a moment is known exactly when it lies in none, and before what is accounted for."""

    def moment(second: int | None) -> datetime | None:
        return None if second is None else NOW + second * SECOND

    since, until = (NOW + second * SECOND for second in window)
    found = completeness.account(
        FRONT,
        "Front",
        [Hole(since=moment(a), until=moment(b), cause=cause) for a, b, cause in holes],
        known_until=moment(known_until),
        since=since,
        until=until,
    )
    for second in range(window[0], window[1]):
        in_hole = any(
            (a is None or a <= second or (b is not None and b <= second))
            and (b is None or second < b or (a is not None and second <= a))
            for a, b, _ in holes
        )
        told = known_until is not None and second < known_until
        at = NOW + second * SECOND
        assert any(each.since <= at < each.until for each in found.known) == (told and not in_hole)
        unknown = any(each.since <= at < each.until for each in found.unknown if each.since and each.until)
        assert unknown != (told and not in_hole)
    assert found.complete == (not found.unknown)


def test_a_retired_controllers_door_is_still_listed(watch: Watch) -> None:
    """A door keeps its record, incomplete, when its controller is retired."""
    with watch.database.write() as connection:
        controllers.retire(connection, YARD, datetime(2026, 3, 2, tzinfo=UTC))
    door = watch.door(FAR)
    assert (door.complete, door.unknown_since) == (False, None)
