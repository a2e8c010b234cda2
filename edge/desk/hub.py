"""The hub's side of the line, over HTTPS: heartbeats, what a card answered, and the challenge for the next card."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from pacs.card.pkoc import Challenge
from pacs.credential import Presentation
from pacs.errors import MalformedData, PacsError
from pacs.identifiers import StationId
from pacs.reason import ReadFault

CONNECT_S: Final = 2.0
ANSWER_S: Final = 5.0
RETRIES: Final = 1
"""Of a connection that was not made; what was sent is never sent again."""
MAX_BYTES: Final = 64 * 1024
_MARGIN_S: Final = 10.0
"""A challenge is not used in its last seconds."""


class HubAway(PacsError):
    """The hub was not reached, or does not work; try again."""


class HubRefuses(PacsError):
    """The hub answers and wants nothing of it; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the hub gave a station: a challenge for one card, usable for ``valid_s``.

    ``signed_on``: whether anybody looks at this desk's page; None: it is not a desk. ``heartbeat_s``: when to ask again.
    """

    station_id: StationId
    challenge: Challenge
    valid_s: float
    heartbeat_s: float
    signed_on: bool | None

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the hub's answer; raises ``MalformedData``."""
        if len(data) > MAX_BYTES:
            raise MalformedData("answer: too long")
        try:
            said: dict[str, Any] = json.loads(data)
            at = datetime.fromisoformat(said["at"])
            given = cls(
                station_id=StationId(said["station_id"]),
                challenge=Challenge(
                    reader_identifier=bytes.fromhex(said["reader_identifier"]),
                    at=at,
                    random=bytes.fromhex(said["random"]),
                ),
                valid_s=float(said["valid_s"]) - _MARGIN_S,
                heartbeat_s=float(said["heartbeat_s"]),
                signed_on=said.get("signed_on"),
            )
            bytes(given.challenge)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise MalformedData("answer: a challenge expected") from error
        if not (0 < given.valid_s < 3600 and 1 <= given.heartbeat_s < 3600):
            raise MalformedData("answer: times out of range")
        if not isinstance(given.signed_on, bool | None):
            raise MalformedData("answer: signed_on is neither true nor false")
        return given


class DeskHub:
    """One hub, spoken to with a station's token; a context manager. Nothing sent or received is logged or kept.

    Every method raises ``HubAway`` or ``HubRefuses``.
    """

    def __init__(
        self,
        address: str,
        token: str,
        authority: Path | None = None,
        *,
        transport: Callable[[ssl.SSLContext], httpx.BaseTransport] | None = None,
    ) -> None:
        try:
            context = ssl.create_default_context(cafile=authority)
        except (OSError, ssl.SSLError) as error:
            raise HubRefuses(f"{authority}: no certificates in PEM") from error
        through = transport or (lambda verify: httpx.HTTPTransport(verify=verify, retries=RETRIES))
        self._client = httpx.Client(
            base_url=address,
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=through(context),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def heartbeat(self, run: str, *, works: bool) -> Given:
        """Say that the station is there, and whether its reader ``works``."""
        return self._post("heartbeat", {"run": run, "works": works})

    def presented(self, run: str, challenge: Challenge, presentation: Presentation) -> Given:
        """Pass on what a card answered to ``challenge``."""
        said = {
            "run": run,
            "random": challenge.random.hex(),
            "technology": presentation.technology.value,
            "signature": presentation.signature.hex(),
        }
        carried = {"certificate": presentation.certificate, "public_key": presentation.public_key}
        return self._post(
            "presentations", said | {name: value.hex() for name, value in carried.items() if value}
        )

    def not_read(self, run: str, fault: ReadFault) -> Given:
        """Say that a card was there that could not be read."""
        return self._post("read-faults", {"run": run, "fault": fault.value})

    def _post(self, what: str, body: dict[str, Any]) -> Given:
        try:
            answer = self._client.post(f"/api/v1/station/{what}", json=body)
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise HubRefuses(
                    f"the hub's certificate is not believed ({error}): name who vouches for it as authority"
                ) from error
            raise HubAway(f"the hub was not reached: {str(error) or type(error).__name__}") from error
        if answer.status_code == 401:
            raise HubRefuses("the hub does not know this token: the station was retired, or has another one")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise HubAway(f"the hub answers {answer.status_code}")
        if answer.status_code != 200:
            raise HubRefuses(f"the hub answers {answer.status_code}: it may be of another version")
        try:
            return Given.from_bytes(answer.content)
        except MalformedData as error:
            raise HubRefuses(f"what answers at that address is not a hub: {error}") from error
