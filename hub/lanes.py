"""Messages that wait to be stored, a lane for each controller, so that one with a backlog holds up nobody else.

What a controller says before its turn has a lane of its own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from enum import Enum, auto, unique

from hub.inbox import Message
from pacs.topics import Up

LIGHT_BYTES = 4_096
"""A lane that holds no more is emptied before any other: who sends as it happens is stored at once."""


@unique
class Mark(Enum):
    """What stands between messages."""

    LINK_LOST = auto()  # the hub's own connection to the broker is gone
    STOP = auto()  # end after what is before this


class Lanes:
    """In order within each lane; fair between them. Safe from any thread."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes
        self._bytes = 0
        self._changed = threading.Condition()
        self._sections: deque[_Section] = deque((_Section(),))

    @property
    def waiting_bytes(self) -> int:
        """What waits, roughly."""
        return self._bytes

    def put(self, messages: Iterable[Message], within_s: float) -> int:
        """Add messages once there is room; returns how many had none within this time."""
        with self._changed:
            refused = 0
            for message in messages:
                if self._bytes >= self._room_bytes and (
                    refused or not self._changed.wait_for(self._has_room, within_s)
                ):
                    refused += 1
                    continue
                self._bytes += self._sections[-1].add(message)
                self._changed.notify_all()
            return refused

    def mark(self, mark: Mark) -> None:
        """What is there comes before the mark, what is put from here on after it."""
        with self._changed:
            self._sections[-1].mark = mark
            self._sections.append(_Section())
            self._changed.notify_all()

    def take(self, most_bytes: int, within_s: float | None = None) -> tuple[Sequence[Message], Mark | None]:
        """Wait for messages; about as many as asked for at most, or the mark behind them. Nothing after this time."""
        with self._changed:
            self._changed.wait_for(self._has_some, within_s)
            section = self._sections[0]
            taken = section.take(most_bytes)
            self._bytes -= sum(map(_size, taken))
            mark = None if section.lanes else section.mark
            if mark is not None:
                self._sections.popleft()
            self._changed.notify_all()
            return taken, mark

    def _has_room(self) -> bool:
        return self._bytes < self._room_bytes

    def _has_some(self) -> bool:
        return bool(self._sections[0].lanes) or self._sections[0].mark is not None


class _Section:
    """What stands before one mark. ``lanes``: those that hold something, the one to be served first in front."""

    def __init__(self) -> None:
        self.lanes: OrderedDict[str, deque[Message]] = OrderedDict()
        self.mark: Mark | None = None
        self._bytes: dict[str, int] = {}

    def add(self, message: Message) -> int:
        """Returns how much room it takes."""
        lane, size = _lane(message.topic), _size(message)
        self.lanes.setdefault(lane, deque()).append(message)
        self._bytes[lane] = self._bytes.get(lane, 0) + size
        return size

    def take(self, most_bytes: int) -> list[Message]:
        """Light lanes whole, then one message of each of the others in turn."""
        taken: list[Message] = []
        room = most_bytes
        for lane in [lane for lane in self.lanes if self._bytes[lane] <= LIGHT_BYTES]:
            if room <= 0:
                return taken
            room -= self._bytes.pop(lane)
            taken += self.lanes.pop(lane)
        while self.lanes and room > 0:
            lane, waiting = next(iter(self.lanes.items()))
            message = waiting.popleft()
            taken.append(message)
            room -= _size(message)
            self._bytes[lane] -= _size(message)
            if waiting:
                self.lanes.move_to_end(lane)
            else:
                del self.lanes[lane], self._bytes[lane]
        return taken


def _lane(topic: str) -> str:
    """A controller's, or, for what it says before its turn, one of its own."""
    controller, _, kind = topic.rpartition("/")
    return topic if kind == Up.AHEAD else controller


def _size(message: Message) -> int:
    """Bytes in memory, roughly."""
    return len(message.payload) + 256
