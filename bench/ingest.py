"""Events a second from the wire to the hub's database, each checked, against raw inserts into the same schema.

A hub of its own, without doors; controllers that send a journal made beforehand, each as far ahead of what is
acknowledged as a controller goes. What counts is the hub's acknowledgement, which follows its commit.
"""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.sender import Sender, publish_confirmed
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
from simulator.scenario import Description
from simulator.site import VirtualSite

_WITHIN_S = 300.0
_RAW_BATCH = 500
_BATCH = 200
_CONTROLLERS = 4
_WINDOW = 1_000
_FLOOR_ROWS = 20_000
_PROBE_EVERY_S = 0.05
PROBE_EVENTS = 10_000
_MILLION = 1_000_000


class Load:
    """One controller without doors of wood: a journal made beforehand, and what of it is acknowledged."""

    def __init__(self, made: ProvisionedController, count: int) -> None:
        passphrase = Passphrase.from_file(made.directory / "passphrase")
        key = read_key(made.directory / "event.key.pem", passphrase)
        if not isinstance(key, Ed25519PrivateKey):
            raise TypeError("an Ed25519 event key expected")
        self.id = made.id
        self.acknowledged = -1
        self._key = key
        self._journal_id = JournalId(secrets.token_hex(16))
        self._encoded = journal(made.id, self._journal_id, count)
        self._topic = str(UpTopic(made.id, Up.EVENTS))
        self._changed = asyncio.Event()
        self._sender: Sender
        self._context = ssl.create_default_context(cafile=str(made.directory / "root.cert.pem"))
        self._context.load_cert_chain(
            made.directory / "device.cert.pem", made.directory / "device.key.pem", passphrase.secret
        )

    async def connect(self, port: int) -> None:
        """Connect, say hello, and hear that nothing is stored."""
        topic = str(DownTopic(self.id, Down.ACKNOWLEDGED))
        self._sender = await Sender.connect(port, self._context, self.id, topic, self._heard)
        hello = Hello(
            journal_id=self._journal_id,
            first_sequence=1,
            last_sequence=len(self._encoded),
            versions={},
            software="bench",
        )
        self._sender.send([publish_confirmed(str(UpTopic(self.id, Up.HELLO)), bytes(hello), number=0)])
        await self.wait_for(0)

    def batches(self, size: int, first: int, last: int) -> list[tuple[int, bytes]]:
        """Signed batches of ``size`` of the events from ``first`` to ``last``, each after its last sequence."""
        return [
            (end, self._batch(start, end))
            for start in range(first, last + 1, size)
            for end in (min(start + size - 1, last),)
        ]

    async def send(self, batches: list[tuple[int, bytes]]) -> None:
        """Publish them in order, at most ``_WINDOW`` events ahead of the acknowledgement, as a controller does."""
        packets = [
            (last, publish_confirmed(self._topic, batch, number=number))
            for number, (last, batch) in enumerate(batches)
        ]
        begin = 0
        while begin < len(packets):
            allowed = self.acknowledged + _WINDOW
            end = begin
            while end < len(packets) and packets[end][0] <= allowed:
                end += 1
            if end > begin:
                self._sender.send(packet for _, packet in packets[begin:end])
                begin = end
            else:
                await self._next_acknowledgement()
        await self.wait_for(packets[-1][0])

    async def wait_for(self, sequence: int) -> None:
        """Until the hub acknowledged this sequence."""
        while self.acknowledged < sequence:
            await self._next_acknowledgement()

    def close(self) -> None:
        """Leave."""
        self._sender.close()

    def _batch(self, first: int, last: int) -> bytes:
        return seal_batch(self.id, self._journal_id, last, self._encoded[first - 1 : last], self._key)

    async def _next_acknowledgement(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(_WITHIN_S):
                await self._changed.wait()
        except TimeoutError:
            raise RuntimeError(f"{self.id}: acknowledged up to {self.acknowledged}, then nothing") from None

    def _heard(self, _topic: str, payload: bytes) -> None:
        heard = Acknowledgement.from_bytes(payload)
        if heard.journal_id == self._journal_id:
            self.acknowledged = max(self.acknowledged, heard.sequence)
            self._changed.set()


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


def measure(directory: Path, *, live: int, backlog: int, log: IO[Any] | None = None) -> dict[str, float]:
    """Send ``live`` events one by one, then ``backlog`` in batches; returns the figures, ``ingest.…``."""
    with _hub(directory / "ingest", log) as site:
        live_each, backlog_each = live // _CONTROLLERS, backlog // _CONTROLLERS
        loads = [
            Load(_registered(site, f"load-{number}"), live_each + backlog_each)
            for number in range(_CONTROLLERS)
        ]
        probe = Load(_registered(site, "probe"), PROBE_EVENTS)
        floor_before = raw_inserts_per_s(Database.at(directory / "floor-before.sqlite"), _FLOOR_ROWS)
        live_per_s, batched_per_s, delays_s = asyncio.run(
            run(site.hub.mqtt_port, loads, probe, live_each, backlog_each)
        )
        floor_after = raw_inserts_per_s(Database.at(directory / "floor-after.sqlite"), _FLOOR_ROWS)
    floor = median((floor_before, floor_after))
    one, many = loads[0].batches(1, 1, 1), loads[0].batches(_BATCH, 1, _BATCH)
    return {
        "ingest.floor_rows_per_s": floor,
        "ingest.live_events": live_each * _CONTROLLERS,
        "ingest.live_events_per_s": live_per_s,
        "ingest.live_over_floor": live_per_s / floor,
        "ingest.batched_events": backlog_each * _CONTROLLERS,
        "ingest.batched_events_per_s": batched_per_s,
        "ingest.batched_over_floor": batched_per_s / floor,
        "ingest.drain_1m_s": _MILLION / batched_per_s,
        "ingest.live_during_drain_p50_ms": median(delays_s) * 1e3,
        "ingest.live_during_drain_p95_ms": quantiles(delays_s, n=20)[-1] * 1e3,
        "ingest.live_during_drain_max_ms": max(delays_s) * 1e3,
        "ingest.bytes_per_live_event": len(one[0][1]),
        "ingest.bytes_per_batched_event": len(many[0][1]) / _BATCH,
    }


@contextmanager
def _hub(directory: Path, log: IO[Any] | None) -> Iterator[VirtualSite]:
    nothing = Description(
        site_id=SiteId("bench"), doors=(), names={}, schedules=(), access_levels=(), residents=()
    )
    with VirtualSite(nothing, directory, log=log) as site:
        yield site


def _registered(site: VirtualSite, name: str) -> ProvisionedController:
    return site.register_controller(ControllerId(name), DoorWiring(id=DoorId(name), device=f"/dev/{name}"))


async def run(
    port: int, loads: list[Load], probe: Load, live: int, backlog: int
) -> tuple[float, float, list[float]]:
    """Live events a second, batched events a second, and how long single events took beside the latter."""
    for load in (*loads, probe):
        await load.connect(port)
    try:
        live_per_s = await _rate([(load, load.batches(1, 1, live)) for load in loads])
        batched = [(load, load.batches(_BATCH, live + 1, live + backlog)) for load in loads]
        probing = asyncio.create_task(_delays_s(probe))
        try:
            batched_per_s = await _rate(batched)
        finally:
            probing.cancel()
        return live_per_s, batched_per_s, await probing
    finally:
        for load in (*loads, probe):
            load.close()


async def _rate(prepared: list[tuple[Load, list[tuple[int, bytes]]]]) -> float:
    """Events a second from the first publish to the last acknowledgement, all controllers at once."""
    before = sum(load.acknowledged for load, _ in prepared)
    begun_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for load, batches in prepared:
            group.create_task(load.send(batches))
    taken_s = time.perf_counter() - begun_s
    return (sum(load.acknowledged for load, _ in prepared) - before) / taken_s


async def _delays_s(probe: Load) -> list[float]:
    """Send one event, wait for its acknowledgement, rest, and again until cancelled."""
    delays_s: list[float] = []
    try:
        for sequence in range(1, PROBE_EVENTS + 1):
            batch = probe.batches(1, sequence, sequence)
            begun_s = time.perf_counter()
            await probe.send(batch)
            delays_s.append(time.perf_counter() - begun_s)
            await asyncio.sleep(_PROBE_EVERY_S)
    except asyncio.CancelledError:
        pass
    return delays_s


def raw_inserts_per_s(database: Database, count: int) -> float:
    """Rows a second into the hub's own schema in batches of 500, nothing checked: the floor; closes the database."""
    try:
        database.migrate()
        now = datetime.now(UTC)
        controller_id, journal_id = ControllerId("raw"), JournalId("0" * 32)
        with database.write() as connection:
            sites.ensure(connection, Site(id=SiteId("raw"), name="raw", time_zone="UTC", created_at=now))
            controllers.register(
                connection,
                Controller(
                    site_id=SiteId("raw"),
                    id=controller_id,
                    event_public_key=bytes(32),
                    certificate_serial=None,
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
