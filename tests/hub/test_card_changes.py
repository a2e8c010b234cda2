"""Replacing and ending cards, and what the hub says of doors that a block has not reached."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hub.roles import Role
from hub.store import documents
from pacs import bundle
from pacs.identifiers import CredentialId, SiteId
from pacs.messages import DocumentKind
from pacs.revocation import Status, StatusList
from pacs.rules import Entitlement
from tests.hub.controller import eventually
from tests.hub.running import RunningHub, csrf_of, running_hub


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("cards")) as running:
        running.door("front", "Front")
        running.door("kitchen", "Kitchen")
        yield running


@pytest.fixture
def desk(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.RECEPTION) as program:
        yield program


def listed(hub: RunningHub, credential: CredentialId) -> tuple[Entitlement, Status | None]:
    """What the documents in force say of a card."""
    trusted = hub.controllers["front"].trusted
    with hub.database.read() as connection:
        policy, revocations = (
            documents.required_newest(connection, SiteId("test-site"), kind)
            for kind in (DocumentKind.POLICY, DocumentKind.REVOCATIONS)
        )
    entitlement = bundle.open_bundle(policy.data, trusted).entitlements[credential]
    return entitlement, StatusList.open(revocations.data, trusted).status(entitlement.status_index)


def replaced(desk: httpx.Client, old: CredentialId, new: CredentialId) -> httpx.Response:
    body = {"credential_id": str(new), "technology": "pkoc-v2", "reason": "lost on the bus"}
    return desk.post(f"/api/v1/cards/{old}/replace", json=body)


def test_a_card_is_replaced_in_one_action(hub: RunningHub, desk: httpx.Client) -> None:
    """The new one is listed for the same holder and the old one revoked, in the same versions, which doors confirm."""
    old, new = hub.card(), CredentialId(secrets.token_bytes(16))
    answer = replaced(desk, old, new)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert told["card"]["cardholder_id"] == desk.get(f"/api/v1/cards/{old}").json()["cardholder_id"]
    assert desk.get(f"/api/v1/cards/{old}").json()["status"] == "revoked"
    (carried,) = told["documents"]
    assert listed(hub, old)[1] is Status.INVALID
    assert listed(hub, new)[1] is Status.VALID
    path = f"/api/v1/documents/{carried['site_id']}/policy/{carried['policy_version']}"
    eventually(lambda: desk.get(path).json()["confirmed"] == told["doors"] == 2, "both doors")
    old_at = desk.get(f"/api/v1/cards/{old}/distribution").json()
    assert old_at["versions"] == {"test-site": carried["revocations_version"]}
    again = replaced(desk, old, new)
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")


def test_a_revoked_card_may_be_replaced(hub: RunningHub, desk: httpx.Client) -> None:
    """Blocked first and replaced later: its first block stays what it was."""
    old = hub.card()
    desk.post(f"/api/v1/cards/{old}/block", json={"status": "revoked", "reason": "stolen"})
    since = desk.get(f"/api/v1/cards/{old}").json()["status_since"]
    assert replaced(desk, old, CredentialId(secrets.token_bytes(16))).status_code == 201
    assert desk.get(f"/api/v1/cards/{old}").json()["status_since"] == since


def test_a_card_ends_and_no_sooner_said_is_undone(hub: RunningHub, desk: httpx.Client) -> None:
    """Its end travels in the policy; it may be brought forward, and not put off."""
    credential = hub.card()
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    body: dict[str, Any] = {"at": later.isoformat(), "reason": "moves out"}
    assert desk.post(f"/api/v1/cards/{credential}/expire", json=body).status_code == 200
    assert listed(hub, credential)[0].valid_until == later
    body["at"] = (later + timedelta(days=1)).isoformat()
    put_off = desk.post(f"/api/v1/cards/{credential}/expire", json=body)
    assert (put_off.status_code, put_off.json()["code"]) == (422, "invalid")
    ended = desk.post(f"/api/v1/cards/{credential}/expire", json={"reason": "moved out"})
    assert ended.status_code == 200
    ends = listed(hub, credential)[0].valid_until
    assert ends is not None
    assert ends <= datetime.now(UTC)


def test_the_hub_says_when_a_door_that_is_away_stops_by_itself(hub: RunningHub, desk: httpx.Client) -> None:
    """Of a door without the block: since when it is away, and when its own bound stops every card there."""
    hub.until_confirmed()
    kitchen = hub.controllers["kitchen"]
    kitchen.drop()
    credential = hub.card()
    told = desk.post(
        f"/api/v1/cards/{credential}/block", json={"status": "suspended", "reason": "lost"}
    ).json()

    def said() -> dict[str, Any]:
        answer = desk.get(f"/api/v1/cards/{credential}/distribution").json()
        return {each["door_id"]: each for each in answer["confirmations"]}

    eventually(lambda: said()["front"]["confirmed_at"] is not None, "front confirms")
    assert said()["front"]["stops_at"] is None
    away = said()["kitchen"]
    bound = next(door for door in desk.get("/api/v1/doors").json()["doors"] if door["id"] == "kitchen")
    stops_at = datetime.fromisoformat(away["stops_at"])
    assert stops_at <= datetime.now(UTC) + timedelta(seconds=bound["rules"]["max_policy_age_s"])
    assert told["doors"] == 2
    eventually(lambda: not said()["kitchen"]["online"], "kitchen is away")
    with hub.signed_in(Role.GUARD) as browser:
        page = browser.get(f"/cards/{credential}").text
    assert "is offline since" in page
    assert "Its own bound stops every card there" in page
    kitchen.connect()
    kitchen.wait_online()
    eventually(lambda: said()["kitchen"]["confirmed_at"] is not None, "kitchen confirms on return")


def test_the_page_replaces_and_ends_cards(hub: RunningHub) -> None:
    """One form each; a number that is none, or is taken, is said on the same page."""
    old, new = hub.card(), CredentialId(secrets.token_bytes(16))
    with hub.signed_in(Role.RECEPTION) as browser:
        form = {"csrf_token": csrf_of(browser.get(f"/cards/{old}").text), "reason": "worn out"}
        for number, words in (("x", "new card"), (str(old), "registered already")):
            answer = browser.post(f"/cards/{old}/replace", data={**form, "credential_id": number})
            assert answer.status_code == 422
            assert words in answer.text
        done = browser.post(f"/cards/{old}/replace", data={**form, "credential_id": str(new)})
        assert (done.status_code, done.headers["location"]) == (303, f"/cards/{new}")
        ended = browser.post(f"/cards/{new}/block", data={**form, "status": "expired"})
        assert ended.status_code == 303
        assert "Valid until" in browser.get(f"/cards/{new}").text
    with hub.signed_in(Role.GUARD) as browser:
        assert "/replace" not in browser.get(f"/cards/{new}").text


def test_a_card_that_was_spoilt_is_revoked_from_the_start(hub: RunningHub, desk: httpx.Client) -> None:
    """Nobody can be given its id later, nobody makes it valid again, and a card in use is not taken for it."""
    holder = desk.get(f"/api/v1/cards/{hub.card()}").json()["cardholder_id"]
    spoilt = CredentialId(secrets.token_bytes(16))
    body = {"credential_id": str(spoilt), "technology": "pkoc-v2", "cardholder_id": holder}
    for status in (201, 200):
        answer = desk.post("/api/v1/cards", json=body | {"status": "revoked"})
        assert (answer.status_code, answer.json()["status"]) == (status, "revoked")
    again = desk.post(f"/api/v1/cards/{spoilt}/reinstate", json={"reason": "it is good after all"})
    assert again.status_code == 409
    given = desk.post("/api/v1/cards", json=body)
    assert given.json()["status"] == "revoked"
    in_use = body | {"credential_id": str(CredentialId(secrets.token_bytes(16)))}
    assert desk.post("/api/v1/cards", json=in_use).status_code == 201
    assert desk.post("/api/v1/cards", json=in_use | {"status": "revoked"}).status_code == 409


def test_every_card_of_a_site_is_void_in_one_act(hub: RunningHub, desk: httpx.Client) -> None:
    """Suspended ones too, by one version that each door confirms; a dry run does nothing, again revokes nothing, and a reception may not."""
    one, two = hub.card(), hub.card()
    desk.post(f"/api/v1/cards/{two}/block", json={"status": "suspended", "reason": "lost"})
    path, body = "/api/v1/sites/test-site/void-cards", {"reason": "the site closes"}
    assert desk.post(path, json=body).status_code == 403
    with hub.token(Role.ADMINISTRATOR) as admin:
        would = admin.post(path, json=body | {"dry_run": True}).json()
        assert (would["cards"] >= 2, would["version"]) == (True, None)
        assert desk.get(f"/api/v1/cards/{one}").json()["status"] == "valid"
        done = admin.post(path, json=body).json()
        assert (done["cards"], done["doors"]) == (would["cards"], 2)
        arrival = f"/api/v1/documents/test-site/revocations/{done['version']}"
        eventually(lambda: admin.get(arrival).json()["confirmed"] == 2, "both doors", within_s=20)
        assert {desk.get(f"/api/v1/cards/{each}").json()["status"] for each in (one, two)} == {"revoked"}
        assert desk.get(f"/api/v1/cards/{two}/distribution").json()["versions"] == {
            "test-site": done["version"]
        }
        again = admin.post(path, json=body).json()
        assert (again["cards"], again["version"]) == (0, done["version"])
        assert admin.post("/api/v1/sites/elsewhere/void-cards", json=body).status_code == 404
    assert listed(hub, one)[1] is listed(hub, two)[1] is Status.INVALID
