"""The chip's commands without wires: nothing a host sends upsets it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import airtime, hsu
from simulator.pn532_chip import Chip
from simulator.rf_field import RfField
from simulator.rf_link import IsoDepCard
from simulator.timing import Timing, ns

CODES = st.sampled_from(
    [0x00, 0x02, 0x04, 0x06, 0x08, 0x10, 0x12, 0x14, 0x16, 0x32, 0x42, 0x44, 0x4A, 0x52, 0x54]
)
PARAMETERS = st.one_of(
    st.binary(max_size=263),
    st.sampled_from(
        [
            bytes.fromhex(text)
            for text in ("0100", "01", "e080", "050000ff", "05000000", "02000b00", "63020063030000")
        ]
    ),
)


class Mirror:
    """Answers each command with itself and 9000 after ``computing`` milliseconds."""

    def __init__(self, computing: float = 0.0) -> None:
        self.computing = computing

    def answer(self, command: bytes) -> bytes:
        return command + b"\x90\x00"

    def computing_ms(self, command: bytes) -> float:
        return self.computing

    def reset(self) -> None:
        pass


def run(chip: Chip, command: bytes, now_ns: int, *, patience: int = 50) -> tuple[bytes | None, int]:
    """Run a command on a clock that jumps to whatever it waits for; given up after so many waits."""
    running = chip.execute(command, now_ns)
    try:
        until_ns = next(running)
        for _ in range(patience):
            now_ns = max(now_ns, until_ns or now_ns)
            until_ns = running.send(now_ns)
    except StopIteration as end:
        result: tuple[bytes | None, int] = end.value
        return result
    running.close()
    return b"", now_ns


def at_work(timing: Timing) -> tuple[RfField, Chip]:
    """A chip ready for cards, RATS left to the host, field on since long ago."""
    field = RfField(timing)
    chip = Chip(field, timing)
    chip.state.sam_configured = True
    chip.rf.state.parameters = 0
    field.switch(on=True, at_ns=-(10**9))
    return field, chip


@given(st.lists(st.tuples(CODES, PARAMETERS), max_size=12), st.booleans())
def test_no_commands_raise(commands: list[tuple[int, bytes]], timed: bool) -> None:
    """Any commands, with a card in the field: each ends in an answer that fits a frame, or waits until given up."""
    timing = Timing.realistic() if timed else Timing.none()
    field = RfField(timing)
    chip = Chip(field, timing)
    field.insert(IsoDepCard(Mirror()), at_ns=0)
    chip.state.sam_configured = True
    now_ns = 1
    for code, parameters in commands:
        answer, ready_ns = run(chip, bytes([code]) + parameters, now_ns)
        assert ready_ns >= now_ns
        assert answer is None or len(hsu.encode(answer)) <= hsu.MAX_LENGTH + 10
        now_ns = ready_ns


def test_the_chip_takes_its_modelled_time() -> None:
    """The clock of a search is exactly field guard, selection by ``airtime``, and the firmware's own time."""
    timing = Timing.realistic(firmware_ms=2.0)
    field, chip = at_work(timing)
    field.switch(on=False, at_ns=0)
    field.insert(IsoDepCard(Mirror()), at_ns=0)
    answer, ready_ns = run(chip, bytes.fromhex("4a0100"), 0)
    assert answer is not None
    assert answer[1] == 1
    least_ms = airtime.FIELD_GUARD_MS + airtime.selection_ms(7) - airtime.READER_DELAY_MS + 2.0
    # Frames that end in a one let the card wait 64 periods of the carrier longer.
    longest_ms = least_ms + 5 * (airtime.CARD_DELAY_LAST_ONE_MS - airtime.CARD_DELAY_MS)
    assert least_ms <= ready_ns / 1e6 + 1e-6
    assert ready_ns / 1e6 <= longest_ms + 1e-6


def test_a_card_needs_its_guard_time() -> None:
    """A card that comes into a field that is on hears nothing for 5 ms."""
    field, chip = at_work(Timing.realistic())
    chip.rf.state.passive_retries = 0
    field.insert(IsoDepCard(Mirror()), at_ns=0)
    assert run(chip, bytes.fromhex("4a0100"), ns(4.99))[0] == b"\x4b\x00"
    answer, _ = run(chip, bytes.fromhex("4a0100"), ns(5.0))
    assert answer is not None
    assert answer[1] == 1


def test_a_card_pulled_while_it_computes_does_not_answer() -> None:
    """Only what has been received whole counts; the timeout runs from the end of the command."""
    field, chip = at_work(Timing.realistic())
    field.insert(IsoDepCard(Mirror(20.0)), at_ns=0, until_ns=ns(100))
    _, now_ns = run(chip, bytes.fromhex("4a0100"), ns(50))
    _, now_ns = run(chip, bytes.fromhex("42e080"), now_ns)
    assert now_ns < ns(80)
    answer, ready_ns = run(chip, b"\x42\x02abc", ns(90))
    assert answer == b"\x43\x01"
    assert ready_ns == ns(90) + ns(airtime.to_card_ms(6)) + ns(51.2)


@pytest.mark.parametrize("baud", [115_200, 921_600])
@pytest.mark.parametrize("lengths", [(14, 20), (300, 20), (14, 600)])
def test_the_floor_is_what_the_chip_takes_at_best(baud: int, lengths: tuple[int, int]) -> None:
    """Played on a clock without any delay of the host, a tap takes the floor and a few last bits, no more."""
    field, chip = at_work(Timing.realistic())
    exchanges = [(bytes(length), bytes(length) + b"\x90\x00") for length in lengths]
    field.insert(IsoDepCard(Mirror(33.0)), at_ns=0)
    floor = airtime.tap_floor(exchanges, baud=baud, computing_ms=[33.0, 33.0], names=["one"])
    assert list(floor.phases) == ["detect", "activate", "one", "exchange 2"]

    answer, now_ns = run(chip, bytes.fromhex("4a0100"), ns(airtime.FIELD_GUARD_MS))
    assert answer is not None
    now_ns += ns(airtime.serial_ms(len(hsu.encode(answer)), baud))

    def thru(data: bytes) -> bytes:
        nonlocal now_ns
        command = hsu.encode(b"\x42" + data, identifier=hsu.FROM_HOST)
        now_ns += ns(airtime.serial_ms(len(command) + len(hsu.ACK), baud))
        answered, now_ns = run(chip, b"\x42" + data, now_ns)
        assert answered is not None
        assert answered[1] == 0
        now_ns += ns(airtime.serial_ms(len(hsu.encode(answered)), baud))
        return answered[2:]

    turns, number = 2, 0
    thru(b"\xe0\x80")
    for command, expected in exchanges:
        for start in range(0, len(command) - 253, 253):
            thru(bytes([0x12 | number]) + command[start : start + 253])
            turns, number = turns + 1, number ^ 1
        rest = len(command) % 253
        block = thru(bytes([0x02 | number]) + command[len(command) - rest :])
        received, number = block[1:], number ^ 1
        while block[0] & 0x10:
            block = thru(bytes([0xA2 | number]))
            received, turns, number = received + block[1:], turns + 1, number ^ 1
        assert received == expected
    # REQA and two frames for each cascade level besides; their last bits decide on 4.7 µs each.
    last_bits_ms = (turns + 5) * (airtime.CARD_DELAY_LAST_ONE_MS - airtime.CARD_DELAY_MS)
    spent_ms = now_ns / 1e6
    assert floor.total - 1e-3 <= spent_ms <= floor.total + last_bits_ms + 1e-3
