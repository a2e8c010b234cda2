"""The few file operations that state on disk is built from; tests put a failing disk in their place.

Every operation raises ``OSError``; the callers turn it into a ``StoreError`` that names the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from pacs.errors import StoreError

_WRITE_BYTES = 256 * 1024
"""How much is copied at once: a thread that decides waits for no more."""


class StateFiles:
    """The real disk. Files are 0600 and directories 0700."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """A descriptor for reading and writing; with ``create`` the file must not exist."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, 0o600)

    def write_at(self, fd: int, data: bytes, offset: int) -> int:
        """Write in one call; the number of bytes written may be less than asked for."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return once the file's content is durable."""
        os.fdatasync(fd)

    def sync_directory(self, path: Path) -> None:
        """Return once the names in this directory are durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def make_directory(self, path: Path) -> None:
        """Make the directory and its name durable; nothing when it is there."""
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self.sync_directory(path.parent)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its other name, replacing what has it."""
        source.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""
        path.rmdir()


def replace_file(files: StateFiles, path: Path, data: bytes) -> None:
    """Make ``path`` hold exactly ``data``, durably: after a crash it is the old content or the new.

    Raises ``OSError``; the old content then stays.
    """
    temporary = path.with_name(path.name + ".part")
    with contextlib.suppress(FileNotFoundError):
        files.remove(temporary)
    fd = files.open(temporary, create=True)
    try:
        written = 0
        while written < len(data):
            written += files.write_at(fd, data[written : written + _WRITE_BYTES], written)
        files.sync(fd)
    finally:
        os.close(fd)
    files.rename(temporary, path)
    files.sync_directory(path.parent)


def hold_lock(path: Path) -> int:
    """Hold ``path`` for this process until the descriptor is closed.

    Raises ``StoreError`` when another process holds it, ``OSError`` when it cannot be made.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise StoreError(f"{path}: another process has this journal; stop it first") from error
    except OSError:
        os.close(fd)
        raise
    return fd
