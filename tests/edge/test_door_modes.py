"""Modes by schedule and by command, interlocks, fire, tampering, and what is told of all that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.controller import DoorController
from edge.effects import (
    Effect,
    EndHold,
    Examine,
    HoldStrike,
    Indicate,
    LockStrike,
    ReleaseStrike,
    Signal,
    Sound,
)
from edge.inputs import (
    CardPresented,
    CommandAccepted,
    CommandRefused,
    ContactChanged,
    FireChanged,
    Input,
    ReadFailed,
    RecordFailed,
    RexPressed,
    Started,
    TamperChanged,
    Tick,
)
from pacs.commands import Action
from pacs.decision import door_refusal
from pacs.events import EventKind
from pacs.identifiers import DoorId
from pacs.modes import ModeCause, effective_mode
from pacs.reason import ReadFault, Reason
from pacs.rules import DoorMode, ModeRule, Side, WhenClockUntrusted, WhenUnlisted
from pacs.situation import ModeOrder, Situation
from tests.edge.at_the_door import (
    accept,
    accepted,
    answered,
    claimed,
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
from tests.edge.small_site import (
    AFTERNOON,
    ATTENDED,
    BACK,
    FRONT,
    NOON,
    RESIDENT,
    REVOKED,
    STAFF,
    STRANGER,
    credential,
    now,
)

CHANGED = EventKind.DOOR_MODE_CHANGED
BY_HOUR: dict[str, Any] = {"mode_rules": (ModeRule(schedule_id=AFTERNOON, mode=DoorMode.UNLOCKED),)}
AIRLOCK: dict[str, Any] = {"back": {}, "interlock_with": frozenset({BACK})}


def modes(controller: DoorController, after_s: float = 0.0) -> tuple[str, str]:
    """Mode and cause of the front door, as they are told."""
    front = controller.snapshot(now(after_s))[0]
    return front.mode, front.cause


# ---- by policy, by schedule, by command


def test_a_schedule_changes_the_mode_on_time_and_says_so() -> None:
    """From 13:30 to 14:30 of the site's clock: recorded with its cause, held and let go."""
    controller = closed_door(**BY_HOUR)
    assert modes(controller) == ("secured", "policy")
    assert ticked(controller, 1_799) == []
    begun = ticked(controller, 1_800)
    assert details(begun, CHANGED) == [{"mode": "unlocked", "cause": "schedule", "by": AFTERNOON}]
    assert HoldStrike(door_id=FRONT) in begun
    assert ticked(controller, 1_801) == []
    over = ticked(controller, 5_400)
    assert details(over, CHANGED) == [{"mode": "secured", "cause": "policy"}]
    assert EndHold(door_id=FRONT) in over


def test_a_mode_that_a_document_changes_is_recorded() -> None:
    """With the policy as its cause; a document that changes no mode says nothing about it."""
    controller = closed_door()
    controller.on(Started(), now())
    assert details(accept(controller, now(1)), CHANGED) == []
    locked = accept(controller, now(2), mode=DoorMode.LOCKDOWN)
    assert details(locked, CHANGED) == [{"mode": "lockdown", "cause": "policy"}]


@pytest.mark.parametrize("mode", DoorMode)
def test_a_command_sets_the_mode_until_it_is_cleared(mode: DoorMode) -> None:
    """Executed, recorded with the command as cause, told with it, and undone by the next command."""
    controller = closed_door()
    command = commanded(Action.SET_MODE, mode=mode)
    effects = controller.on(command, now())
    by = command.command.command_id.hex()
    assert kinds(effects)[:2] == [EventKind.COMMAND_EXECUTED, CHANGED]
    assert details(effects, CHANGED) == [{"mode": mode.value, "cause": "command", "by": by}]
    assert (HoldStrike(door_id=FRONT) in effects) is (mode is DoorMode.UNLOCKED)
    front, back = controller.snapshot(now())
    assert (front.mode, front.cause, front.by) == (mode.value, "command", by)
    assert back.mode == "secured"
    cleared = controller.on(commanded(Action.CLEAR_MODE), now(1))
    assert details(cleared, CHANGED) == [{"mode": "secured", "cause": "policy"}]
    assert modes(controller) == ("secured", "policy")


def test_an_ordered_mode_ends_when_its_time_does() -> None:
    """By itself, to the second; until then the end is told."""
    controller = closed_door()
    until = NOON + timedelta(seconds=90)
    controller.on(commanded(Action.SET_MODE, mode=DoorMode.UNLOCKED, until=until), now())
    assert controller.snapshot(now())[0].until == "2026-03-02T12:01:30+00:00"
    assert ticked(controller, 89) == []
    over = ticked(controller, 90)
    assert EndHold(door_id=FRONT) in over
    assert details(over, CHANGED) == [{"mode": "secured", "cause": "policy"}]
    assert controller.snapshot(now(90))[0].until is None


@pytest.mark.parametrize("mode", [DoorMode.LOCKDOWN, DoorMode.OUT_OF_SERVICE, DoorMode.UNLOCKED])
def test_an_order_survives_a_restart(mode: DoorMode) -> None:
    """What is held on disk is in force from the first moment, and said again."""
    order = ModeOrder(mode=mode, command_id=b"\x11" * 16)
    controller = make(orders={FRONT: order})
    started = controller.on(Started(), now())
    assert details(started, CHANGED) == [{"mode": mode.value, "cause": "command", "by": "11" * 16}]
    assert (HoldStrike(door_id=FRONT) in started) is (mode is DoorMode.UNLOCKED)
    assert bool(released(controller.on(presented(), now(1)))) is (mode is DoorMode.UNLOCKED)
    assert released(controller.on(presented(side=Side.EXIT), now(2))) == [5_000]


def test_lockdown_shuts_the_way_in_and_never_the_way_out() -> None:
    """By command, in the middle of the day: a door that was held is locked."""
    controller = closed_door(mode=DoorMode.UNLOCKED)
    controller.on(Started(), now())
    assert EndHold(door_id=FRONT) in controller.on(commanded(Action.SET_MODE, mode=DoorMode.LOCKDOWN), now(1))
    assert reasons(controller.on(presented(), now(2))) == [Reason.DOOR_LOCKDOWN]
    assert released(controller.on(RexPressed(door_id=FRONT), now(3))) == [5_000]


def test_an_unlocked_door_is_held_only_while_the_documents_may_be_acted_on() -> None:
    """Too old, a clock that is believed no longer: locked, though its mode is told to be unlocked."""
    for later in ({"after_s": 5 * 3_600}, {"after_s": 10, "trusted": False}):
        controller = closed_door(mode=DoorMode.UNLOCKED)
        controller.on(Started(), now())
        assert EndHold(door_id=FRONT) in ticked(controller, **later)
        assert modes(controller)[0] == "unlocked"


def test_a_door_that_no_policy_names_tells_why_it_is_shut() -> None:
    """Without a policy, and with one of other doors."""
    controller = make(has_policy=False)
    assert modes(controller) == ("secured", "policy_missing")


@pytest.mark.parametrize("mode", [DoorMode.SECURED, DoorMode.UNLOCKED])
@pytest.mark.parametrize(
    "later", [{"trusted": False}, {"wall_after_s": 500.0}, {"wall_after_s": 500.0, "trusted": False}], ids=str
)
@pytest.mark.parametrize("by_card", [True, False])
def test_an_order_that_has_ended_never_comes_back(
    mode: DoorMode, later: dict[str, Any], by_card: bool
) -> None:
    """A clock that loses trust, or is set back by minutes, revives nothing; a tap may be the first to see the end."""
    controller = closed_door(
        mode=DoorMode.LOCKDOWN, when_clock_untrusted=WhenClockUntrusted.LEVELS_ONLY, max_policy_age_s=86_400
    )
    controller.on(commanded(Action.SET_MODE, mode=mode, until=NOON + timedelta(minutes=10)), now(1))
    controller.on(presented() if by_card else Tick(), now(600))
    assert reasons(controller.on(presented(), now(701, **later))) == [Reason.DOOR_LOCKDOWN]
    effects = ticked(controller, 702, **later)
    assert HoldStrike(door_id=FRONT) not in effects
    assert modes(controller)[0] == "lockdown"


def test_an_order_whose_end_no_trusted_clock_has_seen_lasts() -> None:
    """What an untrusted clock shows ends nothing."""
    controller = closed_door(mode=DoorMode.SECURED, when_clock_untrusted=WhenClockUntrusted.LEVELS_ONLY)
    until = NOON + timedelta(minutes=10)
    controller.on(commanded(Action.SET_MODE, mode=DoorMode.LOCKDOWN, until=until), now(1))
    ticked(controller, 700, trusted=False)
    assert reasons(controller.on(presented(), now(701, wall_after_s=500.0))) == [Reason.DOOR_LOCKDOWN]


# ---- unlock once


def test_a_door_is_unlocked_once_by_command() -> None:
    """The event stands before the strike; who opens it has not forced it."""
    controller = closed_door()
    command = commanded(Action.UNLOCK_ONCE)
    effects = controller.on(command, now())
    assert kinds(effects) == [EventKind.COMMAND_EXECUTED]
    (draft,) = drafts(effects)
    assert (draft.reason, draft.door_id) == (Reason.COMMANDED, FRONT)
    assert draft.details == {"command": command.command.command_id, "action": "unlock_once"}
    assert effects[1] == ReleaseStrike(door_id=FRONT, unlock_ms=5_000)
    assert kinds(controller.on(opened(), now(3))) == [EventKind.DOOR_OPENED]


@pytest.mark.parametrize(
    ("rules", "at", "reason"),
    [
        ({"mode": DoorMode.LOCKDOWN}, FRONT, Reason.COMMAND_OUT_OF_PLACE),
        ({"mode": DoorMode.OUT_OF_SERVICE}, FRONT, Reason.COMMAND_OUT_OF_PLACE),
        ({"has_policy": False}, FRONT, Reason.COMMAND_OUT_OF_PLACE),
        ({}, type(FRONT)("attic"), Reason.COMMAND_OUT_OF_PLACE),
    ],
)
def test_a_command_is_refused_where_it_has_no_place(rules: dict[str, Any], at: Any, reason: Reason) -> None:
    """By name, for the command it was; nothing moves."""
    controller = make(**rules)
    controller.on(Started(), now())
    effects = controller.on(commanded(Action.UNLOCK_ONCE, at), now(1))
    assert (kinds(effects), reasons(effects)) == ([EventKind.COMMAND_REFUSED], [reason])
    assert released(effects) == []


def test_an_interlocked_door_is_not_unlocked_by_command() -> None:
    """As it is not by a card."""
    controller = closed_door(**AIRLOCK)
    controller.on(opened(BACK), now())
    effects = controller.on(commanded(Action.UNLOCK_ONCE), now(1))
    assert (reasons(effects), released(effects)) == ([Reason.INTERLOCKED], [])


def test_a_command_that_cannot_be_recorded_is_refused_and_nobody_is_let_in() -> None:
    """The opening that follows was not released."""
    controller = closed_door()
    command = commanded(Action.UNLOCK_ONCE)
    (executed,) = drafts(controller.on(command, now()))
    effects = controller.on(RecordFailed(draft=executed), now())
    assert (kinds(effects), reasons(effects)) == ([EventKind.COMMAND_REFUSED], [Reason.JOURNAL_FAILED])
    assert details(effects, EventKind.COMMAND_REFUSED) == [
        {"command": command.command.command_id, "action": "unlock_once"}
    ]
    assert kinds(controller.on(opened(), now(1))) == [EventKind.DOOR_FORCED]


@pytest.mark.parametrize(("command_id", "expected"), [(None, {}), (b"\x22" * 16, {"command": b"\x22" * 16})])
def test_a_command_that_was_refused_on_its_way_in_is_recorded(
    command_id: bytes | None, expected: Mapping[str, object]
) -> None:
    """With its reason, and its id where it was authentic."""
    refusal = CommandRefused(reason=Reason.COMMAND_REPEATED, command_id=command_id)
    (draft,) = drafts(make().on(refusal, now()))
    assert (draft.kind, draft.reason, draft.details) == (
        EventKind.COMMAND_REFUSED,
        Reason.COMMAND_REPEATED,
        expected,
    )


def test_every_accepted_command_ends_as_executed_or_refused_and_not_both() -> None:
    """Each action, at a door that is there and at one that is not, with and without a policy."""
    extra: dict[Action, dict[str, Any]] = {
        Action.SET_MODE: {"mode": DoorMode.LOCKDOWN},
        Action.OPEN_POST: {"until": NOON + timedelta(minutes=1)},
        Action.GRANT: {"request_id": bytes(16), "credential_id": RESIDENT},
        Action.REFUSE: {"request_id": bytes(16), "credential_id": RESIDENT},
    }
    for action in Action:
        for at in (FRONT, type(FRONT)("attic")):
            for has_policy in (True, False):
                controller = make(has_policy=has_policy)
                found = kinds(controller.on(commanded(action, at, **extra.get(action, {})), now()))
                ends = [
                    kind for kind in found if kind in (EventKind.COMMAND_EXECUTED, EventKind.COMMAND_REFUSED)
                ]
                assert len(ends) == 1


# ---- interlocked doors


@pytest.mark.parametrize("at", [FRONT, BACK])
def test_of_two_interlocked_doors_one_opens_at_a_time(at: Any) -> None:
    """Released, then open: the other one waits until it is closed; whichever of the two says so."""
    other = BACK if at == FRONT else FRONT
    controller = closed_door(**AIRLOCK)
    controller.on(presented(at=at), now())
    assert reasons(controller.on(presented(at=other), now(1))) == [Reason.INTERLOCKED]
    controller.on(opened(at), now(2))
    assert reasons(controller.on(presented(at=other), now(10))) == [Reason.INTERLOCKED]
    controller.on(opened(at, is_open=False), now(11))
    assert released(controller.on(presented(at=other), now(12))) == [5_000]


def test_a_door_that_was_pulled_in_time_is_not_yet_reported_and_counts() -> None:
    """Its opening belongs to the release for a moment longer: until then the other one stays shut."""
    controller = closed_door(**AIRLOCK)
    controller.on(presented(), now())
    assert reasons(controller.on(presented(at=BACK), now(5.5))) == [Reason.INTERLOCKED]
    assert kinds(controller.on(opened(), now(5.5))) == [EventKind.DOOR_OPENED]


def test_nobody_is_asked_about_a_door_that_may_not_open() -> None:
    """An unlisted card at an interlocked door is refused, and while it waits no answer opens the door."""
    controller = closed_door(**AIRLOCK, when_unlisted=WhenUnlisted.REFER)
    card = CardPresented(
        door_id=FRONT, side=Side.ENTRY, credential=replace(credential(STRANGER), valid_from=NOON.date())
    )
    controller.on(opened(BACK), now())
    assert reasons(controller.on(card, now(1))) == [Reason.INTERLOCKED]
    controller.on(opened(BACK, is_open=False), now(2))
    assert reasons(controller.on(card, now(3))) == [Reason.UNLISTED_REFERRED]
    controller.on(opened(BACK), now(4))
    early = controller.on(answered(Action.GRANT, who=STRANGER), now(5))
    assert (reasons(early), released(early)) == ([Reason.INTERLOCKED], [])
    controller.on(opened(BACK, is_open=False), now(6))
    assert released(controller.on(answered(Action.GRANT, who=STRANGER), now(7))) == [5_000]


def test_a_contact_is_judged_by_when_it_reported() -> None:
    """Handled six seconds late, it was not forced, and somebody entered; alarms count from then too."""
    controller = closed_door(held_open_after_s=10)
    controller.on(presented(), now(1))
    late = ContactChanged(door_id=FRONT, open=True, at_s=now(2).monotonic_s)
    assert kinds(controller.on(late, now(8))) == [EventKind.DOOR_OPENED]
    assert kinds(ticked(controller, 12)) == [EventKind.DOOR_HELD_WARNING, EventKind.DOOR_HELD]
    ahead = ContactChanged(door_id=BACK, open=True, at_s=now(99).monotonic_s)
    assert kinds(controller.on(ahead, now(13))) == [EventKind.DOOR_FORCED]


def test_without_a_contact_an_interlock_knows_the_release_only() -> None:
    """As long as the strike is released, and a moment for a door that was pulled in time."""
    controller = make(has_contact=False, **AIRLOCK)
    controller.on(presented(), now())
    assert reasons(controller.on(presented(at=BACK), now(5.4))) == [Reason.INTERLOCKED]
    assert released(controller.on(presented(at=BACK), now(5.6))) == [5_000]


def test_an_interlock_keeps_nobody_inside() -> None:
    """The way out opens while the other door stands open, and ends what the other was held for."""
    controller = closed_door(**AIRLOCK, mode=DoorMode.UNLOCKED)
    controller.on(Started(), now())
    assert reasons(controller.on(presented(at=BACK), now(1))) == [Reason.INTERLOCKED]
    for leaving in (RexPressed(door_id=BACK), presented(at=BACK, side=Side.EXIT)):
        effects = controller.on(leaving, now(2))
        assert released(effects) == [5_000]
    assert controller.snapshot(now(3))[0].strike == "locked"
    assert HoldStrike(door_id=FRONT) in ticked(controller, 8)


def test_of_two_unlocked_doors_that_are_interlocked_one_is_held() -> None:
    """Never both, and it stays the same one."""
    unlocked = {"mode": DoorMode.UNLOCKED, "back": {"mode": DoorMode.UNLOCKED}}
    controller = closed_door(interlock_with=frozenset({BACK}), **unlocked)
    for after_s in (0, 1, 2):
        ticked(controller, after_s)
        assert [door.strike for door in controller.snapshot(now(after_s))] == ["released", "locked"]


def test_in_a_fire_no_door_waits_for_another() -> None:
    """What is ignored then counts again afterwards."""
    controller = closed_door(**AIRLOCK)
    controller.on(opened(BACK), now())
    controller.on(FireChanged(active=True), now(1))
    assert released(controller.on(presented(), now(2))) == [5_000]
    controller.on(FireChanged(active=False), now(3))
    assert reasons(controller.on(presented(), now(20))) == [Reason.INTERLOCKED]


# ---- fire and tampering


def test_a_fire_is_reported_once_for_all_doors_and_decides_nothing() -> None:
    """Recorded without a door; entry as ever, exit as ever; no alarm of a door while it lasts."""
    controller = closed_door()
    effects = controller.on(FireChanged(active=True), now())
    assert [(draft.kind, draft.door_id) for draft in drafts(effects)] == [(EventKind.FIRE_REPORTED, None)]
    assert controller.on(FireChanged(active=True), now(1)) == []
    assert "fire_reported" in controller.snapshot(now(1))[1].alarms
    assert reasons(controller.on(presented(REVOKED), now(2))) == [Reason.CREDENTIAL_REVOKED]
    assert released(controller.on(presented(), now(3))) == [5_000]
    (draft,) = drafts(controller.on(opened(BACK), now(4)))
    assert (draft.kind, draft.details) == (EventKind.DOOR_OPENED, {"fire": True})
    assert kinds(controller.on(FireChanged(active=False), now(5))) == [EventKind.FIRE_CLEARED]
    assert controller.on(FireChanged(active=False), now(6)) == []


def test_tampering_is_recorded_sounded_and_told() -> None:
    """For its door, until it ends."""
    controller = closed_door()
    effects = controller.on(TamperChanged(door_id=BACK, open=True), now())
    assert kinds(effects) == [EventKind.TAMPER_OPENED]
    assert Sound(door_id=BACK, signal=Signal.ALARM) in effects
    assert [door.alarms for door in controller.snapshot(now())] == [(), ("tamper_opened",)]
    ended = controller.on(TamperChanged(door_id=BACK, open=False), now(1))
    assert kinds(ended) == [EventKind.TAMPER_CLOSED]
    assert Sound(door_id=BACK, signal=Signal.SILENT) in ended


def test_every_alarm_of_a_door_is_told_by_the_event_that_said_so() -> None:
    """The warning before, then what it became."""
    controller = closed_door()
    controller.on(opened(), now())
    assert controller.snapshot(now())[0].alarms == ("door_forced",)
    ticked(controller, 20)
    assert controller.snapshot(now(20))[0].alarms == ("door_forced", "door_held_warning")
    ticked(controller, 30)
    assert controller.snapshot(now(30))[0].alarms == ("door_forced", "door_held")


# ---- held exactly while it may be


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 1.0, 6.0, 1_800.0, 3 * 3_600.0]),
            st.booleans(),
            st.sampled_from([0.0, 0.0, 0.0, -240.0, -7_200.0, 3_600.0]),
            st.one_of(
                st.builds(
                    lambda mode, at, until_s: commanded(
                        Action.SET_MODE,
                        at,
                        mode=mode,
                        until=None if until_s is None else NOON + timedelta(seconds=until_s),
                    ),
                    st.sampled_from(DoorMode),
                    st.sampled_from([FRONT, BACK]),
                    st.sampled_from([None, 3_600.0, 7_200.0]),
                ),
                st.builds(lambda at: commanded(Action.CLEAR_MODE, at), st.sampled_from([FRONT, BACK])),
                st.builds(lambda is_open: opened(BACK, is_open=is_open), st.booleans()),
                st.builds(lambda active: FireChanged(active=active), st.booleans()),
                st.sampled_from([accepted(**AIRLOCK, **BY_HOUR), accepted(mode=DoorMode.UNLOCKED)]),
                st.just(RexPressed(door_id=BACK)),
            ),
        ),
        max_size=20,
    )
)
def test_a_strike_is_held_exactly_while_mode_documents_and_interlock_say_so(
    steps: list[tuple[float, bool, float, Input]],
) -> None:
    """After each turn, whatever went before, on a clock that is set and loses trust: what has ended never comes back."""
    controller = closed_door(**AIRLOCK, **BY_HOUR)
    premises = controller._premises
    held: set[str] = set()
    orders: dict[DoorId, ModeOrder] = {}
    at_s = 0.0
    for pause_s, trusted, off_s, happened in steps:
        at_s += pause_s
        at = now(at_s, trusted=trusted, wall_after_s=at_s + off_s)
        if isinstance(happened, CommandAccepted):
            command = happened.command
            orders.pop(command.door_id, None)
            if command.mode:
                orders[command.door_id] = ModeOrder(
                    mode=command.mode, command_id=command.command_id, until=command.until
                )
        if trusted:
            orders = {
                one: order for one, order in orders.items() if not order.until or at.clock.at < order.until
            }
        for effect in (*controller.on(happened, at), *controller.on(Tick(), at)):
            if isinstance(effect, HoldStrike):
                held.add(effect.door_id)
            elif isinstance(effect, EndHold):
                held.remove(effect.door_id)
        policy, listed = premises.policy, premises.revocations
        assert policy is not None
        assert listed is not None
        for door_id, door in policy.doors.items():
            situation = Situation(order=orders.get(door_id))
            mode = effective_mode(door, policy, situation, at=at.clock.at, clock_trusted=trusted).mode
            may = mode is DoorMode.UNLOCKED and door_refusal(door, mode, policy, listed, at.clock) is None
            assert (door_id in held) is (may and not premises.is_interlocked(door_id, at))


# ---- a test of lights and buzzer


@pytest.mark.parametrize(
    "rules", [{}, {"private": True}, {"mode": DoorMode.OUT_OF_SERVICE}, {"has_policy": False}]
)
def test_every_reader_shows_its_signals_on_command(rules: dict[str, Any]) -> None:
    """At both sides, whatever the mode, and nothing is unlocked."""
    controller = make(**rules)
    controller.on(Started(), now())
    command = commanded(Action.TEST_SIGNALS)
    executed, *shown, _sync = controller.on(command, now(1))
    (draft,) = drafts([executed])
    assert (draft.kind, draft.details) == (
        EventKind.COMMAND_EXECUTED,
        {"command": command.command.command_id, "action": "test_signals"},
    )
    assert shown == [Indicate(door_id=FRONT, side=side, signal=Signal.TEST) for side in Side]


def test_a_controller_examines_itself_on_command() -> None:
    """Recorded, and begun elsewhere; no door does anything."""
    effects = closed_door().on(commanded(Action.EXAMINE), now())
    assert kinds(effects) == [EventKind.COMMAND_EXECUTED]
    assert effects[1:-1] == [Examine()]


@pytest.mark.parametrize(
    "before",
    [
        opened(),
        TamperChanged(door_id=FRONT, open=True),
        FireChanged(active=True),
        presented(ATTENDED),
        commanded(Action.TEST_SIGNALS, DoorId("attic")),
    ],
    ids=["forced", "tampered with", "fire", "somebody waits", "another door"],
)
def test_no_test_takes_the_place_of_what_is_meant_for_somebody(before: Input) -> None:
    """An alarm, a fire, a person who waits, a door that is not there: refused by name, and nothing is shown."""
    controller = closed_door()
    controller.on(before, now())
    at = before.command.door_id if isinstance(before, CommandAccepted) else FRONT
    effects = controller.on(commanded(Action.TEST_SIGNALS, at), now(1))
    assert (kinds(effects), reasons(effects)) == ([EventKind.COMMAND_REFUSED], [Reason.COMMAND_OUT_OF_PLACE])
    assert not [effect for effect in effects if isinstance(effect, Indicate)]


# ---- durations


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.4, 3.0, 12.0, 40.0]),
            st.sampled_from([-3_600.0, 0.0, 60.0, -1.7e9, 2e9]),
            st.one_of(
                st.builds(lambda is_open: opened(is_open=is_open), st.booleans()),
                st.just(RexPressed(door_id=FRONT)),
                st.just(commanded(Action.UNLOCK_ONCE)),
                st.just(presented(side=Side.EXIT)),
                st.just(Tick()),
            ),
        ),
        max_size=20,
    )
)
def test_no_step_of_the_wall_clock_changes_a_duration(steps: list[tuple[float, float, Input]]) -> None:
    """Set by an hour, to 1970, to 2089: releases, alarms and what is missed come as on a clock nobody touched."""
    steady, shaken = closed_door(), closed_door()
    at_s = 0.0
    for pause_s, off_s, happened in steps:
        at_s += pause_s
        for one in (Tick(), happened):
            expected = steady.on(one, now(at_s))
            found = shaken.on(one, now(at_s, wall_after_s=at_s + off_s))
            clock = {EventKind.CLOCK_CHANGED}
            assert [kind for kind in kinds(found) if kind not in clock] == kinds(expected)
            assert released(found) == released(expected)
        assert steady.deadline_s == shaken.deadline_s


# ---- nobody is kept inside


WAYS_OUT: list[Input] = [
    *(presented(who, at=at, side=Side.EXIT) for who in (RESIDENT, REVOKED, STRANGER) for at in (FRONT, BACK)),
    refused(side=Side.EXIT),
    ReadFailed(door_id=FRONT, side=Side.EXIT, fault=ReadFault.PROTOCOL_ERROR),
    RexPressed(door_id=FRONT),
    RexPressed(door_id=BACK),
]
HAPPENINGS = st.one_of(
    st.sampled_from(WAYS_OUT),
    st.builds(presented, st.sampled_from([RESIDENT, STAFF, STRANGER]), at=st.sampled_from([FRONT, BACK])),
    st.builds(claimed, st.sampled_from([RESIDENT, STRANGER]), side=st.sampled_from(Side)),
    st.builds(lambda at, is_open: opened(at, is_open=is_open), st.sampled_from([FRONT, BACK]), st.booleans()),
    st.builds(lambda active: FireChanged(active=active), st.booleans()),
    st.builds(
        lambda mode, at: commanded(Action.SET_MODE, at, mode=mode),
        st.sampled_from(DoorMode),
        st.sampled_from([FRONT, BACK]),
    ),
    st.builds(lambda mode: accepted(mode=mode, **AIRLOCK), st.sampled_from(DoorMode)),
    st.builds(lambda private: accepted(private=private, relock_on_open=True), st.booleans()),
)


@settings(max_examples=150, deadline=None)
@given(
    has_contact=st.booleans(),
    has_policy=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from([0.0, 0.1, 3.0, 40.0]), st.booleans(), HAPPENINGS), max_size=25),
)
def test_exit_is_never_denied(
    has_contact: bool, has_policy: bool, steps: list[tuple[float, bool, Input]]
) -> None:
    """Whatever happened before, in every state: who asks to leave is released, recorded or not, and nobody locks behind."""
    controller = make(has_contact=has_contact, has_policy=has_policy)
    at_s = 0.0
    for pause_s, trusted, happened in steps:
        at_s += pause_s
        ticked(controller, at_s, trusted=trusted)
        effects = controller.on(happened, now(at_s, trusted=trusted))
        if happened in WAYS_OUT:
            door_id = happened.door_id  # type: ignore[union-attr]
            assert _is_let_out(effects, door_id)
            assert EventKind.ACCESS_DENIED not in kinds(effects)


def _is_let_out(effects: list[Effect], door_id: Any) -> bool:
    let_out = False
    for effect in effects:
        match effect:
            case ReleaseStrike(even_unrecorded=True):
                let_out = let_out or effect.door_id == door_id
            case LockStrike():
                let_out = False
    return let_out


def test_every_mode_names_its_cause_on_the_wire() -> None:
    """The causes that events carry are those of the effective mode."""
    assert {cause.value for cause in ModeCause} == {
        "policy",
        "schedule",
        "command",
        "post",
        "clock_untrusted",
    }
