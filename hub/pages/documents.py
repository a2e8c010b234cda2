"""The signed documents that doors decide by: the versions in force, and which door holds which, how old it is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from hub import ages
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.services import Services, services
from hub.operators import Principal
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import controllers, documents, doors, sites
from hub.store.documents import Document
from hub.store.sites import Site
from pacs.identifiers import SiteId
from pacs.messages import DocumentKind
from pacs.rules import Door, WhenTooOld

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/documents")

_NAMES = {DocumentKind.POLICY: N_("Policy"), DocumentKind.REVOCATIONS: N_("Blocked cards")}
_CAUSES = {
    "site changed": N_("because something was changed"),
    "refresh": N_("so that it does not grow old"),
    "a door holds another version": N_("because a door said that it holds another version"),
    "transfer": N_("because people were transferred"),
    "card.block": N_("because a card was blocked"),
    "card.reinstate": N_("because a card was reinstated"),
    "site.void_cards": N_("because every card of the site was revoked"),
    "card.replace": N_("because a card was replaced"),
    "card.expire": N_("because a card's validity was ended"),
}


@router.get("")
def documents_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
    site: Annotated[str, Query(max_length=48)] = "",
) -> Response:
    """The documents of one site, door by door; of several sites also at how many doors each has arrived."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        seen = sites.list_all(connection, principal.sites)
        chosen = (
            scope.site(connection, principal, SiteId(site)) if site else seen[0] if len(seen) == 1 else None
        )
        spread = _spread(hub, pages, connection, chosen) if chosen else None
        summary = _summary(connection, seen) if len(seen) > 1 else []
    return pages.response(
        request, "documents.html", principal, summary=summary, spread=spread, settled=hub.is_settled()
    )


@router.get("/{site_id}/doors")
def doors_part(
    site_id: fields.Site,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Response:
    """The part of the page that says which door of a site holds what."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        spread = _spread(hub, pages, connection, scope.site(connection, principal, site_id))
    return HTMLResponse(pages.fragment("documents_doors.html", spread=spread))


def _summary(connection: Connection, seen: list[Site]) -> list[dict[str, Any]]:
    """For each site: how many of its doors go by both versions in force."""
    newest = documents.newest_versions(connection)
    confirmed = documents.confirmed_versions(connection)
    of_site: dict[SiteId, list[bool]] = {each.id: [] for each in seen}
    for named in doors.list_all(connection, sites=list(of_site)):
        of_site[named.site_id].append(
            all(
                confirmed.get((named.door.controller_id, kind), 0) >= newest.get((named.site_id, kind), 1)
                for kind in DocumentKind
            )
        )
    found = [
        {"id": each.id, "name": each.name, "doors": len(current), "current": sum(current)}
        for each in seen
        for current in [of_site[each.id]]
    ]
    return sorted(found, key=lambda line: (line["current"] == line["doors"], line["name"]))


def _spread(hub: Services, pages: Pages, connection: Connection, site: Site) -> dict[str, Any]:
    """Everything about the documents of one site."""
    now = hub.clock()
    here = doors.list_all(connection, sites=(site.id,))
    asked = {named.door.controller_id for named in here}
    states = controllers.states(connection, now, asked)
    confirmed = {
        (controller, kind): (version, at)
        for controller, kind, version, at in documents.confirmations_of(connection, asked)
    }
    made = ages.made(connection, site.id)
    stops = ages.stops(connection, site.id)
    newest = {kind: documents.newest(connection, site.id, kind) for kind in DocumentKind}
    shown: list[dict[str, Any]] = [
        {
            "name": named.name,
            "controller_id": named.door.controller_id,
            "online": states[named.door.controller_id].online,
            "since": states[named.door.controller_id].since,
            "last_seen": states[named.door.controller_id].last_seen,
            "bound": timedelta(seconds=named.door.max_policy_age_s),
            "bound_text": _bound(pages, named.door),
            "stops_at": stops[named.door.id],
            "stopped": (at := stops[named.door.id]) is not None and at <= now,
            "held": [
                _held(named.door, confirmed.get((named.door.controller_id, kind)), made[kind], document, now)
                for kind, document in newest.items()
            ],
        }
        for named in here
    ]
    return {
        "site_id": site.id,
        "site": site.name,
        "doors": shown,
        "documents": [
            {
                "kind": pages.gettext(_NAMES[kind]),
                "version": document.version if document else 0,
                "created_at": document.created_at if document else None,
                "expires_at": document.expires_at if document else None,
                "cause": pages.gettext(_CAUSES.get(document.cause, document.cause)) if document else "",
                "everywhere": arrived == len(shown) > 0,
                "arrived_text": pages.gettext("%d of %d doors confirmed") % (arrived, len(shown)),
            }
            for number, (kind, document) in enumerate(newest.items())
            for arrived in [sum(not door["held"][number]["lacking"] for door in shown)]
        ],
    }


def _held(
    door: Door,
    confirmed: tuple[int, datetime] | None,
    made: list[tuple[int, datetime]],
    newest: Document | None,
    now: datetime,
) -> dict[str, Any]:
    """What a door goes by of one kind: the version it confirmed, since when, and how old that is."""
    version, at = confirmed or (0, None)
    made_at = ages.held_since(made, version)
    return {
        "version": version,
        "newest": newest.version if newest else 0,
        "confirmed_at": at,
        "made_at": made_at,
        "lacking": newest is None or version < newest.version,
        "too_old": made_at is not None and now - made_at > timedelta(seconds=door.max_policy_age_s),
    }


def _bound(pages: Pages, door: Door) -> str:
    """What the door does with documents that are older than it may go by."""
    hours = f"{door.max_policy_age_s / 3600:.3g}"
    if door.when_too_old is WhenTooOld.DENY:
        return pages.gettext("refuses every card after %s h") % hours
    return pages.gettext("goes on after %s h, until they expire") % hours
