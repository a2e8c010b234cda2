"""Reading one chain's directory: what can be relied on and what cannot. Nothing is changed.

Damage costs the records it is in. Those behind it are found again, and the chain goes on with them, unless its end
cannot be known: which sequences were used there nobody can say, so the chain ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge import segments
from edge.chain import Segment, first_sequence_of, journal_id_of, segment_name, segment_paths
from edge.segments import SegmentHeader
from pacs.errors import MalformedData
from pacs.events import event_hash, genesis
from pacs.identifiers import ControllerId, JournalId


@dataclass(frozen=True, slots=True)
class Hole:
    """Events lost between two that are there."""

    first: int
    last: int


@dataclass(slots=True)
class Inspection:
    """What was found.

    ``parts`` can be relied on; between two there may be a hole. ``holes``: of what is still needed. ``damaged``: files
    with parts that cannot be read. ``cut``: the part that has to be cut where it ends. ``unusable``: files of which
    nothing can be used. ``spent``: files nobody needs.
    ``faults``: sentences for a technician about the chain's end; with one it cannot go on. ``torn``: they are no more
    than a last write that was not completed. ``lost_at_least``: events known to be missing at its end.
    """

    last_hash: bytes
    parts: list[Segment] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    damaged: set[Path] = field(default_factory=set)
    cut: Segment | None = None
    unusable: list[Path] = field(default_factory=list)
    spent: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    torn: bool = False
    lost_at_least: int = 0

    @property
    def last_sequence(self) -> int:
        """0 when nothing can be relied on."""
        return self.parts[-1].last_sequence if self.parts else 0


def inspect(directory: Path, controller_id: ControllerId, released: int) -> Inspection:
    """Read every segment, one after the other. Raises ``OSError``.

    Damage up to ``released`` is no fault when what is behind it is readable: nobody needs it.
    """
    journal_id = journal_id_of(directory)
    found = Inspection(last_hash=genesis(controller_id, journal_id))
    paths = segment_paths(directory)
    while len(paths) > 1 and first_sequence_of(paths[1]) <= released + 1:
        found.spent.append(paths.pop(0))  # removed before, but the removal did not last
    for path in paths:
        _take(found, path, journal_id, released, is_last=path == paths[-1])
    if not found.faults and (not found.parts or found.last_sequence < released):
        found.faults.append(f"{directory.name}: ends before event {released}, which the hub has")
    return found


def _take(found: Inspection, path: Path, journal_id: JournalId, released: int, *, is_last: bool) -> None:
    data = path.read_bytes()
    if is_last and found.parts and not data:
        found.spent.append(path)  # begun, never used
        return
    header, refusal = _header(data, path, journal_id)
    first = first_sequence_of(path)
    if not refusal and header and not _continues(found, header, first):
        refusal = f"does not continue event {found.last_sequence}"
    scan = segments.scan(data, first)
    runs = [run for run in scan.runs if len(run.offsets) > 1]
    if refusal or not (runs or header):
        # without its header a segment is still known by its name, and by records that fit there
        if is_last:
            found.torn = not found.faults and len(data) < segments.HEADER_BYTES
            found.faults.append(f"{path.name}: {refusal or 'header damaged'}")
            found.lost_at_least += sum(len(run.offsets) - 1 for run in runs)
        found.unusable.append(path)
        return
    for run in runs or scan.runs[:1]:
        _hole_before(found, run.first_sequence, released)
        found.parts.append(Segment(path, run.first_sequence, run.offsets))
    if runs:
        begin, end = runs[-1].offsets[-2:]
        found.last_hash = event_hash(data[begin + segments.RECORD_OVERHEAD : end])
    elif header:
        found.last_hash = header.previous_hash
    if len(scan.runs) > 1 or scan.unreadable_bytes:
        found.damaged.add(path)
    if scan.unreadable_bytes and is_last:
        found.torn = True
        found.faults.append(f"{path.name}: {scan.unreadable_bytes} unreadable bytes at its end")
        found.cut = found.parts[-1]


def _header(data: bytes, path: Path, journal_id: JournalId) -> tuple[SegmentHeader | None, str]:
    """The header, or None when it is damaged; and why the segment cannot be used, if it is another's."""
    try:
        header = SegmentHeader.from_bytes(data)
    except MalformedData:
        return None, ""
    if header.journal_id != journal_id or path.name != segment_name(header.first_sequence):
        return header, "belongs elsewhere"
    return header, ""


def _continues(found: Inspection, header: SegmentHeader, first: int) -> bool:
    if found.parts and first != found.last_sequence + 1:
        return first > found.last_sequence
    return not found.parts or found.last_hash == header.previous_hash


def _hole_before(found: Inspection, sequence: int, released: int) -> None:
    lost_from = max(found.last_sequence if found.parts else released, released) + 1
    if lost_from < sequence:
        found.holes.append(Hole(lost_from, sequence - 1))
