"""The hub's REST interface as the issuing desk uses it: people, their cards, and at which doors a change has arrived."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from pacs.errors import MalformedData
from pacs.identifiers import CardholderId, CredentialId, SiteId
from provisioning.hub_client import HubClient, HubError

_AGAIN_S: Final = 0.5

Arrival = dict[str, Any]
"""A card's status, and each door's word on it: ``Distribution`` of docs/hub-api.md."""


class CardHub(HubClient):
    """A hub, as ``HubClient``; every method raises ``HubError``."""

    @classmethod
    def of_desk(cls, url: str, token_file: Path, site_dir: Path) -> Self:
        """The hub, believed by the root of the site in ``site_dir`` too where there is one; raises ``StoreError`` as well."""
        root = site_dir / "root.cert.pem"
        return cls.from_token_file(url, token_file, root if root.exists() else None)

    # ---- cards that are out

    def block_card(self, credential_id: CredentialId, status: str, reason: str) -> Arrival:
        """Suspend or revoke a card."""
        body = {"status": status, "reason": reason}
        return self._table("POST", f"/api/v1/cards/{credential_id}/block", body)

    def reinstate_card(self, credential_id: CredentialId, reason: str) -> Arrival:
        """Make a suspended card valid again."""
        return self._table("POST", f"/api/v1/cards/{credential_id}/reinstate", {"reason": reason})

    def revoke_if_known(self, credential_id: CredentialId, reason: str) -> Arrival | None:
        """Revoke a card; None: the hub does not know it."""
        try:
            return self.block_card(credential_id, "revoked", reason)
        except HubError as error:
            if error.code == "not_found":
                return None
            raise

    def arrival(self, credential_id: CredentialId, done: Arrival, wait_s: float) -> Arrival:
        """What the hub says once every door that is online has confirmed, or after ``wait_s``; ``done`` is what it said."""
        until = time.monotonic() + wait_s
        while time.monotonic() < until and any(
            each["online"] and each["confirmed_at"] is None for each in done["confirmations"]
        ):
            time.sleep(_AGAIN_S)
            done = self._table("GET", f"/api/v1/cards/{credential_id}/distribution")
        return done

    def void_cards(self, site_id: SiteId, reason: str, *, dry_run: bool) -> Arrival:
        """Revoke every card of a site's people for good; ``VoidedCards`` of docs/hub-api.md."""
        body = {"reason": reason, "dry_run": dry_run}
        return self._table("POST", f"/api/v1/sites/{site_id}/void-cards", body)

    def revocations_arrival(self, site_id: SiteId, version: int, wait_s: float) -> Arrival:
        """Every door's word on a version of a site's revocations, once all have confirmed or after ``wait_s``."""
        until = time.monotonic() + wait_s
        while True:
            found = self._table("GET", f"/api/v1/documents/{site_id}/revocations/{version}")
            if found["confirmed"] == found["doors"] or time.monotonic() >= until:
                return found
            time.sleep(_AGAIN_S)

    # ---- people

    def cards_of(self, cardholder: CardholderId) -> list[dict[str, Any]]:
        """Their cards."""
        found = self._table("GET", "/api/v1/cards", params={"cardholder": cardholder, "limit": "100"})
        return list(found["cards"])

    def has_card(self, cardholder: CardholderId) -> bool:
        """Whether they have a card that is not revoked and has not ended."""
        now = datetime.now(UTC)
        return any(
            card["status"] != "revoked"
            and (card["valid_until"] is None or datetime.fromisoformat(card["valid_until"]) > now)
            for card in self.cards_of(cardholder)
        )

    def find_cardholder(self, key: str, *, by_id: bool) -> CardholderId | None:
        """Who has this external id, or with ``by_id`` this id; None: nobody."""
        if not by_id:
            people = self._table("GET", "/api/v1/cardholders", params={"external_id": key})["cardholders"]
            return CardholderId(people[0]["id"]) if people else None
        try:
            return CardholderId(self._table("GET", f"/api/v1/cardholders/{CardholderId(key)}")["id"])
        except MalformedData:
            return None
        except HubError as error:
            if error.code == "not_found":
                return None
            raise

    def register(self, registration: Mapping[str, str], cardholder: CardholderId) -> None:
        """Give them a card of which this is known; the same again changes nothing."""
        self._request("POST", "/api/v1/cards", {**registration, "cardholder_id": cardholder})

    def import_people(self, data: bytes, site: str | None, *, dry_run: bool = False) -> None:
        """Bring a list of people in, all of it or nothing; its faults are in the error."""
        params = ({"dry_run": "true"} if dry_run else {}) | ({} if site is None else {"site": site})
        job = self._table("POST", "/api/v1/imports", params=params, csv=data)
        while job["ended_at"] is None:
            time.sleep(_AGAIN_S)
            job = self._table("GET", f"/api/v1/imports/{job['id']}")
        if job["state"] != "done":
            faults = [f"row {each['row']} {each['column']}: {each['problem']}" for each in job["faults"]]
            raise HubError("\n".join(["the hub does not take the list, and changed nothing:", *faults]))
