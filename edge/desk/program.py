"""One reader that opens no door: each card that is held to it answers the hub's challenge, once until it is lifted.

One thread does everything in turn, so nothing waits for a lock. Nothing of a card is kept or written down. A card that
could not be passed on begins a new *run*: the hub then claims no whole record across that moment.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final, Protocol, TypeVar

from edge.desk.hub import Given, HubAway, HubRefuses
from edge.nfc.reader import Antenna
from edge.nfc.transaction import Contact
from pacs.card import pkoc
from pacs.card.dialogue import Dialogue, command_chaining, get_response, run
from pacs.card.pkoc import Challenge
from pacs.credential import Presentation
from pacs.errors import CardError, ReaderBroken
from pacs.reason import ReadFault

TRANSACTION_MS: Final = 2_000
ATTEMPTS: Final = 3
DEPARTURE_MS: Final = 200
_POLL_MS: Final = 250
_RETRY_S: Final = 0.15
_WATCH_S: Final = 0.05
_CHECK_S: Final = 4.0
_LONGEST_BACK_OFF_S: Final = 15.0
_LONGEST_REOPENING_S: Final = 5.0
_NOT_WORTH_A_RETRY: Final = frozenset({ReadFault.NOT_PKOC, ReadFault.TECHNOLOGY_UNSUPPORTED})

T = TypeVar("T")


@unique
class Said(StrEnum):
    """What the program tells whoever sits beside it; wire strings of ``--format json``."""

    READY = "ready"
    PASSED_ON = "passed_on"
    NOBODY_SIGNED_ON = "nobody_signed_on"
    NOT_READ = "not_read"
    NOT_PASSED_ON = "not_passed_on"
    HUB_AWAY = "hub_away"
    HUB_BACK = "hub_back"
    READER_BROKEN = "reader_broken"
    READER_WORKS = "reader_works"


Say = Callable[[Said, str, Mapping[str, int]], None]
"""Told what happened, in words, and when: CLOCK_MONOTONIC in ns."""


class Hub(Protocol):
    """``edge.desk.hub.DeskHub``."""

    def heartbeat(self, run: str, *, works: bool) -> Given:
        """Raises ``HubAway`` or ``HubRefuses``, as the others do."""
        ...

    def presented(self, run: str, challenge: Challenge, presentation: Presentation) -> Given:
        """Pass on what a card answered."""
        ...

    def not_read(self, run: str, fault: ReadFault) -> Given:
        """Say that a card could not be read."""
        ...


@dataclass(slots=True)
class _Stay:
    """A card's stay in the field. ``fault``: it vanished unread, and may be back. ``held``: read, until it leaves."""

    seen_ns: int = 0
    attempts: int = 0
    settled: bool = False
    fault: ReadFault | None = None
    held: Contact | None = None
    marks: dict[str, int] = field(default_factory=dict)


class DeskReader:
    """Drives one antenna; ``run`` is its thread's body. ``rest`` waits so many seconds, or less when it is to stop."""

    def __init__(
        self,
        antenna: Antenna,
        hub: Hub,
        *,
        say: Say,
        allow_v1: bool = True,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        self._antenna = antenna
        self._hub = hub
        self._say = say
        self._allow_v1 = allow_v1
        self._monotonic_ns = monotonic_ns
        self._stopping = threading.Event()
        self._rest = rest or self._stopping.wait
        self._run = secrets.token_hex(16)
        self._given: Given | None = None
        self._given_ns = 0
        self._heartbeat_ns = 0
        self._away = ""
        self._silences = 0
        self._is_open = False
        self._broken = ""
        self._failures = 0
        self._check_ns = 0
        self._stay: _Stay | None = None

    def stop(self) -> None:
        """Let ``run`` end soon; from any thread or a signal's handler."""
        self._stopping.set()

    def run(self) -> None:
        """Turn after turn until ``stop``."""
        try:
            while not self._stopping.is_set():
                self.turn()
        finally:
            self._antenna.close()

    def turn(self) -> None:
        """One look at the field and what follows from it. Never raises for card, reader or hub."""
        self._keep_in_touch()
        try:
            if not self._is_open:
                self._antenna.open()
                self._is_open, self._check_ns = True, 0
            stay = self._stay
            if stay is not None and stay.held is not None:
                self._watch(stay, stay.held)
                return
            if stay is None:
                self._check()
            wait_ms = _POLL_MS if stay is None else DEPARTURE_MS
            contact = self._antenna.poll(self._monotonic_ns() + wait_ms * 1_000_000)
            self._follow(stay, contact)
        except ReaderBroken as error:
            self._broke(error)

    # ---- the reader itself

    def _check(self) -> None:
        now_ns = self._monotonic_ns()
        if now_ns < self._check_ns:
            return
        self._check_ns = now_ns + round(_CHECK_S * 1e9)
        what = self._antenna.check()
        self._failures = 0
        if self._broken:
            self._broken = ""
            self._heartbeat_ns = 0
            self._say(Said.READER_WORKS, f"the reader works again: {what}", {})

    def _broke(self, error: ReaderBroken) -> None:
        """Say so once, and wait longer each time before it is opened again."""
        self._antenna.close()
        self._is_open, self._stay = False, None
        self._missed()
        if not self._broken:
            self._broken = str(error)
            self._heartbeat_ns = 0
            advice = f"; {error.advice}" if error.advice else ""
            self._say(Said.READER_BROKEN, f"the reader does not work: {error}{advice}", {})
        self._failures += 1
        if self._failures > 1:
            self._rest(min(0.25 * 2.0 ** min(self._failures - 2, 8), _LONGEST_REOPENING_S))

    # ---- the hub

    def _keep_in_touch(self) -> None:
        if self._monotonic_ns() < self._heartbeat_ns:
            return
        try:
            self._take(self._hub.heartbeat(self._run, works=self._is_open and not self._broken))
        except (HubAway, HubRefuses) as error:
            self._lost(error)

    def _take(self, given: Given) -> None:
        now_ns = self._monotonic_ns()
        is_first = self._given_ns == 0
        self._given, self._given_ns = given, now_ns
        self._heartbeat_ns = now_ns + round(given.heartbeat_s * 1e9)
        self._silences = 0
        if self._away:
            self._away = ""
            self._say(Said.HUB_BACK, "the hub is back", {})
        if is_first:
            self._heartbeat_ns = 0  # the first one is sent before the reader is open
            self._say(Said.READY, f"station {given.station_id}: hold a card to the reader", {})

    def _lost(self, error: HubAway | HubRefuses) -> None:
        """Say so once, and wait longer each time before asking again."""
        self._given = None
        back_off_s = min(1.0 * 2.0 ** min(self._silences, 8), _LONGEST_BACK_OFF_S)
        self._silences += 1
        self._heartbeat_ns = self._monotonic_ns() + round(back_off_s * 1e9)
        if self._away != str(error):
            self._away = str(error)
            self._say(Said.HUB_AWAY, f"{error}; cards are not shown until it is back", {})

    def _missed(self) -> None:
        """A card may not have been told of."""
        self._run = secrets.token_hex(16)

    def _fresh(self) -> Given:
        """A challenge that can be used; raises ``HubAway`` or ``HubRefuses``."""
        given = self._given
        if given is None or self._monotonic_ns() - self._given_ns > given.valid_s * 1e9:
            given = self._hub.heartbeat(self._run, works=True)
            self._take(given)
        return given

    # ---- one card's stay

    def _follow(self, stay: _Stay | None, contact: Contact | None) -> None:
        if contact is None:
            if stay is not None and self._monotonic_ns() - stay.seen_ns >= DEPARTURE_MS * 1_000_000:
                self._stay = None
                if stay.fault is not None:
                    self._tell_fault(stay.fault)
            return
        if stay is None:
            stay = self._stay = _Stay()
        try:
            if stay.settled:
                contact.release()
                self._rest(_WATCH_S)
            else:
                self._read(contact, stay)
        finally:
            stay.seen_ns = self._monotonic_ns()

    def _watch(self, stay: _Stay, contact: Contact) -> None:
        """Leave a card that was read alone until it has left."""
        if contact.is_present():
            self._rest(_WATCH_S)
        else:
            stay.held = None
            contact.release()
        stay.seen_ns = self._monotonic_ns()

    def _read(self, contact: Contact, stay: _Stay) -> None:
        stay.attempts += 1
        stay.fault = None
        marks = {"detected": self._monotonic_ns()}
        try:
            given = self._fresh()
            dialogue = pkoc.present(
                given.challenge, allow_v1=self._allow_v1, on_certificate=lambda _certificate: None
            )
            presentation = converse(contact, dialogue, marks["detected"] + TRANSACTION_MS * 1_000_000)
            marks["read"] = self._monotonic_ns()
            self._given = None
            following = self._hub.presented(self._run, given.challenge, presentation)
        except CardError as error:
            self._failed(contact, stay, error.fault)
            return
        except (HubAway, HubRefuses) as error:
            stay.settled = True
            self._not_passed_on(error)
            contact.release()
            return
        stay.settled, stay.held = True, contact
        marks["answered"] = self._monotonic_ns()
        self._take(following)
        if following.signed_on is False:
            self._say(Said.NOBODY_SIGNED_ON, "read, but nobody is signed on: open the page /desk", marks)
        else:
            self._say(Said.PASSED_ON, "read: look at the page", marks)

    def _failed(self, contact: Contact, stay: _Stay, fault: ReadFault) -> None:
        """Try again while it is there; one that vanished may be back within a moment."""
        contact.release()
        stay.settled = stay.attempts >= ATTEMPTS or fault in _NOT_WORTH_A_RETRY
        if stay.settled:
            self._tell_fault(fault)
            return
        stay.fault = fault
        if fault is not ReadFault.CARD_GONE:
            self._rest(_RETRY_S)

    def _tell_fault(self, fault: ReadFault) -> None:
        again = "it is no card that is read here" if fault in _NOT_WORTH_A_RETRY else "hold it again, still"
        self._say(Said.NOT_READ, f"not read ({fault}): {again}", {})
        try:
            self._take(self._hub.not_read(self._run, fault))
        except (HubAway, HubRefuses) as error:
            self._missed()
            self._lost(error)

    def _not_passed_on(self, error: HubAway | HubRefuses) -> None:
        self._missed()
        self._lost(error)
        self._say(
            Said.NOT_PASSED_ON, f"the card was not shown: {error}; hold it again once the hub is back", {}
        )


def converse(contact: Contact, dialogue: Dialogue[T], deadline_ns: int) -> T:
    """Carry any dialogue to its end with the card in the field, until ``deadline_ns`` at the latest.

    Raises ``CardError`` or ``ReaderBroken``.
    """
    contact.activate(deadline_ns)
    return run(dialogue, get_response(command_chaining(contact.transceive)))
