"""The controller's configuration: TOML in, checked values out.

Nothing is guessed. An unknown key, a wrong type, a placeholder left over from a template, a pin used twice, a key
file others can read: each is a named problem with its fix, and all problems of a file are reported together.
``docs/configuration-edge.md`` describes every key.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Any, Final

from pacs.errors import MalformedData, PacsError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Side

BAUD_RATES: Final = (115200, 230400, 460800, 921600)
MAX_DOORS: Final = 4
PASSPHRASE_VARIABLE: Final = "DREMPEL_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable, not a secret

_PLACEHOLDER = re.compile(r"<.*>|change[-_ ]?me|\btodo\b|\bfixme\b", re.IGNORECASE)


class ConfigError(PacsError):
    """The configuration cannot be used; ``problems`` has one line for each key that is wrong."""

    def __init__(self, path: Path, problems: tuple[str, ...]) -> None:
        super().__init__(f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.path = path
        self.problems = problems


@unique
class Pins(StrEnum):
    """Which gpiozero pin factory drives the door; there is no fallback from one to another."""

    LGPIO = "lgpio"
    MOCK = "mock"


@unique
class EnergiseTo(StrEnum):
    """What current does to the strike: ``unlock`` is fail-secure, ``lock`` is fail-safe."""

    UNLOCK = "unlock"
    LOCK = "lock"


@unique
class Wiring(StrEnum):
    """The circuit of an input at rest: a cut wire of a closed circuit reads as open, or as pressed."""

    NORMALLY_CLOSED = "normally_closed"
    NORMALLY_OPEN = "normally_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderConfig:
    """One reader and its signals; pins are BCM numbers, ``None`` when not fitted."""

    side: Side
    device: Path
    baud: int
    green_pin: int | None
    red_pin: int | None
    buzzer_pin: int | None
    reset_pin: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorConfig:
    """The wiring of one door; pins are BCM numbers."""

    id: DoorId
    strike_pin: int
    energise_to: EnergiseTo
    contact_pin: int | None
    contact_wiring: Wiring
    rex_pin: int | None
    rex_wiring: Wiring
    readers: tuple[ReaderConfig, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPaths:
    """Where the keys and certificates are."""

    device_certificate: Path
    device_key: Path
    event_key: Path
    root_certificate: Path
    policy_public_key: Path
    passphrase_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a controller is told about itself."""

    path: Path
    controller_id: ControllerId
    site_id: SiteId
    state_dir: Path
    pins: Pins
    hub_host: str
    hub_port: int
    keys: KeyPaths
    doors: tuple[DoorConfig, ...]


@dataclass(frozen=True, slots=True)
class _Key:
    """One key: ``read`` turns the TOML value into ours or raises ``ValueError`` with the fix."""

    read: Callable[[Any, Path], Any]
    default: Any = None
    required: bool = False


def _text(value: Any, _base: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("write a text in quotes")
    return value


def _path(value: Any, base: Path) -> Path:
    return base / Path(_text(value, base))


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


def _baud(value: Any, _base: Path) -> int:
    if type(value) is not int or value not in BAUD_RATES:
        raise ValueError("write one of " + ", ".join(map(str, BAUD_RATES)))
    return value


def _public_file(value: Any, base: Path) -> Path:
    path = _path(value, base)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; copy it from the site directory")
    return path


def _trust_file(value: Any, base: Path) -> Path:
    """Whoever can change it decides who is believed."""
    path = _public_file(value, base)
    if problem := _changeable(path):
        raise ValueError(problem)
    return path


def _changeable(path: Path) -> str | None:
    changeable = stat.S_IMODE(path.stat().st_mode) & 0o022
    return f"others can change {path}; run: chmod go-w {path}" if changeable else None


def _secret_file(value: Any, base: Path) -> Path:
    path = _public_file(value, base)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ValueError(f"others can read {path}; run: chmod 600 {path}")
    return path


_pin = _number(2, 27)

KEYS: Final[Mapping[str, Mapping[str, _Key]]] = {
    "controller": {
        "id": _Key(_identifier(ControllerId), required=True),
        "site": _Key(_identifier(SiteId), required=True),
        "state_dir": _Key(_path, required=True),
        "pins": _Key(_choice(Pins), Pins.LGPIO),
    },
    "hub": {
        "host": _Key(_text, required=True),
        "port": _Key(_number(1, 65535), 8883),
    },
    "keys": {
        "device_certificate": _Key(_public_file, required=True),
        "device_key": _Key(_secret_file, required=True),
        "event_key": _Key(_secret_file, required=True),
        "root_certificate": _Key(_trust_file, required=True),
        "policy_public_key": _Key(_trust_file, required=True),
        "passphrase_file": _Key(_secret_file),
    },
    "door": {
        "id": _Key(_identifier(DoorId), required=True),
        "strike_pin": _Key(_pin, required=True),
        "energise_to": _Key(_choice(EnergiseTo), required=True),
        "contact_pin": _Key(_pin),
        "contact_wiring": _Key(_choice(Wiring), Wiring.NORMALLY_CLOSED),
        "rex_pin": _Key(_pin),
        "rex_wiring": _Key(_choice(Wiring), Wiring.NORMALLY_CLOSED),
    },
    "door.reader": {
        "side": _Key(_choice(Side), required=True),
        "device": _Key(_path, required=True),
        "baud": _Key(_baud, 921600),
        "green_pin": _Key(_pin),
        "red_pin": _Key(_pin),
        "buzzer_pin": _Key(_pin),
        "reset_pin": _Key(_pin),
    },
}
"""Every table and key that is understood; nothing else is."""

_NESTED: Final = {"": {"controller", "hub", "keys", "door"}, "door": {"reader"}}


def load(path: Path, *, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the file at ``path``.

    Relative paths start at the file's directory. ``DREMPEL_PASSPHRASE_FILE`` in ``environment`` replaces
    ``[keys] passphrase_file``. Raises ``ConfigError`` with every problem found.
    """
    path = path.absolute()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        problem = _changeable(path)
    except OSError as error:
        raise ConfigError(path, (f"cannot be read ({error.strerror}); check the path",)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, (f"is not TOML: {error}",)) from error
    if problem:
        raise ConfigError(path, (problem,))
    if variable := environment.get(PASSPHRASE_VARIABLE):
        keys = document.get("keys")
        if isinstance(keys, dict):
            keys["passphrase_file"] = str(Path(variable).absolute())
    return _Parser(path).parse(document)


class _Parser:
    """One reading of one document; collects problems as it goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[str] = []

    def parse(self, document: dict[str, Any]) -> Config:
        self._only(document, "", set())
        controller = self._table(document.get("controller", {}), "controller", "[controller]")
        hub = self._table(document.get("hub", {}), "hub", "[hub]")
        keys = self._table(document.get("keys", {}), "keys", "[keys]")
        if not keys.get("passphrase_file") and not self.problems:
            self.problems.append(
                f"[keys] passphrase_file: missing; name the file, or set {PASSPHRASE_VARIABLE} in the environment"
            )
        doors = [self._door(table, number) for number, table in self._tables(document, "door", "door")]
        if not 1 <= len(doors) <= MAX_DOORS:
            self.problems.append(f"[[door]]: write 1 to {MAX_DOORS} doors, there are {len(doors)}")
        self._twice(doors)
        if self.problems:
            raise ConfigError(self.path, tuple(self.problems))
        return Config(
            path=self.path,
            controller_id=controller["id"],
            site_id=controller["site"],
            state_dir=controller["state_dir"],
            pins=controller["pins"],
            hub_host=hub["host"],
            hub_port=hub["port"],
            keys=KeyPaths(**keys),
            doors=tuple(
                DoorConfig(**door | {"readers": tuple(ReaderConfig(**reader) for reader in door["readers"])})
                for door in doors
            ),
        )

    def _door(self, table: dict[str, Any], number: int) -> dict[str, Any]:
        name = f"[[door]] {number}"
        readers = self._tables(table, "reader", f"{name} reader")
        door = self._table(table, "door", name)
        door["readers"] = [
            self._table(reader, "door.reader", f"{name} [[door.reader]] {index}") for index, reader in readers
        ]
        sides = [reader.get("side") for reader in door["readers"]]
        if len(set(sides)) != len(sides):
            self.problems.append(
                f"{name} [[door.reader]] side: used twice; a door has one reader for each side"
            )
        return door

    def _table(self, table: Any, section: str, name: str) -> dict[str, Any]:
        """Return every key of ``section``, read or defaulted; keys with a problem are left out."""
        if not isinstance(table, dict):
            self.problems.append(f"{name}: write it as a table")
            return {}
        self._only(table, section, set(KEYS[section]), name)
        values: dict[str, Any] = {}
        for key, spec in KEYS[section].items():
            if key not in table:
                if spec.required:
                    self.problems.append(f"{name} {key}: missing; add it")
                else:
                    values[key] = spec.default
                continue
            value = table[key]
            try:
                if isinstance(value, str) and _PLACEHOLDER.search(value):
                    raise ValueError(f'still the placeholder "{value}"; write the real value')
                values[key] = spec.read(value, self.path.parent)
            except ValueError as error:
                self.problems.append(f"{name} {key}: {error}")
        return values

    def _tables(self, parent: dict[str, Any], key: str, name: str) -> list[tuple[int, dict[str, Any]]]:
        tables = parent.get(key, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.problems.append(f"{name}: write it as [[{'door.reader' if key == 'reader' else key}]]")
            return []
        return list(enumerate(tables, start=1))

    def _only(self, table: dict[str, Any], section: str, known: set[str], name: str = "") -> None:
        known = known | _NESTED.get(section, set())
        for key in sorted(set(table) - known):
            self.problems.append(f"{name} {key}: unknown; known are {', '.join(sorted(known))}".strip())

    def _twice(self, doors: list[dict[str, Any]]) -> None:
        """Refuse two doors of one id, two uses of one pin, two readers on one device."""
        used: dict[tuple[str, object], str] = {}
        for number, door in enumerate(doors, start=1):
            places = [(f"[[door]] {number}", door)]
            places += [
                (f"[[door]] {number} [[door.reader]] {i}", r) for i, r in enumerate(door["readers"], start=1)
            ]
            for name, table in places:
                for key, value in table.items():
                    kind = "pin" if key.endswith("_pin") else key
                    if value is None or kind not in ("pin", "id", "device"):
                        continue
                    if first := used.get((kind, value)):
                        self.problems.append(f"{name} {key}: {value} is already {first}; choose another")
                    used.setdefault((kind, value), f"{name} {key}")


def example_toml() -> str:
    """Return a commented template; its placeholders are refused until they are replaced."""
    return _EXAMPLE


_EXAMPLE: Final = """\
# A Drempel controller. docs/configuration-edge.md describes every key.

[controller]
id = "CHANGE-ME"                 # 1 to 48 of A-Z a-z 0-9 _ -; the name in its certificate
site = "CHANGE-ME"
state_dir = "state"              # journal and policy; relative paths start at this file
pins = "lgpio"                   # "lgpio" on a Raspberry Pi, "mock" without hardware

[hub]
host = "CHANGE-ME"               # the name in the broker's certificate
port = 8883

[keys]
device_certificate = "device.cert.pem"
device_key = "device.key.pem"
event_key = "event.key.pem"
root_certificate = "root.cert.pem"
policy_public_key = "policy.pub.pem"
passphrase_file = "passphrase"   # or DREMPEL_PASSPHRASE_FILE in the environment

[[door]]
id = "CHANGE-ME"
strike_pin = 17                  # BCM numbers, 2 to 27
energise_to = "unlock"           # "unlock": fail-secure, "lock": fail-safe
contact_pin = 27
contact_wiring = "normally_closed"
rex_pin = 22
rex_wiring = "normally_closed"

[[door.reader]]
side = "entry"
device = "/dev/ttyAMA0"
baud = 921600
green_pin = 23
red_pin = 24
buzzer_pin = 25
reset_pin = 5
"""
