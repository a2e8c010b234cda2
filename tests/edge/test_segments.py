"""The journal's file format."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import segments
from edge.segments import SegmentHeader
from pacs.errors import MalformedData
from pacs.identifiers import JournalId


@given(st.binary(min_size=16, max_size=16), st.integers(1, 2**53), st.binary(min_size=32, max_size=32))
def test_header_round_trip(journal_id: bytes, sequence: int, previous_hash: bytes) -> None:
    """A header reads back as what was written."""
    header = SegmentHeader(
        journal_id=JournalId(journal_id.hex()), first_sequence=sequence, previous_hash=previous_hash
    )
    assert SegmentHeader.from_bytes(bytes(header)) == header


@given(st.binary(max_size=200), st.booleans())
def test_header_of_anything(data: bytes, begins_right: bool) -> None:
    """Bytes that are no header are refused by their own error only."""
    with suppress(MalformedData):
        SegmentHeader.from_bytes(segments.MAGIC + data if begins_right else data)


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.binary(max_size=60), st.integers(1, 2**40)
)
def test_scan(events: list[bytes], rest: bytes, first: int) -> None:
    """Every whole record is found, whatever follows, and is read back only at its own place."""
    records = [segments.record(first + place, event) for place, event in enumerate(events)]
    scan = segments.scan(bytes(segments.HEADER_BYTES) + b"".join(records) + rest, first)
    (run,) = scan.runs
    assert run.first_sequence == first
    assert run.offsets[-1] == segments.HEADER_BYTES + sum(map(len, records))
    assert scan.unreadable_bytes == len(rest)
    for place, (event, record) in enumerate(zip(events, records, strict=True)):
        assert segments.event_of(first + place, record) == event
        with pytest.raises(MalformedData):
            segments.event_of(first + place + 1, record)
