"""Commands on their way in: judged and made single-use by a thread of its own, so that no card waits for it.

A command is judged once. Its id is durable before ``CommandAccepted`` is put: whatever happens then, it is never
taken again. One that is refused here is used up as well, unless it is not meant for here.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from edge.clock import TOLERANCE, Clock
from edge.inputs import CommandAccepted, CommandReceived, CommandRefused, Now, PartFailed
from edge.order_store import OrderStore, Receiver
from edge.state_files import StateFiles
from edge.used_commands import UsedCommands
from pacs.commands import Command, open_command
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.identifiers import DoorId
from pacs.reason import Reason
from pacs.situation import ModeOrder

log = logging.getLogger(__name__)

WAITING_COMMANDS: Final = 64
"""What comes while so many wait is dropped; the hub repeats it."""
TOLD_REFUSALS: Final = 256
"""Of so many (command, reason) it is known that they were told."""
ANONYMOUS_AGAIN_S: Final = 60.0
"""What is not the hub's is told once for each reason in this time; all of it is counted."""
REFUSALS_PER_MINUTE: Final = 30
ROUND_S: Final = 5.0
"""How often orders that came to their end are looked for."""

Outcome: TypeAlias = CommandAccepted | CommandRefused | PartFailed


class CommandIntake:
    """Puts ``CommandAccepted`` or ``CommandRefused`` for the commands it takes."""

    def __init__(
        self,
        directory: Path,
        receiver: Receiver,
        *,
        clock: Clock,
        put: Callable[[Outcome], None],
        first_start: bool = True,
        files: StateFiles | None = None,
    ) -> None:
        """Read what is in force and what was used; never raises. ``first_start``: there never was anything."""
        self._used = UsedCommands(directory, now=clock.now(), first_start=first_start, files=files)
        self._orders = OrderStore(directory, receiver, files=files)
        self._receiver = receiver
        self._clock = clock
        self._put = put
        self._queue: queue.Queue[CommandReceived | None] = queue.Queue(WAITING_COMMANDS)
        self._refusals = _Refusals()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    @property
    def orders(self) -> Mapping[DoorId, ModeOrder]:
        """The modes that doors were ordered into; to be asked before ``start``."""
        return self._orders.orders

    @property
    def counts(self) -> Mapping[str, int]:
        """Commands that were not taken since the start, by reason, the dropped ones too; from any thread."""
        return self._refusals.counted()

    def start(self) -> None:
        """Start the thread, and put what was found wrong on disk."""
        if self._used.lost:
            self._put(PartFailed(part="used_commands", error="unreadable"))
        if self._orders.unusable:
            self._put(PartFailed(part="orders", error="unreadable"))
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the command it has in hand."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # it comes round as soon as it has taken one
            self._queue.put_nowait(None)
        self._thread.join()

    def take(self, received: CommandReceived) -> None:
        """Have this command judged; from any thread, never waits."""
        try:
            self._queue.put_nowait(received)
        except queue.Full:
            self._refusals.dropped()

    # ---- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                received = self._queue.get(timeout=ROUND_S)
            except queue.Empty:
                self._tidy()
                continue
            if received is None:
                return
            try:
                outcome: Outcome | None = self._judged(received)
            except Exception as error:  # the next one may be a lockdown
                log.exception("a command cannot be judged")
                outcome = PartFailed(part="commands", error=type(error).__name__)
            if outcome:
                self._put(outcome)

    def _tidy(self) -> None:
        try:
            now = self._clock.now()
            self._used.recover(now, self._clock.document_issued_at)
            self._orders.drop_ended(now.clock)
        except Exception:  # tried again next time
            log.exception("commands cannot be tidied up")

    def _judged(self, received: CommandReceived) -> CommandAccepted | CommandRefused | None:
        """None for a refusal that is not told again."""
        now = self._clock.now()
        try:
            command = open_command(received.data, self._receiver.signers.accepted)
        except MalformedData:
            return self._refusals.anonymous(Reason.COMMAND_MALFORMED, now)
        except VerificationError as error:
            return self._refusals.anonymous(error.reason, now)
        try:
            self._used.recover(now, self._clock.document_issued_at)
            reason = self._refusal(command, now, retained=received.retained)
        except Exception:
            log.exception("a command cannot be judged")
            reason = Reason.INTERNAL_FAULT
        if reason is None:
            reason = self._taken(command, received.data, now)
        if reason is None:
            return CommandAccepted(command=command)
        return self._refusals.named(command, reason, now)

    def _refusal(self, command: Command, now: Now, *, retained: bool) -> Reason | None:
        """Why a command is not to be taken; it is used up by that."""
        elsewhere = self._receiver.addressed(command)
        if elsewhere:
            return elsewhere
        reason = self._untimely(command, now, retained=retained)
        if (
            reason
            and not self._used.was_used(command.command_id)
            and not self._used.was_let_go(command.expires_at)
        ):
            try:
                self._used.use(command, now)
            except StoreError as error:
                log.error("a refused command cannot be remembered: %s", error)  # noqa: TRY400
        return reason

    def _untimely(self, command: Command, now: Now, *, retained: bool) -> Reason | None:
        clock = now.clock
        if retained:
            return Reason.COMMAND_RETAINED
        if self._used.was_used(command.command_id):
            return Reason.COMMAND_REPEATED
        if self._used.lost:
            return Reason.INTERNAL_FAULT
        if not clock.trusted:
            return Reason.CLOCK_UNTRUSTED
        if command.expires_at <= clock.at or self._used.was_let_go(command.expires_at):
            return Reason.COMMAND_EXPIRED
        if command.issued_at > clock.at + TOLERANCE:
            return Reason.COMMAND_NOT_YET_VALID
        return None

    def _taken(self, command: Command, data: bytes, now: Now) -> Reason | None:
        """Use it up and keep what it orders, durably; else why not."""
        try:
            self._used.use(command, now)
            self._orders.apply(command, data)
        except Exception:
            log.exception("a command cannot be made single-use, so it is not carried out")
            return Reason.INTERNAL_FAULT
        return None


class _Refusals:
    """Which refusals are told: each once, and no more of them than somebody can read; all are counted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._told: dict[tuple[bytes, Reason], None] = {}
        self._anonymous_at_s: dict[Reason, float] = {}
        self._recent: deque[float] = deque(maxlen=REFUSALS_PER_MINUTE)

    def counted(self) -> Mapping[str, int]:
        """By reason, since the start."""
        with self._lock:
            return dict(self._counts)

    def dropped(self) -> None:
        """One was not even looked at."""
        self._count("dropped")

    def anonymous(self, reason: Reason, now: Now) -> CommandRefused | None:
        """One that is nobody's: the refusal, None when there was one for this reason a moment ago."""
        self._count(reason.value)
        last_s = self._anonymous_at_s.get(reason)
        if last_s is not None and now.monotonic_s - last_s < ANONYMOUS_AGAIN_S:
            return None
        self._anonymous_at_s[reason] = now.monotonic_s
        return CommandRefused(reason=reason)

    def named(self, command: Command, reason: Reason, now: Now) -> CommandRefused | None:
        """An authentic one: the refusal, None when it was told before or too many were."""
        self._count(reason.value)
        refusal = (command.command_id, reason)
        if refusal in self._told:
            return None
        if len(self._recent) == REFUSALS_PER_MINUTE and now.monotonic_s - self._recent[0] < 60.0:
            return None
        self._recent.append(now.monotonic_s)
        self._told[refusal] = None
        if len(self._told) > TOLD_REFUSALS:
            del self._told[next(iter(self._told))]
        elsewhere = reason in (Reason.COMMAND_OTHER_CONTROLLER, Reason.DOOR_UNKNOWN)
        return CommandRefused(
            reason=reason, command_id=command.command_id, door_id=None if elsewhere else command.door_id
        )

    def _count(self, reason: str) -> None:
        with self._lock:
            self._counts[reason] += 1
