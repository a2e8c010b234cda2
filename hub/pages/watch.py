"""The live page and the doors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.door_status import statuses
from hub.api.feed import EventStream
from hub.api.services import services
from hub.api.stream import After, LastEventId, frames, resume_from
from hub.api.taps import answers
from hub.operators import Principal
from hub.pages.rendering import Pages
from hub.pages.views import door_context, tap_context
from hub.roles import Permission
from hub.store import events
from hub.store.events import ABOUT_PEOPLE

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

TAPS_SHOWN = 40


@router.get("/")
def live_page(
    request: Request, principal: Annotated[Principal, requires(Permission.EVENTS_READ)]
) -> Response:
    """Taps as they happen, and every door."""
    hub, pages = services(request), _pages(request)
    with hub.database.read() as connection:
        newest = events.listing(connection, kinds=ABOUT_PEOPLE, limit=TAPS_SHOWN, newest_first=True)
        taps = answers(connection, newest)
        doors = statuses(connection, hub.clock())
    if not principal.may(Permission.NAMES_READ):
        taps = [each.without_names() for each in taps]
    looked(hub, principal, "events", shown=sum(each.person is not None for each in taps))
    return pages.response(
        request,
        "live.html",
        principal,
        taps=[tap_context(pages, each) for each in taps],
        doors=[door_context(pages, each) for each in doors],
        last_id=taps[0].id if taps else 0,
    )


@router.get("/doors")
def doors_page(
    request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]
) -> Response:
    """Every door."""
    hub, pages = services(request), _pages(request)
    with hub.database.read() as connection:
        doors = statuses(connection, hub.clock())
    shown = [door_context(pages, each) for each in doors]
    return pages.response(request, "doors.html", principal, doors=shown)


@router.get("/live/stream")
async def live_stream(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    after: After = None,
    last_event_id: LastEventId = None,
) -> EventStream:
    """The live stream as fragments of the pages."""
    services(request).feed.check_room(principal.actor)
    variant = request.app.state.variants[principal.may(Permission.NAMES_READ)]
    return EventStream(frames(request, principal, variant, resume_from(after, last_event_id)))


def _pages(request: Request) -> Pages:
    pages: Pages = request.app.state.pages
    return pages
