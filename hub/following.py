"""What happened since, whichever hub process did it: to the pages of this one, and to its parts that must act.

The database is the truth: events are read from it in the order in which they were stored, so every page sees each
once. What other processes say on the broker (``hub.news``) only says when to look; every ``LOOK_EVERY_S`` this is
looked for anyway.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from hub.live import (
    BACKLOG,
    AlarmsChanged,
    Confirmed,
    ControllerChanged,
    EventStored,
    LiveBus,
    LiveEvent,
    Missed,
    RequestsChanged,
)
from hub.news import MAX_CONTROLLERS, MAX_TAPS, News
from hub.station_taps import StationTap
from hub.store import controllers, documents, events
from hub.store.database import Database
from pacs.errors import MalformedData
from pacs.events import EventKind
from pacs.identifiers import ControllerId

LOOK_EVERY_S = 2.0
SPACING_S = 0.05
"""Under load so long between two looks: what happened meanwhile is read, and told, at once."""
MISSED_EVERY_S = 1.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Pending:
    """What is to be told or looked at."""

    events: bool = False
    backlog: bool = False
    documents: bool = False
    registry: bool = False
    commands: bool = False
    attended: bool = False
    changed: dict[ControllerId, None] = field(default_factory=dict)
    alarmed: dict[ControllerId, None] = field(default_factory=dict)
    taps: list[StationTap] = field(default_factory=list)


class Following:
    """One thread. ``tell`` None: this is the only process. ``elsewhere``: hears what others did, and has to act."""

    def __init__(
        self,
        database: Database,
        live: LiveBus,
        *,
        tell: Callable[[News], None] | None,
        elsewhere: Callable[[News], None],
    ) -> None:
        self._database = database
        self._live = live
        self._tell = tell
        self._elsewhere = elsewhere
        self._process = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._done, self._heard = _Pending(), _Pending()
        self._last_id = 0
        self._known: tuple[Any, ...] = ()
        self._last_heard: dict[ControllerId, Any] = {}
        self._owes_missed, self._missed_at_s = False, 0.0
        self._thread = threading.Thread(target=self._run, name="following", daemon=True)

    def start(self) -> None:
        """Begin with what happens from now on."""
        with self._database.read() as connection:
            self._last_id = events.last_id(connection)
        if self._tell is not None:
            self._live.relay = self._relay
        self._thread.start()

    def stop(self) -> None:
        """Tell what is to be told and end."""
        self._live.relay = None
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def is_running(self) -> bool:
        """Whether anybody is told anything."""
        return self._thread.is_alive()

    # -- told from other threads

    def stored(self, count: int) -> None:
        """So many events were committed."""
        with self._lock:
            self._done.events = True
            self._done.backlog |= count > BACKLOG
        self._wake.set()

    def did(self, *, documents: bool = False, registry: bool = False, commands: bool = False) -> None:
        """This process committed new documents, other controllers, or commands."""
        if self._tell is None:
            return
        with self._lock:
            self._done.documents |= documents
            self._done.registry |= registry
            self._done.commands |= commands
        self._wake.set()

    def hear(self, payload: bytes) -> None:
        """Another process told something, or this one hears itself."""
        try:
            news = News.from_bytes(payload)
        except MalformedData as error:
            log.warning("news_not_understood", reason=str(error))
            return
        if news.process == self._process:
            return
        with self._lock:
            _add(self._heard, news)
        self._wake.set()

    def _relay(self, published: tuple[LiveEvent, ...]) -> None:
        with self._lock:
            for event in published:
                if isinstance(event, ControllerChanged):
                    self._done.changed[event.controller_id] = None
                elif isinstance(event, AlarmsChanged):
                    self._done.alarmed |= dict.fromkeys(event.controllers)
                elif isinstance(event, StationTap):
                    self._done.taps.append(event)
                elif isinstance(event, RequestsChanged):
                    self._done.attended = True
        self._wake.set()

    # -- the thread

    def _run(self) -> None:
        look_at_s = time.monotonic()
        while not self._stopping.is_set():
            self._wake.wait(self._wait_s(look_at_s))
            self._wake.clear()
            try:
                is_due = self._tell is not None and time.monotonic() >= look_at_s
                if is_due:
                    look_at_s = time.monotonic() + LOOK_EVERY_S
                self._turn(is_due=is_due)
            except Exception:  # a database that is away today must not end it for good
                log.exception("following_failed")
                self._stopping.wait(MISSED_EVERY_S)
            self._stopping.wait(SPACING_S)

    def _wait_s(self, look_at_s: float) -> float | None:
        due_s = [look_at_s] if self._tell is not None else []
        if self._owes_missed:
            due_s.append(self._missed_at_s + MISSED_EVERY_S)
        return max(0.0, min(due_s) - time.monotonic()) if due_s else None

    def _turn(self, *, is_due: bool) -> None:
        with self._lock:
            done, self._done = self._done, _Pending()
            heard, self._heard = self._heard, _Pending()
        try:
            self._act(done, heard, is_due=is_due)
        except BaseException:
            with self._lock:  # nobody may ever tell of it again
                _add(self._done, done)
                _add(self._heard, heard)
            self._wake.set()
            raise

    def _act(self, done: _Pending, heard: _Pending, *, is_due: bool) -> None:
        if self._tell is not None:
            for news in _news(done, self._process):
                self._tell(news)
            done.taps.clear()  # a card at a station is told of once
        if done.events or heard.events or is_due:
            self._read(backlog=done.backlog)
        if is_due:
            self._look(heard)
        self._live.deliver(*(ControllerChanged(controller_id=each) for each in heard.changed))
        if heard.alarmed:
            self._live.deliver(AlarmsChanged(controllers=frozenset(heard.alarmed)))
        self._live.deliver(*heard.taps)
        heard.taps.clear()
        if heard.attended or is_due:
            self._live.deliver(RequestsChanged())
        if heard.documents or heard.registry or heard.commands:
            self._elsewhere(
                News(process="", documents=heard.documents, registry=heard.registry, commands=heard.commands)
            )

    def _read(self, *, backlog: bool) -> None:
        """Show the events that are new; of a backlog only that there was one, once in a while."""
        shown: list[LiveEvent] = []
        with self._database.read() as connection:
            found = [] if backlog else events.arrived(connection, self._last_id, BACKLOG + 1)
            if backlog or len(found) > BACKLOG:
                self._owes_missed = True
                self._last_id = events.last_id(connection)
            elif found:
                self._last_id = found[-1][0]
                shown += (
                    EventStored(id=event_id, kind=kind, controller_id=controller_id)
                    for event_id, kind, controller_id in found
                )
                applied = {controller for _, kind, controller in found if kind is EventKind.POLICY_APPLIED}
                if applied:
                    shown += (
                        Confirmed(controller_id=controller, kind=kind, version=version, confirmed_at=at)
                        for controller, kind, version, at in documents.confirmations_of(connection, applied)
                    )
        now_s = time.monotonic()
        if self._owes_missed and now_s >= self._missed_at_s + MISSED_EVERY_S:
            self._owes_missed, self._missed_at_s = False, now_s
            shown.append(Missed())
        self._live.deliver(*shown)

    def _look(self, heard: _Pending) -> None:
        """Add what nobody told: a process that died before it could, a connection that was away."""
        with self._database.read() as connection:
            issued, registry = documents.newest_versions(connection), controllers.registry(connection)
            last_heard = controllers.last_heard(connection)
        if self._known:
            heard.documents |= issued != self._known[0]
            heard.registry |= registry != self._known[1]
            heard.changed |= {
                name: None for name, said in last_heard.items() if self._last_heard.get(name) != said
            }
        heard.commands = True
        self._known, self._last_heard = (issued, registry), last_heard


def _add(pending: _Pending, news: News | _Pending) -> None:
    pending.events |= news.events
    pending.backlog |= isinstance(news, _Pending) and news.backlog
    pending.documents |= news.documents
    pending.registry |= news.registry
    pending.commands |= news.commands
    pending.attended |= news.attended
    pending.changed |= dict.fromkeys(news.changed)
    pending.alarmed |= dict.fromkeys(news.alarmed)
    pending.taps += news.taps


def _news(done: _Pending, process: str) -> list[News]:
    """What is to be told, in messages of a bounded size."""
    first = News(
        process=process,
        events=done.events,
        documents=done.documents,
        registry=done.registry,
        commands=done.commands,
        attended=done.attended,
    )
    nothing = News(process=process)
    changed, alarmed = tuple(done.changed), tuple(done.alarmed)
    told = [first] if first != nothing else []
    for start in range(0, max(len(changed), len(alarmed)), MAX_CONTROLLERS):
        part = slice(start, start + MAX_CONTROLLERS)
        told.append(replace(nothing, changed=changed[part], alarmed=alarmed[part]))
    told += (
        replace(nothing, taps=tuple(done.taps[start : start + MAX_TAPS]))
        for start in range(0, len(done.taps), MAX_TAPS)
    )
    return told
