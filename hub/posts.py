"""Posts: an attendant signs on, and doors let in whoever is entitled while they watch; until they leave or do not answer.

A door is open by commands that each last for ``LEASE`` and never beyond the time in which the attendant has to answer, so that
it closes by itself when nobody renews them. A command to close is sent for at least as long as a lease can last.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

import structlog
from sqlalchemy import Connection

from hub import audit
from hub.commands import Commands, Order
from hub.operators import Principal, digest
from hub.roles import Permission
from hub.station_taps import StationTap, TapResult
from hub.store import attendance, cardholders, desks, doors, events, operators, posts, sites
from hub.store.attendance import PersonAtDoor
from hub.store.commands import StoredCommand
from hub.store.database import Database
from hub.store.errors import InUse, NotFound
from hub.store.events import StoredEvent
from hub.store.posts import Ended, Post, PostDoor, Watch
from pacs.commands import MAX_LIFETIME, Action
from pacs.errors import PacsError
from pacs.events import Event, EventKind
from pacs.identifiers import CardholderId, ControllerId, DoorId, PostId

LEASE: Final = timedelta(minutes=4)
RENEW_AFTER: Final = timedelta(minutes=2)
PAGE_GONE_AFTER: Final = timedelta(seconds=60)
FRESH: Final = timedelta(seconds=30)
"""Somebody who tapped longer ago is not shown: they have passed."""
WATCH_EVERY_S: Final = 1.0

assert LEASE <= MAX_LIFETIME  # noqa: S101 - or a command to close could end before what it closes

log = structlog.get_logger(__name__)


class PostTaken(PacsError):
    """Somebody else watches there; ``by`` is the name of an operator."""

    def __init__(self, by: str) -> None:
        super().__init__("Somebody else watches there.")
        self.by = by


@unique
class Over(StrEnum):
    """Why a page shows nobody any more; wire strings."""

    ELSEWHERE = "elsewhere"
    TAKEN_OVER = "taken_over"
    NOT_ANSWERED = "not_answered"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """One open page of a session at a post. ``watches``: it is signed on there, else it may be, by a card."""

    post_id: PostId
    session_hash: bytes
    page: str
    watches: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """Who tapped, as the attendant is shown them. ``person`` None: an unknown card. ``photograph``: what one look at it costs."""

    event: StoredEvent
    door_name: str
    shown_s: int
    blur_photo: bool
    person: PersonAtDoor | None = None
    photograph: str | None = None


class Posts:
    """Who watches where. ``clock`` gives aware UTC datetimes; a thread renews what holds and ends what is over."""

    def __init__(
        self,
        database: Database,
        commands: Commands,
        clock: Callable[[], datetime],
        *,
        whose: Callable[[bytes, datetime], Principal | None],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``whose``: the principal of a session, by its hash. ``leads``: whether it is this process that renews and ends."""
        self._database = database
        self._commands = commands
        self._clock = clock
        self._whose = whose
        self._leads = leads
        self._led_since: datetime | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="posts", daemon=True)

    def start(self) -> None:
        """Begin; whoever watched goes on if their page comes back in time."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; doors stay open for as long as their leases last."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def is_running(self) -> bool:
        """Whether anybody renews and ends."""
        return self._thread.is_alive()

    # -- signing on and off

    def sign_on(
        self,
        principal: Principal,
        session: str,
        post_id: PostId,
        *,
        take_over: bool = False,
        card: StationTap | None = None,
    ) -> None:
        """Have a browser's session watch, and its doors opened; signed off from another post. ``card``: by which somebody did so.

        Raises ``NotFound`` for a post they do not see, and ``PostTaken`` unless they ``take_over``.
        """
        now, mine = self._clock(), digest(session)
        given: list[StoredCommand] = []
        with self._database.write() as connection:
            post = self._seen_by(connection, principal, post_id)
            there = posts.watch_at(connection, post_id)
            if there is not None and there.session_hash != mine and not take_over:
                raise PostTaken(there.operator_name)
            elsewhere = posts.watch_of(connection, mine)
            if elsewhere is not None and elsewhere.post_id != post_id:
                given += self._end(connection, elsewhere, Ended.SIGNED_OFF, now, principal.actor)
            if there is not None and there.session_hash != mine:
                _note_end(connection, there, Ended.TAKEN_OVER, now, principal.actor)
            new = Watch(
                post_id=post_id,
                session_hash=mine,
                operator_id=principal.actor.removeprefix("operator:"),
                operator_name=principal.name,
                since=now,
                ask_at=now + timedelta(seconds=post.asks_every_s),
                page=None,
                seen_at=now,
            )
            posts.watch(connection, new)
            _note(connection, now, principal.actor, "post.sign_on", post_id, _by_card(card))
            given += self._open(connection, post, new, now, anew=True)
        self._send(given)

    def open_again(self, principal: Principal, session: str, post_id: PostId) -> None:
        """Open the doors that are not, after an order or a refusal; raises ``NotFound`` unless this session watches there."""
        now = self._clock()
        with self._database.write() as connection:
            post, mine = self._mine(connection, principal, session, post_id)
            shut = [each for each in posts.doors_of(connection, post_id) if each.is_stopped]
            _note(connection, now, principal.actor, "post.open_again", post_id)
            given = self._open(connection, post, mine, now, anew=True, only={each.door_id for each in shut})
        self._send(given)

    def confirm(
        self, principal: Principal, session: str, post_id: PostId, card: StationTap | None = None
    ) -> None:
        """Whoever watches is there; raises ``NotFound`` unless this session watches there."""
        now = self._clock()
        with self._database.write() as connection:
            post, mine = self._mine(connection, principal, session, post_id)
            if mine.ask_at + timedelta(seconds=post.answer_within_s) <= now:
                raise NotFound("nobody watches there any more")
            posts.confirm(connection, post_id, now + timedelta(seconds=post.asks_every_s))
            _note(connection, now, principal.actor, "post.confirm", post_id, _by_card(card))

    def sign_off(self, principal: Principal, session: str, post_id: PostId) -> None:
        """Close the post; raises ``NotFound`` unless this session watches there."""
        with self._database.write() as connection:
            _, mine = self._mine(connection, principal, session, post_id)
            given = self._end(connection, mine, Ended.SIGNED_OFF, self._clock(), principal.actor)
        self._send(given)

    def carded(self, viewing: Viewing, session: str, tap: StationTap, principal: Principal | None) -> bool:
        """A card at the reader beside the post: of who may admit others at its doors it signs on, or says that they are there.

        False: it does neither. A post that another session watches is not taken over by a card.
        """
        if principal is None or tap.result is not TapResult.VALID or tap.cardholder_id is None:
            return False
        with self._database.read() as connection:
            try:
                post = self._seen_by(connection, principal, viewing.post_id)
            except NotFound:
                return False
            there = posts.watch_at(connection, post.id)
            entitled = post.station_id == tap.station_id and _may_admit(connection, post, tap.cardholder_id)
        if not entitled or (there is not None and there.session_hash != viewing.session_hash):
            return False
        try:
            if there is None:
                self.sign_on(principal, session, post.id, card=tap)
            else:
                self.confirm(principal, session, post.id, card=tap)
        except (NotFound, PostTaken):  # over, or taken, since
            return False
        with self._database.write() as connection:
            operators.touch_session(connection, viewing.session_hash, self._clock())
        return True

    # -- what pages show

    def open_page(self, principal: Principal, session: str, post_id: PostId) -> Viewing:
        """Show who passes on another page of this session, and on no earlier one; raises ``NotFound``."""
        now, mine, page = self._clock(), digest(session), secrets.token_hex(8)
        with self._database.write() as connection:
            self._seen_by(connection, principal, post_id)
            there = posts.watch_at(connection, post_id)
            watches = there is not None and there.session_hash == mine
            if watches:
                posts.open_page(connection, post_id, page, now)
        return Viewing(post_id=post_id, session_hash=mine, page=page, watches=watches)

    def seen(self, viewing: Viewing) -> None:
        """A page is still open."""
        with self._database.write() as connection:
            posts.seen(connection, viewing.post_id, viewing.page, self._clock())

    def over(self, connection: Connection, viewing: Viewing, principal: Principal | None) -> Over | None:
        """Why a page shows nobody any more; None: it does. ``principal``: whose session it is now, if anybody's."""
        try:
            post = posts.get(connection, viewing.post_id)
        except NotFound:
            return Over.ENDED
        if not _may(principal, post):
            return Over.ENDED
        if not viewing.watches:
            return None
        there = posts.watch_at(connection, post.id)
        if there is None:
            return Over.NOT_ANSWERED if post.ended is Ended.NOT_ANSWERED else Over.ENDED
        if there.session_hash != viewing.session_hash:
            return Over.TAKEN_OVER
        return None if there.page == viewing.page else Over.ELSEWHERE

    def passing(
        self, viewing: Viewing, event_ids: Collection[int], principal: Principal | None
    ) -> list[Passing] | Over:
        """Who of these tapped at the post while it was open, each look on record; or why the page shows nobody any more."""
        now = self._clock()
        with self._database.read() as connection:
            post_doors = {each.door_id for each in posts.doors_of(connection, viewing.post_id)}
            found = [
                each
                for each in events.with_ids(connection, event_ids)
                if each.door_id in post_doors and each.details.get("watched") is True
                if not each.clock_trusted or now - each.occurred_at <= FRESH
            ]
        if not found:
            return []
        with self._database.write() as connection:
            over = self.over(connection, viewing, principal)
            if over is not None or principal is None:
                return over or Over.ENDED
            if not viewing.watches or not principal.may(Permission.NAMES_READ):
                return []
            return self._looks(connection, viewing, found, principal.actor, now)

    def _looks(
        self, connection: Connection, viewing: Viewing, found: list[StoredEvent], actor: str, now: datetime
    ) -> list[Passing]:
        post = posts.get(connection, viewing.post_id)
        blur = sites.get(connection, post.site_id).blur_photos
        names = doors.names(connection, {each.door_id for each in found if each.door_id})
        people = attendance.people(connection, {each.credential_id for each in found if each.credential_id})
        shown = []
        for event in found:
            person = people.get(event.credential_id) if event.credential_id else None
            photograph = None
            if person is not None and person.has_photo:
                photograph = secrets.token_urlsafe(32)
                until = now + timedelta(seconds=post.shown_s)
                desks.add_look(
                    connection, digest(photograph), viewing.session_hash, person.cardholder_id,
                    now=now, until=until,
                )  # fmt: skip
            subject = f"cardholder:{person.cardholder_id}" if person else f"post:{post.id}"
            detail = {"post": str(post.id), "door": str(event.door_id), "event": str(event.id)}
            audit.record(connection, now=now, actor=actor, action="post.look", subject=subject, detail=detail)
            shown.append(
                Passing(
                    event=event,
                    door_name=names.get(event.door_id, event.door_id) if event.door_id else "",
                    shown_s=post.shown_s,
                    blur_photo=blur,
                    person=person,
                    photograph=photograph,
                )
            )
        return shown

    # -- the thread

    def tend(self) -> None:
        """Renew what holds, and end what is over."""
        now = self._clock()
        with self._database.read() as connection:
            everybody = posts.watches(connection)
            due = [each.post_id for each in everybody if self._is_due(connection, each, now)]
        for post_id in due:
            with self._database.write() as connection:
                found = posts.watch_at(connection, post_id)
                given = [] if found is None else self._tend(connection, found, now)
            self._send(given)

    def _is_due(self, connection: Connection, watch: Watch, now: datetime) -> bool:
        post = posts.get(connection, watch.post_id)
        return self._why_over(post, watch, now) is not None or any(
            _is_to_renew(each, _deadline(post, watch), now) for each in posts.doors_of(connection, post.id)
        )

    def _tend(self, connection: Connection, watch: Watch, now: datetime) -> list[StoredCommand]:
        post = posts.get(connection, watch.post_id)
        why = self._why_over(post, watch, now)
        if why is not None:
            return self._end(connection, watch, why, now, audit.SYSTEM)
        return self._open(connection, post, watch, now, anew=False)

    def _why_over(self, post: Post, watch: Watch, now: datetime) -> Ended | None:
        if _deadline(post, watch) <= now:
            return Ended.NOT_ANSWERED
        if not _may(self._whose(watch.session_hash, now), post):
            return Ended.SESSION_OVER
        seen_at = max(watch.seen_at, self._led_since or watch.seen_at)
        return Ended.PAGE_GONE if now - seen_at >= PAGE_GONE_AFTER else None

    def _open(
        self,
        connection: Connection,
        post: Post,
        watch: Watch,
        now: datetime,
        *,
        anew: bool,
        only: Collection[DoorId] | None = None,
    ) -> list[StoredCommand]:
        """Commands that open doors: all or some anew, or those whose lease is to be renewed."""
        deadline, given = _deadline(post, watch), []
        for door in posts.doors_of(connection, post.id):
            if (only is not None and door.door_id not in only) or not (
                anew or _is_to_renew(door, deadline, now)
            ):
                continue
            until = min(now + LEASE, deadline)
            order = Order(
                door_id=door.door_id,
                action=Action.OPEN_POST,
                until=until,
                lasts_until=until,
                renews=not anew,
            )
            with suppress(NotFound):  # its controller is withdrawn
                command = self._commands.store(connection, order, reason="", actor=watch.actor, now=now)
                posts.opened(connection, door, command, anew=anew)
                given.append(command)
        return given

    def _end(
        self, connection: Connection, watch: Watch, why: Ended, now: datetime, actor: str
    ) -> list[StoredCommand]:
        given = []
        for door in posts.doors_of(connection, watch.post_id):
            if not door.may_be_open(now) or door.is_ordered:
                continue
            order = Order(door_id=door.door_id, action=Action.CLOSE_POST)
            with suppress(NotFound):
                command = self._commands.store(connection, order, reason="", actor=actor, now=now)
                posts.closed(connection, door.door_id, command)
                given.append(command)
        posts.unwatch(connection, watch.post_id, why, now)
        _note_end(connection, watch, why, now, actor)
        return given

    def _send(self, given: Collection[StoredCommand]) -> None:
        for command in given:
            self._commands.send(command)

    def _run(self) -> None:
        while not self._stopping.wait(WATCH_EVERY_S):
            try:
                if not self._leads():
                    self._led_since = None
                    continue
                self._led_since = self._led_since or self._clock()
                self.tend()
            except Exception:  # whatever it is, the next look may succeed, and leases end by themselves
                log.exception("posts_not_tended")

    # -- who

    def _seen_by(self, connection: Connection, principal: Principal, post_id: PostId) -> Post:
        post = posts.get(connection, post_id)
        if not _may(principal, post):
            raise NotFound(f"post {post_id} is not there")
        return post

    def _mine(
        self, connection: Connection, principal: Principal, session: str, post_id: PostId
    ) -> tuple[Post, Watch]:
        post = self._seen_by(connection, principal, post_id)
        there = posts.watch_at(connection, post_id)
        if there is None or there.session_hash != digest(session):
            raise NotFound("this browser does not watch there")
        return post, there


def check_unwatched(connection: Connection, post_id: PostId) -> None:
    """Raise ``InUse`` while somebody watches there."""
    there = posts.watch_at(connection, post_id)
    if there is not None:
        raise InUse(f"{there.operator_name} watches at post {post_id}")


def noted(connection: Connection, controller_id: ControllerId, event: Event) -> None:
    """Take note of what an event says of posts, in the transaction that stores it."""
    if event.draft.kind is EventKind.CONTROLLER_STARTED:
        posts.forgotten(connection, controller_id)


def _deadline(post: Post, watch: Watch) -> datetime:
    """When whoever watches has to have answered at the latest; to the millisecond, as commands have it."""
    deadline = watch.ask_at + timedelta(seconds=post.answer_within_s)
    return deadline - timedelta(microseconds=deadline.microsecond % 1000)


def _is_to_renew(door: PostDoor, deadline: datetime, now: datetime) -> bool:
    if door.is_stopped:
        return False
    lease = door.lease_until
    return lease is None or (lease < deadline and lease - now <= LEASE - RENEW_AFTER)


def _may(principal: Principal | None, post: Post) -> bool:
    return (
        principal is not None and principal.may(Permission.ATTENDED_ANSWER) and principal.sees(post.site_id)
    )


def _may_admit(connection: Connection, post: Post, cardholder_id: CardholderId) -> bool:
    """Whether this person's card admits others at every door of the post."""
    person = cardholders.get(connection, cardholder_id)
    if person.attended or person.escort_required:
        return False
    held = frozenset(person.access_level_ids)
    return all(held & doors.get(connection, door_id).door.admitting_levels for door_id in post.door_ids)


def _by_card(card: StationTap | None) -> dict[str, str]:
    return {"card": str(card.credential_id)} if card is not None else {}


def _note_end(connection: Connection, watch: Watch, why: Ended, now: datetime, actor: str) -> None:
    detail = {"why": why.value, "of": watch.actor}
    _note(connection, now, actor, "post.sign_off", watch.post_id, detail)


def _note(
    connection: Connection,
    now: datetime,
    actor: str,
    action: str,
    post_id: PostId,
    detail: dict[str, str] | None = None,
) -> None:
    audit.record(
        connection, now=now, actor=actor, action=action, subject=f"post:{post_id}", detail=detail or {}
    )
