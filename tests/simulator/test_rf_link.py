"""The card's side of ISO/IEC 14443-3 and -4, and its faults."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator import airtime
from simulator.link_faults import LinkFault, LinkOptions, card_on_link
from simulator.rf_link import AirFrame, Answer, AnswerToSelect, Card, IsoDepCard, check_crc, crc_a, with_crc

REQA = AirFrame(data=b"\x26", last_bits=7)
WUPA = AirFrame(data=b"\x52", last_bits=7)


class Mirror:
    """Answers each command with itself reversed and 9000; computes for ``computing``."""

    def __init__(self, computing: float = 0.0) -> None:
        self.computing = computing
        self.resets = 0

    def answer(self, command: bytes) -> bytes:
        return command[::-1] + b"\x90\x00"

    def computing_ms(self, command: bytes) -> float:
        return self.computing

    def reset(self) -> None:
        self.resets += 1


def select(card: Card) -> bytes:
    """REQA to SAK; returns the UID."""
    uid = b""
    assert card.receive(REQA) is not None
    for code in (0x93, 0x95, 0x97):
        part = card.receive(AirFrame(data=bytes([code, 0x20])))
        assert part is not None
        assert part.data[0] ^ part.data[1] ^ part.data[2] ^ part.data[3] == part.data[4]
        answer = card.receive(AirFrame(data=with_crc(bytes([code, 0x70]) + part.data)))
        assert answer is not None
        sak = check_crc(answer.data)
        assert sak is not None
        if not sak[0] & 0x04:
            assert sak == b"\x20"
            return uid + part.data[:4]
        assert part.data[0] == 0x88
        uid += part.data[1:4]
    pytest.fail("no UID ended")


def block(card: Card, data: bytes) -> tuple[Answer, bytes]:
    """One block and the answer's bytes without CRC."""
    answer = card.receive(AirFrame(data=with_crc(data)))
    assert answer is not None
    checked = check_crc(answer.data)
    assert checked is not None
    return answer, checked


def activated(card: Card, rats: bytes = b"\xe0\x80") -> bytes:
    """Select and RATS; returns the ATS."""
    select(card)
    return block(card, rats)[1]


def test_crc_a_vectors() -> None:
    """CRC_A of the examples in ISO/IEC 14443-3 annex B, and of HLTA."""
    assert crc_a(bytes.fromhex("0000")).hex() == "a01e"
    assert crc_a(bytes.fromhex("1234")).hex() == "26cf"
    assert crc_a(bytes.fromhex("5000")).hex() == "57cd"
    assert check_crc(bytes.fromhex("500057ce")) is None


@pytest.mark.parametrize("uid", ["01020304", "04010203040506", "04010203040506070809"])
def test_anticollision_gives_the_uid(uid: str) -> None:
    """UIDs of one, two and three cascade levels are found; the ATQA says how long they are."""
    card = IsoDepCard(Mirror(), uid=bytes.fromhex(uid))
    assert select(card).hex() == uid
    card.power_off()
    atqa = card.receive(REQA)
    assert atqa is not None
    assert atqa.data[0] >> 6 == len(uid) // 6 - 1


def test_a_uid_has_a_legal_length() -> None:
    """A UID of another length is refused."""
    with pytest.raises(ValueError, match="4, 7 or 10"):
        IsoDepCard(Mirror(), uid=bytes(5))


def test_states_of_selection() -> None:
    """A halted card hears only WUPA; an active one falls back on what it does not understand; -4 ignores REQA."""
    handler = Mirror()
    card = IsoDepCard(handler)
    select(card)
    assert card.receive(AirFrame(data=with_crc(b"\x50\x00"))) is None
    assert card.receive(REQA) is None
    assert card.receive(WUPA) is not None
    assert card.receive(AirFrame(data=b"\x95\x20")) is None
    assert card.receive(REQA) is not None
    assert card.receive(REQA) is None
    activated(card)
    assert card.receive(REQA) is None
    assert block(card, b"\xc2")[1] == b"\xc2"
    assert card.receive(REQA) is None
    assert card.receive(WUPA) is not None
    card.power_off()
    assert handler.resets == 1
    assert card.receive(REQA) is not None


def test_ats_says_what_was_asked_for() -> None:
    """The ATS carries frame size, rates and waiting time, and can be read back."""
    ats = AnswerToSelect(fsci=5, ta1=0x80, fwi=7, sfgi=1, historical=b"abc")
    assert bytes(ats).hex() == "087580710061" + "6263"
    assert AnswerToSelect.from_bytes(bytes(ats)) == ats
    assert activated(IsoDepCard(Mirror(), ats=ats)) == bytes(ats)
    with pytest.raises(ValueError, match="FWI"):
        AnswerToSelect(fwi=15)
    with pytest.raises(ValueError, match="TA"):
        AnswerToSelect.from_bytes(b"\x01")


@pytest.mark.parametrize(("fsdi", "fsd"), [(0, 16), (5, 64), (8, 256), (15, 256)])
def test_a_long_answer_is_chained_by_the_readers_frame_size(fsdi: int, fsd: int) -> None:
    """Each R(ACK) brings the next block; block numbers alternate; only the last block ends the APDU."""
    card = IsoDepCard(Mirror())
    activated(card, bytes([0xE0, fsdi << 4]))
    command = bytes(range(200)) * 2
    answer, data = block(card, b"\x02" + command)
    received, number = data[1:], 0
    while data[0] & 0x10:
        assert answer.apdu is None
        assert len(data) == fsd - 2
        number ^= 1
        answer, data = block(card, bytes([0xA2 | number]))
        assert data[0] & 1 == number
        received += data[1:]
    assert received == command[::-1] + b"\x90\x00"
    assert answer.apdu is not None
    assert (answer.apdu.number, answer.apdu.command, answer.apdu.answer) == (1, command, received)


def test_a_chained_command_is_acknowledged_block_by_block() -> None:
    """Blocks with the chaining bit are answered R(ACK) with their number; the last one by the answer."""
    card = IsoDepCard(Mirror())
    activated(card)
    assert block(card, b"\x12abc")[1] == b"\xa2"
    assert block(card, b"\x13def")[1] == b"\xa3"
    assert block(card, b"\x02ghi")[1] == b"\x02ihgfedcba\x90\x00"


def test_lost_blocks_are_repeated() -> None:
    """R(NAK) with the card's number repeats its last block, with another number asks for R(ACK); so does R(ACK)."""
    card = IsoDepCard(Mirror())
    activated(card)
    assert block(card, b"\xb2")[1] == b"\xa3"
    answered = block(card, b"\x02xyz")[1]
    assert block(card, b"\xb2")[1] == answered
    assert block(card, b"\xa2")[1] == answered
    assert block(card, b"\xb3")[1] == b"\xa2"
    assert block(card, b"\x03xyz")[1] == b"\x03zyx\x90\x00"
    assert card.receive(AirFrame(data=with_crc(b"\xa2"))) is None


@pytest.mark.parametrize("wrong", ["0a00", "0600", "f201", "a200", "e0", "ca00", "d011"])
def test_blocks_against_the_rules_stay_unanswered(wrong: str) -> None:
    """CID and NAD the card did not offer, an S(WTX) it did not ask for, unknown blocks, wrong CRC: silence."""
    card = IsoDepCard(Mirror())
    activated(card)
    block(card, b"\x02a")
    assert card.receive(AirFrame(data=with_crc(bytes.fromhex(wrong)))) is None
    assert card.receive(AirFrame(data=b"\x03a\x00\x00")) is None


@pytest.mark.parametrize(("computing_ms", "waits"), [(0.0, 0), (30.0, 0), (39.0, 1), (100.0, 2)])
def test_a_card_that_computes_long_asks_for_time(computing_ms: float, waits: int) -> None:
    """It asks once per waiting time it exceeds, computes in slices within each, and repeats a request lost."""
    card = IsoDepCard(Mirror(computing_ms), ats=AnswerToSelect(fwi=7))
    activated(card)
    answer, data = block(card, b"\x02a")
    spent = answer.computing_ms
    for _ in range(waits):
        assert answer.computing_ms <= airtime.fwt_ms(7)
        assert data == b"\xf2\x01"
        assert block(card, b"\xb2")[1] == data
        answer, data = block(card, b"\xf2\x01")
        spent += answer.computing_ms
    assert data == b"\x02a\x90\x00"
    assert spent == pytest.approx(computing_ms)
    assert answer.apdu is not None
    assert answer.apdu.computing_ms == computing_ms


def test_pps_changes_the_rate() -> None:
    """PPS at once after RATS is echoed at the old rate; then only frames at the new one are heard; 848 is not offered."""
    card = IsoDepCard(Mirror())
    activated(card)
    answer, data = block(card, bytes.fromhex("d0110a"))
    assert (data, answer.rate_kbps) == (b"\xd0", 106)
    assert card.receive(AirFrame(data=with_crc(b"\x02a"))) is None
    answered = card.receive(AirFrame(data=with_crc(b"\x02a"), rate_kbps=424))
    assert answered is not None
    assert answered.rate_kbps == 424
    card.power_off()
    activated(card)
    assert card.receive(AirFrame(data=with_crc(bytes.fromhex("d0110f")))) is None


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.integers(0, 7), st.booleans()), max_size=25))
def test_no_frames_raise(frames: list[tuple[bytes, int, bool]]) -> None:
    """Whatever a reader sends, before and after RATS, the card answers or stays silent."""
    card = IsoDepCard(Mirror())
    activated(card)
    for data, last_bits, framed in frames:
        card.receive(AirFrame(data=with_crc(data) if framed else data, last_bits=last_bits))


def faulty(fault: LinkFault, after: int = 0, every: int = 3, status: int = 0x0B) -> Card:
    return card_on_link(Mirror(), LinkOptions(fault=fault, after=after, every=every, status=status))


def test_pulled_is_gone_for_good() -> None:
    """After its number of blocks the card answers nothing any more, a new selection included."""
    card = faulty(LinkFault.PULLED, after=2)
    activated(card)
    block(card, b"\x02a")
    block(card, b"\x03b")
    assert card.receive(AirFrame(data=with_crc(b"\x02c"))) is None
    card.power_off()
    assert card.receive(REQA) is None


def test_garbage_begins_after_its_number_of_blocks() -> None:
    """Random bytes under a right CRC take the place of answers."""
    card = faulty(LinkFault.GARBAGE, after=1)
    activated(card)
    assert block(card, b"\x02a")[1] == b"\x02a\x90\x00"
    noise = {block(card, b"\x03b")[1] for _ in range(5)}
    assert len(noise) > 1


def test_endless_wait_never_answers() -> None:
    """Every block, the answer to its own request included, is answered by another request for time."""
    card = faulty(LinkFault.ENDLESS_WAIT)
    activated(card)
    assert {block(card, data)[1] for data in [b"\x02a", *[b"\xf2\x01"] * 50]} == {b"\xf2\x01"}


def test_endless_chaining_never_ends() -> None:
    """Every R(ACK) with the right number brings another chained block with that number."""
    card = faulty(LinkFault.ENDLESS_CHAINING)
    activated(card)
    assert block(card, b"\x02a")[1][0] == 0x12
    for turn in range(50):
        number = (turn + 1) & 1
        assert block(card, bytes([0xA2 | number]))[1][0] == 0x12 | number


def test_wait_then_silent() -> None:
    """After its number of blocks it asks for time, and is not heard again."""
    card = faulty(LinkFault.WAIT_THEN_SILENT, after=1)
    activated(card)
    assert block(card, b"\x02a")[1] == b"\x02a\x90\x00"
    assert block(card, b"\x03b")[1] == b"\xf2\x01"
    assert card.receive(AirFrame(data=with_crc(b"\xf2\x01"))) is None
    assert card.receive(AirFrame(data=with_crc(b"\xb3"))) is None


def test_wait_in_chain() -> None:
    """Between two links of an answer it asks for time, and goes on when that is granted."""
    card = faulty(LinkFault.WAIT_IN_CHAIN)
    activated(card)
    long = bytes(150)
    assert block(card, b"\x12" + long)[1] == b"\xa2"
    first = block(card, b"\x03" + long)[1]
    assert first[0] == 0x13
    assert block(card, b"\xa2")[1] == b"\xf2\x01"
    last = block(card, b"\xf2\x01")[1]
    assert first[1:] + last[1:] == bytes(300) + b"\x90\x00"


def test_endless_ack() -> None:
    """Whatever is sent, the other block number is acknowledged."""
    card = faulty(LinkFault.ENDLESS_ACK)
    activated(card)
    for _ in range(20):
        assert block(card, b"\x02a")[1] == b"\xa3"
        assert block(card, b"\xb2")[1] == b"\xa3"


def test_wrong_block_number() -> None:
    """Answers are genuine but for the number, for ever."""
    card = faulty(LinkFault.WRONG_BLOCK_NUMBER)
    activated(card)
    assert block(card, b"\x02a")[1] == b"\x03a\x90\x00"
    assert block(card, b"\xb2")[1] == b"\x03a\x90\x00"
    assert block(card, b"\x03b")[1] == b"\x02b\x90\x00"


@pytest.mark.parametrize(
    ("fault", "ats"),
    [
        (LinkFault.ATS_ONE_BYTE, "01"),
        (LinkFault.ATS_WITHOUT_TA1, "04688100"),
        (LinkFault.ATS_WRONG_LENGTH, "107833"),
    ],
)
def test_odd_answers_to_select(fault: LinkFault, ats: str) -> None:
    """The ATS is as named; the card itself goes on to work."""
    card = faulty(fault)
    assert activated(card).hex() == ats
    assert block(card, b"\x02a")[1] == b"\x02a\x90\x00"


def test_ignores_rats() -> None:
    """Selection works, RATS stays unanswered."""
    card = faulty(LinkFault.IGNORES_RATS)
    select(card)
    assert card.receive(AirFrame(data=with_crc(b"\xe0\x80"))) is None


def test_rf_error() -> None:
    """From its block on every answer arrives as the named error."""
    card = faulty(LinkFault.RF_ERROR, after=1, status=0x0B)
    activated(card)
    assert block(card, b"\x02a")[0].status == 0
    assert block(card, b"\x03b")[0].status == 0x0B


@pytest.mark.parametrize("fault", [LinkFault.NOISY, LinkFault.CORRUPT])
def test_every_nth_answer_is_lost(fault: LinkFault) -> None:
    """One answer in three does not arrive; R(NAK) recovers it."""
    card = faulty(fault, every=3)
    activated(card)
    for number in range(12):
        answer = card.receive(AirFrame(data=with_crc(bytes([2 | number & 1]) + b"a")))
        arrived = None if answer is None else check_crc(answer.data)
        if arrived is None:
            arrived = block(card, bytes([0xB2 | number & 1]))[1]
        assert arrived == bytes([2 | number & 1]) + b"a\x90\x00"


def test_every_fault_is_tested_here() -> None:
    """No name without a test: the faults above are all there are."""
    assert {fault.value for fault in LinkFault} == {
        "pulled",
        "garbage",
        "endless_wait",
        "wait_then_silent",
        "wait_in_chain",
        "endless_ack",
        "endless_chaining",
        "ats_one_byte",
        "ats_without_ta1",
        "ats_wrong_length",
        "wrong_block_number",
        "ignores_rats",
        "rf_error",
        "noisy",
        "corrupt",
    }


def test_link_options_travel_as_json() -> None:
    """Options survive their JSON form; unknown keys, names and values out of range are refused."""
    options = LinkOptions(
        uid=bytes(4), ats=AnswerToSelect(fwi=4), fault=LinkFault.NOISY, every=2, pulled_after_ms=12.5
    )
    assert LinkOptions.restore(options.state()) == options
    assert LinkOptions.restore({}) == LinkOptions()
    for wrong in ({"fault": "unheard_of"}, {"every": 1}, {"status": 0}, {"after": -1}, {"uid": "xx"}):
        with pytest.raises(ValueError, match=r".+"):
            LinkOptions.restore(wrong)
    with pytest.raises(TypeError):
        LinkOptions.restore({"unheard_of": 1})
