"""A controller as a technician needs it, on a phone, at the door: how it is, what it saw, and what it can be made to do."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import segno
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup
from pydantic import Field, ValidationError
from sqlalchemy import Connection

from hub.api import commands as commands_api
from hub.api import enrolment as enrolment_api
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.door_status import statuses
from hub.api.enrolment import MadeCode, NewCode
from hub.api.fields import Body
from hub.api.proven import records
from hub.api.services import Services, services
from hub.api.taps import answers
from hub.operators import Principal
from hub.pages.controllers import described
from hub.pages.findings import told
from hub.pages.muster import record_lines
from hub.pages.orders import newest_commands
from hub.pages.rendering import Pages, pages_of
from hub.pages.views import event_context
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import controller_reports, events
from hub.store.controllers import Controller
from hub.store.enrolment_codes import Purpose
from hub.store.errors import NotFound
from hub.store.events import ABOUT_PEOPLE, StoredEvent
from pacs.errors import MalformedData
from pacs.events import EventKind
from pacs.identifiers import ControllerId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/controllers/{controller_id}")

TAPS_SHOWN = 10
_NEEDS_REASON = N_("Say in a few words why.")
_NOT_GIVEN = N_("Nothing was sent: this controller is not in use.")
_NO_CODE = N_("No code was made.")
N_("the place has no wiring: say which pins and readers its doors have first")  # why, of hub.enrolment


class DoorTestForm(Body):
    """What a door is to do, and why; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    door_id: fields.Door
    action: Literal["unlock_once", "test_signals", "examine"]
    reason: Annotated[str, Field(max_length=1000)] = ""


class CodeForm(Body):
    """Nothing to choose; ``csrf_token`` is checked before."""

    csrf_token: str = ""


@router.get("/service")
def service_page(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
) -> Response:
    """One controller, for who stands at its door: its state, its last taps without persons, tests, and its replacement."""
    return _page(request, principal, controller_id)


@router.get("/service/news")
def service_news_part(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
) -> Response:
    """Those parts of that page that change while it is open: its state, what became of what was asked, its last taps."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        controller = scope.controller(connection, principal, controller_id)
        live = _live(hub, pages, connection, controller, hub.clock())
    return HTMLResponse(pages.fragment("service_live.html", **live))


@router.post("/service/test")
def test(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_TEST)],
    form: Annotated[DoorTestForm, Form()],
) -> Response:
    """Unlock one of its doors once, have its readers show each light and sound, or have it examine itself."""
    with services(request).database.read() as connection:
        door = scope.door(connection, principal, form.door_id).door
    if door.controller_id != controller_id:
        raise NotFound(f"door {door.id} is not there")
    try:
        body = commands_api.NewTest.model_validate({"action": form.action, "reason": form.reason})
        commands_api.test(door.id, body, request, principal)
    except ValidationError:
        return _page(request, principal, controller_id, problem=_NEEDS_REASON)
    except NotFound:
        return _page(request, principal, controller_id, problem=_NOT_GIVEN)
    return RedirectResponse(f"/controllers/{controller_id}/service#service-news", 303)


@router.post("/service/code")
def make_code(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
    form: Annotated[CodeForm, Form()],
) -> Response:
    """Make the code with which another device takes this place, and show it, once."""
    del form
    with services(request).database.read() as connection:
        controller = scope.controller(connection, principal, controller_id)
    purpose = Purpose.FIRST if controller.event_public_key is None else Purpose.SWAP
    try:
        made = enrolment_api.make_code(controller_id, NewCode(purpose=purpose), request, principal)
    except (MalformedData, NotFound) as error:
        return _page(request, principal, controller_id, problem=_NO_CODE, detail=str(error))
    return _page(request, principal, controller_id, made=made)


def _page(
    request: Request,
    principal: Principal,
    controller_id: ControllerId,
    *,
    problem: str = "",
    detail: str = "",
    made: MadeCode | None = None,
) -> Response:
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    since = now - hub.retention.periods.precise
    with hub.database.read() as connection:
        controller = scope.controller(connection, principal, controller_id)
        live = _live(hub, pages, connection, controller, now)
        door_ids = [each["id"] for each in live["doors"]]
        proven = records(connection, now, since=since, until=now, door_ids=door_ids)
    return pages.response(
        request,
        "service.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        records=record_lines(pages, proven, since=since),
        told_until=min((each.known_until for each in proven if each.known_until), default=None),
        untold=[each.name for each in proven if each.known_until is None],
        more_untold=0,
        may_test=principal.may(Permission.DOORS_TEST) and controller.retired_at is None,
        may_replace=principal.may(Permission.CONTROLLERS_MANAGE) and controller.retired_at is None,
        made=made,
        picture=_picture(made.code) if made else "",
        problem=pages.gettext(problem),
        detail=pages.gettext(detail),
        **live,
    )


def _counts(event: StoredEvent) -> dict[str, Any]:
    """What a private door tells of its taps, which is how many there were; None of another event."""
    if event.kind is not EventKind.TAPS_COUNTED:
        return {"counts": None}
    said = event.details
    return {"counts": {name: said.get(name, 0) for name in ("granted", "denied", "unread")}}


def _live(
    hub: Services, pages: Pages, connection: Connection, controller: Controller, now: datetime
) -> dict[str, Any]:
    """How it is, the newest commands to each of its doors, its newest report, and its last taps."""
    shown = described(pages, connection, controller, now)
    report = controller_reports.get(connection, controller.id)
    newest = events.listing(
        connection,
        controller_id=controller.id,
        kinds=(*ABOUT_PEOPLE, EventKind.TAPS_COUNTED),
        newest_first=True,
        limit=TAPS_SHOWN,
    )
    answered = [each.without_names() for each in answers(connection, newest)]
    ends = shown["controller"]["certificate_ends"]
    return {
        **shown,
        "days_left": None if ends is None else max(0, (ends - now).days),
        "given": [
            {"name": door.name, "commands": newest_commands(hub, pages, connection, door.id)}
            for door in statuses(connection, now, controller_ids=[controller.id])
        ],
        "examined_at": report.received_at if report else None,
        "findings": [told(pages, each) for each in (report.findings if report else ())],
        "taps": [
            event_context(pages, said) | _counts(stored)
            for said, stored in zip(answered, newest, strict=True)
        ],
    }


def _picture(code: str) -> Markup:
    """A code as a QR, in SVG."""
    drawn = segno.make(code, error="m").svg_inline(
        border=4, light="#fff", omitsize=True, svgclass="qr", lineclass=None
    )
    return Markup(drawn)  # noqa: S704 - made here; what is in the code is only drawn
