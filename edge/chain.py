"""One hash chain on disk: the segments of one journal id, in a directory named ``<ordinal>.<journal id>``.

``begin_chain`` and ``begin_segment`` make them; ``edge.chain_inspection`` reads what was there before.
"""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge import segments
from edge.segments import SegmentHeader
from edge.state_files import StateFiles, read_around
from pacs.errors import MalformedData
from pacs.events import Event, EventDraft, event_hash, genesis
from pacs.identifiers import ControllerId, JournalId

SUFFIX = ".segment"
PART = ".part"
"""Of what is not complete yet; removed at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unchecked:
    """What a segment has to be by those behind it, before anybody has looked at its records.

    ``last_hash``: of its last event, as the segment behind it says. ``size``: of the file.
    """

    last_sequence: int
    last_hash: bytes
    size: int


class Segment:
    """Consecutive records in one file; a file with damage in its midst holds several.

    ``offsets``: where each record begins, and last where the next one will; meaningless while ``unchecked``. No event of
    an unchecked segment is given to anybody: its records are checked first, all of them, once.
    """

    __slots__ = ("first_sequence", "offsets", "path", "unchecked")

    def __init__(
        self, path: Path, first_sequence: int, offsets: array[int], unchecked: Unchecked | None = None
    ) -> None:
        self.path = path
        self.first_sequence = first_sequence
        self.offsets = offsets
        self.unchecked = unchecked

    @property
    def last_sequence(self) -> int:
        """One before ``first_sequence`` when there is no record."""
        unchecked = self.unchecked  # another thread may be checking
        return unchecked.last_sequence if unchecked else self.first_sequence + len(self.offsets) - 2

    @property
    def size(self) -> int:
        """Bytes in use."""
        unchecked = self.unchecked
        return unchecked.size if unchecked else self.offsets[-1]

    def check(self, files: StateFiles) -> None:
        """Check every record, if nobody has.

        Raises ``OSError``, and ``MalformedData`` when one of them does not pass its check or they do not lead to the
        segment behind.
        """
        if not self.unchecked:
            return
        runs = self._whole_runs(files.read(self.path), self.unchecked)
        if len(runs) != 1 or runs[0].first_sequence != self.first_sequence:
            raise MalformedData(f"journal: {self.path.name} is damaged")
        if runs[0].last_sequence != self.last_sequence:
            raise MalformedData(f"journal: {self.path.name} is damaged")
        self.offsets = runs[0].offsets
        self.unchecked = None

    def read(self, files: StateFiles, first: int, last: int) -> list[bytes]:
        """The events from ``first`` to ``last``, both in this checked segment; none when ``last`` is before ``first``.

        Raises ``OSError``, and ``MalformedData`` when a record no longer passes its check.
        """
        if last < first:
            return []
        begin = self.offsets[first - self.first_sequence]
        end = self.offsets[last - self.first_sequence + 1]
        data = files.read(self.path, begin, end - begin)
        if len(data) != end - begin:
            raise MalformedData(f"journal: {self.path.name} is shorter than it was")
        return [
            segments.event_of(sequence, self._record(data, sequence, begin))
            for sequence in range(first, last + 1)
        ]

    def sound_parts(self, files: StateFiles) -> list[Segment]:
        """What can be relied on, each part of it checked, with one reading of the file; none when it is gone.

        Raises ``OSError`` when the disk is not at fault.
        """
        try:
            data = read_around(files, self.path)
        except FileNotFoundError:
            data = b""
        if self.unchecked:
            return self._whole_runs(data, self.unchecked)
        parts = list[Segment]()
        for sequence in range(self.first_sequence, self.last_sequence + 1):
            place = sequence - self.first_sequence
            try:
                segments.event_of(sequence, self._record(data, sequence))
            except MalformedData:
                continue
            if not parts or parts[-1].last_sequence != sequence - 1:
                parts.append(Segment(self.path, sequence, self.offsets[place : place + 1]))
            parts[-1].offsets.append(self.offsets[place + 1])
        return parts

    def _record(self, data: bytes, sequence: int, begin: int = 0) -> bytes:
        place = sequence - self.first_sequence
        return data[self.offsets[place] - begin : self.offsets[place + 1] - begin]

    def _whole_runs(self, data: bytes, expected: Unchecked) -> list[Segment]:
        """None when what is there does not lead to the segment behind."""
        parts = list[Segment]()
        for run in segments.scan(data, self.first_sequence).runs:
            offsets = run.offsets[: max(0, expected.last_sequence + 2 - run.first_sequence)]
            if len(offsets) > 1:
                parts.append(Segment(self.path, run.first_sequence, offsets))
        if parts and parts[-1].last_sequence == expected.last_sequence:
            begin, end = parts[-1].offsets[-2:]
            if event_hash(data[begin + segments.RECORD_OVERHEAD : end]) != expected.last_hash:
                return []
        return parts

    def without(self, first: int, last: int) -> list[Segment]:
        """The records before and behind these; the one behind is there also when it is empty."""
        place, behind = first - self.first_sequence, last + 1 - self.first_sequence
        parts = [Segment(self.path, last + 1, self.offsets[behind:])]
        if place:
            parts.insert(0, Segment(self.path, self.first_sequence, self.offsets[: place + 1]))
        return parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Events of a segment that can no longer be read: ``holes``, first and last of each, and the ``parts`` that can."""

    segment: Segment
    holes: tuple[tuple[int, int], ...]
    parts: tuple[Segment, ...]


class Chain:
    """The segments of one journal id, oldest first; never without one. Between two, events may be lost.

    ``acknowledged``: the hub has stored everything up to there that was not given up. ``given_up``: to make room, up to
    there. ``durable_through``: what no power cut can take. ``readable_through``: what the hub may be sent. ``read_through``: what the hub may have: found on the disk, or read
    since. ``damaged``: files with records that cannot be read.
    """

    def __init__(
        self,
        files: StateFiles,
        directory: Path,
        parts: tuple[Segment, ...],
        last_hash: bytes,
        acknowledged: int,
    ) -> None:
        self._files = files
        self.directory = directory
        self.journal_id = journal_id_of(directory)
        self.segments = parts
        self.last_hash = last_hash
        self.acknowledged = acknowledged
        self.given_up = 0
        self.damaged: set[Path] = set()
        self.durable_through = self.readable_through = self.read_through = self.last_sequence

    @property
    def first_sequence(self) -> int:
        """The oldest event that is held, or the one that will come first."""
        return self.segments[0].first_sequence

    @property
    def last_sequence(self) -> int:
        """The newest event; 0 when there never was one."""
        return self.segments[-1].last_sequence

    @property
    def released(self) -> int:
        """Up to there nothing is needed any more."""
        return max(self.acknowledged, self.given_up)

    def may_have_been_read(self, sequence: int) -> bool:
        """Whether the hub can have this event: False when one up to there is held that nobody has read."""
        return sequence <= self._unread(self.read_through) - 1

    def _unread(self, read_through: int) -> int:
        """The first event behind ``read_through`` that is not lost, or the one that will come next."""
        for segment in self.segments:
            if segment.last_sequence > read_through:
                return max(segment.first_sequence, read_through + 1)
        return self.last_sequence + 1

    def read(self, from_sequence: int, max_events: int, max_bytes: int) -> list[bytes]:
        """Consecutive events from ``from_sequence`` on, at least one if there is one; safe in any thread.

        Fewer than asked for where a segment ends. Raises ``OSError`` or ``MalformedData``.
        """
        parts, through = self.segments, self.readable_through
        for segment in parts:
            last = min(segment.last_sequence, through, from_sequence + max_events - 1)
            if segment.first_sequence <= from_sequence <= last:
                segment.check(self._files)
                first = from_sequence - segment.first_sequence
                limit = segment.offsets[first] + max_bytes
                while last > from_sequence and segment.offsets[last - segment.first_sequence + 1] > limit:
                    last -= 1
                events = segment.read(self._files, from_sequence, last)
                if from_sequence <= self._unread(self.read_through):
                    self.read_through = max(self.read_through, last)
                return events
        return []

    def segment_of(self, sequence: int) -> Segment | None:
        """Where this event is held; from any thread."""
        candidates = (each for each in self.segments if each.first_sequence <= sequence <= each.last_sequence)
        return next(candidates, None)

    def find_damage(self, segment: Segment) -> Damage | None:
        """Read the segment once and say what cannot be relied on; changes nothing; from any thread.

        Raises ``OSError`` when the disk is not at fault.
        """
        last_sequence = segment.last_sequence  # of a segment that grows, what is there at this moment
        parts = segment.sound_parts(self._files)
        holes, behind = [], segment.first_sequence
        for part in parts:
            if behind < part.first_sequence:
                holes.append((behind, part.first_sequence - 1))
            behind = part.last_sequence + 1
        if behind <= last_sequence:
            holes.append((behind, last_sequence))
        return Damage(segment=segment, holes=tuple(holes), parts=tuple(parts)) if holes else None

    def skip(self, damage: Damage) -> bool:
        """Let go of what is damaged; False when the segment is no longer what it was. Reads nothing."""
        if not any(segment is damage.segment for segment in self.segments):
            return False
        segment = damage.segment
        if segment.unchecked:
            parts = [
                *damage.parts,
                Segment(segment.path, segment.last_sequence + 1, array("I", [segment.size])),
            ]
        else:
            parts = [segment]
            for first, last in damage.holes:
                parts[-1:] = parts[-1].without(first, last)
        # another thread may be reading: parts are replaced, not changed
        place = next(place for place, each in enumerate(self.segments) if each is segment)
        self.segments = (*self.segments[:place], *parts, *self.segments[place + 1 :])
        self.damaged.add(segment.path)
        return True

    def drafts(self, first: int) -> list[EventDraft]:
        """Every event from there on that can be read. Raises ``OSError`` when the disk is not at fault."""
        drafts = list[EventDraft]()
        for segment in self.segments:
            if segment.last_sequence < first:
                continue
            for part in segment.sound_parts(self._files):
                with contextlib.suppress(MalformedData):
                    events = part.read(self._files, max(first, part.first_sequence), part.last_sequence)
                    drafts += [Event.from_bytes(data).draft for data in events]
        return drafts


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
    return Segment(path, header.first_sequence, array("I", [segments.HEADER_BYTES])), fd


def begin_chain(
    files: StateFiles,
    parent: Path,
    ordinal: int,
    controller_id: ControllerId,
    drafts: Sequence[EventDraft] = (),
) -> Chain:
    """A chain of these events under a journal id drawn here, durable. Raises ``OSError``.

    Its directory has its name only when it is complete.
    """
    journal_id = JournalId(os.urandom(16).hex())
    last_hash = genesis(controller_id, journal_id)
    final = parent / directory_name(ordinal, journal_id)
    partial = final.with_name(final.name + PART)
    files.make_directory(partial)
    header = SegmentHeader(journal_id=journal_id, first_sequence=1, previous_hash=last_hash)
    segment, fd = begin_segment(files, partial, header)
    records = bytearray()
    for sequence, draft in enumerate(drafts, 1):
        event = bytes(Event(sequence=sequence, previous_hash=last_hash, draft=draft))
        records += segments.record(sequence, event)
        segment.offsets.append(segments.HEADER_BYTES + len(records))
        last_hash = event_hash(event)
    try:
        if records and files.write_at(fd, bytes(records), segments.HEADER_BYTES) != len(records):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(segment.path))
        files.sync(fd)
    finally:
        os.close(fd)
    files.sync_directory(partial)
    files.rename(partial, final)
    files.sync_directory(parent)
    segment.path = final / segment.path.name
    return Chain(files, final, (segment,), last_hash, 0)


def first_sequence_of(path: Path) -> int:
    """What the segment's name says; 0 when it says nothing."""
    return int(path.stem) if path.stem.isdecimal() else 0


def segment_paths(directory: Path) -> list[Path]:
    """The segments, oldest first."""
    return sorted(path for path in directory.iterdir() if path.name.endswith(SUFFIX))
