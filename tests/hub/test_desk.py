"""The identification desk: who is signed on, what they see of a card and for how long, and who sees nothing."""

from __future__ import annotations

import io
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from PIL import Image

from hub.pages import desk as desk_pages
from hub.roles import Role
from pacs.identifiers import SiteId
from simulator.desk import DeskPage
from tests.hub.running import RunningHub, running_hub
from tests.hub.station import FakeStation, card_of

NAME = "Tigist"
Received = queue.SimpleQueue[tuple[int, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("desk")) as running:
        yield running


@pytest.fixture(scope="module")
def station(hub: RunningHub) -> FakeStation:
    return FakeStation(hub, "front-desk")


@pytest.fixture(autouse=True)
def _pages_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_pages, "LOOK_S", 0.2)


@contextmanager
def operator(hub: RunningHub, name: str = "Guard", role: Role = Role.GUARD) -> Iterator[DeskPage]:
    """Somebody at their browser."""
    page = DeskPage(hub.url, hub.link(role), f"{name} {hub.clock().timestamp()}")
    yield page
    page.close()


@pytest.fixture
def guard(hub: RunningHub, station: FakeStation) -> Iterator[DeskPage]:
    """Signed on to the front desk."""
    with operator(hub) as page:
        assert page.sign_on("front-desk", take_over=True) == 303
        yield page


def event(received: Received, wanted: str) -> dict[str, Any]:
    while True:
        _, kind, data = received.get(timeout=20)
        if kind == wanted:
            return data


def picture() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (60, 80), "teal").save(held, "JPEG")
    return held.getvalue()


def photographed(hub: RunningHub) -> tuple[str, Any]:
    """Somebody with a photograph and messages waiting; the person's id, and the card."""
    credential = hub.card(NAME, "Abebe")
    with hub.token() as program:
        person = program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        facts = {"room": "B-12", "messages_waiting": True, "extended_opening": True}
        changed = program.patch(f"/api/v1/cardholders/{person}", json=facts)
        assert changed.json()["messages_waiting"] is True
        sent = program.put(
            f"/api/v1/cardholders/{person}/photo", content=picture(), headers={"content-type": "image/jpeg"}
        )
        assert sent.is_success
    return person, card_of(hub, credential)


def entries(hub: RunningHub, action: str) -> list[dict[str, Any]]:
    with hub.token() as program:
        every = program.get("/api/v1/audit", params={"limit": 100}).json()["entries"]
    return [each for each in every if each["action"] == action]


def test_a_card_is_shown_with_its_holder(hub: RunningHub, station: FakeStation, guard: DeskPage) -> None:
    """Name, room, flags, messages and photograph, for so many seconds; a look is audited by ids."""
    person, card = photographed(hub)
    with guard.watching() as received:
        station.tap(card)
        look = event(received, "look")
    assert (look["said"], look["shown_s"]) == (f"{NAME} Abebe: Valid", 30)
    for text in (NAME, "B-12", "Doors stay unlocked longer", "<strong>Yes</strong>", "no end set"):
        assert text in look["html"]
    entry = entries(hub, "desk.look")[0]
    assert entry["subject"] == f"cardholder:{person}"
    assert entry["detail"] == {
        "station": "front-desk",
        "result": "valid",
        "card": str(card.credential_id),
    }
    assert entry["actor"].startswith("operator:")


def test_a_photograph_is_looked_at_once(hub: RunningHub, station: FakeStation, guard: DeskPage) -> None:
    """By the session that saw the tap, before its time is over; and no browser keeps it."""
    _, card = photographed(hub)
    with guard.watching() as received, operator(hub, "Other") as other:
        station.tap(card)
        path = address(event(received, "look"))
        assert other.get(path).status_code == 404
        answer = guard.get(path)
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["cache-control"] == "no-store"
        assert guard.get(path).status_code == 404
        station.tap(card)
        late = address(event(received, "look"))
        hub.clock.ahead += timedelta(seconds=31)
        assert guard.get(late).status_code == 404
        hub.clock.ahead -= timedelta(seconds=31)


def address(look: dict[str, Any]) -> str:
    found: str = look["html"].partition('src="')[2].partition('"')[0]
    assert found.startswith("/desk/photo/")
    return found


def test_a_desk_is_taken_over_on_purpose_only(hub: RunningHub, station: FakeStation, guard: DeskPage) -> None:
    """The second operator is told who is there; once they take over, the first page ends."""
    with operator(hub, "Colleague") as colleague, guard.watching() as received:
        assert colleague.sign_on("front-desk") == 409
        assert "Take over" in colleague.get("/desk").text
        assert colleague.sign_on("front-desk", take_over=True) == 303
        assert event(received, "over") == {"why": "taken_over"}
        with colleague.watching() as theirs:
            station.tap(card_of(hub, hub.card()))
            assert event(theirs, "look")["said"] == "Ama Mensah: Valid"
        assert guard.get("/desk/stream").status_code == 404


def test_one_page_of_a_browser_shows_cards(hub: RunningHub, station: FakeStation, guard: DeskPage) -> None:
    """The one that was opened last."""
    with guard.watching() as first, guard.watching() as second:
        assert event(first, "over") == {"why": "elsewhere"}
        station.tap(card_of(hub, hub.card()))
        event(second, "look")


def test_an_idle_operator_is_signed_off(hub: RunningHub, station: FakeStation, guard: DeskPage) -> None:
    """After the site's time without a card; a card then is shown to nobody, and counted."""
    with hub.token() as program:
        changed = program.patch(
            "/api/v1/sites/test-site", json={"desk_shown_s": 10, "desk_idle_s": 600}
        ).json()
        assert (changed["desk_shown_s"], changed["desk_idle_s"]) == (10, 600)
        assert program.patch("/api/v1/sites/test-site", json={"desk_shown_s": 4}).status_code == 422
        with guard.watching() as received:
            hub.clock.ahead += timedelta(minutes=9)
            assert station.tap(card_of(hub, hub.card())).json()["signed_on"] is True
            assert event(received, "look")["shown_s"] == 10
            hub.clock.ahead += timedelta(minutes=9)
            station.tap(card_of(hub, hub.card()))
            event(received, "look")
            hub.clock.ahead += timedelta(minutes=11)
            assert event(received, "over") == {"why": "idle"}
        before = unseen(program)
        looks = len(entries(hub, "desk.look"))
        assert station.tap(card_of(hub, hub.card())).json()["signed_on"] is False
        assert unseen(program) == before + 1
        assert len(entries(hub, "desk.look")) == looks
    assert "Nobody is signed on." in guard.get("/desk").text


def unseen(program: httpx.Client) -> int:
    (station,) = (
        each for each in program.get("/api/v1/stations").json()["stations"] if each["id"] == "front-desk"
    )
    count: int = station["unseen_taps"]
    return count


@pytest.mark.parametrize("how", ["sign_off", "disabled"])
def test_whoever_may_no_longer_sees_nothing(
    hub: RunningHub, station: FakeStation, guard: DeskPage, how: str
) -> None:
    """Signed off, or shut out while the page is open: the next card ends the page, and names nobody."""
    with guard.watching() as received:
        if how == "sign_off":
            guard.sign_off()
        else:
            actor = entries(hub, "desk.sign_on")[0]["actor"].removeprefix("operator:")
            hub.operators.set_disabled(actor, disabled=True, now=hub.clock())
        looks = len(entries(hub, "desk.look"))
        station.tap(card_of(hub, hub.card()))
        assert event(received, "over") == {"why": "ended"}
    assert len(entries(hub, "desk.look")) == looks


def test_a_page_that_is_closed_counts_as_nobody(
    hub: RunningHub, station: FakeStation, guard: DeskPage
) -> None:
    """Nothing is kept to be shown when it opens again."""
    with guard.watching():
        pass
    for _ in range(200):
        if station.heartbeat().json()["signed_on"] is False:
            break
    assert station.tap(card_of(hub, hub.card())).json()["signed_on"] is False
    with guard.watching() as received:
        station.not_read()
        assert event(received, "look")["said"].startswith("Not read")


def test_only_those_of_the_desk_sign_on(hub: RunningHub, station: FakeStation) -> None:
    """Not a technician, not somebody of another site, not a program, and to no kiosk."""
    FakeStation(hub, "kiosk", kind="kiosk")
    with hub.signed_in(Role.TECHNICIAN) as technician:
        assert technician.get("/desk").status_code == 403
    with hub.token() as program:
        program.post("/api/v1/sites", json={"id": "elsewhere", "name": "Elsewhere"})
        assert program.get("/desk/stream").status_code == 422
    away = DeskPage(hub.url, hub.link(Role.GUARD, sites=frozenset({SiteId("elsewhere")})), "Away")
    assert away.sign_on("front-desk") == 404
    assert "Front-Desk" not in away.get("/desk").text
    away.close()
    with operator(hub) as page:
        assert page.sign_on("kiosk") == 404
        assert page.get("/desk/stream").status_code == 404


def test_a_page_says_when_its_reader_falls_silent(
    hub: RunningHub, station: FakeStation, guard: DeskPage
) -> None:
    """Nobody waits for a card that cannot be read."""
    station.heartbeat()
    with guard.watching() as received:
        hub.clock.ahead += timedelta(seconds=61)
        assert event(received, "reader") == {"heard": False}
        station.heartbeat()
        assert event(received, "reader") == {"heard": True}
