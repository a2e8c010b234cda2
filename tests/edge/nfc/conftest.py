from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.nfc.reader import ReaderSettings
from simulator.timing import Timing
from tests.edge.nfc.door_on_pn532 import DEADLINE_S, Door


@pytest.fixture
def make_door(tmp_path: Path) -> Callable[..., Door]:
    """A door whose reader is not plugged in and whose thread is not started."""

    def make(timing: Timing | None = None, **settings: object) -> Door:
        quick = {"first_back_off_s": 0.02, "longest_back_off_s": 0.1}
        return Door(
            tmp_path / "reader",
            timing or Timing.none(),
            ReaderSettings(**(quick | settings)),  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def open_door(make_door: Callable[..., Door]) -> Iterator[Callable[..., Door]]:
    """Doors at work."""
    doors: list[Door] = []

    def make(timing: Timing | None = None, **settings: object) -> Door:
        door = make_door(timing, **settings)
        door.chip.__enter__()
        doors.append(door)
        door.reader.start()
        return door

    yield make
    for door in doors:
        door.reader.stop(DEADLINE_S)
        door.chip.__exit__(None, None, None)


@pytest.fixture
def door(open_door: Callable[..., Door]) -> Door:
    """A door at work."""
    return open_door()
