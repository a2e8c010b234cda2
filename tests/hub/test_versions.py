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
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of

MANY = 600
WINDOW = {"weekdays": [0, 1], "start_minute": 480, "end_minute": 1080}
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
        yield running


@pytest.fixture
def ann(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in(Role.SITE_MANAGER) as browser:
        yield browser


@pytest.fixture
def bob(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in(Role.SITE_MANAGER) as browser:
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
    ],
)
def test_the_second_is_told_what_the_first_changed(
    ann: httpx.Client,
    bob: httpx.Client,
    path: str,
    first: dict[str, Any],
    second: dict[str, Any],
    told: tuple[str, ...],
    kept: str,
) -> None:
    """Nothing of hers is stored then, everything she typed stays, and saved again it is what counts."""
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


@pytest.mark.parametrize("path", ["doors/hall", "access-levels/house", "schedules/by-day"])
def test_programs_may_say_what_they_want_to_change(hub: RunningHub, path: str) -> None:
    """With the ETag of what they read in If-Match: met it is changed, else 412; without one it is changed."""
    address = f"/api/v1/{path}"
    with hub.token() as program:
        read = program.get(address)
        met = program.patch(address, json={"name": "Another"}, headers={"if-match": read.headers["etag"]})
        assert met.status_code == 200
        assert met.headers["etag"] == program.get(address).headers["etag"] != read.headers["etag"]
        late = program.patch(address, json={"name": "Late"}, headers={"if-match": read.headers["etag"]})
        assert (late.status_code, late.json()["code"]) == (412, "changed_meanwhile")
        assert program.get(address).json()["name"] == "Another"
        whatever = program.patch(address, json={"name": "Whatever"}, headers={"if-match": "*"})
        unasked = program.patch(address, json={"name": read.json()["name"]})
        assert (whatever.status_code, unasked.status_code) == (200, 200)
        assert unasked.headers["etag"] == read.headers["etag"]


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
