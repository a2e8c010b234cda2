"""What a principal sees: a thing of a site they do not see answers as if it were not there.

Every function raises ``NotFound``, in the words of the store, unless the thing is there and seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from hub.api.problems import Code, Problem
from hub.operators import Principal
from hub.store import (
    access_levels,
    alarms,
    areas,
    attendance,
    cardholders,
    cards,
    commands,
    controllers,
    doors,
    duties,
    holds,
    import_jobs,
    issuing,
    issuing_batches,
    orders,
    posts,
    schedules,
    sites,
    stations,
)
from hub.store.access_levels import NamedLevel
from hub.store.alarms import Alarm
from hub.store.areas import Area
from hub.store.attendance import AttendedRequest
from hub.store.cardholders import Cardholder
from hub.store.cards import Card
from hub.store.commands import StoredCommand
from hub.store.controllers import Controller
from hub.store.doors import NamedDoor
from hub.store.duties import Duty, Exemption
from hub.store.errors import NotFound
from hub.store.holds import Hold
from hub.store.import_jobs import Job
from hub.store.issuing import IssuingJob
from hub.store.issuing_batches import Batch
from hub.store.orders import DoorsOrder
from hub.store.people import sites_of
from hub.store.posts import Post
from hub.store.schedules import NamedSchedule
from hub.store.sites import Site
from hub.store.stations import Station
from pacs.identifiers import (
    AccessLevelId,
    AreaId,
    CardholderId,
    ControllerId,
    CredentialId,
    DoorId,
    PostId,
    ScheduleId,
    SiteId,
    StationId,
)

Thing = TypeVar("Thing")


class _OfSite(Protocol):
    @property
    def site_id(self) -> SiteId: ...


OfSite = TypeVar("OfSite", bound=_OfSite)


def site(connection: Connection, principal: Principal, site_id: SiteId) -> Site:
    """One site."""
    return _at(principal, site_id, sites.get(connection, site_id), f"site {site_id} is not there")


def site_for(connection: Connection, principal: Principal, wanted: SiteId | None) -> SiteId:
    """The site that something new belongs to: the one that is ``wanted``, or the only one the principal sees.

    Raises ``Problem``: REFERENCE_UNKNOWN for one that is not there, INVALID when there are several to choose from.
    """
    if wanted is not None:
        try:
            return site(connection, principal, wanted).id
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
    seen = sites.list_all(connection, principal.sites)
    if len(seen) != 1:
        names = ", ".join(each.id for each in seen)
        raise Problem(Code.INVALID, f"There are several sites; say which one as site_id: {names}.")
    return seen[0].id


def door(connection: Connection, principal: Principal, door_id: DoorId) -> NamedDoor:
    """One door."""
    return _of_site(principal, doors.get(connection, door_id), f"door {door_id} is not there")


def controller(connection: Connection, principal: Principal, controller_id: ControllerId) -> Controller:
    """One controller, in use or withdrawn."""
    return _of_site(
        principal, controllers.get(connection, controller_id), f"controller {controller_id} is not registered"
    )


def area(connection: Connection, principal: Principal, area_id: AreaId) -> Area:
    """One area."""
    return _of_site(principal, areas.get(connection, area_id), f"area {area_id} is not there")


def schedule(connection: Connection, principal: Principal, schedule_id: ScheduleId) -> NamedSchedule:
    """One schedule."""
    return _of_site(principal, schedules.get(connection, schedule_id), f"schedule {schedule_id} is not there")


def access_level(connection: Connection, principal: Principal, level_id: AccessLevelId) -> NamedLevel:
    """One access level."""
    return _of_site(
        principal, access_levels.get(connection, level_id), f"access level {level_id} is not there"
    )


def cardholder(connection: Connection, principal: Principal, cardholder_id: CardholderId) -> Cardholder:
    """Somebody whom one of the principal's sites knows."""
    found = cardholders.get(connection, cardholder_id)
    if not any(principal.sees(each) for each in sites_of(connection, cardholder_id)):
        raise NotFound(f"cardholder {cardholder_id} is not there")
    return found


def own_cardholder(connection: Connection, principal: Principal, cardholder_id: CardholderId) -> Cardholder:
    """Somebody who belongs to one of the principal's sites, which alone may change what is said of them.

    Raises ``Problem`` NOT_PERMITTED for whom these sites only know.
    """
    found = cardholder(connection, principal, cardholder_id)
    if not principal.sees(found.site_id):
        raise Problem(Code.NOT_PERMITTED, "This person belongs to another site.")
    return found


def card(connection: Connection, principal: Principal, credential_id: CredentialId) -> Card:
    """A card of somebody whom one of the principal's sites knows."""
    found = cards.get(connection, credential_id)
    if not any(principal.sees(each) for each in sites_of(connection, found.cardholder_id)):
        raise NotFound("card is not there")
    return found


def those_seen(
    connection: Connection, principal: Principal, levels: Iterable[AccessLevelId]
) -> list[AccessLevelId]:
    """Those of these access levels that are of sites the principal sees; raises nothing."""
    wanted = list(levels)
    site_of = access_levels.site_of(connection, wanted)
    return [level for level in wanted if level in site_of and principal.sees(site_of[level])]


def seen_levels(
    connection: Connection,
    principal: Principal,
    wanted: Iterable[AccessLevelId],
    *,
    beside: Iterable[AccessLevelId] = (),
) -> list[AccessLevelId]:
    """``wanted``, and those ``beside`` them that are seen.

    Raises ``Problem`` REFERENCE_UNKNOWN when one of the wanted is not there or not seen.
    """
    named = list(wanted)
    seen = those_seen(connection, principal, named)
    if missing := sorted(set(named) - set(seen)):
        raise Problem(Code.REFERENCE_UNKNOWN, f"access level {missing[0]} is not there")
    return [*seen, *those_seen(connection, principal, beside)]


def order(connection: Connection, principal: Principal, order_id: str) -> DoorsOrder:
    """One order."""
    return _of_site(principal, orders.get(connection, order_id), "order is not there")


def command(connection: Connection, principal: Principal, command_id: str) -> StoredCommand:
    """One command."""
    found = commands.get(connection, command_id)
    site_id = controllers.get(connection, found.controller_id).site_id
    return _at(principal, site_id, found, "command is not there")


def alarm(connection: Connection, principal: Principal, alarm_id: int) -> Alarm:
    """One alarm."""
    found = alarms.get(connection, alarm_id)
    site_id = controllers.get(connection, found.subject.controller_id).site_id
    return _at(principal, site_id, found, "alarm is not there")


def attended(connection: Connection, principal: Principal, request_id: str) -> AttendedRequest:
    """One attended request."""
    found = attendance.get(connection, request_id)
    site_id = controllers.get(connection, found.controller_id).site_id
    return _at(principal, site_id, found, "request is not there")


def hold(connection: Connection, principal: Principal, hold_id: str) -> Hold:
    """One legal hold."""
    return _of_site(principal, holds.get(connection, hold_id), "hold is not there")


def import_job(connection: Connection, principal: Principal, import_id: str) -> Job:
    """One import."""
    return _of_site(principal, import_jobs.get(connection, import_id), f"import {import_id} is not there")


def post(connection: Connection, principal: Principal, post_id: PostId) -> Post:
    """One post."""
    return _of_site(principal, posts.get(connection, post_id), f"post {post_id} is not there")


def issuing_batch(connection: Connection, principal: Principal, batch_id: str) -> Batch:
    """One batch of cards."""
    return _of_site(principal, issuing_batches.get(connection, batch_id), "batch is not there")


def issuing_job(connection: Connection, principal: Principal, job_id: str) -> IssuingJob:
    """One issuing job."""
    return _of_site(principal, issuing.get(connection, job_id), "issuing job is not there")


def station(connection: Connection, principal: Principal, station_id: StationId) -> Station:
    """One station, in use or retired."""
    return _of_site(principal, stations.get(connection, station_id), f"station {station_id} is not there")


def duty(connection: Connection, principal: Principal, duty_id: str) -> Duty:
    """One duty to report in."""
    return _of_site(principal, duties.get(connection, duty_id), "duty is not there")


def exemption(connection: Connection, principal: Principal, exemption_id: str) -> Exemption:
    """One exemption, of somebody who belongs to one of the principal's sites."""
    found = duties.get_exemption(connection, exemption_id)
    site_id = cardholders.get(connection, found.cardholder_id).site_id
    return _at(principal, site_id, found, "exemption is not there")


def _of_site(principal: Principal, found: OfSite, otherwise: str) -> OfSite:
    return _at(principal, found.site_id, found, otherwise)


def _at(principal: Principal, site_id: SiteId, found: Thing, otherwise: str) -> Thing:
    if not principal.sees(site_id):
        raise NotFound(otherwise)
    return found
