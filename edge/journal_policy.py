"""What a controller does when it cannot keep an event as it should: a choice of the site, made in its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class WhenFull(StrEnum):
    """At the journal's bound, with nothing the hub has acknowledged."""

    DROP_OLDEST = "drop_oldest"  # the oldest segment goes, and an event says which sequences
    REFUSE_ENTRY = (
        "refuse_entry"  # what is held stays; who wants in is refused, the way out is recorded in a reserve
    )


@unique
class WhenUnwritable(StrEnum):
    """While the disk takes nothing: full, read-only, broken."""

    DENY = "deny"  # no strike at an entry without its event on the disk
    CONTINUE_IN_MEMORY = "continue_in_memory"  # strikes as always while there is room in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalPolicy:
    """``max_mib``: all files of the journal. The way out opens in every case."""

    when_full: WhenFull = WhenFull.DROP_OLDEST
    when_unwritable: WhenUnwritable = WhenUnwritable.DENY
    max_mib: int = 64
