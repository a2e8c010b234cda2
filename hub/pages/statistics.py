"""Statistics as a page: a table, and bars that the server draws."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from hub.api.access import DeclaredRoute, requires
from hub.api.services import services
from hub.api.statistics import Asked, Count, count
from hub.operators import Principal
from hub.pages import words
from hub.pages.muster import record_lines
from hub.pages.rendering import pages_of
from hub.roles import Permission
from hub.statistics import Per
from pacs.events import EventKind

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

HIGH = 120


@router.get("/statistics")
def statistics_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    per: Annotated[Per, Query()] = Per.DAY,
) -> Response:
    """Taps by door and hour, day or week; small numbers hidden."""
    pages = pages_of(request)
    found = count(services(request), principal, Asked(per=per, since=None, until=None, door=None))
    outcomes = {
        kind.removeprefix("access_"): pages.gettext(words.EVENTS[EventKind(kind)])
        for kind in ("access_granted", "access_denied", "access_referred")
    }
    return pages.response(
        request,
        "statistics.html",
        principal,
        per=per.value,
        found=found,
        outcomes=outcomes,
        bars=_bars(found.counts),
        high=HIGH,
        records=record_lines(pages, found.records, since=found.since),
    )


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
