"""How a setting is written, in TOML and in the environment, and where the value in force comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pacs.errors import MalformedData

PREFIX = "DREMPEL_"
_OF_TESTS = {"DREMPEL_SEED", "DREMPEL_HYPOTHESIS"}
"""These steer the tests, which start hubs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """``said`` is how the documentation calls it; both functions raise ``ValueError`` saying what is expected.

    ``from_toml`` takes what TOML gave and the directory that relative paths start at, ``from_text`` a variable's text.
    """

    said: str
    from_toml: Callable[[Any, Path], Any]
    from_text: Callable[[str], Any]
    shown: Callable[[Any], str] = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One setting: ``name`` in the file (``table.key``), ``field`` of ``Settings`` (dotted where nested).

    A secret is never in the file, and never shown.
    """

    name: str
    field: str
    kind: Kind
    is_secret: bool = False

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return PREFIX + self.name.upper().replace(".", "_")


@dataclass(frozen=True, slots=True)
class Given:
    """A value and who gave it: the file's name, or the variable's."""

    value: Any
    origin: str


def _text(value: Any, _base: Path) -> str:
    if not isinstance(value, str):
        raise ValueError("text expected")  # noqa: TRY004 -- a wrong value, whatever its type
    return value


def _path(value: Any, base: Path) -> Path | None:
    text = _text(value, base)
    return base / Path(text).expanduser() if text else None


def _texts(value: Any, _base: Path) -> tuple[str, ...]:
    if not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise ValueError("a list of texts expected")
    return tuple(value)


TEXT = Kind(said="text", from_toml=_text, from_text=str)
PATH = Kind(said="path", from_toml=_path, from_text=lambda text: _path(text, Path.cwd()))
TEXTS = Kind(
    said="list of texts",
    from_toml=_texts,
    from_text=lambda text: tuple(filter(None, map(str.strip, text.split(",")))),
    shown=", ".join,
)


def parsed(said: str, parse: Callable[[str], Any]) -> Kind:
    """Text that ``parse`` understands; it raises ``MalformedData`` or ``ValueError``."""
    return Kind(said=said, from_toml=lambda value, base: parse(_text(value, base)), from_text=parse)


def list_of(said: str, parse: Callable[[str], Any]) -> Kind:
    """A list of what ``parse`` understands, as ``parsed``."""
    return Kind(
        said=f"list of {said}",
        from_toml=lambda value, base: tuple(map(parse, _texts(value, base))),
        from_text=lambda text: tuple(map(parse, TEXTS.from_text(text))),
        shown=lambda values: ", ".join(map(str, values)),
    )


def one_of(*words: str) -> Kind:
    """One of these texts."""

    def check(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)} expected")
        return text

    return parsed(", ".join(words), check)


def whole(least: int, most: int, unit: str = "") -> Kind:
    """A whole number in this range, both ends included."""
    said = f"{least} to {most}{' ' * bool(unit)}{unit}"

    def check(value: Any, _base: Path | None = None) -> int:
        if type(value) is not int or not least <= value <= most:
            raise ValueError(f"{said} expected")
        return value

    def from_text(text: str) -> int:
        return check(int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None)

    return Kind(said=said, from_toml=check, from_text=from_text)


def period(least: int, most: int, unit: str) -> Kind:
    """A whole number of ``seconds``, ``hours`` or ``days`` in this range; a ``timedelta`` in the settings."""
    number, one = whole(least, most, unit), timedelta(**{unit: 1})
    return Kind(
        said=number.said,
        from_toml=lambda value, base: number.from_toml(value, base) * one,
        from_text=lambda text: number.from_text(text) * one,
        shown=lambda value: str(value // one),
    )


def seconds(least: int, most: int) -> Kind:
    """Whole seconds in this range; a ``timedelta`` in the settings."""
    return period(least, most, "seconds")


def flag() -> Kind:
    """True or false."""

    def from_toml(value: Any, _base: Path) -> bool:
        if not isinstance(value, bool):
            raise ValueError("true or false expected")  # noqa: TRY004 -- a wrong value, whatever its type
        return value

    def from_text(text: str) -> bool:
        if text not in ("true", "false"):
            raise ValueError("true or false expected")
        return text == "true"

    return Kind(
        said="true or false", from_toml=from_toml, from_text=from_text, shown=lambda on: str(on).lower()
    )


def given(
    keys: Iterable[Key], table: Mapping[str, Any], base: Path, environment: Mapping[str, str], *, file: str
) -> dict[str, Given]:
    """The settings somebody gave, by name; a variable comes before the file, and an empty one counts as absent.

    Raises ``MalformedData`` for a key or a ``DREMPEL_`` variable that nobody knows, and for a value that is not as
    its kind expects.
    """
    known = {key.name: key for key in keys}
    found = {name: Given(value, file) for name, value in _in_file(known, table, base).items()}
    variables = {key.variable: key for key in known.values()}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable in _OF_TESTS:
            continue
        if variable not in variables:
            raise MalformedData(f"unknown variable {variable}; drempel-hub config show lists those there are")
        if text := environment[variable]:
            key = variables[variable]
            found[key.name] = Given(_value(variable, partial(key.kind.from_text, text)), variable)
    return found


def _in_file(known: Mapping[str, Key], table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    tables = {name.partition(".")[0] for name in known if "." in name}
    flat: dict[str, Any] = {}
    for name, value in table.items():
        if name not in tables:
            flat[name] = value
        elif not isinstance(value, dict):
            raise MalformedData(f"{name}: a table [{name}] expected")
        else:
            flat |= {f"{name}.{each}": inner for each, inner in value.items()}
    for name in sorted(flat):
        if name not in known:
            where = name.rpartition(".")[0]
            beside = sorted(each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == where)
            raise MalformedData(f"unknown setting {name}; known: {', '.join(beside)}")
        if known[name].is_secret:
            raise MalformedData(f"{name}: a secret is not for this file; see {known[name].variable}")
    return {
        name: _value(name, partial(known[name].kind.from_toml, value, base)) for name, value in flat.items()
    }


def _value(name: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except (ValueError, MalformedData) as error:
        raise MalformedData(f"{name}: {error}") from error
