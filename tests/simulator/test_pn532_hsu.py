"""HSU framing of the PN532."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import hsu

chunks = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=30)


def split(data: bytes, sizes: list[int]) -> list[bytes]:
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    return [*parts, data]


@given(st.lists(st.binary(min_size=1, max_size=264), min_size=1, max_size=4), chunks, st.binary(max_size=12))
def test_any_split_gives_the_same_frames(commands: list[bytes], sizes: list[int], noise: bytes) -> None:
    """Frames come out whole and in order however the line cuts them, with a long preamble and ACKs between."""
    quiet = noise.replace(b"\xff", b"")
    stream = b"".join(
        quiet + b"\x00" * 10 + hsu.encode(data, identifier=hsu.FROM_HOST) + hsu.ACK + hsu.NACK
        for data in commands
    )
    decoder = hsu.Decoder()
    frames = [frame for part in split(stream, sizes) for frame in decoder.feed(part)]
    expected: list[hsu.Frame] = []
    for data in commands:
        expected += [hsu.Information(data=data), hsu.Acknowledge(), hsu.Repeat()]
    assert frames == expected


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_raise(parts: list[bytes]) -> None:
    """Whatever arrives, the decoder never raises, and hears the next frame once the line has been quiet of starts."""
    decoder = hsu.Decoder()
    for part in parts:
        list(decoder.feed(part))
    good = hsu.encode(b"\x02", identifier=hsu.FROM_HOST)
    frames = list(decoder.feed(bytes(300) + good))
    assert frames[-1] == hsu.Information(data=b"\x02")


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("length checksum", "0000ff02ffd4022a00"),
        ("data checksum", "0000ff02fed4022b00"),
        ("extended length checksum", "0000ffffff000201d4022a00"),
        ("the chip's identifier", "0000ff02fed5022900"),
        ("longer than a frame may be", "0000ffffff0200fe"),
    ],
)
def test_a_wrong_frame_is_skipped(name: str, frame: str) -> None:
    """A frame against the format is dropped and the one after it heard."""
    good = bytes.fromhex("0000ff02fed4022a00")
    assert list(hsu.Decoder().feed(bytes.fromhex(frame) + good)) == [hsu.Information(data=b"\x02")]


def test_known_frames() -> None:
    """GetFirmwareVersion and its answer as every PN532 host writes and reads them; extended only above LEN 255."""
    assert hsu.encode(b"\x02", identifier=hsu.FROM_HOST).hex() == "0000ff02fed4022a00"
    assert hsu.encode(bytes.fromhex("0332010607")).hex() == "0000ff06fad50332010607e800"
    assert hsu.encode(bytes(254))[3:5].hex() == "ff01"
    assert hsu.encode(bytes(255))[3:8].hex() == "ffff0100ff"
    assert list(hsu.Decoder(identifier=hsu.FROM_CHIP).feed(hsu.ERROR)) == [hsu.ApplicationError()]
    with pytest.raises(ValueError, match="do not fit"):
        hsu.encode(bytes(265))
