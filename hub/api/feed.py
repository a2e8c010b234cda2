"""The live stream: what happens, rendered once for each kind of viewer, and handed to every page.

One task follows ``hub.live``. Each viewer has a bounded queue; one that does not keep up is dropped, and
its browser comes back with the last id it saw.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeAlias

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Connection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.api.alarms import AlarmAnswer, open_alarms, with_ids
from hub.api.attended import AttendedAnswer
from hub.api.attended import answers as attended_answers
from hub.api.door_status import DoorStatus, statuses
from hub.api.problems import Code, Problem
from hub.api.taps import EventAnswer, answers
from hub.attendance import Attendance
from hub.live import AlarmsChanged, Confirmed, ControllerChanged, EventStored, LiveBus, LiveEvent, Missed
from hub.store import attendance, controllers, events, sites
from hub.store.attendance import AttendedRequest, PersonAtDoor, RequestState
from hub.store.database import Database
from hub.store.events import ABOUT_PEOPLE
from pacs.identifiers import ControllerId, CredentialId, SiteId

QUEUE = 256
REPLAYED = 500
VIEWERS = 1_000
VIEWERS_EACH = 12
KEEP_ALIVE_S = 15.0
SEND_S = 20.0
SWEEP_S = 15.0  # how often doors are looked at that say nothing

_log = structlog.get_logger(__name__)


def _as_json(alarm: AlarmAnswer) -> str:
    return alarm.model_dump_json()


@dataclass(frozen=True, slots=True)
class Variant:
    """How a viewer sees things: functions to the text of an event's data, whether with names, and of which sites.

    ``attended`` None: for who may not answer attended requests. ``only_attended``: nothing else is shown but doors;
    ``door`` None: nor they.
    """

    tap: Callable[[EventAnswer], str]
    door: Callable[[DoorStatus], str] | None
    names: bool
    alarm: Callable[[AlarmAnswer], str] = _as_json
    sites: frozenset[SiteId] | None = None
    attended: Callable[[AttendedAnswer], str] | None = None
    only_attended: bool = False

    def sees(self, thing: EventAnswer | DoorStatus | AlarmAnswer | AttendedAnswer) -> bool:
        """Whether it is of one of these sites."""
        return self.sites is None or thing.site_id in self.sites


class Viewer:
    """One open stream."""

    def __init__(self, variant: Variant, actor: str) -> None:
        self.variant = variant
        self.actor = actor
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE)

    def put(self, frames: Iterable[bytes]) -> bool:
        """Queue frames; False, and the stream ends, when there is no room."""
        try:
            for frame in frames:
                self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.end()
            return False
        return True

    def end(self) -> None:
        """Let the stream end at once; what was queued is dropped."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def take(self, within_s: float) -> bytes | None:
        """The next frame, ``b""`` when none came in time, None at the end."""
        try:
            return await asyncio.wait_for(self._queue.get(), within_s)
        except TimeoutError:
            return b""


class Feed:
    """Follows the bus and serves the viewers; lives on one event loop."""

    def __init__(
        self, database: Database, bus: LiveBus, clock: Callable[[], datetime], attendance: Attendance
    ) -> None:
        self._database = database
        self._attendance = attendance
        self._bus = bus
        self._clock = clock
        self._viewers: set[Viewer] = set()
        self._closed = False
        self._online: dict[ControllerId, bool] = {}
        self._alarms: dict[int, AlarmAnswer] = {}
        self._waiting: dict[str, _Seen] = {}

    async def follow(self) -> None:
        """Serve until cancelled; a door that falls silent is shown, too."""
        clock = asyncio.get_running_loop().time
        sweep_at = clock() + SWEEP_S
        with self._bus.subscribe() as subscription:
            self._alarms = await run_in_threadpool(self._open_alarms)
            await run_in_threadpool(self._look_who_is_online)
            while True:
                batch: list[LiveEvent] = []
                with contextlib.suppress(TimeoutError):
                    batch = await asyncio.wait_for(subscription.batch(), max(0.0, sweep_at - clock()))
                if sweep := clock() >= sweep_at:
                    sweep_at = clock() + SWEEP_S
                elif not batch:
                    continue
                variants: dict[Variant, set[str]] = {}
                for viewer in self._viewers:
                    variants.setdefault(viewer.variant, set()).add(viewer.actor)
                if not variants:
                    if sweep:
                        await run_in_threadpool(self._look_who_is_online)
                    continue
                try:
                    frames = await run_in_threadpool(partial(self._render, batch, variants, sweep=sweep))
                except Exception as error:  # noqa: BLE001 - the stream is a convenience, the record is safe
                    _log.error("live_render_failed", exc_info=error)
                    frames = {variant: [_frame("missed", "{}")] for variant in variants}
                for viewer in [each for each in self._viewers if each.variant in frames]:
                    if not viewer.put(frames[viewer.variant]):
                        self._viewers.discard(viewer)
                        _log.info("live_viewer_dropped", actor=viewer.actor)

    def check_room(self, actor: str, *, share: float = 1.0) -> None:
        """Raise ``Problem`` when there are too many viewers, or the server is stopping. ``share``: of the room, what may be full."""
        mine = sum(viewer.actor == actor for viewer in self._viewers)
        if self._closed or len(self._viewers) >= share * VIEWERS or mine >= share * VIEWERS_EACH:
            raise Problem(Code.NOT_READY, "Too many live pages are open.", headers={"Retry-After": "30"})

    def open(self, variant: Variant, actor: str) -> Viewer:
        """Begin to serve a viewer, until it is dropped or ``leave``s."""
        viewer = Viewer(variant, actor)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Serve this viewer no longer."""
        self._viewers.discard(viewer)

    @property
    def viewers(self) -> int:
        """How many are served."""
        return len(self._viewers)

    def close(self) -> None:
        """End every stream, so that the server can stop."""
        self._closed = True
        for viewer in self._viewers:
            viewer.end()

    async def catch_up(self, variant: Variant, after: int | None, actor: str) -> list[bytes]:
        """What a viewer sees first: who waits, the taps behind ``after`` (None: none), every door and every open alarm.

        When there are more than ``REPLAYED`` taps, one ``missed`` stands for all.
        """
        requests = await run_in_threadpool(self._catch_up_requests, variant, actor)
        return requests + await run_in_threadpool(self._catch_up, variant, after)

    def _catch_up_requests(self, variant: Variant, actor: str) -> list[bytes]:
        if variant.attended is None:
            return []
        with self._database.read() as connection:
            waiting = attendance.pending(connection, self._clock(), variant.sites)
        shown = self._requests(waiting, {variant: {actor}})
        pending = json.dumps({"pending": [each.id for each in shown]})
        return [_frame("attended_pending", pending), *_attended(variant, shown)]

    def _catch_up(self, variant: Variant, after: int | None) -> list[bytes]:
        frames: list[bytes] = []
        with self._database.read() as connection:
            if after is not None:
                taps = events.listing(
                    connection, kinds=ABOUT_PEOPLE, after=after, limit=REPLAYED + 1, sites=variant.sites
                )
                if len(taps) > REPLAYED:
                    frames.append(_frame("missed", "{}"))
                else:
                    frames += [_tap(variant, each) for each in answers(connection, taps)]
            if variant.door is not None:
                every = statuses(connection, self._clock(), sites=variant.sites)
                frames += [_door(variant.door, each) for each in every]
            if variant.only_attended:
                return frames
            alarms = open_alarms(connection, self._clock(), seen=variant.sites)
        frames.append(_frame("alarms", json.dumps({"open": [each.id for each in alarms]})))
        return frames + [_alarm(variant, each) for each in alarms]

    def _open_alarms(self) -> dict[int, AlarmAnswer]:
        with self._database.read() as connection:
            return {each.id: each for each in open_alarms(connection, self._clock())}

    def _changed_alarms(self, connection: Connection) -> list[AlarmAnswer]:
        """Alarms that look different from when they were shown last, the closed ones first."""
        now = self._clock()
        still = {each.id: each for each in open_alarms(connection, now)}
        closed = with_ids(connection, sorted(self._alarms.keys() - still.keys()), now)
        changed = [each for number, each in still.items() if self._alarms.get(number) != each]
        self._alarms = still
        return closed + changed

    def _changed_requests(self, connection: Connection) -> list[AttendedRequest]:
        """Requests that look different from when they were shown last, the ended ones first."""
        now = self._clock()
        still = {each.id: each for each in attendance.pending(connection, now)}
        ended = attendance.with_ids(connection, self._waiting.keys() - still.keys())
        before = self._waiting
        self._waiting = {each.id: _seen(each, now) for each in still.values()}
        changed = [each for each in still.values() if before.get(each.id) != self._waiting[each.id]]
        return ended + changed

    def _requests(
        self, requests: Sequence[AttendedRequest], variants: Mapping[Variant, Collection[str]]
    ) -> list[AttendedAnswer]:
        """Requests with whoever waits, once it is on record to whom of these viewers each is shown."""
        if not requests:
            return []
        with self._database.read() as connection:
            site_of = sites.of_controllers(connection)
        people: dict[CredentialId, PersonAtDoor] = {}
        for variant, actors in variants.items():
            if variant.attended is not None and variant.names:
                seen = [
                    each
                    for each in requests
                    if variant.sites is None or site_of[each.controller_id] in variant.sites
                ]
                people |= self._attendance.show(seen, actors)
        with self._database.read() as connection:
            return attended_answers(connection, requests, people, self._clock())

    def _look_who_is_online(self) -> None:
        with self._database.read() as connection:
            self._came_or_went(connection)

    def _came_or_went(self, connection: Connection) -> set[ControllerId]:
        """Controllers that are online and were not when looked at last, or the other way round."""
        online = {
            controller_id: state.online
            for controller_id, state in controllers.presence(connection, self._clock()).items()
        }
        before, self._online = self._online, online
        return {each for each, is_online in online.items() if before.get(each, is_online) is not is_online}

    def _render(
        self, batch: Sequence[LiveEvent], variants: Mapping[Variant, Collection[str]], *, sweep: bool
    ) -> dict[Variant, list[bytes]]:
        if any(isinstance(event, Missed) for event in batch):
            return {variant: [_frame("missed", "{}")] for variant in variants}
        with self._database.read() as connection:
            requests = self._changed_requests(connection)
        waiting = self._requests(requests, variants)
        rest = self._render_rest(batch, variants, sweep=sweep)
        return {variant: _attended(variant, waiting) + rest[variant] for variant in variants}

    def _render_rest(
        self, batch: Sequence[LiveEvent], variants: Collection[Variant], *, sweep: bool
    ) -> dict[Variant, list[bytes]]:
        stored = [event for event in batch if isinstance(event, EventStored)]
        changed = {event.controller_id for event in batch if isinstance(event, ControllerChanged | Confirmed)}
        changed |= {event.controller_id for event in stored}
        for event in batch:
            changed |= event.controllers if isinstance(event, AlarmsChanged) else frozenset()
        ids = [event.id for event in stored if event.kind in ABOUT_PEOPLE]
        with self._database.read() as connection:
            taps = answers(connection, events.with_ids(connection, ids)) if ids else []
            changed |= self._came_or_went(connection) if sweep else set()
            doors = statuses(connection, self._clock(), controller_ids=changed) if changed else []
            alarms = self._changed_alarms(connection)
            site_of = (
                sites.of_controllers(connection) if any(isinstance(each, Confirmed) for each in batch) else {}
            )
        confirmations = [
            (site_of.get(event.controller_id), _confirmation(event))
            for event in batch
            if isinstance(event, Confirmed)
        ]
        frames = {
            variant: [_door(variant.door, each) for each in doors if variant.sees(each)]
            if variant.door is not None
            else []
            for variant in variants
        }
        for variant, shown in frames.items():
            if variant.only_attended:
                continue
            shown[:0] = [
                *(_alarm(variant, each) for each in alarms if variant.sees(each)),
                *(_tap(variant, each) for each in taps if variant.sees(each)),
            ]
            shown += [
                frame for site_id, frame in confirmations if variant.sites is None or site_id in variant.sites
            ]
        return frames


class EventStream(Response):
    """Server-sent events (WHATWG HTML §9.2) until the viewer leaves, falls behind, or may no longer look."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None], status_code: int = 200) -> None:
        super().__init__(status_code=status_code, headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Stream; a browser that takes no bytes for ``SEND_S`` is let go."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        tasks = [asyncio.ensure_future(self._pour(send)), asyncio.ensure_future(_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pour(self, send: Send) -> None:
        async with aclosing(self._frames) as frames:
            async for frame in frames:
                async with asyncio.timeout(SEND_S):
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


_Seen: TypeAlias = tuple[AttendedRequest, RequestState]


def _seen(request: AttendedRequest, now: datetime) -> _Seen:
    """What a page shows of a request, apart from how many others it was shown to."""
    return replace(request, looks=0), request.state(now)


def _attended(variant: Variant, requests: Iterable[AttendedAnswer]) -> list[bytes]:
    if variant.attended is None:
        return []
    seen = [each if variant.names else each.without_names() for each in requests if variant.sees(each)]
    return [_frame("attended", variant.attended(each)) for each in seen]


def _tap(variant: Variant, event: EventAnswer) -> bytes:
    seen = event if variant.names else event.without_names()
    return _frame("tap", variant.tap(seen), event.id)


def _door(shown: Callable[[DoorStatus], str], door: DoorStatus) -> bytes:
    return _frame("door", shown(door))


def _alarm(variant: Variant, alarm: AlarmAnswer) -> bytes:
    return _frame("alarm", variant.alarm(alarm if variant.names else alarm.without_names()))


def _confirmation(event: Confirmed) -> bytes:
    data = {
        "controller_id": event.controller_id,
        "document": event.kind,
        "version": event.version,
        "confirmed_at": event.confirmed_at.isoformat(),
    }
    return _frame("confirmation", json.dumps(data))


def _frame(event: str, data: str, number: int | None = None) -> bytes:
    """One event; ``data`` is JSON on one line."""
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {event}\ndata: {data}\n\n".encode()
