"""Attended requests over a real broker and server: who sees them, who answers, and what the stream and the list say."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hub.roles import Role
from pacs.commands import Action, open_command
from pacs.events import EventKind
from pacs.identifiers import DoorId, SiteId
from pacs.reason import Reason
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, ask, running_hub
from tests.hub.test_stream import listening


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("attended")) as running:
        running.door("front", "Front door")
        yield running


@pytest.fixture(scope="module")
def guard(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.GUARD) as program:
        yield program


@pytest.fixture(scope="module")
def manager(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.SITE_MANAGER) as program:
        yield program


def there(client: httpx.Client, request_id: str) -> dict[str, Any]:
    """The request, once the hub has it."""
    path = f"/api/v1/attended/{request_id}"
    eventually(lambda: client.get(path).status_code == 200, "the request at the hub")
    found: dict[str, Any] = client.get(path).json()
    return found


def test_who_waits_is_shown_until_the_request_ends(
    hub: RunningHub, guard: httpx.Client, manager: httpx.Client
) -> None:
    """With what matters at a door; once it has ended nothing says who it was."""
    guardian = hub.card("Hodan", "Abdi")
    credential = hub.card("Liban", "Abdi")
    person, of_guardian = (
        manager.get(f"/api/v1/cards/{each}").json()["cardholder_id"] for each in (credential, guardian)
    )
    said = {
        "minor": True,
        "guardian_id": of_guardian,
        "door_note": "Hears badly: speak slowly",
        "extended_opening": True,
        "language": "so",
        "latin_given_name": "Libaan",
    }
    assert manager.patch(f"/api/v1/cardholders/{person}", json=said).status_code == 200
    front = hub.controllers["front"]
    request_id = ask(front, credential)
    found = there(guard, request_id)
    assert (found["state"], found["door_name"], found["reason"]) == ("waiting", "Front door", "door_attended")
    assert found["person"] == {
        "cardholder_id": person,
        "given_name": "Liban",
        "family_name": "Abdi",
        "latin_given_name": "Libaan",
        "language": "so",
        "has_photo": False,
        "extended_opening": True,
        "escort_required": False,
        "minor": True,
        "guardian": "Hodan Abdi",
        "door_note": "Hears badly: speak slowly",
    }
    listed = guard.get("/api/v1/attended").json()
    assert [each["id"] for each in listed["requests"]] == [request_id]
    assert [each["door_id"] for each in listed["completeness"]] == ["front"]
    end(hub, request_id, "timeout")
    eventually(lambda: there(guard, request_id)["state"] == "timeout", "the door's word")
    found = there(guard, request_id)
    assert (found["person"], found["credential_id"], found["said_by_door"]) == (None, None, True)
    assert guard.get("/api/v1/attended").json()["requests"] == []
    kept = guard.get("/api/v1/attended", params={"pending": False, "limit": 1}).json()
    assert [each["id"] for each in kept["requests"]] == [request_id]


def end(hub: RunningHub, request_id: str, outcome: str, reason: Reason | None = None) -> None:
    """The door's word on how a request ended."""
    details = {"request": bytes.fromhex(request_id), "outcome": outcome}
    hub.controllers["front"].record(
        EventKind.REFERRAL_ENDED, door_id=DoorId("front"), reason=reason, details=details
    )


def test_the_second_of_two_guards_is_told_who_and_when(hub: RunningHub, guard: httpx.Client) -> None:
    """The first answer goes to the door, signed; the other gets a problem that names the first one."""
    front = hub.controllers["front"]
    request_id = ask(front, hub.card())
    there(guard, request_id)
    path = f"/api/v1/attended/{request_id}/answer"
    before = len(front.commands)
    given = guard.post(path, json={"answer": "grant", "reason": "Known by sight"})
    assert (given.status_code, given.json()["state"]) == (200, "answered")
    assert guard.post(path, json={"answer": "grant"}).status_code == 200
    with hub.token(Role.RECEPTION) as colleague:
        late = colleague.post(path, json={"answer": "refuse"})
    assert (late.status_code, late.json()["code"]) == (409, "request_answered")
    assert given.json()["answer"]["by"] in late.json()["detail"]
    eventually(lambda: len(front.commands) > before, "the command")
    command = open_command(front.commands[before], front.trusted)
    assert (command.action, command.request_id) == (Action.GRANT, bytes.fromhex(request_id))
    details = {"command": command.command_id, "action": "grant"}
    front.record(EventKind.COMMAND_EXECUTED, door_id=DoorId("front"), details=details)
    end(hub, request_id, "granted")
    eventually(lambda: there(guard, request_id)["state"] == "granted", "the door's word")
    assert there(guard, request_id)["answer"]["state"] == "executed"


def test_who_comes_too_late_is_told(hub: RunningHub, guard: httpx.Client) -> None:
    """Neither a request that the door ended nor one out of a backlog can be answered."""
    front = hub.controllers["front"]
    ended = ask(front, hub.card())
    end(hub, ended, "withdrawn", Reason.CREDENTIAL_SUSPENDED)
    late = ask(front, hub.card(), occurred_at=datetime.now(UTC) - timedelta(minutes=10))
    for request_id, state in ((ended, "withdrawn"), (late, "unanswered")):
        found = there(guard, request_id)
        assert found["state"] == state
        answer = guard.post(f"/api/v1/attended/{request_id}/answer", json={"answer": "grant"})
        assert (answer.status_code, answer.json()["code"]) == (409, "request_over")
    assert there(guard, ended)["outcome_reason"] == "credential_suspended"
    assert there(guard, late)["came_late"]
    nowhere = guard.post(f"/api/v1/attended/{secrets.token_hex(16)}/answer", json={"answer": "grant"})
    assert nowhere.status_code == 404


def test_another_site_and_other_roles_see_nothing(hub: RunningHub, guard: httpx.Client) -> None:
    """A request answers as if it were not there; who may not answer is refused."""
    with hub.token() as administrator:
        administrator.post("/api/v1/sites", json={"id": "elsewhere", "name": "Elsewhere"})
    request_id = ask(hub.controllers["front"], hub.card())
    there(guard, request_id)
    path = f"/api/v1/attended/{request_id}"
    with hub.token(Role.GUARD, sites=frozenset({SiteId("elsewhere")})) as stranger:
        assert stranger.get(path).status_code == 404
        assert stranger.post(f"{path}/answer", json={"answer": "grant"}).status_code == 404
        assert stranger.get("/api/v1/attended").json()["requests"] == []
    for role in (Role.TECHNICIAN, Role.AUDITOR):
        with hub.token(role) as other:
            assert other.get(path).status_code == 403
            assert other.post(f"{path}/answer", json={"answer": "grant"}).status_code == 403
    end(hub, request_id, "timeout")


def test_the_stream_begins_with_who_waits_and_tells_the_rest(hub: RunningHub) -> None:
    """A page that opens late misses nobody; each change arrives by itself; who may not answer hears nothing of it."""
    front = hub.controllers["front"]
    credential = hub.card("Yusuf", "Haddad")
    first = ask(front, credential)
    with hub.token(Role.GUARD) as guard:
        there(guard, first)
    with listening(hub.token(Role.TECHNICIAN)) as technician, listening(hub.token(Role.GUARD)) as listener:
        _, _, begun = listener.until("attended_pending")
        assert begun["pending"] == [first]
        _, _, shown = listener.until("attended", id=first)
        assert shown["person"]["given_name"] == "Yusuf"
        second = ask(front, credential)
        listener.until("attended", id=second, state="waiting")
        end(hub, second, "replaced")
        _, _, ended = listener.until("attended", id=second, state="replaced")
        assert ended["person"] is None
        technician.until("tap")
        assert not [event for event in technician.events if event[0].startswith("attended")]
    with hub.token(Role.AUDITOR) as auditor:
        entries = auditor.get("/api/v1/audit", params={"limit": 500}).json()["entries"]
    shows = [each for each in entries if each["action"] == "attended.show"]
    assert len({(each["actor"], each["detail"]["request"]) for each in shows}) == len(shows)
    assert {first, second} <= {each["detail"]["request"] for each in shows}
    end(hub, first, "timeout")


def test_a_request_that_nobody_could_see_says_so(hub: RunningHub) -> None:
    """Where no page was open when somebody waited, the page that is opened later says that."""
    request_id = ask(hub.controllers["front"], hub.card())
    end(hub, request_id, "timeout")
    with hub.signed_in(Role.GUARD) as browser:

        def shown() -> str:
            found = re.search(f'<li class="end timeout" id="request-{request_id}".*?</li>', page(), re.DOTALL)
            return found[0] if found else ""

        def page() -> str:
            return browser.get("/attended").text

        assert "no page was open" in eventually(shown, "the end of the request on the page")


def test_a_guardian_is_somebody_who_is_there(hub: RunningHub, manager: httpx.Client) -> None:
    """Of a minor only, and forgotten with the person."""
    child, other = (manager.get(f"/api/v1/cards/{hub.card()}").json()["cardholder_id"] for _ in range(2))
    path = f"/api/v1/cardholders/{child}"
    assert manager.patch(path, json={"guardian_id": other}).json()["code"] == "invalid"
    nobody = manager.patch(path, json={"minor": True, "guardian_id": "nobody"})
    assert nobody.json()["code"] == "reference_unknown"
    assert manager.patch(path, json={"minor": True, "guardian_id": child}).json()["code"] == "invalid"
    assert manager.patch(path, json={"minor": True, "guardian_id": other}).json()["guardian_id"] == other
    erased = manager.post(f"/api/v1/cardholders/{other}/erase", json={"reason": "Asked for it"})
    assert erased.is_success, erased.text
    assert manager.get(path).json()["guardian_id"] is None
