"""What the lights and buzzers say.

Each signal has a rhythm of its own, so it is told apart without seeing colours, and by sound alone where it has a
sound; times in milliseconds. The upper ones answer somebody at a reader. The lower ones are about the whole door:
they sound at its sounder, or at its readers' buzzers where it has none, and light each reader that has nothing else
to say. Where a reader's tone and the door's share a buzzer, both are heard.

============  ======  ===========================  ===========================  ==================
signal        light   rhythm of the light          buzzer                       ends
============  ======  ===========================  ===========================  ==================
reading       both    flicker, 40 on, 40 off       silent                       with the result
granted       green   steady                       one tone of 400              after 2,500
refused       red     three flashes, 250 on        three tones with the light   after the third
not read      both    two slow flashes, 600 on     two ticks of 40              after the second
waiting       both    a blip of 100 each 1,400     a tick of 40 with the blip   after 600,000
card awaited  both    two blips of 200 each 2,000  a tick of 40 with each blip  after 600,000
nobody        red     long, 2,000 on               a tone of 800                after 2,000
test          each    green 700, red 700, dark     one tone of 300 in the dark  after the second
held warning  red     a flash of 150 each 1,000    a tone with the flash        with silent
alarm         red     long, 700 on, 200 off        a tone with the light        with silent
silent        none    dark                         silent                       at once
============  ======  ===========================  ===========================  ==================
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from edge.effects import Signal
from edge.timetable import Timetable


class Step(NamedTuple):
    """One part of a signal: which outputs are on, for how long."""

    duration_ms: int
    green: bool = False
    red: bool = False
    buzzer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Steps, run ``times`` over, after which everything is off; None: until another signal replaces it."""

    steps: tuple[Step, ...]
    times: int | None = 1

    def run(self) -> Iterator[Step]:
        """Each step in its turn."""
        rounds = (
            itertools.repeat(self.steps) if self.times is None else itertools.repeat(self.steps, self.times)
        )
        return itertools.chain.from_iterable(rounds)


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
        times=429,  # as long as anybody may have to wait
    ),
    Signal.CARD_AWAITED: Pattern(
        steps=(
            Step(40, green=True, red=True, buzzer=True),
            Step(160, green=True, red=True),
            Step(200),
            Step(40, green=True, red=True, buzzer=True),
            Step(160, green=True, red=True),
            Step(1_400),
        ),
        times=300,
    ),
    Signal.NOBODY: Pattern(steps=(Step(800, red=True, buzzer=True), Step(1_200, red=True))),
    Signal.TEST: Pattern(
        steps=(Step(700, green=True), Step(700, red=True), Step(300, buzzer=True), Step(500)), times=2
    ),
    Signal.HELD_WARNING: Pattern(steps=(Step(150, red=True, buzzer=True), Step(850)), times=None),
    Signal.ALARM: Pattern(steps=(Step(700, red=True, buzzer=True), Step(200)), times=None),
    Signal.SILENT: Pattern(steps=()),
}


class Indicator:
    """The outputs at one place: a reader's lights and buzzer, or a door's sounder. What is not fitted is left out."""

    def __init__(
        self, pins: Mapping[str, int | None], factory: Any, timetable: Timetable, *, door_sounds: bool
    ) -> None:
        """``pins``: BCM numbers of ``green``, ``red``, ``buzzer``. ``door_sounds``: its buzzer is also the door's."""
        from gpiozero import OutputDevice

        self._door_sounds = door_sounds
        self._outputs = [
            (OutputDevice(pin, pin_factory=factory), name) for name, pin in pins.items() if pin is not None
        ]
        self._reader = _Voice(timetable, self._apply)
        self._door = _Voice(timetable, self._apply)

    def show(self, signal: Signal) -> None:
        """Begin this answer to somebody at the reader, in place of the one before."""
        if self._outputs:
            self._reader.begin(signal)

    def sound(self, signal: Signal) -> None:
        """Begin this signal of the whole door, in place of the one before."""
        if self._outputs:
            self._door.begin(signal)

    def close(self) -> None:
        """Dark and silent; let go of the lines."""
        self._reader.end()
        self._door.end()
        for device, _ in self._outputs:
            device.off()
            device.close()

    def _apply(self) -> None:
        reader, door = self._reader.step, self._door.step
        lights = reader or door
        for device, name in self._outputs:
            on = lights is not None and getattr(lights, name)
            if name == "buzzer":
                on = (reader and reader.buzzer) or (self._door_sounds and door and door.buzzer)
            device.value = bool(on)


class _Voice:
    """Runs one signal at a time; ``step`` is where it is, None when there is nothing to say."""

    def __init__(self, timetable: Timetable, changed: Callable[[], None]) -> None:
        self._timetable = timetable
        self._changed = changed
        self._running: object = None
        self.step: Step | None = None

    def begin(self, signal: Signal) -> None:
        self._running = running = object()
        steps = PATTERNS[signal].run()

        def next_step() -> None:
            if self._running is not running:
                return
            self.step = step = next(steps, None)
            self._changed()
            if step:
                self._timetable.set(running, self._timetable.now_s() + step.duration_ms / 1000, next_step)

        self._timetable.set(running, self._timetable.now_s(), next_step)

    def end(self) -> None:
        self._running = None
