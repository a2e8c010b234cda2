"""The list of events: the newest first, filtered, with what is proven of the doors for the time it speaks of."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from hub.api import scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.events import Wanted, span
from hub.api.problems import Code, Problem
from hub.api.proven import records
from hub.api.services import services
from hub.api.taps import answers
from hub.operators import Principal
from hub.pages import words
from hub.pages.muster import LINES, record_lines
from hub.pages.rendering import Pages, pages_of
from hub.pages.views import event_context
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import doors, sites
from hub.store.events import ABOUT_PEOPLE
from pacs.events import EventKind
from pacs.identifiers import DoorId, SiteId
from pacs.reason import Reason

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/events")

PER_PAGE = 100
TAPS = "taps"
"""Stands for every kind that tells of a card."""
Choice = Annotated[str, Query(max_length=48)]
Moment = Annotated[str, Query(max_length=30)]
T = TypeVar("T", EventKind, Reason)


@router.get("")
def events_page(  # noqa: PLR0917 - called by name
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    site: Choice = "",
    door: Choice = "",
    kind: Choice = "",
    decision_reason: Choice = "",
    since: Moment = "",
    until: Moment = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """Events of a time, the newest first; of one site, door, kind or reason, or all. Without a time: of the last three days."""
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    chosen = {
        "site": site,
        "door": door,
        "kind": kind,
        "decision_reason": decision_reason,
        "since": since,
        "until": until,
    }
    asked, problem = _period(pages, since, until)
    first, last = span(*asked, now, hub.settings.retention.coarse)
    with hub.database.read() as connection:
        named_sites = sites.list_all(connection, principal.sites)
        named_doors = doors.list_all(connection, sites=principal.sites)
        wanted = Wanted(
            door=scope.door(connection, principal, DoorId(door)).door.id if door else None,
            controller=None,
            kinds=ABOUT_PEOPLE if kind == TAPS else _one_of(EventKind, kind),
            reasons=_one_of(Reason, decision_reason),
            since=first,
            until=asked[1],  # what a clock that is ahead says of the future is in no other list
            site=scope.site(connection, principal, SiteId(site)).id if site else None,
        ).seen_by(principal)
        found = wanted.listed(connection, before=before, newest_first=True, limit=PER_PAGE + 1)
        shown = answers(connection, found[:PER_PAGE])
        proven = records(connection, now, since=first, until=last, door_ids=wanted.doors, sites=wanted.sites)
    if not principal.may(Permission.NAMES_READ):
        shown = [each.without_names() for each in shown]
    looked(hub, principal, "events", shown=sum(each.person is not None for each in shown))
    untold = [each.name for each in proven if each.known_until is None]
    filters = {name: value for name, value in chosen.items() if value}
    return pages.response(
        request,
        "events.html",
        principal,
        status_code=422 if problem else 200,
        headers={"Cache-Control": "no-store"},
        events=[event_context(pages, each) for each in shown],
        chosen=chosen,
        sites=[(each.id, each.name) for each in named_sites],
        doors=[(each.door.id, each.name) for each in named_doors if wanted.site in (None, each.site_id)],
        kinds=[(each.value, pages.gettext(text)) for each, text in words.EVENTS.items()],
        reasons=[(each.value, pages.gettext(text)) for each, text in words.REASONS.items()],
        first=first,
        last=last,
        records=record_lines(pages, proven, since=first),
        told_until=min((each.known_until for each in proven if each.known_until), default=None),
        untold=untold[:LINES],
        more_untold=len(untold) - LINES,
        export=_export(wanted),
        newest=f"/events?{urlencode(filters)}" if before else "",
        older=f"/events?{urlencode(filters | {'before': shown[-1].id})}" if len(found) > PER_PAGE else "",
        problem=pages.gettext(problem),
    )


def _period(pages: Pages, since: str, until: str) -> tuple[tuple[datetime | None, datetime | None], str]:
    """From when to when, and what is wrong with that."""
    try:
        first, last = pages.read_moment(since), pages.read_moment(until)
    except ValueError:
        return (None, None), N_("Write a day and a time. Shown are the last three days.")
    if first and last and last <= first:
        return (None, None), N_("The end has to come after the beginning. Shown are the last three days.")
    return (first, last), ""


def _one_of(closed: type[T], value: str) -> tuple[T, ...]:
    """The member that is chosen, or none for all of them."""
    try:
        return (closed(value),) if value else ()
    except ValueError as error:
        raise Problem(Code.INVALID, "Choose among the kinds and reasons there are.") from error


def _export(wanted: Wanted) -> list[tuple[str, str]]:
    """What the export has to be asked for, to hold what is listed here."""
    asked: Iterable[tuple[str, Any]] = (
        ("door", wanted.door),
        ("site", wanted.site),
        ("since", wanted.since.isoformat(timespec="seconds") if wanted.since else None),
        ("until", wanted.until.isoformat(timespec="seconds") if wanted.until else None),
        *(("kind", each) for each in wanted.kinds),
        *(("decision_reason", each) for each in wanted.reasons),
    )
    return [(name, str(value)) for name, value in asked if value]
