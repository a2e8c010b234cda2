"""The application: one hub, assembled from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog
from argon2 import PasswordHasher
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp

from hub import api, import_rows, photographs
from hub.api import access, description, problems
from hub.api.muster import made
from hub.api.problems import Code, Problem
from hub.api.requests import Requests
from hub.api.rim import BodyLimit, SecurityHeaders
from hub.api.services import Services, session_cookie
from hub.assembly import assembled, opened
from hub.clock import utc_now
from hub.live import LiveBus
from hub.metrics import Metrics
from hub.muster_copies import Made
from hub.pages import (
    access_levels,
    account,
    areas,
    arrival,
    attended,
    audit_log,
    card_print,
    card_stock,
    cards,
    controllers,
    door_access,
    door_rules,
    duties,
    holidays,
    issuing_batches,
    kiosk,
    movements,
    muster,
    oidc,
    operators,
    orders,
    people,
    preferences,
    reasons,
    registration,
    retention,
    schedules,
    service,
    sign_in,
    site_retention,
    static_files,
    statistics,
    transfers,
    watch,
)
from hub.pages import desk as desk_pages
from hub.pages import documents as document_pages
from hub.pages import events as event_pages
from hub.pages import imports as import_pages
from hub.pages import issuing as issuing_pages
from hub.pages import keys as key_pages
from hub.pages import posts as post_pages
from hub.pages import sites as site_pages
from hub.pages import webhooks as webhook_pages
from hub.pages.languages import SOURCE
from hub.pages.rendering import make_pages, pages_of
from hub.pages.views import live_variant
from hub.roles import Permission
from hub.settings import Settings, database_address
from hub.store.database import Database
from pacs.errors import PacsError

_log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
LARGER_BODIES = {
    re.compile("/api/v1/cardholders/[^/]+/photo"): photographs.MAX_UPLOAD_BYTES,
    re.compile("/(cardholders|issuing/people)/[^/]+/photo"): photographs.MAX_UPLOAD_BYTES + 4096,
    re.compile("/api/v1/imports"): import_rows.MAX_BYTES,
    re.compile("/imports"): import_rows.MAX_BYTES + 4096,
    re.compile("/api/v1/access-levels(/[^/]+)?"): 512 * 1024,  # two thousand rules
    re.compile("/(new-access-level|access-levels/[^/]+/edit)"): 512 * 1024,
}


def create_app(
    settings: Settings,
    *,
    clock: Callable[[], datetime] = utc_now,
    hasher: PasswordHasher | None = None,
) -> FastAPI:
    """The web application of one hub; its lifespan starts and stops everything beside it."""
    app = _Application(
        title="Drempel hub",
        version="1",
        lifespan=partial(_lifespan, settings=settings, clock=clock, hasher=hasher),
        openapi_url=None,  # a route of its own serves it, which says who may
        redirect_slashes=False,
    )
    app.add_middleware(BodyLimit, limit=MAX_BODY_BYTES, larger=LARGER_BODIES)
    app.is_https = settings.is_https
    app.state.metrics = Metrics()
    app.session_cookie = session_cookie(settings)
    problems.install(app, _problem_page, access.allowed_methods)
    app.state.routes = api.routes()
    for router in (
        *api.routers(),
        static_files.router,
        desk_pages.router,
        post_pages.router,
        sign_in.router,
        oidc.router,
        preferences.router,
        watch.router,
        attended.router,
        orders.router,
        reasons.router,
        account.router,
        operators.router,
        audit_log.router,
        cards.router,
        people.router,
        card_stock.router,
        issuing_batches.router,
        issuing_pages.router,
        card_print.router,
        import_pages.router,
        retention.router,
        site_retention.router,
        access_levels.router,
        areas.router,
        door_access.router,
        door_rules.router,
        schedules.router,
        holidays.router,
        arrival.router,
        muster.router,
        movements.router,
        event_pages.router,
        controllers.router,
        service.router,
        document_pages.router,
        webhook_pages.router,
        key_pages.router,
        site_pages.router,
        transfers.router,
        statistics.router,
        kiosk.router,
        registration.router,
        duties.router,
    ):
        app.include_router(router)
    return app


class _Application(FastAPI):
    """Every answer passes the rim, that to an error of the hub's own included."""

    is_https = False
    session_cookie = ""

    def openapi(self) -> dict[str, Any]:
        """The description of the API, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = description.describe(self, api.routes(), session_cookie=self.session_cookie)
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        """What the server calls for each request."""
        inner = SecurityHeaders(super().build_middleware_stack(), https=self.is_https)
        return Requests(inner, self.state.metrics.answered)


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI,
    *,
    settings: Settings,
    clock: Callable[[], datetime],
    hasher: PasswordHasher | None,
) -> AsyncIterator[None]:
    try:
        database = Database.of(database_address(settings))
    except PacsError as error:
        app.state.failure = error
        raise
    live = LiveBus()
    try:
        home, link = await run_in_threadpool(opened, settings, database, live, clock)
        services = assembled(
            settings, database, live, home, link, clock=clock, hasher=hasher, copy=partial(_copy, app)
        )
        await run_in_threadpool(link.start)
    except PacsError as error:
        app.state.failure = error
        database.close()
        raise
    app.state.link = link
    try:
        async with _running(app, services):
            yield
    finally:
        await run_in_threadpool(link.stop)
        database.close()


@contextlib.asynccontextmanager
async def _running(app: FastAPI, services: Services) -> AsyncIterator[None]:
    """Everything beside the link to the controllers."""
    try:
        await run_in_threadpool(services.imports.start)
        services.webhooks.start()
        services.posts.lookout.start()
        _prepare_pages(app, services)
        services.muster_copies.start()
        services.reporting.lookout.start()
        followers = [asyncio.create_task(each.follow()) for each in (services.feed, services.kiosks)]
        warming_up = asyncio.create_task(run_in_threadpool(services.roll_call.warm_up))
        try:
            yield
        finally:
            await run_in_threadpool(services.reporting.lookout.stop)
            await run_in_threadpool(services.muster_copies.lookout.stop)
            await asyncio.gather(warming_up, return_exceptions=True)
            services.feed.close()
            services.live.close()
            for task in followers:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
    finally:
        await run_in_threadpool(services.posts.lookout.stop)
        await run_in_threadpool(services.webhooks.stop)
        await run_in_threadpool(services.imports.stop)


def _copy(app: FastAPI) -> Made:
    """The roll call as it is copied, on pages of the house's language."""
    services: Services = app.state.services
    return muster.files(app.state.pages_by_language[services.settings.language], made(services))


def _prepare_pages(app: FastAPI, services: Services) -> None:
    services.database.wrote = app.state.metrics.wrote
    app.state.services = services
    app.state.pages_by_language = make_pages(services)
    app.state.variants = {
        (code, names): live_variant(pages, names=names)
        for code, pages in app.state.pages_by_language.items()
        for names in (False, True)
    }
    app.state.attended_variants = {
        (code, names): attended.attended_variant(pages, names=names)
        for code, pages in app.state.pages_by_language.items()
        for names in (False, True)
    }


def _problem_page(request: Request, problem: Problem) -> Response:
    """A failure as a page; who is not signed in is sent to sign in and comes back, who does not watch to what they do."""
    if problem.code is Code.NOT_SIGNED_IN:
        wanted = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/sign-in?next={quote(wanted, safe='/')}", 303)
    principal = getattr(request.state, "principal", None)
    if problem.code is Code.NOT_PERMITTED and principal and principal.csrf_token and request.url.path == "/":
        return RedirectResponse("/issuing" if principal.may(Permission.CARDS_MANAGE) else "/account", 303)
    if problem.code is Code.REASON_REQUIRED and request.method == "GET":
        wanted = f"{request.url.path}?{request.url.query}".rstrip("?")
        return reasons.ask(request, principal, request.state.reason_subject, wanted)
    pages = pages_of(request)
    kind = problem.code.value
    detail = str(problem)
    return pages.response(
        request,
        "problem.html",
        principal,
        status_code=kind.status,
        headers=problem.headers,
        title=pages.gettext(kind.title),
        detail=pages.gettext(detail) if detail != kind.title else "",
        detail_language=None if pages.language.knows(detail) else SOURCE,
        next_step=pages.gettext(kind.next_step),
    )
