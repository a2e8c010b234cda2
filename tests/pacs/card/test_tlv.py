from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs.card.tlv import Tlv, encode_tag, find, parse, parse_one_byte, read, require
from pacs.errors import MalformedData

TAGS = st.sampled_from([0x42, 0x5C, 0x65, 0x73, 0x86, 0x9E, 0x5F20, 0x5F37, 0x7F21, 0x7F4E, 0x7F8101])


@given(st.lists(st.tuples(TAGS, st.binary(max_size=300)), max_size=6))
def test_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    """What was built is parsed back, byte for byte."""
    built = [Tlv.build(tag, value) for tag, value in pairs]
    parsed = parse(b"".join(item.raw for item in built))
    assert list(parsed) == built
    assert [bytes(item) for item in parsed] == [item.raw for item in built]


@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    """Arbitrary bytes are parsed completely or refused as MalformedData."""
    for parser in (parse, parse_one_byte):
        try:
            items = parser(data)
        except MalformedData:
            continue
        assert b"".join(item.raw for item in items) == data


@pytest.mark.parametrize(
    "text",
    [
        "5C",
        "5C05010",
        "5C020",
        "5C80",
        "5C83000001AA",
        "5C8201",
        "5F",
        "5F808001AA",
        "7FFFFFFF7F00",
        "00",
        "FF00",
        "5C01",
    ],
)
def test_malformed(text: str) -> None:
    """Cut-off, indefinite and over-long forms are refused."""
    with pytest.raises(MalformedData):
        parse(bytes.fromhex(text + "0" * (len(text) % 2)))


def test_long_length_form_is_kept() -> None:
    """A length longer than needed is accepted and its exact bytes are kept."""
    raw = bytes.fromhex("5C8200020100")
    assert parse(raw) == (Tlv(0x5C, b"\x01\x00", raw),)


@pytest.mark.parametrize(
    ("size", "head"), [(0x7F, "5C7F"), (0x80, "5C8180"), (0xFF, "5C81FF"), (0x100, "5C820100")]
)
def test_shortest_length_form(size: int, head: str) -> None:
    """Lengths are written in the shortest form."""
    assert Tlv.build(0x5C, bytes(size)).raw[: len(head) // 2].hex().upper() == head


def test_too_long_value() -> None:
    """A value above 65,535 bytes is not written."""
    with pytest.raises(MalformedData):
        Tlv.build(0x5C, bytes(0x10000))


@pytest.mark.parametrize("tag", [-1, 0, 0xFF, 0x5C00, 0x1F, 0x7F80, 0x7F808001])
def test_not_a_tag(tag: int) -> None:
    """A number that no tag has is refused."""
    with pytest.raises(MalformedData):
        encode_tag(tag)


def test_read_ignores_what_follows() -> None:
    """``read`` takes one object and leaves the rest alone."""
    assert read(bytes.fromhex("AA5C0101FFFF"), 1) == Tlv(0x5C, b"\x01", bytes.fromhex("5C0101"))


def test_one_byte_form() -> None:
    """In the V1 form 7F is a whole tag and 81 a length."""
    data = bytes.fromhex("7F01AA") + b"\x5a\x81" + bytes(129)
    assert [(item.tag, len(item.value)) for item in parse_one_byte(data)] == [(0x7F, 1), (0x5A, 129)]


def test_duplicates_are_refused() -> None:
    """A wanted tag that occurs twice is refused, an unwanted one is not looked at."""
    items = parse(bytes.fromhex("5C0101420102420103"))
    assert find(items, 0x5C) == b"\x01"
    with pytest.raises(MalformedData):
        find(items, 0x42)


@pytest.mark.parametrize(("tag", "length"), [(0x5C, 2), (0x9E, 1)])
def test_require(tag: int, length: int) -> None:
    """A required object must be there with its exact length."""
    with pytest.raises(MalformedData):
        require(parse(bytes.fromhex("5C0101")), tag, length)
