"""Every table and key of a controller's configuration, and how each value is read."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from edge.config import Backend, EnergiseTo, Pins, UseTpm, Wiring
from edge.journal_policy import JournalPolicy, WhenFull, WhenUnwritable
from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Side

BAUD_RATES: Final = (115200, 230400, 460800, 921600)


@dataclass(frozen=True, slots=True)
class Key:
    """One key: ``read`` turns the TOML value into ours or raises ``ValueError`` with the fix."""

    read: Callable[[Any, Path], Any]
    default: Any = None
    required: bool = False


def _text(value: Any, _base: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("write a text in quotes")
    return value


def _path(value: Any, base: Path) -> Path:
    text = _text(value, base)
    if "\0" in text:
        raise ValueError("no path has a zero character in it; remove it")
    return base / text


def _identifier(kind: type[Any]) -> Callable[[Any, Path], Any]:
    def read(value: Any, base: Path) -> Any:
        try:
            return kind(_text(value, base))
        except MalformedData as error:
            raise ValueError("write 1 to 48 characters of A-Z a-z 0-9 _ -") from error

    return read


def _choice(kind: type[StrEnum]) -> Callable[[Any, Path], StrEnum]:
    def read(value: Any, _base: Path) -> StrEnum:
        try:
            return kind(value)
        except ValueError as error:
            raise ValueError("write one of " + ", ".join(f'"{choice}"' for choice in kind)) from error

    return read


def _number(lowest: int, highest: int) -> Callable[[Any, Path], int]:
    def read(value: Any, _base: Path) -> int:
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(f"write a whole number from {lowest} to {highest}")
        return value

    return read


def _flag(value: Any, _base: Path) -> bool:
    if type(value) is not bool:
        raise ValueError("write true or false")
    return value


def _baud(value: Any, _base: Path) -> int:
    if type(value) is not int or value not in BAUD_RATES:
        raise ValueError("write one of " + ", ".join(map(str, BAUD_RATES)))
    return value


def _trust_file(value: Any, base: Path) -> Path:
    """Whoever can change it decides who is believed."""
    path = _path(value, base)
    if problem := changeable(path):
        raise ValueError(problem)
    return path


def changeable(path: Path) -> str | None:
    """What is wrong with a file that decides whom to believe: it is not there, or others can change it."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"there is no file {path}; copy it from the site directory"
    except OSError as error:
        return f"{path} cannot be looked at ({error.strerror}); check who may enter its directory"
    if not stat.S_ISREG(mode):
        return f"{path} is no file; copy it from the site directory"
    if stat.S_IMODE(mode) & 0o022:
        return f"others can change {path}; run: chmod go-w {path}"
    return None


_pin = _number(2, 27)

KEYS: Final[Mapping[str, Mapping[str, Key]]] = {
    "controller": {
        "id": Key(_identifier(ControllerId), required=True),
        "site": Key(_identifier(SiteId), required=True),
        "state_dir": Key(_path, required=True),
        "pins": Key(_choice(Pins), Pins.LGPIO),
    },
    "hub": {
        "host": Key(_text, required=True),
        "port": Key(_number(1, 65535), 8883),
    },
    "keys": {
        "device_certificate": Key(_path, required=True),
        "device_key": Key(_path, required=True),
        "event_key": Key(_path, required=True),
        "root_certificate": Key(_trust_file, required=True),
        "policy_public_key": Key(_trust_file, required=True),
        "passphrase_file": Key(_path),
        "tpm": Key(_choice(UseTpm), UseTpm.AUTO),
    },
    "journal": {
        "max_mib": Key(_number(16, 4096), JournalPolicy().max_mib),
        "when_full": Key(_choice(WhenFull), JournalPolicy().when_full),
        "when_unwritable": Key(_choice(WhenUnwritable), JournalPolicy().when_unwritable),
    },
    "clock": {
        "require_sync": Key(_flag, default=False),
    },
    "fire": {
        "pin": Key(_pin, required=True),
        "wiring": Key(_choice(Wiring), Wiring.NORMALLY_CLOSED),
    },
    "door": {
        "id": Key(_identifier(DoorId), required=True),
        "strike_pin": Key(_pin, required=True),
        "energise_to": Key(_choice(EnergiseTo), required=True),
        "contact_pin": Key(_pin),
        "contact_wiring": Key(_choice(Wiring), Wiring.NORMALLY_CLOSED),
        "rex_pin": Key(_pin),
        "rex_wiring": Key(_choice(Wiring), Wiring.NORMALLY_CLOSED),
        "tamper_pin": Key(_pin),
        "tamper_wiring": Key(_choice(Wiring), Wiring.NORMALLY_CLOSED),
        "sounder_pin": Key(_pin),
    },
    "door.reader": {
        "side": Key(_choice(Side), required=True),
        "device": Key(_path, required=True),
        "backend": Key(_choice(Backend), Backend.PN532),
        "baud": Key(_baud, 921600),
        "green_pin": Key(_pin),
        "red_pin": Key(_pin),
        "buzzer_pin": Key(_pin),
        "reset_pin": Key(_pin),
    },
}
"""Every table and key that is understood; nothing else is."""

NESTED: Final = {"": {"controller", "hub", "keys", "journal", "clock", "fire", "door"}, "door": {"reader"}}
"""The tables inside a table."""
