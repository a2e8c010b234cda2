"""What happens, as it happens: from the threads that store it to the pages that show it.

The stream is a convenience over the database, never the record: a subscriber that falls behind is told so
(``Missed``) and reads the lists again. What it carries are ids, never names.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from hub.station_taps import StationTap
from pacs.events import EventKind
from pacs.identifiers import ControllerId
from pacs.messages import DocumentKind

BACKLOG = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStored:
    """An event was stored: a tap when ``kind`` is about a person, else something a door did."""

    id: int
    kind: EventKind
    controller_id: ControllerId


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerChanged:
    """A controller came, went, or said something new of itself: its doors look different now."""

    controller_id: ControllerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A controller enforces this version, by its journalled event."""

    controller_id: ControllerId
    kind: DocumentKind
    version: int
    confirmed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmsChanged:
    """The hub raised or ended alarms of these controllers, or somebody took note of one."""

    controllers: frozenset[ControllerId]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsChanged:
    """Somebody waits at an attended door, was answered, or waits no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """This subscriber fell behind: read everything again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The hub stops: whatever never ends by itself ends now."""


LiveEvent: TypeAlias = (
    EventStored
    | ControllerChanged
    | Confirmed
    | AlarmsChanged
    | RequestsChanged
    | StationTap
    | Missed
    | Closing
)


class LiveBus:
    """Publish from any thread; subscribe from any event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._subscriptions: set[Subscription] = set()
        self.relay: Callable[[tuple[LiveEvent, ...]], None] | None = None
        """Tells the other hub processes what was published here."""

    def publish(self, *events: LiveEvent) -> None:
        """Hand what this process did to every subscriber, and to the other processes; never waits for one."""
        self.deliver(*events)
        if events and self.relay is not None:
            self.relay(events)

    def deliver(self, *events: LiveEvent) -> None:
        """Hand events to the subscribers of this process alone."""
        with self._lock:
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription.put(events)

    @contextmanager
    def subscribe(self, *, backlog: int = BACKLOG) -> Iterator[Subscription]:
        """Everything published while inside: ``async for event in subscription``; on a running loop."""
        subscription = Subscription(asyncio.get_running_loop(), backlog)
        with self._lock:
            self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            with self._lock:
                self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Tell every subscriber of this process that it ends."""
        self.deliver(Closing())

    @property
    def subscribers(self) -> int:
        """How many are listening."""
        with self._lock:
            return len(self._subscriptions)


class Subscription:
    """One subscriber's share of the stream, at most ``backlog`` events long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, backlog: int) -> None:
        self._loop = loop
        self._backlog = backlog
        self._events: deque[LiveEvent] = deque()
        self._wake = asyncio.Event()

    def put(self, events: tuple[LiveEvent, ...]) -> None:
        """Add events; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._take, events)
        except RuntimeError:  # its loop has ended; leaving ``subscribe`` will forget it
            return

    def _take(self, events: tuple[LiveEvent, ...]) -> None:
        self._events.extend(events)
        if len(self._events) > self._backlog:
            self._events.clear()
            self._events.append(Missed())
        self._wake.set()

    async def batch(self) -> list[LiveEvent]:
        """Wait for an event; return it and all that wait behind it."""
        found = [await anext(self)]
        while self._events:
            found.append(self._events.popleft())
        return found

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> LiveEvent:
        """Wait for the next event; never ends by itself."""
        while not self._events:
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()
