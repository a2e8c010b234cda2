"""From the call that blocks a card to the last of hundreds or thousands of controllers that confirmed it.

The hub is real, its controllers are the wire's end of one each: they connect with a certificate of their own, assemble
what they are sent, and confirm it by a signed event of their journal. Beside it: the hub's and its broker's memory, and
how long pages with that many doors take.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import IO, Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench.process import rss_mib
from bench.sender import Sender, publish_confirmed
from edge.send_window import Patience
from hub.store import controllers, doors, sites
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.sites import Site
from pacs.events import Event, EventDraft, EventKind, event_hash, genesis, seal_batch
from pacs.identifiers import ControllerId, DoorId, JournalId, SiteId
from pacs.messages import Acknowledgement, DocumentAssembler, DocumentChunk, DocumentKind, Hello
from pacs.rules import Door
from pacs.topics import Down, DownTopic, Up, UpTopic, down_root
from provisioning.authority import Authority, Purpose, generate_key
from provisioning.site import create_site
from simulator.hub_process import HubProcess

_SITE = SiteId("fleet")
_AT_ONCE = 64
_WITHIN_S = 240.0
_PAGES = ("/", "/api/v1/doors", "/api/v1/events")
_VIEWS = 5
_PATIENCE = Patience()
_TRIES = 10
_RECONNECT_S = 1.0


class Member:
    """One controller with one door; ``confirmed``: the version that the hub acknowledged as confirmed, of each kind."""

    def __init__(self, directory: Path, number: int, authority: Authority, now: datetime) -> None:
        self.id = ControllerId(f"door-{number:04}")
        self.event_key = ed25519.Ed25519PrivateKey.generate()
        self.confirmed = dict.fromkeys(DocumentKind, 0)
        self._said: dict[int, tuple[DocumentKind, int]] = {}
        self._unacknowledged: dict[int, bytes] = {}
        self._asked_s = 0.0
        self._wait_s = _PATIENCE.first_s
        self._versions = dict.fromkeys(DocumentKind, 0)
        self._assembler = DocumentAssembler()
        self._journal_id = JournalId(secrets.token_hex(16))
        self._last_hash = genesis(self.id, self._journal_id)
        self._sequence = 0
        self._sender: Sender | None = None
        key = generate_key()
        certificate = authority.certify(
            name=self.id, public_key=key.public_key(), purpose=Purpose.CLIENT, now=now
        )
        pem = directory / f"{self.id}.pem"
        pem.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            + authority.chain_pem(certificate)
        )
        self._pem = pem
        self.registered = Controller(
            site_id=_SITE,
            id=self.id,
            event_public_key=self.event_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            certificate_serial=f"{certificate.serial_number:x}",
            software=None,
            registered_at=now,
        )

    async def connect(self, port: int, root: Path) -> None:
        """Connect, again where a busy broker closes it, and say hello, which the hub answers with its documents.

        Raises ``OSError`` or ``TimeoutError`` when the last of so many tries fails.
        """
        context = ssl.create_default_context(cafile=str(root))
        context.load_cert_chain(self._pem)
        for tries_left in reversed(range(_TRIES)):
            try:
                topic = f"{down_root(self.id)}/+"
                self._sender = await Sender.connect(port, context, self.id, topic, self._heard)
                break
            except OSError:  # a TimeoutError is one
                if not tries_left:
                    raise
                await asyncio.sleep(_RECONNECT_S)
        self._ask()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has not closed its connection."""
        return self._sender is not None and self._sender.is_connected

    def ask_again(self) -> None:
        """What a controller does whose events are not acknowledged in time: hello, and all of them once more."""
        if self._unacknowledged and time.monotonic() - self._asked_s >= self._wait_s:
            self._wait_s = min(2 * self._wait_s, _PATIENCE.longest_s)
            self._ask()
            self._send(self._unacknowledged.values())

    def _ask(self) -> None:
        hello = Hello(
            journal_id=self._journal_id,
            first_sequence=1,
            last_sequence=self._sequence,
            versions={kind: version for kind, version in self._versions.items() if version},
            software="bench",
        )
        self._asked_s = time.monotonic()
        self._send([publish_confirmed(str(UpTopic(self.id, Up.HELLO)), bytes(hello), number=0)])

    def _send(self, packets: Iterable[bytes]) -> None:
        # A document can arrive before connect has returned; what it calls for is sent when asking again.
        if self._sender is not None:
            self._sender.send(packets)

    def close(self) -> None:
        """Leave."""
        if self._sender is not None:
            self._sender.close()

    def _heard(self, topic: str, payload: bytes) -> None:
        match DownTopic.parse(topic).kind:
            case Down.ACKNOWLEDGED:
                sequence = Acknowledgement.from_bytes(payload).sequence
                for said in [number for number in self._said if number <= sequence]:
                    kind, version = self._said.pop(said)
                    del self._unacknowledged[said]
                    self._wait_s = _PATIENCE.first_s
                    self.confirmed[kind] = max(version, self.confirmed[kind])
            case Down.DOCUMENT:
                chunk = DocumentChunk.from_bytes(payload)
                document = self._assembler.add(chunk)
                if document is not None and chunk.version > self._versions[chunk.kind]:
                    self._versions[chunk.kind] = chunk.version
                    self._confirm(chunk.kind, chunk.version, document)

    def _confirm(self, kind: DocumentKind, version: int, document: bytes) -> None:
        digest = hashlib.sha256(document).digest()[:8]
        details = {"kind": kind.value, "version": version, "digest": digest}
        draft = EventDraft(
            kind=EventKind.POLICY_APPLIED, occurred_at=datetime.now(UTC), clock_trusted=True, details=details
        )
        self._sequence += 1
        event = bytes(Event(sequence=self._sequence, previous_hash=self._last_hash, draft=draft))
        self._last_hash = event_hash(event)
        self._said[self._sequence] = (kind, version)
        batch = seal_batch(self.id, self._journal_id, self._sequence, [event], self.event_key)
        packet = publish_confirmed(str(UpTopic(self.id, Up.EVENTS)), batch, number=self._sequence)
        if not self._unacknowledged:
            self._asked_s = time.monotonic()
        self._unacknowledged[self._sequence] = packet
        self._send([packet])


def measure(directory: Path, *, sizes: tuple[int, ...], log: IO[Any] | None = None) -> dict[str, float]:
    """One hub after the other, each with so many controllers; returns the figures, ``fleet_<size>.…``."""
    figures: dict[str, float] = {}
    for size in sizes:
        place = directory / f"fleet-{size}"
        place.mkdir()
        figures |= {f"fleet_{size}.{name}": value for name, value in _one(place, size, log).items()}
    return figures


def _one(directory: Path, size: int, log: IO[Any] | None) -> dict[str, float]:
    now = datetime.now(UTC)
    site = create_site(directory / "site", _SITE, now=now)
    authority = site.authority(site.passphrase())
    members = [Member(directory, number, authority, now) for number in range(size)]
    _register(directory / "data" / "hub.sqlite", members, now)
    with HubProcess(site.hub_directory, directory / "data", stderr=log) as hub:
        return asyncio.run(_walk(hub, site.directory / "root.cert.pem", members))


def _register(path: Path, members: list[Member], now: datetime) -> None:
    database = Database.at(path)
    database.migrate()
    with database.write() as connection:
        sites.ensure(connection, Site(id=_SITE, name="fleet", time_zone="UTC", created_at=now))
        for member in members:
            controllers.register(connection, member.registered)
            doors.add(
                connection, Door(id=DoorId(member.id), controller_id=member.id), name=member.id, now=now
            )
    database.close()


async def _walk(hub: HubProcess, root: Path, members: list[Member]) -> dict[str, float]:
    figures: dict[str, float] = {}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def connect(member: Member) -> None:
        async with gate:
            await member.connect(hub.mqtt_port, root)

    begun_s = time.perf_counter()
    await asyncio.gather(*map(connect, members))
    figures["connect_s"] = time.perf_counter() - begun_s
    patience = asyncio.create_task(_ask_again(members, hub.mqtt_port, root))
    try:
        await _until(lambda: all(min(member.confirmed.values()) for member in members))
        figures["first_documents_s"] = time.perf_counter() - begun_s
        token = hub.command("token", "create", "--name=bench", "--role=administrator")
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=60) as api:
            figures |= await _block(api, members)
            for page in _PAGES:
                figures[f"page_ms_{page.strip('/').replace('/', '_') or 'live'}"] = await _page_ms(
                    hub, page, api
                )
        figures["hub_rss_mib"] = rss_mib(hub.pid)
        figures["broker_rss_mib"] = rss_mib(hub.broker_pid)
    finally:
        patience.cancel()
        for member in members:
            member.close()
    return figures


async def _block(api: httpx.AsyncClient, members: list[Member]) -> dict[str, float]:
    """Enrol a card, and block it: until every controller confirmed, and until the hub says so of every door."""
    person = {"site_id": _SITE, "category": "resident", "given_name": "Ama", "family_name": "Mensah"}
    holder = (await api.post("/api/v1/cardholders", json=person)).raise_for_status().json()["id"]
    name = "00112233-4455-6677-8899-aabbccddeeff"
    card = {"credential_id": name, "cardholder_id": holder, "technology": "pkoc-v2"}
    before = max(member.confirmed[DocumentKind.POLICY] for member in members)
    (await api.post("/api/v1/cards", json=card)).raise_for_status()
    await _until(lambda: all(member.confirmed[DocumentKind.POLICY] > before for member in members))
    begun_s = time.perf_counter()
    blocked = await api.post(f"/api/v1/cards/{name}/block", json={"status": "suspended", "reason": "lost"})
    version = blocked.raise_for_status().json()["versions"][_SITE]
    answered_s = time.perf_counter() - begun_s
    taken_s: list[float] = []
    waiting = list(members)
    while waiting:
        done = [member for member in waiting if member.confirmed[DocumentKind.REVOCATIONS] >= version]
        taken_s += [time.perf_counter() - begun_s] * len(done)
        waiting = [member for member in waiting if member not in done]
        await asyncio.sleep(0.01)
        if time.perf_counter() - begun_s > _WITHIN_S:
            raise RuntimeError(f"{len(waiting)} controllers have not confirmed")
    said = (await api.get(f"/api/v1/cards/{name}/distribution")).raise_for_status().json()
    if said["confirmed"] != len(members):
        raise RuntimeError("the hub does not say of every door that it confirmed")
    return {
        "block_answered_s": answered_s,
        "block_median_door_s": median(taken_s),
        "block_last_door_s": taken_s[-1],
        "block_said_s": time.perf_counter() - begun_s,
    }


async def _page_ms(hub: HubProcess, page: str, api: httpx.AsyncClient) -> float:
    """The median of a few views; pages as somebody sees them who signed in, the interface with a token."""
    if page.startswith("/api/"):
        return await _views_ms(api, page)
    link = hub.command("operator", "link").rpartition(" ")[2]
    async with httpx.AsyncClient(base_url=hub.url, headers={"origin": hub.url}, timeout=60) as browser:
        form = {"name": "Bench", "password": secrets.token_urlsafe(16)}
        answer = await browser.post(link, data=form)
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise RuntimeError(f"not signed in: {answer.status_code}")
        return await _views_ms(browser, page)


async def _views_ms(client: httpx.AsyncClient, page: str) -> float:
    taken_ms = []
    for _ in range(_VIEWS):
        begun_s = time.perf_counter()
        (await client.get(page)).raise_for_status()
        taken_ms.append((time.perf_counter() - begun_s) * 1e3)
    return median(taken_ms)


async def _ask_again(members: list[Member], port: int, root: Path) -> None:
    while True:
        await asyncio.sleep(1)
        for member in members:
            if not member.is_connected:
                await member.connect(port, root)
            member.ask_again()


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not holds():  # noqa: ASYNC110 -- what is waited for happens in thousands of places
            await asyncio.sleep(0.02)
