"""What a route may use: the parts of one hub, found through its application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, cast

from fastapi import Request

from hub.alarms import Alarms
from hub.attendance import Attendance
from hub.card_changes import CardChanges
from hub.commands import Commands
from hub.desk import Desks
from hub.enrolment import Enrolment
from hub.imports import Imports
from hub.issuing import Issuing
from hub.kiosks import Kiosks
from hub.live import LiveBus
from hub.muster_copies import MusterCopies
from hub.oidc import OpenIdConnect
from hub.operators import Operators
from hub.orders import Orders
from hub.passkeys import Passkeys
from hub.posts import Posts
from hub.questions import Questions
from hub.reporting import Reporting
from hub.retention import Retention
from hub.revocation import Revocation
from hub.roll_call import RollCall
from hub.settings import Settings
from hub.signing import Signing
from hub.stations import Stations
from hub.store.database import Database
from hub.store.sites import Site
from hub.transfers import Transfers
from hub.webhooks import Webhooks
from pacs.identifiers import SiteId

if TYPE_CHECKING:
    from hub.api.attempts import Attempts
    from hub.api.feed import Feed


class SiteChanged(Protocol):
    """Told after each commit that may concern doors."""

    def __call__(self, site_id: SiteId | None = None) -> None:
        """Of one site, or of any."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one hub.

    ``site_changed`` is called after a commit that may change a site's documents (without one: any site's) or the
    controllers; ``is_settled``: every such change is in a version. ``health`` says which parts work. ``home`` is the site whose keys this hub has, and whose clock pages go by. ``clock`` gives aware UTC datetimes.
    """

    settings: Settings
    home: Site
    database: Database
    operators: Operators
    passkeys: Passkeys
    oidc: OpenIdConnect | None
    attempts: Attempts
    revocation: Revocation
    card_changes: CardChanges
    issuing: Issuing
    retention: Retention
    transfers: Transfers
    commands: Commands
    signing: Signing
    attendance: Attendance
    alarms: Alarms
    enrolment: Enrolment
    orders: Orders
    live: LiveBus
    feed: Feed
    desks: Desks
    posts: Posts
    stations: Stations
    imports: Imports
    webhooks: Webhooks
    questions: Questions
    roll_call: RollCall
    reporting: Reporting
    kiosks: Kiosks
    muster_copies: MusterCopies
    site_changed: SiteChanged
    is_settled: Callable[[], bool]
    health: Callable[[], Mapping[str, bool]]
    clock: Callable[[], datetime]

    @property
    def session_cookie(self) -> str:
        """As the function of the same name."""
        return session_cookie(self.settings)

    @property
    def kiosk_cookie(self) -> str:
        """The name of the cookie of a browser that shows a kiosk's page."""
        return f"{self.session_cookie}-kiosk"

    @property
    def browser_cookie(self) -> str:
        """The name of the cookie by which a browser that was signed in before is known."""
        return f"{self.session_cookie}-browser"

    @property
    def oidc_cookie(self) -> str:
        """The name of the cookie by which a browser is known that was sent to the OpenID provider."""
        return f"{self.session_cookie}-oidc"


def session_cookie(settings: Settings) -> str:
    """The cookie's name: bound to this host and to TLS where there is TLS (RFC 6265bis §4.1.3.2)."""
    return "__Host-drempel" if settings.is_https else "drempel"


def services(request: Request) -> Services:
    """The services of the application that ``request`` came to."""
    return cast(Services, request.app.state.services)
