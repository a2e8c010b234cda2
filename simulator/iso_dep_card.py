"""The card's half of the ISO/IEC 14443-4 block protocol: chaining both ways, retransmission, waiting time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from simulator import airtime

I_BLOCK = 0x02
R_ACK = 0xA2
R_NAK = 0xB2
S_DESELECT = 0xC2
S_WTX = 0xF2
CHAINING = 0x10
LONGEST_COMMAND = 66_000
"""More than an extended APDU can be; a longer chain is not answered."""


class Handler(Protocol):
    """The application on a card: APDUs in, answers out."""

    def answer(self, command: bytes) -> bytes:
        """The answer to a command APDU, status word included; never raises for what a reader sends."""

    def computing_ms(self, command: bytes) -> float:
        """How long the card computes for this command; asked before ``answer``."""

    def reset(self) -> None:
        """The field is gone: forget the selected application and every unfinished step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block to send after computing; ``ended`` is (command, answer, computing time in ms) with an answer's last block."""

    data: bytes
    computing_ms: float = 0.0
    ended: tuple[bytes, bytes, float] | None = None
    deselected: bool = False


class BlockLayer:
    """Blocks of one session, without CID and NAD; a block against the rules stays unanswered (§7.5.4)."""

    def __init__(self, handler: Handler, *, fsd: int, fwt_ms: float) -> None:
        self._handler = handler
        self._limit = fsd - airtime.BLOCK_OVERHEAD
        self._fwt_ms = fwt_ms
        self._number = 1
        self._command = bytearray()
        self._parts: list[Block] = []
        self._waits: list[Block] = []
        self._last: Block | None = None

    def receive(self, block: bytes) -> Block | None:
        """The answer to a block whose CRC was right; None: silence."""
        pcb = block[0]
        if pcb & 0xEE == I_BLOCK:
            answer = self._information(block)
        elif pcb & 0xEE == R_ACK & 0xEE and len(block) == 1:
            answer = self._receive_ready(pcb)
        elif pcb == S_WTX and len(block) == 2:
            answer = self._waits.pop(0) if self._waits else None
        elif pcb == S_DESELECT and len(block) == 1:
            answer = Block(data=block, deselected=True)
        else:
            answer = None
        if answer is not None:
            self._last = replace(answer, computing_ms=0.0)
        return answer

    def _information(self, block: bytes) -> Block | None:
        self._number ^= 1  # rule D
        self._parts.clear()
        self._waits.clear()
        self._command += block[1:]
        if len(self._command) > LONGEST_COMMAND:
            self._command.clear()
            return None
        if block[0] & CHAINING:
            return Block(data=bytes([R_ACK | self._number]))  # rule 2
        command = bytes(self._command)
        self._command.clear()
        return self._compute(command)

    def _compute(self, command: bytes) -> Block:
        """Ask the application; the waits it needs come first (§7.3)."""
        computing_ms = self._handler.computing_ms(command)
        answer = self._handler.answer(command)
        starts = range(0, max(1, len(answer)), self._limit)
        pieces = [answer[start : start + self._limit] for start in starts]
        self._parts = [Block(data=bytes([I_BLOCK | CHAINING]) + piece) for piece in pieces[:-1]]
        self._parts.append(
            Block(data=bytes([I_BLOCK]) + pieces[-1], ended=(command, answer, computing_ms)),
        )
        extensions = airtime.waiting_extensions(computing_ms, self._fwt_ms)
        slice_ms = computing_ms / (extensions + 1)
        first = replace(self._next_part(), computing_ms=slice_ms)
        queue = [Block(data=bytes([S_WTX, 1]), computing_ms=slice_ms) for _ in range(extensions)]
        queue.append(first)
        self._waits = queue[1:]
        return queue[0]

    def _receive_ready(self, pcb: int) -> Block | None:
        if pcb & 1 == self._number:
            return self._last  # rule 11
        if pcb & 0xF0 == R_NAK & 0xF0:
            return Block(data=bytes([R_ACK | self._number]))  # rule 12
        if not self._parts:
            return None
        self._number ^= 1  # rule E
        return self._next_part()  # rule 13

    def _next_part(self) -> Block:
        part = self._parts.pop(0)
        return replace(part, data=bytes([part.data[0] | self._number]) + part.data[1:])
