"""What a journal is told and what it tells."""

from __future__ import annotations

from dataclasses import dataclass

from edge.journal_notes import JournalGap
from pacs.errors import StoreError
from pacs.identifiers import JournalId


class JournalFull(StoreError):
    """The journal is at its bound; the disk is not at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """``max_bytes``: all files together. ``segment_bytes``: when the next segment is begun; what is freed at once.

    The default holds 300,000 events with the longest names (202 bytes), and twice as many ordinary ones.
    """

    max_bytes: int = 64 * 1024 * 1024
    segment_bytes: int = 1024 * 1024

    @property
    def reserve_bytes(self) -> int:
        """What is left for the way out, alarms and refusals when entries are refused."""
        return self.max_bytes // 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRange:
    """Events of one journal, both ends included; ``last_sequence`` is one before the first when there are none."""

    journal_id: JournalId
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How the journal was found.

    ``created``: there was none. ``unclean``: its last process did not close it. ``gaps``: record each as an
    event, then call ``gaps_recorded``; until then they are reported at every opening.
    """

    created: bool
    unclean: bool
    gaps: tuple[JournalGap, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """The chain the hub has to get first: ``first_sequence`` to ``last_sequence`` can be read.

    ``withheld``: events behind these that cannot be read yet, as they are not durable or in another chain.
    """

    journal_id: JournalId
    first_sequence: int
    acknowledged: int
    last_sequence: int
    withheld: int = 0
