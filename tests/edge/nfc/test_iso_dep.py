from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.nfc.iso_dep import FRAME_BYTES, Ats, GarbledAnswer, IsoDep, Limits, NoAnswer
from pacs.card.dialogue import nothing
from pacs.errors import CardError, CardGone, CardMisbehaves, MalformedData
from pacs.reason import ReadFault
from simulator.iso_dep_card import BlockLayer

MS = 1_000_000
LOST = NoAnswer()
NOISE = GarbledAnswer("CRC")
WTX = bytes((0xF2, 1))


class Echo:
    """An application whose answers are made of ``sizes``, and which counts its commands."""

    def __init__(self, answer: bytes, computing_ms: float = 0.0) -> None:
        self.commands: list[bytes] = []
        self._answer = answer
        self._computing_ms = computing_ms

    def answer(self, command: bytes) -> bytes:
        self.commands.append(command)
        return self._answer

    def computing_ms(self, _command: bytes) -> float:
        return self._computing_ms

    def reset(self) -> None:
        pass


class Air:
    """A link to ``card`` on its own clock: an answer takes ``answer_ms``, silence all that it may."""

    def __init__(self, card: Callable[[bytes], bytes | Exception | None], *, answer_ms: float = 1.0) -> None:
        self.now_ns = 0
        self.sent: list[bytes] = []
        self._card = card
        self._answer_ms = answer_ms

    def clock_ns(self) -> int:
        return self.now_ns

    def __call__(
        self, block: bytes, *, wait_us: int, deadline_ns: int, meanwhile: Callable[[], None]
    ) -> bytes:
        self.sent.append(block)
        meanwhile()
        answer = self._card(block)
        took_ns = wait_us * 1000 if answer is None or answer is LOST else round(self._answer_ms * MS)
        left_ns = max(0, deadline_ns - self.now_ns)
        self.now_ns += min(took_ns, left_ns)
        if answer is None or took_ns > left_ns:
            raise NoAnswer
        if isinstance(answer, Exception):
            raise answer
        return answer


def script(*answers: bytes | Exception | None) -> Callable[[bytes], bytes | Exception | None]:
    """A card that gives these answers in turn, the last one for ever."""
    rest = list(answers)
    return lambda _block: rest.pop(0) if len(rest) > 1 else rest[0]


def conversation(air: Air, *, fsci: int = 8, fwi: int = 4, deadline_ms: int = 1_200) -> IsoDep:
    """A conversation over ``air`` with a card that declared these."""
    ats = Ats.from_bytes(bytes((0x03, 0x20 | fsci, fwi << 4)))
    return IsoDep(air, ats, clock_ns=air.clock_ns, deadline_ns=deadline_ms * MS)


@given(
    command=st.binary(max_size=700),
    answer=st.binary(max_size=1500),
    fsci=st.integers(0, 8),
    fsd=st.sampled_from(FRAME_BYTES),
    losses=st.lists(st.sampled_from(["ok", "ok", "lost", "noise", "unheard"]), max_size=40),
)
def test_carries_any_command_and_answer_over_a_bad_link(
    command: bytes, answer: bytes, fsci: int, fsd: int, losses: Sequence[str]
) -> None:
    """Commands and answers of any length arrive once and whole, though tries of a block fail."""
    handler = Echo(answer)
    card = BlockLayer(handler, fsd=fsd, fwt_ms=5.0)
    fates = iter(losses)
    failed = 0

    def receive(block: bytes) -> bytes | Exception | None:
        nonlocal failed
        fate = next(fates, "ok")
        failed = failed + 1 if fate != "ok" and failed < 2 else 0
        if failed and fate == "unheard":
            return None
        sent = card.receive(block)
        if sent is None:
            return None
        if failed:
            return LOST if fate == "lost" else NOISE
        return sent.data

    air = Air(receive, answer_ms=0.1)
    conversation_ = IsoDep(
        air,
        Ats.from_bytes(bytes((0x02, fsci))),
        clock_ns=air.clock_ns,
        deadline_ns=10_000 * MS,
        limits=Limits(answer_blocks=200, retries=100),
    )
    ran: list[int] = []
    assert conversation_.transceive(command, lambda: ran.append(len(air.sent))) == answer
    assert handler.commands == [command]
    assert len(ran) == 1
    assert all(len(block) + 2 <= FRAME_BYTES[fsci] for block in air.sent)


@given(
    blocks=st.lists(st.none() | st.binary(max_size=80), min_size=1),
    answer_ms=st.sampled_from([0.1, 40.0, 900.0]),
)
def test_any_card_ends_in_an_answer_or_a_card_error(blocks: Sequence[bytes | None], answer_ms: float) -> None:
    """Whatever a card sends, the conversation ends within its deadline, with a value or a CardError."""
    turn = 0

    def receive(_block: bytes) -> bytes | None:
        nonlocal turn
        turn += 1
        return blocks[turn % len(blocks)]

    air = Air(receive, answer_ms=answer_ms)
    talk = conversation(air)
    with contextlib.suppress(CardError):
        for _ in range(5):
            talk.transceive(b"\x00\xa4\x04\x00")
    assert air.now_ns <= 1_200 * MS


@given(
    first=st.sampled_from(
        [b"\x02", b"\x12", b"\xa2", b"\xa3", b"\xf2\x01", b"\xf2\x00", b"\xc2", b"\x0a\x00", b""]
    )
)
def test_each_kind_of_block_ends(first: bytes) -> None:
    """A card that answers one same block for ever ends in a value or a CardError."""
    air = Air(script(first))
    with contextlib.suppress(CardError):
        assert conversation(air).transceive(b"\x00") == b""
    assert len(air.sent) <= 130


@pytest.mark.parametrize(
    ("card", "answer_ms", "fault"),
    [
        (script(None), 1, ReadFault.CARD_GONE),
        (script(NOISE), 1, ReadFault.PROTOCOL_ERROR),
        (script(b""), 1, ReadFault.PROTOCOL_ERROR),
        (script(b"\xa3"), 1, ReadFault.PROTOCOL_ERROR),
        (script(b"\xa2"), 1, ReadFault.PROTOCOL_ERROR),
        (script(b"\x03\x90\x00"), 1, ReadFault.PROTOCOL_ERROR),
        (script(b"\xf2\x00"), 1, ReadFault.PROTOCOL_ERROR),
        (script(WTX), 1, ReadFault.WAIT_LIMIT),
        (script(bytes((0xF2, 59))), 1, ReadFault.WAIT_LIMIT),
        (script(WTX), 200, ReadFault.WAIT_LIMIT),
        (script(WTX, None), 1, ReadFault.CARD_GONE),
        (script(b"\x12" + bytes(250), *[bytes((0x12 | n % 2,)) + bytes(250) for n in range(1, 30)]), 1, ReadFault.LENGTH_LIMIT),
        (script(*[bytes((0x12 | n % 2,)) for n in range(200)]), 1, ReadFault.LENGTH_LIMIT),
        (script(*[bytes((0x12 | n % 2, 0)) for n in range(200)]), 100, ReadFault.DEADLINE),
    ],
    ids=[
        "silent",
        "garbled",
        "empty",
        "asks for the block for ever",
        "acknowledges what is not chained",
        "wrong block number",
        "waiting factor 0",
        "endless waiting",
        "endless long waiting",
        "endless slow waiting",
        "waits and vanishes",
        "endless chaining",
        "endless empty chaining",
        "endless slow chaining",
    ],
)  # fmt: skip
def test_names_what_a_card_does_wrong(
    card: Callable[[bytes], bytes | Exception | None], answer_ms: float, fault: ReadFault
) -> None:
    """Each way of never answering has its fault, and none lasts beyond the deadline."""
    air = Air(card, answer_ms=answer_ms)
    with pytest.raises(CardError) as caught:
        conversation(air, fwi=8).transceive(b"\x00\xca\x7f\x21\x00")
    assert caught.value.fault is fault
    assert air.now_ns <= 1_200 * MS


def test_repeats_twice_and_no_more() -> None:
    """A silent card is asked again with R(NAK) twice, then it is gone."""
    air = Air(script(None))
    with pytest.raises(CardGone):
        conversation(air).transceive(b"\x00\xa4")
    assert air.sent == [b"\x02\x00\xa4", b"\xb2", b"\xb2"]


def test_sends_a_block_again_when_the_card_missed_it() -> None:
    """R(ACK) with the other block number after R(NAK) brings the I-block again (rule 6)."""
    air = Air(script(None, b"\xa3", b"\x02\x90\x00"))
    assert conversation(air).transceive(b"\x00\xa4") == b"\x90\x00"
    assert air.sent == [b"\x02\x00\xa4", b"\xb2", b"\x02\x00\xa4"]


def test_asks_for_the_next_link_again_while_the_card_is_chaining() -> None:
    """Within a chained answer a lost block is asked for with R(ACK), not R(NAK) (rule 5)."""
    air = Air(script(b"\x12\x01", None, b"\x03\x02\x90\x00"))
    assert conversation(air).transceive(b"\x00") == b"\x01\x02\x90\x00"
    assert air.sent == [b"\x02\x00", b"\xa3", b"\xa3"]


def test_grants_waiting_within_a_chained_answer() -> None:
    """S(WTX) is answered with its factor, also between two links, and stretches that one wait."""
    air = Air(script(b"\x12\x01", bytes((0xF2, 0xC7)), b"\x03\x90\x00"))
    assert conversation(air).transceive(b"\x00") == b"\x01\x90\x00"
    assert air.sent[2] == bytes((0xF2, 7))


def test_works_while_the_last_block_is_out() -> None:
    """``meanwhile`` runs once, after the last block of a chained command, also when that is repeated."""
    air = Air(script(b"\xa2", None, b"\x03\x90\x00"))
    ran: list[int] = []
    assert conversation(air, fsci=0).transceive(bytes(20), lambda: ran.append(len(air.sent))) == b"\x90\x00"
    assert ran == [2]


def test_block_numbers_go_on_from_command_to_command() -> None:
    """The block number alternates over the whole conversation."""
    air = Air(script(b"\x02\x90\x00", b"\x03\x90\x00", b"\x02\x90\x00"))
    talk = conversation(air)
    for _ in range(3):
        talk.transceive(b"\x00")
    assert [block[0] for block in air.sent] == [0x02, 0x03, 0x02]


def test_says_gone_rather_than_late_when_nothing_came() -> None:
    """A card of the longest waiting time that is silent until the deadline is gone."""
    air = Air(script(None))
    with pytest.raises(CardGone):
        conversation(air, fwi=14).transceive(b"\x00")
    assert air.now_ns == 1_200 * MS


def test_refuses_to_begin_after_the_deadline() -> None:
    """No block is sent once the deadline has passed."""
    air = Air(script(b"\x02\x90\x00"))
    air.now_ns = 1_200 * MS
    with pytest.raises(CardMisbehaves) as caught:
        conversation(air).transceive(b"\x00")
    assert caught.value.fault is ReadFault.DEADLINE
    assert not air.sent


@pytest.mark.parametrize(
    ("answer", "present"), [(b"\xa2", True), (b"\x02\x90\x00", True), (NOISE, True), (None, False)]
)
def test_sees_whether_a_card_is_still_there(answer: bytes | Exception | None, present: bool) -> None:
    """Any sign of life counts as presence, even a garbled one and even after the deadline."""
    air = Air(script(answer))
    air.now_ns = 5_000 * MS
    assert conversation(air, fwi=8).is_present() is present
    assert air.sent == [b"\xb2"]
    assert air.now_ns <= 5_025 * MS


@pytest.mark.parametrize(
    ("raw", "frame_bytes", "frame_wait_us", "guard_us", "declared"),
    [
        ("01", 32, 8_458, 0, False),
        ("0200", 16, 8_458, 0, True),
        ("0278", None, None, None, None),
        ("0208", 256, 8_458, 0, True),
        ("0578807002", 256, 42_289, 0, True),
        ("0678338100 73", 256, 80_953, 605, True),
        ("04688100", 256, 80_953, 605, True),
        ("033833", None, None, None, None),
        ("0320F0", 16, 8_458, 0, True),
        ("03208F", 16, 80_953, 0, True),
        ("032FE0", 256, 4_952_657, 0, True),
        ("0578807002FF", 256, 42_289, 0, True),
        ("107833", None, None, None, None),
        ("00", None, None, None, None),
        ("", None, None, None, None),
    ],
)
def test_reads_what_an_answer_to_select_declares(
    raw: str, frame_bytes: int | None, frame_wait_us: int, guard_us: int, declared: bool
) -> None:
    """Missing interface bytes mean the standard's defaults; a wrong length is refused."""
    if frame_bytes is None:
        with pytest.raises(MalformedData):
            Ats.from_bytes(bytes.fromhex(raw))
        return
    ats = Ats.from_bytes(bytes.fromhex(raw))
    assert (ats.frame_bytes, ats.guard_us, ats.declared) == (frame_bytes, guard_us, declared)
    assert abs(ats.frame_wait_us - frame_wait_us) <= 1


@given(st.binary(max_size=40))
def test_any_answer_to_select_is_read_or_refused(raw: bytes) -> None:
    """Any bytes give values within the standard's ranges, or MalformedData."""
    try:
        ats = Ats.from_bytes(raw)
    except MalformedData:
        return
    assert ats.frame_bytes in FRAME_BYTES
    assert 0 < ats.frame_wait_us < 5_000_000
    assert 0 <= ats.guard_us < 5_000_000


def test_nothing_is_the_default_work() -> None:
    """A command without work to do meanwhile is carried all the same."""
    assert conversation(Air(script(b"\x02\x90\x00"))).transceive(b"\x00", nothing) == b"\x90\x00"
