from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs import cbor
from pacs.errors import MalformedData

scalars = (
    st.integers(-(2**64), 2**64 - 1)
    | st.sampled_from([0, 23, 24, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63, -24, -25, -256, -257])
    | st.binary(max_size=300)
    | st.text(max_size=40)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False)
)
items = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=30)
        | st.dictionaries(st.integers(-5, 300), inner, max_size=5)
        | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(item=items)
def test_what_is_encoded_deterministically_is_read(item: object) -> None:
    """The deterministic encoding of any value is read as that value."""
    assert cbor.decode(cbor.encode(item), limit=1_000_000) == item


@given(
    item=items, as_it_comes=st.booleans(), changes=st.lists(st.tuples(st.integers(0), st.binary(max_size=2)))
)
def test_nothing_but_the_deterministic_encoding_is_read(
    item: object, as_it_comes: bool, changes: list[tuple[int, bytes]]
) -> None:
    """Whatever is read is, encoded again, the same bytes: in any order of keys, and with any bytes changed."""
    data = bytearray(cbor2.dumps(item, canonical=not as_it_comes))
    for place, replacement in changes:
        data[place % len(data) : place % len(data) + 1] = replacement or b"\0"
    try:
        value = cbor.decode(bytes(data), limit=1_000_000)
    except MalformedData:
        return
    assert cbor.encode(value) == bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x18\x17",  # 23 in two bytes
        b"\x19\x00\xff",
        b"\x1a\x00\x00\xff\xff",
        b"\x38\x00",
        b"\x58\x01a",
        b"\x78\x01a",
        b"\x98\x00",
        b"\xa2\x02\x00\x01\x00",  # keys 2, 1
        b"\xb8\x00",
        b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",  # 1.0 in nine bytes
        b"\x00\x00",
    ],
)
def test_a_longer_encoding_is_refused(data: bytes) -> None:
    """Heads that could be shorter, keys out of order, and bytes behind the item."""
    with pytest.raises(MalformedData):
        cbor.decode(data, limit=100)
