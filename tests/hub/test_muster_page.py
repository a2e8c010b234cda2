from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from hub.api.muster import made as muster_of
from hub.pages import muster
from hub.roles import Role
from hub.store import controllers
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId, SiteId
from pacs.rules import Side
from tests.hub.controller import eventually
from tests.hub.databases import make_site
from tests.hub.running import RunningHub, running_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tests.hub.controller import FakeController


def passes(door: FakeController, card: CredentialId, side: Side = Side.ENTRY) -> None:
    """Somebody is granted, and the door opens."""
    door_id = DoorId(door.id)
    door.record(EventKind.ACCESS_GRANTED, door_id=door_id, side=side, credential_id=card)
    door.record(EventKind.DOOR_OPENED, door_id=door_id)
    door.record(EventKind.DOOR_CLOSED, door_id=door_id)


def inhabited(hub: RunningHub) -> FakeController:
    """A house with one door that has a reader on either side: one person in, one out, one never seen."""
    front = hub.door("front", "Front door")
    with hub.token() as program:
        house = {"id": "house", "name": "House <b>One</b>"}
        assert program.post("/api/v1/areas", json=house).status_code == 201
        assert program.patch("/api/v1/doors/front", json={"area": "house"}).status_code == 200
    with hub.database.write() as connection:
        health = {"doors": [], "readers": [{"reader": "front/exit"}]}
        controllers.said(connection, front.id, health=health)
    front.record(EventKind.CONTROLLER_STARTED)
    ama, yusuf = hub.card("Ama", "Mensah"), hub.card("Yusuf", "Haddad")
    hub.card("Never", "Seen", "staff")
    passes(front, ama)
    passes(front, yusuf)
    passes(front, yusuf, Side.EXIT)
    front.until_acknowledged()
    front.heartbeat()
    return front


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("muster")) as running:
        yield running


@pytest.fixture(scope="module")
def front(hub: RunningHub) -> FakeController:
    return inhabited(hub)


def called(hub: RunningHub) -> dict[str, Any]:
    with hub.token(Role.GUARD) as guard:
        answer = guard.get("/api/v1/muster")
    assert answer.status_code == 200, answer.text
    (muster,) = answer.json()["musters"]
    assert isinstance(muster, dict)
    return muster


def test_the_roll_says_who_is_inside_who_left_and_who_cannot_be_told(
    hub: RunningHub, front: FakeController
) -> None:
    """Through the real ingest: in, out, never seen; then the door falls silent and nobody is claimed any more."""
    muster = called(hub)
    (house,) = muster["areas"]
    assert [each["name"] for each in house["people"]] == ["Ama Mensah"]
    assert [each["name"] for each in muster["left"]] == ["Yusuf Haddad"]
    assert [(each["name"], each["why"]) for each in muster["unknown"]] == [("Never Seen", "never_seen")]
    assert house["as_of"] is not None
    front.drop()
    eventually(lambda: not called(hub)["left"], "the door is offline")
    muster = called(hub)
    assert muster["areas"][0]["people"] == []
    told = {each["name"]: (each["why"], each["cause"]) for each in muster["unknown"]}
    assert told["Ama Mensah"] == told["Yusuf Haddad"] == ("record", "offline")
    assert muster["unknown"][0]["last"] is not None
    front.connect()
    front.wait_online()
    front.heartbeat()
    eventually(lambda: called(hub)["left"], "the door is back, and nothing happened meanwhile")


def test_the_page_can_be_read_without_a_script_and_is_audited(hub: RunningHub, front: FakeController) -> None:
    """Names are text, what cannot be known is said, and the look is in the audit log; a technician may not look."""
    with hub.signed_in(Role.GUARD) as guard:
        page = guard.get("/muster").text
    assert "Ama Mensah" in page
    assert "House &lt;b&gt;One&lt;/b&gt;" in page
    assert "Count heads" in page
    assert "no passage on record" in page
    with hub.signed_in(Role.TECHNICIAN) as technician:
        assert technician.get("/muster").status_code == 403
    with hub.token(Role.AUDITOR) as auditor:
        entries = auditor.get("/api/v1/audit", params={"limit": 50}).json()["entries"]
    assert "muster.read" in {each["action"] for each in entries}


def test_a_persons_page_asks_why_and_says_what_is_not_known(hub: RunningHub, front: FakeController) -> None:
    """First the form; with a reason where she was last on record, as of when, and what no record has."""
    with hub.signed_in(Role.GUARD) as guard:
        (card,) = re.findall(r'href="(/cards/[^"]+)"[^>]*><bdi>Ama Mensah', guard.get("/cards").text)
        (address,) = re.findall(r'href="(/cardholders/[^"]+/movements)"', guard.get(card).text)
        asked = guard.get(address)
        assert "Front door" not in asked.text
        shown = guard.get(address, params={"reason": "her child is looking for her"}).text
    assert "Front door, entry" in shown.replace("<bdi>Front door</bdi>", "Front door")
    assert "the controller was not running" in shown
    assert "one can pass without a tap" in shown
    with hub.token(Role.AUDITOR) as auditor:
        entries = auditor.get("/api/v1/audit", params={"limit": 50}).json()["entries"]
    reasons = [each["reason"] for each in entries if each["action"] == "movements.read"]
    assert reasons == ["her child is looking for her"]


def test_a_site_elsewhere_has_its_own_clock(hub: RunningHub, front: FakeController) -> None:
    """On the page and in its copy every time is that of the site whose list it is, and the zone is named."""
    assert front.id == "front"
    with hub.database.write() as connection:
        make_site(connection, SiteId("tokyo"), "Asia/Tokyo")
    with hub.signed_in(Role.GUARD) as guard:
        page = guard.get("/muster").text
    services = hub.app.state.services
    copies = muster.files(hub.app.state.pages_by_language["en"], muster_of(services))
    for text in (page, copies["muster-tokyo.html"].decode()):
        (made,) = re.findall(r'Made at <time datetime="([^"]+)">([^<]+)</time> \(Asia/Tokyo\)', text)
        there = datetime.fromisoformat(made[0]).astimezone(ZoneInfo("Asia/Tokyo"))
        assert made[1] == f"{there:%Y-%m-%d %H:%M:%S}"
    assert "(Europe/Amsterdam)" in page
    assert "Tokyo" not in copies["muster-test-site.html"].decode()
