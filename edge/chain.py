"""One hash chain on disk: the segments of one journal id, in a directory named ``<ordinal>.<journal id>``.

``begin_chain`` and ``begin_segment`` make them. ``inspect`` reads a directory and says what can be relied on and
what cannot; it changes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path

from edge import segments
from edge.segments import SegmentHeader
from edge.state_files import StateFiles
from pacs.errors import MalformedData
from pacs.events import Event, EventDraft, event_hash, genesis
from pacs.identifiers import ControllerId, JournalId

SUFFIX = ".segment"
PART = ".part"
"""Of what is not complete yet; removed at the next start."""


class Segment:
    """One file. ``offsets``: where each record begins, and last where the next one will."""

    __slots__ = ("first_sequence", "offsets", "path")

    def __init__(self, path: Path, first_sequence: int, offsets: array[int]) -> None:
        self.path = path
        self.first_sequence = first_sequence
        self.offsets = offsets

    @property
    def last_sequence(self) -> int:
        """One before ``first_sequence`` when there is no record."""
        return self.first_sequence + len(self.offsets) - 2

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self.offsets[-1]

    def read(self, first: int, last: int) -> list[bytes]:
        """The events from ``first`` to ``last``, both in this segment; none when ``last`` is before ``first``.

        Raises ``OSError``, and ``MalformedData`` when a record no longer passes its check.
        """
        if last < first:
            return []
        begin = self.offsets[first - self.first_sequence]
        end = self.offsets[last - self.first_sequence + 1]
        with self.path.open("rb", buffering=0) as file:
            file.seek(begin)
            data = file.read(end - begin)
        if len(data) != end - begin:
            raise MalformedData(f"journal: {self.path.name} is shorter than it was")
        events = []
        for sequence in range(first, last + 1):
            place = sequence - self.first_sequence
            raw = data[self.offsets[place] - begin : self.offsets[place + 1] - begin]
            events.append(segments.event_of(sequence, raw))
        return events

    def is_sound(self, sequence: int) -> bool:
        """Whether this event passes its check. Raises ``OSError``."""
        try:
            return bool(self.read(sequence, sequence))
        except MalformedData:
            return False


class Chain:
    """The segments of one journal id, oldest first; never without one.

    ``acknowledged``: the hub has stored everything up to there. ``readable_through``: what is durable.
    ``read_through``: what the hub may have: found on the disk, or read since.
    """

    def __init__(
        self, directory: Path, parts: tuple[Segment, ...], last_hash: bytes, acknowledged: int
    ) -> None:
        self.directory = directory
        self.journal_id = journal_id_of(directory)
        self.segments = parts
        self.last_hash = last_hash
        self.acknowledged = acknowledged
        self.readable_through = self.read_through = self.last_sequence

    @property
    def last_sequence(self) -> int:
        """The newest event; 0 when there never was one."""
        return self.segments[-1].last_sequence

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    def read(self, from_sequence: int, max_events: int, max_bytes: int) -> list[bytes]:
        """Consecutive events from ``from_sequence`` on, at least one if there is one; safe in any thread.

        Fewer than asked for where a segment ends. Raises ``OSError`` or ``MalformedData``.
        """
        parts, through = self.segments, self.readable_through
        for segment in parts:
            last = min(segment.last_sequence, through, from_sequence + max_events - 1)
            if segment.first_sequence <= from_sequence <= last:
                first = from_sequence - segment.first_sequence
                limit = segment.offsets[first] + max_bytes
                while last > from_sequence and segment.offsets[last - segment.first_sequence + 1] > limit:
                    last -= 1
                events = segment.read(from_sequence, last)
                if from_sequence <= self.read_through + 1:
                    self.read_through = max(self.read_through, last)
                return events
        return []

    def damaged_from(self, sequence: int) -> int | None:
        """The first event from there on, in the same segment, that does not pass its check. Raises ``OSError``."""
        for segment in self.segments:
            if segment.first_sequence <= sequence <= segment.last_sequence:
                candidates = range(sequence, segment.last_sequence + 1)
                return next((at for at in candidates if not segment.is_sound(at)), None)
        return None

    def drafts(self, first: int) -> list[EventDraft]:
        """Every event from there on that can be read. Raises ``OSError``."""
        drafts = []
        for segment in self.segments:
            for sequence in range(max(first, segment.first_sequence), segment.last_sequence + 1):
                with contextlib.suppress(MalformedData):
                    drafts += [Event.from_bytes(data).draft for data in segment.read(sequence, sequence)]
        return drafts

    def cut(self, sequence: int) -> list[Path]:
        """Forget this event and all behind it; returns the segments nothing is left of."""
        kept = [part for part in self.segments if part.first_sequence <= sequence]
        gone = [part.path for part in self.segments[len(kept) :]]
        last = kept[-1]
        # another thread may be reading: parts are replaced, not changed
        kept[-1] = Segment(last.path, last.first_sequence, last.offsets[: sequence - last.first_sequence + 1])
        self.segments = tuple(kept)
        self.readable_through = self.read_through = sequence - 1
        return gone


@dataclass(slots=True)
class Inspection:
    """What ``inspect`` found in a chain's directory.

    ``parts`` can be relied on up to ``last_sequence``; ``cut`` is the one that has to be cut there, and
    ``unusable`` are files of which nothing can be used. ``faults`` are sentences for a technician, and with
    one the chain cannot go on. ``torn``: they are no more than a last write that was not completed.
    """

    last_hash: bytes
    parts: list[Segment] = field(default_factory=list)
    cut: Segment | None = None
    unusable: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    torn: bool = False
    lost_at_least: int = 0

    @property
    def last_sequence(self) -> int:
        """0 when nothing can be relied on."""
        return self.parts[-1].last_sequence if self.parts else 0


def directory_name(ordinal: int, journal_id: JournalId) -> str:
    """Sorts by age."""
    return f"{ordinal:08d}.{journal_id}"


def journal_id_of(directory: Path) -> JournalId:
    """The id in a directory's name; raises ``MalformedData``."""
    return JournalId(directory.name.partition(".")[2])


def ordinal_of(directory: Path) -> int:
    """The place among the chains of this controller; raises ``MalformedData``."""
    number = directory.name.partition(".")[0]
    if not number.isdecimal():
        raise MalformedData("journal: directory name not known")
    return int(number)


def segment_name(first_sequence: int) -> str:
    """Sorts by age."""
    return f"{first_sequence:016d}{SUFFIX}"


def begin_segment(files: StateFiles, directory: Path, header: SegmentHeader) -> tuple[Segment, int]:
    """An empty segment with its descriptor, not yet durable. Raises ``OSError``; there is no file then."""
    path = directory / segment_name(header.first_sequence)
    with contextlib.suppress(FileNotFoundError):
        files.remove(path)
    fd = files.open(path, create=True)
    try:
        if files.write_at(fd, bytes(header), 0) != segments.HEADER_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            files.remove(path)
        raise
    return Segment(path, header.first_sequence, array("Q", [segments.HEADER_BYTES])), fd


def begin_chain(files: StateFiles, parent: Path, ordinal: int, controller_id: ControllerId) -> Chain:
    """A chain without events under a journal id drawn here, durable. Raises ``OSError``.

    Its directory has its name only when it is complete.
    """
    journal_id = JournalId(os.urandom(16).hex())
    previous_hash = genesis(controller_id, journal_id)
    final = parent / directory_name(ordinal, journal_id)
    partial = final.with_name(final.name + PART)
    files.make_directory(partial)
    header = SegmentHeader(journal_id=journal_id, first_sequence=1, previous_hash=previous_hash)
    segment, fd = begin_segment(files, partial, header)
    try:
        files.sync(fd)
    finally:
        os.close(fd)
    files.sync_directory(partial)
    files.rename(partial, final)
    files.sync_directory(parent)
    segment.path = final / segment.path.name
    return Chain(final, (segment,), previous_hash, 0)


def first_sequence_of(path: Path) -> int:
    """What the segment's name says; 0 when it says nothing."""
    return int(path.stem) if path.stem.isdecimal() else 0


def segment_paths(directory: Path) -> list[Path]:
    """The segments, oldest first."""
    return sorted(path for path in directory.iterdir() if path.name.endswith(SUFFIX))


def inspect(directory: Path, controller_id: ControllerId, acknowledged: int) -> Inspection:
    """Read every segment. Raises ``OSError``.

    A damaged record up to ``acknowledged`` is no fault when those after it are readable: the hub has it.
    """
    journal_id = journal_id_of(directory)
    found = Inspection(last_hash=genesis(controller_id, journal_id))
    paths = segment_paths(directory)
    while len(paths) > 1 and first_sequence_of(paths[1]) <= acknowledged + 1:
        found.unusable.append(paths.pop(0))  # removed before, but the removal did not last
    for path in paths:
        data = path.read_bytes()
        last = path == paths[-1]
        if found.parts and last and not data:
            found.unusable.append(path)  # begun, never used
            continue
        try:
            header = SegmentHeader.from_bytes(data)
            if header.journal_id != journal_id or path.name != segment_name(header.first_sequence):
                raise MalformedData("journal segment: belongs elsewhere")
        except MalformedData as error:
            found.torn = last and not found.faults and len(data) < segments.HEADER_BYTES
            found.faults.append(f"{path.name}: {error}")
            found.unusable.append(path)
            continue
        if found.faults or not _continues(found, header, acknowledged):
            found.faults.append(f"{path.name}: does not continue event {found.last_sequence}")
            found.unusable.append(path)
            found.lost_at_least += len(segments.scan(data, header.first_sequence).offsets) - 1
            continue
        _take_records(found, path, data, header, acknowledged, last=last)
    if not found.faults and (not found.parts or found.last_sequence < acknowledged):
        found.faults.append(f"{directory.name}: ends before event {acknowledged}, which the hub has")
    return found


def _continues(found: Inspection, header: SegmentHeader, acknowledged: int) -> bool:
    if not found.parts:
        return header.first_sequence <= acknowledged + 1
    return header.first_sequence == found.last_sequence + 1 and header.previous_hash == found.last_hash


def _take_records(
    found: Inspection, path: Path, data: bytes, header: SegmentHeader, acknowledged: int, *, last: bool
) -> None:
    scan = segments.scan(data, header.first_sequence)
    segment = Segment(path, header.first_sequence, scan.offsets)
    lost = [sequence for sequence in scan.damaged if sequence > acknowledged]
    if lost:
        found.faults.append(f"{path.name}: record {lost[0]} is damaged")
        found.lost_at_least += segment.last_sequence - lost[0] + 1
        del segment.offsets[lost[0] - header.first_sequence + 1 :]
    if scan.unreadable_bytes:
        found.torn = last and not found.faults
        found.faults.append(f"{path.name}: {scan.unreadable_bytes} unreadable bytes at its end")
    found.cut = segment if found.faults else None
    found.parts.append(segment)
    found.last_hash = header.previous_hash
    if segment.last_sequence >= header.first_sequence and segment.last_sequence not in scan.damaged:
        begin, end = segment.offsets[-2:]
        found.last_hash = event_hash(data[begin + segments.RECORD_OVERHEAD : end])
