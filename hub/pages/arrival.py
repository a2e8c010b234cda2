"""Where the rules of a site have arrived: the part of a page that says so door by door."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.cards import Confirmation
from hub.api.services import services
from hub.operators import Principal
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.revocation import DoorConfirmation, confirmations_of
from hub.roles import Permission
from hub.store import documents, doors
from pacs.identifiers import DoorId, SiteId
from pacs.messages import DocumentKind

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)


@router.get("/rules/{site_id}/arrival")
def arrival_part(
    site_id: fields.Site,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
    door: fields.Door | None = None,
) -> Response:
    """The part of a page that says at which doors of a site its rules have arrived, or whether at one."""
    with services(request).database.read() as connection:
        scope.site(connection, principal, site_id)
    shown = arrival_context(request, site_id, door)
    return HTMLResponse(pages_of(request).fragment("rules_arrival.html", arrival=shown))


def arrival_context(request: Request, site_id: SiteId, door_id: DoorId | None = None) -> dict[str, Any]:
    """Where the rules of a site have arrived, or whether at one of its doors: what the fragment shows."""
    hub, pages = services(request), pages_of(request)
    _ = pages.gettext
    settled = hub.is_settled()
    with hub.database.read() as connection:
        version = documents.said_since(connection, site_id, DocumentKind.POLICY)
        every = confirmations_of(connection, site_id, DocumentKind.POLICY, version, hub.clock())
        names = doors.names(connection, [each.door_id for each in every])
    asked = [each for each in every if door_id in (None, each.door_id)]
    lacking = [each for each in asked if not version or each.confirmed_at is None]
    if not settled:
        headline = _("A change is being made ready for the doors; reload this page in a moment.")
    elif not asked:
        headline = _("There are no doors yet that could go by these rules.")
    elif not lacking:
        headline = _(
            N_("The door goes by these rules.") if door_id else N_("Every door goes by these rules.")
        )
    elif door_id:
        headline = _("The door is not known to go by these rules yet.")
    else:
        headline = _("%d of %d doors go by these rules.") % (len(asked) - len(lacking), len(asked))
    return {
        "site_id": site_id,
        "address": f"/rules/{site_id}/arrival" + (f"?door={door_id}" if door_id else ""),
        "tone": "good" if settled and not lacking else "warn",
        "headline": headline,
        "lines": [lacking_line(pages, names[each.door_id], each) for each in lacking] if settled else [],
    }


def lacking_line(pages: Pages, name: str, door: DoorConfirmation | Confirmation) -> Markup:
    """Why a door does not go by a version yet, as far as it is known."""
    _ = pages.gettext
    named = Markup("<bdi>{}</bdi>").format(name)
    if door.online:
        return Markup("{} {}").format(named, _("has not confirmed yet; it is being sent again."))
    if door.last_seen is None:
        return Markup("{} {}").format(named, _("was never connected."))
    return Markup("{} {} {}. {}").format(
        named,
        _("is offline since"),
        pages.moment(door.last_seen),
        _("It goes by earlier rules until it is connected again."),
    )
