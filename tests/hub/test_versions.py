"""Two people who change one thing at once: neither undoes what the other did without being told."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.roles import Role
from hub.store import controllers, doors
from hub.store.controllers import Controller
from hub.versions import changed_since, entity_tag, is_met, version_of
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Door
from tests.hub.running import RunningHub, csrf_of, routes_of, running_hub
from tests.hub.test_pages import text_of

MANY = 600
WINDOW = {"weekdays": [0, 1], "start_minute": 480, "end_minute": 1080}
DUTY = {
    "name": "Mondays",
    "whom": "category",
    "category": "resident",
    "weekdays": [0],
    "start_minute": 540,
    "end_minute": 600,
}
TIMES = {"weekdays": ["0"], "start": "09:00", "end": "10:00"}
POST = {"name": "Gate", "door_ids": ["kitchen"]}
GATE = {"name": "Gate", "door": "kitchen", "asks_every_min": "15", "answer_within_s": "60", "shown_s": "10"}
NOTHING_UNDONE = {
    "/api/v1/cardholders/{cardholder_id}/photo": "one picture in the place of another",
    "/api/v1/controllers/{controller_id}/wiring": "one file in the place of another, by a program",
    "/api/v1/issuing/stock/few": "one number in the place of another",
    "/api/v1/holidays/{day}": "one name in the place of another",
    "/api/v1/registration/reporters/{cardholder_id}/{for_cardholder_id}": "it is said or not",
}
"""What is not changed part by part: path → why nobody's work is lost unseen."""
CHANGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "/api/v1/access-levels/{level_id}": ({"name": "Another"}, {"name": "Late"}),
    "/api/v1/areas/{area_id}": ({"name": "Another"}, {"name": "Late"}),
    "/api/v1/cardholders/{cardholder_id}": ({"room": "B 1"}, {"messages_waiting": True}),
    "/api/v1/doors/{door_id}": ({"name": "Another"}, {"name": "Late"}),
    "/api/v1/operators/{operator_id}": ({"role": "auditor"}, {"disabled": True}),
    "/api/v1/posts/{post_id}": (POST | {"shown_s": 5}, POST | {"shown_s": 6}),
    "/api/v1/registration/duties/{duty_id}": ({"late_min": 5}, {"people": []}),
    "/api/v1/retention/sites/{site_id}": (
        {"precise_h": 24, "reason": "asked for"},
        {"precise_h": 48, "reason": "asked for"},
    ),
    "/api/v1/schedules/{schedule_id}": ({"name": "Another"}, {"name": "Late"}),
    "/api/v1/sites/{site_id}": ({"desk_shown_s": 9}, {"blur_photos": True}),
    "/api/v1/webhooks/{webhook_id}": ({"kinds": ["card.blocked"]}, {"enabled": False}),
}
"""What is: path → a change, and another that comes too late."""
LISTED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "/areas/{area_id}/rename": ("/areas", {"name": "Home"}, {"name": "Houses"}, "see: Name."),
    "/operators/{operator_id}/rights": ("/operators", {"role": "reception"}, {"role": "guard"}, "see: Role."),
    "/posts/{post_id}": ("/posts", GATE | {"shown_s": "7"}, GATE | {"shown_s": "8"}, "see: Seconds for"),
    "/retention/sites/{site_id}": (
        "/retention/sites?site=test-site",
        {"precise_h": "12", "reason": "asked for"},
        {"leavers_days": "2", "reason": "asked for"},
        "see: Who tapped where and when.",
    ),
    "/sites/{site_id}": (
        "/sites",
        {"name": "Hall", "time_zone": "Europe/Amsterdam"},
        {"name": "Test", "time_zone": "Europe/Paris"},
        "see: Name.",
    ),
}
"""Forms that stand in a list: path → the list, a change, one that comes too late, and what is said then."""
WINDOWS = {"start": ["08:00"], "end": ["18:00"], "day": ["0:0", "0:1"]}

parts = st.dictionaries(
    st.text("abcdef_", min_size=1), st.integers() | st.text() | st.lists(st.booleans()) | st.none()
)


@given(before=parts, now=parts)
def test_a_version_tells_which_parts_are_others(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Those that say something else, and those that were not there; its tag is another exactly when anything is."""
    absent = object()
    version = version_of(before)
    expected = [name for name, value in now.items() if before.get(name, absent) != value]
    assert [name for name in changed_since(version, now) if before.get(name, absent) != now[name]] == expected
    assert changed_since(version_of(now), now) == []
    assert is_met(f'"other", {entity_tag(version)}', version)
    assert is_met("*", version)
    assert not is_met(f"W/{entity_tag(version)}", version)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("versions")) as running:
        with running.token() as program:
            schedule = {"id": "by-day", "name": "By day", "windows": [WINDOW]}
            assert program.post("/api/v1/schedules", json=schedule).is_success
            running.door("kitchen", "Kitchen", connect=False)
            running.door("hall", "Hall", connect=False)
            rules = [{"door_id": "kitchen", "schedule_id": "by-day"}]
            level = {"id": "house", "name": "House", "rules": rules}
            assert program.post("/api/v1/access-levels", json=level).is_success
            assert program.post("/api/v1/areas", json={"id": "garden", "name": "Garden"}).is_success
            person = {"id": "ama", "category": "resident", "given_name": "Ama", "family_name": "Mensah"}
            assert program.post("/api/v1/cardholders", json=person).is_success
            assert program.put("/api/v1/posts/gate", json=POST).is_success
            running.signed_in(Role.GUARD, "Cleo").close()
        yield running


@pytest.fixture(scope="module")
def ids(hub: RunningHub) -> dict[str, str]:
    """A name in the path of a route → one of these things."""
    with hub.token() as program:
        duty = program.post("/api/v1/registration/duties", json=DUTY).json()
        hook = program.post("/api/v1/webhooks", json={"url": "https://8.8.8.8/hook"}).json()
        known = program.get("/api/v1/operators").json()["operators"]
    return {
        "area_id": "garden",
        "cardholder_id": "ama",
        "door_id": "hall",
        "duty_id": duty["id"],
        "level_id": "house",
        "operator_id": next(each["id"] for each in known if each["name"] == "Cleo"),
        "post_id": "gate",
        "schedule_id": "by-day",
        "site_id": "test-site",
        "webhook_id": hook["id"],
    }


@pytest.fixture
def ann(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in() as browser:
        yield browser


@pytest.fixture
def bob(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in() as browser:
        yield browser


def filled_in(page: str) -> dict[str, Any]:
    """The fields of a form as a browser would send them again."""
    form = page[page.index('name="version"') :]
    found: dict[str, Any] = {"csrf_token": csrf_of(page), "version": ""}
    found["version"] = re.findall(r'name="version" value="([^"]*)"', page)[0]
    for name, value in re.findall(r'<input type="text"[^>]* name="(\w+)" value="([^"]*)"', form):
        found[name] = html.unescape(value)
    for name, options in re.findall(r'<select[^>]* ?name="(\w+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.findall(r'value="([^"]*)" selected', options) or [""]
        found.setdefault(name, []).extend(chosen)
    return found


@pytest.mark.parametrize(
    ("path", "first", "second", "told", "kept"),
    [
        (
            "/doors/kitchen/edit",
            {"unlock_ms": "7", "name": "Big kitchen"},
            {"unlock_ms": "9"},
            ("Big kitchen", "7 seconds"),
            'name="unlock_ms" value="9"',
        ),
        (
            "/access-levels/house/edit",
            {"rule": ["kitchen:by-day", "hall:by-day"], "confirmed": "yes"},
            {"name": "Home", "confirmed": "yes"},
            ("Hall By day",),
            'name="name" value="Home"',
        ),
        (
            "/schedules/by-day/edit",
            WINDOWS | {"end": ["20:00"], "confirmed": "yes"},
            WINDOWS | {"end": ["17:00"], "confirmed": "yes"},
            ("08:00–20:00",),
            'name="end" value="17:00"',
        ),
        (
            "/cardholders/{cardholder_id}/edit",
            {"room": "B 12", "access_level_ids": ["house"], "attended": "yes"},
            {"given_name": "Amma", "valid_until": "2031-05-01T12:00"},
            ("Room B 12", "Access levels Ho", "A person on duty decides yes"),
            'name="given_name" value="Amma"',
        ),
        (
            "/registration/duties/{duty_id}",
            TIMES | {"end": "11:30", "last_day": "2031-05-01"},
            TIMES | {"name": "Every Monday"},
            ("11:30", "May 2031"),
            'name="name" value="Every Monday"',
        ),
    ],
)
def test_the_second_is_told_what_the_first_changed(
    ann: httpx.Client,
    bob: httpx.Client,
    ids: dict[str, str],
    path: str,
    first: dict[str, Any],
    second: dict[str, Any],
    told: tuple[str, ...],
    kept: str,
) -> None:
    """Nothing of hers is stored then, everything she typed stays, and saved again it is what counts."""
    path = path.format(**ids)
    anns, bobs = (filled_in(each.get(path).text) for each in (ann, bob))
    assert ann.post(path, data=anns | first).status_code == 303
    outdated = bob.post(path, data=bobs | second)
    assert outdated.status_code == 409
    notice = text_of(outdated.text[outdated.text.index('class="notice warn"') :])
    for each in told:
        assert each in notice, notice
    assert kept in outdated.text
    again = filled_in(outdated.text)
    assert again["version"] == filled_in(ann.get(path).text)["version"]
    assert bob.post(path, data=bobs | second | {"version": again["version"]}).status_code == 303


@pytest.mark.parametrize("path", LISTED)
def test_of_two_forms_in_a_list_the_second_is_not_saved(
    ann: httpx.Client, bob: httpx.Client, ids: dict[str, str], path: str
) -> None:
    """It is said what somebody else changed; the list shows it, and a form that goes by that is saved."""
    listed, first, second, said = LISTED[path]
    action = path.format(**ids)

    def form(browser: httpx.Client, page: str = "") -> dict[str, str]:
        page = page or browser.get(listed).text
        of_form = page[page.index(f'action="{action}"') :]
        return {
            "csrf_token": csrf_of(page),
            "version": re.findall(r'name="version" value="(.*?)"', of_form)[0],
        }

    anns, bobs = form(ann), form(bob)
    assert ann.post(action, data=anns | first).status_code == 303
    outdated = bob.post(action, data=bobs | second)
    assert outdated.status_code == 409, text_of(outdated.text)
    assert said in text_of(outdated.text[outdated.text.index('role="alert"') :])
    again = form(bob, outdated.text)
    assert again["version"] == form(ann)["version"] != anns["version"]
    assert bob.post(action, data=again | second).status_code == 303


def test_a_day_that_is_a_holiday_already_keeps_its_name(ann: httpx.Client) -> None:
    """Whoever adds it under another name is told; to add it under the same one does no harm."""
    form = {"csrf_token": csrf_of(ann.get("/holidays").text), "day": "2031-12-25", "name": "Christmas"}
    assert [ann.post("/holidays", data=form).status_code for _ in range(2)] == [303, 303]
    refused = ann.post("/holidays", data=form | {"name": "Kerst"})
    assert (refused.status_code, "That is a holiday already" in refused.text) == (422, True)
    assert "Christmas" in ann.get("/holidays").text


def test_programs_may_say_what_they_want_to_change(hub: RunningHub, ids: dict[str, str]) -> None:
    """Whatever can be changed: with the ETag of what was read in If-Match, met it is changed, else 412; without one it is."""
    changing = {
        route.path: method
        for route in routes_of(hub.app)
        for method in (route.methods or set()) & {"PUT", "PATCH"}
    }
    assert changing.keys() == CHANGED.keys() | NOTHING_UNDONE.keys()
    with hub.token() as program:
        for path, (change, late) in CHANGED.items():
            address, method = path.format(**ids), changing[path]
            read = program.get(address)
            assert "etag" in read.headers, path
            meant = {"if-match": read.headers["etag"]}
            met = program.request(method, address, json=change, headers=meant)
            assert met.status_code == 200, (path, met.text)
            now = program.get(address)
            assert met.headers["etag"] == now.headers["etag"] != read.headers["etag"], path
            refused = program.request(method, address, json=late, headers=meant)
            assert (refused.status_code, refused.json()["code"]) == (412, "changed_meanwhile"), path
            assert program.get(address).json() == now.json(), path
            whatever = program.request(method, address, json=late, headers={"if-match": "*"})
            unasked = program.request(method, address, json=change)
            assert (whatever.status_code, unasked.status_code) == (200, 200), path
        nobody = program.put("/api/v1/posts/new", json=POST, headers={"if-match": "*"})
        assert nobody.status_code == 412


def test_every_form_with_a_version_is_tried(hub: RunningHub) -> None:
    """Those of this module are all that say which version they were filled in from."""
    of_pages = {
        route.path
        for route in routes_of(hub.app)
        if "{" in route.path
        and any(
            "version" in getattr(each.field_info.annotation, "model_fields", {})
            for each in route.dependant.body_params
        )
    }
    edited = {"/doors/{door_id}/edit", "/access-levels/{level_id}/edit", "/schedules/{schedule_id}/edit"}
    edited |= {"/cardholders/{cardholder_id}/edit", "/registration/duties/{duty_id}"}
    assert of_pages == edited | LISTED.keys()


def test_a_level_of_six_hundred_doors_is_made_and_changed_by_form(hub: RunningHub, ann: httpx.Client) -> None:
    """Each of them with its schedule, in one form; taken away again after saying so."""
    with hub.database.write() as connection:
        gate = Controller(
            id=ControllerId("large"),
            site_id=SiteId("test-site"),
            event_public_key=bytes(32),
            certificate_serial="0c",
            software=None,
            registered_at=hub.clock(),
        )
        controllers.register(connection, gate)
        for number in range(MANY):
            door = Door(id=DoorId(f"a-door-with-quite-a-long-name-{number:03}"), controller_id=gate.id)
            doors.add(connection, door, name=f"Door {number:03}", now=hub.clock())
    page = ann.get("/new-access-level").text
    options = re.findall(r'<option value="(a-door[^"]*:by-day)"', page)
    assert len(options) == MANY
    form = {"csrf_token": csrf_of(page), "name": "Everything", "rule": ["", "", *options]}
    made = ann.post("/new-access-level", data=form)
    assert made.status_code == 303, text_of(made.text)[:500]
    path = made.headers["location"].partition("?")[0]
    with hub.token() as program:
        assert len(program.get(f"/api/v1{path}").json()["rules"]) == MANY
        edit = filled_in(ann.get(f"{path}/edit").text)
        assert edit["rule"].count("") == 2
        assert ann.post(f"{path}/edit", data=edit | {"rule": options[:1]}).status_code == 303
        assert len(program.get(f"/api/v1{path}").json()["rules"]) == 1
