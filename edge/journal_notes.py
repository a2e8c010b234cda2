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

from edge.chain import Chain
from edge.state_files import StateFiles, replace_file
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


def read_mark(directory: Path) -> Mark | None:
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


def read_gaps(directory: Path) -> tuple[JournalGap, ...]:
    """The gaps that are not events yet, and those in chains that are still held. A damaged list is itself a gap."""
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
        return (vanished(JournalId("0" * 32), 0, "the list of gaps is damaged"),)


def write_gaps(directory: Path, gaps: tuple[JournalGap, ...], files: StateFiles) -> None:
    """Replace the list, or remove it when there are none. Raises ``OSError``."""
    if gaps:
        data = json.dumps([asdict(gap) for gap in gaps], indent=1).encode()
        replace_file(files, directory / GAPS, data)
        return
    with contextlib.suppress(FileNotFoundError):
        files.remove(directory / GAPS)
        files.sync_directory(directory)


def add_gap(directory: Path, gap: JournalGap, files: StateFiles) -> None:
    """Keep it, durably, until it is an event; nothing when it is known. Raises ``OSError``."""
    gaps = read_gaps(directory)
    if not any(known.covers(gap) for known in gaps):
        write_gaps(directory, (*gaps, gap), files)


def keep_gaps(
    directory: Path, held: Mapping[JournalId, int], files: StateFiles, *, recorded: bool = False
) -> None:
    """Forget the gaps that are events and whose place is no longer ``held`` (journal: released up to).

    ``recorded``: all of them are events. Raises ``OSError``.
    """
    gaps = read_gaps(directory)
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
