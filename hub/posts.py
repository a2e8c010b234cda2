"""Posts: an attendant signs on, and doors let in whoever is entitled while they watch; until they leave or do not answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

import structlog
from sqlalchemy import Connection

from hub import audit, passing, post_leases
from hub.commands import Commands
from hub.lookout import Lookout
from hub.operators import Principal, digest
from hub.passing import Passing
from hub.roles import Permission
from hub.station_taps import StationTap, TapResult
from hub.store import cardholders, doors, operators, posts
from hub.store.commands import StoredCommand
from hub.store.database import Database
from hub.store.errors import InUse, NotFound
from hub.store.posts import Ended, Post, Watch
from pacs.errors import PacsError
from pacs.identifiers import CardholderId, PostId

PAGE_GONE_AFTER: Final = timedelta(seconds=60)
WATCH_EVERY_S: Final = 1.0

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
        self.lookout = Lookout(
            "posts", self._look, every_s=WATCH_EVERY_S, first_s=WATCH_EVERY_S, failed="posts_not_tended"
        )
        """Whoever watched goes on if their page comes back in time; once it has ended doors stay open for as long as
        their leases last."""

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
            given += post_leases.open_anew(connection, self._commands, post, new, now)
        self._send(given)

    def open_again(self, principal: Principal, session: str, post_id: PostId) -> None:
        """Open the doors that are not, after an order or a refusal; raises ``NotFound`` unless this session watches there."""
        now = self._clock()
        with self._database.write() as connection:
            post, mine = self._mine(connection, principal, session, post_id)
            shut = [each for each in posts.doors_of(connection, post_id) if each.is_stopped]
            _note(connection, now, principal.actor, "post.open_again", post_id)
            only = {each.door_id for each in shut}
            given = post_leases.open_anew(connection, self._commands, post, mine, now, only=only)
        self._send(given)

    def confirm(
        self, principal: Principal, session: str, post_id: PostId, card: StationTap | None = None
    ) -> None:
        """Whoever watches is there; raises ``NotFound`` unless this session watches there."""
        now = self._clock()
        with self._database.write() as connection:
            post, mine = self._mine(connection, principal, session, post_id)
            if post_leases.deadline(post, mine) <= now:
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
            found = passing.watched(connection, viewing.post_id, event_ids, now)
        if not found:
            return []
        with self._database.write() as connection:
            over = self.over(connection, viewing, principal)
            if over is not None or principal is None:
                return over or Over.ENDED
            if not viewing.watches or not principal.may(Permission.NAMES_READ):
                return []
            return passing.looks(
                connection,
                viewing.post_id,
                found,
                session_hash=viewing.session_hash,
                actor=principal.actor,
                now=now,
            )

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
        over = self._why_over(post, watch, now) is not None
        return over or post_leases.any_to_renew(connection, post, watch, now)

    def _tend(self, connection: Connection, watch: Watch, now: datetime) -> list[StoredCommand]:
        post = posts.get(connection, watch.post_id)
        why = self._why_over(post, watch, now)
        if why is not None:
            return self._end(connection, watch, why, now, audit.SYSTEM)
        return post_leases.renew(connection, self._commands, post, watch, now)

    def _why_over(self, post: Post, watch: Watch, now: datetime) -> Ended | None:
        if post_leases.deadline(post, watch) <= now:
            return Ended.NOT_ANSWERED
        if not _may(self._whose(watch.session_hash, now), post):
            return Ended.SESSION_OVER
        seen_at = max(watch.seen_at, self._led_since or watch.seen_at)
        return Ended.PAGE_GONE if now - seen_at >= PAGE_GONE_AFTER else None

    def _end(
        self, connection: Connection, watch: Watch, why: Ended, now: datetime, actor: str
    ) -> list[StoredCommand]:
        given = post_leases.close(connection, self._commands, watch.post_id, now, actor)
        posts.unwatch(connection, watch.post_id, why, now)
        _note_end(connection, watch, why, now, actor)
        return given

    def _send(self, given: Collection[StoredCommand]) -> None:
        for command in given:
            self._commands.send(command)

    def _look(self) -> None:
        if not self._leads():
            self._led_since = None
            return
        self._led_since = self._led_since or self._clock()
        self.tend()

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
