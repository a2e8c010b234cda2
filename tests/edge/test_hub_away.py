"""A door where a person decides, while the hub is not heard: what it does, for how long, and that it says so."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.controller import DoorController
from edge.effects import Effect, Indicate, Signal
from edge.hub_contact import ANSWERED_WITHIN_S, SILENT_S
from edge.inputs import Acknowledged, Started
from pacs.commands import Action
from pacs.events import EventKind
from pacs.identifiers import CredentialId, JournalId
from pacs.reason import Reason
from pacs.rules import DoorMode, Side, WhenHubAway
from tests.edge.at_the_door import (
    REQUEST,
    accept,
    answered,
    closed_door,
    details,
    drafts,
    kinds,
    presented,
    reasons,
    released,
    ticked,
)
from tests.edge.small_site import ATTENDED, GUARD, GUARDS_LEVEL, RESIDENT, REVOKED, VISITOR, now

CHANGED, REFERRED = EventKind.DOOR_ATTENDANCE_CHANGED, EventKind.ACCESS_REFERRED
STORED = Acknowledged(journal_id=JournalId("0" * 32), sequence=1)
GUARDED: dict[str, Any] = {
    "mode": DoorMode.ATTENDED,
    "admitting_levels": frozenset({GUARDS_LEVEL}),
    "attended_timeout_s": 600,
}
GONE_S = SILENT_S + 1
MAX_S = 600


def begun(when_hub_away: WhenHubAway = WhenHubAway.DENY, **rules: Any) -> DoorController:
    """A controller that started at noon, whose hub was heard at once."""
    controller = closed_door(**GUARDED | {"hub_away_max_s": MAX_S, "when_hub_away": when_hub_away} | rules)
    controller.on(Started(), now())
    controller.on(STORED, now())
    return controller


def tap(controller: DoorController, who: CredentialId, after_s: float, **where: Any) -> list[Effect]:
    return controller.on(presented(who, **where), now(after_s))


def shown(effects: list[Effect]) -> list[Signal]:
    return [effect.signal for effect in effects if isinstance(effect, Indicate)]


def ends(effects: list[Effect]) -> list[tuple[object, Reason | None]]:
    return [
        (draft.details["outcome"], draft.reason)
        for draft in drafts(effects)
        if draft.kind is EventKind.REFERRAL_ENDED
    ]


# ---- what a door does

BEHAVIOURS: dict[WhenHubAway, dict[CredentialId, tuple[Reason, Signal]]] = {
    WhenHubAway.DENY: {
        RESIDENT: (Reason.HUB_AWAY, Signal.NOBODY),
        ATTENDED: (Reason.HUB_AWAY, Signal.NOBODY),
        REVOKED: (Reason.CREDENTIAL_REVOKED, Signal.REFUSED),
        GUARD: (Reason.ENTITLED, Signal.GRANTED),
    },
    WhenHubAway.LOCAL: {
        RESIDENT: (Reason.LOCAL_AWAITED, Signal.CARD_AWAITED),
        ATTENDED: (Reason.LOCAL_AWAITED, Signal.CARD_AWAITED),
        REVOKED: (Reason.CREDENTIAL_REVOKED, Signal.REFUSED),
        GUARD: (Reason.ENTITLED, Signal.GRANTED),
    },
    WhenHubAway.UNATTENDED: {
        RESIDENT: (Reason.HUB_AWAY_ADMITTED, Signal.GRANTED),
        ATTENDED: (Reason.LOCAL_AWAITED, Signal.CARD_AWAITED),
        VISITOR: (Reason.ESCORT_AWAITED, Signal.WAITING),
        REVOKED: (Reason.CREDENTIAL_REVOKED, Signal.REFUSED),
        GUARD: (Reason.ENTITLED, Signal.GRANTED),
    },
}


@pytest.mark.parametrize(
    ("when_hub_away", "who", "expected"),
    [(when, who, expected) for when, table in BEHAVIOURS.items() for who, expected in table.items()],
)
def test_each_behaviour_lasts_until_its_bound_and_then_nobody_can_be_asked(
    when_hub_away: WhenHubAway, who: CredentialId, expected: tuple[Reason, Signal]
) -> None:
    """Counted from when the hub was last heard; nobody is told that somebody comes whom nobody asks."""
    controller = begun(when_hub_away)
    assert reasons(tap(controller, who, 1))[-1] in (
        Reason.DOOR_ATTENDED,
        Reason.ESCORT_AWAITED,
        *((expected[0],) if who in (REVOKED, GUARD) else ()),
    )
    controller = begun(when_hub_away)
    ticked(controller, GONE_S)
    effects = tap(controller, who, MAX_S - 1)
    assert (reasons(effects)[-1], shown(effects)[-1]) == expected
    later = tap(controller, who, MAX_S + 1)
    if expected[0] in (Reason.LOCAL_AWAITED, Reason.HUB_AWAY_ADMITTED):
        expected = (Reason.HUB_AWAY, Signal.NOBODY)
    assert (reasons(later)[-1], shown(later)[-1]) == expected


def test_the_way_out_is_free_whoever_is_away() -> None:
    """R5."""
    controller = begun()
    ticked(controller, GONE_S)
    assert reasons(tap(controller, RESIDENT, GONE_S, side=Side.EXIT)) == [Reason.EXIT_FREE]


@pytest.mark.parametrize("when_hub_away", WhenHubAway)
def test_a_guards_card_admits_without_a_hub(when_hub_away: WhenHubAway) -> None:
    """Also behind the bound and where nobody is asked: the word of somebody at the door needs no network."""
    controller = begun(when_hub_away)
    ticked(controller, MAX_S + 1)
    tap(controller, GUARD, MAX_S + 2)
    assert reasons(tap(controller, RESIDENT, MAX_S + 3)) == [Reason.LOCAL_GRANT]


# ---- that it is away


def test_the_hub_is_heard_by_what_it_acknowledges() -> None:
    """Each acknowledgement counts from its moment; the last one is enough for so long, and no longer."""
    controller = begun()
    controller.on(STORED, now(50))
    assert details(ticked(controller, 50 + SILENT_S), CHANGED) == []
    assert details(ticked(controller, 50 + GONE_S), CHANGED) == [
        {"attendance": "nobody", "before": "hub", "away_s": int(GONE_S)}
    ]
    assert ticked(controller, 60 + GONE_S) == []
    assert details(controller.on(STORED, now(70 + GONE_S)), CHANGED) == [
        {"attendance": "hub", "before": "nobody"}
    ]


def test_a_hub_that_does_not_answer_for_somebody_who_waits_is_away_soon() -> None:
    """They are told in seconds that nobody comes, not when their time is over."""
    controller = begun()
    assert shown(tap(controller, RESIDENT, 1)) == [Signal.WAITING]
    assert ticked(controller, 1 + ANSWERED_WITHIN_S) == []
    effects = ticked(controller, 1.1 + ANSWERED_WITHIN_S)
    assert (ends(effects), shown(effects)) == ([("withdrawn", Reason.HUB_AWAY)], [Signal.NOBODY])
    assert shown(tap(controller, RESIDENT, 13)) == [Signal.NOBODY]


def test_a_controller_that_never_heard_its_hub_says_so() -> None:
    """After the start it gets a moment; the bound counts from the start."""
    controller = closed_door(**GUARDED, when_hub_away=WhenHubAway.UNATTENDED, hub_away_max_s=MAX_S)
    controller.on(Started(), now())
    effects = ticked(controller, ANSWERED_WITHIN_S + 1)
    assert [each["attendance"] for each in details(effects, CHANGED)] == ["unattended"]
    assert controller.snapshot(now(20))[0].attendance == "unattended"
    assert [each["attendance"] for each in details(ticked(controller, MAX_S + 1), CHANGED)] == ["nobody"]
    assert controller.snapshot(now(MAX_S + 1))[0].attendance == "nobody"


def test_a_request_at_a_private_door_is_none_that_the_hub_could_answer() -> None:
    """Nothing of it is recorded, so nothing of it is acknowledged."""
    controller = begun(private=True)
    tap(controller, VISITOR, 1)
    assert details(ticked(controller, 30), CHANGED) == []


def test_no_step_of_the_wall_clock_ends_or_lengthens_it() -> None:
    """Both bounds are monotonic."""
    controller = begun(WhenHubAway.UNATTENDED, max_policy_age_s=31 * 86_400)
    assert details(ticked(controller, 10, wall_after_s=90_000), CHANGED) == []
    ticked(controller, GONE_S, wall_after_s=0)
    for after_s, reason in ((MAX_S, Reason.HUB_AWAY_ADMITTED), (MAX_S + 1, Reason.HUB_AWAY)):
        effects = controller.on(presented(RESIDENT), now(after_s, wall_after_s=1))
        assert reasons(effects)[-1] is reason


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"mode": DoorMode.SECURED}, []),
        ({"mode": DoorMode.SECURED, "when_hub_away": WhenHubAway.LOCAL}, ["local", "nobody", "hub"]),
        ({"when_hub_away": WhenHubAway.UNATTENDED}, ["unattended", "nobody", "hub"]),
        ({}, ["nobody", "hub"]),
    ],
)
def test_a_door_tells_who_decides_where_a_person_has_to(rules: dict[str, Any], told: list[str]) -> None:
    """Falling back, at the bound, and when the hub is back; a door that asks nobody says nothing."""
    controller = begun(**rules)
    effects = [*ticked(controller, GONE_S), *ticked(controller, MAX_S + 1)]
    effects += controller.on(STORED, now(MAX_S + 2))
    assert [each["attendance"] for each in details(effects, CHANGED)] == told


# ---- while somebody waits


def test_who_waits_when_the_hub_goes_waits_for_a_card_and_for_the_hub_again_when_it_is_back() -> None:
    """Under the same request and for the same time; each time they are shown for whom, and it is recorded."""
    controller = begun(WhenHubAway.LOCAL)
    tap(controller, RESIDENT, 60)
    gone = ticked(controller, GONE_S)
    assert kinds(gone) == [CHANGED, REFERRED]
    assert (reasons(gone)[-1], shown(gone)) == (Reason.LOCAL_AWAITED, [Signal.CARD_AWAITED])
    assert details(gone, REFERRED) == [{"request": REQUEST, "timeout_s": 600 - 11}]
    back = controller.on(STORED, now(160))
    assert kinds(back) == [CHANGED, REFERRED]
    assert (reasons(back)[-1], shown(back)) == (Reason.DOOR_ATTENDED, [Signal.WAITING])
    assert details(back, REFERRED) == [{"request": REQUEST, "timeout_s": 500}]
    controller.on(STORED, now(161))
    granted = controller.on(answered(Action.GRANT, who=RESIDENT), now(162))
    assert (released(granted), ends(granted)) == ([5_000], [("granted", None)])


def test_an_answer_from_the_hub_counts_although_it_was_thought_away() -> None:
    """It is a person's, signed, for this request."""
    controller = begun(WhenHubAway.LOCAL)
    ticked(controller, GONE_S)
    assert reasons(tap(controller, RESIDENT, GONE_S + 1)) == [Reason.LOCAL_AWAITED]
    granted = controller.on(answered(Action.GRANT, who=RESIDENT), now(GONE_S + 2))
    assert reasons(granted)[0] is Reason.ATTENDED_GRANT
    assert ends(granted) == [("granted", None)]


def test_who_waits_for_a_card_is_admitted_by_one() -> None:
    """Without a network."""
    controller = begun(WhenHubAway.LOCAL)
    ticked(controller, GONE_S)
    tap(controller, RESIDENT, GONE_S + 1)
    effects = tap(controller, GUARD, GONE_S + 2)
    assert reasons(effects)[:2] == [Reason.ENTITLED, Reason.LOCAL_GRANT]
    assert ends(effects) == [("granted", None)]


def test_who_waits_when_the_door_becomes_unattended_is_asked_to_present_the_card_again() -> None:
    """They would be let in from here on."""
    controller = begun(WhenHubAway.UNATTENDED)
    tap(controller, RESIDENT, 60)
    effects = ticked(controller, GONE_S)
    assert (ends(effects), shown(effects)) == ([("withdrawn", None)], [Signal.NOT_READ])
    assert released(tap(controller, RESIDENT, GONE_S + 1)) == [5_000]


def test_who_waits_for_a_card_is_told_when_the_bound_is_reached() -> None:
    """Refused by name, with the signal of its own."""
    controller = begun(WhenHubAway.LOCAL)
    ticked(controller, GONE_S)
    tap(controller, RESIDENT, MAX_S - 5)
    effects = ticked(controller, MAX_S + 1)
    assert (ends(effects), shown(effects)) == ([("withdrawn", Reason.HUB_AWAY)], [Signal.NOBODY])


def test_a_policy_may_change_what_holds_while_the_hub_is_away() -> None:
    """It came late, or from a disk; it is told as well."""
    controller = begun(WhenHubAway.UNATTENDED)
    ticked(controller, GONE_S)
    effects = accept(controller, now(GONE_S + 1), **GUARDED, hub_away_max_s=MAX_S)
    assert [each["attendance"] for each in details(effects, CHANGED)] == ["nobody"]


# ---- in any order

STEPS = st.sampled_from([RESIDENT, ATTENDED, REVOKED, VISITOR, GUARD, "heard", "nothing"])


@settings(max_examples=150, deadline=None)
@given(
    when_hub_away=st.sampled_from(WhenHubAway),
    steps=st.lists(st.tuples(st.sampled_from([0.5, 5.0, 31.0, 200.0]), STEPS), max_size=30),
)
def test_nobody_is_admitted_without_a_person_but_where_and_while_the_door_says_so(
    when_hub_away: WhenHubAway, steps: list[tuple[float, Any]]
) -> None:
    """Away by name only when it was silent or did not answer, within the bound only; every change told once, from the last."""
    controller, at_s, heard_s, told = begun(when_hub_away), 0.0, 0.0, "hub"
    for pause_s, step in steps:
        at_s += pause_s
        effects = ticked(controller, at_s)
        if step == "heard":
            effects += controller.on(STORED, now(at_s))
            heard_s = at_s
        elif step != "nothing":
            effects += tap(controller, step, at_s)
        for change in details(effects, CHANGED):
            assert change["before"] == told
            told = str(change["attendance"])
        assert controller.snapshot(now(at_s))[0].attendance == told
        silent_s = at_s - heard_s
        for draft in drafts(effects):
            if draft.reason in (Reason.HUB_AWAY_ADMITTED, Reason.LOCAL_AWAITED):
                assert when_hub_away is not WhenHubAway.DENY
                assert ANSWERED_WITHIN_S < silent_s <= MAX_S or step == "heard"
            if draft.reason is Reason.HUB_AWAY_ADMITTED:
                assert when_hub_away is WhenHubAway.UNATTENDED
                assert draft.credential_id == RESIDENT
            if draft.reason is Reason.DOOR_ATTENDED:
                assert silent_s <= SILENT_S
            assert draft.credential_id != REVOKED or draft.reason is Reason.CREDENTIAL_REVOKED
