"""A desk with everything real but plastic and antenna: a hub's process, the reader's program, a virtual PN532."""

from __future__ import annotations

import queue
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pacs.identifiers import CredentialId, SiteId
from provisioning.site import Site, create_site
from simulator import virtual_pcsc
from simulator.card_deck import Recipe, deal
from simulator.desk import DeskPage, DeskProcess
from simulator.hub_process import HubApi, HubProcess
from simulator.reporting_process import WITHIN_S
from simulator.virtual_card import VirtualCard

pytestmark = pytest.mark.walk


@dataclass(frozen=True, kw_only=True)
class Desk:
    site: Site
    hub: HubProcess
    api: HubApi
    page: DeskPage
    reader: DeskProcess

    def card(self, kind: str = "genuine", given_name: str = "") -> VirtualCard:
        """A card of the deck; of somebody who is enrolled when there is a name."""
        today = datetime.now(UTC).date()
        made = deal(
            kind,
            Recipe(
                issuer_key=self.site.card_issuer_key(self.site.passphrase()),
                issuer=self.site.issuer,
                credential_id=CredentialId(secrets.token_bytes(16)),
                valid_from=today - timedelta(days=1),
                valid_until=today + timedelta(days=300),
                today=today,
            ),
        )
        if given_name:
            person = {
                "category": "resident",
                "given_name": given_name,
                "family_name": "Abebe",
                "room": "B-12",
            }
            enrolled = self.api.post("/cardholders", person)
            card: dict[str, Any] = {
                "credential_id": str(made.credential_id),
                "cardholder_id": enrolled["id"],
                "technology": "pkoc-v1" if kind == "v1" else "pkoc-v2",
            }
            if kind == "v1":
                card["public_key"] = made.public_key.hex()
            self.api.post("/cards", card)
        return made

    def shown(self, received: queue.SimpleQueue[Any], card: VirtualCard) -> str:
        """What the page says of a card."""
        report, _ = self.reader.tap(card)
        assert report["said"] == "passed_on"
        return str(look_of(received)["said"])


def look_of(received: queue.SimpleQueue[Any]) -> dict[str, Any]:
    while True:
        _, kind, data = received.get(timeout=WITHIN_S)
        if kind == "look":
            found: dict[str, Any] = data
            return found


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    directory = tmp_path_factory.mktemp("desk")
    site = create_site(directory / "site", SiteId("test-site"), now=datetime.now(UTC))
    with (directory / "processes.log").open("wb") as log, ExitStack() as parts:
        hub = parts.enter_context(HubProcess(site.hub_directory, directory / "data", stderr=log))
        token = hub.command("token", "create", "--name=walk", "--role=administrator")
        api = parts.enter_context(HubApi(hub.url, token))
        made = api.post("/stations", {"id": "front", "kind": "desk", "name": "Front desk"})
        printed = hub.command("operator", "link", "--role=guard", "--name=Guard")
        page = DeskPage(hub.url, printed[printed.index("/link/") :].split()[0], "Guard")
        parts.callback(page.close)
        reader = parts.enter_context(DeskProcess(directory, hub.url, made["token"], log=log))
        yield Desk(site=site, hub=hub, api=api, page=page, reader=reader)


def test_every_card_says_what_it_is(desk: Desk) -> None:
    """Good, V1, blocked, unknown, forged, another's and replayed: on the page, by name; a look is audited without names."""
    assert desk.page.sign_on("front") == 303
    with desk.page.watching() as received:
        assert desk.shown(received, desk.card(given_name="Tigist")) == "Tigist Abebe: Valid"
        assert desk.shown(received, desk.card("v1", "Yonas")) == "Yonas Abebe: Valid"
        lost = desk.card(given_name="Hana")
        desk.api.post(f"/cards/{lost.credential_id}/block", {"status": "suspended", "reason": "Lost"})
        assert desk.shown(received, lost).startswith("Hana Abebe: Blocked")
        assert desk.shown(received, desk.card()).startswith("Not known here")
        assert desk.shown(received, desk.card("forged")).startswith("Forged")
        assert desk.shown(received, desk.card("cloned")).startswith("Forged")
        assert desk.shown(received, desk.card("unknown-issuer")).startswith("From another issuer")
        _, recorded = desk.reader.tap(desk.card("replaying"))
        assert look_of(received)["said"].startswith("Not known here")
        assert desk.shown(received, recorded).startswith("Not fresh")
        report, _ = desk.reader.tap(desk.card("blank"))
        assert report["said"] == "not_read"
        assert look_of(received)["said"].startswith("Not read")
    looks = [each for each in desk.api.get("/audit", limit=100)["entries"] if each["action"] == "desk.look"]
    assert len(looks) == 10
    assert not any(name in str(looks) for name in ("Tigist", "Abebe", "Hana"))
    assert looks[-1]["subject"].startswith("cardholder:")
    assert looks[-1]["detail"]["station"] == "front"


def test_nobody_signed_on_is_said_at_the_reader(desk: Desk) -> None:
    """The card is shown to nobody, not later either, and counted."""
    desk.page.sign_off()
    report, _ = desk.reader.tap(desk.card(given_name="Samuel"))
    assert report["said"] == "nobody_signed_on"
    (station,) = desk.api.get("/stations")["stations"]
    assert station["unseen_taps"] == 1
    assert desk.page.sign_on("front") == 303
    with desk.page.watching() as received:
        assert desk.shown(received, desk.card(given_name="Meron")) == "Meron Abebe: Valid"


def test_a_hub_that_is_away_is_said_at_the_reader(desk: Desk) -> None:
    """It waits for it and goes on; the operator is still signed on."""
    card = desk.card(given_name="Ruth")
    desk.hub.stop()
    report, card = desk.reader.tap(card)
    assert report["said"] == "not_passed_on"
    assert "hold it again" in report["text"]
    desk.hub.start()
    desk.reader.until("hub_back")
    with desk.page.watching() as received:
        assert desk.shown(received, card) == "Ruth Abebe: Valid"


def test_a_reader_behind_pcsc_shows_the_same(desk: Desk, tmp_path: Path) -> None:
    """The program at a PC/SC service: a good card, a blocked one and a forged one, by name on the page."""
    pytest.importorskip("smartcard.scard", reason="NO DESK AT A PC/SC READER IS TESTED: pyscard is missing")
    with virtual_pcsc.alone(), ExitStack() as parts:
        if why := virtual_pcsc.missing():
            pytest.skip(f"NO DESK AT A PC/SC READER IS TESTED: {why}")
        made = desk.api.post("/stations", {"id": "side", "kind": "desk", "name": "Side desk"})
        service = parts.enter_context(virtual_pcsc.VirtualPcsc())
        reader = parts.enter_context(DeskProcess(tmp_path, desk.hub.url, made["token"], pcsc=service))
        aside = replace(desk, reader=reader)
        assert desk.page.sign_on("side") == 303
        with desk.page.watching() as received:
            assert aside.shown(received, desk.card(given_name="Selam")) == "Selam Abebe: Valid"
            lost = desk.card(given_name="Hirut")
            desk.api.post(f"/cards/{lost.credential_id}/block", {"status": "suspended", "reason": "Lost"})
            assert aside.shown(received, lost).startswith("Hirut Abebe: Blocked")
            assert aside.shown(received, desk.card("forged")).startswith("Forged")
