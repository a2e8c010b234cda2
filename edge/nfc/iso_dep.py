"""The block layer of ISO/IEC 14443-4 on the reader's side, without an antenna and without a clock.

It turns one command into blocks and blocks into one answer, and bounds what a card may ask for:
time, waiting, repeats and size. Blocks carry neither CID nor NAD: one card at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, Self

from pacs.card.dialogue import nothing
from pacs.errors import CardError, CardGone, CardMisbehaves, MalformedData
from pacs.reason import ReadFault

FRAME_BYTES: Final = (16, 24, 32, 40, 48, 64, 96, 128, 256)
"""FSC by FSCI (§5.2.3); 9 and above are taken as 8, which is what a PN532 can send."""

_DEFAULT_FSCI: Final = 2
_DEFAULT_FWI: Final = 4
_NO_GUARD: Final = 0
_FRAME_OVERHEAD: Final = 3  # PCB and CRC
_FRAME_WAIT_MARGIN_US: Final = 3_625  # ΔFWT = 49152 / fc (§7.2)
PRESENCE_WAIT_US: Final = 25_000  # an R(ACK) costs the card no computation
_PRESENCE_DEADLINE_NS: Final = 2_000_000_000

_CHAINED: Final = 0x10
_I_BLOCK: Final = 0x02
_R_ACK: Final = 0xA2
_R_NAK: Final = 0xB2
_S_WTX: Final = 0xF2


class NoAnswer(Exception):
    """Nothing came back within the waiting time."""


class GarbledAnswer(Exception):
    """Something came back, with a wrong CRC, parity or framing."""


class Link(Protocol):
    """The way of one block to the card and of its answer back; CRC is added and checked below."""

    def __call__(
        self, block: bytes, *, wait_us: int, deadline_ns: int, meanwhile: Callable[[], None]
    ) -> bytes:
        """Send ``block``, run ``meanwhile`` while the card works, return its answer.

        Waits until the card has had ``wait_us`` for its answer, and never beyond ``deadline_ns``.
        Raises ``NoAnswer``, ``GarbledAnswer`` or ``ReaderBroken``.
        """
        ...


def _periods_us(exponent: int) -> int:
    """``(256 × 16 / fc) × 2^exponent``, rounded up to whole µs."""
    return -(-(4096_00 << exponent) // 1356)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ats:
    """What a card's answer to select declares (ISO/IEC 14443-4 §5.2), with the standard's defaults.

    ``frame_bytes`` is FSC; ``frame_wait_us`` is FWT with its margin; ``guard_us`` is SFGT, the pause
    before the first block; ``declared`` is False for the bare length byte that declares nothing.
    """

    frame_bytes: int
    frame_wait_us: int
    guard_us: int
    declared: bool

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read an ATS whose interface bytes may be missing. Raises ``MalformedData``.

        A length byte larger than what arrived is refused; trailing bytes beyond it are ignored.
        """
        if not raw or not 1 <= raw[0] <= len(raw):
            raise MalformedData("ATS: the length byte does not match")
        interface = iter(raw[1 : raw[0]])
        t0 = next(interface, None)
        fsci, fwi, sfgi = _DEFAULT_FSCI, _DEFAULT_FWI, _NO_GUARD
        if t0 is not None:
            fsci = t0 & 0x0F
            if t0 & 0x10 and next(interface, None) is None:
                raise MalformedData("ATS: TA1 is announced and missing")
            if t0 & 0x20:
                tb1 = next(interface, None)
                if tb1 is None:
                    raise MalformedData("ATS: TB1 is announced and missing")
                fwi, sfgi = tb1 >> 4, tb1 & 0x0F
        # 15 is reserved: for FWI it means 4, for SFGI 0 (§5.2.5)
        fwi = _DEFAULT_FWI if fwi == 15 else fwi
        return cls(
            frame_bytes=FRAME_BYTES[min(fsci, 8)],
            frame_wait_us=_periods_us(fwi) + _FRAME_WAIT_MARGIN_US,
            guard_us=0 if sfgi in (0, 15) else _periods_us(sfgi),
            declared=t0 is not None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a card may ask for within one command."""

    answer_bytes: int = 4096
    answer_blocks: int = 128
    waits: int = 60
    retries: int = 2


class IsoDep:
    """A conversation with one activated card, which ends at ``deadline_ns`` whatever the card does."""

    def __init__(
        self,
        link: Link,
        ats: Ats,
        *,
        clock_ns: Callable[[], int],
        deadline_ns: int,
        limits: Limits | None = None,
    ) -> None:
        self._link = link
        self._ats = ats
        self._clock_ns = clock_ns
        self._deadline_ns = deadline_ns
        self._limits = limits or Limits()
        self._number = 0
        self._waits = 0

    def transceive(self, command: bytes, meanwhile: Callable[[], None] = nothing) -> bytes:
        """Return the card's answer to ``command``; ``meanwhile`` runs once its last block is out.

        Raises ``CardGone`` when the card stays silent, ``CardMisbehaves`` with PROTOCOL_ERROR,
        WAIT_LIMIT, LENGTH_LIMIT or DEADLINE, and ``ReaderBroken``.
        """
        self._waits = 0
        size = self._ats.frame_bytes - _FRAME_OVERHEAD
        while len(command) > size:
            self._exchange(bytes((_I_BLOCK | _CHAINED | self._number,)) + command[:size], awaiting=_R_ACK)
            command = command[size:]
        block = self._exchange(
            bytes((_I_BLOCK | self._number,)) + command, awaiting=_I_BLOCK, meanwhile=meanwhile
        )
        answer = bytearray(block[1:])
        blocks = 1
        while block[0] & _CHAINED:
            if len(answer) > self._limits.answer_bytes or blocks >= self._limits.answer_blocks:
                raise CardMisbehaves(ReadFault.LENGTH_LIMIT, f"an answer of more than {len(answer)} bytes")
            block = self._exchange(self._acknowledgement(), awaiting=_I_BLOCK, receiving=True)
            answer += block[1:]
            blocks += 1
        if len(answer) > self._limits.answer_bytes:
            raise CardMisbehaves(ReadFault.LENGTH_LIMIT, f"an answer of {len(answer)} bytes")
        return bytes(answer)

    def is_present(self) -> bool:
        """Ask the card for a sign of life without a command (§7.5.6: R(NAK), answered by R(ACK)).

        Not bound by the conversation's deadline. Raises ``ReaderBroken``.
        """
        request = bytes((_R_NAK | self._number,))
        deadline_ns = self._clock_ns() + _PRESENCE_DEADLINE_NS
        wait_us = min(self._ats.frame_wait_us, PRESENCE_WAIT_US)
        try:
            self._link(request, wait_us=wait_us, deadline_ns=deadline_ns, meanwhile=nothing)
        except NoAnswer:
            return False
        except GarbledAnswer:
            return True
        return True

    def _acknowledgement(self) -> bytes:
        return bytes((_R_ACK | self._number,))

    def _exchange(
        self, block: bytes, *, awaiting: int, meanwhile: Callable[[], None] = nothing, receiving: bool = False
    ) -> bytes:
        """Send ``block`` until its valid counterpart arrives (§7.5.4), and toggle the block number.

        ``awaiting`` is the kind of block that goes on; ``receiving`` says that the card is chaining.
        """
        frame_wait_us = self._ats.frame_wait_us
        outgoing, wait_us, failures = block, frame_wait_us, 0
        failure: CardError | None = None
        while True:
            self._check_deadline(failure)
            try:
                answer = self._link(
                    outgoing, wait_us=wait_us, deadline_ns=self._deadline_ns, meanwhile=meanwhile
                )
            except NoAnswer:
                failure = CardGone("no answer to a block")
                outgoing = self._repeat_request(receiving=receiving)
            except GarbledAnswer as error:
                failure = CardMisbehaves(ReadFault.PROTOCOL_ERROR, f"garbled answer: {error}")
                outgoing = self._repeat_request(receiving=receiving)
            else:
                if self._is_expected(answer, awaiting):
                    self._number ^= 1
                    return answer
                factor = _waiting_factor(answer)
                if factor:
                    self._count_wait()
                    outgoing, wait_us, meanwhile = bytes((_S_WTX, factor)), factor * frame_wait_us, nothing
                    continue
                failure = CardMisbehaves(ReadFault.PROTOCOL_ERROR, "a block against the protocol")
                # rule 6: an R(ACK) with the other number asks for the block again
                asks_again = not receiving and answer == bytes((_R_ACK | self._number ^ 1,))
                outgoing = block if asks_again else self._repeat_request(receiving=receiving)
            wait_us, meanwhile = frame_wait_us, nothing
            failures += 1
            if failures > self._limits.retries:
                raise failure

    def _is_expected(self, answer: bytes, awaiting: int) -> bool:
        if not answer:
            return False
        if awaiting == _R_ACK:
            return answer == bytes((_R_ACK | self._number,))
        return answer[0] & ~_CHAINED == _I_BLOCK | self._number

    def _repeat_request(self, *, receiving: bool) -> bytes:
        """Rule 4: R(NAK); rule 5: R(ACK) while the card is chaining."""
        return self._acknowledgement() if receiving else bytes((_R_NAK | self._number,))

    def _count_wait(self) -> None:
        self._waits += 1
        if self._waits > self._limits.waits:
            raise CardMisbehaves(
                ReadFault.WAIT_LIMIT, f"more than {self._limits.waits} waiting-time extensions"
            )

    def _check_deadline(self, failure: CardError | None) -> None:
        if self._clock_ns() < self._deadline_ns:
            return
        if isinstance(failure, CardGone):
            raise failure
        raise CardMisbehaves(ReadFault.WAIT_LIMIT if self._waits else ReadFault.DEADLINE)


def _waiting_factor(answer: bytes) -> int:
    """WTXM of an S(WTX) request, 1 to 59 (§7.3), or 0 when ``answer`` is something else."""
    if len(answer) != 2 or answer[0] != _S_WTX:
        return 0
    return min(answer[1] & 0x3F, 59)
