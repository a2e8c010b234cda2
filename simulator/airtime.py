"""How long air, host link and card must take: pure functions, every result a lower bound.

Times in milliseconds, rates in kbit/s (106, 212, 424, 848), lengths in bytes. Constants of ISO/IEC 14443-2, -3 and -4.
Chip firmware and the operating system come on top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CARRIER_HZ = 13_560_000
RATES_KBPS = (106, 212, 424, 848)
FIELD_GUARD_MS = 5.0
"""Unmodulated field a card may need before its first command (ISO/IEC 14443-3 §5)."""
READER_DELAY_MS = 1172 / CARRIER_HZ * 1000
"""From a card's frame to the reader's next (ISO/IEC 14443-3 §6.2.1.2)."""
CARD_DELAY_MS = 1172 / CARRIER_HZ * 1000
"""From a reader's frame to the card's answer, at least."""
CARD_DELAY_LAST_ONE_MS = 1236 / CARRIER_HZ * 1000
"""The same when the last bit sent was a one; exact for REQA, anticollision and SELECT."""
FRAME_SIZES = (16, 24, 32, 40, 48, 64, 96, 128, 256)
"""FSC by FSCI and FSD by FSDI (ISO/IEC 14443-4 §5.1, §5.2.3)."""
BLOCK_OVERHEAD = 3
"""PCB and CRC of a block without CID and NAD."""
HSU_ACK_LENGTH = 6
FAST_SUBCARRIER_MS = 0.0378
"""Start of the subcarrier before a card's frame at 212 kbit/s and up (ISO/IEC 14443-2 §8.2.5)."""
RATS_LENGTH = 4
CASCADE_LEVELS = {4: 1, 7: 2, 10: 3}


def etu_ms(rate_kbps: int = 106) -> float:
    """One elementary time unit: 128 / (fc·D)."""
    return 128 / (CARRIER_HZ << RATES_KBPS.index(rate_kbps)) * 1000


def to_card_ms(length: int, rate_kbps: int = 106) -> float:
    """A reader's frame of ``length`` bytes, PCB and CRC included; nine bits a byte."""
    return (1 + 9 * length + 2) * etu_ms(rate_kbps)


def short_frame_ms() -> float:
    """REQA or WUPA."""
    return 10 * etu_ms()


def to_reader_ms(length: int, rate_kbps: int = 106) -> float:
    """A card's frame of ``length`` bytes, PCB and CRC included."""
    start = 0.0 if rate_kbps == 106 else FAST_SUBCARRIER_MS
    return start + (1 + 9 * length + 1) * etu_ms(rate_kbps)


def card_delay_ms(last_bit: int, computing_ms: float = 0.0) -> float:
    """From the end of a reader's frame, whose last bit on the air was ``last_bit``, to the answer's start."""
    return max(CARD_DELAY_LAST_ONE_MS if last_bit else CARD_DELAY_MS, computing_ms)


def _turn_ms(command: float, answer: float) -> float:
    return command + CARD_DELAY_MS + answer + READER_DELAY_MS


def selection_ms(uid_length: int) -> float:
    """REQA/ATQA, then anticollision and SELECT of each cascade level; ``uid_length`` is 4, 7 or 10."""
    cascade = _turn_ms(to_card_ms(2), to_reader_ms(5)) + _turn_ms(to_card_ms(9), to_reader_ms(3))
    return _turn_ms(short_frame_ms(), to_reader_ms(2)) + CASCADE_LEVELS[uid_length] * cascade


def rats_ms(ats_length: int) -> float:
    """RATS and an ATS of ``ats_length`` bytes (its CRC not counted in)."""
    return _turn_ms(to_card_ms(RATS_LENGTH), to_reader_ms(ats_length + 2))


def pps_ms() -> float:
    """A PPS and its answer."""
    return _turn_ms(to_card_ms(5), to_reader_ms(3))


def activation_ms(uid_length: int, *, ats_length: int = 8, pps: bool = False) -> float:
    """From REQA to a card ready for its first block; the field's guard time is not in it."""
    return selection_ms(uid_length) + rats_ms(ats_length) + (pps_ms() if pps else 0.0)


def blocks(length: int, frame_size: int = 256) -> tuple[int, ...]:
    """Length of each block's INF when ``length`` bytes are chained; at least one block."""
    limit = frame_size - BLOCK_OVERHEAD
    whole, rest = divmod(length, limit)
    return (limit,) * whole + ((rest,) if rest or not whole else ())


def waiting_extensions(computing_ms: float, fwt_ms: float) -> int:
    """How many S(WTX) a card asks for that computes longer than its frame waiting time."""
    return max(0, math.ceil(computing_ms / fwt_ms) - 1)


def fwt_ms(fwi: int) -> float:
    """Frame waiting time: 256·16/fc·2^FWI (ISO/IEC 14443-4 §7.2)."""
    return (4096 << fwi) / CARRIER_HZ * 1000


def apdu_ms(
    command_length: int,
    answer_length: int,
    *,
    fsc: int = 256,
    fsd: int = 256,
    to_card_kbps: int = 106,
    to_reader_kbps: int = 106,
    extensions: int = 0,
) -> float:
    """One APDU and its answer (status word counted in) over ISO-DEP, chained where it must be; computing not in it."""
    total = 0.0
    for sent, answered in _turns(blocks(command_length, fsc), blocks(answer_length, fsd), extensions):
        total += _turn_ms(
            to_card_ms(sent + BLOCK_OVERHEAD, to_card_kbps),
            to_reader_ms(answered + BLOCK_OVERHEAD, to_reader_kbps),
        )
    return total


def _turns(sent: Sequence[int], answered: Sequence[int], extensions: int) -> list[tuple[int, int]]:
    """INF lengths of each block and its answer: a chain's R(ACK) has none, an S(WTX) has one byte."""
    chain = [(inf, 0) for inf in sent[:-1]]
    if extensions:
        waits = [(sent[-1], 1)] + [(1, 1)] * (extensions - 1) + [(1, answered[0])]
    else:
        waits = [(sent[-1], answered[0])]
    return chain + waits + [(0, inf) for inf in answered[1:]]


# ------------------------------------------------------------------ the host link


def hsu_frame_length(payload: int) -> int:
    """Bytes of a host frame whose command code and data are ``payload`` bytes (1 to 264)."""
    return (8 if payload + 1 <= 255 else 11) + payload


def serial_ms(length: int, baud: int) -> float:
    """``length`` bytes on the serial line, ten bits each."""
    return length * 10_000 / baud


def chip_command_ms(command_data: int, answer_data: int, baud: int) -> float:
    """Serial time of one chip command: its frame, the ACK and the answer's frame; data without the codes."""
    length = hsu_frame_length(1 + command_data) + HSU_ACK_LENGTH + hsu_frame_length(1 + answer_data)
    return serial_ms(length, baud)


def communicate_thru_ms(sent: int, answered: int, baud: int) -> float:
    """Serial time of one InCommunicateThru of ``sent`` bytes (PCB counted, CRC not) with an answer; 25 + C + R bytes."""
    return chip_command_ms(sent, 1 + answered, baud)


def nfcpy_block_ms(sent: int, answered: int, baud: int) -> float:
    """Serial time of one ISO-DEP block the way nfcpy 1.0.4 sends it: four chip commands, 119 + C + R bytes."""
    registers = chip_command_ms(6, 3, baud) + chip_command_ms(9, 0, baud) + chip_command_ms(4, 0, baud)
    return registers + communicate_thru_ms(sent, answered, baud)


# ------------------------------------------------------------------ a whole tap


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """The least time a tap can take: milliseconds by phase, in order."""

    phases: dict[str, float]

    @property
    def total(self) -> float:
        """From the card entering the field to the last byte of its last answer at the host."""
        return sum(self.phases.values())


def tap_floor(
    exchanges: Sequence[tuple[bytes, bytes]],
    *,
    uid_length: int = 7,
    baud: int = 921_600,
    computing_ms: Sequence[float] = (),
    ats_length: int = 5,
    fsc: int = 256,
    fsd: int = 256,
    fwi: int = 8,
    guard_ms: float = FIELD_GUARD_MS,
    names: Sequence[str] = ("select", "certificate", "sign"),
) -> Floor:
    """The least time from field-enter to the host holding the last answer, of these very bytes.

    ``exchanges``: each command APDU with its answer, status word included; ``computing_ms``: the card's time for each
    (missing: none). Counted: the card's ``guard_ms``; selection by a poll already under way (REQA the moment the card
    can hear it) and its answer; one InCommunicateThru for RATS and one for each ISO-DEP block; computing. Phases:
    ``detect``, ``activate``, then ``names`` (further exchanges are ``exchange 4`` …).
    """
    listed = serial_ms(hsu_frame_length(1 + 6 + uid_length), baud)
    detect = guard_ms + selection_ms(uid_length) - READER_DELAY_MS + listed
    activate = rats_ms(ats_length) - READER_DELAY_MS + communicate_thru_ms(2, ats_length, baud)
    phases = {"detect": detect, "activate": activate}
    for index, (command, answer) in enumerate(exchanges):
        computing = computing_ms[index] if index < len(computing_ms) else 0.0
        name = names[index] if index < len(names) else f"exchange {index + 1}"
        extensions = waiting_extensions(computing, fwt_ms(fwi))
        turns = _turns(blocks(len(command), fsc), blocks(len(answer), fsd), extensions)
        # A card that computes does so instead of, not after, its least delay.
        spent = max(computing, (extensions + 1) * CARD_DELAY_MS) - (extensions + 1) * CARD_DELAY_MS
        for sent, answered in turns:
            spent += _turn_ms(to_card_ms(sent + BLOCK_OVERHEAD), to_reader_ms(answered + BLOCK_OVERHEAD))
            # The line is slower than the reader's least pause, which therefore costs nothing.
            spent += communicate_thru_ms(1 + sent, 1 + answered, baud) - READER_DELAY_MS
        phases[name] = spent
    return Floor(phases=phases)
