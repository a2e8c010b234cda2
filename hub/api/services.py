"""What a route may use: the parts of one hub, found through its application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from fastapi import Request

from hub.alarms import Alarms
from hub.commands import Commands
from hub.imports import Imports
from hub.operators import Operators
from hub.orders import Orders
from hub.questions import Questions
from hub.revocation import Revocation
from hub.settings import Settings
from hub.store.database import Database

if TYPE_CHECKING:
    from hub.api.attempts import Attempts
    from hub.api.feed import Feed


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The parts of one hub.

    ``site_changed`` is called after a commit that may change the policy or the controllers; ``is_settled``: every
    such change is in a version. ``health`` says which parts work. ``clock`` gives aware UTC datetimes.
    """

    settings: Settings
    database: Database
    operators: Operators
    attempts: Attempts
    revocation: Revocation
    commands: Commands
    alarms: Alarms
    orders: Orders
    feed: Feed
    imports: Imports
    questions: Questions
    site_changed: Callable[[], None]
    is_settled: Callable[[], bool]
    health: Callable[[], Mapping[str, bool]]
    clock: Callable[[], datetime]

    @property
    def session_cookie(self) -> str:
        """The cookie's name: bound to this host and to TLS where there is TLS (RFC 6265bis §4.1.3.2)."""
        return "__Host-drempel" if self.settings.is_https else "drempel"


def services(request: Request) -> Services:
    """The services of the application that ``request`` came to."""
    return cast(Services, request.app.state.services)
