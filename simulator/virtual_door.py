"""A door on gpiozero's mock pins: its strike, contact, request-to-exit button and tamper switch; who comes; a fire.

The controller drives and reads the pins as it would real ones; the world here only bends the circuits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeAlias

from gpiozero.pins.mock import MockFactory, MockPin

from edge.config import DoorConfig, EnergiseTo, FireConfig, Wiring
from edge.timetable import Timetable
from pacs.identifiers import DoorId

OnLevel: TypeAlias = Callable[[int, bool, int], None]
"""Told the BCM number, the level and the instant (CLOCK_MONOTONIC, ns) of each change of a pin."""

PRESS_S = 0.2


class WiredPin(MockPin):  # type: ignore[misc]
    """A mock pin that a circuit outside can pull, whatever its pull-up says, and that reports each change."""

    def __init__(self, factory: MockFactory, info: Any) -> None:
        self.pulled: bool | None = None
        super().__init__(factory, info)

    def pull_to(self, level: bool) -> None:  # noqa: FBT001 - a level is all there is to say
        """What the circuit outside does from here on."""
        self.pulled = level
        if self.function == "input":
            self._obey()

    def _obey(self) -> None:
        if self.pulled:
            self.drive_high()
        elif self.pulled is False:
            self.drive_low()

    def _set_pull(self, value: str) -> None:
        if self.pulled is None:
            super()._set_pull(value)
        else:
            self._pull = value
            self._obey()

    def _change_state(self, value: bool) -> bool:  # noqa: FBT001 - gpiozero's interface
        changed = bool(super()._change_state(value))
        if changed and (on_level := self.factory.on_level):
            on_level(int(self.info.name.removeprefix("GPIO")), bool(value), time.monotonic_ns())
        return changed


class VirtualPins(MockFactory):  # type: ignore[misc]
    """A pin factory whose pins report each change to ``on_level``, in the thread that made it."""

    def __init__(self, on_level: OnLevel | None = None) -> None:
        self.on_level: OnLevel | None = None
        super().__init__(pin_class=WiredPin)
        self.on_level = on_level


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Pulls the door ``delay_s`` after its strike released, and lets it fall shut ``open_s`` later."""

    delay_s: float = 0.8
    open_s: float = 1.5


class Manner(Enum):
    """What somebody does whom the strike lets in."""

    WALK_THROUGH = auto()
    HOLD_OPEN = auto()
    TURN_AWAY = auto()


class VirtualDoor:
    """One door, closed and at rest to begin with. Make it before the controller claims the pins.

    ``person``: who walks through whenever the strike releases; None: nobody does by themselves.
    """

    def __init__(
        self,
        config: DoorConfig,
        pins: VirtualPins,
        timetable: Timetable,
        *,
        person: Person | None = None,
    ) -> None:
        self.id: DoorId = config.id
        self._config = config
        self._timetable = timetable
        self._person = person
        self._guard = threading.RLock()
        self._strike: WiredPin = pins.pin(config.strike_pin)
        self._contact = _Circuit(config.contact_pin, config.contact_wiring, pins)
        self._rex = _Circuit(config.rex_pin, config.rex_wiring, pins)
        self._tamper = _Circuit(config.tamper_pin, config.tamper_wiring, pins)
        self._manner = Manner.WALK_THROUGH

    @property
    def is_released(self) -> bool:
        """Whether the strike lets go; a line nobody drives is de-energised."""
        energised = self._strike.function == "output" and bool(self._strike.state)
        return energised is (self._config.energise_to is EnergiseTo.UNLOCK)

    @property
    def is_open(self) -> bool:
        """Whether the door stands open."""
        return self._contact.is_disturbed

    def level_changed(self, pin: int) -> None:
        """Tell the door that a pin changed: its person takes notice of the strike."""
        if not (self._person and pin == self._config.strike_pin and self.is_released):
            return
        manner, self._manner = self._manner, Manner.WALK_THROUGH
        if manner is not Manner.TURN_AWAY:
            self._timetable.set(
                ("pull", self.id), self._timetable.now_s() + self._person.delay_s, lambda: self._walk(manner)
            )

    def next_person(self, manner: Manner) -> None:
        """Say what the person does whom the strike lets in next; the one after walks through again."""
        self._manner = manner

    def pull(self) -> bool:
        """Open the door if its strike lets go; returns whether it stands open."""
        with self._guard:
            if self.is_released:
                self._contact.disturb()
            return self.is_open

    def force(self) -> None:
        """Open the door whatever its strike does."""
        self._contact.disturb()

    def close(self) -> None:
        """Let the door fall shut."""
        self._contact.rest()

    def press_rex(self) -> None:
        """Press the request-to-exit button for ``PRESS_S``."""
        self._rex.disturb()
        self._timetable.set(("rex", self.id), self._timetable.now_s() + PRESS_S, self._rex.rest)

    def open_housing(self) -> None:
        """Take the cover off a reader."""
        self._tamper.disturb()

    def close_housing(self) -> None:
        """Put it on again."""
        self._tamper.rest()

    def _walk(self, manner: Manner) -> None:
        if self._person and self.pull() and manner is Manner.WALK_THROUGH:
            closes_s = self._timetable.now_s() + self._person.open_s
            self._timetable.set(("close", self.id), closes_s, self.close)


class VirtualFireAlarm:
    """The fire alarm's contact at one controller, quiet to begin with. Make it before the controller claims the pins."""

    def __init__(self, config: FireConfig | None, pins: VirtualPins) -> None:
        pin, wiring = (config.pin, config.wiring) if config else (None, Wiring.NORMALLY_CLOSED)
        self._circuit = _Circuit(pin, wiring, pins)

    def begin(self) -> None:
        """There is a fire."""
        self._circuit.disturb()

    def end(self) -> None:
        """There is none any more."""
        self._circuit.rest()


class _Circuit:
    """An input's circuit to ground; closed, it pulls the pin low. Not fitted, it only remembers."""

    def __init__(self, pin: int | None, wiring: Wiring, pins: VirtualPins) -> None:
        self._level_at_rest = wiring is Wiring.NORMALLY_OPEN
        self._pin: WiredPin | None = None if pin is None else pins.pin(pin)
        self.is_disturbed = False
        self.rest()

    def rest(self) -> None:
        self._set(disturbed=False)

    def disturb(self) -> None:
        self._set(disturbed=True)

    def _set(self, *, disturbed: bool) -> None:
        self.is_disturbed = disturbed
        if self._pin:
            self._pin.pull_to(self._level_at_rest is not disturbed)
