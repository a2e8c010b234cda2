"""Who is told of what over HTTP, and what is to be told: an outbox, written in the transaction that it tells of."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import controllers, webhook_deliveries, webhooks
from pacs.identifiers import ControllerId, SiteId

KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One subscription. ``kinds`` empty: every kind; ``sites`` None: every site. ``cause``: why it is not enabled.

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
    subscribers = connection.execute(select(webhooks).filter_by(enabled=True)).all()
    if not subscribers:
        return
    if controller_id is not None:
        site_id = connection.scalar(select(controllers.c.site_id).filter_by(id=controller_id))
    content = {"type": kind, "timestamp": now.isoformat(), "data": {"site_id": site_id, **facts}}
    rows = [
        {
            "webhook_id": each.id,
            "message_id": f"msg_{secrets.token_hex(12)}",
            "kind": kind,
            "body": json.dumps(content, separators=(",", ":")),
            "created_at": now,
            "due_at": now,
            "attempts": 0,
            "error": "",
        }
        for each in map(_webhook, subscribers)
        if only == each.id or (only is None and _wants(each, kind, site_id))
    ]
    if rows:
        connection.execute(insert(webhook_deliveries), rows)


def _wants(webhook: Webhook, kind: str, site_id: SiteId | None) -> bool:
    if webhook.kinds and kind not in webhook.kinds:
        return False
    return webhook.sites is None or site_id in webhook.sites


def is_any_due(connection: Connection, now: datetime) -> bool:
    """Whether there is anything to be delivered to somebody who takes it."""
    query = select(webhook_deliveries.c.id).where(_due(now)).limit(1)
    return connection.execute(query).first() is not None


def _due(now: datetime) -> ColumnElement[bool]:
    columns = webhook_deliveries.c
    taking = select(webhooks.c.id).where(webhooks.c.enabled)
    return (columns.due_at <= now) & columns.webhook_id.in_(taking)


def claim(
    connection: Connection, now: datetime, *, by: str, until: datetime, most: int
) -> list[tuple[Delivery, Webhook]]:
    """Take what is due, for this long: nobody else does meanwhile, and whoever is killed gives it back by that."""
    columns = webhook_deliveries.c
    due = select(webhook_deliveries).where(_due(now)).order_by(columns.due_at, columns.id).limit(most)
    found = [_delivery(row) for row in connection.execute(due)]
    if found:
        ids = [each.id for each in found]
        connection.execute(
            update(webhook_deliveries).where(columns.id.in_(ids)).values(due_at=until, claim=by)
        )
    known = {each.id: each for each in list_all(connection)}
    return [(each, known[each.webhook_id]) for each in found]


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


def forget_old(connection: Connection, now: datetime) -> None:
    """Forget what was told, or given up, a week ago."""
    columns = webhook_deliveries.c
    connection.execute(
        delete(webhook_deliveries).where(columns.created_at < now - KEPT, columns.due_at.is_(None))
    )


def waiting(connection: Connection) -> int:
    """How many messages are still to be delivered."""
    return connection.scalar(select(func.count()).where(webhook_deliveries.c.due_at.is_not(None))) or 0


def deliveries(connection: Connection, webhook_id: str, *, after: int, limit: int) -> list[Delivery]:
    """What one subscriber was told, the newest last."""
    columns = webhook_deliveries.c
    query = select(webhook_deliveries).where(columns.webhook_id == webhook_id, columns.id > after)
    return [_delivery(row) for row in connection.execute(query.order_by(columns.id).limit(limit))]


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
