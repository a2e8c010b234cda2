"""Controllers: registering one makes the broker admit it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, ValidationInfo, field_validator
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import create, note, portion
from hub.api.fields import Answer, Body
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import controllers as store
from hub.store import device_certificates

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/controllers", tags=["controllers"])


class NewController(Body):
    """A place for a device, which takes it by a one-time code.

    Of one whose keys were made elsewhere, both are said: ``event_public_key``, Ed25519, 64 hex digits, and
    ``certificate_serial``, of its device certificate, hex. ``wiring``: what a device that takes the place is told of its
    doors' pins and readers.
    """

    id: fields.Controller
    event_public_key: Annotated[str, Field(pattern="^[0-9A-Fa-f]{64}$")] | None = None
    certificate_serial: Annotated[str, Field(pattern="^[0-9A-Fa-f]{1,64}$")] | None = Field(
        default=None, validate_default=True
    )
    software: Annotated[str, Field(max_length=64)] | None = None
    site_id: fields.Site | None = None
    wiring: fields.Wired | None = None

    @field_validator("certificate_serial")
    @classmethod
    def _comes_with_a_key(cls, serial: str | None, info: ValidationInfo) -> str | None:
        if "event_public_key" in info.data and (serial is None) != (info.data["event_public_key"] is None):
            raise ValueError("expected together with event_public_key, or neither")
        return serial


class Controller(Answer):
    """A registered controller; without a key no device has taken its place yet.

    ``certificate_serial`` is that of the certificate that it goes by, ``certificate_expires_at`` its end where that is known.
    ``revoked_at``: since when nothing of its device is believed.
    """

    id: fields.Controller
    site_id: fields.Site
    event_public_key: str | None
    certificate_serial: str | None
    certificate_expires_at: datetime | None
    software: str | None
    registered_at: datetime
    revoked_at: datetime | None
    wiring: dict[str, Any] | None


class DoorHealth(Answer):
    """A door as its controller sees it: the mode it is in, what gave it that mode, and what is wrong."""

    door_id: fields.Door
    mode: str
    cause: str
    alarms: list[str]


class ReaderHealth(Answer):
    """A reader, named ``door/side``; the counts are since its controller's start. null: not told of a private door."""

    reader: str
    state: str
    reads: int | None
    failed: int
    losses: int
    resets: int
    last_card_s: int | None


class Health(Answer):
    """What a controller said of itself at its last heartbeat; null: not known there."""

    uptime_s: int
    policy_age_s: int | None
    revocations_age_s: int | None
    clock_distrust: str | None
    waiting_events: int
    oldest_waiting_s: int | None
    temperature_millicelsius: int | None
    free_bytes: int | None
    connections: int
    batches: int
    refused_messages: dict[str, int]
    refused_commands: dict[str, int]
    doors: list[DoorHealth]
    readers: list[ReaderHealth]


class ControllerStatus(Answer):
    """What is known of a controller: its connection, and what it last said of itself; null: never said."""

    controller_id: fields.Controller
    online: bool
    since: datetime
    last_seen: datetime | None
    software: str | None
    hello_at: datetime | None
    complete_until: datetime | None
    policy_version: int | None
    revocations_version: int | None
    clock_trusted: bool | None
    unread_count: int | None
    broken_readers: list[str] | None
    health: Health | None


class Controllers(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    controllers: list[Controller]
    next_after: str | None


@router.post("", status_code=201)
def register(
    body: NewController,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> Controller:
    """Register a controller."""
    hub = services(request)
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
    new = store.Controller(
        id=body.id,
        site_id=site_id,
        event_public_key=None if body.event_public_key is None else bytes.fromhex(body.event_public_key),
        certificate_serial=None
        if body.certificate_serial is None
        else f"{int(body.certificate_serial, 16):x}",
        software=body.software,
        registered_at=hub.clock(),
        wiring=None if body.wiring is None else body.wiring.fields,
    )

    def same(found: store.Controller) -> bool:
        """A place is the same whoever has taken it."""
        keys = (found.event_public_key, found.certificate_serial)
        return (
            (found.site_id, found.retired_at) == (new.site_id, None)
            and (new.event_public_key is None or keys == (new.event_public_key, new.certificate_serial))
            and (new.wiring is None or found.wiring == new.wiring)
        )

    def add(connection: Connection) -> store.Controller:
        store.register(connection, new)
        return new

    controller = create(
        hub,
        principal,
        response,
        subject=f"controller:{body.id}",
        find=lambda connection: store.get(connection, body.id),
        add=add,
        same=same,
    )
    with hub.database.read() as connection:
        return _answers(connection, [controller])[0]


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
    after: fields.Controller | None = None,
    limit: fields.Limit = 100,
) -> Controllers:
    """Controllers in use, by id."""
    with services(request).database.read() as connection:
        found, next_after = portion(store.list_all(connection, principal.sites), after, limit)
        return Controllers(controllers=_answers(connection, found), next_after=next_after)


@router.get("/{controller_id}/status")
def status(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
) -> ControllerStatus:
    """How a controller is."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.controller(connection, principal, controller_id)
        return ControllerStatus.model_validate(store.state(connection, controller_id, hub.clock()))


@router.delete("/{controller_id}", status_code=204)
def withdraw(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
    reason: Annotated[fields.ReasonText | None, Query()] = None,
) -> Response:
    """Withdraw a controller for good: the broker ends its connection. Its doors and their record stay."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.controller(connection, principal, controller_id)
        if store.retire(connection, controller_id, hub.clock()):
            subject = f"controller:{controller_id}"
            note(
                connection,
                hub,
                principal,
                action="controller.withdraw",
                subject=subject,
                reason=reason or "",
            )
    hub.site_changed()
    return Response(status_code=204)


def _answers(connection: Connection, found: Sequence[store.Controller]) -> list[Controller]:
    certificates = device_certificates.in_force(connection, [each.id for each in found])
    return [
        Controller(
            id=each.id,
            site_id=each.site_id,
            event_public_key=each.event_public_key.hex() if each.event_public_key else None,
            certificate_serial=certificates[each.id].serial if each.id in certificates else None,
            certificate_expires_at=certificates[each.id].expires_at if each.id in certificates else None,
            software=each.software,
            registered_at=each.registered_at,
            revoked_at=each.revoked_at,
            wiring=each.wiring,
        )
        for each in found
    ]
