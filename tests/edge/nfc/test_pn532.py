from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from edge.nfc.chipset import Chip
from edge.nfc.iso_dep import GarbledAnswer, NoAnswer
from edge.nfc.pn532 import Pn532, Pn532Contact
from edge.nfc.serial_line import INITIAL_BAUD, SerialLine
from pacs.card.dialogue import nothing
from pacs.errors import CardError, CardGone, CardMisbehaves, ReaderBroken
from pacs.reason import ReadFault
from simulator import hsu
from simulator.link_faults import RAW_ATS, LinkFault, LinkOptions, card_on_link
from simulator.pn532 import ReaderFault, VirtualPn532
from simulator.rf_link import AirFrame, Answer, AnswerToSelect, Card, IsoDepCard, with_crc

S = 1_000_000_000
PATIENCE_MS = 2_000
"""A busy machine may stop the simulated chip for this long."""


class Echo:
    """Answers every command with itself and 9000, after ``computing`` ms."""

    def __init__(self, computing: float = 0.0) -> None:
        self.commands: list[bytes] = []
        self._computing = computing

    def answer(self, command: bytes) -> bytes:
        self.commands.append(command)
        return command + b"\x90\x00"

    def computing_ms(self, _command: bytes) -> float:
        return self._computing

    def reset(self) -> None:
        pass


@pytest.fixture
def chip() -> Iterator[VirtualPn532]:
    with VirtualPn532() as virtual:
        yield virtual


@pytest.fixture
def antenna(chip: VirtualPn532) -> Iterator[Pn532]:
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS)
    antenna.open()
    yield antenna
    antenna.close()


def deadline_ns(seconds: float = 20.0) -> int:
    return time.monotonic_ns() + round(seconds * S)


def find(antenna: Pn532) -> Pn532Contact:
    contact = antenna.poll(deadline_ns())
    assert contact is not None
    return contact


def activate(antenna: Pn532, seconds: float = 20.0) -> Pn532Contact:
    contact = find(antenna)
    contact.activate(deadline_ns(seconds))
    return contact


def read_once(antenna: Pn532) -> bytes:
    contact = activate(antenna)
    answer = contact.transceive(b"\x00\xa4", nothing)
    contact.release()
    return answer


# ---- good cards


@pytest.mark.parametrize("uid", ["08112233", "04c0ffee123456", "04c0ffee123456789abc"])
@pytest.mark.parametrize("fsci", [0, 2, 8])
def test_carries_commands_of_any_length(chip: VirtualPn532, antenna: Pn532, uid: str, fsci: int) -> None:
    """Commands and answers of every length around a frame's arrive whole, whatever the card's UID and frames."""
    card = IsoDepCard(Echo(), uid=bytes.fromhex(uid), ats=AnswerToSelect(fsci=fsci))
    chip.insert(card)
    contact = activate(antenna)
    assert contact.identity == bytes.fromhex(uid)
    for length in (1, 12, 13, 14, 247, 248, 249, 250, 251, 252, 253, 254, 255, 600):
        command = bytes(n & 0xFF for n in range(length))
        assert contact.transceive(command, nothing) == command + b"\x90\x00"


def test_finds_no_card_in_an_empty_field(antenna: Pn532) -> None:
    """An empty field is None, after at least one look."""
    assert antenna.poll(0) is None


def test_finds_a_card_that_comes_while_polling(chip: VirtualPn532, antenna: Pn532) -> None:
    """A card laid down during a poll ends that poll."""
    timer = threading.Timer(0.05, lambda: chip.insert(IsoDepCard(Echo())))
    timer.start()
    assert find(antenna).identity
    timer.join()


def test_finds_the_card_again_after_release(chip: VirtualPn532, antenna: Pn532) -> None:
    """A released card starts anew; without release it stays in its conversation."""
    chip.insert(IsoDepCard(Echo()))
    assert [read_once(antenna) for _ in range(3)] == [b"\x00\xa4\x90\x00"] * 3


def test_sees_the_card_leave(chip: VirtualPn532, antenna: Pn532) -> None:
    """Presence follows the card."""
    chip.insert(IsoDepCard(Echo()))
    contact = activate(antenna)
    contact.transceive(b"\x00\xa4", nothing)
    assert contact.is_present()
    chip.remove()
    assert not contact.is_present()


def test_works_while_the_card_computes(
    chip: VirtualPn532, antenna: Pn532, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``meanwhile`` runs between the chip's acknowledgement and the wait for the card, once, even if that one is lost."""
    chip.insert(IsoDepCard(Echo()))
    contact = activate(antenna)
    order: list[str] = []
    read = SerialLine.read

    def noted(line: SerialLine, timeout: int) -> bytearray:
        order.append("read")
        return read(line, timeout)

    monkeypatch.setattr(SerialLine, "read", noted)
    assert contact.transceive(b"\x01", lambda: order.append("work")) == b"\x01\x90\x00"
    assert order == ["read", "work", "read"]
    chip.fault(ReaderFault.DROP_ACK, times=1)
    assert contact.transceive(b"\x02", lambda: order.append("work")) == b"\x02\x90\x00"
    assert order.count("work") == 2


@pytest.mark.parametrize(("fwi", "code"), [(0, 0x0B), (8, 0x0B), (9, 0x0C), (11, 0x0E), (14, 0x0E)])
def test_gives_the_card_the_time_it_declared(chip: VirtualPn532, antenna: Pn532, fwi: int, code: int) -> None:
    """The chip's timeout follows the card's, within 819 ms, and is back for the next poll."""
    chip.insert(IsoDepCard(Echo(), ats=AnswerToSelect(fwi=fwi)))
    contact = activate(antenna)
    contact.transceive(b"\x00", nothing)
    assert chip.chip.rf.state.timeout_code == code
    contact.release()
    assert chip.chip.rf.state.timeout_code == 0x0B


def test_waits_out_the_guard_time(chip: VirtualPn532) -> None:
    """A card's start-up guard time passes before its first block, at most until the deadline."""
    slept: list[float] = []
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS, sleep=slept.append)
    antenna.open()
    for sfgi in (0, 8, 14):
        chip.insert(IsoDepCard(Echo(), ats=AnswerToSelect(sfgi=sfgi)))
        contact = find(antenna)
        slept.clear()
        contact.activate(deadline_ns(2.0))
        chip.remove()
        contact.release()
        guard_s = slept[0] if len(slept) > 1 else 0.0
        assert guard_s == pytest.approx({0: 0.0, 8: 0.0773, 14: 2.0}[sfgi], rel=0.2)
    antenna.close()


# ---- bad cards


@pytest.mark.parametrize(
    ("fault", "after", "expected"),
    [
        (LinkFault.PULLED, 0, ReadFault.CARD_GONE),
        (LinkFault.PULLED, 2, ReadFault.CARD_GONE),
        (LinkFault.GARBAGE, 0, ReadFault.PROTOCOL_ERROR),
        (LinkFault.GARBAGE, 2, ReadFault.PROTOCOL_ERROR),
        (LinkFault.ENDLESS_WAIT, 1, ReadFault.WAIT_LIMIT),
        (LinkFault.ENDLESS_CHAINING, 1, ReadFault.LENGTH_LIMIT),
        (LinkFault.WRONG_BLOCK_NUMBER, 0, ReadFault.PROTOCOL_ERROR),
        (LinkFault.IGNORES_RATS, 0, ReadFault.CARD_GONE),
        (LinkFault.RF_ERROR, 1, ReadFault.PROTOCOL_ERROR),
    ],
)
def test_names_what_a_hostile_card_does(
    chip: VirtualPn532, antenna: Pn532, fault: LinkFault, after: int, expected: ReadFault
) -> None:
    """Each hostile card ends in its fault, and the antenna reads a good card right after it."""
    chip.insert(card_on_link(Echo(), LinkOptions(fault=fault, after=after)))
    contact = find(antenna)

    def talk() -> None:
        contact.activate(deadline_ns())
        for _ in range(4):
            contact.transceive(b"\x00\xca\x7f\x21\x00", nothing)

    with pytest.raises(CardError) as caught:
        talk()
    assert caught.value.fault is expected
    chip.remove()
    contact.release()
    chip.insert(IsoDepCard(Echo()))
    assert read_once(antenna) == b"\x00\xa4\x90\x00"


@pytest.mark.parametrize("fault", [LinkFault.NOISY, LinkFault.CORRUPT])
def test_repeats_over_a_bad_link(chip: VirtualPn532, antenna: Pn532, fault: LinkFault) -> None:
    """With every third answer lost or spoilt a conversation still succeeds, each command heard once."""
    echo = Echo()
    chip.insert(card_on_link(echo, LinkOptions(fault=fault, every=3)))
    contact = activate(antenna)
    commands = [bytes((n,)) for n in range(8)]
    assert [contact.transceive(c, nothing)[:1] for c in commands] == commands
    assert echo.commands == commands


@pytest.mark.parametrize(
    ("raw_ats", "expected"),
    [
        (RAW_ATS[LinkFault.ATS_ONE_BYTE], ReadFault.ATS_INVALID),
        (RAW_ATS[LinkFault.ATS_WRONG_LENGTH], ReadFault.ATS_INVALID),
        (b"\x02\x78", ReadFault.ATS_INVALID),
        (b"\x00", ReadFault.ATS_INVALID),
        (RAW_ATS[LinkFault.ATS_WITHOUT_TA1], None),
        (bytes.fromhex("0578807002"), None),
    ],
)
def test_reads_any_proper_answer_to_select(
    chip: VirtualPn532, antenna: Pn532, raw_ats: bytes, expected: ReadFault | None
) -> None:
    """Missing interface bytes do no harm; a torn answer to select, or one that declares nothing, is a fault."""
    chip.insert(IsoDepCard(Echo(), raw_ats=raw_ats))
    contact = find(antenna)
    if expected is None:
        contact.activate(deadline_ns())
        assert contact.transceive(b"\x01", nothing) == b"\x01\x90\x00"
        return
    with pytest.raises(CardMisbehaves) as caught:
        contact.activate(deadline_ns())
    assert caught.value.fault is expected


class MemoryCard:
    """A card that ends at ISO/IEC 14443-3."""

    def __init__(self) -> None:
        self._card = IsoDepCard(Echo(), uid=b"\x01\x02\x03\x04")

    def power_off(self) -> None:
        self._card.power_off()

    def receive(self, frame: AirFrame) -> Answer | None:
        answer = self._card.receive(frame)
        if answer is not None and answer.data == with_crc(b"\x20"):
            return Answer(data=with_crc(b"\x08"))
        return answer


def test_does_not_talk_to_a_memory_card(chip: VirtualPn532, antenna: Pn532) -> None:
    """A card without ISO/IEC 14443-4 is named as a technology, not as a broken card."""
    card: Card = MemoryCard()
    chip.insert(card)
    with pytest.raises(CardMisbehaves) as caught:
        activate(antenna)
    assert caught.value.fault is ReadFault.TECHNOLOGY_UNSUPPORTED


@pytest.mark.parametrize("status", range(1, 0x40))
def test_every_status_of_the_chip_is_one_of_three_errors(
    chip: VirtualPn532, antenna: Pn532, status: int
) -> None:
    """Each error code of the chip is the card's or the reader's fault, never another exception."""
    chip.insert(card_on_link(Echo(), LinkOptions(fault=LinkFault.RF_ERROR, status=status)))
    contact = activate(antenna)
    with pytest.raises((CardError, ReaderBroken)):
        contact.transceive(b"\x00", nothing)


def test_a_deadline_ends_the_wait_for_a_card(chip: VirtualPn532) -> None:
    """The host takes the command back at the deadline, though card and chip would wait on, and goes on."""
    ahead_ns = 0
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS, clock_ns=lambda: time.monotonic_ns() + ahead_ns)
    antenna.open()
    options = LinkOptions(fault=LinkFault.PULLED, after=1, ats=AnswerToSelect(fwi=14))
    chip.insert(card_on_link(Echo(), options))
    contact = activate(antenna, seconds=60)
    assert contact.transceive(b"\x01", nothing) == b"\x01\x90\x00"
    ahead_ns = 60 * S - S // 5
    with pytest.raises(CardGone):
        contact.transceive(b"\x02", nothing)
    contact.release()
    chip.insert(IsoDepCard(Echo()))
    ahead_ns = 0
    assert read_once(antenna) == b"\x00\xa4\x90\x00"
    antenna.close()


# ---- the reader


def at_speed(path: str, baud: int) -> None:
    """Leave the chip at ``baud`` as a killed process does."""
    antenna = Pn532(path, max_baud=baud, patience_ms=PATIENCE_MS)
    antenna.open()
    assert antenna.baud == baud
    antenna._drop()


@pytest.mark.parametrize("baud", [115_200, 230_400, 460_800, 921_600])
@pytest.mark.parametrize("max_baud", [115_200, 921_600])
def test_opens_a_chip_left_at_any_speed(chip: VirtualPn532, baud: int, max_baud: int) -> None:
    """A crash at any speed does not lock the reader out, and the wanted speed is reached."""
    at_speed(chip.path, baud)
    antenna = Pn532(chip.path, max_baud=max_baud, patience_ms=PATIENCE_MS)
    antenna.open()
    assert antenna.baud == max_baud
    assert str(max_baud) in antenna.check()
    chip.insert(IsoDepCard(Echo()))
    assert read_once(antenna) == b"\x00\xa4\x90\x00"
    antenna.close()


@pytest.mark.parametrize(
    "torn",
    [b"\x00\x00\xff", bytes.fromhex("0000ffffff0107f8d442"), hsu.encode(b"\x42" + bytes(40))[:20]],
)
def test_opens_a_chip_in_the_middle_of_a_command(chip: VirtualPn532, torn: bytes) -> None:
    """A process killed while writing, or while the chip waits for a card, does not lock the reader out."""
    at_speed(chip.path, 921_600)
    line = SerialLine(chip.path)
    line.set_baud(921_600)
    line.write(torn)
    line.close()
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS)
    antenna.open()
    assert antenna.baud == 921_600
    antenna.close()


def test_leaves_the_chip_as_others_expect_it(chip: VirtualPn532) -> None:
    """After close the chip sleeps at its initial speed with the field off."""
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS)
    antenna.open()
    antenna.close()
    assert chip.chip.state.baud == INITIAL_BAUD
    assert chip.chip.state.asleep


def test_a_second_process_cannot_disturb(chip: VirtualPn532, antenna: Pn532) -> None:
    """While one holds the device another cannot open it, and the first reads on."""
    with pytest.raises(ReaderBroken):
        Pn532(chip.path).open()
    chip.insert(IsoDepCard(Echo()))
    assert read_once(antenna) == b"\x00\xa4\x90\x00"


def test_stays_at_the_initial_speed_on_a_port_that_cannot_do_more(
    chip: VirtualPn532, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port without the higher speed is used at the initial one; the chip is not sent where it is not heard."""
    set_baud = SerialLine.set_baud

    def only_slow(line: SerialLine, baud: int) -> None:
        if baud > INITIAL_BAUD:
            raise OSError(errno.EINVAL, "no such speed")
        set_baud(line, baud)

    monkeypatch.setattr(SerialLine, "set_baud", only_slow)
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS)
    antenna.open()
    assert antenna.baud == chip.chip.state.baud == INITIAL_BAUD
    antenna.close()


def test_returns_to_the_initial_speed_on_a_line_too_bad_for_more(
    chip: VirtualPn532, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When long frames do not survive the higher speed, the line test finds it and the initial speed is used."""
    read = SerialLine.read

    def spoilt(line: SerialLine, timeout: int) -> bytearray:
        frame = read(line, timeout)
        if line.baudrate > INITIAL_BAUD and len(frame) > 100:
            frame[50] ^= 0xFF
        return frame

    monkeypatch.setattr(SerialLine, "read", spoilt)
    antenna = Pn532(chip.path, patience_ms=PATIENCE_MS)
    antenna.open()
    assert antenna.baud == chip.chip.state.baud == INITIAL_BAUD
    antenna.close()


class NoisyLine:
    """A line on which any frames come back."""

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames
        self._turn = 0

    def write(self, frame: bytes) -> None:
        pass

    def read(self, _timeout: int) -> bytearray:
        self._turn += 1
        frame = self._frames[self._turn % len(self._frames)]
        if not frame:
            raise OSError(errno.ETIMEDOUT, "nothing")
        return bytearray(frame)

    def close(self) -> None:
        pass


ANY_FRAME = (
    st.just(hsu.ACK)
    | st.binary(max_size=30)
    | st.binary(min_size=1, max_size=30).map(hsu.encode)
    | st.tuples(st.sampled_from([0x4B, 0x43, 0x33, 0x03]), st.binary(max_size=30)).map(
        lambda code_and_data: hsu.encode(bytes([code_and_data[0]]) + code_and_data[1])
    )
)


@given(frames=st.lists(ANY_FRAME, min_size=1, max_size=6))
def test_any_answer_of_the_chip_is_a_value_or_a_broken_reader(frames: list[bytes]) -> None:
    """Whatever comes back from the chip, each use ends in a value, a card's outcome or ReaderBroken."""
    for use in ("poll", "check", "cycle_field", "exchange"):
        antenna = Pn532("/dev/null", sleep=lambda _seconds: None)
        antenna._chip = Chip(NoisyLine([hsu.ACK, *frames]))  # type: ignore[arg-type]
        uses: dict[str, Callable[[], object]] = {
            "poll": lambda antenna=antenna: antenna.poll(0),  # type: ignore[misc]
            "check": antenna.check,
            "cycle_field": antenna.cycle_field,
            "exchange": lambda antenna=antenna: antenna.exchange(  # type: ignore[misc]
                b"\x02", wait_us=1_000, deadline_ns=deadline_ns(), meanwhile=nothing
            ),
        }
        with contextlib.suppress(ReaderBroken, NoAnswer, GarbledAnswer):
            uses[use]()


def break_deaf(chip: VirtualPn532) -> None:
    chip.fault(ReaderFault.DEAF)


def break_once(fault: ReaderFault) -> Callable[[VirtualPn532], None]:
    return lambda chip: chip.fault(fault, times=1)


@pytest.mark.parametrize(
    "damage",
    [
        break_deaf,
        break_once(ReaderFault.DROP_RESPONSE),
        break_once(ReaderFault.CORRUPT_RESPONSE),
        break_once(ReaderFault.BROWN_OUT),
        break_once(ReaderFault.UNPLUG),
    ],
)
@pytest.mark.parametrize("use", ["poll", "activate", "transceive", "is_present", "release", "check"])
def test_a_broken_reader_is_reported_as_such_and_heals(
    chip: VirtualPn532, damage: Callable[[VirtualPn532], None], use: str, tmp_path: Path
) -> None:
    """Each fault of the reader is ReaderBroken wherever it strikes; when it has ended, open heals."""
    link = tmp_path / "reader"
    link.symlink_to(chip.path)
    antenna = Pn532(str(link), patience_ms=100)
    antenna.open()
    card = IsoDepCard(Echo())
    chip.insert(card)
    contact = find(antenna)
    if use in ("transceive", "is_present"):
        contact.activate(deadline_ns())
    damage(chip)
    uses: dict[str, Callable[[], object]] = {
        "poll": lambda: [antenna.poll(0) for _ in range(2)],
        "activate": lambda: contact.activate(deadline_ns()),
        "transceive": lambda: contact.transceive(b"\x00", nothing),
        "is_present": contact.is_present,
        "release": contact.release,
        "check": antenna.check,
    }
    with pytest.raises(ReaderBroken):
        uses[use]()
    with pytest.raises(ReaderBroken):
        antenna.check()
    chip.fault(ReaderFault.NONE)
    chip.fault(ReaderFault.PLUG)
    link.unlink()
    link.symlink_to(chip.path)
    heal(antenna)
    assert read_once(antenna) == b"\x00\xa4\x90\x00"
    antenna.close()


def heal(antenna: Pn532) -> None:
    """Open with the patience that a busy machine needs."""
    until = time.monotonic() + 20
    while True:
        try:
            antenna.open()
            return
        except ReaderBroken:
            assert time.monotonic() < until


def test_an_absent_device_is_a_broken_reader() -> None:
    """No device, and a device that is none, are ReaderBroken; close never raises."""
    for path in ("/dev/does-not-exist", "/dev/null"):
        antenna = Pn532(path)
        with pytest.raises(ReaderBroken):
            antenna.open()
        antenna.close()


def test_a_silent_line_is_a_broken_reader() -> None:
    """A line with nothing behind it is ReaderBroken."""
    master, slave = os.openpty()
    antenna = Pn532(os.ttyname(slave))
    with pytest.raises(ReaderBroken, match="no PN532"):
        antenna.open()
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "plug it in"),
        (errno.EIO, "plug it in"),
        (errno.ENODEV, "plug it in"),
        (errno.EACCES, "usermod"),
        (errno.EAGAIN, "another program has it"),
        (errno.ENOTTY, "correct device"),
        (errno.ETIMEDOUT, "HSU"),
    ],
)
def test_what_to_do_follows_from_the_error_and_not_from_its_words(
    monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    """Each errno has its own way out, also behind a path that sounds like another one; it is told once, in words."""

    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(number, f"could not open port: [Errno {number}]")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(ReaderBroken) as caught:
        Pn532("/dev/busy-lock-reader").open()
    assert str(caught.value) == f"cannot open /dev/busy-lock-reader: {os.strerror(number)}"
    assert advice in caught.value.advice


def test_a_closed_antenna_says_so() -> None:
    """Use before open is ReaderBroken."""
    with pytest.raises(ReaderBroken, match="not open"):
        Pn532("/dev/null").poll(0)
