"""How long what is kept, legal holds, and forgetting a person."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from hub import erasure, holds
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import holds as store
from hub.store.errors import NotFound

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["retention"])

HoldInPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


@unique
class HoldState(StrEnum):
    """``requested``: kept for 48 hours, until somebody else confirms; ``over``: it keeps nothing."""

    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    OVER = "over"


class NewHold(Body):
    """What occurred from ``since`` to ``until``; of one person or of all, at one door or at any of the site."""

    site_id: fields.Site | None = None
    cardholder_id: fields.Cardholder | None = None
    door_id: fields.Door | None = None
    since: fields.Instant
    until: fields.Instant
    ends_at: fields.Instant
    reason: fields.ReasonText


class Lifting(Body):
    """Why a hold ends; kept in the audit log."""

    reason: fields.ReasonText


class Hold(Answer):
    """One legal hold; ``requested_by`` and ``confirmed_by`` as in the audit log.

    ``keeps_until``: when it is over as things stand; ``ends_soon``: that is within a week.
    """

    id: str
    site_id: fields.Site
    state: HoldState
    cardholder_id: fields.Cardholder | None
    door_id: fields.Door | None
    since: datetime
    until: datetime
    reason: str
    requested_by: str
    requested_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None
    ends_at: datetime
    lifted_at: datetime | None
    keeps_until: datetime
    ends_soon: bool


class Holds(Answer):
    """Every hold of the sites that you see, the newest first, those that are over included."""

    holds: list[Hold]


class Run(Answer):
    """When the job last had nothing left to do for a purpose, and how much it let go since the first run."""

    purpose: str
    ended_at: datetime
    removed: int


class Retention(Answer):
    """The periods, in seconds, and what the job did.

    ``overdue_since``: when the oldest event came that should have gone more than an hour ago; null: nothing is overdue.
    """

    precise_s: int
    coarse_s: int
    doors_s: int
    leavers_s: int
    registration_s: int
    overdue_since: datetime | None
    late: bool
    runs: list[Run]


class Erasure(Body):
    """Why somebody is forgotten; kept in the audit log, so it names nobody."""

    reason: fields.ReasonText


@router.get("/retention")
def state(request: Request, _: Annotated[Principal, requires(Permission.RETENTION_READ)]) -> Retention:
    """How long what is kept, and whether anything is overdue."""
    hub = services(request)
    found = hub.retention.state()
    periods = found.periods
    return Retention(
        precise_s=int(periods.precise.total_seconds()),
        coarse_s=int(periods.coarse.total_seconds()),
        doors_s=int(periods.doors.total_seconds()),
        leavers_s=int(periods.leavers.total_seconds()),
        registration_s=int(periods.registration.total_seconds()),
        overdue_since=found.overdue_since,
        late=found.is_late(hub.clock()),
        runs=[
            Run(purpose=purpose, ended_at=ended_at, removed=removed)
            for purpose, (ended_at, removed) in found.runs.items()
        ],
    )


@router.get("/holds")
def list_holds(
    request: Request, principal: Annotated[Principal, requires(Permission.RETENTION_READ)]
) -> Holds:
    """Legal holds, the newest first."""
    hub = services(request)
    with hub.database.read() as connection:
        found = store.list_all(connection, principal.sites)
    return Holds(holds=[answer(each, hub.clock()) for each in found])


@router.post("/holds", status_code=201)
def request_hold(
    body: NewHold,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
) -> Hold:
    """Ask that something is kept beyond its time; another person has to confirm within 48 hours."""
    hub = services(request)
    try:
        with hub.database.write() as connection:
            hold = holds.request(
                connection,
                scope.site_for(connection, principal, body.site_id),
                cardholder_id=body.cardholder_id,
                door_id=body.door_id,
                since=body.since,
                until=body.until,
                ends_at=body.ends_at,
                reason=body.reason,
                actor=principal.actor,
                now=hub.clock(),
            )
    except NotFound as error:
        raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
    return answer(hold, hub.clock())


@router.post("/holds/{hold_id}/confirm")
def confirm_hold(
    hold_id: HoldInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_CONFIRM)],
) -> Hold:
    """Agree to a hold that somebody else asked for."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.hold(connection, principal, hold_id)
        hold = holds.confirm(connection, hold_id, actor=principal.actor, now=hub.clock())
    return answer(hold, hub.clock())


@router.post("/holds/{hold_id}/lift")
def lift_hold(
    hold_id: HoldInPath,
    body: Lifting,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
) -> Hold:
    """End a hold: what is over goes within minutes."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.hold(connection, principal, hold_id)
        hold = holds.lift(connection, hold_id, reason=body.reason, actor=principal.actor, now=hub.clock())
    return answer(hold, hub.clock())


@router.post("/cardholders/{cardholder_id}/erase", status_code=204)
def erase_cardholder(
    cardholder_id: fields.Cardholder,
    body: Erasure,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
) -> Response:
    """Forget a person and revoke their cards, for good; refused (``in_use``) while a legal hold is about them."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        erasure.erase(connection, cardholder_id, reason=body.reason, actor=principal.actor, now=hub.clock())
    hub.site_changed()
    return Response(status_code=204)


def answer(hold: store.Hold, now: datetime) -> Hold:
    """A hold as it is shown."""
    shown = {name: getattr(hold, name) for name in Hold.model_fields if name not in ("state", "ends_soon")}
    state = HoldState.CONFIRMED if hold.confirmed_at else HoldState.REQUESTED
    state = state if hold.keeps(now) else HoldState.OVER
    return Hold(**shown, state=state, ends_soon=hold.ends_soon(now))
