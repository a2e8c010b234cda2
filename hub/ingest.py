"""From messages to stored events: each once, in order, proven, and acknowledged only once committed.

The MQTT thread puts messages into bounded lanes; one thread takes them off in groups, verifies each, and
stores a group in one transaction. Of a backlog the next group is read and verified beside, while the database
writes. A controller goes on from what was acknowledged, so a message may be dropped at any point before the
commit. What does not fit is set aside and recorded, never merged, and holds up nobody else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import TypeAlias

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError, OperationalError

from hub import presence
from hub.distribution import Publish
from hub.effects import Documents
from hub.inbox import Ahead, Message, Opened, proven, read
from hub.lanes import Lanes, Mark
from hub.live import ControllerChanged, LiveBus, RequestsChanged
from hub.record import Counts, Recording
from hub.store import controller_reports, controllers, journals
from hub.store.database import Database
from hub.store.errors import HeadMoved, NotFound
from hub.store.journals import AnomalyKind, Head
from pacs.envelope import trusted_keys
from pacs.errors import MalformedData, PacsError, VerificationError
from pacs.events import Batch
from pacs.identifiers import ControllerId
from pacs.messages import Acknowledgement, ControllerStatus, Hello, IssuedCertificate, RenewalRequest, Report
from pacs.topics import SHARDS, Down, DownTopic, Up, UpTopic, shard

QUEUE_BYTES = 64 * 1024 * 1024
GROUP_BYTES = 256 * 1024  # two thousand events: a fraction of a second, for which whoever comes next waits
FULL_WAIT_S = 2.0
STOP_WAIT_S = 30.0
AFTER_FAILURE_S = 1.0
BACKLOG_BYTES = 4 * 1024  # messages that are longer on average hold events by the dozen

Renew: TypeAlias = Callable[[Connection, ControllerId, RenewalRequest], str | None]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Read:
    """A group of messages, and what they say, proven by ``keys``."""

    messages: Sequence[Message]
    opened: Sequence[Opened]
    keys: Mapping[ControllerId, Mapping[bytes, Ed25519PublicKey]]


class Ingest:
    """One thread that stores what controllers send, and one that reads ahead of it."""

    def __init__(
        self,
        database: Database,
        *,
        publish: Publish,
        documents: Documents,
        live: LiveBus,
        clock: Callable[[], datetime],
        holds: Callable[[ControllerId], bool] = lambda _: True,
        stored: Callable[[int], None] = lambda _: None,
        renew: Renew = lambda *_: None,
        certificates_changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``holds``: whether this process serves a controller; ``stored``: told how many events were committed.

        ``renew``: issues a certificate in the transaction, as PEM; ``certificates_changed``: told after the commit when the
        broker has others to admit.
        """
        self._database = database
        self._publish = publish
        self._documents = documents
        self._live = live
        self._clock = clock
        self._holds = holds
        self._stored = stored
        self._renew = renew
        self._certificates_changed = certificates_changed
        self._lanes = Lanes(QUEUE_BYTES)
        self._keys: dict[ControllerId, Mapping[bytes, Ed25519PublicKey]] = {}
        self._heads: dict[tuple[ControllerId, str], Head] = {}
        self._is_overtaken = True  # others may have moved heads: read them again
        self._gone_shards: set[int] = set()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self.counts = Counts()
        """Since the start."""

    def start(self) -> None:
        """Begin; how far everything is stored is read before the first message."""
        self._thread.start()

    def stop(self) -> None:
        """Store what is on the queue and end."""
        if self._thread.is_alive():
            self._lanes.mark(Mark.STOP)
            self._thread.join(STOP_WAIT_S)

    @property
    def waiting_bytes(self) -> int:
        """What waits to be stored, roughly."""
        return self._lanes.waiting_bytes

    @property
    def is_running(self) -> bool:
        """Whether messages are being stored."""
        return self._thread.is_alive()

    def put(self, messages: Sequence[Message]) -> None:
        """Take messages from the MQTT thread; dropped when there stays no room, and sent again later."""
        self.counts.dropped += self._lanes.put(messages, FULL_WAIT_S)

    def link_lost(self, shards: Iterable[int] = range(SHARDS)) -> None:
        """The hub no longer hears anybody of these shards."""
        self._gone_shards |= {*shards}
        self._lanes.mark(Mark.LINK_LOST)

    def controllers_changed(self) -> None:
        """A controller was added, replaced or retired: read keys again."""
        self._keys = {}

    def taken_over(self) -> None:
        """Others may have stored what follows for controllers that this process serves from now on."""
        self._keys = {}
        self._is_overtaken = True

    # -- the thread

    def _run(self) -> None:
        with ThreadPoolExecutor(1, "ingest-reader") as reader:
            begun: tuple[tuple[Sequence[Message], Mark | None], Future[_Read]] | None = None
            while True:
                (group, mark), reading = begun or (self._lanes.take(GROUP_BYTES), None)
                begun = None
                try:
                    if group:
                        read = reading.result() if reading else self._read(group)
                        if mark is None and _is_backlog(group):
                            following = self._lanes.take(GROUP_BYTES, 0.0)
                            begun = following, reader.submit(self._read, following[0])
                        self._take(read)
                    if mark is Mark.LINK_LOST:
                        self._everybody_is_gone()
                except Exception:  # whatever was not acknowledged is sent again
                    log.exception("ingest_turn_failed", messages=len(group))
                    threading.Event().wait(AFTER_FAILURE_S)
                if mark is Mark.STOP:
                    return

    def _read(self, group: Sequence[Message]) -> _Read:
        keys = self._keys
        return _Read(group, proven([each for each in map(self._open, group) if each is not None]), keys)

    def _take(self, read: _Read) -> None:
        """Store a group; when that fails, each message alone, and set aside the one that cannot be stored."""
        if read.keys is not self._keys:  # who sent it may be believed no more
            read = self._read(read.messages)
        opened = read.opened
        try:
            self._store(opened)
        except OperationalError:  # a full disk, a locked file: all is sent again
            log.exception("events_not_stored", messages=len(opened))
            threading.Event().wait(AFTER_FAILURE_S)
        except Exception:
            log.exception("group_not_stored", messages=len(opened))
            for each in opened:
                self._store_alone(each)

    def _store_alone(self, opened: Opened) -> None:
        try:
            self._store([opened])
        except Exception as error:
            log.exception("message_not_stored", controller=opened.controller_id)
            refusal = replace(opened, content=_NotStorable(type(error).__name__))
            try:
                self._store([refusal])
            except Exception:  # the database itself is broken: the controller keeps its events
                log.exception("message_not_set_aside", controller=opened.controller_id)

    def _open(self, message: Message) -> Opened | None:
        try:
            topic = _topic(message.topic)
            if not self._holds(topic.controller_id):  # it goes on at whoever does
                return None
            keys = self._keys_of(topic.controller_id)
        except _Revoked as error:
            if topic.kind is Up.EVENTS:
                return Opened(message, topic.controller_id, {}, error)
            return None
        except (MalformedData, NotFound):  # the broker lets only known controllers publish, each on its own
            log.warning("message_from_nobody_known")
            self.counts.dropped += 1
            return None
        return Opened(message, topic.controller_id, keys, read(topic, message.payload))

    def _keys_of(self, controller_id: ControllerId) -> Mapping[bytes, Ed25519PublicKey]:
        cache = self._keys  # one that is replaced meanwhile takes its late entries with it
        keys = cache.get(controller_id)
        if keys is None:
            with self._database.read() as connection:
                controller = controllers.get(connection, controller_id)
            if controller.retired_at is not None or controller.event_public_key is None:
                raise NotFound(f"controller {controller_id} is retired, or no device has its place")
            if controller.revoked_at is not None:
                raise _Revoked(f"revoked at {controller.revoked_at:%Y-%m-%d %H:%M:%S}Z")
            keys = trusted_keys(Ed25519PublicKey.from_public_bytes(controller.event_public_key))
            cache[controller_id] = keys
        return keys

    def _store(self, opened: Sequence[Opened]) -> None:
        """Store a group; once more with heads read anew when another process had moved one of them."""
        try:
            self._store_once(opened)
        except (HeadMoved, IntegrityError):
            log.info("heads_read_again")
            self._is_overtaken = True
            self._store_once(opened)

    def _store_once(self, opened: Sequence[Opened]) -> None:
        with self._database.write() as connection:
            overtaken, self._is_overtaken = self._is_overtaken, False
            try:
                heads = _heads(connection) if overtaken else self._heads
                recording = Recording(connection, heads, self._clock())
                for each in opened:
                    _record(recording, each, self._renew)
                recording.finish()
            except BaseException:
                self._is_overtaken = self._is_overtaken or overtaken
                raise
        self._heads = heads
        self._heads.update(recording.heads)
        self.counts.add(recording.counts)
        self._tell(recording)

    def _tell(self, recording: Recording) -> None:
        """What others are told once it is committed."""
        if recording.requests_changed:  # first of all: somebody waits
            self._live.publish(RequestsChanged())
        if recording.certificates_changed:
            self._certificates_changed()
        for controller_id, chain in recording.certificates:
            issued = IssuedCertificate(chain=chain)
            self._publish(DownTopic(controller_id, Down.CERTIFICATE), bytes(issued))
        for controller_id, journal_id in recording.to_acknowledge:
            sequence = self._heads[controller_id, journal_id].sequence
            acknowledgement = Acknowledgement(journal_id=journal_id, sequence=sequence)
            self._publish(DownTopic(controller_id, Down.ACKNOWLEDGED), bytes(acknowledgement))
        for tell in recording.told:
            tell(self._documents)
        if recording.counts.stored:
            self._stored(recording.counts.stored)
        self._live.publish(
            *(ControllerChanged(controller_id=controller_id) for controller_id in recording.changed)
        )

    def _everybody_is_gone(self) -> None:
        shards, self._gone_shards = self._gone_shards, set()
        try:
            with self._database.write() as connection:
                gone = [each.id for each in controllers.list_all(connection) if shard(each.id) in shards]
                controllers.all_offline(connection, self._clock(), gone)
        except OperationalError:
            log.exception("presence_not_stored")
            self._gone_shards |= shards
            return
        if len(shards) == SHARDS:
            self._documents.gone()
        else:
            for controller_id in gone:
                self._documents.gone(controller_id)
        self._live.publish(*(ControllerChanged(controller_id=controller_id) for controller_id in gone))


def _is_backlog(group: Sequence[Message]) -> bool:
    """Whether to read what follows is worth a thread of its own: for events one by one it is not."""
    return sum(len(each.payload) for each in group) > BACKLOG_BYTES * len(group)


def _heads(connection: Connection) -> dict[tuple[ControllerId, str], Head]:
    return {(head.controller_id, head.journal_id): head for head in journals.heads(connection)}


_topic = lru_cache(16_384)(UpTopic.parse)


class _Revoked(PacsError):
    """What a controller sent whose device is believed no more."""


class _NotStorable(PacsError):
    """Storing the message failed in a way nobody foresaw."""


def _record(recording: Recording, opened: Opened, renew: Renew) -> None:
    message, controller_id = opened.message, opened.controller_id
    match opened.content:
        case Batch() as batch:
            recording.batch(batch, topic=message.topic, payload=message.payload)
        case Ahead(batch):
            recording.ahead(batch)
        case Hello() as hello:
            presence.hello(recording, controller_id, hello, is_repeated=message.is_repeated)
        case ControllerStatus() as status:
            presence.status(recording, controller_id, status, is_repeated=message.is_repeated)
        case RenewalRequest() as asked:
            chain = renew(recording.connection, controller_id, asked)
            if chain is not None:
                recording.certificates.append((controller_id, chain))
                recording.certificates_changed = True
        case Report() as report:
            controller_reports.put(recording.connection, controller_id, report, recording.now)
            recording.changed[controller_id] = None
        case PacsError() as error:
            recording.set_aside(
                controller_id,
                _anomaly_kind(error, message.topic),
                topic=message.topic,
                payload=message.payload,
                detail=str(error),
            )


def _anomaly_kind(error: PacsError, topic: str) -> AnomalyKind:
    if isinstance(error, VerificationError):
        return AnomalyKind.SIGNATURE_INVALID
    if isinstance(error, _Revoked):
        return AnomalyKind.CONTROLLER_REVOKED
    if isinstance(error, _NotStorable):
        return AnomalyKind.NOT_STORABLE
    is_batch = UpTopic.parse(topic).kind in (Up.EVENTS, Up.AHEAD)
    return AnomalyKind.BATCH_MALFORMED if is_batch else AnomalyKind.MESSAGE_MALFORMED
