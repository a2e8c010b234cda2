"""The reader thread on a real NFC stack: cards and faults at a PN532 on a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.inputs import CardRefused, ReaderLost, ReaderRestored, ReadFailed
from pacs.reason import ReadFault, Reason
from simulator.card_deck import deal
from simulator.link_faults import RAW_ATS, LinkFault
from simulator.pn532 import ReaderFault
from simulator.rf_link import AnswerToSelect, IsoDepCard
from simulator.timing import Timing
from tests.edge.nfc.door_on_pn532 import RECIPE, Door


def test_reads_one_card_after_another(door: Door) -> None:
    """Card after card is presented once, with its phases in order."""
    for number in range(3):
        door.insert("genuine", uid=b"\x01\x02\x03" + bytes([number]))
        presented = door.expect_presented()
        assert [name for name, _ in presented.marks] == [
            "detect",
            "activate",
            "select",
            "certificate",
            "sign",
            "verify",
        ]
        assert sorted(at for _, at in presented.marks) == [at for _, at in presented.marks]
        door.chip.remove()
    assert door.inputs.empty()


@pytest.mark.parametrize("uid", [b"\x08\x01\x02\x03", b"\x04" + bytes(6), b"\x04" + bytes(9)])
@pytest.mark.parametrize("fsci", [0, 5, 8])
def test_reads_cards_of_every_make(door: Door, uid: bytes, fsci: int) -> None:
    """UID lengths and frame sizes make no difference."""
    door.insert("genuine", uid=uid, ats=AnswerToSelect(fsci=fsci))
    door.expect_presented()


def test_reads_with_modelled_times(open_door: Callable[..., Door]) -> None:
    """With the times of line, air and card played a card is read as well, within its deadline."""
    door = open_door(Timing.realistic())
    door.insert("genuine")
    presented = door.expect_presented()
    marks = dict(presented.marks)
    assert marks["sign"] - marks["certificate"] > RECIPE.signing_ms * 1_000_000


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("forged", Reason.CERTIFICATE_FORGED),
        ("unknown-issuer", Reason.ISSUER_UNKNOWN),
        ("cloned", Reason.SIGNATURE_INVALID),
    ],
)
def test_refuses_cards_that_are_not_authentic(door: Door, name: str, reason: Reason) -> None:
    """A card read completely that is not authentic is refused with its reason."""
    door.insert(name)
    refused = door.next(CardRefused)
    assert isinstance(refused, CardRefused)
    assert refused.reason is reason


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"fault": LinkFault.PULLED, "after": 0}, ReadFault.CARD_GONE),
        ({"fault": LinkFault.PULLED, "after": 2}, ReadFault.CARD_GONE),
        ({"fault": LinkFault.IGNORES_RATS}, ReadFault.CARD_GONE),
        ({"fault": LinkFault.GARBAGE}, ReadFault.PROTOCOL_ERROR),
        ({"fault": LinkFault.ENDLESS_WAIT}, ReadFault.WAIT_LIMIT),
        ({"fault": LinkFault.ENDLESS_WAIT, "after": 2}, ReadFault.WAIT_LIMIT),
        ({"fault": LinkFault.ENDLESS_CHAINING}, ReadFault.LENGTH_LIMIT),
        ({"fault": LinkFault.ENDLESS_CHAINING, "after": 1}, ReadFault.LENGTH_LIMIT),
        ({"fault": LinkFault.WRONG_BLOCK_NUMBER}, ReadFault.PROTOCOL_ERROR),
        ({"fault": LinkFault.RF_ERROR, "after": 1}, ReadFault.PROTOCOL_ERROR),
    ],
)
def test_hostile_links_are_not_read_and_leave_the_reader_well(
    open_door: Callable[..., Door], options: dict[str, object], fault: ReadFault
) -> None:
    """Each hostile card ends in one failure with its fault, and the next card is read."""
    # a machine that stalls must not turn one limit into another; the limits themselves are tested with a clock
    door = open_door(transaction_ms=10_000, retry_pause_ms=5)
    door.insert("genuine", **options)
    failed = door.next(ReadFailed)
    assert isinstance(failed, ReadFailed)
    assert failed.fault is fault
    door.chip.remove()
    door.insert("genuine", uid=b"\x01\x02\x03\x04")
    door.expect_presented()


@pytest.mark.parametrize(
    ("raw_ats", "fault"),
    [
        (RAW_ATS[LinkFault.ATS_ONE_BYTE], ReadFault.ATS_INVALID),
        (RAW_ATS[LinkFault.ATS_WRONG_LENGTH], ReadFault.ATS_INVALID),
        (RAW_ATS[LinkFault.ATS_WITHOUT_TA1], None),
    ],
)
def test_odd_answers_to_select(door: Door, raw_ats: bytes, fault: ReadFault | None) -> None:
    """An answer to select without TA1 is read; one of a single byte, or torn, is not, and harms nothing."""
    door.chip.insert(IsoDepCard(deal("genuine", RECIPE), raw_ats=raw_ats))
    if fault is None:
        door.expect_presented()
        return
    failed = door.next(ReadFailed)
    assert isinstance(failed, ReadFailed)
    assert failed.fault is fault
    door.chip.remove()
    door.insert("genuine", uid=b"\x01\x02\x03\x04")
    door.expect_presented()


@pytest.mark.parametrize("name", ["garbage", "garbage-certificate", "garbage-signature"])
def test_garbage_answers_are_not_read(door: Door, name: str) -> None:
    """Noise as an answer, at any step, is a failure of reading and nothing about a person."""
    door.insert(name)
    failed = door.next(ReadFailed)
    assert isinstance(failed, ReadFailed)
    assert failed.fault is ReadFault.ANSWER_MALFORMED


@pytest.mark.parametrize(
    "fault",
    [ReaderFault.DROP_RESPONSE, ReaderFault.CORRUPT_RESPONSE, ReaderFault.BROWN_OUT, ReaderFault.DEAF],
)
def test_heals_from_a_fault_of_the_chip(door: Door, fault: ReaderFault) -> None:
    """Each fault of the chip is reported as the loss of the reader and its return, and cards are read again."""
    door.insert("genuine")
    door.expect_presented()
    door.chip.remove()
    door.chip.fault(fault, times=1)
    lost = door.next(ReaderLost)
    assert isinstance(lost, ReaderLost)
    assert lost.cause
    door.next(ReaderRestored)
    door.insert("genuine", uid=b"\x01\x02\x03\x04")
    door.expect_presented()


def test_bears_a_lost_acknowledgement(door: Door) -> None:
    """An acknowledgement lost on the line is no loss of the reader: its answer is taken."""
    door.insert("genuine")
    door.expect_presented()
    door.chip.fault(ReaderFault.DROP_ACK, times=3)
    door.chip.remove()
    door.insert("genuine", uid=b"\x01\x02\x03\x04")
    door.expect_presented()


def test_resets_a_chip_that_stays_deaf(door: Door) -> None:
    """A chip that does not answer for long is reset by its line, and works when it hears again."""
    door.chip.fault(ReaderFault.DEAF)
    door.next(ReaderLost)
    waited = 0
    while not door.resets:
        waited += 1
        assert waited < 600
        door.reader._stopping.wait(0.05)
    door.chip.fault(ReaderFault.NONE)
    door.next(ReaderRestored)
    door.insert("genuine")
    door.expect_presented()


def test_a_reader_plugged_in_again_works_without_a_restart(door: Door) -> None:
    """Unplugged and replaced under the same path, the reader is found again by itself."""
    door.insert("genuine")
    door.expect_presented()
    door.chip.fault(ReaderFault.UNPLUG)
    door.next(ReaderLost)
    door.chip.remove()
    door.chip.fault(ReaderFault.PLUG)
    door.next(ReaderRestored)
    door.insert("genuine", uid=b"\x01\x02\x03\x04")
    door.expect_presented()


def test_a_card_is_read_though_the_reader_broke_in_its_transaction(door: Door) -> None:
    """A card that stays while the reader heals is read afterwards."""
    door.insert("genuine")
    door.expect_presented()
    door.chip.remove()
    door.chip.fault(ReaderFault.CORRUPT_RESPONSE, times=1)
    door.insert("genuine", uid=b"\x01\x02\x03\x04")
    door.next(ReaderLost)
    door.expect_presented()
