"""How long what is kept, legal holds, and forgetting a person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import fields, scope
from hub.api import retention as api
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.erasure import HeldBack
from hub.holds import HoldOver, SamePerson
from hub.operators import Principal
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import directory, doors, sites
from hub.store.errors import NotFound
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

KEPT_FOR = (30, 90, 180, 365)
"""Days that a hold can be asked for."""
_HOUR, _DAY = 3600, 86_400
_STATES = {
    api.HoldState.REQUESTED: (N_("Waits for a second person"), "warn"),
    api.HoldState.CONFIRMED: (N_("In force"), "good"),
    api.HoldState.OVER: (N_("Over"), ""),
}
_DONE = {
    "requested": N_("Asked for. A colleague has to agree within 48 hours."),
    "confirmed": N_("The hold is in force."),
    "lifted": N_("The hold is over; what it kept goes within minutes."),
}
_PROBLEM = N_("Not saved: give a beginning, a later end, and a reason of at least three letters.")

_Text = Annotated[str, Field(max_length=300)]


class HoldForm(Body):
    """What is asked for; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    site_id: _Text = ""
    cardholder_id: _Text = ""
    door_id: _Text = ""
    since: _Text = ""
    until: _Text = ""
    days: Annotated[int, Field(ge=1, le=365)] = KEPT_FOR[0]
    reason: _Text = ""


class ReasonForm(Body):
    """A reason; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    reason: _Text = ""


@router.get("/retention")
def retention_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_READ)],
    cardholder: fields.Cardholder | None = None,
) -> Response:
    """What is kept how long, whether that is done, and what is held; the form may be about somebody."""
    return _page(request, principal, {"cardholder_id": cardholder or ""})


@router.post("/retention/holds")
def request_hold(
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
    form: Annotated[HoldForm, Form()],
) -> Response:
    """Ask for a hold, or show the form again."""
    pages = pages_of(request)
    typed = form.model_dump(exclude={"csrf_token"})
    try:
        body = api.NewHold.model_validate(
            {
                "site_id": form.site_id or None,
                "cardholder_id": form.cardholder_id or None,
                "door_id": form.door_id or None,
                "since": pages.read_moment(form.since),
                "until": pages.read_moment(form.until),
                "ends_at": services(request).clock() + timedelta(days=form.days),
                "reason": form.reason,
            }
        )
        api.request_hold(body, request, principal)
    except (ValidationError, ValueError, MalformedData, Problem):
        return _page(request, principal, typed, problem=_PROBLEM)
    return RedirectResponse("/retention?done=requested", 303)


@router.post("/retention/holds/{hold_id}/confirm")
def confirm_hold(
    hold_id: api.HoldInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_CONFIRM)],
) -> Response:
    """Agree to a hold."""
    return _step(request, principal, "confirmed", lambda: api.confirm_hold(hold_id, request, principal))


@router.post("/retention/holds/{hold_id}/lift")
def lift_hold(
    hold_id: api.HoldInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
    form: Annotated[ReasonForm, Form()],
) -> Response:
    """End a hold."""

    def lift() -> None:
        api.lift_hold(hold_id, api.Lifting.model_validate({"reason": form.reason}), request, principal)

    return _step(request, principal, "lifted", lift)


def _step(request: Request, principal: Principal, done: str, take: Callable[[], object]) -> Response:
    """Take a step with a hold, or say on the page why it cannot be taken."""
    try:
        take()
    except ValidationError:
        problem = N_("Say in a few words why the hold ends.")
    except SamePerson:
        problem = N_("You asked for this hold yourself: a colleague has to agree.")
    except HoldOver:
        problem = N_("That hold is over. Ask for another one.")
    else:
        return RedirectResponse(f"/retention?done={done}", 303)
    return _page(request, principal, {}, problem=problem)


@router.get("/cardholders/{cardholder_id}/erase")
def erase_page(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
) -> Response:
    """What forgetting somebody means, and the form that does it."""
    return _erase_page(request, principal, cardholder_id)


@router.post("/cardholders/{cardholder_id}/erase")
def erase(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.RETENTION_HOLD)],
    form: Annotated[ReasonForm, Form()],
) -> Response:
    """Forget somebody."""
    try:
        body = api.Erasure.model_validate({"reason": form.reason})
        api.erase_cardholder(cardholder_id, body, request, principal)
    except ValidationError:
        return _erase_page(request, principal, cardholder_id, N_("Say in a few words why."))
    except HeldBack:
        return _erase_page(
            request,
            principal,
            cardholder_id,
            N_("A legal hold keeps what is known of this person. Lift it first."),
        )
    return RedirectResponse("/cardholders", 303)


def _erase_page(
    request: Request, principal: Principal, cardholder_id: CardholderId, problem: str = ""
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        person = scope.own_cardholder(connection, principal, cardholder_id)
    looked(hub, principal, f"cardholder:{person.id}", shown=1)
    return pages.response(
        request,
        "erase.html",
        principal,
        status_code=422 if problem else 200,
        cardholder_id=person.id,
        name=person.name,
        problem=pages.gettext(problem),
    )


def _page(request: Request, principal: Principal, typed: dict[str, Any], *, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    told = api.state(request, principal)
    found = api.list_holds(request, principal).holds
    names = principal.may(Permission.NAMES_READ)
    about = [each.cardholder_id for each in found if each.cardholder_id]
    if typed.get("cardholder_id"):
        with hub.database.read() as connection:
            try:
                about.append(scope.cardholder(connection, principal, typed["cardholder_id"]).id)
            except NotFound:
                typed = typed | {"cardholder_id": ""}
    with hub.database.read() as connection:
        people = directory.names_of(connection, about) if names else {}
        named_doors = {each.door.id: each.name for each in doors.list_all(connection, sites=principal.sites)}
        named_sites = sites.list_all(connection, principal.sites)
    if people:
        looked(hub, principal, "holds", shown=len(people))
    return pages.response(
        request,
        "retention.html",
        principal,
        status_code=422 if problem else 200,
        precise_h=told.precise_s // _HOUR,
        coarse_days=told.coarse_s // _DAY,
        doors_days=told.doors_s // _DAY,
        leavers_days=told.leavers_s // _DAY,
        registration_days=told.registration_s // _DAY,
        overdue_since=told.overdue_since,
        late=told.late,
        ran_at=min((each.ended_at for each in told.runs), default=None),
        holds=[
            each.model_dump()
            | {
                "state_text": pages.gettext(_STATES[each.state][0]),
                "tone": _STATES[each.state][1],
                "person": people.get(each.cardholder_id) if each.cardholder_id else None,
                "door": named_doors.get(each.door_id, each.door_id) if each.door_id else None,
                "is_mine": each.requested_by == principal.actor,
            }
            for each in found
        ],
        doors=list(named_doors.items()),
        sites=[(each.id, each.name) for each in named_sites],
        days=KEPT_FOR,
        about=people.get(typed.get("cardholder_id", ""), ""),
        typed=dict.fromkeys(HoldForm.model_fields, "") | typed,
        may_ask=principal.may(Permission.RETENTION_HOLD),
        may_confirm=principal.may(Permission.RETENTION_CONFIRM),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )
