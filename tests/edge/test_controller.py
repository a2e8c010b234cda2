"""What the controller answers to each input, without any adapter."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import controller as controller_module
from edge.after_fault import after_fault
from edge.controller import DoorController
from edge.deciding import FORESEEN_S
from edge.door_state import OPENING_GRACE_S
from edge.effects import (
    AdoptIssuers,
    Effect,
    EndHold,
    HoldStrike,
    Indicate,
    LockStrike,
    Prepare,
    Record,
    ReleaseStrike,
    Signal,
    Sound,
    Sync,
)
from edge.inputs import (
    CardClaimed,
    CardDetected,
    CardPresented,
    DocumentRefused,
    Input,
    Now,
    PartFailed,
    ReaderLost,
    ReaderRestored,
    ReadFailed,
    RecordFailed,
    RexPressed,
    Started,
    Stopping,
    Tick,
)
from pacs.events import EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.messages import DocumentKind
from pacs.reason import ReadFault, Reason
from pacs.rules import DoorMode, Side
from tests.edge.at_the_door import (
    DIGEST,
    accept,
    accepted,
    claimed,
    closed_door,
    drafts,
    kinds,
    make,
    opened,
    presented,
    refused,
    shape,
)
from tests.edge.small_site import (
    ATTENDED,
    BACK,
    FRONT,
    RESIDENT,
    REVOKED,
    SLOW_RESIDENT,
    STAFF,
    STRANGER,
    VISITOR,
    now,
    policy,
)

# ---- cards


def test_a_grant_is_recorded_before_the_strike_then_shown_then_made_durable() -> None:
    """The order of effects of a grant, and what each carries."""
    effects = make().on(presented(), now())
    assert shape(effects) == [Record, ReleaseStrike, Indicate, Sync]
    (draft,) = drafts(effects)
    assert (draft.kind, draft.reason, draft.credential_id) == (
        EventKind.ACCESS_GRANTED,
        Reason.ENTITLED,
        RESIDENT,
    )
    assert (draft.door_id, draft.side, draft.occurred_at) == (FRONT, Side.ENTRY, now().clock.at)
    assert effects[1:3] == [
        ReleaseStrike(door_id=FRONT, unlock_ms=5_000),
        Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.GRANTED),
    ]


def test_extended_opening_unlocks_longer() -> None:
    """A person with extended opening gets the door's extended time."""
    effects = make().on(presented(SLOW_RESIDENT), now())
    assert ReleaseStrike(door_id=FRONT, unlock_ms=15_000) in effects


@pytest.mark.parametrize(
    ("who", "at", "reason"),
    [
        (REVOKED, FRONT, Reason.CREDENTIAL_REVOKED),
        (STRANGER, FRONT, Reason.CREDENTIAL_UNLISTED),
        (RESIDENT, BACK, Reason.NO_ACCESS_LEVEL),
    ],
)
def test_a_denial_is_recorded_with_its_reason_and_moves_nothing(
    who: CredentialId, at: DoorId, reason: Reason
) -> None:
    """No strike in a denial; red is shown."""
    effects = make().on(presented(who, at=at), now())
    assert shape(effects) == [Record, Indicate, Sync]
    assert [(draft.kind, draft.reason) for draft in drafts(effects)] == [(EventKind.ACCESS_DENIED, reason)]
    assert effects[1] == Indicate(door_id=at, side=Side.ENTRY, signal=Signal.REFUSED)


def test_a_referral_waits_for_a_person() -> None:
    """Somebody attended is told to wait; the strike stays."""
    effects = make().on(presented(ATTENDED), now())
    assert shape(effects) == [Record, Indicate, Sync]
    assert kinds(effects) == [EventKind.ACCESS_REFERRED]
    assert effects[1] == Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.WAITING)


def test_a_card_that_is_not_authentic_is_denied_with_what_verification_found() -> None:
    """The reader's reason goes into the event, with the credential the card claims."""
    effects = make().on(refused(Reason.SIGNATURE_INVALID), now())
    (draft,) = drafts(effects)
    assert (draft.kind, draft.reason, draft.credential_id) == (
        EventKind.ACCESS_DENIED,
        Reason.SIGNATURE_INVALID,
        RESIDENT,
    )
    assert ReleaseStrike not in shape(effects)


def test_without_a_policy_every_card_is_denied_for_that() -> None:
    """Neither an unknown issuer nor an unlisted card is blamed on the card when no policy is held."""
    controller = make(has_policy=False)
    for happened in (presented(), refused(Reason.ISSUER_UNKNOWN)):
        assert [draft.reason for draft in drafts(controller.on(happened, now()))] == [Reason.POLICY_MISSING]


def test_a_card_that_cannot_be_read_is_shown_and_counted_and_not_recorded() -> None:
    """No event about a person for a card nobody could read."""
    controller = make()
    effects = controller.on(ReadFailed(door_id=FRONT, side=Side.ENTRY, fault=ReadFault.WAIT_LIMIT), now())
    assert effects == [Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.NOT_READ)]
    assert controller.unread_count == 1


def test_a_card_in_the_field_is_shown() -> None:
    """Reading is a signal of its own."""
    effects = make().on(CardDetected(door_id=FRONT, side=Side.ENTRY), now())
    assert effects == [Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.READING)]


# ---- the way out


@pytest.mark.parametrize("has_policy", [True, False])
@pytest.mark.parametrize(
    "happened",
    [
        presented(REVOKED, side=Side.EXIT),
        presented(STRANGER, at=BACK, side=Side.EXIT),
        refused(side=Side.EXIT),
        ReadFailed(door_id=FRONT, side=Side.EXIT, fault=ReadFault.CARD_GONE),
        RexPressed(door_id=FRONT),
    ],
)
@pytest.mark.parametrize("mode", [DoorMode.SECURED, DoorMode.LOCKDOWN, DoorMode.OUT_OF_SERVICE])
def test_nobody_is_kept_inside(happened: Input, mode: DoorMode, *, has_policy: bool) -> None:
    """Whatever is presented at an exit, in any mode, with or without a policy: recorded, released, never denied."""
    effects = make(has_policy=has_policy, mode=mode).on(happened, now(trusted=False))
    assert shape(effects)[:2] == [Record, ReleaseStrike]
    assert all(kind in (EventKind.ACCESS_GRANTED, EventKind.EXIT_REQUESTED) for kind in kinds(effects))
    release = effects[1]
    assert isinstance(release, ReleaseStrike)
    assert release.even_unrecorded


def test_an_entry_is_not_released_without_its_event() -> None:
    """Only the way out is opened when the journal fails."""
    release = make().on(presented(), now())[1]
    assert isinstance(release, ReleaseStrike)
    assert not release.even_unrecorded


def test_a_release_that_could_not_be_recorded_is_refused_by_name() -> None:
    """The person is denied with journal_failed, and nobody is awaited at the door."""
    controller = make()
    (granted,) = drafts(controller.on(presented(), now()))
    effects = controller.on(RecordFailed(draft=granted), now())
    assert [draft.reason for draft in drafts(effects)] == [Reason.JOURNAL_FAILED]
    assert Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.REFUSED) in effects
    assert controller.deadline_s is None


# ---- the door


def test_a_door_opened_after_a_grant_was_opened_not_forced() -> None:
    """Also at the very end of the release, when the contact reports a little later."""
    for after_s in (0.0, 4.9, 5.0 + OPENING_GRACE_S):
        controller = closed_door()
        controller.on(presented(), now())
        assert kinds(controller.on(opened(), now(after_s))) == [EventKind.DOOR_OPENED]
        assert kinds(controller.on(opened(is_open=False), now(after_s + 2))) == [EventKind.DOOR_CLOSED]


def test_a_door_that_opens_by_itself_was_forced() -> None:
    """Without a release, after one, and after one that was for the other door."""
    controller = closed_door()
    controller.on(presented(), now())
    assert kinds(controller.on(opened(), now(5.0 + OPENING_GRACE_S + 0.1))) == [
        EventKind.DOOR_NOT_ENTERED,
        EventKind.DOOR_FORCED,
    ]
    other = closed_door()
    other.on(RexPressed(door_id=BACK), now())
    assert kinds(other.on(opened(), now(1))) == [EventKind.DOOR_FORCED]


def test_a_contact_that_repeats_itself_says_nothing_new() -> None:
    """One event for one change."""
    controller = closed_door()
    controller.on(opened(), now())
    assert controller.on(opened(), now(1)) == []


def test_a_door_that_stands_open_at_the_start_is_neither_forced_nor_ignored() -> None:
    """Nobody saw how it was opened: it is recorded as open."""
    (draft,) = drafts(make().on(opened(), now()))
    assert (draft.kind, draft.details) == (EventKind.DOOR_OPENED, {"at_start": True})


def test_a_grant_nobody_used_is_recorded_once() -> None:
    """After the release and its grace; with the credential and side of the grant."""
    controller = closed_door()
    controller.on(presented(), now())
    assert controller.deadline_s == now(5.0 + OPENING_GRACE_S).monotonic_s
    assert kinds(controller.on(Tick(), now(5.0))) == []
    (draft,) = drafts(controller.on(Tick(), now(5.0 + OPENING_GRACE_S + 0.01)))
    assert (draft.kind, draft.credential_id, draft.side) == (
        EventKind.DOOR_NOT_ENTERED,
        RESIDENT,
        Side.ENTRY,
    )
    assert controller.on(Tick(), now(60)) == []


@pytest.mark.parametrize("happened", [opened(), presented(SLOW_RESIDENT)])
def test_who_enters_or_taps_again_is_not_missed_too_early(happened: Input) -> None:
    """An opened door, or a longer release, puts an end to waiting or off it."""
    controller = closed_door()
    controller.on(presented(), now())
    controller.on(happened, now(1))
    assert EventKind.DOOR_NOT_ENTERED not in kinds(controller.on(Tick(), now(10)))


def test_without_a_contact_nobody_is_awaited() -> None:
    """A door that cannot say whether it opened gives no such event."""
    controller = make(has_contact=False)
    controller.on(presented(), now())
    assert controller.deadline_s is None


def test_a_door_held_open_warns_then_alarms_once_and_after_closing_again() -> None:
    """By the door's own rule, in seconds; the sounds end when it closes, and the event says how long it was held."""
    controller = closed_door(held_open_after_s=10, held_warning_s=4)
    for start_s in (0, 100):
        controller.on(presented(), now(start_s))
        controller.on(opened(), now(start_s + 1))
        assert controller.deadline_s == now(start_s + 7).monotonic_s
        assert kinds(controller.on(Tick(), now(start_s + 6.9))) == []
        warned = controller.on(Tick(), now(start_s + 7))
        assert kinds(warned) == [EventKind.DOOR_HELD_WARNING]
        assert Sound(door_id=FRONT, signal=Signal.HELD_WARNING) in warned
        assert controller.deadline_s == now(start_s + 11).monotonic_s
        held = controller.on(Tick(), now(start_s + 11))
        assert kinds(held) == [EventKind.DOOR_HELD]
        assert Sound(door_id=FRONT, signal=Signal.ALARM) in held
        assert controller.on(Tick(), now(start_s + 50)) == []
        closed = controller.on(opened(is_open=False), now(start_s + 51))
        assert kinds(closed) == [EventKind.DOOR_CLOSED, EventKind.DOOR_ALARM_CLEARED]
        assert drafts(closed)[1].details == {"alarm": "held", "after_s": 40}
        assert Sound(door_id=FRONT, signal=Signal.SILENT) in closed


def test_a_release_that_was_withheld_takes_nothing_from_the_one_before() -> None:
    """Who was let in before it has still time, and is still awaited."""
    controller = closed_door()
    controller.on(presented(), now())
    (granted,) = drafts(controller.on(presented(), now(1)))
    controller.on(RecordFailed(draft=granted), now(1))
    assert controller.deadline_s == now(5 + OPENING_GRACE_S).monotonic_s
    assert kinds(controller.on(opened(), now(4))) == [EventKind.DOOR_OPENED]


def test_doors_do_not_mix() -> None:
    """A release at one door explains no opening at the other."""
    controller = closed_door()
    controller.on(opened(BACK, is_open=False), now())
    controller.on(presented(), now())
    assert kinds(controller.on(opened(BACK), now(1))) == [EventKind.DOOR_FORCED]
    assert kinds(controller.on(opened(FRONT), now(1))) == [EventKind.DOOR_OPENED]


# ---- doors that stand unlocked


def test_an_unlocked_door_is_held_until_its_mode_or_its_policy_ends() -> None:
    """Held when the mode says so, also at the start; locked when the mode changes, or the policy is too old."""
    controller = make(mode=DoorMode.UNLOCKED)
    assert HoldStrike(door_id=FRONT) in controller.on(Started(), now())
    assert controller.on(Tick(), now(1)) == []
    assert EndHold(door_id=FRONT) in accept(controller, now(2), mode=DoorMode.SECURED)
    assert HoldStrike(door_id=FRONT) in accept(controller, now(3), mode=DoorMode.UNLOCKED)
    assert EndHold(door_id=FRONT) in controller.on(Tick(), now(5 * 3600))


def test_an_unlocked_door_is_neither_forced_nor_held_open() -> None:
    """Opening it is what it is for."""
    controller = closed_door(mode=DoorMode.UNLOCKED)
    controller.on(Started(), now())
    assert kinds(controller.on(opened(), now(100))) == [EventKind.DOOR_OPENED]
    assert controller.deadline_s is None


def test_a_door_that_is_open_when_it_is_secured_is_held_open_from_then_on() -> None:
    """By its own rule; one that is closed by then has nothing to say."""
    controller = closed_door(mode=DoorMode.UNLOCKED)
    controller.on(Started(), now())
    controller.on(opened(), now(100))
    accept(controller, now(200), mode=DoorMode.SECURED, held_open_after_s=10, held_warning_s=0)
    assert controller.deadline_s == now(210).monotonic_s
    assert kinds(controller.on(Tick(), now(210))) == [EventKind.DOOR_HELD]
    controller.on(opened(is_open=False), now(300))
    accept(controller, now(400), mode=DoorMode.UNLOCKED)
    accept(controller, now(500), mode=DoorMode.SECURED)
    assert controller.deadline_s is None


def test_a_release_outlasts_the_hold_it_fell_into() -> None:
    """Who asked to leave just before the door was secured has not forced it."""
    controller = closed_door(mode=DoorMode.UNLOCKED)
    controller.on(Started(), now())
    controller.on(RexPressed(door_id=FRONT), now(10))
    accept(controller, now(11), mode=DoorMode.SECURED)
    assert kinds(controller.on(opened(), now(14))) == [EventKind.DOOR_OPENED]


# ---- readers, documents, clock, process


def test_readers_that_fail_and_heal_are_recorded_and_listed() -> None:
    """The hub sees which one is broken."""
    controller = make()
    lost = controller.on(ReaderLost(door_id=FRONT, side=Side.ENTRY, cause="silent"), now())
    assert [(draft.kind, draft.details) for draft in drafts(lost)] == [
        (EventKind.READER_LOST, {"cause": "silent"})
    ]
    assert list(controller.broken_readers) == ["front/entry"]
    restored = controller.on(ReaderRestored(door_id=FRONT, side=Side.ENTRY), now())
    assert kinds(restored) == [EventKind.READER_RESTORED]
    assert list(controller.broken_readers) == []


def test_a_part_that_failed_is_an_alarm() -> None:
    """By name, and nothing moves."""
    effects = make().on(PartFailed(part="uplink", error="OSError"), now())
    assert shape(effects) == [Record, Sync]
    (draft,) = drafts(effects)
    assert (draft.kind, draft.details) == (
        EventKind.INTERNAL_FAULT,
        {"about": "uplink", "error": "OSError"},
    )


def test_an_accepted_document_is_decided_by_at_once_trusted_and_confirmed() -> None:
    """Issuers to the readers, the confirmation into the journal, and the next card by the new snapshot."""
    controller = make(has_policy=False)
    effects = accept(controller, now())
    assert effects[0] == AdoptIssuers(issuers=policy().issuers)
    (draft,) = drafts(effects)
    details = {"kind": "policy", "version": 2, "digest": DIGEST}
    assert (draft.kind, draft.details) == (EventKind.POLICY_APPLIED, details)
    assert kinds(controller.on(presented(), now())) == [EventKind.ACCESS_GRANTED]


def test_a_refused_document_is_recorded_and_changes_nothing() -> None:
    """The one held before stays."""
    controller = make()
    refusal = DocumentRefused(kind=DocumentKind.REVOCATIONS, reason=Reason.DOCUMENT_OTHER_SITE)
    (draft,) = drafts(controller.on(refusal, now()))
    assert (draft.kind, draft.reason, draft.details) == (
        EventKind.POLICY_REFUSED,
        Reason.DOCUMENT_OTHER_SITE,
        {"kind": "revocations"},
    )
    assert kinds(controller.on(presented(), now())) == [EventKind.ACCESS_GRANTED]


def test_a_wall_clock_that_is_set_or_no_longer_believed_is_recorded() -> None:
    """By how much it moved against the monotonic clock; small corrections are not."""
    controller = make()
    controller.on(Started(), now())
    assert controller.on(Tick(), now(10, wall_after_s=11)) == []
    (draft,) = drafts(controller.on(Tick(), now(20, wall_after_s=3621)))
    assert (draft.kind, draft.details) == (EventKind.CLOCK_CHANGED, {"step_ms": 3_600_000})
    assert kinds(controller.on(Tick(), now(21, wall_after_s=3622, trusted=False))) == [
        EventKind.CLOCK_CHANGED
    ]


def test_starting_and_stopping_are_recorded() -> None:
    """Stopping locks every door before anything else."""
    controller = make()
    assert drafts(controller.on(Started(details={"unclean": True}), now()))[0].details == {"unclean": True}
    effects = controller.on(Stopping(), now())
    assert effects[:2] == [LockStrike(door_id=FRONT), LockStrike(door_id=BACK)]
    assert kinds(effects) == [EventKind.CONTROLLER_STOPPED]


# ---- when the controller itself fails


@pytest.mark.parametrize("happened", [presented(), refused()])
def test_after_a_fault_the_way_in_is_denied_by_name(happened: Input) -> None:
    """Shut, recorded as an internal fault with the credential, and shown."""
    effects = after_fault(happened, now())
    assert shape(effects) == [Record, Indicate]
    (draft,) = drafts(effects)
    assert (draft.kind, draft.reason, draft.credential_id) == (
        EventKind.ACCESS_DENIED,
        Reason.INTERNAL_FAULT,
        RESIDENT,
    )


@pytest.mark.parametrize(
    "happened",
    [
        presented(side=Side.EXIT),
        refused(side=Side.EXIT),
        ReadFailed(door_id=FRONT, side=Side.EXIT, fault=ReadFault.CARD_GONE),
        RexPressed(door_id=FRONT),
    ],
)
def test_after_a_fault_the_way_out_still_opens(happened: Input) -> None:
    """Whatever failed, nobody is kept inside."""
    effects = after_fault(happened, now())
    assert shape(effects) == [Record, ReleaseStrike]


def test_after_a_fault_about_nobody_nothing_moves() -> None:
    """A timer or a document that failed concerns no door."""
    assert after_fault(Tick(), now()) == []


def test_the_decision_is_called_on_one_line_of_the_edge() -> None:
    """``decide`` is called once under edge/."""
    edge = Path(controller_module.__file__).parent
    calls = [
        path.name
        for path in edge.rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\bdecide\(", line)
    ]
    assert calls == ["deciding.py"]


# ---- deciding ahead


def prepared(controller: DoorController, claim: CardClaimed, after_s: float = 0.0) -> EventDraft:
    (effect,) = controller.on(claim, now(after_s))
    assert isinstance(effect, Prepare)
    return effect.draft


def test_what_was_foreseen_for_a_card_is_what_happens() -> None:
    """The event made ready while the card signed is the one recorded, of the moment it was decided for."""
    controller = make()
    prepared(controller, claimed(), 0.0)
    draft = prepared(controller, claimed(), 0.002)
    controller.on(CardDetected(door_id=BACK, side=Side.ENTRY), now(0.003))
    controller.on(Tick(), now(0.004))
    effects = controller.on(presented(), now(0.005))
    assert effects[0] == Record(draft=draft)
    assert drafts(effects)[0] is draft
    assert draft.occurred_at == now(0.002).clock.at


@pytest.mark.parametrize(
    ("between", "card", "at"),
    [
        (None, presented(STRANGER), now(0.01)),
        (None, presented(at=BACK), now(0.01)),
        (None, presented(side=Side.EXIT), now(0.01)),
        (None, presented(), now(0.01, trusted=False)),
        (None, presented(), now(FORESEEN_S + 0.01)),
        (None, presented(), now(0.01, wall_after_s=-1.0)),
        (None, presented(), now(0.01, wall_after_s=60.0)),
        (accepted(), presented(), now(0.01)),
        (accepted(mode=DoorMode.LOCKDOWN), presented(), now(0.01)),
        (opened(BACK), presented(), now(0.01)),
        (RexPressed(door_id=BACK), presented(), now(0.01)),
        (presented(), presented(), now(0.01)),
        (claimed(STRANGER), presented(), now(0.01)),
    ],
    ids=str,
)
def test_it_is_decided_afresh_when_anything_is_different(
    between: Input | None, card: CardPresented, at: Now
) -> None:
    """Another card, door, side, clock or document, an event in between, or too long ago: as without a claim."""
    controller, plain = make(), make()
    draft = prepared(controller, claimed())
    if between is not None:
        controller.on(between, now(0.005))
        plain.on(between, now(0.005))
    effects = controller.on(card, at)
    assert all(other is not draft for other in drafts(effects))
    assert effects == plain.on(card, at)
    assert drafts(effects)[0].occurred_at == at.clock.at


@pytest.mark.parametrize(
    ("before", "card", "claimed_s", "shown_s", "reason"),
    [
        (presented(STAFF), VISITOR, 19.95, 20.05, Reason.ESCORT_AWAITED),
        (RexPressed(door_id=BACK), RESIDENT, 5.45, 5.55, Reason.ENTITLED),
    ],
    ids=["the escort's window ended", "the other door is locked again"],
)
def test_it_is_decided_afresh_when_only_time_has_changed_the_situation(
    before: Input, card: CredentialId, claimed_s: float, shown_s: float, reason: Reason
) -> None:
    """No input came between claim and proof, and yet what was foreseen does not hold."""
    controller = make(escort_window_s=20, interlock_with=frozenset({BACK}), has_contact=False)
    controller.on(before, now())
    draft = prepared(controller, claimed(card), claimed_s)
    assert draft.reason is not reason
    assert drafts(controller.on(presented(card), now(shown_s)))[0].reason is reason


def test_a_decision_belongs_to_the_moment_its_event_names() -> None:
    """A policy that expires between claim and proof: granted, and recorded of the moment before it expired."""
    expiry_s = timedelta(days=7).total_seconds()
    controller = make(max_policy_age_s=2 * round(expiry_s))
    draft = prepared(controller, claimed(), expiry_s - 0.002)
    assert drafts(controller.on(presented(), now(expiry_s + 0.002))) == [draft]
    assert draft.kind is EventKind.ACCESS_GRANTED
    assert draft.occurred_at < policy().expires_at
    (late,) = drafts(controller.on(presented(), now(expiry_s + 0.003)))
    assert late.reason is Reason.POLICY_TOO_OLD


WHO = st.sampled_from([RESIDENT, SLOW_RESIDENT, REVOKED, ATTENDED, STRANGER, STAFF, VISITOR])
WHERE, SIDES = st.sampled_from([FRONT, BACK]), st.sampled_from(Side)
HAPPENINGS: st.SearchStrategy[Input] = st.one_of(
    st.builds(claimed, WHO, at=WHERE, side=SIDES),
    st.builds(claimed, st.just(RESIDENT)),
    st.builds(presented, WHO, at=WHERE, side=SIDES),
    st.builds(presented, st.just(RESIDENT)),
    st.builds(lambda where, side: CardDetected(door_id=where, side=side), WHERE, SIDES),
    st.builds(
        lambda where, side: ReadFailed(door_id=where, side=side, fault=ReadFault.CARD_GONE), WHERE, SIDES
    ),
    st.builds(lambda where, is_open: opened(where, is_open=is_open), WHERE, st.booleans()),
    st.builds(lambda where: RexPressed(door_id=where), WHERE),
    st.sampled_from([accepted(), accepted(mode=DoorMode.LOCKDOWN), accepted(mode=DoorMode.UNLOCKED)]),
    st.just(Tick()),
)
PAUSES = st.sampled_from([0.0, 0.002, 0.03, 0.2, 0.3, 6.0, 31.0, 8 * 86_400.0])


@given(st.lists(st.tuples(PAUSES, st.sampled_from([True, True, True, False]), HAPPENINGS), max_size=30))
def test_claims_change_nothing_but_by_how_little_an_event_is_early(
    steps: list[tuple[float, bool, Input]],
) -> None:
    """Two controllers, one of them told of claims: the same effects, each event at most ``FORESEEN_S`` early, in order."""
    told, untold = make(), make()
    at_s, recorded = 0.0, []
    for pause_s, trusted, happened in steps:
        at_s += pause_s
        moment = now(at_s, trusted=trusted)
        effects = told.on(happened, moment)
        if isinstance(happened, CardClaimed):
            assert shape(effects) == [Prepare]
            continue
        for draft in drafts(effects):
            assert 0.0 <= (moment.clock.at - draft.occurred_at).total_seconds() <= FORESEEN_S
        recorded += [draft.occurred_at for draft in drafts(effects)]
        plain = untold.on(happened, moment)
        assert [_at(effect, moment) for effect in effects] == [_at(effect, moment) for effect in plain]
        assert told.deadline_s == untold.deadline_s
    assert recorded == sorted(recorded)


def _at(effect: Effect, moment: Now) -> Effect:
    """The effect as it would be had its event happened now."""
    if not isinstance(effect, Record):
        return effect
    details = {name: fact for name, fact in effect.draft.details.items() if name != "request"}  # drawn anew
    return Record(draft=replace(effect.draft, occurred_at=moment.clock.at, details=details))
