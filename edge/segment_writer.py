"""The file that takes new events. What was written is durable only after ``sync``."""

from __future__ import annotations

import contextlib
import errno
import os

from edge.chain import Chain, Segment, begin_segment
from edge.segments import SegmentHeader
from edge.state_files import StateFiles


class SegmentWriter:
    """``write``, ``follow`` and ``go_on`` belong to one thread; the caller guards them against ``unsynced``.

    Every method raises ``OSError``; nothing was written then.
    """

    def __init__(self, segment: Segment, files: StateFiles) -> None:
        """Open the segment and make durable what is in it."""
        self._files = files
        self._fd = files.open(segment.path)
        self._before: list[int] = []
        self._untidy = False
        try:
            files.sync(self._fd)
        except OSError:
            os.close(self._fd)
            raise

    def write(self, segment: Segment, record: bytes) -> None:
        """Append with one call: all of it or nothing."""
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
        """Begin the chain's next segment and write there from here on."""
        self._tidy(chain.segments[-1])
        header = SegmentHeader(
            journal_id=chain.journal_id,
            first_sequence=chain.last_sequence + 1,
            previous_hash=chain.last_hash,
        )
        segment, fd = begin_segment(self._files, chain.directory, header)
        self._before.append(self._fd)
        self._fd = fd
        return segment

    def follow(self, segment: Segment) -> None:
        """Write into this segment, of another chain, from here on."""
        fd = self._files.open(segment.path)
        self._before.append(self._fd)
        self._fd = fd
        self._untidy = False

    def unsynced(self) -> tuple[int, ...]:
        """The descriptors that may hold what is not durable; the last one is still written to."""
        return (*self._before, self._fd)

    def synced(self, fds: tuple[int, ...]) -> None:
        """What ``unsynced`` gave is durable: close those that are no longer written to."""
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
