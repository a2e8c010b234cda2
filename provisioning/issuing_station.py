"""An issuing station: takes jobs from the hub, waits for a blank card, makes it, tells of each step, and goes on.

One thread does everything in turn. A card is only begun while the hub answers and still wants it. What a card cost is
never lost silently: a finished card is written down before the hub is told, and told again after a restart.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from enum import StrEnum, unique
from pathlib import Path
from typing import Any, Final, Protocol

from pacs.card.card_keys import CardSerial
from pacs.card.dialogue import Transceive, get_response, run
from pacs.card.personalisation import inspect
from pacs.errors import CardError, CardGone, PacsError, ReaderBroken, StoreError, VerificationError
from pacs.identifiers import CredentialId
from provisioning.card_journal import CardJournal
from provisioning.card_keys import replace_secret
from provisioning.encoder import IssuedCard
from provisioning.hub_client import ALREADY_EXISTS, HubAway, HubError
from provisioning.station_hub import STEP_TIMEOUT_S, Job, JobLost, StationHub

NOT_BLANK: Final = 0x6985
TRIES: Final = 3
WAIT_FOR_CARD_S: Final = 300.0
_POLL_S: Final = 0.5
_IDLE_S: Final = 1.0
_TELL_EVERY_S: Final = 5.0
_LONGEST_BACK_OFF_S: Final = 15.0


@unique
class Said(StrEnum):
    """What the program tells whoever sits beside it; wire strings of ``--format json``."""

    READY = "ready"
    JOB_TAKEN = "job_taken"
    WAITING_FOR_CARD = "waiting_for_card"
    CARD_NOT_BLANK = "card_not_blank"
    CARD_TORN = "card_torn"
    STEP = "step"
    ISSUED = "issued"
    NOT_ISSUED = "not_issued"
    JOB_ENDED = "job_ended"
    CARD_VOID = "card_void"
    VOID_TOLD = "void_told"
    VOID_KEPT = "void_kept"
    HUB_AWAY = "hub_away"
    HUB_BACK = "hub_back"
    READER_BROKEN = "reader_broken"
    READER_WORKS = "reader_works"
    STOPPED = "stopped"


Say = Callable[[Said, str, Mapping[str, str]], None]
"""Told what happened, in words, and about which job or card."""


class Issue(Protocol):
    """Personalises the card for a job, and says which step is done; raises as ``provisioning.encoder.issue_card``."""

    def __call__(self, card: Transceive, job: Job, progress: Callable[[str], None]) -> IssuedCard:
        """Return the card, locked and tried."""
        ...


class Handed:
    """The card that is made and not yet known to be handed in: one small file, without a secret.

    From then on the ``journal`` of what is not finished does not hold it any more.
    """

    def __init__(self, path: Path, journal: CardJournal) -> None:
        self._path = path
        self._journal = journal

    def put(self, job: Job, card: IssuedCard) -> None:
        """Write it down, durably. Raises ``StoreError``."""
        made = {
            "job_id": job.id,
            "attempt": job.attempt,
            "card": card.registration,
            "serial": str(card.serial),
        }
        text = json.dumps(made)
        replace_secret(self._path, text.encode())
        self._journal.given_out(card.serial)

    def get(self) -> Mapping[str, Any] | None:
        """What was written down; None: nothing. Raises ``StoreError`` for a damaged file."""
        try:
            found: Mapping[str, Any] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self._path}: cannot be read ({error}); it names a card that is made"
            ) from error
        return found

    def clear(self) -> None:
        """It was handed in."""
        self._path.unlink(missing_ok=True)

    def refused(self, made: Mapping[str, Any]) -> None:
        """The hub will never take it: void, until the hub knows that. Raises ``StoreError``."""
        if "serial" in made:  # not in the file of an earlier version
            credential_id = CredentialId.parse(made["card"]["credential_id"])
            self._journal.void(CardSerial.parse(made["serial"]), credential_id)
        self.clear()

    def voids(self) -> list[CredentialId]:
        """Ids that were certified and are on no card, of which the hub does not know."""
        return self._journal.voids()

    def reported(self, credential_id: CredentialId) -> None:
        """The hub knows that it is void."""
        self._journal.reported(credential_id)


class _SameCard(Exception):
    """The card that was refused lies there still."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """Why there is no card, and whether a blank one is spoilt; no failure: it is made, or the job was given back."""

    failure: str = ""
    spoilt: bool = False


@dataclass(slots=True, kw_only=True)
class _Making:
    """One job under way. ``done``: the steps of the card that lies there now; ``was_locked``: of an earlier try."""

    job: Job
    until: float
    tell_at: float = 0.0
    tries: int = 0
    was_locked: bool = False
    done: list[str] = field(default_factory=list)


class IssuingStation:
    """``run`` is its thread's body. ``card`` opens the reader; ``rest`` waits so many seconds, or less when it is to stop."""

    def __init__(
        self,
        hub: StationHub,
        card: Callable[[], AbstractContextManager[Transceive]],
        issue: Issue,
        handed: Handed,
        *,
        say: Say,
        rest: Callable[[float], object] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._card = card
        self._issue = issue
        self._handed = handed
        self._say = say
        self._stopping = threading.Event()
        self._rest = rest or self._stopping.wait
        self._monotonic = monotonic
        self._run = secrets.token_hex(16)
        self._broken = ""
        self._away = ""
        self._silences = 0
        self._beat_at = 0.0
        self._is_known = False
        self._last_job = ""
        self._seen: bytes | None = None
        self._refused: bytes | None = None

    def stop(self) -> None:
        """Let ``run`` end after the card that is being made; from any thread or a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        """Job after job until ``stop``. Raises ``StoreError`` when what is made cannot be written down or read."""
        while not self._stopping.is_set():
            try:
                self._hand_in()
                self._report_voids()
                self._keep_in_touch()
                job = self._hub.take()
                self._answered()
            except HubError as error:
                self._lost(error)
                continue
            if job is None:
                self._rest(_IDLE_S)
            else:
                self._serve(job)
        self._say(Said.STOPPED, "stopped", {})

    # ---- the hub

    def _keep_in_touch(self) -> None:
        now = self._monotonic()
        if now < self._beat_at:
            return
        station, every_s = self._hub.heartbeat(self._run, works=not self._broken)
        self._beat_at = now + every_s
        self._answered()
        if not self._is_known:
            self._is_known = True
            self._say(Said.READY, f"station {station}: waits for jobs", {"station": station})

    def _answered(self) -> None:
        self._silences = 0
        if self._away:
            self._away = ""
            self._say(Said.HUB_BACK, "the hub is back", {})

    def _lost(self, error: HubError) -> None:
        """Say so once, and wait longer each time."""
        if self._away != str(error):
            self._away = str(error)
            self._say(Said.HUB_AWAY, f"{error}; no card is begun until it is back", {})
        self._beat_at = 0.0
        self._rest(min(2.0 ** min(self._silences, 8) / 2, _LONGEST_BACK_OFF_S))
        self._silences += 1

    def _hand_in(self) -> None:
        """Tell the hub of a card that is made; raises ``HubError`` while it cannot be told."""
        made = self._handed.get()
        if made is None:
            return
        card = made["card"]
        about = {"job": str(made["job_id"]), "card": str(card["credential_id"])}
        try:
            self._hub.done(made["job_id"], made["attempt"], card)
        except HubAway:
            raise
        except HubError as error:  # it will never be taken
            if error.code == ALREADY_EXISTS:
                self._handed.clear()
            else:
                self._handed.refused(made)
            self._say(Said.CARD_VOID, f"destroy the card that was made last: {error}", about)
            return
        self._handed.clear()
        self._say(Said.ISSUED, "issued, checked and registered: hand it over", about)

    def _report_voids(self) -> None:
        """Tell the hub of ids that are on no card, under the job served last; raises ``HubAway``. They are kept till then."""
        if not self._last_job:
            return
        for credential_id in self._handed.voids():
            try:
                self._hub.voided(self._last_job, credential_id)
            except HubAway:
                raise
            except HubError as error:
                self._last_job = ""
                self._say(Said.VOID_KEPT, f"{error}; the hub is told with the next job", {})
                return
            self._handed.reported(credential_id)
            self._say(
                Said.VOID_TOLD, "an id that is on no card is registered as void", {"card": str(credential_id)}
            )

    # ---- one job

    def _serve(self, job: Job) -> None:
        about = {"job": job.id}
        self._last_job = job.id
        self._say(Said.JOB_TAKEN, "a card is wanted", about)
        self._say(Said.WAITING_FOR_CARD, "lay a blank card on the reader, and let it lie", about)
        making = _Making(job=job, until=self._monotonic() + WAIT_FOR_CARD_S)
        try:
            while (outcome := self._turn(making)) is None:
                pass
        except JobLost as error:
            self._say(Said.JOB_ENDED, f"the job has ended: {error}", about)
            return
        if outcome.failure:
            about["failure"] = outcome.failure
            self._say(Said.NOT_ISSUED, f"no card was made: {outcome.failure}", about)
            self._insist(lambda: self._hub.failed(job, outcome.failure, spoilt=outcome.spoilt))

    def _turn(self, making: _Making) -> _Outcome | None:
        """Look for a card once, and make it if it is there; None: go on waiting. Raises ``JobLost``."""
        job = making.job
        if self._stopping.is_set():
            with suppress(HubError):
                self._hub.put_back(job)
            return _Outcome()
        if self._monotonic() >= making.until:
            failure = "reader_broken" if self._broken else "card_not_blank" if self._refused else "no_card"
            return _Outcome(failure=failure)
        making.done.clear()
        try:
            if self._monotonic() >= making.tell_at:
                self._hub.step(job, "waiting_for_card")
                making.tell_at = self._monotonic() + _TELL_EVERY_S
            self._keep_in_touch()
            with self._card() as card:
                self._find_another(card)
                self._works()
                self._hub.step(job, "card_found")
                making.done.append("card_found")
                issued = self._issue(card, job, lambda step: self._step(making, step))
        except _SameCard:
            self._rest(_POLL_S)
            return None
        except JobLost:
            raise
        except HubError as error:
            self._lost(error)
            return None
        except StoreError:
            raise
        except PacsError as error:
            return self._not_made(making, error)
        self._handed.put(job, issued)
        self._insist(self._hand_in)
        return _Outcome()

    def _not_made(self, making: _Making, error: PacsError) -> _Outcome | None:
        """What follows from what went wrong at card or reader; None: wait for the same card or another one."""
        if isinstance(error, ReaderBroken):
            self._broke(error)
        elif isinstance(error, VerificationError):
            return _Outcome(failure="key_not_proven", spoilt=True)
        elif not isinstance(error, CardError):
            self._say(Said.NOT_ISSUED, str(error), {"job": making.job.id})
            return _Outcome(failure="issuer_fault")
        elif error.status_word == NOT_BLANK and making.was_locked:
            return _Outcome(failure="torn", spoilt=True)
        elif error.status_word == NOT_BLANK:
            self._refuse(making)
            return None
        if not making.done:  # none lies there yet
            self._rest(_POLL_S)
            return None
        making.tries, making.tell_at = making.tries + 1, 0.0
        making.was_locked = making.was_locked or "locked" in making.done
        if making.tries < TRIES:
            self._say(Said.CARD_TORN, "lay the same card down again, and let it lie", {"job": making.job.id})
            return None
        if isinstance(error, ReaderBroken):
            return _Outcome(failure="reader_broken")
        is_gone = isinstance(error, CardGone)
        return _Outcome(failure="card_removed" if is_gone else "card_fault", spoilt=not is_gone)

    def _find_another(self, card: Transceive) -> None:
        """Look whether another card lies there than the one that was refused; raises ``CardError`` while none does."""
        self._seen = run(inspect(), get_response(card))
        if self._seen is not None and self._seen == self._refused:
            raise _SameCard

    def _refuse(self, making: _Making) -> None:
        self._refused = self._seen
        making.tell_at = 0.0
        self._say(
            Said.CARD_NOT_BLANK, "that card was issued before: take a blank one", {"job": making.job.id}
        )
        self._rest(_POLL_S)

    def _step(self, making: _Making, step: str) -> None:
        """Tell a step while the card lies there: once, and without waiting for long."""
        making.done.append(step)
        self._say(Said.STEP, step, {"job": making.job.id, "step": step})
        if self._away:
            return
        try:
            self._hub.step(making.job, step, timeout_s=STEP_TIMEOUT_S)
        except HubError as error:  # the card is finished all the same; the hub is told at the end
            self._away = str(error)
            self._say(Said.HUB_AWAY, f"{error}; the card is finished first", {"job": making.job.id})

    def _insist(self, tell: Callable[[], None]) -> None:
        """Tell the hub, again and again until it is back or this is to stop."""
        while True:
            try:
                tell()
                self._answered()
            except JobLost as error:
                self._say(Said.JOB_ENDED, str(error), {})
            except HubAway as error:
                if self._stopping.is_set():
                    return  # a card that is made is written down
                self._lost(error)
                continue
            except HubError as error:
                self._say(Said.JOB_ENDED, str(error), {})
            return

    # ---- the reader

    def _works(self) -> None:
        if self._broken:
            self._broken, self._beat_at = "", 0.0
            self._say(Said.READER_WORKS, "the reader works again", {})

    def _broke(self, error: ReaderBroken) -> None:
        if not self._broken:
            self._broken, self._beat_at = str(error), 0.0
            self._say(Said.READER_BROKEN, f"the reader does not work: {error}", {})
        self._rest(_IDLE_S)
