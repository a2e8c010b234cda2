"""The REST interface, over a real server: who may do what, and what every kind of mistake is answered with."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import socket
import uuid
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from hub.api import rim
from hub.api.access import DeclaredRoute, declared_access
from hub.api.problems import Code
from hub.inbox import Message
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import documents
from pacs import bundle
from pacs.identifiers import AccessLevelId, ControllerId, CredentialId, DoorId, ScheduleId
from pacs.messages import ControllerStatus, DocumentKind
from pacs.reason import Reason
from pacs.rules import Antipassback, Door, DoorMode, ModeRule, Policy
from pacs.topics import Up, UpTopic
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, routes_of, running_hub, tap
from tools.route_table import roles

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "hub-api.md"
STREAMS = {"/api/v1/stream", "/live/stream", "/attended/stream", "/attended/waiting"}
EXAMPLE = {
    "webhook_id": "0" * 16,
    "station_id": "nowhere",
    "post_id": "nowhere",
    "duty_id": "0" * 16,
    "duty_day": "1999-12-31",
    "exemption_id": "0" * 32,
    "for_cardholder_id": "nobody",
    "receipt": "0" * 10,
    "tap_id": "0" * 32,
    "look": "A" * 43,
    "controller_id": "nothing",
    "issuer": "A" * 16,
    "door_id": "nowhere",
    "cardholder_id": "nobody",
    "command_id": "0" * 32,
    "order_id": "0" * 32,
    "request_id": "0" * 32,
    "hold_id": "0" * 32,
    "transfer_id": "0" * 32,
    "site_id": "nowhere",
    "alarm_id": "1",
    "credential_id": "00000000-0000-4000-8000-000000000000",
    "day": "1999-12-31",
    "kind": "policy",
    "version": "1",
    "import_id": "0" * 16,
    "job_id": "0" * 32,
    "batch_id": "0" * 16,
    "area_id": "nowhere",
    "level_id": "nothing",
    "schedule_id": "never",
    "digest": "0" * 16,
    "name": "nothing.css",
    "operator_id": "0" * 16,
    "passkey_id": "00",
    "token": "0" * 43,
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("api")) as running:
        running.door("front", "Front door")
        yield running


@pytest.fixture(scope="module")
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.ADMINISTRATOR) as program:
        yield program


def declared(app: FastAPI) -> list[tuple[str, str, Permission | None]]:
    return [
        (method, route.path, declared_access(route).permission)
        for route in routes_of(app)
        for method in sorted(route.methods or ())
    ]


def problem(answer: httpx.Response, code: Code) -> dict[str, Any]:
    """The problem document of an answer, which must be ``code``."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code.wire
    assert (body["status"], body["title"]) == (code.value.status, code.value.title)
    assert answer.status_code == code.value.status
    assert body["type"] == f"/api/v1/problems#{code.wire}"
    assert body["detail"]
    assert body["next_step"]
    return body


# -- permissions ------------------------------------------------------------------------------------


def test_every_route_is_documented_with_its_permission(hub: RunningHub) -> None:
    """The table in docs/hub-api.md lists exactly the routes there are, each with its permission."""
    row = re.compile(r"^\| `(\w+)` \| `(/\S*)` \| (?:`([a-z.]+)`|anybody|a station) \|", re.MULTILINE)
    listed = {(method, path, name or None) for method, path, name in row.findall(DOCUMENT.read_text("utf-8"))}
    assert listed == {(method, path, permission) for method, path, permission in declared(hub.app)}
    assert roles() in DOCUMENT.read_text("utf-8"), "run make docs"


def test_a_route_without_a_declaration_cannot_be_registered() -> None:
    """Forgetting the permission is an error when the program starts, not a hole."""
    router = APIRouter(route_class=DeclaredRoute)
    with pytest.raises(TypeError, match="/forgotten"):
        router.get("/forgotten")(lambda: {"open": True})


def test_nobody_gets_in_without_credentials(hub: RunningHub) -> None:
    """Each route that names a permission sends a stranger away."""
    with hub.client(origin=hub.url) as stranger:
        for method, path, permission in declared(hub.app):
            answer = stranger.request(method, path.format(**EXAMPLE))
            if permission is None and not path.startswith("/api/v1/station/"):
                assert answer.status_code not in (401, 500), path
            elif path.startswith(("/api/", "/metrics")):
                problem(answer, Code.NOT_SIGNED_IN)
            else:
                assert answer.status_code == 303, path
                assert answer.headers["location"].startswith("/sign-in"), path


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_its_permissions_say(hub: RunningHub, role: Role) -> None:
    """A route refuses a role exactly when the role lacks the route's permission."""
    with hub.token(role) as program:
        for method, path, permission in declared(hub.app):
            if permission is None or path in STREAMS:
                continue
            answer = program.request(method, path.format(**EXAMPLE))
            assert (answer.status_code == 403) is (permission not in PERMISSIONS[role]), (method, path)


@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic YTpi", "drempel_x", "bearer"])
def test_a_wrong_token_is_refused(hub: RunningHub, header: str) -> None:
    """Unknown tokens and other schemes are not signed in, even beside a good cookie."""
    with hub.signed_in() as browser:
        assert browser.get("/api/v1/doors").status_code == 200
        problem(browser.get("/api/v1/doors", headers={"authorization": header}), Code.NOT_SIGNED_IN)


def test_a_session_needs_its_token_to_change_things(hub: RunningHub) -> None:
    """With the cookie alone, or from another site's page, nothing is changed."""
    body = {"category": "staff", "given_name": "A", "family_name": "B"}
    with hub.signed_in() as browser:
        problem(browser.post("/api/v1/cardholders", json=body), Code.CROSS_SITE)
        page = browser.get("/cards").text
        token = re.findall(r'name="csrf_token" value="(\w+)"', page)[0]
        for lie in (
            {"origin": "https://evil.example"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "null"},
        ):
            answer = browser.post("/api/v1/cardholders", json=body, headers={"x-csrf-token": token, **lie})
            problem(answer, Code.CROSS_SITE)
        problem(
            browser.post("/api/v1/cardholders", json=body, headers={"x-csrf-token": "0" * 64}),
            Code.CROSS_SITE,
        )
        answer = browser.post("/api/v1/cardholders", json=body, headers={"x-csrf-token": token})
        assert answer.status_code == 201


# -- creating ---------------------------------------------------------------------------------------


def a_controller() -> dict[str, Any]:
    return {
        "id": f"c-{secrets.token_hex(4)}",
        "event_public_key": secrets.token_bytes(32).hex(),
        "certificate_serial": secrets.token_hex(8).upper(),
    }


def bodies(admin: httpx.Client) -> dict[str, tuple[dict[str, Any], str, Any]]:
    """Resource → a valid body, and a field with another valid value."""
    controller = a_controller()
    assert admin.post("/api/v1/controllers", json=controller).status_code == 201
    mark = secrets.token_hex(4)
    window = {"weekdays": [0, 4], "start_minute": 480, "end_minute": 1080}
    schedule = {"id": f"s-{mark}", "name": "Working days", "windows": [window]}
    assert admin.post("/api/v1/schedules", json=schedule).status_code == 201
    rule = {"door_id": "front", "schedule_id": schedule["id"]}
    level = {"id": f"l-{mark}", "name": "Residents", "rules": [rule]}
    assert admin.post("/api/v1/access-levels", json=level).status_code == 201
    person = {
        "id": f"p-{mark}",
        "category": "resident",
        "given_name": "Ama",
        "family_name": "Mensah",
        "access_level_ids": [level["id"]],
    }
    assert admin.post("/api/v1/cardholders", json=person).status_code == 201
    door = {"id": f"d-{mark}", "controller_id": controller["id"], "name": "Side door", "unlock_ms": 4000}
    credential = str(CredentialId(secrets.token_bytes(16)))
    card = {"credential_id": credential, "cardholder_id": person["id"], "technology": "pkoc-v2"}
    fresh = secrets.token_hex(4)
    return {
        "controllers": (a_controller(), "certificate_serial", "77"),
        "doors": (door, "unlock_ms", 6000),
        "schedules": (schedule | {"id": f"s-{fresh}"}, "windows", []),
        "access-levels": (level | {"id": f"l-{fresh}"}, "rules", []),
        "cardholders": (person | {"id": f"p-{fresh}"}, "given_name", "Kofi"),
        "cards": (card, "public_key", "04" + "ab" * 64),
        "areas": ({"id": f"a-{mark}", "name": "Yard"}, "name", "Hall"),
    }


RESOURCES = ("areas", "controllers", "doors", "schedules", "access-levels", "cardholders", "cards")


@pytest.mark.parametrize("resource", RESOURCES)
def test_posting_again_is_safe(admin: httpx.Client, resource: str) -> None:
    """First 201, the same again 200 with the same answer, other content under the id 409; once in the list."""
    body, field, other = bodies(admin)[resource]
    first = admin.post(f"/api/v1/{resource}", json=body)
    assert first.status_code == 201, first.text
    again = admin.post(f"/api/v1/{resource}", json=body)
    assert (again.status_code, again.json()) == (200, first.json())
    problem(admin.post(f"/api/v1/{resource}", json=body | {field: other}), Code.ALREADY_EXISTS)
    key = "credential_id" if resource == "cards" else "id"
    everything = list(pages(admin, f"/api/v1/{resource}", resource.replace("-", "_")))
    assert sum(each[key] == body[key] for each in everything) == 1


def pages(
    client: httpx.Client, path: str, member: str, limit: int = 2, **params: Any
) -> Iterator[dict[str, Any]]:
    """Everything in a list, a few at a time."""
    after: Any = None
    while True:
        wanted = {"limit": limit, **params} | ({} if after is None else {"after": after})
        answer = client.get(path, params=wanted).json()
        assert len(answer[member]) <= limit
        yield from answer[member]
        after = answer["next_after"]
        if after is None:
            return


def test_lists_are_portioned_completely(hub: RunningHub, admin: httpx.Client) -> None:
    """Going on with ``next_after`` yields each thing once, in order."""
    for _ in range(5):
        hub.card()
    found = [card["credential_id"] for card in pages(admin, "/api/v1/cards", "cards")]
    assert found == sorted(set(found))
    assert len(found) >= 5


def test_a_cardholder_without_id_gets_one(admin: httpx.Client) -> None:
    """Two people of the same name are two people."""
    body = {"category": "staff", "given_name": "Ama", "family_name": "Mensah"}
    made = [admin.post("/api/v1/cardholders", json=body) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]
    assert admin.get(f"/api/v1/cardholders/{made[0].json()['id']}").json() == made[0].json()


@pytest.mark.parametrize("resource", RESOURCES)
def test_unknown_and_missing_fields_are_named(admin: httpx.Client, resource: str) -> None:
    """A misspelt field is not ignored, a missing one is not guessed; what was sent is not echoed."""
    body, field, _ = bodies(admin)[resource]
    unknown = problem(admin.post(f"/api/v1/{resource}", json=body | {"colour": "secret-value"}), Code.INVALID)
    assert [each["field"] for each in unknown["errors"]] == ["body.colour"]
    assert "secret-value" not in json.dumps(unknown)
    required = next(
        iter(name for name in reversed(body) if name not in ("id", "unlock_ms", "access_level_ids"))
    )
    missing = problem(
        admin.post(f"/api/v1/{resource}", json={k: v for k, v in body.items() if k != required}), Code.INVALID
    )
    assert [each["field"] for each in missing["errors"]] == [f"body.{required}"]
    assert field


BAD_IDS = ["", "with space", "a/b", "a.b", "é", "x" * 49, "'; DROP TABLE cards;--", "\u0000"]


@pytest.mark.parametrize("bad", [*BAD_IDS, 7, None, [], {}, True])
def test_ids_are_checked(admin: httpx.Client, bad: Any) -> None:
    """An id that could not stand in a topic or a file name is refused, whatever its type."""
    body = a_controller() | {"id": bad}
    problem(admin.post("/api/v1/controllers", json=body), Code.INVALID)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("unlock_ms", "5000"),
        ("unlock_ms", 0),
        ("unlock_ms", 120_001),
        ("unlock_ms", 1.5),
        ("unlock_ms", True),
        ("unlock_ms", 10**30),
        ("mode", "open_sesame"),
        ("mode", 1),
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 101),
        ("name", "two\nlines"),
        ("name", "right\u202eleft"),
        ("name", ["list"]),
        ("allow_v1", "yes"),
        ("allow_v1", 1),
        ("max_policy_age_s", 59),
    ],
)
def test_a_doors_values_are_checked(admin: httpx.Client, field: str, value: Any) -> None:
    """Wrong types, ranges and texts are named, and nothing is coerced."""
    body = {"id": "d-new", "controller_id": "front", "name": "New"} | {field: value}
    answer = problem(admin.post("/api/v1/doors", json=body), Code.INVALID)
    assert answer["errors"][0]["field"] == f"body.{field}"
    problem(admin.patch("/api/v1/doors/front", json={field: value}), Code.INVALID)


ALL_RULES: dict[str, Any] = {
    "mode": "attended",
    "mode_rules": [{"schedule_id": "always", "mode": "secured"}],
    "relock_on_open": True,
    "held_warning_s": 5,
    "extended_held_open_after_s": 120,
    "when_unlisted": "refer",
    "area": "yard",
    "outside": "street",
    "antipassback": "timed",
    "antipassback_s": 600,
    "first_person_levels": ["everybody"],
    "escort_window_s": 20,
    "interlock_with": ["front"],
    "attended_timeout_s": 45,
    "private": True,
    "admitting_levels": ["everybody"],
    "admits_at_most": 3,
    "when_hub_away": "local",
    "hub_away_max_s": 600,
    "when_clock_untrusted": "levels_only",
}


def newest_policy(hub: RunningHub) -> Policy:
    """The policy in force, as it travels."""
    with hub.database.read() as connection:
        document = documents.newest(connection, hub.site.id, DocumentKind.POLICY)
    assert document
    return bundle.open_bundle(document.data, hub.controllers["front"].trusted)


def policy_says(hub: RunningHub, what: Callable[[Policy], bool]) -> Policy:
    """The policy in force, once it says ``what``."""
    eventually(lambda: what(newest_policy(hub)))
    return newest_policy(hub)


def prepared_for_all_rules(admin: httpx.Client) -> None:
    """What ``ALL_RULES`` names is there."""
    for area in ("yard", "street"):
        assert admin.post("/api/v1/areas", json={"id": area, "name": area}).status_code < 300
    window = {"weekdays": [0], "start_minute": 0, "end_minute": 1440}
    schedule = {"id": "always", "name": "Always", "windows": [window]}
    assert admin.post("/api/v1/schedules", json=schedule).status_code < 300
    level = {"id": "everybody", "name": "Everybody", "rules": []}
    assert admin.post("/api/v1/access-levels", json=level).status_code < 300


def test_every_rule_of_a_door_is_kept_and_travels(hub: RunningHub, admin: httpx.Client) -> None:
    """Each rule that ``pacs.rules.Door`` has can be given, is answered, and stands in the signed policy."""
    prepared_for_all_rules(admin)
    body = {"id": "d-rules", "controller_id": "front", "name": "All rules"} | ALL_RULES
    made = admin.post("/api/v1/doors", json=body)
    assert made.status_code == 201, made.text
    assert made.json() == made.json() | ALL_RULES
    plain = {"id", "site_id", "controller_id", "name", "created_at"}
    assert {field.name for field in dataclasses.fields(Door)} - plain == set(made.json()) - plain
    door = policy_says(hub, lambda policy: DoorId("d-rules") in policy.doors).doors[DoorId("d-rules")]
    assert (door.antipassback, door.antipassback_s, door.area) == (Antipassback.TIMED, 600, "yard")
    assert door.mode_rules == (ModeRule(schedule_id=ScheduleId("always"), mode=DoorMode.SECURED),)
    assert (door.first_person_levels, door.interlock_with) == (
        frozenset({AccessLevelId("everybody")}),
        frozenset({DoorId("front")}),
    )
    changed = admin.patch(
        "/api/v1/doors/d-rules", json={"antipassback": "off", "antipassback_s": 0, "area": None}
    )
    assert (changed.json()["area"], changed.json()["outside"]) == (None, "street")
    policy_says(hub, lambda policy: policy.doors[DoorId("d-rules")].area is None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"antipassback": "hard"}, Code.INVALID),
        ({"antipassback": "hard", "antipassback_s": 5, "area": "yard"}, Code.INVALID),
        ({"interlock_with": ["front"]}, Code.INVALID),
        ({"area": "nowhere"}, Code.REFERENCE_UNKNOWN),
        ({"outside": "nowhere"}, Code.REFERENCE_UNKNOWN),
        ({"first_person_levels": ["nobody"]}, Code.REFERENCE_UNKNOWN),
        ({"admitting_levels": ["nobody"]}, Code.REFERENCE_UNKNOWN),
        ({"when_hub_away": "local"}, Code.INVALID),
        ({"mode_rules": [{"schedule_id": "never", "mode": "secured"}]}, Code.REFERENCE_UNKNOWN),
        ({"interlock_with": ["elsewhere"]}, Code.REFERENCE_UNKNOWN),
    ],
)
def test_rules_that_do_not_go_together_are_refused(
    hub: RunningHub, admin: httpx.Client, change: dict[str, Any], code: Code
) -> None:
    """A policy that no door could use is never issued; the door keeps what it had."""
    prepared_for_all_rules(admin)
    before = newest_policy(hub).doors[DoorId("front")]
    problem(admin.patch("/api/v1/doors/front", json=change), code)
    assert newest_policy(hub).doors[DoorId("front")] == before


def test_a_cardholder_can_be_changed(hub: RunningHub, admin: httpx.Client) -> None:
    """Levels and flags change, travel with the card, and leave a line in the audit log; nonsense is refused."""
    card, _, _ = bodies(admin)["cards"]
    assert admin.post("/api/v1/cards", json=card).status_code == 201
    path = f"/api/v1/cardholders/{card['cardholder_id']}"
    changed = admin.patch(path, json={"access_level_ids": [], "may_escort": True, "extended_opening": True})
    assert changed.status_code == 200, changed.text
    held = CredentialId.parse(card["credential_id"])

    def may_escort(policy: Policy) -> bool:
        return held in policy.entitlements and policy.entitlements[held].may_escort

    entitlement = policy_says(hub, may_escort).entitlements[held]
    assert (entitlement.access_level_ids, entitlement.extended_opening) == ((), True)
    problem(admin.patch(path, json={"escort_required": True}), Code.INVALID)
    problem(admin.patch(path, json={"access_level_ids": ["nowhere"]}), Code.REFERENCE_UNKNOWN)
    assert admin.get(path).json() == changed.json()
    audited = admin.get("/api/v1/audit").json()["entries"]
    assert any(entry["action"] == "cardholder.change" for entry in audited)


def test_holidays_are_set_and_taken_back(hub: RunningHub, admin: httpx.Client) -> None:
    """A holiday stands in the list and in the signed policy until it is removed."""
    day = "2031-04-27"
    assert admin.put(f"/api/v1/holidays/{day}", json={"name": "King's Day"}).status_code == 200
    assert {"day": day, "name": "King's Day"} in admin.get("/api/v1/holidays").json()["holidays"]
    policy_says(hub, lambda policy: date.fromisoformat(day) in policy.holidays)
    assert admin.delete(f"/api/v1/holidays/{day}").status_code == 204
    policy_says(hub, lambda policy: date.fromisoformat(day) not in policy.holidays)
    problem(admin.put("/api/v1/holidays/2031-02-30", json={"name": "Never"}), Code.INVALID)


@pytest.mark.parametrize(
    "change",
    [
        {"credential_id": "ab" * 32},
        {"technology": "pkoc-v1"},
        {"technology": "uid"},
        {"credential_id": "not-a-uuid"},
        {"public_key": "02" + "ab" * 64},
        {"public_key": "04ab"},
        {"valid_from": "2026-03-02T00:00:00"},
        {"valid_until": "9999-12-31T23:59:59Z"},
        {"valid_from": "1960-01-01T00:00:00Z"},
        {"valid_from": "2026-03-02T00:00:00Z", "valid_until": "2026-03-02T00:00:00Z"},
    ],
)
def test_a_cards_values_are_checked(admin: httpx.Client, change: dict[str, Any]) -> None:
    """Id and technology belong together, keys are points, times have zones and an order."""
    body, _, _ = bodies(admin)["cards"]
    problem(admin.post("/api/v1/cards", json=body | change), Code.INVALID)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/doors", {"id": "d-x", "controller_id": "nowhere", "name": "X"}),
        (
            "/api/v1/access-levels",
            {"id": "l-x", "name": "X", "rules": [{"door_id": "x", "schedule_id": "y"}]},
        ),
        (
            "/api/v1/cardholders",
            {"category": "staff", "given_name": "A", "family_name": "B", "access_level_ids": ["none"]},
        ),
        (
            "/api/v1/cards",
            {"credential_id": "ab" * 32, "cardholder_id": "nobody", "technology": "pkoc-v1"},
        ),
    ],
)
def test_a_reference_to_nothing_is_a_named_problem(
    admin: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    """What is referred to must be there first, and nothing is half made."""
    problem(admin.post(path, json=body), Code.REFERENCE_UNKNOWN)
    assert body.get("id", "ab" * 32) not in admin.get(path).text


def test_odd_requests_are_named_problems(hub: RunningHub, admin: httpx.Client) -> None:
    """Too large, not JSON, another media type, another method, no such thing: each has its code."""
    path = "/api/v1/cardholders"
    problem(admin.post(path, content=b"x" * 70_000, headers=JSON), Code.BODY_TOO_LARGE)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1024

    problem(admin.post(path, content=endless(), headers=JSON), Code.BODY_TOO_LARGE)
    for content in (b"{", b"\xff\xfe", b"", b"[" * 5000, b"NaN"):
        problem(admin.post(path, content=content, headers=JSON), Code.INVALID)
    for body in (b"null", b"[]", b'"text"', b"7"):
        problem(admin.post(path, content=body, headers=JSON), Code.INVALID)
    problem(admin.delete(path), Code.METHOD_NOT_ALLOWED)
    problem(admin.get("/api/v1/nothing"), Code.NOT_FOUND)
    problem(admin.get(path + "/"), Code.NOT_FOUND)
    problem(admin.get(f"/api/v1/cards/{EXAMPLE['credential_id']}"), Code.NOT_FOUND)
    problem(admin.get("/api/v1/cards/not-an-id"), Code.INVALID)
    for limit in ("0", "501", "many", "-1"):
        problem(admin.get(path, params={"limit": limit}), Code.INVALID)
    with hub.client() as anybody:
        assert {each["code"] for each in anybody.get("/api/v1/problems").json()} == {c.wire for c in Code}


def test_a_body_that_does_not_come_is_not_waited_for(
    hub: RunningHub, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who announces a body and stops sending is answered and let go."""
    monkeypatch.setattr(rim, "BODY_S", 0.2)
    host, port = hub.url.removeprefix("http://").split(":")
    head = (
        f"POST /api/v1/cardholders HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: {admin.headers['authorization']}\r\nContent-Length: 100\r\n\r\n{{"
    )
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(head.encode())
        answer = slow.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")


JSON = {"content-type": "application/json"}


def test_the_openapi_description_is_there(hub: RunningHub) -> None:
    """Programs can read what the interface offers."""
    with hub.client() as anybody:
        description = anybody.get("/api/v1/openapi.json").json()
    assert "/api/v1/cards/{credential_id}/block" in description["paths"]
    assert "/sign-in" not in description["paths"]


# -- doors, cards, events ---------------------------------------------------------------------------


def test_a_doors_mode_reaches_its_controller(hub: RunningHub, admin: httpx.Client) -> None:
    """A change of mode becomes a policy version that the controller confirms."""
    hub.until_confirmed()
    before = the_door(admin)["policy_version"]
    answer = admin.patch("/api/v1/doors/front", json={"mode": "attended", "unlock_ms": 7000})
    assert (answer.json()["mode"], answer.json()["unlock_ms"]) == ("attended", 7000)
    eventually(lambda: the_door(admin)["policy_version"] > before, "policy confirmed")
    assert the_door(admin)["rules"]["mode"] == "attended"
    assert admin.patch("/api/v1/doors/front", json={"mode": "secured"}).status_code == 200
    problem(admin.patch("/api/v1/doors/nowhere", json={"mode": "secured"}), Code.NOT_FOUND)


def the_door(client: httpx.Client, door_id: str = "front") -> dict[str, Any]:
    doors: list[dict[str, Any]] = client.get("/api/v1/doors").json()["doors"]
    return next(door for door in doors if door["id"] == door_id)


def test_a_block_says_where_it_has_arrived(hub: RunningHub, admin: httpx.Client) -> None:
    """Confirmed by the door that is online; not by the one that is away, until it returns."""
    away = hub.door(f"away-{secrets.token_hex(3)}", "Away")
    credential = hub.card()
    hub.until_confirmed()
    away.drop()
    eventually(lambda: not the_door(admin, away.id)["online"], "seen to be offline")
    with hub.token(Role.GUARD) as guard:
        body = {"status": "suspended", "reason": "Lost in the laundry"}
        answer = guard.post(f"/api/v1/cards/{credential}/block", json=body)
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["document"], said["status"], said["confirmed"]) == ("revocations", "suspended", 0)
        path = f"/api/v1/cards/{credential}/distribution"

        def confirmed() -> dict[str, bool]:
            confirmations = guard.get(path).json()["confirmations"]
            return {each["door_id"]: each["confirmed_at"] is not None for each in confirmations}

        eventually(lambda: confirmed()["front"], "front confirms")
        assert not confirmed()[away.id]
        away.connect()
        eventually(lambda: confirmed()[away.id], "the other confirms on return")
        back = guard.post(f"/api/v1/cards/{credential}/reinstate", json={"reason": "Found again"}).json()
        assert back["status"] == "valid"
        assert back["versions"]["test-site"] > said["versions"]["test-site"]


@pytest.mark.parametrize("body", [{}, {"status": "revoked"}, {"status": "valid", "reason": "no"}])
@pytest.mark.parametrize("reason", [None, "", "  ", "ab", "x" * 301])
def test_a_block_needs_a_reason(
    hub: RunningHub, admin: httpx.Client, body: dict[str, Any], reason: str | None
) -> None:
    """Without status and a few words nothing happens."""
    sent = body if reason is None else body | {"reason": reason}
    problem(admin.post(f"/api/v1/cards/{EXAMPLE['credential_id']}/block", json=sent), Code.INVALID)


def test_events_say_how_complete_they_are(hub: RunningHub, admin: httpx.Client) -> None:
    """Taps are listed in order of arrival, with the state of every door's record beside them."""
    credential = hub.card("Olena", "Kovalenko")
    front = hub.controllers["front"]
    for reason in (Reason.ENTITLED, Reason.OUTSIDE_SCHEDULE):
        tap(front, credential, reason)
    tap(front, CredentialId(bytes(16)), Reason.CARD_NOT_ENROLLED)
    front.until_acknowledged()
    listed = list(pages(admin, "/api/v1/events", "events", limit=3, door="front"))
    assert [event["id"] for event in listed] == sorted(event["id"] for event in listed)
    taps = [event for event in listed if event["kind"].startswith("access_")][-3:]
    assert [event["reason"] for event in taps] == ["entitled", "outside_schedule", "card_not_enrolled"]
    assert [event["person"] for event in taps] == ["Olena Kovalenko", "Olena Kovalenko", None]
    answer = admin.get(
        "/api/v1/events", params={"door": "front", "kind": "access_denied", "limit": 500}
    ).json()
    assert {event["kind"] for event in answer["events"]} == {"access_denied"}
    (completeness,) = answer["completeness"]
    assert completeness["door_id"] == "front"
    assert completeness["complete"]
    assert completeness["complete_until"]


def test_who_may_not_see_names_sees_none(hub: RunningHub) -> None:
    """A technician reads the same events without anything that says who."""
    credential = hub.card("Tigist", "Abebe")
    tap(hub.controllers["front"], credential)
    hub.controllers["front"].until_acknowledged()
    with hub.token(Role.TECHNICIAN) as technician:
        answer = technician.get("/api/v1/events", params={"limit": 500})
    assert answer.json()["events"]
    assert "Tigist" not in answer.text
    assert str(credential) not in answer.text
    assert {event["cardholder_id"] for event in answer.json()["events"]} == {None}


def test_an_administrator_makes_links_and_shuts_out(hub: RunningHub, admin: httpx.Client) -> None:
    """A guard made by link works until disabled; every step stands in the audit log, without names."""
    link = admin.post("/api/v1/operators/links", json={"name": "Farid of the night"}).json()
    with hub.client(origin=hub.url) as browser:
        assert browser.post(link["path"], data={"password": "a sentence of mine"}).status_code == 303
        assert browser.get("/api/v1/doors").status_code == 200
        listed = admin.get("/api/v1/operators").json()["operators"]
        (farid,) = [each for each in listed if each["name"] == "Farid of the night"]
        assert farid["role"] == "guard"
        assert farid["signs_in_by"] == {"password": True, "passkeys": 0, "provider": False}
        path = f"/api/v1/operators/{farid['id']}"
        problem(admin.patch(path, json={"disabled": "yes"}), Code.INVALID)
        assert admin.patch(path, json={"disabled": True}).json()["disabled_at"]
        problem(browser.get("/api/v1/doors"), Code.NOT_SIGNED_IN)
    problem(admin.patch(f"/api/v1/operators/{'0' * 16}", json={"disabled": True}), Code.NOT_FOUND)
    log = admin.get("/api/v1/audit", params={"limit": 2})
    assert "Farid" not in log.text
    entries: list[dict[str, Any]] = []
    while len(entries) < 5:  # page by page; the hub itself may issue a document at any moment
        page = log.json()
        entries += [entry for entry in page["entries"] if entry["action"] != "document.issue"]
        log = admin.get("/api/v1/audit", params={"before": page["next_before"], "limit": 2})
    assert [entry["action"] for entry in entries[:5]] == [
        "operator.disable",
        "session.open_by_link",
        "operator.set_password",
        "operator.create",
        "link.create",
    ]
    assert entries[4]["actor"].startswith("token:")


def test_a_revocation_is_for_good(hub: RunningHub, admin: httpx.Client) -> None:
    """A revoked card is neither reinstated nor made merely suspended; revoking it again changes nothing."""
    path = f"/api/v1/cards/{hub.card()}"
    for status in ("suspended", "revoked", "revoked"):
        assert admin.post(f"{path}/block", json={"status": status, "reason": "lost"}).status_code == 200
    problem(admin.post(f"{path}/reinstate", json={"reason": "a friend asks"}), Code.CARD_REVOKED)
    problem(admin.post(f"{path}/block", json={"status": "suspended", "reason": "less"}), Code.CARD_REVOKED)
    assert admin.get(path).json()["status"] == "revoked"
    with hub.signed_in(Role.GUARD) as browser:
        page = browser.get(path.removeprefix("/api/v1")).text
    assert "/reinstate" not in page
    assert "That is for good." in page


def test_keys_say_who_is_believed_and_what_depends_on_it(hub: RunningHub, admin: httpx.Client) -> None:
    """Which key signs and how many live cards an issuer has; nothing is switched or retired that would harm somebody."""
    credential = hub.card("Kemal")
    found = admin.get("/api/v1/keys").json()
    (key,) = found["policy_keys"]
    assert (key["id"], key["use"], key["is_here"]) == (hub.site.policy_key_id, "signs", True)
    (issuer,) = found["issuers"]
    assert (issuer["issuer"], issuer["is_stated"]) == (hub.site.issuer, True)
    assert issuer["live_cards"] >= 1
    assert found["statement"] > 0
    assert admin.get(f"/api/v1/cards/{credential}").json()["issuer"] == hub.site.issuer
    reason = {"reason": "to see whether it can be done"}
    retired = admin.post(f"/api/v1/keys/issuers/{hub.site.issuer}/retire", json=reason)
    assert (retired.status_code, retired.json()["code"]) == (409, "in_use")
    assert admin.post("/api/v1/keys/policy/switch", json=reason).status_code == 404
    person = admin.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
    stranger = {
        "credential_id": str(uuid.uuid4()),
        "cardholder_id": person,
        "technology": "pkoc-v2",
        "issuer": "STRANGER00000001",
    }
    refused = admin.post("/api/v1/cards", json=stranger)
    assert (refused.status_code, refused.json()["code"]) == (422, "reference_unknown")


def test_a_withdrawn_controller_is_shut_out(hub: RunningHub, admin: httpx.Client) -> None:
    """The broker ends its connection and admits it no more; its id is used up; it is audited once."""
    stolen = hub.door("shed")
    assert admin.delete("/api/v1/controllers/shed").status_code == 204
    eventually(lambda: not stolen._online.is_set(), "the broker ended the connection")
    assert admin.delete("/api/v1/controllers/shed").status_code == 204
    assert "shed" not in {each["id"] for each in admin.get("/api/v1/controllers").json()["controllers"]}
    body = {"id": "shed", "event_public_key": "00" * 32, "certificate_serial": "0a"}
    problem(admin.post("/api/v1/controllers", json=body), Code.ALREADY_EXISTS)
    doors = {door["id"]: door for door in admin.get("/api/v1/doors").json()["doors"]}
    assert (doors["shed"]["online"], doors["shed"]["complete"]) == (False, False)
    log = admin.get("/api/v1/audit", params={"limit": 500}).json()["entries"]
    assert [each["subject"] for each in log if each["action"] == "controller.withdraw"] == ["controller:shed"]
    problem(admin.delete("/api/v1/controllers/nothing"), Code.NOT_FOUND)


def test_whoever_is_shown_names_leaves_a_trace(hub: RunningHub, admin: httpx.Client) -> None:
    """One audit entry for each list or page with names, none for lists without, none for who may not see them."""
    credential = hub.card()
    tap(hub.controllers["front"], credential)
    hub.controllers["front"].until_acknowledged()
    person = admin.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]

    def entries() -> list[str]:
        log = admin.get("/api/v1/audit", params={"limit": 500}).json()["entries"]
        return [each["subject"] for each in reversed(log) if each["action"] == "names.read"]

    shows = {
        "/api/v1/events": "events",
        "/api/v1/cardholders": "cardholders",
        f"/api/v1/cardholders/{person}": f"cardholder:{person}",
        "/": "events",
        "/cards": "cards",
        "/cardholders": "cardholders",
        f"/cards/{credential}": f"card:{credential}",
    }
    with hub.signed_in(Role.GUARD) as guard, hub.signed_in(Role.AUDITOR) as auditor:
        for page, subject in shows.items():
            before = len(entries())
            assert (
                guard.get(page, params={"limit": 500} if page.startswith("/api") else {}).status_code == 200
            )
            assert entries()[before:] == [subject], page
        before = len(entries())
        assert guard.get("/cards", params={"search": "nobody"}).status_code == 200
        assert guard.get("/doors").status_code == 200
        for page in ("/", "/cards", "/api/v1/events", f"/cards/{credential}"):
            assert auditor.get(page).status_code == 200
        assert len(entries()) == before


def test_what_does_not_fit_in_a_record_is_shown_at_its_doors(hub: RunningHub, admin: httpx.Client) -> None:
    """Messages that were set aside are counted on the door, in the list and on the page."""
    topic = str(UpTopic(ControllerId("front"), Up.EVENTS))
    for payload in (b"", b"\x01"):
        hub.app.state.link.ingest.put([Message(topic, payload)])

    def anomalies() -> list[dict[str, Any]]:
        doors = admin.get("/api/v1/doors").json()["doors"]
        found: list[dict[str, Any]] = next(door for door in doors if door["id"] == "front")["anomalies"]
        return found

    eventually(lambda: anomalies() and anomalies()[0]["times"] == 2, "both were counted")
    assert [each["kind"] for each in anomalies()] == ["batch_malformed"]
    with hub.signed_in(Role.GUARD) as browser:
        assert "events that cannot be read: 2 ×" in browser.get("/doors").text


@pytest.mark.parametrize("path", ["/api/v1/doors", "/doors"])
def test_a_fault_of_our_own_is_guarded_too(
    hub: RunningHub, admin: httpx.Client, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An answer to an error nobody foresaw carries the same headers as every other."""
    headers = admin.get("/api/v1/doors").headers

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("hub.api.doors.statuses", fails)
    monkeypatch.setattr("hub.pages.watch.statuses", fails)
    answer = admin.get(path)
    assert answer.status_code == 500
    for name in ("content-security-policy", "x-content-type-options", "x-frame-options", "cache-control"):
        assert answer.headers[name] == headers[name]


@pytest.mark.parametrize("name", ["hub", "broker", "HUB"])
def test_no_controller_is_named_like_a_party_of_the_hub(admin: httpx.Client, name: str) -> None:
    """The broker would take such a controller for the hub itself."""
    body = {"id": name, "event_public_key": "00" * 32, "certificate_serial": "0a"}
    answer = admin.post("/api/v1/controllers", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_a_heartbeat_without_a_journal_breaks_no_page(hub: RunningHub, admin: httpx.Client) -> None:
    """Before a controller has said what it holds its door is incomplete, and lists and pages still answer."""
    hub.door("porch", connect=False)
    status = ControllerStatus(online=True, sent_at=hub.clock())
    hub.app.state.link.ingest.put([Message(str(UpTopic(ControllerId("porch"), Up.STATUS)), bytes(status))])

    def porch() -> dict[str, Any]:
        doors = admin.get("/api/v1/doors").json()["doors"]
        return next(door for door in doors if door["id"] == "porch")

    eventually(lambda: porch()["online"], "the heartbeat arrived")
    assert (porch()["complete"], porch()["holes"][-1]["cause"]) == (False, "not_proven")
    with hub.signed_in() as browser:
        assert [browser.get(page).status_code for page in ("/", "/doors")] == [200, 200]


def test_health_needs_no_credentials_and_tells_what_is_broken(tmp_path: Path) -> None:
    """Alive while it answers; ready while everything works, and otherwise the part that does not is named."""
    with running_hub(tmp_path) as hub, hub.client() as anybody:
        assert anybody.get("/healthz").json() == {"status": "alive"}
        ready = anybody.get("/readyz").json()
        assert ready["status"] == "ready"
        assert all(ready["parts"].values())
        hub.app.state.link.client.stop()
        answer = eventually(lambda: not_ready(anybody), "not ready")
        assert "connection" in problem(answer, Code.NOT_READY)["detail"]
        assert anybody.get("/healthz").status_code == 200


def not_ready(client: httpx.Client) -> httpx.Response | None:
    answer = client.get("/readyz")
    return answer if answer.status_code == 503 else None
