"""The pins of the doors: strike, contact, request to exit, lights and buzzer.

Strike: driven active high with an external pull-down, so that a line nobody drives is de-energised. It is locked
at the start, locked again by a monotonic timer of its own, and locked before the process ends; then the line is
let go, which leaves a fail-secure strike locked and a fail-safe one open.

What a reader shows. Each signal has a rhythm of its own, so it is told apart without seeing colours, and by
sound alone where it has a sound; times in milliseconds.

=========  ======  ===========================  ===========================  ==================
signal     light   rhythm of the light          buzzer                       ends
=========  ======  ===========================  ===========================  ==================
reading    both    flicker, 40 on, 40 off       silent                       with the result
granted    green   steady                       one tone of 400              after 2,500
refused    red     three flashes, 250 on        three tones with the light   after the third
not read   both    two slow flashes, 600 on     two ticks of 40              after the second
waiting    both    a blip of 100 each 1,400     a tick of 40 with the blip   after 60,000
=========  ======  ===========================  ===========================  ==================
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from edge.config import DoorConfig, EnergiseTo, Pins, ReaderConfig, Wiring
from edge.effects import Signal
from edge.inputs import ContactChanged, RexPressed
from edge.timetable import Timetable
from pacs.errors import PacsError
from pacs.identifiers import DoorId
from pacs.rules import Side

log = logging.getLogger(__name__)

STABLE_S: Final = 0.025
"""How long an input has to keep its level to be believed."""
CHATTER_S: Final = 0.25
"""An input that never settles is reported as it is after this time, so that chatter hides nothing."""


RESET_S: Final = 0.02
"""Well above the 20 ns the PN532 needs to take notice of RSTPDN."""


class PinsUnavailable(PacsError):
    """The pins cannot be driven; the message names what is missing."""


class Step(NamedTuple):
    """One part of a signal: which outputs are on, for how long."""

    duration_ms: int
    green: bool = False
    red: bool = False
    buzzer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Steps, run ``times`` over; everything is off after them."""

    steps: tuple[Step, ...]
    times: int = 1


PATTERNS: Final[Mapping[Signal, Pattern]] = {
    Signal.READING: Pattern(steps=(Step(40, green=True, red=True), Step(40)), times=25),
    Signal.GRANTED: Pattern(steps=(Step(400, green=True, buzzer=True), Step(2_100, green=True))),
    Signal.REFUSED: Pattern(steps=(Step(250, red=True, buzzer=True), Step(150)), times=3),
    Signal.NOT_READ: Pattern(
        steps=(Step(40, green=True, red=True, buzzer=True), Step(560, green=True, red=True), Step(300)),
        times=2,
    ),
    Signal.WAITING: Pattern(
        steps=(Step(40, green=True, red=True, buzzer=True), Step(60, green=True, red=True), Step(1_300)),
        times=43,
    ),
}


def open_pins(pins: Pins, notification_dir: Path) -> Any:
    """Return gpiozero's pin factory for ``pins``; never another one.

    lgpio makes its notification pipes in ``notification_dir``. Raises ``PinsUnavailable``.
    """
    if pins is Pins.MOCK:
        from gpiozero.pins.mock import MockFactory

        return MockFactory()
    os.environ["LG_WD"] = str(notification_dir)
    try:
        from gpiozero.pins.lgpio import LGPIOFactory

        return LGPIOFactory()
    except Exception as error:  # lgpio raises its own error type, gpiozero others, a missing chip OSError
        raise PinsUnavailable(f"lgpio cannot drive the pins of this machine: {error}") from error


class Strike:
    """One strike. ``release`` does nothing before the pin has changed."""

    def __init__(self, config: DoorConfig, factory: Any, timetable: Timetable) -> None:
        from gpiozero import OutputDevice

        fail_safe = config.energise_to is EnergiseTo.LOCK
        self._key = ("strike", config.id)
        self._timetable = timetable
        self._guard = threading.Lock()
        self._held = False
        self._until_s = 0.0
        self._device = OutputDevice(config.strike_pin, initial_value=fail_safe, pin_factory=factory)
        self._unlock, self._lock = self._device.on, self._device.off
        if fail_safe:
            self._unlock, self._lock = self._lock, self._unlock

    def release(self, unlock_ms: int) -> None:
        """Unlock, and lock after ``unlock_ms``; a release that ends later stays as it is."""
        with self._guard:
            self._unlock()
            until_s = self._timetable.now_s() + unlock_ms / 1000
            if until_s <= self._until_s:
                return
            self._until_s = until_s
        self._timetable.set(self._key, until_s, self._expire)

    def hold(self) -> None:
        """Unlock until ``end_hold``."""
        with self._guard:
            self._unlock()
            self._held = True

    def end_hold(self) -> None:
        """Lock, or leave it to a release that has not ended yet."""
        with self._guard:
            self._held = False
            self._lock_if_due()

    def lock(self) -> None:
        """Lock at once."""
        with self._guard:
            self._lock()
            self._held, self._until_s = False, 0.0

    def close(self) -> None:
        """Lock, then let go of the line."""
        self.lock()
        self._device.close()

    def _expire(self) -> None:
        with self._guard:
            self._lock_if_due()

    def _lock_if_due(self) -> None:
        if not self._held and self._timetable.now_s() >= self._until_s:
            self._lock()


class Report(Protocol):
    """Who hears of an input."""

    def __call__(self, *, active: bool) -> None:
        """``active``: the circuit left its state of rest."""
        ...


class Input:
    """One debounced input."""

    def __init__(self, pin: int, wiring: Wiring, factory: Any, timetable: Timetable, report: Report) -> None:
        from gpiozero import DigitalInputDevice

        # the circuit goes to ground, so a level of 0 is a closed circuit, which gpiozero calls active
        self._rest = wiring is Wiring.NORMALLY_CLOSED
        self._report = report
        self._timetable = timetable
        self._guard = threading.Lock()
        self._restless_since_s: float | None = None
        self._edge_s, self._seen = 0.0, False
        self._device = DigitalInputDevice(pin, pull_up=True, pin_factory=factory)
        self.active = self._level()
        """What was last reported, or found at the start."""
        self._device.when_activated = self._edge
        self._device.when_deactivated = self._edge
        if self._level() is not self.active:
            self._edge()

    def close(self) -> None:
        """Let go of the line."""
        self._device.close()

    def _level(self) -> bool:
        return bool(self._device.value) is not self._rest

    def _edge(self) -> None:
        try:
            self._take_edge()
        except Exception:  # raised here it would end the thread that watches every pin
            self._timetable.failed = True
            log.exception("an input could not be followed")

    def _take_edge(self) -> None:
        now_s = self._timetable.now_s()
        with self._guard:
            if self._restless_since_s is not None and now_s - self._edge_s >= STABLE_S:
                self._believe(self._seen)  # it was stable; only nobody has come to look
            if self._restless_since_s is None:
                self._restless_since_s = now_s
            self._edge_s, self._seen = now_s, self._level()
            look_s = min(now_s + STABLE_S, self._restless_since_s + CHATTER_S)
        self._timetable.set(self, look_s, self._settle)

    def _settle(self) -> None:
        with self._guard:
            self._believe(self._level())

    def _believe(self, level: bool) -> None:  # noqa: FBT001 - a level is all there is to say
        self._restless_since_s = None
        if level is not self.active:
            self.active = level
            self._report(active=level)


class Indicator:
    """The lights and the buzzer of one reader; those that are not fitted are left out."""

    def __init__(self, config: ReaderConfig, factory: Any, timetable: Timetable) -> None:
        from gpiozero import OutputDevice

        self._timetable = timetable
        self._shown: object = None
        self._outputs = [
            (OutputDevice(pin, pin_factory=factory), name)
            for name, pin in (
                ("green", config.green_pin),
                ("red", config.red_pin),
                ("buzzer", config.buzzer_pin),
            )
            if pin is not None
        ]

    def show(self, signal: Signal) -> None:
        """Begin this signal in place of the one before."""
        if not self._outputs:
            return
        self._shown = showing = object()
        pattern = PATTERNS[signal]
        steps = iter(pattern.steps * pattern.times)

        def next_step() -> None:
            if self._shown is not showing:
                return
            step = next(steps, None)
            for device, name in self._outputs:
                device.value = step is not None and getattr(step, name)
            if step:
                self._timetable.set(showing, self._timetable.now_s() + step.duration_ms / 1000, next_step)

        self._timetable.set(showing, self._timetable.now_s(), next_step)

    def close(self) -> None:
        """Dark and silent; let go of the lines."""
        self._shown = None
        for device, _ in self._outputs:
            device.off()
            device.close()


class DoorIo:
    """Every pin of a controller. ``put`` receives the inputs, from any thread."""

    def __init__(
        self,
        doors: Iterable[DoorConfig],
        *,
        factory: Any,
        put: Callable[[ContactChanged | RexPressed], None],
        timetable: Timetable | None = None,
    ) -> None:
        """Claim the pins and lock every strike. Raises ``PinsUnavailable``."""
        self.timetable = timetable or Timetable()
        self._put = put
        self._strikes: dict[DoorId, Strike] = {}
        self._indicators: dict[tuple[DoorId, Side], Indicator] = {}
        self._contacts: dict[DoorId, Input] = {}
        self._exits: list[Input] = []
        self._resets: dict[tuple[DoorId, Side], Any] = {}
        self._closed = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._release_lines)
            try:
                for door in doors:
                    self._claim(door, factory)
            except Exception as error:  # gpiozero's and lgpio's errors have no common root
                raise PinsUnavailable(f"a pin cannot be used: {error}") from error
            undo.pop_all()

    def start(self) -> None:
        """Run the timers, and report how each contact stands."""
        self.timetable.start()
        for door_id, contact in self._contacts.items():
            self._put(ContactChanged(door_id=door_id, open=contact.active))

    def release(self, door_id: DoorId, unlock_ms: int) -> None:
        """Unlock for ``unlock_ms``."""
        self._strikes[door_id].release(unlock_ms)

    def hold(self, door_id: DoorId) -> None:
        """Unlock until ``end_hold``."""
        self._strikes[door_id].hold()

    def end_hold(self, door_id: DoorId) -> None:
        """Lock, or leave it to a release that has not ended yet."""
        self._strikes[door_id].end_hold()

    def lock(self, door_id: DoorId) -> None:
        """Lock at once."""
        self._strikes[door_id].lock()

    def indicate(self, door_id: DoorId, side: Side, signal: Signal) -> None:
        """Show a signal at a reader; nothing where no light is fitted."""
        if indicator := self._indicators.get((door_id, side)):
            indicator.show(signal)

    def reset(self, door_id: DoorId, side: Side) -> None:
        """Pull a reader's reset line for ``RESET_S``; nothing where it is not wired."""
        if line := self._resets.get((door_id, side)):
            line.on()
            time.sleep(RESET_S)
            line.off()

    def close(self) -> None:
        """Lock every strike, then let go of every line; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for strike in self._strikes.values():
            strike.lock()
        self.timetable.stop()
        self._release_lines()

    def _claim(self, door: DoorConfig, factory: Any) -> None:
        def contact(*, active: bool) -> None:
            self._put(ContactChanged(door_id=door.id, open=active))

        def rex(*, active: bool) -> None:
            if active:
                self._put(RexPressed(door_id=door.id))

        from gpiozero import OutputDevice

        self._strikes[door.id] = Strike(door, factory, self.timetable)
        if door.contact_pin is not None:
            self._contacts[door.id] = Input(
                door.contact_pin, door.contact_wiring, factory, self.timetable, contact
            )
        if door.rex_pin is not None:
            self._exits.append(Input(door.rex_pin, door.rex_wiring, factory, self.timetable, rex))
        for reader in door.readers:
            self._indicators[door.id, reader.side] = Indicator(reader, factory, self.timetable)
            if reader.reset_pin is not None:
                self._resets[door.id, reader.side] = OutputDevice(
                    reader.reset_pin, active_high=False, pin_factory=factory
                )

    def _release_lines(self) -> None:
        for strike in self._strikes.values():
            strike.close()
        for indicator in self._indicators.values():
            indicator.close()
        for circuit in (*self._contacts.values(), *self._exits):
            circuit.close()
        for line in self._resets.values():
            line.close()
