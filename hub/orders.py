"""One order to every door of a site, such as a lockdown: a command for each, and how far it has arrived."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import datetime

from hub import audit
from hub.commands import Commands, Order
from hub.store import doors, orders
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.orders import DoorsOrder
from pacs.commands import Action
from pacs.identifiers import SiteId
from pacs.rules import DoorMode


class Orders:
    """Gives orders; the commands they become are ``hub.commands``' to repeat."""

    def __init__(self, database: Database, commands: Commands, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._commands = commands
        self._clock = clock

    def give(
        self, site_id: SiteId, action: Action, mode: DoorMode | None, *, reason: str, actor: str
    ) -> DoorsOrder:
        """Command every door of a site; returns before anything is known of the outcome.

        A door whose controller is withdrawn gets no command, and stays in the list. Raises ``CommandRefused`` when the
        order makes no sense.
        """
        order = DoorsOrder(
            id=secrets.token_hex(16),
            site_id=site_id,
            action=action,
            mode=mode,
            given_by=actor,
            reason=reason,
            issued_at=self._clock(),
        )
        with self._database.write() as connection:
            everywhere = [named.door.id for named in doors.list_all(connection, sites=(site_id,))]
            orders.add(connection, order, everywhere)
            audit.record(
                connection,
                now=order.issued_at,
                actor=actor,
                action="order.give",
                subject=f"site:{site_id}",
                reason=reason,
                detail={"order": order.id, "action": action.value, "mode": mode.value if mode else ""},
            )
        for door_id in everywhere:
            wanted = Order(door_id=door_id, action=action, mode=mode)
            try:
                command = self._commands.give(wanted, reason=reason, actor=actor)
            except NotFound:
                continue
            with self._database.write() as connection:
                orders.given(connection, order.id, door_id, command.id)
        return order
