"""Sites, and transfers of people between them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field, StrictBool, StrictInt

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.cards import Carried, Confirmation
from hub.api.changes import IfMatch, create, note, portion, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import sites as store
from hub.store.errors import NotFound
from hub.transfers import NothingToTransfer, TransferState
from hub.versions import Parts

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["sites"])

MOST_PEOPLE = 2_000
DeskShown = Annotated[StrictInt, Field(ge=5, le=300)]
DeskIdle = Annotated[StrictInt, Field(ge=60, le=12 * 3600)]
TransferInPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class NewSite(Body):
    """A reception centre under this hub; ``time_zone``: the IANA name of the clock its schedules follow.

    ``blur_photos``: photographs at attended doors are blurred until somebody touches them.
    """

    id: fields.Site
    name: fields.Name
    time_zone: fields.TimeZone = "Europe/Amsterdam"
    blur_photos: StrictBool = False


class SiteChange(Body):
    """What may change; what is absent stays.

    ``desk_shown_s``: how long an identification desk shows a card. ``desk_idle_s``: without one, its operator is signed off.
    """

    name: fields.Name | None = None
    time_zone: fields.TimeZone | None = None
    blur_photos: StrictBool | None = None
    desk_shown_s: DeskShown | None = None
    desk_idle_s: DeskIdle | None = None


class Site(Answer):
    """One site. ``few_blank_cards``: below so many of a kind it is time to order; set with ``PUT /issuing/stock/few``."""

    id: fields.Site
    name: str
    time_zone: str
    blur_photos: bool
    desk_shown_s: int
    desk_idle_s: int
    few_blank_cards: int
    created_at: datetime


class Sites(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    sites: list[Site]
    next_after: str | None


class VoidCards(Body):
    """The reason is kept in the audit log. ``dry_run``: only say how many cards it would be."""

    reason: fields.ReasonText
    dry_run: StrictBool = False


class VoidedCards(Answer):
    """How many cards were revoked, and every door's word on the version of the site's revocations that carries it.

    Ask again with ``GET /api/v1/documents/{site_id}/revocations/{version}``. ``version`` null: nothing was done.
    """

    site_id: fields.Site
    cards: int
    version: int | None
    confirmations: list[Confirmation]
    confirmed: int
    doors: int


class NewTransfer(Body):
    """People who move to a site, and the access levels they hold there; all of them or nobody."""

    cardholder_ids: Annotated[list[fields.Cardholder], Field(min_length=1, max_length=MOST_PEOPLE)]
    to_site_id: fields.Site
    access_level_ids: Annotated[list[fields.Level], Field(max_length=100)]
    reason: fields.ReasonText


class Transfer(Answer):
    """One transfer, and every concerned door's word on its site's policy version; of sites that you see.

    ``confirmed`` of ``doors`` go by it.
    """

    id: str
    to_site_id: fields.Site
    people: int
    given_by: str
    at: datetime
    documents: list[Carried]
    confirmations: list[Confirmation]
    confirmed: int
    doors: int


@router.get("/sites")
def list_sites(
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
    after: fields.Site | None = None,
    limit: fields.Limit = 100,
) -> Sites:
    """The sites that you see, by id."""
    with services(request).database.read() as connection:
        found, next_after = portion(store.list_all(connection, principal.sites), after, limit)
    return Sites(sites=[Site.model_validate(each) for each in found], next_after=next_after)


@router.post("/sites", status_code=201)
def add_site(
    body: NewSite,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.SITES_MANAGE, everywhere=True)],
) -> Site:
    """Add a site; its controllers are registered with its id."""
    hub = services(request)
    new = store.Site(**body.model_dump(), created_at=hub.clock())
    made = create(
        hub,
        principal,
        response,
        subject=f"site:{body.id}",
        find=lambda connection: store.get(connection, body.id),
        add=lambda connection: store.add(connection, new),
        same=lambda found: replace(found, created_at=new.created_at) == new,
    )
    tagged(response, site_parts(made))
    return Site.model_validate(made)


@router.get("/sites/{site_id}")
def one_site(
    site_id: fields.Site,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Site:
    """One site."""
    with services(request).database.read() as connection:
        found = scope.site(connection, principal, site_id)
    tagged(response, site_parts(found))
    return Site.model_validate(found)


@router.patch("/sites/{site_id}")
def change_site(
    site_id: fields.Site,
    body: SiteChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.SITES_MANAGE, everywhere=True)],
    if_match: IfMatch = None,
) -> Site:
    """Change what a site is called, its clock, or how photographs are shown at its doors."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.site(connection, principal, site_id)
        unchanged(if_match, site_parts(found))
        name, time_zone = body.name or found.name, body.time_zone or found.time_zone
        blur = found.blur_photos if body.blur_photos is None else body.blur_photos
        if (name, time_zone, blur) != (found.name, found.time_zone, found.blur_photos):
            store.change(connection, site_id, name=name, time_zone=time_zone, blur_photos=blur)
            note(connection, hub, principal, action="site.change", subject=f"site:{site_id}")
        shown_s, idle_s = body.desk_shown_s or found.desk_shown_s, body.desk_idle_s or found.desk_idle_s
        if (shown_s, idle_s) != (found.desk_shown_s, found.desk_idle_s):
            store.set_desks(connection, site_id, shown_s=shown_s, idle_s=idle_s)
            note(connection, hub, principal, action="site.change", subject=f"site:{site_id}")
        changed = store.get(connection, site_id)
    hub.site_changed(site_id)
    tagged(response, site_parts(changed))
    return Site.model_validate(changed)


@router.post("/sites/{site_id}/void-cards")
def void_cards(
    site_id: fields.Site,
    body: VoidCards,
    request: Request,
    principal: Annotated[Principal, requires(Permission.SITES_MANAGE, everywhere=True)],
) -> VoidedCards:
    """Revoke for good every card of the people of a site that closes, in one act; done again, it revokes those made since."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.site(connection, principal, site_id)
    if body.dry_run:
        count = hub.revocation.usable_cards(site_id)
        return VoidedCards(site_id=site_id, cards=count, version=None, confirmations=[], confirmed=0, doors=0)
    done = hub.revocation.void_site(site_id, reason=body.reason, actor=principal.actor)
    return VoidedCards(
        site_id=site_id,
        cards=done.cards,
        version=done.version or None,
        confirmations=[Confirmation.model_validate(each) for each in done.confirmations],
        confirmed=sum(each.confirmed_at is not None for each in done.confirmations),
        doors=len(done.confirmations),
    )


@router.post("/transfers", status_code=201)
def transfer(
    body: NewTransfer,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Transfer:
    """Move people to another site, in one transaction with one bundle of documents for each site concerned."""
    hub = services(request)
    try:
        with hub.database.read() as connection:
            scope.site(connection, principal, body.to_site_id)
        state = hub.transfers.move(
            body.cardholder_ids,
            body.to_site_id,
            levels=body.access_level_ids,
            may_move_from=principal.sees,
            reason=body.reason,
            actor=principal.actor,
        )
    except (NotFound, NothingToTransfer) as error:
        raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
    hub.site_changed()
    return _transfer(state, principal)


@router.get("/transfers/{transfer_id}")
def one_transfer(
    transfer_id: TransferInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
) -> Transfer:
    """One transfer, and at which doors it has arrived."""
    state = services(request).transfers.state(transfer_id)
    if not any(principal.sees(each.site_id) for each in state.carried):
        raise NotFound("transfer is not there")
    return _transfer(state, principal)


def site_parts(site: store.Site) -> Parts:
    """What of a site can be changed."""
    return {name: getattr(site, name) for name in SiteChange.model_fields}


def _transfer(state: TransferState, principal: Principal) -> Transfer:
    seen = [each for each in state.confirmations if principal.sees(each.site_id)]
    return Transfer(
        id=state.transfer.id,
        to_site_id=state.transfer.to_site_id,
        people=state.transfer.people,
        given_by=state.transfer.given_by,
        at=state.transfer.at,
        documents=[Carried.model_validate(each) for each in state.carried if principal.sees(each.site_id)],
        confirmations=[Confirmation.model_validate(each) for each in seen],
        confirmed=sum(each.confirmed_at is not None for each in seen),
        doors=len(seen),
    )
