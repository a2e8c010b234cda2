"""What the main pages take at a site of 2,000 people: the server's time, the bytes, and a browser's time to load them."""

from __future__ import annotations

import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import IO, Any

import httpx

from bench import house
from provisioning.site import create_site
from simulator.hub_process import HubProcess

PEOPLE, DOORS, TAPS = 2_000, 12, 20_000
PAGES = ("/", "/cardholders", "/cards", "/muster", "/events", "/statistics")
_VIEWS = 7


def measure(directory: Path, *, log: IO[Any] | None = None) -> dict[str, float]:
    """View each of ``PAGES`` several times; returns the figures, ``pages.…``; without a browser those it would give lack."""
    place = directory / "pages"
    place.mkdir()
    now = datetime.now(UTC)
    site = create_site(place / "site", house.SITE, now=now)
    filled = house.database(place, now)
    with filled.write() as connection:
        at = house.add_doors(connection, DOORS, now)
        cards = house.add_people(connection, PEOPLE, now)
    house.add_taps(filled, at, cards, taps=TAPS, since=now - timedelta(hours=71), until=now)
    filled.close()
    figures: dict[str, float] = {"pages.people": PEOPLE, "pages.taps": TAPS}
    with HubProcess(site.hub_directory, place / "data", stderr=log) as hub:
        token = hub.command("token", "create", "--name=bench", "--role=administrator")
        headers = {"authorization": f"Bearer {token}"}
        with httpx.Client(base_url=hub.url, headers=headers, timeout=60) as browser:
            for page in PAGES:
                took_ms, size = [], 0
                for _ in range(_VIEWS):
                    begun_s = time.perf_counter()
                    answer = browser.get(page).raise_for_status()
                    took_ms.append((time.perf_counter() - begun_s) * 1e3)
                    size = len(answer.content)
                figures[f"pages{page}.server_ms"] = median(took_ms)
                figures[f"pages{page}.kib"] = size / 1024
        figures |= _loaded(hub.url, headers)
    return figures


def _loaded(url: str, headers: dict[str, str]) -> dict[str, float]:
    """Milliseconds until each page's load event in Chromium; nothing where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return {}
    figures = {}
    installed = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if installed is None:
        return {}
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        page = chromium.new_context(extra_http_headers=headers).new_page()
        for path in PAGES:
            took_ms = []
            for _ in range(3):
                page.goto(url + path, wait_until="load")
                took_ms.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            figures[f"pages{path}.load_ms"] = median(took_ms)
        chromium.close()
    return figures
