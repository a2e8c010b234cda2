"""Posts: signing on, who passes while somebody watches, and setting posts up."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub import photographs
from hub.api import fields, scope
from hub.api import posts as api
from hub.api.access import DeclaredRoute, identify, requires
from hub.api.changes import ChangedMeanwhile
from hub.api.feed import EventStream
from hub.api.problems import Problem
from hub.api.services import Services, services
from hub.live import Closing, EventStored, LiveEvent, Missed
from hub.operators import Principal, digest
from hub.pages import words
from hub.pages.browser_session import session_token
from hub.pages.outdated import Version, changed_meanwhile, tag_of
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.passing import Passing
from hub.posts import Over, PostTaken, Viewing
from hub.roles import Permission
from hub.station_taps import StationTap
from hub.store import doors, sites, stations
from hub.store import posts as store
from hub.store.errors import InUse
from hub.store.events import ABOUT_PEOPLE
from hub.store.posts import DoorStanding
from hub.store.stations import StationKind
from hub.versions import version_of
from pacs.events import EventKind
from pacs.identifiers import PostId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/posts")

AtPost = Annotated[Principal, requires(Permission.ATTENDED_ANSWER)]
Manager = Annotated[Principal, requires(Permission.DOORS_MANAGE)]
LOOK_S = 2.0
"""How often an open page asks whether it still may, and how it stands at the doors."""
SEEN_S = 5.0
"""How often it says that it is open."""
SOON_S = 0.2
_FLAGS = {"minor": N_("Minor"), "extended_opening": N_("Door stays unlocked longer")}
_OUTCOMES = {
    EventKind.ACCESS_GRANTED: ("good", N_("Was let in")),
    EventKind.ACCESS_DENIED: ("bad", N_("Refused")),
    EventKind.ACCESS_REFERRED: ("warn", N_("Waits for an answer")),
}
_DONE = {"saved": N_("Saved."), "removed": N_("Removed.")}
_PARTS = {
    "name": N_("Name"),
    "door_ids": N_("Doors"),
    "station_id": N_("Reader for signing on by card"),
    "asks_every_s": N_("Ask every so many minutes whether somebody is still there"),
    "answer_within_s": N_("Seconds to answer; else the post closes"),
    "shown_s": N_("Seconds for which somebody who passes is shown"),
    "when_closed": N_("When nobody watches"),
}
_PROBLEM = N_("Give a name, at least one door that belongs to no other post, and times within their bounds.")


class Button(fields.Body):
    """A form of one button; ``csrf_token`` is checked before."""

    csrf_token: str = ""


class SignOnForm(Button):
    """The button of who signs on."""

    take_over: bool = False


class PostForm(Button):
    """A post as typed."""

    version: Version = ""
    name: Annotated[str, Field(max_length=200)] = ""
    site_id: fields.Site | None = None
    door: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=100, default_factory=list)]
    station: Annotated[str, Field(max_length=100)] = ""
    asks_every_min: Annotated[int, Field(ge=1, le=50)] = 15
    answer_within_s: Annotated[int, Field(ge=15, le=300)] = 60
    shown_s: Annotated[int, Field(ge=3, le=60)] = 10
    when_closed: Annotated[str, Field(max_length=20)] = ""


@router.get("")
def posts_page(request: Request, principal: AtPost) -> Response:
    """The posts that one may watch at; and setting them up, for who may."""
    return _list(request, principal)


@router.post("")
def add(request: Request, principal: Manager, form: Annotated[PostForm, Form()]) -> Response:
    """Set up a post."""
    return _put(PostId(f"post-{secrets.token_hex(4)}"), request, principal, form)


@router.get("/{post_id}")
def post_page(post_id: fields.Post, request: Request, principal: AtPost) -> Response:
    """One post: who watches, and who passes."""
    return _page(post_id, request, principal)


@router.post("/{post_id}")
def change(
    post_id: fields.Post, request: Request, principal: Manager, form: Annotated[PostForm, Form()]
) -> Response:
    """Change a post that nobody watches."""
    with services(request).database.read() as connection:
        scope.post(connection, principal, post_id)
    return _put(post_id, request, principal, form)


@router.post("/{post_id}/remove")
def remove(
    post_id: fields.Post,
    request: Request,
    principal: Manager,
    form: Annotated[Button, Form()],  # noqa: ARG001 - reads the form
) -> Response:
    """Remove a post that nobody watches."""
    try:
        api.remove(post_id, request, principal)
    except InUse as error:
        return _list(request, principal, problem=str(error))
    return RedirectResponse("/posts?done=removed", 303)


@router.post("/{post_id}/sign-on")
def sign_on(
    post_id: fields.Post, request: Request, principal: AtPost, form: Annotated[SignOnForm, Form()]
) -> Response:
    """Watch from here on; in somebody else's place only by taking over."""
    session = session_token(request, principal)
    try:
        services(request).posts.sign_on(principal, session, post_id, take_over=form.take_over)
    except PostTaken:
        return _page(post_id, request, principal, wanted=True, status_code=409)
    return RedirectResponse(f"/posts/{post_id}", 303)


@router.post("/{post_id}/sign-off")
def sign_off(
    post_id: fields.Post,
    request: Request,
    principal: AtPost,
    form: Annotated[Button, Form()],  # noqa: ARG001 - reads the form
) -> Response:
    """Close the post."""
    services(request).posts.sign_off(principal, session_token(request, principal), post_id)
    return RedirectResponse(f"/posts/{post_id}", 303)


@router.post("/{post_id}/here")
def here(
    post_id: fields.Post,
    request: Request,
    principal: AtPost,
    form: Annotated[Button, Form()],  # noqa: ARG001 - reads the form
) -> Response:
    """Say that one is still there."""
    services(request).posts.confirm(principal, session_token(request, principal), post_id)
    return RedirectResponse(f"/posts/{post_id}", 303)


@router.post("/{post_id}/open-again")
def open_again(
    post_id: fields.Post,
    request: Request,
    principal: AtPost,
    form: Annotated[Button, Form()],  # noqa: ARG001 - reads the form
) -> Response:
    """Open the doors that an order or a refusal closed."""
    services(request).posts.open_again(principal, session_token(request, principal), post_id)
    return RedirectResponse(f"/posts/{post_id}", 303)


@router.get("/{post_id}/stream", response_class=EventStream)
async def stream(post_id: fields.Post, request: Request, principal: AtPost) -> EventStream:
    """Server-sent events of this post: ``standing``, ``beat``, ``look``, ``missed`` and, at the end, ``changed`` or ``over``."""
    hub, session = services(request), session_token(request, principal)
    viewing = await run_in_threadpool(hub.posts.open_page, principal, session, post_id)
    return EventStream(_frames(_OpenPage(request, hub, session, viewing), hub))


@router.get("/{post_id}/photo/{look}")
def photograph(
    post_id: fields.Post,
    look: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{43}$")],
    request: Request,
    principal: AtPost,
) -> Response:
    """The photograph of one look, once; never kept."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.post(connection, principal, post_id)
    data = hub.desks.photograph(session_token(request, principal), look)
    return Response(data, media_type=photographs.MEDIA_TYPE, headers={"Cache-Control": "no-store"})


def _put(post_id: PostId, request: Request, principal: Principal, form: PostForm) -> Response:
    typed = {
        "name": form.name.strip(),
        "site_id": form.site_id,
        "door_ids": form.door,
        "station_id": form.station or None,
        "asks_every_s": 60 * form.asks_every_min,
        "answer_within_s": form.answer_within_s,
        "shown_s": form.shown_s,
        "when_closed": form.when_closed or None,
    }
    try:
        body = api.PostSettings.model_validate(typed)
        api.put(post_id, body, request, Response(), principal, if_match=tag_of(form.version))
    except ChangedMeanwhile as error:
        said = changed_meanwhile(pages_of(request), form.version, error, _PARTS)
        return _list(request, principal, problem=said, status_code=409)
    except (ValidationError, Problem):
        return _list(request, principal, problem=_PROBLEM)
    except InUse as error:
        return _list(request, principal, problem=str(error))
    return RedirectResponse("/posts?done=saved", 303)


def _list(request: Request, principal: Principal, *, problem: str = "", status_code: int = 422) -> Response:
    hub, pages = services(request), pages_of(request)
    may_manage = principal.may(Permission.DOORS_MANAGE)
    with hub.database.read() as connection:
        found = api.answers(connection, store.list_all(connection, principal.sites), hub.clock())
        names = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
        at_site = next(iter(names)) if len(names) == 1 else request.query_params.get("site", "")
        places = doors.places(connection, principal.sites) if may_manage else []
        readers = stations.list_all(connection, principal.sites, StationKind.DESK) if may_manage else []
    return pages.response(
        request,
        "posts.html",
        principal,
        status_code=status_code if problem else 200,
        posts=found,
        versions={each.id: version_of(api.parts_of(each)) for each in found},
        site_names=names,
        at_site=at_site if at_site in names else "",
        may_manage=may_manage,
        places=[each for each in places if not each.private],
        readers=readers,
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )


def _page(
    post_id: PostId, request: Request, principal: Principal, *, wanted: bool = False, status_code: int = 200
) -> Response:
    hub, pages = services(request), pages_of(request)
    cookie = session_token(request, principal) if principal.csrf_token else None
    with hub.database.read() as connection:
        post = scope.post(connection, principal, post_id)
        watch = store.watch_at(connection, post_id)
        (shown,) = api.answers(connection, [post], hub.clock())
        reader = stations.get(connection, post.station_id) if post.station_id else None
    is_mine = cookie is not None and watch is not None and watch.session_hash == digest(cookie)
    return pages.response(
        request,
        "post.html",
        principal,
        status_code=status_code,
        post=shown,
        is_mine=is_mine,
        wanted=wanted,
        reader=reader,
        ended_text=pages.gettext(words.POSTS_ENDED[post.ended]) if post.ended else "",
        doors=_doors(pages, shown),
        can_open_again=_can_open_again(shown),
    )


def _doors(pages: Pages, post: api.Post) -> list[dict[str, Any]]:
    """How it stands at each door, in words that claim no more than its controller has said."""
    shown = []
    for door in post.doors:
        tone, text = words.POST_DOORS[door.standing]
        said = pages.gettext(text)
        if door.standing is DoorStanding.REFUSED and door.refusal:
            said = f"{said}: {pages.gettext(words.REASONS[door.refusal])}"
        shown.append(
            {
                "name": door.name,
                "tone": tone if door.online else "warn",
                "said": said,
                "online": door.online,
                "until": door.open_until if door.standing is DoorStanding.CLOSING else None,
                "mode": pages.gettext(words.MODES[door.mode]),
            }
        )
    return shown


def _can_open_again(post: api.Post) -> bool:
    return any(each.standing in (DoorStanding.REFUSED, DoorStanding.ORDERED) for each in post.doors)


async def _frames(page: _OpenPage, hub: Services) -> AsyncGenerator[bytes, None]:
    """What one page sees until it may not any more."""
    clock, look_at = asyncio.get_running_loop().time, 0.0
    with hub.live.subscribe() as subscription:
        yield b"retry: 2000\n\n"
        while not page.is_over:
            if clock() >= look_at:
                yield await run_in_threadpool(page.look)
                look_at = clock() + LOOK_S
                continue
            batch: list[LiveEvent] = []
            with suppress(TimeoutError):
                batch = await asyncio.wait_for(subscription.batch(), look_at - clock())
            if any(isinstance(event, Closing) for event in batch):
                return
            if any(isinstance(event, EventStored | StationTap) for event in batch):
                look_at = min(look_at, clock() + SOON_S)
            for frame in await run_in_threadpool(page.happened, batch) if batch else ():
                yield frame


class _OpenPage:
    """One page of a session at a post, and what it was shown; ``is_over``: nothing more."""

    def __init__(self, request: Request, hub: Services, session: str, viewing: Viewing) -> None:
        self._request = request
        self._hub = hub
        self._session = session
        self._viewing = viewing
        self._shown = b""
        self._by: bytes | None = None
        self._seen_at_s = -math.inf
        self.is_over = False

    def look(self) -> bytes:
        """How it stands, or that nothing is new; or why the page is over."""
        hub, viewing = self._hub, self._viewing
        if (now_s := time.monotonic()) >= self._seen_at_s + SEEN_S:
            self._seen_at_s = now_s
            hub.posts.seen(viewing)
        principal = identify(self._request, is_use=False)
        with hub.database.read() as connection:
            over = hub.posts.over(connection, viewing, principal)
            if over is not None:
                return self._end("over", why=over)
            watch = store.watch_at(connection, viewing.post_id)
            (post,) = api.answers(connection, [store.get(connection, viewing.post_id)], hub.clock())
        by = watch.session_hash if watch else b""
        self._by = by if self._by is None else self._by
        if not viewing.watches and by != self._by:
            return self._end("changed")
        standing = _standing(pages_of(self._request), post)
        if standing == self._shown:
            return _frame("beat")
        self._shown = standing
        return standing

    def happened(self, batch: Sequence[LiveEvent]) -> list[bytes]:
        """Who passed, and what cards at the post's reader did."""
        frames = [_frame("missed")] if any(isinstance(event, Missed) for event in batch) else []
        principal = identify(self._request, is_use=False)
        for event in batch:
            if isinstance(event, StationTap):
                self._hub.posts.carded(self._viewing, self._session, event, principal)
        ids = [event.id for event in batch if isinstance(event, EventStored) and event.kind in ABOUT_PEOPLE]
        if not ids or not self._viewing.watches:
            return frames
        found = self._hub.posts.passing(self._viewing, ids, principal)
        if isinstance(found, Over):
            return [*frames, self._end("over", why=found)]
        return frames + [_look(pages_of(self._request), self._viewing, each) for each in found]

    def _end(self, event: str, **data: Any) -> bytes:
        self.is_over = True
        return _frame(event, **data)


def _standing(pages: Pages, post: api.Post) -> bytes:
    return _frame(
        "standing",
        html=pages.fragment("post_doors.html", doors=_doors(pages, post)),
        ask_at=post.watched and post.watched.ask_at.isoformat(),
        within_s=post.answer_within_s,
        can_open_again=_can_open_again(post),
    )


def _look(pages: Pages, viewing: Viewing, passing: Passing) -> bytes:
    _ = pages.gettext
    person, event = passing.person, passing.event
    tone, outcome = _OUTCOMES[event.kind]
    name = person.given_name if person else _("Unknown card")
    reason = _(words.REASONS[event.reason]) if event.reason and tone != "good" else ""
    html = pages.fragment(
        "post_look.html",
        tone=tone,
        outcome=_(outcome),
        reason=reason,
        name=name,
        waits=event.kind is EventKind.ACCESS_REFERRED,
        flags=[_(text) for flag, text in _FLAGS.items() if person and getattr(person, flag)],
        note=person.door_note if person else None,
        door_name=passing.door_name,
        at=event.occurred_at,
        photograph=passing.photograph and f"/posts/{viewing.post_id}/photo/{passing.photograph}",
        blur_photo=passing.blur_photo,
    )
    said = f"{passing.door_name}: {name}, {_(outcome)}"
    return _frame("look", html=html, shown_s=passing.shown_s, said=said)


def _frame(event: str, **data: Any) -> bytes:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n".encode()
