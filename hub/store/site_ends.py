"""What is known of the people of a site that closes: deleted table by table, and counted."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Select, delete, exists, func, or_, select

from hub.store import expiry
from hub.store.schema import (
    alarms,
    attended_looks,
    attended_requests,
    cardholders,
    commands,
    controllers,
    desk_looks,
    events,
    given_reasons,
    idempotency_keys,
    import_jobs,
    issuing_jobs,
    order_commands,
    orders,
    photographs,
    quarantine,
    webhook_awaited,
)
from hub.store.sites import controllers_within
from pacs.identifiers import CardholderId, SiteId

BATCH: Final = 1_000
"""Rows in one transaction."""


def believed_controllers(connection: Connection, site_id: SiteId) -> list[str]:
    """The controllers of a site whose devices are let in."""
    columns = controllers.c
    query = select(columns.id).where(
        columns.site_id == site_id,
        columns.event_public_key.is_not(None),
        columns.revoked_at.is_(None),
        columns.retired_at.is_(None),
    )
    return list(connection.scalars(query.order_by(columns.id)))


def known_people(connection: Connection, site_id: SiteId, limit: int) -> list[CardholderId]:
    """Who belongs to a site and is not forgotten yet; at most so many."""
    columns = cardholders.c
    query = select(columns.id).where(columns.site_id == site_id, columns.erased_at.is_(None))
    return [CardholderId(each) for each in connection.scalars(query.order_by(columns.id).limit(limit))]


def remove_rows(connection: Connection, site_id: SiteId) -> dict[str, int]:
    """Delete at most ``BATCH`` rows of each kind that says something of people; how many, by table. All 0: nothing is left."""
    removed = {"events": _remove_events(connection, site_id)}
    requests = list(
        connection.scalars(_of(attended_requests, attended_requests.c.number, site_id).limit(BATCH))
    )
    connection.execute(delete(attended_looks).where(attended_looks.c.number.in_(requests)))
    removed["attended_requests"] = connection.execute(
        delete(attended_requests).where(attended_requests.c.number.in_(requests))
    ).rowcount
    order_ids = list(connection.scalars(select(orders.c.id).where(orders.c.site_id == site_id).limit(BATCH)))
    connection.execute(delete(order_commands).where(order_commands.c.order_id.in_(order_ids)))
    removed["orders"] = connection.execute(delete(orders).where(orders.c.id.in_(order_ids))).rowcount
    kept_with = [
        exists().where(column == commands.c.id)
        for column in (order_commands.c.command_id, attended_requests.c.command_id)
    ]
    removed["commands"] = _delete(
        connection, commands, _of(commands, commands.c.id, site_id).where(~or_(*kept_with))
    )
    for table in (quarantine, alarms):
        removed[table.name] = _delete(connection, table, _of(table, table.c.id, site_id))
    for table in (import_jobs, issuing_jobs, webhook_awaited):
        (key,) = table.primary_key.columns
        removed[table.name] = _delete(connection, table, select(key).where(table.c.site_id == site_id))
    # answers kept for repeated requests, and reasons given a moment ago, say not of which site they are
    removed["idempotency_keys"] = connection.execute(delete(idempotency_keys)).rowcount
    removed["given_reasons"] = connection.execute(delete(given_reasons)).rowcount
    shown = desk_looks.c.cardholder_id.in_(_people(site_id))
    removed["desk_looks"] = connection.execute(delete(desk_looks).where(shown)).rowcount
    return removed


def remaining(connection: Connection, site_id: SiteId) -> dict[str, int]:
    """How many rows still say something of people of a site, by table."""
    people = cardholders.c
    told = or_(
        people.given_name != "",
        people.family_name != "",
        people.latin_given_name.is_not(None),
        people.latin_family_name.is_not(None),
        people.room.is_not(None),
        people.language.is_not(None),
        people.external_id.is_not(None),
        people.door_note.is_not(None),
        people.erased_at.is_(None),
    )
    queries: dict[str, Select[Any]] = {
        "cardholders": select(people.id).where(people.site_id == site_id, told),
        "photographs": select(photographs.c.cardholder_id).where(
            photographs.c.cardholder_id.in_(_people(site_id))
        ),
        "events": _events(site_id).where(or_(events.c.credential_id.is_not(None), events.c.data != b"")),
        "attended_requests": _of(attended_requests, attended_requests.c.number, site_id),
        "commands": _of(commands, commands.c.id, site_id),
        "quarantine": _of(quarantine, quarantine.c.id, site_id),
        "alarms": _of(alarms, alarms.c.id, site_id),
        "orders": select(orders.c.id).where(orders.c.site_id == site_id),
        "import_jobs": select(import_jobs.c.id).where(import_jobs.c.site_id == site_id),
        "issuing_jobs": select(issuing_jobs.c.id).where(issuing_jobs.c.site_id == site_id),
        "idempotency_keys": select(idempotency_keys.c.key),
        "given_reasons": select(given_reasons.c.subject),
        "desk_looks": select(desk_looks.c.look_hash).where(desk_looks.c.cardholder_id.in_(_people(site_id))),
    }
    return {
        name: connection.scalar(select(func.count()).select_from(query.subquery())) or 0
        for name, query in queries.items()
    }


def _people(site_id: SiteId) -> Select[Any]:
    return select(cardholders.c.id).where(cardholders.c.site_id == site_id)


def _events(site_id: SiteId) -> Select[Any]:
    return _of(events, events.c.id, site_id)


def _remove_events(connection: Connection, site_id: SiteId) -> int:
    """Taps stay in the totals, which name nobody; the hub's newest event stays, coarse, so that no number is given twice."""
    newest = connection.scalar(select(func.max(events.c.id)))
    ids = list(connection.scalars(_events(site_id).where(events.c.id != newest).limit(BATCH)))
    expiry.remove_events(connection, ids)
    last = _events(site_id).where(events.c.id == newest, ~events.c.coarse)
    expiry.coarsen(connection, list(connection.scalars(last)))
    return len(ids)


def _of(table: Any, key: Any, site_id: SiteId) -> Select[Any]:
    """The keys of what came from, or went to, a site's controllers."""
    return select(key).where(table.c.controller_id.in_(controllers_within((site_id,))))


def _delete(connection: Connection, table: Any, query: Select[Any]) -> int:
    (key,) = table.primary_key.columns
    found = list(connection.scalars(query.limit(BATCH)))
    return connection.execute(delete(table).where(key.in_(found))).rowcount
