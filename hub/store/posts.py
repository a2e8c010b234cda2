"""Posts: which doors belong to each, who watches there, and until when each door is open by that."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from hub.store import commands
from hub.store.commands import CommandState, Outcome, StoredCommand
from hub.store.database import fields, insert_new
from hub.store.errors import InUse, NotFound
from hub.store.schema import controllers, doors, operators, post_doors, post_watches, posts, stations
from hub.store.sites import Sites, within
from hub.store.stations import StationKind
from pacs.commands import Action
from pacs.identifiers import ControllerId, DoorId, PostId, SiteId, StationId
from pacs.reason import Reason


@unique
class Ended(StrEnum):
    """Why a watch ended; wire strings."""

    SIGNED_OFF = "signed_off"
    NOT_ANSWERED = "not_answered"
    TAKEN_OVER = "taken_over"
    SESSION_OVER = "session_over"
    PAGE_GONE = "page_gone"


@unique
class DoorStanding(StrEnum):
    """How the post stands at one door, as far as the hub has heard; wire strings."""

    OPEN = "open"
    OPENING = "opening"
    """It is to be open, and its controller has not answered."""
    REFUSED = "refused"
    ORDERED = "ordered"
    """It was ordered into a mode meanwhile, which closed it."""
    CLOSING = "closing"
    """It is to be closed, and its controller has not answered; it is open until its lease ends at the latest."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One post. ``asks_every_s``: how often whoever watches is asked whether they are there; ``answer_within_s``: then it closes.

    ``station_id``: the desk's reader beside it. ``shown_s``: how long somebody who taps is shown. ``page_at``: a page of it was open
    last; ``ended``: why its last watch did.
    """

    id: PostId
    site_id: SiteId
    name: str
    door_ids: tuple[DoorId, ...]
    asks_every_s: int
    answer_within_s: int
    shown_s: int
    created_at: datetime
    station_id: StationId | None = None
    page_at: datetime | None = None
    ended: Ended | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A browser's session at a post. ``ask_at``: when it is asked next; ``page``: the one of its pages that shows who passes."""

    post_id: PostId
    session_hash: bytes
    operator_id: str
    operator_name: str
    since: datetime
    ask_at: datetime
    page: str | None
    seen_at: datetime

    @property
    def actor(self) -> str:
        """As in the audit log."""
        return f"operator:{self.operator_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostDoor:
    """One door of a post. ``command``: the newest, to open or to close. ``lease_until``: longer it is open by no command.

    ``heard_until``: so long it is open by one that its controller took. ``is_ordered``: it was ordered into a mode since.
    """

    door_id: DoorId
    post_id: PostId
    opened_at: datetime | None
    lease_until: datetime | None
    heard_until: datetime | None
    command: StoredCommand | None
    is_ordered: bool

    @property
    def taken_until(self) -> datetime | None:
        """So long it is open by a command that its controller took."""
        taken = self.command
        if taken is not None and taken.action is Action.OPEN_POST and taken.outcome is Outcome.EXECUTED:
            return taken.until
        return self.heard_until

    @property
    def is_stopped(self) -> bool:
        """It is not opened again until somebody says so."""
        refused = self.command is not None and self.command.refusal is Reason.COMMAND_OUT_OF_PLACE
        return self.is_ordered or refused

    def may_be_open(self, now: datetime) -> bool:
        """Whether a command that opens it may still hold."""
        return self.lease_until is not None and self.lease_until > now

    def standing(self, now: datetime, *, is_watched: bool) -> DoorStanding:
        """How it stands at this moment."""
        if not is_watched:
            answered = self.command is None or self.command.outcome is not None
            return DoorStanding.CLOSING if self.may_be_open(now) and not answered else DoorStanding.CLOSED
        if self.is_ordered:
            return DoorStanding.ORDERED
        if self.command is not None and self.command.state(now) is CommandState.REFUSED:
            return DoorStanding.REFUSED
        taken_until = self.taken_until
        return DoorStanding.OPEN if taken_until and taken_until > now else DoorStanding.OPENING


def put(connection: Connection, post: Post) -> None:
    """Add or change a post; raises ``NotFound`` for what it names and is not there, ``InUse`` for a door of another post."""
    _check(connection, post)
    values = {name: getattr(post, name) for name in _SETTINGS}
    if not connection.execute(update(posts).where(posts.c.id == post.id).values(values)).rowcount:
        insert_new(connection, posts, {"id": post.id, "created_at": post.created_at, **values})
    connection.execute(delete(post_doors).where(post_doors.c.post_id == post.id))
    connection.execute(
        insert(post_doors), [{"door_id": each, "post_id": post.id} for each in sorted(post.door_ids)]
    )


_SETTINGS = ("site_id", "name", "station_id", "asks_every_s", "answer_within_s", "shown_s")


def _check(connection: Connection, post: Post) -> None:
    query = select(doors.c.id).join(controllers)
    query = query.where(doors.c.id.in_(sorted(post.door_ids)), controllers.c.site_id == post.site_id)
    if missing := set(post.door_ids) - {DoorId(each) for each in connection.scalars(query)}:
        raise NotFound(f"door {min(missing)} is not there")
    columns = post_doors.c
    others = select(columns.door_id, columns.post_id).where(columns.door_id.in_(sorted(post.door_ids)))
    for door_id, post_id in connection.execute(others.where(columns.post_id != post.id)):
        raise InUse(f"door {door_id} belongs to post {post_id}")
    if post.station_id is None:
        return
    columns = stations.c
    query = select(columns.id).where(columns.id == post.station_id, columns.site_id == post.site_id)
    query = query.where(columns.kind == StationKind.DESK, columns.retired_at.is_(None))
    if connection.execute(query).first() is None:
        raise NotFound(f"station {post.station_id} is not a desk's at this site")


def remove(connection: Connection, post_id: PostId) -> None:
    """Delete a post that nobody watches."""
    connection.execute(delete(posts).where(posts.c.id == post_id))


def get(connection: Connection, post_id: PostId) -> Post:
    """One post; raises ``NotFound``."""
    found = _read(connection, select(posts).where(posts.c.id == post_id))
    if not found:
        raise NotFound(f"post {post_id} is not there")
    return found[0]


def list_all(connection: Connection, sites: Sites = None) -> list[Post]:
    """The posts of these sites, by id."""
    return _read(connection, select(posts).where(within(posts.c.site_id, sites)).order_by(posts.c.id))


def of_station(connection: Connection, station_id: StationId) -> list[Post]:
    """The posts beside this reader."""
    return _read(connection, select(posts).where(posts.c.station_id == station_id))


def doors_of(connection: Connection, post_id: PostId) -> list[PostDoor]:
    """The doors of a post, by id, each as it stands."""
    query = select(post_doors).where(post_doors.c.post_id == post_id).order_by(post_doors.c.door_id)
    rows = connection.execute(query).all()
    given = commands.with_ids(connection, [row.command_id for row in rows if row.command_id])
    ordered = commands.ordered_since(connection, {DoorId(row.door_id): row.opened_at for row in rows})
    return [
        PostDoor(
            door_id=DoorId(row.door_id),
            post_id=PostId(row.post_id),
            opened_at=row.opened_at,
            lease_until=row.lease_until,
            heard_until=row.heard_until,
            command=given.get(row.command_id),
            is_ordered=row.door_id in ordered,
        )
        for row in rows
    ]


def opened(connection: Connection, door: PostDoor, command: StoredCommand, *, anew: bool) -> None:
    """This command opens the door, or keeps it open unless ``anew``; of those that keep it only the newest is left."""
    before = door.command
    is_kept = before is None or before.outcome is None or before.issued_at == door.opened_at
    values: dict[str, Any] = {"command_id": command.id, "lease_until": command.until}
    values["heard_until"] = None if anew else door.taken_until
    if anew or door.opened_at is None:
        values["opened_at"] = command.issued_at
    elif before is not None and not is_kept:
        commands.remove(connection, before.id)
    connection.execute(update(post_doors).where(post_doors.c.door_id == door.door_id).values(values))


def closed(connection: Connection, door_id: DoorId, command: StoredCommand) -> None:
    """This command closes the door."""
    mine = post_doors.c.door_id == door_id
    connection.execute(update(post_doors).where(mine).values(command_id=command.id, heard_until=None))


def forgotten(connection: Connection, controller_id: ControllerId) -> None:
    """A controller that starts anew holds no post open any more."""
    mine = select(doors.c.id).where(doors.c.controller_id == controller_id)
    values = {"command_id": None, "lease_until": None, "heard_until": None}
    connection.execute(update(post_doors).where(post_doors.c.door_id.in_(mine)).values(values))


# -- who watches


def watch(connection: Connection, new: Watch) -> None:
    """Let a session watch, in the place of whoever does."""
    connection.execute(delete(post_watches).where(post_watches.c.post_id == new.post_id))
    names = ("post_id", "session_hash", "operator_id", "since", "ask_at", "page", "seen_at")
    connection.execute(insert(post_watches).values({name: getattr(new, name) for name in names}))
    connection.execute(update(posts).where(posts.c.id == new.post_id).values(ended=None, ended_at=None))


def unwatch(connection: Connection, post_id: PostId, ended: Ended, now: datetime) -> None:
    """Nobody watches there any more."""
    connection.execute(delete(post_watches).where(post_watches.c.post_id == post_id))
    connection.execute(update(posts).where(posts.c.id == post_id).values(ended=ended, ended_at=now))


def watch_at(connection: Connection, post_id: PostId) -> Watch | None:
    """Who watches there."""
    found = _watches(connection, _watch_query().where(post_watches.c.post_id == post_id))
    return found[0] if found else None


def watch_of(connection: Connection, session_hash: bytes) -> Watch | None:
    """Where this session watches."""
    found = _watches(connection, _watch_query().where(post_watches.c.session_hash == session_hash))
    return found[0] if found else None


def watches(connection: Connection) -> list[Watch]:
    """Everybody who watches."""
    return _watches(connection, _watch_query())


def confirm(connection: Connection, post_id: PostId, ask_at: datetime) -> None:
    """Whoever watches is there, and is asked again then."""
    mine = post_watches.c.post_id == post_id
    connection.execute(update(post_watches).where(mine).values(ask_at=ask_at))


def open_page(connection: Connection, post_id: PostId, page: str, now: datetime) -> None:
    """Who passes is shown on this page of the session that watches from now on, and on no other."""
    mine = post_watches.c.post_id == post_id
    connection.execute(update(post_watches).where(mine).values(page=page, seen_at=now))


def seen(connection: Connection, post_id: PostId, page: str, now: datetime) -> None:
    """This page is open."""
    connection.execute(update(posts).where(posts.c.id == post_id).values(page_at=now))
    mine = (post_watches.c.post_id == post_id) & (post_watches.c.page == page)
    connection.execute(update(post_watches).where(mine).values(seen_at=now))


def _watch_query() -> Select[Any]:
    return select(post_watches, operators.c.name.label("operator_name")).join(operators)


def _watches(connection: Connection, query: Select[Any]) -> list[Watch]:
    rows = connection.execute(query.order_by(post_watches.c.post_id))
    return [Watch(**{**fields(row), "post_id": PostId(row.post_id)}) for row in rows]


def _read(connection: Connection, query: Select[Any]) -> list[Post]:
    rows: Sequence[Row[Any]] = connection.execute(query).all()
    of_post = _doors(connection, [row.id for row in rows])
    return [
        Post(
            **{
                **fields(row),
                "id": PostId(row.id),
                "site_id": SiteId(row.site_id),
                "station_id": None if row.station_id is None else StationId(row.station_id),
                "ended": None if row.ended is None else Ended(row.ended),
            },
            door_ids=tuple(of_post[row.id]),
        )
        for row in rows
    ]


def _doors(connection: Connection, ids: Collection[str]) -> dict[str, list[DoorId]]:
    found: dict[str, list[DoorId]] = {each: [] for each in ids}
    columns = post_doors.c
    query = select(columns.post_id, columns.door_id).where(columns.post_id.in_(list(ids)))
    for post_id, door_id in connection.execute(query.order_by(columns.door_id)):
        found[post_id].append(DoorId(door_id))
    return found
