from __future__ import annotations

from collections.abc import Callable

import pytest

from pacs.card.apdu import CommandAPDU, ResponseAPDU
from pacs.card.dialogue import (
    MAX_ANSWER_BYTES,
    MAX_GET_RESPONSES,
    Dialogue,
    Exchange,
    Step,
    Transceive,
    command_chaining,
    get_response,
    nothing,
    observed,
    run,
)
from pacs.errors import CardError, CardGone
from pacs.reason import ReadFault
from tests.pacs.card.material import scripted

COMMAND = CommandAPDU(cla=0x00, ins=0xCA, p1=0x7F, p2=0x21, le=256)


def _ask(command: CommandAPDU = COMMAND, meanwhile: Callable[[], None] = nothing) -> Dialogue[ResponseAPDU]:
    return (yield Step(command=command, meanwhile=meanwhile))


def _link(script: dict[str, str], seen: list[str]) -> Transceive:
    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        seen.append(command.hex())
        meanwhile()
        return bytes.fromhex(script[command.hex()])

    return transceive


def test_61xx_is_followed_and_work_is_done_once() -> None:
    """GET RESPONSE collects the rest, and ``meanwhile`` runs during the first command only."""
    seen: list[str] = []
    done: list[int] = []
    script = {"00ca7f2100": "aabb6102", "00c0000002": "ccdd6101", "00c0000001": "ee9000"}
    answer = run(_ask(meanwhile=lambda: done.append(1)), get_response(_link(script, seen)))
    assert answer == ResponseAPDU(data=bytes.fromhex("aabbccddee"))
    assert seen == list(script)
    assert done == [1]


def test_6cxx_corrects_le() -> None:
    """The command is repeated once with the Le the card names."""
    seen: list[str] = []
    script = {"00ca7f2100": "6c05", "00ca7f2105": "01020304059000"}
    assert run(_ask(), get_response(_link(script, seen))).data == bytes([1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        (["6c05", "6c05"], ReadFault.PROTOCOL_ERROR),
        (["6101"] * 100, ReadFault.LENGTH_LIMIT),
        (["00" * 256 + "6100"] * 100, ReadFault.LENGTH_LIMIT),
        (["00" * (MAX_ANSWER_BYTES + 1) + "9000"], ReadFault.LENGTH_LIMIT),
        (["6105", "6c05", "6c05"], ReadFault.PROTOCOL_ERROR),
        ([""], ReadFault.ANSWER_MALFORMED),
        (["90"], ReadFault.ANSWER_MALFORMED),
        (["6105", "0000"], ReadFault.ANSWER_MALFORMED),
        (["6105"], ReadFault.CARD_GONE),
    ],
)
def test_endless_or_broken_answers(answers: list[str], fault: ReadFault) -> None:
    """A card that never finishes, or answers nonsense, ends in a named fault after bounded work."""
    with pytest.raises(CardError) as caught:
        run(_ask(), get_response(scripted(bytes.fromhex(a) for a in answers)))
    assert caught.value.fault is fault


def test_longest_answer() -> None:
    """An answer of exactly the limit is passed on."""
    parts = [bytes(256) + b"\x61\x00"] * (MAX_ANSWER_BYTES // 256 - 1) + [bytes(256) + b"\x90\x00"]
    assert len(run(_ask(), get_response(scripted(parts))).data) == MAX_ANSWER_BYTES


def test_most_rounds() -> None:
    """A card may answer in as many pieces as the limit of rounds allows, an empty one first."""
    parts = [b"\x61\x01"] + [b"\x01\x61\x01"] * (MAX_GET_RESPONSES - 1) + [b"\x01\x90\x00"]
    assert len(run(_ask(), get_response(scripted(parts))).data) == MAX_GET_RESPONSES
    with pytest.raises(CardError):
        run(_ask(), get_response(scripted([b"\x61\x01", *parts])))


def test_chaining_splits_long_data() -> None:
    """600 bytes go out as 255 + 255 + 90 with the chaining bit on all but the last."""
    sent: list[CommandAPDU] = []
    order: list[str] = []

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        sent.append(CommandAPDU.from_bytes(command))
        order.append(f"sent {len(sent)}")
        meanwhile()
        return b"\x90\x00"

    whole = CommandAPDU(cla=0x80, ins=0xDA, p1=0x7F, p2=0x21, data=bytes(range(200)) * 3, le=256)
    run(_ask(whole, lambda: order.append("worked")), command_chaining(transceive))
    assert [(c.cla, len(c.data), c.le) for c in sent] == [
        (0x90, 255, None),
        (0x90, 255, None),
        (0x80, 90, 256),
    ]
    assert b"".join(c.data for c in sent) == whole.data
    assert order == ["sent 1", "sent 2", "sent 3", "worked"]


def test_chaining_stops_at_a_refusal() -> None:
    """A card that refuses an inner link is not sent the rest."""
    whole = CommandAPDU(cla=0x80, ins=0xDA, data=bytes(600))
    assert run(_ask(whole), command_chaining(scripted([b"\x6d\x00"]))).status_word == 0x6D00


@pytest.mark.parametrize("size", [0, 1, 255])
def test_chaining_leaves_short_commands(size: int) -> None:
    """What fits one command is sent as one."""
    seen: list[bytes] = []

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        seen.append(command)
        return b"\x90\x00"

    command = CommandAPDU(cla=0, ins=1, data=bytes(size), le=256)
    run(_ask(command), command_chaining(transceive))
    assert seen == [bytes(command)]


def test_observed_reports_exchanges() -> None:
    """The hook sees bytes and times of each exchange, in order."""
    seen: list[Exchange] = []
    ticks = iter(range(10, 100, 10))
    run(_ask(), observed(scripted([b"\x90\x00"]), seen.append, lambda: next(ticks)))
    assert seen == [Exchange(command=bytes(COMMAND), answer=b"\x90\x00", sent_ns=10, answered_ns=20)]


def test_dialogue_is_closed_after_a_fault() -> None:
    """A link that fails leaves no dialogue half open."""
    ended: list[bool] = []

    def dialogue() -> Dialogue[None]:
        try:
            yield Step(command=COMMAND)
        finally:
            ended.append(True)

    with pytest.raises(CardGone):
        run(dialogue(), scripted([]))
    assert ended == [True]
