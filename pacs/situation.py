"""What a door knows beyond its documents: what was ordered, who is where, what stands open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from pacs.rules import DoorMode


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeOrder:
    """A mode set by a command; ``until``: aware, exclusive; None: until the next order or ``clear_mode``."""

    mode: DoorMode
    command_id: bytes
    until: datetime | None = None


@unique
class Attendance(StrEnum):
    """Who decides at a door about those of whom a person has to; the values are wire strings.

    ``hub``: whoever is asked there, or a card that admits others. While it is away: ``local``: such a card alone;
    ``unattended``: nobody has to; ``nobody``: none can, but such a card.
    """

    HUB = "hub"
    LOCAL = "local"
    UNATTENDED = "unattended"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """One door, and one credential at it, at the moment of the decision.

    ``interlocked``: a door it is interlocked with is open or released. ``first_person_at``: when somebody of the
    door's ``first_person_levels`` was last admitted. ``inside_s``: how long ago this credential entered the door's
    area and has not been seen leaving since; None: not known to be inside. ``entry_seen``: a contact saw that entry; it
    was not only admitted. ``escorted``: somebody who may escort was admitted here within the door's window. ``admitted``: a
    card that may admit others was granted here within that window, and one more may pass by it. ``post``: the command that opened
    a post at this door, while somebody watches there.
    """

    order: ModeOrder | None = None
    interlocked: bool = False
    first_person_at: datetime | None = None
    inside_s: float | None = None
    entry_seen: bool = True
    escorted: bool = False
    admitted: bool = False
    post: bytes | None = None
    attendance: Attendance = Attendance.HUB


NOTHING_KNOWN: Final = Situation()
"""Before anything happened at a door: what a question about the rules alone is asked with."""
