"""Retention over the interface: private doors, holds, erasure, and what is told of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

from hub.roles import Role
from pacs.identifiers import SiteId
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub, tap

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("retention")) as running:
        running.door("front", "Front")
        running.door("room", "Room")
        with running.token() as admin:
            assert admin.patch("/api/v1/doors/room", json={"private": True}).is_success
        yield running


def test_a_private_door_names_nobody(hub: RunningHub) -> None:
    """A controller that says whose card it was at a room's door: stored is that there was a tap, and that it told."""
    credential = hub.card()
    room = hub.controllers["room"]
    tap(room, credential)
    room.until_acknowledged()
    with hub.token(Role.SITE_MANAGER) as manager:
        answer = manager.get("/api/v1/events", params={"door": "room", "kind": "access_granted"}).json()
        (event,) = answer["events"]
        assert (event["credential_id"], event["person"], event["coarse"]) == (None, None, True)
        doors_now = manager.get("/api/v1/doors").json()["doors"]
    (status,) = [door for door in doors_now if door["id"] == "room"]
    assert "private_tap" in {each["kind"] for each in status["anomalies"]}


def page_of(hub: RunningHub) -> str:
    with hub.signed_in(Role.AUDITOR) as browser:
        return str(browser.get("/retention").text)


def metrics_of(hub: RunningHub) -> str:
    with hub.token(Role.TECHNICIAN) as program:
        return str(program.get("/metrics").text)


def test_a_hold_over_the_interface(hub: RunningHub) -> None:
    """Asked for by one, agreed to by another; both stand in the audit log, and who may not, may not."""
    now = hub.clock()
    body = {
        "door_id": "front",
        "since": (now - HOUR).isoformat(),
        "until": now.isoformat(),
        "ends_at": (now + DAY).isoformat(),
        "reason": "an accusation",
    }
    with hub.token(Role.SITE_MANAGER) as manager, hub.token(Role.AUDITOR) as auditor:
        made = manager.post("/api/v1/holds", json=body)
        assert (made.status_code, made.json()["state"]) == (201, "requested"), made.text
        path = f"/api/v1/holds/{made.json()['id']}"
        same = manager.post(f"{path}/confirm")
        assert (same.status_code, same.json()["code"]) == (409, "second_person")
        assert auditor.post("/api/v1/holds", json=body).status_code == 403
        confirmed = auditor.post(f"{path}/confirm").json()
        assert (confirmed["state"], confirmed["ends_soon"]) == ("confirmed", True)
        assert "ends within a week" in page_of(hub)
        assert f'drempel_legal_hold_end_seconds{{hold="{confirmed["id"]}",site="test-site"}}' in metrics_of(
            hub
        )
        assert manager.post(f"{path}/lift", json={"reason": "withdrawn"}).json()["state"] == "over"
        over = auditor.post(f"{path}/confirm")
        assert (over.status_code, over.json()["code"]) == (409, "hold_over")
        assert [each["state"] for each in auditor.get("/api/v1/holds").json()["holds"]] == ["over"]
    with hub.token() as admin:
        log = admin.get("/api/v1/audit", params={"limit": 500}).json()["entries"]
    actions = [each["action"] for each in reversed(log) if each["subject"].startswith("hold:")]
    assert actions == ["hold.request", "hold.confirm", "hold.lift"]


def test_somebody_is_erased_over_the_interface(hub: RunningHub) -> None:
    """Their card is refused everywhere from then on, and nobody finds them any more."""
    credential = hub.card("Erasmus", "Gone")
    with hub.token(Role.SITE_MANAGER) as manager:
        person = manager.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        done = manager.post(f"/api/v1/cardholders/{person}/erase", json={"reason": "asked for it"})
        assert done.status_code == 204, done.text
        assert manager.get(f"/api/v1/cardholders/{person}").status_code == 404
        assert "Erasmus" not in manager.get("/api/v1/cardholders", params={"limit": 500}).text
        assert manager.get(f"/api/v1/cards/{credential}").json()["status"] == "revoked"

        def confirmed() -> int:
            told: int = manager.get(f"/api/v1/cards/{credential}/distribution").json()["confirmed"]
            return told

        eventually(lambda: confirmed() == 2, "both doors heard of it")


def test_how_long_what_is_kept_is_told(hub: RunningHub) -> None:
    """The periods, and that the job runs."""
    with hub.token(Role.AUDITOR) as auditor:
        eventually(lambda: len(auditor.get("/api/v1/retention").json()["runs"]) == 8, "the first run")
        told = auditor.get("/api/v1/retention").json()
    assert (told["precise_s"], told["coarse_s"]) == (72 * 3600, 30 * 86_400)
    assert told["registration_s"] == 14 * 86_400
    assert (told["overdue_since"], told["late"]) == (None, False)


def test_the_page_asks_agrees_and_ends(hub: RunningHub) -> None:
    """Two browsers: what one asks for the other agrees to; what is typed wrong stays and is said."""
    with hub.signed_in(Role.SITE_MANAGER) as manager, hub.signed_in(Role.AUDITOR) as auditor:
        form = {
            "csrf_token": csrf_of(manager.get("/retention").text),
            "door_id": "front",
            "since": "2026-03-01T08:00",
            "until": "2026-03-01T07:00",
            "days": "90",
            "reason": "a <b>fight</b>",
        }
        wrong = manager.post("/retention/holds", data=form)
        assert wrong.status_code == 422
        assert "a &lt;b&gt;fight" in wrong.text
        asked = manager.post("/retention/holds", data=form | {"until": "2026-03-01T09:00"})
        assert asked.headers["location"] == "/retention?done=requested"
        assert "/confirm" not in manager.get("/retention").text
        page = auditor.get("/retention").text
        (path,) = set(re.findall(r'action="(/retention/holds/[0-9a-f]+/confirm)"', page))
        agreed = auditor.post(path, data={"csrf_token": csrf_of(page)})
        assert agreed.headers["location"] == "/retention?done=confirmed"
        page = manager.get("/retention").text
        (path,) = set(re.findall(r'action="(/retention/holds/[0-9a-f]+/lift)"', page))
        ended = manager.post(path, data={"csrf_token": csrf_of(page), "reason": "settled"})
        assert ended.headers["location"] == "/retention?done=lifted"


def test_the_page_forgets_somebody(hub: RunningHub) -> None:
    """From their page, with a reason; afterwards the page is not there."""
    credential = hub.card("Goner", "Once")
    with hub.signed_in(Role.SITE_MANAGER) as manager:
        person = manager.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        page = manager.get(f"/cardholders/{person}/erase").text
        assert "Goner Once" in page
        form = {"csrf_token": csrf_of(page), "reason": ""}
        assert manager.post(f"/cardholders/{person}/erase", data=form).status_code == 422
        done = manager.post(f"/cardholders/{person}/erase", data=form | {"reason": "asked for it"})
        assert done.headers["location"] == "/cardholders"
        assert manager.get(f"/cardholders/{person}").status_code == 404


def test_a_site_keeps_for_less(hub: RunningHub) -> None:
    """Never for longer than the whole hub, only by who may at that site, with a reason in the audit log; shown on a page."""
    path = "/api/v1/retention/sites/test-site"
    with hub.token(Role.SITE_MANAGER) as manager, hub.token(Role.AUDITOR) as auditor:
        longer = manager.put(path, json={"precise_h": 72, "registration_days": 30, "reason": "a try"})
        assert (longer.status_code, longer.json()["code"]) == (422, "invalid")
        body = {"precise_h": 24, "leavers_days": 7, "reason": "asked for by the residents"}
        assert auditor.put(path, json=body).status_code == 403
        made = manager.put(path, json=body)
        assert made.status_code == 200, made.text
        assert made.json()["shorter"] == ["precise", "leavers"]
        (shown,) = auditor.get("/api/v1/retention/sites").json()["sites"]
        assert (shown["precise_s"], shown["coarse_s"], shown["leavers_s"]) == (86_400, 2_592_000, 604_800)
    with hub.token() as admin:
        assert admin.post("/api/v1/sites", json={"id": "elsewhere", "name": "Elsewhere"}).status_code == 201
    with hub.token(Role.SITE_MANAGER, sites=frozenset({SiteId("elsewhere")})) as stranger:
        assert stranger.put(path, json=body).status_code == 404
    with hub.signed_in(Role.SITE_MANAGER) as browser:
        page = browser.get("/retention/sites").text
        assert "24 hours" in page
        form = {"csrf_token": csrf_of(page), "precise_h": "", "coarse_days": "31", "reason": "back again"}
        refused = browser.post("/retention/sites/test-site", data=form)
        assert refused.status_code == 422
        assert 'value="31"' in refused.text
        assert browser.post("/retention/sites/test-site", data=form | {"coarse_days": ""}).status_code == 303
        assert "24 hours" not in browser.get("/retention/sites").text
    with hub.token() as admin:
        entries = [
            each
            for each in admin.get("/api/v1/audit").json()["entries"]
            if each["action"] == "retention.shorten"
        ]
    assert [(each["subject"], each["reason"]) for each in entries] == [
        ("site:test-site", "back again"),
        ("site:test-site", "asked for by the residents"),
    ]
