"""One queue, one thread: takes inputs, asks the controller, performs its effects in order.

Reader, pin and uplink threads only ``put``. What may block has a thread of its own: making events durable, and
verifying a document. Between a card and its strike stand the decision and one write to the page cache.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeAlias

from edge.after_fault import after_fault
from edge.after_stopping import after_stopping
from edge.clock import Clock
from edge.controller import DoorController
from edge.document_intake import DocumentIntake, Documents
from edge.effects import (
    AdoptIssuers,
    Effect,
    EndHold,
    Examine,
    HoldStrike,
    Indicate,
    LockStrike,
    Prepare,
    Record,
    ReleaseStrike,
    Signal,
    Sound,
    Sync,
)
from edge.inputs import (
    Acknowledged,
    CardClaimed,
    CardPresented,
    CardRefused,
    CommandReceived,
    DocumentReceived,
    EventsUnreadable,
    Input,
    LinkChanged,
    Marks,
    Now,
    ReadFailed,
    RecordFailed,
    Started,
    Stopping,
    Tick,
)
from edge.journal import Journal
from edge.journal_notes import JournalGap
from edge.journal_policy import JournalPolicy
from edge.priority import come_first
from edge.recorder import Recorder
from pacs.events import EventDraft, EventKind
from pacs.identifiers import CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
"""The longest time between two looks at the timers, and so between two feedings of the watchdog."""
SHORTEST_TICK_S: Final = 0.02
YIELD_S: Final = 0.002
"""How long the thread that put a presented card leaves the interpreter to the one that decides."""
ALARM_REPEAT_S: Final = 60.0
"""The same fault is recorded again only after this time."""


_Presented: TypeAlias = CardPresented | CardRefused | ReadFailed


class Doors(Protocol):
    """The pins. None of these waits."""

    def release(self, door_id: DoorId, unlock_ms: int) -> None:
        """Unlock for a time."""
        ...

    def hold(self, door_id: DoorId) -> None:
        """Unlock until the hold ends."""
        ...

    def end_hold(self, door_id: DoorId) -> None:
        """Lock, or leave it to the release in progress."""
        ...

    def lock(self, door_id: DoorId) -> None:
        """Lock."""
        ...

    def indicate(self, door_id: DoorId, side: Side, signal: Signal) -> None:
        """Show a signal at a reader."""
        ...

    def sound(self, door_id: DoorId, signal: Signal) -> None:
        """Sound a signal at the door."""
        ...


class Commands(Protocol):
    """Judges what may be a command, in a thread of its own, and puts the outcome."""

    def take(self, received: CommandReceived) -> None:
        """Have this command judged; never waits."""
        ...

    def stop(self) -> None:
        """Return once the last outcome is put; a second call does nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One presentation, for measuring: its outcome, and when each of its phases ended.

    ``outcome``: the event's kind, ``not_read``, or ``not_recorded`` at a private door; ``sequence``: None when no event was
    journalled.
    """

    door_id: DoorId
    side: Side
    outcome: str
    reason: str
    credential_id: CredentialId | None
    sequence: int | None
    marks: Marks


class Service:
    """Owns the controller's state. Build it, start the threads that ``put``, then ``run``."""

    def __init__(
        self,
        controller: DoorController,
        *,
        clock: Clock,
        journal: Journal,
        doors: Doors,
        documents: Documents,
        notify: Callable[[], None],
        adopt: Callable[[Mapping[str, bytes]], None],
        on_tick: Callable[[], object] = lambda: None,
        on_trace: Callable[[Trace], None] | None = None,
        queue: SimpleQueue[Input] | None = None,
        journal_policy: JournalPolicy | None = None,
        commands: Commands | None = None,
        examine: Callable[[], None] = lambda: None,
    ) -> None:
        """``notify``: more events are durable. ``adopt``: issuers the readers trust. ``on_tick``: a turn is done.

        ``queue``: what happened before there was a service is in it. ``commands``: None: none is taken. ``examine``: begin to, elsewhere.
        """
        self._controller = controller
        self._clock = clock
        self._doors = doors
        self._intake = DocumentIntake(documents, clock=clock, put=self.put)
        self._on_tick = on_tick
        self._on_trace = on_trace
        self._commands = commands
        self._recorder = Recorder(journal, notify, journal_policy)
        self._queue = queue or SimpleQueue()
        self._next_tick_s = 0.0
        self._before_tick: int | None = None
        """How many inputs an overdue tick still waits for."""
        self._alarmed_s: dict[tuple[str, str], float] = {}
        self._takers: dict[type[Input], Callable[[Any, Now], None]] = {
            DocumentReceived: lambda received, _: self._intake.take(received),
            CommandReceived: lambda received, _: commands.take(received) if commands else None,
            EventsUnreadable: self._recorder.unreadable,
            LinkChanged: lambda _changed, _now: None,
        }
        self._performers: dict[type[Effect], Callable[[Any], None]] = {
            HoldStrike: lambda effect: doors.hold(effect.door_id),
            EndHold: lambda effect: doors.end_hold(effect.door_id),
            LockStrike: lambda effect: doors.lock(effect.door_id),
            Indicate: lambda effect: doors.indicate(effect.door_id, effect.side, effect.signal),
            Sound: lambda effect: doors.sound(effect.door_id, effect.signal),
            AdoptIssuers: lambda effect: adopt(effect.issuers),
            Examine: lambda _: examine(),
            Sync: lambda _: self._recorder.want_durable(),
        }

    @property
    def in_memory(self) -> int:
        """Events that are not in the journal yet; from any thread."""
        return self._recorder.in_memory

    def put(self, happened: Input) -> None:
        """Hand over an input; from any thread, also from a signal handler."""
        self._queue.put(happened)
        if type(happened) is CardPresented:
            time.sleep(YIELD_S)

    def run(self, started: Started, gaps: Iterable[JournalGap] = ()) -> None:
        """Handle inputs until ``Stopping`` is; then every strike is locked and every event durable.

        What is on the queue behind it is recorded all the same. ``gaps``: what the journal found at its opening.
        """
        come_first()
        self._intake.start()
        self._recorder.start()
        try:
            self._recorder.record_gaps(gaps, self._clock.now())
            self._handle(started)
            while not self._handle(self._next()):
                pass
        finally:
            self._intake.stop()
            if self._commands:
                self._commands.stop()
            self._record_rest()
            self._recorder.stop(self._clock.now())

    # ---- the thread that owns the state

    def _record_rest(self) -> None:
        """A command that is used up, or a document that is kept, is not silently forgotten."""
        for _ in range(self._queue.qsize()):  # others may go on putting
            self._record_late(self._queue.get(), self._clock.now())

    def _record_late(self, happened: Input, now: Now) -> None:
        try:
            match happened:
                case Acknowledged():
                    self._recorder.acknowledged(happened, now)
                case DocumentReceived() | CommandReceived() | EventsUnreadable() | LinkChanged():
                    pass  # the hub repeats what is not confirmed; damage is met again
                case _:
                    for record in after_stopping(happened, now, lambda: self._react(happened, now)):
                        self._recorder.record(record.draft, now)
        except Exception as error:
            log.exception("recording %s failed", type(happened).__name__)
            self._record_alarm(happened, error, now)

    def _next(self) -> Input:
        """An overdue tick waits for what happened before it was due, and for no more."""
        wait_s = self._next_tick_s - self._clock.now().monotonic_s
        if wait_s > 0:
            self._before_tick = None
        elif self._before_tick is None:
            self._before_tick = self._queue.qsize()
        try:
            if self._before_tick is None:
                return self._queue.get(timeout=wait_s)
            if self._before_tick > 0:
                self._before_tick -= 1
                return self._queue.get_nowait()
        except Empty:
            pass
        self._before_tick = None
        return Tick()

    def _handle(self, happened: Input) -> bool:
        """Do everything that follows; True when it was the last. Never raises."""
        now = self._clock.now()
        try:
            self._serve(happened, now)
        except Exception as error:
            log.exception("serving %s failed", type(happened).__name__)
            self._record_alarm(happened, error, now)
        return type(happened) is Stopping

    def _serve(self, happened: Input, now: Now) -> None:
        match happened:
            case CardPresented() | CardRefused() | ReadFailed() if self._on_trace:
                self._decide_traced(happened, now, self._on_trace)
            case CardClaimed():
                self._foresee(happened, now)
            case Acknowledged():
                self._recorder.acknowledged(happened, now)
                self._perform(self._react(happened, now), now)
            case DocumentReceived() | CommandReceived() | EventsUnreadable() | LinkChanged():
                self._takers[type(happened)](happened, now)
            case Tick():
                self._next_tick_s = now.monotonic_s + TICK_S
                self._perform(self._react(happened, now), now)
                self._look_after_recorder(now)
                self._on_tick()
            case _:
                self._perform(self._react(happened, now), now)
        deadline_s = self._controller.deadline_s
        if deadline_s is not None:
            soonest_s = now.monotonic_s + SHORTEST_TICK_S
            self._next_tick_s = min(self._next_tick_s, max(deadline_s, soonest_s))

    def _look_after_recorder(self, now: Now) -> None:
        if self._recorder.is_behind and self._recorder.catch_up(now):
            self._recorder.want_durable()
            if self._recorder.is_behind:  # the rest in a moment: somebody may be at a door
                self._next_tick_s = now.monotonic_s + SHORTEST_TICK_S
        if self._recorder.is_overdue(now):
            self._record_fault("journal", "not_durable", now)

    def _foresee(self, claim: CardClaimed, now: Now) -> None:
        """Make ready for the card that may be presented next. Nothing is done, whatever happens here."""
        try:
            for effect in self._controller.on(claim, now):
                if isinstance(effect, Prepare):
                    self._recorder.prepare(effect.draft)
        except Exception:  # is met again, and alarmed about, when the card has proved itself
            log.debug("nothing could be made ready for a card", exc_info=True)

    def _react(self, happened: Input, now: Now) -> list[Effect]:
        try:
            return self._controller.on(happened, now)
        except Exception as error:
            log.exception("deciding about %s failed", type(happened).__name__)
            after = after_fault(happened, now, self._controller.private_doors)
            alarm = self._alarm(type(happened).__name__, type(error).__name__, now)
            return [*alarm, *after, Sync()]

    def _perform(self, effects: list[Effect], now: Now) -> tuple[int | None, Marks]:
        """Perform in order; a release stands or falls with the event before it, except on the way out.

        Where there is no event before it, as at a private door, it stands.
        Returns the sequence of the last event, and when it was journalled and its strike released.
        """
        marks: list[tuple[str, int]] = []
        sequence: int | None = 0
        before: EventDraft | None = None
        for place, effect in enumerate(effects):
            try:
                if isinstance(effect, Record):
                    sequence, before = None, effect.draft
                    opens = _opens(effects[place:])
                    sequence = self._recorder.record(effect.draft, now, opens=opens)
                    if sequence is None and opens:  # refused instead
                        self._perform(self._react(RecordFailed(draft=before), now), now)
                        return None, ()
                    marks.append(("journal", time.monotonic_ns()))
                elif isinstance(effect, ReleaseStrike):
                    if before and sequence is None and not effect.even_unrecorded:
                        failed = RecordFailed(draft=before)  # refused instead
                        self._perform(self._react(failed, now), now)
                        return None, ()
                    self._doors.release(effect.door_id, effect.unlock_ms)
                    marks.append(("strike", time.monotonic_ns()))
                else:
                    self._performers[type(effect)](effect)
            except Exception as error:
                log.exception("%s failed", type(effect).__name__)
                self._record_alarm(effect, error, now)
        return sequence, tuple(marks)

    def _record_alarm(self, about: Input | Effect, error: Exception, now: Now) -> None:
        self._record_fault(type(about).__name__, type(error).__name__, now)

    def _record_fault(self, about: str, error: str, now: Now) -> None:
        try:
            for alarm in self._alarm(about, error, now):
                self._recorder.record(alarm.draft, now)
        except Exception:
            log.exception("an alarm cannot be recorded")

    def _alarm(self, about: str, error: str, now: Now) -> list[Record]:
        """The alarm to record; none when the same one was recorded a moment ago."""
        if now.monotonic_s - self._alarmed_s.get((about, error), -ALARM_REPEAT_S) < ALARM_REPEAT_S:
            return []
        self._alarmed_s[about, error] = now.monotonic_s
        return [Record.of(EventKind.INTERNAL_FAULT, now, details={"about": about, "error": error})]

    def _decide_traced(self, happened: _Presented, now: Now, on_trace: Callable[[Trace], None]) -> None:
        effects = self._react(happened, now)
        decided_ns = time.monotonic_ns()
        sequence, marks = self._perform(effects, now)
        draft = next((effect.draft for effect in effects if isinstance(effect, Record)), None)
        if isinstance(happened, ReadFailed) and draft is None:
            outcome, reason = "not_read", happened.fault.value
        elif draft is None:
            outcome, reason = "not_recorded", ""
        elif sequence is None:
            outcome, reason = EventKind.ACCESS_DENIED.value, Reason.JOURNAL_FAILED.value
        else:
            outcome, reason = draft.kind.value, draft.reason.value if draft.reason else ""
        earlier = () if isinstance(happened, ReadFailed) else happened.marks
        on_trace(
            Trace(
                door_id=happened.door_id,
                side=happened.side,
                outcome=outcome,
                reason=reason,
                credential_id=draft.credential_id if draft else None,
                sequence=sequence or None,
                marks=(*earlier, ("decide", decided_ns), *marks),
            )
        )


def _opens(effects: list[Effect]) -> bool:
    """Whether a strike stands or falls with the first of these: alone, or with others who are granted by the same release."""
    granted = EventKind.ACCESS_GRANTED
    first, *following = effects
    for effect in following:
        if isinstance(effect, ReleaseStrike):
            return not effect.even_unrecorded
        if isinstance(effect, Record) and {effect.draft.kind, _kind(first)} != {granted}:
            return False
    return False


def _kind(effect: Effect) -> EventKind | None:
    return effect.draft.kind if isinstance(effect, Record) else None
