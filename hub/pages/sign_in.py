"""Signing in and out: by name and password, or by a one-time link."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse

from hub.api.access import PUBLIC, DeclaredRoute, identify
from hub.api.services import Services, services
from hub.operators import SESSION_LIFETIME, SignInRefused
from hub.pages.rendering import pages_of

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False, dependencies=[PUBLIC])

Address = Annotated[str, Query(alias="next", max_length=200)]
LinkToken = Annotated[str, Path(min_length=20, max_length=100)]
NameField = Annotated[str, Form(max_length=200)]
PasswordField = Annotated[str, Form(max_length=1000)]


@router.get("/sign-in")
def sign_in_page(request: Request, next_address: Address = "/") -> Response:
    """The form; before the first operator, how to make a one-time link."""
    if identify(request) is not None:
        return RedirectResponse(inside(next_address), 303)
    return _form(request, next_address=next_address)


@router.post("/sign-in")
def sign_in(
    request: Request,
    name: NameField,
    password: PasswordField,
    next_address: Annotated[str, Form(alias="next", max_length=200)] = "/",
) -> Response:
    """Open a session."""
    hub = services(request)
    source = request.client.host if request.client else ""
    hub.attempts.count(source, name)
    try:
        token = hub.operators.sign_in(name, password, hub.clock())
    except SignInRefused as refused:
        return _form(
            request,
            next_address=next_address,
            name=name,
            problem=pages_of(request).gettext(str(refused)),
            status_code=403,
        )
    hub.attempts.forgive(source, name)
    return _signed_in(hub, token, inside(next_address))


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session; repeating it does no harm."""
    hub = services(request)
    principal = await run_in_threadpool(identify, request)
    if principal is not None and principal.csrf_token is not None:
        token = request.cookies[hub.session_cookie]
        await run_in_threadpool(hub.operators.sign_out, token, principal, hub.clock())
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(hub.session_cookie, secure=hub.settings.is_https, httponly=True, samesite="strict")
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


@router.get("/link/{token}")
def link_page(request: Request, token: LinkToken) -> Response:
    """What the link offers; looking at it does not use it up."""
    hub = services(request)
    link = hub.operators.look_at_link(token, hub.clock())
    return pages_of(request).response(request, "link.html", None, link=link, name="", problem="")


@router.post("/link/{token}")
def follow_link(
    request: Request, token: LinkToken, name: NameField = "", password: PasswordField = ""
) -> Response:
    """Use the link: make the operator or set the password, and open a session."""
    hub = services(request)
    link = hub.operators.look_at_link(token, hub.clock())
    try:
        session = hub.operators.follow_link(token, name=name, password=password or None, now=hub.clock())
    except SignInRefused as refused:
        return pages_of(request).response(
            request,
            "link.html",
            None,
            link=link,
            name=name,
            problem=pages_of(request).gettext(str(refused)),
            status_code=422,
        )
    return _signed_in(hub, session, "/")


def _form(
    request: Request,
    *,
    next_address: str,
    name: str = "",
    problem: str = "",
    status_code: int = 200,
) -> Response:
    first_run = not services(request).operators.are_there_any()
    return pages_of(request).response(
        request,
        "sign_in.html",
        None,
        status_code=status_code,
        first_run=first_run,
        next=inside(next_address),
        name=name,
        problem=problem,
    )


def _signed_in(hub: Services, token: str, address: str) -> Response:
    answer = RedirectResponse(address, 303)
    answer.set_cookie(
        hub.session_cookie,
        token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        secure=hub.settings.is_https,
        httponly=True,
        samesite="strict",
    )
    return answer


def inside(address: str) -> str:
    """``address`` when it is a path of this hub, else the live page."""
    is_inside = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_inside else "/"
