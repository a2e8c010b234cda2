"""Many cards in a row: each person of a list gets one, whatever interrupts it, and nobody gets two.

What has happened is in a file that is only added to, one line for each row's next step; a line is durable before the hub
is told anything that depends on it. The hub says who has a card already. A card is nobody's before it is registered, so
one that was finished and not assigned serves the next person.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import Any, Final, Protocol

from pacs.card.card_keys import CardSerial
from pacs.errors import CardError, CardGone, CardNotGenuine, PacsError, StoreError, VerificationError
from pacs.identifiers import CardholderId, CredentialId
from provisioning.card_journal import CardJournal
from provisioning.card_keys import KeyMissing, sync_directory
from provisioning.card_list import Person
from provisioning.encoder import IssuedCard
from provisioning.hub_client import ALREADY_EXISTS, HubAway, HubError

FAILURES_IN_A_ROW: Final = 5


@unique
class Outcome(StrEnum):
    """What became of a row. ``MADE`` lasts only until the hub has the card."""

    MADE = "made"
    ISSUED = "issued"
    HAS_A_CARD = "has_a_card"
    UNKNOWN = "unknown"
    REFUSED = "refused"


@unique
class Said(StrEnum):
    """What the operator is told while it goes on."""

    NEXT = "next"
    TORN = "torn"
    NOT_USABLE = "not_usable"
    DONE = "done"
    PASSED_OVER = "passed_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row's latest word; ids and no name. ``registration``: what the hub is told of a card that is ``made``."""

    row: int
    key: str
    outcome: Outcome
    at: str
    cardholder_id: str = ""
    credential_id: str = ""
    serial: str = ""
    seconds: float = 0.0
    detail: str = ""
    registration: Mapping[str, str] | None = None


class BatchFile:
    """The file of one batch, mode 0600. Every method raises ``StoreError``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: dict[str, Line] = {}
        self._read()

    def add(self, line: Line) -> None:
        """Say something of a row, durably."""
        data = json.dumps(asdict(line)).encode() + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as target:
                target.write(data)
                target.flush()
                os.fsync(target.fileno())
            if not self.lines:
                sync_directory(self._path.parent)
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be written ({error.strerror})") from error
        self.lines[line.key] = line

    def _read(self) -> None:
        """Take the lines in; one that was cut off at the end says nothing, and is cut off the file."""
        try:
            data = self._path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                os.truncate(self._path, len(whole))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self._path}: cannot be read ({error.strerror})") from error
        for number, text in enumerate(whole.splitlines(), start=1):
            try:
                found: dict[str, Any] = json.loads(text)
                line = Line(**found | {"outcome": Outcome(found["outcome"])})
                self.lines[str(line.key)] = line
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{self._path}: line {number} is damaged; nobody gets a card before it is mended"
                ) from error


class Hub(Protocol):
    """``provisioning.hub_client.HubClient``, as a batch uses it. Every method raises ``HubError``."""

    def find_cardholder(self, key: str, *, by_id: bool) -> CardholderId | None:
        """Who has this external id, or this id; None: nobody."""
        ...

    def has_card(self, cardholder: CardholderId) -> bool:
        """Whether they have a card that is not revoked and has not ended."""
        ...

    def register(self, registration: Mapping[str, str], cardholder: CardholderId) -> None:
        """Give them a card that is made; the same again changes nothing."""
        ...

    def void_card(self, credential_id: CredentialId, cardholder: CardholderId) -> None:
        """Register a spoilt card as revoked."""
        ...


class Cards(Protocol):
    """The blank cards at the desk."""

    def make(self) -> IssuedCard:
        """Issue the card that is laid down next. Raises as ``provisioning.encoder.issue_card``; ``CardGone`` also when none comes."""
        ...

    def next(self) -> None:
        """Wait until the card that lies there is taken away."""
        ...


Say = Callable[[Said, Person, str], None]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Batch:
    """Goes through a list. ``say`` is told what goes on."""

    def __init__(
        self,
        hub: Hub,
        cards: Cards,
        journal: CardJournal,
        file: BatchFile,
        *,
        say: Say,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._hub = hub
        self._cards = cards
        self._journal = journal
        self._file = file
        self._say = say
        self._clock = clock

    def run(self, people: Iterable[Person]) -> None:
        """A card for each who has none. May be ended at any moment and begun again.

        Raises ``HubError`` when the hub is away, ``ReaderBroken``, ``StoreError``, and the card's error after
        ``FAILURES_IN_A_ROW`` cards that could not be issued.
        """
        everybody = list(people)
        self._hand_in(everybody)
        for person in everybody:
            line = self._file.lines.get(person.key)
            if line is None or line.outcome in (Outcome.UNKNOWN, Outcome.REFUSED):
                self._serve(person)

    def _hand_in(self, people: Iterable[Person]) -> None:
        """Register the cards that were made before it was interrupted."""
        for person in people:
            line = self._file.lines.get(person.key)
            if line is not None and line.outcome is Outcome.MADE:
                self._register(person, line)

    def _serve(self, person: Person) -> None:
        cardholder = self._hub.find_cardholder(person.key, by_id=person.by_id)
        if cardholder is None:
            self._pass_over(person, Outcome.UNKNOWN, "the hub knows nobody by this id")
            return
        if self._hub.has_card(cardholder):
            self._pass_over(person, Outcome.HAS_A_CARD, "has a card already", cardholder)
            return
        self._say(Said.NEXT, person, "")
        began = self._clock()
        issued = self._made(person)
        made = Line(
            row=person.row,
            key=person.key,
            outcome=Outcome.MADE,
            at=self._now(),
            cardholder_id=cardholder,
            credential_id=str(issued.credential_id),
            serial=str(issued.serial),
            seconds=round((self._clock() - began).total_seconds(), 1),
            registration=issued.registration,
        )
        self._file.add(made)
        self._register(person, made)
        self._cards.next()

    def _made(self, person: Person) -> IssuedCard:
        """The next card that can be issued; those that cannot are said, and taken away."""
        failures = 0
        while True:
            try:
                return self._cards.make()
            except CardGone as error:
                failures += 1
                what, text = Said.TORN, "the card was pulled away: lay the same card down again"
                last: PacsError = error
            except (CardError, CardNotGenuine, VerificationError, KeyMissing) as error:
                failures += 1
                what, text, last = Said.NOT_USABLE, f"this card cannot be used: {error}", error
            if failures == FAILURES_IN_A_ROW:
                raise last
            self._say(what, person, text)
            if what is Said.NOT_USABLE:
                self._cards.next()

    def _register(self, person: Person, made: Line) -> None:
        cardholder, serial = CardholderId(made.cardholder_id), CardSerial.parse(made.serial)
        try:
            self._hub.register(made.registration or {}, cardholder)
        except HubAway:
            raise
        except HubError as error:
            if error.code == ALREADY_EXISTS:
                self._journal.given_out(serial)
                why = "this card is somebody's already"
            else:
                self._journal.void(serial, CredentialId.parse(made.credential_id))
                why = f"the hub does not take the card, which is void: {error}"
            refused = replace(made, outcome=Outcome.REFUSED, at=self._now(), detail=why, registration=None)
            self._file.add(refused)
            self._say(Said.PASSED_OVER, person, why)
            return
        self._journal.given_out(serial)
        for credential_id in self._journal.voids():
            self._hub.void_card(credential_id, cardholder)
            self._journal.reported(credential_id)
        self._file.add(replace(made, outcome=Outcome.ISSUED, at=self._now(), registration=None))
        self._say(Said.DONE, person, f"card {made.serial}, {made.seconds:g} s")

    def _pass_over(self, person: Person, outcome: Outcome, why: str, cardholder: str = "") -> None:
        self._file.add(
            Line(
                row=person.row,
                key=person.key,
                outcome=outcome,
                at=self._now(),
                cardholder_id=cardholder,
                detail=why,
            )
        )
        self._say(Said.PASSED_OVER, person, why)

    def _now(self) -> str:
        return self._clock().isoformat(timespec="seconds")
