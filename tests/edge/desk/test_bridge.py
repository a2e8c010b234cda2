"""The bridge from lines to a card in a reader: at a virtual PN532, and at an antenna that does anything."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Backend
from edge.desk.__main__ import main
from edge.desk.bridge import Bridge, parse_reader
from edge.nfc.pn532 import Pn532
from pacs.card.pkoc import SELECT
from pacs.errors import CardGone, CardMisbehaves, MalformedData, ReaderBroken
from pacs.reason import ReadFault
from simulator.link_faults import LinkOptions, card_on_link
from simulator.pn532 import ReaderFault, VirtualPn532
from simulator.timing import Timing
from simulator.virtual_card import VirtualCard

SELECTED = b"5c0201009000"
LINE = bytes(SELECT).hex().encode() + b"\n"
WITHIN_S = 30.0


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[VirtualPn532]:
    with VirtualPn532(timing=Timing.none(), link=tmp_path / "reader") as chip:
        yield chip


@pytest.fixture
def bridge(chip: VirtualPn532, tmp_path: Path) -> Iterator[Bridge]:
    antenna = Pn532(str(tmp_path / "reader"), patience_ms=500)
    yield Bridge(antenna)
    antenna.close()


def lay(chip: VirtualPn532, card: VirtualCard | None = None) -> None:
    chip.insert(card_on_link(card or VirtualCard(), LinkOptions()))


def repeated(bridge: Bridge, line: bytes, answer: bytes) -> None:
    """Say a line until it is answered so; a busy machine may break a reader in between."""
    deadline = time.monotonic() + WITHIN_S
    while (said := bridge.answer(line)) != answer:
        assert time.monotonic() < deadline, said


def test_card_after_card(chip: VirtualPn532, bridge: Bridge) -> None:
    """A card is announced, answers, is seen to be taken away, and the next one answers from its start."""
    repeated(bridge, b"?card 0\n", b"?none")
    for _ in range(2):
        lay(chip)
        repeated(bridge, b"?card 5\n", b"?card")
        assert bridge.answer(LINE) == SELECTED
        assert bridge.answer(b"80f2000000\n").startswith(b"e3139f7001")
        assert bridge.answer(b"?lifted 0.1\n") == b"?card"
        chip.remove()
        repeated(bridge, b"?lifted 5\n", b"?lifted")


def test_a_card_that_is_pulled_away(chip: VirtualPn532, bridge: Bridge) -> None:
    """Its absence is said, and the next command goes to whatever card is there, which knows of nothing before."""
    lay(chip)
    repeated(bridge, LINE, SELECTED)
    chip.remove()
    assert bridge.answer(LINE).startswith(b"!card_gone ")
    lay(chip)
    repeated(bridge, b"?card 5\n", b"?card")
    assert bridge.answer(b"80f2000000\n") == b"6985"


def test_a_reader_that_is_not_there(bridge: Bridge, chip: VirtualPn532) -> None:
    """It is said with advice, and opened again by the next line."""
    chip.fault(ReaderFault.UNPLUG)
    assert bridge.answer(LINE).startswith(b"!reader_broken ")
    chip.fault(ReaderFault.PLUG)
    lay(chip)
    repeated(bridge, LINE, SELECTED)


class AnyAntenna:
    """Does the next thing of a list, whatever it is asked."""

    device, baud, identity = "any", None, b"\x04"

    def __init__(self, deeds: list[int]) -> None:
        self._deeds = iter(deeds)
        self._now_ns = 0

    def clock_ns(self) -> int:
        self._now_ns += 100_000_000
        return self._now_ns

    def _do(self) -> int:
        match next(self._deeds, 0):
            case 1:
                raise CardGone("gone")
            case 2:
                raise CardMisbehaves(ReadFault.PROTOCOL_ERROR, "two\nlines ünd so weiter")
            case deed:
                return deed

    def _work(self) -> int:
        try:
            deed = self._do()
        except (CardGone, CardMisbehaves):
            deed = 3
        if deed == 3:
            raise ReaderBroken("broken", "mend it")
        return deed

    def open(self) -> None:
        self._work()

    def close(self) -> None:
        pass

    def check(self) -> str:
        return "any"

    def poll(self, until_ns: int) -> AnyAntenna | None:
        self._now_ns = max(self._now_ns, until_ns)
        return self if self._work() else None

    def activate(self, deadline_ns: int) -> None:
        if self._do() == 3:
            raise ReaderBroken("broken")

    def transceive(self, command: bytes, meanwhile: Callable[[], None]) -> bytes:
        meanwhile()
        return bytes([self._do()]) + command

    def while_waiting(self, work: object) -> None:
        pass

    def is_present(self) -> bool:
        return bool(self._work())

    def release(self) -> None:
        self._work()


@given(
    st.lists(st.integers(0, 4), max_size=30),
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.binary(max_size=10).map(lambda raw: raw.hex().encode()),
            st.sampled_from([b"?card 1", b"?lifted 1", b"?lifted nan", b"?card inf", b"?card", b"?what 1"]),
        ),
        max_size=10,
    ),
)
def test_any_line_at_any_reader(deeds: list[int], lines: list[bytes]) -> None:
    """Whatever is said and whatever the reader does, each line is answered with one line of ASCII, and nothing raises."""
    antenna = AnyAntenna(deeds)
    bridge = Bridge(antenna, monotonic_ns=antenna.clock_ns, rest=lambda _s: None)
    for line in lines:
        answer = bridge.answer(line)
        assert answer.isascii()
        assert b"\n" not in answer
        assert answer[:1] in b"!?" or bytes.fromhex(answer.decode())


def test_the_end_of_input_gives_the_reader_back() -> None:
    """Lines are answered in turn, and after the last one the reader is closed."""
    closed = threading.Event()
    antenna = AnyAntenna([4] * 20)
    antenna.close = closed.set  # type: ignore[method-assign]
    answers = io.BytesIO()
    Bridge(antenna, monotonic_ns=antenna.clock_ns).serve(io.BytesIO(b"00a4\nxx\n"), answers)
    assert answers.getvalue() == b"0400a4\n6f00\n"
    assert closed.is_set()


@pytest.mark.parametrize("text", ["", "pn532", "pn532:", "usb:/dev/x", ":x"])
def test_readers_that_are_not_named(text: str) -> None:
    """Kind and device are both needed; the command says so."""
    with pytest.raises(MalformedData):
        parse_reader(text)
    assert parse_reader("pcsc:ACR1252 1S CL: Reader") == (Backend.PCSC, "ACR1252 1S CL: Reader")
    assert CliRunner().invoke(main, ["bridge", "--reader", text]).exit_code == 2
