from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import mqtt_packets as packets
from hub.mqtt_packets import Kind, Published
from pacs.errors import MalformedData


def read(data: bytes) -> None:
    """As the hub does."""
    for packet in packets.take(bytearray(data)):
        if packet.kind is Kind.PUBLISH:
            packets.published(packet)
        elif packet.kind in (Kind.CONNECT_ANSWER, Kind.SUBSCRIBE_ANSWER):
            packets.refusal(packet)


topics = st.text(min_size=1, max_size=200)


@given(
    sent=st.lists(st.tuples(topics, st.binary(max_size=300), st.integers(-1, 200_000)), max_size=8),
    cuts=st.lists(st.integers(0, 4_000), max_size=6),
)
def test_packets_are_read_as_they_were_written_however_they_arrive(
    sent: list[tuple[str, bytes, int]], cuts: list[int]
) -> None:
    """Messages at both qualities, cut anywhere into pieces, come out whole, in order, with their numbers."""
    wire = b"".join(
        packets.publish(topic, payload)
        if number < 0
        else packets.publish_confirmed(topic, payload, number=number)
        for topic, payload, number in sent
    )
    received, found = bytearray(), []
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    for begin, end in pairwise(edges):
        received += wire[begin:end]
        found += [packets.published(packet) for packet in packets.take(received)]
    assert received == b""
    assert found == [
        Published(topic, payload, 0 if number < 0 else number % 65_535 + 1, is_repeated=False)
        for topic, payload, number in sent
    ]


@given(data=st.binary(max_size=400))
def test_any_bytes_give_packets_or_the_named_error(data: bytes) -> None:
    """Nothing but ``MalformedData`` comes of bytes no broker would send."""
    with contextlib.suppress(MalformedData):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x00",  # CONNECT, which only clients send
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x30\xff\xff\xff\x7f",  # 256 MiB
        b"\x34\x05\x00\x01a\x00\x01",  # QoS 2
        b"\x32\x05\x00\x01a\x00\x00",  # QoS 1, number 0
        b"\x30\x02\x00\x05",  # a topic longer than its packet
        b"\x30\x03\x00\x01\xff",
        b"\x20\x01\x00",
    ],
)
def test_what_no_broker_sends_is_refused(data: bytes) -> None:
    """Each rule of the standard that is relied on."""
    with pytest.raises(MalformedData):
        read(data)


def test_whole_packets_are_taken_before_a_broken_one_is_found() -> None:
    """What is good before the first error is not lost, and is not read twice."""
    received = bytearray(packets.publish("t", b"x") + b"\x10\x00")
    taken = packets.take(received)
    assert packets.published(next(taken)).payload == b"x"
    with pytest.raises(MalformedData):
        next(taken)
    assert received == b"\x10\x00"
