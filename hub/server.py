"""Serving: one socket, one application, and where it can be found."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from dataclasses import replace
from types import FrameType

import click
import uvicorn
from fastapi import FastAPI

from hub.app import create_app
from hub.clock import utc_now
from hub.https import HttpsCertificate
from hub.keys import read_passphrase
from hub.operators import Operators
from hub.settings import Address, Settings, passphrase_file
from pacs.errors import StoreError

STOP_S = 10
LISTENING = "listening.json"
_COLLECT_AFTER = (20_000, 20, 50)
"""Storing makes and drops objects by the thousand, hardly ever in cycles."""
_SWITCH_INTERVAL_S = 0.0005
"""How long one thread may keep another from the interpreter: whoever stores events asks for it anew with every statement."""


class HubServer(uvicorn.Server):
    """Says where it listens once it does, and ends the live streams when it stops."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_level="critical",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_S,
                ssl_certfile=settings.certificate,
                ssl_keyfile=settings.key,
                ssl_keyfile_password=read_passphrase(passphrase_file(settings)) if settings.key else None,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=list(settings.trusted_proxies),
            )
        )
        self._app = app
        self._settings = settings
        self._following: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving, then tell people and programs where."""
        await super().startup(sockets)
        if self.should_exit or sockets is None:
            return
        self._following = self._follow_certificate()
        port = sockets[0].getsockname()[1]
        settings = replace(self._settings, http=Address(self._settings.http.host, port))
        mqtt = (
            Address(settings.mqtt.host, self._app.state.link.broker.port)
            if settings.runs_broker
            else settings.mqtt_servers[0]
        )
        where = {"http": settings.public_origin, "mqtt": str(mqtt), "pid": os.getpid()}
        path = settings.data_dir / LISTENING
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.with_suffix(".new").write_text(json.dumps(where))
        path.with_suffix(".new").replace(path)
        click.echo(f"Drempel hub: {settings.public_origin}   controllers: {mqtt}")
        operators: Operators = self._app.state.services.operators
        if not operators.are_there_any():
            token = operators.links.create(name="", role=None, now=utc_now())
            click.echo(f"Nobody has signed in yet. {link_text(settings.public_origin, token)}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, which would otherwise never end, then stop."""
        if self._following:
            self._following.cancel()
        if services := getattr(self._app.state, "services", None):
            services.feed.close()
            services.live.close()
        await super().shutdown(sockets)

    def _follow_certificate(self) -> asyncio.Task[None] | None:
        certificate, key, context = self._settings.certificate, self._settings.key, self.config.ssl
        if certificate is None or key is None or context is None:
            return None
        served = HttpsCertificate(context, certificate, key, self.config.ssl_keyfile_password)
        return asyncio.create_task(served.follow())


def serve(settings: Settings) -> None:
    """Serve until told to stop; raises ``PacsError`` when the hub cannot start."""
    family = socket.AF_INET6 if ":" in settings.http.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.http.host, settings.http.port))
        except OSError as error:
            raise StoreError(
                f"{settings.http}: cannot listen ({error.strerror}); choose another with --http"
            ) from error
        app = create_app(settings)
        gc.freeze()  # what is there stays, and need not be looked through again and again
        gc.set_threshold(*_COLLECT_AFTER)
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _end)
        try:
            HubServer(app, settings).run([listening])
        except SystemExit:
            if failure := getattr(app.state, "failure", None):
                raise failure from None
            raise


def _end(_number: int, _frame: FrameType | None) -> None:
    """Being told to stop is no failure; the server raises the signal again once it has stopped."""
    sys.exit(0)


def origin(settings: Settings) -> str:
    """Where the running hub is found, or would be."""
    try:
        return str(json.loads((settings.data_dir / LISTENING).read_text())["http"])
    except (OSError, ValueError, KeyError):
        return settings.public_origin


def link_text(found_at: str, token: str) -> str:
    """What is printed for a one-time link."""
    return f"Sign in once, within 15 minutes: {found_at}/link/{token}"
