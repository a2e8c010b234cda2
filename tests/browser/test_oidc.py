"""The whole way to an OpenID provider and back in a real browser, between two sites, with strict cookies."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from hub.roles import Role
from tests.browser.test_guard import FAINT, PATIENCE_MS, browser
from tests.hub.openid import Provider, openid_provider
from tests.hub.running import PASSWORD, RunningHub, running_hub

__all__ = ["browser"]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with openid_provider(asks=True) as running:
        yield running


@pytest.fixture(scope="module")
def hub(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("oidc")
    origin = f"http://localhost:{port}"  # another site than 127.0.0.1
    with running_hub(directory, port=port, origin=origin, oidc=provider.settings()) as running:
        yield running


@pytest.fixture
def page(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    context = browser.new_context(base_url=hub.settings.public_origin, viewport={"width": 360, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on(
        "console",
        lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None,
    )
    yield opened
    context.close()
    assert complaints == []


def test_an_account_is_connected_signs_in_and_is_disconnected(
    page: Page, hub: RunningHub, provider: Provider
) -> None:
    """By a button each; one comes out where one was going, and what is refused says what to do."""
    page.goto(hub.link(Role.GUARD))
    page.get_by_label("Your name").fill("Nadia")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/")
    page.goto("/account")
    page.get_by_role("button", name="Connect", exact=True).click()
    page.get_by_role("link", name="Sign in as Nadia").click()
    page.wait_for_url("**/account")
    expect(page.get_by_text("Your account there signs you in here")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.goto("/doors")
    page.get_by_role("button", name="Sign in with Agency login").click()
    page.get_by_role("link", name="Sign in as Nadia").click()
    page.wait_for_url("**/doors")
    page.goto("/account")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(FAINT) == []
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("button", name="Connect", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")
    page.get_by_role("button", name="Sign in with Agency login").click()
    page.get_by_role("link", name="Sign in as Nadia").click()
    expect(page.get_by_role("alert")).to_contain_text("not connected to anybody here")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate(FAINT) == []


def test_an_invitation_ends_at_the_provider(page: Page, hub: RunningHub, provider: Provider) -> None:
    """A name, no password; and the live page."""
    provider.subject = "invited"
    page.goto(hub.link(Role.RECEPTION))
    page.get_by_label("Your name").fill("Olu")
    page.get_by_role("button", name="Sign in with Agency login instead").click()
    page.get_by_role("link", name="Sign in as Nadia").click()
    page.wait_for_url("**/")
    expect(page.get_by_role("link", name="Olu")).to_be_visible()
