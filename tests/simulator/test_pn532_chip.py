"""The chip's commands without wires: nothing a host sends upsets it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from simulator import airtime, hsu
from simulator.pn532_chip import Chip
from simulator.rf_field import RfField
from simulator.rf_link import IsoDepCard
from simulator.timing import Timing

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
    """Answers each command with itself and 9000."""

    def answer(self, command: bytes) -> bytes:
        return command + b"\x90\x00"

    def computing_ms(self, command: bytes) -> float:
        return 0.0

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
    field = RfField(timing)
    chip = Chip(field, timing)
    field.insert(IsoDepCard(Mirror()), at_ns=0)
    chip.state.sam_configured = True
    chip.rf.state.parameters = 0
    answer, ready_ns = run(chip, bytes.fromhex("4a0100"), 0)
    assert answer is not None
    assert answer[1] == 1
    least_ms = airtime.FIELD_GUARD_MS + airtime.selection_ms(7) - airtime.READER_DELAY_MS + 2.0
    # Frames that end in a one let the card wait 64 periods of the carrier longer.
    longest_ms = least_ms + 5 * (airtime.CARD_DELAY_LAST_ONE_MS - airtime.CARD_DELAY_MS)
    assert least_ms <= ready_ns / 1e6 + 1e-6
    assert ready_ns / 1e6 <= longest_ms + 1e-6
