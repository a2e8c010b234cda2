"""Telling other systems: signed, at least once, to nowhere inside the network that nobody allowed.

Signatures are those of Standard Webhooks 1.0: HMAC-SHA256 over ``id.timestamp.body``. One thread sends what is due;
what it sends was written to the outbox in the transaction that it tells of, so nothing that was committed is lost
and nothing else is told. It claims rows in the database, so several processes may run it, and none delays ingest.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum, unique
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import httpx
import structlog

from hub.store import webhooks as store
from hub.store.database import Database
from hub.store.webhooks import Delivery, Webhook
from pacs.errors import MalformedData

SECRET_PREFIX = "whsec_"  # noqa: S105 -- how a secret begins, by the standard
OVERLAP = timedelta(hours=24)
TIMEOUT_S = 10.0
AT_ONCE = 8
LOOK_EVERY_S = 0.5
CLAIM = timedelta(seconds=60)
RETRY_AFTER = tuple(
    timedelta(seconds=each) for each in (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 43_200)
)
"""Between one attempt and the next: 26 hours in all; then the subscription is disabled."""

Network = IPv4Network | IPv6Network
log = structlog.get_logger(__name__)


@unique
class Told(StrEnum):
    """Every kind of message."""

    PING = "ping"
    ALARM_RAISED = "alarm.raised"
    ALARM_CLEARED = "alarm.cleared"
    ALARM_ACKNOWLEDGED = "alarm.acknowledged"
    CARD_BLOCKED = "card.blocked"
    CARD_REINSTATED = "card.reinstated"
    IMPORT_DONE = "import.done"


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


def checked_address(url: str, allowed: Sequence[Network]) -> tuple[str, int, str]:
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
    """One thread that sends what is due; raises ``MalformedData`` for networks that are none."""

    def __init__(self, database: Database, clock: Callable[[], datetime], allow: Sequence[str]) -> None:
        self._database = database
        self._clock = clock
        self.allowed = networks(allow)
        self._me = secrets.token_hex(16)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is on its way is sent again after the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S + 5)

    @property
    def is_running(self) -> bool:
        """Whether messages are sent."""
        return self._thread.is_alive()

    def _run(self) -> None:
        purged_at: datetime | None = None
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                now = self._clock()
                if purged_at is None or now - purged_at > timedelta(hours=1):
                    purged_at = now
                    with self._database.write() as connection:
                        store.forget_old(connection, now)
                while not self._stop.is_set() and self._send_due():
                    pass
            except Exception:  # the database, say: what is due stays due
                log.exception("webhooks_turn_failed")

    def _send_due(self) -> int:
        """Send some of what is due; how many."""
        now = self._clock()
        with self._database.read() as connection:
            if not store.is_any_due(connection, now):
                return 0
        with self._database.write() as connection:
            claimed = store.claim(connection, now, by=self._me, until=now + CLAIM, most=AT_ONCE)
        outcomes = asyncio.run(self._all(claimed))
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
                    cause = "gone" if status == 410 else "not reached for a day"
                    store.give_up(connection, webhook.id, cause)
                    log.warning("webhook_disabled", webhook=webhook.id, cause=cause)
        return len(claimed)

    async def _all(self, claimed: Sequence[tuple[Delivery, Webhook]]) -> list[tuple[int | None, str]]:
        return await asyncio.gather(*(self._one(delivery, webhook) for delivery, webhook in claimed))

    async def _one(self, delivery: Delivery, webhook: Webhook) -> tuple[int | None, str]:
        """Status and error of one attempt; whatever the other side does, it ends in time."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                host, port, address = await asyncio.to_thread(checked_address, webhook.url, self.allowed)
                return await self._post(delivery, webhook, host, port, address), ""
        except NotAllowed as error:
            return None, str(error)
        except TimeoutError:
            return None, "no answer in time"
        except Exception as error:  # noqa: BLE001 -- a foreign server may do anything
            return None, type(error).__name__

    async def _post(self, delivery: Delivery, webhook: Webhook, host: str, port: int, address: str) -> int:
        """Send to the address that was checked, not to what the name may have become since; read the status alone."""
        now = self._clock()
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
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream(
                "POST", url, content=body, headers=headers, extensions={"sni_hostname": host}
            ) as answer,
        ):
            return answer.status_code
