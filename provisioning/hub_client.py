"""The hub's REST interface as the bureau uses it: registering controllers, doors and cards.

Registering the same thing twice is one registration, so every call may be repeated.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import httpx

from pacs.credential import Technology
from pacs.errors import PacsError
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId, SiteId
from pacs.wiring import Wiring
from provisioning.encoder import IssuedCard
from provisioning.keystore import read_secret
from provisioning.readers import ProvisionedController

TIMEOUT_S: Final = 10.0
_LATER: Final = (408, 429, 500, 502, 503, 504)
ALREADY_EXISTS: Final = "already_exists"
"""The code of a refusal: what is registered under this id is something else."""
V1_ID_BYTES: Final = 32
Purpose: TypeAlias = Literal["first", "again", "swap"]
"""What an enrolment code is for: the place's first device, the same one again, or another."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class HubError(PacsError):
    """The hub cannot be reached, or refuses; the message says what it said and what to do.

    ``code``: that of its problem document (RFC 9457), empty when it does not answer.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class HubAway(HubError):
    """The hub cannot be reached, or cannot serve now: try again later."""


class HubClient:
    """One hub, spoken to with an API token; a context manager. Nothing sent or received is logged."""

    def __init__(
        self, url: str, token: str, *, root: Path | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        """``root``: the site's root, which may vouch for the hub beside the system's own.

        Raises ``HubError`` when ``url`` would carry the token unencrypted over a network, or there is no such root.
        """
        address = httpx.URL(url)
        if address.scheme != "https" and not (address.scheme == "http" and address.host in _LOOPBACK):
            raise HubError(f"{url}: https expected; the token would be readable on the way")
        headers = {"authorization": f"Bearer {token}"}
        self._client = httpx.Client(
            base_url=url, headers=headers, timeout=TIMEOUT_S, transport=transport, verify=_trust(root)
        )

    @classmethod
    def from_token_file(cls, url: str, token_file: Path, root: Path | None = None) -> Self:
        """Read the token from a file of mode 0600; raises ``StoreError`` or ``HubError``."""
        return cls(url, read_secret(token_file).decode("utf-8", "replace"), root=root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def check(self, about: Literal["cards", "controllers", "keys"]) -> None:
        """Raise ``HubError`` unless the hub answers and the token may see what is going to be registered."""
        self._request("GET", f"/api/v1/{about}", params={"limit": "1"})

    def register_controller(self, controller: ProvisionedController) -> None:
        """Register a controller and then its doors, each named by its id; raises ``HubError``."""
        self._request(
            "POST",
            "/api/v1/controllers",
            {
                "id": controller.id,
                "site_id": controller.site_id,
                "event_public_key": controller.event_public_key.hex(),
                "certificate_serial": controller.certificate_serial,
            },
        )
        for door in controller.doors:
            body = {"id": door, "controller_id": controller.id, "name": door}
            self._request("POST", "/api/v1/doors", body)

    def register_place(
        self, controller: ControllerId, doors: Sequence[DoorId], wiring: Wiring, site: SiteId | None
    ) -> None:
        """Register a place for a device, and its doors, each named by its id; raises ``HubError``."""
        place: dict[str, Any] = {"id": controller, "wiring": wiring.fields}
        self._request("POST", "/api/v1/controllers", place | ({"site_id": site} if site else {}))
        there = self._doors_of(controller)
        for door in doors:
            if door not in there:  # one that is there has the rules that it was given since
                body = {"id": door, "controller_id": controller, "name": door}
                self._request("POST", "/api/v1/doors", body)

    def _doors_of(self, controller: ControllerId) -> set[str]:
        found, after = set[str](), ""
        while True:
            page = {"limit": "500"} | ({"after": after} if after else {})
            known = self._request("GET", "/api/v1/doors", params=page).json()
            found |= {door["id"] for door in known["doors"] if door["controller_id"] == controller}
            if known["next_after"] is None:
                return found
            after = known["next_after"]

    def set_wiring(self, controller: ControllerId, wiring: Wiring) -> None:
        """Keep what a place is wired to; raises ``HubError``."""
        self._request("PUT", f"/api/v1/controllers/{controller}/wiring", wiring.fields)

    def revoke(self, controller: ControllerId, reason: str) -> None:
        """Refuse the device of a place at once; raises ``HubError``."""
        self._request("POST", f"/api/v1/controllers/{controller}/revoke", {"reason": reason})

    def make_code(self, controller: ControllerId, purpose: Purpose, days: int) -> dict[str, Any]:
        """A code for this place, as the hub's answer has it; raises ``HubError``."""
        body = {"purpose": purpose, "days": days}
        made: dict[str, Any] = self._request(
            "POST", f"/api/v1/controllers/{controller}/enrolment-codes", body
        ).json()
        return made

    def register_card(self, card: IssuedCard, cardholder: CardholderId) -> None:
        """Give a card to a cardholder the hub knows; raises ``HubError``."""
        self._request("POST", "/api/v1/cards", {**card.registration, "cardholder_id": cardholder})

    def replace_card(self, card: IssuedCard, replaced: CredentialId, reason: str) -> None:
        """Give a card to the holder of another one, which is revoked; raises ``HubError``."""
        self._request("POST", f"/api/v1/cards/{replaced}/replace", {**card.registration, "reason": reason})

    def void_card(self, credential_id: CredentialId, cardholder: CardholderId) -> None:
        """Register a card that was spoilt, as revoked, so that nobody is given its id; raises ``HubError``."""
        is_v1 = len(bytes(credential_id)) == V1_ID_BYTES
        body = {
            "credential_id": str(credential_id),
            "technology": (Technology.PKOC_V1 if is_v1 else Technology.PKOC_V2).value,
            "cardholder_id": cardholder,
            "status": "revoked",
        }
        self._request("POST", "/api/v1/cards", body)

    def holder_of(self, credential_id: CredentialId) -> CardholderId:
        """Whose card it is; raises ``HubError``."""
        card = self._table("GET", f"/api/v1/cards/{credential_id}")
        return CardholderId(card["cardholder_id"])

    def keys(self) -> Mapping[str, Any]:
        """How far changes of keys are (``GET /api/v1/keys``); raises ``HubError``."""
        found: Mapping[str, Any] = self._request("GET", "/api/v1/keys").json()
        return found

    def retire_issuer(self, issuer: str, *, reason: str, with_cards: bool) -> int:
        """Have no policy name a card issuer; how many cards stop by that. Raises ``HubError``."""
        body = {"reason": reason, "with_cards": with_cards}
        stopped = self._request("POST", f"/api/v1/keys/issuers/{issuer}/retire", body).json()["cards_stopped"]
        return int(stopped)

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        csv: bytes | None = None,
    ) -> httpx.Response:
        sent: dict[str, Any] = {"json": body}
        if csv is not None:
            sent = {"content": csv, "headers": {"content-type": "text/csv"}}
        try:
            response = self._client.request(method, path, params=params, timeout=timeout_s, **sent)
        except httpx.HTTPError as error:
            raise HubAway(
                f"the hub at {self._client.base_url} does not answer ({error}); is drempel-hub running?"
            ) from error
        if not response.is_success:
            kind = HubAway if response.status_code in _LATER else HubError
            raise kind(f"the hub refuses {method} {path}: {_problem(response)}", _code(response))
        return response

    def _table(self, method: str, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """``_request``, and the answer's JSON; raises ``HubError`` also when it is no object."""
        try:
            found = self._request(method, path, *args, **kwargs).json()
        except ValueError as error:
            raise HubError(f"what answers at {self._client.base_url} is not a hub: JSON expected") from error
        if not isinstance(found, dict):
            raise HubError(f"what answers at {self._client.base_url} is not a hub: an object expected")
        return found


def _trust(root: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if root is not None:
        try:
            context.load_verify_locations(root)
        except (OSError, ssl.SSLError) as error:
            raise HubError(f"{root}: no certificate in PEM ({error})") from error
    return context


def _problem(response: httpx.Response) -> str:
    """What a problem document (RFC 9457) says, in one line."""
    try:
        problem = response.json()
        said = [problem.get("title"), problem.get("detail"), problem.get("next_step")]
    except (ValueError, AttributeError):
        said = []
    return " ".join(str(part) for part in (f"status {response.status_code}.", *said) if part)


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return ""
