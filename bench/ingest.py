"""Events a second from the wire to the hub's database, each checked, against raw inserts into the same schema."""

from __future__ import annotations

import secrets
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from hub.store import controllers, events, sites
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.sites import Site
from pacs.events import Event, EventDraft, EventKind, event_hash, genesis, seal_batch
from pacs.identifiers import ControllerId, CredentialId, DoorId, JournalId, SiteId
from pacs.messages import Acknowledgement, Hello
from pacs.reason import Reason
from pacs.rules import Side
from pacs.topics import Down, DownTopic, Up, UpTopic
from provisioning.keystore import Passphrase, read_key
from provisioning.readers import DoorWiring, ProvisionedController
from simulator.site import VirtualSite

_WITHIN_S = 300.0
_RAW_BATCH = 500
_BATCH = 200
_CONTROLLERS = 4
_WINDOW = 1_000


class Load:
    """One controller without doors of wood: a journal made beforehand, sent as fast as the broker takes it."""

    def __init__(self, made: ProvisionedController, port: int, count: int) -> None:
        passphrase = Passphrase.from_file(made.directory / "passphrase")
        key = read_key(made.directory / "event.key.pem", passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("an Ed25519 event key expected")
        self.id = made.id
        self._key = key
        self._journal_id = JournalId(secrets.token_hex(16))
        self._encoded = journal(made.id, self._journal_id, count)
        self._acknowledged = threading.Condition()
        self.acknowledged = -1
        context = ssl.create_default_context(cafile=str(made.directory / "root.cert.pem"))
        context.load_cert_chain(
            made.directory / "device.cert.pem", made.directory / "device.key.pem", passphrase.secret
        )
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id=made.id, protocol=MQTTProtocolVersion.MQTTv311
        )
        self._client.tls_set_context(context)
        self._client.max_inflight_messages_set(200)
        self._client.on_message = self._heard
        self._client.on_connect = lambda client, *_: client.subscribe(
            str(DownTopic(self.id, Down.ACKNOWLEDGED)), qos=0
        )
        self._client.on_subscribe = lambda *_: self._hello()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_for(0)

    def batches(self, size: int, first: int, last: int) -> list[bytes]:
        """Signed batches of ``size`` events, of those from ``first`` to ``last``."""
        made = []
        for start in range(first, last + 1, size):
            end = min(start + size - 1, last)
            made.append(seal_batch(self.id, self._journal_id, end, self._encoded[start - 1 : end], self._key))
        return made

    def send(self, batches: list[bytes], size: int, first: int) -> None:
        """Publish them in order, at most ``_WINDOW`` events ahead of the acknowledgement, as a controller does."""
        topic = str(UpTopic(self.id, Up.EVENTS))
        for number, batch in enumerate(batches):
            self.wait_for(first + number * size - 1 - _WINDOW)
            self._client.publish(topic, batch, qos=1)
        self.wait_for(first + len(batches) * size - 1)

    def wait_for(self, sequence: int) -> None:
        """Until the hub acknowledged this sequence."""
        with self._acknowledged:
            if not self._acknowledged.wait_for(lambda: self.acknowledged >= sequence, _WITHIN_S):
                raise RuntimeError(f"{self.id}: {self.acknowledged} of {sequence} events acknowledged")

    def close(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _hello(self) -> None:
        hello = Hello(
            journal_id=self._journal_id,
            first_sequence=1,
            last_sequence=len(self._encoded),
            versions={},
            software="bench",
        )
        self._client.publish(str(UpTopic(self.id, Up.HELLO)), bytes(hello), qos=1)

    def _heard(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        heard = Acknowledgement.from_bytes(bytes(message.payload))
        if heard.journal_id == self._journal_id:
            with self._acknowledged:
                self.acknowledged = max(self.acknowledged, heard.sequence)
                self._acknowledged.notify_all()


def journal(controller_id: ControllerId, journal_id: JournalId, count: int) -> list[bytes]:
    """A chain of ``count`` grants."""
    encoded: list[bytes] = []
    previous = genesis(controller_id, journal_id)
    for sequence in range(1, count + 1):
        draft = EventDraft(
            kind=EventKind.ACCESS_GRANTED,
            occurred_at=datetime.now(UTC),
            clock_trusted=True,
            side=Side.ENTRY,
            credential_id=CredentialId(sequence.to_bytes(16)),
            reason=Reason.ENTITLED,
        )
        encoded.append(bytes(Event(sequence=sequence, previous_hash=previous, draft=draft)))
        previous = event_hash(encoded[-1])
    return encoded


def measure(site: VirtualSite, directory: Path, *, count: int) -> dict[str, float]:
    """Send ``count`` events one by one, then as many in batches; returns the figures, ``ingest.…``."""
    loads = [
        Load(
            site.register_controller(
                ControllerId(f"load-{number}"),
                DoorWiring(id=DoorId(f"load-{number}"), device=f"/dev/load-{number}"),
            ),
            site.hub.mqtt_port,
            2 * count // _CONTROLLERS,
        )
        for number in range(_CONTROLLERS)
    ]
    each = count // _CONTROLLERS // _BATCH * _BATCH
    try:
        raw_before = raw_inserts_per_s(directory / "raw-before.sqlite", count)
        live = _rate(loads, size=1, first=1, last=each)
        backlog = _rate(loads, size=_BATCH, first=each + 1, last=2 * each)
        raw_after = raw_inserts_per_s(directory / "raw-after.sqlite", count)
    finally:
        for load in loads:
            load.close()
    raw = median((raw_before, raw_after))
    return {
        "ingest.events": each * _CONTROLLERS,
        "ingest.events_per_s": live,
        "ingest.raw_insert_per_s": raw,
        "ingest.over_raw_insert": live / raw,
        "ingest.backlog_events_per_s": backlog,
        "ingest.backlog_over_raw_insert": backlog / raw,
        "ingest.bytes_per_live_event": len(loads[0].batches(1, 1, 1)[0]),
        "ingest.bytes_per_backlog_event": len(loads[0].batches(_BATCH, 1, _BATCH)[0]) / _BATCH,
    }


def _rate(loads: list[Load], *, size: int, first: int, last: int) -> float:
    """Events a second from the first publish to the last acknowledgement, all controllers at once."""
    prepared = [(load, load.batches(size, first, last)) for load in loads]
    begun_s = time.perf_counter()
    with ThreadPoolExecutor(len(loads)) as pool:
        for sent in [pool.submit(load.send, batches, size, first) for load, batches in prepared]:
            sent.result()
    return len(loads) * (last - first + 1) / (time.perf_counter() - begun_s)


def raw_inserts_per_s(path: Path, count: int) -> float:
    """Rows a second into the hub's own schema in batches of 500, nothing checked: the floor."""
    database = Database.at(path)
    try:
        database.migrate()
        now = datetime.now(UTC)
        controller_id, journal_id = ControllerId("raw"), JournalId("0" * 32)
        with database.write() as connection:
            sites.ensure(connection, Site(id=SiteId("raw"), name="raw", time_zone="UTC", created_at=now))
            controllers.register(
                connection,
                Controller(
                    id=controller_id,
                    event_public_key=bytes(32),
                    certificate_serial="1",
                    software=None,
                    registered_at=now,
                ),
            )
        encoded = journal(controller_id, journal_id, count)
        rows = [events.row(controller_id, journal_id, Event.from_bytes(data), data, now) for data in encoded]
        begun_s = time.perf_counter()
        for start in range(0, count, _RAW_BATCH):
            with database.write() as connection:
                events.add_many(connection, rows[start : start + _RAW_BATCH])
        return count / (time.perf_counter() - begun_s)
    finally:
        database.close()
