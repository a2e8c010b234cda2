"""Damage found while the journal is in use: looked for where reading failed, by the thread that may wait for the disk."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge import journal_notes as notes
from edge.chain import Chain, Damage
from edge.journal_notes import GapCause, JournalGap
from edge.state_files import StateFiles, is_lost
from pacs.identifiers import JournalId

TRIES: Final = 3
"""A sector that cannot be read so often is lost."""


@dataclass(frozen=True, slots=True)
class Found:
    """``gaps``: what it costs the hub and nobody knew of; they are noted durably."""

    damage: Damage
    gaps: tuple[JournalGap, ...]


class DamageFinder:
    """``look`` may be called from any thread and waits for the disk; ``take`` never waits."""

    def __init__(self, directory: Path, files: StateFiles) -> None:
        self._directory = directory
        self._files = files
        self._failures: dict[Path, int] = {}
        self._found: dict[JournalId, Found] = {}
        self.noting = threading.Lock()
        """Held by who changes the list of gaps."""

    def look(self, chain: Chain, sequence: int, error: Exception) -> None:
        """Reading this event failed: find everything in its segment that cannot be relied on.

        Raises ``OSError`` when the disk cannot be read for another reason, or the gap not be noted.
        """
        segment, known = chain.segment_of(sequence), self._found.get(chain.journal_id)
        if segment is None or (known and known.damage.segment is segment):
            return
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            self._failures[segment.path] = self._failures.get(segment.path, 0) + 1
            if not is_lost(error) or self._failures[segment.path] < TRIES:
                return
        damage = chain.find_damage(segment)
        self._failures.pop(segment.path, None)
        if damage is None:
            return
        with self.noting:
            gaps = tuple(
                gap for gap in _gaps(chain, damage) if notes.add_gap(self._directory, gap, self._files)
            )
        self._found[chain.journal_id] = Found(damage, gaps)

    def take(self, journal_id: JournalId, sequence: int) -> Found | None:
        """What was found in this journal around this event or behind it, once."""
        found = self._found.get(journal_id)
        if found is None or found.damage.segment.last_sequence < sequence:
            return None
        return self._found.pop(journal_id)


def _gaps(chain: Chain, damage: Damage) -> list[JournalGap]:
    """Without what nobody needs."""
    needed = [(max(first, chain.released + 1), last) for first, last in damage.holes]
    return [
        JournalGap(
            journal_id=chain.journal_id,
            last_sequence=first - 1,
            cause=GapCause.DAMAGED,
            lost_at_least=last - first + 1,
            explanation=f"events {first} to {last} can no longer be read",
            is_end=False,
        )
        for first, last in needed
        if first <= last
    ]
