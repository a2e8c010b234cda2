"""Opening what is on disk: what can go on, what has ended, what was lost and is kept aside.

Steps are ordered so that a crash between any two is found again at the next start: a gap is written down
before the files that show it are changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge import chain as chains_on_disk
from edge import journal_notes as notes
from edge.chain import Chain
from edge.chain_inspection import Inspection, inspect
from edge.journal_notes import GapCause, JournalGap, Mark
from edge.state_files import StateFiles, read_around, replace_file
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, JournalId

QUARANTINE = "quarantine"
QUARANTINE_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Found:
    """``chains``: oldest first, those the hub still needs and the one to go on with unless it is ``ended``."""

    chains: tuple[Chain, ...]
    ended: bool
    next_ordinal: int
    created: bool
    unclean: bool
    gaps: tuple[JournalGap, ...]


def recover(directory: Path, controller_id: ControllerId, files: StateFiles) -> Found:
    """Open every chain in the journal's directory and set aside what cannot be used. Raises ``OSError``."""
    _remove_parts(directory, files)
    directories = _chain_directories(directory)
    acknowledged = notes.read_acknowledged(directory, files)
    mark = notes.read_mark(directory, files)
    kept: list[Chain] = []
    ended = True
    if acknowledged and acknowledged[0] not in map(chains_on_disk.journal_id_of, directories):
        notes.add_gap(directory, notes.vanished(*acknowledged), files)
    for path in _outstanding(directories, acknowledged, files):
        journal_id = chains_on_disk.journal_id_of(path)
        released = _released(path, acknowledged)
        found = inspect(path, controller_id, released, files)
        if mark and path == directories[-1] and mark.journal_id == journal_id:
            _compare(found, mark)
        for gap in _gaps(journal_id, found):
            notes.add_gap(directory, gap, files)
        set_aside(directory, path, found, files)
        ended = bool(found.faults)
        if found.parts:
            chain = Chain(files, path, tuple(found.parts), found.last_hash, released)
            chain.damaged = found.damaged
            kept.append(chain)
    notes.keep_gaps(directory, {chain.journal_id: chain.released for chain in kept}, files)
    gaps = tuple(gap for gap in notes.read_gaps(directory, files) if not gap.recorded)
    newest = kept[-1] if kept else None
    return Found(
        chains=tuple(kept),
        ended=ended
        or newest is None
        or any(gap.is_end and gap.journal_id == newest.journal_id for gap in gaps),
        next_ordinal=max(map(chains_on_disk.ordinal_of, directories), default=0) + 1,
        created=not (directories or acknowledged or mark or gaps or (directory / QUARANTINE).exists()),
        unclean=newest is None
        or mark is None
        or (mark.journal_id, mark.last_sequence) != (newest.journal_id, newest.last_sequence),
        gaps=gaps,
    )


def adopt(directory: Path, other: Path, files: StateFiles) -> None:
    """Move the chains of another journal here, behind those that are here. Raises ``OSError``.

    After a crash on the way it is begun again where it stood.
    """
    known = {chains_on_disk.journal_id_of(path) for path in _chain_directories(directory)}
    for gap in notes.read_gaps(other, files):
        if not gap.recorded:
            notes.add_gap(directory, gap, files)
    for path in _chain_directories(other):
        journal_id = chains_on_disk.journal_id_of(path)
        if journal_id not in known:
            ordinals = map(chains_on_disk.ordinal_of, _chain_directories(directory))
            name = chains_on_disk.directory_name(max(ordinals, default=0) + 1, journal_id)
            partial = directory / f"{name}{chains_on_disk.PART}"
            if partial.exists():
                _remove_tree(partial, files)
            files.make_directory(partial)
            for source in chains_on_disk.segment_paths(path):
                replace_file(files, partial / source.name, files.read(source))
            files.rename(partial, directory / name)
            files.sync_directory(directory)
        _remove_tree(path, files)
    shutil.rmtree(other)


def _released(path: Path, acknowledged: tuple[JournalId, int] | None) -> int:
    """The last event of a chain that nobody needs."""
    if acknowledged and acknowledged[0] == chains_on_disk.journal_id_of(path):
        return acknowledged[1]
    paths = chains_on_disk.segment_paths(path)
    return max(0, chains_on_disk.first_sequence_of(paths[0]) - 1) if paths else 0


def _outstanding(
    directories: list[Path], acknowledged: tuple[JournalId, int] | None, files: StateFiles
) -> list[Path]:
    """Without those older than the one being acknowledged: the hub has them, only their removal did not last."""
    for place, path in enumerate(directories):
        if acknowledged and acknowledged[0] == chains_on_disk.journal_id_of(path):
            for older in directories[:place]:
                _remove_tree(older, files)
            return directories[place:]
    return directories


def _remove_tree(directory: Path, files: StateFiles) -> None:
    for path in directory.iterdir():
        files.remove(path)
    files.remove_directory(directory)


def quarantine(directory: Path, source: Path, files: StateFiles) -> None:
    """Move one file aside; the oldest ones go when ``QUARANTINE_BYTES`` are exceeded. Raises ``OSError``."""
    place = directory / QUARANTINE
    files.make_directory(place)
    files.rename(source, place / f"{source.parent.name}.{source.name}")
    _bound_quarantine(place, files)


def quarantined_bytes(directory: Path) -> int:
    """Of what is kept aside. Raises ``OSError``."""
    place = directory / QUARANTINE
    return sum(path.stat().st_size for path in place.iterdir()) if place.is_dir() else 0


def _bound_quarantine(place: Path, files: StateFiles) -> None:
    kept = sorted(place.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    while len(kept) > 1 and sum(path.stat().st_size for path in kept) > QUARANTINE_BYTES:
        files.remove(kept.pop(0))
    files.sync_directory(place)


def set_aside(directory: Path, path: Path, found: Inspection, files: StateFiles) -> None:
    """Move what cannot be used out of the chain at ``path``, and cut its last part. Raises ``OSError``."""
    for unusable in found.unusable:
        if unusable.stat().st_size:
            quarantine(directory, unusable, files)
        else:
            files.remove(unusable)
    for spent in found.spent:
        files.remove(spent)
    if found.cut:
        place = directory / QUARANTINE
        files.make_directory(place)
        rest = read_around(files, found.cut.path)[found.cut.size :]
        if rest:
            replace_file(files, place / f"{path.name}.{found.cut.path.name}.from_{found.cut.size}", rest)
            _bound_quarantine(place, files)
        fd = files.open(found.cut.path)
        try:
            files.truncate(fd, found.cut.size)
            files.sync(fd)
        finally:
            os.close(fd)
    if not found.parts:
        files.remove_directory(path)
    if found.unusable or found.spent:
        files.sync_directory(path if found.parts else directory)


def _compare(found: Inspection, mark: Mark) -> None:
    """A journal that was closed has not been torn, and does not end early."""
    found.torn = False
    if found.last_sequence < mark.last_sequence:
        found.lost_at_least = max(found.lost_at_least, mark.last_sequence - found.last_sequence)
        if not found.faults:
            found.faults.append(f"ends before event {mark.last_sequence}, with which it was closed")
    elif found.last_sequence == mark.last_sequence and found.last_hash != mark.last_hash and not found.faults:
        found.faults.append(f"event {mark.last_sequence} is another than it was closed with")


def _gaps(journal_id: JournalId, found: Inspection) -> Iterator[JournalGap]:
    for hole in found.holes:
        yield JournalGap(
            journal_id=journal_id,
            last_sequence=hole.first - 1,
            cause=GapCause.DAMAGED,
            lost_at_least=hole.last - hole.first + 1,
            explanation=f"events {hole.first} to {hole.last} cannot be read",
            is_end=False,
        )
    if found.faults:
        yield JournalGap(
            journal_id=journal_id,
            last_sequence=found.last_sequence,
            cause=GapCause.TORN if found.torn else GapCause.DAMAGED,
            lost_at_least=found.lost_at_least,
            explanation="; ".join(found.faults[:4]),
            is_end=True,
        )


def _chain_directories(directory: Path) -> list[Path]:
    found = []
    for path in directory.iterdir():
        with contextlib.suppress(MalformedData):
            chains_on_disk.ordinal_of(path)
            chains_on_disk.journal_id_of(path)
            found.append(path)
    return sorted(found)


def _remove_parts(directory: Path, files: StateFiles) -> None:
    for path in directory.glob(f"*{chains_on_disk.PART}"):
        if path.is_dir():
            _remove_tree(path, files)
        else:
            files.remove(path)
