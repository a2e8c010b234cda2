"""What a scrape of an agency's hub takes: ``/metrics`` of a hub process with thousands of doors."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import IO, Any

import httpx

from bench import house
from provisioning.site import create_site
from simulator.hub_process import HubProcess

DOORS = 3_000
_SCRAPES = 7


def measure(directory: Path, *, log: IO[Any] | None = None) -> dict[str, float]:
    """Scrape a hub with ``DOORS`` doors several times; returns the figures, keys beginning with ``metrics.``."""
    place = directory / "metrics"
    place.mkdir()
    now = datetime.now(UTC)
    site = create_site(place / "site", house.SITE, now=now)
    filled = house.database(place, now)
    with filled.write() as connection:
        house.add_doors(connection, DOORS, now)
    filled.close()
    with HubProcess(site.hub_directory, place / "data", stderr=log) as hub:
        token = hub.command("token", "create", "--name=bench", "--role=administrator")
        with httpx.Client(
            base_url=hub.url, headers={"authorization": f"Bearer {token}"}, timeout=60
        ) as scraper:
            took_s, cpu_s, size = [], [], 0
            for _ in range(_SCRAPES):
                begun_s, before_s = time.perf_counter(), _cpu_s(hub.pid)
                answer = scraper.get("/metrics").raise_for_status()
                took_s.append(time.perf_counter() - begun_s)
                cpu_s.append(_cpu_s(hub.pid) - before_s)
                size = len(answer.content)
                time.sleep(1.0)
    return {
        "metrics.doors": DOORS,
        "metrics.scrape_s": median(took_s),
        "metrics.scrape_worst_s": max(took_s),
        "metrics.scrape_cpu_s": median(cpu_s),
        "metrics.kib": size / 1024,
    }


def _cpu_s(pid: int) -> float:
    """What a process has used of the processors: more telling than the clock on a machine that does other things."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")
