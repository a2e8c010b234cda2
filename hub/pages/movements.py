"""One person: their cards, where a card of theirs was last on record, and their taps; only to who says why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.proven import records
from hub.api.reasons import Because, requires_reason
from hub.api.services import services
from hub.api.taps import answers
from hub.operators import Principal
from hub.pages.muster import record_lines
from hub.pages.rendering import pages_of
from hub.pages.views import tap_context
from hub.roles import Permission
from hub.store import cards, events
from hub.store.events import ABOUT_PEOPLE

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

TAPS_SHOWN = 200


@router.get("/cardholders/{cardholder_id}/movements")
def movements_page(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.MOVEMENTS_READ)],
    because: Annotated[Because, requires_reason()],
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> Response:
    """Where a person's cards were last on record, and their taps, page by page; for a reason, which is audited."""
    hub, pages = services(request), pages_of(request)
    now = hub.clock()
    since = now - hub.retention.periods.precise
    with because.looking_at(principal, f"cardholder:{cardholder_id}") as look:
        person = scope.cardholder(look.connection, principal, cardholder_id)
        held = cards.list_all(look.connection, cardholder_id=cardholder_id)
        newest = events.listing(
            look.connection,
            cardholder_id=cardholder_id,
            kinds=ABOUT_PEOPLE,
            since=since,
            sites=principal.sites,
            before=before,
            limit=TAPS_SHOWN + 1,
            newest_first=True,
        )
        taps = answers(look.connection, newest[:TAPS_SHOWN])
        look.shown = len(taps)
        proven = records(look.connection, now, since=since, until=now, sites=principal.sites)
    last = max(taps, key=lambda tap: tap.occurred_at, default=None)
    told = [record.known_until for record in proven if record.known_until]
    return pages.response(
        request,
        "movements.html",
        principal,
        headers={"Cache-Control": "no-store"},
        person=person.name,
        held=[{"credential_id": str(each.credential_id), "status": each.status.value} for each in held],
        last=tap_context(pages, last) if last else None,
        clock_trusted=last.clock_trusted if last else True,
        known_as_of=min(told) if len(told) == len(proven) and told else None,
        taps=[tap_context(pages, each) for each in taps],
        is_first=before is None,
        older=taps[-1].id if len(newest) > TAPS_SHOWN else None,
        since=since,
        records=record_lines(pages, proven, since=since),
    )
