"""Fetch, prove and lay down a newer release, and offer it for trial. Runs without privileges, and switches nothing."""

from __future__ import annotations

import compileall
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edge.updating.archive import unpack
from edge.updating.source import Source
from edge.updating.trial import PROGRAM, Releases, Trial
from pacs.errors import MalformedData, StoreError
from pacs.release import MAX_MANIFEST_BYTES, NEWEST, Release, Version

_SPARE_BYTES: Final = 64 * 1024 * 1024
"""Stays free for the journal, whatever a release takes."""
_COMPILED: Final = 2
"""Files and what the interpreter makes of them take up to so many times what was unpacked."""
_PATIENCE_S: Final = 120


class NotWanted(StoreError):
    """The release offered is not to be taken; the message says why."""


class Offer:
    """One attempt to bring ``current`` up to what a source names as newest."""

    def __init__(self, root: Path, source: Source, trusted: Mapping[bytes, Ed25519PublicKey]) -> None:
        """``root``: as ``edge.updating.trial`` has it; ``trusted``: the release keys by their id."""
        self._releases = Releases(root)
        self._root = root
        self._source = source
        self._trusted = trusted

    def steps(self) -> Iterator[str]:
        """Do one step for each ``next``, and say which it was; stopped anywhere, the next attempt starts afresh.

        Raises ``NotWanted`` when there is nothing newer to take, ``MalformedData`` or ``VerificationError`` when what
        came is not authentic, ``StoreError`` when it cannot be had or kept. ``current`` names the same all along.
        """
        lock = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield from self._steps()
            except BlockingIOError as error:
                raise StoreError(f"{self._root}: another update is under way") from error
            except OSError as error:
                raise StoreError(f"{error.filename or self._root}: {error.strerror or error}") from error
        finally:
            os.close(lock)

    def _steps(self) -> Iterator[str]:
        if self._releases.trial() is not None:
            raise NotWanted("a release is on trial already")
        current = self._releases.linked("current")
        if current is None:
            raise StoreError(f"{self._root}: current names no release")
        self._releases.tidy()
        yield "tidied"
        release = Release.open(self._source.read(NEWEST, at_most=MAX_MANIFEST_BYTES), self._trusted)
        self._check_wanted(release, Version.parse(current))
        yield "manifest proven"
        incoming = self._root / "incoming"
        incoming.mkdir()
        archive = incoming / "archive"
        self._source.save(release.archive_name, archive, at_most=release.archive_bytes)
        _prove(archive, release)
        yield "archive proven"
        directory = incoming / "files"
        directory.mkdir()
        unpack(archive, directory, unpacked_bytes=release.unpacked_bytes)
        archive.unlink()
        yield "unpacked"
        version = str(release.version)
        placed = self._releases.path(version)
        compileall.compile_dir(directory, quiet=2, stripdir=str(directory), prependdir=str(placed))
        _try_out(directory / PROGRAM, version)
        os.sync()
        yield "tried out"
        directory.rename(placed)
        os.sync()
        yield "laid down"
        self._releases.keep_trial(Trial(version=version, previous=current))
        yield "offered"

    def _check_wanted(self, release: Release, current: Version) -> None:
        if release.version == current:
            raise NotWanted(f"{current} is the newest")
        if release.version < current:
            raise NotWanted(f"{release.version} is older than {current}, which runs: refused")
        if str(release.version) in self._releases.refused():
            raise NotWanted(f"{release.version} was tried here and given up: refused")
        needed = release.archive_bytes + _COMPILED * release.unpacked_bytes + _SPARE_BYTES
        if shutil.disk_usage(self._root).free < needed:
            raise StoreError(
                f"{self._root}: {needed // 2**20} MiB of free space needed for {release.version}"
            )


def _prove(archive: Path, release: Release) -> None:
    if archive.stat().st_size != release.archive_bytes:
        raise MalformedData(f"{release.archive_name}: cut short")
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha256").digest() != release.archive_sha256:
            raise MalformedData(f"{release.archive_name}: not the archive that was signed")


def _try_out(program: Path, version: str) -> None:
    """Have it say its version, which takes the right machine, the right Python and a whole archive."""
    try:
        said = subprocess.run(  # noqa: S603 - proven before
            [program, "--version"], capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise MalformedData(f"{version} does not run on this machine ({error})") from error
    if not said.stdout.strip().endswith(f" {version}"):
        raise MalformedData(f"{version} says that it is another version: {said.stdout.strip()!r}")
