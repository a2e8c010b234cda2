"""Anti-passback, its forgiveness, and the first person of the day, as a controller sees them happen."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.controller import DoorController
from edge.effects import Effect, EndHold, HoldStrike
from edge.inputs import (
    DocumentAccepted,
    FireChanged,
    Input,
    ReaderLost,
    ReaderRestored,
    ReadFailed,
    RecordFailed,
    RexPressed,
)
from pacs.commands import Action
from pacs.events import EventKind
from pacs.identifiers import AreaId, ControllerId, CredentialId, DoorId
from pacs.modes import ModeCause
from pacs.reason import ReadFault, Reason
from pacs.rules import Antipassback, Door, DoorMode, ModeRule, Side, WhenClockUntrusted
from tests.edge.at_the_door import (
    accept,
    accepted,
    closed_door,
    commanded,
    details,
    drafts,
    kinds,
    make,
    opened,
    presented,
    reasons,
    refused,
    released,
    ticked,
)
from tests.edge.small_site import AFTERNOON, BACK, FRONT, RESIDENT, STAFF, STAFF_LEVEL, now

HOUSE, YARD = AreaId("house"), AreaId("yard")
HARD: dict[str, Any] = {"area": HOUSE, "outside": YARD, "antipassback": Antipassback.HARD}
BOTH: dict[str, Any] = {**HARD, "back": HARD}
FORGIVEN = EventKind.ANTIPASSBACK_FORGIVEN
FIRST: dict[str, Any] = {"first_person_levels": frozenset({STAFF_LEVEL})}


REX = RexPressed(door_id=FRONT)


def enters(controller: DoorController, after_s: float = 0.0, **where: Any) -> list[Effect]:
    """Somebody taps and goes through; the answer to the tap."""
    effects = controller.on(presented(**where), now(after_s))
    at = where.get("at", FRONT)
    if released(effects):
        controller.on(opened(at), now(after_s + 0.5))
        controller.on(opened(at, is_open=False), now(after_s + 1))
    return effects


# ---- entered and not seen leaving


@pytest.mark.parametrize(
    ("rule", "after_s", "reason"),
    [
        ({"antipassback": Antipassback.OFF}, 10, Reason.ENTITLED),
        ({"antipassback": Antipassback.SOFT}, 10, Reason.ANTIPASSBACK_SOFT),
        ({"antipassback": Antipassback.HARD}, 10, Reason.ANTIPASSBACK_HARD),
        ({"antipassback": Antipassback.HARD}, 9 * 3_600, Reason.ANTIPASSBACK_HARD),
        ({"antipassback": Antipassback.TIMED, "antipassback_s": 60}, 10, Reason.ANTIPASSBACK_TIMED),
        ({"antipassback": Antipassback.TIMED, "antipassback_s": 60}, 61, Reason.ENTITLED),
    ],
)
def test_a_card_that_is_inside_comes_again(rule: dict[str, Any], after_s: float, reason: Reason) -> None:
    """What the door's rule says; the event names it."""
    controller = closed_door(**HARD | rule, max_policy_age_s=86_400)
    enters(controller)
    assert reasons(controller.on(presented(), now(after_s))) == [reason]
    assert reasons(controller.on(presented(STAFF), now(after_s))) == [Reason.ENTITLED]


def test_who_leaves_may_enter_again_by_any_door_of_the_area() -> None:
    """In by the front, out by the back, in by the back, and not in again."""
    controller = closed_door(**BOTH)
    enters(controller)
    assert reasons(controller.on(presented(at=BACK), now(5))) == [Reason.ANTIPASSBACK_HARD]
    enters(controller, 10, at=BACK, side=Side.EXIT)
    assert reasons(enters(controller, 20, at=BACK)) == [Reason.ENTITLED]
    assert reasons(controller.on(presented(), now(30))) == [Reason.ANTIPASSBACK_HARD]


def test_who_was_granted_and_did_not_go_through_did_not_enter() -> None:
    """Counted when the door opens within the release, not before, and not when it opens later."""
    controller = closed_door(**HARD)
    for after_s in (0, 1, 2):
        assert reasons(controller.on(presented(), now(after_s)))[-1] is Reason.ENTITLED
    ticked(controller, 30)
    controller.on(opened(), now(40))
    controller.on(opened(is_open=False), now(41))
    assert reasons(controller.on(presented(), now(50))) == [Reason.ENTITLED]


@pytest.mark.parametrize("without", ["contact", "closed"])
@pytest.mark.parametrize("rule", [HARD, HARD | {"antipassback": Antipassback.TIMED, "antipassback_s": 60}])
def test_where_no_contact_sees_who_goes_through_nobody_is_held_to_be_inside(
    without: str, rule: dict[str, Any]
) -> None:
    """Without a contact, or with the door standing open already, a second tap is said and admitted: nobody knows."""
    controller = make(has_contact=without != "contact", **rule)
    if without == "closed":
        controller.on(opened(is_open=False), now())
        controller.on(presented(STAFF), now())
        controller.on(opened(), now(1))
    controller.on(presented(), now(2))
    assert reasons(controller.on(presented(), now(10))) == [Reason.ANTIPASSBACK_SOFT]
    controller.on(presented(side=Side.EXIT), now(20))
    assert reasons(controller.on(presented(), now(30))) == [Reason.ENTITLED]


def test_who_is_let_out_is_out_whatever_the_contact_says() -> None:
    """Somebody held the door, the contact is stuck, or they went by another way: not held against them."""
    controller = closed_door(**HARD, back={"area": YARD, "antipassback": Antipassback.HARD})
    enters(controller)
    controller.on(presented(side=Side.EXIT), now(10))
    ticked(controller, 20)
    assert reasons(controller.on(presented(), now(30))) == [Reason.ENTITLED]
    assert reasons(controller.on(presented(at=BACK), now(30))) == [Reason.ENTITLED]


OTHERS: list[Input] = [
    presented(STAFF, side=Side.EXIT),
    RexPressed(door_id=FRONT),
    refused(side=Side.EXIT),
    commanded(Action.UNLOCK_ONCE),
]


@pytest.mark.parametrize("other", OTHERS, ids=["card", "press", "unread", "command"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_one_opening_for_people_on_both_sides_counts_nobody(other: Input, first: bool) -> None:
    """Who opened it nobody knows: whoever stayed outside is let in, who came to be inside the other area too."""
    controller = closed_door(
        **HARD, back={"area": YARD, "antipassback": Antipassback.HARD}, first_person_levels=frozenset()
    )
    enters(controller, 0, at=BACK)  # in the yard, which the front's exit side is in
    for number, happened in enumerate([other, presented()] if first else [presented(), other]):
        controller.on(happened, now(100 + number))
    controller.on(opened(), now(103))
    controller.on(opened(is_open=False), now(104))
    assert reasons(controller.on(presented(), now(200))) == [Reason.ENTITLED]
    assert reasons(controller.on(presented(at=BACK), now(200))) == [Reason.ENTITLED]


def test_who_was_forgotten_because_of_another_is_told() -> None:
    """With the area they were said to be in; and the next opening is clear again."""
    controller = closed_door(**HARD, back={"area": YARD})
    enters(controller, 0, at=BACK)
    controller.on(presented(), now(100))
    controller.on(presented(STAFF, side=Side.EXIT), now(101))
    told = controller.on(opened(), now(102))
    assert details(told, FORGIVEN) == [{"area": "yard", "cause": "overlapped", "count": 1}]
    controller.on(opened(is_open=False), now(103))
    enters(controller, 110)
    assert reasons(controller.on(presented(), now(120))) == [Reason.ANTIPASSBACK_HARD]


@pytest.mark.parametrize("other", [RexPressed(door_id=FRONT), commanded(Action.UNLOCK_ONCE)])
def test_who_came_in_between_a_press_and_its_opening_is_forgiven_at_the_opening(other: Input) -> None:
    """They may be the one who left by it; not when the door stays closed."""
    for opens in (True, False):
        controller = closed_door(**BOTH)
        controller.on(other, now())
        enters(controller, 1, at=BACK)
        told = controller.on(opened(), now(4)) if opens else ticked(controller, 6)
        assert [found["count"] for found in details(told, FORGIVEN)] == ([1] if opens else [])
        expected = Reason.ENTITLED if opens else Reason.ANTIPASSBACK_HARD
        assert reasons(controller.on(presented(at=BACK), now(20)))[-1] is expected


def test_a_first_person_who_may_have_stayed_outside_is_none() -> None:
    """Somebody left by the same opening: the others wait for another one."""
    controller = closed_door(**FIRST)
    controller.on(presented(STAFF), now())
    controller.on(REX, now(1))
    controller.on(opened(), now(2))
    controller.on(opened(is_open=False), now(3))
    assert reasons(controller.on(presented(), now(10))) == [Reason.FIRST_PERSON_AWAITED]


def test_a_grant_whose_decision_failed_moves_nobody() -> None:
    """A fault of our own between the decision and the strike; and one behind it costs no later input."""
    controller = make(has_contact=False, **HARD)
    door = controller._premises.doors[FRONT]

    def fails(*_: object, **__: object) -> tuple[Effect, ...]:
        raise RuntimeError

    release, door.release = door.release, fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        controller.on(presented(), now())
    door.release = release  # type: ignore[method-assign]
    controller._premises.presence.passed = fails  # type: ignore[assignment, method-assign]
    assert reasons(controller.on(presented(), now(1))) == [Reason.ENTITLED]
    assert kinds(controller.on(presented(STAFF), now(2))) == [
        EventKind.INTERNAL_FAULT,
        EventKind.ACCESS_GRANTED,
    ]


def test_a_grant_that_could_not_be_recorded_moves_nobody() -> None:
    """Who was not let in is not inside."""
    controller = make(has_contact=False, **HARD)
    (granted,) = drafts(controller.on(presented(), now()))
    controller.on(RecordFailed(draft=granted), now())
    assert reasons(controller.on(presented(), now(1))) == [Reason.ENTITLED]


def test_a_restart_forgives_everybody_and_says_nothing() -> None:
    """The memory is that of the process; nobody is said to have been forgiven by one that never knew."""
    enters(closed_door(**HARD))
    assert reasons(enters(closed_door(**HARD))) == [Reason.ENTITLED]


# ---- who could have passed unseen


LOST, FOUND = (
    ReaderLost(door_id=FRONT, side=Side.EXIT, cause="silent"),
    ReaderRestored(door_id=FRONT, side=Side.EXIT),
)


@pytest.mark.parametrize(
    ("happened", "cause"),
    [
        ([REX], "exit_requested"),
        ([refused(side=Side.EXIT)], "exit_requested"),
        ([ReadFailed(door_id=FRONT, side=Side.EXIT, fault=ReadFault.CARD_GONE)], "exit_requested"),
        ([commanded(Action.UNLOCK_ONCE)], "commanded"),
        ([opened(), opened(is_open=False)], "forced"),
        ([FireChanged(active=True), FireChanged(active=False)], "fire"),
        ([LOST, FOUND], "reader_lost"),
        (
            [commanded(Action.SET_MODE, mode=DoorMode.UNLOCKED), commanded(Action.CLEAR_MODE)],
            "unlocked",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_area_is_forgiven_when_somebody_could_have_left_unseen(happened: list[Input], cause: str) -> None:
    """Recorded once with how many it was about; the card is let in again."""
    controller = closed_door(**HARD)
    enters(controller)
    enters(controller, 3, who=STAFF)
    forgiven = [
        found
        for number, one in enumerate(happened)
        for found in details(controller.on(one, now(10 + number)), FORGIVEN)
    ]
    assert forgiven == [{"area": "house", "cause": cause, "count": 2}]
    assert reasons(controller.on(presented(), now(20)))[-1] is Reason.ENTITLED


def test_a_door_held_open_forgives_from_the_alarm_on() -> None:
    """Not before: one person may take their time."""
    controller = closed_door(**HARD, held_open_after_s=10)
    controller.on(presented(), now())
    controller.on(opened(), now(1))
    assert details(ticked(controller, 6), FORGIVEN) == []
    assert details(ticked(controller, 11), FORGIVEN) == [{"area": "house", "cause": "held", "count": 1}]


def test_nothing_is_said_when_nobody_had_to_be_forgiven() -> None:
    """An empty area, a door without one, another area."""
    empty, without = closed_door(**HARD), closed_door()
    elsewhere = closed_door(**HARD, back={**HARD, "area": AreaId("shed")})
    enters(elsewhere)
    assert kinds(empty.on(REX, now(9))) == [EventKind.EXIT_REQUESTED]
    assert kinds(without.on(REX, now(9))) == [EventKind.EXIT_REQUESTED]
    assert kinds(elsewhere.on(RexPressed(door_id=BACK), now(9))) == [EventKind.EXIT_REQUESTED]


def test_a_press_forgives_who_could_have_left_and_not_who_left_before() -> None:
    """One goes out by it, nobody comes in: those seen in the yard stay there."""
    controller = closed_door(**HARD, back={"area": YARD, "antipassback": Antipassback.HARD})
    enters(controller, 0, at=BACK)
    assert details(controller.on(REX, now(10)), FORGIVEN) == []
    assert reasons(controller.on(presented(at=BACK), now(20))) == [Reason.ANTIPASSBACK_HARD]
    assert details(controller.on(commanded(Action.UNLOCK_ONCE), now(30)), FORGIVEN) == [
        {"area": "yard", "cause": "commanded", "count": 1}
    ]


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (FireChanged(active=True), FireChanged(active=False)),
        (LOST, FOUND),
        (commanded(Action.SET_MODE, at=FRONT, mode=DoorMode.UNLOCKED), commanded(Action.CLEAR_MODE)),
        (opened(), opened(is_open=False)),
    ],
    ids=["fire", "reader lost", "unlocked", "forced"],
)
def test_while_one_door_can_be_passed_unseen_nobody_counts_as_inside(begins: Input, ends: Input) -> None:
    """Also who entered meanwhile by another door, and at its end they are forgiven, because they may have left."""
    controller = closed_door(**BOTH)
    controller.on(begins, now())
    enters(controller, 1, at=BACK)
    assert reasons(enters(controller, 5, at=BACK))[-1] is Reason.ENTITLED
    ended = controller.on(ends, now(10))
    assert [found["count"] for found in details(ended, FORGIVEN)] == [1]
    assert reasons(enters(controller, 20, at=BACK))[-1] is Reason.ENTITLED
    assert reasons(controller.on(presented(at=BACK), now(30))) == [Reason.ANTIPASSBACK_HARD]


def with_far_door(**rules: Any) -> DocumentAccepted:
    """Both doors in the house, and one at another controller; None: nowhere."""
    document = accepted(**BOTH)
    assert document.policy is not None
    doors = dict(document.policy.doors)
    far = Door(id=DoorId("far"), controller_id=ControllerId("c2"), **rules)
    return replace(document, policy=replace(document.policy, doors={**doors, far.id: far}))


@pytest.mark.parametrize("far", [{"area": HOUSE}, {"outside": HOUSE}])
def test_an_area_that_another_controller_leads_into_holds_nobody(far: dict[str, Any]) -> None:
    """What is seen at its doors is not known here; nor who of those is inside when that ends."""
    controller = closed_door(**BOTH)
    controller.on(with_far_door(**far), now())
    enters(controller)
    assert reasons(controller.on(presented(), now(5))) == [Reason.ENTITLED]
    ticked(controller, 20)
    controller.on(with_far_door(), now(21))
    assert reasons(controller.on(presented(), now(30))) == [Reason.ENTITLED]


@pytest.mark.parametrize(
    ("before", "since"),
    [
        (HARD, HARD | {"back": HARD}),
        (HARD | {"back": HARD}, HARD),
        (HARD | {"back": HARD}, {**HARD, "area": YARD, "outside": None, "back": HARD}),
        (HARD, HARD | {"back": {"outside": HOUSE}}),
    ],
    ids=["a door joins", "a door leaves", "a door leads elsewhere", "a way out joins"],
)
def test_an_area_with_other_doors_is_forgiven(before: dict[str, Any], since: dict[str, Any]) -> None:
    """Nobody was seen leaving by a door that was none of its, and who was is not known to be where it leads."""
    controller = closed_door(**before)
    enters(controller)
    effects = accept(controller, now(10), **since)
    assert details(effects, FORGIVEN) == [{"area": "house", "cause": "policy_changed", "count": 1}]
    enters(controller, 20, at=FRONT if since.get("area") == HOUSE else BACK)
    assert details(accept(controller, now(30), **since, attended_timeout_s=50), FORGIVEN) == []


def test_the_wall_clock_has_no_say_in_how_long_ago_somebody_entered() -> None:
    """Set back or forward by days: the same."""
    timed = HARD | {"antipassback": Antipassback.TIMED, "antipassback_s": 60}
    for wall_after_s in (-5_000.0, 5_000.0):
        controller = closed_door(**timed)
        enters(controller)
        effects = controller.on(presented(), now(30, wall_after_s=wall_after_s))
        assert reasons(effects) == [Reason.ANTIPASSBACK_TIMED]
        effects = controller.on(presented(), now(61, wall_after_s=wall_after_s))
        assert reasons(effects) == [Reason.ENTITLED]


UNSEEN: st.SearchStrategy[Input] = st.sampled_from(
    [
        REX,
        LOST,
        FOUND,
        FireChanged(active=True),
        FireChanged(active=False),
        opened(),
        opened(is_open=False),
        refused(side=Side.EXIT),
        commanded(Action.UNLOCK_ONCE),
    ]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(UNSEEN, st.sampled_from(["in", "in", "out"])), max_size=20))
def test_nobody_is_held_to_be_inside_after_a_way_out_that_nobody_saw(steps: list[Any]) -> None:
    """A card is denied only if it was seen entering by the back, and nothing at the front since could have let it out."""
    controller = closed_door(**BOTH)
    inside = is_lost = False
    for number, step in enumerate(steps):
        at_s = 100.0 * number
        if step == "in":
            denied = Reason.ANTIPASSBACK_HARD in reasons(enters(controller, at_s, at=BACK))
            assert inside or not denied
            unseen = is_lost or bool(controller.snapshot(now(at_s + 1))[0].alarms)
            inside = denied or not unseen
        elif step == "out":
            enters(controller, at_s, at=BACK, side=Side.EXIT)
            inside = False
        else:
            controller.on(step, now(at_s))
            inside = inside and step == FOUND and not is_lost
            is_lost = (is_lost or step == LOST) and step != FOUND


class Possible:
    """Where the resident can be, for all that the doors of the house could see: what R2 lets a door hold against them.

    Whoever goes behind somebody else is beyond it, and whoever is granted alone on their side goes through what opens.
    """

    def __init__(self) -> None:
        self.places = {"outside"}
        self.doors = {FRONT, BACK}
        self.until_s = {FRONT: 0.0, BACK: 0.0}
        self.awaited: dict[DoorId, set[tuple[CredentialId, Side]]] = {FRONT: set(), BACK: set()}
        self.unknown: set[DoorId] = set()
        self.standing: dict[DoorId, bool] = {FRONT: False, BACK: False}

    def time_is(self, at_s: float) -> None:
        for at in (FRONT, BACK):
            if at_s > self.until_s[at] + 0.5:
                self.awaited[at].clear()
                self.unknown.discard(at)

    def granted(self, who: CredentialId, at: DoorId, side: Side, at_s: float) -> None:
        self.until_s[at] = max(self.until_s[at], at_s + 5)
        if not self.standing[at]:
            self.awaited[at].add((who, side))
        if at in self.doors and who == RESIDENT:
            if side is Side.EXIT:
                self.places.add("outside")
            elif self.standing[at]:
                self.places.add("inside")

    def released(self, at: DoorId, at_s: float) -> None:
        self.until_s[at] = max(self.until_s[at], at_s + 5)
        self.unknown.add(at)

    def opens(self, at: DoorId, at_s: float) -> None:
        if self.standing[at]:
            return
        self.standing[at] = True
        people, unknown = set(self.awaited[at]), at in self.unknown
        self.awaited[at].clear()
        self.unknown.discard(at)
        if at not in self.doors:
            return
        sides = {side for _, side in people}
        if unknown or at_s > self.until_s[at] + 0.5:
            self.places.add("outside")
        if (RESIDENT, Side.ENTRY) in people:
            alone = sides == {Side.ENTRY} and not unknown
            self.places = {"inside"} if alone else self.places | {"inside", "outside"}

    def anybody_may_leave(self) -> None:
        self.places.add("outside")


AT = st.sampled_from([FRONT, BACK])
ENTRY, EXIT = Side.ENTRY, Side.EXIT
COMES = st.tuples(st.just("tap"), st.just(RESIDENT), AT, st.just(ENTRY))
STEP = st.one_of(
    COMES,
    st.tuples(st.just("tap"), st.sampled_from([RESIDENT, STAFF]), AT, st.sampled_from(Side)),
    st.tuples(st.sampled_from(["opens", "closes", "press", "command"]), AT),
    st.tuples(st.just("policy"), st.sampled_from([{}, HARD])),
)
GOES_IN = AT.map(lambda at: [("tap", RESIDENT, at, ENTRY), ("opens", at), ("closes", at)])
AT_ONE_DOOR = AT.flatmap(
    lambda at: st.permutations(
        [("tap", RESIDENT, at, ENTRY), ("tap", STAFF, at, EXIT), ("press", at), ("command", at)]
    ).map(lambda order: [*order[:2], ("opens", at), ("closes", at)])
)
PAUSES = st.sampled_from([0.1, 0.4, 1.0, 3.0, 6.0, 40.0])
STEPS = st.lists(st.one_of(STEP.map(lambda step: [step]), GOES_IN, AT_ONE_DOOR), max_size=6).map(
    lambda parts: [step for part in parts for step in part]
)


@settings(max_examples=300, deadline=None)
@given(STEPS, COMES, st.lists(PAUSES, min_size=26, max_size=26))
def test_nobody_is_denied_who_can_be_outside(happening: list[Any], last: Any, pauses: list[float]) -> None:
    """Taps, presses, commands, openings and policies in any order, several within one release."""
    steps = [*zip(pauses, happening, strict=False), (40.0, last)]
    controller, possible, at_s = closed_door(**BOTH), Possible(), 0.0
    for pause_s, (what, *where) in steps:
        at_s += pause_s
        ticked(controller, at_s)
        possible.time_is(at_s)
        if any({"door_forced", "door_held"} & set(door.alarms) for door in controller.snapshot(now(at_s))):
            possible.anybody_may_leave()
        if what == "tap":
            who, at, side = where
            found = reasons(controller.on(presented(who, at=at, side=side), now(at_s)))
            if Reason.ANTIPASSBACK_HARD in found:
                assert who != RESIDENT or possible.places == {"inside"}
            else:
                possible.granted(who, at, side, at_s)
        elif what == "policy":
            accept(controller, now(at_s), **HARD, back=where[0])
            if possible.doors != (doors := {FRONT, BACK} if where[0] else {FRONT}):
                possible.doors = doors
                possible.places = {"inside", "outside"}
        elif what == "opens":
            controller.on(opened(where[0]), now(at_s))
            possible.opens(where[0], at_s)
        elif what == "closes":
            controller.on(opened(where[0], is_open=False), now(at_s))
            possible.standing[where[0]] = False
        else:
            happened = (
                RexPressed(door_id=where[0]) if what == "press" else commanded(Action.UNLOCK_ONCE, where[0])
            )
            controller.on(happened, now(at_s))
            possible.released(where[0], at_s)


# ---- the first person


UNLOCKING = {**FIRST, "mode_rules": (ModeRule(schedule_id=AFTERNOON, mode=DoorMode.UNLOCKED),)}
IN_WINDOW_S = 3_600.0


def test_nobody_enters_before_the_first_person_has() -> None:
    """Granted is not yet entered: the door has to open."""
    controller = closed_door(**FIRST)
    assert reasons(controller.on(presented(), now())) == [Reason.FIRST_PERSON_AWAITED]
    assert reasons(controller.on(presented(STAFF), now(1))) == [Reason.ENTITLED]
    assert reasons(controller.on(presented(), now(2))) == [Reason.FIRST_PERSON_AWAITED]
    controller.on(opened(), now(3))
    assert reasons(controller.on(presented(), now(4))) == [Reason.ENTITLED]


def test_a_schedule_unlocks_the_door_once_the_first_person_is_in() -> None:
    """Not by the hour alone; and locks it again at its end. The mode and its cause are recorded."""
    controller = closed_door(**UNLOCKING)
    assert HoldStrike(door_id=FRONT) not in ticked(controller, IN_WINDOW_S)
    controller.on(presented(STAFF), now(IN_WINDOW_S + 1))
    effects = controller.on(opened(), now(IN_WINDOW_S + 2))
    assert HoldStrike(door_id=FRONT) in effects
    changed = {"mode": "unlocked", "cause": ModeCause.SCHEDULE.value, "by": AFTERNOON}
    assert details(effects, EventKind.DOOR_MODE_CHANGED) == [changed]
    over = ticked(controller, 2.5 * 3_600)
    assert EndHold(door_id=FRONT) in over
    assert details(over, EventKind.DOOR_MODE_CHANGED) == [{"mode": "secured", "cause": "policy"}]


def test_a_first_person_of_before_the_window_does_not_count() -> None:
    """Somebody has to come in each window."""
    controller = closed_door(**UNLOCKING)
    enters(controller, 0, who=STAFF)
    assert HoldStrike(door_id=FRONT) not in ticked(controller, IN_WINDOW_S)


def test_after_a_restart_the_first_person_comes_again() -> None:
    """What the process knew is gone, and a door that does not know stays shut."""
    enters(closed_door(**FIRST), 0, who=STAFF)
    assert reasons(closed_door(**FIRST).on(presented(), now(9))) == [Reason.FIRST_PERSON_AWAITED]


@pytest.mark.parametrize("step_s", [-3_600.0, 0.0, 3_600.0, -1.7e9])
@pytest.mark.parametrize(("came_s", "mode"), [(IN_WINDOW_S - 60, "unlocked"), (60.0, "secured")])
def test_a_clock_that_is_set_does_not_change_when_the_first_person_came(
    step_s: float, came_s: float, mode: str
) -> None:
    """A minute ago is in the window, an hour ago is not, whatever the clock showed then."""
    by_levels = {"when_clock_untrusted": WhenClockUntrusted.LEVELS_ONLY}
    controller = closed_door(**UNLOCKING, max_policy_age_s=86_400, **by_levels)
    then: dict[str, Any] = {"wall_after_s": came_s + step_s, "trusted": False}
    controller.on(presented(STAFF), now(came_s, **then))
    controller.on(opened(), now(came_s + 1, **then))
    controller.on(opened(is_open=False), now(came_s + 2, **then))
    ticked(controller, IN_WINDOW_S)
    assert controller.snapshot(now(IN_WINDOW_S))[0].mode == mode


def test_a_door_that_goes_by_levels_lets_the_first_person_in_on_any_clock() -> None:
    """And the others after them."""
    controller = closed_door(**FIRST, when_clock_untrusted=WhenClockUntrusted.LEVELS_ONLY)
    dark: dict[str, Any] = {"trusted": False, "wall_after_s": -timedelta(days=20_000).total_seconds()}
    assert reasons(controller.on(presented(), now(0, **dark))) == [Reason.FIRST_PERSON_AWAITED]
    controller.on(presented(STAFF), now(1, **dark))
    controller.on(opened(), now(2, **dark))
    assert reasons(controller.on(presented(), now(3, **dark))) == [Reason.ENTITLED]


def test_who_leaves_is_not_the_first_person() -> None:
    """Nor is anybody of another level."""
    controller = closed_door(**FIRST)
    enters(controller, 0, who=STAFF, side=Side.EXIT)
    enters(controller, 10, who=RESIDENT)
    assert reasons(controller.on(presented(), now(20))) == [Reason.FIRST_PERSON_AWAITED]


def test_an_interlocked_exit_and_a_change_of_rules_keep_what_is_known() -> None:
    """A newer document forgives nobody."""
    controller = closed_door(**HARD)
    enters(controller)
    accept(controller, now(5), **HARD)
    assert released(controller.on(presented(), now(10))) == []
