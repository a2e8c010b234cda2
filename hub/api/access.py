"""Who is asking, and whether they may: one declaration per route.

A route takes ``Annotated[Principal, requires(Permission.X)]``; one that anybody may call has ``PUBLIC`` among
its dependencies. A route without either cannot be registered.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from hub.api import idempotency
from hub.api.fields import OneTimeSecret
from hub.api.idempotency import Handler
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store.stations import Station

CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf_token"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class Access:
    """The dependency behind ``requires`` and ``PUBLIC``; ``permission`` None: anybody.

    ``everywhere``: only for who sees every site.
    """

    is_for_stations = False

    def __init__(self, permission: Permission | None, *, everywhere: bool = False) -> None:
        self.permission = permission
        self.everywhere = everywhere

    @property
    def is_public(self) -> bool:
        """Whether anybody may."""
        return self.permission is None and not self.is_for_stations

    async def __call__(self, request: Request) -> Principal | Station | None:
        """Return who is asking; raise ``Problem`` when they may not."""
        unsafe = request.method not in _SAFE
        by_token = "authorization" in request.headers
        if unsafe and not by_token:
            _require_same_origin(request)
        if self.permission is None:
            return None
        principal = await run_in_threadpool(identify, request)
        if principal is None:
            raise Problem(Code.NOT_SIGNED_IN, headers={"WWW-Authenticate": "Bearer"})
        if unsafe and principal.csrf_token is not None:
            await _require_csrf_token(request, principal.csrf_token)
        request.state.principal = principal
        if not principal.may(self.permission):
            raise Problem(Code.NOT_PERMITTED, f"This needs the permission {self.permission}.")
        if self.everywhere and principal.sites is not None:
            raise Problem(Code.NOT_PERMITTED, "This concerns every site; only who sees all of them may.")
        return principal


def requires(permission: Permission, *, everywhere: bool = False) -> Any:
    """Declare that a route is for principals who hold ``permission``; gives it the ``Principal``.

    ``everywhere``: what it is about belongs to no site, and is for those who see all of them.
    """
    return Depends(Access(permission, everywhere=everywhere))


PUBLIC = Depends(Access(None))


class StationAccess(Access):
    """The dependency behind ``FROM_STATION``."""

    is_for_stations = True

    async def __call__(self, request: Request) -> Station:
        """Return which station reports; raise ``Problem`` when none does, or it does so too often."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        hub = services(request)
        found = None
        if scheme.lower() == "bearer":
            found = await run_in_threadpool(hub.stations.by_token, token.strip())
        if found is None:
            raise Problem(
                Code.NOT_SIGNED_IN,
                "No station in use has this token.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        hub.attempts.count_report(found)
        return found


FROM_STATION = Depends(StationAccess(None))
"""Declare that a route is for a station, by its token; gives it the ``Station``."""


class DeclaredRoute(APIRoute):
    """A route that says who may call it; raises ``TypeError`` at registration when it does not."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options | {"generate_unique_id_function": operation_id})
        declared_access(self)

    def get_route_handler(self) -> Handler:
        """What answers a request: once for each idempotency key, where it changes something."""
        handler = super().get_route_handler()
        keeps = not _is_one(self.response_model, OneTimeSecret)
        if not self.path.startswith("/api/") or (self.methods or set()) <= _SAFE:
            return handler

        async def once(request: Request) -> Response:
            _require_nearest(request)
            return await idempotency.answer(request, handler, identify, keeps=keeps)

        return once


def _is_one(model: Any, kind: type) -> bool:
    """Whether ``model`` is a class, and one of this kind."""
    return isinstance(model, type) and issubclass(model, kind)


def operation_id(route: APIRoute) -> str:
    """``module_function``: stays as long as neither is renamed."""
    return f"{route.endpoint.__module__.rpartition('.')[2]}_{route.name}"


def declared_access(route: APIRoute) -> Access:
    """The one access declaration of ``route``; raises ``TypeError`` when there is none, or several."""
    found = list(_declarations(route.dependant))
    if len(found) != 1:
        raise TypeError(f"route {route.path}: declare exactly one of requires(...) and PUBLIC")
    return found[0]


def identify(request: Request, *, is_use: bool = True) -> Principal | None:
    """Whose request this is: a bearer token if one is sent, else the session cookie.

    Not ``is_use``: a session does not last longer for it.
    """
    hub = services(request)
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        return (
            hub.operators.tokens.principal(token.strip(), hub.clock()) if scheme.lower() == "bearer" else None
        )
    cookie = request.cookies.get(hub.session_cookie)
    return hub.operators.sessions.principal(cookie, hub.clock(), is_use=is_use) if cookie else None


def _declarations(dependant: Dependant) -> Iterator[Access]:
    for each in dependant.dependencies:
        if isinstance(each.call, Access):
            yield each.call
        yield from _declarations(each)


def allowed_methods(request: Request) -> list[str]:
    """Every method that the address of this request takes; of routes that match it, those without a parameter come first."""
    matching = [route for route in request.app.state.routes if route.path_regex.match(request.url.path)]
    literal = [route for route in matching if not route.param_convertors]
    return sorted({method for route in literal or matching for method in route.methods or ()})


def _require_nearest(request: Request) -> None:
    """``PATCH /things/links`` is no change of a thing named links."""
    if request.path_params and request.method not in (allowed := allowed_methods(request)):
        raise Problem(Code.METHOD_NOT_ALLOWED, headers={"Allow": ", ".join(allowed)})


def _require_same_origin(request: Request) -> None:
    """Refuse what a page of another origin made the browser send (Origin, Fetch Metadata)."""
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise Problem(Code.CROSS_SITE, "The request comes from another site's page.")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise Problem(Code.CROSS_SITE, "The request comes from another site's page.")
    if site is None and origin is None:
        raise Problem(Code.CROSS_SITE, "The request does not say which page it comes from.")


async def _require_csrf_token(request: Request, expected: str) -> None:
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and request.headers.get("content-type", "").startswith(_FORMS):
        field = (await request.form()).get(CSRF_FIELD)
        sent = field if isinstance(field, str) else None
    if sent is None or not hmac.compare_digest(sent.encode(), expected.encode()):
        raise Problem(Code.CROSS_SITE, "The request lacks this session's token.")
