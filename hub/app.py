"""The application: one hub, assembled from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import structlog
from argon2 import PasswordHasher
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp

from hub import api, audit, import_rows, photographs
from hub.api import access, description, problems
from hub.api.attempts import Attempts
from hub.api.feed import Feed
from hub.api.muster import made
from hub.api.problems import Code, Problem
from hub.api.requests import Requests
from hub.api.rim import BodyLimit, SecurityHeaders
from hub.api.services import Services, session_cookie
from hub.broker_node import broker_settings
from hub.desk import Desks
from hub.imports import Imports
from hub.issuing import Issuing
from hub.keys import HubKeys
from hub.kiosks import Kiosks
from hub.link import TIME_ZONE, ControllerLink
from hub.live import LiveBus
from hub.metrics import Metrics
from hub.muster_copies import MusterCopies
from hub.oidc import OpenIdConnect
from hub.oidc_provider import Provider
from hub.operators import Operators
from hub.orders import Orders
from hub.pages import (
    access_levels,
    account,
    areas,
    arrival,
    attended,
    audit_log,
    cards,
    controllers,
    door_access,
    door_rules,
    duties,
    holidays,
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
from hub.pages import posts as post_pages
from hub.pages import sites as site_pages
from hub.pages import webhooks as webhook_pages
from hub.pages.languages import SOURCE
from hub.pages.rendering import make_pages, pages_of
from hub.pages.views import live_variant
from hub.passkeys import Passkeys
from hub.posts import Posts
from hub.reporting import Reporting
from hub.roll_call import RollCall
from hub.settings import Settings, database_address, oidc_secret, passphrase_file
from hub.stations import Stations
from hub.store import sites
from hub.store.database import Database
from hub.store.sites import Site
from hub.webhooks import Webhooks
from pacs.errors import PacsError

_log = structlog.get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024
LARGER_BODIES = {
    re.compile("/api/v1/cardholders/[^/]+/photo"): photographs.MAX_UPLOAD_BYTES,
    re.compile("/(cardholders|issuing/people)/[^/]+/photo"): photographs.MAX_UPLOAD_BYTES + 4096,
    re.compile("/api/v1/imports"): import_rows.MAX_BYTES,
    re.compile("/imports"): import_rows.MAX_BYTES + 4096,
    re.compile("/api/v1/access-levels(/[^/]+)?"): 512 * 1024,  # two thousand rules
}


def utc_now() -> datetime:
    """This moment, aware."""
    return datetime.now(UTC)


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
        issuing_pages.router,
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
        document_pages.router,
        webhook_pages.router,
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
    live = LiveBus()
    try:
        database = Database.of(database_address(settings))
    except PacsError as error:
        app.state.failure = error
        raise
    try:
        webhooks = Webhooks(
            database,
            clock,
            settings.webhooks_allow,
            ca_file=settings.webhooks_ca_file,
            periods=settings.retention,
        )
        by_provider = _oidc(settings, database)
        home, link = await run_in_threadpool(_prepare, settings, database, live, clock)
        await run_in_threadpool(link.start)
    except PacsError as error:
        app.state.failure = error
        database.close()
        raise
    desks, known = Desks(database, clock), Operators(database, hasher)
    posts = Posts(
        database,
        link.commands,
        clock,
        whose=known.sessions.by_hash,
        leads=lambda: link.leases.standing.is_leader,
    )
    imports = Imports(database, site_changed=link.site_changed, clock=clock)
    try:
        await run_in_threadpool(imports.start)
        webhooks.start()
        posts.start()
        services = Services(
            settings=settings,
            home=home,
            database=database,
            operators=known,
            passkeys=Passkeys(database, settings.public_origin),
            oidc=by_provider,
            attempts=Attempts(clock, database if settings.database_url else None),
            revocation=link.revocation,
            card_changes=link.card_changes,
            issuing=Issuing(
                database, link.card_changes, link.revocation, clock=clock, site_changed=link.site_changed
            ),
            retention=link.retention,
            transfers=link.transfers,
            commands=link.commands,
            signing=link.signing,
            attendance=link.attendance,
            alarms=link.alarms,
            enrolment=link.enrolment,
            orders=Orders(database, link.commands, clock),
            live=live,
            feed=Feed(database, live, clock, link.attendance),
            desks=desks,
            posts=posts,
            stations=Stations(database, live, clock, desks),
            imports=imports,
            webhooks=webhooks,
            questions=link.questions,
            roll_call=RollCall(database, clock, settings.retention.precise),
            reporting=Reporting(
                database,
                clock,
                settings.retention.registration,
                leads=lambda: link.leases.standing.is_leader,
            ),
            kiosks=Kiosks(database, live, clock),
            muster_copies=MusterCopies(
                settings.muster_copies,
                lambda: muster.files(
                    app.state.pages_by_language[settings.language], made(app.state.services)
                ),
                clock,
                leads=lambda: link.leases.standing.is_leader,
            ),
            site_changed=link.site_changed,
            is_settled=lambda: link.distribution.is_settled,
            health=lambda: {**link.health, "webhooks": webhooks.is_running, "posts": posts.is_running},
            clock=clock,
        )
        app.state.link = link
        _prepare_pages(app, services)
        following = asyncio.create_task(services.feed.follow())
        at_kiosks = asyncio.create_task(services.kiosks.follow())
        services.muster_copies.start()
        services.reporting.watch.start()
        warming_up = asyncio.create_task(run_in_threadpool(services.roll_call.warm_up))
        try:
            yield
        finally:
            await run_in_threadpool(services.reporting.watch.stop)
            await run_in_threadpool(services.muster_copies.watch.stop)
            await asyncio.gather(warming_up, return_exceptions=True)
            services.feed.close()
            live.close()
            for task in (following, at_kiosks):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
    finally:
        await run_in_threadpool(posts.stop)
        await run_in_threadpool(webhooks.stop)
        await run_in_threadpool(imports.stop)
        await run_in_threadpool(link.stop)
        database.close()


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


def _oidc(settings: Settings, database: Database) -> OpenIdConnect | None:
    if not settings.oidc.issuer:
        return None
    redirect_uri = settings.public_origin + oidc.CALLBACK
    return OpenIdConnect(database, Provider(settings.oidc, oidc_secret(settings), redirect_uri))


def _prepare(
    settings: Settings, database: Database, live: LiveBus, clock: Callable[[], datetime]
) -> tuple[Site, ControllerLink]:
    """Open the keys, bring the schema up to date and make the database one of this site, and maybe of others."""
    keys = HubKeys.load(settings.site_dir, passphrase_file(settings))
    database.migrate()
    with database.write() as connection:
        named = Site(
            id=keys.site_id,
            name=settings.site_name or keys.site_id,
            time_zone=settings.time_zone or TIME_ZONE,
            created_at=clock(),
        )
        site = sites.ensure(connection, named)
        sites.change(
            connection,
            site.id,
            name=settings.site_name or site.name,
            time_zone=settings.time_zone or site.time_zone,
        )
        home = sites.get(connection, site.id)
        _log.info("audit_head", head=str(audit.verify(connection)))
    advertised = settings.mqtt_advertised
    return home, ControllerLink(
        database,
        keys,
        broker_settings(settings) if settings.runs_broker else None,
        servers=[(server.host, server.port) for server in settings.mqtt_servers],
        advertised=(advertised.host, advertised.port) if advertised else None,
        live=live,
        clock=clock,
        bounds=settings.alarms,
        periods=settings.retention,
    )


def _problem_page(request: Request, problem: Problem) -> Response:
    """A failure as a page; who is not signed in is sent to sign in and comes back."""
    if problem.code is Code.NOT_SIGNED_IN:
        wanted = request.url.path if request.method == "GET" else "/"
        return RedirectResponse(f"/sign-in?next={quote(wanted, safe='/')}", 303)
    principal = getattr(request.state, "principal", None)
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
