"""Sites and transfers as pages: adding and renaming a site, finding whom to move, moving them, and where that has arrived."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from hub.roles import Role
from pacs.identifiers import SiteId
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of

NORTH = "north"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("transfers")) as running:
        with running.token() as program:
            site = {"id": NORTH, "name": "North", "time_zone": "Europe/Amsterdam"}
            assert program.post("/api/v1/sites", json=site).status_code == 201
            running.door("front", "Front door")
            running.door("gate", "Gate", site=NORTH)
            always = {"weekdays": list(range(7)), "start_minute": 0, "end_minute": 1440}
            schedule = {"id": "always", "site_id": NORTH, "name": "Always", "windows": [always]}
            assert program.post("/api/v1/schedules", json=schedule).status_code == 201
            rules = [{"door_id": "gate", "schedule_id": "always"}]
            level = {"id": "north", "site_id": NORTH, "name": "Residents of North", "rules": rules}
            assert program.post("/api/v1/access-levels", json=level).status_code == 201
            for number, (name, category, room) in enumerate(
                [
                    ("Ama", "resident", "A-101"),
                    ("Yusuf", "resident", "A-102"),
                    ("Tigist", "resident", "B-201"),
                    ("Joost", "staff", None),
                ]
            ):
                person = {
                    "id": f"person-{number}",
                    "site_id": "test-site",
                    "category": category,
                    "given_name": name,
                    "family_name": "Test",
                    "room": room,
                    "external_id": f"V-{number}",
                }
                assert program.post("/api/v1/cardholders", json=person).status_code == 201
        running.until_confirmed()
        yield running


@pytest.fixture
def desk(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in(Role.RECEPTION) as browser:
        yield browser


def found(browser: httpx.Client, **asked: str) -> tuple[dict[str, str], list[str], str]:
    """The form's hidden part, whom it shows, and the page."""
    token = csrf_of(browser.get("/transfers/new").text)
    answer = browser.post("/transfers/new", data={"csrf_token": token, "step": "find", "to": NORTH, **asked})
    people = re.findall(r'name="who" value="([^"]+)"', answer.text)
    return {"csrf_token": token, "to": NORTH}, people, text_of(answer.text)


def test_people_are_found_by_category_room_name_and_pasted_numbers(desk: httpx.Client) -> None:
    """What is chosen narrows the list; numbers of nobody are named; who is there already is not offered."""
    assert len(found(desk)[1]) == 4
    assert found(desk, category="staff")[1] == ["person-3"]
    assert found(desk, category="resident", room="a-")[1] == ["person-0", "person-1"]
    assert found(desk, search="tig")[1] == ["person-2"]
    _form, people, page = found(desk, ids="V-0,\n person-2 V-99")
    assert people == ["person-0", "person-2"]
    assert "Nobody who fits has these numbers: V-99" in page
    assert "Choose the site that they go to." in found(desk, to="")[2]
    assert "Nobody was found" in found(desk, search="nobody like that")[2]


def test_all_who_are_ticked_are_moved_and_the_page_follows_the_doors(
    hub: RunningHub, desk: httpx.Client
) -> None:
    """With the levels there, one reason and one transaction, audited; the page says door by door where it has arrived."""
    form, people, page = found(desk, room="A-")
    assert "Residents of North" in page
    move = form | {"step": "move", "who": people, "level": "north", "reason": "Wing A closes"}
    for wrong in ({}, {"confirmed": "yes", "reason": ""}, {"confirmed": "yes", "level": "nothing"}):
        refused = desk.post("/transfers/new", data=move | wrong)
        assert refused.status_code == 422
        assert "Nobody was moved" in text_of(refused.text)
    answer = desk.post("/transfers/new", data=move | {"confirmed": "yes"})
    place = answer.headers["location"]
    eventually(lambda: "2 of 2 doors confirmed" in text_of(desk.get(place).text), "arrived everywhere")
    said = text_of(desk.get(f"{place}/doors").text)
    assert "North begins to open for them 1 of 1" in said
    assert "test-site stops opening for them 1 of 1" in said
    assert f'href="{place}"' in desk.get("/transfers").text
    with hub.token() as program:
        person = program.get("/api/v1/cardholders/person-0").json()
        log = program.get("/api/v1/audit", params={"limit": 30}).json()["entries"]
    assert (person["site_id"], person["access_level_ids"], person["room"]) == (NORTH, ["north"], None)
    moved = {
        each["subject"]
        for each in log
        if (each["action"], each["reason"]) == ("cardholder.transfer", "Wing A closes")
    }
    assert moved == {"cardholder:person-0", "cardholder:person-1"}


def test_who_sees_one_site_transfers_nobody(hub: RunningHub) -> None:
    """Neither offered nor done; a guard may look and not move."""
    with (
        hub.signed_in(Role.RECEPTION, sites=frozenset({SiteId("test-site")})) as own,
        hub.signed_in(Role.GUARD) as guard,
    ):
        assert "you see one" in text_of(own.get("/transfers/new").text)
        form = {
            "csrf_token": csrf_of(own.get("/transfers").text),
            "step": "move",
            "to": NORTH,
            "who": "person-2",
            "reason": "Wing B closes",
            "confirmed": "yes",
        }
        assert own.post("/transfers/new", data=form).status_code == 422
        assert guard.get("/transfers/new").status_code == 403
        assert guard.get("/transfers").status_code == 200
        assert "North" not in text_of(own.get("/sites").text)


def test_a_site_is_added_and_renamed_by_form(hub: RunningHub) -> None:
    """By who manages every site; what is wrong is said and stays typed; a guard sees the list alone."""
    with hub.signed_in(Role.ADMINISTRATOR) as admin, hub.signed_in(Role.GUARD) as guard:
        token = csrf_of(admin.get("/sites").text)
        site = {"csrf_token": token, "id": "west", "name": "West", "time_zone": "Europe/Amsterdam"}
        for wrong in ({"id": "no spaces"}, {"name": ""}, {"time_zone": "Mars/Olympus"}, {"id": NORTH}):
            refused = admin.post("/sites", data=site | wrong)
            assert refused.status_code == 422, wrong
            assert 'value="west"' in refused.text or "id" in wrong
        assert admin.post("/sites", data=site).headers["location"] == "/sites?done=added"
        assert "West west Europe/Amsterdam 0 register its controllers" in text_of(admin.get("/sites").text)
        renamed = {"csrf_token": token, "name": "Westerpoort", "time_zone": "Europe/Brussels"}
        blurred = renamed | {"blur_photos": "true"}
        for form, is_so in ((blurred, True), (renamed, False)):
            assert admin.post("/sites/west", data=form).headers["location"] == "/sites?done=changed"
            (found,) = (each for each in admin.get("/api/v1/sites").json()["sites"] if each["id"] == "west")
            assert found["blur_photos"] is is_so
            assert ('name="blur_photos" value="true" checked' in admin.get("/sites").text) is is_so
        assert admin.post("/sites/west", data=renamed).headers["location"] == "/sites?done=changed"
        assert "Westerpoort" in text_of(guard.get("/sites").text)
        assert "Add a site" not in guard.get("/sites").text
        form = site | {"csrf_token": csrf_of(guard.get("/sites").text), "id": "east"}
        assert guard.post("/sites", data=form).status_code == 403


def test_people_are_listed_by_category(desk: httpx.Client) -> None:
    """Residents, staff or visitors; the search and the pages of the list keep the choice."""
    page = desk.get("/cardholders", params={"category": "staff"}).text
    assert re.findall(r"<bdi>(\w+) Test</bdi>", page) == ["Joost"]
    assert '<option value="staff" selected>' in page
    assert "Nobody found" in text_of(desk.get("/cardholders", params={"category": "visitor"}).text)
    assert desk.get("/cardholders", params={"category": "king"}).status_code == 422
