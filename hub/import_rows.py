"""What an import of people says, cell by cell: CSV, a JSON array, or JSON lines.

Nothing that was read is repeated in a fault but external ids and ids of access levels: another cell may hold a name.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum, unique
from functools import partial
from typing import Any

from hub.entered import language_tag, latin, moment, readable
from hub.store.cardholders import Category
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId
from pacs.schedule import zone

MAX_BYTES = 8 * 1024 * 1024
MAX_ROWS = 20_000
DELIMITERS = ",;\t"

_SAID_EVERY = 500  # rows
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_YES = {"true", "yes", "1", "x", "ja", "waar"}
_NO = {"", "false", "no", "0", "nee", "onwaar"}
_STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")

Said = Callable[[int, int], None]
"""Called with the rows that are done and all rows."""


@unique
class Format(StrEnum):
    """How an import is written; the values are media types."""

    CSV = "text/csv"
    JSON = "application/json"
    JSON_LINES = "application/x-ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong in one row; ``column`` is empty when it is about the row as a whole.

    Rows count from 1, in CSV with the header, as a spreadsheet numbers them; in JSON lines they are lines.
    """

    row: int
    column: str
    problem: str
    external_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One person; ``values`` holds what the row says, by field of ``hub.store.cardholders.Cardholder``.

    What is at fault is not among them; ``external_id`` is then empty.
    """

    row: int
    external_id: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Every row that says something, and the faults found without looking at what is stored."""

    rows: tuple[Row, ...]
    faults: tuple[Fault, ...]


def read(data: bytes, form: Format, *, time_zone: str, said: Said = lambda _done, _all: None) -> Sheet:
    """Read an import. A date without a time is a whole day on the clock of ``time_zone``.

    CSV is UTF-8, with or without a byte order mark, with commas, semicolons or tabs. Raises ``MalformedData`` when it
    cannot be taken apart into rows, or is longer than ``MAX_BYTES`` or ``MAX_ROWS``.
    """
    if len(data) > MAX_BYTES:
        raise MalformedData(f"import: at most {MAX_BYTES} bytes expected")
    text = _text(data)
    faults: list[Fault] = []
    taken_apart = {Format.CSV: _from_csv, Format.JSON: _from_json, Format.JSON_LINES: _from_json_lines}
    records = list(_bounded(taken_apart[form](text, faults)))
    parse = _parsers(time_zone)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for done, (number, cells) in enumerate(records):
        if done % _SAID_EVERY == 0:
            said(done, len(records))
        row = _row(number, cells, parse, faults)
        first = seen.setdefault(row.external_id, number)
        if row.external_id and first != number:
            problem = f"the same person stands in row {first}"
            faults.append(
                Fault(row=number, column="external_id", problem=problem, external_id=row.external_id)
            )
        rows.append(row)
    said(len(records), len(records))
    if not records and not faults:
        raise MalformedData("import: no rows")
    faults.sort(key=lambda fault: (fault.row, fault.column))
    return Sheet(rows=tuple(rows), faults=tuple(faults))


def as_csv(faults: Iterable[Fault]) -> str:
    """The faults as a table that a spreadsheet opens without taking a cell for a formula."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(("row", "column", "external_id", "problem"))
    for fault in faults:
        writer.writerow((fault.row, *map(_harmless, (fault.column, fault.external_id, fault.problem))))
    return table.getvalue()


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_STARTS_A_FORMULA) else cell


# -- into records: the row's number, and its cells by column ----------------------------------------

Record = tuple[int, Mapping[str, Any]]


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MalformedData(f"line {line}: not UTF-8; save the file as CSV UTF-8") from error


def _bounded(records: Iterable[Record]) -> Iterator[Record]:
    for count, record in enumerate(records, 1):
        if count > MAX_ROWS:
            raise MalformedData(f"import: at most {MAX_ROWS} rows expected")
        yield record


def _from_csv(text: str, faults: list[Fault]) -> Iterator[Record]:
    rows = _csv_rows(text)
    names = _header(next(rows, (1, []))[1], faults)
    if not set(REQUIRED) <= set(names):
        return
    for number, cells in rows:
        if not any(cells):
            continue
        if len(cells) != len(names):
            problem = f"{len(cells)} cells, where the header has {len(names)}"
            faults.append(Fault(row=number, column="", problem=problem))
            continue
        yield number, {name: cell for name, cell in zip(names, cells, strict=True) if name is not None}


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]]]:
    number = 0
    try:
        for number, cells in enumerate(
            csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True), 1
        ):
            yield number, cells
    except csv.Error as error:
        raise MalformedData(f"row {number + 1}: quotation marks or line ends are wrong") from error


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(DELIMITERS, key=lambda each: sum(_known(name) is not None for name in header.split(each)))


def _known(name: str) -> str | None:
    found = name.strip().strip('"').strip().lower().replace(" ", "_")
    return found if found in COLUMNS else None


def _header(cells: list[str], faults: list[Fault]) -> list[str | None]:
    names = [_known(cell) for cell in cells]
    for place, name in enumerate(names, 1):
        if name is None:
            problem = f"no such column; there are {', '.join(COLUMNS)}"
            faults.append(Fault(row=1, column=f"column {place}", problem=problem))
        elif names.index(name) != place - 1:
            faults.append(Fault(row=1, column=name, problem="this column is there twice"))
    faults += [
        Fault(row=1, column=name, problem="this column is missing") for name in REQUIRED if name not in names
    ]
    return names


def _from_json(text: str, faults: list[Fault]) -> Iterator[Record]:
    found = _decoded(text, "import")
    if not isinstance(found, list):
        raise MalformedData("import: a JSON array of objects expected")
    for number, value in enumerate(found, 1):
        yield from _object(number, value, faults)


def _from_json_lines(text: str, faults: list[Fault]) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = _decoded(line, f"line {number}")
        except MalformedData:
            faults.append(Fault(row=number, column="", problem="this line is not JSON"))
        else:
            yield from _object(number, value, faults)


def _decoded(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedData(f"{what}: not JSON") from error


def _object(number: int, value: Any, faults: list[Fault]) -> Iterator[Record]:
    if not isinstance(value, dict):
        faults.append(Fault(row=number, column="", problem="an object expected"))
        return
    for place, name in enumerate(value, 1):
        if name not in COLUMNS:
            faults.append(Fault(row=number, column=f"field {place}", problem="no such field"))
    yield number, {name: cell for name, cell in value.items() if name in COLUMNS}


# -- into values ------------------------------------------------------------------------------------


def _row(
    number: int, cells: Mapping[str, Any], parse: Mapping[str, Callable[[Any], Any]], faults: list[Fault]
) -> Row:
    values: dict[str, Any] = {}
    found: list[tuple[str, str]] = []
    for name in (*REQUIRED, *(cells.keys() - REQUIRED)):
        cell = cells.get(name)
        cell = "" if cell is None else cell.strip() if isinstance(cell, str) else cell
        try:
            if cell == "" and name in REQUIRED:
                raise MalformedData("this is missing")
            if cell != "" or name != "category":
                values[_FIELDS.get(name, name)] = parse[name](cell)
        except MalformedData as error:
            found.append((name, str(error)))
    external_id = values.get("external_id", "")
    faults += [
        Fault(row=number, column=name, problem=problem, external_id=external_id) for name, problem in found
    ]
    return Row(row=number, external_id=external_id, values=values)


def _short(cell: Any, *, longest: int) -> str:
    if not isinstance(cell, str):
        raise MalformedData("text expected")
    if len(cell) > longest:
        raise MalformedData(f"at most {longest} characters expected")
    return readable(cell)


def _latin(cell: Any) -> str:
    return latin(_short(cell, longest=100))


def _or_nothing(parse: Callable[[Any], Any], cell: Any) -> Any:
    return None if cell == "" else parse(cell)


def _category(cell: Any) -> Category:
    try:
        return Category(cell.lower() if isinstance(cell, str) else cell)
    except ValueError as error:
        raise MalformedData("resident, visitor or staff expected") from error


def _levels(cell: Any) -> tuple[AccessLevelId, ...]:
    names = re.split(r"[\s|,;]+", cell) if isinstance(cell, str) else cell
    if not isinstance(names, list):
        raise MalformedData("ids of access levels expected, with spaces between them")
    return tuple(sorted({AccessLevelId(name) for name in names if name != ""}))


def _flag(cell: Any) -> bool:
    if isinstance(cell, bool):
        return cell
    text = cell.lower() if isinstance(cell, str) else None
    if text in _YES:
        return True
    if text in _NO:
        return False
    raise MalformedData("yes or no expected")


def _language(cell: Any) -> str:
    return language_tag(_short(cell, longest=100))


def _moment(cell: Any, *, time_zone: str, days: int) -> datetime:
    text = _short(cell, longest=40)
    try:
        if _DAY.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=days)
            return moment(datetime.combine(day, time.min, zone(time_zone)))
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise MalformedData("a time needs its offset, such as 2026-03-31T18:00+02:00")
        return moment(at)
    except (ValueError, OverflowError) as error:
        raise MalformedData("a date such as 2026-03-31 expected, or a time with its offset") from error


def _parsers(time_zone: str) -> Mapping[str, Callable[[Any], Any]]:
    optional = partial(partial, _or_nothing)
    return {
        "external_id": partial(_short, longest=100),
        "given_name": partial(_short, longest=100),
        "family_name": partial(_short, longest=100),
        "latin_given_name": optional(_latin),
        "latin_family_name": optional(_latin),
        "category": _category,
        "access_levels": _levels,
        "room": optional(partial(_short, longest=50)),
        "language": optional(_language),
        "valid_from": optional(partial(_moment, time_zone=time_zone, days=0)),
        "valid_until": optional(partial(_moment, time_zone=time_zone, days=1)),
        "attended": _flag,
        "extended_opening": _flag,
        "escort_required": _flag,
        "may_escort": _flag,
    }


REQUIRED = ("external_id", "given_name", "family_name")
COLUMNS = tuple(_parsers("UTC"))
_FIELDS = {"access_levels": "access_level_ids"}
