"""The parts of one hub, put together from its settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog
from argon2 import PasswordHasher

from hub import audit
from hub.api.attempts import Attempts
from hub.api.feed import Feed
from hub.api.services import Services
from hub.broker_node import broker_settings
from hub.desk import Desks
from hub.imports import Imports
from hub.issuing import Issuing
from hub.keys import HubKeys
from hub.kiosks import Kiosks
from hub.link import TIME_ZONE, ControllerLink
from hub.live import LiveBus
from hub.muster_copies import Made, MusterCopies
from hub.oidc import OpenIdConnect
from hub.oidc_provider import Provider
from hub.operators import Operators
from hub.orders import Orders
from hub.pages.oidc import CALLBACK
from hub.passkeys import Passkeys
from hub.posts import Posts
from hub.reporting import Reporting
from hub.roll_call import RollCall
from hub.settings import Settings, oidc_secret, passphrase_file
from hub.stations import Stations
from hub.store import sites
from hub.store.database import Database
from hub.store.sites import Site
from hub.webhooks import Webhooks

_log = structlog.get_logger(__name__)


def opened(
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


def assembled(
    settings: Settings,
    database: Database,
    live: LiveBus,
    home: Site,
    link: ControllerLink,
    *,
    clock: Callable[[], datetime],
    hasher: PasswordHasher | None,
    copy: Callable[[], Made],
) -> Services:
    """Every part, none of them started; ``copy`` makes what is copied of the roll call. Raises ``MalformedData``."""

    def leads() -> bool:
        return link.leases.standing.is_leader

    operators, desks = Operators(database, hasher), Desks(database, clock)
    webhooks = Webhooks(
        database,
        clock,
        settings.webhooks_allow,
        ca_file=settings.webhooks_ca_file,
        periods=settings.retention,
    )
    posts = Posts(database, link.commands, clock, whose=operators.sessions.by_hash, leads=leads)
    return Services(
        settings=settings,
        home=home,
        database=database,
        operators=operators,
        passkeys=Passkeys(database, settings.public_origin),
        oidc=_provider(settings, database),
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
        imports=Imports(database, site_changed=link.site_changed, clock=clock),
        webhooks=webhooks,
        questions=link.questions,
        roll_call=RollCall(database, clock, settings.retention),
        reporting=Reporting(
            database,
            clock,
            settings.retention.registration,
            leads=leads,
        ),
        kiosks=Kiosks(database, live, clock),
        muster_copies=MusterCopies(
            settings.muster_copies,
            copy,
            clock,
            leads=leads,
        ),
        site_changed=link.site_changed,
        is_settled=lambda: link.distribution.is_settled,
        health=lambda: {**link.health, "webhooks": webhooks.is_running, "posts": posts.lookout.is_running},
        clock=clock,
    )


def _provider(settings: Settings, database: Database) -> OpenIdConnect | None:
    if not settings.oidc.issuer:
        return None
    redirect_uri = settings.public_origin + CALLBACK
    return OpenIdConnect(database, Provider(settings.oidc, oidc_secret(settings), redirect_uri))
