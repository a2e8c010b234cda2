"""A controller's configuration file: TOML in, checked values out.

Nothing is guessed. An unknown key, a wrong type, a placeholder left over from a template, a pin used twice, a key
file others can read: each is a named problem with its fix, and all problems of a file are reported together.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edge.config import Backend, Config, ConfigError, DoorConfig, FireConfig, KeyPaths, ReaderConfig
from edge.config_keys import KEYS, NESTED, changeable
from edge.journal_policy import JournalPolicy

MAX_BYTES: Final = 256 * 1024
MAX_DOORS: Final = 4
RENEWED: Final = "device.pem"
"""In the state directory, which a running controller can write to."""
PASSPHRASE_VARIABLE: Final = "DREMPEL_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable, not a secret

_PLACEHOLDER = re.compile(r"<.*>|change[-_ ]?me|\btodo\b|\bfixme\b", re.IGNORECASE)


def load(path: Path, *, environment: Mapping[str, str] = os.environ) -> Config:
    """Read and check the file at ``path``.

    Relative paths start at the file's directory. ``DREMPEL_PASSPHRASE_FILE`` in ``environment`` replaces
    ``[keys] passphrase_file``. Raises ``ConfigError`` with every problem found.
    """
    path = path.absolute()
    document = read_document(path)
    problem = changeable(path)
    if problem:
        raise ConfigError(path, (problem,))
    if variable := environment.get(PASSPHRASE_VARIABLE):
        keys = document.get("keys")
        if isinstance(keys, dict):
            keys["passphrase_file"] = str(Path(variable).absolute())
    return _Parser(path).parse(document)


def read_document(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, nothing of it checked; raises ``ConfigError``."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(path, (f"cannot be read ({error.strerror}); check the path",)) from error
    if len(data) > MAX_BYTES:
        raise ConfigError(path, (f"is longer than {MAX_BYTES} bytes; a configuration is not",))
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (
        ValueError,
        RecursionError,
    ) as error:  # also a number too long to be read, and brackets in brackets
        raise ConfigError(path, (f"is not TOML: {error}",)) from error


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
        journal = self._table(document.get("journal", {}), "journal", "[journal]")
        clock = self._table(document.get("clock", {}), "clock", "[clock]")
        fire = self._table(document["fire"], "fire", "[fire]") if "fire" in document else None
        doors = [self._door(table, number) for number, table in self._tables(document, "door", "door")]
        if not 1 <= len(doors) <= MAX_DOORS:
            self.problems.append(f"[[door]]: write 1 to {MAX_DOORS} doors, there are {len(doors)}")
        self._twice(doors, fire or {})
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
            keys=KeyPaths(
                **keys,
                renewed=controller["state_dir"] / RENEWED,
                statement=controller["state_dir"] / "policy" / "keys.signed",
            ),
            doors=tuple(
                DoorConfig(**door | {"readers": tuple(ReaderConfig(**reader) for reader in door["readers"])})
                for door in doors
            ),
            fire=FireConfig(**fire) if fire else None,
            journal=JournalPolicy(**journal),
            require_sync=clock["require_sync"],
        )

    def _door(self, table: dict[str, Any], number: int) -> dict[str, Any]:
        name = f"[[door]] {number}"
        readers = self._tables(table, "reader", f"{name} reader")
        door = self._table(table, "door", name)
        door["readers"] = [
            self._reader(reader, f"{name} [[door.reader]] {index}") for index, reader in readers
        ]
        sides = [reader.get("side") for reader in door["readers"]]
        if len(set(sides)) != len(sides):
            self.problems.append(
                f"{name} [[door.reader]] side: used twice; a door has one reader for each side"
            )
        return door

    def _reader(self, table: dict[str, Any], name: str) -> dict[str, Any]:
        reader = self._table(table, "door.reader", name)
        if reader.get("backend") is Backend.PCSC and "device" in reader:
            reader["device"] = Path(table["device"])  # a name, which belongs to no directory
        return reader

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
        known = known | NESTED.get(section, set())
        for key in sorted(set(table) - known):
            self.problems.append(f"{name} {key}: unknown; known are {', '.join(sorted(known))}".strip())

    def _twice(self, doors: list[dict[str, Any]], fire: dict[str, Any]) -> None:
        """Refuse two doors of one id, two uses of one pin, two readers on one device."""
        places = [("[fire]", fire)]
        for number, door in enumerate(doors, start=1):
            places.append((f"[[door]] {number}", door))
            places += [
                (f"[[door]] {number} [[door.reader]] {i}", r) for i, r in enumerate(door["readers"], start=1)
            ]
        used: dict[tuple[str, object], str] = {}
        for name, table in places:
            for key, value in table.items():
                kind = key.split("_")[-1]
                if value is None or kind not in ("pin", "id", "device"):
                    continue
                if first := used.get((kind, value)):
                    self.problems.append(f"{name} {key}: {value} is already {first}; choose another")
                used.setdefault((kind, value), f"{name} {key}")
