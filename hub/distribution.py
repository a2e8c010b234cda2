"""Getting each version to every controller, and trying until it is confirmed.

One thread. A new version goes out at once to everyone; a controller that is online and does not confirm
gets it again, at growing intervals; one that comes back says hello and gets what it lacks. Confirmation is
the journalled event, which ``hub.ingest`` brings here. A controller that says it holds the version in force
and has no such event may hold another document of that number, or have lost the event: it gets a version above.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

import structlog

from hub.documents import LARGEST_JUMP, LONGEST_REFRESH, REFRESH, Overtaken, SiteDocuments, refresh_interval
from hub.store import controllers, documents, sites
from hub.store.database import Database
from hub.store.documents import Document
from pacs.errors import PacsError
from pacs.identifiers import ControllerId, SiteId
from pacs.messages import DocumentKind, split_document
from pacs.topics import Down, DownTopic

FIRST_RETRY_S = 2.0  # and longer, the more chunks a document has
CHUNK_TAKES_S = 0.25  # to a door with a poor line, beside all the others
LONGEST_RETRY_S = 60.0
AFTER_REFUSAL_S = 900.0
FIRST_PROOF_WAIT_S = 5.0  # for the event that confirms what a controller says it holds
LONGEST_PROOF_WAIT_S = 3600.0
DRAFTS = 3  # of a version that others overtake, before they have to wait
CHANGED = "site changed"
ROOM_WAIT_S = 0.05
POLICY_SPACING_S = 0.25  # changes that come faster are put into one version

_NOTHING = timedelta(0)

Channel: TypeAlias = tuple[SiteId, DocumentKind]

log = structlog.get_logger(__name__)


class Publish(Protocol):
    """Hands one message to the broker, at most once; never blocks for long."""

    def __call__(self, topic: DownTopic, payload: bytes) -> None:
        """Send ``payload`` on ``topic``."""
        ...


@dataclass(slots=True)
class _Peer:
    """What is believed of one controller. Times are monotonic seconds; by ``sent_by`` all chunks have gone out.

    ``site_id`` None: it is not known yet, or no longer, as one in use.
    """

    site_id: SiteId | None = None
    online: bool = False
    held: dict[DocumentKind, int] = field(default_factory=dict)
    sent: dict[DocumentKind, int] = field(default_factory=dict)
    sent_by: dict[DocumentKind, float] = field(default_factory=dict)
    retry_at: dict[DocumentKind, float] = field(default_factory=dict)
    retry_after_s: dict[DocumentKind, float] = field(default_factory=dict)
    prove_by: dict[DocumentKind, float] = field(default_factory=dict)
    proof_wait_s: dict[DocumentKind, float] = field(default_factory=dict)


class Distribution:
    """The thread that builds policy versions when something changed and pushes all documents."""

    def __init__(
        self,
        database: Database,
        site_documents: SiteDocuments,
        *,
        publish: Publish,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        holds: Callable[[ControllerId], bool] = lambda _: True,
        made: Callable[[], None] = lambda: None,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """``holds``: to whom this process sends; ``made``: told when it has taken new versions into force.

        ``has_room``: whether what is published now is not lost on the way to the broker.
        """
        self._database = database
        self._site_documents = site_documents
        self._publish = publish
        self._clock = clock
        self._monotonic = monotonic
        self._holds = holds
        self._made = made
        self._has_room = has_room
        self._condition = threading.Condition()
        self._peers: dict[ControllerId, _Peer] = {}
        self._dirty: set[SiteId] = set()  # changes that are in no version yet
        self._all_dirty = True
        self._issuing = False
        self._reload = True
        self._put_off = False
        self._ahead: dict[Channel, int] = {}
        self._stopping = False
        self._in_force: dict[Channel, Document] = {}
        self._chunks: dict[Channel, list[bytes]] = {}
        self._policy_not_before = 0.0
        self._intervals: dict[SiteId, timedelta] = {}
        self._refresh_at = 0.0
        self._thread = threading.Thread(target=self._run, name="distribution", daemon=True)

    def start(self) -> None:
        """Begin; the first versions are made when there are none."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def is_running(self) -> bool:
        """Whether documents are being sent."""
        return self._thread.is_alive()

    @property
    def is_settled(self) -> bool:
        """Every change that was told is in a version that is in force."""
        with self._condition:
            return not (self._is_dirty or self._issuing or self._reload)

    @property
    def _is_dirty(self) -> bool:
        return self._all_dirty or bool(self._dirty)

    # -- told from other threads, after the commit that made it so

    def site_changed(self, site_id: SiteId | None = None) -> None:
        """Doors, people, cards or rules of a site (None: any) changed: make new documents if they say something else."""
        with self._condition:
            if site_id is None:
                self._all_dirty = True
            else:
                self._dirty.add(site_id)
            self._condition.notify()

    def issued(self) -> None:
        """A new version was committed: send it."""
        with self._condition:
            self._reload = True
            self._condition.notify()

    def shards_changed(self) -> None:
        """This process serves other controllers from now on."""
        self.issued()

    def said(
        self,
        controller_id: ControllerId,
        held: Mapping[DocumentKind, int],
        *,
        hello: bool,
        unproven: Collection[DocumentKind] = (),
    ) -> None:
        """A controller said which versions it enforces; on a hello it gets what it lacks at once.

        No stored event proves the ``unproven`` ones: without such an event soon, it gets a version above.
        """
        now = self._monotonic()
        with self._condition:
            peer = self._peers.setdefault(controller_id, _Peer())
            if hello or not peer.online:
                self._begin_again(peer)
            peer.online = True
            for kind, version in held.items():
                peer.held[kind] = version
                if kind in unproven:
                    wait_s = peer.proof_wait_s.get(kind, FIRST_PROOF_WAIT_S)
                    peer.prove_by.setdefault(kind, now + wait_s)
                else:
                    peer.prove_by.pop(kind, None)
            self._note_ahead(peer)
            self._condition.notify()

    def _note_ahead(self, peer: _Peer) -> None:
        """What it said it holds above the version in force is to be issued above; unless nobody can believe it."""
        for kind, version in peer.held.items():
            channel = self._channel(peer, kind)
            in_force = self._in_force.get(channel) if channel else None
            if channel and in_force and in_force.version < version < in_force.version + LARGEST_JUMP:
                self._ahead[channel] = max(version, self._ahead.get(channel, 0))

    def applied(self, controller_id: ControllerId, kind: DocumentKind, version: int) -> None:
        """A confirmation was stored: this version need not be sent again."""
        with self._condition:
            peer = self._peers.setdefault(controller_id, _Peer())
            peer.held[kind] = max(version, peer.held.get(kind, 0))
            channel = self._channel(peer, kind)
            if channel in self._in_force and version >= self._in_force[channel].version:
                peer.prove_by.pop(kind, None)
                peer.proof_wait_s.pop(kind, None)

    def refused(self, controller_id: ControllerId, kind: DocumentKind) -> None:
        """A controller recorded that it refuses what it was sent: sending it again soon changes nothing."""
        with self._condition:
            peer = self._peers.setdefault(controller_id, _Peer())
            peer.retry_at[kind] = self._monotonic() + AFTER_REFUSAL_S
            peer.retry_after_s[kind] = AFTER_REFUSAL_S

    def gone(self, controller_id: ControllerId | None = None) -> None:
        """A controller, or every one, is no longer online: sending again would reach nobody."""
        with self._condition:
            for name, peer in self._peers.items():
                if controller_id in (None, name):
                    peer.online = False
                    peer.prove_by.clear()
                    peer.sent_by.clear()

    # -- the thread

    def _run(self) -> None:
        while True:
            with self._condition:
                if not self._work_is_waiting():
                    self._condition.wait(self._wait_s())
                if self._stopping:
                    return
            try:
                self._issue()
                self._push()
            except Exception:  # a full disk today must not end distribution for good
                log.exception("distribution_failed")
                with self._condition:
                    self._reload = True
                    self._condition.wait(FIRST_RETRY_S)

    def _work_is_waiting(self) -> bool:
        now = self._monotonic()
        policy_is_due = self._is_dirty and now >= self._policy_not_before
        waits = self._reload or self._put_off or bool(self._ahead) or policy_is_due
        return self._stopping or waits or self._wait_s() <= 0

    def _wait_s(self) -> float:
        due = [self._refresh_at, *(by for peer in self._peers.values() for by in peer.prove_by.values())]
        if self._is_dirty:
            due.append(self._policy_not_before)
        due += (
            peer.retry_at[kind] if peer.sent.get(kind) == version else 0.0
            for peer in self._peers.values()
            for kind, version in self._lacking(peer).items()
        )
        return min(due) - self._monotonic()

    def _issue(self) -> None:
        """Make the versions that are due, and take note of all that are in force."""
        now = self._monotonic()
        with self._condition:
            dirty = self._is_dirty and now >= self._policy_not_before
            self._go_above_what_is_not_proven(now)
            ahead, self._ahead = self._ahead, {}
            refresh = now >= self._refresh_at
            reload, self._reload = self._reload, False
            self._issuing = dirty
            changed = (self._all_dirty, frozenset(self._dirty)) if dirty else (False, frozenset[SiteId]())
            if dirty:
                self._all_dirty = False
                self._dirty.clear()
        if not (dirty or ahead or refresh or reload):
            return
        try:
            if dirty or ahead or refresh:
                self._issue_due(everywhere=changed[0], at=changed[1], ahead=ahead, refresh=refresh)
        except BaseException:
            with self._condition:
                self._all_dirty |= changed[0]
                self._dirty |= changed[1]
                self._ahead = {**ahead, **self._ahead}
            raise
        self._look_what_is_in_force()

    def _look_what_is_in_force(self) -> None:
        with self._database.read() as connection:
            versions = documents.newest_versions(connection)
            fresh = [
                documents.newest(connection, *channel)
                for channel, version in versions.items()
                if channel not in self._in_force or self._in_force[channel].version != version
            ]
            in_use = {
                each.id: each.site_id for each in controllers.list_all(connection) if self._holds(each.id)
            }
            confirmed = documents.confirmed_versions(connection)
        with self._condition:
            for document in fresh:
                if document is not None:
                    self._take_into_force(document)
            for gone in self._peers.keys() - in_use.keys():
                del self._peers[gone]
            for controller_id, site_id in in_use.items():
                if controller_id not in self._peers:
                    held = {kind: confirmed.get((controller_id, kind), 0) for kind in DocumentKind}
                    self._peers[controller_id] = _Peer(held=held)
                peer = self._peers[controller_id]
                peer.site_id = site_id
                if peer.online:  # it may have said so before this was known of its site
                    self._note_ahead(peer)
            self._issuing = False
        if fresh:
            self._made()

    def _issue_due(
        self,
        *,
        everywhere: bool,
        at: Collection[SiteId],
        ahead: Mapping[Channel, int],
        refresh: bool,
    ) -> None:
        """Make what is due: because sites changed, because a door is ``ahead``, or because what is there gets old."""
        with self._database.read() as connection:
            every = [site.id for site in sites.list_all(connection)]
            concerned = {*at, *(site_id for site_id, _ in ahead)}
            due = [each for each in every if everywhere or refresh or each in concerned]
            self._intervals |= {site_id: refresh_interval(connection, site_id) for site_id in due}
        for site_id in due:
            dirty, interval = everywhere or site_id in at, self._intervals[site_id]
            # what stops cards from working comes before what lets them work
            for kind in (DocumentKind.REVOCATIONS, DocumentKind.POLICY):
                above = ahead.get((site_id, kind))
                if dirty or refresh or above is not None:
                    oldest = interval * 0.9 if refresh else None
                    self._issue_one((site_id, kind), dirty=dirty, above=above, oldest=oldest)
        self._policy_not_before = self._monotonic() + POLICY_SPACING_S
        shortest = min(self._intervals.values(), default=LONGEST_REFRESH)
        self._refresh_at = self._monotonic() + shortest.total_seconds() / 10

    def _issue_one(
        self, channel: Channel, *, dirty: bool, above: int | None, oldest: timedelta | None
    ) -> None:
        """Draw the version up while others write; when one of them issues another meanwhile, draw it up again."""
        for _ in range(DRAFTS):
            at = self._clock()
            with self._database.read() as connection:
                cause = _cause(documents.newest(connection, *channel), at, oldest, dirty=dirty, above=above)
                draft = None if cause is None else self._site_documents.draft(connection, *channel, now=at)
            if cause is None or draft is None or (cause == CHANGED and not draft.is_news):
                return
            try:
                with self._database.write() as connection:
                    self._site_documents.issue_draft(connection, draft, cause=cause, above=above or 0)
            except Overtaken:
                log.info("document_overtaken", site=channel[0], kind=channel[1])
            else:
                return
        with self._database.write() as connection:  # too much goes on: nobody else writes now
            self._site_documents.issue(
                connection, *channel, cause=cause or CHANGED, now=self._clock(), above=above or 0
            )

    def _go_above_what_is_not_proven(self, now: float) -> None:
        for peer in self._peers.values():
            for kind in [kind for kind, by in peer.prove_by.items() if by <= now]:
                del peer.prove_by[kind]
                waited_s = peer.proof_wait_s.get(kind, FIRST_PROOF_WAIT_S)
                peer.proof_wait_s[kind] = min(LONGEST_PROOF_WAIT_S, 2 * waited_s)
                channel = self._channel(peer, kind)
                if channel in self._in_force:
                    version = self._in_force[channel].version
                    self._ahead[channel] = max(version, self._ahead.get(channel, 0))

    def _take_into_force(self, document: Document) -> None:
        channel = document.site_id, document.kind
        try:
            chunks = split_document(document.kind, document.version, document.data)
        except PacsError:
            log.exception("document_cannot_be_sent", kind=document.kind, version=document.version)
            return
        self._in_force[channel] = document
        for peer in self._peers.values():
            if peer.site_id == document.site_id:
                peer.prove_by.pop(document.kind, None)
        self._chunks[channel] = [bytes(chunk) for chunk in chunks]

    def _push(self) -> None:
        """Send what is lacking: a new version to everyone, repetitions to those online."""
        now = self._monotonic()
        sending: list[tuple[ControllerId, Channel]] = []
        with self._condition:
            self._put_off = False
            for controller_id, peer in self._peers.items():
                for kind, version in self._lacking(peer, even_offline=True).items():
                    takes_s = self._takes_s(peer, kind)
                    if peer.sent.get(kind) != version:
                        peer.retry_after_s[kind] = FIRST_RETRY_S + takes_s
                    elif not peer.online or now < peer.retry_at[kind]:
                        continue
                    peer.sent[kind] = version
                    peer.sent_by[kind] = now + (takes_s if peer.online else 0.0)
                    peer.retry_at[kind] = now + peer.retry_after_s[kind]
                    peer.retry_after_s[kind] = max(
                        min(LONGEST_RETRY_S, 2 * peer.retry_after_s[kind]), peer.retry_after_s[kind]
                    )
                    if (channel := self._channel(peer, kind)) is not None:
                        sending.append((controller_id, channel))
            chunks = dict(self._chunks)
        # what stops cards from working goes first
        sending.sort(key=lambda each: each[1][1] is DocumentKind.POLICY)
        for number, (controller_id, channel) in enumerate(sending):
            if not self._has_room():
                self._put_back(sending[number:])
                return
            for chunk in chunks[channel]:
                self._publish(DownTopic(controller_id, Down.DOCUMENT), chunk)

    def _put_back(self, unsent: Iterable[tuple[ControllerId, Channel]]) -> None:
        """Too much is under way to the broker: these come next, in a moment."""
        with self._condition:
            self._put_off = True
            for controller_id, (_, kind) in unsent:
                if peer := self._peers.get(controller_id):
                    peer.sent.pop(kind, None)
            if not self._stopping:
                self._condition.wait(ROOM_WAIT_S)

    def _begin_again(self, peer: _Peer) -> None:
        """What is under way to a controller that may have missed a part: again, but not while it is under way."""
        for kind in peer.sent:
            peer.retry_at[kind] = peer.sent_by.get(kind, 0.0)
            peer.retry_after_s[kind] = FIRST_RETRY_S + self._takes_s(peer, kind)

    def _takes_s(self, peer: _Peer, kind: DocumentKind) -> float:
        channel = self._channel(peer, kind)
        return CHUNK_TAKES_S * (len(self._chunks[channel]) - 1) if channel in self._chunks else 0.0

    def _lacking(self, peer: _Peer, *, even_offline: bool = False) -> dict[DocumentKind, int]:
        """What the controller does not hold → the version in force."""
        if peer.site_id is None or not (peer.online or even_offline):
            return {}
        in_force = {
            kind: self._in_force[peer.site_id, kind].version
            for kind in DocumentKind
            if (peer.site_id, kind) in self._in_force
        }
        return {kind: version for kind, version in in_force.items() if peer.held.get(kind, 0) < version}

    @staticmethod
    def _channel(peer: _Peer, kind: DocumentKind) -> Channel | None:
        return None if peer.site_id is None else (peer.site_id, kind)


def _cause(
    newest: Document | None, at: datetime, oldest: timedelta | None, *, dirty: bool, above: int | None
) -> str | None:
    """Why a version may be due, None: it is not."""
    if above is not None:
        return "a door holds another version"
    if newest is not None and oldest is not None and not _NOTHING <= at - newest.created_at < oldest:
        return REFRESH
    return CHANGED if dirty or newest is None else None
