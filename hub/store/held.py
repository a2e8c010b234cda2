"""What legal holds cover: for each kind of row the condition that one of them keeps it.

Each function asks for site, period, door and person. What may concern them is kept: a message that nobody could read,
an event by a clock that nobody trusts. A hold of a person keeps what names them, and what is wrong with the record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Text,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)

from hub.store.events import hour
from hub.store.holds import Hold
from hub.store.people import people_of
from hub.store.schema import (
    alarms,
    anomalies,
    attended_requests,
    cardholders,
    cards,
    commands,
    controllers,
    doors,
    events,
    import_jobs,
    order_commands,
    orders,
    quarantine,
)
from pacs.identifiers import CardholderId

Condition = ColumnElement[bool]


def events_held(held: Iterable[Hold]) -> Condition:
    """Of ``events``; the hour in which a hold begins is kept whole."""
    columns = events.c

    def kept(hold: Hold) -> Condition:
        believed = columns.clock_trusted & (columns.occurred_at >= hour(hold.since))
        believed &= columns.occurred_at < hold.until
        doubted = not_(columns.clock_trusted) & (columns.received_at >= hour(hold.since))
        return _where(hold, columns) & (believed | doubted) & _names(hold, columns.credential_id)

    return _any(held, kept)


def commands_held(held: Iterable[Hold]) -> Condition:
    """Of ``commands``: those that could be carried out in its time."""
    columns = commands.c

    def kept(hold: Hold) -> Condition:
        then = (columns.issued_at < hold.until) & (columns.expires_at >= hold.since)
        return _where(hold, columns) & then & _names(hold, columns.credential_id)

    return _any(held, kept)


def requests_held(held: Iterable[Hold]) -> Condition:
    """Of ``attended_requests``: those that waited in its time."""
    columns = attended_requests.c

    def kept(hold: Hold) -> Condition:
        believed = (
            columns.clock_trusted & (columns.asked_at < hold.until) & (columns.expires_at >= hold.since)
        )
        doubted = not_(columns.clock_trusted) & (columns.received_at >= hold.since)
        return _where(hold, columns) & (believed | doubted) & _names(hold, columns.credential_id)

    return _any(held, kept)


def orders_held(held: Iterable[Hold]) -> Condition:
    """Of ``orders``, which are about doors and about nobody."""
    columns = orders.c

    def kept(hold: Hold) -> Condition:
        if hold.cardholder_id is not None:
            return false()
        mine = (columns.site_id == hold.site_id) & (columns.issued_at >= hold.since)
        mine &= columns.issued_at < hold.until
        if hold.door_id is not None:
            doors_of = select(order_commands.c.order_id).where(order_commands.c.door_id == hold.door_id)
            mine &= columns.id.in_(doors_of)
        return mine

    return _any(held, kept)


def quarantine_held(held: Iterable[Hold]) -> Condition:
    """Of ``quarantine``: what it says is not known, so it may be about its time, door and person."""
    columns = quarantine.c

    def kept(hold: Hold) -> Condition:
        return columns.controller_id.in_(_controllers(hold)) & (columns.received_at >= hold.since)

    return _any(held, kept)


def alarms_held(held: Iterable[Hold]) -> Condition:
    """Of closed ``alarms``: those that stood in its time; of a person those that an event naming them raised."""
    columns = alarms.c

    def kept(hold: Hold) -> Condition:
        then = (columns.closed_at >= hold.since) & or_(
            not_(columns.clock_trusted), columns.since < hold.until
        )
        raised: Condition = true()
        if hold.cardholder_id is not None:
            source = events.c
            raised = exists().where(
                source.controller_id == columns.controller_id,
                source.journal_id == columns.journal_id,
                source.sequence == columns.sequence,
                _names(hold, source.credential_id),
            )
        return _where(hold, columns) & then & raised

    return _any(held, kept)


def anomalies_held(held: Iterable[Hold]) -> Condition:
    """Of ``anomalies``: without them what is kept of its time would look whole, whoever it is about."""
    columns = anomalies.c

    def kept(hold: Hold) -> Condition:
        begins = or_(columns.unknown_from.is_(None), columns.unknown_from < hold.until)
        ends = or_(columns.unknown_until.is_(None), columns.unknown_until >= hold.since)
        seen = (columns.at < hold.until) & (columns.last_at >= hold.since)
        return _where(hold, columns) & (seen | (columns.has_hole & begins & ends))

    return _any(held, kept)


def imports_held(connection: Connection, held: Iterable[Hold]) -> Condition:
    """Of ``import_jobs``, which are not at a door; of a person those that found something wrong with theirs."""
    columns = import_jobs.c

    def kept(hold: Hold) -> Condition:
        if hold.door_id is not None:
            return false()
        mine = (columns.site_id == hold.site_id) & (columns.queued_at >= hold.since)
        mine &= columns.queued_at < hold.until
        if hold.cardholder_id is not None:
            theirs = select(cardholders.c.external_id).where(cardholders.c.id == hold.cardholder_id)
            named = json.dumps(connection.scalar(theirs))
            mine &= cast(columns.faults, Text).contains(named, autoescape=True)
        return mine

    return _any(held, kept)


def people_held(held: Iterable[Hold]) -> Condition:
    """Of ``cardholders``: the person; without one, whom what is kept names; of a whole site also whom it knew then."""
    columns = cardholders.c

    def kept(hold: Hold) -> Condition:
        if hold.cardholder_id is not None:
            return columns.id == hold.cardholder_id
        named: list[Condition] = [
            exists().where(
                cards.c.cardholder_id == columns.id, cards.c.credential_id == table.c.credential_id, is_held
            )
            for table, is_held in ((events, events_held([hold])), (commands, commands_held([hold])))
        ]
        if hold.door_id is None:
            named.append(columns.id.in_(people_of(hold.site_id)) & (columns.created_at < hold.until))
        return or_(*named)

    return _any(held, kept)


def holds_person(connection: Connection, cardholder_id: CardholderId, held: Iterable[Hold]) -> bool:
    """Whether one of these keeps what is known of somebody."""
    asked = select(literal(1)).select_from(cardholders)
    asked = asked.where(cardholders.c.id == cardholder_id, people_held(held))
    return connection.execute(asked).first() is not None


def _any(held: Iterable[Hold], kept: Callable[[Hold], Condition]) -> Condition:
    return func.coalesce(or_(false(), *map(kept, held)), literal(value=False))


def _controllers(hold: Hold) -> Select[tuple[str]]:
    """Those of its site, or the one of its door."""
    if hold.door_id is not None:
        return select(doors.c.controller_id).where(doors.c.id == hold.door_id)
    return select(controllers.c.id).where(controllers.c.site_id == hold.site_id)


def _where(hold: Hold, columns: Any) -> Condition:
    """At its door, or at all doors of its door's controller; without one, anywhere at its site."""
    everywhere: Condition = columns.controller_id.in_(_controllers(hold))
    if hold.door_id is None:
        return everywhere
    return or_(columns.door_id == hold.door_id, columns.door_id.is_(None) & everywhere)


def _names(hold: Hold, credential: ColumnElement[Any]) -> Condition:
    """A card of its person; anybody's, or nobody's, when it is about nobody in particular."""
    if hold.cardholder_id is None:
        return true()
    mine = select(cards.c.credential_id).where(cards.c.cardholder_id == hold.cardholder_id)
    return func.coalesce(credential.in_(mine), literal(value=False))
