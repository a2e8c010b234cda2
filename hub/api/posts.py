"""Posts: which doors somebody watches together, who does, and how it stands at each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictInt
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import ChangedMeanwhile, IfMatch, note, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.posts import check_unwatched
from hub.roles import Permission
from hub.store import controllers, doors
from hub.store import posts as store
from hub.store.errors import NotFound
from hub.store.posts import DoorStanding, Ended
from hub.versions import Parts
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.rules import DoorMode

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/posts", tags=["posts"])

MOST_DOORS = 20


@unique
class WhenClosed(StrEnum):
    """What doors do while nobody watches: their own mode is ``attended``, or ``secured``."""

    ATTENDED = "attended"
    UNATTENDED = "unattended"


MODES: Mapping[WhenClosed, DoorMode] = {
    WhenClosed.ATTENDED: DoorMode.ATTENDED,
    WhenClosed.UNATTENDED: DoorMode.SECURED,
}


class PostSettings(Body):
    """One post. The doors belong to no other; ``station_id``: a desk's reader, whose taps sign on.

    ``asks_every_s``: how often whoever watches is asked whether they are there; ``answer_within_s``: else the post closes.
    ``shown_s``: how long somebody who taps is shown. ``when_closed``: gives all its doors that mode of their own; null: they
    keep theirs.
    """

    name: fields.Name
    site_id: fields.Site | None = None
    door_ids: Annotated[list[fields.Door], Field(min_length=1, max_length=MOST_DOORS)]
    station_id: fields.Station | None = None
    asks_every_s: Annotated[StrictInt, Field(ge=5, le=3_000)] = 900
    answer_within_s: Annotated[StrictInt, Field(ge=5, le=300)] = 60
    shown_s: Annotated[StrictInt, Field(ge=3, le=60)] = 10
    when_closed: WhenClosed | None = None


class WatchedDoor(Answer):
    """One door of a post, as far as the hub has heard; ``mode``: its own, to which it returns (but for its schedule).

    ``standing``: ``open``; ``opening``, ``closing``: its controller has not answered, and it is open until ``open_until`` at the
    latest; ``refused``, for ``refusal``; ``ordered``: into a mode, which closed the post there; ``closed``.
    """

    door_id: fields.Door
    name: str
    online: bool
    standing: DoorStanding
    refusal: Reason | None
    open_until: datetime | None
    mode: DoorMode


class WatchedBy(Answer):
    """Who watches; the name is null for those who may not see names. ``ask_at``: when they are asked next."""

    by: str
    name: str | None
    since: datetime
    ask_at: datetime


class Post(Answer):
    """One post. ``ended``: why its last watch ended, while nobody watches. ``when_closed``: null: its doors differ."""

    id: fields.Post
    site_id: fields.Site
    name: str
    station_id: fields.Station | None
    asks_every_s: int
    answer_within_s: int
    shown_s: int
    when_closed: WhenClosed | None
    watched: WatchedBy | None
    ended: Ended | None
    ended_at: datetime | None
    doors: list[WatchedDoor]


class Posts(Answer):
    """The posts of the sites that you see, by id."""

    posts: list[Post]


@router.get("")
def listed(request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]) -> Posts:
    """Every post, with who watches there and how it stands at its doors."""
    hub = services(request)
    with hub.database.read() as connection:
        found = answers(connection, store.list_all(connection, principal.sites), hub.clock())
    return Posts(posts=[_seen(each, principal) for each in found])


@router.get("/{post_id}")
def one(
    post_id: fields.Post,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Post:
    """One post."""
    hub = services(request)
    with hub.database.read() as connection:
        (found,) = answers(connection, [scope.post(connection, principal, post_id)], hub.clock())
    tagged(response, parts_of(found))
    return _seen(found, principal)


@router.put("/{post_id}")
def put(
    post_id: fields.Post,
    body: PostSettings,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    if_match: IfMatch = None,
) -> Post:
    """Add a post or change it, while nobody watches there; a post keeps its site."""
    hub = services(request)
    with hub.database.write() as connection:
        if any(each.id == post_id for each in store.list_all(connection)):
            before = scope.post(connection, principal, post_id)
            unchanged(if_match, parts_of(*answers(connection, [before], hub.clock())))
            site_id = before.site_id
        elif if_match is not None:
            raise ChangedMeanwhile({})
        else:
            site_id = scope.site_for(connection, principal, body.site_id)
        check_unwatched(connection, post_id)
        new = store.Post(
            id=post_id,
            site_id=site_id,
            created_at=hub.clock(),
            door_ids=tuple(sorted(set(body.door_ids))),
            **body.model_dump(include={"name", "station_id", "asks_every_s", "answer_within_s", "shown_s"}),
        )
        try:
            store.put(connection, new)
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
        note(connection, hub, principal, action="post.change", subject=f"post:{post_id}")
        if body.when_closed is not None:
            for door_id in _given_mode(connection, new, MODES[body.when_closed]):
                note(connection, hub, principal, action="door.change", subject=f"door:{door_id}")
        (made,) = answers(connection, [store.get(connection, post_id)], hub.clock())
    hub.site_changed(site_id)
    tagged(response, parts_of(made))
    return _seen(made, principal)


@router.delete("/{post_id}", status_code=204)
def remove(
    post_id: fields.Post, request: Request, principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)]
) -> Response:
    """Remove a post that nobody watches; its doors keep their own modes."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.post(connection, principal, post_id)
        check_unwatched(connection, post_id)
        store.remove(connection, post_id)
        note(connection, hub, principal, action="post.remove", subject=f"post:{post_id}")
    return Response(status_code=204)


def parts_of(post: Post) -> Parts:
    """What of a post can be changed."""
    said = post.model_dump(
        include={"name", "station_id", "asks_every_s", "answer_within_s", "shown_s", "when_closed"}
    )
    return said | {"door_ids": [each.door_id for each in post.doors]}


def answers(connection: Connection, found: Sequence[store.Post], now: datetime) -> list[Post]:
    """Posts with the names of doors, and who watches."""
    states = controllers.presence(connection, now) if found else {}
    watching = {each.post_id: each for each in store.watches(connection)}
    shown = []
    for post in found:
        watch = watching.get(post.id)
        of_post = []
        for each in store.doors_of(connection, post.id):
            named = doors.get(connection, each.door_id)
            is_open = each.may_be_open(now)
            of_post.append(
                WatchedDoor(
                    door_id=each.door_id,
                    name=named.name,
                    online=states[named.door.controller_id].online,
                    standing=each.standing(now, is_watched=watch is not None),
                    refusal=each.command.refusal if each.command else None,
                    open_until=each.lease_until if is_open else None,
                    mode=named.door.mode,
                )
            )
        modes = {each.mode for each in of_post}
        settings = {name: getattr(post, name) for name in _SAME}
        shown.append(
            Post(
                **settings,
                when_closed=next((name for name, mode in MODES.items() if modes == {mode}), None),
                watched=None if watch is None else _watched_by(watch),
                doors=of_post,
            )
        )
    return shown


_SAME = (
    "id", "site_id", "name", "station_id", "asks_every_s", "answer_within_s", "shown_s", "ended", "ended_at",
)  # fmt: skip


def _watched_by(watch: store.Watch) -> WatchedBy:
    return WatchedBy(by=watch.actor, name=watch.operator_name, since=watch.since, ask_at=watch.ask_at)


def _seen(post: Post, principal: Principal) -> Post:
    if post.watched is None or principal.may(Permission.NAMES_READ):
        return post
    return post.model_copy(update={"watched": post.watched.model_copy(update={"name": None})})


def _given_mode(connection: Connection, post: store.Post, mode: DoorMode) -> list[DoorId]:
    """Make this the own mode of a post's doors, to which they return when nobody watches; those that had another."""
    changed = []
    for door_id in post.door_ids:
        named = doors.get(connection, door_id)
        if named.door.mode is not mode:
            doors.change(connection, replace(named.door, mode=mode), name=named.name)
            changed.append(door_id)
    return changed
