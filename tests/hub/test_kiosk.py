"""Reporting in from tap to list: a kiosk's page, families, receipts, what staff sees and corrects, and who may."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from hub import registration
from hub.roles import Role
from pacs.identifiers import CardholderId, CredentialId
from pacs.schedule import local_time
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub, tap
from tests.hub.station import FakeStation, card_of

STEP = timedelta(seconds=10)
API = "/api/v1/registration"


class Kiosk:
    """A reader and the browser beside it."""

    def __init__(self, hub: RunningHub, station_id: str) -> None:
        self.hub = hub
        self.station = FakeStation(hub, station_id, "kiosk")
        self.browser = hub.client(origin=hub.url)
        assert "This browser shows no kiosk" in self.browser.get("/kiosk").text
        with hub.token() as program:
            made = program.post(f"{API}/kiosks/{station_id}/link")
            assert made.status_code == 201, made.text
        link = made.json()["path"]
        assert self.browser.get(link).status_code == 200
        paired = self.browser.post(link)
        assert (paired.status_code, paired.headers["location"]) == (303, "/kiosk")
        self.browser.cookies.update(paired.cookies)
        self.lives()

    def lives(self) -> dict[str, Any]:
        """The reader says that it works, and the page asks for a tap."""
        self.reader_lives()
        answer = self.browser.get("/kiosk/tap")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def reader_lives(self) -> None:
        """As its heartbeat does; many of them over HTTP, within seconds, would be refused."""
        stations = self.hub.app.state.services.stations
        stations.heartbeat(stations.by_token(self.station.token), run=self.station.run, works=True)

    def until(self, passed: timedelta) -> None:
        """Time passes, and the kiosk works."""
        for _step in range(-(-passed // STEP)):
            self.hub.clock.ahead += STEP
            self.lives()

    def tap(self, credential: CredentialId, kind: str = "genuine") -> str:
        """Somebody holds a card; the address of what is shown to them."""
        before = self.lives()["tap"]
        assert self.station.heartbeat().status_code == 200
        assert self.station.tap(card_of(self.hub, credential, kind)).status_code == 200
        return self.next_visit(before)

    def next_visit(self, before: str | None) -> str:
        eventually(lambda: self.lives()["tap"] not in (None, before), "the page hears of the card")
        return f"/kiosk/visits/{self.lives()['tap']}"

    def report(self, visit: str, *people: str) -> httpx.Response:
        """Confirm what is offered for these people, by first name."""
        offers = offers_of(self.browser.get(visit).text)
        return self.browser.post(visit, data={"chosen": [offers[name] for name in people]})


def offers_of(page: str) -> dict[str, str]:
    """First name → what its box stands for."""
    found = re.findall(r'name="chosen" value="([^"]+)".*?<strong><bdi>([^<]+)', page, re.DOTALL)
    return {html.unescape(name): value for value, name in found}


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page.partition("<main")[2])).split())


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("kiosk"), time_zone="Europe/Amsterdam") as running:
        running.door("front", "Front")
        yield running


@pytest.fixture(scope="module")
def kiosk(hub: RunningHub) -> Iterator[Kiosk]:
    made = Kiosk(hub, "hall")
    yield made
    made.browser.close()


@pytest.fixture(scope="module")
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token() as program:
        yield program


@pytest.fixture(scope="module")
def people(hub: RunningHub, admin: httpx.Client) -> dict[str, CredentialId]:
    """A mother, her child, and a man; first name → card."""
    return {name: hub.card(name, "Example") for name in ("Ada", "Bo", "Cem")}


@pytest.fixture(scope="module")
def ids(admin: httpx.Client, people: dict[str, CredentialId]) -> dict[str, CardholderId]:
    found = {
        name: admin.get(f"/api/v1/cards/{card}").json()["cardholder_id"] for name, card in people.items()
    }
    linked = admin.put(f"{API}/reporters/{found['Ada']}/{found['Bo']}")
    assert linked.status_code == 200, linked.text
    assert linked.json()["reports_for"] == [found["Bo"]]
    return found


def laid_down(hub: RunningHub, admin: httpx.Client, people: list[str], minutes: int = 2, **more: Any) -> str:
    """A duty for these people that is open now, and for so many minutes."""
    local = local_time(hub.clock(), "Europe/Amsterdam")
    start = local.hour * 60 + local.minute
    body = {
        "name": "Morning",
        "whom": "people",
        "people": people,
        "weekdays": list(range(7)),
        "start_minute": start,
        "end_minute": start + minutes,
        "first_day": local.date().isoformat(),
        **more,
    }
    made = admin.post(f"{API}/duties", json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def of_duty(admin: httpx.Client, duty_id: str) -> dict[str, Any]:
    """The list of the duty's only occurrence."""
    every = admin.get(f"{API}/occurrences").json()["occurrences"]
    (one,) = (each for each in every if each["duty_id"] == duty_id)
    answer = admin.get(f"{API}/occurrences/{duty_id}/{one['day']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def standings(roll: dict[str, Any]) -> dict[str, str]:
    return {line["person"].split()[0]: line["standing"] for line in roll["lines"]}


def test_a_family_reports_and_the_list_says_who_did_not(
    hub: RunningHub,
    kiosk: Kiosk,
    admin: httpx.Client,
    people: dict[str, CredentialId],
    ids: dict[str, CardholderId],
) -> None:
    """Tap, see what it is and for whom, confirm, take a receipt that staff can check; who did not come is known when it is over."""
    kiosk.lives()
    duty = laid_down(hub, admin, list(ids.values()), late_min=1)
    visit = kiosk.tap(people["Ada"])
    page = kiosk.browser.get(visit)
    assert page.headers["cache-control"] == "no-store"
    assert set(offers_of(page.text)) == {"Ada", "Bo"}
    assert page.text.count(" checked") == 1
    assert "Example" not in page.text
    told = text_of(kiosk.report(visit, "Ada", "Bo").text)
    receipt = re.search(r"Receipt number (\w{5}-\w{5})", told)
    assert receipt is not None, told
    assert "in time" in told
    again = text_of(kiosk.browser.get(visit).text)
    assert "This is reported already." in again
    assert kiosk.browser.post(visit, data={"chosen": [f"{duty}/2026-01-01/x", "nonsense"]}).status_code == 303
    roll = of_duty(admin, duty)
    assert standings(roll) == {"Ada": "reported", "Bo": "reported", "Cem": "not_yet"}
    bo = next(line for line in roll["lines"] if line["person"].startswith("Bo"))
    assert [each["reported_by_person"] for each in bo["reports"]] == ["Ada Example"]
    checked = admin.get(f"{API}/receipts/{receipt[1].lower()}").json()
    assert {line["person"]: line["stands"] for line in checked["lines"]} == {
        "Ada Example": True,
        "Bo Example": True,
    }
    assert admin.get(f"{API}/receipts/{registration.new_receipt()}").status_code == 404
    assert admin.get(f"{API}/receipts/AAAAAAAAAA").status_code == 422
    kiosk.until(timedelta(minutes=3) + registration.SETTLING)
    roll = of_duty(admin, duty)
    assert roll["holes"] == []
    assert standings(roll)["Cem"] == "not_reported"
    late = kiosk.tap(people["Cem"])
    assert "The time for it ended at" in text_of(kiosk.browser.get(late).text)


def test_nobody_is_absent_while_the_kiosk_was_away(
    hub: RunningHub,
    kiosk: Kiosk,
    admin: httpx.Client,
    people: dict[str, CredentialId],
    ids: dict[str, CardholderId],
) -> None:
    """A minute and a half without the reader, or half a minute without the page, and it cannot be told; what was reported stays."""
    for silent in ("station", "page"):
        kiosk.lives()
        duty = laid_down(hub, admin, [ids["Ada"], ids["Cem"]], minutes=4)
        assert "Reported" in text_of(kiosk.report(kiosk.tap(people["Ada"]), "Ada").text)
        for _step in range(9):
            hub.clock.ahead += STEP
            if silent == "page":
                kiosk.reader_lives()
            else:
                kiosk.browser.get("/kiosk/tap")
        assert kiosk.browser.get("/kiosk/tap").json()["works"] is (silent == "page")
        kiosk.until(timedelta(minutes=4) + registration.SETTLING)
        roll = of_duty(admin, duty)
        assert standings(roll) == {"Ada": "reported", "Cem": "cannot_be_told"}
        (hole,) = roll["holes"]
        assert hole["station_id"] == "hall"
        assert not roll["occurrence"]["whole"]


def test_staff_corrects_with_a_reason(
    hub: RunningHub,
    kiosk: Kiosk,
    admin: httpx.Client,
    people: dict[str, CredentialId],
    ids: dict[str, CardholderId],
) -> None:
    """What was there before stays on the list; after a withdrawal somebody may report again; every step is audited."""
    kiosk.lives()
    duty = laid_down(hub, admin, list(ids.values()), minutes=30)
    kiosk.report(kiosk.tap(people["Cem"]), "Cem")
    day = of_duty(admin, duty)["occurrence"]["day"]
    path = f"{API}/occurrences/{duty}/{day}/corrections"

    def corrected(name: str, kind: str) -> None:
        body = {"cardholder_id": ids[name], "kind": kind, "reason": f"Seen at the desk: {kind}"}
        made = admin.post(path, json=body)
        assert made.status_code == 201, made.text

    corrected("Cem", "withdrawn")
    corrected("Bo", "reported")
    roll = of_duty(admin, duty)
    assert standings(roll) == {"Ada": "not_yet", "Bo": "reported", "Cem": "not_yet"}
    cem = next(line for line in roll["lines"] if line["person"].startswith("Cem"))
    assert (len(cem["reports"]), cem["corrections"][0]["kind"]) == (1, "withdrawn")
    assert "Reported" in text_of(kiosk.report(kiosk.tap(people["Cem"]), "Cem").text)
    assert standings(of_duty(admin, duty))["Cem"] == "reported"
    assert "reported at the desk" in text_of(kiosk.browser.get(kiosk.tap(people["Bo"])).text)
    export = admin.get(f"{API}/occurrences/{duty}/{day}/export", params={"reason": "For the weekly file"})
    rows = [row for row in csv.reader(io.StringIO(export.text)) if not row[0].startswith("#")]
    assert {row[1]: row[2] for row in rows[1:]} == {
        "Ada Example": "not_yet",
        "Bo Example": "reported",
        "Cem Example": "reported",
    }
    assert admin.get(f"{API}/occurrences/{duty}/{day}/export").status_code == 422
    as_json = admin.get(
        f"{API}/occurrences/{duty}/{day}/export", params={"reason": "For a program", "format": "json"}
    ).json()
    assert as_json["lines"] == of_duty(admin, duty)["lines"]
    actions = [each["action"] for each in admin.get("/api/v1/audit", params={"limit": 50}).json()["entries"]]
    assert {"report.mark", "report.withdraw", "registration.export", "registration.read"} <= set(actions)


def test_who_is_exempt_and_who_came_too_early(
    hub: RunningHub,
    kiosk: Kiosk,
    admin: httpx.Client,
    people: dict[str, CredentialId],
    ids: dict[str, CardholderId],
) -> None:
    """Exempt people are on the list as such, and may report; before it opens the kiosk says when it does."""
    kiosk.lives()
    duty = laid_down(hub, admin, [ids["Ada"], ids["Cem"]])
    day = of_duty(admin, duty)["occurrence"]["day"]
    exempt = {
        "cardholder_id": ids["Ada"], "duty_id": duty, "first_day": day, "last_day": day, "reason": "Gives birth",
    }  # fmt: skip
    made = admin.post(f"{API}/exemptions", json=exempt)
    assert made.status_code == 201, made.text
    assert standings(of_duty(admin, duty)) == {"Ada": "exempt", "Cem": "not_yet"}
    assert "need not report" in text_of(kiosk.browser.get(kiosk.tap(people["Ada"])).text)
    listed = admin.get(f"{API}/exemptions", params={"cardholder": ids["Ada"]}).json()["exemptions"]
    assert [each["person"] for each in listed] == ["Ada Example"]
    lifted = admin.post(f"{API}/exemptions/{made.json()['id']}/lift", json={"reason": "Is back"})
    assert lifted.json()["lifted_at"] is not None
    assert standings(of_duty(admin, duty))["Ada"] == "not_yet"
    eve = hub.card("Eve", "Example")
    person = admin.get(f"/api/v1/cards/{eve}").json()["cardholder_id"]
    local = local_time(hub.clock(), "Europe/Amsterdam")
    minute = (local.hour * 60 + local.minute + 60) % 1440
    body = {
        "name": "Evening", "whom": "people", "people": [person], "weekdays": list(range(7)),
        "start_minute": minute, "end_minute": minute + 30,
    }  # fmt: skip
    assert admin.post(f"{API}/duties", json=body).status_code == 201
    told = text_of(kiosk.browser.get(kiosk.tap(eve)).text)
    assert "The next time begins at" in told
    assert f"{minute // 60:02d}:{minute % 60:02d}" in told


def test_each_card_gets_its_screen(
    hub: RunningHub, kiosk: Kiosk, admin: httpx.Client, people: dict[str, CredentialId]
) -> None:
    """A blocked, forged or unread card is told so, names nobody, and reports nothing; an old tap shows nothing."""
    blocked = hub.card("Dina", "Example")
    block = {"status": "suspended", "reason": "Lost in the laundry"}
    assert admin.post(f"/api/v1/cards/{blocked}/block", json=block).is_success
    for credential, kind, said in (
        (blocked, "genuine", "The card is blocked."),
        (people["Ada"], "forged", "The card is not known here."),
    ):
        visit = kiosk.tap(credential, kind)
        page = text_of(kiosk.browser.get(visit).text)
        assert said in page
        assert "go to the desk" in page
        assert "Dina" not in page
        assert kiosk.browser.post(visit, data={"chosen": []}).headers["location"] == "/kiosk"
    before = kiosk.lives()["tap"]
    kiosk.station.not_read()
    unread = kiosk.next_visit(before)
    assert "Hold it again" in text_of(kiosk.browser.get(unread).text)
    assert kiosk.browser.get(visit).headers["location"] == "/kiosk"
    hub.clock.ahead += timedelta(seconds=100)
    assert kiosk.lives()["tap"] is None
    assert kiosk.browser.get(unread).headers["location"] == "/kiosk"


def test_a_kiosks_page_is_of_one_browser_and_one_site(hub: RunningHub, kiosk: Kiosk) -> None:
    """Nobody else asks for taps; a link works once; who may not manage, or sees another site, makes none."""
    with hub.client(origin=hub.url) as stranger:
        assert stranger.get("/kiosk/tap").status_code == 404
        assert stranger.get(f"/kiosk/visits/{'0' * 32}").headers["location"] == "/kiosk"
        assert stranger.post(f"/kiosk/pair/{'x' * 43}").status_code == 403
    path = f"{API}/kiosks/hall/link"
    for role, status in ((Role.GUARD, 403), (Role.RECEPTION, 403), (Role.SITE_MANAGER, 201)):
        with hub.token(role) as program:
            assert program.post(path).status_code == status
    FakeStation(hub, "front-desk", "desk")
    with hub.token() as program:
        assert program.post(f"{API}/kiosks/front-desk/link").status_code == 422
        listed = program.get(f"{API}/kiosks").json()["kiosks"]
    assert [each["station_id"] for each in listed] == ["hall"]
    assert listed[0]["reader_works"] in (True, False)


def test_doors_report_nobody(hub: RunningHub, admin: httpx.Client) -> None:
    """However often somebody taps at doors, they have not reported."""
    front = hub.controllers["front"]
    card = hub.card("Finn", "Example")
    finn = admin.get(f"/api/v1/cards/{card}").json()["cardholder_id"]
    duty = laid_down(hub, admin, [finn], minutes=30)
    before = of_duty(admin, duty)["lines"]
    for _tap in range(5):
        tap(front, card)
    front.until_acknowledged()
    assert of_duty(admin, duty)["lines"] == before
    assert before[0]["standing"] in ("not_yet", "cannot_be_told")


def test_a_duty_is_laid_down_changed_and_deleted(hub: RunningHub, admin: httpx.Client) -> None:
    """What has occurred is given a last day instead; what contradicts itself or names nobody is refused by name."""
    body = {
        "name": "Weekly", "whom": "category", "category": "resident", "weekdays": [0],
        "start_minute": 540, "end_minute": 660, "first_day": "2030-01-01",
    }  # fmt: skip
    made = admin.post(f"{API}/duties", json=body).json()
    path = f"{API}/duties/{made['id']}"
    changed = admin.patch(
        path, json={"name": "Each week", "end_minute": 700, "last_day": "2031-01-01"}
    ).json()
    assert (changed["name"], changed["end_minute"], changed["last_day"]) == ("Each week", 700, "2031-01-01")
    assert changed["in_force_since"] > made["in_force_since"]
    named = admin.patch(path, json={"name": "Weekly", "last_day": None}).json()
    assert named == changed | {"name": "Weekly", "last_day": None}
    assert admin.patch(path, json={"end_minute": 500}).status_code == 422
    for wrong, code in (
        ({"people": ["nobody"]}, "invalid"),
        ({"whom": "people", "category": None, "people": ["nobody"]}, "reference_unknown"),
        ({"whom": "access_level", "category": None, "access_level_id": "never"}, "reference_unknown"),
        ({"weekdays": []}, "invalid"),
        ({"last_day": "2029-01-01"}, "invalid"),
    ):
        answer = admin.post(f"{API}/duties", json=body | wrong)
        assert (answer.status_code, answer.json()["code"]) == (422, code), wrong
    assert admin.delete(path).status_code == 204
    assert admin.get(path).status_code == 404
    occurred = admin.get(f"{API}/occurrences").json()["occurrences"][0]["duty_id"]
    assert admin.delete(f"{API}/duties/{occurred}").json()["code"] == "in_use"
    published = admin.get(f"{API}/statistics").json()
    assert published["threshold"] == 5
    assert all(count["people"] is None for each in published["occurrences"] for count in each["counts"])


def test_names_are_for_who_may_see_them(hub: RunningHub, admin: httpx.Client) -> None:
    """Guards, technicians and auditors see nothing of it; a token narrowed to reading sees no name."""
    for role in (Role.GUARD, Role.TECHNICIAN, Role.AUDITOR):
        with hub.token(role) as program:
            assert program.get(f"{API}/occurrences").status_code == 403
    with hub.token(Role.RECEPTION) as desk:
        every = desk.get(f"{API}/occurrences").json()["occurrences"]
        assert every
        assert desk.post(f"{API}/exemptions", json={}).status_code == 403


def test_staff_works_on_pages(
    hub: RunningHub, kiosk: Kiosk, people: dict[str, CredentialId], ids: dict[str, CardholderId]
) -> None:
    """Lay down a duty, put somebody on its list, see who has not reported, correct it, exempt, check a receipt."""
    kiosk.lives()
    local = local_time(hub.clock(), "Europe/Amsterdam")
    with hub.signed_in(Role.SITE_MANAGER) as browser:
        token = csrf_of(browser.get("/registration/duties").text)
        form = {
            "csrf_token": token,
            "name": "By list",
            "whom": "people",
            "weekdays": [str(each) for each in range(7)],
            "start": f"{local:%H:%M}",
            "end": f"{local + timedelta(minutes=30):%H:%M}",
        }
        assert browser.post("/registration/duties", data=form | {"start": "9"}).status_code == 422
        assert browser.post("/registration/duties", data=form).status_code == 303
        (duty,) = re.findall(
            r'href="/registration/duties/(\w+)"><bdi>By list', browser.get("/registration/duties").text
        )
        assert browser.post(f"/registration/duties/{duty}", data=form | {"late_min": "10"}).status_code == 303
        person = f"/registration/people/{ids['Cem']}"
        for action in ({"action": "list", "duty_id": duty}, {"action": "link", "other": ids["Bo"]}):
            assert browser.post(person, data={"csrf_token": token, **action}).status_code == 303, action
        assert browser.post(person, data={"csrf_token": token, "action": "exempt"}).status_code == 422
        page = browser.get(person, params={"search": "ada"}).text
        assert "Ada Example" in page
        assert "Bo Example" in page
        hub.app.state.services.reporting.fix()
        page = browser.get("/registration").text
        (path,) = {
            each for each in re.findall(r'href="(/registration/duties/\w+/[\d-]+)"', page) if duty in each
        }
        assert browser.get(path).status_code == 200
        told = text_of(kiosk.report(kiosk.tap(people["Cem"]), "Cem").text)
        receipt = re.search(r"Receipt number (\S+)", told)
        assert receipt is not None, told
        page = browser.get("/registration/receipt", params={"number": receipt[1]}).text
        assert f"Genuine: {receipt[1]}" in text_of(page)
        unknown = browser.get("/registration/receipt", params={"number": registration.new_receipt()})
        assert "never given out" in text_of(unknown.text)
        assert "Cem Example" in text_of(browser.get(path, params={"standing": "reported"}).text)
        assert "Cem Example" not in text_of(browser.get(path, params={"standing": "exempt"}).text)
        correction = {"csrf_token": token, "cardholder_id": ids["Cem"], "kind": "withdrawn"}
        assert browser.post(path, data=correction).status_code == 422
        done = browser.post(path, data=correction | {"reason": "Not his <b>card</b>", "standing": "reported"})
        assert done.headers["location"] == f"{path}?standing=reported"
        page = browser.get(path).text
        assert "Not his &lt;b&gt;card" in page
        link = browser.post("/registration/kiosks/hall/link", data={"csrf_token": token})
        assert "/kiosk/pair/" in link.text
    with hub.signed_in(Role.RECEPTION) as desk:
        assert desk.get("/registration/duties").status_code == 200
        assert desk.get(person).status_code == 403
        assert desk.post("/registration/duties", data=form).status_code == 403
