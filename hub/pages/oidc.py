"""Signing in by an OpenID provider: to it, and back.

The provider's answer arrives from another site, without this hub's cookies, which are ``SameSite=Strict``. So the page
at ``CALLBACK`` does nothing but lead on to ``FINISH``, which the browser then asks for from the hub's own page. Pages
lead on by ``meta refresh``, and have a link for a browser that does not follow it.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from hub.api.access import PUBLIC, DeclaredRoute, identify
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.oidc import REQUEST_LIFETIME, Begun, OpenIdConnect, disconnect
from hub.oidc_provider import Answer
from hub.operators import SignInRefused
from hub.pages import account
from hub.pages.rendering import pages_of
from hub.pages.sign_in import (
    LinkToken,
    NameField,
    form,
    inside,
    link_form,
    set_cookie,
    signed_in,
    source_of,
)

CALLBACK = "/sign-in/oidc/callback"
FINISH = "/sign-in/oidc/finish"

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)


class Returned:
    """What the provider sent the browser back with."""

    def __init__(
        self,
        state: Annotated[str, Query(max_length=200)] = "",
        code: Annotated[str, Query(max_length=4096)] = "",
        error: Annotated[str, Query(max_length=200)] = "",
        iss: Annotated[str, Query(max_length=1000)] = "",
    ) -> None:
        self.said = {"state": state, "code": code, "error": error, "iss": iss}
        self.state = state
        self.answer = Answer(code=code, error=error, issuer=iss)


BroughtBack = Annotated[Returned, Depends()]


@router.post("/sign-in/oidc", dependencies=[PUBLIC])
def begin(
    request: Request, next_address: Annotated[str, Form(alias="next", max_length=200)] = "/"
) -> Response:
    """Send somebody who signs in to the provider."""
    oidc = _oidc(request)
    services(request).attempts.count_challenge(source_of(request))
    try:
        begun = oidc.begin(
            services(request).clock(), browser=_browser(request), next_address=inside(next_address)
        )
    except SignInRefused as refused:
        return _refused(request, refused, inside(next_address))
    return _to_provider(request, oidc, begun)


@router.post("/link/{token}/oidc", dependencies=[PUBLIC])
def begin_with_link(request: Request, token: LinkToken, name: NameField = "") -> Response:
    """Send somebody who follows a one-time link to the provider."""
    oidc, hub = _oidc(request), services(request)
    link = hub.operators.links.look_at(token, hub.clock())
    hub.attempts.count_challenge(source_of(request))
    try:
        begun = oidc.begin(hub.clock(), browser=_browser(request), link=token, name=name)
    except SignInRefused as refused:
        return link_form(request, token, link, name, refused)
    return _to_provider(request, oidc, begun)


@router.post("/account/oidc")
def connect(request: Request, principal: account.SignedIn) -> Response:
    """Send somebody who connects their account to the provider."""
    oidc, hub = _oidc(request), services(request)
    try:
        begun = oidc.begin(
            hub.clock(),
            browser=_browser(request),
            operator_id=account.own_id(principal),
            next_address="/account",
        )
    except SignInRefused as refused:
        return account.page(request, principal, refused)
    return _to_provider(request, oidc, begun)


@router.post("/account/oidc/remove")
def remove(request: Request, principal: account.SignedIn) -> Response:
    """Forget by which account at the provider one signs in."""
    hub = services(request)
    try:
        disconnect(hub.database, account.own_id(principal), hub.clock(), by=principal)
    except SignInRefused as refused:
        return account.page(request, principal, refused)
    return RedirectResponse("/account", 303)


@router.get(CALLBACK, dependencies=[PUBLIC])
def callback(request: Request, returned: BroughtBack) -> Response:
    """Where the provider sends the browser: leads on, as the hub's own page."""
    oidc = _oidc(request)
    said = urlencode({name: value for name, value in returned.said.items() if value})
    return _on(request, oidc, f"{FINISH}?{said}")


@router.get(FINISH, dependencies=[PUBLIC])
def finish(request: Request, returned: BroughtBack) -> Response:
    """Open the session, or say why not."""
    oidc, hub = _oidc(request), services(request)
    principal = identify(request)
    next_address = "/"
    try:
        begun = oidc.taken(returned.state, _browser(request), hub.clock())
        next_address = begun.next
        session = oidc.complete(begun, returned.answer, principal, hub.clock())
    except SignInRefused as refused:
        if principal is not None:
            return account.page(request, principal, refused)
        return _refused(request, refused, next_address)
    answer = RedirectResponse(next_address, 303)
    return answer if session is None else signed_in(request, session, answer)


def _to_provider(request: Request, oidc: OpenIdConnect, begun: Begun) -> Response:
    answer = _on(request, oidc, begun.address)
    hub = services(request)
    set_cookie(hub, answer, hub.oidc_cookie, begun.browser, REQUEST_LIFETIME)
    return answer


def _on(request: Request, oidc: OpenIdConnect, address: str) -> Response:
    return pages_of(request).response(request, "onward.html", None, address=address, label=oidc.label)


def _refused(request: Request, refused: SignInRefused, next_address: str) -> Response:
    problem = pages_of(request).gettext(str(refused))
    return form(request, next_address=next_address, problem=problem, why=refused.code, status_code=403)


def _oidc(request: Request) -> OpenIdConnect:
    found = services(request).oidc
    if found is None:
        raise Problem(Code.NOT_FOUND, "This hub has no OpenID provider.")
    return found


def _browser(request: Request) -> str | None:
    return request.cookies.get(services(request).oidc_cookie)
