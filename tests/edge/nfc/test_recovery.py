"""Every way a reader is known to break, by name, through nfcpy at a PN532 on a pseudo-terminal.

``docs/reader-health.md`` lists what breaks how, and which of these tests stands for it.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import watchdog
from edge.inputs import CardDetected, ReaderLost, ReaderRestored, ReadFailed
from edge.nfc.health import ReaderState
from edge.nfc.pn532 import OPEN_S, POLL_MS, Pn532, Pn532Contact
from edge.nfc.reader import LONGEST_TURN_S, LOOK_S, ReaderSettings
from edge.nfc.serial_line import WRITE_S, SerialLine
from pacs.card.dialogue import nothing
from pacs.reason import ReadFault
from simulator.link_faults import LinkFault, LinkOptions, card_on_link
from simulator.pn532 import ReaderFault, VirtualPn532
from simulator.rf_link import AnswerToSelect, IsoDepCard
from tests.edge.nfc.door_on_pn532 import DEADLINE_S, Door

ALARM_S = 10.0
"""A dead reader is an alarm within this."""
S = 1_000_000_000


class Echo:
    """Answers every command with itself and 9000."""

    def answer(self, command: bytes) -> bytes:
        return command + b"\x90\x00"

    def computing_ms(self, _command: bytes) -> float:
        return 0.0

    def reset(self) -> None:
        pass


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[VirtualPn532]:
    with VirtualPn532(link=tmp_path / "reader") as virtual:
        yield virtual


@pytest.fixture
def antenna(chip: VirtualPn532) -> Iterator[Pn532]:
    antenna = Pn532(chip.path, patience_ms=2_000)
    antenna.open()
    yield antenna
    antenna.close()


def activate(antenna: Pn532) -> Pn532Contact:
    contact = antenna.poll(time.monotonic_ns() + 20 * S)
    assert contact is not None
    contact.activate(time.monotonic_ns() + 20 * S)
    return contact


def clear(door: Door) -> None:
    """Take the card away and wait until the reader has seen that; what it still put is passed over."""
    door.chip.remove()
    deadline = time.monotonic() + DEADLINE_S
    while door.reader._approach is not None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    while not door.inputs.empty():
        value = door.inputs.get()
        assert not isinstance(value, ReadFailed) or value.fault is ReadFault.CARD_GONE, value


def read_next(door: Door) -> None:
    """A card that comes after whatever happened is read."""
    clear(door)
    door.insert("genuine", uid=b"\x01" + time.monotonic_ns().to_bytes(8)[-3:])
    door.expect_presented()


# ---- frames


@pytest.mark.parametrize("fault", [ReaderFault.NONE, ReaderFault.EXTENDED])
@pytest.mark.parametrize("length", [249, 250])
def test_an_answer_in_a_frame_of_len_255_is_read_at_once(
    chip: VirtualPn532, antenna: Pn532, fault: ReaderFault, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LEN 255 in a normal frame, and every LEN in an extended one, is one frame: nothing more is waited for."""
    card = IsoDepCard(Echo())
    chip.insert(card)
    contact = activate(antenna)
    chip.fault(fault)
    frames: list[bytes] = []
    read = SerialLine.read

    def noted(line: SerialLine, timeout: int) -> bytearray:
        frame = read(line, timeout)
        frames.append(bytes(frame))  # nfcpy takes its own apart
        return frame

    monkeypatch.setattr(SerialLine, "read", noted)
    assert contact.transceive(bytes(length), nothing) == bytes(length) + b"\x90\x00"
    answer = frames[1]
    size = int.from_bytes(answer[5:7]) if answer[3:5] == b"\xff\xff" else answer[3]
    assert size == length + 6
    assert (answer[3:5] == b"\xff\xff") is (fault is ReaderFault.EXTENDED or size > 255)


# ---- the speed a killed process leaves


def test_a_chip_left_at_921600_by_sigkill_is_opened(chip: VirtualPn532) -> None:
    """A process killed in the middle of its polls does not lock the next one out."""
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.edge.nfc.hold_reader", chip.path], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "921600\n"
        holder.kill()
    antenna = Pn532(chip.path, patience_ms=2_000)
    antenna.open()
    chip.insert(IsoDepCard(Echo()))
    assert activate(antenna).transceive(b"\x01", nothing) == b"\x01\x90\x00"
    antenna.close()


def test_a_chip_left_fast_under_a_running_reader_is_found_again(door: Door) -> None:
    """A chip that hears at another speed than the line is lost and found again."""
    read_next(door)
    door.chip.remove()
    door.chip.fault(ReaderFault.UNPLUG)
    door.next(ReaderLost)
    door.chip.fault(ReaderFault.PLUG)
    door.chip.fault(ReaderFault.LEFT_FAST)
    door.next(ReaderRestored)
    read_next(door)


# ---- cards


@pytest.mark.parametrize(
    ("fault", "after", "expected"),
    [
        (LinkFault.ENDLESS_WAIT, 1, ReadFault.WAIT_LIMIT),
        (LinkFault.ENDLESS_ACK, 1, ReadFault.PROTOCOL_ERROR),
        (LinkFault.ENDLESS_CHAINING, 1, ReadFault.LENGTH_LIMIT),
        (LinkFault.WAIT_THEN_SILENT, 1, ReadFault.CARD_GONE),
        (LinkFault.PULLED, 1, ReadFault.CARD_GONE),
    ],
)
@pytest.mark.parametrize("fwi", [4, 8, 14])
def test_a_card_that_never_ends_is_given_up(
    open_door: Callable[..., Door], fault: LinkFault, after: int, expected: ReadFault, fwi: int
) -> None:
    """Whatever a card does for ever has its fault, whatever time it claims to need, and the next card is read."""
    door = open_door(transaction_ms=3_000, attempts=1)
    door.insert("genuine", fault=fault, after=after, ats=AnswerToSelect(fwi=fwi))
    failed = door.next(ReadFailed)
    assert isinstance(failed, ReadFailed)
    # a stalled machine may let the time limit strike before the others
    assert failed.fault in {expected, ReadFault.DEADLINE, ReadFault.WAIT_LIMIT, ReadFault.CARD_GONE}
    read_next(door)
    assert sum(door.reader.health().faults.values()) >= 1


def test_a_card_may_ask_for_time_within_a_chained_answer(chip: VirtualPn532, antenna: Pn532) -> None:
    """S(WTX) between two links of an answer is granted, and the answer arrives whole."""
    chip.insert(card_on_link(Echo(), LinkOptions(fault=LinkFault.WAIT_IN_CHAIN)))
    command = bytes(n & 0xFF for n in range(700))
    assert activate(antenna).transceive(command, nothing) == command + b"\x90\x00"


def test_a_card_pulled_in_any_phase_is_gone(door: Door) -> None:
    """Whenever it is pulled, it is one failure or none, and the next card is read."""
    for after_ms in (0.5, 2, 4, 8, 16):
        door.insert("genuine", uid=b"\x04" + bytes(6), pulled_after_ms=after_ms)
        detected = door.inputs.get(timeout=DEADLINE_S) if after_ms > 1 else None
        assert detected is None or isinstance(detected, CardDetected)
        clear(door)
    read_next(door)


# ---- the chip and its line


DEATHS = [
    (ReaderFault.DEAF, -1),
    (ReaderFault.DEAF, 1),
    (ReaderFault.LATE, -1),
    (ReaderFault.LATE, 1),
    (ReaderFault.DROP_RESPONSE, -1),
    (ReaderFault.DROP_RESPONSE, 1),
    (ReaderFault.CORRUPT_RESPONSE, -1),
    (ReaderFault.CORRUPT_RESPONSE, 1),
    (ReaderFault.CHATTER, -1),
    (ReaderFault.OVERHEATED, -1),
    (ReaderFault.BROWN_OUT, 1),
    (ReaderFault.UNPLUG, -1),
]
# a card that loses its field has left, and only then the field is looked at: it has a test of its own
WITH_A_CARD = [death for death in DEATHS if death[0] is not ReaderFault.OVERHEATED]


@pytest.mark.parametrize(
    ("fault", "times", "is_card_there"),
    [(*death, False) for death in DEATHS] + [(*death, True) for death in WITH_A_CARD],
)
def test_a_reader_that_dies_is_an_alarm_in_time_and_heals(
    open_door: Callable[..., Door], fault: ReaderFault, times: int, is_card_there: bool
) -> None:
    """Each death, with and without a card in the field, is reported within ten seconds; when it ends, cards are read."""
    door = open_door(check_s=0.1)
    read_next(door)
    if not is_card_there:
        door.chip.remove()
    door.chip.fault(fault, times=times)
    lost = door.inputs.get(timeout=ALARM_S)
    assert isinstance(lost, ReaderLost)
    assert lost.cause
    if times < 0:
        assert door.reader.health().state is ReaderState.LOST
        assert door.reader.health().cause
    door.chip.fault(ReaderFault.NONE)
    door.chip.fault(ReaderFault.PLUG)
    door.next(ReaderRestored)
    read_next(door)
    assert door.reader.health().state is ReaderState.OK


def test_a_field_that_went_off_is_found_once_its_card_has_left(open_door: Callable[..., Door]) -> None:
    """A chip too hot for its field loses the card it held, and says why it sees no other."""
    door = open_door(check_s=0.1)
    read_next(door)
    door.chip.fault(ReaderFault.OVERHEATED)
    lost = door.inputs.get(timeout=ALARM_S)
    assert isinstance(lost, ReaderLost)
    assert "hot" in lost.cause


def test_a_call_that_hangs_is_an_alarm_in_time(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that does not return is reported by the second thread; the reader says itself that it is back."""
    read_next(door)
    door.chip.remove()
    read, let_go = SerialLine.read, threading.Event()

    def hangs(line: SerialLine, timeout: int) -> bytearray:
        let_go.wait(60)
        return read(line, timeout)

    monkeypatch.setattr(SerialLine, "read", hangs)
    lost = door.inputs.get(timeout=ALARM_S + LOOK_S)
    let_go.set()
    assert isinstance(lost, ReaderLost)
    door.next(ReaderRestored)
    read_next(door)


def test_a_reader_is_stopped_in_the_middle_of_its_search(door: Door) -> None:
    """No lock is held through a search: stop and health are answered while the antenna polls."""
    read_next(door)
    assert door.reader.health().reads == 1
    door.chip.fault(ReaderFault.DEAF)
    door.reader.stop(DEADLINE_S)
    assert not door.reader._thread.is_alive()
    assert door.reader.health().reads == 1


# ---- another reader in its place


def test_a_spare_of_other_make_works_without_a_restart(door: Door) -> None:
    """Another chip with another firmware, at another terminal behind the same path, is used and named."""
    read_next(door)
    door.chip.remove()
    first = door.reader.health().firmware
    door.chip.fault(ReaderFault.UNPLUG)
    door.next(ReaderLost)
    with VirtualPn532(link=door.link, firmware=bytes.fromhex("32010507")) as spare:
        door.next(ReaderRestored)
        door.chip, unplugged = spare, door.chip
        read_next(door)
        health = door.reader.health()
        assert first is not None
        assert first.startswith("PN532 v1.6")
        assert health.firmware is not None
        assert health.firmware.startswith("PN532 v1.5")
        assert health.losses == 1
        door.chip = unplugged


def test_a_reader_that_comes_after_the_start_is_used(make_door: Callable[..., Door]) -> None:
    """A controller that starts without its reader says so in time, and uses it when it is plugged in."""
    door = make_door()
    assert door.reader.health().state is ReaderState.STARTING
    door.reader.start()
    assert isinstance(door.inputs.get(timeout=ALARM_S), ReaderLost)
    with door.chip:
        door.next(ReaderRestored)
        read_next(door)
        door.reader.stop(DEADLINE_S)


# ---- the sum of the times


def test_the_times_add_up_to_less_than_the_alarm() -> None:
    """Every wait that can stand between a death and its alarm, at its longest; and the lookout before the watchdog."""
    settings = ReaderSettings()
    patience_s = inspect.signature(Pn532).parameters["patience_ms"].default / 1000
    command_s = WRITE_S + patience_s + max(patience_s, POLL_MS / 1000)
    poll_s = settings.poll_ms / 1000 + command_s
    transaction_s = settings.transaction_ms / 1000 + command_s
    assert settings.check_s + poll_s + 2 * command_s < ALARM_S
    assert max(OPEN_S, 2 * command_s + poll_s, transaction_s, settings.longest_back_off_s) < LONGEST_TURN_S
    assert LONGEST_TURN_S + LOOK_S == watchdog.HANGS_AFTER_S < ALARM_S
