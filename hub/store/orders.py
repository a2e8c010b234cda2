"""Orders to several doors at once, and the command that each door was given for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from hub.store import commands
from hub.store.commands import StoredCommand
from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import order_commands, orders
from hub.store.sites import Sites, within
from pacs.commands import Action
from pacs.identifiers import DoorId, SiteId
from pacs.rules import DoorMode


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorsOrder:
    """One order to a site; ``id``: hex. ``given_by``: as in the audit log."""

    id: str
    site_id: SiteId
    action: Action
    mode: DoorMode | None
    given_by: str
    reason: str
    issued_at: datetime


def add(connection: Connection, order: DoorsOrder, doors: Iterable[DoorId]) -> None:
    """Store an order that is about to be given to these doors."""
    connection.execute(insert(orders).values(asdict(order)))
    rows = [{"order_id": order.id, "door_id": door_id} for door_id in doors]
    if rows:
        connection.execute(insert(order_commands), rows)


def given(connection: Connection, order_id: str, door_id: DoorId, command_id: str) -> None:
    """A door's command for this order was stored."""
    columns = order_commands.c
    mine = (columns.order_id == order_id) & (columns.door_id == door_id)
    connection.execute(update(order_commands).where(mine).values(command_id=command_id))


def get(connection: Connection, order_id: str) -> DoorsOrder:
    """One order; raises ``NotFound``."""
    row = connection.execute(select(orders).where(orders.c.id == order_id)).first()
    if row is None:
        raise NotFound("order is not there")
    mode = None if row.mode is None else DoorMode(row.mode)
    return DoorsOrder(
        **{**fields(row), "site_id": SiteId(row.site_id), "action": Action(row.action), "mode": mode}
    )


def newest(connection: Connection, *, since: datetime, sites: Sites = None) -> DoorsOrder | None:
    """The order that was given to these sites last, None when there was none since then."""
    columns = orders.c
    query = select(columns.id).where(columns.issued_at >= since, within(columns.site_id, sites))
    found = connection.scalar(query.order_by(columns.issued_at.desc(), columns.id).limit(1))
    return None if found is None else get(connection, found)


def commands_of(connection: Connection, order_id: str) -> dict[DoorId, StoredCommand | None]:
    """Every door of the order, by id → its command; None: it could not be given one."""
    columns = order_commands.c
    query = select(columns.door_id, columns.command_id).where(columns.order_id == order_id)
    return {
        DoorId(door_id): None if command_id is None else commands.get(connection, command_id)
        for door_id, command_id in connection.execute(query.order_by(columns.door_id))
    }
