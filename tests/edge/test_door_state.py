"""The state machine of one door: what each report of its hardware means, and what it sounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.door_state import OPENING_GRACE_S, Admitted, Alarm, DoorState
from edge.effects import Effect, EndHold, HoldStrike, LockStrike, Record, ReleaseStrike, Signal, Sound
from pacs.events import EventDraft, EventKind
from pacs.rules import MAX_UNLOCK_MS, Side
from tests.edge.small_site import FRONT, RESIDENT, SLOW_RESIDENT, STAFF, door, now

SOMEBODY = Admitted(credential_id=RESIDENT, side=Side.ENTRY)


def closed_door(**rules: Any) -> DoorState:
    """A door whose contact has reported that it is closed."""
    state = DoorState(FRONT, has_contact=True)
    state.rules = door(FRONT, **rules)
    assert state.contact(now(), is_open=False).effects == ()
    return state


def drafts(effects: tuple[Effect, ...]) -> list[EventDraft]:
    return [effect.draft for effect in effects if isinstance(effect, Record)]


def kinds(effects: tuple[Effect, ...]) -> list[EventKind]:
    return [draft.kind for draft in drafts(effects)]


def sounds(effects: tuple[Effect, ...]) -> list[Signal]:
    return [effect.signal for effect in effects if isinstance(effect, Sound)]


def open_it(state: DoorState, after_s: float) -> tuple[Effect, ...]:
    return state.contact(now(after_s), is_open=True).effects


def close_it(state: DoorState, after_s: float) -> tuple[Effect, ...]:
    return state.contact(now(after_s), is_open=False).effects


# ---- released


@pytest.mark.parametrize("after_s", [0.0, 4.9, 5.0 + OPENING_GRACE_S])
def test_who_opens_within_the_release_has_entered(after_s: float) -> None:
    """Up to the moment in which a door that was pulled in time reports it."""
    state = closed_door()
    state.release(5_000, now(), admitted=(SOMEBODY,))
    report = state.contact(now(after_s), is_open=True)
    assert report.passed == (SOMEBODY,)
    assert kinds(report.effects) == [EventKind.DOOR_OPENED]
    assert EventKind.DOOR_NOT_ENTERED not in kinds(state.tick(now(20)).effects)


def test_everybody_who_was_granted_enters_by_one_opening_and_each_is_missed() -> None:
    """Two cards, one push; or none, and then each of the two is told."""
    others = (SOMEBODY, Admitted(credential_id=STAFF, side=Side.ENTRY))
    state = closed_door()
    state.release(5_000, now(), admitted=(SOMEBODY,))
    state.release(5_000, now(1), admitted=others)
    assert state.contact(now(2), is_open=True).passed == others
    state = closed_door()
    state.release(5_000, now(), admitted=others)
    missed = drafts(state.tick(now(5.0 + OPENING_GRACE_S + 0.01)).effects)
    assert [(draft.kind, draft.credential_id) for draft in missed] == [
        (EventKind.DOOR_NOT_ENTERED, RESIDENT),
        (EventKind.DOOR_NOT_ENTERED, STAFF),
    ]


def test_a_door_without_a_contact_awaits_nobody() -> None:
    """It could not say whether they came."""
    state = DoorState(FRONT, has_contact=False)
    state.release(5_000, now(), admitted=(SOMEBODY,))
    assert state.deadline_s is None
    assert state.contact_state == "not_fitted"


@pytest.mark.parametrize(("relock", "again"), [(True, EventKind.DOOR_FORCED), (False, EventKind.DOOR_OPENED)])
def test_a_door_that_relocks_when_it_opens_ends_the_release(relock: bool, again: EventKind) -> None:
    """The strike is locked at the opening, once; who opens it again within the old time has forced it."""
    state = closed_door(relock_on_open=relock)
    state.release(5_000, now(), admitted=(SOMEBODY,))
    effects = open_it(state, 1)
    assert (LockStrike(door_id=FRONT) in effects) is relock
    assert state.is_released(now(1)) is not relock
    assert LockStrike(door_id=FRONT) not in close_it(state, 2)
    assert kinds(open_it(state, 3)) == [again]


@pytest.mark.parametrize("happening", ["held unlocked", "fire", "nothing released"])
def test_what_was_not_released_for_somebody_is_not_locked_again(happening: str) -> None:
    """An unlocked door stays unlocked, in a fire nothing is locked, and a forced one is not helped by it."""
    state = closed_door(relock_on_open=True)
    if happening == "held unlocked":
        state.hold(now(), unlocked=True)
    elif happening == "fire":
        state.release(5_000, now())
        state.fire_changed(now(), active=True)
    assert LockStrike(door_id=FRONT) not in open_it(state, 1)


# ---- open for too long


@pytest.mark.parametrize(
    ("extended", "warned_s", "held_s"), [(False, 20, 30), (True, 80, 90)], ids=["usual", "extended"]
)
def test_who_needs_longer_gets_longer_before_the_door_warns(
    extended: bool, warned_s: float, held_s: float
) -> None:
    """The extended time of the door, after a release for somebody who needs it, and for that opening only."""
    state = closed_door()
    state.release(5_000, now(), admitted=(SOMEBODY,), extended=extended)
    open_it(state, 0)
    assert state.tick(now(warned_s - 0.1)).effects == ()
    warning = state.tick(now(warned_s)).effects
    assert (kinds(warning), sounds(warning)) == ([EventKind.DOOR_HELD_WARNING], [Signal.HELD_WARNING])
    held = state.tick(now(held_s)).effects
    assert (kinds(held), sounds(held)) == ([EventKind.DOOR_HELD], [Signal.ALARM])
    closed = close_it(state, held_s + 12)
    assert kinds(closed) == [EventKind.DOOR_CLOSED, EventKind.DOOR_ALARM_CLEARED]
    assert drafts(closed)[1].details == {"alarm": "held", "after_s": 12}
    assert sounds(closed) == [Signal.SILENT]
    state.release(5_000, now(200))
    open_it(state, 200)
    assert state.deadline_s == now(220).monotonic_s


def test_somebody_who_needs_longer_and_comes_to_an_open_door_has_longer() -> None:
    """Whoever is let through begins the door's time again, and takes none from those before."""
    state = closed_door()
    state.release(5_000, now(), extended=True)
    open_it(state, 0)
    state.release(5_000, now(10))
    assert state.deadline_s == now(90).monotonic_s
    state = closed_door()
    state.release(5_000, now())
    open_it(state, 0)
    state.tick(now(20))
    again = state.release(5_000, now(25), extended=True)
    assert sounds(again) == [Signal.SILENT]
    assert state.deadline_s == now(25 + 80).monotonic_s


@pytest.mark.parametrize(("warning_s", "first_s"), [(0, 8), (3, 5), (100, 4)])
def test_the_warning_is_as_early_as_the_rule_says_and_never_before_half_the_time(
    warning_s: int, first_s: float
) -> None:
    """Of eight seconds: not at all, three before the end, or after half of it."""
    state = closed_door(held_open_after_s=8, held_warning_s=warning_s)
    state.release(5_000, now())
    open_it(state, 0)
    assert state.deadline_s == now(first_s).monotonic_s


# ---- forced, tampered with, on fire


def test_a_forced_door_sounds_until_it_is_closed_and_may_be_held_besides() -> None:
    """Two alarms of one opening, each cleared with its own age."""
    state = closed_door(held_open_after_s=10, held_warning_s=0)
    forced = open_it(state, 0)
    assert (kinds(forced), sounds(forced)) == ([EventKind.DOOR_FORCED], [Signal.ALARM])
    assert (kinds(state.tick(now(10)).effects), set(state.alarms)) == (
        [EventKind.DOOR_HELD],
        {Alarm.FORCED, Alarm.HELD},
    )
    closed = close_it(state, 15)
    assert [draft.details for draft in drafts(closed)] == [
        {},
        {"alarm": "forced", "after_s": 15},
        {"alarm": "held", "after_s": 5},
    ]
    assert (sounds(closed), state.alarms) == ([Signal.SILENT], {})


def test_tampering_sounds_until_it_ends_whatever_the_door_does() -> None:
    """One event for each change; a door that closes does not silence it."""
    state = closed_door()
    tampered = state.tamper(now(), is_open=True)
    assert (kinds(tampered), sounds(tampered)) == ([EventKind.TAMPER_OPENED], [Signal.ALARM])
    assert state.tamper(now(1), is_open=True) == ()
    assert sounds(open_it(state, 2)) == []
    assert sounds(close_it(state, 3)) == []
    ended = state.tamper(now(4), is_open=False)
    assert (kinds(ended), sounds(ended)) == ([EventKind.TAMPER_CLOSED], [Signal.SILENT])
    assert state.tamper(now(5), is_open=False) == ()


def test_in_a_fire_nothing_is_forced_or_held_and_everything_is_recorded() -> None:
    """The openings say so; afterwards a door that stands open has its time from then on."""
    state = closed_door()
    state.fire_changed(now(), active=True)
    (draft,) = drafts(open_it(state, 1))
    assert (draft.kind, draft.details) == (EventKind.DOOR_OPENED, {"fire": True})
    assert state.deadline_s is None
    (draft,) = drafts(close_it(state, 500))
    assert (draft.kind, draft.details) == (EventKind.DOOR_CLOSED, {"fire": True})
    open_it(state, 501)
    assert state.fire_changed(now(600), active=False) == ()
    assert kinds(state.tick(now(630)).effects) == [EventKind.DOOR_HELD_WARNING, EventKind.DOOR_HELD]


def test_a_fire_silences_what_sounds_and_clears_it() -> None:
    """The alarm of the door gives way to that of the house, tampering included, which is heard again afterwards."""
    state = closed_door()
    open_it(state, 0)
    fire = state.fire_changed(now(5), active=True)
    assert [(draft.kind, draft.details) for draft in drafts(fire)] == [
        (EventKind.DOOR_ALARM_CLEARED, {"alarm": "forced", "after_s": 5, "fire": True})
    ]
    assert sounds(fire) == [Signal.SILENT]
    tampered = state.tamper(now(6), is_open=True)
    assert (kinds(tampered), sounds(tampered)) == ([EventKind.TAMPER_OPENED], [])
    assert sounds(state.fire_changed(now(7), active=False)) == [Signal.ALARM]


def test_a_mode_that_unlocks_the_door_clears_its_alarms() -> None:
    """What was forced may be open from here on."""
    state = closed_door()
    open_it(state, 0)
    held = state.hold(now(3), unlocked=True)
    assert held[0] == HoldStrike(door_id=FRONT)
    assert drafts(held)[0].details == {"alarm": "forced", "after_s": 3}
    assert sounds(held) == [Signal.SILENT]


# ---- any order of things


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order: what is recorded and sounded agrees with what is the case."""

    @initialize(
        relock=st.booleans(), warning_s=st.integers(min_value=0, max_value=40), has_contact=st.booleans()
    )
    def begin(self, relock: bool, warning_s: int, has_contact: bool) -> None:
        self.at_s = 0.0
        self.state = DoorState(FRONT, has_contact=has_contact)
        self.state.rules = door(FRONT, relock_on_open=relock, held_warning_s=warning_s)
        self.sounding = Signal.SILENT
        self.held = False
        self.strike_until_s = 0.0
        self.standing: dict[str, int] = {"forced": 0, "held": 0}
        self.awaited: set[Admitted] = set()

    def take(self, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            match effect:
                case Sound(signal=signal):
                    assert signal is not self.sounding
                    self.sounding = signal
                case HoldStrike() | EndHold():
                    assert self.held is isinstance(effect, EndHold)
                    self.held = isinstance(effect, HoldStrike)
                case LockStrike():
                    assert not self.held
                    self.strike_until_s = 0.0
                case ReleaseStrike(unlock_ms=unlock_ms):
                    assert 1 <= unlock_ms <= MAX_UNLOCK_MS
                    self.strike_until_s = max(self.strike_until_s, self.at_s + unlock_ms / 1000)
                case Record(draft=draft):
                    self.recorded(draft)
                case _:
                    raise AssertionError(effect)

    def recorded(self, draft: EventDraft) -> None:
        alarm = {EventKind.DOOR_FORCED: "forced", EventKind.DOOR_HELD: "held"}.get(draft.kind)
        if alarm:
            assert not self.state.fire
            self.standing[alarm] += 1
        if draft.kind is EventKind.DOOR_ALARM_CLEARED:
            self.standing[str(draft.details["alarm"])] -= 1
        if draft.kind is EventKind.DOOR_NOT_ENTERED:
            assert draft.credential_id is not None
            assert draft.side is not None
            self.awaited.remove(Admitted(credential_id=draft.credential_id, side=draft.side))
        assert all(0 <= number <= 1 for number in self.standing.values())

    @rule(pause_s=st.sampled_from([0.0, 0.3, 1.0, 4.0, 6.0, 25.0, 100.0]))
    def time_passes(self, pause_s: float) -> None:
        self.at_s += pause_s
        self.take(self.state.tick(now(self.at_s)).effects)

    @rule(
        who=st.sampled_from([RESIDENT, SLOW_RESIDENT]),
        side=st.sampled_from(Side),
        unlock_ms=st.sampled_from([1_000, 5_000, 15_000]),
        extended=st.booleans(),
        withheld=st.sampled_from([False, False, False, True]),
    )
    def somebody_is_granted(
        self, who: Any, side: Side, unlock_ms: int, extended: bool, withheld: bool
    ) -> None:
        admitted = Admitted(credential_id=who, side=side)
        effects = self.state.release(unlock_ms, now(self.at_s), admitted=(admitted,), extended=extended)
        if withheld:  # nothing behind the strike is performed
            self.state.withheld()
            return
        self.take(effects)
        if self.state.has_contact and not self.state.is_open:
            self.awaited.add(admitted)

    @rule()
    def somebody_leaves(self) -> None:
        effects = self.state.release(5_000, now(self.at_s), even_unrecorded=True)
        assert effects[0] == ReleaseStrike(door_id=FRONT, unlock_ms=5_000, even_unrecorded=True)
        self.take(effects)

    @precondition(lambda self: self.state.has_contact)
    @rule(is_open=st.booleans())
    def the_contact_reports(self, is_open: bool) -> None:
        report = self.state.contact(now(self.at_s), is_open=is_open)
        self.take(report.effects)
        assert report.doubtful == () or report.passed == ()
        if opened := {*report.passed, *report.doubtful}:
            assert opened == self.awaited
            self.awaited.clear()

    @rule(is_open=st.booleans())
    def the_tamper_circuit_reports(self, is_open: bool) -> None:
        self.take(self.state.tamper(now(self.at_s), is_open=is_open))

    @rule(active=st.booleans())
    def a_fire_is_reported_or_over(self, active: bool) -> None:
        if active is not self.state.fire:
            self.take(self.state.fire_changed(now(self.at_s), active=active))

    @rule(unlocked=st.booleans())
    def the_mode_changes(self, unlocked: bool) -> None:
        self.take(self.state.hold(now(self.at_s), unlocked=unlocked))

    @rule(extended_s=st.sampled_from([30, 90]))
    def the_rules_change(self, extended_s: int) -> None:
        self.state.rules = replace(self.state.rules, extended_held_open_after_s=extended_s)

    @invariant()
    def the_sound_is_that_of_the_worst(self) -> None:
        state = self.state
        alarmed = bool(state.alarms)
        expected = Signal.ALARM if alarmed else Signal.HELD_WARNING if state.warned else Signal.SILENT
        assert self.sounding is (Signal.SILENT if state.fire else expected)

    @invariant()
    def alarms_stand_while_the_door_does(self) -> None:
        state = self.state
        assert {alarm for alarm, number in self.standing.items() if number} == {
            alarm.value for alarm in state.alarms if alarm is not Alarm.TAMPER
        }
        if any(self.standing.values()):
            assert state.is_open
            assert not state.fire
            assert not state.unlocked

    @invariant()
    def the_strike_is_where_the_door_thinks_it_is(self) -> None:
        assert self.state.unlocked is self.held
        if self.at_s < self.strike_until_s and not self.held:
            assert self.state.is_released(now(self.at_s))

    @invariant()
    def whoever_is_awaited_has_a_deadline(self) -> None:
        if self.awaited:
            assert self.state.deadline_s is not None


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


TestAnyOrder = AnyOrder.TestCase
