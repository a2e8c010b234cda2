"""The controller's half of the wire for tests of the hub, and a hub without its pages to hang it on.

``FakeController`` keeps its events in memory, sends what the hub has not acknowledged, and confirms each
document it receives, by the formats of ``pacs`` and over a real MQTT connection.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hub.broker import BrokerSettings
from hub.keys import HubKeys
from hub.link import ControllerLink
from hub.live import LiveBus
from hub.store import controllers, doors
from hub.store.controllers import Controller
from pacs import bundle
from pacs.envelope import trusted_keys
from pacs.events import Event, EventDraft, EventKind, event_hash, genesis, seal_batch
from pacs.identifiers import ControllerId, DoorId, JournalId
from pacs.messages import (
    Acknowledgement,
    ControllerStatus,
    DocumentAssembler,
    DocumentChunk,
    DocumentKind,
    Hello,
    IssuedCertificate,
)
from pacs.revocation import StatusList
from pacs.rules import Door
from pacs.topics import Down, DownTopic, Up, UpTopic
from provisioning.readers import DoorWiring, ProvisionedController, add_controller
from provisioning.site import Site, create_site
from tests.hub.databases import SITE, fresh_database, make_site

DEADLINE_S = 30.0


def eventually(condition: Callable[[], Any], what: str = "", *, within_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; fails the test when there is none in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not in {within_s} s: {what or condition}")


class MemoryJournal:
    """A chain of events: encoded, by sequence."""

    def __init__(self, controller_id: ControllerId) -> None:
        self.controller_id = controller_id
        self.journal_id = JournalId(secrets.token_hex(16))
        self.encoded: list[bytes] = []

    @property
    def last_sequence(self) -> int:
        return len(self.encoded)

    def append(self, kind: EventKind, **fields: Any) -> bytes:
        """Add an event that happens now."""
        previous = (
            event_hash(self.encoded[-1]) if self.encoded else genesis(self.controller_id, self.journal_id)
        )
        fields = {"occurred_at": datetime.now(UTC), "clock_trusted": True, **fields}
        event = Event(
            sequence=len(self.encoded) + 1, previous_hash=previous, draft=EventDraft(kind=kind, **fields)
        )
        self.encoded.append(bytes(event))
        return self.encoded[-1]

    def batch(self, key: Ed25519PrivateKey, first: int, last: int) -> bytes:
        """Events ``first`` to ``last`` under a signed head."""
        return seal_batch(self.controller_id, self.journal_id, last, self.encoded[first - 1 : last], key)


class FakeController:
    """One controller with one door of the same id."""

    def __init__(self, provisioned: ProvisionedController, port: int) -> None:
        self.id = provisioned.id
        self.directory = provisioned.directory
        self.port = port
        passphrase = (self.directory / "passphrase").read_bytes().strip()
        key = load_pem_private_key((self.directory / "event.key.pem").read_bytes(), passphrase)
        policy_key = load_pem_public_key((self.directory / "policy.pub.pem").read_bytes())
        assert isinstance(key, Ed25519PrivateKey)
        self.event_key = key
        self.trusted = trusted_keys(policy_key)  # type: ignore[arg-type]
        self.journal = MemoryJournal(self.id)
        self.pruned = 0
        self.acknowledged = -1
        self.acknowledgements: list[Acknowledgement] = []
        self.versions = dict.fromkeys(DocumentKind, 0)
        self.received: list[tuple[DocumentKind, int]] = []
        self.commands: list[bytes] = []
        self.certificate: str | None = None
        self.certificates: list[str] = []
        self.confirms = True
        self.context = ssl.create_default_context(cafile=str(self.directory / "root.cert.pem"))
        self.context.load_cert_chain(
            self.directory / "device.cert.pem", self.directory / "device.key.pem", passphrase
        )
        self._assembler = DocumentAssembler()
        self._lock = threading.RLock()
        self._online = threading.Event()
        self._client: Client | None = None

    def connect(self) -> None:
        """Connect, say hello, and from then on send what is not acknowledged after every hello's answer."""
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.id,
            clean_session=True,
            protocol=MQTTProtocolVersion.MQTTv311,
        )
        client.tls_set_context(self.context)
        client.reconnect_delay_set(1, 2)
        client.will_set(str(UpTopic(self.id, Up.STATUS)), bytes(self._status(online=False)), qos=1)
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = lambda *_: self._online.clear()
        client.on_message = self._message
        self._client = client
        client.connect_async("localhost", self.port, keepalive=10)
        client.loop_start()

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe([(str(DownTopic(self.id, kind)), 0) for kind in Down])

    def _subscribed(self, *_: Any) -> None:
        self._online.set()
        self.hello()
        self.heartbeat()

    def wait_online(self) -> None:
        eventually(self._online.is_set, f"{self.id} online")

    def drop(self) -> None:
        """Lose the connection without a word: the broker publishes the last will."""
        assert self._client is not None
        self._client.loop_stop()
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._client = None
        self._online.clear()

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()
            self._client = None
            self._online.clear()

    def publish(self, kind: Up, payload: bytes) -> None:
        if self._client is not None:
            self._client.publish(str(UpTopic(self.id, kind)), payload, qos=1)

    def hello(self) -> None:
        with self._lock:
            hello = Hello(
                journal_id=self.journal.journal_id,
                first_sequence=self.pruned + 1,
                last_sequence=self.journal.last_sequence,
                versions=dict(self.versions),
                software="test",
            )
        self.publish(Up.HELLO, bytes(hello))

    def heartbeat(self) -> None:
        self.publish(Up.STATUS, bytes(self._status(online=True)))

    def record(self, kind: EventKind = EventKind.DOOR_OPENED, **fields: Any) -> None:
        """An event happens and is sent at once."""
        with self._lock:
            self.journal.append(kind, **fields)
            last = self.journal.last_sequence
            self.send(last, last)

    def send(self, first: int, last: int) -> None:
        with self._lock:
            self.publish(Up.EVENTS, self.journal.batch(self.event_key, first, last))

    def resend(self, size: int = 100) -> None:
        """Go back to what was acknowledged, and send all from there."""
        with self._lock:
            first = max(self.acknowledged, 0) + 1
            while first <= self.journal.last_sequence:
                last = min(first + size - 1, self.journal.last_sequence)
                self.send(first, last)
                first = last + 1

    def until_acknowledged(self) -> None:
        """Resend, patiently, until the hub has everything."""
        resent_at = time.monotonic()

        def is_done() -> bool:
            nonlocal resent_at
            if self.acknowledged >= self.journal.last_sequence:
                return True
            if time.monotonic() - resent_at > 1.0:
                resent_at = time.monotonic()
                self.hello()
                self.resend()
            return False

        eventually(is_done, f"{self.id}: {self.acknowledged} of {self.journal.last_sequence} acknowledged")

    def _status(self, *, online: bool) -> ControllerStatus:
        return ControllerStatus(
            online=online,
            sent_at=datetime.now(UTC),
            clock_trusted=True,
            journal_id=self.journal.journal_id,
            last_sequence=self.journal.last_sequence,
            acknowledged_sequence=max(self.acknowledged, 0),
            versions=dict(self.versions),
            certificate=self.certificate,
        )

    def _message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        topic = DownTopic.parse(message.topic)
        assert topic.controller_id == self.id
        assert not message.retain
        if topic.kind is Down.ACKNOWLEDGED:
            acknowledgement = Acknowledgement.from_bytes(bytes(message.payload))
            self.acknowledgements.append(acknowledgement)
            if acknowledgement.journal_id == self.journal.journal_id:
                self.acknowledged = acknowledgement.sequence
        elif topic.kind is Down.DOCUMENT:
            chunk = DocumentChunk.from_bytes(bytes(message.payload))
            document = self._assembler.add(chunk)
            if document is not None:
                self._document(chunk.kind, document)
        elif topic.kind is Down.COMMAND:
            self.commands.append(bytes(message.payload))
        elif topic.kind is Down.CERTIFICATE:
            self.certificates.append(IssuedCertificate.from_bytes(bytes(message.payload)).chain)

    def _document(self, kind: DocumentKind, data: bytes) -> None:
        opened = (
            bundle.open_bundle(data, self.trusted)
            if kind is DocumentKind.POLICY
            else StatusList.open(data, self.trusted)
        )
        self.received.append((kind, opened.version))
        if self.confirms and opened.version > self.versions[kind]:
            self.versions[kind] = opened.version
            digest = hashlib.sha256(data).digest()[:8]
            details = {"kind": kind.value, "version": opened.version, "digest": digest}
            self.record(EventKind.POLICY_APPLIED, details=details)


class SmallHub:
    """A hub without its pages, over real files, a real broker, and as many controllers as asked for."""

    def __init__(self, directory: Path, names: Sequence[str]) -> None:
        self.directory = directory
        now = datetime.now(UTC)
        self.site: Site = create_site(directory / "site", SITE, now=now)
        authority = self.site.authority(self.site.passphrase())
        self.provisioned = {
            name: add_controller(
                self.site,
                authority,
                ControllerId(name),
                [DoorWiring(id=DoorId(name), device="/dev/null")],
                now=now,
            )
            for name in names
        }
        self.database = fresh_database(directory / "data" / "hub.sqlite")
        with self.database.write() as connection:
            make_site(connection)
            for provisioned in self.provisioned.values():
                register(connection, provisioned)
        self.live = LiveBus()
        self.port = 0
        self.start()

    def start(self) -> None:
        """Also after ``stop``: the same port, the same data."""
        keys = HubKeys.load(self.directory / "site" / "hub", self.directory / "site" / "hub" / "passphrase")
        settings = BrokerSettings(data_dir=self.directory / "data", host="127.0.0.1", port=self.port)
        self.link = ControllerLink(
            self.database, keys, settings, live=self.live, clock=lambda: datetime.now(UTC)
        )
        self.link.start()
        self.port = self.link.broker.port

    def stop(self) -> None:
        self.link.stop()

    def controller(self, name: str) -> FakeController:
        return FakeController(self.provisioned[name], self.port)


def register(connection: Any, provisioned: ProvisionedController) -> None:
    """What ``drempel-provision reader add`` does through the API."""
    now = datetime.now(UTC)
    controllers.register(
        connection,
        Controller(
            site_id=SITE,
            id=provisioned.id,
            event_public_key=provisioned.event_public_key,
            certificate_serial=provisioned.certificate_serial,
            software=None,
            registered_at=now,
        ),
    )
    for door_id in provisioned.doors:
        doors.add(connection, Door(id=door_id, controller_id=provisioned.id), name=door_id, now=now)


@contextmanager
def small_hub(directory: Path, *names: str) -> Iterator[SmallHub]:
    hub = SmallHub(directory, names)
    try:
        yield hub
    finally:
        hub.stop()
        hub.database.close()
