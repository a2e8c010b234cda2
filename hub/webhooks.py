"""Telling other systems: signed, at least once, to nowhere inside the network that nobody allowed.

Signatures are those of Standard Webhooks 1.0: HMAC-SHA256 over ``id.timestamp.body``. One thread sends what is due;
what it sends was written to the outbox in the transaction that it tells of, so nothing that was committed is lost
and nothing else is told. It claims rows in the database, so several processes may run it, and none delays ingest.
Each subscriber has a lane of its own, so one that never answers delays nobody else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import secrets
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import httpx
import structlog

from hub.periods import Periods, shortest_precise
from hub.store import webhook_arrivals
from hub.store import webhooks as store
from hub.store.database import Database
from hub.store.webhooks import Delivery, Webhook
from hub.webhook_arrivals import Arrivals
from hub.webhook_ends import Ends
from pacs.errors import MalformedData

SECRET_PREFIX = "whsec_"  # noqa: S105 -- how a secret begins, by the standard
OVERLAP = timedelta(hours=24)
TIMEOUT_S = 10.0
GRACE_S = 2.0
"""What is on its way when the hub stops has so long to be answered."""
AT_ONCE = 8
"""Messages to one subscriber."""
LANES = 32
LOOK_EVERY_S = 0.5
CLAIM = timedelta(seconds=60)
RETRY_AFTER = tuple(
    timedelta(seconds=each) for each in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 43_200)
)
"""Between one attempt and the next: 26 hours in all; then the subscription is disabled."""

GONE, NOT_REACHED = "gone", "not reached for a day"
"""Why the hub disables a subscription."""

Target: TypeAlias = tuple[str, int, str]
"""Host, port and the address that was checked."""
Network = IPv4Network | IPv6Network
log = structlog.get_logger(__name__)


class NotAllowed(Exception):
    """The address is none that this hub sends to; the message says why."""


def new_secret() -> str:
    """256 random bits, as the standard writes them."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """``v1,…`` over exactly these bytes."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Networks such as 10.1.0.0/16; raises ``MalformedData``."""
    try:
        return tuple(ip_network(each) for each in texts)
    except ValueError as error:
        raise MalformedData("webhooks.allow: networks such as 10.1.0.0/16 expected") from error


def checked_address(url: str, allowed: Sequence[Network]) -> Target:
    """Host, port and the one address to connect to.

    Raises ``NotAllowed`` unless it is https and every address of the host is public, or all are in an ``allowed``
    network, where http will do as well.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError as error:
        raise NotAllowed("not an address") from error
    if (
        parts.scheme not in ("http", "https")
        or not host
        or parts.username
        or parts.password
        or parts.fragment
    ):
        raise NotAllowed("an address such as https://example.org/hook expected")
    try:
        found = {each[4][0] for each in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        raise NotAllowed("the host has no address") from error
    inside = all(any(ip_address(each) in network for network in allowed) for each in found)
    if not inside and parts.scheme != "https":
        raise NotAllowed("https expected")
    if not inside and not all(_is_public(str(each)) for each in found):
        raise NotAllowed(
            "the host is inside a private network; webhooks.allow names those that may be reached"
        )
    return host, port, str(min(found))


def _is_public(text: str) -> bool:
    address = ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global and not address.is_multicast


class Webhooks:
    """One thread that sends what is due: a lane for each subscriber, so that none waits for another's server.

    ``ca_file``: PEM certificates that receivers' certificates may come from, beside the public ones. ``periods``:
    what was told of taps is kept as long as who tapped, by the site that keeps it for the least time. Raises ``MalformedData`` for networks and certificates that are none.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        allow: Sequence[str],
        *,
        ca_file: Path | None = None,
        periods: Periods | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self.allowed = networks(allow)
        self._trust = _trust(ca_file)
        self._periods = periods or Periods()
        self._me = secrets.token_hex(16)
        self._turns = itertools.count()
        self._served: dict[str, int] = {}
        self._purged_at: datetime | None = None
        self._arrivals = Arrivals(database, clock)
        self._ends = Ends(database, clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is on its way is sent again after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(GRACE_S + 5)

    @property
    def is_running(self) -> bool:
        """Whether messages are sent."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with ThreadPoolExecutor(LANES, "webhook-names") as names:
                    asyncio.run(self._dispatch(names))
            except Exception:  # the database, say: what is due stays due
                log.exception("webhooks_turn_failed")
                self._stop.wait(LOOK_EVERY_S)

    async def _dispatch(self, names: ThreadPoolExecutor) -> None:
        """Give each subscriber that something is due for a lane, until stopped."""
        lanes: dict[str, asyncio.Task[None]] = {}
        # without keep-alive: a connection to an address may be used for that one host name only
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            verify=self._trust, timeout=TIMEOUT_S, limits=limits, follow_redirects=False, trust_env=False
        ) as client:
            try:
                while not self._stop.is_set():
                    for webhook_id in await asyncio.to_thread(self._due, frozenset(lanes)):
                        lanes[webhook_id] = asyncio.create_task(self._lane(client, names, webhook_id))
                    if lanes:
                        await asyncio.wait(
                            lanes.values(), timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                        )
                    else:
                        await asyncio.sleep(LOOK_EVERY_S)
                    for ended in [key for key, lane in lanes.items() if lane.done()]:
                        lanes.pop(ended).result()
            finally:
                if lanes:
                    await asyncio.wait(lanes.values(), timeout=GRACE_S)
                for lane in lanes.values():
                    lane.cancel()
                await asyncio.gather(*lanes.values(), return_exceptions=True)

    def _due(self, busy: Collection[str]) -> list[str]:
        """Who is to be told now and has no lane; who was served least lately first."""
        now = self._clock()
        if self._purged_at is None or now - self._purged_at > timedelta(hours=1):
            self._purged_at = now
            with self._database.write() as connection:
                kept = shortest_precise(connection, self._periods)
                store.forget_old(connection, now, taps_before=now - kept)
                webhook_arrivals.forget_old(connection, now)
        self._arrivals.look()
        self._ends.look()
        with self._database.read() as connection:
            waiting = [each for each in store.due_for(connection, now) if each not in busy]
        waiting.sort(key=lambda each: self._served.get(each, -1))
        chosen = waiting[: LANES - len(busy)]
        self._served |= {each: next(self._turns) for each in chosen}
        return chosen

    async def _lane(self, client: httpx.AsyncClient, names: ThreadPoolExecutor, webhook_id: str) -> None:
        """Send one subscriber some of what is due."""
        claimed = await asyncio.to_thread(self._claim, webhook_id)
        if not claimed:
            return
        target: Target | str
        try:
            async with asyncio.timeout(TIMEOUT_S):
                target = await asyncio.get_running_loop().run_in_executor(
                    names, checked_address, claimed[0][1].url, self.allowed
                )
        except NotAllowed as error:
            target = str(error)
        except TimeoutError:
            target = "the name server does not answer"
        outcomes = await asyncio.gather(*(self._one(client, target, *each) for each in claimed))
        await asyncio.to_thread(self._write_down, claimed, outcomes)

    def _claim(self, webhook_id: str) -> list[tuple[Delivery, Webhook]]:
        now = self._clock()
        with self._database.write() as connection:
            return store.claim(
                connection, now, by=self._me, until=now + CLAIM, most=AT_ONCE, webhook_id=webhook_id
            )

    def _write_down(
        self, claimed: Sequence[tuple[Delivery, Webhook]], outcomes: Sequence[tuple[int | None, str]]
    ) -> None:
        """How each attempt ended, and when the next one is due."""
        now = self._clock()
        with self._database.write() as connection:
            for (delivery, webhook), (status, error) in zip(claimed, outcomes, strict=True):
                done = status is not None and 200 <= status < 300
                last = delivery.attempts >= len(RETRY_AFTER) or status == 410
                again = None if done or last else now + RETRY_AFTER[delivery.attempts]
                mine = store.tried(
                    connection, delivery, by=self._me, status=status, error=error, due_at=again,
                    delivered_at=now if done else None,
                )  # fmt: skip
                if mine and last and not done:
                    cause = GONE if status == 410 else NOT_REACHED
                    store.give_up(connection, webhook.id, cause)
                    log.warning("webhook_disabled", webhook=webhook.id, cause=cause)

    async def _one(
        self, client: httpx.AsyncClient, target: Target | str, delivery: Delivery, webhook: Webhook
    ) -> tuple[int | None, str]:
        """Status and error of one attempt; whatever the other side does, it ends in time."""
        if isinstance(target, str):
            return None, target
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._post(client, target, delivery, webhook), ""
        except TimeoutError:
            return None, "no answer in time"
        except Exception as error:  # noqa: BLE001 -- a foreign server may do anything
            return None, type(error).__name__

    async def _post(
        self, client: httpx.AsyncClient, target: Target, delivery: Delivery, webhook: Webhook
    ) -> int:
        """Send to the address that was checked, not to what the name may have become since; read the status alone."""
        now = self._clock()
        host, port, address = target
        stamp, body = int(now.timestamp()), delivery.body.encode()
        keys = [webhook.secret]
        if webhook.previous_secret and webhook.previous_until and now < webhook.previous_until:
            keys.append(webhook.previous_secret)
        url = httpx.URL(webhook.url).copy_with(host=address)
        headers = {
            "host": host if url.port is None else f"{host}:{port}",
            "content-type": "application/json",
            "user-agent": "drempel-hub",
            "webhook-id": delivery.message_id,
            "webhook-timestamp": str(stamp),
            "webhook-signature": " ".join(signature(key, delivery.message_id, stamp, body) for key in keys),
        }
        async with client.stream(
            "POST", url, content=body, headers=headers, extensions={"sni_hostname": host}
        ) as answer:
            return answer.status_code


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise MalformedData("webhooks.ca_file: a file of PEM certificates expected") from error
    return context
