"""Statistics without persons: counts by door, hour, day or week, each with what is proven of its time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response

from hub import completeness, spreadsheets, statistics
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer
from hub.api.proven import Record, answered, sentences
from hub.api.services import Services, services
from hub.completeness import Proven
from hub.operators import Principal
from hub.roles import Permission
from hub.statistics import THRESHOLD, Cell, Per
from hub.store import doors, sites, totals
from pacs.identifiers import DoorId
from pacs.schedule import zone

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/statistics", tags=["statistics"])

LONGEST = timedelta(days=31)
LONGEST_OF_ONE = {Per.HOUR: LONGEST, Per.DAY: timedelta(days=366), Per.WEEK: timedelta(days=1830)}
DEFAULT = timedelta(days=7)
_COLUMNS = ("door_id", "door_name", "outcome", "since", "at_least", "hidden_hours", "complete", "unknown_s")


class Count(Answer):
    """``at_least`` so many taps; ``hidden_hours`` more had fewer than the threshold, which are not counted.

    ``complete``: the door's record is whole for this time; else ``unknown_s`` seconds of it are not.
    """

    door_id: fields.Door
    door_name: str
    outcome: str
    since: datetime
    at_least: int
    hidden_hours: int
    complete: bool
    unknown_s: int


class Statistics(Answer):
    """Ended hours only; what is not listed was not counted, which says nothing where a record is not whole."""

    per: Per
    since: datetime
    until: datetime
    threshold: int
    counts: list[Count]
    records: list[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be counted."""

    per: Per
    since: datetime | None
    until: datetime | None
    door: DoorId | None


@router.get("")
def counts(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    per: Annotated[Per, Query()] = Per.DAY,
    since: Annotated[fields.Instant | None, Query()] = None,
    until: Annotated[fields.Instant | None, Query()] = None,
    door: fields.Door | None = None,
) -> Statistics:
    """Taps by door, outcome and hour, day or week; small numbers are hidden in every sum.

    Of at most 31 days, of one door by day of a year, by week for as long as numbers are kept.
    """
    asked = Asked(per=per, since=since, until=until, door=door)
    return count(services(request), principal, asked)


@router.get("/export", response_class=Response)
def export(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    per: Annotated[Per, Query()] = Per.DAY,
    since: Annotated[fields.Instant | None, Query()] = None,
    until: Annotated[fields.Instant | None, Query()] = None,
    door: fields.Door | None = None,
) -> Response:
    """The same as CSV, headed by what is proven of the doors."""
    asked = Asked(per=per, since=since, until=until, door=door)
    found = count(services(request), principal, asked)
    lines = [spreadsheets.line([f"# {said}"]) for said in sentences(found.records)]
    lines.append(spreadsheets.line(_COLUMNS))
    lines += (spreadsheets.line(getattr(each, name) for name in _COLUMNS) for each in found.counts)
    headers = {"Content-Disposition": 'attachment; filename="statistics.csv"'}
    return Response("".join(lines), media_type="text/csv; charset=utf-8", headers=headers)


def count(hub: Services, principal: Principal, asked: Asked) -> Statistics:
    """What is published of the time that is asked for."""
    now = hub.clock()
    ends = min(asked.until or now, now)
    longest = LONGEST_OF_ONE[asked.per] if asked.door else LONGEST
    begins = max(asked.since or ends - DEFAULT, ends - longest, now - hub.settings.retention.totals)
    begins, ends = statistics.whole_hours(begins, ends)
    ends = max(begins, ends)
    with hub.database.read() as connection:
        taps = totals.between(connection, since=begins, until=ends, door_id=asked.door, sites=principal.sites)
        only: Collection[DoorId] | None = [asked.door] if asked.door else None
        records = completeness.counted(
            connection, now, since=begins, until=ends, door_ids=only, sites=principal.sites
        )
        zones = {site.id: zone(site.time_zone) for site in sites.list_all(connection)}
        at_site = {each.door.id: zones[each.site_id] for each in doors.list_all(connection)}
    cells = {
        Cell(door_id=door_id, outcome=kind.removeprefix("access_"), hour=hour): taps_then
        for (door_id, kind, hour), taps_then in taps.items()
    }

    def zone_of(door_id: DoorId) -> ZoneInfo:
        return at_site.get(door_id) or zone(hub.home.time_zone)

    by_door = {record.door_id: record for record in records}
    summed = statistics.sums(statistics.published(cells), asked.per, zone_of)
    found = []
    for (door_id, outcome, at), each in sorted(summed.items(), key=lambda item: item[0]):
        record = by_door.get(door_id)
        unknown = None
        if record:
            unknown = _unknown(record, at, min(asked.per.end(at, zone_of(door_id)), ends))
        found.append(
            Count(
                door_id=door_id,
                door_name=record.name if record else door_id,
                outcome=outcome,
                since=at,
                at_least=each.at_least,
                hidden_hours=each.hidden,
                complete=unknown == timedelta(),
                unknown_s=int(unknown.total_seconds()) if unknown is not None else 0,
            )
        )
    return Statistics(
        per=asked.per,
        since=begins,
        until=ends,
        threshold=THRESHOLD,
        counts=found,
        records=[answered(each) for each in records],
    )


def _unknown(record: Proven, since: datetime, until: datetime) -> timedelta:
    since = max(since, record.since)
    known = (
        max(timedelta(), min(stretch.until, until) - max(stretch.since, since)) for stretch in record.known
    )
    return (until - since) - sum(known, timedelta())
