"""The desk's page in a real browser: a card is shown, and nothing of it is left, on the screen or in the browser.

Needs chromium; says so loudly and is skipped where there is none.
"""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from hub.pages import desk as desk_pages
from hub.roles import Role
from pacs.identifiers import CredentialId
from tests.browser.test_accessibility import violations
from tests.hub.running import RunningHub, running_hub
from tests.hub.station import FakeStation, card_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


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
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("desk")) as running:
        yield running


@pytest.fixture(scope="module")
def station(hub: RunningHub) -> FakeStation:
    made = FakeStation(hub, "front-desk")
    made.heartbeat()
    return made


@pytest.fixture(scope="module")
def tigist(hub: RunningHub) -> CredentialId:
    """The card of somebody with a photograph, a long name and messages waiting."""
    credential = hub.card("Tigist", "van der Meer-Oosterhuis")
    held = io.BytesIO()
    Image.new("RGB", (300, 400), "teal").save(held, "JPEG")
    with hub.token() as program:
        person = program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        facts = {"room": "B-12", "messages_waiting": True, "extended_opening": True, "escort_required": True}
        assert program.patch(f"/api/v1/cardholders/{person}", json=facts).is_success
        kind = {"content-type": "image/jpeg"}
        assert program.put(
            f"/api/v1/cardholders/{person}/photo", content=held.getvalue(), headers=kind
        ).is_success
    return credential


def signed_on(browser: Browser, hub: RunningHub, *, phone: bool = False) -> tuple[BrowserContext, Page]:
    """A guard at the front desk."""
    context = browser.new_context(
        base_url=hub.url,
        viewport={"width": 360, "height": 740} if phone else {"width": 1280, "height": 800},
        color_scheme="dark" if phone else "light",
        locale="nl" if phone else "en",
    )
    context.set_default_timeout(PATIENCE_MS)
    with hub.signed_in(Role.GUARD) as session:
        context.add_cookies([{"name": k, "value": v, "url": hub.url} for k, v in session.cookies.items()])
    page = context.new_page()
    page.goto("/desk")
    page.get_by_role("button", name="Front-Desk").click()
    expect(page.locator("#link-state [data-state=live]")).to_be_visible()
    return context, page


def until_shown(page: Page) -> None:
    expect(page.locator("#desk-place h2")).to_have_text("Tigist van der Meer-Oosterhuis")
    expect(page.locator("#desk-place img")).to_have_js_property("naturalWidth", 300)


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone-dark-dutch"])
def test_a_card_is_shown_and_cleared_by_a_key(
    browser: Browser,
    hub: RunningHub,
    station: FakeStation,
    tigist: CredentialId,
    tmp_path: Path,
    *,
    phone: bool,
) -> None:
    """Who, photograph, room, flags and messages, announced; Escape leaves nothing of it in the page or the cache."""
    context, page = signed_on(browser, hub, phone=phone)
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url) if "/photo/" in request.url else None)
    assert station.tap(card_of(hub, tigist)).json()["signed_on"] is True
    until_shown(page)
    shown = page.locator("#desk-place")
    for text in ("B-12", "Ja" if phone else "Yes", "Geldig" if phone else "Valid"):
        expect(shown).to_contain_text(text)
    expect(page.locator("#desk-said")).to_contain_text("Tigist")
    assert 0 < int(page.locator("#desk-left").inner_text()) <= 30
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= (360 if phone else 1280)
    page.screenshot(path=tmp_path / "shown.png", full_page=True)
    page.keyboard.press("Escape")
    expect(page.locator("#desk-waiting")).to_be_visible()
    assert "Tigist" not in page.content()
    assert page.locator("#desk-place").inner_html() == ""
    (photo,) = fetched
    status = "url => fetch(url, {cache: 'force-cache'}).then(answer => answer.status)"
    assert page.evaluate(status, photo) == 404
    assert page.evaluate("caches.keys()") == []
    context.close()


def test_a_card_disappears_by_itself(
    browser: Browser, hub: RunningHub, station: FakeStation, tigist: CredentialId
) -> None:
    """After the site's seconds; another card takes the place of one that is shown, and a forged one names nobody."""
    with hub.token() as program:
        program.patch("/api/v1/sites/test-site", json={"desk_shown_s": 5})
    context, page = signed_on(browser, hub)
    station.tap(card_of(hub, tigist))
    until_shown(page)
    station.tap(card_of(hub, kind="forged"))
    expect(page.locator("#desk-place")).to_contain_text("Forged")
    assert "Tigist" not in page.content()
    expect(page.locator("#desk-waiting")).to_be_visible()
    assert page.locator("#desk-place").inner_html() == ""
    station.tap(card_of(hub, tigist))
    until_shown(page)
    page.get_by_role("button", name="Clear now").click()
    expect(page.locator("#desk-place")).to_be_empty()
    expect(page.locator("#desk")).to_be_focused()
    station.tap(card_of(hub, tigist))
    until_shown(page)
    page.goto("/doors")
    page.go_back()
    expect(page.get_by_role("button", name="Sign off from this desk")).to_be_visible()
    assert "Tigist" not in page.content()
    context.close()


def test_a_desk_that_is_taken_over_says_so(
    browser: Browser, hub: RunningHub, station: FakeStation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page ends, and offers to sign on again; the other one goes on."""
    monkeypatch.setattr(desk_pages, "LOOK_S", 0.2)
    first, page = signed_on(browser, hub)
    second, other = signed_on(browser, hub)
    expect(page.get_by_role("alert")).to_contain_text("Somebody else has signed on to this desk.")
    expect(page.locator("#desk-waiting")).to_be_hidden()
    assert violations(page) == []
    station.tap(card_of(hub))
    expect(other.locator("#desk-place")).to_contain_text("Not known here")
    page.get_by_role("link", name="Sign on again").click()
    expect(page.get_by_role("button", name="Take over")).to_be_visible()
    assert violations(page) == []
    page.screenshot(path=tmp_path / "desks.png")
    for context in (first, second):
        context.close()
