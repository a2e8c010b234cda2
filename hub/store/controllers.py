"""Controllers: their keys, and what each last said about itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Select,
    Update,
    bindparam,
    case,
    func,
    insert,
    null,
    or_,
    select,
    update,
)

from hub.store import device_certificates
from hub.store.database import fields, insert_new
from hub.store.device_certificates import DeviceCertificate
from hub.store.errors import NotFound
from hub.store.schema import controller_state, controllers
from hub.store.sites import Sites, within
from pacs.identifiers import ControllerId, SiteId

_LARGE = ("health", "broken_readers")
SILENT_AFTER = timedelta(seconds=90)
"""Without a sign of life for longer, a controller is not online, whatever the broker says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """One registered controller, which is a place that one device at a time takes.

    ``event_public_key``: Ed25519, 32 bytes; None: no device has taken the place. ``certificate_serial``: hex, of the
    certificate that was issued last. ``revoked_at``: since when nothing of its device is believed. ``wiring``: as
    ``pacs.wiring.Wiring.fields`` gives it.
    """

    id: ControllerId
    site_id: SiteId
    event_public_key: bytes | None
    certificate_serial: str | None
    software: str | None
    registered_at: datetime
    retired_at: datetime | None = None
    revoked_at: datetime | None = None
    wiring: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerState:
    """What is known of one controller: ``online`` and since when, and what it last said of itself.

    ``online``: it said so, and gave a sign of life within ``SILENT_AFTER``.
    ``first_sequence`` and ``last_sequence`` are what its journal held, with what it could not send yet; the versions
    are what it enforced.
    ``complete_until``: everything it recorded before is stored. ``broken_readers``: ``door/side`` of each.
    ``health``: its last heartbeat's ``pacs.health.ControllerHealth``, as the interface shows it.
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
    health: dict[str, Any] | None


def register(connection: Connection, controller: Controller) -> None:
    """Register a controller, which starts offline, and admit its certificate; raises ``AlreadyExists``."""
    insert_new(connection, controllers, {**asdict(controller), "wiring": controller.wiring or null()})
    connection.execute(
        insert(controller_state).values(
            controller_id=controller.id, online=False, since=controller.registered_at
        )
    )
    if controller.certificate_serial:
        device_certificates.add(
            connection,
            DeviceCertificate(
                serial=controller.certificate_serial,
                controller_id=controller.id,
                issued_at=controller.registered_at,
            ),
        )


def take_place(connection: Connection, controller_id: ControllerId, *, event_public_key: bytes) -> None:
    """A device with this event key has the controller's place from now on."""
    mine = controllers.c.id == controller_id
    connection.execute(
        update(controllers).where(mine).values(event_public_key=event_public_key, revoked_at=None)
    )


def set_wiring(connection: Connection, controller_id: ControllerId, wiring: Mapping[str, Any]) -> None:
    """Keep what the place is wired to."""
    mine = controllers.c.id == controller_id
    connection.execute(update(controllers).where(mine).values(wiring=dict(wiring)))


def revoke(connection: Connection, controller_id: ControllerId, now: datetime) -> bool:
    """Believe nothing of its device from now on; False: it was so already. Its certificates are another matter."""
    mine = (controllers.c.id == controller_id) & controllers.c.revoked_at.is_(None)
    changed = connection.execute(update(controllers).where(mine).values(revoked_at=now)).rowcount
    saw(connection, controller_id, now, online=False)
    return changed > 0


def retire(connection: Connection, controller_id: ControllerId, now: datetime) -> bool:
    """Take a controller out of use for good: the broker no longer admits it; False: it was out already.

    Raises ``NotFound``.
    """
    if get(connection, controller_id).retired_at is not None:
        return False
    mine = controllers.c.id == controller_id
    connection.execute(update(controllers).where(mine).values(retired_at=now))
    saw(connection, controller_id, now, online=False)
    return True


def get(connection: Connection, controller_id: ControllerId) -> Controller:
    """One controller, in use or retired; raises ``NotFound``."""
    row = connection.execute(select(controllers).where(controllers.c.id == controller_id)).first()
    if row is None:
        raise NotFound(f"controller {controller_id} is not registered")
    return _controller(row)


def list_all(connection: Connection, sites: Sites = None, *, even_retired: bool = False) -> list[Controller]:
    """Every controller of these sites that is in use, by id; or ever was."""
    query = select(controllers).where(within(controllers.c.site_id, sites)).order_by(controllers.c.id)
    if not even_retired:
        query = query.where(controllers.c.retired_at.is_(None))
    return [_controller(row) for row in connection.execute(query)]


def registered_at(connection: Connection, sites: Sites = None) -> Mapping[ControllerId, datetime]:
    """Every controller of these sites that is in use, by id → since when."""
    query = select(controllers.c.id, controllers.c.registered_at).where(controllers.c.retired_at.is_(None))
    query = query.where(within(controllers.c.site_id, sites)).order_by(controllers.c.id)
    return {ControllerId(name): at for name, at in connection.execute(query)}


def states(
    connection: Connection, now: datetime, controller_ids: Collection[ControllerId] | None = None
) -> Mapping[ControllerId, ControllerState]:
    """What is known of every controller, or of these."""
    query = select(controller_state)
    if controller_ids is not None:
        query = query.where(controller_state.c.controller_id.in_(sorted(controller_ids)))
    return _states(connection, query, now)


def presence(connection: Connection, now: datetime) -> Mapping[ControllerId, ControllerState]:
    """The same of every controller without ``health`` and ``broken_readers``, which take long to read for thousands."""
    columns = [each for each in controller_state.c if each.name not in _LARGE]
    return _states(connection, select(*columns, *(null().label(name) for name in _LARGE)), now)


def state(connection: Connection, controller_id: ControllerId, now: datetime) -> ControllerState:
    """What is known of one controller; raises ``NotFound``."""
    query = select(controller_state).where(controller_state.c.controller_id == controller_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"controller {controller_id} is not registered")
    return _state(fields(row), now)


def _seen(*, online: bool) -> Update:
    columns = controller_state.c
    now = bindparam("now", type_=columns.since.type)
    changes = {"online": online, "since": case((columns.online == online, columns.since), else_=now)}
    change = update(controller_state).where(columns.controller_id == bindparam("mine"))
    if not online:
        return change.values(changes)
    in_use = select(controllers.c.id).where(
        controllers.c.retired_at.is_(None), controllers.c.revoked_at.is_(None)
    )
    return change.where(columns.controller_id.in_(in_use)).values({**changes, "last_seen": now})


# made once: what each message needs takes longer to put together than to carry out
_SEEN, _GONE = _seen(online=True), _seen(online=False)
_SAID = update(controller_state).where(controller_state.c.controller_id == bindparam("mine"))
_STORED_UP_TO = (
    update(controller_state)
    .where(
        controller_state.c.controller_id == bindparam("mine"),
        controller_state.c.journal_id == bindparam("journal"),
        controller_state.c.last_sequence <= bindparam("sequence"),
        or_(
            controller_state.c.complete_until.is_(None),
            controller_state.c.complete_until < bindparam("until"),
        ),
    )
    .values(complete_until=bindparam("until"))
)


def saw(connection: Connection, controller_id: ControllerId, now: datetime, *, online: bool) -> None:
    """A sign of life (``online``), or the broker's word that the connection is gone.

    What a retired or revoked controller sent before the broker shut it out is no sign of life.
    """
    statement = _SEEN if online else _GONE
    connection.execute(statement, {"mine": controller_id, "now": now})


def all_offline(connection: Connection, now: datetime, only: Collection[ControllerId] | None = None) -> None:
    """The hub itself lost touch: none of them (None: nobody) is known to be online until heard of again."""
    columns = controller_state.c
    change = update(controller_state).where(columns.online)
    if only is not None:
        change = change.where(columns.controller_id.in_(only))
    connection.execute(change.values(online=False, since=now))


def last_heard(connection: Connection) -> dict[ControllerId, tuple[bool, datetime | None]]:
    """Every controller → whether it said it is online, and its last sign of life."""
    columns = controller_state.c
    rows = connection.execute(select(columns.controller_id, columns.online, columns.last_seen))
    return {ControllerId(row.controller_id): (row.online, row.last_seen) for row in rows}


def registry(connection: Connection) -> tuple[Any, ...]:
    """Something that is another whenever a controller was registered, changed or retired, or gets another certificate."""
    columns = controllers.c
    query = select(
        func.count(),
        func.count(columns.retired_at),
        func.max(columns.registered_at),
        func.max(columns.retired_at),
        func.max(columns.revoked_at),
    )
    found = connection.execute(query.select_from(controllers)).one()
    return (*found, *device_certificates.changes(connection))


def said(connection: Connection, controller_id: ControllerId, **facts: Any) -> None:
    """Store facts from a hello or heartbeat: any columns of ``ControllerState``."""
    connection.execute(_SAID, {"mine": controller_id, **facts})


def stored_up_to(
    connection: Connection, controller_id: ControllerId, journal_id: str, sequence: int, until: datetime
) -> None:
    """Events up to ``sequence`` are stored: if the controller said it has no more, all before ``until`` is."""
    connection.execute(
        _STORED_UP_TO, {"mine": controller_id, "journal": journal_id, "sequence": sequence, "until": until}
    )


def _controller(row: Row[Any]) -> Controller:
    return Controller(**{**fields(row), "id": ControllerId(row.id), "site_id": SiteId(row.site_id)})


def _states(connection: Connection, query: Select[Any], now: datetime) -> dict[ControllerId, ControllerState]:
    result = connection.execute(query)
    names = tuple(result.keys())  # once: asking each of thousands of rows takes as long as reading them
    found = (_state(dict(zip(names, row, strict=True)), now) for row in result)
    return {state.controller_id: state for state in found}


def _state(columns: dict[str, Any], now: datetime) -> ControllerState:
    state = ControllerState(**columns | {"controller_id": ControllerId(columns["controller_id"])})
    if state.online and state.last_seen is not None and now - state.last_seen > SILENT_AFTER:
        return replace(state, online=False, since=state.last_seen)
    return state
