"""The pages: signing in, what forms refuse, what a browser is told, and that names are only ever text."""

from __future__ import annotations

import html
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from jinja2 import nodes

from hub import logs
from hub.api.alarms import AlarmState
from hub.api.door_status import Lock
from hub.api.orders import Arrival
from hub.completeness import Cause
from hub.operators import SESSION_IDLE
from hub.pages import words
from hub.pages.rendering import Pages
from hub.pages.static_files import FILES
from hub.roles import PERMISSIONS, Permission, Role
from hub.settings import Settings
from hub.station_taps import TapResult
from hub.store import directory
from hub.store.alarms import AlarmKind, Clearance
from hub.store.attendance import RequestState
from hub.store.cardholders import Category
from hub.store.cards import CardStatus
from hub.store.door_state import Contact
from pacs.cbor import END_OF_TIME
from pacs.commands import Action, open_command
from pacs.events import EventKind
from pacs.findings import Level
from pacs.identifiers import CredentialId, DoorId
from pacs.messages import DocumentKind
from pacs.modes import ModeCause
from pacs.reason import Reason
from pacs.rules import Antipassback, DoorMode, Side, WhenClockUntrusted, WhenHubAway, WhenTooOld, WhenUnlisted
from tests.hub.controller import eventually
from tests.hub.running import PASSWORD, RunningHub, csrf_of, running_hub, tap

NASTY = "<script>alert(1)</script>"
PAGES = (
    "/",
    "/attended",
    "/posts",
    "/muster",
    "/cards",
    "/cardholders",
    "/doors",
    "/operators",
    "/audit",
    "/statistics",
    "/retention",
    "/retention/sites",
    "/imports",
    "/issuing",
    "/issuing/stock",
    "/issuing/batches",
    "/desk",
    "/registration",
    "/events",
    "/access-levels",
    "/schedules",
    "/holidays",
    "/controllers",
    "/documents",
    "/webhooks",
    "/door-rules",
    "/areas",
    "/sites",
    "/keys",
    "/transfers",
)
ORDERS = ("/lockdown", "/doors/front/command", "/controllers/front/service")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("pages")) as running:
        running.door("front", "Front door")
        running.until_confirmed()
        yield running


def text_of(page: str) -> str:
    """What a person reads."""
    visible = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", visible)).split())


# -- signing in -------------------------------------------------------------------------------------


def test_the_first_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The link is printed, the page says how to get another, and following it leads to the empty live page."""
    with running_hub(tmp_path) as hub, hub.client(origin=hub.url) as browser:
        found = eventually(lambda: re.search(r"http://\S+(/link/\S+)", capsys.readouterr().out), "the link")
        sent = browser.get("/")
        assert (sent.status_code, sent.headers["location"]) == (303, "/sign-in?next=/")
        assert "drempel-hub operator link" in browser.get("/sign-in").text
        assert "Choose a name" in text_of(browser.get(found[1]).text)
        answer = browser.post(found[1], data={"name": "Nadia", "password": PASSWORD})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        page = text_of(browser.get("/").text)
        assert "No taps yet" in page
        assert "No doors yet" in page
        assert "Nadia" in page
        assert "Nadia administrator" in text_of(browser.get("/account").text)
        assert "No cards yet" in text_of(browser.get("/cards").text)
        assert "Nobody is enrolled yet" in text_of(browser.get("/cardholders").text)
        again = browser.post(found[1], data={"name": "Eve", "password": PASSWORD})
        assert again.status_code == 403
        assert "used before" in text_of(again.text)
        with hub.client() as stranger:
            assert "Sign in" in text_of(stranger.get("/sign-in").text)


def test_a_password_gets_one_back_in(hub: RunningHub) -> None:
    """Signing out ends the session; name and password open another one, where one was going."""
    with hub.signed_in(Role.GUARD, "Olu the guard") as browser:
        page = browser.get("/")
        assert browser.post("/sign-out", data={"csrf_token": csrf_of(page.text)}).status_code == 303
    with hub.client(origin=hub.url) as browser:
        location = browser.get("/cards").headers["location"]
        assert location == "/sign-in?next=/cards"
        assert 'name="next" value="/cards"' in browser.get(location).text
        wrong = browser.post(
            "/sign-in", data={"name": "Olu the guard", "password": "wrong", "next": "/cards"}
        )
        assert wrong.status_code == 403
        assert "The name or the password is not right." in text_of(wrong.text)
        assert 'value="Olu the guard"' in wrong.text
        right = browser.post(
            "/sign-in", data={"name": "olu the GUARD", "password": PASSWORD, "next": "/cards"}
        )
        assert (right.status_code, right.headers["location"]) == (303, "/cards")
        assert browser.get("/cards").status_code == 200
        assert browser.get("/sign-in").status_code == 303


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "", "/\n/x"],
)
def test_signing_in_leads_nowhere_else(hub: RunningHub, target: str) -> None:
    """The address to go on to is a path of this hub."""
    name = f"Somebody {abs(hash(target))}"
    hub.signed_in(Role.GUARD, name).close()
    with hub.client(origin=hub.url) as browser:
        answer = browser.post("/sign-in", data={"name": name, "password": PASSWORD, "next": target})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_guessing_is_slowed_down_for_the_guesser(tmp_path: Path) -> None:
    """After five wrong tries the sixth is refused unread, and the page says for how long."""
    with running_hub(tmp_path) as hub, hub.client(origin=hub.url) as browser:
        hub.signed_in(Role.GUARD, "Olu").close()
        for _ in range(5):
            assert browser.post("/sign-in", data={"name": "Olu", "password": "wrong"}).status_code == 403
        answer = browser.post("/sign-in", data={"name": "Olu", "password": PASSWORD})
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "300"
        assert "Wait five minutes" in text_of(answer.text)


def test_the_cookie_is_out_of_reach(hub: RunningHub) -> None:
    """Not for scripts, not for other sites; on loopback without TLS it cannot be Secure."""
    with hub.client(origin=hub.url) as browser:
        answer = browser.post(hub.link(Role.GUARD), data={"name": "Cookie monster", "password": PASSWORD})
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("drempel=")
    for attribute in ("httponly", "samesite=strict", "path=/", "max-age=43200"):
        assert attribute in cookie
    assert "domain" not in cookie


def test_under_https_the_cookie_is_bound_to_the_host(tmp_path: Path) -> None:
    """Behind TLS the name is ``__Host-`` and the cookie Secure, and browsers are told to stay with TLS."""
    origin = "https://hub.example.org"
    with running_hub(tmp_path, origin=origin) as hub:
        headers = {"origin": origin, "host": "hub.example.org"}
        with hub.client(**headers) as browser:
            answer = browser.post(hub.link(Role.GUARD), data={"name": "Olu", "password": PASSWORD})
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-drempel=")
        assert "; Secure" in cookie
        assert "max-age=" in answer.headers["strict-transport-security"]


def test_a_forgotten_page_is_signed_out(tmp_path: Path) -> None:
    """After an hour without use the next click leads to the sign-in page."""
    with running_hub(tmp_path) as hub, hub.signed_in() as browser:
        assert browser.get("/").status_code == 200
        hub.clock.ahead += SESSION_IDLE + timedelta(seconds=1)
        assert browser.get("/").headers["location"] == "/sign-in?next=/"


# -- forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
        {"origin": ""},
    ],
)
def test_forms_of_other_sites_are_refused(hub: RunningHub, headers: dict[str, str]) -> None:
    """Neither signing in nor anything else can be made to happen from another page."""
    credential = hub.card()
    with hub.signed_in() as browser:
        csrf = csrf_of(browser.get("/").text)
        path = f"/cards/{credential}/block"
        form = {"csrf_token": csrf, "status": "revoked", "reason": "because"}
        assert browser.post(path, data=form, headers=headers).status_code == 403
        assert (
            browser.post("/sign-in", data={"name": "a", "password": "b"}, headers=headers).status_code == 403
        )
        assert browser.post("/sign-out", data={"csrf_token": csrf}, headers=headers).status_code == 403
        assert browser.get(f"/api/v1/cards/{credential}").json()["status"] == "valid"


def test_a_form_without_the_sessions_token_is_refused(hub: RunningHub) -> None:
    """Also from the right origin; another session's token does not do."""
    credential = hub.card()
    with hub.signed_in() as browser, hub.signed_in() as other:
        for token in ({}, {"csrf_token": ""}, {"csrf_token": csrf_of(other.get("/").text)}):
            form = {"status": "revoked", "reason": "because"} | token
            answer = browser.post(f"/cards/{credential}/block", data=form)
            assert answer.status_code == 403
            assert "Reload the page" in text_of(answer.text)


def test_blocking_and_reinstating_by_form(hub: RunningHub) -> None:
    """The card page says what is so, and where; a reason is needed; both are in the audit log."""
    credential = hub.card("Ama", "Mensah")
    hub.until_confirmed()
    path = f"/cards/{credential}"
    with hub.signed_in(Role.GUARD) as browser:
        page = browser.get(path).text
        assert "Valid. This card was never blocked." in text_of(page)
        form = {"csrf_token": csrf_of(page), "status": "suspended", "reason": " "}
        refused = browser.post(f"{path}/block", data=form)
        assert refused.status_code == 422
        assert "Say in a few words why" in text_of(refused.text)
        done = browser.post(f"{path}/block", data=form | {"reason": "Left on the bus"})
        assert (done.status_code, done.headers["location"]) == (303, path)

        def part() -> str:
            return text_of(browser.get(f"{path}/distribution").text)

        eventually(
            lambda: f"Blocked; {(n := doors(browser))} of {n} doors confirmed." in part(), "all confirm"
        )
        page = browser.get(path).text
        assert "Reinstate this card" in text_of(page)
        form = {"csrf_token": csrf_of(page), "reason": "Found again"}
        assert browser.post(f"{path}/reinstate", data=form).status_code == 303
        eventually(lambda: f"Reinstated; {(n := doors(browser))} of {n} doors" in part(), "all confirm")
    with hub.token(Role.AUDITOR) as auditor:
        log = auditor.get("/api/v1/audit").json()["entries"]
    said = {(entry["action"], entry["reason"]) for entry in log if entry["subject"] == f"card:{credential}"}
    assert ("card.block", "Left on the bus") in said
    assert ("card.reinstate", "Found again") in said


def doors(client: httpx.Client) -> int:
    return len(client.get("/api/v1/doors").json()["doors"])


def test_a_door_that_is_away_is_named(tmp_path: Path) -> None:
    """The block is never shown as done without saying which door lacks it, and since when it is offline."""
    with running_hub(tmp_path) as hub:
        hub.door("front", "Front door")
        kitchen = hub.door("kitchen", "Kitchen")
        hub.door("cellar", "Cellar", connect=False)
        credential = hub.card()
        hub.until_confirmed()
        kitchen.drop()
        with hub.signed_in(Role.GUARD) as browser:
            eventually(lambda: "Offline since" in text_of(browser.get("/doors").text), "offline")
            page = text_of(browser.get("/").text)
            assert "Not complete since" in page
            assert "People may have passed who are not listed." in page
            path = f"/cards/{credential}"
            form = {"csrf_token": csrf_of(browser.get(path).text), "status": "revoked", "reason": "Stolen"}
            browser.post(f"{path}/block", data=form)
            said = eventually(
                lambda: (t := text_of(browser.get(path).text)) and "1 of 3 doors confirmed" in t and t,
                "front",
            )
            assert re.search(r"Kitchen is offline since \S+ \. The card may still open it\.", said)
            assert "Cellar was never connected." in said


def test_a_past_hole_in_a_record_stays_visible(tmp_path: Path) -> None:
    """A door that is complete again still says for which time it was not, and why."""
    with running_hub(tmp_path) as hub, hub.signed_in(Role.GUARD) as browser:
        front = hub.door("front", "Front door")
        tap(front, hub.card())
        front.record(EventKind.CONTROLLER_STARTED, details={"unclean": True})
        front.until_acknowledged()
        front.heartbeat()
        said = eventually(
            lambda: (t := text_of(browser.get("/").text)) and "Complete until" in t and "but for:" in t and t,
            "hole",
        )
        assert re.search(r"Not complete \S+ to \S+ : the controller ended without warning", said)


# -- alarms and orders ------------------------------------------------------------------------------


def test_an_alarm_is_acknowledged_by_form(tmp_path: Path) -> None:
    """On top of the live page, with the note as text; what is no note is left out; only some can."""
    with running_hub(tmp_path) as hub:
        front = hub.door("front", NASTY)
        front.record(EventKind.DOOR_FORCED, door_id=DoorId("front"))
        front.until_acknowledged()
        with hub.signed_in(Role.GUARD, "Olu") as guard, hub.signed_in(Role.AUDITOR) as auditor:
            page = guard.get("/").text
            assert page.index("Forced open") < page.index('id="taps"')
            assert "may-acknowledge" in page
            assert "may-acknowledge" not in auditor.get("/").text
            (path,) = re.findall(r'action="(/alarms/\d+/acknowledge)"', page)
            form = {"csrf_token": csrf_of(page), "note": "<b>The wind</b>"}
            assert guard.post(path, data=form | {"csrf_token": ""}).status_code == 403
            forbidden = {"csrf_token": csrf_of(auditor.get("/").text)}
            assert auditor.post(path, data=forbidden).status_code == 403
            assert guard.post(path, data=form).headers["location"] == "/#alarms"
            page = guard.get("/").text
            assert html.escape("<b>The wind</b>") in page
            assert NASTY not in page
            assert "Olu took note at" in text_of(page)
            assert "Olu" not in auditor.get("/").text
            assert guard.post(path, data=form | {"note": "\x07"}).status_code == 303
            assert "Olu took note at" in text_of(guard.get("/").text)


def test_a_doors_last_known_state_has_its_age(tmp_path: Path) -> None:
    """While it is heard it stands so; once it is away nothing of that is said of this moment (rule R2)."""
    with running_hub(tmp_path) as hub, hub.signed_in(Role.GUARD) as guard:
        front = hub.door("front", "Front door")
        then = hub.clock() - timedelta(minutes=40, seconds=5)
        details = {"mode": "unlocked", "cause": "schedule"}
        front.record(EventKind.DOOR_MODE_CHANGED, door_id=DoorId("front"), details=details)
        front.record(EventKind.DOOR_CLOSED, door_id=DoorId("front"), occurred_at=then)
        front.until_acknowledged()
        said = text_of(guard.get("/doors").text)
        assert re.search(r"Mode Unlocked: opens for everybody, by its schedule, since \S+", said)
        assert re.search(r"Door Closed since \S+ \( 40 min\. ago \)\. Unlocked", said)
        assert "Not known now" not in said
        front.drop()
        said = eventually(
            lambda: (t := text_of(guard.get("/doors").text)) and "Offline since" in t and t, "offline"
        )
        assert re.search(r"State Not known now\. Last heard of \S+ \( \d+ sec\. ago \); until then:", said)
        assert "Last mode Unlocked" in said
        assert "Last seen Closed since" in said
        assert not re.search(r" (Mode|Door) (Unlocked|Closed)", said)


def test_an_order_to_a_door_by_form(hub: RunningHub) -> None:
    """A reason is needed; the page says what became of it by the door's own event."""
    front = hub.controllers["front"]
    front.heartbeat()
    with hub.signed_in(Role.GUARD) as guard, hub.signed_in(Role.AUDITOR) as auditor:
        assert auditor.get("/doors/front/command").status_code == 403
        assert "may-command" not in auditor.get("/doors").text
        page = guard.get("/doors/front/command").text
        form = {"csrf_token": csrf_of(page), "order": "unlock_once", "reason": "x"}
        refused = guard.post("/doors/front/command", data=form)
        assert refused.status_code == 422
        assert "Say in a few words why" in text_of(refused.text)
        form["reason"] = "A parcel"
        assert guard.post("/doors/front/command", data=form).headers["location"] == "/doors/front/command"
        assert "Unlock once" in text_of(guard.get("/doors/front/commands").text)
        command = open_command(eventually(lambda: front.commands, "sent")[-1], front.trusted)
        details = {"command": command.command_id, "action": "unlock_once"}
        front.record(EventKind.COMMAND_EXECUTED, door_id=DoorId("front"), details=details)
        front.until_acknowledged()
        assert "Executed" in text_of(guard.get("/doors/front/commands").text)
        assert guard.get("/doors/nowhere/command").status_code == 404


def test_a_lockdown_says_at_which_doors_it_is(tmp_path: Path) -> None:
    """Needs a reason and a confirmation; executed is what a door's event says; who is away is named."""
    with running_hub(tmp_path) as hub, hub.signed_in(Role.GUARD) as guard:
        front, kitchen = hub.door("front", "Front door"), hub.door("kitchen", "Kitchen")
        hub.until_confirmed()
        kitchen.drop()
        eventually(lambda: "Kitchen" in text_of(guard.get("/lockdown").text).split("What should")[0], "away")
        form = {"csrf_token": csrf_of(guard.get("/").text), "order": "lockdown", "reason": "A threat"}
        for lacking in (
            {"confirmed": ""},
            {"confirmed": "yes", "reason": ""},
            {"confirmed": "yes", "order": "x"},
        ):
            assert guard.post("/lockdown", data=form | lacking).status_code == 422
        assert front.commands == []
        place = guard.post("/lockdown", data=form | {"confirmed": "yes"}).headers["location"]
        command = open_command(eventually(lambda: front.commands, "sent")[-1], front.trusted)
        assert command.mode is DoorMode.LOCKDOWN
        assert "Lockdown: executed at 0 of 2 doors." in text_of(guard.get(place).text)
        details = {"command": command.command_id, "action": "set_mode"}
        front.record(EventKind.COMMAND_EXECUTED, door_id=DoorId("front"), details=details)
        front.until_acknowledged()
        for path in (place, "/", f"{place}/doors", f"{place}/arrival"):
            said = text_of(guard.get(path).text)
            assert "Lockdown: executed at 1 of 2 doors." in said
            assert re.search(
                r"Kitchen is offline since \S+ \. Whether it carries this out is not known", said
            )
        answer = guard.get(f"/api/v1{place}").json()
        assert (answer["executed"], [door["state"] for door in answer["doors"]]) == (1, ["executed", "sent"])
        hub.clock.ahead += timedelta(minutes=6)
        assert [door["state"] for door in guard.get(f"/api/v1{place}").json()["doors"]] == [
            "executed",
            "unanswered",
        ]


# -- what is shown ----------------------------------------------------------------------------------


def test_names_are_only_ever_text(hub: RunningHub) -> None:
    """Markup in a name, a door's name or an operator's name is shown, not obeyed, on pages and in the stream."""
    credential = hub.card(NASTY, '"><img src=x onerror=alert(2)>')
    with hub.token() as program:
        assert program.patch("/api/v1/doors/front", json={"name": "<b>Front</b>"}).status_code == 200
    tap(hub.controllers["front"], credential)
    hub.controllers["front"].until_acknowledged()
    try:
        with hub.signed_in(Role.GUARD, "<i>Eve</i>") as browser:
            stream = stream_text(browser)
            seen = [browser.get(path).text for path in (*PAGES, f"/cards/{credential}")]
            search = {"search": NASTY}
            seen += [browser.get("/cards", params=search).text, stream]
            for page in seen:
                assert "<script>alert" not in page
                assert "<img" not in page
                assert "<b>Front" not in page
                assert "<i>Eve" not in page
            assert html.escape(NASTY) in seen[0]
            assert html.escape(NASTY) in stream
            wrong = browser.get(f"/sign-in?next={NASTY}", headers={"cookie": ""}).text
            assert "<script>alert" not in wrong
    finally:
        with hub.token() as program:
            program.patch("/api/v1/doors/front", json={"name": "Front door"})


def stream_text(browser: httpx.Client) -> str:
    """The live stream's beginning, up to the first door."""
    with browser.stream("GET", "/live/stream?after=0") as answer:
        found = ""
        for piece in answer.iter_text():
            found += piece
            if "event: door" in found and found.endswith("\n\n"):
                return found
    raise AssertionError(found)


def test_names_stand_in_their_own_direction(hub: RunningHub) -> None:
    """Each name is isolated, so that a right-to-left name does not turn what is beside it."""
    credential = hub.card("سلام", "قاسم")
    tap(hub.controllers["front"], credential)
    hub.controllers["front"].until_acknowledged()
    with hub.signed_in(Role.GUARD) as browser:
        for path in ("/", "/cards", "/cardholders", f"/cards/{credential}"):
            assert "<bdi>سلام قاسم</bdi>" in browser.get(path).text, path


@pytest.mark.parametrize("role", list(Role))
def test_each_role_sees_its_own_pages(hub: RunningHub, role: Role) -> None:
    """The navigation offers what may be opened; who may not see names sees none; only some can block."""
    credential = hub.card("Tigist", "Abebe")
    tap(hub.controllers["front"], credential)
    hub.controllers["front"].until_acknowledged()
    with hub.signed_in(role) as browser:
        home = browser.get("/", follow_redirects=True).text
        offered = set(re.findall(r'<li><a href="(/[\w-]*)"', home))
        of_menu = [path for path in PAGES if path.count("/") == 1]  # the others are reached from these
        may_open = {path for path in of_menu if browser.get(path).status_code == 200}
        assert offered == may_open
        sees = {Permission.NAMES_READ, Permission.EVENTS_READ} <= PERMISSIONS[role]
        assert ("Tigist" in home) is sees
        card = browser.get(f"/cards/{credential}")
        assert ("Block the card" in card.text) is (Permission.CARDS_BLOCK in PERMISSIONS[role])
        if Permission.NAMES_READ not in PERMISSIONS[role]:
            assert "Tigist" not in card.text + browser.get("/cards").text


def test_people_are_found_as_they_are_spoken_of(hub: RunningHub) -> None:
    """Part of a name in any order, without accents or case; or how a card number begins."""
    credential = hub.card("José", "da Silva e Castro")
    with hub.signed_in(Role.GUARD) as browser:
        for search in ("jose", "CASTRO jo", "silva", str(credential)[:8]):
            assert "José da Silva e Castro" in browser.get("/cards", params={"search": search}).text, search
        assert "José" in browser.get("/cardholders", params={"search": "jose castro"}).text
        assert "No card found" in browser.get("/cards", params={"search": "nobody like that"}).text


def test_who_may_not_see_names_cannot_search_by_them(hub: RunningHub) -> None:
    """An auditor finds cards by number alone, and their order tells nothing of names."""
    cards = [str(hub.card("Zahra", "Vandaag")), str(hub.card("Aart", "Vandaag"))]
    with hub.signed_in(Role.AUDITOR) as auditor, hub.signed_in(Role.GUARD) as guard:
        assert all(card in guard.get("/cards", params={"search": "vandaag"}).text for card in cards)
        assert not any(card in auditor.get("/cards", params={"search": "vandaag"}).text for card in cards)
        assert cards[0] in auditor.get("/cards", params={"search": cards[0][:8]}).text
    with hub.database.read() as connection:
        found = [str(card.credential_id) for card in directory.find_cards(connection, by_name=False)]
    assert found == sorted(found)


@pytest.mark.parametrize("path", ["/", "/doors", "/cards/{card}"])
def test_a_lost_stream_is_visible_wherever_there_is_one(hub: RunningHub, path: str) -> None:
    """Each page that follows the stream has the place where its loss is said."""
    with hub.signed_in(Role.GUARD) as browser:
        page = browser.get(path.format(card=hub.card())).text
    assert "data-stream=" in page
    assert all(f'data-state="{state}"' in page for state in ("starting", "live", "waiting", "ended"))


def test_a_long_list_has_further_pages(hub: RunningHub) -> None:
    """Fifty a page, and a link to the rest."""
    with hub.token() as program:
        for number in range(55):
            person = {
                "id": f"many-{number}",
                "category": "staff",
                "given_name": "Many",
                "family_name": str(number),
            }
            assert program.post("/api/v1/cardholders", json=person).status_code in (200, 201)
    with hub.signed_in(Role.GUARD) as browser:
        first = browser.get("/cardholders", params={"search": "Many"}).text
        further = html.unescape(re.findall(r'href="(/cardholders\?[^"]+)"', first)[0])
        second = browser.get(further).text
        assert first.count("<bdi>Many ") == 50
        assert second.count("<bdi>Many ") == 5


def test_an_unknown_card_is_shown_as_one(hub: RunningHub) -> None:
    """A refused stranger's tap has no link and no name."""
    tap(hub.controllers["front"], CredentialId(bytes(16)), Reason.CARD_NOT_ENROLLED)
    hub.controllers["front"].until_acknowledged()
    with hub.signed_in(Role.GUARD) as browser:
        assert "Unknown card Refused : the card is not enrolled" in text_of(browser.get("/").text)


def test_what_does_not_exist_is_a_page_too(hub: RunningHub) -> None:
    """An unknown address, an unknown card and an impossible one each get a page with a next step."""
    with hub.signed_in() as browser:
        for path, status in (
            ("/nothing", 404),
            ("/cards/00000000-0000-4000-8000-000000000000", 404),
            ("/cards/nonsense", 422),
            ("/cards?after=minus", 422),
            ("/link/" + "0" * 43, 403),
            ("/static/0/../../settings.py", 404),
        ):
            answer = browser.get(path)
            assert answer.status_code == status, path
            assert "To the live page" in answer.text


# -- what a browser is told -------------------------------------------------------------------------


def test_every_answer_is_guarded(hub: RunningHub) -> None:
    """No inline script or style may run, nothing may frame or sniff, and names are not cached."""
    with hub.signed_in() as browser:
        for path in (*PAGES, "/sign-in", "/nothing", "/api/v1/doors", "/api/v1/nothing", "/healthz"):
            headers = browser.get(path).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store", path
            assert "server" not in headers


def test_pages_keep_to_their_own_policy(hub: RunningHub) -> None:
    """No inline script, style or handler in any page; what they load is there and may be cached for good."""
    credential = hub.card()
    with hub.signed_in() as browser:
        for path in (*PAGES, *ORDERS, f"/cards/{credential}"):
            page = browser.get(path).text
            assert not re.search(
                r"<script(?![^>]*\bsrc=)|<style|<[^>]*\s(style|on\w+)=|=\"javascript:", page
            ), path
            loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
            assert len(loaded) >= 2
            for address in loaded:
                answer = browser.get(address)
                assert answer.status_code == 200
                assert "immutable" in answer.headers["cache-control"]
        fonts = re.findall(r'url\("(/static/[^"]+)"\)', browser.get(FILES["names.css"].address).text)
        assert [browser.get(each).headers["content-type"] for each in fonts] == ["font/ttf"] * 3


def test_pages_are_built_for_everybody(hub: RunningHub) -> None:
    """A language, a viewport, one heading, labels on fields, a way past the navigation."""
    credential = hub.card()
    with hub.signed_in() as browser, hub.client() as stranger:
        pages = [browser.get(path).text for path in (*PAGES, *ORDERS, f"/cards/{credential}")]
        pages += [stranger.get(path).text for path in ("/sign-in", hub.link(Role.GUARD))]
    for page in pages:
        assert '<html lang="en" dir="ltr">' in page
        assert 'name="viewport"' in page
        assert page.count("<h1") == 1
        assert 'class="skip" href="#content"' in page
        for field in re.findall(r"<(?:input|select)[^>]*>", page):
            if 'type="hidden"' in field:
                continue
            name = re.search(r'\bid="([^"]+)"', field)
            before = page[: page.index(field)]
            in_label = before.rfind("<label") > before.rfind("</label>")
            assert in_label or (name and f'for="{name[1]}"' in page), field


# -- words ------------------------------------------------------------------------------------------


def test_every_member_of_a_closed_set_has_its_words() -> None:
    """A new reason, event, mode, status, category, side or role cannot appear without a text."""
    for texts, kind in (
        (words.REASONS, Reason),
        (words.EVENTS, EventKind),
        (words.MODES, DoorMode),
        (words.STATUSES, CardStatus),
        (words.CATEGORIES, Category),
        (words.SIDES, Side),
        (words.ROLES, Role),
        (words.CAUSES, Cause),
        (words.MODE_NAMES, DoorMode),
        (words.ALARMS, AlarmKind),
        (words.ADVICE, AlarmKind),
        (words.ALARM_STATES, AlarmState),
        (words.CLEARANCES, Clearance),
        (words.DOCUMENTS, DocumentKind),
        (words.CONTACTS, Contact),
        (words.LOCKS, Lock),
        (words.ARRIVALS, Arrival),
        (words.REQUEST_STATES, RequestState),
        (words.ACTIONS, Action),
        (words.LEVELS, Level),
        (words.ANTIPASSBACK, Antipassback),
        (words.WHEN_TOO_OLD, WhenTooOld),
        (words.WHEN_CLOCK_UNTRUSTED, WhenClockUntrusted),
        (words.WHEN_UNLISTED, WhenUnlisted),
        (words.WHEN_HUB_AWAY, WhenHubAway),
    ):
        assert set(texts) == set(kind)
        assert all(texts.values())
    assert set(ModeCause) <= set(words.MODE_CAUSES)
    assert set(TapResult) == set(words.TAPS)


def test_every_text_goes_through_gettext(hub: RunningHub) -> None:
    """No letter a person reads stands in a template outside a translatable text, but for the product's name."""
    environment = hub.app.state.pages_by_language["en"]._environment
    allowed = {"Drempel", "MiB"}
    allowed |= {"drempel", "hub", "operator", "link", "provision", "card", "issue", "reader", "add", "site"}
    for name in environment.list_templates():
        source, _, _ = environment.loader.get_source(environment, name)
        written = "".join(
            part.data
            for output in environment.parse(source).find_all(nodes.TemplateData)
            for part in [output]
        )
        visible = text_of(re.sub(r"<(path|circle|svg|meta|link)\b[^>]*>", "", written))
        strays = set(re.findall(r"[A-Za-z]{2,}", re.sub(r'\b[\w-]+="[^"]*"?', "", visible))) - allowed
        assert not {word for word in strays if word[0] in string.ascii_letters}, (name, strays)


# -- logs and settings ------------------------------------------------------------------------------


def test_no_name_or_secret_reaches_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither in normal use nor when something breaks."""
    logs.configure()
    with running_hub(tmp_path) as hub:
        hub.door("front", "Front door")
        credential = hub.card("Zebedee", "Quartermain")
        capfd.readouterr()
        with hub.signed_in(Role.GUARD, "Wilhelmina") as browser, hub.client(origin=hub.url) as stranger:
            browser.get(f"/cards/{credential}")
            browser.post(f"/cards/{credential}/block", data={"csrf_token": csrf_of(browser.get("/").text)})
            stranger.post("/sign-in", data={"name": "Wilhelmina", "password": "hunter2hunter2"})
            cookie = browser.cookies["drempel"]
            hub.app.state.pages_by_language["en"]._environment.globals["static"] = None
            assert browser.get("/cards").status_code == 500
    structlog.reset_defaults()
    logged = "".join(capfd.readouterr())
    assert "request_failed" in logged
    for secret in ("Zebedee", "Quartermain", "Wilhelmina", "hunter2", cookie, str(credential)):
        assert secret not in logged


def test_the_site_is_named_and_times_are_its_own(tmp_path: Path) -> None:
    """Settings say what the site is called and which clock its pages show."""
    with (
        running_hub(tmp_path, site_name="Wilgenoord", time_zone="Asia/Tehran") as hub,
        hub.client() as anybody,
    ):
        page = text_of(anybody.get("/sign-in").text)
    assert "Wilgenoord" in page
    assert "Asia/Tehran" in page


def test_a_time_at_the_end_of_the_calendar_is_still_shown(hub: RunningHub) -> None:
    """Whatever moment somebody's clock says, a page says it, on UTC when the site's clock does not go so far."""
    pages: Pages = hub.app.state.pages_by_language["en"]
    assert "9999-12-31" in pages.moment(datetime.max.replace(tzinfo=UTC))
    assert "9899-12-31" in pages.moment(END_OF_TIME - timedelta(days=1))


def test_settings_have_no_unencrypted_network(tmp_path: Path) -> None:
    """Listening beyond this machine needs TLS, here or at a named proxy."""
    from hub.settings import Address
    from pacs.errors import MalformedData

    where = {"site_dir": tmp_path, "data_dir": tmp_path, "http": Address("0.0.0.0", 8000)}  # noqa: S104
    with pytest.raises(MalformedData, match="without encryption"):
        Settings(**where)  # type: ignore[arg-type]  # one mapping for two constructions
    behind = Settings(**where, origin="https://hub.example.org", trusted_proxies=("192.0.2.1",))  # type: ignore[arg-type]  # likewise
    assert behind.is_https
