"""Those who work with the hub, people and programs: what they may, where, and how long.

Somebody of some sites manages those whose sites are among them; others are not there. Nobody gives more than they
have, and nobody changes their own rights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field, StrictBool, StrictInt
from sqlalchemy import Connection

from hub import audit
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, tagged, unchanged
from hub.api.fields import Answer, Body, OneTimeSecret
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.operators import (
    LINK_LIFETIME,
    TOKEN_LIFETIME,
    Principal,
    SignInRefused,
    seen,
    sees_operator,
    ways_in,
)
from hub.roles import Permission, Role
from hub.store import audit as audit_rows
from hub.store import operators as store
from hub.store.errors import NotFound
from hub.versions import Parts
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["operators"])

Manager = Annotated[Principal, requires(Permission.OPERATORS_MANAGE)]
TOKEN_NAME = "^[A-Za-z0-9_-]{1,48}$"  # noqa: S105 - what a token may be called
NEVER_EXPIRES = "This token never expires. Revoke it when it is no longer used."
SiteIds = Annotated[list[fields.Site], Field(min_length=1, max_length=500)] | None
"""Which sites somebody sees; null: every one."""


def given(by: Principal, site_ids: Collection[SiteId] | None) -> frozenset[SiteId] | None:
    """The sites that are given: those that are named, else all that ``by`` sees."""
    return by.sites if site_ids is None else frozenset(site_ids)


class SignsInBy(Answer):
    """The ways in: a password, so many passkeys, an account at the OpenID provider."""

    password: bool
    passkeys: int
    provider: bool


class Operator(Answer):
    """Somebody who signs in; ``disabled_at`` null: may."""

    id: str
    name: str
    role: Role
    site_ids: list[str] | None = Field(validation_alias="sites")
    created_at: datetime
    disabled_at: datetime | None
    signs_in_by: SignsInBy


class Operators(Answer):
    """Every operator, by name."""

    operators: list[Operator]


class NewLink(Body):
    """``name`` of a known operator, or of a new one; absent: chosen by whoever follows the link."""

    name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    role: Role | None = None
    site_ids: SiteIds = None


class Link(OneTimeSecret):
    """A one-time sign-in link: hand it over unseen by others."""

    path: str
    expires_at: datetime


class OperatorChange(Body):
    """What is absent stays. ``disabled``: shut out, ending their sessions. ``site_ids`` null: every site."""

    disabled: StrictBool | None = None
    role: Role | None = None
    site_ids: SiteIds = None


class Token(Answer):
    """A program's key; ``permissions`` null: all of its role's; ``expires_at`` null: never expires."""

    name: str
    role: Role
    permissions: list[Permission] | None
    site_ids: list[str] | None = Field(validation_alias="sites")
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class Tokens(Answer):
    """Every token, by name; never the secret."""

    tokens: list[Token]


class NewToken(Body):
    """``expires_in_days`` null: never, which is rarely wise. ``permissions`` null: all of the role's."""

    name: Annotated[str, Field(pattern=TOKEN_NAME)]
    role: Role
    permissions: Annotated[list[Permission], Field(min_length=1, max_length=len(Permission))] | None = None
    site_ids: SiteIds = None
    expires_in_days: Annotated[StrictInt, Field(ge=1, le=3650)] | None = TOKEN_LIFETIME.days


class MadeToken(OneTimeSecret):
    """The token, which is never shown again, and what to know of it."""

    token: str
    warnings: list[str]


class Verification(Answer):
    """Whether the log is the one that was written; ``head`` is worth noting down elsewhere."""

    is_whole: bool
    head: str | None
    problem: str | None


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
def listed(request: Request, principal: Manager) -> Operators:
    """Operators by name; those whose sites are among one's own."""
    hub = services(request)
    with hub.database.read() as connection:
        found = [each for each in store.list_operators(connection) if sees_operator(principal, each)]
        return Operators(operators=_answers(connection, hub, found))


@router.post("/operators/links", status_code=201)
def create_link(
    body: NewLink,
    request: Request,
    principal: Manager,
) -> Link:
    """Make a one-time sign-in link. A new operator is a guard unless ``role`` says otherwise."""
    hub, now = services(request), services(request).clock()
    token = hub.operators.links.create(
        name=body.name or "",
        role=body.role,
        otherwise=Role.GUARD,
        sites=given(principal, body.site_ids),
        now=now,
        by=principal,
    )
    return Link(path=f"/link/{token}", expires_at=now + LINK_LIFETIME)


@router.get("/operators/{operator_id}")
def one(
    operator_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    request: Request,
    response: Response,
    principal: Manager,
) -> Operator:
    """One operator."""
    return _one(operator_id, request, response, principal)


@router.patch("/operators/{operator_id}")
def change(
    operator_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    body: OperatorChange,
    request: Request,
    response: Response,
    principal: Manager,
    if_match: IfMatch = None,
) -> Operator:
    """Disable or enable an operator, or give them another role or other sites."""
    hub = services(request)
    meant = is_meant(if_match)
    if body.role is not None or "site_ids" in body.model_fields_set:
        with hub.database.read() as connection:
            known = store.operator_by_id(connection, operator_id)
        if known is None:
            raise NotFound("operator is not there")
        sites = frozenset(body.site_ids) if body.site_ids is not None else None
        hub.operators.change(
            operator_id,
            role=body.role or Role(known.role),
            sites=sites if "site_ids" in body.model_fields_set else seen(known.sites),
            now=hub.clock(),
            by=principal,
            meant=meant,
        )
        meant = is_meant(None)
    if body.disabled is not None:
        hub.operators.set_disabled(
            operator_id, disabled=body.disabled, now=hub.clock(), by=principal, meant=meant
        )
    return _one(operator_id, request, response, principal)


def parts_of(operator: store.OperatorRow) -> Parts:
    """What of an operator can be changed."""
    sites = None if operator.sites is None else sorted(operator.sites)
    return {"role": operator.role, "sites": sites, "disabled": operator.disabled_at is not None}


def is_meant(if_match: str | None) -> Callable[[store.OperatorRow], None]:
    """What raises ``ChangedMeanwhile`` for an operator who is not as the caller wants to change them."""
    return lambda operator: unchanged(if_match, parts_of(operator))


def _one(operator_id: str, request: Request, response: Response, principal: Principal) -> Operator:
    hub = services(request)
    with hub.database.read() as connection:
        found = store.operator_by_id(connection, operator_id)
        if found is None or not sees_operator(principal, found):
            raise NotFound("operator is not there")
        tagged(response, parts_of(found))
        return _answers(connection, hub, [found])[0]


def _answers(connection: Connection, hub: Services, people: Sequence[store.OperatorRow]) -> list[Operator]:
    ways = ways_in(connection, people, hub.oidc.issuer if hub.oidc else None)
    return [
        Operator.model_validate(
            {
                name: getattr(each, name)
                for name in ("id", "name", "role", "sites", "created_at", "disabled_at")
            }
            | {"signs_in_by": ways[each.id]}
        )
        for each in people
    ]


@router.post("/operators/{operator_id}/end-sessions", status_code=204)
def end_sessions(
    operator_id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")], request: Request, principal: Manager
) -> None:
    """Sign an operator out everywhere."""
    hub = services(request)
    hub.operators.end_sessions(operator_id, now=hub.clock(), by=principal)


@router.get("/tokens")
def tokens(request: Request, principal: Manager) -> Tokens:
    """API tokens by name; those whose sites are among one's own."""
    with services(request).database.read() as connection:
        found = store.list_tokens(connection)
    return Tokens(tokens=[Token.model_validate(each) for each in found if sees_operator(principal, each)])


@router.post("/tokens", status_code=201)
def create_token(body: NewToken, request: Request, principal: Manager) -> MadeToken:
    """Make an API token, for 90 days unless ``expires_in_days`` says otherwise."""
    hub = services(request)
    days = body.expires_in_days
    try:
        token = hub.operators.tokens.create(
            name=body.name,
            role=body.role,
            permissions=body.permissions,
            lifetime=timedelta(days=days) if days is not None else None,
            sites=given(principal, body.site_ids),
            now=hub.clock(),
            by=principal,
        )
    except SignInRefused as refused:
        taken = refused.code == "token_name_taken"
        raise Problem(Code.ALREADY_EXISTS if taken else Code.INVALID, str(refused)) from refused
    return MadeToken(token=token, warnings=[] if days is not None else [NEVER_EXPIRES])


@router.delete("/tokens/{name}", status_code=204)
def revoke_token(
    name: Annotated[str, Path(pattern=TOKEN_NAME)], request: Request, principal: Manager
) -> None:
    """Make an API token useless at once; repeating it does no harm."""
    hub = services(request)
    try:
        hub.operators.tokens.revoke(name, hub.clock(), by=principal)
    except SignInRefused as refused:
        raise NotFound(str(refused)) from refused


@router.get("/audit/verification")
def verification(
    request: Request, _: Annotated[Principal, requires(Permission.AUDIT_READ, everywhere=True)]
) -> Verification:
    """Walk the whole audit log and say whether it is the one that was written."""
    with services(request).database.read() as connection:
        try:
            return Verification(is_whole=True, head=str(audit.verify(connection)), problem=None)
        except audit.AuditBroken as broken:
            return Verification(is_whole=False, head=None, problem=str(broken))


def wanted_entries(
    actor: Annotated[str | None, Query(max_length=80)] = None,
    action: Annotated[str | None, Query(max_length=64)] = None,
    subject: Annotated[str | None, Query(max_length=100)] = None,
    since: Annotated[fields.Instant | None, Query()] = None,
    until: Annotated[fields.Instant | None, Query()] = None,
) -> audit_rows.Wanted:
    """Which entries a request asks for."""
    return audit_rows.Wanted(actor=actor, action=action, subject=subject, since=since, until=until)


@router.get("/audit")
def audit_log(
    request: Request,
    _: Annotated[Principal, requires(Permission.AUDIT_READ, everywhere=True)],
    wanted: Annotated[audit_rows.Wanted, Depends(wanted_entries)],
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: fields.Limit = 100,
) -> AuditLog:
    """The audit log, the newest first; of one actor, action, subject or time, or all."""
    with services(request).database.read() as connection:
        found = audit_rows.page(connection, before=before, limit=limit + 1, wanted=wanted)
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
