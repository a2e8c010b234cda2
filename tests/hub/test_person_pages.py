"""A person's page and the form that enrols and changes them: what is shown, what is refused, what stays typed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image

from hub.roles import Role
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("people"), time_zone="Europe/Amsterdam") as running:
        running.door("front", "Front door")
        with running.token(Role.ADMINISTRATOR) as program:
            always = {"weekdays": list(range(7)), "start_minute": 0, "end_minute": 1440}
            schedule = {"id": "always", "name": "Always", "windows": [always]}
            assert program.post("/api/v1/schedules", json=schedule).status_code == 201
            rule = {"door_id": "front", "schedule_id": "always"}
            level = {"id": "residents", "name": "Residents", "rules": [rule]}
            assert program.post("/api/v1/access-levels", json=level).status_code == 201
        yield running


@pytest.fixture
def desk(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in(Role.RECEPTION) as browser:
        yield browser


def filled(browser: httpx.Client, **fields: str) -> dict[str, str]:
    token = csrf_of(browser.get("/new-cardholder").text)
    person = {"csrf_token": token, "given_name": "Ama", "family_name": "Mensah", "category": "resident"}
    return person | fields


def enrolled(browser: httpx.Client, **fields: str) -> str:
    """The new person's page."""
    answer = browser.post("/new-cardholder", data=filled(browser, **fields))
    assert answer.status_code == 303, text_of(answer.text)
    return answer.headers["location"].partition("?")[0]


def test_a_person_is_enrolled_and_changed_by_form(hub: RunningHub, desk: httpx.Client) -> None:
    """What is typed is stored, on the site's clock, audited; the page says what was done."""
    form = filled(
        desk,
        room="B-204",
        language="fa-af",
        valid_until="2031-06-01T12:00",
        access_level_ids="residents",
        attended="yes",
    )
    answer = desk.post("/new-cardholder", data=form)
    place = answer.headers["location"]
    page = text_of(desk.get(place).text)
    assert "Enrolled. Now give them a card." in page
    for said in (
        "Ama Mensah",
        "Resident",
        "B-204",
        "Residents",
        "A person on duty decides",
        "1 Jun 2031 12:00",
    ):
        assert said in page, said
    assert "they have no card" in page
    path = place.partition("?")[0]
    with hub.token() as program:
        person = program.get(f"/api/v1{path}").json()
        assert (person["language"], person["valid_until"]) == ("fa-AF", "2031-06-01T10:00:00Z")
        edit = desk.get(f"{path}/edit").text
        assert 'value="2031-06-01T12:00"' in edit
        assert re.search(r'name="attended" value="yes" checked', edit)
        changed = desk.post(f"{path}/edit", data=form | {"given_name": "Ana", "attended": "", "room": ""})
        assert changed.headers["location"] == f"{path}?done=changed"
        person = program.get(f"/api/v1{path}").json()
        assert (person["given_name"], person["attended"], person["room"]) == ("Ana", False, None)
        subject = f"cardholder:{person['id']}"
        log = program.get("/api/v1/audit").json()["entries"]
        done = [entry["action"] for entry in log if entry["subject"] == subject]
    assert {"cardholder.create", "cardholder.change"} <= set(done)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"given_name": " "}, "Write a name of 1 to 100 ordinary characters."),
        ({"family_name": "x\x07"}, "Write a name of 1 to 100 ordinary characters."),
        ({"category": "king"}, "Choose one of the categories."),
        ({"language": "not a language"}, "Write a language tag such as nl, ti or fa-AF."),
        ({"category": "visitor"}, "a visitor needs one."),
        ({"valid_from": "soon"}, "Write a day and a time."),
        ({"valid_from": "2031-01-02T00:00", "valid_until": "2031-01-01T00:00"}, "after the beginning"),
        ({"escort_required": "yes", "may_escort": "yes"}, "Who needs an escort cannot be one."),
        ({"access_level_ids": "nothing"}, "This cannot be stored as it is."),
    ],
)
def test_a_refused_form_says_why_and_keeps_what_was_typed(
    desk: httpx.Client, fields: dict[str, str], fault: str
) -> None:
    """Beside the field, in words, and nothing has to be typed again; nobody is enrolled."""
    answer = desk.post("/new-cardholder", data=filled(desk, room='A"<1', **fields))
    assert answer.status_code == 422
    assert fault in text_of(answer.text)
    assert 'value="A&#34;&lt;1"' in answer.text
    if fault != "This cannot be stored as it is.":
        assert 'aria-invalid="true"' in answer.text


def test_a_number_that_somebody_has_is_refused_beside_its_field(desk: httpx.Client) -> None:
    """Two people do not have one number of the same system."""
    enrolled(desk, external_id="V-1")
    answer = desk.post("/new-cardholder", data=filled(desk, external_id="V-1"))
    assert answer.status_code == 422
    assert re.search(r'id="external_id-fault">Write at most 100', answer.text)


def test_what_a_persons_cards_open_and_why_not(hub: RunningHub, desk: httpx.Client) -> None:
    """By the doors' own decision: entitled, then blocked, each with its reason in words."""
    credential = hub.card("Tigist", "Abebe")
    hub.until_confirmed()
    with hub.token() as program:
        holder = program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        path = f"/cardholders/{holder}"

        def said() -> str:
            return text_of(desk.get(path).text)

        eventually(lambda: "the card has no access to this door Does not open" in said(), "no level")
        program.patch(f"/api/v1{path}", json={"access_level_ids": ["residents"]})
        hub.until_confirmed()
        eventually(lambda: "Front door entitled Opens" in said(), "entitled")
        program.post(f"/api/v1/cards/{credential}/block", json={"status": "suspended", "reason": "Lost it"})
        eventually(lambda: "the card is blocked for now" in said(), "blocked")
    assert f'href="/cards/{credential}"' in desk.get(path).text


def test_a_photograph_is_stored_and_removed_by_form(hub: RunningHub, desk: httpx.Client) -> None:
    """A picture appears on the page; what is none is refused in words; removed, it is gone."""
    path = enrolled(desk)
    token = {"csrf_token": csrf_of(desk.get(path).text)}
    written = io.BytesIO()
    Image.new("RGB", (60, 80), "#336699").save(written, "PNG")

    def send(data: bytes, form: dict[str, str]) -> httpx.Response:
        return desk.post(f"{path}/photo", data=form, files={"picture": ("me.png", data, "image/png")})

    assert "No photograph." in text_of(desk.get(path).text)
    assert send(written.getvalue(), {}).status_code == 403
    refused = send(b"not a picture", token)
    assert refused.status_code == 422
    assert "That is no photograph" in text_of(refused.text)
    assert send(written.getvalue(), token).status_code == 303
    page = desk.get(path).text
    assert f'src="/api/v1{path}/photo"' in page
    assert desk.get(f"/api/v1{path}/photo").headers["content-type"] == "image/jpeg"
    assert desk.post(f"{path}/photo/remove", data=token).status_code == 303
    assert "No photograph." in text_of(desk.get(path).text)


def test_a_guard_looks_and_changes_nothing(hub: RunningHub, desk: httpx.Client) -> None:
    """The page offers a guard no form, and the forms are refused."""
    path = enrolled(desk)
    with hub.signed_in(Role.GUARD) as guard, hub.signed_in(Role.AUDITOR) as auditor:
        page = guard.get(path).text
        assert "Ama Mensah" in page
        assert "/edit" not in page
        assert "/photo" not in page
        assert "/new-cardholder" not in guard.get("/cardholders").text
        form = filled(desk) | {"csrf_token": csrf_of(page)}
        for refused in ("/new-cardholder", f"{path}/edit", f"{path}/photo/remove"):
            assert guard.post(refused, data=form).status_code == 403
        assert auditor.get(path).status_code == 403
        assert guard.get("/cardholders/nobody").status_code == 404
