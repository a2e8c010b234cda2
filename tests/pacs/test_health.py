"""The heartbeat's health: round trip, bounds, and room for a newer controller to say more."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs import cbor
from pacs.errors import MalformedData
from pacs.health import (
    MAX_ALARMS,
    MAX_COUNTS,
    MAX_DOORS,
    MAX_READERS,
    MAX_TEXT,
    ControllerHealth,
    DoorHealth,
    ReaderHealth,
)
from pacs.identifiers import DoorId
from pacs.messages import MAX_MESSAGE_BYTES, ControllerStatus
from tests.pacs import strategies as own

texts = st.text(max_size=MAX_TEXT)
maybe = st.none() | own.naturals
counts = st.dictionaries(texts, own.naturals, max_size=4)
doors = st.builds(
    DoorHealth,
    door_id=own.names.map(DoorId),
    mode=texts,
    cause=texts,
    alarms=st.lists(texts, max_size=3).map(tuple),
)
readers = st.builds(
    ReaderHealth,
    reader=texts,
    state=texts,
    reads=own.naturals,
    failed=own.naturals,
    losses=own.naturals,
    resets=own.naturals,
    last_card_s=maybe,
)
healths = st.builds(
    ControllerHealth,
    uptime_s=own.naturals,
    policy_age_s=maybe,
    revocations_age_s=maybe,
    clock_distrust=st.none() | texts,
    waiting_events=own.naturals,
    oldest_waiting_s=maybe,
    temperature_millicelsius=st.none() | st.integers(-60_000, 150_000),
    free_bytes=maybe,
    connections=own.naturals,
    batches=own.naturals,
    refused_messages=counts,
    refused_commands=counts,
    doors=st.lists(doors, max_size=MAX_DOORS).map(tuple),
    readers=st.lists(readers, max_size=MAX_READERS).map(tuple),
)
SOME = ControllerHealth(
    uptime_s=60,
    doors=(DoorHealth(door_id=DoorId("gate"), mode="secured", cause="policy"),),
    readers=(ReaderHealth(reader="gate/entry", state="ok", reads=1, failed=0, losses=0, resets=0),),
)
STATUS = ControllerStatus(online=True, sent_at=datetime(2026, 1, 1, tzinfo=UTC), health=SOME)


@given(health=healths)
def test_round_trip(health: ControllerHealth) -> None:
    """A heartbeat gives back the health in it."""
    assert ControllerStatus.from_bytes(bytes(replace(STATUS, health=health))).health == health


def test_the_largest_fits_into_a_message() -> None:
    """Every bound reached at once, in the widest letters, is still one message."""
    wide, most = "\U0001f6aa" * MAX_TEXT, 2**53 - 1
    named = {wide[:-2] + f"{number:02}": most for number in range(MAX_COUNTS)}
    door = DoorHealth(door_id=DoorId("d" * 48), mode=wide, cause=wide, alarms=("alarm" * 20,) * MAX_ALARMS)
    reader = ReaderHealth(
        reader=wide, state=wide, reads=most, failed=most, losses=most, resets=most, last_card_s=most
    )
    largest = replace(
        SOME,
        clock_distrust=wide,
        refused_messages=named,
        refused_commands=named,
        doors=(door,) * MAX_DOORS,
        readers=(reader,) * MAX_READERS,
    )
    data = bytes(replace(STATUS, health=largest))
    assert len(data) < MAX_MESSAGE_BYTES
    assert ControllerStatus.from_bytes(data).health == largest


@pytest.mark.parametrize("path", [(), (11,), (11, 13, 0), (11, 14, 0)], ids=str)
def test_what_is_not_known_here_is_ignored(path: tuple[int, ...]) -> None:
    """A field that a newer controller adds, at any depth, does no harm."""
    fields: Any = cbor.decode(bytes(STATUS), limit=MAX_MESSAGE_BYTES)
    place = fields
    for step in path:
        place = place[step]
    place[99] = {"anything": [1, b"2", None]}
    assert ControllerStatus.from_bytes(cbor.encode(fields)) == ControllerStatus.from_bytes(bytes(STATUS))


@given(
    key=st.integers(1, 14),
    value=st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=120)
    | st.lists(st.integers(), max_size=40),
)
def test_any_other_value_is_read_or_malformed(key: int, value: object) -> None:
    """A field of another type, length or range is taken for what it says, or refused by name."""
    fields: Any = cbor.decode(bytes(STATUS), limit=MAX_MESSAGE_BYTES)
    fields[11][key] = value
    with contextlib.suppress(MalformedData):
        assert ControllerStatus.from_bytes(cbor.encode(fields)).health is not None


@pytest.mark.parametrize(
    "change",
    [
        {"uptime_s": -1},
        {"free_bytes": 2**53},
        {"temperature_millicelsius": 2**60},
        {"clock_distrust": "x" * (MAX_TEXT + 1)},
        {"refused_messages": {str(number): 1 for number in range(MAX_COUNTS + 1)}},
        {"refused_commands": {"malformed": -1}},
        {"doors": SOME.doors * (MAX_DOORS + 1)},
        {"readers": SOME.readers * (MAX_READERS + 1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_bounds(change: dict[str, Any]) -> None:
    """What is beyond a bound is no health, whoever makes it."""
    with pytest.raises(MalformedData):
        replace(SOME, **change)
