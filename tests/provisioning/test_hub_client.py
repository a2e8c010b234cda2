from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from pacs.card.card_keys import CardSerial
from pacs.credential import Technology
from pacs.errors import StoreError
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId, SiteId
from provisioning.encoder import IssuedCard
from provisioning.hub_client import HubClient, HubError
from provisioning.readers import ProvisionedController

CONTROLLER = ProvisionedController(
    id=ControllerId("c"),
    site_id=SiteId("s"),
    directory=Path("c"),
    doors=(DoorId("a"), DoorId("b")),
    event_public_key=bytes(32),
    certificate_serial="abc",
)
CARD = IssuedCard(
    serial=CardSerial.parse("SIM0-00000000002A"),
    credential_id=CredentialId(bytes(16)),
    technology=Technology.PKOC_V2,
    public_key=bytes(65),
    valid_from=None,
    valid_until=None,
)


@pytest.mark.parametrize("url", ["http://hub.example", "ftp://localhost", "localhost:8000"])
def test_a_token_never_travels_in_the_clear(url: str) -> None:
    """Without TLS only this very machine is spoken to."""
    with pytest.raises(HubError, match="https expected"):
        HubClient(url, "token")


def test_a_token_others_can_read_is_refused(tmp_path: Path) -> None:
    """The token's file must be its owner's alone."""
    path = tmp_path / "token"
    path.write_text("secret")
    path.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        HubClient.from_token_file("https://hub.example", path)


def test_what_is_sent_is_what_the_hub_asks_for() -> None:
    """A controller before its doors, each with the token; a card with its owner."""
    seen: list[tuple[str, str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer t"
        seen.append((request.method, request.url.path, json.loads(request.content or b"null")))
        return httpx.Response(201, json={})

    with HubClient("https://hub.example", "t", transport=httpx.MockTransport(answer)) as hub:
        hub.check("cards")
        hub.register_controller(CONTROLLER)
        hub.register_card(CARD, CardholderId("r-1"))
    assert [(method, path) for method, path, _ in seen] == [
        ("GET", "/api/v1/cards"),
        ("POST", "/api/v1/controllers"),
        ("POST", "/api/v1/doors"),
        ("POST", "/api/v1/doors"),
        ("POST", "/api/v1/cards"),
    ]
    assert seen[1][2] == {
        "id": "c",
        "site_id": "s",
        "event_public_key": "00" * 32,
        "certificate_serial": "abc",
    }
    assert seen[3][2] == {"id": "b", "controller_id": "c", "name": "b"}
    assert seen[4][2] == {
        "credential_id": "00000000-0000-0000-0000-000000000000",
        "cardholder_id": "r-1",
        "technology": "pkoc-v2",
        "public_key": "00" * 65,
    }


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (
            httpx.Response(401, json={"title": "Not signed in", "next_step": "Sign in."}),
            "status 401. Not signed in Sign in.",
        ),
        (httpx.Response(502, text="<html>"), "status 502."),
        (httpx.Response(500, json=[]), "status 500."),
    ],
)
def test_a_refusal_is_repeated_in_the_hubs_words(response: httpx.Response, said: str) -> None:
    """Problem documents are quoted; anything else leaves the status."""
    transport = httpx.MockTransport(lambda _request: response)
    with HubClient("https://hub.example", "t", transport=transport) as hub, pytest.raises(HubError) as caught:
        hub.check("cards")
    assert said in str(caught.value)


def test_an_absent_hub_is_named() -> None:
    """A hub that does not answer is an error with its address."""
    with (
        HubClient("http://127.0.0.1:9", "t") as hub,
        pytest.raises(HubError, match=r"127\.0\.0\.1:9.* does not answer"),
    ):
        hub.check("cards")
