"""The virtual PN532: unmodified nfcpy drives it, and a bare host sees what nfcpy hides."""

from __future__ import annotations

import errno
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import nfc
import nfc.clf
import nfc.clf.pn532
import nfc.tag
import pytest
import serial

from simulator import hsu
from simulator.link_faults import LinkFault, LinkOptions, card_on_link
from simulator.pn532 import ApduSent, ReaderFault, VirtualPn532
from simulator.rf_link import AnswerToSelect, IsoDepCard, with_crc
from simulator.timing import Timing
from tests.simulator.pn532_host import TYPE_A, BareHost, PatientTty, nfcpy_frontend

NO_RETRY = bytes.fromhex("3205ff0100")
ENDLESS_RETRY = bytes.fromhex("3205ff01ff")
MANUAL_RATS = b"\x12\x00"
FIELD_OFF = bytes.fromhex("320100")
LIST = bytes.fromhex("4a0100")
NOTHING = b"\x00"


class Mirror:
    """An application that answers each command with itself reversed and 9000."""

    def answer(self, command: bytes) -> bytes:
        return command[::-1] + b"\x90\x00"

    def computing_ms(self, command: bytes) -> float:
        return 0.0

    def reset(self) -> None:
        pass


@pytest.fixture
def reader() -> Iterator[VirtualPn532]:
    """A reader without waits; nothing of it is left behind."""
    threads, descriptors = set(threading.enumerate()), set(Path("/proc/self/fd").iterdir())
    with VirtualPn532() as reader:
        yield reader
    assert set(threading.enumerate()) == threads
    assert set(Path("/proc/self/fd").iterdir()) == descriptors


@pytest.fixture
def host(reader: VirtualPn532) -> Iterator[BareHost]:
    """A host that has woken the chip, for which one unanswered REQA is enough and RATS is its own business."""
    with closing(BareHost(reader.path)) as host:
        host.wake()
        host.command(NO_RETRY)
        host.command(MANUAL_RATS)
        yield host


# ------------------------------------------------------------------ nfcpy


def test_nfcpy_reads_a_card(reader: VirtualPn532) -> None:
    """Unmodified nfcpy opens the reader, finds nothing, then a card, activates it and exchanges APDUs of any length."""
    with nfcpy_frontend(reader.path) as frontend:
        assert frontend.device.chipset.transport.baudrate == 921_600
        assert frontend.sense(TYPE_A) is None
        reader.insert(IsoDepCard(Mirror()))
        target = frontend.sense(TYPE_A)
        assert (target.sens_res.hex(), target.sel_res.hex(), target.sdd_res.hex()) == (
            "4403",
            "20",
            "04c0ffee123456",
        )
        tag = nfc.tag.activate(frontend, target)
        assert tag.TYPE == "Type4Tag"
        for length in (1, 5, 248, 250, 251, 252, 253, 254, 600):
            command = bytes(index * 7 & 0xFF for index in range(length))
            assert tag.transceive(command) == command[::-1] + b"\x90\x00"
        assert tag.is_present
        reader.remove()
        assert frontend.sense(TYPE_A) is None


def test_nfcpy_senses_other_technologies_in_vain(reader: VirtualPn532) -> None:
    """The targets of nfcpy's default loop that no card here speaks are simply not found."""
    with nfcpy_frontend(reader.path) as frontend:
        reader.insert(IsoDepCard(Mirror()))
        assert frontend.sense(nfc.clf.RemoteTarget("106B"), nfc.clf.RemoteTarget("212F")) is None


def test_nfcpy_opens_again_after_a_clean_close(reader: VirtualPn532) -> None:
    """Closing leaves the chip asleep at 115,200 baud, from where the next one opens it."""
    for _ in range(2):
        with nfcpy_frontend(reader.path):
            assert reader.chip.state.baud == 921_600
        assert (reader.chip.state.baud, reader.chip.state.asleep) == (115_200, True)


def test_a_crash_leaves_the_chip_at_its_speed(reader: VirtualPn532) -> None:
    """A host that vanishes at 921,600 baud leaves a chip that nfcpy cannot open until its power was cut."""
    with nfcpy_frontend(reader.path) as frontend:
        frontend.device.chipset.transport.tty.close()
        frontend.device.chipset.transport.tty = None
        frontend.device = None
    for _ in range(2):
        with closing(nfc.clf.transport.TTY(reader.path)) as transport, pytest.raises(OSError, match=r".+"):
            nfc.clf.pn532.init(transport)
    reader.fault(ReaderFault.BROWN_OUT)
    with nfcpy_frontend(reader.path) as frontend:
        assert frontend.sense(TYPE_A) is None


def test_nfcpy_recovers_blocks_lost_in_the_field(reader: VirtualPn532) -> None:
    """With every third answer corrupted nfcpy's own retries still get every APDU through."""
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.CORRUPT, ats=AnswerToSelect(fwi=4))))
    with nfcpy_frontend(reader.path) as frontend:
        tag = nfc.tag.activate(frontend, frontend.sense(TYPE_A))
        for number in range(6):
            assert tag.transceive(bytes([number])) == bytes([number, 0x90, 0x00])


def test_nfcpy_and_a_card_pulled_in_mid_transaction(reader: VirtualPn532) -> None:
    """Nfcpy reports a timeout once its retries are spent."""
    options = LinkOptions(fault=LinkFault.PULLED, after=2, ats=AnswerToSelect(fwi=4))
    reader.insert(card_on_link(Mirror(), options))
    with nfcpy_frontend(reader.path) as frontend:
        tag = nfc.tag.activate(frontend, frontend.sense(TYPE_A))
        tag.transceive(b"a")
        tag.transceive(b"b")
        with pytest.raises(nfc.tag.TagCommandError, match="timeout"):
            tag.transceive(b"c")
        assert frontend.sense(TYPE_A) is None


def test_nfcpy_falls_over_a_short_ats(reader: VirtualPn532) -> None:
    """The one-byte ATS that is legal, and that nfcpy does not survive, arrives as such."""
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.ATS_ONE_BYTE)))
    with nfcpy_frontend(reader.path) as frontend:
        target = frontend.sense(TYPE_A)
        with pytest.raises(IndexError):
            nfc.tag.activate(frontend, target)


# ------------------------------------------------------------------ wires


@pytest.mark.parametrize(
    ("code", "baud"),
    list(enumerate([9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600])),
)
def test_every_speed(host: BareHost, code: int, baud: int) -> None:
    """After SetSerialBaudRate, its answer and the host's ACK, both speak at the new speed."""
    host.speed(baud, code)
    assert host.command(b"\x02").hex() == "32010607"


def test_an_acknowledge_lost_in_the_change_of_speed(reader: VirtualPn532, host: BareHost) -> None:
    """The host's own new speed stands for the ACK, which closing a terminal can swallow."""
    host.command(b"\x10\x07")
    host.port.baudrate = 921_600
    assert host.command(b"\x02").hex() == "32010607"
    assert reader.chip.state.baud == 921_600


def test_the_wrong_speed_is_garbage(host: BareHost) -> None:
    """Neither side understands the other while their speeds differ, and the chip does after that."""
    host.port.baudrate = 921_600
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    host.port.baudrate = 115_200
    assert host.command(b"\x02").hex() == "32010607"


def test_an_answer_at_the_wrong_speed_is_garbage(host: BareHost, reader: VirtualPn532) -> None:
    """A host that changes its speed while the chip works does not understand the answer."""
    host.command(ENDLESS_RETRY)
    host.start(LIST)
    host.port.baudrate = 9600
    reader.insert(IsoDepCard(Mirror()))
    assert host.frame(0.1) is None
    host.port.baudrate = 115_200
    host.send(hsu.NACK)
    assert host.finish()[:2] == b"\x01\x01"


def test_asleep_until_woken(reader: VirtualPn532) -> None:
    """After power-up a command without a preamble is lost; five rising edges wake the chip."""
    with closing(BareHost(reader.path)) as host:
        host.send(b"\x00\x00")
        assert host.frame(0.05) is None
        assert reader.chip.state.asleep
        host.send(bytes(8) + hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
        assert host.frame() == hsu.Acknowledge()
        assert host.finish().hex() == "32010607"


def test_no_card_before_sam_configuration(reader: VirtualPn532) -> None:
    """Until SAMConfiguration the chip refuses to look for cards."""
    with closing(BareHost(reader.path)) as host:
        host.send(bytes(10))
        host.start(LIST)
        assert host.frame() == hsu.ApplicationError()
        host.wake()
        host.command(NO_RETRY)
        assert host.command(LIST) == NOTHING


def test_power_down_and_its_wake_sources(reader: VirtualPn532, host: BareHost) -> None:
    """PowerDown switches the field off; the line wakes the chip only if the host said so."""
    host.command(bytes.fromhex("320101"))
    assert host.command(b"\x16\x10") == b"\x00"
    assert not reader.chip.rf.field.on
    host.wake()
    assert host.command(b"\x16\x20") == b"\x00"
    host.send(bytes(20) + hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    reader.fault(ReaderFault.BROWN_OUT)
    host.wake()


def test_line_test_with_the_longest_frames(host: BareHost) -> None:
    """Diagnose sends the longest frame back unchanged; frames may come byte by byte."""
    data = bytes(index & 0xFF for index in range(262))
    assert host.command(b"\x00\x00" + data) == b"\x00" + data
    for octet in hsu.encode(b"\x00\x00abc", identifier=hsu.FROM_HOST):
        host.send(bytes([octet]))
    assert host.frame() == hsu.Acknowledge()
    assert host.finish() == b"\x00abc"
    assert host.command(b"\x00\x01") == b"\x00"


def test_nack_repeats_the_last_answer(host: BareHost) -> None:
    """NACK brings the last answer once more, without doing anything again."""
    assert host.command(b"\x02").hex() == "32010607"
    host.send(hsu.NACK)
    assert host.finish().hex() == "32010607"


@pytest.mark.parametrize(
    "command",
    [
        "ff",
        "00",
        "06",
        "0663",
        "08630200ff",
        "10",
        "1009",
        "12",
        "14",
        "1405",
        "16",
        "32",
        "3201",
        "320200",
        "4a",
        "4a0000",
        "4a0105",
        "42",
        "54",
        "52",
        "5203",
        "44",
    ],
)
def test_unknown_and_malformed_commands(host: BareHost, command: str) -> None:
    """A command the chip does not know, or whose parameters are not of its form, gets the error frame."""
    host.start(bytes.fromhex(command))
    assert host.frame() == hsu.ApplicationError()
    assert host.command(b"\x02").hex() == "32010607"


# ------------------------------------------------------------------ cards


def test_registers_tell_how_the_search_ended(host: BareHost, reader: VirtualPn532) -> None:
    """No answer leaves REQA in the FIFO and CRC off; a selection leaves CRC on; TxControl shows the field."""
    assert host.command(bytes.fromhex("066304"))[0] & 3 == 0
    assert host.command(LIST) == NOTHING
    assert host.command(bytes.fromhex("06" + "6339" + "6302" + "633d" + "6304")).hex() == "26000703"
    reader.insert(IsoDepCard(Mirror()))
    assert host.command(LIST).hex() == "0101" + "0344" + "20" + "07" + "04c0ffee123456"
    answer = host.command(bytes.fromhex("06" + "6339" + "6302" + "6303" + "633d"))
    assert (answer[0] != 0x26, answer[1:].hex()) == (True, "808000")
    assert host.command(b"\x04")[:3].hex() == "000101"


def test_tx_control_switches_the_field(host: BareHost, reader: VirtualPn532) -> None:
    """Writing the driver bits of TxControl is another way to the field."""
    host.command(bytes.fromhex("08630483"))
    assert reader.chip.rf.field.on
    host.command(bytes.fromhex("08630480"))
    assert not reader.chip.rf.field.on


def test_exchange_on_communicate_thru(host: BareHost, reader: VirtualPn532) -> None:
    """RATS and blocks pass as they are; the chip makes and checks the CRC."""
    sent: list[ApduSent] = []
    reader._on_apdu = sent.append
    reader.insert(IsoDepCard(Mirror()))
    assert host.activate() == bytes(AnswerToSelect())
    before_ns = time.monotonic_ns()
    assert host.communicate(b"\x02abc") == (0, b"\x02cba\x90\x00")
    assert host.communicate(b"\x03d") == (0, b"\x03d\x90\x00")
    assert host.command(b"\x02")
    assert [(one.apdu.number, one.apdu.command, one.apdu.answer) for one in sent] == [
        (1, b"abc", b"cba\x90\x00"),
        (2, b"d", b"d\x90\x00"),
    ]
    assert before_ns < sent[0].sent_ns < sent[1].sent_ns < time.monotonic_ns()


def test_answers_of_every_length_around_the_frame_formats(host: BareHost, reader: VirtualPn532) -> None:
    """Answers of LEN 255 come in a normal frame, longer ones in an extended one."""
    reader.insert(IsoDepCard(Mirror()))
    host.activate()
    for number, length in enumerate(range(246, 252)):
        pcb = 2 | number & 1
        assert host.communicate(bytes([pcb]) + bytes(length)) == (
            0,
            bytes([pcb]) + bytes(length) + b"\x90\x00",
        )


def test_crc_bits_of_the_registers(host: BareHost, reader: VirtualPn532) -> None:
    """Without TxCRCEn the host must send its own CRC, without RxCRCEn it gets the card's; checked when on."""
    reader.insert(IsoDepCard(Mirror()))
    host.activate()
    host.command(bytes.fromhex("08" + "630200" + "630300"))
    host.command(bytes.fromhex("320200000a"))
    assert host.communicate(b"\x02a")[0] == 0x01
    assert host.communicate(with_crc(b"\x02a")) == (0, with_crc(b"\x02a\x90\x00"))


def test_short_frames_by_bit_framing(host: BareHost, reader: VirtualPn532) -> None:
    """REQA by InCommunicateThru with seven bits brings the ATQA; with eight bits nothing."""
    reader.insert(IsoDepCard(Mirror()))
    host.command(bytes.fromhex("320101"))
    host.command(bytes.fromhex("0863" + "3d00"))
    assert host.communicate(b"\x26") == (0x01, b"")
    host.command(bytes.fromhex("0863" + "3d07"))
    assert host.communicate(b"\x26") == (0, b"\x44\x03")


def test_only_the_field_or_wupa_wakes_an_activated_card(host: BareHost, reader: VirtualPn532) -> None:
    """A card in ISO-DEP does not hear REQA, nor does a released one; switching the field resets it."""
    reader.insert(IsoDepCard(Mirror()))
    host.activate()
    assert host.command(LIST) == NOTHING
    host.command(FIELD_OFF)
    assert host.command(LIST) != NOTHING
    assert host.command(b"\x54\x01") == b"\x00"
    assert host.command(b"\x52\x01") == b"\x00"
    assert host.command(b"\x54\x01") == b"\x27"
    assert host.command(b"\x44\x01") == b"\x27"
    assert host.command(LIST) == NOTHING
    host.command(FIELD_OFF)
    assert host.command(LIST) != NOTHING


def test_automatic_rats(host: BareHost, reader: VirtualPn532) -> None:
    """With the flag in SetParameters the ATS follows the UID, chained answers fit 64-byte frames, release deselects."""
    host.command(b"\x12\x14")
    reader.insert(IsoDepCard(Mirror()))
    found = host.command(LIST)
    assert found[13:] == bytes(AnswerToSelect())
    status, answer = host.communicate(b"\x02" + bytes(100))
    assert (status, answer[0], len(answer)) == (0, 0x12, 62)
    assert host.command(b"\x52\x00") == b"\x00"
    host.command(FIELD_OFF)
    assert host.command(LIST) == found


def test_a_uid_may_be_asked_for(host: BareHost, reader: VirtualPn532) -> None:
    """Initiator data with cascade tags finds that card and no other."""
    reader.insert(IsoDepCard(Mirror()))
    own = LIST + bytes.fromhex("8804c0ff" + "ee123456")
    assert any(host.command(own) != NOTHING for _ in range(100))  # a card needs a moment in the field first
    host.command(FIELD_OFF)
    assert host.command(LIST + bytes.fromhex("8804c0ff" + "ee123457")) == NOTHING


def test_higher_rates_after_pps(host: BareHost, reader: VirtualPn532) -> None:
    """At 424 kbit/s both mode registers must say so."""
    reader.insert(IsoDepCard(Mirror()))
    host.activate()
    assert host.communicate(bytes.fromhex("d0110a")) == (0, b"\xd0")
    assert host.communicate(b"\x02a")[0] == 0x01
    host.command(bytes.fromhex("08" + "6302a0" + "630380"))
    assert host.communicate(b"\x02a")[0] == 0x05
    host.command(bytes.fromhex("08" + "6302a0" + "6303a0"))
    assert host.communicate(b"\x03b") == (0, b"\x03b\x90\x00")


def test_a_timeout_takes_its_time(host: BareHost) -> None:
    """A silent field is waited for as long as RFConfiguration says: code 9 is 25.6 ms."""
    host.command(bytes.fromhex("3202000b09"))
    before = time.monotonic()
    assert host.communicate(b"\xe0\x80") == (0x01, b"")
    assert time.monotonic() - before >= 0.0256


def test_the_host_can_give_up(host: BareHost) -> None:
    """With timeout code 0 the chip waits for ever; an ACK ends it without an answer, as does the next command."""
    host.command(bytes.fromhex("3202000b00"))
    host.start(b"\x42\xe0\x80")
    assert host.frame(0.05) is None
    host.send(hsu.ACK)
    assert host.command(b"\x02").hex() == "32010607"
    host.start(b"\x42\xe0\x80")
    assert host.command(b"\x02").hex() == "32010607"


def test_endless_search_ends_with_the_card(host: BareHost, reader: VirtualPn532) -> None:
    """A search without end answers when a card comes; given up, it does not answer any more."""
    host.command(ENDLESS_RETRY)
    host.start(LIST)
    assert host.frame(0.05) is None
    reader.insert(IsoDepCard(Mirror()))
    assert host.finish()[:2] == b"\x01\x01"
    reader.remove()
    host.start(LIST)
    host.send(hsu.ACK)
    reader.insert(IsoDepCard(Mirror()))
    assert host.frame(0.05) is None
    host.command(FIELD_OFF)
    assert host.command(LIST)[:2] == b"\x01\x01"


def test_a_card_may_be_pulled_at_a_moment(host: BareHost, reader: VirtualPn532) -> None:
    """Inserted for a while, the card is gone after it; removed while the chip waits, it does not answer."""
    reader.insert(IsoDepCard(Mirror()), pulled_after_ms=60)
    host.activate()
    deadline = time.monotonic() + 5
    status, number = 0, 0
    while status == 0 and time.monotonic() < deadline:
        status, _ = host.communicate(bytes([2 | number]) + b"a")
        number ^= 1
    assert status == 0x01
    host.command(FIELD_OFF)
    assert host.command(LIST) == NOTHING


def test_rf_errors_reach_the_host(host: BareHost, reader: VirtualPn532) -> None:
    """A receiver's error comes as the status of InCommunicateThru; so does a wrong CRC."""
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.RF_ERROR, status=0x0B)))
    host.activate()
    assert host.communicate(b"\x02a") == (0x0B, b"")
    host.command(FIELD_OFF)
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.CORRUPT, every=2)))
    host.activate()
    assert [host.communicate(b"\x02a")[0], host.communicate(b"\x03b")[0]] == [0x00, 0x02]


def test_hostile_cards_reach_the_host(host: BareHost, reader: VirtualPn532) -> None:
    """Endless waiting and endless chaining go on for as long as the host plays along."""
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.ENDLESS_WAIT)))
    host.activate()
    assert {host.communicate(data) for data in [b"\x02a", *[b"\xf2\x01"] * 20]} == {(0, b"\xf2\x01")}
    host.command(FIELD_OFF)
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.ENDLESS_CHAINING)))
    host.activate()
    assert host.communicate(b"\x02a")[1][0] == 0x12
    assert [host.communicate(bytes([0xA3 - turn % 2]))[1][0] for turn in range(20)] == [0x13, 0x12] * 10
    host.command(FIELD_OFF)
    reader.insert(card_on_link(Mirror(), LinkOptions(fault=LinkFault.IGNORES_RATS)))
    assert host.command(LIST) != NOTHING
    assert host.communicate(b"\xe0\x80") == (0x01, b"")


# ------------------------------------------------------------------ the reader's own faults


def test_deaf(host: BareHost, reader: VirtualPn532) -> None:
    """A deaf chip answers nothing until it is told to hear again, or for so many commands."""
    reader.fault(ReaderFault.DEAF)
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    reader.fault(ReaderFault.NONE)
    assert host.command(b"\x02").hex() == "32010607"
    reader.fault(ReaderFault.DEAF, times=1)
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    assert host.command(b"\x02").hex() == "32010607"


def test_dropped_acknowledge(host: BareHost, reader: VirtualPn532) -> None:
    """The ACK is missing, the answer is there."""
    reader.fault(ReaderFault.DROP_ACK, times=1)
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.finish().hex() == "32010607"
    assert host.command(b"\x02").hex() == "32010607"


def test_late(host: BareHost, reader: VirtualPn532) -> None:
    """An answer comes, with its acknowledgement, when the next thing has been asked."""
    reader.fault(ReaderFault.LATE, times=1)
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    host.start(b"\x04")
    assert host.finish().hex() == "32010607"
    assert host.frame() == hsu.Acknowledge()
    assert host.finish()


def test_chatter(host: BareHost, reader: VirtualPn532) -> None:
    """Noise comes unasked and no command is answered, until it ends."""
    reader.fault(ReaderFault.CHATTER)
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    host.port.timeout = 5
    assert host.port.read(100)
    host.port.timeout = 0
    reader.fault(ReaderFault.NONE)
    assert host.frame(0.05) is None
    host.port.reset_input_buffer()
    assert host.command(b"\x02").hex() == "32010607"


def test_extended_frames(host: BareHost, reader: VirtualPn532) -> None:
    """Every answer comes in an extended frame."""
    reader.fault(ReaderFault.EXTENDED)
    assert host.command(b"\x02").hex() == "32010607"
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    host.port.timeout = 5
    assert host.port.read(11).hex() == "0000ff00ff00" + "0000ffffff"


def test_overheated(host: BareHost, reader: VirtualPn532) -> None:
    """The field is off, the chip says why, and no command brings it back before it has cooled down."""
    reader.insert(IsoDepCard(Mirror()))
    assert host.command(NO_RETRY) == b""
    reader.fault(ReaderFault.OVERHEATED)
    assert host.command(LIST) == NOTHING
    assert host.command(bytes.fromhex("0663046336")).hex() == "0040"
    reader.fault(ReaderFault.NONE)
    assert host.command(LIST) != NOTHING
    assert host.command(bytes.fromhex("0663046336")).hex() == "0300"


def test_left_fast(reader: VirtualPn532) -> None:
    """The chip is awake, at its highest speed, and heard at no other."""
    reader.fault(ReaderFault.LEFT_FAST)
    with closing(BareHost(reader.path, 921_600)) as host:
        assert host.command(b"\x02").hex() == "32010607"


def test_another_firmware() -> None:
    """A chip tells the firmware it was made with."""
    with VirtualPn532(firmware=b"\x32\x01\x05\x07") as reader, closing(BareHost(reader.path)) as host:
        host.wake()
        assert host.command(b"\x02").hex() == "32010507"


def test_dropped_response(host: BareHost, reader: VirtualPn532) -> None:
    """The ACK is there, the answer is missing; NACK brings it."""
    reader.fault(ReaderFault.DROP_RESPONSE, times=1)
    host.start(b"\x02")
    assert host.frame(0.05) is None
    host.send(hsu.NACK)
    assert host.finish().hex() == "32010607"


def test_corrupted_response(host: BareHost, reader: VirtualPn532) -> None:
    """The answer's checksum is wrong, so that a host drops the frame; NACK brings it whole."""
    reader.fault(ReaderFault.CORRUPT_RESPONSE, times=1)
    host.start(b"\x02")
    assert host.frame(0.05) is None
    host.send(hsu.NACK)
    assert host.finish().hex() == "32010607"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ReaderFault.DEAF, errno.EIO),
        (ReaderFault.DROP_RESPONSE, errno.ETIMEDOUT),
        (ReaderFault.CORRUPT_RESPONSE, errno.EIO),
    ],
)
def test_what_nfcpy_makes_of_a_sick_reader(
    reader: VirtualPn532, monkeypatch: pytest.MonkeyPatch, fault: ReaderFault, code: int
) -> None:
    """Each fault surfaces as the OSError that hosts of a real chip know."""
    with nfcpy_frontend(reader.path) as frontend:
        monkeypatch.setattr(PatientTty, "patience_ms", 100)
        reader.fault(fault, times=1)
        with pytest.raises(OSError, match=r".+") as raised:
            frontend.device.chipset.get_firmware_version()
        assert raised.value.errno == code
        monkeypatch.undo()
        assert frontend.device.chipset.get_firmware_version()


def test_brown_out(reader: VirtualPn532, host: BareHost) -> None:
    """Power lost in mid command: no answer, everything forgotten, the card reset; a wake-up brings the chip back."""
    reader.insert(IsoDepCard(Mirror()))
    host.activate()
    host.speed(921_600, 7)
    host.command(bytes.fromhex("3202000b00"))
    reader.remove()
    host.start(b"\x42\x02a")
    reader.fault(ReaderFault.BROWN_OUT)
    host.send(hsu.encode(b"\x02", identifier=hsu.FROM_HOST))
    assert host.frame(0.05) is None
    host.port.baudrate = 115_200
    host.wake()
    assert host.command(b"\x04").hex() == "00000080"


def test_unplugged_and_plugged_in_again(tmp_path: Path) -> None:
    """The host's descriptor dies with the plug and the link goes; plugged in again it is a chip after power-up."""
    link = tmp_path / "reader"
    with VirtualPn532(link=link) as reader:
        with closing(BareHost(str(link))) as host:
            host.wake()
            reader.fault(ReaderFault.UNPLUG)
            assert (reader.path, link.is_symlink()) == ("", False)
            with pytest.raises((OSError, termios.error)):
                host.send(b"\x00")
            with pytest.raises((serial.SerialException, termios.error)):
                host.port.read(1)
        reader.fault(ReaderFault.PLUG)
        assert str(link.readlink()) == reader.path
        with nfcpy_frontend(str(link)) as frontend:
            reader.insert(IsoDepCard(Mirror()))
            assert frontend.sense(TYPE_A) is not None
    assert not link.is_symlink()


# ------------------------------------------------------------------ time


def test_the_modelled_times_are_taken() -> None:
    """With timing a command takes at least its serial time, a field its guard time, a card its computing."""

    class Slow(Mirror):
        def computing_ms(self, command: bytes) -> float:
            return 20.0

    with VirtualPn532(timing=Timing.realistic()) as reader, closing(BareHost(reader.path)) as host:
        host.wake()
        host.command(MANUAL_RATS)
        reader.insert(IsoDepCard(Slow()))
        before = time.monotonic()
        host.command(b"\x00\x00" + bytes(262))
        assert time.monotonic() - before >= (274 + 6 + 273) * 10 / 115_200
        before = time.monotonic()
        host.activate()
        assert time.monotonic() - before >= 0.005 + 0.0057
        before = time.monotonic()
        assert host.communicate(b"\x02a")[0] == 0
        assert time.monotonic() - before >= 0.020


def test_a_silent_card_is_polled_by_the_modelled_period() -> None:
    """A finite search at nobody takes its number of poll periods, the host's own time not counted."""
    with VirtualPn532(timing=Timing.realistic(poll_ms=8)) as reader, closing(BareHost(reader.path)) as host:
        host.wake()
        host.command(bytes.fromhex("3205ff0103"))
        before = time.monotonic()
        assert host.command(LIST) == NOTHING
        assert time.monotonic() - before >= 4 * 0.008


def test_two_readers_at_once(reader: VirtualPn532) -> None:
    """Readers share nothing."""
    with VirtualPn532() as other:
        other.insert(IsoDepCard(Mirror()))
        with nfcpy_frontend(reader.path) as one, nfcpy_frontend(other.path) as two:
            assert one.sense(TYPE_A) is None
            assert two.sense(TYPE_A) is not None
