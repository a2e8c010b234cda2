"""Cardholders and the access levels they hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from sqlalchemy import Connection, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.database import insert_new
from hub.store.errors import NotFound
from hub.store.schema import cardholder_levels, cardholders
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CardholderId


@unique
class Category(StrEnum):
    """What somebody is to the site."""

    RESIDENT = "resident"
    VISITOR = "visitor"
    STAFF = "staff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cardholder:
    """One person; names never leave the hub.

    ``attended``: a person on duty decides at every door. ``extended_opening``: doors stay unlocked longer.
    ``escort_required``: admitted together with somebody who ``may_escort`` only.
    """

    id: CardholderId
    category: Category
    given_name: str
    family_name: str
    access_level_ids: tuple[AccessLevelId, ...]
    created_at: datetime
    attended: bool = False
    extended_opening: bool = False
    escort_required: bool = False
    may_escort: bool = False

    def __post_init__(self) -> None:
        if self.escort_required and self.may_escort:
            raise MalformedData("cardholder: who needs an escort cannot be one")


_FLAGS = ("attended", "extended_opening", "escort_required", "may_escort")


def add(connection: Connection, person: Cardholder) -> None:
    """Add a cardholder; raises ``AlreadyExists``, or ``NotFound`` when a level is not there."""
    insert_new(connection, cardholders, _row(person))
    set_levels(connection, person.id, person.access_level_ids)


def change(connection: Connection, person: Cardholder) -> None:
    """Store what is said of somebody; raises ``NotFound`` when the person or a level is not there."""
    changed = connection.execute(
        update(cardholders).where(cardholders.c.id == person.id).values(**_row(person))
    )
    if changed.rowcount != 1:
        raise NotFound(f"cardholder {person.id} is not there")
    set_levels(connection, person.id, person.access_level_ids)


def _row(person: Cardholder) -> dict[str, object]:
    return {column.name: getattr(person, column.name) for column in cardholders.c}


def set_levels(connection: Connection, person: CardholderId, levels: Iterable[AccessLevelId]) -> None:
    """Replace the levels somebody holds; raises ``NotFound`` when person or level is not there."""
    connection.execute(delete(cardholder_levels).where(cardholder_levels.c.cardholder_id == person))
    rows = [{"cardholder_id": person, "access_level_id": level} for level in dict.fromkeys(levels)]
    try:
        if rows:
            connection.execute(insert(cardholder_levels), rows)
    except IntegrityError as error:
        raise NotFound(f"cardholder {person}: person or access level is not there") from error


def get(connection: Connection, cardholder_id: CardholderId) -> Cardholder:
    """One cardholder; raises ``NotFound``."""
    found = _read(connection, select(cardholders).where(cardholders.c.id == cardholder_id))
    if not found:
        raise NotFound(f"cardholder {cardholder_id} is not there")
    return found[0]


def list_all(
    connection: Connection, *, after: CardholderId | None = None, limit: int = 1_000
) -> list[Cardholder]:
    """Cardholders by id, from behind ``after``."""
    query = select(cardholders).order_by(cardholders.c.id).limit(limit)
    if after is not None:
        query = query.where(cardholders.c.id > after)
    return _read(connection, query)


def _read(connection: Connection, query: Select[tuple[object, ...]]) -> list[Cardholder]:
    rows = connection.execute(query).all()
    levels: dict[str, list[AccessLevelId]] = {}
    held = select(cardholder_levels).order_by(*cardholder_levels.primary_key)
    if len(rows) == 1:
        held = held.where(cardholder_levels.c.cardholder_id == rows[0].id)
    for row in connection.execute(held):
        levels.setdefault(row.cardholder_id, []).append(AccessLevelId(row.access_level_id))
    return [
        Cardholder(
            id=CardholderId(row.id),
            category=Category(row.category),
            given_name=row.given_name,
            family_name=row.family_name,
            access_level_ids=tuple(levels.get(row.id, ())),
            created_at=row.created_at,
            **{flag: getattr(row, flag) for flag in _FLAGS},
        )
        for row in rows
    ]
