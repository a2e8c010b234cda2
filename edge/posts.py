"""Posts that somebody watches: at which doors one is open, and until when. Kept in memory, closed by a restart."""

from __future__ import annotations

from dataclasses import dataclass
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

    def at(self, door_id: DoorId, now: Now) -> Post | None:
        """The one that is open."""
        found = self._by_door.get(door_id)
        return found if found and now.monotonic_s < found.until_s else None

    def open(self, door_id: DoorId, post: Post, now: Now) -> Record:
        """It is open from here on, or for longer or shorter than it was; the event that says so."""
        self._by_door[door_id] = post
        details: dict[str, Detail] = {
            "command": post.opened_by,
            "for_s": round(post.until_s - now.monotonic_s),
        }
        return Record.of(EventKind.POST_OPENED, now, door_id, details=details)

    def close(self, door_id: DoorId, closing: Closing, now: Now) -> list[Record]:
        """It is closed; the event that says so, unless it was."""
        post = self._by_door.pop(door_id, None)
        if post is None:
            return []
        details: dict[str, Detail] = {"command": post.opened_by, "cause": closing.value}
        return [Record.of(EventKind.POST_CLOSED, now, door_id, details=details)]

    def end(self, now: Now) -> list[Record]:
        """Close those whose time is over."""
        over = [door_id for door_id, post in self._by_door.items() if now.monotonic_s >= post.until_s]
        return [record for door_id in over for record in self.close(door_id, Closing.UNTIL, now)]
