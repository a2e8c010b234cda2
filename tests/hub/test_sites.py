"""Several sites in one hub: what each one's staff sees, what each one's doors are told, and who moves between them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import date
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from hub import registration
from hub.api.access import declared_access
from hub.roles import PERMISSIONS, Permission, Role
from hub.store import documents, reports
from hub.store.reports import Report
from pacs import bundle
from pacs.events import EventKind
from pacs.identifiers import CardholderId, CredentialId, DoorId, SiteId, StationId
from pacs.messages import DocumentKind
from pacs.revocation import Status, StatusList
from tests.hub.controller import FakeController, eventually
from tests.hub.running import RunningHub, ask, routes_of, running_hub, tap

HERE, THERE, FURTHER = "test-site", "elsewhere", "further"
MARK = "zanzibar"
"""Stands in the id or name of everything that belongs to the other site."""
BY_A_SCOPED_SESSION = {
    "/link/{token}",
    "/sign-in",
    "/sign-in/oidc/callback",
    "/sign-in/oidc/finish",
    "/static/{digest}/{name}",
    "/live/stream",
    "/attended/stream",
    "/attended/waiting",
    "/api/v1/stream",
    "/desk/stream",
    "/desk/photo/{look}",
    "/posts/{post_id}/photo/{look}",
}
DUTY = {
    "name": MARK,
    "whom": "category",
    "category": "resident",
    "weekdays": list(range(7)),
    "start_minute": 0,
    "end_minute": 1440,
}
DAY = {"weekdays": list(range(7)), "start_minute": 0, "end_minute": 1440}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("sites")) as running:
        with running.token() as admin:
            for site in (THERE, FURTHER):
                made = admin.post("/api/v1/sites", json={"id": site, "name": f"{MARK} Hall"})
                assert made.status_code == 201, made.text
        running.door("front", "Front")
        running.door(f"{MARK}-gate", f"{MARK} gate", site=THERE)
        yield running


def reported(hub: RunningHub, duty_id: str, day: str, person: str) -> str:
    """Somebody reported in; the number of the receipt."""
    made = Report(
        duty_id=duty_id,
        day=date.fromisoformat(day),
        cardholder_id=CardholderId(person),
        reported_by=CardholderId(person),
        station_id="hall",
        at=hub.clock(),
        receipt=registration.new_receipt(),
    )
    with hub.database.write() as connection:
        reports.add(connection, [made])
    return made.receipt


@pytest.fixture
def admin(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token() as program:
        yield program


@pytest.fixture(scope="module")
def furniture(hub: RunningHub) -> dict[str, str]:
    """One of everything at the other site; a name in the path of a route → its id there."""
    with hub.token() as admin:

        def make(path: str, body: dict[str, Any]) -> dict[str, Any]:
            answer = admin.post(f"/api/v1/{path}", json=body)
            assert answer.is_success, answer.text
            found: dict[str, Any] = answer.json()
            return found

        of_site = {"site_id": THERE}
        make("areas", {"id": f"{MARK}-area", "name": MARK, **of_site})
        make("schedules", {"id": f"{MARK}-always", "name": MARK, "windows": [DAY], **of_site})
        rule = {"door_id": f"{MARK}-gate", "schedule_id": f"{MARK}-always"}
        make("access-levels", {"id": f"{MARK}-level", "name": MARK, "rules": [rule], **of_site})
        admin.put("/api/v1/holidays/2026-12-25", params={"site": THERE}, json={"name": MARK})
        credential = hub.card(MARK, "Person", site=THERE)
        person = admin.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        command = make(f"doors/{MARK}-gate/commands", {"action": "unlock_once", "reason": f"for {MARK}"})
        order = make("orders", {"action": "clear_mode", "reason": f"for {MARK}", **of_site})
        imported = admin.post(
            "/api/v1/imports",
            params={"site": THERE, "dry_run": "true"},
            content=f"external_id,given_name,family_name\n{MARK}-1,{MARK},x\n",
            headers={"content-type": "text/csv"},
        ).json()
        leaver = admin.get(f"/api/v1/cards/{hub.card(MARK, 'Leaver', site=THERE)}").json()["cardholder_id"]
        transfer = moved(admin, [leaver], FURTHER, []).json()
        gate = hub.controllers[f"{MARK}-gate"]
        tap(gate, credential)
        asked = ask(gate, credential)
        gate.record(EventKind.DOOR_FORCED, door_id=DoorId(gate.id))
        gate.until_acknowledged()
        gate_post = {"name": MARK, "door_ids": [f"{MARK}-gate"], **of_site}
        assert admin.put(f"/api/v1/posts/{MARK}-post", json=gate_post).is_success
        duty = make("registration/duties", {**DUTY, **of_site})
        occurred = admin.get("/api/v1/registration/occurrences").json()["occurrences"]
        receipt = reported(hub, duty["id"], occurred[0]["day"], person)
        make("stations", {"id": f"{MARK}-cards", "kind": "issuing", "name": MARK, **of_site})
        issuing = make("issuing/jobs", {"cardholder_id": person, "station_id": f"{MARK}-cards"})
        batch, _ = hub.app.state.services.issuing.ask_many(
            StationId(f"{MARK}-cards"), [CardholderId(person)], actor="token:test"
        )
        hub.signed_in(Role.GUARD, f"{MARK} Guard", sites=frozenset({SiteId(THERE)})).close()
        known = admin.get("/api/v1/operators").json()["operators"]
        alarms: list[Any] = []

        def raised() -> bool:
            alarms[:] = admin.get("/api/v1/alarms", params={"door": f"{MARK}-gate"}).json()["alarms"]
            return bool(alarms)

        eventually(raised, "an alarm at the other site")
    return {
        "site_id": THERE,
        "controller_id": f"{MARK}-gate",
        "door_id": f"{MARK}-gate",
        "operator_id": next(each["id"] for each in known if each["name"] == f"{MARK} Guard"),
        "post_id": f"{MARK}-post",
        "cardholder_id": person,
        "credential_id": str(credential),
        "command_id": command["id"],
        "order_id": order["id"],
        "request_id": asked,
        "alarm_id": str(alarms[0]["id"]),
        "import_id": imported["id"],
        "transfer_id": transfer["id"],
        "job_id": issuing["id"],
        "batch_id": batch.id,
        "level_id": f"{MARK}-level",
        "schedule_id": f"{MARK}-always",
        "area_id": f"{MARK}-area",
        "day": "2026-12-25",
        "duty_id": duty["id"],
        "duty_day": occurred[0]["day"],
        "receipt": receipt,
        "kind": "policy",
        "version": "1",
    }


def gets(hub: RunningHub) -> list[APIRoute]:
    return [
        route
        for route in routes_of(hub.app)
        if "GET" in (route.methods or ()) and route.path not in BY_A_SCOPED_SESSION
    ]


def test_no_route_shows_anything_of_a_site_that_is_not_ones_own(
    hub: RunningHub, furniture: dict[str, str]
) -> None:
    """Whoever sees one site gets nothing of another by any route, list or id, whatever their role."""
    looked: set[str] = set()
    for role in (Role.SITE_MANAGER, Role.ADMINISTRATOR, Role.TECHNICIAN):
        with hub.signed_in(role, sites=frozenset({SiteId(HERE)})) as browser:
            for route in gets(hub):
                access = declared_access(route)
                if access.permission is None or access.permission not in PERMISSIONS[role]:
                    continue
                ids = re.findall(r"{(\w+)}", route.path)
                if not set(ids) <= furniture.keys():
                    assert access.everywhere or not ids, f"{route.path}: nothing of the other site to ask for"
                    continue
                path = route.path.format(**furniture)
                answer = browser.get(path, params={"reason": "looking for what leaks"})
                shown = answer.text
                for name in ids:  # what was asked for may be said back
                    shown = shown.replace(furniture[name], "")
                assert MARK not in shown, route.path
                if ids and "day" not in ids:
                    assert answer.status_code in (403, 404), (route.path, answer.status_code)
                else:
                    assert answer.status_code in (200, 303, 403), (route.path, answer.text)
                looked.add(route.path)
    assert {"/api/v1/doors", "/api/v1/cardholders/{cardholder_id}", "/", "/cards"} <= looked


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "doors/{door_id}", {"name": "mine"}),
        ("POST", "doors/{door_id}/commands", {"action": "unlock_once", "reason": "just because"}),
        ("POST", "doors/{door_id}/tests", {"action": "unlock_once", "reason": "just because"}),
        ("POST", "doors/{door_id}/move", {"controller_id": "front"}),
        ("DELETE", "controllers/{controller_id}", None),
        ("PATCH", "cardholders/{cardholder_id}", {"given_name": "Mine"}),
        ("DELETE", "cardholders/{cardholder_id}/photo", None),
        ("POST", "cards/{credential_id}/block", {"status": "revoked", "reason": "just because"}),
        ("POST", "cards/{credential_id}/reinstate", {"reason": "just because"}),
        ("POST", "alarms/{alarm_id}/acknowledge", {}),
        ("PUT", "posts/{post_id}", {"name": "mine", "door_ids": ["front"]}),
        ("DELETE", "posts/{post_id}", None),
        ("PATCH", "schedules/{schedule_id}", {"name": "mine"}),
        ("DELETE", "schedules/{schedule_id}", None),
        ("PATCH", "access-levels/{level_id}", {"name": "mine"}),
        ("DELETE", "access-levels/{level_id}", None),
        ("PATCH", "areas/{area_id}", {"name": "mine"}),
        ("DELETE", "areas/{area_id}", None),
        ("PATCH", "registration/duties/{duty_id}", {"name": "mine"}),
        ("DELETE", "registration/duties/{duty_id}", None),
        ("PUT", "registration/reporters/{cardholder_id}/{cardholder_id}", None),
        (
            "POST",
            "registration/occurrences/{duty_id}/{duty_day}/corrections",
            {"cardholder_id": "x", "kind": "reported", "reason": "just because"},
        ),
    ],
)
def test_nothing_of_another_site_can_be_changed(
    hub: RunningHub, furniture: dict[str, str], method: str, path: str, body: dict[str, Any] | None
) -> None:
    """It answers as if it were not there."""
    with hub.token(Role.SITE_MANAGER, sites=frozenset({SiteId(HERE)})) as manager:
        answer = manager.request(method, "/api/v1/" + path.format(**furniture), json=body)
    assert answer.status_code == 404, answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("areas", {"id": "x-area", "name": "x", "site_id": THERE}),
        ("orders", {"action": "set_mode", "mode": "lockdown", "reason": "just because", "site_id": THERE}),
        ("doors", {"id": "x-door", "controller_id": f"{MARK}-gate", "name": "x"}),
        ("cardholders", {"category": "resident", "given_name": "x", "family_name": "y", "site_id": THERE}),
        (
            "cardholders",
            {
                "category": "staff",
                "given_name": "x",
                "family_name": "y",
                "access_level_ids": [f"{MARK}-level"],
            },
        ),
        (
            "access-levels",
            {
                "id": "x-level",
                "name": "x",
                "rules": [{"door_id": f"{MARK}-gate", "schedule_id": f"{MARK}-always"}],
            },
        ),
    ],
)
def test_nothing_can_be_made_at_or_with_another_site(
    hub: RunningHub, furniture: dict[str, str], path: str, body: dict[str, Any]
) -> None:
    """A reference to it is unknown."""
    assert furniture
    with hub.token(Role.SITE_MANAGER, sites=frozenset({SiteId(HERE)})) as manager:
        answer = manager.post(f"/api/v1/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "reference_unknown"), answer.text


def test_who_sees_several_sites_says_which_one(admin: httpx.Client) -> None:
    """What belongs to a site is not guessed; who sees one alone need not say."""
    answer = admin.post("/api/v1/areas", json={"id": "unsaid", "name": "x"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert HERE in answer.json()["detail"]
    assert THERE in answer.json()["detail"]


def test_who_sees_one_site_can_give_no_rights_and_add_no_site(hub: RunningHub) -> None:
    """Operators, the audit log and sites belong to nobody's site; they are for those who see all."""
    with hub.token(Role.ADMINISTRATOR, sites=frozenset({SiteId(HERE)})) as scoped:
        for method, path, body in (
            ("POST", "sites", {"id": "mine", "name": "x"}),
            ("PATCH", f"sites/{HERE}", {"name": "x"}),
            ("GET", "audit", None),
        ):
            answer = scoped.request(method, f"/api/v1/{path}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), path


def opened(hub: RunningHub, site: str) -> tuple[Any, StatusList]:
    """The documents of a site that are in force."""
    trusted = hub.controllers["front"].trusted
    with hub.database.read() as connection:
        policy, revocations = (
            documents.required_newest(connection, SiteId(site), kind)
            for kind in (DocumentKind.POLICY, DocumentKind.REVOCATIONS)
        )
    return bundle.open_bundle(policy.data, trusted), StatusList.open(revocations.data, trusted)


def test_each_site_has_documents_of_its_own(hub: RunningHub, furniture: dict[str, str]) -> None:
    """A site's doors are told of its own doors and people, and confirm their own version."""
    hub.until_confirmed()
    here, _ = opened(hub, HERE)
    there, _ = opened(hub, THERE)
    card = CredentialId.parse(furniture["credential_id"])
    assert (here.site_id, there.site_id) == (HERE, THERE)
    assert set(there.doors) == {f"{MARK}-gate"}
    assert "front" in here.doors
    assert f"{MARK}-gate" not in here.doors
    assert card in there.entitlements
    assert card not in here.entitlements


def test_whoever_holds_a_level_of_another_site_is_blocked_at_both(hub: RunningHub) -> None:
    """Staff of one site with access at another: both list the card, both are told of the block, both confirm."""
    credential = hub.card("Roaming", "Technician", "staff")
    with hub.token() as admin:
        person = admin.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        level = {"id": "roaming", "name": "Roaming", "rules": [], "site_id": THERE}
        assert admin.post("/api/v1/access-levels", json=level).is_success
        admin.patch(f"/api/v1/cardholders/{person}", json={"access_level_ids": ["roaming"]})
        hub.until_confirmed()
        body = {"status": "suspended", "reason": "lost on the train"}
        told = admin.post(f"/api/v1/cards/{credential}/block", json=body).json()
        assert set(told["versions"]) == {HERE, THERE}
        assert all(told["versions"].values())

        def confirmed() -> set[str]:
            answer = admin.get(f"/api/v1/cards/{credential}/distribution").json()
            return {each["door_id"] for each in answer["confirmations"] if each["confirmed_at"]}

        eventually(lambda: {"front", f"{MARK}-gate"} <= confirmed(), "both sites")
        for site in (HERE, THERE):
            policy, revocations = opened(hub, site)
            index = policy.entitlements[credential].status_index
            assert revocations.status(index) is Status.SUSPENDED
        with hub.token(Role.GUARD, sites=frozenset({SiteId(THERE)})) as guard:
            seen = guard.get(f"/api/v1/cards/{credential}/distribution").json()
            assert set(seen["versions"]) == {THERE}
            assert {each["site_id"] for each in seen["confirmations"]} == {THERE}
            person_seen = guard.get(f"/api/v1/cardholders/{person}")
            assert person_seen.json()["access_level_ids"] == ["roaming"]
        with hub.token(Role.SITE_MANAGER, sites=frozenset({SiteId(THERE)})) as manager:
            refused = manager.patch(f"/api/v1/cardholders/{person}", json={"given_name": "Mine"})
            assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
        with hub.token(Role.SITE_MANAGER, sites=frozenset({SiteId(HERE)})) as manager:
            kept = manager.patch(f"/api/v1/cardholders/{person}", json={"access_level_ids": []})
            assert kept.json()["access_level_ids"] == []
        assert admin.get(f"/api/v1/cardholders/{person}").json()["access_level_ids"] == ["roaming"]


def moved(admin: httpx.Client, people: list[str], to: str, levels: list[str]) -> httpx.Response:
    body = {
        "cardholder_ids": people,
        "to_site_id": to,
        "access_level_ids": levels,
        "reason": "the centre closes",
    }
    return admin.post("/api/v1/transfers", json=body)


def test_two_hundred_residents_move_in_one_transaction(hub: RunningHub, furniture: dict[str, str]) -> None:
    """Their cards open the new site's doors and none of the old one's; a blocked card stays blocked; each door says so."""
    assert furniture
    with hub.token() as admin:
        rows = "".join(f"T-{number},Given,Family\n" for number in range(198))
        sheet = f"external_id,given_name,family_name\n{rows}"
        sent = admin.post(
            "/api/v1/imports", params={"site": HERE}, content=sheet, headers={"content-type": "text/csv"}
        )
        job = sent.headers["location"]
        eventually(lambda: admin.get(job).json()["state"] == "done", "the import")
        wanted = {"limit": 500}
        people = [
            each["id"]
            for each in admin.get("/api/v1/cardholders", params=wanted).json()["cardholders"]
            if (each["external_id"] or "").startswith("T-")
        ]
        good, bad = hub.card("Good", "Card"), hub.card("Bad", "Card")
        body = {"status": "suspended", "reason": "reported lost"}
        admin.post(f"/api/v1/cards/{bad}/block", json=body)
        people += [admin.get(f"/api/v1/cards/{each}").json()["cardholder_id"] for each in (good, bad)]
        assert len(people) == 200
        eventually(lambda: admin.get("/api/v1/documents").json()["settled"], "everybody is listed here")
        answer = moved(admin, people, THERE, [f"{MARK}-level"])
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert told["people"] == 200
        assert {each["site_id"] for each in told["documents"]} == {HERE, THERE}
        path = f"/api/v1/transfers/{told['id']}"

        def arrived() -> dict[str, bool]:
            confirmations = admin.get(path).json()["confirmations"]
            return {each["door_id"]: each["confirmed_at"] is not None for each in confirmations}

        eventually(lambda: arrived()["front"] and arrived()[f"{MARK}-gate"], "both sites' doors")
        before, _ = opened(hub, HERE)
        after, revocations = opened(hub, THERE)
        assert not {good, bad} & set(before.entitlements)
        assert {good, bad} <= set(after.entitlements)
        assert revocations.status(after.entitlements[bad].status_index) is Status.SUSPENDED
        assert revocations.status(after.entitlements[good].status_index) is Status.VALID
        spread = admin.get(f"/api/v1/cards/{bad}/distribution").json()
        assert set(spread["versions"]) == {THERE}
        assert all(spread["versions"].values())


def test_a_transfer_is_all_or_nothing(hub: RunningHub, furniture: dict[str, str]) -> None:
    """One unknown person, a level of another site, or somebody already there, and nobody moves."""
    with hub.token() as admin:
        credential = hub.card()
        person = admin.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        for people, levels in (
            ([person, "nobody"], []),
            ([person], ["nothing"]),
            ([furniture["cardholder_id"]], []),
        ):
            answer = moved(admin, people, THERE, levels)
            assert (answer.status_code, answer.json()["code"]) == (422, "reference_unknown")
        assert admin.get(f"/api/v1/cardholders/{person}").json()["site_id"] == HERE
    with hub.token(Role.RECEPTION, sites=frozenset({SiteId(THERE)})) as reception:
        answer = moved(reception, [person], THERE, [])
        assert (answer.status_code, answer.json()["code"]) == (422, "reference_unknown")


def test_the_live_stream_is_of_ones_own_sites(hub: RunningHub, furniture: dict[str, str]) -> None:
    """A tap at each site: a guard of one sees that one's alone."""
    assert furniture
    own = frozenset({SiteId(HERE)})
    gate: FakeController = hub.controllers[f"{MARK}-gate"]
    with hub.token(Role.GUARD, sites=own) as guard, guard.stream("GET", "/api/v1/stream") as stream:
        lines = stream.iter_lines()
        tap(gate, CredentialId(secrets.token_bytes(16)))
        gate.until_acknowledged()
        tap(hub.controllers["front"], CredentialId(bytes(16)))
        seen = []
        for line in lines:
            seen.append(line)
            if line.startswith("data:") and '"access_granted"' in line and '"front"' in line:
                break
    assert MARK not in "\n".join(seen)


def test_every_permission_is_held_by_somebody() -> None:
    """A permission that no role but the administrator's holds is one of those that concern the whole hub."""
    others = set().union(*(held for role, held in PERMISSIONS.items() if role is not Role.ADMINISTRATOR))
    assert set(Permission) - others <= {
        Permission.SITES_MANAGE,
        Permission.OPERATORS_MANAGE,
        Permission.WEBHOOKS_MANAGE,
    }


def test_the_live_page_shows_the_site_that_is_chosen(hub: RunningHub, furniture: dict[str, str]) -> None:
    """Who sees all sites looks at one; one that is not there, or not theirs, is not found."""
    assert furniture
    with hub.signed_in(Role.ADMINISTRATOR) as browser:
        here, there = (browser.get("/", params={"site": site}).text for site in (HERE, THERE))
        assert f"{MARK} gate" in there
        assert f"{MARK} gate" not in here
        assert f"site={HERE}" in here
        assert browser.get("/", params={"site": "nowhere"}).status_code == 404
        with browser.stream("GET", "/live/stream", params={"site": HERE}) as stream:
            seen = []
            for line in stream.iter_lines():
                seen.append(line)
                if line == "event: alarms":
                    break
        assert MARK not in "\n".join(seen)
    with hub.signed_in(Role.GUARD, sites=frozenset({SiteId(HERE)})) as browser:
        assert browser.get("/", params={"site": THERE}).status_code == 404
        assert browser.get("/live/stream", params={"site": THERE}).status_code == 404
