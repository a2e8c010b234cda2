"""Pictures of every page, on a desk and on a phone, in every language: build/screenshots/*.png.

The hub behind them is furnished as on an ordinary evening (tests/browser/furnished.py). Needs chromium.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from hub.pages.languages import LANGUAGES
from hub.roles import Role
from tests.browser.furnished import Furnished, furnished

TARGET = Path(__file__).resolve().parent.parent / "build" / "screenshots"
LOOKS = {"desk-light": (1280, 900, "light"), "phone-dark": (360, 780, "dark")}


def name_of(site: Furnished, path: str) -> str:
    """The page's name, without what differs from run to run."""
    path = re.sub("^/(link|kiosk/pair)/.*", r"/\1", path)
    parts = {value: part for part, value in site.parts.items()}
    words = [parts.get(part, part) for part in re.split(r"[^A-Za-z0-9_-]+", path) if part]
    return "-".join(words).replace("_", "-") or "live"


def take(browser: Browser, site: Furnished, look: str, language: str) -> int:
    """Every page in one look and language; how many."""
    width, height, scheme = LOOKS[look]
    taken = 0
    for role in (Role.ADMINISTRATOR, None):
        context = browser.new_context(
            base_url=site.hub.url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if scheme == "dark" else "light",
            locale=language,
        )
        if role is not None:
            with site.hub.signed_in(role, f"Nadia {look} {language}") as session:
                context.add_cookies(
                    [{"name": k, "value": v, "url": site.hub.url} for k, v in session.cookies.items()]
                )
        page = context.new_page()
        for path in site.open_pages() if role is None else [*site.pages(role), "/nothing"]:
            answer = page.goto(path)
            if answer is None or not answer.text().lstrip().startswith("<!doctype html>"):
                continue
            page.wait_for_timeout(300)
            page.screenshot(path=TARGET / f"{name_of(site, path)}.{look}.{language}.png", full_page=True)
            taken += 1
        context.close()
    return taken


def main() -> None:
    """Take them all."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium here; on Debian: apt install chromium")
    TARGET.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        furnished(Path(directory)) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        taken = sum(take(browser, site, look, language) for look in LOOKS for language in LANGUAGES)
        browser.close()
    print(f"{taken} pictures in {TARGET}")


if __name__ == "__main__":
    main()
