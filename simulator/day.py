"""A day at a small site: who taps where, what is lost and found, and whether everything came out right."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edge.door_state import OPENING_GRACE_S
from pacs.card.cvc import Certificate
from pacs.card.p256 import encode_point
from pacs.credential import Technology, VerifiedCredential
from pacs.events import EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.revocation import Status
from pacs.rules import DoorMode
from simulator.card_deck import DECK, Recipe, deal
from simulator.card_issuing import Profile
from simulator.oracle import Oracle
from simulator.scenario import HOSTILE_LINKS, NOT_READ, Holder, Resident
from simulator.site import VirtualSite
from simulator.station import Tap

BEGINS: Final = timedelta(hours=6)
LENGTH: Final = timedelta(hours=17)
_RUSH_HOURS: Final = (7, 8, 12, 13, 17, 18)
_BAD_DEALS: Final = ("forged", "unknown-issuer", "cloned", "expired", "not-yet-valid")
_OF_CONTROLLERS: Final = (EventKind.FIRE_REPORTED, EventKind.FIRE_CLEARED)
_DATES: Final = (Reason.CERTIFICATE_EXPIRED, Reason.CERTIFICATE_NOT_YET_VALID)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedTap:
    """A tap, who made it, at what time of the site's day, and what should have followed."""

    tap: Tap
    label: str
    time_of_day: timedelta
    expected: tuple[str, str]

    @property
    def as_expected(self) -> bool:
        """The outcome is the oracle's; of a card not read only that it was not read."""
        found = (self.tap.outcome, "" if self.tap.outcome == NOT_READ else self.tap.reason)
        return found == self.expected


@dataclass(slots=True)
class Record:
    """What the day left behind. ``blocked_s``: for each door, the longest from a block to its confirmation."""

    taps: list[CheckedTap] = field(default_factory=list)
    blocked_s: dict[DoorId, float] = field(default_factory=dict)
    incidents: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def surprises(self) -> list[CheckedTap]:
        """Taps whose outcome was another than the oracle's."""
        return [tap for tap in self.taps if not tap.as_expected]

    def outcomes(self) -> Counter[str]:
        """How often each outcome came."""
        return Counter(tap.tap.outcome for tap in self.taps)

    def reasons(self, outcome: str) -> Counter[str]:
        """How often each reason came with an outcome."""
        return Counter(tap.tap.reason for tap in self.taps if tap.tap.outcome == outcome)


class Day:
    """Plays a day within ``seconds`` at a running site. One thread for each door, one for what happens besides."""

    def __init__(
        self,
        site: VirtualSite,
        *,
        seconds: float,
        seed: int = 1,
    ) -> None:
        self.record = Record()
        self.on_tap: Callable[[CheckedTap], None] = lambda _tap: None
        self._site = site
        self._seconds = seconds
        self._dice = random.Random(seed)
        self._oracle = Oracle(
            site.description, issuers={site.issuer.reference: encode_point(site.issuer.key.public_key())}
        )
        self._doors = {door_id: threading.Lock() for door_id in site.stations}
        self._hands = threading.Lock()
        self._in_use: set[int] = set()
        self._stop = threading.Event()
        self._faults: list[Exception] = []
        self._begun_s = 0.0
        self._residents: list[tuple[Resident, Holder]] = []
        self._strangers: dict[str, Holder] = {}

    # ---- before the day

    def prepare(self) -> None:
        """Give every resident a card, and make the bad ones."""
        for resident in self._site.description.residents:
            holder = self._site.issue(resident)
            self._remember(holder, resident)
        first = self._site.description.residents[0]
        enrolled = self._site.issue(first, profile=Profile.V1)
        self._remember(enrolled, first)
        self._strangers = {
            "PKOC V1, not enrolled": self._site.issue(first, profile=Profile.V1, register=False),
            "genuine, unlisted": self._site.issue(first, register=False),
        }
        for name in (*_BAD_DEALS, "replaying"):
            self._strangers[name] = self._deal(name)
        for label, link in HOSTILE_LINKS.items():
            self._strangers[label] = Holder(label=label, card=self._deal("genuine").card, link=link)

    def _remember(self, holder: Holder, resident: Resident) -> None:
        if holder.credential is not None:
            self._oracle.registered(holder.credential.credential_id, resident)
        self._residents.append((resident, holder))

    def _deal(self, name: str) -> Holder:
        today = datetime.now(UTC).date()
        recipe = Recipe(
            issuer_key=self._site.issuer.key,
            issuer=self._site.issuer.reference,
            credential_id=CredentialId(self._dice.randbytes(16)),
            valid_from=today - timedelta(days=1),
            valid_until=today + timedelta(days=300),
            today=today,
        )
        card, refusal = deal(name, recipe), DECK[name].expected
        certificate = Certificate.from_bytes(card.certificate)
        return Holder(
            label=name,
            card=card,
            credential=VerifiedCredential(
                credential_id=recipe.credential_id,
                technology=Technology.PKOC_V2,
                issuer=certificate.issuer,
                valid_from=certificate.valid_from,
                valid_until=certificate.valid_until,
            ),
            # what a certificate's dates say is the decision's matter
            refusal=None if refusal in _DATES else refusal,
        )

    # ---- the day

    def play(self) -> Record:
        """Let it happen; raises what a door's thread raised."""
        self._begun_s = time.monotonic()
        threads = [threading.Thread(target=self._at_door, args=(door_id,)) for door_id in self._doors]
        for thread in threads:
            thread.start()
        try:
            self._besides()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._faults:
            raise self._faults[0]
        return self.record

    @property
    def time_of_day(self) -> timedelta:
        """The time on the site's wall in this accelerated day."""
        passed = min(1.0, (time.monotonic() - self._begun_s) / self._seconds)
        return BEGINS + passed * LENGTH

    def _at_door(self, door_id: DoorId) -> None:
        dice = random.Random(f"{door_id}{self._dice.random()}")
        visitors = self._visitors(door_id, dice)
        try:
            while not self._stop.wait(self._pause_s(dice)):
                with self._doors[door_id], self._in_hand(next(visitors)) as holder:
                    if holder is not None:
                        self._tap(holder, door_id)
        except Exception as error:  # noqa: BLE001 - raised again by play()
            self._faults.append(error)
            self._stop.set()

    def _pause_s(self, dice: random.Random) -> float:
        rush = self.time_of_day // timedelta(hours=1) in _RUSH_HOURS
        return dice.expovariate(8.0 if rush else 3.0)

    def _visitors(self, door_id: DoorId, dice: random.Random) -> Iterator[Holder]:
        """First each stranger once, spread over the doors, among residents; then whoever comes."""
        doors = sorted(self._doors)
        mine = doors.index(door_id)
        for place, (label, holder) in enumerate(self._strangers.items()):
            if "V1" in label:
                at_this_door = self._site.stations[door_id].door.allow_v1
            else:
                at_this_door = place % len(doors) == mine
            if at_this_door:
                yield dice.choice(self._residents)[1]
                yield holder
                if label == "replaying":
                    yield holder
        while True:
            odd = dice.random() < 0.08
            yield (
                self._strangers[dice.choice(["forged", "unknown-issuer", "genuine, unlisted"])]
                if odd
                else dice.choice(self._residents)[1]
            )

    @contextmanager
    def _in_hand(self, holder: Holder) -> Iterator[Holder | None]:
        """The holder, unless that card is at another door."""
        with self._hands:
            free = id(holder) not in self._in_use
            if free:
                self._in_use.add(id(holder))
        try:
            yield holder if free else None
        finally:
            if free:
                with self._hands:
                    self._in_use.discard(id(holder))

    def _tap(self, holder: Holder, door_id: DoorId) -> CheckedTap:
        expected = self._oracle.expected(holder, door_id)
        tap = self._site.tap(holder, door_id)
        checked = CheckedTap(tap=tap, label=holder.label, time_of_day=self.time_of_day, expected=expected)
        with self.record.lock:
            self.record.taps.append(checked)
        self.on_tap(checked)
        return checked

    # ---- what happens besides

    def _besides(self) -> None:
        lost = self._residents[1][1]
        stolen = self._residents[2][1]
        kitchen, workshop = DoorId("kitchen"), DoorId("workshop")
        script: list[tuple[float, Callable[[], None]]] = [
            (0.15, lambda: self._misdeed(kitchen, "force", EventKind.DOOR_FORCED)),
            (0.20, lambda: self._misdeed(kitchen, "close", EventKind.DOOR_ALARM_CLEARED)),
            (0.25, lambda: self._block(lost, "suspended")),
            (0.35, lambda: self._misdeed(workshop, "tamper", EventKind.TAMPER_OPENED)),
            (0.40, lambda: self._misdeed(workshop, "mend", EventKind.TAMPER_CLOSED)),
            (0.45, lambda: self._block(stolen, "revoked")),
            (0.50, lambda: self._misdeed(kitchen, "fire", EventKind.FIRE_REPORTED)),
            (0.55, lambda: self._misdeed(kitchen, "fire_over", EventKind.FIRE_CLEARED)),
            (0.60, lambda: self._reinstate(lost)),
            (0.70, lambda: self._switch(workshop, DoorMode.OUT_OF_SERVICE)),
            (0.80, lambda: self._switch(workshop, DoorMode.SECURED)),
        ]
        for share, incident in [*script, (1.0, lambda: None)]:
            due_s = self._begun_s + share * self._seconds - time.monotonic()
            if self._stop.wait(max(0.0, due_s)):
                return
            incident()

    @contextmanager
    def _nobody_at_a_door(self) -> Iterator[None]:
        with ExitStack() as held:
            for lock in self._doors.values():
                held.enter_context(lock)
            yield

    def _block(self, holder: Holder, status: str) -> None:
        credential_id = _credential_id(holder)
        with self._nobody_at_a_door():
            begun = datetime.now(UTC)
            version = self._site.block(credential_id, status)["version"]
            confirmed = self._site.wait_for_distribution(credential_id, version)
            for door_id, at in confirmed.items():
                seconds = (at - begun).total_seconds()
                self.record.blocked_s[door_id] = max(seconds, self.record.blocked_s.get(door_id, 0.0))
            self._oracle.status_changed(
                credential_id, Status.SUSPENDED if status == "suspended" else Status.INVALID
            )
            slowest_s = max((at - begun).total_seconds() for at in confirmed.values())
            self._note(
                f"card of {holder.label} {status}; {len(confirmed)} doors confirmed in {slowest_s:.2f} s"
            )
            for door_id in self._doors:
                self._tap(holder, door_id)

    def _reinstate(self, holder: Holder) -> None:
        credential_id = _credential_id(holder)
        with self._nobody_at_a_door():
            version = self._site.reinstate(credential_id)["version"]
            self._site.wait_for_distribution(credential_id, version)
            self._oracle.status_changed(credential_id, Status.VALID)
            self._note(f"card of {holder.label} reinstated")

    def _switch(self, door_id: DoorId, mode: DoorMode) -> None:
        with self._nobody_at_a_door():
            self._site.switch(door_id, mode)
            self._oracle.mode_changed(door_id, mode)
            self._note(f"{self._site.description.names[door_id]} {mode.value.replace('_', ' ')}")
            self._tap(self._residents[0][1], door_id)

    def _misdeed(self, door_id: DoorId, deed: str, kind: EventKind) -> None:
        """Do something at a door and see that the hub hears of it."""
        with self._doors[door_id]:  # nobody taps meanwhile, so that nobody closes the door
            station = self._site.stations[door_id]
            if kind is EventKind.DOOR_FORCED:
                self._site.wait_until(lambda: not (station.is_released or station.is_open), f"{door_id} shut")
                self._stop.wait(2 * OPENING_GRACE_S)
            station.controller.order(None if kind in _OF_CONTROLLERS else door_id, deed)
            self._site.wait_until(
                lambda: bool(
                    self._site.api.get("/events", controller=station.door.controller_id, kind=kind)["events"]
                ),
                f"{kind} of {door_id} at the hub",
            )
        self._note(f"{self._site.description.names[door_id]}: {kind.value.replace('_', ' ')}")

    def _note(self, text: str) -> None:
        with self.record.lock:
            self.record.incidents.append(text)


def _credential_id(holder: Holder) -> CredentialId:
    if holder.credential is None:
        raise ValueError(f"{holder.label} has no credential")
    return holder.credential.credential_id


def outcome_words(record: Record) -> dict[str, Any]:
    """Taps, grants, and denials by reason, as the summary gives them."""
    outcomes = record.outcomes()
    return {
        "taps": len(record.taps),
        "grants": outcomes["access_granted"],
        "denials": dict(sorted(record.reasons("access_denied").items())),
        "not_read": dict(sorted(record.reasons(NOT_READ).items())),
        "surprises": len(record.surprises),
    }
