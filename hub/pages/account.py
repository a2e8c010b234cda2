"""One's own account: who one is, and by what one signs in."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field

from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal, SignInRefused
from hub.pages.rendering import pages_of
from hub.roles import Permission

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, prefix="/account")

SignedIn = Annotated[Principal, requires(Permission.ACCOUNT_MANAGE)]


class NewPasskey(Body):
    """What the browser made, a ``RegistrationResponseJSON`` (WebAuthn §5.2.1), and what to call it."""

    answer: dict[str, Any]
    name: Annotated[str, Field(max_length=200)] = ""


@router.get("")
def account_page(request: Request, principal: SignedIn) -> Response:
    """Who one is, and by what one signs in."""
    return page(request, principal)


@router.post("/passkeys/options")
def options(request: Request, principal: SignedIn) -> Response:
    """What the browser is asked to make."""
    hub = services(request)
    if not hub.passkeys.are_possible:
        raise Problem(Code.NOT_FOUND)
    made = hub.passkeys.creation_options(own_id(principal), hub.clock())
    return Response(made, media_type="application/json")


@router.post("/passkeys")
def add(request: Request, principal: SignedIn, body: NewPasskey) -> Response:
    """Keep a passkey that the browser made."""
    hub = services(request)
    try:
        hub.passkeys.add(own_id(principal), body.name, body.answer, hub.clock())
    except SignInRefused as refused:
        return JSONResponse({"code": refused.code, "problem": pages_of(request).gettext(str(refused))}, 403)
    return JSONResponse({"next": "/account"})


@router.post("/passkeys/{passkey_id}/remove")
def remove(
    passkey_id: Annotated[str, Path(pattern="^([0-9a-f]{2}){1,1023}$")], request: Request, principal: SignedIn
) -> Response:
    """Forget one of one's own passkeys."""
    hub = services(request)
    hub.passkeys.remove(own_id(principal), bytes.fromhex(passkey_id), hub.clock())
    return RedirectResponse("/account", 303)


@router.post("/end-sessions")
def end_sessions(request: Request, principal: SignedIn) -> Response:
    """Sign oneself out everywhere, here too."""
    hub = services(request)
    hub.operators.end_sessions(own_id(principal), now=hub.clock(), by=principal)
    return RedirectResponse("/sign-in", 303)


def page(request: Request, principal: Principal, refused: SignInRefused | None = None) -> Response:
    """The page; ``refused`` says what came of the last try to change something."""
    pages = pages_of(request)
    hub = services(request)
    operator_id = own_id(principal)
    keys = [
        {
            "id": each.credential_id.hex(),
            "name": each.name,
            "created_at": each.created_at,
            "last_used_at": each.last_used_at,
        }
        for each in hub.passkeys.listed(operator_id)
    ]
    return pages.response(
        request,
        "account.html",
        principal,
        status_code=403 if refused else 200,
        passkeys=keys,
        possible=hub.passkeys.are_possible,
        oidc=hub.oidc,
        oidc_account=hub.oidc.account_of(operator_id) if hub.oidc else None,
        problem=pages.gettext(str(refused)) if refused else "",
        why=refused.code if refused else "",
        csrf=principal.csrf_token,
    )


def own_id(principal: Principal) -> str:
    """Which operator it is; raises ``Problem`` NOT_FOUND for a program."""
    kind, _, operator_id = principal.actor.partition(":")
    if kind != "operator":
        raise Problem(Code.NOT_FOUND, "A program has no account.")
    return operator_id
