"""Duties to report in, who may report for whom, and who is exempt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, not_, or_, select, update

from hub.store.cardholders import Category
from hub.store.database import fields, insert_new
from hub.store.errors import InUse, NotFound
from hub.store.holds import Hold
from hub.store.schema import (
    access_levels,
    cardholder_levels,
    cardholders,
    duties,
    duty_people,
    exemptions,
    occurrences,
    reporters,
)
from hub.store.sites import Sites, within
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CardholderId, SiteId
from pacs.schedule import Window

LONGEST_MARGIN_MIN = 12 * 60


@unique
class Whom(StrEnum):
    """Whom a duty is for: everybody of a category, who holds an access level, or those listed."""

    CATEGORY = "category"
    ACCESS_LEVEL = "access_level"
    PEOPLE = "people"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """Reporting in, within ``window`` on the site's clock, on those weekdays from ``first_day`` to ``last_day`` (None: on).

    ``early_min`` before it, and ``late_min`` after it, a report is taken, too. ``in_force_since``: when its rules were
    last changed. Raises ``MalformedData`` when its parts do not go together.
    """

    id: str
    site_id: SiteId
    name: str
    whom: Whom
    category: Category | None = None
    access_level_id: AccessLevelId | None = None
    people: tuple[CardholderId, ...] = ()
    window: Window
    early_min: int = 0
    late_min: int = 0
    on_holidays: bool = False
    first_day: date
    last_day: date | None = None
    in_force_since: datetime
    created_at: datetime

    def __post_init__(self) -> None:
        if (self.whom is Whom.CATEGORY) is not (self.category is not None):
            raise MalformedData("category: given for everybody of a category, and only then")
        if (self.whom is Whom.ACCESS_LEVEL) is not (self.access_level_id is not None):
            raise MalformedData("access_level_id: given for who holds an access level, and only then")
        if self.people and self.whom is not Whom.PEOPLE:
            raise MalformedData("people: given for those listed, and only then")
        if not (0 <= self.early_min <= LONGEST_MARGIN_MIN and 0 <= self.late_min <= LONGEST_MARGIN_MIN):
            raise MalformedData("early_min, late_min: 0 to 720 minutes")
        if self.last_day is not None and self.last_day < self.first_day:
            raise MalformedData("last_day: not before first_day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Somebody need not report from ``first_day`` to ``last_day``, for one duty or (None) for any."""

    id: str
    cardholder_id: CardholderId
    duty_id: str | None
    first_day: date
    last_day: date
    reason: str
    given_by: str
    given_at: datetime
    lifted_by: str | None = None
    lifted_at: datetime | None = None

    def covers(self, duty_id: str, day: date) -> bool:
        """Whether it holds for the occurrence of this duty on this day."""
        of_duty = self.duty_id in (None, duty_id)
        return of_duty and self.lifted_at is None and self.first_day <= day <= self.last_day


def add(connection: Connection, duty: Duty) -> None:
    """Add a duty; raises ``NotFound`` when an access level of its site, or somebody listed, is not there."""
    _check(connection, duty)
    insert_new(connection, duties, _row(duty))
    _set_people(connection, duty)


def change(connection: Connection, duty: Duty) -> None:
    """Store what a duty is now; raises what ``add`` does, and ``NotFound`` when it is not there itself."""
    _check(connection, duty)
    changed = connection.execute(update(duties).where(duties.c.id == duty.id).values(**_row(duty)))
    if changed.rowcount != 1:
        raise NotFound("duty is not there")
    _set_people(connection, duty)


def remove(connection: Connection, duty_id: str) -> None:
    """Delete a duty; raises ``NotFound``, and ``InUse`` when it has occurred, or somebody is exempt from it."""
    get(connection, duty_id)
    if connection.execute(select(occurrences.c.day).where(occurrences.c.duty_id == duty_id)).first():
        raise InUse("the duty has occurred: give it a last day instead")
    if connection.execute(select(exemptions.c.id).where(exemptions.c.duty_id == duty_id)).first():
        raise InUse("somebody is, or was, exempt from the duty: give it a last day instead")
    connection.execute(delete(duty_people).where(duty_people.c.duty_id == duty_id))
    connection.execute(delete(duties).where(duties.c.id == duty_id))


def get(connection: Connection, duty_id: str) -> Duty:
    """One duty; raises ``NotFound``."""
    row = connection.execute(select(duties).where(duties.c.id == duty_id)).first()
    if row is None:
        raise NotFound("duty is not there")
    return _duty(row, _people(connection, [duty_id]).get(duty_id, []))


def list_all(connection: Connection, sites: Sites = None) -> list[Duty]:
    """Every duty of these sites, by name."""
    query = select(duties).where(within(duties.c.site_id, sites)).order_by(duties.c.name, duties.c.id)
    rows = connection.execute(query).all()
    listed = _people(connection, [row.id for row in rows])
    return [_duty(row, listed.get(row.id, [])) for row in rows]


def members(
    connection: Connection, duty: Duty, *, enrolled_by: datetime, since: datetime, until: datetime
) -> set[CardholderId]:
    """Whom a duty is for now, of those who were enrolled by then and whose validity lasts from ``since`` to ``until``."""
    columns = cardholders.c
    query = select(columns.id).where(
        columns.erased_at.is_(None),
        columns.created_at <= enrolled_by,
        or_(columns.valid_from.is_(None), columns.valid_from <= since),
        or_(columns.valid_until.is_(None), columns.valid_until >= until),
    )
    match duty.whom:
        case Whom.CATEGORY:
            query = query.where(columns.site_id == duty.site_id, columns.category == duty.category)
        case Whom.ACCESS_LEVEL:
            held = select(cardholder_levels.c.cardholder_id)
            query = query.where(
                columns.id.in_(held.where(cardholder_levels.c.access_level_id == duty.access_level_id))
            )
        case Whom.PEOPLE:
            query = query.where(columns.id.in_(duty.people))
    return {CardholderId(each) for each in connection.scalars(query)}


def set_reporter(
    connection: Connection,
    reporter_id: CardholderId,
    cardholder_id: CardholderId,
    *,
    set_by: str,
    now: datetime,
) -> None:
    """Let somebody report for another person; stays as it is when they may already.

    Raises ``NotFound``, and ``MalformedData`` for one and the same person.
    """
    if reporter_id == cardholder_id:
        raise MalformedData("everybody reports for themselves")
    if cardholder_id in reported_for(connection, reporter_id):
        return
    row = {"reporter_id": reporter_id, "cardholder_id": cardholder_id, "set_by": set_by, "set_at": now}
    insert_new(connection, reporters, row)


def remove_reporter(connection: Connection, reporter_id: CardholderId, cardholder_id: CardholderId) -> None:
    """Let somebody report for another person no more; raises ``NotFound`` when they could not."""
    columns = reporters.c
    mine = (columns.reporter_id == reporter_id) & (columns.cardholder_id == cardholder_id)
    if connection.execute(delete(reporters).where(mine)).rowcount != 1:
        raise NotFound("this person does not report for that one")


def reported_for(connection: Connection, reporter_id: CardholderId) -> list[CardholderId]:
    """For whom else somebody may report, by id."""
    columns = reporters.c
    query = select(columns.cardholder_id).where(columns.reporter_id == reporter_id)
    return [CardholderId(each) for each in connection.scalars(query.order_by(columns.cardholder_id))]


def reporters_for(connection: Connection, cardholder_id: CardholderId) -> list[CardholderId]:
    """Who else may report for somebody, by id."""
    columns = reporters.c
    query = select(columns.reporter_id).where(columns.cardholder_id == cardholder_id)
    return [CardholderId(each) for each in connection.scalars(query.order_by(columns.reporter_id))]


def add_exemption(connection: Connection, exemption: Exemption) -> None:
    """Exempt somebody; raises ``NotFound``."""
    insert_new(connection, exemptions, {name: getattr(exemption, name) for name in exemptions.c.keys()})  # noqa: SIM118


def lift_exemption(connection: Connection, exemption_id: str, *, lifted_by: str, now: datetime) -> None:
    """End an exemption, also for what is past; what was lifted stays as it is. Raises ``NotFound``."""
    if get_exemption(connection, exemption_id).lifted_at is None:
        mine = exemptions.c.id == exemption_id
        connection.execute(update(exemptions).where(mine).values(lifted_by=lifted_by, lifted_at=now))


def get_exemption(connection: Connection, exemption_id: str) -> Exemption:
    """One exemption; raises ``NotFound``."""
    row = connection.execute(select(exemptions).where(exemptions.c.id == exemption_id)).first()
    if row is None:
        raise NotFound("exemption is not there")
    return _exemption(row)


def list_exemptions(
    connection: Connection, *, of: Collection[CardholderId] | None = None, sites: Sites = None
) -> list[Exemption]:
    """Exemptions of these people, or of everybody who belongs to these sites; the newest first."""
    columns = exemptions.c
    query = select(exemptions).join(cardholders, cardholders.c.id == columns.cardholder_id)
    query = query.where(within(cardholders.c.site_id, sites))
    if of is not None:
        query = query.where(columns.cardholder_id.in_(of))
    return [
        _exemption(row) for row in connection.execute(query.order_by(columns.given_at.desc(), columns.id))
    ]


def remove_exemptions(
    connection: Connection, before: datetime, held: Iterable[Hold], limit: int, sites: Sites = None
) -> int:
    """Delete exemptions whose last day lies before, unless a hold is about the time and the person; how many."""
    columns, people = exemptions.c, cardholders.c
    over = select(columns.id).join(cardholders, people.id == columns.cardholder_id)
    over = over.where(columns.last_day < before.date(), within(people.site_id, sites))
    for hold in held:
        if hold.door_id is None:
            then = (columns.first_day <= hold.until.date()) & (columns.last_day >= hold.since.date())
            of_site = people.site_id == hold.site_id
            mine = of_site if hold.cardholder_id is None else columns.cardholder_id == hold.cardholder_id
            over = over.where(not_(then & mine))
    due = list(connection.scalars(over.limit(limit)))
    connection.execute(delete(exemptions).where(columns.id.in_(due)))
    return len(due)


def _check(connection: Connection, duty: Duty) -> None:
    if duty.access_level_id is not None:
        level = select(access_levels.c.id).where(access_levels.c.id == duty.access_level_id)
        if connection.execute(level.where(access_levels.c.site_id == duty.site_id)).first() is None:
            raise NotFound(f"access level {duty.access_level_id} is not there")
    known = select(cardholders.c.id).where(
        cardholders.c.id.in_(duty.people), cardholders.c.erased_at.is_(None)
    )
    if missing := sorted(set(duty.people) - set(connection.scalars(known))):
        raise NotFound(f"cardholder {missing[0]} is not there")


def _row(duty: Duty) -> dict[str, Any]:
    plain = {name: getattr(duty, name) for name in duties.c.keys() if hasattr(duty, name)}  # noqa: SIM118
    return plain | {
        "weekdays": sorted(duty.window.weekdays),
        "start_minute": duty.window.start_minute,
        "end_minute": duty.window.end_minute,
    }


def _set_people(connection: Connection, duty: Duty) -> None:
    connection.execute(delete(duty_people).where(duty_people.c.duty_id == duty.id))
    rows = [{"duty_id": duty.id, "cardholder_id": each} for each in dict.fromkeys(duty.people)]
    if rows:
        connection.execute(insert(duty_people), rows)


def _people(connection: Connection, duty_ids: Iterable[str]) -> dict[str, list[CardholderId]]:
    columns = duty_people.c
    query = select(duty_people).where(columns.duty_id.in_(list(duty_ids))).order_by(columns.cardholder_id)
    found: dict[str, list[CardholderId]] = {}
    for row in connection.execute(query):
        found.setdefault(row.duty_id, []).append(CardholderId(row.cardholder_id))
    return found


def _duty(row: Row[Any], people: Iterable[CardholderId]) -> Duty:
    read = fields(row)
    window = Window(
        weekdays=frozenset(read.pop("weekdays")),
        start_minute=read.pop("start_minute"),
        end_minute=read.pop("end_minute"),
    )
    return Duty(
        **{
            **read,
            "site_id": SiteId(row.site_id),
            "whom": Whom(row.whom),
            "category": Category(row.category) if row.category else None,
            "access_level_id": AccessLevelId(row.access_level_id) if row.access_level_id else None,
        },
        window=window,
        people=tuple(people),
    )


def _exemption(row: Row[Any]) -> Exemption:
    return Exemption(**{**fields(row), "cardholder_id": CardholderId(row.cardholder_id)})
