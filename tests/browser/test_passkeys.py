"""Passkeys in a real browser, with an authenticator that the browser simulates (CDP, WebAuthn)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, CDPSession, Page, expect

from hub.roles import Role
from tests.browser.test_guard import FAINT, PATIENCE_MS, browser
from tests.hub.running import PASSWORD, RunningHub, running_hub

__all__ = ["browser"]
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("passkeys")
    with running_hub(directory, port=port, origin=f"http://localhost:{port}") as running:
        yield running


@pytest.fixture
def page(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    """An administrator's page, signed in by one-time link; fails the test when a script complained."""
    context = browser.new_context(base_url=hub.settings.public_origin)
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "console",
        lambda said: complaints.append(said.text) if "Content Security Policy" in said.text else None,
    )
    opened.goto(hub.link(Role.ADMINISTRATOR))
    opened.get_by_label("Your name").fill(f"Somebody {id(opened)}")
    opened.get_by_label("Password").fill(PASSWORD)
    opened.get_by_role("button", name="Continue").click()
    opened.wait_for_url("**/")
    yield opened
    context.close()
    assert complaints == []


def authenticator(page: Page) -> tuple[CDPSession, str]:
    session = page.context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    made: dict[str, Any] = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    return session, str(made["authenticatorId"])


def test_a_passkey_is_added_used_and_removed(page: Page) -> None:
    """By its name on the account page; then signing in takes one touch; removed, it opens nothing."""
    session, device = authenticator(page)
    page.goto("/account")
    expect(page.get_by_text("No passkey yet")).to_be_visible()
    page.get_by_label("Name of the new passkey").fill("Blue key")
    page.get_by_role("button", name="Add a passkey").click()
    row = page.get_by_role("row", name=re.compile("Blue key"))
    expect(row).to_contain_text("never")
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.wait_for_url("**/")
    page.goto("/account")
    expect(row).to_be_visible()
    expect(row).not_to_contain_text("never")
    page.get_by_role("button", name="Remove Blue key").click()
    expect(page.get_by_text("No passkey yet")).to_be_visible()
    page.get_by_role("button", name="Sign out", exact=True).click()
    page.wait_for_url("**/sign-in")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("does not open this hub")
    assert len(session.send("WebAuthn.getCredentials", {"authenticatorId": device})["credentials"]) == 1


def test_a_device_that_does_not_know_its_user_is_refused(page: Page) -> None:
    """Without PIN, finger or face nothing is added, and the page says so."""
    session, device = authenticator(page)
    session.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
    page.goto("/account")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was added")


@pytest.mark.parametrize("width", [360, 1280])
def test_pages_of_administrators_fit_and_can_be_read(page: Page, hub: RunningHub, width: int) -> None:
    """Operators, account and audit log on a phone and at a desk (WCAG 1.4.3, 1.4.10)."""
    page.set_viewport_size({"width": width, "height": 800})
    hub.token(Role.GUARD).close()
    for path in ("/operators", "/account", "/audit", "/audit?verify=true", "/sign-in"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(FAINT) == [], path
