"""Every pin of a controller: strikes, circuits, lights and buzzers, and the reset lines of its readers."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from edge.circuits import Circuit
from edge.config import DoorConfig, FireConfig, Pins
from edge.effects import Signal
from edge.inputs import ContactChanged, FireChanged, PinInput, RexPressed, TamperChanged
from edge.signals import Indicator
from edge.strike import Strike
from edge.timetable import Timetable
from pacs.errors import PacsError
from pacs.identifiers import DoorId
from pacs.rules import Side

RESET_S: Final = 0.02
"""Well above the 20 ns the PN532 needs to take notice of RSTPDN."""


class PinsUnavailable(PacsError):
    """The pins cannot be driven; the message names what is missing."""


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


class DoorIo:
    """Every pin of a controller. ``put`` receives the inputs, from any thread."""

    def __init__(
        self,
        doors: Iterable[DoorConfig],
        *,
        factory: Any,
        put: Callable[[PinInput], None],
        fire: FireConfig | None = None,
        timetable: Timetable | None = None,
    ) -> None:
        """Claim the pins and lock every strike. Raises ``PinsUnavailable``."""
        self.timetable = timetable or Timetable()
        self._put = put
        self._strikes: dict[DoorId, Strike] = {}
        self._indicators: dict[tuple[DoorId, Side], Indicator] = {}
        self._sounding: dict[DoorId, list[Indicator]] = {}
        self._circuits: list[Circuit] = []
        self._first_reports: list[Callable[[], None]] = []
        self._resets: dict[tuple[DoorId, Side], Any] = {}
        self._closed = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._release_lines)
            try:
                for door in doors:
                    self._claim(door, factory)
                if fire:
                    self._claim_fire(fire, factory)
            except Exception as error:  # gpiozero's and lgpio's errors have no common root
                raise PinsUnavailable(f"a pin cannot be used: {error}") from error
            undo.pop_all()

    def start(self) -> None:
        """Run the timers, and report how each contact stands, and each tamper switch and fire alarm that is active."""
        self.timetable.start()
        for report in self._first_reports:
            report()

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

    def lock_all(self) -> None:
        """Lock every strike at once; what one of them raises is raised when all were tried."""
        with contextlib.ExitStack() as strikes:
            for strike in self._strikes.values():
                strikes.callback(strike.lock)

    def indicate(self, door_id: DoorId, side: Side, signal: Signal) -> None:
        """Show a signal at a reader; nothing where no light is fitted."""
        if indicator := self._indicators.get((door_id, side)):
            indicator.show(signal)

    def sound(self, door_id: DoorId, signal: Signal) -> None:
        """Sound a signal of the whole door: at its sounder, or at its readers' buzzers where it has none."""
        for indicator in self._sounding[door_id]:
            indicator.sound(signal)

    def reset(self, door_id: DoorId, side: Side) -> None:
        """Pull a reader's reset line for ``RESET_S``; nothing where it is not wired."""
        if line := self._resets.get((door_id, side)):
            line.on()
            time.sleep(RESET_S)
            line.off()

    def close(self) -> None:
        """Lock every strike, then let go of every line; a second call does nothing. Raises like ``lock_all``."""
        if self._closed:
            return
        self._closed = True
        with contextlib.ExitStack() as rest:
            rest.callback(self._release_lines)
            rest.callback(self.timetable.stop)
            self.lock_all()

    def _claim(self, door: DoorConfig, factory: Any) -> None:
        from gpiozero import OutputDevice

        self._strikes[door.id] = Strike(door, factory, self.timetable)
        self._claim_circuits(door, factory)
        sounding = self._sounding[door.id] = []
        if door.sounder_pin is not None:
            pins: dict[str, int | None] = {"buzzer": door.sounder_pin}
            sounding.append(Indicator(pins, factory, self.timetable, door_sounds=True))
        for reader in door.readers:
            pins = {"green": reader.green_pin, "red": reader.red_pin, "buzzer": reader.buzzer_pin}
            indicator = Indicator(pins, factory, self.timetable, door_sounds=door.sounder_pin is None)
            self._indicators[door.id, reader.side] = indicator
            sounding.append(indicator)
            if reader.reset_pin is not None:
                self._resets[door.id, reader.side] = OutputDevice(
                    reader.reset_pin, active_high=False, pin_factory=factory
                )

    def _claim_circuits(self, door: DoorConfig, factory: Any) -> None:
        def contact(*, active: bool) -> None:
            self._put(ContactChanged(door_id=door.id, open=active, at_s=time.monotonic()))

        def rex(*, active: bool) -> None:
            if active:
                self._put(RexPressed(door_id=door.id))

        def tamper(*, active: bool) -> None:
            self._put(TamperChanged(door_id=door.id, open=active))

        if door.contact_pin is not None:
            closed = Circuit(door.contact_pin, door.contact_wiring, factory, self.timetable, contact)
            self._circuits.append(closed)
            self._first_reports.append(lambda: contact(active=closed.active))
        if door.rex_pin is not None:
            self._circuits.append(Circuit(door.rex_pin, door.rex_wiring, factory, self.timetable, rex))
        if door.tamper_pin is not None:
            shut = Circuit(door.tamper_pin, door.tamper_wiring, factory, self.timetable, tamper)
            self._circuits.append(shut)
            self._first_reports.append(lambda: tamper(active=True) if shut.active else None)

    def _claim_fire(self, fire: FireConfig, factory: Any) -> None:
        def alarm(*, active: bool) -> None:
            self._put(FireChanged(active=active))

        quiet = Circuit(fire.pin, fire.wiring, factory, self.timetable, alarm)
        self._circuits.append(quiet)
        self._first_reports.append(lambda: alarm(active=True) if quiet.active else None)

    def _release_lines(self) -> None:
        indicators = [indicator for sounding in self._sounding.values() for indicator in sounding]
        lines = [*self._strikes.values(), *indicators, *self._circuits, *self._resets.values()]
        with contextlib.ExitStack() as closing:  # one that fails keeps no other
            for line in reversed(lines):
                closing.callback(line.close)
