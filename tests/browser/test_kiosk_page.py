"""A kiosk's page in a real browser: tap, see, confirm, receipt; and what it shows when something does not work.

Needs chromium; says so loudly and is skipped where there is none.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hub.roles import Role
from pacs.identifiers import CredentialId
from tests.browser.test_accessibility import violations
from tests.hub.running import PASSWORD, RunningHub, running_hub
from tests.hub.station import FakeStation, card_of

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 30_000
PICTURES = os.environ.get("DREMPEL_PICTURES")
API = "/api/v1/registration"


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
    with running_hub(
        tmp_path_factory.mktemp("kiosk"), site_name="Wilgenoord", time_zone="Europe/Amsterdam"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def station(hub: RunningHub) -> FakeStation:
    made = FakeStation(hub, "hall", "kiosk")
    made.heartbeat()
    return made


@pytest.fixture(scope="module")
def family(hub: RunningHub) -> dict[str, CredentialId]:
    """A mother and her child, both with a duty that is open all day; first name → card."""
    cards = {name: hub.card(name, "Mensah") for name in ("Ama", "Kofi")}
    with hub.token() as program:
        ids = [program.get(f"/api/v1/cards/{card}").json()["cardholder_id"] for card in cards.values()]
        duty = {
            "name": "Daily registration",
            "whom": "people",
            "people": ids,
            "weekdays": list(range(7)),
            "start_minute": 0,
            "end_minute": 1440,
        }
        assert program.post(f"{API}/duties", json=duty).status_code == 201
        assert program.put(f"{API}/reporters/{'/'.join(ids)}").is_success
    return cards


@pytest.fixture
def page(browser: Browser, hub: RunningHub, station: FakeStation) -> Iterator[Page]:
    """The kiosk's browser, paired by a link; a phone's width, so that nothing is wider than the least screen."""
    with hub.token(Role.SITE_MANAGER) as program:
        link = program.post(f"{API}/kiosks/hall/link").json()["path"]
    context = browser.new_context(
        base_url=hub.url, viewport={"width": 360, "height": 780}, locale="en", reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    opened.goto(link)
    opened.get_by_role("button", name="Show the kiosk here").click()
    opened.wait_for_url("**/kiosk")
    station.heartbeat()
    yield opened
    context.close()


expect.set_options(timeout=PATIENCE_MS)


def checked(page: Page, name: str) -> None:
    """The screen that is shown breaks no rule of accessibility, and is not wider than it should be."""
    for width, height in ((360, 780), (1280, 800)):
        page.set_viewport_size({"width": width, "height": height})
        assert violations(page) == [], (name, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
        if PICTURES:
            page.screenshot(path=Path(PICTURES) / f"kiosk-{name}-{width}.png", full_page=True)


def test_a_family_reports_and_takes_a_receipt(
    page: Page, hub: RunningHub, station: FakeStation, family: dict[str, CredentialId]
) -> None:
    """The page hears of the card by itself; the child is ticked by hand; the receipt prints; a second tap says when it was."""
    expect(page.get_by_text("Hold your card to the reader.")).to_be_visible()
    checked(page, "start")
    station.heartbeat()
    station.tap(card_of(hub, family["Ama"]))
    expect(page.get_by_text("Do you report this now?")).to_be_visible()
    expect(page.get_by_role("checkbox")).to_have_count(2)
    expect(page.get_by_role("checkbox", name="Ama")).to_be_checked()
    expect(page.get_by_role("checkbox", name="Kofi")).not_to_be_checked()
    expect(page.locator("body")).not_to_contain_text("Mensah")
    checked(page, "choose")
    page.get_by_role("checkbox", name="Kofi").check()
    page.get_by_role("link", name="Nederlands").click()
    expect(page.get_by_text("Meldt u dit nu?")).to_be_visible()
    page.get_by_role("checkbox", name="Kofi").check()
    page.get_by_role("button", name="Ja, melden").click()
    expect(page.get_by_role("heading", name="Gemeld")).to_be_visible()
    number = page.locator(".number strong").inner_text()
    assert re.fullmatch(r"\w{5}-\w{5}", number)
    checked(page, "receipt")
    page.emulate_media(media="print")
    expect(page.get_by_text(number)).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    page.emulate_media(media="screen")
    with hub.token() as program:
        assert len(program.get(f"{API}/receipts/{number}").json()["lines"]) == 2
    station.tap(card_of(hub, family["Kofi"]))
    expect(page.get_by_text("This is reported already.")).to_be_visible()
    checked(page, "already")
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_text("Hold your card to the reader.")).to_be_visible()


def test_what_does_not_work_is_shown(page: Page, hub: RunningHub, station: FakeStation) -> None:
    """Refused, not read, no reader, no hub: each its own screen; without a touch the page goes back to its start."""
    page.clock.install()
    station.heartbeat()
    station.tap(card_of(hub, hub.card("Eve", "Example"), "forged"))
    expect(page.get_by_text("The card is not known here.")).to_be_visible()
    checked(page, "refused")
    station.not_read()
    page.clock.fast_forward(1_000)
    expect(page.get_by_text("Hold it again, and keep it still.")).to_be_visible()
    checked(page, "again")
    page.clock.run_for(31_000)
    expect(page.get_by_text("Hold your card to the reader.")).to_be_visible()
    hub.clock.ahead += timedelta(seconds=70)
    page.clock.run_for(2_000)
    expect(page.get_by_text("This kiosk does not work now.")).to_be_visible()
    checked(page, "broken")
    page.context.set_offline(True)
    page.clock.run_for(4_000)
    expect(page.get_by_text("This kiosk has no connection.")).to_be_visible()
    checked(page, "away")
    page.context.set_offline(False)
    station.heartbeat()
    page.clock.run_for(2_000)
    expect(page.get_by_text("This kiosk has no connection.")).to_be_hidden()
    expect(page.get_by_text("Hold your card to the reader.")).to_be_visible()


@pytest.fixture
def desk(browser: Browser, hub: RunningHub) -> Iterator[Page]:
    """A site manager's browser, on a phone."""
    context = browser.new_context(base_url=hub.url, viewport={"width": 360, "height": 780}, locale="en")
    context.set_default_timeout(PATIENCE_MS)
    opened = context.new_page()
    opened.goto(hub.link(Role.SITE_MANAGER))
    opened.get_by_label("Your name").fill("Marit")
    opened.get_by_label("Password").fill(PASSWORD)
    opened.get_by_role("button", name="Continue").click()
    opened.wait_for_url(hub.url + "/")
    yield opened
    context.close()


def test_staff_lays_down_a_duty_exempts_corrects_and_checks(
    desk: Page, page: Page, hub: RunningHub, station: FakeStation
) -> None:
    """From the duty to the list: the exempt one need not come, a correction has its reason, the receipt is found genuine."""
    hope, grace = (hub.card(name, "Owusu") for name in ("Hope", "Grace"))
    with hub.token() as program:
        people = [program.get(f"/api/v1/cards/{card}").json()["cardholder_id"] for card in (hope, grace)]
    opens = hub.clock().astimezone(ZoneInfo("Europe/Amsterdam")) + timedelta(minutes=20)
    desk.goto("/registration/duties")
    form = desk.locator("form", has=desk.get_by_role("button", name="Lay down"))
    form.get_by_label("Name, as residents read it").fill("Evening registration")
    form.get_by_label("For whom").select_option("people")
    for day in form.get_by_role("group", name="Weekdays").get_by_role("checkbox").all():
        day.check()
    form.get_by_label("From").fill(f"{opens:%H:%M}")
    form.get_by_label("To; an earlier").fill(f"{opens + timedelta(hours=2):%H:%M}")
    form.get_by_role("button", name="Lay down").click()
    expect(desk.locator(".notice.good")).to_have_text("Saved.")
    for person in people:
        desk.goto(f"/registration/people/{person}")
        desk.get_by_role("button", name=re.compile("Put on this list.*Evening")).click()
        expect(desk.locator(".notice.good")).to_have_text("Saved.")
    form = desk.locator("form", has=desk.get_by_role("button", name="Exempt"))
    for label in ("First day", "Last day"):
        form.get_by_label(label).fill(opens.date().isoformat())
    form.get_by_label("Reason").fill("Away with permission")
    form.get_by_role("button", name="Exempt").click()
    expect(desk.locator(".notice.good")).to_have_text("Saved.")

    hub.clock.ahead += timedelta(minutes=30)
    station.heartbeat()
    page.goto("/kiosk")
    station.tap(card_of(hub, hope))
    page.get_by_role("button", name="Yes, report").click()
    number = page.locator(".number strong").inner_text()

    desk.goto("/registration")
    desk.get_by_label("Number on the receipt").fill(number)
    desk.get_by_role("button", name="Check this number").click()
    expect(desk.get_by_text("Genuine:")).to_be_visible()
    desk.get_by_role("link", name="Evening registration").first.click()
    rows = desk.get_by_role("row")
    expect(rows.filter(has_text="Grace")).to_contain_text("Away with permission")
    reported = rows.filter(has_text="Hope")
    expect(reported).to_contain_text(number)
    reported.get_by_text("Withdraw the report").click()
    reported.get_by_label("Reason").fill("Somebody else held her card")
    reported.get_by_role("button", name="Save").click()
    expect(rows.filter(has_text="Hope")).to_contain_text("Somebody else held her card")
    expect(rows.filter(has_text="Hope")).to_contain_text(number)
    assert violations(desk) == []
