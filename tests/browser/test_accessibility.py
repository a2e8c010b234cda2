"""Every page in a real browser: usable with a keyboard and a screen reader, on a phone and a desk, dark and light."""

from __future__ import annotations

import hashlib
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from hub.pages.languages import LANGUAGES
from hub.roles import Role
from tests.browser.furnished import Furnished, furnished

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(__file__).parents[1] / "vendor" / "axe-core"
PATIENCE_MS = 30_000
LONG_S = 360
"""For a walk through every page, on a machine that has other work, too."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LOOKS: list[
    dict[str, Any]
] = [  # each width, scheme and language; roles' pages add a phone, dark, in the other language
    {"width": 360, "scheme": "light", "language": "en"},
    {"width": 1280, "scheme": "dark", "language": "nl"},
]

TABLES_TOO_WIDE = """[...document.querySelectorAll("main table")]
    .filter(table => table.scrollWidth > table.parentElement.clientWidth + 1).length"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        warnings.warn("chromium is not installed: the pages are NOT tested in a browser", stacklevel=1)
        pytest.skip("chromium is not installed; on Debian: apt install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    with furnished(tmp_path_factory.mktemp("furnished")) as made:
        yield made


def opened(browser: Browser, site: Furnished, role: Role | None, look: dict[str, Any]) -> BrowserContext:
    """A browser that shows pages to ``role`` as ``look`` says."""
    context = browser.new_context(
        base_url=site.hub.url,
        viewport={"width": look["width"], "height": 800},
        color_scheme=look["scheme"],
        locale=look["language"],
    )
    context.set_default_timeout(PATIENCE_MS)
    if role is not None:
        with site.hub.signed_in(role) as session:
            context.add_cookies(
                [{"name": key, "value": value, "url": site.hub.url} for key, value in session.cookies.items()]
            )
    return context


def whole(page: Page, path: str) -> bool:
    """Go there; False for a part of a page."""
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200, (path, answer.status)
    return answer.text().lstrip().startswith("<!doctype html>")


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page that is shown."""
    page.evaluate((AXE / "axe.min.js").read_text("utf-8") + "\n;void 0")
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(r => r.violations)",
        RULES,
    )
    return [f"{each['id']}: {node['html'][:160]}" for each in found for node in each["nodes"]]


def test_axe_is_the_one_we_know() -> None:
    """The vendored file is the one whose licence and hash are written beside it."""
    said = re.search(r"`([0-9a-f]{64})`", (AXE / "README.md").read_text("utf-8"))
    assert said is not None
    assert hashlib.sha256((AXE / "axe.min.js").read_bytes()).hexdigest() == said[1]


@pytest.mark.timeout(LONG_S)
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: "-".join(map(str, look.values())))
def test_no_page_breaks_an_accessibility_rule(
    browser: Browser, site: Furnished, look: dict[str, Any]
) -> None:
    """Axe finds nothing on any page, in no look; nothing sticks out sideways; the page says its language."""
    found = {}
    for role in (Role.ADMINISTRATOR, None):
        context = opened(browser, site, role, look)
        page = context.new_page()
        for path in site.open_pages() if role is None else [*site.pages(role), "/nothing"]:
            if path == "/nothing":
                page.goto(path)
            elif not whole(page, path):
                continue
            if broken := violations(page):
                found[path] = broken
            assert page.evaluate("document.documentElement.scrollWidth") <= look["width"], path
            assert page.evaluate(TABLES_TOO_WIDE) == 0, path
            assert page.evaluate("document.documentElement.lang") == look["language"], path
        context.close()
    assert found == {}


@pytest.mark.parametrize("role", [Role.GUARD, Role.SITE_MANAGER, Role.TECHNICIAN, Role.AUDITOR])
def test_each_roles_pages_are_accessible(browser: Browser, site: Furnished, role: Role) -> None:
    """What a role sees differs; it breaks no rule either, on a phone of 320 pixels. Reception's pages are a site manager's."""
    context = opened(browser, site, role, {"width": 320, "scheme": "dark", "language": LANGUAGES[-1]})
    page = context.new_page()
    found = {}
    for path in site.pages(role):
        if whole(page, path):
            if broken := violations(page):
                found[path] = broken
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, path
    context.close()
    assert found == {}


@pytest.mark.timeout(LONG_S)
def test_every_control_is_reached_by_keyboard_and_shows_it(browser: Browser, site: Furnished) -> None:
    """Tab alone comes to everything that can be used, the way past the navigation first, each with an outline."""
    context = opened(browser, site, Role.ADMINISTRATOR, LOOKS[1])
    page = context.new_page()
    for path in site.pages(Role.ADMINISTRATOR):
        if not whole(page, path):
            continue
        page.evaluate("() => document.activeElement.blur()")
        wanted = page.evaluate(CONTROLS)
        reached: set[int] = set()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") in ("skip", ""), path
        for _ in range(wanted + 30):  # a field for a day and a time has several stops
            number, outlined = page.evaluate(FOCUSED)
            if number is not None:
                reached.add(number)
                assert outlined, (path, page.evaluate("document.activeElement.outerHTML")[:200])
            page.keyboard.press("Tab")
        lacking = page.evaluate(UNREACHED, sorted(reached))
        assert lacking == [], path
    context.close()


CONTROLS = """() => {
    const shown = (each) => each.checkVisibility() && !each.disabled && each.tabIndex >= 0;
    const all = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')];
    const usable = all.filter(shown);
    usable.forEach((each, number) => each.dataset.walked = String(number));
    return usable.length;
}"""
FOCUSED = """() => {
    const here = document.activeElement;
    const style = getComputedStyle(here);
    const number = here.dataset.walked === undefined ? null : Number(here.dataset.walked);
    return [number, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
}"""
UNREACHED = """(reached) => {
    const all = [...document.querySelectorAll('[data-walked]')].filter((each) => each.checkVisibility());
    const inGroup = (each) => each.type === 'radio'
        && all.some((other) => other.name === each.name && reached.includes(Number(other.dataset.walked)));
    return all.filter((each) => !reached.includes(Number(each.dataset.walked)) && !inGroup(each))
        .map((each) => each.outerHTML.slice(0, 200));
}"""


def test_pages_work_without_javascript(browser: Browser, site: Furnished) -> None:
    """Everything is there, and an alarm is acknowledged, with scripts switched off."""
    with site.hub.signed_in(Role.GUARD) as session:
        context = browser.new_context(base_url=site.hub.url, java_script_enabled=False)
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies(
            [{"name": key, "value": value, "url": site.hub.url} for key, value in session.cookies.items()]
        )
        page = context.new_page()
        for path in site.pages(Role.GUARD):
            if whole(page, path):
                assert page.locator("h1").count() == 1, path
        page.goto("/")
        assert page.locator("noscript").count() == 1
        alarm = page.locator(".alarm.standing", has_text="Courtyard").filter(has_text="Forced open")
        alarm.get_by_role("textbox").fill("The wind")
        alarm.get_by_role("button").click()
        page.wait_for_url("**/#alarms")
        assert (
            "The wind"
            in page.locator(".alarm", has_text="Courtyard").filter(has_text="Forced open").inner_text()
        )
        context.close()
