"""Guards at the page for attended doors, in a real browser: by key, by thumb, two at once, and over a restart of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from hub.roles import Role
from pacs.commands import Action, open_command
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from tests.browser.test_guard import browser as browser  # noqa: PLC0414 - a fixture of this module, too
from tests.hub.controller import FakeController, eventually
from tests.hub.running import PASSWORD, RunningHub, ask, running_hub

PATIENCE_MS = 30_000
PHONE = {"width": 360, "height": 740}
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("attended")) as running:
        running.door("kitchen", "Kitchen")
        yield running


@pytest.fixture
def kitchen(hub: RunningHub) -> FakeController:
    return hub.controllers["kitchen"]


@pytest.fixture
def guards(browser: Browser, hub: RunningHub) -> Iterator[list[BrowserContext]]:
    opened: list[BrowserContext] = []
    yield opened
    for each in opened:
        each.close()


def guard(browser: Browser, hub: RunningHub, guards: list[BrowserContext], name: str, **how: object) -> Page:
    """A guard's page, signed in and connected."""
    context = browser.new_context(base_url=hub.url, **how)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    guards.append(context)
    page = context.new_page()
    page.goto(hub.link(Role.GUARD))
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(hub.url + "/")
    page.goto("/attended")
    if how.get("java_script_enabled", True):
        expect(page.get_by_text("Connected to the hub")).to_be_visible()
    return page


def person(hub: RunningHub, given: str) -> CredentialId:
    """Somebody with a photograph and something that staff has to know."""
    from tests.browser.furnished import portrait

    credential = hub.card(given, "Abdi")
    with hub.token(Role.SITE_MANAGER) as manager:
        cardholder = manager.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        path = f"/api/v1/cardholders/{cardholder}"
        said = {"language": "so", "door_note": "Hears badly", "minor": True}
        assert manager.patch(path, json=said).is_success
        headers = {"content-type": "image/png"}
        assert manager.put(f"{path}/photo", content=portrait(3), headers=headers).is_success
    return credential


def answered(kitchen: FakeController, request_id: str, already: int, outcome: str) -> None:
    """The door takes the answer that came after these, and says so."""
    eventually(lambda: len(kitchen.commands) > already, "an answer")
    command = open_command(kitchen.commands[already], kitchen.trusted)
    assert command.request_id == bytes.fromhex(request_id)
    assert command.action is (Action.GRANT if outcome == "granted" else Action.REFUSE)
    door = DoorId("kitchen")
    details = {"command": command.command_id, "action": command.action.value}
    ended = {"request": bytes.fromhex(request_id), "outcome": outcome}
    kitchen.record(EventKind.COMMAND_EXECUTED, door_id=door, details=details)
    kitchen.record(EventKind.REFERRAL_ENDED, door_id=door, details=ended)


def test_approved_by_a_key(
    browser: Browser, hub: RunningHub, kitchen: FakeController, guards: list[BrowserContext]
) -> None:
    """It rings by itself, with who stands there and what matters; one key lets them in, and the page says that it opened."""
    page = guard(browser, hub, guards, "Key")
    page.get_by_role("button", name="Sound is off").click()
    expect(page.locator("#sound")).to_have_attribute("aria-pressed", "true")
    already = len(kitchen.commands)
    request_id = ask(kitchen, person(hub, "Liban"))
    card = page.locator(f"#request-{request_id}")
    for text in ("Kitchen", "Liban", "Somali", "Hears badly", "Minor"):
        expect(card).to_contain_text(text)
    expect(card).not_to_contain_text("Abdi")
    expect(card.locator("img")).to_have_js_property("naturalWidth", 240)
    expect(page.locator("[data-rung]")).to_have_count(1)
    expect(page).to_have_title(re.compile(r"^\(1\) At the door"))
    page.wait_for_timeout(800)  # a key means nothing to who came a moment ago
    page.keyboard.press("a")
    expect(card).to_contain_text("Approved; the door has not answered yet")
    answered(kitchen, request_id, already, "granted")
    expect(page.locator("#ends")).to_contain_text("Opened · Key")
    expect(page.locator("#requests > li")).to_have_count(0)
    expect(page).to_have_title(re.compile("^At the door"))
    expect(page.locator("#ends")).not_to_contain_text("Liban")


def test_refused_by_a_thumb(
    browser: Browser, hub: RunningHub, kitchen: FakeController, guards: list[BrowserContext]
) -> None:
    """On a phone: nothing is wider than its screen, the photograph is blurred until it is touched, the button is large."""
    with hub.token() as administrator:
        changed = administrator.patch("/api/v1/sites/test-site", json={"blur_photos": True})
        assert changed.json()["blur_photos"]
    page = guard(browser, hub, guards, "Thumb", viewport=PHONE, has_touch=True, is_mobile=True)
    already = len(kitchen.commands)
    request_id = ask(kitchen, person(hub, "Hodan"))
    card = page.locator(f"#request-{request_id}")
    expect(card).to_contain_text("Hodan")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    photo = card.locator("img")
    expect(photo).to_have_css("filter", "blur(16px)")
    card.locator(".request-photo").tap()
    expect(photo).to_have_css("filter", "none")
    button = card.get_by_role("button", name="Refuse")
    box = button.bounding_box()
    assert box is not None
    assert box["height"] >= 48
    button.tap()
    answered(kitchen, request_id, already, "refused")
    expect(page.locator("#ends")).to_contain_text("Refused · Thumb")
    with hub.token() as administrator:
        administrator.patch("/api/v1/sites/test-site", json={"blur_photos": False})


def test_two_guards_race(
    browser: Browser, hub: RunningHub, kitchen: FakeController, guards: list[BrowserContext]
) -> None:
    """Both press; one command goes out, and the page of whoever was second says who answered."""
    pages = [guard(browser, hub, guards, name) for name in ("Anna", "Bo")]
    already = len(kitchen.commands)
    request_id = ask(kitchen, person(hub, "Asad"))
    cards = [page.locator(f"#request-{request_id}") for page in pages]
    for card in cards:
        expect(card.get_by_role("button", name="Approve")).to_be_visible()
    pages[1].route("**/stream", lambda route: route.abort())
    pages[1].evaluate(
        "window.dispatchEvent(new PageTransitionEvent('pagehide'))"
    )  # hears nothing for a moment
    cards[0].get_by_role("button", name="Approve").click()
    expect(cards[0]).to_contain_text("Approved; the door has not answered yet · Anna")
    cards[1].get_by_role("button", name="Refuse").click()
    expect(cards[1]).to_contain_text("Your answer came too late.")
    pages[1].unroute("**/stream")
    pages[1].reload()
    expect(cards[1]).to_contain_text("Approved; the door has not answered yet · Anna")
    answered(kitchen, request_id, already, "granted")
    for page in pages:
        expect(page.locator("#ends")).to_contain_text("Opened · Anna")
    assert len(kitchen.commands) == already + 1


def test_it_works_without_scripts(
    browser: Browser, hub: RunningHub, kitchen: FakeController, guards: list[BrowserContext]
) -> None:
    """By plain forms; whoever is too late is told so by the page that comes back."""
    page = guard(browser, hub, guards, "Plain", java_script_enabled=False)
    already = len(kitchen.commands)
    request_id = ask(kitchen, person(hub, "Idil"))
    with hub.token(Role.GUARD) as other:
        path = f"/api/v1/attended/{request_id}"
        eventually(lambda: other.get(path).status_code == 200, "the request at the hub")
        page.goto("/attended")
        card = page.locator(f"#request-{request_id}")
        expect(card).to_contain_text("Idil")
        given = other.post(f"{path}/answer", json={"answer": "grant"})
        assert given.is_success
        card.get_by_role("button", name="Refuse").click()
    expect(page.get_by_role("alert").first).to_contain_text("Your answer came too late.")
    answered(kitchen, request_id, already, "granted")


def test_no_request_is_lost_over_a_restart(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The hub is gone and comes back: the page says so, connects by itself, and shows who came meanwhile and who still waits."""
    first = RunningHub(tmp_path_factory.mktemp("restart"))
    first.door("kitchen", "Kitchen")
    guards: list[BrowserContext] = []
    again = None
    try:
        page = guard(browser, first, guards, "Patient")
        kitchen = first.controllers["kitchen"]
        card = first.card("Before", "Abdi")
        before = ask(kitchen, card)
        expect(page.locator(f"#request-{before}")).to_contain_text("Before")
        port = int(first.url.rpartition(":")[2])
        first.stop()
        expect(page.get_by_text("Connection to the hub lost")).to_be_visible()
        meanwhile = ask(kitchen, card)
        again = RunningHub(first.directory, site=first.site, port=port)
        kitchen.port = again.app.state.link.broker.port
        kitchen.connect()
        kitchen.until_acknowledged()
        expect(page.get_by_text("Connected to the hub")).to_be_visible()
        for request_id in (before, meanwhile):
            expect(page.locator(f"#request-{request_id}")).to_contain_text("Before")
        already = len(kitchen.commands)
        page.locator(f"#request-{meanwhile}").get_by_role("button", name="Approve").click()
        answered(kitchen, meanwhile, already, "granted")
        expect(page.locator("#ends")).to_contain_text("Opened · Patient")
        kitchen.disconnect()
    finally:
        for each in guards:
            each.close()
        (first if again is None else again).stop()


def test_every_page_says_that_somebody_waits(
    browser: Browser, hub: RunningHub, guards: list[BrowserContext], kitchen: FakeController
) -> None:
    """A count beside the way to the list, as it changes and to a screen reader, politely; nobody is looked at for it."""
    page = guard(browser, hub, guards, "Badge")
    page.goto("/cards")
    badge = page.locator("#waiting-badge")
    expect(badge).to_be_hidden()
    credential = hub.card("Hana")
    request_id = ask(kitchen, credential)
    expect(badge).to_have_text("1")
    expect(page.locator("#waiting-said")).to_have_text("People who wait at a door: 1")
    assert page.locator("a[href='/attended']").inner_text() == "At the door 1"
    with hub.token() as program:
        assert program.get("/api/v1/attended", params={"pending": False}).json()["requests"][0]["looks"] == 0
    kitchen.record(
        EventKind.REFERRAL_ENDED,
        door_id=DoorId("kitchen"),
        credential_id=credential,
        details={"request": bytes.fromhex(request_id), "outcome": "timeout"},
    )
    expect(badge).to_be_hidden()


def test_the_badge_needs_no_script_and_who_may_not_answer_has_none(
    hub: RunningHub, kitchen: FakeController
) -> None:
    """It is counted with each page; an auditor's says nothing, and its stream is not theirs."""
    ask(kitchen, hub.card("Ruth"), timeout_s=30)
    with hub.signed_in(Role.GUARD) as seeing, hub.signed_in(Role.AUDITOR) as other:
        eventually(lambda: 'id="waiting-badge">1<' in seeing.get("/cards").text, "the count")
        assert "waiting-badge" not in seeing.get("/attended").text
        assert "waiting" not in other.get("/").text.partition("<main")[0]
        assert other.get("/attended/waiting").status_code == 403
