"""The pages about a site itself: its events, and what a page of them says and hides."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest

from hub.pages import events as events_page
from hub.pages import movements
from hub.roles import Role
from pacs.events import EventKind
from pacs.identifiers import DoorId, SiteId
from pacs.reason import Reason
from tests.hub.running import RunningHub, csrf_of, running_hub, tap
from tests.hub.test_pages import text_of

ELSEWHERE = "other-site"
ROW = re.compile(r'<tr id="event-\d+">(.*?)</tr>', re.DOTALL)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("site-pages"), time_zone="Europe/Amsterdam") as running:
        with running.token(Role.ADMINISTRATOR) as program:
            site = {"id": ELSEWHERE, "name": "Elsewhere", "time_zone": "Europe/Amsterdam"}
            assert program.post("/api/v1/sites", json=site).status_code == 201
        front = running.door("front", "Front door")
        back = running.door("back", "Back door")
        running.door("far", "Far door", site=ELSEWHERE, connect=False)
        ama = running.card("Ama", "Mensah")
        tap(front, ama)
        tap(front, ama, Reason.OUTSIDE_SCHEDULE)
        tap(back, ama, Reason.NO_ACCESS_LEVEL)
        back.record(EventKind.TAMPER_OPENED, door_id=DoorId("back"))
        for each in (front, back):
            each.until_acknowledged()
        yield running


@pytest.fixture
def guard(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.signed_in(Role.GUARD) as browser:
        yield browser


def rows(browser: httpx.Client, **asked: str) -> list[str]:
    answer = browser.get("/events", params=asked)
    assert answer.status_code == 200, text_of(answer.text)
    return [text_of(row) for row in ROW.findall(answer.text)]


# -- events -----------------------------------------------------------------------------------------


def test_events_are_filtered_and_say_what_they_cannot_know(hub: RunningHub, guard: httpx.Client) -> None:
    """By door, kind, reason and time; beside any of them stands which doors have not told of anything."""
    assert len(rows(guard, door="back")) > len(rows(guard, door="back", kind="taps")) == 1
    (late,) = rows(guard, decision_reason="outside_schedule")
    assert "Refused not at this time Front door , entry Ama Mensah" in late
    assert rows(guard, kind="tamper_opened")[0].endswith("Back door –")
    local = (hub.clock() - timedelta(hours=9)).strftime("%Y-%m-%dT%H:%M")
    assert rows(guard, until=local) == []
    page = text_of(guard.get("/events", params={"until": local}).text)
    assert "That does not say that nothing happened." in page
    assert "These doors have not told of anything yet: Far door" in page
    assert (
        "Far door"
        not in text_of(guard.get("/events", params={"door": "front"}).text).partition("What this")[2]
    )
    wrong = guard.get("/events", params={"since": local, "until": local})
    assert (wrong.status_code, "has to come after" in wrong.text) == (422, True)
    assert guard.get("/events", params={"kind": "nonsense"}).status_code == 422


def test_a_name_in_the_list_leads_through_the_reason(hub: RunningHub, guard: httpx.Client) -> None:
    """Who may see names gets them, audited, and a link that asks why; who may not sees that it was somebody."""
    page = guard.get("/events", params={"kind": "taps"}).text
    link = re.findall(r'href="(/cardholders/[^"]+/movements)"', page)[0]
    assert "Why do you need to see this?" in text_of(guard.get(link).text)
    with hub.signed_in(Role.AUDITOR) as auditor, hub.token(Role.AUDITOR) as program:
        assert "Mensah" not in auditor.get("/events").text
        assert any("Somebody" in each for each in rows(auditor, kind="taps"))
        entries = program.get("/api/v1/audit", params={"limit": 20}).json()["entries"]
    assert ("names.read", "events") in {(each["action"], each["subject"]) for each in entries}


def test_events_of_other_sites_are_not_there(hub: RunningHub) -> None:
    """An operator of one site is offered its doors, and another's answer as if they were not there."""
    with hub.signed_in(Role.GUARD, sites=frozenset({SiteId(ELSEWHERE)})) as far:
        assert rows(far) == []
        assert "Front door" not in far.get("/events").text
        assert far.get("/events", params={"door": "front"}).status_code == 404
        assert far.get("/events", params={"site": "test-site"}).status_code == 404


def test_long_lists_are_paged_to_their_end(
    hub: RunningHub, guard: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event stands on one page, whatever their number; so does each tap of a person."""
    monkeypatch.setattr(events_page, "PER_PAGE", 2)
    monkeypatch.setattr(movements, "TAPS_SHOWN", 2)

    def walked(address: str, mark: str, further: str) -> list[str]:
        found: list[str] = []
        for _ in range(50):
            page = guard.get(address).text
            found += re.findall(mark, page)
            link = re.search(rf'href="([^"]+)">{further}<', page)
            if link is None:
                return found
            address = str(httpx.URL(address).join(html.unescape(link[1])))
        raise AssertionError(found)

    seen = walked("/events?door=back", r'id="(event-\d+)"', "Older events")
    with hub.token(Role.GUARD) as program:
        every = program.get("/api/v1/events", params={"door": "back"}).json()["events"]
    assert seen == [f"event-{each['id']}" for each in reversed(every)]
    person = next(each["cardholder_id"] for each in every if each["cardholder_id"])
    taps = walked(f"/cardholders/{person}/movements?reason=test+of+pages", r'id="(tap-\d+)"', "Older taps")
    assert len(taps) == len(set(taps)) == 2  # the next page asks for the reason again


def test_an_export_holds_what_the_list_shows(guard: httpx.Client) -> None:
    """The form of the page asks for the same choice, and needs a reason."""
    page = guard.get("/events", params={"decision_reason": "outside_schedule", "door": "front"}).text
    form = page[page.index('action="/api/v1/events/export"') :]
    asked = re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', form)
    export = guard.get("/api/v1/events/export", params=[*asked, ("reason", "police report 12")])
    assert export.status_code == 200, export.text
    (told,) = (line for line in export.text.splitlines() if "access_" in line)
    assert "outside_schedule" in told


# -- the live page without scripts ------------------------------------------------------------------


def test_the_live_page_is_filtered_by_its_address(hub: RunningHub, guard: httpx.Client) -> None:
    """A door and a kind in the query are chosen, and hide the rest, before any script runs; hidden alarms are counted."""
    page = guard.get("/", params={"door": "front"}).text
    assert re.search(r'<option value="front" selected>', page)
    assert re.search(r'id="door-back"[^>]* hidden', page)
    assert not re.search(r'id="door-front"[^>]* hidden', page)
    shown = [each for each in re.findall(r'<li class="tap[^>]*>', page) if " hidden" not in each]
    assert shown
    assert all('data-doors="front"' in each for each in shown)
    assert re.search(r'id="filtered" data-text="[^"]*">[^<]* [1-9]', page)
    assert 'href="/events?kind=taps&amp;door=front"' in page
    assert re.search(r'id="filtered" hidden', guard.get("/", params={"kind": "nonsense"}).text)


# -- controllers ------------------------------------------------------------------------------------


def test_a_controller_says_how_it_is_and_what_it_holds(hub: RunningHub) -> None:
    """The list says which are away; one's page says when it was heard of, its clock, versions, doors and their record."""
    hub.until_confirmed()
    with hub.signed_in(Role.TECHNICIAN) as technician:
        page = text_of(technician.get("/controllers").text)
        assert "1 of 3 is not connected" in page
        assert re.search(r"front test-site Online heard .{1,20} trusted version \d+, up to date", page)
        assert "far" not in text_of(technician.get("/controllers", params={"site": "test-site"}).text).split()
        one = text_of(technician.get("/controllers/front").text)
        for said in (
            "Last heard of",
            "Clock trusted",
            "up to date, confirmed",
            "Front door",
            "Record Complete",
        ):
            assert said in one, said
    with hub.signed_in(Role.TECHNICIAN, sites=frozenset({SiteId(ELSEWHERE)})) as far:
        assert "front" not in text_of(far.get("/controllers").text)
        assert far.get("/controllers/front").status_code == 404
    with hub.signed_in(Role.AUDITOR) as auditor:
        assert "Withdraw" not in auditor.get("/controllers/front").text
        form = {"csrf_token": csrf_of(auditor.get("/controllers/front").text), "reason": "Broken"}
        assert auditor.post("/controllers/front/withdraw", data=form).status_code == 403


def test_a_door_is_moved_and_its_controller_withdrawn_by_form(hub: RunningHub) -> None:
    """Both need a reason and a confirmation, are audited with it, and say what is not known afterwards."""
    hub.door("old", "Shed", connect=False)
    hub.door("new", "Barn", connect=False)
    with hub.signed_in(Role.TECHNICIAN) as technician, hub.token(Role.AUDITOR) as auditor:
        token = csrf_of(technician.get("/controllers/old").text)
        form = {"csrf_token": token, "door_id": "old", "to": "new", "reason": "Lightning", "confirmed": "yes"}
        assert technician.post("/controllers/old/withdraw", data={"reason": "Lightning"}).status_code == 403
        for wrong in ({"reason": ""}, {"confirmed": ""}, {"to": "far"}, {"to": "nowhere"}):
            assert technician.post("/controllers/old/move", data=form | wrong).status_code == 422, wrong
        answer = technician.post("/controllers/old/withdraw", data=form)
        assert answer.status_code == 422  # a field too many
        answer = technician.post(
            "/controllers/old/withdraw",
            data={"csrf_token": token, "reason": "Lightning", "confirmed": "yes"},
        )
        assert answer.headers["location"] == "/controllers/old?done=withdrawn"
        assert "Withdrawn: move its doors" in text_of(technician.get("/controllers").text)
        assert (
            technician.post("/controllers/old/move", data=form).headers["location"].endswith("new?done=moved")
        )
        assert "Shed" in text_of(technician.get("/controllers/new").text)
        assert "Withdrawn: move its doors" not in text_of(technician.get("/controllers").text)
        log = auditor.get("/api/v1/audit", params={"limit": 20}).json()["entries"]
    said = {(each["action"], each["subject"], each["reason"]) for each in log}
    assert {
        ("door.move", "door:old", "Lightning"),
        ("controller.withdraw", "controller:old", "Lightning"),
    } <= said


# -- documents --------------------------------------------------------------------------------------


def test_documents_say_which_door_holds_what_and_how_old_it_is(hub: RunningHub) -> None:
    """Each door with the version it confirmed, since when, its bound, and when that stops every card there."""
    front = hub.controllers["front"]
    hub.until_confirmed()
    with hub.signed_in(Role.GUARD) as guard, hub.token(Role.SITE_MANAGER) as manager:
        every = text_of(guard.get("/documents").text)
        assert re.search(r"Elsewhere 0 of 1 .*test-site \d of \d", every)
        assert "data-stream" not in guard.get("/documents").text
        front.confirms = False
        try:
            assert manager.patch("/api/v1/doors/front", json={"name": "Main door"}).status_code == 200
            card = hub.card("Yusuf", "Haddad")
            block = {"status": "suspended", "reason": "Lost it"}
            assert manager.post(f"/api/v1/cards/{card}/block", json=block).status_code == 200
            here = text_of(guard.get("/documents", params={"site": "test-site"}).text)
            assert re.search(r"Main door .*?version \d+, lacks version \d+ since .*? made \d+", here)
            assert (
                "refuses every card after 4 h by what it has confirmed, no card opens it from then on" in here
            )
            assert "because a card was blocked" in here
            part = guard.get("/documents/test-site/doors").text
            assert part.startswith('<section class="stack" id="documents-doors"')
        finally:
            front.confirms = True
            front.hello()
            manager.patch("/api/v1/doors/front", json={"name": "Front door"})
    with hub.signed_in(Role.GUARD, sites=frozenset({SiteId(ELSEWHERE)})) as far:
        assert "Far door" in far.get("/documents").text
        assert far.get("/documents", params={"site": "test-site"}).status_code == 404
        assert far.get("/documents/test-site/doors").status_code == 404
