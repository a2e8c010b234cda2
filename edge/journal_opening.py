"""The journal a controller starts with: on its disk, or, where that takes nothing, in memory until the next start.

A door with a dead disk still has an exit to open and a hub to tell. The journal in memory is a journal like any other,
with an id of its own; the hub sees that one replaced the other, and between them nothing is taken for complete.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from edge import journal_notes as notes
from edge.journal import Journal, JournalLimits
from edge.journal_notes import GapCause, JournalGap
from edge.journal_policy import JournalPolicy
from edge.state_files import StateFiles
from pacs.errors import StoreError
from pacs.identifiers import ControllerId

log = logging.getLogger(__name__)

IN_MEMORY: Final = JournalLimits(max_bytes=16 * 1024 * 1024)
"""Some 60,000 events."""


def open_journal(
    directory: Path,
    *,
    controller_id: ControllerId,
    policy: JournalPolicy,
    files: StateFiles | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Journal:
    """Open or create the journal in ``directory``; the one in memory has ``is_lasting`` False.

    Raises ``StoreError`` when another process has it, or there is no memory to be had either.
    """
    limits = JournalLimits(max_bytes=policy.max_mib * 1024 * 1024)
    name = f"drempel-{controller_id}-journal"
    kept_meanwhile = [place / name for place in _memories(environment) if _is_ours(place / name)]
    try:
        return Journal(
            directory, controller_id=controller_id, limits=limits, files=files, adopt=kept_meanwhile
        )
    except StoreError as error:
        if not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, BlockingIOError):
            raise
        log.critical("events are kept in memory until the next start: %s", error)
        why = str(error)
    with contextlib.suppress(OSError):  # an earlier end was a proper one, but not everything will be here
        notes.remove_mark(directory, files or StateFiles())
    journal = Journal(
        next(place for place in _memories(environment) if os.access(place, os.W_OK)) / name,
        controller_id=controller_id,
        limits=IN_MEMORY,
        is_lasting=False,
    )
    gap = JournalGap(
        journal_id=journal.journal_id,
        last_sequence=journal.last_sequence,
        cause=GapCause.UNWRITABLE,
        lost_at_least=0,
        explanation=why,
        is_end=False,
    )
    journal.opening = replace(journal.opening, unclean=True, gaps=(*journal.opening.gaps, gap))
    return journal


def _memories(environment: Mapping[str, str]) -> list[Path]:
    """Directories in memory: the service's own one, and the machine's."""
    given = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    candidates = [Path(given)] if given else []
    return [*candidates, Path("/dev/shm"), Path(tempfile.gettempdir())]  # noqa: S108 - the journal makes its own, 0700, and checks whose it is


def _is_ours(place: Path) -> bool:
    """Whether there is a directory that nobody else has made."""
    with contextlib.suppress(OSError):
        found = place.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    return False
