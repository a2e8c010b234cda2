"""One door's hardware as the controller knows it: released or not, open or closed, and what that means.

=======================  ============================================================================
``door_opened``          opened while released, held unlocked or in a fire, or already open at the start
``door_forced``          opened otherwise; an alarm until it is closed
``door_not_entered``     a card was granted and the door stayed closed until it locked again
``door_held_warning``    open almost as long as its rule allows
``door_held``            open for longer; an alarm until it is closed
``door_closed``          closed
``door_alarm_cleared``   closed, unlocked by its mode, or a fire: what was forced or held is so no longer
``tamper_opened``        an alarm until ``tamper_closed``
=======================  ============================================================================

While a fire is reported nothing is forced or held, and the door makes no sound; openings say ``fire``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final, NamedTuple

from edge.effects import Effect, EndHold, HoldStrike, LockStrike, Record, ReleaseStrike, Signal, Sound
from edge.inputs import Now
from pacs.events import Detail, EventKind
from pacs.identifiers import ControllerId, CredentialId, DoorId
from pacs.rules import Door, Side

OPENING_GRACE_S: Final = 0.5
"""How long after the strike locked an opening still belongs to the release: a door is pulled, then reported."""
_NOBODY: Final = ControllerId("unlisted")


@unique
class Alarm(StrEnum):
    """What is wrong at a door; ``forced`` and ``held`` are wire strings."""

    FORCED = "forced"
    HELD = "held"
    TAMPER = "tamper"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """Whom a door was released for, at which side."""

    credential_id: CredentialId
    side: Side


@unique
class Unseen(StrEnum):
    """How somebody could have passed without being seen; wire strings."""

    EXIT_REQUESTED = "exit_requested"
    COMMANDED = "commanded"
    FORCED = "forced"
    HELD = "held"
    UNLOCKED = "unlocked"
    FIRE = "fire"
    READER_LOST = "reader_lost"
    OVERLAPPED = "overlapped"
    POLICY_CHANGED = "policy_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What came of a release. Of those it was for some ``passed``, some were ``missed``.

    ``doubtful``: the door opened when it was released for people on both sides, or for somebody unknown as well:
    any of them may have passed, and any may not. ``unseen``: how somebody unknown may have.
    """

    effects: tuple[Effect, ...] = ()
    passed: tuple[Admitted, ...] = ()
    doubtful: tuple[Admitted, ...] = ()
    missed: tuple[Admitted, ...] = ()
    unseen: frozenset[Unseen] = frozenset()


class _Release(NamedTuple):
    """Until when, for whom, how long the door may stand open for them, and what it sounds: what ``withheld`` undoes.

    ``unseen``: what else it is for.
    """

    until_s: float = 0.0
    awaited: tuple[Admitted, ...] = ()
    unseen: frozenset[Unseen] = frozenset()
    extended: bool = False
    warn_at_s: float | None = None
    held_at_s: float | None = None
    warned: bool = False
    sounding: Signal = Signal.SILENT


def unlisted(door_id: DoorId) -> Door:
    """The rules of a door that the policy does not name: they let people out."""
    return Door(id=door_id, controller_id=_NOBODY)


class DoorState:
    """The state machine of one door; all times are monotonic seconds. ``rules``: those in force."""

    def __init__(self, door_id: DoorId, *, has_contact: bool) -> None:
        self.id = door_id
        self.rules = unlisted(door_id)
        self.has_contact = has_contact
        self.is_open: bool | None = None
        self.unlocked = False
        self.alarms: dict[Alarm, float] = {}
        self.fire = False
        self._release = _Release()
        self._before_release = self._release

    @property
    def deadline_s(self) -> float | None:
        """When ``tick`` has something to say; None: nothing is awaited."""
        release = self._release
        missed_at_s = self._openable_until_s if release.awaited else None
        times = (missed_at_s, release.warn_at_s, release.held_at_s)
        return min((at for at in times if at is not None), default=None)

    @property
    def contact_state(self) -> str:
        """``open``, ``closed``, ``unknown`` until the contact reported, or ``not_fitted``."""
        if not self.has_contact:
            return "not_fitted"
        return "unknown" if self.is_open is None else "open" if self.is_open else "closed"

    @property
    def warned(self) -> bool:
        """Whether it warns that it stands open for almost too long."""
        return self._release.warned

    @property
    def is_quiet(self) -> bool:
        """Whether the door has nothing to say: no alarm, no warning, no fire."""
        return not (self.alarms or self.warned or self.fire)

    def is_released(self, now: Now) -> bool:
        """Whether the strike is held or released at this moment."""
        return self.unlocked or now.monotonic_s < self._release.until_s

    def is_passable(self, now: Now) -> bool:
        """Whether it is open, or could be opened by a push, or was and that is not yet reported."""
        return bool(self.is_open) or self.unlocked or now.monotonic_s <= self._openable_until_s

    def release(
        self,
        unlock_ms: int,
        now: Now,
        *,
        admitted: tuple[Admitted, ...] = (),
        unseen: Unseen | None = None,
        extended: bool = False,
        even_unrecorded: bool = False,
    ) -> tuple[Effect, ...]:
        """Release the strike for whoever is ``admitted``, or for somebody ``unseen``.

        A door that stands open may do so for its time again.
        """
        before = self._before_release = self._release
        lasting = now.monotonic_s <= before.until_s
        others: frozenset[Unseen] = (
            before.unseen if now.monotonic_s <= self._openable_until_s else frozenset()
        )
        self._release = before._replace(
            until_s=max(before.until_s, now.monotonic_s + unlock_ms / 1000),
            extended=extended or (before.extended and (lasting or bool(self.is_open))),
            unseen=others | {unseen} if unseen else others,
        )
        strike = ReleaseStrike(door_id=self.id, unlock_ms=unlock_ms, even_unrecorded=even_unrecorded)
        if self.is_open:
            self._start_timers(now)
        elif self.has_contact:
            awaited = tuple(person for person in before.awaited if person not in admitted)
            self._release = self._release._replace(awaited=awaited + admitted)
        return (strike, *self._sound())

    def withheld(self) -> None:
        """The last release did not happen; one before it may still last."""
        self._release = self._before_release

    def hold(self, now: Now, *, unlocked: bool) -> tuple[Effect, ...]:
        """Keep the strike released, or end that; nothing when it is so already.

        A door that stands open at the end may do so for its time from then on.
        """
        if unlocked is self.unlocked:
            return ()
        self.unlocked = unlocked
        if unlocked:
            self._stop_timers()
            return (HoldStrike(door_id=self.id), *self._cleared(now), *self._sound())
        self._release = self._release._replace(until_s=max(self._release.until_s, now.monotonic_s))
        if self.is_open:
            self._start_timers(now)
        return (EndHold(door_id=self.id),)

    def contact(self, now: Now, *, is_open: bool) -> Passage:
        """The contact reported at that moment; nothing when it says what is known."""
        known, self.is_open = self.is_open, is_open
        if is_open is bool(known):
            return Passage()
        return self._opened(now, at_start=known is None) if is_open else Passage(effects=self._closed(now))

    def tamper(self, now: Now, *, is_open: bool) -> tuple[Effect, ...]:
        """The tamper circuit reports; nothing when it says what is known."""
        if is_open is (Alarm.TAMPER in self.alarms):
            return ()
        if is_open:
            self.alarms[Alarm.TAMPER] = now.monotonic_s
        else:
            del self.alarms[Alarm.TAMPER]
        kind = EventKind.TAMPER_OPENED if is_open else EventKind.TAMPER_CLOSED
        return (Record.of(kind, now, self.id), *self._sound())

    def fire_changed(self, now: Now, *, active: bool) -> tuple[Effect, ...]:
        """A fire is reported, or over; a door that stands open at its end may do so for its time from then on."""
        self.fire = active
        if active:
            self._stop_timers()
            return (*self._cleared(now), *self._sound())
        if self.is_open:
            self._start_timers(now)
        return self._sound()

    def tick(self, now: Now) -> Passage:
        """What the passing of time alone brings about."""
        missed = self._missed(now)
        effects: list[Effect] = [*self._not_entered(missed, now)]
        release = self._release
        if release.warn_at_s is not None and now.monotonic_s >= release.warn_at_s:
            self._release = self._release._replace(warn_at_s=None, warned=True)
            effects.append(Record.of(EventKind.DOOR_HELD_WARNING, now, self.id))
        if release.held_at_s is not None and now.monotonic_s >= release.held_at_s:
            self._release = self._release._replace(held_at_s=None, warned=False)
            self.alarms.setdefault(Alarm.HELD, now.monotonic_s)
            effects.append(Record.of(EventKind.DOOR_HELD, now, self.id))
        return Passage(effects=(*effects, *self._sound()), missed=missed)

    # ---- parts of the above

    @property
    def _openable_until_s(self) -> float:
        return self._release.until_s + OPENING_GRACE_S

    def _opened(self, now: Now, *, at_start: bool) -> Passage:
        missed = self._missed(now)
        effects: list[Effect] = [*self._not_entered(missed, now)]
        awaited, unseen = self._release.awaited, self._release.unseen
        released = now.monotonic_s <= self._openable_until_s
        in_doubt = bool(unseen) or len({person.side for person in awaited}) > 1
        self._release = self._release._replace(
            awaited=(), unseen=frozenset(), extended=self._release.extended and released
        )
        details: dict[str, Detail] = ({"at_start": True} if at_start else {}) | self._in_fire
        if at_start or self.unlocked or released or self.fire:
            effects.append(Record.of(EventKind.DOOR_OPENED, now, self.id, details=details))
        else:
            self.alarms[Alarm.FORCED] = now.monotonic_s
            effects.append(Record.of(EventKind.DOOR_FORCED, now, self.id))
        if self.rules.relock_on_open and released and not (self.unlocked or self.fire):
            self._release = self._release._replace(until_s=now.monotonic_s - OPENING_GRACE_S)
            effects.append(LockStrike(door_id=self.id))
        self._start_timers(now)
        return Passage(
            effects=(*effects, *self._sound()),
            passed=() if in_doubt else awaited,
            doubtful=awaited if in_doubt else (),
            missed=missed,
            unseen=unseen,
        )

    def _closed(self, now: Now) -> tuple[Effect, ...]:
        closed = Record.of(EventKind.DOOR_CLOSED, now, self.id, details=self._in_fire)
        self._stop_timers()
        self._release = self._release._replace(extended=False)
        return (closed, *self._cleared(now), *self._sound())

    def _missed(self, now: Now) -> tuple[Admitted, ...]:
        """Whoever was awaited and did not come; nothing of a release that is over is awaited any more."""
        if now.monotonic_s <= self._openable_until_s:
            return ()
        missed = self._release.awaited
        if missed or self._release.unseen:
            self._release = self._release._replace(awaited=(), unseen=frozenset())
        return missed

    def _not_entered(self, missed: tuple[Admitted, ...], now: Now) -> list[Record]:
        return [
            Record.of(
                EventKind.DOOR_NOT_ENTERED, now, self.id, side=person.side, credential_id=person.credential_id
            )
            for person in missed
        ]

    def _start_timers(self, now: Now) -> None:
        """From here on the door stands open; time given before is not taken away."""
        if self.unlocked or self.fire or Alarm.HELD in self.alarms:
            return
        rules, release = self.rules, self._release
        allowed_s = rules.extended_held_open_after_s if release.extended else rules.held_open_after_s
        held_at_s = now.monotonic_s + allowed_s
        if release.held_at_s is not None and release.held_at_s > held_at_s:
            return
        warning_s = min(rules.held_warning_s, allowed_s / 2)
        self._release = release._replace(
            held_at_s=held_at_s, warn_at_s=held_at_s - warning_s if warning_s else None, warned=False
        )

    def _stop_timers(self) -> None:
        self._release = self._release._replace(warn_at_s=None, held_at_s=None, warned=False)

    def _cleared(self, now: Now) -> list[Record]:
        """No longer forced, no longer held."""
        records = []
        for alarm in (Alarm.FORCED, Alarm.HELD):
            since_s = self.alarms.pop(alarm, None)
            if since_s is not None:
                details: dict[str, Detail] = {
                    "alarm": alarm.value,
                    "after_s": round(now.monotonic_s - since_s),
                }
                records.append(
                    Record.of(EventKind.DOOR_ALARM_CLEARED, now, self.id, details=details | self._in_fire)
                )
        return records

    @property
    def _in_fire(self) -> dict[str, Detail]:
        return {"fire": True} if self.fire else {}

    def _sound(self) -> tuple[Sound, ...]:
        """What the door is to sound, if that is another sound than before."""
        signal = Signal.SILENT
        if not self.fire and self.alarms:
            signal = Signal.ALARM
        elif not self.fire and self._release.warned:
            signal = Signal.HELD_WARNING
        if signal is self._release.sounding:
            return ()
        self._release = self._release._replace(sounding=signal)
        return (Sound(door_id=self.id, signal=signal),)
