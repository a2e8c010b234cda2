"""The journal's file format: a segment is a header and records; all numbers are big-endian.

::

    header   8  "DREMPEL" 01
            16  journal id
             8  sequence of the first record
            32  hash before the first record
             4  CRC-32 of the 64 bytes before
    record   4  length of the event
             4  CRC-32 of sequence (8), length (4) and event
             n  event

A record's sequence is its place, and its check covers it: a record that was moved does not fit.
"""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from dataclasses import dataclass
from typing import Self

from pacs.errors import MalformedData
from pacs.events import MAX_EVENT_BYTES
from pacs.identifiers import JournalId

MAGIC = b"DREMPEL\x01"
HEADER_BYTES = 68
RECORD_OVERHEAD = 8
SHORTEST_RECORD = RECORD_OVERHEAD + 1
MAX_TRIES = 50_000
"""Checks made in search of the next whole record behind a damaged one; then the rest of the segment is given up."""

_HEADER = struct.Struct(">8s16sQ32s")
_CHECK = struct.Struct(">I")
_RECORD = struct.Struct(">II")
_LENGTH = re.compile(rb"\0\0(?!\0\0)")
"""How the length of an event begins."""
_PLACE = struct.Struct(">QI")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """What the records of one segment continue."""

    journal_id: JournalId
    first_sequence: int
    previous_hash: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the first ``HEADER_BYTES`` of a segment; raises ``MalformedData``."""
        if len(data) < HEADER_BYTES:
            raise MalformedData("journal segment: header incomplete")
        magic, journal_id, first_sequence, previous_hash = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise MalformedData("journal segment: not a segment of this version")
        if _CHECK.unpack_from(data, _HEADER.size)[0] != zlib.crc32(data[: _HEADER.size]):
            raise MalformedData("journal segment: header damaged")
        return cls(
            journal_id=JournalId(journal_id.hex()), first_sequence=first_sequence, previous_hash=previous_hash
        )

    def __bytes__(self) -> bytes:
        data = _HEADER.pack(MAGIC, bytes.fromhex(self.journal_id), self.first_sequence, self.previous_hash)
        return data + _CHECK.pack(zlib.crc32(data))


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive records that pass their check.

    ``offsets``: where each begins, and last where the record behind them would.
    """

    first_sequence: int
    offsets: array[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What a segment's records look like.

    ``runs``: never none, only the first may be empty; between two, records are damaged. ``unreadable_bytes``: after
    the last run.
    """

    runs: tuple[Run, ...]
    unreadable_bytes: int


def record(sequence: int, event: bytes) -> bytes:
    """The record of one event of 1 to ``MAX_EVENT_BYTES`` bytes."""
    return _RECORD.pack(len(event), _check(sequence, event)) + event


def event_of(sequence: int, data: bytes) -> bytes:
    """The event in one record; raises ``MalformedData`` when it does not pass its check."""
    event = data[RECORD_OVERHEAD:]
    if not event or _RECORD.unpack_from(data) != (len(event), _check(sequence, event)):
        raise MalformedData(f"journal: record {sequence} is damaged")
    return event


def scan(data: bytes, first_sequence: int) -> Scan:
    """Find the records after the header; work is bounded by the segment's size and ``MAX_TRIES``."""
    runs = [Run(first_sequence, array("I", [HEADER_BYTES]))]
    sequence, offset = first_sequence, HEADER_BYTES
    while True:
        end = _end_of_record(data, offset)
        if end is not None and _fits(sequence, data, offset, end):
            runs[-1].offsets.append(end)
            sequence, offset = sequence + 1, end
            continue
        following = _next_record(data, offset, sequence)
        if following is None:
            return Scan(runs=tuple(runs), unreadable_bytes=max(0, len(data) - offset))
        sequence, offset = following
        runs.append(Run(sequence, array("I", [offset])))


def _next_record(data: bytes, damaged_at: int, damaged: int) -> tuple[int, int] | None:
    """Sequence and offset of the first whole record behind a damaged one, whose length may be wrong as well.

    A record's check covers its sequence, so that one is found together with its number.
    """
    tries = 0
    offset = damaged_at + SHORTEST_RECORD
    while tries < MAX_TRIES and (found := _LENGTH.search(data, offset)):
        offset = found.start()
        end = _end_of_record(data, offset)
        if end is not None:
            most_between = min((offset - damaged_at) // SHORTEST_RECORD, MAX_TRIES - tries)
            for sequence in range(damaged + 1, damaged + most_between + 1):
                if _fits(sequence, data, offset, end):
                    return sequence, offset
            tries += most_between
        offset += 1
    return None


def _fits(sequence: int, data: bytes, begin: int, end: int) -> bool:
    check: int = _CHECK.unpack_from(data, begin + _CHECK.size)[0]
    return check == _check(sequence, data[begin + RECORD_OVERHEAD : end])


def _end_of_record(data: bytes, offset: int) -> int | None:
    if offset + RECORD_OVERHEAD > len(data):
        return None
    length, _ = _RECORD.unpack_from(data, offset)
    end = offset + RECORD_OVERHEAD + int(length)
    return end if 0 < length <= MAX_EVENT_BYTES and end <= len(data) else None


def _check(sequence: int, event: bytes) -> int:
    return zlib.crc32(event, zlib.crc32(_PLACE.pack(sequence, len(event))))
