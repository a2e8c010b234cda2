"""The small files beside a journal's chains: what the hub has, how the last process ended, what was lost."""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum, unique
from pathlib import Path
from typing import Any

from edge.chain import Chain
from edge.state_files import StateFiles, checked_line, is_lost, replace_file, text_of
from pacs.errors import MalformedData
from pacs.identifiers import JournalId

ACKNOWLEDGED = "acknowledged"
CLOSED = "closed"
GAPS = "gaps"

_ACKNOWLEDGED = struct.Struct(">16sQI")


@unique
class GapCause(StrEnum):
    """Why events are missing."""

    TORN = "torn"  # the power went during the last write, which was not yet durable
    DAMAGED = "damaged"  # bytes have changed or vanished
    HUB_AHEAD = "hub_ahead"  # the hub has events that this disk no longer has
    UNWRITABLE = "unwritable"  # the disk took nothing at the start, so what follows is in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalGap:
    """After ``last_sequence`` of this journal, events are missing or may be.

    ``lost_at_least``: how many are known to be missing at the hub. ``is_end``: its chain ends there; otherwise it goes
    on behind them. ``recorded``: it is an event. ``explanation`` is for a technician.
    """

    journal_id: JournalId
    last_sequence: int
    cause: GapCause
    lost_at_least: int
    explanation: str
    is_end: bool
    recorded: bool = False

    @property
    def resumes_after(self) -> int:
        """The last event known to be missing."""
        return self.last_sequence + self.lost_at_least

    def covers(self, other: JournalGap) -> bool:
        """Whether the other one says nothing that this one does not."""
        if self.journal_id != other.journal_id or self.is_end is not other.is_end:
            return False
        if self.is_end:
            return self.last_sequence == other.last_sequence
        return self.last_sequence <= other.last_sequence and self.resumes_after >= other.resumes_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a proper end leaves: where the journal stood."""

    journal_id: JournalId
    last_sequence: int
    last_hash: bytes


def acknowledged_bytes(journal_id: JournalId, sequence: int) -> bytes:
    """The content of ``ACKNOWLEDGED``: it is overwritten in place."""
    data = struct.pack(">16sQ", bytes.fromhex(journal_id), sequence)
    return data + struct.pack(">I", zlib.crc32(data))


def read_acknowledged(directory: Path, files: StateFiles) -> tuple[JournalId, int] | None:
    """None when it is not there or damaged: then the hub is asked for everything that is held. Raises ``OSError``."""
    try:
        data = _read(directory / ACKNOWLEDGED, files)
        journal_id, sequence, check = _ACKNOWLEDGED.unpack(data)
    except (FileNotFoundError, struct.error):
        return None
    return (JournalId(journal_id.hex()), sequence) if check == zlib.crc32(data[:-4]) else None


def write_mark(directory: Path, chain: Chain, files: StateFiles) -> None:
    """Leave the mark of a proper end. Raises ``OSError``."""
    text = f"{chain.journal_id} {chain.last_sequence} {chain.last_hash.hex()}"
    replace_file(files, directory / CLOSED, checked_line(text))


def remove_mark(directory: Path, files: StateFiles) -> None:
    """From here on an end without ``write_mark`` is not a proper one. Raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError):
        files.remove(directory / CLOSED)
        files.sync_directory(directory)


def read_mark(directory: Path, files: StateFiles) -> Mark | None:
    """None when it is not there or damaged: the end was not a proper one. Raises ``OSError``."""
    try:
        journal_id, sequence, last_hash = text_of(_read(directory / CLOSED, files)).split(" ")
        return Mark(
            journal_id=JournalId(journal_id), last_sequence=int(sequence), last_hash=bytes.fromhex(last_hash)
        )
    except (FileNotFoundError, ValueError, MalformedData):
        return None


def read_gaps(directory: Path, files: StateFiles) -> tuple[JournalGap, ...]:
    """The gaps that are not events yet, and those in chains that are still held. A damaged list is itself a gap.

    Raises ``OSError``.
    """
    try:
        entries = json.loads(text_of(_read(directory / GAPS, files)))
        return tuple(map(_gap, entries))
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError, MalformedData):
        return (vanished(JournalId("0" * 32), 0, "the list of gaps is damaged"),)


def _gap(entry: dict[str, Any]) -> JournalGap:
    """Raises ``TypeError``, ``KeyError`` or ``ValueError`` for anything but what ``write_gaps`` writes."""
    gap = JournalGap(
        **entry | {"journal_id": JournalId(entry["journal_id"]), "cause": GapCause(entry["cause"])}
    )
    for value, expected in (
        (gap.last_sequence, int),
        (gap.lost_at_least, int),
        (gap.explanation, str),
        (gap.is_end, bool),
        (gap.recorded, bool),
    ):
        if type(value) is not expected:
            raise TypeError("a gap of another kind")
    return gap


def _read(path: Path, files: StateFiles) -> bytes:
    """Nothing when the disk cannot give it back. Raises ``OSError``, ``FileNotFoundError`` among it."""
    try:
        return files.read(path)
    except OSError as error:
        if not is_lost(error):
            raise
        return b""


def write_gaps(directory: Path, gaps: tuple[JournalGap, ...], files: StateFiles) -> None:
    """Replace the list, or remove it when there are none. Raises ``OSError``."""
    if gaps:
        text = json.dumps([asdict(gap) for gap in gaps])
        replace_file(files, directory / GAPS, checked_line(text))
        return
    with contextlib.suppress(FileNotFoundError):
        files.remove(directory / GAPS)
        files.sync_directory(directory)


def add_gap(directory: Path, gap: JournalGap, files: StateFiles) -> bool:
    """Keep it, durably, until it is an event; False when it is known already. Raises ``OSError``."""
    gaps = read_gaps(directory, files)
    if any(known.covers(gap) for known in gaps):
        return False
    write_gaps(directory, (*gaps, gap), files)
    return True


def keep_gaps(
    directory: Path, held: Mapping[JournalId, int], files: StateFiles, *, recorded: bool = False
) -> None:
    """Forget the gaps that are events and whose place is no longer ``held`` (journal: released up to).

    ``recorded``: all of them are events. Raises ``OSError``.
    """
    gaps = read_gaps(directory, files)
    known = tuple(replace(gap, recorded=True) for gap in gaps) if recorded else gaps
    kept = tuple(
        gap
        for gap in known
        if not gap.recorded
        or (not gap.is_end and gap.resumes_after > held.get(gap.journal_id, gap.resumes_after))
    )
    if kept != gaps:
        write_gaps(directory, kept, files)


def vanished(journal_id: JournalId, sequence: int, explanation: str = "its directory is gone") -> JournalGap:
    """Nobody can say what there was behind this event."""
    return JournalGap(
        journal_id=journal_id,
        last_sequence=sequence,
        cause=GapCause.DAMAGED,
        lost_at_least=0,
        explanation=explanation,
        is_end=True,
    )
