"""A station for tests: the reader's side of the interface, with cards that answer its challenges."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from pacs.card import pkoc
from pacs.card.dialogue import get_response, run
from pacs.credential import Presentation
from pacs.identifiers import CredentialId
from simulator.card_deck import Recipe, deal
from simulator.virtual_card import VirtualCard
from tests.hub.running import RunningHub


class FakeStation:
    """Registered at the hub; each card's answer is passed on as the program beside a desk does."""

    def __init__(self, hub: RunningHub, station_id: str, kind: str = "desk", site: str = "test-site") -> None:
        station = {"id": station_id, "kind": kind, "name": station_id.title(), "site_id": site}
        with hub.token() as program:
            made = program.post("/api/v1/stations", json=station)
        assert made.status_code == 201, made.text
        self.id = station_id
        self.token = made.json()["token"]
        self.run = secrets.token_hex(16)
        self._hub = hub
        self.following: dict[str, Any] = {}

    def client(self) -> httpx.Client:
        return self._hub.client(authorization=f"Bearer {self.token}")

    def heartbeat(self, *, works: bool = True) -> httpx.Response:
        return self._report("heartbeat", {"works": works})

    def tap(self, card: VirtualCard) -> httpx.Response:
        """A card answers the newest challenge."""
        return self.pass_on(self.answered(card))

    def answered(self, card: VirtualCard) -> dict[str, str]:
        """What is passed on of a card."""
        if not self.following:
            assert self.heartbeat().status_code == 200
        challenge = pkoc.Challenge(
            reader_identifier=bytes.fromhex(self.following["reader_identifier"]),
            at=datetime.fromisoformat(self.following["at"]),
            random=bytes.fromhex(self.following["random"]),
        )
        card.reset()
        dialogue = pkoc.present(challenge, allow_v1=True, on_certificate=lambda _: None)
        found: Presentation = run(dialogue, get_response(lambda command, _: card.answer(command)))
        said = {"certificate": found.certificate.hex(), "public_key": found.public_key.hex()}
        return {
            "random": self.following["random"],
            "technology": str(found.technology),
            "signature": found.signature.hex(),
            **{name: value for name, value in said.items() if value},
        }

    def pass_on(self, answer: dict[str, str]) -> httpx.Response:
        return self._report("presentations", answer)

    def not_read(self, fault: str = "card_gone") -> httpx.Response:
        return self._report("read-faults", {"fault": fault})

    def _report(self, what: str, body: dict[str, Any]) -> httpx.Response:
        with self.client() as program:
            answer = program.post(f"/api/v1/station/{what}", json={"run": self.run, **body})
        if answer.status_code == 200:
            self.following = answer.json()
        return answer


def recipe(hub: RunningHub, credential_id: CredentialId | None = None) -> Recipe:
    """What a genuine card of this hub's site is made of."""
    today = datetime.now(UTC).date()
    return Recipe(
        issuer_key=hub.site.card_issuer_key(hub.site.passphrase()),
        issuer=hub.site.issuer,
        credential_id=credential_id or CredentialId(secrets.token_bytes(16)),
        valid_from=today - timedelta(days=1),
        valid_until=today + timedelta(days=300),
        today=today,
    )


def card_of(hub: RunningHub, credential_id: CredentialId | None = None, kind: str = "genuine") -> VirtualCard:
    """A card of the deck, made as for this credential."""
    return deal(kind, recipe(hub, credential_id))
