"""Those who work with the hub: one-time links for them, shutting them out; and the log of what they did."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field, StrictBool

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Body, OneTimeSecret
from hub.api.services import services
from hub.operators import LINK_LIFETIME, Principal
from hub.roles import Permission, Role
from hub.store import audit as audit_rows
from hub.store import operators as store

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["operators"])


class Operator(Answer):
    """Somebody who signs in; ``disabled_at`` null: may."""

    id: str
    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


class Operators(Answer):
    """Every operator, by name."""

    operators: list[Operator]


class NewLink(Body):
    """``name`` of a known operator, or of a new one; absent: chosen by whoever follows the link."""

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    role: Role | None = None


class Link(OneTimeSecret):
    """A one-time sign-in link: hand it over unseen by others."""

    path: str
    expires_at: datetime


class OperatorChange(Body):
    """Shut somebody out, ending their sessions, or let them in again."""

    disabled: StrictBool


class AuditEntry(Answer):
    """One entry of the audit log; hashes are hex."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    detail: dict[str, Any]
    hash: str


class AuditLog(Answer):
    """A portion of the log, the newest first; go on with ``before=next_before`` until it is null."""

    entries: list[AuditEntry]
    next_before: int | None


@router.get("/operators")
def listed(
    request: Request, _: Annotated[Principal, requires(Permission.OPERATORS_MANAGE, everywhere=True)]
) -> Operators:
    """Operators by name."""
    with services(request).database.read() as connection:
        found = store.list_operators(connection)
    return Operators(operators=[Operator.model_validate(each) for each in found])


@router.post("/operators/links", status_code=201)
def create_link(
    body: NewLink,
    request: Request,
    principal: Annotated[Principal, requires(Permission.OPERATORS_MANAGE, everywhere=True)],
) -> Link:
    """Make a one-time sign-in link. A new operator is a guard unless ``role`` says otherwise."""
    hub, now = services(request), services(request).clock()
    token = hub.operators.create_link(
        name=body.name or "", role=body.role, otherwise=Role.GUARD, now=now, actor=principal.actor
    )
    return Link(path=f"/link/{token}", expires_at=now + LINK_LIFETIME)


@router.patch("/operators/{operator_id}")
def change(
    operator_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    body: OperatorChange,
    request: Request,
    principal: Annotated[Principal, requires(Permission.OPERATORS_MANAGE, everywhere=True)],
) -> Operator:
    """Disable or enable an operator."""
    hub = services(request)
    hub.operators.set_disabled(operator_id, disabled=body.disabled, now=hub.clock(), actor=principal.actor)
    with hub.database.read() as connection:
        return Operator.model_validate(store.operator_by_id(connection, operator_id))


@router.get("/audit")
def audit_log(
    request: Request,
    _: Annotated[Principal, requires(Permission.AUDIT_READ, everywhere=True)],
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: fields.Limit = 100,
) -> AuditLog:
    """The audit log, the newest first."""
    with services(request).database.read() as connection:
        found = audit_rows.page(connection, before=before, limit=limit + 1)
    entries = [
        AuditEntry(
            id=each.id,
            at=each.at,
            actor=each.actor,
            action=each.action,
            subject=each.subject,
            reason=each.reason,
            detail=dict(each.detail),
            hash=each.hash.hex(),
        )
        for each in found[:limit]
    ]
    return AuditLog(entries=entries, next_before=entries[-1].id if len(found) > limit else None)
