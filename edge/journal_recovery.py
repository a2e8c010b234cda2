"""Opening what is on disk: what can go on, what has ended, what was lost and is kept aside.

Steps are ordered so that a crash between any two is found again at the next start: a gap is written down
before the files that show it are changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from enum import StrEnum, unique
from pathlib import Path

from edge import chain as chains_on_disk
from edge.chain import Chain, Inspection
from edge.state_files import StateFiles, replace_file
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, JournalId

ACKNOWLEDGED = "acknowledged"
CLOSED = "closed"
GAPS = "gaps"
QUARANTINE = "quarantine"
QUARANTINE_BYTES = 8 * 1024 * 1024

_ACKNOWLEDGED = struct.Struct(">16sQI")


@unique
class GapCause(StrEnum):
    """Why a chain of events ended."""

    TORN = "torn"  # the power went during the last write, which was not yet durable
    DAMAGED = "damaged"  # bytes have changed or vanished
    HUB_AHEAD = "hub_ahead"  # the hub has events that this disk no longer has


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalGap:
    """After ``last_sequence`` of this journal, events are missing or may be.

    ``lost_at_least``: how many are known to be missing at the hub. ``explanation`` is for a technician.
    """

    journal_id: JournalId
    last_sequence: int
    cause: GapCause
    lost_at_least: int
    explanation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a proper end leaves: where the journal stood."""

    journal_id: JournalId
    last_sequence: int
    last_hash: bytes


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
    """Read everything in the journal's directory and set aside what cannot be used. Raises ``OSError``."""
    _remove_parts(directory, files)
    directories = _chain_directories(directory)
    acknowledged = read_acknowledged(directory)
    mark = _read_mark(directory)
    gaps = read_gaps(directory)
    kept: list[Chain] = []
    if acknowledged and acknowledged[0] not in map(chains_on_disk.journal_id_of, directories):
        gaps = _add(directory, gaps, _vanished(*acknowledged), files)
    for path in _outstanding(directories, acknowledged, files):
        journal_id = chains_on_disk.journal_id_of(path)
        if acknowledged and acknowledged[0] == journal_id:
            through = acknowledged[1]
        else:
            paths = chains_on_disk.segment_paths(path)
            through = max(0, chains_on_disk.first_sequence_of(paths[0]) - 1) if paths else 0
        found = chains_on_disk.inspect(path, controller_id, through)
        if mark and path == directories[-1] and mark.journal_id == journal_id:
            _compare(found, mark)
        if found.faults:
            gaps = _add(directory, gaps, _gap(journal_id, found), files)
        set_aside(directory, path, found, files)
        if found.parts:
            kept.append(Chain(path, tuple(found.parts), found.last_hash, through))
    newest = kept[-1] if kept else None
    return Found(
        chains=tuple(kept),
        ended=newest is None or any(gap.journal_id == newest.journal_id for gap in gaps),
        next_ordinal=max(map(chains_on_disk.ordinal_of, directories), default=0) + 1,
        created=not (directories or acknowledged or mark or gaps or (directory / QUARANTINE).exists()),
        unclean=newest is None
        or mark is None
        or (mark.journal_id, mark.last_sequence) != (newest.journal_id, newest.last_sequence),
        gaps=gaps,
    )


def acknowledged_bytes(journal_id: JournalId, sequence: int) -> bytes:
    """The content of ``ACKNOWLEDGED``: it is overwritten in place."""
    data = struct.pack(">16sQ", bytes.fromhex(journal_id), sequence)
    return data + struct.pack(">I", zlib.crc32(data))


def read_acknowledged(directory: Path) -> tuple[JournalId, int] | None:
    """None when it is not there or damaged: then the hub is asked for everything that is held."""
    try:
        data = (directory / ACKNOWLEDGED).read_bytes()
        journal_id, sequence, check = _ACKNOWLEDGED.unpack(data)
    except (FileNotFoundError, struct.error):
        return None
    return (JournalId(journal_id.hex()), sequence) if check == zlib.crc32(data[:-4]) else None


def write_mark(directory: Path, chain: Chain, files: StateFiles) -> None:
    """Leave the mark of a proper end. Raises ``OSError``."""
    text = f"{chain.journal_id} {chain.last_sequence} {chain.last_hash.hex()}"
    replace_file(files, directory / CLOSED, f"{text} {zlib.crc32(text.encode()):08x}\n".encode())


def remove_mark(directory: Path, files: StateFiles) -> None:
    """From here on an end without ``write_mark`` is not a proper one. Raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(directory / CLOSED)
        files.sync_directory(directory)


def read_gaps(directory: Path) -> tuple[JournalGap, ...]:
    """The gaps that are not events yet. A damaged list is itself a gap."""
    try:
        data = (directory / GAPS).read_bytes()
    except FileNotFoundError:
        return ()
    try:
        return tuple(
            JournalGap(
                **entry | {"journal_id": JournalId(entry["journal_id"]), "cause": GapCause(entry["cause"])}
            )
            for entry in json.loads(data)
        )
    except (ValueError, TypeError, KeyError, MalformedData):
        return (_vanished(JournalId("0" * 32), 0, "the list of gaps is damaged"),)


def write_gaps(directory: Path, gaps: tuple[JournalGap, ...], files: StateFiles) -> None:
    """Keep the gaps until ``forget_gaps``. Raises ``OSError``."""
    replace_file(files, directory / GAPS, json.dumps([asdict(gap) for gap in gaps], indent=1).encode())


def forget_gaps(directory: Path, files: StateFiles) -> None:
    """They are events. Raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(directory / GAPS)
        files.sync_directory(directory)


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


def _bound_quarantine(place: Path, files: StateFiles) -> None:
    kept = sorted(place.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    while len(kept) > 1 and sum(path.stat().st_size for path in kept) > QUARANTINE_BYTES:
        files.remove(kept.pop(0))
    files.sync_directory(place)


def set_aside(directory: Path, path: Path, found: Inspection, files: StateFiles) -> None:
    """Move what cannot be used out of the chain at ``path``, and cut its last part. Raises ``OSError``."""
    for unusable in found.unusable:
        if found.faults and unusable.stat().st_size:
            quarantine(directory, unusable, files)
        else:
            files.remove(unusable)
    if found.cut:
        place = directory / QUARANTINE
        files.make_directory(place)
        rest = found.cut.path.read_bytes()[found.cut.size :]
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
    if found.unusable:
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


def _gap(journal_id: JournalId, found: Inspection) -> JournalGap:
    return JournalGap(
        journal_id=journal_id,
        last_sequence=found.last_sequence,
        cause=GapCause.TORN if found.torn else GapCause.DAMAGED,
        lost_at_least=found.lost_at_least,
        explanation="; ".join(found.faults[:4]),
    )


def _vanished(journal_id: JournalId, sequence: int, explanation: str = "its directory is gone") -> JournalGap:
    return JournalGap(
        journal_id=journal_id,
        last_sequence=sequence,
        cause=GapCause.DAMAGED,
        lost_at_least=0,
        explanation=explanation,
    )


def _add(
    directory: Path, gaps: tuple[JournalGap, ...], gap: JournalGap, files: StateFiles
) -> tuple[JournalGap, ...]:
    if any((known.journal_id, known.last_sequence) == (gap.journal_id, gap.last_sequence) for known in gaps):
        return gaps
    gaps = (*gaps, gap)
    write_gaps(directory, gaps, files)
    return gaps


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


def _read_mark(directory: Path) -> Mark | None:
    """None when it is not there or damaged: the end was not a proper one."""
    try:
        text, _, check = (directory / CLOSED).read_text("ascii").removesuffix("\n").rpartition(" ")
        if f"{zlib.crc32(text.encode()):08x}" != check:
            return None
        journal_id, sequence, last_hash = text.split(" ")
        return Mark(
            journal_id=JournalId(journal_id), last_sequence=int(sequence), last_hash=bytes.fromhex(last_hash)
        )
    except (FileNotFoundError, ValueError, MalformedData):
        return None
