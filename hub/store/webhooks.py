"""Who is told of what over HTTP, and what is to be told: an outbox, written in the transaction that it tells of."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import controllers, webhook_deliveries, webhooks
from pacs.identifiers import ControllerId, SiteId

KEPT = timedelta(days=7)
LATE = timedelta(hours=1)
"""A tap that arrives later than that is not told."""


@unique
class Told(StrEnum):
    """Every kind of message. ``TAP`` is told only to who asks for it by name."""

    PING = "ping"
    ALARM_RAISED = "alarm.raised"
    ALARM_CLEARED = "alarm.cleared"
    ALARM_ACKNOWLEDGED = "alarm.acknowledged"
    CARD_BLOCKED = "card.blocked"
    CARD_REINSTATED = "card.reinstated"
    CARD_REPLACED = "card.replaced"
    CARD_EXPIRED = "card.expired"
    CARD_ENDED = "card.ended"
    CARD_ARRIVED = "card.arrived"
    TAP = "tap"
    IMPORT_DONE = "import.done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One subscription. ``kinds`` empty: every kind but taps; ``sites`` None: every site. ``cause``: why it is not enabled.

    ``secret`` signs; until ``previous_until`` what came before it signs as well.
    """

    id: str
    url: str
    kinds: tuple[str, ...]
    sites: tuple[str, ...] | None
    secret: str
    previous_secret: str | None
    previous_until: datetime | None
    enabled: bool
    cause: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one subscriber; ``due_at`` None: nothing more is done about it."""

    id: int
    webhook_id: str
    message_id: str
    kind: str
    body: str
    created_at: datetime
    due_at: datetime | None
    attempts: int
    claim: str | None
    status: int | None
    error: str
    delivered_at: datetime | None


def add(connection: Connection, webhook: Webhook) -> None:
    """Store a new subscription."""
    connection.execute(insert(webhooks).values(_row(webhook)))


def get(connection: Connection, webhook_id: str) -> Webhook:
    """One subscription; raises ``NotFound``."""
    row = connection.execute(select(webhooks).filter_by(id=webhook_id)).first()
    if row is None:
        raise NotFound("webhook is not there")
    return _webhook(row)


def list_all(connection: Connection) -> list[Webhook]:
    """Every subscription."""
    return [_webhook(row) for row in connection.execute(select(webhooks).order_by(webhooks.c.id))]


def change(connection: Connection, webhook: Webhook) -> None:
    """Store what a subscription is now."""
    connection.execute(update(webhooks).filter_by(id=webhook.id).values(_row(webhook)))


def remove(connection: Connection, webhook_id: str) -> None:
    """Forget a subscription and what was to be told; raises ``NotFound``."""
    get(connection, webhook_id)
    connection.execute(delete(webhook_deliveries).filter_by(webhook_id=webhook_id))
    connection.execute(delete(webhooks).filter_by(id=webhook_id))


def tell(
    connection: Connection,
    kind: str,
    facts: Mapping[str, Any],
    *,
    now: datetime,
    controller_id: ControllerId | None = None,
    site_id: SiteId | None = None,
    only: str | None = None,
) -> None:
    """Have every subscriber told, in this transaction; ``facts`` are ids, kinds and times, never names.

    ``only``: this subscriber, whatever it asked for.
    """
    subscribers = _taking(connection)
    if not subscribers:
        return
    if controller_id is not None:
        site_id = connection.scalar(select(controllers.c.site_id).filter_by(id=controller_id))
    rows = [
        _message(each, kind, site_id, facts, now)
        for each in subscribers
        if only == each.id or (only is None and _wants(each, kind, site_id))
    ]
    if rows:
        connection.execute(insert(webhook_deliveries), rows)


def tell_taps(connection: Connection, taps: Sequence[Mapping[str, Any]], *, now: datetime) -> None:
    """Have those told who ask for taps, in this transaction; ``taps`` as ``hub.store.events.row`` makes them.

    At which door, on which side, with what outcome and why; never whose card. Not what is older than ``LATE``.
    """
    fresh = [each for each in taps if now - each["occurred_at"] <= LATE]
    subscribers = [each for each in _taking(connection) if Told.TAP in each.kinds] if fresh else []
    if not subscribers:
        return
    query = select(controllers.c.id, controllers.c.site_id)
    site_of = {row.id: SiteId(row.site_id) for row in connection.execute(query)}
    rows = []
    for tap in fresh:
        facts = {name: tap[name] for name in ("controller_id", "door_id", "side", "reason", "clock_trusted")}
        facts |= {
            "outcome": tap["kind"].removeprefix("access_"),
            "occurred_at": tap["occurred_at"].isoformat(),
        }
        site_id = site_of[tap["controller_id"]]
        rows += [
            _message(each, Told.TAP, site_id, facts, now)
            for each in subscribers
            if _wants(each, Told.TAP, site_id)
        ]
    if rows:
        connection.execute(insert(webhook_deliveries), rows)


def is_wanted(connection: Connection, kind: str, site_id: SiteId) -> bool:
    """Whether anybody is told of this kind at this site."""
    return any(_wants(each, kind, site_id) for each in _taking(connection))


def _taking(connection: Connection) -> list[Webhook]:
    """Every subscriber that is told anything."""
    return [_webhook(row) for row in connection.execute(select(webhooks).filter_by(enabled=True))]


def _message(
    webhook: Webhook, kind: str, site_id: SiteId | None, facts: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    content = {"type": kind, "timestamp": now.isoformat(), "data": {"site_id": site_id, **facts}}
    return {
        "webhook_id": webhook.id,
        "message_id": f"msg_{secrets.token_hex(12)}",
        "kind": kind,
        "body": json.dumps(content, separators=(",", ":")),
        "created_at": now,
        "due_at": now,
        "attempts": 0,
        "error": "",
    }


def _wants(webhook: Webhook, kind: str, site_id: SiteId | None) -> bool:
    if webhook.kinds and kind not in webhook.kinds:
        return False
    return webhook.sites is None or site_id in webhook.sites


def due_for(connection: Connection, now: datetime) -> list[str]:
    """Every subscriber that something is to be delivered to and that takes it."""
    query = select(webhook_deliveries.c.webhook_id).where(_due(now)).distinct()
    return list(connection.scalars(query.order_by(webhook_deliveries.c.webhook_id)))


def disabled(connection: Connection) -> int:
    """How many subscriptions the hub has disabled because nobody took what they were told."""
    query = select(func.count()).where(webhooks.c.enabled.is_(False), webhooks.c.cause != "")
    return connection.scalar(query) or 0


def _due(now: datetime) -> ColumnElement[bool]:
    columns = webhook_deliveries.c
    taking = select(webhooks.c.id).where(webhooks.c.enabled)
    return (columns.due_at <= now) & columns.webhook_id.in_(taking)


def claim(
    connection: Connection, now: datetime, *, by: str, until: datetime, most: int, webhook_id: str
) -> list[tuple[Delivery, Webhook]]:
    """Take what is due to one subscriber, for this long: nobody else does meanwhile, and whoever is killed gives it back by that."""
    columns = webhook_deliveries.c
    mine = _due(now) & (columns.webhook_id == webhook_id)
    due = select(webhook_deliveries).where(mine).order_by(columns.due_at, columns.id).limit(most)
    found = [_delivery(row) for row in connection.execute(due)]
    if found:
        ids = [each.id for each in found]
        connection.execute(
            update(webhook_deliveries).where(columns.id.in_(ids)).values(due_at=until, claim=by)
        )
    return [(each, get(connection, webhook_id)) for each in found]


def tried(
    connection: Connection,
    delivery: Delivery,
    *,
    by: str,
    status: int | None,
    error: str,
    due_at: datetime | None,
    delivered_at: datetime | None,
) -> bool:
    """Say how an attempt ended; False when the claim has gone to somebody else meanwhile."""
    mine = update(webhook_deliveries).filter_by(id=delivery.id, claim=by)
    outcome = {"status": status, "error": error, "due_at": due_at, "delivered_at": delivered_at}
    return (
        connection.execute(mine.values(attempts=delivery.attempts + 1, claim=None, **outcome)).rowcount == 1
    )


def give_up(connection: Connection, webhook_id: str, cause: str) -> None:
    """Disable a subscription: what waits for it stays, and is not sent."""
    connection.execute(update(webhooks).filter_by(id=webhook_id).values(enabled=False, cause=cause))
    waiting = update(webhook_deliveries).filter_by(webhook_id=webhook_id)
    connection.execute(waiting.values(due_at=None))


def resume(connection: Connection, webhook_id: str, now: datetime) -> None:
    """Send again what was not delivered."""
    columns = webhook_deliveries.c
    those = (columns.webhook_id == webhook_id) & columns.delivered_at.is_(None)
    connection.execute(update(webhook_deliveries).where(those).values(due_at=now, attempts=0))


def forget_old(connection: Connection, now: datetime, *, taps_before: datetime) -> None:
    """Forget what was told, or given up, a week ago; of taps whatever was told before ``taps_before``."""
    columns = webhook_deliveries.c
    is_old = (columns.created_at < now - KEPT) & columns.due_at.is_(None)
    is_old_tap = (columns.created_at < taps_before) & (columns.kind == Told.TAP)
    connection.execute(delete(webhook_deliveries).where(is_old | is_old_tap))


def waiting(connection: Connection) -> int:
    """How many messages are still to be delivered."""
    return connection.scalar(select(func.count()).where(webhook_deliveries.c.due_at.is_not(None))) or 0


def waiting_for(connection: Connection) -> Mapping[str, int]:
    """Subscriber → how many messages are still to be delivered to it."""
    columns = webhook_deliveries.c
    query = select(columns.webhook_id, func.count()).where(columns.due_at.is_not(None))
    return {row[0]: row[1] for row in connection.execute(query.group_by(columns.webhook_id))}


def deliveries(
    connection: Connection, webhook_id: str, *, after: int = 0, limit: int, newest_first: bool = False
) -> list[Delivery]:
    """What one subscriber was told, the newest last, or first."""
    columns = webhook_deliveries.c
    query = select(webhook_deliveries).where(columns.webhook_id == webhook_id, columns.id > after)
    query = query.order_by(columns.id.desc() if newest_first else columns.id)
    return [_delivery(row) for row in connection.execute(query.limit(limit))]


def _row(webhook: Webhook) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "url": webhook.url,
        "kinds": list(webhook.kinds),
        "sites": None if webhook.sites is None else list(webhook.sites),
        "secret": webhook.secret,
        "previous_secret": webhook.previous_secret,
        "previous_until": webhook.previous_until,
        "enabled": webhook.enabled,
        "cause": webhook.cause,
        "created_at": webhook.created_at,
    }


def _webhook(row: Row[Any]) -> Webhook:
    found = fields(row)
    sites = found["sites"]
    return Webhook(
        **found | {"kinds": tuple(found["kinds"]), "sites": None if sites is None else tuple(sites)}
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(**fields(row))
