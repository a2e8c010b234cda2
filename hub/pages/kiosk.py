"""A kiosk's page: hold the card, see which duty it is and for whom, confirm, take the receipt.

It is shown by a browser on the kiosk's own machine, which was paired with the kiosk once. It names people by their first
name only, goes back to its start by itself, and nothing of it is kept by the browser.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from sqlalchemy import Connection

from hub import visits
from hub.api.access import PUBLIC, DeclaredRoute
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.kiosks import PAIRED_FOR
from hub.pages import words
from hub.pages.languages import LANGUAGES, Language
from hub.pages.rendering import Pages, pages_of
from hub.station_taps import StationTap, TapResult
from hub.store import sites
from hub.store.stations import Station
from hub.visits import NothingDue, State
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId
from pacs.schedule import local_time

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, dependencies=[PUBLIC])

BACK_AFTER_S = 30
RECEIPT_FOR_S = 45
MOST_CHOSEN = 50
TapId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
LinkToken = Annotated[str, Path(min_length=20, max_length=100)]
Chosen = Annotated[str | None, Query(alias="language", max_length=35)]
_AGAIN = frozenset({TapResult.NOT_READ, TapResult.REPLAYED})


@router.get("/kiosk")
def start(request: Request, language: Chosen = None) -> Response:
    """Hold your card here; or that this kiosk does not work, or that this browser shows none."""
    station = _station(request)
    if station is None:
        return _screen(request, None, "unpaired", language=language)
    services(request).kiosks.shown(station.id)
    return _screen(request, station, "start", language=language)


@router.get("/kiosk/tap")
def last_tap(request: Request) -> Response:
    """Whose card was there last, by an id that says nothing; and whether the reader works."""
    hub, station = services(request), _station(request)
    if station is None:
        raise Problem(Code.NOT_FOUND, "This browser shows no kiosk.")
    hub.kiosks.shown(station.id)
    tap = hub.kiosks.last_tap(station.id)
    return JSONResponse({"tap": tap.tap_id if tap else None, "works": station.is_heard(hub.clock())})


@router.get("/kiosk/visits/{tap_id}")
def visit(tap_id: TapId, request: Request, language: Chosen = None) -> Response:
    """What who holds this card may report now."""
    hub, station = services(request), _station(request)
    tap = _tap(hub, station, tap_id)
    if station is None or tap is None:
        return RedirectResponse("/kiosk", 303)
    hub.kiosks.shown(station.id)
    if tap.result is not TapResult.VALID or tap.cardholder_id is None:
        screen = "again" if tap.result in _AGAIN else "refused"
        text = words.AT_KIOSKS[tap.result]
        return _screen(request, station, screen, language=language, tap=tap, text=text)
    hub.reporting.fix((station.site_id,))
    with hub.database.read() as connection:
        found = visits.visit(connection, station.site_id, tap.cardholder_id, hub.clock())
    return _screen(
        request,
        station,
        "choose" if found.offers else "nothing",
        language=language,
        spoken=found.person.language,
        tap=tap,
        visit=found,
    )


@router.post("/kiosk/visits/{tap_id}")
def report(
    tap_id: TapId,
    request: Request,
    chosen: Annotated[list[str], Form(max_length=MOST_CHOSEN)] = [],  # noqa: B006 - copied by the framework
    language: Annotated[str | None, Form(max_length=35)] = None,
) -> Response:
    """Store what was confirmed, and show the receipt."""
    hub, station = services(request), _station(request)
    tap = _tap(hub, station, tap_id)
    if station is None or tap is None or tap.result is not TapResult.VALID or tap.cardholder_id is None:
        return RedirectResponse("/kiosk", 303)
    try:
        with hub.database.write() as connection:
            receipt = visits.report(
                connection, station.site_id, station.id, tap.cardholder_id, _choices(chosen), hub.clock()
            )
    except NothingDue:
        back = f"/kiosk/visits/{tap_id}"
        return RedirectResponse(f"{back}?language={language}" if language in LANGUAGES else back, 303)
    return _screen(request, station, "receipt", language=language, tap=tap, receipt=receipt)


@router.get("/kiosk/pair/{token}")
def pair_page(token: LinkToken, request: Request) -> Response:
    """What following the link means; looking at it does not use it up."""
    return _screen(request, None, "pair", language=None, token=token)


@router.post("/kiosk/pair/{token}")
def pair(token: LinkToken, request: Request) -> Response:
    """Let this browser show the kiosk's page from now on, and no other one."""
    hub = services(request)
    with hub.database.write() as connection:
        paired = hub.kiosks.pair(connection, token)
    if paired is None:
        return _screen(request, None, "unpaired", language=None, status_code=403)
    answer = RedirectResponse("/kiosk", 303)
    answer.set_cookie(
        hub.kiosk_cookie,
        paired[1],
        max_age=int(PAIRED_FOR.total_seconds()),
        secure=hub.settings.is_https,
        httponly=True,
        samesite="strict",
    )
    return answer


def _station(request: Request) -> Station | None:
    hub = services(request)
    token = request.cookies.get(hub.kiosk_cookie)
    return hub.kiosks.by_browser(token) if token else None


def _tap(hub: Services, station: Station | None, tap_id: str) -> StationTap | None:
    """The tap of this id, while nobody else tapped there, and for as long as who did may be there."""
    tap = None if station is None else hub.kiosks.last_tap(station.id)
    return tap if tap is not None and tap.tap_id == tap_id else None


def _choices(chosen: Collection[str]) -> list[visits.Choice]:
    """What the form says, without what cannot be read."""
    found = []
    for each in chosen:
        try:
            duty_id, day, person = each.split("/")
            found.append((duty_id, date.fromisoformat(day), CardholderId(person)))
        except (ValueError, MalformedData):
            continue
    return found


def _screen(
    request: Request,
    station: Station | None,
    screen: str,
    *,
    language: str | None,
    spoken: str | None = None,
    tap: StationTap | None = None,
    status_code: int = 200,
    text: str = "",
    **context: Any,
) -> Response:
    """A screen in the language that was chosen at the kiosk, else that of the person, else of the browser."""
    hub = services(request)
    every = request.app.state.pages_by_language
    wanted = (language, (spoken or "").partition("-")[0])
    pages: Pages = next((every[each] for each in wanted if each in every), pages_of(request))
    with hub.database.read() as connection:
        time_zone, name = _place(connection, station, hub)
    now = hub.clock()

    def clock(at: datetime) -> str:
        return _clock(pages.language, at, now, time_zone)

    chosen = BACK_AFTER_S if language else 0
    timeouts = {"start": chosen, "unpaired": 0, "pair": 0, "receipt": RECEIPT_FOR_S}
    return pages.response(
        request,
        "kiosk.html",
        None,
        status_code=status_code,
        screen=screen,
        place=name,
        works=station is not None and station.is_heard(now),
        is_paired=station is not None,
        chosen_language=pages.language.code if language else "",
        tap_id=tap.tap_id if tap else "",
        back_after_s=timeouts.get(screen, BACK_AFTER_S),
        clock=clock,
        day=lambda at: pages.language.day(local_time(at, time_zone)),
        timing_text=lambda timing: pages.gettext(words.TIMINGS[timing]),
        State=State,
        text=pages.gettext(text),
        **context,
    )


def _place(connection: Connection, station: Station | None, hub: Services) -> tuple[str, str]:
    site = sites.get(connection, station.site_id if station else hub.home.id)
    return site.time_zone, site.name


def _clock(language: Language, at: datetime, now: datetime, time_zone: str) -> str:
    """The time of day, and the weekday unless it is today; on the site's clock."""
    local, today = local_time(at, time_zone), local_time(now, time_zone).date()
    written = f"{local:%H:%M}"
    return written if local.date() == today else f"{language.weekday(local.weekday())} {written}"
