"""The reader's thread: from a card in the field to one value on the queue.

Each approach of a card ends in ``CardPresented``, ``CardRefused`` or ``ReadFailed``, once. The thread
heals a broken reader by itself and ends only when it is stopped. A second thread only looks whether the
first comes round: a call that hangs is a lost reader too. ``docs/reader-health.md`` sums up the times.
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
from edge.nfc.approach import Approach
from edge.nfc.health import ReaderHealth, ReaderRecord, ReaderState
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

LONGEST_TURN_S: Final = 7.0
"""A thread that has not come round for so long hangs. Every wait of a sound one ends sooner: see ``docs/reader-health.md``."""
LOOK_S: Final = 1.0
"""How often that is looked at."""


class Antenna(Protocol):
    """A reader's hardware. After ``ReaderBroken`` only ``open`` and ``close`` are called."""

    @property
    def device(self) -> str:
        """What it is reached at; a path or a name."""
        ...

    @property
    def baud(self) -> int | None:
        """The speed of its line; None where it has none."""
        ...

    def open(self) -> None:
        """Make it ready to poll from whatever state it is in. Raises ``ReaderBroken``."""
        ...

    def close(self) -> None:
        """Give the device back. Never raises."""
        ...

    def poll(self, until_ns: int) -> Contact | None:
        """The first card seen until ``time.monotonic_ns()`` reaches ``until_ns``. Raises ``ReaderBroken``."""
        ...

    def check(self) -> str:
        """Ask the hardware whether it and its field work; takes a few ms. One line on what it is, for a technician.

        Raises ``ReaderBroken`` when it does not, or is not what was opened.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderSettings:
    """How a reader behaves; see each field.

    ``transaction_ms``: the most a card may take from detection to its last byte. ``attempts``: how often
    a card that stays in the field is read before it is left alone. ``retry_pause_ms``: the rest between.
    ``presence_pause_ms``: how often to look whether a card is still there. ``departure_ms``: how long
    it must be out of sight to count as gone. ``poll_ms``: the most one poll lasts, hence a stop takes.
    ``check_s``: how often the hardware is asked for its health while no card is there.
    ``first_back_off_s`` doubles up to ``longest_back_off_s`` while the reader cannot be opened.
    """

    allow_v1: bool = False
    transaction_ms: int = 1_200
    attempts: int = 3
    retry_pause_ms: int = 150
    presence_pause_ms: int = 50
    departure_ms: int = 200
    poll_ms: int = 250
    check_s: float = 4.0
    failures_before_reset: int = 3
    first_back_off_s: float = 0.25
    longest_back_off_s: float = 5.0


class Reader:
    """Drives one antenna on its own thread and puts ``ReaderInput`` values.

    ``put`` must not block. ``reader_identifier`` (32 bytes) is bound into each challenge. ``now`` is wall time.
    ``reset`` drives the hardware's reset line; called after ``failures_before_reset`` failures in a row.
    ``rest`` waits so many seconds, or less when ``stop`` is called. ``health`` may be called from any thread.
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
        self._approach: Approach | None = None
        self._is_open = False
        self._record = ReaderRecord(antenna.device, monotonic_ns())
        self._turning_point = threading.Lock()  # taken when the reader is lost or restored, and by no tap
        self._failures = 0
        self._next_check_ns = 0
        self._stopping = threading.Event()
        self.came_round_ns = monotonic_ns()
        """When the thread last showed that it does not hang: at least every few seconds, also while broken."""
        self._rest = rest or self._stopping.wait
        self._thread = threading.Thread(target=self.run, name=f"reader {door_id} {side}", daemon=True)
        self._lookout = threading.Thread(target=self._look_out, name=f"lookout {door_id} {side}", daemon=True)

    def start(self) -> None:
        """Start the thread, and the one that looks after it."""
        self._thread.start()
        self._lookout.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End the thread and give the device back; waits at most ``timeout_s``."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def health(self) -> ReaderHealth:
        """How it is; safe from any thread, without waiting."""
        return self._record.taken(self._monotonic_ns())

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
                self._is_open, self._next_check_ns = True, 0
                self.came_round_ns = self._monotonic_ns()
            if self._approach is not None and self._approach.held is not None:
                self._watch(self._approach, self._approach.held)
                self._healed()
                return
            if self._approach is None:
                self._check()
            contact = self._antenna.poll(self._until_ns())
            self._healed()
            self.came_round_ns = self._monotonic_ns()
            self._follow(contact)
        except ReaderBroken as error:
            self._record.advice = error.advice
            self._broke(str(error))
        except Exception as error:
            log.exception("reader of %s %s failed unexpectedly", self._door_id, self._side)
            self._record.advice = "look at the log, and report this"
            self._broke(f"unexpected {type(error).__name__}")

    # ---- the reader itself

    def _check(self) -> None:
        now_ns = self._monotonic_ns()
        if now_ns < self._next_check_ns:
            return
        self._next_check_ns = now_ns + round(self._settings.check_s * 1e9)
        firmware = self._antenna.check()
        if firmware != self._record.firmware:
            log.info("reader of %s %s: %s", self._door_id, self._side, firmware)
            self._record.firmware, self._record.baud = firmware, self._antenna.baud

    def _healed(self) -> None:
        self._failures = 0
        if self._record.state is ReaderState.OK:
            return
        with self._turning_point:
            if self._record.state is ReaderState.LOST:
                self._put(ReaderRestored(door_id=self._door_id, side=self._side))
            self._record.works(self._monotonic_ns())

    def _lost(self, cause: str) -> None:
        """Say so, once until it is healed; why the last attempt failed is kept for whoever asks."""
        with self._turning_point:
            if self._record.state is ReaderState.LOST:
                self._record.still_lost(cause)
            else:
                log.warning("reader of %s %s lost: %s", self._door_id, self._side, cause)
                self._put(ReaderLost(door_id=self._door_id, side=self._side, cause=cause))
                self._record.lost(cause, self._monotonic_ns())

    def _look_out(self) -> None:
        """The second thread's body: nothing here can wait for the reader's hardware."""
        while not self._stopping.wait(LOOK_S):
            try:
                self.look()
            except Exception:
                log.exception("reader of %s %s: the lookout failed", self._door_id, self._side)

    def look(self) -> None:
        """Report a thread that hangs in its hardware as a lost reader; it says itself when it is back."""
        if self._monotonic_ns() - self.came_round_ns > LONGEST_TURN_S * 1e9:
            self._record.advice = "plug it out and in; if that does not help, restart the machine"
            self._lost(f"no sign of life for {LONGEST_TURN_S:.0f} s")

    def _broke(self, cause: str) -> None:
        """Report it once, reset the hardware when opening alone does not help, and wait before the next attempt."""
        settings = self._settings
        self._is_open = False
        if self._approach is not None:
            self._approach.held = None
        self._failures += 1
        try:
            self._lost(cause)
            self._antenna.close()
            if self._reset is not None and self._failures % settings.failures_before_reset == 0:
                self._record.resets += 1
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
        self._record.last_card_ns = self._monotonic_ns()
        if approach is None or departed or not approach.is_of(contact.identity):
            self._end_approach()
            approach = self._approach = Approach(identity=contact.identity, seen_ns=0)
        try:
            if self._may_be_another(approach, contact):
                self._read_again(contact, approach)
            elif approach.settled:
                contact.release()
                self._rest(self._settings.presence_pause_ms / 1000)
            else:
                self._read(contact, approach)
        finally:
            approach.seen_ns = self._monotonic_ns()

    def _may_be_another(self, approach: Approach, contact: Contact) -> bool:
        """Random UIDs do not say whether a card came back or another took its place: what it proves does."""
        return (
            approach.outcome is not None
            and approach.identity != contact.identity
            and approach.repeats < self._settings.attempts
        )

    def _read_again(self, contact: Contact, approach: Approach) -> None:
        """Read a card that may be the one of this approach: the same is held in silence, another is presented."""
        approach.identity = contact.identity
        approach.repeats += 1
        try:
            outcome = self._transact(contact, nothing)
        except CardError as error:
            self._not_read(error)
            contact.release()
            return
        approach.held = contact
        if approach.is_another(outcome):
            approach.outcome, approach.repeats = outcome, 0
            self._detected()
            self._put(outcome)

    def _end_approach(self) -> None:
        approach, self._approach = self._approach, None
        if approach is not None and approach.concealed:
            self._put(ReadFailed(door_id=self._door_id, side=self._side, fault=ReadFault.CARD_GONE))

    def _read(self, contact: Contact, approach: Approach) -> None:
        approach.attempts += 1
        approach.concealed = False
        try:
            outcome = self._transact(contact, nothing if approach.attempts > 1 else self._detected)
        except CardError as error:
            self._not_read(error)
            self._failed(approach, error.fault)
            contact.release()
            if error.fault is not ReadFault.CARD_GONE:
                self._rest(self._settings.retry_pause_ms / 1000)
            return
        approach.settled, approach.held, approach.outcome = True, contact, outcome
        self._put(outcome)

    def _not_read(self, error: CardError) -> None:
        self._record.failed(error.fault)
        log.info("reader of %s %s: card not read, %s: %s", self._door_id, self._side, error.fault, error)

    def _watch(self, approach: Approach, contact: Contact) -> None:
        """Leave a card that was read in its conversation until it has left."""
        if contact.is_present():
            approach.repeats = 0
            self._record.last_card_ns = self._monotonic_ns()
            self._rest(self._settings.presence_pause_ms / 1000)
        else:
            approach.held = None
            contact.release()
        approach.seen_ns = self._monotonic_ns()

    def _failed(self, approach: Approach, fault: ReadFault) -> None:
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
            self._record.reads += 1
            return CardRefused(
                door_id=self._door_id,
                side=self._side,
                reason=error.reason,
                credential_id=verifier.claimed(presentation),
                technology=presentation.technology,
                marks=tuple(marks.items()),
            )
        marks["verify"] = self._monotonic_ns()
        self._record.reads += 1
        return CardPresented(
            door_id=self._door_id, side=self._side, credential=credential, marks=tuple(marks.items())
        )
