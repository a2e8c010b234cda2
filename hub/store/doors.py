"""Doors, each with the rules it takes to its controller."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.database import fields, insert_new
from hub.store.errors import InUse, NotFound
from hub.store.schema import access_levels, areas, controllers, doors, schedules
from hub.store.sites import Sites, within
from pacs.identifiers import AccessLevelId, AreaId, ControllerId, DoorId, ScheduleId, SiteId
from pacs.rules import (
    Antipassback,
    Door,
    DoorMode,
    ModeRule,
    WhenClockUntrusted,
    WhenHubAway,
    WhenTooOld,
    WhenUnlisted,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedDoor:
    """A door's rules, with the name people call it by; its site is its controller's."""

    door: Door
    site_id: SiteId
    name: str
    created_at: datetime


def add(connection: Connection, door: Door, *, name: str, now: datetime) -> NamedDoor:
    """Add a door; raises ``AlreadyExists``, or ``NotFound`` when something it names is not there."""
    site_id = _check(connection, door)
    insert_new(connection, doors, {**_columns(door), "name": name, "created_at": now})
    return NamedDoor(door=door, site_id=site_id, name=name, created_at=now)


def change(connection: Connection, door: Door, *, name: str) -> None:
    """Store a door's new rules and name; raises ``NotFound``, also when something they name is not there."""
    _check(connection, door)
    try:
        changed = connection.execute(
            update(doors).where(doors.c.id == door.id).values(**_columns(door), name=name)
        )
    except IntegrityError as error:
        raise NotFound(f"door {door.id}: its controller or an area is not there") from error
    if changed.rowcount != 1:
        raise NotFound(f"door {door.id} is not there")


def move(connection: Connection, door_id: DoorId, controller_id: ControllerId) -> None:
    """Give a door to another controller.

    Raises ``NotFound`` when the door is not there or the controller is not in use at its site, ``InUse`` while the
    door is interlocked with others.
    """
    named = get(connection, door_id)
    door = named.door
    in_use = select(controllers.c.id).where(
        controllers.c.id == controller_id,
        controllers.c.retired_at.is_(None),
        controllers.c.site_id == named.site_id,
    )
    if connection.execute(in_use).first() is None:
        raise NotFound(f"controller {controller_id} is not registered, or withdrawn")
    others = {other.door.id for other in list_all(connection) if door_id in other.door.interlock_with}
    if locked := sorted(door.interlock_with | others):
        raise InUse(f"door {door_id} is interlocked with doors: {', '.join(locked)}")
    connection.execute(update(doors).where(doors.c.id == door_id).values(controller_id=controller_id))


def get(connection: Connection, door_id: DoorId) -> NamedDoor:
    """One door; raises ``NotFound``."""
    row = connection.execute(_select().where(doors.c.id == door_id)).first()
    if row is None:
        raise NotFound(f"door {door_id} is not there")
    return _named(row)


def list_all(
    connection: Connection,
    controller_id: ControllerId | None = None,
    *,
    sites: Sites = None,
    controller_ids: Collection[ControllerId] | None = None,
) -> list[NamedDoor]:
    """Every door of these sites, or every door of one or some controllers, by id."""
    query = _select().where(within(controllers.c.site_id, sites)).order_by(doors.c.id)
    if controller_ids is not None:
        query = query.where(doors.c.controller_id.in_(sorted(controller_ids)))
    if controller_id is not None:
        query = query.where(doors.c.controller_id == controller_id)
    return [_named(row) for row in connection.execute(query)]


def names(connection: Connection, door_ids: Collection[DoorId]) -> dict[DoorId, str]:
    """Door → what it is called, for those that are there."""
    query = select(doors.c.id, doors.c.name).where(doors.c.id.in_(sorted(door_ids)))
    return {DoorId(row.id): row.name for row in connection.execute(query)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a door is, without its rules; ``private``: nothing about people is recorded there."""

    id: DoorId
    name: str
    controller_id: ControllerId
    site_id: SiteId
    private: bool
    created_at: datetime


def places(
    connection: Connection, sites: Sites = None, *, controller_ids: Collection[ControllerId] | None = None
) -> list[Place]:
    """Every door of these sites or controllers, by id; for thousands far quicker than with their rules."""
    columns = doors.c
    query = select(
        columns.id,
        columns.name,
        columns.controller_id,
        columns.private,
        columns.created_at,
        controllers.c.site_id,
    )
    query = query.join(controllers).where(within(controllers.c.site_id, sites)).order_by(columns.id)
    if controller_ids is not None:
        query = query.where(columns.controller_id.in_(sorted(controller_ids)))
    return [
        Place(
            id=DoorId(door_id),
            name=name,
            controller_id=ControllerId(controller_id),
            site_id=SiteId(site_id),
            private=private,
            created_at=created_at,
        )
        for door_id, name, controller_id, private, created_at, site_id in connection.execute(query)
    ]


def private(connection: Connection) -> frozenset[DoorId]:
    """The doors to private rooms, which record nobody."""
    return frozenset(map(DoorId, connection.scalars(select(doors.c.id).where(doors.c.private))))


def bounds(connection: Connection) -> list[tuple[DoorId, ControllerId, timedelta]]:
    """Every door, its controller, and its bound on the age of what it goes by."""
    query = select(doors.c.id, doors.c.controller_id, doors.c.max_policy_age_s)
    return [
        (DoorId(door_id), ControllerId(controller_id), timedelta(seconds=age_s))
        for door_id, controller_id, age_s in connection.execute(query)
    ]


def _select() -> Select[Any]:
    return select(doors, controllers.c.site_id).join(controllers)


def _columns(door: Door) -> dict[str, Any]:
    return asdict(door) | {
        "mode_rules": [[rule.schedule_id, rule.mode.value] for rule in door.mode_rules],
        "first_person_levels": sorted(door.first_person_levels),
        "interlock_with": sorted(door.interlock_with),
        "admitting_levels": sorted(door.admitting_levels),
    }


def _check(connection: Connection, door: Door) -> SiteId:
    """The door's site, of which everything it names has to be: a policy that names anything else could not be issued."""
    site_id: str | None = connection.scalar(
        select(controllers.c.site_id).where(controllers.c.id == door.controller_id)
    )
    if site_id is None:
        raise NotFound(f"controller {door.controller_id} is not there")
    _there(connection, schedules, site_id, {rule.schedule_id for rule in door.mode_rules}, "schedule")
    levels = door.first_person_levels | door.admitting_levels
    _there(connection, access_levels, site_id, levels, "access level")
    _there(connection, areas, site_id, {each for each in (door.area, door.outside) if each}, "area")
    beside = select(doors.c.id).where(doors.c.controller_id == door.controller_id)
    if missing := door.interlock_with - {DoorId(found) for found in connection.scalars(beside)}:
        raise NotFound(f"door {min(missing)} is not one of controller {door.controller_id}")
    return SiteId(site_id)


def _there(connection: Connection, table: Table, site_id: str, named: AbstractSet[str], what: str) -> None:
    mine = select(table.c.id).where(table.c.site_id == site_id, table.c.id.in_(named))
    found = set(connection.scalars(mine)) if named else set()
    if missing := named - found:
        raise NotFound(f"{what} {min(missing)} is not there")


def _area(value: str | None) -> AreaId | None:
    return None if value is None else AreaId(value)


def _levels(values: Iterable[str]) -> frozenset[AccessLevelId]:
    return frozenset(map(AccessLevelId, values))


_PARSE: dict[str, Any] = {
    "id": DoorId,
    "controller_id": ControllerId,
    "mode": DoorMode,
    "when_too_old": WhenTooOld,
    "when_clock_untrusted": WhenClockUntrusted,
    "mode_rules": lambda rules: tuple(
        ModeRule(schedule_id=ScheduleId(schedule_id), mode=DoorMode(mode)) for schedule_id, mode in rules
    ),
    "when_unlisted": WhenUnlisted,
    "area": _area,
    "outside": _area,
    "antipassback": Antipassback,
    "first_person_levels": _levels,
    "admitting_levels": _levels,
    "when_hub_away": WhenHubAway,
    "interlock_with": lambda others: frozenset(map(DoorId, others)),
}


def _named(row: Row[Any]) -> NamedDoor:
    columns = fields(row)
    rules = {
        field.name: _PARSE.get(field.name, lambda value: value)(columns[field.name])
        for field in fields_of(Door)
    }
    return NamedDoor(
        door=Door(**rules), site_id=SiteId(row.site_id), name=row.name, created_at=row.created_at
    )
