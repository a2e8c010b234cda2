"""Reading one chain's directory: what can be relied on and what cannot. Nothing is changed.

Of a segment that others follow only the header is read: its records are checked before the first of them is given to
anybody. The last one, which new events continue, is checked at once.

Damage costs the records it is in. Those behind it are found again, and the chain goes on with them, unless its end
cannot be known: which sequences were used there nobody can say, so the chain ends.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

from edge import segments
from edge.chain import Segment, Unchecked, first_sequence_of, journal_id_of, segment_name, segment_paths
from edge.segments import HEADER_BYTES, RECORD_OVERHEAD, SHORTEST_RECORD, SegmentHeader
from edge.state_files import StateFiles, is_lost, read_around
from pacs.errors import MalformedData
from pacs.events import MAX_EVENT_BYTES, event_hash, genesis
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


def inspect(directory: Path, controller_id: ControllerId, released: int, files: StateFiles) -> Inspection:
    """Read the header of every segment, and of the last one the records too. Raises ``OSError``.

    Damage up to ``released`` is no fault when what is behind it is readable: nobody needs it.
    """
    journal_id = journal_id_of(directory)
    found = Inspection(last_hash=genesis(controller_id, journal_id))
    paths = segment_paths(directory)
    while len(paths) > 1 and first_sequence_of(paths[1]) <= released + 1:
        found.spent.append(paths.pop(0))  # removed before, but the removal did not last
    sizes = {path: path.stat().st_size for path in paths}
    unused = [path for path in paths[:-1] if sizes[path] <= HEADER_BYTES]
    found.spent += unused  # begun for an event that was written elsewhere
    paths = [path for path in paths if path not in unused]
    with_records = [path for path in paths if sizes[path] > HEADER_BYTES]
    headers = [_own_header(files, path, journal_id) for path in paths]
    for path, header, following in zip(paths, headers, [*headers[1:], None], strict=True):
        is_newest = path == paths[-1] or path == with_records[-1]
        deferred = (
            not is_newest
            and header
            and following
            and _defer(found, path, sizes[path], header, following, released)
        )
        if not deferred:
            _take(found, path, read_around(files, path), journal_id, released, is_last=path == paths[-1])
    if not found.faults and (not found.parts or found.last_sequence < released):
        found.faults.append(f"{directory.name}: ends before event {released}, which the hub has")
    return found


def _own_header(files: StateFiles, path: Path, journal_id: JournalId) -> SegmentHeader | None:
    """None when it cannot be read, or is another's."""
    try:
        header, refusal = _header(files.read(path, 0, HEADER_BYTES), path, journal_id)
    except OSError as error:
        if not is_lost(error):
            raise
        return None
    return None if refusal else header


def _defer(
    found: Inspection, path: Path, size: int, header: SegmentHeader, following: SegmentHeader, released: int
) -> bool:
    """Take the segment for what the one behind it says it is; False when it cannot be that."""
    first = header.first_sequence
    count = following.first_sequence - first
    records = size - HEADER_BYTES
    if not count * SHORTEST_RECORD <= records <= count * (RECORD_OVERHEAD + MAX_EVENT_BYTES):
        return False
    if first <= found.last_sequence or not _continues(found, header, first):
        return False
    unchecked = Unchecked(
        last_sequence=following.first_sequence - 1, last_hash=following.previous_hash, size=size
    )
    _hole_before(found, first, released)
    found.parts.append(Segment(path, first, array("I"), unchecked))
    found.last_hash = following.previous_hash
    return True


def _take(
    found: Inspection, path: Path, data: bytes, journal_id: JournalId, released: int, *, is_last: bool
) -> None:
    if is_last and found.parts and _is_unused(found, path, data):
        found.spent.append(path)
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
            found.torn = not found.faults and len(data) < HEADER_BYTES
            found.faults.append(f"{path.name}: {refusal or 'header damaged'}")
            found.lost_at_least += sum(len(run.offsets) - 1 for run in runs)
        found.unusable.append(path)
        return
    for run in runs or scan.runs[:1]:
        _hole_before(found, run.first_sequence, released)
        found.parts.append(Segment(path, run.first_sequence, run.offsets))
    if runs:
        begin, end = runs[-1].offsets[-2:]
        found.last_hash = event_hash(data[begin + RECORD_OVERHEAD : end])
    elif header:
        found.last_hash = header.previous_hash
    if len(scan.runs) > 1 or scan.unreadable_bytes:
        found.damaged.add(path)
    if scan.unreadable_bytes and is_last:
        found.torn = True
        found.faults.append(f"{path.name}: {scan.unreadable_bytes} unreadable bytes at its end")
        found.cut = found.parts[-1]


def _is_unused(found: Inspection, path: Path, data: bytes) -> bool:
    """Whether the segment was begun and never used, or for an event that was written elsewhere."""
    return not data or (len(data) == HEADER_BYTES and first_sequence_of(path) <= found.last_sequence)


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
