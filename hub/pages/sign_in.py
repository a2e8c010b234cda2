"""Signing in and out: by name and password, or by a one-time link."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field

from hub.api.access import PUBLIC, DeclaredRoute, identify
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import Services, services
from hub.operators import BROWSER_LIFETIME, SESSION_LIFETIME, SignInRefused
from hub.pages.rendering import pages_of
from hub.store.operators import LinkRow

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, dependencies=[PUBLIC])

Address = Annotated[str, Query(alias="next", max_length=200)]
LinkToken = Annotated[str, Path(min_length=20, max_length=100)]
NameField = Annotated[str, Form(max_length=200)]
PasswordField = Annotated[str, Form(max_length=1000)]


class PasskeyAnswer(Body):
    """What the browser says for a passkey: an ``AuthenticationResponseJSON`` (WebAuthn §5.2.3)."""

    answer: dict[str, Any]
    next: Annotated[str, Field(max_length=200)] = "/"


@router.get("/sign-in")
def sign_in_page(request: Request, next_address: Address = "/") -> Response:
    """The form; before the first operator, how to make a one-time link."""
    if identify(request) is not None:
        return RedirectResponse(inside(next_address), 303)
    return form(request, next_address=next_address)


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: NameField,
    password: PasswordField,
    next_address: Annotated[str, Form(alias="next", max_length=200)] = "/",
) -> Response:
    """Open a session."""
    hub = services(request)
    browser = request.cookies.get(hub.browser_cookie)
    known = browser if hub.operators.browsers.knows(browser, name, hub.clock()) else None
    hub.attempts.count(source_of(request), name, known_browser=known)
    try:
        token = hub.operators.sessions.sign_in(
            name, password, hub.clock(), is_known_browser=known is not None
        )
    except SignInRefused as refused:
        return form(
            request,
            next_address=next_address,
            name=name,
            problem=pages_of(request).gettext(str(refused)),
            status_code=403,
        )
    hub.attempts.forgive(source_of(request), name, known_browser=known)
    return signed_in(request, token, RedirectResponse(inside(next_address), 303))


@router.post("/sign-in/passkey/options")
def passkey_options(request: Request) -> Response:
    """What a passkey is asked to sign."""
    hub = services(request)
    if not hub.passkeys.are_possible:
        raise Problem(Code.NOT_FOUND)
    hub.attempts.count_challenge(source_of(request))
    return Response(hub.passkeys.request_options(hub.clock()), media_type="application/json")


@router.post("/sign-in/passkey")
def sign_in_by_passkey(request: Request, body: PasskeyAnswer) -> Response:
    """Open a session for whose passkey signed."""
    hub = services(request)
    try:
        token = hub.passkeys.sign_in(body.answer, hub.clock())
    except SignInRefused as refused:
        return JSONResponse({"code": refused.code, "problem": pages_of(request).gettext(str(refused))}, 403)
    return signed_in(request, token, JSONResponse({"next": inside(body.next)}))


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session; repeating it does no harm."""
    hub = services(request)
    principal = await run_in_threadpool(identify, request)
    if principal is not None and principal.csrf_token is not None:
        token = request.cookies[hub.session_cookie]
        await run_in_threadpool(hub.operators.sessions.sign_out, token, principal, hub.clock())
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(hub.session_cookie, secure=hub.settings.is_https, httponly=True, samesite="strict")
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


@router.get("/link/{token}")
def link_page(request: Request, token: LinkToken) -> Response:
    """What the link offers; looking at it does not use it up."""
    hub = services(request)
    link = hub.operators.links.look_at(token, hub.clock())
    return link_form(request, token, link)


@router.post("/link/{token}")
def follow_link(
    request: Request, token: LinkToken, name: NameField = "", password: PasswordField = ""
) -> Response:
    """Use the link: make the operator or set the password, and open a session."""
    hub = services(request)
    link = hub.operators.links.look_at(token, hub.clock())
    try:
        session = hub.operators.links.follow(token, name=name, password=password or None, now=hub.clock())
    except SignInRefused as refused:
        return link_form(request, token, link, name, refused)
    return signed_in(request, session, RedirectResponse("/", 303))


def link_form(
    request: Request, token: str, link: LinkRow, name: str = "", refused: SignInRefused | None = None
) -> Response:
    """What a one-time link offers, and what came of the last try."""
    pages = pages_of(request)
    return pages.response(
        request,
        "link.html",
        None,
        status_code=422 if refused else 200,
        token=token,
        link=link,
        name=name,
        oidc=services(request).oidc,
        problem=pages.gettext(str(refused)) if refused else "",
    )


def form(
    request: Request,
    *,
    next_address: str,
    name: str = "",
    problem: str = "",
    why: str = "",
    status_code: int = 200,
) -> Response:
    """The page on which one signs in; ``problem`` and its code, ``why``, say what came of the last try."""
    first_run = not services(request).operators.are_there_any()
    return pages_of(request).response(
        request,
        "sign_in.html",
        None,
        status_code=status_code,
        first_run=first_run,
        passkeys=services(request).passkeys.are_possible,
        oidc=services(request).oidc,
        next=inside(next_address),
        name=name,
        problem=problem,
        why=why,
    )


def signed_in(request: Request, token: str, answer: Response) -> Response:
    """``answer`` with the session's cookie, and one by which this browser is known from now on."""
    hub = services(request)
    set_cookie(hub, answer, hub.session_cookie, token, SESSION_LIFETIME)
    browser = hub.operators.browsers.remember(token, request.cookies.get(hub.browser_cookie), hub.clock())
    if browser is not None:
        set_cookie(hub, answer, hub.browser_cookie, browser, BROWSER_LIFETIME)
    return answer


def source_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def set_cookie(hub: Services, answer: Response, name: str, value: str, lifetime: timedelta) -> None:
    """A cookie for this hub alone, which no other site's page makes a browser send."""
    answer.set_cookie(
        name,
        value,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=hub.settings.is_https,
        httponly=True,
        samesite="strict",
    )


def inside(address: str) -> str:
    """``address`` when it is a path of this hub, else the live page."""
    is_inside = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_inside else "/"
