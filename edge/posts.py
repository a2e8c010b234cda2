"""Posts that somebody watches: at which doors one is open, and until when. Kept in memory, closed by a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum, unique

from edge.effects import Record
from edge.inputs import Now
from pacs.events import Detail, EventKind
from pacs.identifiers import DoorId


@unique
class Closing(StrEnum):
    """What closed a post; wire strings."""

    COMMAND = "command"
    ORDER = "order"
    """The door was ordered into a mode."""
    UNTIL = "until"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """``opened_by``: the command; ``until_s``: monotonic, exclusive."""

    opened_by: bytes
    until_s: float


class Posts:
    """Those of the doors of one controller."""

    def __init__(self) -> None:
        self._by_door: dict[DoorId, Post] = {}
        self._ordered_at: dict[DoorId, datetime] = {}

    def is_overtaken(self, door_id: DoorId, issued_at: datetime) -> bool:
        """Whether a command about this post was taken that was given after ``issued_at``."""
        newest = self._ordered_at.get(door_id)
        return newest is not None and issued_at < newest

    def at(self, door_id: DoorId, now: Now) -> Post | None:
        """The one that is open."""
        found = self._by_door.get(door_id)
        return found if found and now.monotonic_s < found.until_s else None

    def open(self, door_id: DoorId, post: Post, now: Now, *, issued_at: datetime) -> list[Record]:
        """It is open from here on; the event that says so. One that is open goes on for longer or shorter, which none says."""
        self._ordered_at[door_id] = issued_at
        known = self.at(door_id, now)
        if known is not None:
            self._by_door[door_id] = replace(known, until_s=post.until_s)
            return []
        ended = self.end(now)
        self._by_door[door_id] = post
        details: dict[str, Detail] = {
            "command": post.opened_by,
            "for_s": round(post.until_s - now.monotonic_s),
        }
        return [*ended, Record.of(EventKind.POST_OPENED, now, door_id, details=details)]

    def ordered(self, door_id: DoorId, closing: Closing, now: Now, *, issued_at: datetime) -> list[Record]:
        """A command that was given then closes it; no command that was given before opens it again."""
        self._ordered_at[door_id] = max(issued_at, self._ordered_at.get(door_id, issued_at))
        return self._close(door_id, closing, now)

    def _close(self, door_id: DoorId, closing: Closing, now: Now) -> list[Record]:
        """It is closed; the event that says so, unless it was."""
        post = self._by_door.pop(door_id, None)
        if post is None:
            return []
        details: dict[str, Detail] = {"command": post.opened_by, "cause": closing.value}
        return [Record.of(EventKind.POST_CLOSED, now, door_id, details=details)]

    def end(self, now: Now) -> list[Record]:
        """Close those whose time is over."""
        over = [door_id for door_id, post in self._by_door.items() if now.monotonic_s >= post.until_s]
        return [record for door_id in over for record in self._close(door_id, Closing.UNTIL, now)]
