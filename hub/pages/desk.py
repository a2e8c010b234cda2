"""The identification desk: signing on to a reader, and who holds a card to it, for a moment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from hub import photographs
from hub.api import fields
from hub.api.access import DeclaredRoute, identify, requires
from hub.api.feed import EventStream
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.desk import DeskTaken, Look, Over, Viewing
from hub.live import Closing, Missed
from hub.operators import Principal
from hub.pages import words
from hub.pages.browser_session import session_token
from hub.pages.people import FLAGS
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.station_taps import StationTap, TapResult
from hub.store import sites, stations
from hub.store.stations import StationKind

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

AtDesk = Annotated[Principal, requires(Permission.DESK_IDENTIFY)]
LOOK_S = 5.0  # how often an open page asks whether it still may, and whether its reader is heard
_GOOD = frozenset({TapResult.VALID})
_BAD = frozenset(
    {
        TapResult.SUSPENDED,
        TapResult.REVOKED,
        TapResult.FORGED,
        TapResult.REPLAYED,
        TapResult.ISSUER_UNKNOWN,
    }
)


class SignOnForm(fields.Body):
    """The button beside a desk; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    station: fields.Station
    take_over: bool = False


class SignOffForm(fields.Body):
    """The button of who is signed on."""

    csrf_token: str = ""


@router.get("/desk")
def desk_page(request: Request, principal: AtDesk) -> Response:
    """The desk that this browser is signed on to, or those that it can sign on to."""
    return _page(request, principal)


@router.post("/desk/sign-on")
def sign_on(request: Request, principal: AtDesk, form: Annotated[SignOnForm, Form()]) -> Response:
    """Sign on to a desk's reader; from somebody else only by taking over."""
    try:
        services(request).desks.sign_on(
            principal, session_token(request, principal), form.station, take_over=form.take_over
        )
    except DeskTaken:
        return _page(request, principal, wanted=form.station, status_code=409)
    return RedirectResponse("/desk", 303)


@router.post("/desk/sign-off")
def sign_off(request: Request, principal: AtDesk, form: Annotated[SignOffForm, Form()]) -> Response:  # noqa: ARG001 - reads the form
    """Sign off; the reader shows nothing to anybody then."""
    services(request).desks.sign_off(principal, session_token(request, principal))
    return RedirectResponse("/desk", 303)


@router.get("/desk/stream", response_class=EventStream)
async def stream(request: Request, principal: AtDesk) -> EventStream:
    """Server-sent events of this desk's reader: ``look``, ``reader``, ``missed`` and, at the end, ``over``."""
    hub, session = services(request), session_token(request, principal)
    viewing = await run_in_threadpool(hub.desks.open_page, session)
    if viewing is None:
        raise Problem(Code.NOT_FOUND, N_("You are not signed on to a desk."))
    return EventStream(_frames(request, hub, viewing))


@router.get("/desk/photo/{look}")
def photograph(
    look: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{43}$")], request: Request, principal: AtDesk
) -> Response:
    """The photograph of one look, once."""
    data = services(request).desks.photograph(session_token(request, principal), look)
    return Response(data, media_type=photographs.MEDIA_TYPE)


def _page(request: Request, principal: Principal, *, wanted: str = "", status_code: int = 200) -> Response:
    hub, pages = services(request), pages_of(request)
    cookie = session_token(request, principal) if principal.csrf_token else None
    with hub.database.read() as connection:
        mine = hub.desks.of_session(connection, cookie) if cookie else None
        site_names = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
        desks = [
            {
                "id": each.id,
                "name": each.name,
                "site": site_names[each.site_id] if len(site_names) > 1 else "",
                "is_heard": each.is_heard(hub.clock()),
                "unseen": each.unseen_taps,
                "taken": hub.desks.signed_on(connection, each),
                "is_wanted": each.id == wanted,
            }
            for each in stations.list_all(connection, principal.sites, StationKind.DESK)
        ]
    return pages.response(
        request, "desk.html", principal, mine=mine, desks=desks, wanted=wanted, status_code=status_code
    )


async def _frames(request: Request, hub: Services, viewing: Viewing) -> AsyncGenerator[bytes, None]:
    """What one page sees until it may not any more."""
    pages, clock = pages_of(request), asyncio.get_running_loop().time
    look_at, heard = 0.0, None
    try:
        with hub.live.subscribe() as subscription:
            yield b"retry: 2000\n\n"
            while True:
                if clock() >= look_at:
                    over, is_heard = await run_in_threadpool(_standing, request, hub, viewing)
                    if over is not None:
                        yield _frame("over", why=over)
                        return
                    yield b": still here\n\n" if is_heard == heard else _frame("reader", heard=is_heard)
                    look_at, heard = clock() + LOOK_S, is_heard
                batch: list[Any] = []
                with suppress(TimeoutError):
                    batch = await asyncio.wait_for(subscription.batch(), max(0.0, look_at - clock()))
                for event in batch:
                    if isinstance(event, Closing):
                        return
                    if isinstance(event, Missed):
                        yield _frame("missed")
                    if isinstance(event, StationTap) and event.station_id == viewing.station.id:
                        found = await run_in_threadpool(_look, request, hub, viewing, event)
                        if isinstance(found, Over):
                            yield _frame("over", why=found)
                            return
                        yield _shown(pages, found)
    finally:
        await run_in_threadpool(hub.desks.close_page, viewing)


def _standing(request: Request, hub: Services, viewing: Viewing) -> tuple[Over | None, bool]:
    """Why the page is over, if it is; and whether its reader is heard."""
    principal = identify(request, is_use=False)
    with hub.database.read() as connection:
        over = hub.desks.over(connection, viewing, principal)
        return over, stations.get(connection, viewing.station.id).is_heard(hub.clock())


def _look(request: Request, hub: Services, viewing: Viewing, tap: StationTap) -> Look | Over:
    return hub.desks.look(viewing, tap, identify(request, is_use=False))


def _shown(pages: Pages, look: Look) -> bytes:
    title, advice = words.TAPS[look.tap.result]
    context = look_context(pages, look)
    said = ": ".join(part for part in (context["name"], pages.gettext(title), pages.gettext(advice)) if part)
    html = pages.fragment("desk_look.html", **context)
    return _frame("look", html=html, shown_s=look.shown_s, said=said)


def look_context(pages: Pages, look: Look) -> dict[str, Any]:
    """What the fragment of one look shows."""
    result, person = look.tap.result, look.person
    title, advice = words.TAPS[result]
    shown = [
        label
        for name, (label, _) in FLAGS.items()
        if name != "messages_waiting" and getattr(person, name, False)
    ]
    return {
        "tone": "good" if result in _GOOD else "bad" if result in _BAD else "warn",
        "title": pages.gettext(title),
        "advice": pages.gettext(advice) if advice else "",
        "person": person,
        "name": f"{person.given_name} {person.family_name}" if person else "",
        "flags": [pages.gettext(label) for label in shown],
        "valid_until": look.valid_until,
        "photograph": look.photograph,
    }


def _frame(event: str, **data: Any) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
