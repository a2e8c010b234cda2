"""One hash chain on disk: the segments of one journal id, in a directory named ``<ordinal>.<journal id>``.

``begin_chain`` and ``begin_segment`` make them; ``edge.chain_inspection`` reads what was there before.
"""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from collections.abc import Iterable
from pathlib import Path

from edge import segments
from edge.segments import SegmentHeader
from edge.state_files import StateFiles
from pacs.errors import MalformedData
from pacs.events import Event, EventDraft, genesis
from pacs.identifiers import ControllerId, JournalId

SUFFIX = ".segment"
PART = ".part"
"""Of what is not complete yet; removed at the next start."""


class Segment:
    """Consecutive records in one file; a file with damage in its midst holds several.

    ``offsets``: where each record begins, and last where the next one will.
    """

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

    def without(self, first: int, last: int) -> list[Segment]:
        """The records before and behind these; the one behind is there also when it is empty."""
        place, behind = first - self.first_sequence, last + 1 - self.first_sequence
        parts = [Segment(self.path, last + 1, self.offsets[behind:])]
        if place:
            parts.insert(0, Segment(self.path, self.first_sequence, self.offsets[: place + 1]))
        return parts


class Chain:
    """The segments of one journal id, oldest first; never without one. Between two, events may be lost.

    ``acknowledged``: the hub has stored everything up to there that was not given up. ``given_up``: to make room, up to
    there. ``durable_through``: what no power cut can take. ``readable_through``: what the hub may be sent. ``read_through``: what the hub may have: found on the disk, or read
    since. ``damaged``: files with records that cannot be read.
    """

    def __init__(
        self, directory: Path, parts: tuple[Segment, ...], last_hash: bytes, acknowledged: int
    ) -> None:
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
                first = from_sequence - segment.first_sequence
                limit = segment.offsets[first] + max_bytes
                while last > from_sequence and segment.offsets[last - segment.first_sequence + 1] > limit:
                    last -= 1
                events = segment.read(from_sequence, last)
                if from_sequence <= self._unread(self.read_through):
                    self.read_through = max(self.read_through, last)
                return events
        return []

    def skip_damage(self, sequence: int) -> tuple[int, int] | None:
        """Let go of the first records from there on, in the same segment, that do not pass their check.

        Returns the first and the last of them; None when there is none. Raises ``OSError``.
        """
        for place, segment in enumerate(self.segments):
            if segment.first_sequence <= sequence <= segment.last_sequence:
                candidates = range(sequence, segment.last_sequence + 1)
                first = next((at for at in candidates if not segment.is_sound(at)), None)
                if first is None:
                    return None
                last = first
                while last < segment.last_sequence and not segment.is_sound(last + 1):
                    last += 1
                # another thread may be reading: parts are replaced, not changed
                parts = segment.without(first, last)
                self.segments = (*self.segments[:place], *parts, *self.segments[place + 1 :])
                self.damaged.add(segment.path)
                return first, last
        return None

    def drafts(self, first: int) -> list[EventDraft]:
        """Every event from there on that can be read. Raises ``OSError``."""
        drafts = []
        for segment in self.segments:
            for sequence in range(max(first, segment.first_sequence), segment.last_sequence + 1):
                with contextlib.suppress(MalformedData):
                    drafts += [Event.from_bytes(data).draft for data in segment.read(sequence, sequence)]
        return drafts


def size_of(parts: Iterable[Segment]) -> int:
    """Bytes of the files these are in."""
    return sum({segment.path: segment.size for segment in parts}.values())


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
