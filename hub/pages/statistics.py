"""Statistics as a page: a table, and bars that the server draws."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.services import services
from hub.api.statistics import LONGEST_OF_ONE, Asked, Count, count
from hub.operators import Principal
from hub.pages import words
from hub.pages.muster import record_lines
from hub.pages.rendering import pages_of
from hub.roles import Permission
from hub.statistics import Per
from hub.store import doors
from pacs.events import EventKind

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

HIGH = 120
SPANS = (7, 31, 92, 366)
"""Days that can be looked back; of all doors together as far as the interface counts."""


@router.get("/statistics")
def statistics_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    per: Annotated[Per, Query()] = Per.DAY,
    days: Annotated[int, Query(ge=1, le=LONGEST_OF_ONE[Per.DAY].days)] = SPANS[0],
    door: Annotated[fields.Door | Literal[""], Query()] = "",
) -> Response:
    """Taps by door and hour, day or week; small numbers hidden."""
    hub, pages = services(request), pages_of(request)
    since = hub.clock() - timedelta(days=days)
    found = count(hub, principal, Asked(per=per, since=since, until=None, door=door or None))
    with hub.database.read() as connection:
        named = doors.list_all(connection, sites=principal.sites)
    outcomes = {
        kind.removeprefix("access_"): pages.gettext(words.EVENTS[EventKind(kind)])
        for kind in ("access_granted", "access_denied", "access_referred")
    }
    return pages.response(
        request,
        "statistics.html",
        principal,
        per=per.value,
        days=days,
        door=door,
        doors=[(each.door.id, each.name) for each in named],
        spans=SPANS,
        export=f"/api/v1/statistics/export?{urlencode(_asked(per, found.since, door))}",
        found=found,
        outcomes=outcomes,
        bars=_bars(found.counts),
        high=HIGH,
        records=record_lines(pages, found.records, since=found.since),
    )


def _asked(per: Per, since: datetime, door: str) -> dict[str, str]:
    """The same question in the words of the interface."""
    return {"per": per.value, "since": since.isoformat()} | ({"door": door} if door else {})


def _bars(counts: list[Count]) -> list[dict[str, Any]]:
    """One bar for each time, of all doors and outcomes together; as high as its share of the highest."""
    totals: dict[Any, int] = defaultdict(int)
    doubtful: dict[Any, bool] = defaultdict(bool)
    for each in counts:
        totals[each.since] += each.at_least
        doubtful[each.since] |= bool(each.hidden_hours) or not each.complete
    highest = max(totals.values(), default=0) or 1
    return [
        {"since": at, "count": total, "high": round(total / highest * HIGH), "doubtful": doubtful[at]}
        for at, total in sorted(totals.items())
    ]
