"""The file that takes new events. What was written is durable only after ``sync``."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from typing import Final

from edge.chain import Chain, Segment, begin_segment
from edge.segments import SegmentHeader
from edge.state_files import StateFiles

_COPIED_BYTES: Final = 64 * 1024


class SegmentWriter:
    """``write``, ``go_on`` and ``follow`` belong to one thread, ``make_durable`` and ``prepare`` to another; the caller guards
    what is said to be guarded. Every method raises ``OSError``.
    """

    def __init__(self, segment: Segment, files: StateFiles) -> None:
        """Open the segment and make durable what is in it."""
        self._files = files
        self._fd = files.open(segment.path)
        self._before: list[int] = []
        self._untidy = False
        self._failed = False
        self._begun = 0
        self._preparing: int | None = None
        try:
            files.sync(self._fd)
        except OSError:
            os.close(self._fd)
            raise

    def write(self, segment: Segment, record: bytes) -> None:
        """Append with one call: all of it, or nothing that a reader takes for a record. Guarded."""
        self._tidy(segment)
        try:
            if self._files.write_at(self._fd, record, segment.size) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(segment.path))
        except OSError:
            self._untidy = True
            with contextlib.suppress(OSError):
                self._tidy(segment)
            raise
        segment.offsets.append(segment.size + len(record))

    def go_on(self, chain: Chain) -> Segment:
        """Begin the chain's next segment and write there from here on. Guarded."""
        self._tidy(chain.segments[-1])
        self._begun += 1
        segment, fd = begin_segment(self._files, chain.directory, _next_header(chain))
        self._turn_to(fd)
        return segment

    def may_go_on(self, chain: Chain) -> bool:
        """Whether nobody is about to begin the very segment that ``go_on`` would; after one more event it is another. Guarded."""
        return self._preparing != chain.last_sequence + 1

    def prepare(self, chain: Chain, guard: threading.Lock) -> Segment | None:
        """Begin the chain's next segment ahead of its first event, durably, and write there from here on.

        None when an event came meanwhile, which is where it belongs. Waits for the disk, without the guard.
        """
        with guard:
            begun, last_sequence, header = self._begun, chain.last_sequence, _next_header(chain)
            self._preparing = header.first_sequence
        try:
            return self._prepared(chain, guard, header, (begun, last_sequence))
        finally:
            with guard:
                self._preparing = None

    def _prepared(
        self, chain: Chain, guard: threading.Lock, header: SegmentHeader, then: tuple[int, int]
    ) -> Segment | None:
        segment, fd = begin_segment(self._files, chain.directory, header)
        try:
            self._files.sync(fd)
            self._files.sync_directory(chain.directory)
            with guard:
                if (self._begun, chain.last_sequence) == then and not self._untidy:
                    chain.segments = (*chain.segments, segment)
                    self._turn_to(fd)
                    return segment
                in_use = any(each.path == segment.path for each in chain.segments)
        except OSError:
            os.close(fd)
            raise  # at the next start it is found to have been begun for nothing
        os.close(fd)
        if not in_use:
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(segment.path)
        return None

    def follow(self, segment: Segment) -> None:
        """Write into this segment, of another chain, from here on. Guarded."""
        fd = self._files.open(segment.path)
        self._begun += 1
        self._turn_to(fd)
        self._untidy = False

    def _turn_to(self, fd: int) -> None:
        self._before.append(self._fd)
        self._fd = fd

    def unsynced(self) -> tuple[int, ...]:
        """The descriptors that may hold what is not durable; the last one is still written to. Guarded."""
        return (*self._before, self._fd)

    def make_durable(self, fds: tuple[int, ...]) -> None:
        """Return once what ``unsynced`` gave is durable.

        After a failure the system may take for durable what it could not write: everything is written once more.
        """
        try:
            for fd in fds:
                if self._failed:
                    self._write_again(fd)
                self._files.sync(fd)
        except OSError:
            self._failed = True
            raise
        self._failed = False

    def _write_again(self, fd: int) -> None:
        offset = 0
        while data := self._files.read_at(fd, _COPIED_BYTES, offset):
            offset += self._files.write_at(fd, data, offset)

    def synced(self, fds: tuple[int, ...]) -> None:
        """What ``unsynced`` gave is durable: close those that are no longer written to. Guarded."""
        done = fds[:-1]
        del self._before[: len(done)]
        for fd in done:
            os.close(fd)

    def close(self) -> None:
        """Close every file."""
        for fd in self.unsynced():
            os.close(fd)

    def _tidy(self, segment: Segment) -> None:
        """Cut off what a failed write left."""
        if self._untidy:
            self._files.truncate(self._fd, segment.size)
            self._untidy = False


def _next_header(chain: Chain) -> SegmentHeader:
    return SegmentHeader(
        journal_id=chain.journal_id,
        first_sequence=chain.last_sequence + 1,
        previous_hash=chain.last_hash,
    )
