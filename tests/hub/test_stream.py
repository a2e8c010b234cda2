"""The live stream: what is sent, to whom, from where it goes on, and that nobody slows it down."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.api import access
from hub.api import feed as feed_module
from hub.api import stream as stream_module
from hub.api.door_status import DoorStatus
from hub.api.feed import Feed, Variant, Viewer
from hub.api.problems import Problem
from hub.api.taps import EventAnswer
from hub.live import ControllerChanged, EventStored, LiveBus
from hub.operators import SESSION_IDLE
from hub.roles import Role
from hub.store import events
from hub.store.controllers import SILENT_AFTER
from pacs.identifiers import ControllerId
from pacs.reason import Reason
from tests.hub.controller import DEADLINE_S, eventually
from tests.hub.running import RunningHub, running_hub, tap


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("stream")) as running:
        running.door("front", "Front door")
        running.until_confirmed()
        yield running


class Listener:
    """Reads a stream in a thread: ``(event, id, data)`` each."""

    def __init__(self, client: httpx.Client, path: str, headers: dict[str, str]) -> None:
        self.events: list[tuple[str, str | None, Any]] = []
        self.status: int | None = None
        self.ended = threading.Event()
        self._client = client
        self._path = path
        self._headers = headers
        self._response: httpx.Response | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            with self._client.stream("GET", self._path, headers=self._headers, timeout=60) as answer:
                self._response, self.status = answer, answer.status_code
                fields: dict[str, str] = {}
                for line in answer.iter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = value
                    elif "event" in fields:
                        data = json.loads(fields["data"])
                        self.events.append((fields["event"], fields.get("id"), data))
                        fields = {}
                    else:
                        fields = {}
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    def until(self, kind: str, /, **expected: Any) -> tuple[str, str | None, Any]:
        """The first event of this kind with these members."""

        def found() -> tuple[str, str | None, Any] | None:
            for event in list(self.events):
                if event[0] == kind and all(event[2].get(name) == value for name, value in expected.items()):
                    return event
            return None

        event: tuple[str, str | None, Any] = eventually(found, f"{kind} {expected} in {self.events}")
        return event

    def leave(self) -> None:
        """Close the connection, as a browser does when its page is closed."""
        if self._response is not None and not self.ended.is_set():
            connection = self._response.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE_S)


@contextmanager
def listening(client: httpx.Client, path: str = "/api/v1/stream", **headers: str) -> Iterator[Listener]:
    listener = Listener(client, path, {name.replace("_", "-"): value for name, value in headers.items()})
    eventually(lambda: listener.status is not None, "stream open")
    try:
        yield listener
    finally:
        listener.leave()
        client.close()


def test_a_tap_arrives_with_its_door_and_name(hub: RunningHub) -> None:
    """The stream starts with every door; then a tap arrives by itself, and the door's new state."""
    credential = hub.card("Yusuf", "Haddad")
    with listening(hub.token(Role.GUARD)) as listener:
        _, _, door = listener.until("door", id="front")
        assert door["online"]
        tap(hub.controllers["front"], credential, Reason.OUTSIDE_SCHEDULE)
        _, number, seen = listener.until("tap", credential_id=str(credential))
        assert number == str(seen["id"])
        assert (seen["person"], seen["door_name"], seen["reason"]) == (
            "Yusuf Haddad",
            "Front door",
            "outside_schedule",
        )
        eventually(
            lambda: any(
                event[0] == "door" and (event[2]["last_event"] or {}).get("id") == seen["id"]
                for event in listener.events
            ),
            "the door's last event",
        )


def test_a_technician_sees_the_tap_but_not_who(hub: RunningHub) -> None:
    """Without the permission nothing in the stream tells a person."""
    credential = hub.card("Tigist", "Abebe")
    with listening(hub.token(Role.TECHNICIAN)) as listener:
        listener.until("door", id="front")
        tap(hub.controllers["front"], credential)
        _, _, seen = listener.until("tap")
        assert (seen["person"], seen["credential_id"], seen["cardholder_id"]) == (None, None, None)
        assert "Tigist" not in json.dumps(listener.events)
        assert str(credential) not in json.dumps(listener.events)


def test_a_confirmation_arrives(hub: RunningHub) -> None:
    """Blocking a card ends in a confirmation of that version from the door's controller."""
    credential = hub.card()
    with listening(hub.token(Role.GUARD)) as listener, hub.token(Role.GUARD) as guard:
        listener.until("door", id="front")
        body = {"status": "revoked", "reason": "Stolen"}
        version = guard.post(f"/api/v1/cards/{credential}/block", json=body).json()["versions"]["test-site"]
        listener.until("confirmation", controller_id="front", document="revocations", version=version)


def test_it_goes_on_where_a_browser_left_off(hub: RunningHub) -> None:
    """With Last-Event-ID the taps behind it come again, each once and in order; the header beats the address."""
    front, credential = hub.controllers["front"], hub.card()
    with listening(hub.token(Role.GUARD)) as listener:
        listener.until("door", id="front")
        tap(front, credential)
        _, last, _ = listener.until("tap", credential_id=str(credential))
    assert last is not None
    for _ in range(3):
        tap(front, credential)
    front.until_acknowledged()
    with listening(hub.token(Role.GUARD), "/api/v1/stream?after=0", last_event_id=last) as listener:
        tap(front, credential, Reason.OUTSIDE_SCHEDULE)
        listener.until("tap", reason="outside_schedule")
        numbers = [int(number) for kind, number, _ in listener.events if kind == "tap" and number]
        assert numbers == sorted(set(numbers))
        assert len(numbers) == 4
        assert numbers[0] > int(last)


def test_after_too_many_taps_the_viewer_is_told_to_read_again(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap too large to repeat is one ``missed``, not a flood and not silence."""
    monkeypatch.setattr(feed_module, "REPLAYED", 2)
    front, credential = hub.controllers["front"], hub.card()
    with listening(hub.token(Role.GUARD)) as listener:
        for _ in range(3):
            tap(front, credential)
        while len([event for event in listener.events if event[0] == "tap"]) < 3:
            listener.until("tap")
    with listening(hub.token(Role.GUARD), "/api/v1/stream?after=0") as listener:
        listener.until("missed")
        listener.until("door", id="front")
        assert not [event for event in listener.events if event[0] == "tap"]


@pytest.mark.parametrize("sent", ["", "-1", "1e3", "x" * 20, "12 34"])
def test_a_strange_last_event_id_is_ignored(hub: RunningHub, sent: str) -> None:
    """What is not one of our ids starts the stream as if there were none."""
    with listening(hub.token(Role.GUARD), last_event_id=sent) as listener:
        assert listener.status == 200
        listener.until("door", id="front")


def test_a_stream_ends_with_its_session(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page left open does not go on showing things after signing out."""
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_S", 0.2)
    browser = hub.signed_in(Role.GUARD)
    page = browser.get("/").text
    csrf = page.split('name="csrf_token" value="')[1].split('"')[0]
    with listening(browser, "/live/stream") as listener:
        listener.until("door")
        with hub.client(origin=hub.url) as other:
            other.cookies.update(browser.cookies)
            assert other.post("/sign-out", data={"csrf_token": csrf}).status_code == 303
        assert listener.ended.wait(DEADLINE_S)


def test_a_page_left_open_does_not_keep_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream asks again and again whether it may go on; that is not a use, and the session ends idle."""
    monkeypatch.setattr(stream_module, "KEEP_ALIVE_S", 0.1)
    asked = threading.Semaphore(0)
    identify = access.identify

    def counted(request: Any, *, is_use: bool = True) -> Any:
        try:
            return identify(request, is_use=is_use)
        finally:
            asked.release()

    monkeypatch.setattr(stream_module, "identify", counted)
    with running_hub(tmp_path) as hub, hub.signed_in(Role.GUARD) as browser:
        with listening(browser, "/live/stream") as listener:
            eventually(lambda: listener.status == 200, "stream open")
            hub.clock.ahead = SESSION_IDLE * 0.8
            for _ in range(3):
                assert asked.acquire(timeout=DEADLINE_S)
            hub.clock.ahead = SESSION_IDLE * 1.1
            assert listener.ended.wait(DEADLINE_S)
        with hub.client(origin=hub.url) as again:
            again.cookies.update(browser.cookies)
            assert again.get("/doors").status_code == 303


def test_a_door_that_falls_silent_is_shown(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is published, and yet the viewer learns that a door is no longer online, once."""
    monkeypatch.setattr(feed_module, "SWEEP_S", 0.05)
    hub.controllers["front"].heartbeat()
    variant = Variant(tap=Counting(), door=lambda door: json.dumps(door.online), names=False)
    ahead = timedelta()

    async def watch() -> list[bytes]:
        nonlocal ahead
        bus = LiveBus()
        feed = Feed(hub.database, bus, lambda: hub.clock() + ahead, hub.app.state.services.attendance)
        following = asyncio.create_task(feed.follow())
        await asyncio.sleep(0)
        viewer = feed.open(variant, "somebody")
        bus.publish(ControllerChanged(controller_id=ControllerId("front")))
        frames = [await viewer.take(DEADLINE_S) or b""]
        ahead = SILENT_AFTER + timedelta(hours=1)
        frames += await taken(viewer)
        following.cancel()
        return frames

    assert [frame.split(b"data: ")[1].strip() for frame in asyncio.run(watch())] == [b"true", b"false"]


def test_who_leaves_is_forgotten(hub: RunningHub) -> None:
    """A closed page frees its place."""
    feed: Feed = hub.app.state.services.feed
    eventually(lambda: feed.viewers == 0, "earlier viewers are gone")
    client = hub.token(Role.GUARD)
    with listening(client) as listener:
        listener.until("door")
        assert feed.viewers == 1
        listener.leave()
        eventually(lambda: feed.viewers == 0, "viewer forgotten")


def test_stopping_the_hub_ends_open_streams(tmp_path: Path) -> None:
    """An open live page does not keep the server from stopping, or make it wait."""
    with running_hub(tmp_path) as hub:
        client = hub.token(Role.GUARD)
        listener = Listener(client, "/api/v1/stream", {})
        eventually(lambda: listener.status == 200, "stream open")
    assert listener.ended.wait(DEADLINE_S)
    client.close()


# -- without a server -------------------------------------------------------------------------------


class Counting:
    """A rendering that counts how often it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _thing: EventAnswer | DoorStatus) -> str:
        self.asked += 1
        return "{}"


async def taken(viewer: Viewer) -> list[bytes]:
    """All frames that arrive within a moment of the first."""
    frames: list[bytes] = []
    while (frame := await viewer.take(5.0 if not frames else 0.3)) not in (b"", None):
        assert frame is not None
        frames.append(frame)
    return frames


def test_an_event_is_rendered_once_however_many_look(hub: RunningHub) -> None:
    """Twenty viewers of one kind cost one rendering."""
    tap(hub.controllers["front"], hub.card())
    hub.controllers["front"].until_acknowledged()
    tap_text, door_text = Counting(), Counting()
    variant = Variant(tap=tap_text, door=door_text, names=True)

    async def watch() -> list[list[bytes]]:
        bus = LiveBus()
        feed = Feed(hub.database, bus, hub.clock, hub.app.state.services.attendance)
        following = asyncio.create_task(feed.follow())
        await asyncio.sleep(0)
        viewers = [feed.open(variant, "somebody") for _ in range(feed_module.VIEWERS_EACH)]
        with hub.database.read() as connection:
            (newest,) = events.listing(connection, kinds=events.ABOUT_PEOPLE, limit=1, newest_first=True)
        bus.publish(EventStored(id=newest.id, kind=newest.kind, controller_id=newest.controller_id))
        seen = [await taken(viewer) for viewer in viewers]
        with pytest.raises(Problem):
            feed.check_room("somebody")
        following.cancel()
        return seen

    seen = asyncio.run(watch())
    assert len({tuple(frames) for frames in seen}) == 1
    assert [frame.split(b"event: ")[1].split(b"\n")[0] for frame in seen[0]] == [b"tap", b"door"]
    assert (tap_text.asked, door_text.asked) == (1, 1)


def test_a_viewer_who_does_not_keep_up_is_dropped(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded: the slow one is let go, the others go on."""
    monkeypatch.setattr(feed_module, "QUEUE", 8)
    variant = Variant(tap=Counting(), door=lambda _: "{}", names=False)

    async def watch() -> tuple[int, bytes | None, int]:
        bus = LiveBus()
        feed = Feed(hub.database, bus, hub.clock, hub.app.state.services.attendance)
        following = asyncio.create_task(feed.follow())
        await asyncio.sleep(0)
        slow, quick = feed.open(variant, "slow"), feed.open(variant, "quick")
        received = 0
        deadline = time.monotonic() + DEADLINE_S
        while feed.viewers == 2 and time.monotonic() < deadline:
            bus.publish(ControllerChanged(controller_id=ControllerId("front")))
            received += len([frame for frame in [await quick.take(1.0)] if frame])
        last = await slow.take(1.0)
        remaining = feed.viewers
        following.cancel()
        return received, last, remaining

    received, last, remaining = asyncio.run(watch())
    assert received > 8
    assert last is None
    assert remaining == 1
