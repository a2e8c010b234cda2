"""The pins do what the controller says, on gpiozero's mock pins and a clock that moves when told."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory

from edge import signals
from edge.circuits import CHATTER_S, STABLE_S
from edge.config import DoorConfig, EnergiseTo, FireConfig, Pins, ReaderConfig, Wiring
from edge.door_io import DoorIo, PinsUnavailable, open_pins
from edge.effects import Signal
from edge.inputs import ContactChanged, FireChanged, PinInput, RexPressed, TamperChanged
from edge.signals import PATTERNS
from edge.timetable import Timetable
from pacs.identifiers import DoorId
from pacs.rules import Side

FRONT, BACK = DoorId("front"), DoorId("back")
STRIKE, CONTACT, REX, GREEN, RED, BUZZER, RESET = 17, 27, 22, 23, 24, 25, 5
TAMPER, SOUNDER, FIRE = 6, 12, 26


def door(
    *, energise_to: EnergiseTo = EnergiseTo.UNLOCK, wiring: Wiring = Wiring.NORMALLY_CLOSED, **pins: Any
) -> DoorConfig:
    reader = ReaderConfig(
        side=Side.ENTRY,
        device=Path("/dev/null"),
        baud=115200,
        green_pin=GREEN,
        red_pin=RED,
        buzzer_pin=BUZZER,
        reset_pin=RESET,
    )
    fields: dict[str, Any] = {
        "id": FRONT,
        "strike_pin": STRIKE,
        "energise_to": energise_to,
        "contact_pin": CONTACT,
        "contact_wiring": wiring,
        "rex_pin": REX,
        "rex_wiring": wiring,
        "tamper_pin": TAMPER,
        "tamper_wiring": wiring,
        "sounder_pin": None,
        "readers": (reader,),
    }
    return DoorConfig(**fields | pins)


class Bench:
    """A door on mock pins; the timetable is run by hand."""

    def __init__(self, *configs: DoorConfig, fire: FireConfig | None = None) -> None:
        self.s = 100.0
        self.put: list[PinInput] = []
        self.factory: Any = MockFactory()
        self.timetable = Timetable(lambda: self.s)
        self.io = DoorIo(
            configs, factory=self.factory, put=self.put.append, fire=fire, timetable=self.timetable
        )

    def level(self, pin: int) -> bool:
        return bool(self.factory.pin(pin).state)

    def wait(self, seconds: float) -> None:
        """Let time pass, entry by entry."""
        until_s = self.s + seconds
        while (next_s := self.timetable.run_due()) is not None and next_s <= until_s:
            self.s = next_s
        self.s = until_s
        self.timetable.run_due()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A fail-secure door wired normally closed."""
    bench = Bench(door())
    yield bench
    bench.io.close()


# ---- strike


@pytest.mark.parametrize(("energise_to", "locked"), [(EnergiseTo.UNLOCK, False), (EnergiseTo.LOCK, True)])
def test_the_strike_is_locked_released_for_its_time_and_locked(
    energise_to: EnergiseTo, *, locked: bool
) -> None:
    """Fail-secure and fail-safe, from the start until the end."""
    bench = Bench(door(energise_to=energise_to))
    assert bench.level(STRIKE) is locked
    bench.io.release(FRONT, 300)
    assert bench.level(STRIKE) is not locked
    bench.wait(0.299)
    assert bench.level(STRIKE) is not locked
    bench.wait(0.002)
    assert bench.level(STRIKE) is locked
    bench.io.close()


def test_the_longer_of_two_releases_wins(bench: Bench) -> None:
    """A short one neither cuts a long one nor is cut by an earlier one's end."""
    bench.io.release(FRONT, 1_000)
    bench.wait(0.1)
    bench.io.release(FRONT, 100)
    bench.wait(0.5)
    assert bench.level(STRIKE)
    bench.io.release(FRONT, 1_000)
    bench.wait(0.9)
    assert bench.level(STRIKE)
    bench.wait(0.2)
    assert not bench.level(STRIKE)


def test_a_held_strike_stays_until_it_is_locked(bench: Bench) -> None:
    """Releases in between end nothing."""
    bench.io.release(FRONT, 200)
    bench.io.hold(FRONT)
    bench.io.release(FRONT, 100)
    bench.wait(60)
    assert bench.level(STRIKE)
    bench.io.end_hold(FRONT)
    assert not bench.level(STRIKE)
    bench.io.release(FRONT, 100)
    assert bench.level(STRIKE)
    bench.wait(0.2)
    assert not bench.level(STRIKE)


def test_the_end_of_a_hold_leaves_a_release_its_time(bench: Bench) -> None:
    """Whoever is on the way out gets out; locking at once is another thing."""
    bench.io.hold(FRONT)
    bench.io.release(FRONT, 5_000)
    bench.wait(1)
    bench.io.end_hold(FRONT)
    bench.wait(3.9)
    assert bench.level(STRIKE)
    bench.wait(0.2)
    assert not bench.level(STRIKE)
    bench.io.hold(FRONT)
    bench.io.release(FRONT, 5_000)
    bench.io.lock(FRONT)
    assert not bench.level(STRIKE)


def test_a_locked_strike_stays_locked(bench: Bench) -> None:
    """Locking ends a release at once."""
    bench.io.release(FRONT, 5_000)
    bench.io.lock(FRONT)
    bench.wait(6)
    assert not bench.level(STRIKE)


@pytest.mark.parametrize(("energise_to", "locked"), [(EnergiseTo.UNLOCK, False), (EnergiseTo.LOCK, True)])
def test_closing_locks_before_it_lets_go_of_the_line(energise_to: EnergiseTo, *, locked: bool) -> None:
    """The last level the process drives is locked; a second close does nothing."""
    bench = Bench(door(energise_to=energise_to))
    bench.io.release(FRONT, 5_000)
    pin = bench.factory.pin(STRIKE)
    pin.clear_states()
    bench.io.close()
    bench.io.close()
    assert [bool(state.state) for state in pin.states][:2] == [not locked, locked]
    assert pin.function == "input"


@pytest.mark.parametrize("end", [DoorIo.lock_all, DoorIo.close])
@pytest.mark.parametrize("broken", [FRONT, BACK])
def test_a_strike_that_cannot_be_locked_keeps_no_other_open(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[DoorIo], None], broken: DoorId
) -> None:
    """Whichever fails, the other is locked, every line that can be is let go, and the failure is told."""
    back = door(id=BACK, strike_pin=20, contact_pin=None, rex_pin=None, tamper_pin=None, readers=())
    bench = Bench(door(), back)
    for door_id in (FRONT, BACK):
        bench.io.release(door_id, 5_000)
    healthy = bench.factory.pin(20 if broken == FRONT else STRIKE)
    with monkeypatch.context() as fault:

        def fail() -> None:
            raise OSError("no line")

        fault.setattr(bench.io._strikes[broken], "lock", fail)
        with pytest.raises(OSError, match="no line"):
            end(bench.io)
        assert [bool(state.state) for state in healthy.states][-1] is False
        assert (bench.factory.pin(GREEN).function == "input") is (end is DoorIo.close)
    bench.io.close()


def test_a_pin_that_cannot_be_claimed_leaves_no_strike_driven() -> None:
    """Two doors on one strike pin: refused, and everything claimed so far is let go."""
    factory = MockFactory()
    with pytest.raises(PinsUnavailable):
        DoorIo([door(), door(id=DoorId("back"))], factory=factory, put=lambda _: None)
    assert factory.pin(STRIKE).function == "input"


# ---- inputs


@pytest.mark.parametrize("wiring", Wiring)
def test_the_contact_is_reported_at_the_start_and_at_each_change(wiring: Wiring) -> None:
    """In both wirings; a closed circuit is a low level."""
    levels = {"closed": wiring is Wiring.NORMALLY_OPEN, "opened": wiring is Wiring.NORMALLY_CLOSED}
    bench = Bench(door(wiring=wiring, tamper_pin=None))
    contact = bench.factory.pin(CONTACT)
    for change in ("closed", "opened", "closed"):
        contact.drive_high() if levels[change] else contact.drive_low()
        bench.wait(STABLE_S)
    wanted = [False, True, False] if wiring is Wiring.NORMALLY_CLOSED else [True, False]
    assert [put.open for put in bench.put if isinstance(put, ContactChanged)] == wanted
    bench.put.clear()
    bench.io.start()
    assert bench.put == [ContactChanged(door_id=FRONT, open=False)]
    bench.io.close()


def settled(bench: Bench) -> Any:
    """The contact, closed and reported so."""
    contact = bench.factory.pin(CONTACT)
    contact.drive_low()
    bench.wait(STABLE_S)
    bench.put.clear()
    return contact


def test_bouncing_is_one_change(bench: Bench) -> None:
    """A contact that bounces and settles is reported once, when it has been stable."""
    contact = settled(bench)
    for _ in range(3):
        contact.drive_high()
        bench.wait(0.005)
        contact.drive_low()
        bench.wait(0.005)
    contact.drive_high()
    bench.wait(STABLE_S - 0.001)
    assert bench.put == []
    bench.wait(0.002)
    assert bench.put == [ContactChanged(door_id=FRONT, open=True)]


def test_a_glitch_is_no_change(bench: Bench) -> None:
    """A level that does not last is not believed."""
    contact = settled(bench)
    contact.drive_high()
    bench.wait(0.01)
    contact.drive_low()
    bench.wait(1)
    assert bench.put == []


def test_chatter_hides_nothing(bench: Bench) -> None:
    """A contact that never settles is reported as open before long."""
    contact = settled(bench)
    elapsed_s = 0.0
    for _ in range(40):
        contact.drive_high()
        bench.wait(0.012)
        contact.drive_low()
        bench.wait(0.003)
        elapsed_s += 0.015
        if bench.put:
            break
    assert bench.put[0] == ContactChanged(door_id=FRONT, open=True)
    assert elapsed_s <= 2 * CHATTER_S


def test_a_press_counts_also_when_nobody_came_to_look_in_time(bench: Bench) -> None:
    """A level that lasted long enough is believed at the next edge, when the timetable's thread is late."""
    rex = bench.factory.pin(REX)
    rex.drive_low()
    bench.wait(1)
    bench.put.clear()
    rex.drive_high()
    bench.s += 2 * STABLE_S
    rex.drive_low()
    assert bench.put == [RexPressed(door_id=FRONT)]
    rex.drive_high()
    bench.s += STABLE_S / 2
    rex.drive_low()
    bench.wait(1)
    assert bench.put == [RexPressed(door_id=FRONT)]


def test_an_input_that_cannot_be_handled_harms_no_other_pin(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is raised into the thread that watches the pins; the watchdog is told."""

    def broken(_: object) -> None:
        raise ZeroDivisionError

    factory: Any = MockFactory()
    instants = itertools.count()  # a second passes between any two looks
    io = DoorIo([door()], factory=factory, put=broken, timetable=Timetable(lambda: float(next(instants))))
    with caplog.at_level(logging.CRITICAL):
        for pin in (REX, CONTACT):
            for drive in (factory.pin(pin).drive_low, factory.pin(pin).drive_high) * 2:
                drive()
    assert io.timetable.failed
    io.close()


def test_a_request_to_exit_is_one_press(bench: Bench) -> None:
    """Pressing is reported; letting go is not."""
    rex = bench.factory.pin(REX)
    rex.drive_low()
    bench.wait(1)
    bench.put.clear()
    for _ in range(2):
        rex.drive_high()
        bench.wait(0.5)
        rex.drive_low()
        bench.wait(0.5)
    assert bench.put == [RexPressed(door_id=FRONT)] * 2


@pytest.mark.parametrize("wiring", Wiring)
def test_tampering_and_fire_are_reported_when_they_begin_and_end(wiring: Wiring) -> None:
    """Debounced, in both wirings; at the start only when there is something to report."""
    bench = Bench(door(wiring=wiring, contact_pin=None), fire=FireConfig(pin=FIRE, wiring=wiring))
    tamper, fire = bench.factory.pin(TAMPER), bench.factory.pin(FIRE)

    def disturb(pin: Any) -> None:
        pin.drive_high() if wiring is Wiring.NORMALLY_CLOSED else pin.drive_low()
        bench.wait(STABLE_S)

    def rest(pin: Any) -> None:
        pin.drive_low() if wiring is Wiring.NORMALLY_CLOSED else pin.drive_high()
        bench.wait(STABLE_S)

    rest(tamper)
    rest(fire)
    bench.put.clear()
    for change in (disturb, rest, disturb):
        change(tamper)
        change(fire)
    began = [TamperChanged(door_id=FRONT, open=True), FireChanged(active=True)]
    ended = [TamperChanged(door_id=FRONT, open=False), FireChanged(active=False)]
    assert bench.put == began + ended + began
    bench.put.clear()
    bench.io.start()
    assert bench.put == began
    bench.io.close()


def test_nothing_is_reported_at_the_start_of_a_quiet_door() -> None:
    """The contact always is."""
    bench = Bench(door(), fire=FireConfig(pin=FIRE, wiring=Wiring.NORMALLY_OPEN))
    for pin in (TAMPER, CONTACT, REX):
        bench.factory.pin(pin).drive_low()
    bench.wait(1)
    bench.put.clear()
    bench.io.start()
    assert bench.put == [ContactChanged(door_id=FRONT, open=False)]
    bench.io.close()


# ---- signals


def rhythm(signal: Signal, *, sound: bool) -> tuple[tuple[int, bool], ...]:
    """When light (any colour), or buzzer, is on and off: runs of equal state, in ms; of an endless one three rounds."""
    pattern = PATTERNS[signal]
    states = [
        (step.duration_ms, step.buzzer if sound else step.green or step.red)
        for step in pattern.steps * (pattern.times or 3)
    ]
    return tuple(
        (sum(duration_ms for duration_ms, _ in run), on)
        for on, run in itertools.groupby(states, key=lambda state: state[1])
    )


SHOWN = [signal for signal in Signal if signal is not Signal.SILENT]
SOUNDING = [signal for signal in SHOWN if signal is not Signal.READING]


def test_every_signal_is_told_apart_without_colours_and_without_the_rest() -> None:
    """By the rhythm of the light alone, and by the sound alone where there is any; already the first flash differs."""
    assert set(PATTERNS) == set(Signal)
    assert len({rhythm(signal, sound=False) for signal in SHOWN}) == len(SHOWN)
    assert len({rhythm(signal, sound=True) for signal in SOUNDING}) == len(SOUNDING)
    assert len({rhythm(signal, sound=False)[0] for signal in SHOWN}) == len(SHOWN)


def test_the_documented_signals_are_the_ones_shown() -> None:
    """The table in the module's docstring names every signal with its colour, and its times are the rhythm's."""
    table = (signals.__doc__ or "").splitlines()
    names = {(True, True): "both", (True, False): "green", (False, True): "red"}
    for signal in Signal:
        name = signal.value.replace("_", " ")
        (row,) = [line for line in table if line.startswith(name + " ")]
        pattern = PATTERNS[signal]
        lights = {(step.green, step.red) for step in pattern.steps if step.green or step.red}
        colour = row.removeprefix(name).split()[0]
        assert colour == ("each" if len(lights) > 1 else names[lights.pop()] if lights else "none")
        assert ("with silent" in row) is (pattern.times is None)
        if ends := re.search(r"after ([0-9,]+)$", row):
            round_ms = sum(step.duration_ms for step in pattern.steps)
            wanted_ms = int(ends[1].replace(",", ""))
            assert abs(round_ms * (pattern.times or 0) - wanted_ms) < (round_ms if pattern.times != 1 else 1)


def test_a_signal_runs_to_its_end_and_leaves_everything_off(bench: Bench) -> None:
    """The lights and the buzzer of a grant, on the pins."""
    bench.io.indicate(FRONT, Side.ENTRY, Signal.GRANTED)
    bench.wait(0)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [True, False, True]
    bench.wait(0.5)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [True, False, False]
    bench.wait(2.5)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [False, False, False]


def test_a_test_shows_each_light_and_the_buzzer_alone(bench: Bench) -> None:
    """Green, red, buzzer, twice over, on the pins; then everything is off."""
    bench.io.indicate(FRONT, Side.ENTRY, Signal.TEST)
    bench.wait(0)
    seen = []
    for pause_s in (0.35, 0.7, 0.5, 0.4, 0.6, 0.7, 0.5, 0.4, 0.85):
        bench.wait(pause_s)
        seen.append("".join(str(int(bench.level(pin))) for pin in (GREEN, RED, BUZZER)))
    assert seen == ["100", "010", "001", "000"] * 2 + ["000"]


def test_a_new_signal_takes_the_place_of_the_one_before(bench: Bench) -> None:
    """Nothing of the earlier rhythm comes back."""
    bench.io.indicate(FRONT, Side.ENTRY, Signal.WAITING)
    bench.wait(0.02)
    bench.io.indicate(FRONT, Side.ENTRY, Signal.REFUSED)
    bench.wait(0)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [False, True, True]
    bench.factory.pin(GREEN).clear_states()
    bench.wait(10)
    assert len(bench.factory.pin(GREEN).states) == 1
    assert not bench.level(RED)


def tones(bench: Bench, pin: int, seconds: float) -> int:
    """How often the output comes on."""
    output = bench.factory.pin(pin)
    output.clear_states()
    bench.wait(seconds)
    return sum(bool(state.state) for state in output.states[1:])


def test_a_door_sounds_until_it_is_silent(bench: Bench) -> None:
    """Warning, then alarm, for as long as it takes; silence ends either, and is no news at a silent door."""
    bench.io.sound(FRONT, Signal.SILENT)
    assert tones(bench, BUZZER, 5) == 0
    bench.io.sound(FRONT, Signal.HELD_WARNING)
    assert tones(bench, BUZZER, 599.5) == 600
    bench.io.sound(FRONT, Signal.ALARM)
    bench.wait(0)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [False, True, True]
    assert tones(bench, BUZZER, 90.1) == 100
    bench.io.sound(FRONT, Signal.SILENT)
    bench.wait(0)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [False, False, False]
    assert tones(bench, BUZZER, 5) == 0


def test_a_card_is_answered_while_the_door_sounds(bench: Bench) -> None:
    """The reader's lights say what came of the card; afterwards they go with the door again, which never fell silent."""
    bench.io.sound(FRONT, Signal.ALARM)
    bench.wait(1)
    bench.io.indicate(FRONT, Side.ENTRY, Signal.GRANTED)
    bench.wait(0.5)
    assert tones(bench, RED, 1.9) == 0
    assert bench.level(GREEN)
    bench.wait(0.2)
    assert tones(bench, BUZZER, 9) == 10
    assert tones(bench, RED, 9) == 10
    assert not bench.level(GREEN)
    bench.io.indicate(FRONT, Side.ENTRY, Signal.READING)
    assert tones(bench, BUZZER, 1.8) == 2


def test_a_door_with_a_sounder_leaves_its_readers_their_buzzers() -> None:
    """The sounder takes the tones; the readers flash."""
    bench = Bench(door(sounder_pin=SOUNDER))
    bench.io.sound(FRONT, Signal.HELD_WARNING)
    assert (tones(bench, SOUNDER, 9.5), bench.level(BUZZER)) == (10, False)
    assert tones(bench, BUZZER, 9.5) == 0
    assert tones(bench, RED, 10) == 10
    bench.io.close()
    assert bench.factory.pin(SOUNDER).function == "input"


def test_one_door_sounds_and_its_neighbour_does_not() -> None:
    """A door without readers and without a sounder has nothing to sound with, which is no error."""
    back = DoorId("back")
    pins: dict[str, Any] = {
        "strike_pin": 4,
        "contact_pin": 3,
        "rex_pin": 2,
        "tamper_pin": None,
        "readers": (),
    }
    bench = Bench(door(), door(id=back, **pins))
    bench.io.sound(back, Signal.ALARM)
    assert tones(bench, BUZZER, 9) == 0
    bench.io.sound(FRONT, Signal.ALARM)
    assert tones(bench, BUZZER, 9) == 10
    bench.io.close()


def test_a_reader_without_lights_shows_nothing(bench: Bench) -> None:
    """A side without a reader is no error, and the other side's lights are not taken for its own."""
    bench.io.indicate(FRONT, Side.EXIT, Signal.GRANTED)
    bench.io.reset(FRONT, Side.EXIT)
    bench.wait(0)
    assert [bench.level(pin) for pin in (GREEN, RED, BUZZER)] == [False, False, False]


def test_the_reset_line_is_pulled_low_and_let_go(bench: Bench) -> None:
    """RSTPDN is active low and rests high."""
    pin = bench.factory.pin(RESET)
    assert bench.level(RESET)
    pin.clear_states()
    bench.io.reset(FRONT, Side.ENTRY)
    assert [bool(state.state) for state in pin.states] == [True, False, True]


# ---- the pin factory


def test_there_is_no_fallback_from_missing_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where lgpio has no chip to drive, the controller says so instead of taking another factory."""
    monkeypatch.setenv("LG_WD", "")
    if list(Path("/dev").glob("gpiochip*")):
        pytest.skip("this machine has pins")
    with pytest.raises(PinsUnavailable, match="lgpio"):
        open_pins(Pins.LGPIO, tmp_path)
    assert os.environ["LG_WD"] == str(tmp_path)


def test_mock_pins_are_had_by_name(tmp_path: Path) -> None:
    """Only when the configuration says mock."""
    assert isinstance(open_pins(Pins.MOCK, tmp_path), MockFactory)
