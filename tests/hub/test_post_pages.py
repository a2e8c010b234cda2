"""Posts over a real server and broker: signing on by page and card, who is shown and to whom, and what programs may."""

from __future__ import annotations

import json
import queue
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from hub.pages import posts as post_pages
from hub.roles import Role
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.station import FakeStation, card_of
from tests.hub.test_desk import entries, photographed

POST = {"name": "Gate", "door_ids": ["front"], "shown_s": 10}
Received = queue.SimpleQueue[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("posts")) as running:
        running.door("front", "Front door")
        with running.token() as program:
            assert program.put("/api/v1/posts/gate", json=POST).status_code == 200
        yield running


@pytest.fixture(autouse=True)
def _pages_look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post_pages, "LOOK_S", 0.2)


class AtPost:
    """Somebody at their browser."""

    def __init__(self, hub: RunningHub, role: Role = Role.GUARD) -> None:
        self.browser = hub.signed_in(role)

    def do(self, what: str, **form: str) -> int:
        token = csrf_of(self.browser.get("/posts/gate").text)
        return self.browser.post(f"/posts/gate/{what}", data={"csrf_token": token, **form}).status_code

    @contextmanager
    def watching(self) -> Iterator[Received]:
        """What the page receives while it is open."""
        received: Received = queue.SimpleQueue()
        with self.browser.stream("GET", "/posts/gate/stream", timeout=None) as stream:
            assert stream.status_code == 200
            thread = threading.Thread(target=_receive, args=(stream, received), daemon=True)
            thread.start()
            event(received, "standing")
            try:
                yield received
            finally:  # to close alone would wait for the thread that reads
                stream.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                thread.join(20)


def _receive(stream: httpx.Response, received: Received) -> None:
    kind = ""
    try:
        for line in stream.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                received.put((kind, json.loads(line.removeprefix("data: "))))
    except (httpx.HTTPError, httpx.StreamError, OSError):
        return


def event(received: Received, wanted: str) -> dict[str, Any]:
    while True:
        kind, data = received.get(timeout=20)
        if kind == wanted:
            return data


@pytest.fixture
def guard(hub: RunningHub) -> Iterator[AtPost]:
    """Signed on at the gate, and gone from there afterwards."""
    page = AtPost(hub)
    assert page.do("sign-on", take_over="true") == 303
    yield page
    page.do("sign-off")
    page.browser.close()


def passes(hub: RunningHub, credential: CredentialId, *, watched: bool = True, **fields: Any) -> None:
    """Somebody opens the front door by their card."""
    said: dict[str, Any] = {
        "door_id": DoorId("front"), "side": Side.ENTRY, "credential_id": credential,
        "reason": Reason.ENTITLED, "details": {"watched": True} if watched else {},
    }  # fmt: skip
    hub.controllers["front"].record(EventKind.ACCESS_GRANTED, **said | fields)


def test_who_passes_is_shown_once_and_not_by_name_in_full(hub: RunningHub, guard: AtPost) -> None:
    """First name, door and photograph, which is looked at once; the look is on record without names."""
    person, card = photographed(hub)
    with guard.watching() as received:
        passes(hub, card.credential_id)
        look = event(received, "look")
        assert (look["said"], look["shown_s"]) == ("Front door: Tigist, Was let in", 10)
        assert "Abebe" not in look["html"]
        path = look["html"].partition('src="')[2].partition('"')[0]
        with AtPost(hub).browser as other:
            assert other.get(path).status_code == 404
        picture = guard.browser.get(path)
        assert (picture.headers["content-type"], picture.headers["cache-control"]) == (
            "image/jpeg",
            "no-store",
        )
        assert guard.browser.get(path).status_code == 404
    entry = entries(hub, "post.look")[0]
    assert (entry["subject"], entry["detail"]["post"]) == (f"cardholder:{person}", "gate")
    assert "Tigist" not in str(entry)


def test_who_was_not_watched_or_passed_long_ago_is_not_shown(hub: RunningHub, guard: AtPost) -> None:
    """A door without its hub watches nobody, and what it tells later is no news; nothing of it is looked at."""
    looks = len(entries(hub, "post.look"))
    last = hub.card("Hana")
    with guard.watching() as received:
        passes(hub, hub.card("Yonas"), watched=False)
        passes(hub, hub.card("Ruth"), occurred_at=hub.clock() - timedelta(minutes=2))
        passes(hub, last)
        assert event(received, "look")["said"] == "Front door: Hana, Was let in"
    assert len(entries(hub, "post.look")) == looks + 1


def test_a_colleague_takes_over_on_purpose_only(hub: RunningHub, guard: AtPost) -> None:
    """They are told who is there; the first page ends, and cannot answer for them."""
    colleague = AtPost(hub)
    with guard.watching() as received:
        assert colleague.do("sign-on") == 409
        assert colleague.do("sign-on", take_over="true") == 303
        assert event(received, "over") == {"why": "taken_over"}
    assert guard.do("here") == 404
    assert colleague.do("here") == 303
    assert colleague.do("sign-off") == 303
    colleague.browser.close()


def test_a_post_is_not_changed_under_who_watches(hub: RunningHub, guard: AtPost) -> None:
    """Nor removed; the list says who and how it stands at the door."""
    assert "Sign off" in guard.browser.get("/posts/gate").text
    with hub.token(Role.SITE_MANAGER) as manager:
        found = manager.get("/api/v1/posts/gate").json()
        assert found["doors"][0]["standing"] in ("opening", "open")
        assert found["watched"]["name"].startswith("Somebody")
        for refused in (manager.put("/api/v1/posts/gate", json=POST), manager.delete("/api/v1/posts/gate")):
            assert (refused.status_code, refused.json()["code"]) == (409, "in_use")


def test_a_card_that_admits_others_signs_on_at_the_post(hub: RunningHub) -> None:
    """Held to the reader beside its page; any other card does nothing, and none does without a page."""
    station = FakeStation(hub, "gatehouse")
    with hub.token(Role.ADMINISTRATOR) as program:
        level = {"id": "guards", "name": "Guards", "rules": []}
        assert program.post("/api/v1/access-levels", json=level).status_code == 201
        assert program.patch("/api/v1/doors/front", json={"admitting_levels": ["guards"]}).is_success
        assert program.put("/api/v1/posts/gate", json=POST | {"station_id": "gatehouse"}).is_success
        credential = hub.card("Wilhelmina", category="staff")
        person = program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"]
        program.patch(f"/api/v1/cardholders/{person}", json={"access_level_ids": ["guards"]})

        def watched() -> Any:
            return program.get("/api/v1/posts/gate").json()["watched"]

        page = AtPost(hub)
        with page.watching() as received:
            station.tap(card_of(hub, hub.card()))
            assert station.tap(card_of(hub, credential)).json()["signed_on"] is True
            event(received, "changed")
        first = watched()["ask_at"]
        assert entries(hub, "post.sign_on")[0]["detail"] == {"card": str(credential)}
        with page.watching() as received:
            station.tap(card_of(hub, credential))
            assert event(received, "standing")["ask_at"] > first
        assert page.do("sign-off") == 303
        hub.clock.ahead += timedelta(seconds=20)
        assert station.tap(card_of(hub, credential)).json()["signed_on"] is False
        assert watched() is None
        hub.clock.ahead -= timedelta(seconds=20)
        page.browser.close()


def test_the_page_sets_a_post_up(hub: RunningHub) -> None:
    """With the own mode of its doors, to which they return; what is not right is said, and a guard may not."""
    hub.door("side", "Side door")
    manager = hub.signed_in(Role.SITE_MANAGER)
    typed = {
        "csrf_token": csrf_of(manager.get("/posts").text), "name": "Side", "door": "side",
        "asks_every_min": "10", "answer_within_s": "30", "shown_s": "5", "when_closed": "attended",
    }  # fmt: skip
    assert manager.post("/posts", data=typed).status_code == 303
    assert manager.post("/posts", data=typed).status_code == 422  # the door belongs to it
    assert manager.post("/posts", data=typed | {"door": "attic"}).status_code == 422
    found = next(each for each in manager.get("/api/v1/posts").json()["posts"] if each["name"] == "Side")
    assert (found["when_closed"], found["doors"][0]["mode"], found["asks_every_s"]) == (
        "attended",
        "attended",
        600,
    )
    changed = typed | {"when_closed": "unattended", "name": "Side gate"}
    assert manager.post(f"/posts/{found['id']}", data=changed).status_code == 303
    again = manager.get(f"/api/v1/posts/{found['id']}").json()
    assert (again["name"], again["when_closed"]) == ("Side gate", "unattended")
    with AtPost(hub).browser as guard:
        form = typed | {"csrf_token": csrf_of(guard.get("/posts").text)}
        assert guard.post("/posts", data=form).status_code == 403
    removal = {"csrf_token": typed["csrf_token"]}
    assert manager.post(f"/posts/{found['id']}/remove", data=removal).status_code == 303
    assert manager.get(f"/api/v1/posts/{found['id']}").status_code == 404
    manager.close()


def test_programs_watch_nowhere(hub: RunningHub) -> None:
    """Only a browser that somebody is signed in with can show who passes."""
    with hub.token(Role.GUARD) as program:
        assert program.get("/posts/gate/stream").status_code == 422
        assert program.post("/posts/gate/sign-on", data={"take_over": "true"}).status_code == 422
        assert program.get(f"/posts/gate/photo/{secrets.token_urlsafe(32)}").status_code == 422


def test_signing_out_closes_the_post(hub: RunningHub) -> None:
    """Its doors are told so, and the list says why."""
    page = AtPost(hub)
    assert page.do("sign-on", take_over="true") == 303
    token = csrf_of(page.browser.get("/posts/gate").text)
    assert page.browser.post("/sign-out", data={"csrf_token": token}).status_code == 303
    with hub.token() as program:

        def ended() -> bool:
            found = program.get("/api/v1/posts/gate").json()
            return found["watched"] is None and found["ended"] == "session_over"

        eventually(ended, "the post closed")
    page.browser.close()
