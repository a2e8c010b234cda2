"""Those who wait for a person: what they are told, who may answer, and that each referral ends exactly once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.controller import DoorController
from edge.effects import Effect, Indicate, Record, ReleaseStrike, Signal, Sync
from edge.inputs import DocumentAccepted, Input, Now, ReadFailed, RecordFailed, RexPressed, Stopping, Tick
from pacs.commands import Action
from pacs.events import EventDraft, EventKind
from pacs.identifiers import CredentialId
from pacs.reason import ReadFault, Reason
from pacs.revocation import Status, StatusList
from pacs.rules import DoorMode, Entitlement, Side, WhenUnlisted
from tests.edge.at_the_door import (
    REQUEST,
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
    shape,
    ticked,
)
from tests.edge.small_site import (
    ATTENDED,
    BACK,
    FRONT,
    NOON,
    RESIDENT,
    REVOKED,
    SLOW_VISITOR,
    STAFF,
    STRANGER,
    VISITOR,
    credential,
    now,
    revocations,
)

ENDED = EventKind.REFERRAL_ENDED


def waiting(who: CredentialId = ATTENDED, **rules: Any) -> DoorController:
    """A controller at whose front door somebody waits."""
    controller = closed_door(**rules)
    assert kinds(controller.on(presented(who), now())) == [EventKind.ACCESS_REFERRED]
    return controller


def shown(effects: list[Effect]) -> list[Signal]:
    return [effect.signal for effect in effects if isinstance(effect, Indicate)]


def ended(effects: list[Effect]) -> list[tuple[object, CredentialId | None, Reason | None]]:
    """How referrals ended: outcome, whose, why."""
    return [
        (draft.details["outcome"], draft.credential_id, draft.reason)
        for draft in drafts(effects)
        if draft.kind is ENDED
    ]


def with_people(change: Callable[[dict[CredentialId, Entitlement]], object]) -> DocumentAccepted:
    """A policy of the small site that lists other people."""
    document = accepted()
    assert document.policy is not None
    people = dict(document.policy.entitlements)
    change(people)
    return replace(document, policy=replace(document.policy, entitlements=people))


OTHER_ATTENDED, OTHER_STAFF = (CredentialId(bytes([n]) * 16) for n in (98, 99))


def two_attended(listed: dict[CredentialId, Entitlement]) -> None:
    listed[OTHER_ATTENDED] = replace(listed[ATTENDED], credential_id=OTHER_ATTENDED)


def two_staff(listed: dict[CredentialId, Entitlement]) -> None:
    listed[OTHER_STAFF] = replace(listed[STAFF], credential_id=OTHER_STAFF)


def need_escorts(listed: dict[CredentialId, Entitlement], people: list[CredentialId]) -> None:
    listed.update({who: replace(listed[VISITOR], credential_id=who) for who in people})


# ---- asked


@pytest.mark.parametrize(
    ("who", "rules", "reason", "timeout_s"),
    [
        (ATTENDED, {"attended_timeout_s": 45}, Reason.CARDHOLDER_ATTENDED, 45),
        (RESIDENT, {"mode": DoorMode.ATTENDED}, Reason.DOOR_ATTENDED, 60),
        (VISITOR, {"escort_window_s": 20}, Reason.ESCORT_AWAITED, 20),
    ],
)
def test_a_referral_names_its_request_and_its_time(
    who: CredentialId, rules: dict[str, Any], reason: Reason, timeout_s: int
) -> None:
    """In the event; and when that time is over the referral has ended, once, and the person is told."""
    controller = closed_door(**rules)
    effects = controller.on(presented(who), now())
    (draft,) = drafts(effects)
    assert (draft.reason, draft.details) == (reason, {"request": REQUEST, "timeout_s": timeout_s})
    assert shown(effects) == [Signal.WAITING]
    assert controller.deadline_s == now(timeout_s).monotonic_s
    assert controller.snapshot(now())[0].waiting == 1
    assert ended(ticked(controller, timeout_s - 0.1)) == []
    over = ticked(controller, timeout_s)
    assert (ended(over), shown(over)) == ([("timeout", who, None)], [Signal.REFUSED])
    assert details(over, ENDED) == [{"request": REQUEST, "outcome": "timeout"}]
    assert ticked(controller, timeout_s + 1) == []
    assert controller.snapshot(now())[0].waiting == 0


def test_each_request_is_another() -> None:
    """Drawn anew for each card that waits."""
    controller = waiting(mode=DoorMode.ATTENDED)
    (_, other) = drafts(controller.on(presented(RESIDENT), now(1)))
    assert other.details["request"] != REQUEST


def test_a_card_that_is_presented_again_goes_on_waiting_under_its_request() -> None:
    """An answer on its way to it arrives; its time begins again, and what was prepared for the card is the same."""
    controller = waiting()
    controller.on(claimed(ATTENDED), now(49.9))
    (again,) = drafts(controller.on(presented(ATTENDED), now(50)))
    assert (again.kind, again.details["request"]) == (EventKind.ACCESS_REFERRED, REQUEST)
    assert ended(ticked(controller, 100)) == []
    effects = controller.on(answered(Action.GRANT), now(109))
    assert (ended(effects), released(effects)) == ([("granted", ATTENDED, None)], [5_000])


# ---- answered


def test_a_grant_from_a_person_opens_the_door() -> None:
    """Recorded with request and command before the strike; the referral has ended and the command was executed."""
    controller = waiting()
    command = answered(Action.GRANT)
    effects = controller.on(command, now(10))
    assert shape(effects) == [Record, ReleaseStrike, Record, Indicate, Record, Sync]
    assert kinds(effects) == [EventKind.ACCESS_GRANTED, ENDED, EventKind.COMMAND_EXECUTED]
    granted, _, executed = drafts(effects)
    assert (granted.reason, granted.credential_id, granted.side) == (
        Reason.ATTENDED_GRANT,
        ATTENDED,
        Side.ENTRY,
    )
    assert granted.details == {"request": REQUEST, "command": command.command.command_id}
    assert executed.details == {"command": command.command.command_id, "action": "grant"}
    assert (released(effects), shown(effects)) == ([5_000], [Signal.GRANTED])
    assert ended(effects) == [("granted", ATTENDED, None)]
    assert kinds(controller.on(opened(), now(12))) == [EventKind.DOOR_OPENED]


def test_a_refusal_from_a_person_keeps_the_door_shut() -> None:
    """The person at the door sees it at once."""
    effects = waiting().on(answered(Action.REFUSE), now(10))
    assert ended(effects) == [("refused", ATTENDED, Reason.ATTENDED_REFUSED)]
    assert kinds(effects) == [ENDED, EventKind.COMMAND_EXECUTED]
    assert (released(effects), shown(effects)) == ([], [Signal.REFUSED])


@pytest.mark.parametrize("action", [Action.GRANT, Action.REFUSE])
@pytest.mark.parametrize(
    ("wrong", "after_s"),
    [
        ({"request": bytes(16)}, 1),
        ({"who": RESIDENT}, 1),
        ({"at": BACK}, 1),
        ({}, 60),
    ],
    ids=["another request", "another card", "another door", "too late"],
)
def test_an_answer_is_bound_to_request_card_and_door(
    action: Action, wrong: dict[str, Any], after_s: float
) -> None:
    """Anything else is refused by name, and nothing moves."""
    effects = waiting().on(answered(action, **wrong), now(after_s))
    assert [draft.reason for draft in drafts(effects) if draft.kind is EventKind.COMMAND_REFUSED] == [
        Reason.REQUEST_UNKNOWN
    ]
    assert released(effects) == []


@pytest.mark.parametrize("action", [Action.GRANT, Action.REFUSE])
def test_a_request_is_answered_once(action: Action) -> None:
    """The second answer comes too late."""
    controller = waiting()
    controller.on(answered(Action.GRANT), now(1))
    again = controller.on(answered(action), now(2))
    assert (reasons(again), released(again)) == ([Reason.REQUEST_UNKNOWN], [])


def test_who_waits_for_an_escort_is_not_admitted_from_afar() -> None:
    """A person has to come along; sending them away is possible."""
    controller = waiting(VISITOR)
    granted = controller.on(answered(Action.GRANT, who=VISITOR), now(1))
    assert (reasons(granted), released(granted)) == ([Reason.COMMAND_OUT_OF_PLACE], [])
    assert ended(controller.on(answered(Action.REFUSE, who=VISITOR), now(2))) == [
        ("refused", VISITOR, Reason.ATTENDED_REFUSED)
    ]


# ---- ended otherwise


@pytest.mark.parametrize("who", [RESIDENT, OTHER_ATTENDED])
def test_a_newer_presentation_takes_the_place_of_the_one_that_waits(who: CredentialId) -> None:
    """One that is granted and one that is referred; at the other side or another door it does not."""
    controller = closed_door()
    controller.on(with_people(two_attended), now())
    controller.on(presented(ATTENDED), now())
    for elsewhere in (presented(who, side=Side.EXIT), presented(who, at=BACK)):
        assert ended(controller.on(elsewhere, now(1))) == []
    effects = controller.on(presented(who), now(2))
    assert ended(effects) == [("replaced", ATTENDED, None)]
    late = controller.on(answered(Action.GRANT), now(3))
    assert reasons(late) == [Reason.REQUEST_UNKNOWN]


@pytest.mark.parametrize("mode", [DoorMode.SECURED, DoorMode.ATTENDED])
def test_a_card_that_is_refused_ends_nobodys_wait(mode: DoorMode) -> None:
    """Neither for an answer nor for an escort."""
    for who in (ATTENDED, VISITOR):
        controller = waiting(who, mode=mode)
        for refused_card in (REVOKED, STRANGER):
            assert ended(controller.on(presented(refused_card), now(1))) == []
        assert controller.snapshot(now(2))[0].waiting == 1


def test_a_card_that_is_granted_makes_no_room_among_those_who_wait_for_an_escort() -> None:
    """It does not wait itself."""
    people = [CredentialId(bytes([n]) * 16) for n in range(100, 108)]
    controller = closed_door()
    controller.on(with_people(lambda listed: need_escorts(listed, people)), now())
    for who in people:
        controller.on(presented(who), now(1))
    assert ended(controller.on(presented(RESIDENT), now(2))) == []
    assert controller.snapshot(now(2))[0].waiting == 8


@pytest.mark.parametrize(
    "happened", [refused(), ReadFailed(door_id=FRONT, side=Side.ENTRY, fault=ReadFault.CARD_GONE)]
)
def test_what_is_no_authentic_card_takes_nobodys_place(happened: Input) -> None:
    """Holding something else to the reader does not cancel somebody's request."""
    controller = waiting()
    assert ended(controller.on(happened, now(1))) == []
    assert ended(controller.on(answered(Action.GRANT), now(2))) == [("granted", ATTENDED, None)]


@pytest.mark.parametrize(
    ("rules", "reason", "signal"),
    [
        ({"mode": DoorMode.LOCKDOWN}, Reason.DOOR_LOCKDOWN, Signal.REFUSED),
        ({"mode": DoorMode.OUT_OF_SERVICE}, Reason.DOOR_OUT_OF_SERVICE, Signal.REFUSED),
        ({"mode": DoorMode.SECURED}, None, Signal.NOT_READ),
    ],
)
def test_a_mode_that_asks_nobody_withdraws_the_referral(
    rules: dict[str, Any], reason: Reason | None, signal: Signal
) -> None:
    """Refused by name, or asked to present the card again where it would be let in."""
    controller = waiting(RESIDENT, mode=DoorMode.ATTENDED)
    effects = accept(controller, now(1), **rules)
    assert (ended(effects), shown(effects)) == ([("withdrawn", RESIDENT, reason)], [signal])
    ordered = waiting(RESIDENT, mode=DoorMode.ATTENDED)
    effects = ordered.on(commanded(Action.SET_MODE, mode=rules["mode"]), now(1))
    assert (ended(effects), shown(effects)) == ([("withdrawn", RESIDENT, reason)], [signal])


def test_a_card_that_is_blocked_while_it_waits_is_not_admitted() -> None:
    """The referral is withdrawn when the list arrives, and the answer that was on its way refused."""
    controller = waiting()
    held = revocations()
    blocked = StatusList.build(
        site_id=held.site_id,
        version=2,
        issued_at=held.issued_at,
        expires_at=held.expires_at,
        size=8,
        statuses={3: Status.INVALID},
    )
    effects = controller.on(replace(accepted(), revocations=blocked), now(1))
    assert ended(effects) == [("withdrawn", ATTENDED, Reason.CREDENTIAL_REVOKED)]
    assert reasons(controller.on(answered(Action.GRANT), now(2))) == [Reason.REQUEST_UNKNOWN]


def test_an_answer_is_decided_again_at_its_own_moment() -> None:
    """A policy that became too old a moment before: withdrawn, refused by name, and no strike."""
    controller = waiting(attended_timeout_s=600, max_policy_age_s=60)
    effects = controller.on(answered(Action.GRANT), now(61))
    assert ended(effects) == [("withdrawn", ATTENDED, Reason.POLICY_TOO_OLD)]
    assert (reasons(effects)[-1], released(effects)) == (Reason.REQUEST_UNKNOWN, [])


def test_an_answer_while_the_other_door_is_open_may_be_given_again() -> None:
    """Interlocked for a moment: refused by name, and the person still waits."""
    controller = waiting(interlock_with=frozenset({BACK}))
    controller.on(opened(BACK), now(1))
    effects = controller.on(answered(Action.GRANT), now(2))
    assert (reasons(effects), released(effects)) == ([Reason.INTERLOCKED], [])
    controller.on(opened(BACK, is_open=False), now(3))
    assert released(controller.on(answered(Action.GRANT), now(4))) == [5_000]


def test_an_answer_that_cannot_be_recorded_moves_nothing_and_may_be_given_again() -> None:
    """Denied by name, the command refused, and the person still waits."""
    controller = waiting()
    granted = drafts(controller.on(answered(Action.GRANT), now(1)))[0]
    effects = controller.on(RecordFailed(draft=granted), now(1))
    assert set(zip(kinds(effects), reasons(effects), strict=True)) == {
        (EventKind.COMMAND_REFUSED, Reason.JOURNAL_FAILED),
        (EventKind.ACCESS_DENIED, Reason.JOURNAL_FAILED),
    }
    assert released(controller.on(answered(Action.GRANT), now(2))) == [5_000]


def test_nobody_waits_for_a_controller_that_ends() -> None:
    """Withdrawn before the end is recorded."""
    effects = waiting().on(Stopping(), now(1))
    assert kinds(effects) == [ENDED, EventKind.CONTROLLER_STOPPED]
    assert ended(effects) == [("withdrawn", ATTENDED, None)]


def test_an_unlisted_card_is_referred_where_the_door_says_so() -> None:
    """One issued since the policy: a person decides."""
    controller = closed_door(when_unlisted=WhenUnlisted.REFER)
    unlisted = replace(credential(CredentialId(b"\x77" * 16)), valid_from=NOON.date())
    card = replace(presented(), credential=unlisted)
    assert reasons(controller.on(card, now())) == [Reason.UNLISTED_REFERRED]
    effects = controller.on(answered(Action.GRANT, who=unlisted.credential_id), now(1))
    assert (reasons(effects)[0], released(effects)) == (Reason.ATTENDED_GRANT, [5_000])


# ---- escorts


def test_who_came_before_the_escort_is_admitted_with_it() -> None:
    """One release, for as long as the slowest of them needs; one event for each, and every referral ended."""
    controller = waiting(VISITOR)
    controller.on(presented(SLOW_VISITOR), now(5))
    effects = controller.on(presented(STAFF), now(10))
    granted = [draft for draft in drafts(effects) if draft.kind is EventKind.ACCESS_GRANTED]
    assert [(draft.credential_id, draft.reason) for draft in granted] == [
        (STAFF, Reason.ENTITLED),
        (VISITOR, Reason.ESCORTED),
        (SLOW_VISITOR, Reason.ESCORTED),
    ]
    assert shape(effects)[:4] == [Record, Record, Record, ReleaseStrike]
    assert released(effects) == [15_000]
    assert ended(effects) == [("granted", VISITOR, None), ("granted", SLOW_VISITOR, None)]
    assert shown(effects) == [Signal.GRANTED]
    assert ended(ticked(controller, 100)) == []


def test_who_comes_after_the_escort_is_admitted_within_its_window() -> None:
    """By the monotonic clock, at this side of this door only."""
    controller = closed_door(back={}, escort_window_s=20)
    controller.on(presented(STAFF), now())
    controller.on(opened(), now(1))
    controller.on(opened(is_open=False), now(2))
    ticked(controller, 10)
    assert reasons(controller.on(presented(VISITOR), now(20))) == [Reason.ESCORTED]
    assert reasons(controller.on(presented(VISITOR, at=BACK), now(20)))[0] is Reason.ESCORT_AWAITED
    assert reasons(controller.on(presented(SLOW_VISITOR), now(20.1, wall_after_s=5))) == [
        Reason.ESCORT_AWAITED
    ]


def test_an_escort_at_another_door_or_on_the_way_out_admits_nobody() -> None:
    """Nor one whose grant could not be recorded."""
    controller = waiting(VISITOR, back={})
    for elsewhere in (presented(STAFF, at=BACK), presented(STAFF, side=Side.EXIT)):
        assert VISITOR not in {draft.credential_id for draft in drafts(controller.on(elsewhere, now(1)))}
    staff = drafts(controller.on(presented(STAFF), now(2)))[0]
    controller.on(RecordFailed(draft=staff), now(2))
    assert reasons(controller.on(presented(SLOW_VISITOR), now(3))) == [Reason.ESCORT_AWAITED]
    admitted = controller.on(presented(STAFF), now(4))
    assert {draft.credential_id for draft in drafts(admitted)} == {STAFF, VISITOR, SLOW_VISITOR}


@pytest.mark.parametrize("meanwhile", [None, RexPressed(door_id=FRONT)], ids=["stayed outside", "in doubt"])
def test_an_escort_who_is_not_known_to_have_gone_in_is_none(meanwhile: Input | None) -> None:
    """The door stays closed; or it opens when somebody asked to leave as well. Another escort who is in counts on."""
    for other_is_in in (False, True):
        controller = closed_door(back={}, escort_window_s=40)
        controller.on(with_people(two_staff), now())
        if other_is_in:
            controller.on(presented(OTHER_STAFF), now())
            controller.on(opened(), now(0.5))
            controller.on(opened(is_open=False), now(1))
            ticked(controller, 8)
        controller.on(presented(STAFF), now(10))
        if meanwhile:
            controller.on(meanwhile, now(11))
            controller.on(opened(), now(12))
            controller.on(opened(is_open=False), now(13))
        ticked(controller, 20)
        expected = Reason.ESCORTED if other_is_in else Reason.ESCORT_AWAITED
        assert reasons(controller.on(presented(VISITOR), now(29)))[-1] is expected


def test_at_an_attended_door_too_nobody_passes_without_their_escort() -> None:
    """The escort first, then a person decides; whichever of the two comes to wait, none replaces the other."""
    controller = waiting(VISITOR, mode=DoorMode.ATTENDED)
    early = controller.on(answered(Action.GRANT, who=VISITOR), now(1))
    assert (reasons(early), released(early)) == ([Reason.COMMAND_OUT_OF_PLACE], [])
    (staff,) = drafts(controller.on(presented(STAFF), now(2)))
    assert staff.reason is Reason.DOOR_ATTENDED
    request = staff.details["request"]
    assert isinstance(request, bytes)
    let_in = controller.on(answered(Action.GRANT, request=request, who=STAFF), now(3))
    assert {draft.credential_id for draft in drafts(let_in) if draft.credential_id} == {STAFF}
    controller.on(opened(), now(4))
    granted = controller.on(answered(Action.GRANT, who=VISITOR), now(5))
    assert reasons(granted)[0] is Reason.ATTENDED_GRANT
    assert ended(granted) == [("granted", VISITOR, None)]


def test_a_mode_that_changes_lets_no_answer_take_an_escorts_place() -> None:
    """Referred by an attended door with the escort inside; answered when the escort's time is over."""
    controller = closed_door(mode=DoorMode.ATTENDED, attended_timeout_s=90)
    (staff,) = drafts(controller.on(presented(STAFF), now()))
    request = staff.details["request"]
    assert isinstance(request, bytes)
    controller.on(answered(Action.GRANT, request=request, who=STAFF), now(1))
    controller.on(opened(), now(2))
    controller.on(opened(is_open=False), now(3))
    (visitor,) = drafts(controller.on(presented(VISITOR), now(4)))
    assert visitor.reason is Reason.DOOR_ATTENDED
    request = visitor.details["request"]
    assert isinstance(request, bytes)
    late = controller.on(answered(Action.GRANT, request=request, who=VISITOR), now(60))
    assert (reasons(late), released(late)) == ([Reason.COMMAND_OUT_OF_PLACE], [])
    accept(controller, now(61))
    again = controller.on(answered(Action.GRANT, request=request, who=VISITOR), now(62))
    assert (reasons(again), released(again)) == ([Reason.COMMAND_OUT_OF_PLACE], [])


def test_companions_whose_grant_cannot_be_recorded_stay_outside_with_their_escort() -> None:
    """One release, so all of them: each is denied, goes on waiting, and comes in with the next try."""
    controller = waiting(VISITOR)
    for failing in (0, 1):
        granted = drafts(controller.on(presented(STAFF), now(2 + failing)))
        effects = controller.on(RecordFailed(draft=granted[failing]), now(2 + failing))
        assert [(draft.credential_id, draft.reason) for draft in drafts(effects)] == [
            (STAFF, Reason.JOURNAL_FAILED),
            (VISITOR, Reason.JOURNAL_FAILED),
        ]
    assert kinds(controller.on(opened(), now(4))) == [EventKind.DOOR_FORCED]
    controller.on(opened(is_open=False), now(5))
    assert ended(controller.on(presented(STAFF), now(6))) == [("granted", VISITOR, None)]


def test_an_escort_who_is_not_admitted_takes_nobody_along() -> None:
    """Interlocked: both stay where they are."""
    controller = waiting(VISITOR, interlock_with=frozenset({BACK}))
    controller.on(opened(BACK), now(1))
    effects = controller.on(presented(STAFF), now(2))
    assert (reasons(effects), released(effects)) == ([Reason.INTERLOCKED], [])


def test_a_blocked_visitor_is_not_taken_along() -> None:
    """What is decided again is everything, not only whether the escort is there."""
    controller = waiting(VISITOR)
    effects = controller.on(with_people(lambda people: people.pop(VISITOR)), now(1))
    assert ended(effects) == [("withdrawn", VISITOR, Reason.CREDENTIAL_UNLISTED)]
    assert released(controller.on(presented(STAFF), now(2))) == [5_000]


def test_only_so_many_wait_for_one_escort() -> None:
    """The oldest gives way; the memory of a door is bounded."""
    people = [CredentialId(bytes([n]) * 16) for n in range(100, 112)]
    controller = closed_door()
    controller.on(with_people(lambda listed: need_escorts(listed, people)), now())
    replaced = [ended(controller.on(presented(who), now(1))) for who in people]
    assert [len(outcomes) for outcomes in replaced] == [0] * 8 + [1] * 4
    assert controller.snapshot(now(1))[0].waiting == 8


# ---- in any order


WHO = st.sampled_from([ATTENDED, RESIDENT, VISITOR, SLOW_VISITOR, STAFF, REVOKED])
WHAT: st.SearchStrategy[Any] = st.one_of(
    st.builds(presented, WHO),
    st.builds(claimed, WHO),
    st.builds(lambda is_open: opened(BACK, is_open=is_open), st.booleans()),
    st.sampled_from([Action.GRANT, Action.REFUSE]),
    st.sampled_from([DoorMode.ATTENDED, DoorMode.LOCKDOWN, DoorMode.SECURED]),
    st.just("clear"),
    st.just("fails"),
)


class Book:
    """What was asked and what ended at one controller, whose journal may fail."""

    def __init__(self) -> None:
        self.controller = closed_door(back={}, interlock_with=frozenset({BACK}))
        self.asked: dict[bytes, CredentialId | None] = {}
        self.over: list[bytes] = []
        self.fails_next = False

    def happens(self, happened: Input, at: Now) -> None:
        self.take(self.controller.on(happened, at), at)

    def take(self, effects: list[Effect], at: Now) -> None:
        before: Effect | None = None
        for effect in effects:
            if isinstance(effect, ReleaseStrike) and self.fails_next:
                self.fails_next = False
                assert isinstance(before, Record)
                assert before.draft.kind in (EventKind.ACCESS_GRANTED, EventKind.COMMAND_EXECUTED)
                self.happens(RecordFailed(draft=before.draft), at)
                return
            if isinstance(effect, Record):
                self.enter(effect.draft)
            before = effect

    def enter(self, draft: EventDraft) -> None:
        request = draft.details.get("request")
        assert request is None or isinstance(request, bytes)
        if draft.kind is EventKind.ACCESS_REFERRED:
            assert request is not None
            assert request not in self.over
            assert self.asked.setdefault(request, draft.credential_id) == draft.credential_id
        if draft.kind is ENDED:
            assert request is not None
            assert self.asked[request] == draft.credential_id
            self.over.append(request)

    def answer(self, action: Action, which: int, at: Now) -> None:
        waiting = [request for request in self.asked if request not in self.over]
        if waiting:
            request = waiting[which % len(waiting)]
            who = self.asked[request]
            assert who is not None
            self.happens(answered(action, request=request, who=who), at)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 31.0, 61.0]), st.integers(0, 5), WHAT), max_size=25))
def test_every_referral_ends_exactly_once(steps: list[tuple[float, int, Any]]) -> None:
    """Whatever happens: no request is ended twice or without having been asked, and at the end none is left."""
    book, at_s = Book(), 0.0
    for pause_s, which, what in steps:
        at_s += pause_s
        at = now(at_s)
        book.happens(Tick(), at)
        if isinstance(what, Action):
            book.answer(what, which, at)
        elif isinstance(what, DoorMode):
            book.happens(commanded(Action.SET_MODE, mode=what), at)
        elif what == "clear":
            book.happens(commanded(Action.CLEAR_MODE), at)
        elif what == "fails":
            book.fails_next = True
        else:
            book.happens(what, at)
    book.happens(Stopping(), now(at_s))
    assert sorted(book.over) == sorted(book.asked)


def test_without_a_contact_who_was_granted_by_a_person_is_not_awaited() -> None:
    """As with every other grant."""
    controller = make(has_contact=False)
    controller.on(presented(ATTENDED), now())
    controller.on(answered(Action.GRANT), now(1))
    assert controller.deadline_s is None or controller.deadline_s > now(1).monotonic_s
    ticked(controller, 2)
    assert controller.deadline_s is None
