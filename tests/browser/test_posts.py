"""The page of a post in a real browser: who passes is shown and gone, and the question is answered by one key.

Needs chromium; says so loudly and is skipped where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from hub.pages import posts as post_pages
from hub.roles import Role
from hub.store import posts as store
from pacs.identifiers import CredentialId, PostId
from tests.browser.test_accessibility import violations
from tests.browser.test_desk import browser as browser  # noqa: PLC0414 - a fixture of this module, too
from tests.browser.test_desk import tigist as tigist  # noqa: PLC0414 - a fixture of this module, too
from tests.hub.running import RunningHub, running_hub
from tests.hub.test_post_pages import passes


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("posts")) as running:
        running.door("front", "Front door")
        with running.token() as program:
            post = {"name": "Gatehouse", "door_ids": ["front"], "shown_s": 60}
            assert program.put("/api/v1/posts/gate", json=post).is_success
            assert program.patch("/api/v1/sites/test-site", json={"blur_photos": True}).is_success
        yield running


@pytest.fixture(autouse=True)
def _pages_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_pages, "LOOK_S", 0.2)


def signed_on(browser: Browser, hub: RunningHub, *, phone: bool) -> Page:
    """A guard who watches at the gatehouse, signed on by the keyboard alone."""
    context = browser.new_context(
        base_url=hub.url,
        viewport={"width": 360, "height": 740} if phone else {"width": 1280, "height": 800},
        color_scheme="dark" if phone else "light",
        locale="nl" if phone else "en",
    )
    context.set_default_timeout(30_000)
    with hub.signed_in(Role.GUARD) as session:
        context.add_cookies([{"name": k, "value": v, "url": hub.url} for k, v in session.cookies.items()])
    page = context.new_page()
    page.goto("/posts")
    page.get_by_role("link", name="Gatehouse").click()
    page.locator("form[action$='/sign-on'] button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#link-state [data-state=live]")).to_be_visible()
    return page


def ask(hub: RunningHub, *, ago_s: int = 0) -> None:
    """Whoever watches is asked from now on, or has been for so long."""
    with hub.database.write() as connection:
        store.confirm(connection, PostId("gate"), hub.clock() - timedelta(seconds=ago_s))


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone-dark-dutch"])
def test_who_passes_is_shown_and_the_question_answered_by_a_key(
    browser: Browser, hub: RunningHub, tigist: CredentialId, tmp_path: Path, *, phone: bool
) -> None:
    """Blurred until touched; the question takes the focus, Enter answers it, and signing off says that the post is closed."""
    page = signed_on(browser, hub, phone=phone)
    passes(hub, tigist)
    look = page.locator("#passing .passing")
    expect(look.locator("h3")).to_have_text("Tigist")
    expect(look.locator("img")).to_have_js_property("naturalWidth", 300)
    expect(look.locator("img")).to_have_css("filter", "blur(16px)")
    look.locator(".unblur").check()
    expect(look.locator("img")).to_have_css("filter", "none")
    expect(page.locator("#post-said")).to_contain_text("Tigist")
    assert violations(page) == []
    page.screenshot(path=tmp_path / "passing.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ask(hub)
    asked = page.locator("#post-asked")
    expect(asked).to_be_visible()
    expect(asked.get_by_role("button")).to_be_focused()
    page.screenshot(path=tmp_path / "asked.png", full_page=True)
    page.keyboard.press("Enter")
    expect(asked).to_be_hidden()
    expect(page.locator("#link-state [data-state=live]")).to_be_visible()
    page.locator("form[action$='/sign-off'] button").click()
    expect(page.locator("form[action$='/sign-on']")).to_be_visible()
    page.context.close()


def test_an_unanswered_question_ends_the_page(
    browser: Browser, hub: RunningHub, tigist: CredentialId
) -> None:
    """It says why, shows nobody any more, and leads back."""
    page = signed_on(browser, hub, phone=False)
    passes(hub, tigist)
    expect(page.locator("#passing .passing")).to_be_visible()
    ask(hub, ago_s=60)
    expect(page.locator("#post-over [data-why=not_answered]")).to_be_visible()
    expect(page.locator("#passing .passing")).to_have_count(0)
    page.locator("#post-over a").click()
    expect(page.locator("form[action$='/sign-on']")).to_be_visible()
    page.context.close()
