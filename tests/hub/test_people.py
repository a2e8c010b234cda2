"""People over the real interface: what is known of them, their photographs, and the rules that name them."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hub import photographs
from hub.api.problems import Code
from hub.roles import Role
from hub.store import audit
from pacs.errors import MalformedData
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, running_hub

UNTIL = "2036-03-31T22:00:00+00:00"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("people")) as running:
        running.door("front", "Front door")
        yield running


@pytest.fixture(scope="module")
def manager(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.SITE_MANAGER) as program:
        yield program


def enrolled(manager: httpx.Client, **more: Any) -> dict[str, Any]:
    body = {"category": "resident", "given_name": "Ama", "family_name": "Mensah"} | more
    made = manager.post("/api/v1/cardholders", json=body)
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["code"])


def rules(manager: httpx.Client) -> tuple[str, str]:
    """A schedule, and an access level with it at the front door."""
    mark = secrets.token_hex(4)
    window = {"weekdays": [0], "start_minute": 0, "end_minute": 60}
    schedule = {"id": f"s-{mark}", "name": "Mondays", "windows": [window]}
    assert manager.post("/api/v1/schedules", json=schedule).status_code == 201
    rule = {"door_id": "front", "schedule_id": f"s-{mark}"}
    level = {"id": f"l-{mark}", "name": "Some", "rules": [rule]}
    assert manager.post("/api/v1/access-levels", json=level).status_code == 201
    return f"s-{mark}", f"l-{mark}"


def picture(form: str = "JPEG", size: tuple[int, int] = (1200, 900), **options: Any) -> bytes:
    """A picture, red on the left and blue on the right."""
    image = Image.new("RGB", size, "red")
    image.paste("blue", (size[0] // 2, 0, *size))
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


# -- what is known of people ------------------------------------------------------------------------


def test_room_language_and_validity_are_kept(manager: httpx.Client) -> None:
    """What is given is answered, a language tag in its usual case; null takes it away again."""
    known = {"room": "B 12", "language": "FA-af", "valid_until": UNTIL, "external_id": secrets.token_hex(4)}
    person = enrolled(manager, **known)
    assert (person["room"], person["language"]) == ("B 12", "fa-AF")
    assert datetime.fromisoformat(person["valid_until"]) == datetime.fromisoformat(UNTIL)
    path = f"/api/v1/cardholders/{person['id']}"
    changed = manager.patch(path, json={"room": None, "language": "ti", "valid_until": None})
    assert changed.status_code == 200, changed.text
    assert manager.get(path).json() == person | {"room": None, "language": "ti", "valid_until": None}
    found = manager.get("/api/v1/cardholders", params={"external_id": known["external_id"]}).json()
    assert [each["id"] for each in found["cardholders"]] == [person["id"]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"language": "Dutch"},
        {"language": "n"},
        {"language": "x-private"},
        {"language": "nl_NL"},
        {"room": ""},
        {"room": "x" * 51},
        {"room": "a\u202eb"},
        {"valid_until": "2036-03-31T22:00:00"},
        {"valid_until": "1969-12-31T22:00:00Z"},
        {"valid_from": UNTIL, "valid_until": UNTIL},
        {"category": "visitor"},
        {"escort_required": True, "may_escort": True},
    ],
)
def test_what_does_not_hold_is_refused(manager: httpx.Client, wrong: dict[str, Any]) -> None:
    """Wrong tags, times and combinations; a visitor without an end."""
    body = {"category": "resident", "given_name": "Ama", "family_name": "Mensah"} | wrong
    answer = manager.post("/api/v1/cardholders", json=body)
    assert (answer.status_code, code_of(answer)) == (422, Code.INVALID.wire)


def test_a_visitor_keeps_an_end(manager: httpx.Client) -> None:
    """Nobody becomes a visitor without an end, and no visitor loses theirs."""
    resident, visitor = enrolled(manager), enrolled(manager, category="visitor", valid_until=UNTIL)
    for person, change in ((resident, {"category": "visitor"}), (visitor, {"valid_until": None})):
        answer = manager.patch(f"/api/v1/cardholders/{person['id']}", json=change)
        assert code_of(answer) == Code.INVALID.wire
        assert "end" in answer.json()["detail"]


def test_an_external_id_is_of_one_person(manager: httpx.Client) -> None:
    """The second to be given it is refused."""
    first, second = enrolled(manager, external_id=secrets.token_hex(4)), enrolled(manager)
    answer = manager.patch(f"/api/v1/cardholders/{second['id']}", json={"external_id": first["external_id"]})
    assert code_of(answer) == Code.ALREADY_EXISTS.wire


# -- photographs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_photograph_is_kept_small_and_upright_and_says_nothing_else(
    hub: RunningHub, manager: httpx.Client, form: str
) -> None:
    """What comes back is a JPEG of bounded size, turned as its metadata said, without any metadata; each look is audited."""
    metadata = Image.Exif()
    metadata[0x0112] = 6  # turned a quarter to the right
    metadata[0x010F] = "Some camera"
    path = f"/api/v1/cardholders/{enrolled(manager)['id']}/photo"
    headers = {"content-type": f"image/{form.lower()}"}
    sent = manager.put(path, content=picture(form, exif=metadata), headers=headers)
    assert sent.status_code == 204, sent.text
    answer = manager.get(path)
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("image/jpeg", "no-store")
    assert b"camera" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as kept:
        assert kept.format == "JPEG"
        assert not kept.getexif()
        assert (kept.width, kept.height) == (600, 800)
        top = kept.getpixel((300, 10))
        assert isinstance(top, tuple)
        assert (top[0] > 200, top[2] < 50) == (True, True)
    with hub.database.read() as connection:
        newest = audit.page(connection, before=None, limit=1)[0]
    assert (newest.action, newest.subject) == ("photo.read", f"cardholder:{path.split('/')[4]}")
    assert [manager.delete(path).status_code for _ in range(2)] == [204, 204]
    assert code_of(manager.get(path)) == Code.NOT_FOUND.wire


def test_a_photograph_is_for_who_may_see_names(hub: RunningHub, manager: httpx.Client) -> None:
    """Technicians and auditors do not see it; a guard does, and cannot change it."""
    path = f"/api/v1/cardholders/{enrolled(manager)['id']}/photo"
    headers = {"content-type": "image/jpeg"}
    assert manager.put(path, content=picture(), headers=headers).status_code == 204
    for role, seen in ((Role.TECHNICIAN, 403), (Role.AUDITOR, 403), (Role.GUARD, 200)):
        with hub.token(role) as program:
            assert program.get(path).status_code == seen
            assert program.put(path, content=picture(), headers=headers).status_code == 403


def test_other_files_are_no_photographs(manager: httpx.Client) -> None:
    """What is too large, of another type, damaged or pretends to be a picture is refused, and nothing is kept."""
    path = f"/api/v1/cardholders/{enrolled(manager)['id']}/photo"
    jpeg = {"content-type": "image/jpeg"}
    too_large = picture() + bytes(photographs.MAX_UPLOAD_BYTES)
    for content, headers, code in (
        (too_large, jpeg, Code.BODY_TOO_LARGE),
        (picture(), {"content-type": "image/gif"}, Code.MEDIA_TYPE),
        (picture("GIF"), jpeg, Code.INVALID),
        (picture()[:400], jpeg, Code.INVALID),
        (b"<script>alert(1)</script>", jpeg, Code.INVALID),
        (b"", jpeg, Code.INVALID),
        (picture("PNG", (6000, 5000)), {"content-type": "image/png"}, Code.INVALID),
    ):
        answer = manager.put(path, content=content, headers=headers)
        assert code_of(answer) == code.wire, answer.text
    assert code_of(manager.get(path)) == Code.NOT_FOUND.wire
    missing = manager.put("/api/v1/cardholders/nobody/photo", content=picture(), headers=jpeg)
    assert code_of(missing) == Code.NOT_FOUND.wire


_SMALL = (picture(size=(40, 30)), picture("PNG", (40, 30)))


@given(st.sampled_from(_SMALL), st.integers(0, 2000), st.binary(max_size=20))
def test_any_bytes_are_a_photograph_or_refused(start: bytes, at: int, damage: bytes) -> None:
    """Damaged files end in a bounded JPEG or in ``MalformedData``, and in nothing else."""
    data = start[:at] + damage + start[at + len(damage) :]
    try:
        kept = photographs.prepared(data)
    except MalformedData:
        return
    with Image.open(io.BytesIO(kept)) as image:
        assert image.format == "JPEG"
        assert image.width <= photographs.LARGEST[0]
        assert image.height <= photographs.LARGEST[1]


# -- access levels and schedules --------------------------------------------------------------------


def test_a_schedule_changes_and_goes_when_nothing_names_it(manager: httpx.Client) -> None:
    """While a level or a door's mode names it, it stays, and the refusal says which."""
    schedule, level = rules(manager)
    path = f"/api/v1/schedules/{schedule}"
    window = {"weekdays": [1], "start_minute": 60, "end_minute": 120}
    changed = manager.patch(path, json={"windows": [window], "name": "Tuesdays"})
    assert (changed.json()["windows"], changed.json()["name"]) == ([window], "Tuesdays")
    assert manager.get(path).json() == changed.json()
    refused = manager.delete(path)
    assert code_of(refused) == Code.IN_USE.wire
    assert level in refused.json()["detail"]
    assert manager.delete(f"/api/v1/access-levels/{level}").status_code == 204
    mode_rules = [{"schedule_id": schedule, "mode": "unlocked"}]
    assert manager.patch("/api/v1/doors/front", json={"mode_rules": mode_rules}).status_code == 200
    refused = manager.delete(path)
    assert (code_of(refused), "front" in refused.json()["detail"]) == (Code.IN_USE.wire, True)
    assert manager.patch("/api/v1/doors/front", json={"mode_rules": []}).status_code == 200
    assert manager.delete(path).status_code == 204
    assert [manager.get(path).status_code, manager.delete(path).status_code] == [404, 404]


def test_an_access_level_changes_and_goes_when_nobody_holds_it(manager: httpx.Client) -> None:
    """While somebody holds it or a door waits for its holders, it stays, and the refusal says so."""
    schedule, level = rules(manager)
    path = f"/api/v1/access-levels/{level}"
    changed = manager.patch(path, json={"rules": []})
    assert (changed.json()["rules"], changed.json()["name"]) == ([], "Some")
    unknown = manager.patch(path, json={"rules": [{"door_id": "nowhere", "schedule_id": schedule}]})
    assert code_of(unknown) == Code.REFERENCE_UNKNOWN.wire
    person = enrolled(manager, access_level_ids=[level])
    refused = manager.delete(path)
    assert (code_of(refused), "1" in refused.json()["detail"]) == (Code.IN_USE.wire, True)
    manager.patch(f"/api/v1/cardholders/{person['id']}", json={"access_level_ids": []})
    for names_it in ("first_person_levels", "admitting_levels"):
        assert manager.patch("/api/v1/doors/front", json={names_it: [level]}).status_code == 200
        refused = manager.delete(path)
        assert (code_of(refused), "front" in refused.json()["detail"]) == (Code.IN_USE.wire, True)
        assert manager.patch("/api/v1/doors/front", json={names_it: []}).status_code == 200
    assert manager.delete(path).status_code == 204
    assert manager.get(path).status_code == 404


# -- questions --------------------------------------------------------------------------------------


def test_questions_are_answered_over_the_interface(hub: RunningHub, manager: httpx.Client) -> None:
    """Who and what agree with each other, names are for who may see them, and looking is audited."""
    card = str(hub.card("Yusuf", "Demir"))

    def arrived() -> bool:
        found = manager.get("/api/v1/doors/front/access").json()
        return bool(found["settled"] and found["doors"][0]["current"])

    eventually(arrived, "the door goes by what is in force")
    door = manager.get("/api/v1/doors/front/access").json()
    (asked,) = [each for each in door["verdicts"] if each["credential_id"] == card]
    assert (asked["name"], asked["in_force"]["reason"]) == ("Yusuf Demir", "no_access_level")
    assert asked["in_force"]["outcome"] == "deny"
    person = manager.get(f"/api/v1/cardholders/{asked['cardholder_id']}/access").json()
    assert person["verdicts"] == [asked]
    assert person["doors"][0]["door_id"] == "front"
    with hub.database.read() as connection:
        newest = audit.page(connection, before=None, limit=1)[0]
    assert (newest.action, newest.subject) == ("names.read", f"cardholder:{asked['cardholder_id']}")
    with hub.token(Role.AUDITOR) as auditor:
        shown = auditor.get("/api/v1/doors/front/access").json()["verdicts"]
        assert {each["name"] for each in shown} == {None}
    at = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    assert manager.get("/api/v1/doors/front/access", params={"at": at}).json()["at"]
    for params in ({"at": "yesterday"}, {"at": "2026-03-02T09:00:00"}, {"limit": 0}, {"after": "x"}):
        assert code_of(manager.get("/api/v1/doors/front/access", params=params)) == Code.INVALID.wire
    assert code_of(manager.get("/api/v1/doors/nowhere/access")) == Code.NOT_FOUND.wire


# -- moving a door ----------------------------------------------------------------------------------


def record_of(manager: httpx.Client, door_id: str) -> dict[str, Any]:
    doors: list[dict[str, Any]] = manager.get("/api/v1/doors", params={"limit": 500}).json()["doors"]
    (found,) = [door for door in doors if door["id"] == door_id]
    return found


def test_a_moved_door_is_known_once_its_new_controller_goes_by_that(hub: RunningHub) -> None:
    """Old holes stay holes, and from the move to the confirmation nothing is claimed of the door."""
    with hub.token(Role.SITE_MANAGER) as manager:
        hub.door("old")
        new = hub.door("new")
        eventually(lambda: record_of(manager, "old")["complete"], "the record is whole")
        new.confirms = False
        moved = manager.post("/api/v1/doors/old/move", json={"controller_id": "new"})
        assert (moved.status_code, moved.json()["controller_id"]) == (200, "new")
        holes = record_of(manager, "old")["holes"]
        assert [(hole["cause"], hole["until"]) for hole in holes if hole["cause"] == "door_moved"][-1] == (
            "door_moved",
            None,
        )
        assert not record_of(manager, "old")["complete"]
        again = manager.post("/api/v1/doors/old/move", json={"controller_id": "new"})
        assert again.json() == moved.json()
        new.confirms = True
        new.hello()
        found = eventually(
            lambda: (now := record_of(manager, "old"))["complete"] and now, "the new controller goes by it"
        )
        ends = [hole["until"] for hole in found["holes"] if hole["cause"] == "door_moved"]
        assert ends
        assert None not in ends


def test_a_door_moves_only_where_it_can(hub: RunningHub, manager: httpx.Client) -> None:
    """To a controller in use, and not while it is interlocked with another, whichever of the two says so."""
    hub.door("side", connect=False)
    door = {"id": "inner", "controller_id": "side", "name": "Inner", "interlock_with": ["side"]}
    assert manager.post("/api/v1/doors", json=door).status_code == 201
    for moving, other in (("inner", "side"), ("side", "inner")):
        refused = manager.post(f"/api/v1/doors/{moving}/move", json={"controller_id": "front"})
        assert (code_of(refused), other in refused.json()["detail"]) == (Code.IN_USE.wire, True)
    unknown = manager.post("/api/v1/doors/front/move", json={"controller_id": "nowhere"})
    assert code_of(unknown) == Code.REFERENCE_UNKNOWN.wire
    missing = manager.post("/api/v1/doors/nowhere/move", json={"controller_id": "front"})
    assert code_of(missing) == Code.NOT_FOUND.wire
