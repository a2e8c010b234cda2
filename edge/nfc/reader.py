"""The reader's thread: from a card in the field to one value on the queue.

Each approach of a card ends in ``CardPresented``, ``CardRefused`` or ``ReadFailed``, once. The thread
heals a broken reader by itself and ends only when it is stopped.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from edge.inputs import (
    CardClaimed,
    CardDetected,
    CardPresented,
    CardRefused,
    ReaderInput,
    ReaderLost,
    ReaderRestored,
    ReadFailed,
)
from edge.nfc.rehearsal import Rehearsal
from edge.nfc.transaction import Contact, Transaction
from edge.priority import come_first
from pacs.card.dialogue import nothing
from pacs.credential import TrustAnchors, VerifiedCredential, Verifier
from pacs.errors import CardError, ReaderBroken, VerificationError
from pacs.identifiers import DoorId
from pacs.reason import ReadFault
from pacs.rules import Side

log = logging.getLogger(__name__)

_NOT_WORTH_A_RETRY: Final = frozenset({ReadFault.NOT_PKOC, ReadFault.TECHNOLOGY_UNSUPPORTED})
_RANDOM_UID: Final = 0x08  # first byte of a 4-byte UID drawn anew at each power-up (ISO/IEC 14443-3 §6.5.4)


class Antenna(Protocol):
    """A reader's hardware. After ``ReaderBroken`` only ``open`` and ``close`` are called."""

    def open(self) -> None:
        """Make it ready to poll from whatever state it is in. Raises ``ReaderBroken``."""
        ...

    def close(self) -> None:
        """Give the device back. Never raises."""
        ...

    def poll(self, until_ns: int) -> Contact | None:
        """The first card seen until ``time.monotonic_ns()`` reaches ``until_ns``. Raises ``ReaderBroken``."""
        ...

    def health(self) -> str:
        """One line for a technician, asked from the hardware. Raises ``ReaderBroken``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """How a reader behaves; see each field.

    ``transaction_ms``: the most a card may take from detection to its last byte. ``attempts``: how often
    a card that stays in the field is read before it is left alone. ``retry_pause_ms``: the rest between.
    ``presence_pause_ms``: how often to look whether a card is still there. ``departure_ms``: how long
    it must be out of sight to count as gone. ``poll_ms``: the most one poll lasts, hence a stop takes.
    ``first_back_off_s`` doubles up to ``longest_back_off_s`` while the reader cannot be opened.
    """

    allow_v1: bool = False
    transaction_ms: int = 1_200
    attempts: int = 3
    retry_pause_ms: int = 150
    presence_pause_ms: int = 50
    departure_ms: int = 200
    poll_ms: int = 250
    failures_before_reset: int = 3
    first_back_off_s: float = 0.25
    longest_back_off_s: float = 5.0


@dataclass(slots=True, kw_only=True)
class _Approach:
    """One card's stay in the field.

    ``settled``: nothing more is to be read from it. ``held``: it was read and is watched until it leaves.
    ``concealed``: it vanished, and may be back at once.
    """

    identity: bytes
    seen_ns: int
    attempts: int = 0
    settled: bool = False
    reported: bool = False
    concealed: bool = False
    held: Contact | None = None

    def is_of(self, identity: bytes) -> bool:
        """A card with a random UID shows another one after each reset: two such are taken for one."""
        return identity == self.identity or (_is_random(identity) and _is_random(self.identity))


def _is_random(identity: bytes) -> bool:
    return len(identity) == 4 and identity[0] == _RANDOM_UID


class Reader:
    """Drives one antenna on its own thread and puts ``ReaderInput`` values.

    ``put`` must not block. ``reader_identifier`` (32 bytes) is bound into each challenge. ``now`` is wall time.
    ``reset`` drives the hardware's reset line; called after ``failures_before_reset`` failures in a row.
    ``rest`` waits so many seconds, or less when ``stop`` is called.
    """

    def __init__(
        self,
        antenna: Antenna,
        *,
        door_id: DoorId,
        side: Side,
        reader_identifier: bytes,
        trust: TrustAnchors,
        put: Callable[[ReaderInput], None],
        now: Callable[[], datetime],
        settings: ReaderSettings | None = None,
        reset: Callable[[], None] | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        random: Callable[[int], bytes] = os.urandom,
        rest: Callable[[float], object] | None = None,
    ) -> None:
        self._antenna = antenna
        self._door_id = door_id
        self._side = side
        self._put = put
        self._settings = settings = settings or ReaderSettings()
        self._transaction = Transaction(
            reader_identifier=reader_identifier,
            allow_v1=settings.allow_v1,
            limit_ms=settings.transaction_ms,
            now=now,
            monotonic_ns=monotonic_ns,
            random=random,
        )
        self._reset = reset
        self._monotonic_ns = monotonic_ns
        self._verifier = Verifier(trust)
        self._rehearsal = Rehearsal(monotonic_ns)
        self._approach: _Approach | None = None
        self._is_open = False
        self._is_lost = False
        self._failures = 0
        self._stopping = threading.Event()
        self.came_round_ns = monotonic_ns()
        """When the thread last showed that it does not hang: at least every few seconds, also while broken."""
        self._rest = rest or self._stopping.wait
        self._thread = threading.Thread(target=self.run, name=f"reader {door_id} {side}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End the thread and give the device back; waits at most ``timeout_s``."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def trust(self, anchors: TrustAnchors) -> None:
        """Believe these issuers from the next card on; safe from any thread."""
        self._verifier = self._verifier.with_trust(anchors)

    def run(self) -> None:
        """The thread's body: turn after turn until ``stop``."""
        come_first()
        try:
            while not self._stopping.is_set():
                self.turn()
        finally:
            self._antenna.close()

    def turn(self) -> None:
        """One look at the field and what follows from it, or one attempt to open the reader. Never raises."""
        self.came_round_ns = self._monotonic_ns()
        try:
            if not self._is_open:
                self._antenna.open()
                self._is_open = True
            if self._approach is not None and self._approach.held is not None:
                self._watch(self._approach, self._approach.held)
                return
            contact = self._antenna.poll(self._until_ns())
            self._healed()
            self._follow(contact)
        except ReaderBroken as error:
            self._broke(str(error))
        except Exception as error:
            log.exception("reader of %s %s failed unexpectedly", self._door_id, self._side)
            self._broke(f"unexpected {type(error).__name__}")

    # ---- the reader itself

    def _healed(self) -> None:
        self._failures = 0
        if self._is_lost:
            self._put(ReaderRestored(door_id=self._door_id, side=self._side))
            self._is_lost = False

    def _broke(self, cause: str) -> None:
        """Report it once, reset the hardware when opening alone does not help, and wait before the next attempt."""
        settings = self._settings
        self._is_open = False
        if self._approach is not None:
            self._approach.held = None
        self._failures += 1
        self._antenna.close()
        try:
            if not self._is_lost:
                log.warning("reader of %s %s lost: %s", self._door_id, self._side, cause)
                self._put(ReaderLost(door_id=self._door_id, side=self._side, cause=cause))
                self._is_lost = True
            if self._reset is not None and self._failures % settings.failures_before_reset == 0:
                self._reset()
        except Exception:
            log.exception("reader of %s %s: its loss could not be handled", self._door_id, self._side)
        if self._failures > 1:
            self.came_round_ns = self._monotonic_ns()
            back_off_s = settings.first_back_off_s * 2.0 ** min(self._failures - 2, 16)
            self._rest(min(back_off_s, settings.longest_back_off_s))

    # ---- one card's stay

    def _until_ns(self) -> int:
        settings = self._settings
        wait_ms = settings.poll_ms if self._approach is None else min(settings.poll_ms, settings.departure_ms)
        return self._monotonic_ns() + wait_ms * 1_000_000

    def _follow(self, contact: Contact | None) -> None:
        approach = self._approach
        unseen_ns = 0 if approach is None else self._monotonic_ns() - approach.seen_ns
        departed = unseen_ns >= self._settings.departure_ms * 1_000_000
        if contact is None:
            if departed:
                self._end_approach()
            return
        if approach is None or departed or not approach.is_of(contact.identity):
            self._end_approach()
            approach = self._approach = _Approach(identity=contact.identity, seen_ns=0)
        try:
            if approach.settled:
                contact.release()
                self._rest(self._settings.presence_pause_ms / 1000)
            else:
                self._read(contact, approach)
        finally:
            approach.seen_ns = self._monotonic_ns()

    def _end_approach(self) -> None:
        approach, self._approach = self._approach, None
        if approach is not None and approach.concealed:
            self._put(ReadFailed(door_id=self._door_id, side=self._side, fault=ReadFault.CARD_GONE))

    def _read(self, contact: Contact, approach: _Approach) -> None:
        approach.attempts += 1
        approach.concealed = False
        try:
            outcome = self._transact(contact, nothing if approach.attempts > 1 else self._detected)
        except CardError as error:
            log.info("reader of %s %s: card not read, %s: %s", self._door_id, self._side, error.fault, error)
            self._failed(approach, error.fault)
            contact.release()
            if error.fault is not ReadFault.CARD_GONE:
                self._rest(self._settings.retry_pause_ms / 1000)
            return
        approach.settled, approach.held = True, contact
        self._put(outcome)

    def _watch(self, approach: _Approach, contact: Contact) -> None:
        """Leave a card that was read in its conversation until it has left."""
        if contact.is_present():
            self._rest(self._settings.presence_pause_ms / 1000)
        else:
            approach.held = None
            contact.release()
        approach.seen_ns = self._monotonic_ns()

    def _failed(self, approach: _Approach, fault: ReadFault) -> None:
        """Say so once; a card that only vanished may be back within a moment, and says so then."""
        approach.settled = approach.attempts >= self._settings.attempts or fault in _NOT_WORTH_A_RETRY
        if fault is ReadFault.CARD_GONE and not approach.settled:
            approach.concealed = not approach.reported
        elif not approach.reported:
            approach.reported = True
            self._put(ReadFailed(door_id=self._door_id, side=self._side, fault=fault))

    def _detected(self) -> None:
        self._put(CardDetected(door_id=self._door_id, side=self._side))

    def _claimed(self, credential: VerifiedCredential) -> Callable[[], float | None]:
        claim = CardClaimed(door_id=self._door_id, side=self._side, credential=credential)
        return self._rehearsal.of(lambda: self._put(claim))

    def _transact(self, contact: Contact, detected: Callable[[], None]) -> CardPresented | CardRefused:
        verifier = self._verifier
        presentation, marks = self._transaction.read(contact, verifier, detected, self._claimed)
        try:
            credential = verifier.verify(presentation)
        except VerificationError as error:
            marks["verify"] = self._monotonic_ns()
            return CardRefused(
                door_id=self._door_id,
                side=self._side,
                reason=error.reason,
                credential_id=verifier.claimed(presentation),
                technology=presentation.technology,
                marks=tuple(marks.items()),
            )
        marks["verify"] = self._monotonic_ns()
        return CardPresented(
            door_id=self._door_id, side=self._side, credential=credential, marks=tuple(marks.items())
        )
