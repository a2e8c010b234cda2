"""The live page with its alarms, and the doors."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.alarms import AlarmInPath, open_alarms
from hub.api.changes import looked
from hub.api.door_status import statuses
from hub.api.feed import EventStream
from hub.api.orders import arrival
from hub.api.services import services
from hub.api.stream import After, LastEventId, frames, resume_from
from hub.api.taps import answers
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import pages_of
from hub.pages.views import alarm_context, door_context, order_context, tap_context
from hub.roles import Permission
from hub.store import events, orders, sites, webhooks
from hub.store.alarms import AlarmKind
from hub.store.events import ABOUT_PEOPLE, StoredEvent
from hub.store.sites import Sites
from pacs.identifiers import DoorId, SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

TAPS_SHOWN = 40
Choice = Annotated[str, Query(max_length=48)]
"""Of a form: empty for all."""
_KINDS = frozenset(AlarmKind)
ORDER_SHOWN_FOR = timedelta(hours=1)


@router.get("/")
def live_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    site: Choice = "",
    door: Choice = "",
    kind: Choice = "",
) -> Response:
    """Alarms, taps as they happen, and every door; of all sites that one sees, or of one. The rest can be hidden."""
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    with hub.database.read() as connection:
        named = sites.list_all(connection, principal.sites)
        seen = _chosen(connection, principal, site)
        doors = statuses(connection, now, sites=seen)
        chosen = next((each.id for each in doors if each.id == door), None)
        taps = answers(connection, _newest(connection, seen, chosen))
        alarms = open_alarms(connection, now, seen=seen)
        order = orders.newest(connection, since=now - ORDER_SHOWN_FOR, sites=seen)
        arrived = arrival(connection, order, now) if order else None
        lost = webhooks.disabled(connection) if principal.may(Permission.WEBHOOKS_MANAGE) else 0
    if not principal.may(Permission.NAMES_READ):
        taps = [each.without_names() for each in taps]
        alarms = [each.without_names() for each in alarms]
    looked(hub, principal, "events", shown=sum(each.person is not None for each in taps))
    shown_alarms = [alarm_context(pages, each) for each in alarms]
    for each in shown_alarms:
        about = {named.id for named in each["doors"]}
        each["hidden"] = bool((chosen and chosen not in about) or (kind in _KINDS and each["kind"] != kind))
    return pages.response(
        request,
        "live.html",
        principal,
        taps=[tap_context(pages, each) | {"hidden": chosen not in (None, each.door_id)} for each in taps],
        doors=[door_context(pages, each) | {"hidden": chosen not in (None, each.id)} for each in doors],
        alarms=shown_alarms,
        hidden_alarms=sum(each["hidden"] for each in shown_alarms),
        door=chosen or "",
        kind=kind,
        kinds=[(kind.value, pages.gettext(words.ALARMS[kind])) for kind in AlarmKind],
        order=order_context(pages, arrived) if arrived else None,
        webhooks_lost=lost if principal.sites is None else 0,
        may_acknowledge=principal.may(Permission.ALARMS_ACKNOWLEDGE),
        may_command=principal.may(Permission.DOORS_COMMAND),
        last_id=taps[0].id if taps else 0,
        sites=[(each.id, each.name) for each in named],
        site=site,
    )


def _newest(connection: Connection, seen: Sites, door: DoorId | None) -> list[StoredEvent]:
    """The newest taps, and the newest of one door as well, so that choosing it never shows an empty list."""
    newest = partial(
        events.listing, connection, kinds=ABOUT_PEOPLE, limit=TAPS_SHOWN, newest_first=True, sites=seen
    )
    found = {each.id: each for each in newest()}
    if door is not None:
        found |= {each.id: each for each in newest(door_id=door)}
    return [found[number] for number in sorted(found, reverse=True)]


@router.get("/doors")
def doors_page(
    request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]
) -> Response:
    """Every door."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        doors = statuses(connection, hub.clock(), sites=principal.sites)
    shown = [door_context(pages, each) for each in doors]
    may_command = principal.may(Permission.DOORS_COMMAND)
    return pages.response(request, "doors.html", principal, doors=shown, may_command=may_command)


class NoteForm(fields.Body):
    """Beside an alarm; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    note: Annotated[str, Field(max_length=1000)] = ""


_TEXT: TypeAdapter[str] = TypeAdapter(fields.ReasonText)


@router.post("/alarms/{alarm_id}/acknowledge")
def acknowledge(
    alarm_id: AlarmInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ALARMS_ACKNOWLEDGE)],
    form: Annotated[NoteForm, Form()],
) -> Response:
    """Take note of an alarm. A note that is no text does not keep anybody from taking note."""
    try:
        note = _TEXT.validate_python(form.note)
    except ValidationError:
        note = ""
    with services(request).database.read() as connection:
        scope.alarm(connection, principal, alarm_id)
    services(request).alarms.acknowledge(alarm_id, note=note, actor=principal.actor)
    return RedirectResponse("/#alarms", 303)


@router.get("/live/stream")
async def live_stream(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    after: After = None,
    last_event_id: LastEventId = None,
    site: Choice = "",
) -> EventStream:
    """The live stream as fragments of the pages; of all sites that one sees, or of one."""
    services(request).feed.check_room(principal.actor)
    seen = await run_in_threadpool(_seen, request, principal, site)
    shown_in = pages_of(request).language.code
    variant = request.app.state.variants[shown_in, principal.may(Permission.NAMES_READ)]
    variant = replace(variant, sites=seen)
    return EventStream(frames(request, principal, variant, resume_from(after, last_event_id)))


def _seen(request: Request, principal: Principal, site: str) -> frozenset[SiteId] | None:
    with services(request).database.read() as connection:
        return _chosen(connection, principal, site)


def _chosen(connection: Connection, principal: Principal, site: str) -> frozenset[SiteId] | None:
    """The sites to show: the one that was chosen, else all that the principal sees. Raises ``NotFound``."""
    return frozenset({scope.site(connection, principal, SiteId(site)).id}) if site else principal.sites
