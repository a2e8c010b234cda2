"""Enrolment: codes for a controller's place, and the device that comes with one.

``/.well-known/est/cacerts`` is that of RFC 7030. A device needs more than a certificate, so what gives it one is a route of
our own (docs/enrolment.md).
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Body as RequestBody
from pydantic import Field

from hub import enrolment
from hub.api import fields, scope
from hub.api.access import PUBLIC, DeclaredRoute, requires
from hub.api.changes import note
from hub.api.fields import Answer, Body, OneTimeSecret
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.enrolment import CodeRefused, NotYet, Refusal
from hub.operators import Principal
from hub.roles import Permission
from hub.store import controllers, enrolment_codes
from hub.store.enrolment_codes import Purpose
from pacs.enrolment import SECRET_BYTES
from pacs.messages import DocumentKind

router = APIRouter(route_class=DeclaredRoute, tags=["enrolment"])

_PROBLEMS = {
    Refusal.UNKNOWN: Code.CODE_UNKNOWN,
    Refusal.EXPIRED: Code.CODE_EXPIRED,
    Refusal.WITHDRAWN: Code.CODE_WITHDRAWN,
    Refusal.USED: Code.CODE_USED,
    Refusal.DOORS_CHANGED: Code.CODE_DOORS_CHANGED,
    Refusal.OTHER_DEVICE: Code.CODE_OTHER_DEVICE,
    Refusal.OTHER_PLACE: Code.CODE_OTHER_PLACE,
}


class NewCode(Body):
    """``purpose``: the place's first device, the same one ``again``, or another (``swap``); ``days``: how long it may be used."""

    purpose: Purpose = Purpose.FIRST
    days: Annotated[int, Field(ge=1, le=enrolment.LONGEST_CODE_LIFETIME.days)] = enrolment.CODE_LIFETIME.days


class Revocation(Body):
    """Why."""

    reason: fields.ReasonText


class MadeCode(OneTimeSecret):
    """A code, shown once: the hub's address, and behind # what lets one device take the place.

    ``root_fingerprint``: the first 16 bytes of the SHA-256 of the root certificate, which the code holds.
    """

    id: str
    controller_id: fields.Controller
    purpose: Purpose
    doors: list[fields.Door]
    code: str
    root_fingerprint: str
    expires_at: datetime


class KnownCode(Answer):
    """A code as it is kept, without what is secret."""

    id: str
    purpose: Purpose
    doors: list[fields.Door]
    created_by: str
    created_at: datetime
    expires_at: datetime
    withdrawn_at: datetime | None
    used_at: datetime | None


class KnownCodes(Answer):
    """The codes of one place, the newest first."""

    codes: list[KnownCode]


class Device(Body):
    """What a device proves: a certificate request (PKCS#10, DER, base64) for its key, signed with its event key as well.

    ``event_public_key`` and ``proof``: Ed25519, hex; the proof is over ``drempel enrolment``, a zero byte and the request.
    ``controller_id``: of a device that is a controller already, which it can only become again.
    """

    certificate_request: Annotated[str, Field(max_length=8_192, pattern="^[A-Za-z0-9+/]+=*$")]
    event_public_key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    proof: Annotated[str, Field(pattern="^[0-9a-f]{128}$")]
    controller_id: fields.Controller | None = None


class Broker(Answer):
    """Where controllers connect."""

    host: str
    port: int


class Place(Answer):
    """Everything a device needs to be this controller. Certificates and keys are PEM, ``documents`` base64, as they were signed."""

    controller_id: fields.Controller
    site_id: fields.Site
    doors: list[fields.Door]
    wiring: dict[str, Any] | None
    certificates: str
    certificate_expires_at: datetime | None
    root: str
    policy_keys: str
    broker: Broker
    documents: dict[DocumentKind, str]


@router.get("/.well-known/est/cacerts", dependencies=[PUBLIC], response_class=Response)
def root_certificates(request: Request) -> Response:
    """The site's root and its intermediate (RFC 7030 §4.1): what they are is known by the fingerprint in a code."""
    found = services(request).enrolment.authority.certificates_only
    return Response(
        base64.encodebytes(found),
        media_type="application/pkcs7-mime",
        headers={"Content-Transfer-Encoding": "base64"},
    )


@router.post("/api/v1/controllers/{controller_id}/enrolment-codes", status_code=201)
def make_code(
    controller_id: fields.Controller,
    body: NewCode,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> MadeCode:
    """Make a code with which one device takes this place; an earlier one that was not used is withdrawn."""
    hub = services(request)
    with hub.database.write() as connection:
        controller = scope.controller(connection, principal, controller_id)
        code, kept = hub.enrolment.make_code(
            connection,
            controller,
            body.purpose,
            address=hub.settings.public_origin,
            by=principal.actor,
            lifetime=timedelta(days=body.days),
        )
    return MadeCode(
        id=kept.id,
        controller_id=controller_id,
        purpose=kept.purpose,
        doors=list(kept.doors),
        code=str(code),
        root_fingerprint=code.fingerprint.hex(),
        expires_at=kept.expires_at,
    )


@router.get("/api/v1/controllers/{controller_id}/enrolment-codes")
def codes(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
) -> KnownCodes:
    """Which codes were made for this place, and what became of them."""
    with services(request).database.read() as connection:
        scope.controller(connection, principal, controller_id)
        found = enrolment_codes.of_controller(connection, controller_id)
    return KnownCodes(codes=[KnownCode.model_validate(each) for each in found])


@router.delete("/api/v1/controllers/{controller_id}/enrolment-codes", status_code=204)
def withdraw_codes(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> Response:
    """Let nobody use the code of this place any more."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.controller(connection, principal, controller_id)
        if enrolment_codes.withdraw(connection, controller_id, hub.clock()):
            note(connection, hub, principal, action="code.withdraw", subject=f"controller:{controller_id}")
    return Response(status_code=204)


@router.post("/api/v1/controllers/{controller_id}/revoke", status_code=204)
def revoke(
    controller_id: fields.Controller,
    body: Revocation,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> Response:
    """Refuse the device that has this place, at once: the broker ends its connection, and what it sends is set aside.

    The place stays, with its doors, rules and wiring: a device takes it again by a code.
    """
    hub = services(request)
    with hub.database.write() as connection:
        scope.controller(connection, principal, controller_id)
        hub.enrolment.revoke(connection, controller_id, reason=body.reason, by=principal.actor)
    hub.site_changed()
    return Response(status_code=204)


@router.put("/api/v1/controllers/{controller_id}/wiring", status_code=204)
def set_wiring(
    controller_id: fields.Controller,
    body: Annotated[fields.Wired, RequestBody()],
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_MANAGE)],
) -> Response:
    """Keep what a place is wired to, for the next device that takes it; the one that has it goes by its own file."""
    hub = services(request)
    with hub.database.write() as connection:
        if scope.controller(connection, principal, controller_id).wiring != body.fields:
            controllers.set_wiring(connection, controller_id, body.fields)
            note(connection, hub, principal, action="controller.wire", subject=f"controller:{controller_id}")
    return Response(status_code=204)


@router.post("/api/v1/enrolment", dependencies=[PUBLIC])
def enrol(body: Device, request: Request) -> Place:
    """A device takes the place that its code is for; the secret of the code (hex) is the bearer token.

    The same device may ask again until the code expires. A code that this hub did not make is told nothing.
    """
    hub = services(request)
    hub.attempts.count_code(request.client.host if request.client else "")
    try:
        taken = hub.enrolment.enrol(_secret(request), _asked(body))
    except CodeRefused as refused:
        raise Problem(_PROBLEMS[refused.refusal]) from refused
    except NotYet as error:
        raise Problem(Code.NOT_READY, str(error), headers={"Retry-After": "1"}) from error
    host, port = taken.broker
    return Place(
        controller_id=taken.controller.id,
        site_id=taken.controller.site_id,
        doors=sorted(taken.doors),
        wiring=taken.controller.wiring,
        certificates=taken.certificate.chain or "",
        certificate_expires_at=taken.certificate.expires_at,
        root=taken.root,
        policy_keys=taken.policy_keys,
        broker=Broker(host=host, port=port),
        documents={kind: base64.b64encode(data).decode() for kind, data in taken.documents.items()},
    )


def _secret(request: Request) -> bytes:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        secret = bytes.fromhex(token.strip()) if scheme.lower() == "bearer" else b""
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise Problem(Code.CODE_UNKNOWN)
    return secret


def _asked(body: Device) -> enrolment.Request:
    try:
        asked = base64.b64decode(body.certificate_request, validate=True)
    except ValueError as error:
        raise Problem(Code.INVALID, "certificate_request: base64 expected") from error
    return enrolment.Request(
        certificate_request=asked,
        event_public_key=bytes.fromhex(body.event_public_key),
        proof=bytes.fromhex(body.proof),
        controller_id=body.controller_id,
    )
