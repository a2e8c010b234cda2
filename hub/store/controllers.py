"""Controllers: their keys, and what each last said about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, insert, or_, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import AlreadyExists, NotFound
from hub.store.schema import controller_state, controllers
from pacs.identifiers import ControllerId

HUB_USER = "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """One registered controller. ``event_public_key``: Ed25519, 32 bytes. ``certificate_serial``: hex."""

    id: ControllerId
    event_public_key: bytes
    certificate_serial: str
    software: str | None
    registered_at: datetime
    retired_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerState:
    """What is known of one controller: ``online`` and since when, and what it last said of itself.

    ``first_sequence`` and ``last_sequence`` are what its journal held; the versions are what it enforced.
    ``complete_until``: everything it recorded before is stored. ``broken_readers``: ``door/side`` of each.
    """

    controller_id: ControllerId
    online: bool
    since: datetime
    last_seen: datetime | None
    complete_until: datetime | None
    journal_id: str | None
    first_sequence: int | None
    last_sequence: int | None
    policy_version: int | None
    revocations_version: int | None
    clock_trusted: bool | None
    unread_count: int | None
    broken_readers: list[str] | None
    software: str | None
    hello_at: datetime | None


def register(connection: Connection, controller: Controller) -> None:
    """Register a controller, which starts offline; raises ``AlreadyExists``, also for the hub's own name."""
    if controller.id == HUB_USER:
        raise AlreadyExists(f"{HUB_USER} is the hub's own name at the broker")
    insert_new(connection, controllers, asdict(controller))
    connection.execute(
        insert(controller_state).values(
            controller_id=controller.id, online=False, since=controller.registered_at
        )
    )


def replace_keys(
    connection: Connection, controller_id: ControllerId, *, event_public_key: bytes, certificate_serial: str
) -> None:
    """A spare took this controller's place: other keys, same doors. Raises ``NotFound``."""
    _change(
        connection, controller_id, event_public_key=event_public_key, certificate_serial=certificate_serial
    )


def retire(connection: Connection, controller_id: ControllerId, now: datetime) -> None:
    """Take a controller out of use: the broker no longer admits it. Raises ``NotFound``."""
    _change(connection, controller_id, retired_at=now)


def get(connection: Connection, controller_id: ControllerId) -> Controller:
    """One controller, in use or retired; raises ``NotFound``."""
    row = connection.execute(select(controllers).where(controllers.c.id == controller_id)).first()
    if row is None:
        raise NotFound(f"controller {controller_id} is not registered")
    return _controller(row)


def list_all(connection: Connection) -> list[Controller]:
    """Every controller in use, by id."""
    query = select(controllers).where(controllers.c.retired_at.is_(None)).order_by(controllers.c.id)
    return [_controller(row) for row in connection.execute(query)]


def states(connection: Connection) -> Mapping[ControllerId, ControllerState]:
    """What is known of every controller."""
    found = [_state(row) for row in connection.execute(select(controller_state))]
    return {state.controller_id: state for state in found}


def state(connection: Connection, controller_id: ControllerId) -> ControllerState:
    """What is known of one controller; raises ``NotFound``."""
    query = select(controller_state).where(controller_state.c.controller_id == controller_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"controller {controller_id} is not registered")
    return _state(row)


def saw(connection: Connection, controller_id: ControllerId, now: datetime, *, online: bool) -> None:
    """A sign of life (``online``), or the broker's word that the connection is gone."""
    columns = controller_state.c
    changes: dict[str, Any] = {
        "online": online,
        "since": case((columns.online == online, columns.since), else_=now),
    }
    if online:
        changes["last_seen"] = now
    connection.execute(
        update(controller_state).where(columns.controller_id == controller_id).values(**changes)
    )


def all_offline(connection: Connection, now: datetime) -> None:
    """The hub itself lost touch: nobody is known to be online until heard of again."""
    connection.execute(
        update(controller_state).where(controller_state.c.online).values(online=False, since=now)
    )


def said(connection: Connection, controller_id: ControllerId, **facts: Any) -> None:
    """Store facts from a hello or heartbeat: any columns of ``ControllerState``."""
    connection.execute(
        update(controller_state).where(controller_state.c.controller_id == controller_id).values(**facts)
    )


def stored_up_to(
    connection: Connection, controller_id: ControllerId, journal_id: str, sequence: int, until: datetime
) -> None:
    """Events up to ``sequence`` are stored: if the controller said it has no more, all before ``until`` is."""
    columns = controller_state.c
    connection.execute(
        update(controller_state)
        .where(
            columns.controller_id == controller_id,
            columns.journal_id == journal_id,
            columns.last_sequence <= sequence,
            or_(columns.complete_until.is_(None), columns.complete_until < until),
        )
        .values(complete_until=until)
    )


def _change(connection: Connection, controller_id: ControllerId, **columns: Any) -> None:
    changed = connection.execute(
        update(controllers).where(controllers.c.id == controller_id).values(**columns)
    )
    if changed.rowcount != 1:
        raise NotFound(f"controller {controller_id} is not registered")


def _controller(row: Row[Any]) -> Controller:
    return Controller(**{**fields(row), "id": ControllerId(row.id)})


def _state(row: Row[Any]) -> ControllerState:
    return ControllerState(**{**fields(row), "controller_id": ControllerId(row.controller_id)})
