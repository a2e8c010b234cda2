"""The live stream as JSON, for programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from hub.api.access import DeclaredRoute, identify, requires
from hub.api.changes import looked
from hub.api.feed import KEEP_ALIVE_S, EventStream, Variant, Viewer
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/stream", tags=["stream"])

After = Annotated[int | None, Query(ge=0, le=2**62)]
BEAT = b"event: beat\ndata: {}\n\n"
"""What a page hears that has to know whether it is still connected."""
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)]


@router.get("", response_class=EventStream)
async def stream(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    after: After = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """Server-sent events ``tap``, ``door``, ``alarm``, ``confirmation``; ``missed``: read the lists again.

    ``attended``, for who may answer: a request that waits, was answered or ended. Starts with ``attended_pending``, the ids
    of those that wait, and each of them, every door's state and every open alarm. ``Last-Event-ID`` or ``after`` first repeats the taps behind that id.
    """
    services(request).feed.check_room(principal.actor)
    variant = Variant(
        tap=_json,
        door=_json,
        names=principal.may(Permission.NAMES_READ),
        sites=principal.sites,
        attended=_json if principal.may(Permission.ATTENDED_ANSWER) else None,
    )
    return EventStream(frames(request, principal, variant, resume_from(after, last_event_id)))


def resume_from(after: int | None, last_event_id: str | None) -> int | None:
    """The id a browser saw last: its own word on reconnecting comes before the address."""
    if last_event_id and last_event_id.isascii() and last_event_id.isdecimal():
        return int(last_event_id)
    return after


async def frames(
    request: Request, principal: Principal, variant: Variant, after: int | None
) -> AsyncGenerator[bytes, None]:
    """What one viewer sees, for as long as they are signed in."""
    feed = services(request).feed
    if not variant.only_attended:  # there each person is audited
        await run_in_threadpool(looked, services(request), principal, "stream", shown=1)
    viewer = feed.open(variant, principal.actor)
    try:
        yield b"retry: 2000\n\n"
        for frame in await feed.catch_up(variant, after, principal.actor):
            yield frame
        async for frame in _live(viewer, request, principal.sites):
            yield frame
    finally:
        feed.leave(viewer)


async def _live(viewer: Viewer, request: Request, seen: frozenset[SiteId] | None) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    ask_again_at = clock() + KEEP_ALIVE_S
    while (frame := await viewer.take(max(0.0, ask_again_at - clock()))) is not None:
        if frame:
            yield frame
        if clock() >= ask_again_at:
            principal = await run_in_threadpool(identify, request, is_use=False)
            if principal is None or not principal.may(Permission.EVENTS_READ) or principal.sites != seen:
                return
            if viewer.variant.attended is not None and not principal.may(Permission.ATTENDED_ANSWER):
                return
            ask_again_at = clock() + KEEP_ALIVE_S
            yield BEAT if viewer.variant.only_attended else b": still here\n\n"


def _json(thing: BaseModel) -> str:
    return thing.model_dump_json()
