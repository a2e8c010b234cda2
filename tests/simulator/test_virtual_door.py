"""The virtual door behaves like a door, seen through the controller's own pins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge.config import EnergiseTo, FireConfig, Wiring
from edge.door_io import DoorIo
from edge.inputs import ContactChanged, FireChanged, PinInput, RexPressed, TamperChanged
from edge.timetable import Timetable
from pacs.identifiers import DoorId
from simulator.virtual_door import PRESS_S, Manner, Person, VirtualDoor, VirtualFireAlarm, VirtualPins
from tests.edge.test_door_io import CONTACT, FIRE, REX, STRIKE, TAMPER, door

FRONT = DoorId("front")


class Scene:
    """A door on a clock that moves when told, with the controller's pins on it."""

    def __init__(self, *, person: Person | None = None, **config: Any) -> None:
        self.s = 100.0
        self.put: list[PinInput] = []
        self.levels: list[tuple[int, bool, int]] = []
        self.timetable = Timetable(lambda: self.s)
        self.pins = VirtualPins()
        wiring = door(**config)
        fire = FireConfig(pin=FIRE, wiring=wiring.tamper_wiring)
        self.door = VirtualDoor(wiring, self.pins, self.timetable, person=person)
        self.fire_alarm = VirtualFireAlarm(fire, self.pins)
        self.pins.on_level = self._on_level
        self.io = DoorIo(
            [wiring], factory=self.pins, put=self.put.append, fire=fire, timetable=self.timetable
        )

    def _on_level(self, pin: int, level: bool, at_ns: int) -> None:
        self.levels.append((pin, level, at_ns))
        self.door.level_changed(pin)

    def wait(self, seconds: float) -> None:
        until_s = self.s + seconds
        while (next_s := self.timetable.run_due()) is not None and next_s <= until_s:
            self.s = next_s
        self.s = until_s
        self.timetable.run_due()

    def is_open(self) -> bool:
        return self.door.is_open

    def is_released(self) -> bool:
        return self.door.is_released

    def contacts(self) -> list[bool]:
        return [put.open for put in self.put if isinstance(put, ContactChanged)]


@pytest.fixture
def make() -> Iterator[Callable[..., Scene]]:
    """Scenes that are closed after the test."""
    scenes: list[Scene] = []

    def make(**options: Any) -> Scene:
        scenes.append(Scene(**options))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.io.close()


@pytest.mark.parametrize("energise_to", EnergiseTo)
@pytest.mark.parametrize("wiring", Wiring)
def test_a_locked_door_cannot_be_pulled_open(
    make: Callable[..., Scene], energise_to: EnergiseTo, wiring: Wiring
) -> None:
    """Locked: pulling fails and the contact says nothing. Released: it opens, and closes."""
    scene = make(energise_to=energise_to, wiring=wiring)
    assert not scene.door.pull()
    scene.wait(1)
    assert scene.put == []
    scene.io.release(FRONT, 500)
    assert scene.is_released()
    assert scene.door.pull()
    scene.wait(1)
    assert not scene.is_released()
    scene.door.close()
    scene.wait(1)
    assert scene.contacts() == [True, False]


def test_a_forced_door_opens_whatever_the_strike_does(make: Callable[..., Scene]) -> None:
    """The contact opens while the strike is locked."""
    scene = make()
    scene.door.force()
    scene.wait(1)
    assert scene.contacts() == [True]
    assert not scene.is_released()


def test_a_person_walks_through_when_the_strike_releases(make: Callable[..., Scene]) -> None:
    """Pulls after their delay, and the door falls shut after its time."""
    scene = make(person=Person(delay_s=0.8, open_s=1.5))
    scene.io.release(FRONT, 5_000)
    scene.wait(0.79)
    assert not scene.is_open()
    scene.wait(0.1)
    assert scene.is_open()
    scene.wait(3)
    assert not scene.is_open()
    assert scene.contacts() == [True, False]


def test_a_person_who_comes_too_late_finds_the_door_locked(make: Callable[..., Scene]) -> None:
    """A release shorter than their delay opens nothing."""
    scene = make(person=Person(delay_s=0.8))
    scene.io.release(FRONT, 500)
    scene.wait(5)
    assert scene.contacts() == []


def test_a_person_may_leave_the_door_standing_open(make: Callable[..., Scene]) -> None:
    """Once: the door stays open until it is closed, and the next person walks through."""
    scene = make(person=Person(delay_s=0.1, open_s=0.5))
    scene.door.next_person(Manner.HOLD_OPEN)
    scene.io.release(FRONT, 1_000)
    scene.wait(600)
    assert scene.is_open()
    scene.door.close()
    scene.io.release(FRONT, 1_000)
    scene.wait(5)
    assert scene.contacts() == [True, False, True, False]


def test_a_person_may_turn_away(make: Callable[..., Scene]) -> None:
    """Once: the strike releases and nobody opens; the next person walks through."""
    scene = make(person=Person(delay_s=0.1, open_s=0.5))
    scene.door.next_person(Manner.TURN_AWAY)
    scene.io.release(FRONT, 1_000)
    scene.wait(5)
    assert scene.contacts() == []
    scene.io.release(FRONT, 1_000)
    scene.wait(5)
    assert scene.contacts() == [True, False]


@pytest.mark.parametrize("wiring", Wiring)
def test_tampering_and_fire_begin_and_end(make: Callable[..., Scene], wiring: Wiring) -> None:
    """In either wiring, as the controller reads them; a quiet world reports nothing."""
    scene = make(wiring=wiring)
    scene.wait(1)
    assert scene.put == []
    for deed in (
        scene.door.open_housing,
        scene.fire_alarm.begin,
        scene.door.close_housing,
        scene.fire_alarm.end,
    ):
        deed()
        scene.wait(1)
    assert scene.put == [
        TamperChanged(door_id=FRONT, open=True),
        FireChanged(active=True),
        TamperChanged(door_id=FRONT, open=False),
        FireChanged(active=False),
    ]


@pytest.mark.parametrize("wiring", Wiring)
def test_the_button_asks_to_leave_once(make: Callable[..., Scene], wiring: Wiring) -> None:
    """One press is one request, in either wiring."""
    scene = make(wiring=wiring)
    scene.door.press_rex()
    scene.wait(2 * PRESS_S)
    assert scene.put == [RexPressed(door_id=FRONT)]


def test_each_change_of_a_pin_is_reported_with_its_instant(make: Callable[..., Scene]) -> None:
    """Number, level and monotonic ns, in order; nothing for a pin that is set to what it is."""
    scene = make()
    scene.levels.clear()
    before_ns = time.monotonic_ns()
    scene.io.release(FRONT, 100)
    scene.io.release(FRONT, 50)
    scene.wait(1)
    after_ns = time.monotonic_ns()
    assert [(pin, level) for pin, level, _ in scene.levels] == [(STRIKE, True), (STRIKE, False)]
    instants = [at_ns for _, _, at_ns in scene.levels]
    assert before_ns <= instants[0] <= instants[1] <= after_ns


def test_a_door_without_contact_or_button_still_opens(make: Callable[..., Scene]) -> None:
    """Not fitted: nothing is reported, the world goes on."""
    scene = make(contact_pin=None, rex_pin=None)
    scene.io.release(FRONT, 500)
    assert scene.door.pull()
    scene.door.press_rex()
    scene.wait(1)
    assert scene.put == []


def test_a_cut_wire_reads_as_open_and_as_one_press(make: Callable[..., Scene]) -> None:
    """Normally closed circuits that break are pulled up: open, pressed, tampered with, burning."""
    scene = make()
    for pin in (CONTACT, REX, TAMPER, FIRE):
        scene.pins.pin(pin).pull_to(True)
    scene.wait(10)
    assert {FireChanged(active=True), TamperChanged(door_id=FRONT, open=True)} < set(scene.put)
    assert scene.contacts() == [True]
    assert scene.put.count(RexPressed(door_id=FRONT)) == 1
