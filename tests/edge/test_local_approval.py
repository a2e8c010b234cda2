"""Cards that admit others at a door where a person decides: who passes by them, how many, for how long, and who never."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.controller import DoorController
from edge.effects import Effect, Indicate, Record, ReleaseStrike, Signal, Sync
from edge.inputs import DocumentAccepted, Input, RecordFailed
from pacs.commands import Action
from pacs.decision import Outcome, decide
from pacs.events import EventKind
from pacs.identifiers import CredentialId
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
from pacs.rules import Antipassback, DoorMode, Side
from pacs.situation import NOTHING_KNOWN
from tests.edge.at_the_door import (
    REQUEST,
    accepted,
    claimed,
    closed_door,
    commanded,
    drafts,
    kinds,
    opened,
    presented,
    reasons,
    released,
    shape,
    ticked,
)
from tests.edge.small_site import (
    ATTENDED,
    BACK,
    GUARD,
    GUARDS_LEVEL,
    RESIDENT,
    REVOKED,
    SLOW_RESIDENT,
    STAFF,
    STAFF_LEVEL,
    STRANGER,
    VISITOR,
    credential,
    now,
    policy,
    revocations,
)

GUARDED: dict[str, Any] = {"mode": DoorMode.ATTENDED, "admitting_levels": frozenset({GUARDS_LEVEL})}
WINDOW_S = 30
GRANTED, DENIED, REFERRED = EventKind.ACCESS_GRANTED, EventKind.ACCESS_DENIED, EventKind.ACCESS_REFERRED
BY_GUARD = {"by": bytes(GUARD)}


def tap(controller: DoorController, who: CredentialId, after_s: float = 0.0, **where: Any) -> list[Effect]:
    return controller.on(presented(who, **where), now(after_s))


def outcomes(effects: list[Effect]) -> list[tuple[CredentialId | None, Reason | None]]:
    """Who was granted, and why, in order."""
    return [(draft.credential_id, draft.reason) for draft in drafts(effects) if draft.kind is GRANTED]


def ends(effects: list[Effect]) -> list[tuple[CredentialId | None, object]]:
    """Whose waiting ended, and how."""
    return [
        (draft.credential_id, draft.details["outcome"])
        for draft in drafts(effects)
        if draft.kind is EventKind.REFERRAL_ENDED
    ]


def blocked(*who: CredentialId) -> DocumentAccepted:
    """A revocation list by which these are revoked."""
    held, people = revocations(), policy().entitlements
    listed = StatusList.build(
        site_id=held.site_id,
        version=2,
        issued_at=held.issued_at,
        expires_at=held.expires_at,
        size=8,
        statuses={people[each].status_index: Status.INVALID for each in who},
    )
    return replace(accepted(**GUARDED), revocations=listed)


# ---- the resident first


def test_who_waits_is_admitted_by_a_guards_card() -> None:
    """One release for both; the event says by whose card, and the request has ended as granted."""
    controller = closed_door(**GUARDED)
    assert kinds(tap(controller, RESIDENT)) == [REFERRED]
    effects = tap(controller, GUARD, 10)
    assert shape(effects) == [Record, Record, ReleaseStrike, Record, Indicate, Sync]
    assert outcomes(effects) == [(GUARD, Reason.ENTITLED), (RESIDENT, Reason.LOCAL_GRANT)]
    assert drafts(effects)[1].details == {"request": REQUEST, **BY_GUARD}
    assert ends(effects) == [(RESIDENT, "granted")]
    assert [each.signal for each in effects if isinstance(each, Indicate)] == [Signal.GRANTED]
    ticked(controller, 11)
    assert controller.snapshot(now(11))[0].waiting == 0
    assert kinds(tap(controller, RESIDENT, 12)) == [REFERRED], "the one place was used"


def test_a_cardholder_of_whom_a_person_decides_is_admitted_at_any_door() -> None:
    """Also where the door itself asks nobody; whoever passes anyway needs no card but their own."""
    controller = closed_door(**GUARDED | {"mode": DoorMode.SECURED})
    tap(controller, ATTENDED)
    assert outcomes(tap(controller, GUARD, 1)) == [(GUARD, Reason.ENTITLED), (ATTENDED, Reason.LOCAL_GRANT)]
    tap(controller, GUARD, 2)
    assert outcomes(tap(controller, RESIDENT, 3)) == [(RESIDENT, Reason.ENTITLED)]
    assert outcomes(tap(controller, ATTENDED, 4)) == [(ATTENDED, Reason.LOCAL_GRANT)]


def test_the_door_stays_open_for_the_slowest_of_them() -> None:
    """As with an escort."""
    controller = closed_door(**GUARDED)
    tap(controller, SLOW_RESIDENT)
    assert released(tap(controller, GUARD, 1)) == [15_000]


@pytest.mark.parametrize(("at_most", "admitted"), [(1, [3]), (2, [2, 3]), (8, [0, 1, 2, 3])])
def test_of_those_who_wait_as_many_are_admitted_as_one_card_admits(at_most: int, admitted: list[int]) -> None:
    """The newest; those before them were told to wait no longer when the newer ones came."""
    people = [RESIDENT, SLOW_RESIDENT, ATTENDED, STAFF]
    controller = closed_door(**GUARDED, admits_at_most=at_most)
    came = [effect for at_s, who in enumerate(people) for effect in tap(controller, who, at_s)]
    assert ends(came) == [(people[n], "replaced") for n in range(4) if n not in admitted]
    effects = tap(controller, GUARD, 10)
    assert outcomes(effects)[1:] == [(people[n], Reason.LOCAL_GRANT) for n in admitted]
    assert ends(effects) == [(people[n], "granted") for n in admitted]
    assert len(released(effects)) == 1


# ---- the guard first


@pytest.mark.parametrize("at_most", [1, 2, 5])
def test_after_a_guard_so_many_are_admitted_and_no_more(at_most: int) -> None:
    """Each by a release of their own; the next one waits, and the next tap of the guard begins anew."""
    controller = closed_door(**GUARDED, admits_at_most=at_most)
    assert outcomes(tap(controller, GUARD)) == [(GUARD, Reason.ENTITLED)]
    for number in range(at_most):
        effects = tap(controller, RESIDENT, 1 + number)
        assert (outcomes(effects), released(effects)) == ([(RESIDENT, Reason.LOCAL_GRANT)], [5_000])
        assert drafts(effects)[0].details == BY_GUARD
    assert kinds(tap(controller, RESIDENT, 10)) == [REFERRED]
    assert outcomes(tap(controller, GUARD, 11))[1:] == [(RESIDENT, Reason.LOCAL_GRANT)]


def test_who_waited_takes_one_of_the_places() -> None:
    """Of three, one waited: two more may follow."""
    controller = closed_door(**GUARDED, admits_at_most=3)
    tap(controller, RESIDENT)
    tap(controller, GUARD, 1)
    found = [reasons(tap(controller, who, 2))[-1] for who in (ATTENDED, SLOW_RESIDENT, RESIDENT)]
    assert found == [Reason.LOCAL_GRANT, Reason.LOCAL_GRANT, Reason.DOOR_ATTENDED]


@pytest.mark.parametrize(("after_s", "reason"), [(29.9, Reason.LOCAL_GRANT), (30.0, Reason.DOOR_ATTENDED)])
@pytest.mark.parametrize("wall_after_s", [0.0, 30.0, 900.0])
def test_the_window_is_of_the_monotonic_clock(after_s: float, reason: Reason, wall_after_s: float) -> None:
    """No step of the wall clock lengthens or shortens it."""
    controller = closed_door(**GUARDED, escort_window_s=WINDOW_S)
    tap(controller, GUARD)
    effects = controller.on(presented(RESIDENT), now(after_s, wall_after_s=wall_after_s))
    assert reasons(effects)[-1] is reason


# ---- who admits nobody


@pytest.mark.parametrize("changed", [blocked(GUARD), accepted(mode=DoorMode.ATTENDED)], ids=["card", "right"])
def test_who_may_no_longer_admit_does_not(changed: DocumentAccepted) -> None:
    """A card that was blocked, or a door that takes its word no longer: from that moment, also within the window."""
    controller = closed_door(**GUARDED, admits_at_most=8)
    tap(controller, GUARD)
    controller.on(changed, now(1))
    assert kinds(tap(controller, RESIDENT, 2)) == [REFERRED]
    assert outcomes(tap(controller, GUARD, 3)) == []


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        (GUARDED, {"at": BACK}),
        (GUARDED, {"side": Side.EXIT}),
        (GUARDED | {"admitting_levels": frozenset()}, {}),
        (GUARDED | {"admitting_levels": frozenset({STAFF_LEVEL})}, {}),
    ],
    ids=["another door", "the way out", "a door that takes nobody's word", "another level"],
)
def test_a_card_admits_nobody_elsewhere(rules: dict[str, Any], where: dict[str, Any]) -> None:
    """Whoever waits goes on waiting, and whoever comes waits."""
    controller = closed_door(**rules, back={})
    tap(controller, RESIDENT)
    assert RESIDENT not in dict(outcomes(tap(controller, GUARD, 1, **where)))
    assert kinds(tap(controller, RESIDENT, 2))[-1] is REFERRED


def test_a_card_that_has_not_proved_itself_admits_nobody() -> None:
    """A certificate alone, which anybody may have copied, is prepared for and no more."""
    controller = closed_door(**GUARDED)
    controller.on(claimed(GUARD), now())
    assert kinds(tap(controller, RESIDENT, 1)) == [REFERRED]
    assert outcomes(controller.on(claimed(GUARD), now(2))) == []
    assert controller.snapshot(now(2))[0].waiting == 1


def test_a_grant_that_cannot_be_recorded_admits_nobody() -> None:
    """Neither those who waited, who go on waiting, nor those who come after."""
    controller = closed_door(**GUARDED, admits_at_most=2)
    tap(controller, RESIDENT)
    for failing in (0, 1):
        granted = drafts(tap(controller, GUARD, 1))
        effects = controller.on(RecordFailed(draft=granted[failing]), now(1))
        assert set(reasons(effects)) == {Reason.JOURNAL_FAILED}
        assert controller.snapshot(now(1))[0].waiting == 1
    assert kinds(tap(controller, SLOW_RESIDENT, 2)) == [REFERRED]


def test_a_place_is_used_only_by_a_grant_that_was_recorded() -> None:
    """Who was turned away by a full disk may try again."""
    controller = closed_door(**GUARDED)
    tap(controller, GUARD)
    (granted,) = drafts(tap(controller, RESIDENT, 1))
    controller.on(RecordFailed(draft=granted), now(1))
    assert outcomes(tap(controller, RESIDENT, 2)) == [(RESIDENT, Reason.LOCAL_GRANT)]


def test_nobody_is_admitted_by_a_card_whom_the_rules_refuse() -> None:
    """Revoked, unknown, in a lockdown, without the escort they need: their own reason stands."""
    controller = closed_door(**GUARDED, admits_at_most=8)
    tap(controller, GUARD)
    found = [reasons(tap(controller, who, 1))[-1] for who in (REVOKED, STRANGER, VISITOR)]
    assert found == [Reason.CREDENTIAL_REVOKED, Reason.CREDENTIAL_UNLISTED, Reason.ESCORT_AWAITED]
    assert reasons(tap(controller, GUARD, 2)) == [Reason.ENTITLED]
    controller.on(commanded(Action.SET_MODE, mode=DoorMode.LOCKDOWN), now(3))
    assert reasons(tap(controller, RESIDENT, 4)) == [Reason.DOOR_LOCKDOWN]


def test_who_is_blocked_while_waiting_is_not_admitted() -> None:
    """Withdrawn when the list arrives; the card that comes then opens for itself."""
    controller = closed_door(**GUARDED)
    tap(controller, RESIDENT)
    assert ends(controller.on(blocked(RESIDENT), now(1))) == [(RESIDENT, "withdrawn")]
    assert outcomes(tap(controller, GUARD, 2)) == [(GUARD, Reason.ENTITLED)]


def test_a_guard_at_the_door_is_not_held_to_be_inside() -> None:
    """Whoever admits others may stay where they are: hard anti-passback notes it and goes on."""
    rules = GUARDED | {"area": "yard", "antipassback": Antipassback.HARD, "admits_at_most": 2}
    controller = closed_door(**rules)
    for at_s, reason in ((0, Reason.ENTITLED), (10, Reason.ANTIPASSBACK_SOFT)):
        assert reasons(tap(controller, GUARD, at_s)) == [reason]
        who = RESIDENT if at_s == 0 else SLOW_RESIDENT
        assert outcomes(tap(controller, who, at_s + 1)) == [(who, Reason.LOCAL_GRANT)]
        controller.on(opened(), now(at_s + 2))
        controller.on(opened(is_open=False), now(at_s + 3))
    assert reasons(tap(controller, RESIDENT, 15)) == [Reason.ANTIPASSBACK_HARD]


# ---- in any order

WHO = st.sampled_from([RESIDENT, ATTENDED, VISITOR, REVOKED, STRANGER, GUARD, STAFF])
WHAT: st.SearchStrategy[Any] = st.one_of(
    st.builds(presented, WHO, side=st.sampled_from(Side)),
    st.builds(claimed, WHO),
    st.sampled_from(
        [
            commanded(Action.SET_MODE, mode=DoorMode.LOCKDOWN),
            commanded(Action.CLEAR_MODE),
            blocked(GUARD),
            blocked(REVOKED),
            blocked(RESIDENT),
        ]
    ),
)


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from([0.0, 1.0, 11.0, 31.0]), WHAT), max_size=25),
    at_most=st.integers(1, 3),
)
def test_a_card_admits_so_many_in_its_window_and_nobody_whom_the_rules_refuse(
    steps: list[tuple[float, Input]], at_most: int
) -> None:
    """Whatever happens: each who passes by a card would otherwise wait, and the card's last tap has places and time left."""
    rules = GUARDED | {"admits_at_most": at_most, "escort_window_s": WINDOW_S}
    controller, at_s = closed_door(**rules, back={}), 0.0
    held, listed = policy(**rules), revocations()
    tapped_s, used = -1e9, 0
    for pause_s, step in steps:
        at_s, happened = at_s + pause_s, step
        ticked(controller, at_s)
        if isinstance(happened, DocumentAccepted):
            assert happened.policy
            assert happened.revocations
            held, listed = replace(happened.policy, doors=held.doors), happened.revocations
            happened = replace(happened, policy=held)
        effects = controller.on(happened, now(at_s))
        for who, reason in outcomes(effects):
            if who == GUARD and reason is not Reason.EXIT_FREE:
                tapped_s, used = at_s, 0
            if reason is Reason.LOCAL_GRANT:
                assert who
                used += 1
                assert used <= at_most
                assert at_s - tapped_s < WINDOW_S
                alone = decide(
                    credential(who),
                    presented().door_id,
                    Side.ENTRY,
                    policy=held,
                    revocations=listed,
                    clock=now(at_s).clock,
                    situation=NOTHING_KNOWN,
                )
                assert alone.outcome is Outcome.REFER
                assert alone.reason is not Reason.ESCORT_AWAITED
        if getattr(happened, "side", None) is Side.EXIT and type(happened) is type(presented()):
            assert outcomes(effects)[0][1] is Reason.EXIT_FREE
