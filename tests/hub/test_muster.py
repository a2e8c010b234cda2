from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.completeness import Cause, Hole
from hub.muster import Moment, Passages, Presence, Standing, Way, Why, roll
from pacs.events import EventKind
from pacs.identifiers import AreaId, CardholderId, CredentialId, DoorId
from pacs.rules import Side

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FRONT, BACK, WARD = DoorId("front"), DoorId("back"), DoorId("ward")
HOUSE, HALL = AreaId("house"), AreaId("hall")
AMA, BEN = CardholderId("ama"), CardholderId("ben")
CARDS = {AMA: CredentialId(b"a" * 16), BEN: CredentialId(b"b" * 16)}
WAY = Way(
    door_id=FRONT,
    area=HOUSE,
    outside=None,
    leaves_by_card=True,
    is_open=False,
    holes=(),
    known_until=NOW + 900 * SECOND,
)
GRANTED, OPENED, MISSED = EventKind.ACCESS_GRANTED, EventKind.DOOR_OPENED, EventKind.DOOR_NOT_ENTERED


def moment(kind: EventKind, second: float, who: CardholderId | None = None, **said: Any) -> Moment:
    card = CARDS[who] if who else None
    plain: dict[str, Any] = {"door_id": FRONT, "at": NOW + second * SECOND, "credential_id": card}
    return Moment(kind=kind, **plain | said)


def enters(second: float, who: CardholderId = AMA, **said: Any) -> list[Moment]:
    tap = moment(GRANTED, second, who, **{"side": Side.ENTRY} | said)
    return [tap, moment(OPENED, second + 1, door_id=tap.door_id)]


def leaves(second: float, who: CardholderId = AMA, **said: Any) -> list[Moment]:
    return enters(second, who, side=Side.EXIT, **said)


def said_of(moments: list[Moment], *ways: Way, who: CardholderId = AMA) -> Standing:
    passages = Passages()
    for each in moments:
        passages.see(each)
    (found,) = roll({who: [CARDS[who]]}, ways or (WAY,), passages, horizon=NOW - timedelta(days=30))
    return found


def hole(first: float, last: float | None) -> tuple[Hole, ...]:
    until = None if last is None else NOW + last * SECOND
    return (Hole(since=NOW + first * SECOND, until=until, cause=Cause.OFFLINE),)


MISSED_ENTRY = [moment(GRANTED, 1, AMA, side=Side.ENTRY), moment(MISSED, 9, AMA, side=Side.ENTRY)]
OUT = moment(EventKind.EXIT_REQUESTED, 20)


@pytest.mark.parametrize(
    ("moments", "ways", "expected"),
    [
        ([], (), (Presence.UNKNOWN, Why.NEVER_SEEN)),
        (enters(1), (), (Presence.INSIDE, None)),
        (enters(1) + leaves(9), (), (Presence.LEFT, None)),
        (leaves(9) + enters(1), (), (Presence.LEFT, None)),  # arrived late
        (MISSED_ENTRY, (), (Presence.UNKNOWN, Why.NEVER_SEEN)),
        (enters(-50) + MISSED_ENTRY, (), (Presence.INSIDE, None)),
        (enters(1)[:1], (), (Presence.UNKNOWN, Why.PASSAGE_NOT_SEEN)),
        (enters(1) + leaves(9)[:1], (), (Presence.UNKNOWN, Why.PASSAGE_NOT_SEEN)),
        ([*enters(1), OUT], (), (Presence.UNKNOWN, Why.UNNAMED)),
        ([OUT, *enters(300)], (), (Presence.INSIDE, None)),
        ([*leaves(1), OUT], (), (Presence.LEFT, None)),  # a button lets nobody in
        ([*leaves(1), OUT, moment(OPENED, 21)], (), (Presence.UNKNOWN, Why.UNNAMED)),  # an open door does
        ([*enters(1), moment(EventKind.DOOR_FORCED, 30)], (), (Presence.UNKNOWN, Why.UNNAMED)),
        ([*leaves(1), moment(EventKind.DOOR_HELD, 30)], (), (Presence.UNKNOWN, Why.UNNAMED)),
        (enters(1, believed=False), (), (Presence.UNKNOWN, Why.CLOCK)),
        (enters(1), (replace(WAY, leaves_by_card=False),), (Presence.UNKNOWN, Why.NO_READER)),
        (leaves(1), (replace(WAY, leaves_by_card=False),), (Presence.LEFT, None)),
        (enters(1), (replace(WAY, is_open=True),), (Presence.UNKNOWN, Why.OPEN)),
        (enters(1), (replace(WAY, holes=hole(-9, 1)),), (Presence.INSIDE, None)),
        (enters(1), (replace(WAY, holes=hole(5, 9)),), (Presence.UNKNOWN, Why.RECORD)),
        (enters(1), (WAY, replace(WAY, door_id=BACK, holes=hole(5, None))), (Presence.UNKNOWN, Why.RECORD)),
        (enters(1), (replace(WAY, door_id=BACK),), (Presence.UNKNOWN, Why.DOOR_GONE)),
        (
            enters(1) + enters(9, door_id=WARD),
            (replace(WAY, leaves_by_card=False), replace(WAY, door_id=WARD, area=HALL, outside=HOUSE)),
            (Presence.INSIDE, None),
        ),
        (
            [moment(GRANTED, 1, AMA, side=Side.ENTRY), *leaves(2, BEN)],
            (),
            (Presence.UNKNOWN, Why.PASSAGE_NOT_SEEN),  # one opening, two directions
        ),
        (enters(-40 * 86_400), (), (Presence.UNKNOWN, Why.NEVER_SEEN)),
    ],
)
def test_what_can_be_said_of_somebody(
    moments: list[Moment], ways: tuple[Way, ...], expected: tuple[Presence, Why | None]
) -> None:
    """The last passage counts when a contact saw it and nothing since can have undone it unseen."""
    found = said_of(moments, *ways)
    assert (found.presence, found.why) == expected


def test_of_whom_it_cannot_be_told_it_is_said_since_when_and_why() -> None:
    """The earliest doubt is named, with its door and the cause; what was last seen stays."""
    far = replace(WAY, door_id=BACK, holes=hole(50, None))
    found = said_of([*enters(1), moment(EventKind.DOOR_FORCED, 90)], WAY, far)
    assert (found.since, found.door_id, found.cause) == (NOW + 50 * SECOND, BACK, Cause.OFFLINE)
    assert found.last is not None
    assert (found.last.at, found.last.side, found.was_seen) == (NOW + SECOND, Side.ENTRY, True)


def test_whoever_is_inside_is_so_as_of_the_oldest_word_of_a_way_out() -> None:
    """The list claims nothing of the moments that a door has not accounted for."""
    slow = replace(WAY, door_id=BACK, known_until=NOW + 600 * SECOND)
    assert said_of(enters(1), WAY, slow).as_of == NOW + 600 * SECOND


ACTIONS = (
    "enter", "leave", "tap in only", "tap out only", "button", "forced in", "forced out", "both", "unheard in",
    "unheard out", "held out", "no contact in", "no contact out", "opened for in", "untimed in",
)  # fmt: skip


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(ACTIONS), st.sampled_from((AMA, BEN)), st.sampled_from((FRONT, BACK, WARD))
        ),
        max_size=12,
    )
)
def test_nobody_is_said_to_be_where_they_are_not(
    steps: list[tuple[str, CardholderId, DoorId]],
) -> None:
    """Two people and three doors: through taps, buttons, force, gaps and doubt, whatever is claimed is true."""
    world = _World()
    for number, (action, who, door_id) in enumerate(steps):
        world.does(action, who, door_id, second=10 + 400 * number)
        for person, found in world.told().items():
            if found.presence is Presence.INSIDE:
                assert world.where[person] == found.area_id
            elif found.presence is Presence.LEFT:
                assert world.where[person] is None


LEADS = {FRONT: (HOUSE, None), BACK: (HOUSE, None), WARD: (HALL, HOUSE)}


class _World:
    """Where people truly are, and what the doors tell of it."""

    def __init__(self) -> None:
        self.where: dict[CardholderId, AreaId | None] = {AMA: None, BEN: None}
        self.passages = Passages()
        self.holes: dict[DoorId, list[Hole]] = {door_id: [] for door_id in LEADS}

    def told(self) -> dict[CardholderId, Standing]:
        ways = [
            replace(WAY, door_id=door_id, area=area, outside=outside, holes=tuple(self.holes[door_id]))
            for door_id, (area, outside) in LEADS.items()
        ]
        people = {who: [card] for who, card in CARDS.items()}
        found = roll(people, ways, self.passages, horizon=NOW - timedelta(days=30))
        return {each.cardholder_id: each for each in found}

    def does(self, action: str, who: CardholderId, door_id: DoorId, *, second: float) -> None:
        area, outside = LEADS[door_id]
        goes_in = action.endswith("in") or action in ("enter", "tap in only", "both")
        begins, ends = (outside, area) if goes_in else (area, outside)
        if self.where[who] != begins:
            return  # they are not at that door
        side = Side.ENTRY if goes_in else Side.EXIT
        tap = moment(GRANTED, second, who, side=side, door_id=door_id)
        opened = moment(OPENED, second + 1, door_id=door_id)
        missed = moment(MISSED, second + 9, who, side=side, door_id=door_id)
        other = BEN if who is AMA else AMA
        crosses = action == "both" and self.where[other] == area  # one comes in while the other goes out
        against = [moment(GRANTED, second, other, side=Side.EXIT, door_id=door_id)] if crosses else []
        forced = [moment(EventKind.DOOR_FORCED, second, door_id=door_id)]
        ordered = moment(EventKind.COMMAND_EXECUTED, second, door_id=door_id, releases=True)
        tells = {
            "tap in only": [tap, missed],
            "tap out only": [tap, missed],
            "button": [moment(EventKind.EXIT_REQUESTED, second, door_id=door_id), opened],
            "forced in": forced,
            "forced out": forced,
            "held out": [moment(EventKind.DOOR_HELD, second, door_id=door_id)],
            "opened for in": [ordered, opened],
            "unheard in": [],
            "unheard out": [],
            "no contact in": [tap],
            "no contact out": [tap],
            "untimed in": [replace(tap, believed=False), replace(opened, believed=False)],
        }.get(action, [tap, *against, opened])
        if action.startswith("unheard"):
            self.holes[door_id] += hole(second - 5, second + 5)
        for each in tells:
            self.passages.see(each)
        if crosses:
            self.where[other] = outside
        if not action.endswith("only"):
            self.where[who] = ends
