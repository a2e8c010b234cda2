"""The hub as an issuing station speaks to it: jobs taken, steps told, cards handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from pacs.credential import Technology
from pacs.errors import MalformedData
from pacs.identifiers import CredentialId
from provisioning.encoder import IssuedCard
from provisioning.hub_client import TIMEOUT_S, HubClient, HubError

STEP_TIMEOUT_S: Final = 1.0
"""A step is told while a card lies in the field; the next one says more."""


class JobLost(HubError):
    """The job is not this attempt's any more: cancelled, or ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A card to be made; whose, the station is not told. Both days are inclusive."""

    id: str
    attempt: str
    technology: Technology
    first_day: date
    last_day: date
    lease_s: float


class StationHub(HubClient):
    """Spoken to with a station's token. Everything may be sent again. Raises ``HubAway``, ``HubError`` and ``JobLost``."""

    def heartbeat(self, run: str, *, works: bool) -> tuple[str, float]:
        """Say that the station is there, and whether its reader ``works``; its id, and in how many seconds to say so again.

        Raises ``HubError``, too, when the token is not that of an issuing station.
        """
        said = self._tell("heartbeat", {"run": run, "works": works})
        if said.get("kind") != "issuing":
            raise HubError(
                f"station {said.get('station_id')} makes no cards; make one of the kind issuing",
                "not_permitted",
            )
        return str(said["station_id"]), float(said["heartbeat_s"])

    def take(self) -> Job | None:
        """The next job; None: there is none now."""
        job = self._tell("issuing/take", {})["job"]
        if job is None:
            return None
        try:
            return Job(
                id=str(job["job_id"]),
                attempt=str(job["attempt"]),
                technology=Technology(job["technology"]),
                first_day=date.fromisoformat(job["first_day"]),
                last_day=date.fromisoformat(job["last_day"]),
                lease_s=float(job["lease_s"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedData(f"the hub's job cannot be read ({error}); update this program") from error

    def step(self, job: Job, step: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Tell how far the card is, which makes the lease begin anew."""
        self._about(job, "step", {"step": step}, timeout_s=timeout_s)

    def put_back(self, job: Job) -> None:
        """Give a job back of which nothing was written."""
        self._about(job, "put-back", {})

    def done(self, job_id: str, attempt: str, card: Mapping[str, str]) -> None:
        """Hand in a card that is made."""
        body = {
            "attempt": attempt,
            "credential_id": card["credential_id"],
            "public_key": card["public_key"],
            **({"issuer": card["issuer"]} if "issuer" in card else {}),
        }
        self._job(job_id, "done", body)

    def failed(self, job: Job, failure: str, *, spoilt: bool, card: IssuedCard | None = None) -> None:
        """Say that no card came of it, and whether a blank one is spoilt."""
        body: dict[str, Any] = {"failure": failure, "spoilt": spoilt}
        if card is not None:
            body["credential_id"] = str(card.credential_id)
        self._about(job, "failed", body)

    def voided(self, job_id: str, credential_id: CredentialId) -> None:
        """Tell of an id that was certified and is on no card, under any job that this station was given."""
        self._job(job_id, "voided", {"credential_id": str(credential_id)})

    def _about(self, job: Job, what: str, body: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> None:
        self._job(job.id, what, {"attempt": job.attempt, **body}, timeout_s=timeout_s)

    def _job(self, job_id: str, what: str, body: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._tell(f"issuing/jobs/{job_id}/{what}", body, timeout_s=timeout_s)
        except HubError as error:
            if error.code in ("job_over", "not_found"):
                raise JobLost(str(error), error.code) from error
            raise

    def _tell(self, what: str, body: Mapping[str, Any], *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        answer = self._request("POST", f"/api/v1/station/{what}", body, timeout_s=timeout_s)
        try:
            said: dict[str, Any] = answer.json()
        except ValueError as error:
            raise HubError("the hub's answer is no JSON; is this address a hub's?") from error
        return said
