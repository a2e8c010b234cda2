"""Stored events, and for which times each door's record is whole."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.door_status import Completeness, completeness_of
from hub.api.fields import Answer
from hub.api.services import services
from hub.api.taps import EventAnswer, answers
from hub.operators import Principal
from hub.roles import Permission
from hub.store import events as store
from pacs.events import EventKind

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/events", tags=["events"])


class Events(Answer):
    """A portion of the list in order of arrival; go on with ``after=next_after`` until it is null.

    ``completeness``: an event that is not listed may still have happened wherever a door's record is not
    whole.
    """

    events: list[EventAnswer]
    next_after: int | None
    completeness: list[Completeness]


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    door: fields.Door | None = None,
    controller: fields.Controller | None = None,
    kind: Annotated[list[EventKind], Query(max_length=20)] = [],  # noqa: B006 - copied by the framework
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: fields.Limit = 100,
) -> Events:
    """Events behind ``after``; of one door, controller or kind, or all. Names for those who may see them."""
    hub = services(request)
    with hub.database.read() as connection:
        found = store.listing(
            connection,
            door_id=door,
            controller_id=controller,
            kinds=kind,
            after=after,
            limit=limit + 1,
            sites=principal.sites,
        )
        listed_events = answers(connection, found[:limit])
        records = completeness_of(connection, hub.clock(), door, sites=principal.sites)
    if not principal.may(Permission.NAMES_READ):
        listed_events = [each.without_names() for each in listed_events]
    looked(hub, principal, "events", shown=sum(each.person is not None for each in listed_events))
    more = found[limit - 1].id if len(found) > limit else None
    return Events(events=listed_events, next_after=more, completeness=records)
