from __future__ import annotations

import contextlib
import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.wiring import DoorWiring, FireWiring, ReaderWiring, Wiring, controller_toml, proposal

pins = st.integers(2, 27)
fitted = st.none() | pins
circuits = st.sampled_from(("normally_closed", "normally_open"))
readers = st.builds(
    ReaderWiring,
    side=st.sampled_from(("entry", "exit")),
    device=st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=30),
    backend=st.sampled_from(("pn532", "pcsc")),
    baud=st.sampled_from((115200, 921600)),
    green_pin=fitted,
    reset_pin=fitted,
)
doors = st.builds(
    DoorWiring,
    id=st.from_regex("[A-Za-z0-9_-]{1,8}", fullmatch=True),
    strike_pin=pins,
    energise_to=st.sampled_from(("unlock", "lock")),
    contact_pin=fitted,
    contact_wiring=circuits,
    sounder_pin=fitted,
    readers=st.lists(readers, max_size=2).map(tuple),
)
wirings = st.builds(
    Wiring,
    doors=st.lists(doors, min_size=1, max_size=4, unique_by=lambda door: door.id).map(tuple),
    fire=st.none() | st.builds(FireWiring, pin=pins, wiring=circuits),
    pins=st.sampled_from(("lgpio", "mock")),
    require_sync=st.booleans(),
)


@given(wirings)
def test_a_wiring_survives_the_hub_and_the_configuration(wiring: Wiring) -> None:
    """It is the same after its way as JSON, and read out of the configuration file that it was written to."""
    assert Wiring.from_fields(json.loads(json.dumps(wiring.fields))) == wiring
    text = controller_toml(
        wiring, controller_id=ControllerId("gate"), site_id=SiteId("s"), host="hub", port=8883, keys={}
    )
    assert Wiring.from_configuration(tomllib.loads(text)) == wiring


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
SOME = proposal([(DoorId("front"), "/dev/ttyAMA0")]).fields


@given(json_values)
def test_anything_is_read_or_refused(value: Any) -> None:
    """Nothing but ``MalformedData`` comes of what somebody sends, as a whole or in the place of a part."""
    for table in (value, {"doors": value}, {"doors": [value]}, {**SOME, "fire": value}, {"door": value}):
        for read in (Wiring.from_fields, Wiring.from_configuration):
            with contextlib.suppress(MalformedData):
                read(table)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strike_pin": 1}, "door 1: strike_pin: a BCM number"),
        ({"strike_pin": True}, "door 1: strike_pin: a BCM number"),
        ({"energise_to": "open"}, "energise_to: one of unlock, lock"),
        ({"id": "front door"}, "DoorId"),
        ({"colour": "red"}, "colour is not known"),
        ({"readers": [{}]}, "reader 1: device is missing"),
        ({"readers": [{"device": "a\nb"}]}, "device: the path"),
    ],
)
def test_what_is_wrong_with_a_wiring_is_said(change: dict[str, Any], said: str) -> None:
    """The door, the key and what is expected."""
    door = {**SOME["doors"][0], **change}
    with pytest.raises(MalformedData, match=said):
        Wiring.from_fields({"doors": [door]})


def test_no_more_doors_than_a_header_has_pins() -> None:
    """One to four, each once."""
    ids = [(DoorId(f"d{number}"), f"/dev/r{number}") for number in range(5)]
    assert len(proposal(ids[:4]).doors) == 4
    for wrong in (ids, [], [ids[0], ids[0]]):
        with pytest.raises(MalformedData):
            proposal(wrong)
