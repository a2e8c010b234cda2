"""The guard's page: who waits at an attended door, and one touch or key to let them in or not."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from hub import photographs
from hub.api import scope
from hub.api.access import DeclaredRoute, requires
from hub.api.attended import AttendedAnswer, Person, RequestInPath, Verdict, shown_to
from hub.api.door_status import DoorStatus, statuses
from hub.api.feed import EventStream, Variant
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.api.stream import frames
from hub.attendance import RequestAnswered, RequestOver
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import attendance as store
from hub.store import photographs as photograph_store
from hub.store.attendance import PENDING, RequestState
from hub.store.errors import NotFound

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

JUST_NOW = timedelta(hours=1)
ENDED_SHOWN = 10
BADGES = 0.5
"""Of the room for live pages: no badge keeps a guard's page out."""
_FLAGS = {
    "minor": N_("Minor"),
    "extended_opening": N_("Door stays unlocked longer"),
    "escort_required": N_("Needs an escort"),
}


@router.get("/attended")
def attended_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)],
    late: Annotated[str, Query(max_length=32)] = "",
) -> Response:
    """Everybody who waits, and what became of those before. ``late``: the request that somebody answered too late."""
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    with hub.database.read() as connection:
        waiting = store.pending(connection, now, principal.sites)
        newest = store.listing(connection, since=now - JUST_NOW, limit=50, sites=principal.sites)
        doors = statuses(connection, now, sites=principal.sites)
    ended = [each for each in newest if each.state(now) not in PENDING][:ENDED_SHOWN]
    shown = shown_to(hub, principal, [*waiting, *ended])
    too_late = next((each for each in shown if each.id == late), None)
    return pages.response(
        request,
        "attended.html",
        principal,
        waiting=[request_context(pages, each, now) for each in shown if each.is_pending],
        ended=[request_context(pages, each, now) for each in shown if not each.is_pending],
        too_late=too_late and request_context(pages, too_late, now),
        most=ENDED_SHOWN,
        silent=[each for each in doors if not each.online],
    )


class AnswerForm(Body):
    """The buttons beside a request; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    answer: Verdict


@router.post("/attended/{request_id}/answer")
def answer(
    request_id: RequestInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)],
    form: Annotated[AnswerForm, Form()],
) -> Response:
    """Let somebody in, or not; whoever is too late is told who answered, and when."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.attended(connection, principal, request_id)
    granted = form.answer is Verdict.GRANT
    try:
        hub.attendance.answer(request_id, granted=granted, reason="", actor=principal.actor)
    except (RequestAnswered, RequestOver):
        return RedirectResponse(f"/attended?late={request_id}", 303)
    return RedirectResponse("/attended", 303)


@router.get("/attended/{request_id}/photo")
def photograph(
    request_id: RequestInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)],
) -> Response:
    """The photograph of somebody who waits, while they wait; never kept. The look is audited as the request's."""
    hub = services(request)
    if not principal.may(Permission.NAMES_READ):
        raise Problem(Code.NOT_PERMITTED)
    with hub.database.read() as connection:
        found = scope.attended(connection, principal, request_id)
    person = hub.attendance.show([found], [principal.actor]).get(found.credential_id)
    if person is None:
        raise NotFound("nobody who is known waits by this request")
    with hub.database.read() as connection:
        picture = photograph_store.get(connection, person.cardholder_id)
    return Response(picture, media_type=photographs.MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.get("/attended/stream")
async def stream(
    request: Request, principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)]
) -> EventStream:
    """Requests as they come and end, and doors that are not heard, as fragments of the page."""
    services(request).feed.check_room(principal.actor)
    pages, names = pages_of(request), principal.may(Permission.NAMES_READ)
    variants: dict[tuple[str, bool], Variant] = request.app.state.attended_variants
    variant = replace(variants[pages.language.code, names], sites=principal.sites)
    return EventStream(frames(request, principal, variant, None))


@router.get("/attended/waiting")
async def waiting(
    request: Request, principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)]
) -> EventStream:
    """Which requests wait, by their ids alone, for the badge on every page; no look at anybody."""
    services(request).feed.check_room(principal.actor, share=BADGES)
    variant = replace(_WAITING, sites=principal.sites)
    return EventStream(frames(request, principal, variant, None))


def attended_variant(pages: Pages, *, names: bool) -> Variant:
    """How this page sees the live stream."""
    return Variant(
        tap=_nothing, door=_silent, names=names, attended=_RequestFragment(pages), only_attended=True
    )


def _nothing(_tap: object) -> str:
    return "{}"


def _silent(door: DoorStatus) -> str:
    return json.dumps({"id": door.id, "name": door.name, "online": door.online})


def _only_that(shown: AttendedAnswer) -> str:
    return json.dumps({"id": shown.id, "pending": shown.is_pending})


_WAITING = Variant(tap=_nothing, door=None, names=False, attended=_only_that, only_attended=True)


@dataclass(frozen=True)
class _RequestFragment:
    pages: Pages

    def __call__(self, shown: AttendedAnswer) -> str:
        context = request_context(self.pages, shown, self.pages.now())
        template = "attended_request.html" if shown.is_pending else "attended_end.html"
        html = self.pages.fragment(template, request=context)
        return json.dumps({"id": shown.id, "pending": shown.is_pending, "html": html})


def request_context(pages: Pages, shown: AttendedAnswer, now: datetime) -> dict[str, Any]:
    """What the fragments of one request show."""
    _ = pages.gettext
    became = became_text(pages, shown)
    return {
        "id": shown.id,
        "state": shown.state,
        "waiting": shown.state is RequestState.WAITING,
        "door_name": shown.door_name,
        "side_text": _(words.SIDES[shown.side]) if shown.side else "",
        "reason_text": _(words.REASONS[shown.reason]),
        "expires_at": shown.expires_at,
        "left_s": max(0, int((shown.expires_at - now).total_seconds())),
        "lasts_s": max(1, int((shown.expires_at - shown.received_at).total_seconds())),
        "person": shown.person,
        "flags": _flags(pages, shown.person) if shown.person else [],
        "blur_photo": shown.blur_photo,
        "became": became,
        "by": _by(pages, shown),
        "at": shown.answer.at if shown.answer else shown.ended_at,
        "good": shown.state is RequestState.GRANTED,
        "refusal": _(words.REASONS[shown.answer.refusal]) if shown.answer and shown.answer.refusal else "",
        "announcement": f"{shown.door_name}: {became}" if became else shown.door_name,
    }


def became_text(pages: Pages, shown: AttendedAnswer) -> str:
    """What became of a request so far, in words that claim no more than its door has said; empty while it waits."""
    _ = pages.gettext
    if shown.state is RequestState.WAITING:
        return ""
    if shown.state is RequestState.ANSWERED and shown.answer is not None:
        return _(ANSWERED[shown.answer.verdict])
    if shown.state is RequestState.UNANSWERED and shown.came_late:
        return _("Arrived only when its time was over")
    if shown.state is RequestState.UNANSWERED and not shown.is_recorded:
        return _("Over; the door announced it, and its record of it has not come")
    text = _(words.REQUEST_STATES[shown.state])
    if shown.state in (RequestState.TIMEOUT, RequestState.UNANSWERED) and not shown.looks:
        unseen = _("no page was open that could show it")
        return f"{text} ({unseen})"
    return f"{text}: {_(words.REASONS[shown.outcome_reason])}" if shown.outcome_reason else text


ANSWERED = {
    Verdict.GRANT: N_("Approved; the door has not answered yet"),
    Verdict.REFUSE: N_("Refused; the door has not answered yet"),
}


def _by(pages: Pages, shown: AttendedAnswer) -> str:
    """Who answered, when that is how it stands or ended."""
    said = shown.state in (RequestState.ANSWERED, RequestState.GRANTED, RequestState.REFUSED)
    if shown.answer is None or not (said or shown.state is RequestState.UNANSWERED):
        return ""
    return shown.answer.name or pages.gettext("a program")


def _flags(pages: Pages, person: Person) -> list[str]:
    _ = pages.gettext
    found = [_(text) for name, text in _FLAGS.items() if getattr(person, name)]
    if person.minor and person.guardian:
        answers_for = _("guardian")
        found[0] = f"{found[0]}; {answers_for}: {person.guardian}"
    return found
