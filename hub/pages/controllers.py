"""Controllers: how each is, what it holds, whether its record is whole; taking one out of use, moving a door."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy import Connection

from hub.api import controllers as api
from hub.api import doors as doors_api
from hub.api import enrolment as enrolment_api
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.door_status import DoorStatus, statuses
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import Pages, pages_of
from hub.pages.views import door_context
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import controllers as store
from hub.store import device_certificates, documents, sites
from hub.store.controllers import Controller, ControllerState
from hub.store.errors import InUse
from pacs.identifiers import ControllerId, SiteId
from pacs.messages import DocumentKind

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/controllers")

PER_PAGE = 100
After = Annotated[int, Query(ge=0, le=1_000_000)]
_REASON: TypeAdapter[str] = TypeAdapter(fields.ReasonText)
_DONE = {
    "moved": N_(
        "Moved. The door's record claims nothing until its new controller goes by a policy made since."
    ),
    "revoked": N_("Revoked. Its device is no longer admitted; the place stays for another."),
    "withdrawn": N_("Withdrawn. It is no longer admitted; its doors and their record stay."),
}
_UNCONFIRMED = N_("Confirm it, and say in a few words why.")


class ChangeForm(Body):
    """A reason and a confirmation; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    reason: Annotated[str, Field(max_length=1000)] = ""
    confirmed: Annotated[str, Field(max_length=10)] = ""


class MoveForm(ChangeForm):
    """Which door goes to which controller."""

    door_id: fields.Door
    to: Annotated[str, Field(max_length=48)] = ""


@router.get("")
def controllers_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
    site: Annotated[str, Query(max_length=48)] = "",
    show: Literal["", "trouble", "offline"] = "",
    after: After = 0,
) -> Response:
    """Every controller, those with something amiss first; of all sites that one sees, or of one."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        seen = principal.sites
        if site:
            seen = frozenset({scope.site(connection, principal, SiteId(site)).id})
        named = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
        every = store.list_all(connection, seen, even_retired=True)
        now = hub.clock()
        states = store.states(connection, now, [each.id for each in every])
        doors = _by_controller(statuses(connection, now, sites=seen))
    rows = [
        _row(pages, each, states[each.id], doors.get(each.id, []))
        for each in every
        if each.retired_at is None or each.id in doors
    ]
    chosen = [
        row
        for row in rows
        if not show or (show == "offline" and not row["online"]) or (show == "trouble" and row["amiss"])
    ]
    chosen.sort(key=lambda row: (not row["amiss"], row["id"]))
    return pages.response(
        request,
        "controllers.html",
        principal,
        controllers=chosen[after : after + PER_PAGE],
        every=len(rows),
        offline=sum(not row["online"] for row in rows),
        sites=list(named.items()),
        site_names=named,
        site=site,
        show=show,
        next_after=after + PER_PAGE if len(chosen) > after + PER_PAGE else None,
    )


@router.get("/{controller_id}")
def controller_page(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
) -> Response:
    """One controller: its connection, clock, documents, readers and doors, each with its age."""
    return _page(request, principal, controller_id)


@router.post("/{controller_id}/withdraw")
def withdraw(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
    form: Annotated[ChangeForm, Form()],
) -> Response:
    """Take a controller out of use for good."""
    if (reason := _reason(form)) is None:
        return _page(request, principal, controller_id, _UNCONFIRMED)
    api.withdraw(controller_id, request, principal, reason)
    return RedirectResponse(f"/controllers/{controller_id}?done=withdrawn", 303)


@router.post("/{controller_id}/revoke")
def revoke(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
    form: Annotated[ChangeForm, Form()],
) -> Response:
    """Refuse the device that has this place, at once."""
    if (reason := _reason(form)) is None:
        return _page(request, principal, controller_id, _UNCONFIRMED)
    enrolment_api.revoke(controller_id, enrolment_api.Revocation(reason=reason), request, principal)
    return RedirectResponse(f"/controllers/{controller_id}?done=revoked", 303)


@router.post("/{controller_id}/move")
def move(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    form: Annotated[MoveForm, Form()],
) -> Response:
    """Give one of its doors to another controller."""
    if (reason := _reason(form)) is None:
        return _page(request, principal, controller_id, _UNCONFIRMED)
    try:
        body = doors_api.Move.model_validate({"controller_id": form.to, "reason": reason})
        doors_api.move_door(form.door_id, body, request, principal)
    except (ValidationError, Problem):
        return _page(
            request, principal, controller_id, N_("Choose a controller of the same site that is in use.")
        )
    except InUse:
        problem = N_("This door is interlocked with another one. End that first, in the rules of both doors.")
        return _page(request, principal, controller_id, problem)
    return RedirectResponse(f"/controllers/{form.to}?done=moved", 303)


def _reason(form: ChangeForm) -> str | None:
    """The reason of a form that was confirmed."""
    try:
        text = _REASON.validate_python(form.reason)
    except ValidationError:
        return None
    return text if form.confirmed == "yes" else None


def _by_controller(doors: list[DoorStatus]) -> dict[ControllerId, list[DoorStatus]]:
    found: dict[ControllerId, list[DoorStatus]] = {}
    for door in doors:
        found.setdefault(door.controller_id, []).append(door)
    return found


def _row(
    pages: Pages,
    controller: Controller,
    state: ControllerState,
    doors: list[DoorStatus],
) -> dict[str, Any]:
    """A line of the list."""
    _ = pages.gettext
    alarms = dict.fromkeys(kind for door in doors for kind in door.alarms)
    troubles = [_(words.ALARMS[kind]) for kind in alarms]
    if controller.retired_at is not None:
        troubles.insert(0, _("Withdrawn: move its doors to another controller"))
    elif controller.revoked_at is not None:
        troubles.insert(0, _("Revoked: its device is not admitted"))
    elif controller.event_public_key is None:
        troubles.insert(0, _("No device has taken this place yet"))
    if not doors and controller.retired_at is None:
        troubles.append(_("No door yet"))
    return {
        "id": controller.id,
        "site_id": controller.site_id,
        "online": state.online,
        "since": state.since,
        "last_seen": state.last_seen,
        "retired_at": controller.retired_at,
        "clock": _clock(pages, state),
        "doors": [door.name for door in doors],
        "incomplete": [door.name for door in doors if not door.complete],
        "policy": _version(pages, doors, "policy", state.policy_version),
        "revocations": _version(pages, doors, "revocations", state.revocations_version),
        "troubles": troubles,
        "amiss": bool(troubles) or not state.online,
    }


def _version(pages: Pages, doors: list[DoorStatus], name: str, said: int | None) -> str:
    """What it has confirmed; without a door, what it says."""
    if doors:
        held, newest = (getattr(doors[0], f"{name}_{part}") for part in ("version", "newest"))
        return pages.version_text(held, newest)
    return pages.gettext("says version %d") % said if said else pages.gettext("none")


def _clock(pages: Pages, state: ControllerState) -> dict[str, str]:
    """What is known of its clock."""
    _ = pages.gettext
    if state.clock_trusted is None:
        return {"tone": "", "text": _("not said yet"), "why": ""}
    if not state.online:
        return {"tone": "", "text": _("not known now"), "why": ""}
    if state.clock_trusted:
        return {"tone": "good", "text": _("trusted"), "why": ""}
    why = words.CLOCK_DISTRUSTS.get((state.health or {}).get("clock_distrust") or "", "")
    return {"tone": "warn", "text": _("not trusted"), "why": _(why) if why else ""}


def described(pages: Pages, connection: Connection, controller: Controller, now: datetime) -> dict[str, Any]:
    """What both pages of a controller say of it: itself, what its doors confirmed, its last heartbeat, its doors."""
    state = store.state(connection, controller.id, now)
    doors = statuses(connection, now, controller_ids=[controller.id])
    certificate = device_certificates.in_force(connection, [controller.id]).get(controller.id)
    confirmed = documents.confirmations_of(connection, [controller.id])
    return {
        "controller": _row(pages, controller, state, doors)
        | {
            "site": sites.get(connection, controller.site_id).name,
            "software": state.software or controller.software,
            "registered_at": controller.registered_at,
            "certificate_serial": certificate.serial if certificate else None,
            "certificate_ends": certificate.expires_at if certificate else None,
            "revoked_at": controller.revoked_at,
            "key": controller.event_public_key.hex() if controller.event_public_key else "",
            "hello_at": state.hello_at,
            "complete_until": state.complete_until,
            "unread": state.unread_count,
        },
        "confirmed": dict.fromkeys(DocumentKind)
        | {kind: at for _controller, kind, _version, at in confirmed},
        "health": _health(pages, state),
        "doors": [door_context(pages, each) for each in doors],
    }


def _page(request: Request, principal: Principal, controller_id: ControllerId, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        controller = scope.controller(connection, principal, controller_id)
        shown = described(pages, connection, controller, hub.clock())
        others = [
            each.id for each in store.list_all(connection, [controller.site_id]) if each.id != controller_id
        ]
    return pages.response(
        request,
        "controller.html",
        principal,
        status_code=422 if problem else 200,
        others=others,
        may_command=principal.may(Permission.DOORS_COMMAND),
        may_withdraw=principal.may(Permission.CONTROLLERS_MANAGE) and controller.retired_at is None,
        may_move=principal.may(Permission.DOORS_MANAGE),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
        **shown,
    )


def _health(pages: Pages, state: ControllerState) -> dict[str, Any] | None:
    """Its last heartbeat, with ages as moments; None: it has sent none."""
    said = state.health
    if not said or state.last_seen is None:
        return None

    def ago(seconds: int | None) -> Any:
        return None if seconds is None else state.last_seen - timedelta(seconds=seconds)  # type: ignore[operator]

    refused = said["refused_messages"] | said["refused_commands"]
    return {
        "started_at": ago(said["uptime_s"]),
        "policy_made_at": ago(said["policy_age_s"]),
        "revocations_made_at": ago(said["revocations_age_s"]),
        "waiting_events": said["waiting_events"],
        "waiting_since": ago(said["oldest_waiting_s"]),
        "celsius": None
        if said["temperature_millicelsius"] is None
        else round(said["temperature_millicelsius"] / 1000),
        "free_mib": None if said["free_bytes"] is None else said["free_bytes"] // 2**20,
        "connections": said["connections"],
        "refused": ", ".join(f"{code} × {count}" for code, count in sorted(refused.items())),
        "readers": [
            each
            | {
                "state_text": pages.gettext(words.READER_STATES.get(each["state"], each["state"])),
                "tone": "good" if each["state"] == "ok" else "bad" if each["state"] == "lost" else "warn",
                "last_card_at": ago(each["last_card_s"]),
            }
            for each in said["readers"]
        ],
    }
