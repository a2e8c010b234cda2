"""What a principal sees: a thing of a site they do not see answers as if it were not there.

Every function raises ``NotFound``, in the words of the store, unless the thing is there and seen.
"""

from __future__ import annotations

from collections.abc import Iterable

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


def site(connection: Connection, principal: Principal, site_id: SiteId) -> Site:
    """One site."""
    found = sites.get(connection, site_id)
    _check(principal, found.id, f"site {site_id} is not there")
    return found


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
    found = doors.get(connection, door_id)
    _check(principal, found.site_id, f"door {door_id} is not there")
    return found


def controller(connection: Connection, principal: Principal, controller_id: ControllerId) -> Controller:
    """One controller, in use or withdrawn."""
    found = controllers.get(connection, controller_id)
    _check(principal, found.site_id, f"controller {controller_id} is not registered")
    return found


def area(connection: Connection, principal: Principal, area_id: AreaId) -> Area:
    """One area."""
    found = areas.get(connection, area_id)
    _check(principal, found.site_id, f"area {area_id} is not there")
    return found


def schedule(connection: Connection, principal: Principal, schedule_id: ScheduleId) -> NamedSchedule:
    """One schedule."""
    found = schedules.get(connection, schedule_id)
    _check(principal, found.site_id, f"schedule {schedule_id} is not there")
    return found


def access_level(connection: Connection, principal: Principal, level_id: AccessLevelId) -> NamedLevel:
    """One access level."""
    found = access_levels.get(connection, level_id)
    _check(principal, found.site_id, f"access level {level_id} is not there")
    return found


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
    found = orders.get(connection, order_id)
    _check(principal, found.site_id, "order is not there")
    return found


def command(connection: Connection, principal: Principal, command_id: str) -> StoredCommand:
    """One command."""
    found = commands.get(connection, command_id)
    _check(principal, controllers.get(connection, found.controller_id).site_id, "command is not there")
    return found


def alarm(connection: Connection, principal: Principal, alarm_id: int) -> Alarm:
    """One alarm."""
    found = alarms.get(connection, alarm_id)
    site_id = controllers.get(connection, found.subject.controller_id).site_id
    _check(principal, site_id, "alarm is not there")
    return found


def attended(connection: Connection, principal: Principal, request_id: str) -> AttendedRequest:
    """One attended request."""
    found = attendance.get(connection, request_id)
    site_id = controllers.get(connection, found.controller_id).site_id
    _check(principal, site_id, "request is not there")
    return found


def hold(connection: Connection, principal: Principal, hold_id: str) -> Hold:
    """One legal hold."""
    found = holds.get(connection, hold_id)
    _check(principal, found.site_id, "hold is not there")
    return found


def import_job(connection: Connection, principal: Principal, import_id: str) -> Job:
    """One import."""
    found = import_jobs.get(connection, import_id)
    _check(principal, found.site_id, f"import {import_id} is not there")
    return found


def post(connection: Connection, principal: Principal, post_id: PostId) -> Post:
    """One post."""
    found = posts.get(connection, post_id)
    _check(principal, found.site_id, f"post {post_id} is not there")
    return found


def issuing_batch(connection: Connection, principal: Principal, batch_id: str) -> Batch:
    """One batch of cards."""
    found = issuing_batches.get(connection, batch_id)
    _check(principal, found.site_id, "batch is not there")
    return found


def issuing_job(connection: Connection, principal: Principal, job_id: str) -> IssuingJob:
    """One issuing job."""
    found = issuing.get(connection, job_id)
    _check(principal, found.site_id, "issuing job is not there")
    return found


def station(connection: Connection, principal: Principal, station_id: StationId) -> Station:
    """One station, in use or retired."""
    found = stations.get(connection, station_id)
    _check(principal, found.site_id, f"station {station_id} is not there")
    return found


def duty(connection: Connection, principal: Principal, duty_id: str) -> Duty:
    """One duty to report in."""
    found = duties.get(connection, duty_id)
    _check(principal, found.site_id, "duty is not there")
    return found


def exemption(connection: Connection, principal: Principal, exemption_id: str) -> Exemption:
    """One exemption, of somebody who belongs to one of the principal's sites."""
    found = duties.get_exemption(connection, exemption_id)
    _check(principal, cardholders.get(connection, found.cardholder_id).site_id, "exemption is not there")
    return found


def _check(principal: Principal, site_id: SiteId, otherwise: str) -> None:
    if not principal.sees(site_id):
        raise NotFound(otherwise)
