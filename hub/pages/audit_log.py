"""The audit log as a page: who did what, to whom, why, and what they were shown."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hub import audit
from hub.api.access import DeclaredRoute, requires
from hub.api.services import services
from hub.operators import Principal
from hub.pages.rendering import pages_of
from hub.roles import Permission
from hub.store import audit as rows
from hub.store import operators
from hub.store.audit import Wanted
from pacs.schedule import zone

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/audit")

PER_PAGE = 100
Text = Annotated[str, Query(max_length=100)]
Day = Annotated[str, Query(max_length=10)]


@router.get("")
def audit_page(  # noqa: PLR0917 - called by name
    request: Request,
    principal: Annotated[Principal, requires(Permission.AUDIT_READ, everywhere=True)],
    actor: Text = "",
    action: Text = "",
    subject: Text = "",
    since: Day = "",
    until: Day = "",
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    verify: bool = False,  # noqa: FBT001, FBT002 - a query parameter
) -> Response:
    """The log, the newest first, with filters; ``until`` is the last day that is shown."""
    hub, pages = services(request), pages_of(request)
    first, last = _midnight(since, hub.home.time_zone), _midnight(until, hub.home.time_zone, days=1)
    with hub.database.read() as connection:
        everybody = {f"operator:{each.id}": each.name for each in operators.list_operators(connection)}
        named = {name: identity for identity, name in everybody.items()}
        wanted = Wanted(
            actor=named.get(actor, actor) or None,
            action=action or None,
            subject=named.get(subject, subject) or None,
            since=first,
            until=last,
        )
        found = rows.page(connection, before=before, limit=PER_PAGE + 1, wanted=wanted)
        state = None
        if verify:
            try:
                state = {"head": str(audit.verify(connection)), "problem": ""}
            except audit.AuditBroken as broken:
                state = {"head": "", "problem": str(broken)}
    entries = found[:PER_PAGE]
    return pages.response(
        request,
        "audit_log.html",
        principal,
        entries=entries,
        names=everybody,
        chosen={"actor": actor, "action": action, "subject": subject, "since": since, "until": until},
        next_before=entries[-1].id if len(found) > PER_PAGE else None,
        state=state,
    )


def _midnight(day: str, time_zone: str, *, days: int = 0) -> datetime | None:
    """The beginning of a day at the site, or of one some ``days`` later; None for what is no date."""
    try:
        return datetime.combine(date.fromisoformat(day) + timedelta(days=days), time(), zone(time_zone))
    except (ValueError, OverflowError):
        return None
