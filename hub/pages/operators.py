"""Those who sign in and the programs that call: who there is, what they may, and shutting them out."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, StringConstraints

from hub.api import fields
from hub.api.access import DeclaredRoute
from hub.api.changes import ChangedMeanwhile
from hub.api.fields import Body
from hub.api.operators import TOKEN_NAME, Manager, given, is_meant, parts_of
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import (
    TOKEN_LIFETIME,
    BeyondOwnRights,
    Principal,
    SignInRefused,
    name_key,
    sees_operator,
    ways_in,
)
from hub.pages.outdated import Version, changed_meanwhile, tag_of
from hub.pages.rendering import pages_of
from hub.pages.words import N_, ROLES
from hub.roles import Role
from hub.store import operators as store
from hub.store import sites
from hub.versions import version_of
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/operators")

OperatorInPath = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]

_PARTS = {"role": N_("Role"), "sites": N_("Sites"), "disabled": N_("disabled")}


class RightsForm(Body):
    """Role and sites (none chosen: all that one sees oneself); ``csrf_token`` is checked before."""

    csrf_token: str = ""
    role: Role = Role.GUARD
    site: Annotated[list[fields.Site], Field(max_length=500, default_factory=list)]

    @property
    def sites(self) -> list[SiteId] | None:
        """As the interface takes them."""
        return list(self.site) or None


class ChangedRightsForm(RightsForm):
    """Of somebody who has others now."""

    version: Version = ""


class LinkForm(RightsForm):
    """For somebody new, or for who has this name."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=64)] = ""


class TokenForm(RightsForm):
    """A program's token; ``days`` 0: it never expires."""

    name: Annotated[str, Field(pattern=TOKEN_NAME)]
    days: Annotated[int, Field(ge=0, le=3650)] = TOKEN_LIFETIME.days


class StateForm(Body):
    """Shut somebody out, let them in again, or only end their sessions."""

    csrf_token: str = ""
    state: Literal["disabled", "enabled", "signed_out"]


@router.get("")
def operators_page(request: Request, principal: Manager) -> Response:
    """Everybody who signs in, every program, and the forms for new ones."""
    return _page(request, principal)


@router.post("/links")
def create_link(request: Request, principal: Manager, form: Annotated[LinkForm, Form()]) -> Response:
    """Make a one-time link and show it, once."""
    hub = services(request)
    with hub.database.read() as connection:
        known = store.operator_by_key(connection, name_key(form.name)) if form.name else None
    if known and not sees_operator(principal, known):  # no more is said of them
        return _page(request, principal, problem=N_("Somebody has that name. Choose another one."))
    try:
        token = hub.operators.links.create(
            name=form.name,
            role=None if known else form.role,
            sites=given(principal, form.sites),
            now=hub.clock(),
            by=principal,
        )
    except (SignInRefused, BeyondOwnRights) as refused:
        return _page(request, principal, problem=str(refused))
    return _page(request, principal, link=f"{hub.settings.public_origin}/link/{token}")


@router.post("/tokens")
def create_token(request: Request, principal: Manager, form: Annotated[TokenForm, Form()]) -> Response:
    """Make an API token and show it, once."""
    hub = services(request)
    try:
        token = hub.operators.tokens.create(
            name=form.name,
            role=form.role,
            lifetime=timedelta(days=form.days) if form.days else None,
            sites=given(principal, form.sites),
            now=hub.clock(),
            by=principal,
        )
    except (SignInRefused, BeyondOwnRights) as refused:
        return _page(request, principal, problem=str(refused))
    return _page(request, principal, token=token)


@router.post("/tokens/{name}/revoke")
def revoke_token(
    name: Annotated[str, Path(pattern=TOKEN_NAME)], request: Request, principal: Manager
) -> Response:
    """Make a token useless at once."""
    hub = services(request)
    try:
        hub.operators.tokens.revoke(name, hub.clock(), by=principal)
    except SignInRefused as refused:
        raise Problem(Code.NOT_FOUND, str(refused)) from refused
    return RedirectResponse("/operators", 303)


@router.post("/{operator_id}/rights")
def change_rights(
    operator_id: OperatorInPath,
    request: Request,
    principal: Manager,
    form: Annotated[ChangedRightsForm, Form()],
) -> Response:
    """Give an operator another role and other sites."""
    hub = services(request)
    try:
        hub.operators.change(
            operator_id,
            role=form.role,
            sites=given(principal, form.sites),
            now=hub.clock(),
            by=principal,
            meant=is_meant(tag_of(form.version)),
        )
    except BeyondOwnRights as refused:
        return _page(request, principal, problem=str(refused))
    except ChangedMeanwhile as error:
        said = changed_meanwhile(pages_of(request), form.version, error, _PARTS)
        return _page(request, principal, problem=said, status_code=409)
    return RedirectResponse("/operators", 303)


@router.post("/{operator_id}/state")
def change_state(
    operator_id: OperatorInPath, request: Request, principal: Manager, form: Annotated[StateForm, Form()]
) -> Response:
    """Shut an operator out, let them in again, or sign them out everywhere."""
    hub = services(request)
    try:
        if form.state == "signed_out":
            hub.operators.end_sessions(operator_id, now=hub.clock(), by=principal)
        else:
            is_disabled = form.state == "disabled"
            hub.operators.set_disabled(operator_id, disabled=is_disabled, now=hub.clock(), by=principal)
    except BeyondOwnRights as refused:
        return _page(request, principal, problem=str(refused))
    return RedirectResponse("/operators", 303)


def _page(
    request: Request,
    principal: Principal,
    *,
    problem: str = "",
    status_code: int = 422,
    link: str = "",
    token: str = "",
) -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        people = [each for each in store.list_operators(connection) if sees_operator(principal, each)]
        programs = [each for each in store.list_tokens(connection) if sees_operator(principal, each)]
        known = [each for each in sites.list_all(connection) if principal.sees(each.id)]
        found = ways_in(connection, people, hub.oidc.issuer if hub.oidc else None)
    ways = {
        operator_id: [
            *([pages.gettext("password")] if each.password else ()),
            *(
                [
                    pages.ngettext("%(num)d passkey", "%(num)d passkeys", each.passkeys)
                    % {"num": each.passkeys}
                ]
                if each.passkeys
                else ()
            ),
            *([hub.oidc.label] if hub.oidc and each.provider else ()),
        ]
        for operator_id, each in found.items()
    }
    return pages.response(
        request,
        "operators.html",
        principal,
        status_code=status_code if problem else 200,
        people=people,
        versions={each.id: version_of(parts_of(each)) for each in people},
        ways=ways,
        programs=programs,
        sites={each.id: each.name for each in known},
        roles=[each for each in ROLES if principal.reaches(each, principal.sites)],
        own=principal.actor.removeprefix("operator:"),
        may_change=lambda each: principal.reaches(Role(each.role), principal.sites),
        current=hub.clock(),
        days=TOKEN_LIFETIME.days,
        problem=pages.gettext(problem) if problem else "",
        link=link,
        token=token,
    )
