"""The roll call: who is known to be inside, who was last seen leaving, and who cannot be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request

from hub import audit
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer
from hub.api.problems import Code, Problem
from hub.api.proven import Record, answered
from hub.api.services import Services, services
from hub.completeness import Cause
from hub.muster import Presence, Standing, Why
from hub.operators import Principal
from hub.roles import Permission
from hub.roll_call import Roll
from hub.store import sites
from hub.store.cardholders import Category
from hub.store.roll import Listed
from pacs.identifiers import SiteId
from pacs.rules import Side

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/muster", tags=["muster"])


class LastPassage(Answer):
    """The last passage on record; ``was_seen``: by a contact, else they were let through and may have stayed."""

    at: datetime
    door_id: fields.Door
    door_name: str
    side: Side
    was_seen: bool


class Person(Answer):
    """Somebody on the list; ``extended_opening``: may need help to get out.

    Of whom it cannot be told: ``why``, ``since`` when, at which door, and for a record the ``cause``.
    """

    cardholder_id: fields.Cardholder
    name: str
    category: Category
    room: str | None
    language: str | None
    extended_opening: bool
    last: LastPassage | None
    as_of: datetime | None
    why: Why | None
    since: datetime | None
    door_name: str | None
    cause: Cause | None


class AreaRoll(Answer):
    """Who is known to be inside an area, as of the oldest word of a way out of it."""

    id: fields.Area
    name: str
    as_of: datetime | None
    people: list[Person]


class Muster(Answer):
    """One site's roll call. Who is in ``left`` was last seen leaving: that does not say that they are away.

    ``records``: what is proven, of the last thirty days, of each door that leads into or out of an area.
    """

    site_id: fields.Site
    site_name: str
    time_zone: str
    made_at: datetime
    areas: list[AreaRoll]
    left: list[Person]
    unknown: list[Person]
    records: list[Record]


class Musters(Answer):
    """A roll call for each site that is seen."""

    musters: list[Muster]


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.MOVEMENTS_READ)],
    site: Annotated[fields.Site | None, Query()] = None,
) -> Musters:
    """Who is known to be inside, by area; who was last seen leaving; who cannot be told, since when and why. Audited."""
    return Musters(musters=called(services(request), principal, site))


class Copy(Answer):
    """One folder that the roll call is copied to; ``late``: its copy is not to be relied on, or there is none."""

    folder: str
    copied_at: datetime | None
    late: bool
    problem: str


class Copies(Answer):
    """Those of the process that answers; with several, only the one that leads makes copies."""

    copies: list[Copy]


@router.get("/copies", dependencies=[requires(Permission.DOORS_READ)])
def copies(request: Request) -> Copies:
    """Where the roll call is copied to, and how old each copy is."""
    kept = services(request).muster_copies
    late = {state.folder for state in kept.late()}
    return Copies(
        copies=[
            Copy(
                folder=str(state.folder),
                copied_at=state.copied_at,
                late=state.folder in late,
                problem=state.problem,
            )
            for state in kept.states
        ]
    )


def made(hub: Services) -> Mapping[SiteId, Muster]:
    """Every site's roll call, for the copies."""
    with hub.database.read() as connection:
        every = sites.list_all(connection)
    return {site.id: answer(hub.roll_call.of(site)) for site in every}


def called(hub: Services, principal: Principal, site_id: fields.Site | None) -> list[Muster]:
    """The roll call of one site, or of each that ``principal`` sees, with the audit entry that names were shown."""
    with hub.database.read() as connection:
        seen = [each for each in sites.list_all(connection, principal.sites) if site_id in (None, each.id)]
    if site_id is not None and not seen:
        raise Problem(Code.NOT_FOUND, "There is no such site.")
    found = [answer(hub.roll_call.of(each)) for each in seen]
    with hub.database.write() as connection:
        for muster in found:
            audit.record(
                connection,
                now=hub.clock(),
                actor=principal.actor,
                action="muster.read",
                subject=f"site:{muster.site_id}",
                detail={"shown": sum(1 for _ in everybody(muster))},
            )
    return found


def everybody(muster: Muster) -> Iterable[Person]:
    """Everyone on the list, once."""
    for area in muster.areas:
        yield from area.people
    yield from muster.left
    yield from muster.unknown


def answer(roll: Roll) -> Muster:
    """A roll call as the interface shows it."""
    persons = [(standing, _person(roll, listed, standing)) for listed, standing in roll.people]

    def where(chosen: Callable[[Standing], bool]) -> list[Person]:
        return [person for standing, person in persons if chosen(standing)]

    areas = []
    for area in roll.areas:
        people = where(lambda standing, area=area: standing.area_id == area.id)  # type: ignore[misc]
        as_of = min((person.as_of for person in people if person.as_of), default=None)
        areas.append(AreaRoll(id=area.id, name=area.name, as_of=as_of, people=people))
    return Muster(
        site_id=roll.site.id,
        site_name=roll.site.name,
        time_zone=roll.site.time_zone,
        made_at=roll.at,
        areas=areas,
        left=where(lambda standing: standing.presence is Presence.LEFT),
        unknown=where(lambda standing: standing.presence is Presence.UNKNOWN),
        records=[answered(each) for each in roll.records],
    )


def _person(roll: Roll, listed: Listed, standing: Standing) -> Person:
    last = standing.last
    return Person(
        cardholder_id=listed.id,
        name=listed.name,
        category=listed.category,
        room=listed.room,
        language=listed.language,
        extended_opening=listed.extended_opening,
        last=LastPassage(
            at=last.at,
            door_id=last.door_id,
            door_name=roll.door_names.get(last.door_id, last.door_id),
            side=last.side,
            was_seen=standing.was_seen,
        )
        if last
        else None,
        as_of=standing.as_of,
        why=standing.why,
        since=standing.since,
        door_name=roll.door_names.get(standing.door_id, standing.door_id) if standing.door_id else None,
        cause=standing.cause,
    )
