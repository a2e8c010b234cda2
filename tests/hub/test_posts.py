"""Posts: what opens doors and for how long, and that each end of a watch closes every one of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hub.commands import Order
from hub.operators import Principal, digest
from hub.post_leases import LEASE
from hub.posts import PAGE_GONE_AFTER, Over, Posts, PostTaken, Viewing
from hub.roles import Role
from hub.store import commands as command_store
from hub.store import operators
from hub.store import posts as store
from hub.store.audit import oldest_first
from hub.store.errors import InUse, NotFound
from hub.store.operators import OperatorRow
from hub.store.posts import DoorStanding, Ended, Post
from pacs.commands import Action, Command
from pacs.events import EventKind
from pacs.identifiers import DoorId, PostId, SiteId
from pacs.reason import Reason
from pacs.rules import DoorMode
from tests.hub.databases import SITE
from tests.hub.test_attendance import NOON, Desk

GATE = PostId("gate")
FRONT, YARD = DoorId("front"), DoorId("yard")
ASKS_S, WITHIN_S = 900, 60


def principal(name: str, **more: Any) -> Principal:
    return Principal(actor=f"operator:{name}", name=name.title(), role=Role.GUARD, expires_at=None, **more)


class Gate:
    """One post of two doors, watched by whoever a test says, at a clock that it moves."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.sessions = {digest(each): principal(each) for each in ("anna", "bo")}
        self.posts = Posts(
            desk.database,
            desk.commands,
            lambda: desk.now,
            whose=lambda session_hash, _now: self.sessions.get(session_hash),
        )
        with desk.database.write() as connection:
            for each in ("anna", "bo"):
                operators.add_operator(
                    connection,
                    OperatorRow(
                        id=each, name=each.title(), name_key=each, role=Role.GUARD, password_hash=None,
                        sites=None, created_at=NOON, disabled_at=None,
                    ),
                )  # fmt: skip
            store.put(connection, a_post())

    def sign_on(self, who: str = "anna", **how: Any) -> Viewing:
        self.posts.sign_on(principal(who), who, GATE, **how)
        return self.posts.open_page(principal(who), who, GATE)

    def later(self, seconds: float, *viewings: Viewing) -> None:
        """Time passes, with these pages open."""
        self.desk.now += timedelta(seconds=seconds)
        for each in viewings:
            self.posts.seen(each)
        self.posts.tend()

    def sent(self) -> list[Command]:
        """The commands since the last time."""
        found = self.desk.commands_sent[:]
        self.desk.commands_sent.clear()
        return found

    def judged(
        self,
        command: Command,
        kind: EventKind = EventKind.COMMAND_EXECUTED,
        reason: Reason = Reason.COMMANDED,
    ) -> None:
        self.desk.at[str(command.door_id)].judged(command, kind, reason)

    def standing(self, door_id: DoorId = FRONT) -> DoorStanding:
        with self.desk.database.read() as connection:
            is_watched = store.watch_at(connection, GATE) is not None
            found = {each.door_id: each for each in store.doors_of(connection, GATE)}
        return found[door_id].standing(self.desk.now, is_watched=is_watched)

    def ended(self) -> Ended | None:
        with self.desk.database.read() as connection:
            return store.get(connection, GATE).ended

    def over(self, viewing: Viewing, who: str = "anna") -> Over | None:
        with self.desk.database.read() as connection:
            return self.posts.over(connection, viewing, self.sessions.get(digest(who)))


def a_post(**more: Any) -> Post:
    settings: dict[str, Any] = {
        "id": GATE, "site_id": SITE, "name": "Gate", "door_ids": (FRONT, YARD), "asks_every_s": ASKS_S,
        "answer_within_s": WITHIN_S, "shown_s": 10, "created_at": NOON,
    }  # fmt: skip
    return Post(**settings | more)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    desk = Desk(tmp_path, "front", "yard")
    yield Gate(desk)
    desk.database.close()


def test_signing_on_opens_every_door_for_one_lease(gate: Gate) -> None:
    """Each is open as soon as its own controller has said so, and not before."""
    gate.sign_on()
    sent = gate.sent()
    assert [(each.action, each.door_id, each.until) for each in sent] == [
        (Action.OPEN_POST, FRONT, NOON + LEASE),
        (Action.OPEN_POST, YARD, NOON + LEASE),
    ]
    assert (gate.standing(FRONT), gate.standing(YARD)) == (DoorStanding.OPENING, DoorStanding.OPENING)
    gate.judged(sent[0])
    assert (gate.standing(FRONT), gate.standing(YARD)) == (DoorStanding.OPEN, DoorStanding.OPENING)


def test_leases_are_renewed_until_the_answer_is_due(gate: Gate) -> None:
    """A door that answers stays open without a gap; no lease outlasts the question, and the audit log has one entry a door."""
    page = gate.sign_on()
    for each in gate.sent():
        gate.judged(each)
    ends = NOON + timedelta(seconds=ASKS_S + WITHIN_S)
    newest = NOON + LEASE
    while gate.desk.now < ends - timedelta(seconds=20):
        gate.later(20, page)
        sent = gate.sent()
        for each in sent:
            assert each.until is not None
            assert gate.desk.now < newest < each.until <= ends
            assert gate.standing(each.door_id) is DoorStanding.OPEN
            gate.judged(each)
        newest = max([newest, *(each.until for each in sent if each.until)])
        assert gate.standing() is DoorStanding.OPEN
    assert newest == ends
    with gate.desk.database.read() as connection:
        given = [each for each in oldest_first(connection) if each.action == "command.give"]
        kept = command_store.of_door(connection, FRONT, limit=100)
    assert len(given) == 2
    assert len(kept) <= 3


def test_saying_that_one_is_there_goes_on(gate: Gate) -> None:
    """The next question comes as long after it."""
    page = gate.sign_on()
    gate.later(ASKS_S + WITHIN_S - 1, page)
    gate.posts.confirm(principal("anna"), "anna", GATE)
    gate.later(ASKS_S + WITHIN_S - 1, page)
    assert gate.over(page) is None
    gate.later(1, page)
    assert (gate.over(page), gate.ended()) == (Over.NOT_ANSWERED, Ended.NOT_ANSWERED)
    with pytest.raises(NotFound):
        gate.posts.confirm(principal("anna"), "anna", GATE)


@pytest.mark.parametrize("how", Ended)
def test_every_end_closes_what_may_be_open(gate: Gate, how: Ended) -> None:
    """Each has one outcome at the doors, on the page and on record; only a colleague who takes over keeps them open."""
    page = gate.sign_on()
    gate.sent()
    match how:
        case Ended.SIGNED_OFF:
            gate.posts.sign_off(principal("anna"), "anna", GATE)
        case Ended.NOT_ANSWERED:
            gate.later(ASKS_S + WITHIN_S, page)
        case Ended.SESSION_OVER:
            del gate.sessions[digest("anna")]
            gate.later(1, page)
        case Ended.PAGE_GONE:
            gate.later(PAGE_GONE_AFTER.total_seconds())
        case Ended.TAKEN_OVER:
            with pytest.raises(PostTaken, match="Somebody else") as raised:
                gate.sign_on("bo")
            assert raised.value.by == "Anna"
            gate.sign_on("bo", take_over=True)
    expected = {
        Ended.TAKEN_OVER: ({Action.OPEN_POST}, None),
        Ended.NOT_ANSWERED: (set(), how),  # the last lease ended with the time to answer
    }.get(how, ({Action.CLOSE_POST}, how))
    if how is Ended.NOT_ANSWERED:
        gate.sent()
    assert ({each.action for each in gate.sent()}, gate.ended()) == expected
    assert gate.over(page) is {
        Ended.TAKEN_OVER: Over.TAKEN_OVER, Ended.NOT_ANSWERED: Over.NOT_ANSWERED,
    }.get(how, Over.ENDED)  # fmt: skip
    with gate.desk.database.read() as connection:
        (entry,) = [each for each in oldest_first(connection) if each.action == "post.sign_off"]
    assert (entry.detail["why"], entry.detail["of"]) == (how.value, "operator:anna")
    assert entry.actor == {
        Ended.SIGNED_OFF: "operator:anna", Ended.TAKEN_OVER: "operator:bo",
    }.get(how, "system")  # fmt: skip


def test_a_door_that_does_not_answer_closes_by_itself(gate: Gate) -> None:
    """It is said to be open for as long as its lease may last, and closed then."""
    gate.sign_on()
    front, _ = gate.sent()
    gate.judged(front)
    gate.later(5)
    gate.posts.sign_off(principal("anna"), "anna", GATE)
    assert (gate.standing(FRONT), gate.standing(YARD)) == (DoorStanding.CLOSING, DoorStanding.CLOSING)
    closing, _ = gate.sent()
    gate.judged(closing)
    assert (gate.standing(FRONT), gate.standing(YARD)) == (DoorStanding.CLOSED, DoorStanding.CLOSING)
    gate.desk.now = NOON + LEASE
    assert gate.standing(YARD) is DoorStanding.CLOSED


def test_what_was_overtaken_is_not_sent_again(gate: Gate) -> None:
    """Nobody opens a door by a command that is older than the one that closed it; nor than an order."""
    gate.sign_on()
    gate.later(5)
    gate.posts.sign_off(principal("anna"), "anna", GATE)
    with gate.desk.database.read() as connection:
        pending = command_store.pending(connection, gate.desk.now)
    assert [each.action for each in pending] == [Action.CLOSE_POST, Action.CLOSE_POST]


def test_an_order_closes_the_post_at_its_door_until_somebody_opens_it_again(gate: Gate) -> None:
    """A lockdown is never lifted by a renewal."""
    page = gate.sign_on()
    for each in gate.sent():
        gate.judged(each)
    gate.later(1, page)
    order = Order(door_id=FRONT, action=Action.SET_MODE, mode=DoorMode.LOCKDOWN)
    gate.desk.commands.give(order, reason="Fight", actor="operator:bo")
    gate.sent()
    gate.later(LEASE.total_seconds() - 60, page)
    assert [each.door_id for each in gate.sent()] == [YARD]
    assert (gate.standing(FRONT), gate.standing(YARD)) == (DoorStanding.ORDERED, DoorStanding.OPEN)
    gate.posts.open_again(principal("anna"), "anna", GATE)
    (again,) = gate.sent()
    assert (again.action, again.door_id) == (Action.OPEN_POST, FRONT)
    gate.judged(again, EventKind.COMMAND_REFUSED, Reason.COMMAND_OUT_OF_PLACE)
    assert gate.standing(FRONT) is DoorStanding.REFUSED
    gate.later(LEASE.total_seconds() - 60, page)
    assert [each.door_id for each in gate.sent()] == [YARD]


def test_a_controller_that_starts_anew_is_opened_again(gate: Gate) -> None:
    """A restart closes the post at its doors; nobody ordered that, and somebody watches."""
    page = gate.sign_on()
    for each in gate.sent():
        gate.judged(each)
    gate.desk.at["front"].record(EventKind.CONTROLLER_STARTED, door_id=None, side=None)
    gate.desk.deliver(gate.desk.at["front"].sent())
    assert gate.standing() is DoorStanding.OPENING
    gate.later(1, page)
    assert [each.door_id for each in gate.sent()] == [FRONT]


def test_a_hub_that_starts_anew_waits_for_the_page(gate: Gate) -> None:
    """As long as after any page that went: the doors' leases run on meanwhile."""
    gate.sign_on()
    gate.sent()
    gate.desk.now += 3 * PAGE_GONE_AFTER
    gate.posts._led_since = gate.desk.now
    gate.later(PAGE_GONE_AFTER.total_seconds() - 1)
    assert gate.ended() is None
    gate.later(1)
    assert gate.ended() is Ended.PAGE_GONE


def test_one_page_of_a_session_shows_who_passes(gate: Gate) -> None:
    """The one that was opened last; and nobody watches at two posts."""
    first = gate.sign_on()
    second = gate.posts.open_page(principal("anna"), "anna", GATE)
    assert (gate.over(first), gate.over(second)) == (Over.ELSEWHERE, None)


def test_a_door_belongs_to_one_post(gate: Gate) -> None:
    """And to its site's; who does not see the site sees no post."""
    with gate.desk.database.write() as connection, pytest.raises(InUse, match="post gate"):
        store.put(connection, a_post(id=PostId("other")))
    with gate.desk.database.write() as connection, pytest.raises(NotFound, match="door attic"):
        store.put(connection, a_post(door_ids=(DoorId("attic"),)))
    stranger = principal("bo", sites=frozenset({SiteId("elsewhere")}))
    with pytest.raises(NotFound):
        gate.posts.sign_on(stranger, "bo", GATE)
