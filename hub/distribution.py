"""Getting each version to every controller, and trying until it is confirmed.

One thread. A new version goes out at once to everyone; a controller that is online and does not confirm
gets it again, at growing intervals; one that comes back says hello and gets what it lacks. Confirmation is
the journalled event, which ``hub.ingest`` brings here. A controller that says it holds the version in force
and has no such event may hold another document of that number, or have lost the event: it gets a version above.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from hub.documents import LARGEST_JUMP, REFRESH, Overtaken, SiteDocuments, refresh_interval
from hub.store import controllers, documents
from hub.store.database import Database
from hub.store.documents import Document
from pacs.errors import PacsError
from pacs.identifiers import ControllerId
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
POLICY_SPACING_S = 0.25  # changes that come faster are put into one version

_NOTHING = timedelta(0)

log = structlog.get_logger(__name__)


class Publish(Protocol):
    """Hands one message to the broker, at most once; never blocks for long."""

    def __call__(self, topic: DownTopic, payload: bytes) -> None:
        """Send ``payload`` on ``topic``."""
        ...


@dataclass(slots=True)
class _Peer:
    """What is believed of one controller. Times are monotonic seconds; by ``sent_by`` all chunks have gone out."""

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
    ) -> None:
        self._database = database
        self._site_documents = site_documents
        self._publish = publish
        self._clock = clock
        self._monotonic = monotonic
        self._condition = threading.Condition()
        self._peers: dict[ControllerId, _Peer] = {}
        self._dirty = True  # a change that the last run could not turn into a version
        self._issuing = False
        self._reload = True
        self._ahead: dict[DocumentKind, int] = {}
        self._stopping = False
        self._in_force: dict[DocumentKind, Document] = {}
        self._chunks: dict[DocumentKind, list[bytes]] = {}
        self._policy_not_before = 0.0
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
            return not (self._dirty or self._issuing or self._reload)

    # -- told from other threads, after the commit that made it so

    def site_changed(self) -> None:
        """Doors, people, cards or rules changed: make a new policy if it says something else."""
        with self._condition:
            self._dirty = True
            self._condition.notify()

    def issued(self) -> None:
        """A new version was committed: send it."""
        with self._condition:
            self._reload = True
            self._condition.notify()

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
                in_force = self._in_force.get(kind)
                if in_force and in_force.version < version < in_force.version + LARGEST_JUMP:
                    self._ahead[kind] = max(version, self._ahead.get(kind, 0))
            self._condition.notify()

    def applied(self, controller_id: ControllerId, kind: DocumentKind, version: int) -> None:
        """A confirmation was stored: this version need not be sent again."""
        with self._condition:
            peer = self._peers.setdefault(controller_id, _Peer())
            peer.held[kind] = max(version, peer.held.get(kind, 0))
            if kind in self._in_force and version >= self._version(kind):
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
        policy_is_due = self._dirty and now >= self._policy_not_before
        return self._stopping or self._reload or bool(self._ahead) or policy_is_due or self._wait_s() <= 0

    def _wait_s(self) -> float:
        due = [self._refresh_at, *(by for peer in self._peers.values() for by in peer.prove_by.values())]
        if self._dirty:
            due.append(self._policy_not_before)
        due += (
            peer.retry_at[kind] if peer.sent.get(kind) == self._version(kind) else 0.0
            for peer in self._peers.values()
            for kind in self._lacking(peer)
        )
        return min(due) - self._monotonic()

    def _issue(self) -> None:
        """Make the versions that are due, and take note of all that are in force."""
        now = self._monotonic()
        with self._condition:
            dirty = self._dirty and now >= self._policy_not_before
            self._go_above_what_is_not_proven(now)
            ahead, self._ahead = self._ahead, {}
            refresh = now >= self._refresh_at
            reload, self._reload = self._reload, False
            self._issuing = dirty
            if dirty:
                self._dirty = False
        if not (dirty or ahead or refresh or reload):
            return
        try:
            if dirty or ahead or refresh:
                self._issue_due(dirty=dirty, ahead=ahead, refresh=refresh)
        except BaseException:
            with self._condition:
                self._dirty = self._dirty or dirty
                self._ahead = {**ahead, **self._ahead}
            raise
        with self._database.read() as connection:
            found = [documents.newest(connection, kind) for kind in DocumentKind]
            in_use = {controller.id for controller in controllers.list_all(connection)}
        with self._condition:
            for document in found:
                if document is not None and document != self._in_force.get(document.kind):
                    self._take_into_force(document)
            for gone in self._peers.keys() - in_use:
                del self._peers[gone]
            for controller_id in in_use:
                self._peers.setdefault(controller_id, _Peer())
            self._issuing = False

    def _issue_due(self, *, dirty: bool, ahead: Mapping[DocumentKind, int], refresh: bool) -> None:
        with self._database.read() as connection:
            interval = refresh_interval(connection)
        for kind in DocumentKind:
            self._issue_one(
                kind,
                dirty=dirty,
                above=ahead.get(kind),
                oldest=interval * 0.9 if refresh else None,
            )
        self._policy_not_before = self._monotonic() + POLICY_SPACING_S
        self._refresh_at = self._monotonic() + interval.total_seconds() / 10

    def _issue_one(
        self, kind: DocumentKind, *, dirty: bool, above: int | None, oldest: timedelta | None
    ) -> None:
        """Draw the version up while others write; when one of them issues another meanwhile, draw it up again."""
        for _ in range(DRAFTS):
            at = self._clock()
            with self._database.read() as connection:
                cause = _cause(documents.newest(connection, kind), at, oldest, dirty=dirty, above=above)
                draft = None if cause is None else self._site_documents.draft(connection, kind, now=at)
            if cause is None or draft is None or (cause == CHANGED and not draft.is_news):
                return
            try:
                with self._database.write() as connection:
                    self._site_documents.issue_draft(connection, draft, cause=cause, above=above or 0)
            except Overtaken:
                log.info("document_overtaken", kind=kind)
            else:
                return
        with self._database.write() as connection:  # too much goes on: nobody else writes now
            self._site_documents.issue(
                connection, kind, cause=cause or CHANGED, now=self._clock(), above=above or 0
            )

    def _go_above_what_is_not_proven(self, now: float) -> None:
        for peer in self._peers.values():
            for kind in [kind for kind, by in peer.prove_by.items() if by <= now]:
                del peer.prove_by[kind]
                waited_s = peer.proof_wait_s.get(kind, FIRST_PROOF_WAIT_S)
                peer.proof_wait_s[kind] = min(LONGEST_PROOF_WAIT_S, 2 * waited_s)
                if kind in self._in_force:
                    self._ahead[kind] = max(self._version(kind), self._ahead.get(kind, 0))

    def _take_into_force(self, document: Document) -> None:
        try:
            chunks = split_document(document.kind, document.version, document.data)
        except PacsError:
            log.exception("document_cannot_be_sent", kind=document.kind, version=document.version)
            return
        self._in_force[document.kind] = document
        for peer in self._peers.values():
            peer.prove_by.pop(document.kind, None)
        self._chunks[document.kind] = [bytes(chunk) for chunk in chunks]

    def _push(self) -> None:
        """Send what is lacking: a new version to everyone, repetitions to those online."""
        now = self._monotonic()
        sending: list[tuple[ControllerId, DocumentKind]] = []
        with self._condition:
            for controller_id, peer in self._peers.items():
                for kind in self._lacking(peer, even_offline=True):
                    version = self._version(kind)
                    if peer.sent.get(kind) != version:
                        peer.retry_after_s[kind] = FIRST_RETRY_S + self._takes_s(kind)
                    elif not peer.online or now < peer.retry_at[kind]:
                        continue
                    peer.sent[kind] = version
                    peer.sent_by[kind] = now + (self._takes_s(kind) if peer.online else 0.0)
                    peer.retry_at[kind] = now + peer.retry_after_s[kind]
                    peer.retry_after_s[kind] = max(
                        min(LONGEST_RETRY_S, 2 * peer.retry_after_s[kind]), peer.retry_after_s[kind]
                    )
                    sending.append((controller_id, kind))
            chunks = dict(self._chunks)
        # what stops cards from working goes first
        for controller_id, kind in sorted(sending, key=lambda each: each[1] is DocumentKind.POLICY):
            for chunk in chunks[kind]:
                self._publish(DownTopic(controller_id, Down.DOCUMENT), chunk)

    def _begin_again(self, peer: _Peer) -> None:
        """What is under way to a controller that may have missed a part: again, but not while it is under way."""
        for kind in peer.sent:
            peer.retry_at[kind] = peer.sent_by.get(kind, 0.0)
            peer.retry_after_s[kind] = FIRST_RETRY_S + self._takes_s(kind)

    def _takes_s(self, kind: DocumentKind) -> float:
        return CHUNK_TAKES_S * (len(self._chunks[kind]) - 1)

    def _lacking(self, peer: _Peer, *, even_offline: bool = False) -> list[DocumentKind]:
        if not (peer.online or even_offline):
            return []
        return [kind for kind in self._in_force if peer.held.get(kind, 0) < self._version(kind)]

    def _version(self, kind: DocumentKind) -> int:
        return self._in_force[kind].version


def _cause(
    newest: Document | None, at: datetime, oldest: timedelta | None, *, dirty: bool, above: int | None
) -> str | None:
    """Why a version may be due, None: it is not."""
    if above is not None:
        return "a door holds another version"
    if newest is not None and oldest is not None and not _NOTHING <= at - newest.created_at < oldest:
        return REFRESH
    return CHANGED if dirty or newest is None else None
