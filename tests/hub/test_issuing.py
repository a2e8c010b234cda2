"""The issuing desk at the hub: jobs, what a station says of them, and the pages."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from PIL import Image
from sqlalchemy import text

from hub.roles import Role
from hub.store import cardholders
from hub.store.issuing import LEASE
from pacs.card import p256
from pacs.identifiers import CardholderId, CredentialId
from provisioning.authority import generate_key
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_pages import text_of


class Desk:
    """A station of the kind issuing, as its program speaks."""

    def __init__(self, hub: RunningHub, station_id: str, kind: str = "issuing") -> None:
        station = {"id": station_id, "kind": kind, "name": station_id.title()}
        with hub.token() as program:
            made = program.post("/api/v1/stations", json=station)
        assert made.status_code == 201, made.text
        self.id = station_id
        self._client = hub.client(authorization=f"Bearer {made.json()['token']}")

    def tell(self, path: str, **body: Any) -> httpx.Response:
        return self._client.post(f"/api/v1/station/{path}", json=body)

    def take(self) -> dict[str, Any]:
        job: dict[str, Any] = self.tell("issuing/take").json()["job"]
        return job

    def about(self, job: dict[str, Any], what: str, **body: Any) -> httpx.Response:
        return self.tell(f"issuing/jobs/{job['job_id']}/{what}", attempt=job["attempt"], **body)

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("issuing"), time_zone="Europe/Amsterdam") as running:
        yield running


@pytest.fixture(scope="module")
def desk(hub: RunningHub) -> Iterator[Desk]:
    made = Desk(hub, "card-desk")
    yield made
    made.close()


@pytest.fixture
def reception(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.RECEPTION) as program:
        yield program


def person(reception: httpx.Client, **facts: Any) -> str:
    known = {"category": "resident", "given_name": "Hana", "family_name": "Tesfay", **facts}
    made = reception.post("/api/v1/cardholders", json=known)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def ask(reception: httpx.Client, cardholder: str, **how: Any) -> httpx.Response:
    wanted = {"cardholder_id": cardholder, "station_id": "card-desk", **how}
    return reception.post("/api/v1/issuing/jobs", json=wanted)


def made_card() -> dict[str, Any]:
    return {
        "credential_id": str(CredentialId(secrets.token_bytes(16))),
        "public_key": p256.encode_point(generate_key().public_key()).hex(),
    }


def audited(hub: RunningHub) -> list[dict[str, Any]]:
    with hub.token(Role.AUDITOR) as auditor:
        entries: list[dict[str, Any]] = auditor.get("/api/v1/audit", params={"limit": 30}).json()["entries"]
    return entries


def test_a_card_is_asked_for_made_and_registered(
    hub: RunningHub, desk: Desk, reception: httpx.Client
) -> None:
    """The station is told no name; each report may come twice; the days become the card's; the log names nobody."""
    hana = person(reception, valid_until=(hub.clock() + timedelta(days=90)).isoformat())
    asked = ask(reception, hana)
    assert asked.status_code == 201, asked.text
    path = f"/api/v1/issuing/jobs/{asked.json()['id']}"
    assert ask(reception, hana).json()["code"] == "in_use"
    taken = desk.take()
    assert set(taken) == {"job_id", "attempt", "technology", "first_day", "last_day", "lease_s"}
    assert desk.take() is None
    for step in ("waiting_for_card", "card_found", "key_made", "certificate_written", "locked"):
        assert desk.about(taken, "step", step=step).json()["state"] == "taken"
    assert reception.get(path).json()["step"] == "locked"
    card = made_card()
    for _ in range(2):
        assert desk.about(taken, "done", **card).json() == {"job_id": taken["job_id"], "state": "done"}
    done = reception.get(path).json()
    assert (done["state"], done["step"], done["credential_id"]) == ("done", "checked", card["credential_id"])
    registered = reception.get(f"/api/v1/cards/{card['credential_id']}").json()
    assert (registered["cardholder_id"], registered["public_key"]) == (hana, card["public_key"])
    assert registered["valid_until"] > f"{done['last_day']}T"
    entries = audited(hub)
    assert {"issuing.ask", "card.create"} <= {each["action"] for each in entries}
    made = next(each for each in entries if each["action"] == "card.create")
    assert (made["actor"], made["detail"]["issuing"]) == ("station:card-desk", done["id"])
    assert not any(name in str(entries) for name in ("Hana", "Tesfay"))


@pytest.mark.parametrize(("why", "meanwhile"), [("lost", "suspended"), ("broken", "valid")])
def test_a_card_takes_the_place_of_another(
    hub: RunningHub, desk: Desk, reception: httpx.Client, why: str, meanwhile: str
) -> None:
    """What is lost stops at once, what is broken when the new one is there; then the old one is revoked for good."""
    old = str(hub.card("Yonas", "Example"))
    holder = reception.get(f"/api/v1/cards/{old}").json()["cardholder_id"]
    assert ask(reception, holder, replaces=old).status_code == 422
    assert ask(reception, holder, replaces=old, why=why).status_code == 201
    assert reception.get(f"/api/v1/cards/{old}").json()["status"] == meanwhile
    taken, card = desk.take(), made_card()
    assert desk.about(taken, "done", **card).status_code == 200
    status = {
        each["credential_id"]: each["status"]
        for each in reception.get("/api/v1/cards", params={"cardholder": holder}).json()["cards"]
    }
    assert status == {old: "revoked", card["credential_id"]: "valid"}


def test_another_persons_card_is_not_replaced(hub: RunningHub, reception: httpx.Client) -> None:
    """Nor is a station asked that makes no cards, nor one made for days that are over."""
    other, mine = str(hub.card()), person(reception)
    assert ask(reception, mine, replaces=other, why="lost").status_code == 422
    assert ask(reception, mine, station_id="nowhere").status_code == 422
    assert ask(reception, mine, last_day="2020-01-01").json()["code"] == "no_stay"
    assert ask(reception, mine, last_day="2100-01-01").json()["code"] == "no_stay"
    kiosk = Desk(hub, "hall", "kiosk")
    assert ask(reception, mine, station_id="hall").status_code == 422
    assert kiosk.tell("issuing/take").status_code == 403
    kiosk.close()


def test_a_station_that_died_leaves_a_job_that_goes_on(
    hub: RunningHub, desk: Desk, reception: httpx.Client
) -> None:
    """It says that it was interrupted, is taken again, and what the first attempt made is void: registered as revoked."""
    job = ask(reception, person(reception)).json()
    first = desk.take()
    assert desk.about(first, "step", step="certificate_written").status_code == 200
    hub.clock.ahead += LEASE + timedelta(seconds=1)
    assert reception.get(f"/api/v1/issuing/jobs/{job['id']}").json()["interrupted"] is True
    second = desk.take()
    assert second["job_id"] == first["job_id"]
    late, card = made_card(), made_card()
    refused = desk.about(first, "done", **late)
    assert (refused.status_code, refused.json()["code"]) == (409, "job_over")
    assert reception.get(f"/api/v1/cards/{late['credential_id']}").json()["status"] == "revoked"
    assert desk.about(second, "done", **card).status_code == 200
    assert reception.get(f"/api/v1/cards/{card['credential_id']}").json()["status"] == "valid"
    assert any(each["action"] == "card.void" for each in audited(hub))


def test_a_spoilt_card_is_revoked_and_says_why(desk: Desk, reception: httpx.Client) -> None:
    """The job ends voided with its reason, told once or twice; the next one can be asked for."""
    who = person(reception)
    job = ask(reception, who).json()
    taken, card = desk.take(), made_card()
    said = {"failure": "torn", "spoilt": True, "credential_id": card["credential_id"]}
    for _ in range(2):
        assert desk.about(taken, "failed", **said).json()["state"] == "voided"
    ended = reception.get(f"/api/v1/issuing/jobs/{job['id']}").json()
    assert (ended["failure"], ended["credential_id"]) == ("torn", card["credential_id"])
    assert reception.get(f"/api/v1/cards/{card['credential_id']}").json()["status"] == "revoked"
    assert ask(reception, who).status_code == 201
    again = desk.take()
    assert desk.about(again, "put-back").json()["state"] == "queued"
    assert desk.about(again, "step", step="card_found").json()["code"] == "job_over"
    assert desk.about(desk.take(), "failed", failure="no_card", spoilt=False).json()["state"] == "failed"


def test_a_job_is_cancelled_until_a_card_lies_there(desk: Desk, reception: httpx.Client) -> None:
    """While it is written nobody can; the station that held it learns that it is over."""
    job = ask(reception, person(reception)).json()
    path = f"/api/v1/issuing/jobs/{job['id']}/cancel"
    taken = desk.take()
    desk.about(taken, "step", step="card_found")
    assert reception.post(path).json()["code"] == "in_use"
    desk.about(taken, "step", step="waiting_for_card")
    assert reception.post(path).json()["state"] == "cancelled"
    assert reception.post(path).json()["code"] == "job_over"
    assert desk.about(taken, "step", step="card_found").json()["code"] == "job_over"


def test_an_id_that_is_on_no_card_is_void(hub: RunningHub, desk: Desk, reception: httpx.Client) -> None:
    """Told under a job that has ended, and again: revoked from the start, audited once, and no blank card is spoilt."""
    asked = ask(reception, person(reception)).json()
    taken = desk.take()
    assert desk.about(taken, "done", **made_card()).status_code == 200
    stock = reception.get("/api/v1/issuing/stock").json()
    void = str(CredentialId(secrets.token_bytes(16)))
    path = f"issuing/jobs/{taken['job_id']}/voided"
    for _ in range(2):
        assert desk.tell(path, credential_id=void).json() == {"job_id": asked["id"], "state": "done"}
    assert reception.get(f"/api/v1/cards/{void}").json()["status"] == "revoked"
    assert sum(each["action"] == "card.void" for each in audited(hub) if void in each["subject"]) == 1
    assert reception.get("/api/v1/issuing/stock").json() == stock
    assert desk.tell(f"issuing/jobs/{'0' * 32}/voided", credential_id=void).status_code == 404


def test_the_desk_works_on_pages(hub: RunningHub, desk: Desk) -> None:
    """Enrol with the short form, photograph, start, cancel, start again, and the end says what to do next."""
    with hub.signed_in(Role.ISSUING_DESK) as browser:
        assert browser.get("/").headers["location"] == "/issuing"
        page = browser.get("/issuing/new")
        form = {
            "csrf_token": csrf_of(page.text),
            "given_name": "",
            "family_name": "Abebe",
            "category": "resident",
        }
        assert browser.post("/issuing/new", data=form).status_code == 422
        made = browser.post("/issuing/new", data=form | {"given_name": "Selam"})
        assert made.status_code == 303
        where = made.headers["location"]
        assert "holds no access level" in text_of(browser.get(where).text)
        held = io.BytesIO()
        Image.new("RGB", (300, 400), "teal").save(held, "JPEG")
        token = {"csrf_token": form["csrf_token"]}
        sent = browser.post(f"{where}/photo", data=token, files={"picture": ("a.jpg", held.getvalue())})
        assert sent.status_code == 303
        assert "Photograph of Selam Abebe" in browser.get(where).text
        assert (
            browser.post(f"{where}/photo", data=token, files={"picture": ("a.jpg", b"x")}).status_code == 422
        )
        assert "Selam Abebe" in text_of(browser.get("/issuing", params={"search": "abebe sel"}).text)
        assert browser.post(where, data=token | {"station": "", "last_day": "x"}).status_code == 422
        assert (
            "valid on no day"
            in browser.post(where, data=token | {"station": "card-desk", "last_day": "2020-01-01"}).text
        )
        start = token | {"station": "card-desk"}
        job = browser.post(where, data=start).headers["location"]
        assert browser.post(where, data=start).headers["location"] == job
        assert browser.post(f"{job}/cancel", data=token).status_code == 303
        assert "Cancelled" in text_of(browser.get(job).text)
        job = browser.post(where, data=start).headers["location"]
        taken = desk.take()
        desk.about(taken, "step", step="waiting_for_card")
        assert "Lay a blank card on the reader" in text_of(browser.get(f"{job}/progress").text)
        desk.about(taken, "step", step="card_found")
        assert browser.post(f"{job}/cancel", data=token).status_code == 409
        card = made_card()
        desk.about(taken, "done", **card)
        said = text_of(browser.get(job).text)
        assert "Card issued, checked" in said
        assert "hand it over" in said
        assert "Selam" not in browser.get(f"{job}/progress").text
        assert card["credential_id"][:8] in said
        its_page = f"/cards/{card['credential_id']}"
        lost = token | {"status": "suspended", "reason": "lost at the bus"}
        assert browser.post(f"{its_page}/block", data=lost).status_code == 303
        said = browser.get(its_page).text
        assert "Reinstate this card" in said
        assert "data-look" in said
        assert not any(hidden in said for hidden in ("data-stream", "link-state", "/movements"))
        assert (
            browser.post(f"{its_page}/reinstate", data=token | {"reason": "found again"}).status_code == 303
        )
        person_page = f"/cardholders/{where.rpartition('/')[2]}"
        assert f"{person_page}/edit" not in browser.get(person_page).text
        why = {"reason": "curious"}
        assert browser.get(f"{person_page}/movements", params=why).status_code == 403
        assert browser.get(f"{person_page}/edit").status_code == 403
    with hub.signed_in(Role.GUARD) as guard:
        assert guard.get("/issuing").status_code == 403


def test_a_name_in_other_letters_is_found_and_read_in_latin_ones(
    hub: RunningHub, desk: Desk, reception: httpx.Client
) -> None:
    """Staff finds somebody by either, and reads both; other letters are refused as Latin ones; forgotten with the rest."""
    with hub.signed_in(Role.ISSUING_DESK) as browser:
        form = {
            "csrf_token": csrf_of(browser.get("/issuing/new").text),
            "category": "resident",
            "given_name": "أحمد",
            "family_name": "رحیمی",
            "latin_given_name": "Ahmad",
            "latin_family_name": "ʿAbd al-Raḥīmī",
        }
        refused = browser.post("/issuing/new", data=form | {"latin_given_name": "Ахмад"})
        assert (refused.status_code, "in Latin letters" in text_of(refused.text)) == (422, True)
        made = browser.post("/issuing/new", data=form).headers["location"]
        shown = "<bdi>أحمد رحیمی (Ahmad ʿAbd al-Raḥīmī)</bdi>"
        assert shown in browser.get(made).text
        for search in ("ahmad rahimi", "أحمد", "رحیمی ahm"):
            for page in ("/issuing", "/cardholders"):
                assert shown in browser.get(page, params={"search": search}).text, (page, search)
        cardholder = made.rpartition("/")[2]
    path = f"/api/v1/cardholders/{cardholder}"
    assert reception.get(path).json()["latin_given_name"] == "Ahmad"
    assert reception.patch(path, json={"latin_family_name": None}).json()["latin_family_name"] is None
    assert reception.patch(path, json={"latin_family_name": "ሰላም"}).status_code == 422
    asked = ask(reception, cardholder).json()
    taken, card = desk.take(), made_card()
    assert desk.about(taken, "done", **card).status_code == 200
    with hub.signed_in(Role.ISSUING_DESK) as browser:
        assert "أحمد رحیمی (Ahmad)" in browser.get(f"/issuing/jobs/{asked['id']}").text
        assert "أحمد رحیمی (Ahmad)" in browser.get(f"/cards/{card['credential_id']}").text
        printing = browser.get(f"/issuing/cards/{card['credential_id']}")
        assert ('value="أحمد"' in printing.text, 'value="Ahmad"' in printing.text) == (True, True)
        token = {"csrf_token": csrf_of(printing.text)}
        both = browser.post(
            f"/issuing/cards/{card['credential_id']}", data=token | {"name": "أحمد", "latin": "Ahmad"}
        )
        alone = browser.post(
            f"/issuing/cards/{card['credential_id']}", data=token | {"name": "", "latin": "Ahmad"}
        )
        assert [each.headers["content-type"] for each in (both, alone)] == ["application/pdf"] * 2
    with hub.database.write() as connection:
        cardholders.erase(connection, CardholderId(cardholder), hub.clock())
        row = connection.execute(text("SELECT * FROM cardholders WHERE id = :id"), {"id": cardholder}).one()
    assert "Ahmad" not in str(row)


def test_cards_are_taken_from_a_stock(hub: RunningHub, desk: Desk, reception: httpx.Client) -> None:
    """Received, issued, spoilt, counted with its difference, and a card that is handed in; the page warns of few."""

    def moved(cause: str, cards: int) -> dict[str, Any]:
        body = {"technology": "pkoc-v2", "cause": cause, "cards": cards, "reason": "monthly count"}
        answer = reception.post("/api/v1/issuing/stock", json=body)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert moved("received", 25)["cards"] == 25
    card = made_card()
    handed_in = card["credential_id"]
    spoilt = {"failure": "card_fault", "spoilt": True}
    for outcome, said in (("done", card), ("failed", spoilt)):
        assert ask(reception, person(reception)).status_code == 201
        assert desk.about(desk.take(), outcome, **said).status_code == 200
    assert moved("counted", 18) == {
        "site_id": "test-site",
        "technology": "pkoc-v2",
        "difference": -5,
        "cards": 18,
    }
    with hub.signed_in(Role.RECEPTION) as browser:
        page = browser.get("/issuing")
        assert "few are left" in text_of(page.text)
        token = {"csrf_token": csrf_of(page.text)}
        form = token | {"technology": "pkoc-v2", "cause": "received", "cards": "x", "reason": "box"}
        assert browser.post("/issuing/stock", data=form).status_code == 422
        assert browser.post("/issuing/stock", data=form | {"cards": "30"}).status_code == 303
        for _ in range(2):
            returned = browser.post(f"/cards/{handed_in}/returned", data=token | {"reusable": "yes"})
            assert returned.status_code == 303
        assert "+30" in text_of(browser.get("/issuing/stock").text)
        assert "order more" not in text_of(browser.get("/issuing/batches").text)
        few = token | {"site_id": "test-site", "few": "60"}
        assert browser.post("/issuing/stock/few", data=few | {"few": "many"}).status_code == 422
        assert browser.post("/issuing/stock/few", data=few).status_code == 303
        assert "49 blank cards are left, pkoc-v2: order more" in text_of(browser.get("/issuing/batches").text)
        assert 'value="60"' in browser.get("/issuing/stock").text
    assert reception.get("/api/v1/issuing/stock").json()["stock"][0]["few"] is True
    for _ in range(2):
        set_to = reception.put("/api/v1/issuing/stock/few", json={"few": 40})
        assert set_to.json() == {"site_id": "test-site", "few": 40}
    assert sum(each["action"] == "stock.few" for each in audited(hub)) == 2
    (line,) = reception.get("/api/v1/issuing/stock").json()["stock"]
    assert (line["cards"], line["few"]) == (49, False)
    assert reception.get(f"/api/v1/cards/{handed_in}").json()["status"] == "revoked"


def test_many_cards_at_once(hub: RunningHub, desk: Desk, reception: httpx.Client) -> None:
    """Whoever has no card, one after the other; paused, nothing is taken; a single card comes first; a report at the end."""
    with hub.signed_in(Role.RECEPTION) as browser:
        people = [person(reception, given_name="=Sum", external_id=f"B-{number}") for number in range(3)]
        page = browser.get("/issuing/batches")
        assert all(f'value="{each}"' in page.text for each in people)
        form: dict[str, Any] = {"csrf_token": csrf_of(page.text), "station": "card-desk", "who": people}
        assert browser.post("/issuing/batches", data=form | {"who": []}).status_code == 422
        path = browser.post("/issuing/batches", data=form).headers["location"]
        assert not any(f'value="{each}"' in browser.get("/issuing/batches").text for each in people)
        token = {"csrf_token": form["csrf_token"]}
        assert browser.post(path, data=token | {"what": "pause"}).status_code == 303
        assert desk.take() is None
        alone = ask(reception, person(reception)).json()
        taken = desk.take()
        assert taken["job_id"] == alone["id"]
        desk.about(taken, "failed", failure="no_card", spoilt=False)
        assert browser.post(path, data=token | {"what": "resume"}).status_code == 303
        card = made_card()
        for said in (card, None, made_card()):
            taken = desk.take()
            if said is None:
                desk.about(taken, "failed", failure="card_fault", spoilt=True)
            else:
                assert desk.about(taken, "done", **said).status_code == 200
        assert "2 of 3 cards issued" in text_of(browser.get(path).text)
        told = reception.get(f"/api/v1{path}").json()
        assert (told["done"], told["voided"], told["queued"]) == (2, 1, 0)
        table = browser.get(f"{path}/report.csv").text.splitlines()
    assert [line.split(",")[0] for line in table[1:]] == people
    assert f"done,,{card['credential_id']}" in table[1]
    assert ",'=Sum," in table[1]
    assert "voided,card_fault" in table[2]
    assert (
        reception.post(
            "/api/v1/issuing/batches", json={"station_id": "card-desk", "cardholder_ids": ["x"]}
        ).status_code
        == 422
    )
