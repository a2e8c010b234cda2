"""Doors to private rooms: what happens there is counted, and nothing about a person is recorded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.after_fault import after_fault
from edge.effects import Effect, Indicate, Prepare, Record, ReleaseStrike, Signal
from edge.inputs import (
    FireChanged,
    Input,
    ReaderLost,
    ReadFailed,
    RexPressed,
    Started,
    Stopping,
    TamperChanged,
)
from edge.private_doors import COUNTED_EVERY_S, is_personal
from pacs.commands import Action
from pacs.events import EventKind
from pacs.identifiers import AreaId
from pacs.reason import ReadFault
from pacs.rules import Antipassback, DoorMode, Side
from tests.edge.at_the_door import (
    accept,
    answered,
    claimed,
    closed_door,
    commanded,
    details,
    drafts,
    kinds,
    opened,
    presented,
    refused,
    released,
    shape,
    ticked,
)
from tests.edge.small_site import (
    ATTENDED,
    BACK,
    FRONT,
    RESIDENT,
    REVOKED,
    STAFF,
    STRANGER,
    VISITOR,
    now,
)

UNREAD = ReadFailed(door_id=FRONT, side=Side.ENTRY, fault=ReadFault.CARD_GONE)


def test_a_private_door_opens_without_an_event() -> None:
    """For whoever may; nothing is prepared for a claim either, so that the strike stands before nothing."""
    controller = closed_door(private=True)
    assert controller.on(claimed(), now()) == []
    effects = controller.on(presented(), now())
    assert Record not in shape(effects)
    assert released(effects) == [5_000]
    assert Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.GRANTED) in effects
    assert kinds(controller.on(presented(REVOKED), now(1))) == []


def test_taps_are_counted_and_told_once_an_hour() -> None:
    """How many of each, never whose; nothing while nobody came, and the rest at the end."""
    controller = closed_door(private=True)
    assert ticked(controller, 10_000) == []
    for happened in (
        presented(),
        presented(side=Side.EXIT),
        presented(REVOKED),
        refused(),
        presented(ATTENDED),
        UNREAD,
    ):
        controller.on(happened, now(10_001))
    assert kinds(ticked(controller, 10_000 + COUNTED_EVERY_S)) == []
    told = ticked(controller, 10_001 + COUNTED_EVERY_S)
    assert details(told, EventKind.TAPS_COUNTED) == [{"granted": 2, "denied": 3, "unread": 1}]
    (draft,) = drafts(told)
    assert (draft.door_id, draft.credential_id) == (FRONT, None)
    assert ticked(controller, 20_000 + COUNTED_EVERY_S) == []
    controller.on(UNREAD, now(21_000))
    assert details(controller.on(Stopping(), now(21_001)), EventKind.TAPS_COUNTED) == [
        {"granted": 0, "denied": 0, "unread": 1}
    ]


def test_what_is_about_the_door_is_recorded() -> None:
    """Forced, held, tampered with, its mode, its reader, a command."""
    controller = closed_door(private=True)
    assert kinds(controller.on(opened(), now())) == [EventKind.DOOR_FORCED]
    assert kinds(ticked(controller, 30)) == [EventKind.DOOR_HELD_WARNING, EventKind.DOOR_HELD]
    assert kinds(controller.on(opened(is_open=False), now(31))) == [EventKind.DOOR_ALARM_CLEARED] * 2
    tampered = controller.on(TamperChanged(door_id=FRONT, open=True), now(32))
    assert kinds(tampered) == [EventKind.TAMPER_OPENED]
    lost = controller.on(ReaderLost(door_id=FRONT, side=Side.ENTRY, cause="silent"), now(33))
    assert kinds(lost) == [EventKind.READER_LOST]
    effects = controller.on(commanded(Action.UNLOCK_ONCE), now(34))
    assert shape(effects)[:2] == [Record, ReleaseStrike]


def test_nobody_is_asked_about_who_stands_at_a_private_door() -> None:
    """A person who decides would have to be told who it is: refused instead. An escort's card is there itself."""
    controller = closed_door(private=True)
    effects = controller.on(presented(ATTENDED), now())
    assert Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.REFUSED) in effects
    assert controller.snapshot(now())[0].waiting == 0
    waits = controller.on(presented(VISITOR), now(1))
    assert Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.WAITING) in waits
    admitted = controller.on(presented(STAFF), now(2))
    assert (kinds(admitted), released(admitted)) == ([], [5_000])


def test_a_fault_records_nobody_at_a_private_door_either() -> None:
    """The alarm does; the door stays shut, the way out opens."""
    private = frozenset({FRONT})
    assert after_fault(presented(), now(), private) == [
        Indicate(door_id=FRONT, side=Side.ENTRY, signal=Signal.REFUSED)
    ]
    assert shape(after_fault(presented(side=Side.EXIT), now(), private)) == [ReleaseStrike]
    assert kinds(after_fault(presented(at=BACK), now(), private)) == [EventKind.ACCESS_DENIED]


def test_a_door_becomes_private_with_the_document_that_says_so() -> None:
    """From then on; and recorded again when it is no longer."""
    controller = closed_door()
    assert kinds(controller.on(presented(), now())) == [EventKind.ACCESS_GRANTED]
    accept(controller, now(1), private=True)
    assert kinds(controller.on(presented(), now(2))) == []
    accept(controller, now(3))
    assert kinds(controller.on(presented(), now(4))) == [EventKind.ACCESS_GRANTED]


HAPPENINGS: st.SearchStrategy[Input] = st.one_of(
    st.builds(
        presented,
        st.sampled_from([RESIDENT, REVOKED, ATTENDED, VISITOR, STAFF, STRANGER]),
        side=st.sampled_from(Side),
    ),
    st.builds(claimed, st.sampled_from([RESIDENT, STRANGER])),
    st.builds(lambda side: refused(side=side), st.sampled_from(Side)),
    st.just(UNREAD),
    st.just(RexPressed(door_id=FRONT)),
    st.builds(lambda is_open: opened(is_open=is_open), st.booleans()),
    st.builds(lambda active: FireChanged(active=active), st.booleans()),
    st.builds(
        lambda mode: commanded(Action.SET_MODE, mode=mode),
        st.sampled_from([DoorMode.UNLOCKED, DoorMode.ATTENDED, DoorMode.SECURED]),
    ),
)


ABOUT_THE_DOOR = {
    EventKind.TAPS_COUNTED,
    EventKind.DOOR_MODE_CHANGED,
    EventKind.DOOR_ATTENDANCE_CHANGED,
    EventKind.DOOR_FORCED,
    EventKind.DOOR_HELD_WARNING,
    EventKind.DOOR_HELD,
    EventKind.DOOR_ALARM_CLEARED,
    EventKind.TAMPER_OPENED,
    EventKind.TAMPER_CLOSED,
    EventKind.READER_LOST,
    EventKind.READER_RESTORED,
    EventKind.COMMAND_EXECUTED,
    EventKind.COMMAND_REFUSED,
}
ROOM: dict[str, Any] = {"private": True, "area": AreaId("room"), "antipassback": Antipassback.SOFT}


def test_who_waits_where_a_door_becomes_private_waits_no_longer() -> None:
    """That is recorded, because it was recorded that they wait; no answer opens the door. The same the other way round."""
    controller = closed_door(mode=DoorMode.ATTENDED)
    controller.on(presented(), now())
    effects = accept(controller, now(1), mode=DoorMode.ATTENDED, private=True)
    assert [
        draft.details["outcome"] for draft in drafts(effects) if draft.kind is EventKind.REFERRAL_ENDED
    ] == ["withdrawn"]
    assert controller.snapshot(now(2))[0].waiting == 0
    late = controller.on(answered(Action.GRANT, who=RESIDENT), now(3))
    assert kinds(late) == [EventKind.COMMAND_REFUSED]
    controller = closed_door(private=True)
    controller.on(presented(VISITOR), now())
    assert EventKind.REFERRAL_ENDED not in kinds(accept(controller, now(1)))
    assert controller.snapshot(now(2))[0].waiting == 0


def test_who_leaves_a_private_room_is_not_told_by_who_is_forgiven() -> None:
    """Neither by the press nor by what follows from it."""
    controller = closed_door(**ROOM)
    controller.on(presented(), now())
    controller.on(opened(), now(1))
    controller.on(opened(is_open=False), now(2))
    assert drafts(controller.on(RexPressed(door_id=FRONT), now(10))) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 2.0, 40.0, 4_000.0]), HAPPENINGS), max_size=25))
def test_no_event_of_a_private_door_is_about_a_person(steps: list[tuple[float, Any]]) -> None:
    """Whatever happens: no credential, no coming and going; and the counts add up to what happened."""
    controller = closed_door(**ROOM)
    everything: list[Effect] = [*controller.on(Started(), now())]
    at_s, taps = 0.0, 0
    for pause_s, happened in steps:
        at_s += pause_s
        everything += ticked(controller, at_s)
        everything += controller.on(happened, now(at_s))
        way_out_unread = type(happened).__name__ == "CardRefused" and happened.side is Side.EXIT
        taps += (
            type(happened).__name__ in ("CardPresented", "CardRefused", "ReadFailed") and not way_out_unread
        )
    everything += controller.on(Stopping(), now(at_s))
    of_the_door = [draft for draft in drafts(everything) if draft.door_id == FRONT]
    assert {draft.kind for draft in of_the_door} <= ABOUT_THE_DOOR
    assert not any(draft.credential_id or "request" in draft.details for draft in of_the_door)
    assert not any(isinstance(effect, Prepare) for effect in everything)
    counted = details(everything, EventKind.TAPS_COUNTED)
    assert sum(int(number) for counts in counted for number in counts.values()) == taps


@pytest.mark.parametrize("kind", EventKind)
def test_an_event_that_names_a_credential_is_about_a_person(kind: EventKind) -> None:
    """Whatever kind it is."""
    (granted,) = drafts(closed_door().on(presented(), now()))
    assert is_personal(
        type(granted)(kind=kind, occurred_at=granted.occurred_at, clock_trusted=True, credential_id=RESIDENT)
    )
