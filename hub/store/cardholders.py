"""Cardholders and the access levels they hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.database import insert_new
from hub.store.errors import AlreadyExists, NotFound
from hub.store.people import people_within
from hub.store.schema import cardholder_levels, cardholders
from hub.store.sites import Sites
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CardholderId, SiteId


@unique
class Category(StrEnum):
    """What somebody is to the site."""

    RESIDENT = "resident"
    VISITOR = "visitor"
    STAFF = "staff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cardholder:
    """One person; names never leave the hub. They belong to one site, and may hold access levels of others.

    ``attended``: a person on duty decides at every door. ``extended_opening``: doors stay unlocked longer.
    ``escort_required``: admitted together with somebody who ``may_escort`` only. ``messages_waiting``: something lies at
    the desk for them. ``language``: BCP 47.
    ``valid_from`` inclusive and ``valid_until`` exclusive bound every card of theirs; None: no bound.
    ``external_id``: their name in the system they are imported from, of nobody else here. ``guardian_id``: who answers for
    a ``minor``. ``door_note``: what staff has to know who decides at a door. ``latin_…``: in Latin letters, as on papers.
    """

    id: CardholderId
    site_id: SiteId
    category: Category
    given_name: str
    family_name: str
    access_level_ids: tuple[AccessLevelId, ...]
    created_at: datetime
    attended: bool = False
    extended_opening: bool = False
    escort_required: bool = False
    may_escort: bool = False
    messages_waiting: bool = False
    room: str | None = None
    language: str | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    external_id: str | None = None
    minor: bool = False
    guardian_id: CardholderId | None = None
    door_note: str | None = None
    latin_given_name: str | None = None
    latin_family_name: str | None = None

    @property
    def name(self) -> str:
        """As staff reads it."""
        return full_name(self.given_name, self.family_name, self.latin_given_name, self.latin_family_name)


def full_name(given: str, family: str, latin_given: str | None, latin_family: str | None) -> str:
    """A name, and behind it in brackets the same in Latin letters where that is known."""
    name, latin = f"{given} {family}".strip(), f"{latin_given or ''} {latin_family or ''}".strip()
    return f"{name} ({latin})" if latin and latin != name else name


_FLAGS = ("attended", "extended_opening", "escort_required", "may_escort", "messages_waiting", "minor")
_LATIN = ("latin_given_name", "latin_family_name")
_FACTS = (*_LATIN, "room", "language", "valid_from", "valid_until", "external_id", "door_note")


def conflicts(person: Cardholder) -> Iterator[tuple[str, str]]:
    """Each field that does not go with the others, and why."""
    if person.escort_required and person.may_escort:
        yield "escort_required", "who needs an escort cannot be one"
    if person.guardian_id is not None and not person.minor:
        yield "guardian_id", "only a minor has a guardian"
    if person.guardian_id == person.id:
        yield "guardian_id", "nobody is their own guardian"
    if person.category is Category.VISITOR and person.valid_until is None:
        yield "valid_until", "a visitor's access needs an end"
    if person.valid_from and person.valid_until and person.valid_from >= person.valid_until:
        yield "valid_until", "must be after valid_from"


def add(connection: Connection, person: Cardholder) -> None:
    """Add a cardholder.

    Raises ``AlreadyExists``, also for an external id that somebody has, ``NotFound`` when a level is not there, and
    ``MalformedData`` when there are ``conflicts``.
    """
    _check(connection, person)
    insert_new(connection, cardholders, _row(person))
    set_levels(connection, person.id, person.access_level_ids)


def change(connection: Connection, person: Cardholder) -> None:
    """Store what is said of somebody; raises ``NotFound`` when the person is not there, and what ``add`` does."""
    _check(connection, person)
    changed = connection.execute(
        update(cardholders).where(cardholders.c.id == person.id).values(**_row(person))
    )
    if changed.rowcount != 1:
        raise NotFound(f"cardholder {person.id} is not there")
    set_levels(connection, person.id, person.access_level_ids)


def erase(connection: Connection, cardholder_id: CardholderId, now: datetime) -> bool:
    """Forget everything that is known of somebody but which cards are theirs; False: that was done before.

    Raises ``NotFound``.
    """
    columns = cardholders.c
    known = connection.execute(select(columns.erased_at).where(columns.id == cardholder_id)).first()
    if known is None:
        raise NotFound(f"cardholder {cardholder_id} is not there")
    if known.erased_at is not None:
        return False
    nothing = dict.fromkeys((*_LATIN, "room", "language", "external_id", "guardian_id", "door_note"))
    flags = dict.fromkeys(_FLAGS, False)
    connection.execute(
        update(cardholders)
        .where(columns.id == cardholder_id)
        .values(given_name="", family_name="", erased_at=now, valid_until=now, **nothing, **flags)
    )
    of_theirs = columns.guardian_id == cardholder_id
    connection.execute(update(cardholders).where(of_theirs).values(guardian_id=None))
    connection.execute(delete(cardholder_levels).where(cardholder_levels.c.cardholder_id == cardholder_id))
    return True


def add_many(connection: Connection, people: Sequence[Cardholder]) -> None:
    """Add people without ``conflicts`` whose ids, external ids and levels the caller has looked up in this transaction."""
    if people:
        connection.execute(insert(cardholders), [_row(person) for person in people])
        _insert_levels(connection, people)


def change_many(
    connection: Connection, people: Sequence[Cardholder], *, with_other_levels: Collection[CardholderId]
) -> None:
    """Store what is said of people who are there, and for these the levels; asks of the caller what ``add_many`` does."""
    if not people:
        return
    rows = [_row(person) | {"person": person.id} for person in people]
    changed = update(cardholders).where(cardholders.c.id == bindparam("person"))
    connection.execute(changed.values({name: bindparam(name) for name in _row(people[0])}), rows)
    if with_other_levels:
        held = delete(cardholder_levels).where(cardholder_levels.c.cardholder_id == bindparam("person"))
        connection.execute(held, [{"person": person} for person in with_other_levels])
        _insert_levels(connection, [person for person in people if person.id in with_other_levels])


def _insert_levels(connection: Connection, people: Iterable[Cardholder]) -> None:
    rows = [
        {"cardholder_id": person.id, "access_level_id": level}
        for person in people
        for level in dict.fromkeys(person.access_level_ids)
    ]
    if rows:
        connection.execute(insert(cardholder_levels), rows)


def _check(connection: Connection, person: Cardholder) -> None:
    for field, problem in conflicts(person):
        raise MalformedData(f"{field}: {problem}")
    if person.external_id is not None:
        columns = cardholders.c
        same = select(columns.id).where(columns.external_id == person.external_id, columns.id != person.id)
        if connection.execute(same).first() is not None:
            raise AlreadyExists("external_id: somebody else has it")


def _row(person: Cardholder) -> dict[str, object]:
    return {
        column.name: getattr(person, column.name) for column in cardholders.c if column.name != "erased_at"
    }


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
    """One cardholder; raises ``NotFound``, also for one who was erased."""
    mine = (cardholders.c.id == cardholder_id) & cardholders.c.erased_at.is_(None)
    found = _read(connection, select(cardholders).where(mine))
    if not found:
        raise NotFound(f"cardholder {cardholder_id} is not there")
    return found[0]


def list_all(
    connection: Connection,
    *,
    after: CardholderId | None = None,
    limit: int = 1_000,
    external_id: str | None = None,
    sites: Sites = None,
) -> list[Cardholder]:
    """Whom these sites know, by id, from behind ``after``; only who has this external id."""
    query = (
        select(cardholders).where(cardholders.c.erased_at.is_(None)).order_by(cardholders.c.id).limit(limit)
    )
    if sites is not None:
        query = query.where(cardholders.c.id.in_(people_within(sites)))
    if external_id is not None:
        query = query.where(cardholders.c.external_id == external_id)
    if after is not None:
        query = query.where(cardholders.c.id > after)
    return _read(connection, query)


def by_external_id(connection: Connection) -> dict[str, Cardholder]:
    """External id → person, for everybody who has one."""
    found = _read(connection, select(cardholders).where(cardholders.c.external_id.is_not(None)))
    return {person.external_id: person for person in found if person.external_id is not None}


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
            site_id=SiteId(row.site_id),
            category=Category(row.category),
            given_name=row.given_name,
            family_name=row.family_name,
            access_level_ids=tuple(levels.get(row.id, ())),
            created_at=row.created_at,
            guardian_id=None if row.guardian_id is None else CardholderId(row.guardian_id),
            **{flag: getattr(row, flag) for flag in (*_FLAGS, *_FACTS)},
        )
        for row in rows
    ]
