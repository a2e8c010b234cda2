"""Cards that break the ISO/IEC 14443 link, each by name.

APDUs stay the handler's business; what is wrong here is beneath them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from itertools import count
from random import Random
from typing import Any, Self

from simulator.iso_dep_card import CHAINING, I_BLOCK, R_ACK, S_WTX, Handler
from simulator.rf_link import (
    DEFAULT_UID,
    AirFrame,
    Answer,
    AnswerToSelect,
    Card,
    IsoDepCard,
    check_crc,
    with_crc,
)

Spoil = Callable[[AirFrame, IsoDepCard], Answer | None]


@unique
class LinkFault(StrEnum):
    """What can be wrong between antenna and card."""

    PULLED = "pulled"
    """Gone for good after answering ``after`` blocks."""
    GARBAGE = "garbage"
    """Every block after the ``after``-th is random bytes under a right CRC."""
    ENDLESS_WAIT = "endless_wait"
    """Asks for more time for ever."""
    WAIT_THEN_SILENT = "wait_then_silent"
    """Asks for more time once, after ``after`` blocks, and is not heard again."""
    WAIT_IN_CHAIN = "wait_in_chain"
    """Asks for more time before each further block of a chained answer: legal."""
    ENDLESS_ACK = "endless_ack"
    """Acknowledges the other block number for ever: asks for the last block again and again."""
    ENDLESS_CHAINING = "endless_chaining"
    """An answer that never ends, block numbers right."""
    ATS_ONE_BYTE = "ats_one_byte"
    """An ATS that is only its length: legal, all defaults (FSC 32, FWI 4)."""
    ATS_WITHOUT_TA1 = "ats_without_ta1"
    """An ATS whose interface bytes begin with TB(1): legal; FSC 256, FWI 8."""
    ATS_WRONG_LENGTH = "ats_wrong_length"
    """An ATS that claims to be longer than it is."""
    WRONG_BLOCK_NUMBER = "wrong_block_number"
    """Answers every block with the other block number, for ever."""
    IGNORES_RATS = "ignores_rats"
    """Selected, but silent from RATS on."""
    RF_ERROR = "rf_error"
    """The reader's receiver reports ``status`` for every block from the ``after``-th on."""
    NOISY = "noisy"
    """Every ``every``-th block's answer is lost in the field."""
    CORRUPT = "corrupt"
    """Every ``every``-th block's answer arrives with a wrong CRC."""


RAW_ATS = {
    LinkFault.ATS_ONE_BYTE: bytes.fromhex("01"),
    LinkFault.ATS_WITHOUT_TA1: bytes.fromhex("04688100"),
    LinkFault.ATS_WRONG_LENGTH: bytes.fromhex("107833"),
}
"""Faults that are nothing but an answer to select."""


class SpoiledCard:
    """A card whose frames pass through ``spoil``."""

    def __init__(self, card: IsoDepCard, spoil: Spoil) -> None:
        self._card = card
        self._spoil = spoil

    def power_off(self) -> None:
        """What the card does without power; the fault itself does not forget."""
        self._card.power_off()

    def receive(self, frame: AirFrame) -> Answer | None:
        """Let the fault decide."""
        return self._spoil(frame, self._card)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """How a card stands on the air.

    ``uid``: 4, 7 or 10 bytes. ``pulled_after_ms``: it leaves by itself so long after it came. With ``fault``:
    ``after``: blocks (of any kind) that still work; ``every``: 2 or more; ``status``: 1 to 0x3F (PN532 user manual §7.1).
    Raises ValueError for values outside these ranges.
    """

    uid: bytes = DEFAULT_UID
    ats: AnswerToSelect = field(default_factory=AnswerToSelect)
    fault: LinkFault | None = None
    after: int = 0
    every: int = 3
    status: int = 0x0B
    pulled_after_ms: float | None = None

    def __post_init__(self) -> None:
        if self.after < 0 or self.every < 2 or not 1 <= self.status <= 0x3F:
            raise ValueError("a link option is out of its range")

    def state(self) -> dict[str, Any]:
        """Give what ``restore`` reads: JSON types only."""
        return {
            "uid": self.uid.hex(),
            "ats": bytes(self.ats).hex(),
            "fault": self.fault and self.fault.value,
            "after": self.after,
            "every": self.every,
            "status": self.status,
            "pulled_after_ms": self.pulled_after_ms,
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """Read what ``state`` gave; missing keys are defaults. Raises ValueError or TypeError."""
        given = dict(state)
        if "uid" in given:
            given["uid"] = bytes.fromhex(given["uid"])
        if "ats" in given:
            given["ats"] = AnswerToSelect.from_bytes(bytes.fromhex(given["ats"]))
        if given.get("fault") is not None:
            given["fault"] = LinkFault(given["fault"])
        return cls(**given)


def card_on_link(handler: Handler, options: LinkOptions | None = None) -> Card:
    """A card with ``handler`` behind a link as ``options`` say."""
    link = options or LinkOptions()
    fault, after, every = link.fault, link.after, link.every
    card = IsoDepCard(handler, uid=link.uid, ats=link.ats, raw_ats=RAW_ATS.get(fault) if fault else None)
    if fault is None or fault in RAW_ATS:
        return card
    spoils: dict[LinkFault, Callable[[], Spoil]] = {
        LinkFault.PULLED: lambda: _pulled(after),
        LinkFault.GARBAGE: lambda: _replaced(after, _noise()),
        LinkFault.ENDLESS_WAIT: lambda: _replaced(after, lambda _frame: bytes([S_WTX, 1])),
        LinkFault.WAIT_THEN_SILENT: lambda: _wait_then_silent(after),
        LinkFault.WAIT_IN_CHAIN: _wait_in_chain,
        LinkFault.ENDLESS_ACK: lambda: _replaced(after, _other_ack),
        LinkFault.ENDLESS_CHAINING: lambda: _replaced(after, _chain),
        LinkFault.WRONG_BLOCK_NUMBER: lambda: _wrong_block_number,
        LinkFault.IGNORES_RATS: lambda: _ignores_rats,
        LinkFault.RF_ERROR: lambda: _rf_error(after, link.status),
        LinkFault.NOISY: lambda: _nth(every, lambda _answer: None),
        LinkFault.CORRUPT: lambda: _nth(every, _wrong_crc),
    }
    return SpoiledCard(card, spoils[fault]())


def _pulled(after: int) -> Spoil:
    answered, gone = count(), False

    def spoil(frame: AirFrame, card: IsoDepCard) -> Answer | None:
        nonlocal gone
        if card.in_protocol and next(answered) >= after:
            gone = True
        return None if gone else card.receive(frame)

    return spoil


def _replaced(after: int, block: Callable[[AirFrame], bytes]) -> Spoil:
    """The card behaves for some blocks, then answers what ``block`` makes of the reader's frame."""
    received = count()

    def spoil(frame: AirFrame, card: IsoDepCard) -> Answer | None:
        if not card.in_protocol or next(received) < after:
            return card.receive(frame)
        return Answer(data=with_crc(block(frame)))

    return spoil


def _noise() -> Callable[[AirFrame], bytes]:
    dice = Random("garbage")
    return lambda _frame: dice.randbytes(dice.randint(1, 60))


def _chain(frame: AirFrame) -> bytes:
    """A chained block with the number the reader expects: that of its own block."""
    return bytes([I_BLOCK | CHAINING | frame.data[0] & 1]) + bytes(200)


def _other_ack(frame: AirFrame) -> bytes:
    return bytes([R_ACK | frame.data[0] & 1 ^ 1])


def _wait_then_silent(after: int) -> Spoil:
    received = count()

    def spoil(frame: AirFrame, card: IsoDepCard) -> Answer | None:
        if not card.in_protocol:
            return card.receive(frame)
        number = next(received)
        if number < after:
            return card.receive(frame)
        return Answer(data=with_crc(bytes([S_WTX, 1]))) if number == after else None

    return spoil


def _wait_in_chain() -> Spoil:
    held: AirFrame | None = None

    def spoil(frame: AirFrame, card: IsoDepCard) -> Answer | None:
        nonlocal held
        if card.in_protocol and frame.data[0] & ~1 == R_ACK:
            held = frame
            return Answer(data=with_crc(bytes([S_WTX, 1])))
        if held is not None and frame.data[0] == S_WTX:
            frame, held = held, None
        return card.receive(frame)

    return spoil


def _wrong_block_number(frame: AirFrame, card: IsoDepCard) -> Answer | None:
    blocks = card.in_protocol
    answer = card.receive(frame)
    block = check_crc(answer.data) if answer is not None and blocks else None
    if answer is None or block is None:
        return answer
    return replace(answer, data=with_crc(bytes([block[0] ^ 1]) + block[1:]), apdu=None)


def _ignores_rats(frame: AirFrame, card: IsoDepCard) -> Answer | None:
    return None if frame.data[0] == 0xE0 else card.receive(frame)


def _rf_error(after: int, status: int) -> Spoil:
    received = count()

    def spoil(frame: AirFrame, card: IsoDepCard) -> Answer | None:
        blocks = card.in_protocol
        answer = card.receive(frame)
        if answer is None or not blocks or next(received) < after:
            return answer
        return replace(answer, status=status, apdu=None)

    return spoil


def _nth(every: int, lose: Callable[[Answer], Answer | None]) -> Spoil:
    received = count(1)

    def spoil(frame: AirFrame, card: IsoDepCard) -> Answer | None:
        blocks = card.in_protocol
        answer = card.receive(frame)
        if answer is None or not blocks or next(received) % every:
            return answer
        return lose(answer)

    return spoil


def _wrong_crc(answer: Answer) -> Answer:
    return replace(answer, data=answer.data[:-1] + bytes([answer.data[-1] ^ 0xFF]), apdu=None)
