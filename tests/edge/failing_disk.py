"""A disk that refuses to write: full, read-only, broken, from any operation on; or that cannot give back what it has."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from edge.state_files import StateFiles


class FailingFiles(StateFiles):
    """``failure``: the error of every writing operation while it is set; ``room``: bytes until the disk is full.

    ``unreadable``: by the name of a file, the first and the last of its bytes that cannot be read. ``stuck``: names of
    files that cannot be removed. ``made``, ``read_files``: names of the files that were made, and read, in order.
    ``fails_from``: the number of the writing operation from which on ``failure`` is met.
    """

    def __init__(self, *, failure: int | None = None, fails_from: int | None = None) -> None:
        self.failure = failure if fails_from is None else None
        self.sync_failure: int | None = None
        self.room: int | None = None
        self.operations = 0
        self.unreadable: dict[str, tuple[int, int]] = {}
        self.stuck: set[str] = set()
        self.made: list[str] = []
        self.read_files: list[str] = []
        self._later, self._fails_from = failure, fails_from

    def open(self, path: Path, *, create: bool = False) -> int:
        if create or self.failure == errno.EROFS:
            self._fail(path)
        if create:
            self.made.append(path.name)
        return super().open(path, create=create)

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        self.read_files.append(path.name)
        data = super().read(path, offset, size)
        first, last = self.unreadable.get(path.name, (0, -1))
        if first < offset + len(data) and last >= offset:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return data

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        self._fail()
        if self.room is not None:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            data = data[: self.room]
            self.room -= len(data)
        return super().write_at(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        if self._is_read_only:
            self._fail()
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        if self.sync_failure:
            raise OSError(self.sync_failure, os.strerror(self.sync_failure))
        os.fstat(fd)

    def sync_directory(self, path: Path) -> None:
        assert path.is_dir()

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            self._fail(path)
        super().make_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._fail(source)
        super().rename(source, target)

    def remove(self, path: Path) -> None:
        if path.exists() and self._is_read_only:
            self._fail(path)
        if path.name in self.stuck:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        super().remove(path)

    def remove_directory(self, path: Path) -> None:
        if self._is_read_only:
            self._fail(path)
        super().remove_directory(path)

    @property
    def _is_read_only(self) -> bool:
        return errno.EROFS in (self.failure, self._later)

    def _fail(self, path: Path | None = None) -> None:
        self.operations += 1
        if self._fails_from is not None and self.operations > self._fails_from:
            self.failure = self._later
        if self.failure:
            raise OSError(self.failure, os.strerror(self.failure), path and str(path))
