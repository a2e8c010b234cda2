"""What can be told from a configuration file that may otherwise be wrong: where its state is, which pins lock doors.

For commands that have to work when ``edge.config`` refuses the file: locking the doors of a controller that does
not start, and asking one that runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config import Pins
from edge.config_file import read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigOutline:
    """``strike_pins``: BCM numbers; ``pins`` is lgpio unless the file says otherwise.

    ``pinless``: which tables of a door have no strike_pin that can be read, counted from 1.
    """

    state_dir: Path | None
    pins: Pins
    strike_pins: tuple[int, ...]
    pinless: tuple[int, ...]

    @classmethod
    def read(cls, path: Path) -> ConfigOutline:
        """Raises ``ConfigError`` when the file cannot be read or is not TOML."""
        path = path.absolute()
        document = read_document(path)
        controller = _table(document.get("controller"))
        doors = document.get("door", [])
        state_dir = controller.get("state_dir")
        tables = doors if isinstance(doors, list) else [doors]
        found = {number: _pin(_table(door)) for number, door in enumerate(tables, start=1)}
        return cls(
            state_dir=path.parent / state_dir if isinstance(state_dir, str) and state_dir else None,
            pins=Pins.MOCK if controller.get("pins") == Pins.MOCK else Pins.LGPIO,
            strike_pins=tuple(pin for pin in found.values() if pin is not None),
            pinless=tuple(number for number, pin in found.items() if pin is None),
        )


def _pin(door: dict[str, Any]) -> int | None:
    pin = door.get("strike_pin")
    return pin if type(pin) is int and 2 <= pin <= 27 else None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
