"""The list of people who are to get cards: the hub's import format, or nothing but who they are."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Final

from pacs.errors import MalformedData

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_ROWS: Final = 20_000
_NAMES: Final = ("given_name", "family_name")
_KEYS: Final = ("external_id", "cardholder_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One row. ``key`` is their external id, or with ``by_id`` the hub's own; ``name`` is for the screen alone."""

    row: int
    key: str
    by_id: bool
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CardList:
    """The rows in their order. ``names_people``: it has the columns that the hub imports people by."""

    people: tuple[Person, ...]
    names_people: bool

    @classmethod
    def from_bytes(cls, raw: bytes) -> CardList:
        """Read CSV in UTF-8 with commas, semicolons or tabs. Raises ``MalformedData`` naming the row."""
        if len(raw) > MAX_BYTES:
            raise MalformedData(f"list: more than {MAX_BYTES // 2**20} MiB")
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MalformedData("list: UTF-8 expected") from error
        head = text.partition("\n")[0]
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), strict=True)
        try:
            rows = [[cell.strip() for cell in row] for row in reader]
        except csv.Error as error:
            raise MalformedData(f"list: row {reader.line_num}: {error}") from error
        columns = rows[0] if rows else []
        key = next((name for name in _KEYS if name in columns), None)
        if key is None or len(set(columns)) != len(columns):
            raise MalformedData(
                f"list: the first row names each column once, {' or '.join(_KEYS)} among them"
            )
        people = [
            _person(number, dict(zip(columns, row, strict=False)), key)
            for number, row in enumerate(rows[1:], start=2)
            if any(row)
        ]
        if not people or len(people) > MAX_ROWS:
            raise MalformedData(f"list: 1 to {MAX_ROWS} people expected")
        seen: dict[str, int] = {}
        for person in people:
            if seen.setdefault(person.key, person.row) != person.row:
                raise MalformedData(f"list: rows {seen[person.key]} and {person.row} are the same person")
        names_people = key == "external_id" and set(_NAMES) <= set(columns)
        return cls(people=tuple(people), names_people=names_people)


def _person(number: int, cells: dict[str, str], key: str) -> Person:
    value = cells.get(key, "")
    if not value or len(value) > 100 or not value.isprintable():
        raise MalformedData(f"list: row {number}: {key} of 1 to 100 characters expected")
    name = " ".join(part for each in _NAMES if (part := cells.get(each, "")))
    return Person(row=number, key=value, by_id=key == "cardholder_id", name=name)
