"""How a post's doors are kept open: by leases, each a signed command.

Each lasts for ``LEASE`` and never beyond the time in which whoever watches has to answer, so that a door closes by itself when
nobody renews it. A command to close is sent for at least as long as a lease can last.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from hub.commands import Commands, Order
from hub.store import posts
from hub.store.commands import StoredCommand
from hub.store.errors import NotFound
from hub.store.posts import Post, PostDoor, Watch
from pacs.commands import MAX_LIFETIME, Action
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, DoorId, PostId

LEASE: Final = timedelta(minutes=4)
RENEW_AFTER: Final = timedelta(minutes=2)

assert LEASE <= MAX_LIFETIME  # noqa: S101 - or a command to close could end before what it closes


def deadline(post: Post, watch: Watch) -> datetime:
    """When whoever watches has to have answered at the latest; to the millisecond, as commands have it."""
    latest = watch.ask_at + timedelta(seconds=post.answer_within_s)
    return latest - timedelta(microseconds=latest.microsecond % 1000)


def any_to_renew(connection: Connection, post: Post, watch: Watch, now: datetime) -> bool:
    """Whether ``renew`` has something to do."""
    until = deadline(post, watch)
    return any(_is_to_renew(each, until, now) for each in posts.doors_of(connection, post.id))


def renew(
    connection: Connection, commands: Commands, post: Post, watch: Watch, now: datetime
) -> list[StoredCommand]:
    """Commands, to be sent after the commit, that keep open what nobody closed meanwhile."""
    until = deadline(post, watch)
    due = [each for each in posts.doors_of(connection, post.id) if _is_to_renew(each, until, now)]
    return _open(connection, commands, due, watch, now, until=until, anew=False)


def open_anew(
    connection: Connection,
    commands: Commands,
    post: Post,
    watch: Watch,
    now: datetime,
    *,
    only: Collection[DoorId] | None = None,
) -> list[StoredCommand]:
    """Commands, to be sent after the commit, that open all doors of a post, or some."""
    wanted = [each for each in posts.doors_of(connection, post.id) if only is None or each.door_id in only]
    return _open(connection, commands, wanted, watch, now, until=deadline(post, watch), anew=True)


def close(
    connection: Connection, commands: Commands, post_id: PostId, now: datetime, actor: str
) -> list[StoredCommand]:
    """Commands, to be sent after the commit, that close whatever may be open."""
    given = []
    for door in posts.doors_of(connection, post_id):
        if not door.may_be_open(now) or door.is_ordered:
            continue
        order = Order(door_id=door.door_id, action=Action.CLOSE_POST)
        with suppress(NotFound):  # its controller is withdrawn
            command = commands.store(connection, order, reason="", actor=actor, now=now)
            posts.closed(connection, door.door_id, command)
            given.append(command)
    return given


def noted(connection: Connection, controller_id: ControllerId, event: Event) -> None:
    """Take note of what an event says of posts, in the transaction that stores it."""
    if event.draft.kind is EventKind.CONTROLLER_STARTED:
        posts.forgotten(connection, controller_id)


def _open(
    connection: Connection,
    commands: Commands,
    wanted: Collection[PostDoor],
    watch: Watch,
    now: datetime,
    *,
    until: datetime,
    anew: bool,
) -> list[StoredCommand]:
    given, ends = [], min(now + LEASE, until)
    for door in wanted:
        order = Order(
            door_id=door.door_id, action=Action.OPEN_POST, until=ends, lasts_until=ends, renews=not anew
        )
        with suppress(NotFound):  # its controller is withdrawn
            command = commands.store(connection, order, reason="", actor=watch.actor, now=now)
            posts.opened(connection, door, command, anew=anew)
            given.append(command)
    return given


def _is_to_renew(door: PostDoor, until: datetime, now: datetime) -> bool:
    if door.is_stopped:
        return False
    lease = door.lease_until
    return lease is None or (lease < until and lease - now <= LEASE - RENEW_AFTER)
