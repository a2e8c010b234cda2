"""An import against what is stored: planned, carried out as a whole, audited."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from hub import audit as log
from hub import imports
from hub.import_rows import MAX_ROWS, Format
from hub.store import access_levels, audit, cardholders, import_jobs, schema, sites
from hub.store.cardholders import Cardholder, Category
from hub.store.database import Database
from hub.store.import_jobs import Job, State
from hub.store.sites import Site
from pacs.identifiers import AccessLevelId, CardholderId, SiteId
from pacs.rules import AccessLevel
from tests.hub.databases import fresh_database, make_site

SITE = SiteId("s")
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
AMSTERDAM = "Europe/Amsterdam"
HEADER = "external_id;given_name;family_name;access_levels;room;language;valid_until"
PLAIN = f"""{HEADER}
A-1;Ama;Mensah;residents;B 12;ak;
A-2;Yusuf;Demir;residents kitchen;;tr;2026-12-31
"""


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


def imported(database: Database, text: str, *, dry_run: bool = False) -> Job:
    data = text.encode()
    job = imports.queued(database, data, site_id=SITE, dry_run=dry_run, actor="operator:o1", now=NOW)
    return imports.carry_out(
        database, job, data, Format.CSV, clock=lambda: NOW, said=lambda _state, _done, _rows: None
    )


def people(database: Database) -> list[Cardholder]:
    with database.read() as connection:
        return cardholders.list_all(connection)


def counts(job: Job) -> tuple[State, int, int, int]:
    return job.state, job.created, job.changed, job.unchanged


def test_an_import_may_be_repeated(database: Database) -> None:
    """The same file again changes nothing; another one changes who it names, and removes nobody."""
    assert counts(imported(database, PLAIN)) == (State.DONE, 2, 0, 0)
    stored = people(database)
    assert counts(imported(database, PLAIN)) == (State.DONE, 0, 0, 2)
    assert people(database) == stored
    moved = "external_id,given_name,family_name,room\nA-2,Yusuf,Demir,C 3\nA-3,Lin,Wu,\n"
    assert counts(imported(database, moved)) == (State.DONE, 1, 1, 0)
    by_id = {person.external_id: person for person in people(database)}
    assert {name: person.room for name, person in by_id.items()} == {"A-1": "B 12", "A-2": "C 3", "A-3": None}
    assert by_id["A-2"].access_level_ids == ("kitchen", "residents")  # no column: as it was
    assert by_id["A-2"].id in {person.id for person in stored}


def test_a_fault_keeps_everything_out(database: Database) -> None:
    """One wrong row among good ones: nobody is added, nothing is audited, and every fault is kept."""
    job = imported(database, PLAIN + "A-3;Lin;Wu;sauna;;;\nA-4;Kai;Roe;pool;;xx-;\n")
    assert (job.state, job.fault_count) == (State.REFUSED, 3)
    assert [(fault.row, fault.column, fault.external_id) for fault in job.faults] == [
        (4, "access_levels", "A-3"),
        (5, "access_levels", "A-4"),
        (5, "language", "A-4"),
    ]
    assert people(database) == []
    with database.read() as connection:
        assert import_jobs.get(connection, job.id) == job
        assert connection.scalar(select(func.count()).select_from(schema.audit)) == 0


def test_a_dry_run_says_what_would_be_done(database: Database) -> None:
    """It counts, and changes nothing."""
    assert counts(imported(database, PLAIN, dry_run=True)) == (State.DONE, 2, 0, 0)
    assert people(database) == []


def test_an_import_is_audited_without_names(database: Database) -> None:
    """One entry: who, how many, and which file by its digest."""
    job = imported(database, PLAIN)
    with database.read() as connection:
        (entry,) = audit.page(connection, before=None, limit=10)
    assert (entry.actor, entry.action, entry.subject) == (
        "operator:o1",
        "cardholders.import",
        f"import:{job.id}",
    )
    assert entry.detail == {
        "created": 2,
        "changed": 0,
        "unchanged": 0,
        "sha256": imports.digest_of(PLAIN.encode()),
        "site": "s",
    }
    assert "Mensah" not in str(entry)


def test_what_stands_in_the_store_counts_too(database: Database) -> None:
    """A visitor keeps an end, and flags do not contradict each other, whichever of them the file names."""
    with database.write() as connection:
        cardholders.add(
            connection,
            Cardholder(
                site_id=SITE,
                id=CardholderId("p1"),
                category=Category.VISITOR,
                given_name="Ada",
                family_name="Example",
                access_level_ids=(),
                created_at=NOW,
                may_escort=True,
                valid_until=NOW + timedelta(days=1),
                external_id="A-1",
            ),
        )
    text = "external_id,given_name,family_name,valid_until,escort_required\nA-1,Ada,Example,,yes\n"
    job = imported(database, text)
    assert [(fault.row, fault.column) for fault in job.faults] == [(2, "escort_required"), (2, "valid_until")]


def test_what_changed_meanwhile_counts(database: Database) -> None:
    """Between looking and writing a level goes and a person comes: the import is judged by what there is then."""
    data = PLAIN.encode()

    def meddle(state: State, _done: int, _rows: int) -> None:
        if state is State.APPLYING:
            with database.write() as connection:
                access_levels.remove(connection, AccessLevelId("kitchen"))
                log.record(connection, now=NOW, actor=log.SYSTEM, action="access_level.delete", subject="x")

    job = imports.queued(database, data, site_id=SITE, dry_run=False, actor="operator:o1", now=NOW)
    ended = imports.carry_out(database, job, data, Format.CSV, clock=lambda: NOW, said=meddle)
    assert (ended.state, [fault.column for fault in ended.faults]) == (State.REFUSED, ["access_levels"])
    assert people(database) == []


def test_as_many_people_as_may_are_imported_at_once(database: Database) -> None:
    """The largest file goes in as a whole, and a second time changes nothing."""
    text = HEADER + "\n" + "".join(f"N-{n};Given;Family;residents;R {n};nl;\n" for n in range(MAX_ROWS))
    assert counts(imported(database, text)) == (State.DONE, MAX_ROWS, 0, 0)
    assert counts(imported(database, text.replace("R 7;", "R 8;"))) == (State.DONE, 0, 1, MAX_ROWS - 1)


def test_what_another_process_imported_is_noticed(database: Database, tmp_path: Path) -> None:
    """The command beside a running hub: once it is through, the hub's part that sends to doors is told."""
    told = threading.Event()
    running = imports.Imports(database, site_changed=told.set, clock=lambda: NOW)
    running.start()
    file = tmp_path / "people.csv"
    file.write_text(PLAIN, encoding="utf-8")
    where = {"DREMPEL_DATA_DIR": str(tmp_path / "data")}
    if database.is_shared:
        where["DREMPEL_DATABASE_URL"] = database.engine.url.render_as_string(hide_password=False)
    try:
        command = [sys.executable, "-m", "hub", "import", "residents", str(file)]
        subprocess.run(command, env=os.environ | where, check=True, capture_output=True)
        assert told.wait(60)
    finally:
        running.stop()
    assert len(people(database)) == 2


def test_a_file_of_one_site_says_nothing_of_levels_elsewhere(database: Database) -> None:
    """Whoever holds a level of another site keeps it, whether or not the file has a column of levels."""
    other = SiteId("elsewhere")
    imported(database, PLAIN)
    with database.write() as connection:
        make_site(connection, other)
        level = AccessLevel(id=AccessLevelId("elsewhere"), rules=())
        access_levels.add(connection, level, site_id=other, name="Elsewhere", now=NOW)
        person = cardholders.list_all(connection)[0]
        both = (*person.access_level_ids, AccessLevelId("elsewhere"))
        cardholders.change(connection, replace(person, access_level_ids=both))
    assert imported(database, PLAIN).state is State.DONE
    with database.read() as connection:
        assert AccessLevelId("elsewhere") in cardholders.get(connection, person.id).access_level_ids
