"""An agency's machines: PostgreSQL, three brokers in a cluster, hubs beside two of them, all as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
from sqlalchemy import text

from hub.operators import Operators
from hub.roles import Role
from hub.store import events
from pacs.identifiers import ControllerId, DoorId
from provisioning.readers import DoorWiring, add_controller
from provisioning.site import create_site
from simulator.hub_process import free_ports
from tests.hub.controller import FakeController, eventually, register
from tests.hub.databases import SITE, PostgreSql, make_site

NODES = ("a", "b", "c")
WITH_HUB = ("a", "b")
START_WITHIN_S = 90.0
"""Three brokers agree on who leads before they let anybody in, and other work may have the processors."""


class Machine:
    """One of them: a broker node, and a hub where there is to be one."""

    def __init__(self, directory: Path, name: str, settings: str, http_port: int, mqtt_port: int) -> None:
        self.name = name
        self.mqtt_port = mqtt_port
        self.url = f"http://127.0.0.1:{http_port}"
        self._config = directory / f"{name}.toml"
        self._config.write_text(settings)
        self._pid_file = directory / name / "broker" / "broker.pid"
        self._log = (directory / f"{name}.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        what = ["run"] if self.name in WITH_HUB else ["broker", "run"]
        command = [sys.executable, "-m", "hub", *what, f"--config={self._config}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log
        )

    def kill(self) -> None:
        """The machine loses its power: whatever runs on it is gone at once."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(40)
        self._log.close()

    @property
    def broker_pid(self) -> int:
        """0 while there is none."""
        try:
            return int(self._pid_file.read_text())
        except (OSError, ValueError):
            return 0

    def kill_broker(self) -> None:
        """Only the broker; whoever watches it starts another."""
        killed = self.broker_pid
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: self.broker_pid not in (0, killed), f"another broker at {self.name}")

    @property
    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2.0).is_success
        except httpx.HTTPError:
            return False


class Agency:
    """The machines, their database, and controllers spread over the brokers."""

    def __init__(self, directory: Path, server: PostgreSql, names: list[str]) -> None:
        self.database = server.fresh()
        self.site = site = create_site(directory / "site", SITE, now=datetime.now(UTC))
        authority = site.authority(site.passphrase())
        mqtt, routes, http = (free_ports(3), free_ports(3), free_ports(3))
        self.route_port = routes[0]
        self.machines: dict[str, Machine] = {}
        for number, name in enumerate(NODES):
            others = [f'"127.0.0.1:{port}"' for port in routes if port != routes[number]]
            settings = f"""
                site_dir = "{site.hub_directory}"
                data_dir = "{directory / name}"
                [database]
                url = "{self.database.engine.url.render_as_string(hide_password=False)}"
                [http]
                listen = "127.0.0.1:{http[number]}"
                [mqtt]
                listen = "127.0.0.1:{mqtt[number]}"
                servers = [{", ".join(f'"127.0.0.1:{port}"' for port in mqtt)}]
                [cluster]
                node = "{name}"
                listen = "127.0.0.1:{routes[number]}"
                routes = [{", ".join(others)}]
            """
            self.machines[name] = Machine(directory, name, settings, http[number], mqtt[number])
        self.controllers: dict[str, FakeController] = {}
        with self.database.write() as connection:
            make_site(connection)
            for number, name in enumerate(names):
                wiring = [DoorWiring(id=DoorId(name), device="/dev/null")]
                made = add_controller(site, authority, ControllerId(name), wiring, now=datetime.now(UTC))
                register(connection, made)
                self.controllers[name] = FakeController(made, mqtt[number % len(mqtt)])
        self.operators = Operators(self.database)

    def start(self) -> None:
        for machine in self.machines.values():
            machine.start()
        hubs = [self.machines[name] for name in WITH_HUB]
        eventually(lambda: all(hub.is_ready for hub in hubs), "the hubs are ready", within_s=START_WITHIN_S)
        for controller in self.controllers.values():
            controller.connect()
        eventually(
            lambda: all(each._online.is_set() for each in self.controllers.values()),
            "every controller online",
            within_s=START_WITHIN_S,
        )
        everybody = self.controllers.values()
        eventually(
            lambda: all(min(each.versions.values()) for each in everybody),
            "first documents",
            within_s=START_WITHIN_S,
        )

    def stop(self) -> None:
        for controller in self.controllers.values():
            controller.disconnect()
        for machine in self.machines.values():
            machine.stop()
        self.database.close()

    def api(self, machine: str) -> httpx.Client:
        """The interface as this machine serves it."""
        token = self.operators.tokens.create(
            name=f"{machine}-{time.monotonic_ns()}",
            role=Role.ADMINISTRATOR,
            lifetime=None,
            now=datetime.now(UTC),
        )
        return httpx.Client(
            base_url=self.machines[machine].url, headers={"authorization": f"Bearer {token}"}, timeout=20
        )

    def cut_connections(self) -> int:
        """End every session at the database but this process's; returns how many there were."""
        cut = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND application_name LIKE 'drempel-hub%'"
        )
        with self.database.engine.connect() as connection:
            return connection.scalar(cut) or 0

    def stored(self, name: str) -> list[bytes]:
        """What is stored of a controller, in order of arrival."""
        with self.database.read() as connection:
            found = events.listing(connection, controller_id=ControllerId(name), limit=100_000)
        return [event.data for event in found]


@contextmanager
def running_agency(directory: Path, server: PostgreSql, names: list[str]) -> Iterator[Agency]:
    agency = Agency(directory, server, names)
    try:
        agency.start()
        yield agency
    finally:
        agency.stop()
