"""Unpack a release's archive. Its bytes are proven before; what it may contain is held here all the same."""

from __future__ import annotations

import re
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from pacs.errors import MalformedData

_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]*|\.[A-Za-z0-9_-]+", re.ASCII)
"""Of a name: nothing that a shell, a terminal or a path would take for something else."""
_MAX_MEMBERS: Final = 20_000
_CHUNK_BYTES: Final = 1024 * 1024


def unpack(archive: Path, directory: Path, *, unpacked_bytes: int) -> None:
    """Write the files of a gzip-compressed tar archive below ``directory``, which is there and empty.

    Only plain files and directories with relative names; modes 0644, or 0755 where the owner may execute. No link, no
    device, no owner is taken over. Raises ``MalformedData`` for anything else, for a damaged archive, and when its
    files do not hold exactly ``unpacked_bytes`` together; what was written by then is the caller's to remove.
    """
    left = unpacked_bytes
    try:
        with tarfile.open(archive, "r:gz") as members:
            for count, member in enumerate(members, start=1):
                if count > _MAX_MEMBERS:
                    raise MalformedData(f"archive: at most {_MAX_MEMBERS} members expected")
                target = directory / _name(member)
                if member.isdir():
                    target.mkdir(mode=0o755, parents=True, exist_ok=True)
                    continue
                left -= member.size
                if left < 0:
                    raise MalformedData("archive: holds more than its manifest says")
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                _write(members, member, target)
    except (tarfile.TarError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise MalformedData("archive: damaged, or no tar archive") from error
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError):
            raise MalformedData("archive: two members have one name") from error
        if error.errno is None:  # gzip's own: not a gzip file, a wrong checksum
            raise MalformedData("archive: damaged, or not compressed with gzip") from error
        raise
    if left:
        raise MalformedData("archive: holds less than its manifest says")


def _name(member: tarfile.TarInfo) -> PurePosixPath:
    parts = member.name.removesuffix("/").split("/")
    if not all(map(_PART.fullmatch, parts)):
        raise MalformedData("archive: a member's name leaves the directory, or has a character not allowed")
    if not (member.isreg() or member.isdir()):
        raise MalformedData(f"archive: {member.name} is neither a plain file nor a directory")
    return PurePosixPath(*parts)


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = members.extractfile(member)
    if source is None:
        raise MalformedData(f"archive: {member.name} cannot be read")
    with source, target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)
    if target.stat().st_size != member.size:
        raise MalformedData(f"archive: {member.name} is cut short")
    target.chmod(0o755 if member.mode & 0o100 else 0o644)
