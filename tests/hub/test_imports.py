"""People brought in from another system: every fault named, and all of a file or nothing of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from hub.__main__ import main
from hub.api.problems import Code
from hub.import_rows import COLUMNS, MAX_BYTES, MAX_ROWS, Fault, Format, Row, Sheet, as_csv, read
from hub.pages.import_faults import fault_text
from hub.roles import Role
from hub.store import access_levels, cardholders, documents, sites
from hub.store.cardholders import Cardholder
from hub.store.database import Database
from hub.store.sites import Site
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, SiteId
from pacs.messages import DocumentKind
from pacs.rules import AccessLevel
from tests.hub.controller import eventually
from tests.hub.databases import fresh_database
from tests.hub.running import RunningHub, running_hub

SITE = SiteId("s")
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AMSTERDAM = "Europe/Amsterdam"
HEADER = "external_id;given_name;family_name;access_levels;room;language;valid_until"
PLAIN = f"""{HEADER}
A-1;Ama;Mensah;residents;B 12;ak;
A-2;Yusuf;Demir;residents kitchen;;tr;2026-12-31
"""


def rows_of(text: str | bytes, form: Format = Format.CSV) -> Sheet:
    data = text.encode() if isinstance(text, str) else text
    return read(data, form, time_zone=AMSTERDAM)


def faults_of(text: str | bytes, form: Format = Format.CSV) -> list[tuple[int, str]]:
    return [(fault.row, fault.column) for fault in rows_of(text, form).faults]


# -- reading ----------------------------------------------------------------------------------------


def test_a_file_is_read_cell_by_cell() -> None:
    """Levels are separated by spaces, an empty cell is nothing, and a day is a whole one on the site's clock."""
    assert rows_of(PLAIN) == Sheet(
        rows=(
            Row(
                row=2,
                external_id="A-1",
                values={
                    "external_id": "A-1",
                    "given_name": "Ama",
                    "family_name": "Mensah",
                    "access_level_ids": (AccessLevelId("residents"),),
                    "room": "B 12",
                    "language": "ak",
                    "valid_until": None,
                },
            ),
            Row(
                row=3,
                external_id="A-2",
                values={
                    "external_id": "A-2",
                    "given_name": "Yusuf",
                    "family_name": "Demir",
                    "access_level_ids": (AccessLevelId("kitchen"), AccessLevelId("residents")),
                    "room": None,
                    "language": "tr",
                    "valid_until": datetime(2026, 12, 31, 23, 0, tzinfo=UTC),
                },
            ),
        ),
        faults=(),
    )


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheets_write_it_in_several_ways(mark: bytes, delimiter: str, end: str) -> None:
    """With or without a byte order mark, with commas, semicolons or tabs, with either end of line."""
    text = PLAIN.replace(";", delimiter).replace("\n", end)
    assert rows_of(mark + text.encode()) == rows_of(PLAIN)


def test_quoted_cells_hold_delimiters_and_blank_lines_count_as_rows() -> None:
    """A fault is in the row that the spreadsheet shows."""
    text = 'External ID,Given name,FAMILY_NAME\n"A;1","Ama, the first",Mensah\n\nA-2,,Demir\n'
    sheet = rows_of(text)
    assert [(row.row, row.external_id) for row in sheet.rows] == [(2, "A;1"), (4, "A-2")]
    assert faults_of(text) == [(4, "given_name")]


def test_json_says_the_same() -> None:
    """An array, or an object a line; levels as a list, flags as booleans, null for nothing."""
    people = [
        {"external_id": "A-1", "given_name": "Ama", "family_name": "Mensah", "attended": True, "room": None},
        {"external_id": "A-2", "given_name": "Yusuf", "family_name": "Demir", "access_levels": ["b", "a"]},
    ]
    array = rows_of(json.dumps(people), Format.JSON)
    lines = rows_of("\n".join(map(json.dumps, people)) + "\n", Format.JSON_LINES)
    assert array == lines
    assert [row.values.get("attended") for row in array.rows] == [True, None]
    assert array.rows[1].values["access_level_ids"] == ("a", "b")


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("external_id", ""),
        ("external_id", "x" * 101),
        ("given_name", " "),
        ("family_name", "a\x07b"),
        ("latin_given_name", "Ахмад"),
        ("category", "guest"),
        ("access_levels", "not/an/id"),
        ("room", "x" * 51),
        ("language", "Nederlands"),
        ("valid_from", "31-12-2026"),
        ("valid_from", "2026-02-30"),
        ("valid_from", "1969-12-31"),
        ("valid_until", "9999-12-31"),
        ("valid_until", "2026-03-31T09:15"),
        ("attended", "perhaps"),
        ("extended_opening", "2"),
        ("escort_required", "maybe"),
        ("may_escort", "-"),
    ],
)
def test_each_wrong_cell_is_named(column: str, cell: str) -> None:
    """By row and column, without repeating what stands in it, and the page has it in the reader's language."""
    row = {"external_id": "A-1", "given_name": "Ama", "family_name": "Mensah"} | {column: cell}
    table = io.StringIO()
    csv.writer(table).writerows([row.keys(), row.values()])
    sheet = rows_of(table.getvalue())
    assert [(fault.row, fault.column) for fault in sheet.faults] == [(2, column)]
    assert fault_text(sheet.faults[0].problem, str) is not None
    assert not cell.strip() or cell not in sheet.faults[0].problem


def test_every_fault_of_a_file_is_listed() -> None:
    """Not only the first: several in a row, a row that is too short, a person who is there twice."""
    text = f"{HEADER};may_escort\nA-1;;;;;x;;?\nA-2;Ama\nA-3;A;B;;;;;\nA-3;C;D;;;;;\n"
    assert faults_of(text) == [
        (2, "family_name"),
        (2, "given_name"),
        (2, "language"),
        (2, "may_escort"),
        (3, ""),
        (5, "external_id"),
    ]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("external_id,given_name\nA-1,Ama\n", [(1, "family_name")]),
        ("external_id,given_name,family_name,colour\nA-1,Ama,M,red\n", [(1, "column 4")]),
        ("external_id,given_name,family_name,Room,room\nA-1,Ama,M,1,2\n", [(1, "room")]),
        ("", [(1, "external_id"), (1, "family_name"), (1, "given_name")]),
        ("Ama,Mensah\n", [(1, "column 1"), (1, "column 2"), (1, "external_id")]),
    ],
)
def test_a_wrong_header_is_named(text: str, faults: list[tuple[int, str]]) -> None:
    """A misspelt column is not left out in silence, and a missing header is not taken for one."""
    assert faults_of(text)[: len(faults)] == faults


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (HEADER, Format.CSV),
        (PLAIN.encode("utf-16"), Format.CSV),
        (PLAIN.replace("Mensah", "Müller").encode("latin-1"), Format.CSV),
        (f'{HEADER}\n"A-1;never closed', Format.CSV),
        ("{}", Format.JSON),
        ("[", Format.JSON),
        ("[" * 100_000, Format.JSON),
        ("[]", Format.JSON),
        ("", Format.JSON_LINES),
        (HEADER + "\n" + ";;;;;;x\n" * (MAX_ROWS + 1), Format.CSV),
        (b" " * (MAX_BYTES + 1), Format.CSV),
    ],
)
def test_what_has_no_rows_is_refused_as_a_whole(text: str | bytes, form: Format) -> None:
    """Not UTF-8, not closed, not JSON, nothing in it, or too much."""
    with pytest.raises(MalformedData):
        rows_of(text, form)


def test_what_is_not_an_object_is_named() -> None:
    """In JSON lines a bad line is one fault, and the others are read."""
    text = '{"external_id": "A-1", "given_name": "A", "family_name": "B"}\nnonsense\n[]\n{"x": 1}\n'
    assert faults_of(text, Format.JSON_LINES) == [
        (2, ""),
        (3, ""),
        (4, "external_id"),
        (4, "family_name"),
        (4, "field 1"),
        (4, "given_name"),
    ]


_CELLS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(["2026-01-01", "yes", "nl", "a b", "=1+1", "0001-01-01T00:00+14:00"]),
)
_TABLES = st.lists(st.lists(_CELLS, max_size=5), max_size=5)


@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
    )
)
@example(b"external_id\x00given_name")
@example(b'external_id,given_name,family_name\n"a"b,c,d')
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Whatever comes: rows and faults, or ``MalformedData``, and nothing else."""
    for form in Format:
        try:
            sheet = rows_of(data, form)
        except MalformedData:
            continue
        assert sheet.rows or sheet.faults


@given(_TABLES, st.permutations(COLUMNS))
def test_any_cells_are_values_or_faults(table: list[list[str]], columns: list[str]) -> None:
    """Under a right header every row with cells is a person or has a fault."""
    written = io.StringIO()
    csv.writer(written).writerows([columns, *table])
    try:
        sheet = rows_of(written.getvalue().encode("utf-8", "replace"))
    except MalformedData:
        return
    assert len(sheet.rows) <= len(table)
    assert sheet.rows or sheet.faults


_KEYS = st.one_of(st.sampled_from(COLUMNS), st.text(max_size=5))
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(_KEYS, _VALUES, max_size=6), min_size=1, max_size=3))
def test_any_json_is_people_or_faults(people: list[dict[str, Any]]) -> None:
    """Whatever type stands in a field, it is a value or a fault, and never another error."""
    sheet = rows_of(json.dumps(people), Format.JSON)
    assert {row.row for row in sheet.rows} | {fault.row for fault in sheet.faults} == set(
        range(1, len(people) + 1)
    )


@given(st.text(max_size=20), st.text(max_size=20))
@example("=HYPERLINK(1)", "@x")
@example("-2+3", "\tx")
def test_no_fault_is_a_formula(external_id: str, problem: str) -> None:
    """No cell of the exported table begins as a formula does, and the table has its rows again."""
    table = as_csv([Fault(row=2, column="room", problem=problem, external_id=external_id)])
    rows = list(csv.reader(io.StringIO(table, newline="")))
    assert len(rows) == 2
    assert not [cell for cell in rows[1] if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


# -- over the interface -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    with running_hub(tmp_path_factory.mktemp("imports")) as running:
        yield running


@pytest.fixture(scope="module")
def desk(hub: RunningHub) -> Iterator[httpx.Client]:
    with hub.token(Role.SITE_MANAGER) as program:
        for name in ("residents", "kitchen"):
            level: dict[str, Any] = {"id": name, "name": name, "rules": []}
            assert program.post("/api/v1/access-levels", json=level).status_code == 201
        yield program


def sent(desk: httpx.Client, text: str, media_type: str = "text/csv", **params: Any) -> dict[str, Any]:
    """An import, followed until it ends."""
    headers = {"content-type": media_type}
    answer = desk.post("/api/v1/imports", content=text.encode(), headers=headers, params=params)
    assert answer.status_code == 202, answer.text

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = desk.get(answer.headers["location"]).json()
        return found if found["ended_at"] else None

    found: dict[str, Any] = eventually(ended, "the import ended")
    return found


def versions(hub: RunningHub) -> int:
    with hub.database.read() as connection:
        return documents.required_newest(connection, hub.site.id, DocumentKind.POLICY).version


def test_an_import_reaches_the_doors_as_one_version(hub: RunningHub, desk: httpx.Client) -> None:
    """Beyond the body limit of other routes; however many people change, their cards' rules travel once."""
    many = HEADER + "\n" + "".join(f"V-{n};Given;Family;;;nl;\n" for n in range(2_000))
    assert len(many) > 64 * 1024 / 2
    assert sent(desk, many, dry_run=True)["created"] == 2_000
    assert sent(desk, many)["state"] == "done"
    for number in range(3):
        (person,) = desk.get("/api/v1/cardholders", params={"external_id": f"V-{number}"}).json()[
            "cardholders"
        ]
        card = {
            "credential_id": f"00000000-0000-4000-8000-00000000000{number}",
            "cardholder_id": person["id"],
            "technology": "pkoc-v2",
        }
        assert desk.post("/api/v1/cards", json=card).status_code == 201
    eventually(lambda: desk.get("/api/v1/documents").json()["settled"], "settled")
    before = versions(hub)
    assert sent(desk, many.replace("Family;;", "Family;residents;"))["changed"] == 2_000
    eventually(lambda: versions(hub) > before, "a version was made")
    eventually(lambda: desk.get("/api/v1/documents").json()["settled"], "settled")
    assert versions(hub) == before + 1
    assert sent(desk, many.replace("Family;;", "Family;residents;"))["unchanged"] == 2_000
    assert versions(hub) == before + 1


def test_faults_are_listed_in_portions_and_as_a_table(desk: httpx.Client) -> None:
    """All of them, the first hundred with the import itself; the table opens in a spreadsheet."""
    text = "external_id,given_name,family_name,language\n" + "=1,A,B,?\n" * 120
    job = sent(desk, text)
    assert (job["state"], job["fault_count"], len(job["faults"])) == ("refused", 239, 100)
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        part = desk.get(f"/api/v1/imports/{job['id']}/faults", params={"after": after}).json()
        found += part["faults"]
        after = part["next_after"]
    assert len(found) == 239
    assert found[0] == job["faults"][0] | {"row": 2, "column": "language", "external_id": "=1"}
    table = desk.get(f"/api/v1/imports/{job['id']}/faults.csv")
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(table.content.decode("utf-8-sig"))))
    assert rows[1][:3] == ["2", "language", "'=1"]
    assert len(rows) == 240


def test_json_is_taken_too(desk: httpx.Client) -> None:
    """An array and lines, by their media types; others are refused, and so is more than the limit."""
    person = {"external_id": "J-1", "given_name": "Ama", "family_name": "Mensah"}
    assert sent(desk, json.dumps([person]), "application/json")["created"] == 1
    assert sent(desk, json.dumps(person), "application/x-ndjson")["unchanged"] == 1
    for headers, content, code in (
        ({"content-type": "text/plain"}, b"x", Code.MEDIA_TYPE),
        ({"content-type": "text/csv"}, bytes(MAX_BYTES + 1), Code.BODY_TOO_LARGE),
    ):
        answer = desk.post("/api/v1/imports", content=content, headers=headers)
        assert answer.json()["code"] == code.wire
    unreadable = sent(desk, "\x00", "application/json")
    assert (unreadable["state"], unreadable["faults"][0]["row"]) == ("refused", 0)
    assert desk.get("/api/v1/imports/0000000000000000").json()["code"] == Code.NOT_FOUND.wire


def test_only_who_may_manage_people_imports(hub: RunningHub) -> None:
    """A guard neither sends an import nor reads what was wrong with one."""
    with hub.token(Role.GUARD) as guard:
        answer = guard.post("/api/v1/imports", content=b"", headers={"content-type": "text/csv"})
        assert answer.status_code == 403
        assert guard.get("/api/v1/imports/0000000000000000/faults.csv").status_code == 403


# -- from the command line --------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = fresh_database(tmp_path / "data" / "hub.sqlite")
    with database.write() as connection:
        sites.ensure(connection, Site(id=SITE, name="S", time_zone=AMSTERDAM, created_at=NOW))
        for name in ("residents", "kitchen"):
            access_levels.add(
                connection, AccessLevel(id=AccessLevelId(name), rules=()), site_id=SITE, name=name, now=NOW
            )
    yield database
    database.close()


def people(database: Database) -> list[Cardholder]:
    with database.read() as connection:
        return cardholders.list_all(connection)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import", "residents", *map(str, arguments)])


def test_the_command_imports_and_says_how_many(database: Database, tmp_path: Path) -> None:
    """A dry run first, then the import, then again: exit status 0 each time."""
    file, where = tmp_path / "people.csv", ("--data-dir", tmp_path / "data")
    file.write_text(PLAIN, encoding="utf-8")
    for options, said in (
        (("--dry-run",), "2 would be added, 0 changed; 0 stay as they are"),
        ((), "2 were added, 0 changed; 0 stay as they are"),
        ((), "0 were added, 0 changed; 2 stay as they are"),
    ):
        done = run(file, *where, *options)
        assert (done.exit_code, done.output.strip()) == (0, said)
    assert len(people(database)) == 2


def test_the_command_lists_every_fault(database: Database, tmp_path: Path) -> None:
    """Row, column and what is wrong, exit status 1; a file it cannot know is wrong usage."""
    where = ("--data-dir", tmp_path / "data")
    file = tmp_path / "people.csv"
    file.write_text(PLAIN + "A-3;;Wu;sauna;;??;\n", encoding="utf-8")
    done = run(file, *where)
    assert done.exit_code == 1
    assert "row 4, given_name: this is missing" in done.output
    assert "row 4, language:" in done.output
    assert "row 4, access_levels: no such access level: sauna" in done.output
    assert "3 faults; nothing was changed" in done.output
    other = tmp_path / "people.xlsx"
    other.write_bytes(b"PK")
    assert run(other, *where).exit_code == 2
    assert run(tmp_path / "missing.csv", *where).exit_code == 2
    assert people(database) == []


def test_a_running_hub_takes_note_of_the_command(hub: RunningHub, desk: httpx.Client, tmp_path: Path) -> None:
    """What another process imported reaches the policy without a restart."""
    person = desk.post(
        "/api/v1/cardholders",
        json={"category": "resident", "given_name": "A", "family_name": "B", "external_id": "C-1"},
    ).json()
    card = {
        "credential_id": "00000000-0000-4000-8000-0000000000aa",
        "cardholder_id": person["id"],
        "technology": "pkoc-v2",
    }
    assert desk.post("/api/v1/cards", json=card).status_code == 201
    eventually(lambda: desk.get("/api/v1/documents").json()["settled"], "settled")
    before = versions(hub)
    file = tmp_path / "people.csv"
    file.write_text("external_id,given_name,family_name,access_levels\nC-1,A,B,kitchen\n", encoding="utf-8")
    assert run(file, "--data-dir", hub.settings.data_dir).exit_code == 0
    eventually(lambda: versions(hub) > before, "the hub took note")
