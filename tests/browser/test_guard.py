"""A guard at the hub's pages, in a real browser.

Needs chromium; says so loudly and is skipped where there is none.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hub.alarms import AlarmBounds
from hub.api import feed
from hub.roles import Role
from pacs.commands import open_command
from pacs.events import EventKind
from pacs.identifiers import DoorId
from pacs.reason import Reason
from tests.hub.controller import FakeController, eventually
from tests.hub.running import PASSWORD, RunningHub, running_hub, tap

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000


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
    with running_hub(tmp_path_factory.mktemp("browser")) as running:
        running.door("front", "Front door")
        running.door("kitchen", "Kitchen")
        yield running


@pytest.fixture
def page(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    """A guard's page, signed in by one-time link; fails the test when the page complained of anything."""
    context = browser.new_context(base_url=hub.url)
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(hub.link(Role.GUARD))
    opened.get_by_label("Your name").fill(f"Guard {id(opened)}")
    opened.get_by_label("Password").fill(PASSWORD)
    opened.get_by_role("button", name="Continue").click()
    opened.wait_for_url(hub.url + "/")
    yield opened
    context.close()
    assert complaints == []


expect.set_options(timeout=PATIENCE_MS)


def test_a_tap_appears_by_itself(page: Page, hub: RunningHub) -> None:
    """Without reloading: who, what, where; a refusal is announced; markup in a name stays text."""
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    front = hub.controllers["front"]
    tap(front, hub.card("Ama", "Mensah"))
    newest = page.locator("#taps > li").first
    expect(newest).to_contain_text("Ama Mensah")
    expect(newest).to_contain_text("Granted")
    expect(newest).to_contain_text("Front door, entry")
    tap(front, hub.card("<img src=x>", "<script>alert(1)</script>"), Reason.OUTSIDE_SCHEDULE)
    expect(newest).to_contain_text("<img src=x> <script>alert(1)</script>")
    expect(newest).to_contain_text("Refused: not at this time")
    expect(page.locator("#announcement")).to_have_text("Front door: Refused: not at this time")
    expect(page.locator("#taps img, #taps script")).to_have_count(0)
    expect(page.locator("#door-front")).to_contain_text(re.compile(r"Last event\s+\S+ Refused"))


def test_the_list_can_be_held(page: Page, hub: RunningHub) -> None:
    """While held nothing moves; released, what came meanwhile is there."""
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    button = page.get_by_role("button", name="Hold the list")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    tap(hub.controllers["kitchen"], hub.card("Yusuf", "Haddad"))
    expect(page.locator("#door-kitchen")).to_contain_text(re.compile(r"Last event\s+\S+ Granted"))
    expect(page.locator("#taps")).not_to_contain_text("Yusuf Haddad")
    button.click()
    expect(page.locator("#taps > li").first).to_contain_text("Yusuf Haddad")


def test_a_card_is_blocked_by_keyboard_alone(page: Page, hub: RunningHub) -> None:
    """From the live page to a confirmed block without a mouse; the page follows as doors confirm."""
    hub.card("Tigist", "Abebe")
    hub.until_confirmed()
    hub.controllers["kitchen"].confirms = False
    reach(page, "People")
    reach(page, "Cards")
    page.wait_for_url("**/cards")
    reach(page, "Search by name or card number", press="")
    page.keyboard.type("tigist")
    page.keyboard.press("Enter")
    page.wait_for_url("**/cards?search=tigist")
    reach(page, "Tigist Abebe")
    expect(page.get_by_role("heading", level=1)).to_have_text("Tigist Abebe")
    reach(page, "Suspend", press="ArrowDown")
    expect(page.get_by_label("Revoke")).to_be_checked()
    reach(page, "Reason", press="")
    page.keyboard.type("Stolen at the station")
    reach(page, "Block the card")
    status = page.locator("#distribution").get_by_role("status")
    expect(status).to_contain_text("Blocked; 1 of 2 doors confirmed.")
    expect(status).to_contain_text("Kitchen has not confirmed yet")
    kitchen = hub.controllers["kitchen"]
    kitchen.drop()
    expect(status).to_contain_text("Kitchen is offline since")
    expect(status).to_contain_text("The card may still open it.")
    kitchen.confirms = True
    kitchen.connect()
    expect(status).to_contain_text("Blocked; 2 of 2 doors confirmed.")


def reach(page: Page, name: str, press: str = "Enter") -> None:
    """Press Tab until the focus is on what is called ``name``, then ``press`` (empty: nothing)."""
    for _ in range(60):
        page.keyboard.press("Tab")
        focused = page.evaluate(
            """() => {
                const here = document.activeElement;
                const label = here.labels && here.labels.length ? here.labels[0] : here;
                return label.innerText || label.textContent;
            }"""
        )
        if str(focused).strip().startswith(name):
            if press:
                page.keyboard.press(press)
            return
    raise AssertionError(f"no way to {name!r} by keyboard")


def test_the_page_says_when_the_hub_is_away_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    """A lost connection is said, never hidden behind an old picture."""
    with running_hub(tmp_path) as hub:
        context = browser.new_context(base_url=hub.url)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(hub.link(Role.GUARD))
        page.get_by_label("Your name").fill("Guard")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("Connected to the hub")).to_be_visible()
    expect(page.get_by_text("Connection to the hub lost")).to_be_visible()
    context.close()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_can_be_read(browser: Browser, hub: RunningHub, width: int, scheme: str) -> None:
    """Nothing sticks out sideways on a phone or a desk, and text stands out from its ground (WCAG 1.4.3)."""
    credential = hub.card("Ama", "Mensah")
    with hub.token(Role.GUARD) as guard:
        body = {"status": "suspended", "reason": "Lost in the laundry"}
        guard.post(f"/api/v1/cards/{credential}/block", json=body)
    tap(hub.controllers["front"], credential, Reason.CREDENTIAL_SUSPENDED)
    forced(hub.controllers["front"])
    context = browser.new_context(
        base_url=hub.url,
        viewport={"width": width, "height": 800},
        color_scheme=scheme,  # type: ignore[arg-type]  # one of the two
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(hub.link(Role.GUARD))
    page.get_by_label("Your name").fill(f"Guard {width} {scheme}")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(hub.url + "/")
    with hub.token(Role.GUARD) as guard:
        order = {"action": "set_mode", "mode": "lockdown", "reason": "A threat"}
        order_path = f"/orders/{guard.post('/api/v1/orders', json=order).json()['id']}"
    paths = ["/", "/cards", "/cardholders", "/doors", f"/cards/{credential}", "/nothing"]
    paths += ["/lockdown", "/doors/front/command", order_path]
    for path in paths:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate(FAINT) == [], path
    context.close()


FAINT = """() => {
    const parse = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const color = getComputedStyle(node).backgroundColor;
            if (/^rgb\\(/.test(color)) return parse(color);
        }
        return [255, 255, 255];
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.textContent.trim() || !node.checkVisibility()) continue;
        const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(walker.currentNode.textContent.trim());
    }
    return faint;
}"""


# -- alarms -----------------------------------------------------------------------------------------


def forced(controller: FakeController, kind: EventKind = EventKind.DOOR_FORCED, **fields: Any) -> None:
    controller.record(kind, door_id=DoorId(controller.id), **fields)
    controller.until_acknowledged()


def closed(controller: FakeController) -> None:
    forced(controller, EventKind.DOOR_ALARM_CLEARED, details={"alarm": "forced"})


@pytest.fixture
def quiet(hub: RunningHub) -> Iterator[None]:
    """Nothing is left to look at before the test and after it."""
    yield
    with hub.token(Role.GUARD) as guard:
        for controller in hub.controllers.values():
            closed(controller)
            forced(controller, EventKind.TAMPER_CLOSED)
        for alarm in guard.get("/api/v1/alarms", params={"open": True}).json()["alarms"]:
            guard.post(f"/api/v1/alarms/{alarm['id']}/acknowledge", json={})


def rung(page: Page) -> int:
    return int(page.locator("#alarm-list").get_attribute("data-rung") or 0)


@pytest.mark.usefixtures("quiet")
def test_an_alarm_rings_once_and_is_said(page: Page, hub: RunningHub) -> None:
    """Without reloading: on top, in words, announced politely, with sound; and not again after a reload."""
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    expect(page.get_by_text("Nothing to look at.")).to_be_visible()
    page.evaluate(
        "() => { window.tones = 0; const start = OscillatorNode.prototype.start;"
        " OscillatorNode.prototype.start = function (at) { window.tones += 1; start.call(this, at); }; }"
    )
    page.get_by_role("heading", name="Alarms").click()
    expect(page.get_by_role("button", name="Sound is on")).to_be_visible()
    forced(hub.controllers["front"])
    alarm = page.locator(".alarm")
    expect(alarm).to_contain_text("Alarm")
    expect(alarm).to_contain_text("Forced open")
    expect(alarm).to_contain_text("Front door")
    said = page.locator("#alarm-said")
    expect(said).to_have_text("Forced open: Front door")
    assert said.get_attribute("aria-live") == "polite"
    expect(page).to_have_title("(1) Live · Drempel")
    assert rung(page) == 1
    assert page.evaluate("window.tones") == 3
    hub.controllers["front"].heartbeat()
    tap(hub.controllers["front"], hub.card("Ama", "Mensah"))
    expect(page.locator("#taps > li").first).to_contain_text("Ama Mensah")
    assert rung(page) == 1
    page.reload()
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    expect(page.locator(".alarm")).to_have_count(1)
    assert rung(page) == 0


@pytest.mark.usefixtures("quiet")
def test_an_alarm_is_acknowledged_by_keyboard(page: Page, hub: RunningHub) -> None:
    """A note that is being typed survives what arrives meanwhile; once over and noted, the alarm leaves the page."""
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    forced(hub.controllers["front"])
    expect(page.locator(".alarm.standing")).to_have_count(1)
    reach(page, "Note on Forced open: Front door", press="")
    page.keyboard.type("The cleaner")
    forced(hub.controllers["kitchen"], EventKind.TAMPER_OPENED)
    expect(page.locator(".alarm")).to_have_count(2)
    with hub.token(Role.GUARD) as other:
        number = str(page.locator(".alarm", has_text="Forced open").get_attribute("id")).removeprefix(
            "alarm-"
        )
        other.post(f"/api/v1/alarms/{number}/acknowledge", json={"note": "I saw it on the camera"})
    expect(page.locator(f"#alarm-{number}")).to_contain_text("I saw it on the camera")
    page.keyboard.type(" has a key")
    page.keyboard.press("Enter")
    alarm = page.locator(".alarm.acknowledged")
    expect(alarm).to_contain_text("“The cleaner has a key”")
    expect(alarm).to_contain_text("took note at")
    closed(hub.controllers["front"])
    expect(page.locator(f"#alarm-{number}")).to_have_count(0)
    expect(page.locator(".alarm")).to_have_count(1)


@pytest.mark.usefixtures("quiet")
def test_a_choice_of_doors_hides_no_alarm_silently(page: Page, hub: RunningHub) -> None:
    """By door and by kind, kept over a reload; what is hidden is counted, and rings all the same."""
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    page.get_by_label("Show only this door").select_option("Kitchen")
    expect(page.locator("#door-front")).to_be_hidden()
    expect(page.locator("#door-kitchen")).to_be_visible()
    forced(hub.controllers["front"])
    expect(page.get_by_text("Not shown because of the choice above, alarms: 1")).to_be_visible()
    expect(page.locator(".alarm")).to_be_hidden()
    assert rung(page) == 1
    page.reload()
    expect(page.get_by_label("Show only this door")).to_have_value("kitchen")
    page.get_by_label("Show only this door").select_option("")
    page.get_by_label("Show only alarms of this kind").select_option("Forced open")
    forced(hub.controllers["kitchen"], EventKind.TAMPER_OPENED)
    expect(page.locator(".alarm")).to_have_count(2)
    expect(page.locator(".alarm:visible")).to_have_count(1)
    expect(page.locator(".alarm:visible")).to_contain_text("Forced open")
    expect(page.locator("#door-front")).to_be_visible()


def test_what_still_stands_comes_back(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An acknowledged alarm rings again after its time, and says that it is a reminder."""
    monkeypatch.setattr(feed, "SWEEP_S", 0.2)
    bounds = AlarmBounds(remind_after=timedelta(seconds=60))
    with running_hub(tmp_path, alarms=bounds) as hub:
        front = hub.door("front", "Front door")
        context = browser.new_context(base_url=hub.url)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(hub.link(Role.GUARD))
        page.get_by_label("Your name").fill("Guard")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("Connected to the hub")).to_be_visible()
        forced(front)
        page.locator(".alarm").get_by_role("button").click()
        expect(page.locator(".alarm.acknowledged")).to_have_count(1)
        before = rung(page)
        hub.clock.ahead += bounds.remind_after
        expect(page.locator(".alarm.standing", has_text="Reminder")).to_have_count(1)
        assert rung(page) == before + 1
        context.close()


def test_a_lockdown_and_its_arrival(page: Page, hub: RunningHub) -> None:
    """Reason, confirmation, and then door by door as their events come, without reloading."""
    page.get_by_role("link", name="Lockdown").click()
    page.get_by_label("Reason").fill("A threat at the gate")
    page.get_by_role("button", name="Give the order").click()
    expect(page.get_by_role("heading", name="Order to all doors")).to_be_visible()
    assert page.url.endswith("/lockdown")  # the browser asks for the confirmation
    page.get_by_label("Yes, at all 2 doors").check()
    page.get_by_role("button", name="Give the order").click()
    page.wait_for_url("**/orders/*")
    expect(page.get_by_text("Lockdown: executed at 0 of 2 doors.")).to_be_visible()
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    for count, controller in enumerate(hub.controllers.values(), 1):
        execute_newest(hub, controller)
        expect(page.get_by_text(f"Lockdown: executed at {count} of 2 doors.")).to_be_visible()


def execute_newest(hub: RunningHub, controller: FakeController) -> None:
    """Wait until the command that was given last arrives, and say that it is done."""
    with hub.token(Role.GUARD) as guard:
        newest = guard.get(f"/api/v1/doors/{controller.id}/commands").json()["commands"][0]
    wanted = bytes.fromhex(newest["id"])

    def has_come() -> bool:
        return any(
            open_command(each, controller.trusted).command_id == wanted for each in controller.commands
        )

    eventually(has_come, "the command arrives")
    details = {"command": wanted, "action": newest["action"]}
    forced(controller, EventKind.COMMAND_EXECUTED, details=details)


def test_a_door_is_unlocked_once(page: Page, hub: RunningHub) -> None:
    """From its card, with a reason; the page says when the door has done it."""
    front = hub.controllers["front"]
    page.locator("#door-front").get_by_role("link", name="Unlock or set mode").click()
    page.get_by_label("Reason").fill("A parcel")
    page.get_by_role("button", name="Give the order").click()
    newest = page.locator("#door-commands li").first
    expect(newest).to_contain_text("Unlock once")
    expect(page.get_by_text("Connected to the hub")).to_be_visible()
    execute_newest(hub, front)
    expect(newest).to_contain_text("Executed")
