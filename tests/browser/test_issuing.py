"""The issuing desk's page in a real browser: a card comes about under one's eyes, by keyboard, on a phone and a desk.

Needs chromium; says so loudly and is skipped where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from hub.roles import Role
from tests.browser import test_accessibility
from tests.browser.test_accessibility import PATIENCE_MS, violations
from tests.hub.running import RunningHub, running_hub
from tests.hub.test_issuing import Desk, made_card

browser = test_accessibility.browser
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("issuing")) as running:
        yield running


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone-dark-dutch"])
def test_a_card_comes_about(browser: Browser, hub: RunningHub, tmp_path: Path, *, phone: bool) -> None:
    """Search, Enter, Start; each step shows as it is told, the end has the focus, and nothing needs a mouse."""
    hub.card("Tigist", "van der Meer-Oosterhuis")
    desk = Desk(hub, f"cards-{phone}".lower())
    context = browser.new_context(
        base_url=hub.url,
        viewport={"width": 360, "height": 740} if phone else {"width": 1280, "height": 800},
        color_scheme="dark" if phone else "light",
        locale="nl" if phone else "en",
    )
    context.set_default_timeout(PATIENCE_MS)
    with hub.signed_in(Role.RECEPTION) as session:
        context.add_cookies([{"name": k, "value": v, "url": hub.url} for k, v in session.cookies.items()])
    page = context.new_page()
    page.goto("/issuing")
    page.get_by_role("searchbox").focus()
    page.keyboard.type("tigist")
    page.keyboard.press("Enter")
    page.get_by_role("link", name=re.compile("Tigist")).first.press("Enter")
    assert violations(page) == []
    page.get_by_role("radio", name=re.compile(desk.id, re.IGNORECASE)).check()
    page.get_by_role("button", name="Beginnen" if phone else "Start", exact=True).press("Enter")
    page.wait_for_url("**/issuing/jobs/*")
    job = desk.take()
    said = page.locator("#issuing-said")
    for step in ("waiting_for_card", "card_found", "key_made", "certificate_written"):
        assert desk.about(job, "step", step=step).status_code == 200
    locking = "Vergrendeld" if phone else "Locked"
    expect(page.locator("[aria-current=step]")).to_have_text(locking)
    expect(said).to_contain_text(locking)
    expect(page.locator("#issuing-cancel")).to_be_hidden()
    assert violations(page) == []
    page.screenshot(path=tmp_path / "making.png", full_page=True)
    assert desk.about(job, "done", **made_card()).status_code == 200
    expect(page.locator("#issuing-progress .notice")).to_contain_text("getest" if phone else "checked")
    expect(page.locator("#issuing-progress a.primary")).to_be_focused()
    expect(page.locator(".steps .done")).to_have_count(6)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= (360 if phone else 1280)
    page.screenshot(path=tmp_path / "made.png", full_page=True)
    context.close()
    desk.close()
