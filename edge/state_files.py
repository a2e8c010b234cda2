"""The few file operations that state on disk is built from; tests put a failing disk in their place.

Every operation raises ``OSError``; the callers turn it into a ``StoreError`` that names the file.
A checked line is one line of text with its CRC-32 behind it, in hexadecimal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from pathlib import Path
from typing import Final

from pacs.errors import MalformedData, StoreError

_WRITE_BYTES = 256 * 1024
"""How much is copied at once: a thread that decides waits for no more."""
_SECTOR_BYTES: Final = 4_096
_LOST: Final = frozenset({errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA, errno.EREMOTEIO})


class StateFiles:
    """The real disk. Files are 0600 and directories 0700."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """A descriptor for reading and writing; with ``create`` the file must not exist."""
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        return os.open(path, flags, 0o600)

    def read(self, path: Path, offset: int = 0, size: int = -1) -> bytes:
        """``size`` bytes from ``offset`` on, all of them by default; fewer where the file ends."""
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return file.readall() if size < 0 else file.read(size) or b""

    def read_at(self, fd: int, size: int, offset: int) -> bytes:
        """``size`` bytes of an open file; fewer where it ends."""
        return os.pread(fd, size, offset)

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


def is_lost(error: OSError) -> bool:
    """Whether the disk said that it cannot give back what was written, so that trying again will not help for long."""
    return error.errno in _LOST


def read_around(files: StateFiles, path: Path) -> bytes:
    """The whole file, with zeroes in place of every sector that the disk cannot give back.

    Raises ``OSError`` for everything else, ``FileNotFoundError`` among it.
    """
    try:
        return files.read(path)
    except OSError as error:
        if not is_lost(error):
            raise
    size, data = path.stat().st_size, bytearray()
    while len(data) < size:
        wanted = min(_SECTOR_BYTES, size - len(data))
        try:
            sector = files.read(path, len(data), wanted)
        except OSError as error:
            if not is_lost(error):
                raise
            sector = b""
        data += sector.ljust(wanted, b"\0")
    return bytes(data)


def store_error(error: OSError, path: Path) -> StoreError:
    """Says which file, ``path`` when the error does not know, why, and what to do."""
    return StoreError(f"{error.filename or path}: {error.strerror or error}; check the disk")


def checked_line(text: str) -> bytes:
    """The line with its check; ``text`` has no line end."""
    return f"{text} {zlib.crc32(text.encode()):08x}\n".encode()


def text_of(line: bytes) -> str:
    """The text of a checked line; raises ``MalformedData`` when it is not exactly one, undamaged."""
    text, _, _ = line.decode("utf-8", "replace").rpartition(" ")
    if checked_line(text) != line:
        raise MalformedData("a line does not pass its check")
    return text


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
