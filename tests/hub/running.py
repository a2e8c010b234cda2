"""A whole hub for tests: real server, real database, real broker, on free loopback ports.

``with running_hub(tmp_path) as hub:`` then ``hub.token(Role.GUARD)`` for a program, ``hub.signed_in(Role.GUARD)``
for a browser's session, ``hub.door("kitchen", "Kitchen")`` for a controller that is connected and confirms.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.routing import APIRoute

from hub.app import create_app
from hub.operators import Operators
from hub.roles import Role
from hub.server import HubServer
from hub.settings import Address, Settings
from hub.store.database import Database
from pacs.events import EventKind
from pacs.identifiers import ControllerId, CredentialId, DoorId, SiteId
from pacs.reason import Reason
from pacs.rules import Side
from provisioning.card_keys import CardKeys
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import Site, create_site
from tests.hub.controller import FakeController, eventually

PASSWORD = "correct horse battery staple"
QUICK = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


class Clock:
    """The machine's clock, moved forward as a test likes."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def _made_site(directory: Path, now: datetime) -> Site:
    """A site that can issue the simulator's cards."""
    site = create_site(directory, SiteId("test-site"), now=now)
    CardKeys.read(directory, site.passphrase()).with_simulated_batch().write(directory, site.passphrase())
    return site


class RunningHub:
    """A hub that serves, from its own thread."""

    def __init__(self, directory: Path, *, site: Site | None = None, port: int = 0, **settings: Any) -> None:
        self.directory = directory
        self.clock = Clock()
        self.site = site or _made_site(directory / "site", self.clock())
        self.controllers: dict[str, FakeController] = {}
        anywhere = Address("127.0.0.1", 0)
        self.settings = Settings(
            site_dir=directory / "site" / "hub",
            data_dir=directory / "data",
            http=anywhere,
            mqtt=anywhere,
            **settings,
        )
        self.app = create_app(self.settings, clock=self.clock, hasher=QUICK)
        self._socket = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.server = HubServer(self.app, self.settings)
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        eventually(lambda: self.server.started or not self._thread.is_alive(), "the hub serves")
        assert self.server.started

    @classmethod
    def again(cls, stopped: RunningHub) -> RunningHub:
        """The same site and data, another process as it were."""
        return cls(stopped.directory, site=stopped.site)

    def stop(self) -> None:
        for controller in self.controllers.values():
            controller.disconnect()
        self.server.should_exit = True
        self._thread.join(30)
        self._socket.close()

    @property
    def database(self) -> Database:
        database: Database = self.app.state.services.database
        return database

    @property
    def operators(self) -> Operators:
        operators: Operators = self.app.state.services.operators
        return operators

    def client(self, **headers: str) -> httpx.Client:
        """A program or browser without credentials."""
        return httpx.Client(base_url=self.url, headers=headers, timeout=20)

    def token(self, role: Role = Role.ADMINISTRATOR, sites: frozenset[SiteId] | None = None) -> httpx.Client:
        """A program with an API token of this role, for these sites."""
        name = f"{role}-{secrets.token_hex(4)}"
        token = self.operators.tokens.create(
            name=name, role=role, lifetime=None, now=self.clock(), sites=sites
        )
        return self.client(authorization=f"Bearer {token}")

    def link(
        self, role: Role = Role.ADMINISTRATOR, name: str = "", sites: frozenset[SiteId] | None = None
    ) -> str:
        """A fresh one-time link's path."""
        token = self.operators.links.create(name=name, role=role, now=self.clock(), sites=sites)
        return f"/link/{token}"

    def signed_in(
        self, role: Role = Role.ADMINISTRATOR, name: str = "", sites: frozenset[SiteId] | None = None
    ) -> httpx.Client:
        """A browser's session, made by following a one-time link."""
        form = {"name": name or f"Somebody {secrets.token_hex(3)}", "password": PASSWORD}
        with self.client(origin=self.url) as visitor:
            answer = visitor.post(self.link(role, sites=sites), data=form)
        assert answer.status_code == 303, answer.text
        browser = self.client(origin=self.url)
        browser.cookies.update(answer.cookies)
        return browser

    def door(
        self, door_id: str, name: str = "", *, connect: bool = True, site: str = "test-site"
    ) -> FakeController:
        """A controller with one door of the same id, registered as provisioning does."""
        authority = self.site.authority(self.site.passphrase())
        wiring = [DoorWiring(id=DoorId(door_id), device="/dev/null")]
        made = add_controller(
            self.site.at(SiteId(site)), authority, ControllerId(door_id), wiring, now=self.clock()
        )
        with self.token(Role.SITE_MANAGER) as program:
            controller = {
                "id": door_id,
                "site_id": site,
                "event_public_key": made.event_public_key.hex(),
                "certificate_serial": made.certificate_serial,
            }
            assert program.post("/api/v1/controllers", json=controller).status_code == 201
            door = {"id": door_id, "controller_id": door_id, "name": name or door_id}
            assert program.post("/api/v1/doors", json=door).status_code == 201
        fake = FakeController(made, self.app.state.link.broker.port)
        self.controllers[door_id] = fake
        if connect:
            fake.connect()
            fake.wait_online()
        return fake

    def card(
        self, given: str = "Ama", family: str = "Mensah", category: str = "resident", site: str = "test-site"
    ) -> CredentialId:
        """An enrolled person's card."""
        credential = CredentialId(secrets.token_bytes(16))
        with self.token(Role.SITE_MANAGER) as program:
            person = {"site_id": site, "category": category, "given_name": given, "family_name": family}
            made = program.post("/api/v1/cardholders", json=person)
            assert made.status_code == 201, made.text
            card = {
                "credential_id": str(credential),
                "cardholder_id": made.json()["id"],
                "technology": "pkoc-v2",
            }
            answer = program.post("/api/v1/cards", json=card)
            assert answer.status_code == 201, answer.text
        return credential

    def until_confirmed(self) -> None:
        """Wait until every connected controller holds what is in force."""

        def all_current() -> bool:
            with self.token() as program:
                doors = program.get("/api/v1/doors").json()["doors"]
            return all(
                not door["online"]
                or (
                    door["policy_version"] == door["policy_newest"] > 0
                    and door["revocations_version"] == door["revocations_newest"] > 0
                )
                for door in doors
            )

        eventually(all_current, "every door confirmed")


def tap(
    controller: FakeController, credential: CredentialId | None, reason: Reason = Reason.ENTITLED
) -> None:
    """Somebody taps at the entry side."""
    kind = EventKind.ACCESS_GRANTED if reason is Reason.ENTITLED else EventKind.ACCESS_DENIED
    controller.record(
        kind,
        door_id=DoorId(controller.id),
        side=Side.ENTRY,
        credential_id=credential,
        reason=reason,
    )


def ask(controller: FakeController, credential: CredentialId, *, timeout_s: int = 60, **fields: Any) -> str:
    """Somebody taps at an attended door, and waits; the request's id."""
    request = secrets.token_bytes(16)
    controller.record(
        EventKind.ACCESS_REFERRED,
        **{
            "door_id": DoorId(controller.id),
            "side": Side.ENTRY,
            "credential_id": credential,
            "reason": Reason.DOOR_ATTENDED,
            "details": {"request": request, "timeout_s": timeout_s},
            **fields,
        },
    )
    return request.hex()


def csrf_of(page: str) -> str:
    """The token in a page's forms."""
    found = re.search(r'name="csrf_token" value="([0-9a-f]+)"', page)
    assert found is not None
    return found[1]


def routes_of(app: FastAPI) -> list[APIRoute]:
    """Every route of the application, those of included routers too."""
    found: list[APIRoute] = []
    pending: list[Any] = list(app.routes)
    while pending:
        route = pending.pop()
        if isinstance(route, APIRoute):
            found.append(route)
        else:
            inner = getattr(route, "original_router", None) or getattr(route, "app", None)
            assert inner is not None, f"{route!r} is of a kind that declares no permission"
            pending.extend(inner.routes)
    return sorted(found, key=lambda route: (route.path, sorted(route.methods or ())))


@contextmanager
def running_hub(directory: Path, **settings: Any) -> Iterator[RunningHub]:
    hub = RunningHub(directory, **settings)
    try:
        yield hub
    finally:
        hub.stop()
