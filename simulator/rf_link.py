"""The ISO/IEC 14443 type A link: frames on the air, and a card which answers them.

A card is anything with ``power_off`` and ``receive``; ``IsoDepCard`` is one with an APDU handler behind it. Nothing here
waits: an answer says how long the card computes, the reader's side turns that into time.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol, Self

from simulator import airtime
from simulator.iso_dep_card import Block, BlockLayer, Handler

REQA = 0x26
WUPA = 0x52
HLTA = b"\x50\x00"
CASCADE_TAG = 0x88
CASCADE = (0x93, 0x95, 0x97)
ISO_DEP_SAK = 0x20
CASCADE_SAK = 0x04
DEFAULT_UID = bytes.fromhex("04c0ffee123456")


@dataclass(frozen=True, slots=True, kw_only=True)
class AirFrame:
    """What a reader sends: ``data`` with its CRC if it has one; ``last_bits`` of the last byte, 0 for all eight."""

    data: bytes
    last_bits: int = 0
    rate_kbps: int = 106

    @property
    def last_bit(self) -> int:
        """The last bit on the air: of a short frame its last data bit, else the odd parity of the last byte."""
        if self.last_bits:
            return self.data[-1] >> (self.last_bits - 1) & 1
        return (self.data[-1].bit_count() + 1) & 1

    @property
    def air_ms(self) -> float:
        """How long it takes to send."""
        if self.last_bits and len(self.data) == 1:
            return airtime.short_frame_ms()
        return airtime.to_card_ms(len(self.data), self.rate_kbps)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredApdu:
    """An APDU and the answer whose last block just left the card; ``number`` counts from 1 at each power-up."""

    number: int
    command: bytes
    answer: bytes
    computing_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a card sends, CRC included where there is one, after computing ``computing_ms``.

    ``status`` other than 0 is an error (PN532 user manual §7.1) that the receiver finds instead of these bytes. ``apdu``
    is set when this frame ends the answer to it.
    """

    data: bytes
    computing_ms: float = 0.0
    status: int = 0
    rate_kbps: int = 106
    apdu: AnsweredApdu | None = None

    @property
    def air_ms(self) -> float:
        """How long it takes to send."""
        return airtime.to_reader_ms(len(self.data), self.rate_kbps)


class Card(Protocol):
    """What may lie in the field."""

    def power_off(self) -> None:
        """The field is gone: everything volatile is forgotten."""

    def receive(self, frame: AirFrame) -> Answer | None:
        """One frame of the reader; None: the card stays silent."""


_REVERSED = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


def crc_a(data: bytes) -> bytes:
    """CRC_A of ``data`` in the order it is sent (ISO/IEC 14443-3 annex B): bits enter least significant first."""
    register = binascii.crc_hqx(data.translate(_REVERSED), 0xC6C6)
    return register.to_bytes(2, "big").translate(_REVERSED)


def with_crc(data: bytes) -> bytes:
    """``data`` and its CRC_A."""
    return data + crc_a(data)


def check_crc(data: bytes) -> bytes | None:
    """``data`` without its CRC_A; None when it is wrong."""
    return data[:-2] if len(data) > 2 and crc_a(data[:-2]) == data[-2:] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerToSelect:
    """An ATS (ISO/IEC 14443-4 §5.2): frame size, rates, waiting time; no CID, no NAD.

    ``fsci`` 0 to 8; ``fwi`` 0 to 14; ``sfgi`` 0 to 14; ``ta1`` 0x33 allows 212 and 424 kbit/s both ways.
    Raises ValueError outside these ranges.
    """

    fsci: int = 8
    ta1: int = 0x33
    fwi: int = 8
    sfgi: int = 0
    historical: bytes = b""

    def __post_init__(self) -> None:
        if not (0 <= self.fsci <= 8 and 0 <= self.fwi <= 14 and 0 <= self.sfgi <= 14):
            raise ValueError("FSCI is 0 to 8, FWI and SFGI are 0 to 14")

    def __bytes__(self) -> bytes:
        body = bytes([0x70 | self.fsci, self.ta1, self.fwi << 4 | self.sfgi, 0x00]) + self.historical
        return bytes([len(body) + 1]) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what ``bytes()`` gave. Raises ValueError."""
        if len(data) < 5 or data[0] != len(data) or data[1] & 0xF0 != 0x70 or data[4]:
            raise ValueError("an ATS of the simulator has TA(1), TB(1) and TC(1) = 0")
        fsci, fwi, sfgi = data[1] & 0x0F, data[3] >> 4, data[3] & 0x0F
        return cls(fsci=fsci, ta1=data[2], fwi=fwi, sfgi=sfgi, historical=data[5:])


class _State(Enum):
    """States of ISO/IEC 14443-3 §6.3; PROTOCOL is -4's."""

    IDLE = auto()
    READY = auto()
    ACTIVE = auto()
    PROTOCOL = auto()
    HALT = auto()


@dataclass(slots=True, kw_only=True)
class _Session:
    """What a card forgets without power."""

    state: _State = _State.IDLE
    level: int = 0
    blocks: BlockLayer | None = None
    pps_allowed: bool = False
    to_card_kbps: int = 106
    to_reader_kbps: int = 106
    apdus: int = 0


class IsoDepCard:
    """A type A card speaking ISO/IEC 14443-4 to ``handler``.

    ``uid``: 4, 7 or 10 bytes. ``raw_ats`` is sent instead of ``ats``, whatever it says.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        uid: bytes = DEFAULT_UID,
        ats: AnswerToSelect | None = None,
        raw_ats: bytes | None = None,
    ) -> None:
        if len(uid) not in airtime.CASCADE_LEVELS:
            raise ValueError(f"a UID has 4, 7 or 10 bytes, not {len(uid)}")
        self.uid = uid
        self.ats = ats or AnswerToSelect()
        self._handler = handler
        self._raw_ats = bytes(self.ats) if raw_ats is None else raw_ats
        self._levels = _cascade(uid)
        self._session = _Session()

    @property
    def in_protocol(self) -> bool:
        """Whether RATS has been answered, so that frames are blocks."""
        return self._session.state is _State.PROTOCOL

    def power_off(self) -> None:
        """Forget selection, block numbers and whatever the handler holds for this session."""
        self._session = _Session()
        self._handler.reset()

    def receive(self, frame: AirFrame) -> Answer | None:
        """Answer by ISO/IEC 14443-3 until RATS, by -4 after it."""
        session = self._session
        if frame.rate_kbps != session.to_card_kbps:
            return None
        if frame.last_bits:
            return self._short(frame)
        match session.state:
            case _State.READY:
                return self._select(frame.data)
            case _State.ACTIVE:
                return self._activate(frame.data)
            case _State.PROTOCOL:
                return self._block(frame.data)
        return None

    def _short(self, frame: AirFrame) -> Answer | None:
        session, value = self._session, frame.data[0] & 0x7F
        if session.state is _State.PROTOCOL or len(frame.data) != 1 or frame.last_bits != 7:
            return None
        woken = value == WUPA or (value == REQA and session.state is _State.IDLE)
        if session.state in (_State.IDLE, _State.HALT):
            if not woken:
                return None
            session.state, session.level = _State.READY, 0
            return Answer(data=bytes([(len(self._levels) - 1) << 6 | 0x04, 0x03]))
        session.state = _State.IDLE
        return None

    def _select(self, data: bytes) -> Answer | None:
        session = self._session
        part = self._levels[session.level]
        if data == bytes([CASCADE[session.level], 0x20]):
            return Answer(data=part)
        if data == with_crc(bytes([CASCADE[session.level], 0x70]) + part):
            session.level += 1
            if session.level < len(self._levels):
                return Answer(data=with_crc(bytes([ISO_DEP_SAK | CASCADE_SAK])))
            session.state = _State.ACTIVE
            return Answer(data=with_crc(bytes([ISO_DEP_SAK])))
        session.state = _State.IDLE
        return None

    def _activate(self, data: bytes) -> Answer | None:
        session, command = self._session, check_crc(data)
        if command == HLTA:
            session.state = _State.HALT
        elif command is not None and len(command) == 2 and command[0] == 0xE0:
            frame_size = airtime.FRAME_SIZES[min(command[1] >> 4, len(airtime.FRAME_SIZES) - 1)]
            session.blocks = BlockLayer(self._handler, fsd=frame_size, fwt_ms=airtime.fwt_ms(self.ats.fwi))
            session.state, session.pps_allowed = _State.PROTOCOL, True
            return Answer(data=with_crc(self._raw_ats))
        else:
            session.state = _State.IDLE
        return None

    def _block(self, data: bytes) -> Answer | None:
        session, block = self._session, check_crc(data)
        if block is None or session.blocks is None:
            return None
        if session.pps_allowed and block[0] & 0xF0 == 0xD0:
            return self._pps(block)
        session.pps_allowed = False
        answered = session.blocks.receive(block)
        if answered is None:
            return None
        if answered.deselected:
            session.state = _State.HALT
        return self._send(answered)

    def _pps(self, block: bytes) -> Answer | None:
        """PPS (ISO/IEC 14443-4 §5.3): the answer still goes at the old rate."""
        session, pps1 = self._session, block[2] if len(block) == 3 else 0x00
        to_reader, to_card = pps1 >> 2 & 3, pps1 & 3
        session.pps_allowed = False
        if len(block) not in (2, 3) or block[0] & 0x0F or not self._allows(to_card, to_reader):
            return None
        answer = Answer(data=with_crc(block[:1]), rate_kbps=session.to_reader_kbps)
        session.to_card_kbps = airtime.RATES_KBPS[to_card]
        session.to_reader_kbps = airtime.RATES_KBPS[to_reader]
        return answer

    def _allows(self, to_card: int, to_reader: int) -> bool:
        """Whether TA(1) offers these divisors (0: 106 kbit/s, always)."""
        ta1 = self.ats.ta1
        return (not to_card or bool(ta1 & 1 << (to_card - 1))) and (
            not to_reader or bool(ta1 & 0x10 << (to_reader - 1))
        )

    def _send(self, block: Block) -> Answer:
        session, apdu = self._session, None
        if block.ended is not None:
            session.apdus += 1
            command, answer, computing_ms = block.ended
            apdu = AnsweredApdu(
                number=session.apdus, command=command, answer=answer, computing_ms=computing_ms
            )
        return Answer(
            data=with_crc(block.data),
            computing_ms=block.computing_ms,
            rate_kbps=session.to_reader_kbps,
            apdu=apdu,
        )


def _cascade(uid: bytes) -> list[bytes]:
    """What each cascade level sends: four bytes and their exclusive-or (ISO/IEC 14443-3 §6.5.4)."""
    levels = []
    rest = uid
    while rest:
        part, rest = (rest, b"") if len(rest) == 4 else (bytes([CASCADE_TAG]) + rest[:3], rest[3:])
        levels.append(part + bytes([part[0] ^ part[1] ^ part[2] ^ part[3]]))
    return levels
