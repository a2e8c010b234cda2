"""Looking at a person's movements: never without a reason, and never without an entry in the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from hub.api.access import DeclaredRoute, requires
from hub.api.problems import Code
from hub.api.reasons import REMEMBERED, Because, asks_for_reason, requires_reason
from hub.operators import Principal
from hub.roles import Permission, Role
from hub.store import audit
from hub.store.audit import AuditRow
from pacs.identifiers import CredentialId
from tests.hub.running import RunningHub, csrf_of, routes_of, running_hub, tap
from tests.hub.test_api import problem

WHY = "She asks where her son is"

page = APIRouter(route_class=DeclaredRoute)


@page.get("/movements-of/{cardholder_id}")
def movements(
    cardholder_id: str,
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    because: Annotated[Because, requires_reason()],
    broken: bool = False,
) -> Response:
    """A page that shows three movements."""
    with because.looking_at(principal, f"cardholder:{cardholder_id}") as look:
        look.shown = 3
        if broken:
            raise RuntimeError
    return PlainTextResponse("three movements")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("reasons")) as running:
        running.app.include_router(page)
        running.door("front", "Front door")
        yield running


@pytest.fixture(scope="module")
def ama(hub: RunningHub) -> CredentialId:
    """Somebody who tapped twice, beside somebody else who tapped once."""
    credential = hub.card("Ama", "Mensah")
    for each in (credential, hub.card("Kofi", "Annan"), credential):
        tap(hub.controllers["front"], each)
    hub.controllers["front"].until_acknowledged()
    return credential


def looks(hub: RunningHub) -> list[AuditRow]:
    """The entries about movements, the newest first."""
    with hub.database.read() as connection:
        rows = audit.page(connection, before=None, limit=500)
    return [row for row in rows if row.action == "movements.read"]


def cardholder_of(hub: RunningHub, credential: CredentialId) -> str:
    with hub.token() as program:
        return str(program.get(f"/api/v1/cards/{credential}").json()["cardholder_id"])


def test_one_persons_events_are_shown_for_a_reason_only(hub: RunningHub, ama: CredentialId) -> None:
    """Without one nothing is shown and nothing recorded; with one both, by cardholder and by credential."""
    cardholder = cardholder_of(hub, ama)
    with hub.token(Role.GUARD) as guard:
        for chosen, subject in (
            ({"cardholder": cardholder}, f"cardholder:{cardholder}"),
            ({"credential": str(ama)}, f"card:{ama}"),
        ):
            before = len(looks(hub))
            problem(guard.get("/api/v1/events", params=chosen), Code.REASON_REQUIRED)
            assert len(looks(hub)) == before
            answer = guard.get("/api/v1/events", params=chosen, headers={"x-reason": WHY})
            assert [each["cardholder_id"] for each in answer.json()["events"]] == [cardholder] * 2
            newest = looks(hub)[0]
            assert newest.actor.startswith("token:guard-")
            assert (newest.subject, newest.reason, newest.detail) == (subject, WHY, {"shown": 2})


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"headers": {"x-reason": quote("Eén van de kinderen is zoek")}}, "Eén van de kinderen is zoek"),
        ({"params": {"reason": "  a lost bag  "}}, "a lost bag"),
    ],
)
def test_a_reason_comes_in_a_header_or_a_parameter(
    hub: RunningHub, ama: CredentialId, sent: dict[str, dict[str, str]], kept: str
) -> None:
    """A header in percent-encoded UTF-8, or a parameter; kept in normal form."""
    chosen = {"credential": str(ama)} | sent.get("params", {})
    with hub.token(Role.GUARD) as guard:
        answer = guard.get("/api/v1/events", params=chosen, headers=sent.get("headers"))
    assert answer.status_code == 200
    assert looks(hub)[0].reason == kept


@pytest.mark.parametrize("reason", ["", "ab", "%20%20%20", "x" * 301, "a%00b", "%ff%fe%fd", "a%E2%80%AEbc"])
def test_what_is_no_reason_is_named(hub: RunningHub, ama: CredentialId, reason: str) -> None:
    """Too short, too long, not text: an invalid request, and nothing shown or recorded."""
    before = len(looks(hub))
    with hub.token(Role.GUARD) as guard:
        params = {"credential": str(ama)}
        answer = guard.get("/api/v1/events", params=params, headers={"x-reason": reason})
    problem(answer, Code.INVALID)
    assert len(looks(hub)) == before


def test_who_may_not_see_names_sees_nobodys_movements(hub: RunningHub, ama: CredentialId) -> None:
    """A filter by person is no way around the hidden names."""
    with hub.token(Role.TECHNICIAN) as technician:
        params = {"credential": str(ama), "reason": WHY}
        problem(technician.get("/api/v1/events", params=params), Code.NOT_PERMITTED)


def asked(hub: RunningHub, browser: httpx.Client, address: str, **form: Any) -> httpx.Response:
    """Go to ``address``, and answer the form that asks why."""
    form_page = browser.get(address)
    assert form_page.status_code == 200
    assert "Why do you need to see this?" in form_page.text
    subject = address.removeprefix("/movements-of/").partition("?")[0]
    data = {"csrf_token": csrf_of(form_page.text), "subject": f"cardholder:{subject}", "next": address}
    return browser.post("/reasons", data=data | form)


def test_a_page_asks_and_remembers_for_that_person_and_session_only(hub: RunningHub) -> None:
    """Ten minutes, one person, one session; each look is audited with the reason all the same."""
    with hub.signed_in(Role.GUARD) as browser, hub.signed_in(Role.GUARD) as other:
        answer = asked(hub, browser, "/movements-of/p-1", reason=WHY)
        assert (answer.status_code, answer.headers["location"]) == (303, "/movements-of/p-1")
        before = len(looks(hub))
        for _ in range(2):
            assert browser.get("/movements-of/p-1").text == "three movements"
        assert [each.reason for each in looks(hub)[:2]] == [WHY, WHY]
        assert len(looks(hub)) == before + 2
        assert "Why do you need" in browser.get("/movements-of/p-2").text
        assert "Why do you need" in other.get("/movements-of/p-1").text
        hub.clock.ahead += REMEMBERED
        assert "Why do you need" in browser.get("/movements-of/p-1").text
        hub.clock.ahead -= REMEMBERED


@pytest.mark.parametrize("reason", ["", "ab", "x" * 301])
def test_a_page_asks_again_when_the_reason_says_nothing(hub: RunningHub, reason: str) -> None:
    """The form comes back with what is wrong, leading to the same place."""
    with hub.signed_in(Role.GUARD) as browser:
        answer = asked(hub, browser, "/movements-of/p-1?a=b", reason=reason)
        assert answer.status_code == 422
        assert "3 to 300 characters" in answer.text
        assert 'value="/movements-of/p-1?a=b"' in answer.text


def test_the_form_leads_nowhere_else(hub: RunningHub) -> None:
    """An address of another host is not followed, and a subject of another kind not remembered."""
    with hub.signed_in(Role.GUARD) as browser:
        answer = asked(hub, browser, "/movements-of/p-1", reason=WHY, next="//evil.example/")
        assert answer.headers["location"] == "/"
        answer = asked(hub, browser, "/movements-of/p-3", reason=WHY, subject="x" * 90)
        assert answer.status_code == 422


def test_a_failed_answer_is_no_look(hub: RunningHub) -> None:
    """What was not shown is not recorded as shown."""
    before = len(looks(hub))
    with hub.token(Role.GUARD) as guard:
        answer = guard.get("/movements-of/p-1", params={"broken": True, "reason": WHY})
    assert answer.status_code == 500
    assert len(looks(hub)) == before


def test_signing_out_forgets_the_reasons(hub: RunningHub) -> None:
    """They belong to the session, and go with it."""
    with hub.signed_in(Role.GUARD) as browser:
        asked(hub, browser, "/movements-of/p-9", reason=WHY)
        with hub.database.read() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM given_reasons").scalar_one()
        assert browser.post("/sign-out").status_code == 303
        with hub.database.read() as connection:
            left = connection.exec_driver_sql("SELECT count(*) FROM given_reasons").scalar_one()
    assert left == count - 1


def test_reasons_end_with_their_time(hub: RunningHub) -> None:
    """What is over is gone from the database when the next one is given."""
    with hub.signed_in(Role.GUARD) as browser:
        asked(hub, browser, "/movements-of/p-4", reason=WHY)
        hub.clock.ahead += REMEMBERED + timedelta(seconds=1)
        asked(hub, browser, "/movements-of/p-5", reason=WHY)
        hub.clock.ahead -= REMEMBERED + timedelta(seconds=1)
        with hub.database.read() as connection:
            rows = connection.exec_driver_sql("SELECT subject FROM given_reasons").scalars().all()
    assert rows == ["cardholder:p-5"]


def test_every_route_that_chooses_a_person_and_shows_events_asks(hub: RunningHub) -> None:
    """By its parameters: whoever adds such a route declares the reason, or this fails."""
    asking = {route.path for route in routes_of(hub.app) if asks_for_reason(route)}
    movements_of_people = {
        route.path
        for route in routes_of(hub.app)
        if {"events", "movements", "taps"} & set(route.path.replace("-of", "").split("/"))
        and any("cardholder" in each or "credential" in each for each in parameters(route))
    }
    assert "/api/v1/events" in movements_of_people
    assert movements_of_people <= asking


def parameters(route: Any) -> set[str]:
    found, pending = set(), [route.dependant]
    while pending:
        dependant = pending.pop()
        found |= {each.name for each in (*dependant.path_params, *dependant.query_params)}
        pending += dependant.dependencies
    return found
