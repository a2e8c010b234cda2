"""What a place is wired to, and the controller's configuration that says so.

A place keeps its wiring at the hub, so that a spare takes over doors, pins and readers as they are. The keys are those of
the configuration file (docs/configuration-edge.md); ``edge.config_file`` judges the whole file again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Final, Self, TypeVar

from pacs.errors import MalformedData
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.rules import Side

MAX_DOORS: Final = 4
UART: Final = "/dev/ttyAMA0"
"""The serial port on the header, for the reader of a place with one door."""

# BCM numbers that one header has free beside the serial port: strike, contact, REX, green, red, buzzer.
_PIN_NAMES: Final = ("strike_pin", "contact_pin", "rex_pin", "green_pin", "red_pin", "buzzer_pin")
_PINS: Final = (
    (17, 27, 22, 23, 24, 25),
    (5, 6, 13, 19, 26, 12),
    (16, 20, 21, 18, 4, 7),
    (8, 9, 10, 11, 2, 3),
)
_CIRCUIT: Final = ("normally_closed", "normally_open")
_CHOICES: Final[Mapping[str, tuple[object, ...]]] = {
    "energise_to": ("unlock", "lock"),
    "contact_wiring": _CIRCUIT,
    "rex_wiring": _CIRCUIT,
    "tamper_wiring": _CIRCUIT,
    "wiring": _CIRCUIT,
    "backend": ("pn532", "pcsc"),
    "baud": (115200, 230400, 460800, 921600),
    "pins": ("lgpio", "mock"),
    "require_sync": (True, False),
    "side": tuple(side.value for side in Side),
}
_LONGEST_DEVICE: Final = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderWiring:
    """One reader: its serial port or PC/SC name, and its signals; pins are BCM numbers."""

    side: str = Side.ENTRY.value
    device: str
    backend: str = "pn532"
    baud: int = 921600
    green_pin: int | None = None
    red_pin: int | None = None
    buzzer_pin: int | None = None
    reset_pin: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorWiring:
    """One door's pins and circuits; ``energise_to`` is ``unlock`` for a fail-secure strike, ``lock`` for a fail-safe one."""

    id: str
    strike_pin: int
    energise_to: str
    contact_pin: int | None = None
    contact_wiring: str = "normally_closed"
    rex_pin: int | None = None
    rex_wiring: str = "normally_closed"
    tamper_pin: int | None = None
    tamper_wiring: str = "normally_closed"
    sounder_pin: int | None = None
    readers: tuple[ReaderWiring, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FireWiring:
    """The fire alarm's input, which all doors of a controller share."""

    pin: int
    wiring: str = "normally_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """Everything a place is wired to. ``pins``: the pin factory; ``require_sync``: as in the configuration."""

    doors: tuple[DoorWiring, ...]
    fire: FireWiring | None = None
    pins: str = "lgpio"
    require_sync: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.doors) <= MAX_DOORS:
            raise MalformedData(f"wiring: 1 to {MAX_DOORS} doors expected")
        if len(self.door_ids) != len(self.doors):
            raise MalformedData("wiring: a door stands in it twice")

    @property
    def door_ids(self) -> frozenset[DoorId]:
        """The doors of the place."""
        return frozenset(DoorId(door.id) for door in self.doors)

    @property
    def fields(self) -> dict[str, Any]:
        """As JSON values, without what is not fitted."""
        found: dict[str, Any] = _without_none(asdict(self))
        return found

    @classmethod
    def from_fields(cls, table: object) -> Self:
        """Read what ``fields`` gives, from JSON or TOML; raises ``MalformedData`` that names the key."""
        found = dict(_table(table, "wiring"))
        if (fire := found.get("fire")) is not None:
            found["fire"] = _read(FireWiring, fire, "wiring: fire")
        found["doors"] = tuple(
            _door(door, f"wiring: door {number}")
            for number, door in enumerate(_list(found.get("doors", ()), "wiring: doors"), start=1)
        )
        return _read(cls, found, "wiring")

    @classmethod
    def from_configuration(cls, document: object) -> Self:
        """The wiring that a controller's configuration file (its TOML tables) says; raises ``MalformedData``."""
        table = _table(document, "configuration")
        doors = [
            {**{key: value for key, value in _table(door, "door").items() if key != "reader"},
             "readers": _table(door, "door").get("reader", [])}
            for door in _list(table.get("door", ()), "door")
        ]  # fmt: skip
        said: dict[str, Any] = {"doors": doors}
        if "fire" in table:
            said["fire"] = table["fire"]
        for section, key in (("controller", "pins"), ("clock", "require_sync")):
            if (value := _table(table.get(section, {}), section).get(key)) is not None:
                said[key] = value
        return cls.from_fields(said)


def proposal(
    doors: Sequence[tuple[DoorId, str]],
    *,
    energise_to: str = "unlock",
    side: Side = Side.ENTRY,
    pins: str = "lgpio",
) -> Wiring:
    """Pins for these doors, each with the device of its reader; raises ``MalformedData`` unless there are 1 to 4."""
    return Wiring(pins=pins, doors=tuple(
        proposed_door(place, door_id, device, energise_to=energise_to, side=side)
        for place, (door_id, device) in enumerate(doors[: MAX_DOORS + 1])
    ))  # fmt: skip


def proposed_door(
    place: int, door_id: DoorId, device: str, *, energise_to: str, side: Side, baud: int = 921600
) -> DoorWiring:
    """The door in this place (0 to 3) of the header."""
    pin: dict[str, Any] = dict(zip(_PIN_NAMES, _PINS[place % MAX_DOORS], strict=True))
    signals: dict[str, Any] = {name: pin.pop(name) for name in _PIN_NAMES[3:]}
    reader = ReaderWiring(side=side.value, device=device, baud=baud, **signals)
    return DoorWiring(id=door_id, energise_to=energise_to, readers=(reader,), **pin)


def controller_toml(
    wiring: Wiring,
    *,
    controller_id: ControllerId,
    site_id: SiteId,
    host: str,
    port: int,
    keys: Mapping[str, str],
    state_dir: str = "state",
) -> str:
    """The configuration of docs/configuration-edge.md; ``keys``: its table of that name."""
    parts = [
        "# drempel-edge run --config controller.toml; relative paths start at this file.",
        toml_table(
            {"id": controller_id, "site": site_id, "state_dir": state_dir, "pins": wiring.pins},
            header="[controller]",
        ),
        toml_table({"host": host, "port": port}, header="[hub]"),
        toml_table(keys, header="[keys]"),
    ]
    if wiring.require_sync:
        parts.append(toml_table({"require_sync": True}, header="[clock]"))
    if wiring.fire is not None:
        parts.append(toml_table(asdict(wiring.fire), header="[fire]"))
    for door in wiring.doors:
        parts.append(toml_table(_said(door), header="[[door]]"))
        parts += [toml_table(_said(reader), header="[[door.reader]]") for reader in door.readers]
    return "\n".join(parts)


def toml_table(values: Mapping[str, str | int], *, header: str = "") -> str:
    """Lines of one TOML table; texts are written as basic strings (TOML 1.0, whose escapes JSON shares)."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join([*([header] if header else []), *lines, ""])


def _said(part: DoorWiring | ReaderWiring) -> dict[str, Any]:
    """What differs from the defaults of the configuration, and what has none."""
    return {
        field.name: value
        for field in fields(part)
        if field.name != "readers" and ((value := getattr(part, field.name)) != field.default or field.name in ("side", "baud"))
    }  # fmt: skip


def _door(door: object, name: str) -> DoorWiring:
    found = dict(_table(door, name))
    found["readers"] = tuple(
        _read(ReaderWiring, reader, f"{name}, reader {number}")
        for number, reader in enumerate(_list(found.get("readers", ()), f"{name}, readers"), start=1)
    )
    return _read(DoorWiring, found, name)


def _read(kind: type[T], table: object, name: str) -> T:
    found = _table(table, name)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(found) - set(known)):
        raise MalformedData(f"{name}: {unknown[0][:40]} is not known")
    for key, field in known.items():
        if key in found:
            _check(key, found[key], name, optional=field.default is None)
        elif field.default is MISSING:
            raise MalformedData(f"{name}: {key} is missing")
    return kind(**found)


def _check(key: str, value: object, name: str, *, optional: bool) -> None:
    if (value is None and optional) or key in ("readers", "doors", "fire"):
        return
    if key == "pin" or key.endswith("_pin"):
        if type(value) is not int or not 2 <= value <= 27:
            raise MalformedData(f"{name}: {key}: a BCM number from 2 to 27 expected")
    elif key == "id":
        DoorId(value)  # type: ignore[arg-type]
    elif key == "device":
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= _LONGEST_DEVICE:
            raise MalformedData(f"{name}: device: the path of a serial port, or a reader's name, expected")
    elif not any(type(value) is type(choice) and value == choice for choice in _CHOICES[key]):
        raise MalformedData(f"{name}: {key}: one of {', '.join(map(str, _CHOICES[key]))} expected")


def _table(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise MalformedData(f"{name}: a table expected")
    return value


def _list(value: object, name: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) > MAX_DOORS:
        raise MalformedData(f"{name}: a list of at most {MAX_DOORS} expected")
    return value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_without_none(each) for each in value]
    return value
