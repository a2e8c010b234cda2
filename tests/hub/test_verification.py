"""Verification names what is not as it was written, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert, select, update

from hub import audit
from hub.store import controllers, documents, events, journals
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.documents import Document
from hub.store.journals import Head
from hub.store.schema import audit as audit_log
from hub.store.schema import confirmations, journal_heads
from hub.store.schema import documents as document_rows
from hub.store.schema import events as event_rows
from hub.verification import faults
from pacs.events import Event, EventKind, event_hash
from pacs.identifiers import ControllerId, DoorId
from pacs.messages import DocumentKind
from tests.hub.controller import MemoryJournal
from tests.hub.databases import SITE, fresh_database, make_site

NOW = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)
GATE = ControllerId("gate")
COLUMNS = event_rows.c


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A controller with six events in each of two journals, a document and an audit log."""
    database = fresh_database(tmp_path / "hub.sqlite")
    with database.write() as connection:
        make_site(connection)
        controllers.register(
            connection,
            Controller(
                site_id=SITE,
                id=GATE,
                event_public_key=bytes(32),
                certificate_serial="1",
                software=None,
                registered_at=NOW,
            ),
        )
        for number in (1, 2):
            add_journal(connection, NOW + timedelta(days=number))
        for number in (1, 2, 3):
            audit.record(connection, now=NOW, actor=audit.SYSTEM, action="test.do", subject=f"test:{number}")
        add_document(connection, 4)
        documents.confirm(connection, GATE, DocumentKind.POLICY, 4, NOW)
    yield database
    database.close()


def add_journal(connection: Connection, at: datetime) -> None:
    journal = MemoryJournal(GATE)
    for second in range(6):
        happened = at + timedelta(seconds=second, microseconds=1)
        journal.append(EventKind.DOOR_OPENED, door_id=DoorId("gate"), occurred_at=happened)
    head = Head(
        controller_id=GATE,
        journal_id=journal.journal_id,
        sequence=6,
        hash=event_hash(journal.encoded[-1]),
        opened_at=at,
    )
    journals.open_journal(connection, head)
    rows = [
        events.row(GATE, journal.journal_id, Event.from_bytes(data), data, NOW) for data in journal.encoded
    ]
    events.add_many(connection, rows)


def add_document(connection: Connection, version: int) -> None:
    documents.add(
        connection,
        Document(
            site_id=SITE,
            kind=DocumentKind.POLICY,
            version=version,
            data=b"sealed",
            digest=hashlib.sha256(b"sealed").digest(),
            content_digest=bytes(32),
            cause="test",
            created_at=NOW,
            expires_at=NOW,
        ),
    )


def found(database: Database) -> list[str]:
    with database.read() as connection:
        return list(map(str, faults(connection)))


def test_a_sound_database_has_no_faults(database: Database) -> None:
    """Two journals, a log and a document; every event is looked at."""
    counted: list[int] = []
    with database.read() as connection:
        assert list(faults(connection, counted.append)) == []
    assert counted == [12]


def test_events_whose_time_is_over_are_no_fault(database: Database) -> None:
    """Deleted from the beginning, from the middle or altogether, or without their data: the rest is still held together."""
    with database.write() as connection:
        connection.execute(delete(event_rows).where(COLUMNS.id <= 2))
        connection.execute(update(event_rows).where(COLUMNS.id == 4).values(data=b"", occurred_at=NOW))
        connection.execute(delete(event_rows).where(COLUMNS.id > 11))
    assert found(database) == []
    with database.write() as connection:
        connection.execute(delete(event_rows))
    assert found(database) == []


def other_event(connection: Connection) -> None:
    """In the place of the third."""
    row = connection.execute(select(event_rows).where(COLUMNS.id == 3)).one()
    data = MemoryJournal(GATE).append(
        EventKind.DOOR_OPENED, door_id=DoorId("gate"), occurred_at=row.occurred_at
    )
    forged = Event.from_bytes(data)
    forged = Event(sequence=3, previous_hash=forged.previous_hash, draft=forged.draft)
    connection.execute(update(event_rows).where(COLUMNS.id == 3).values(data=bytes(forged)))


def set_event(number: int, **values: object) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(
        update(event_rows).where(COLUMNS.id == number).values(**values)
    )


def moved_head(**values: object) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(update(journal_heads).values(**values))


@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (other_event, ["event 3 does not follow", "event 4 does not follow"]),
        (set_event(3, data=b"\xa0"), ["event 3 was changed", "event 4 does not follow"]),
        (set_event(5, kind="door_closed"), ["event 5 says another kind"]),
        (set_event(5, occurred_at=NOW), ["event 5 says another occurred_at"]),
        (set_event(6, door_id="kitchen"), ["event 6 says another door_id"]),
        (set_event(1, sequence=9), ["event 9 says another sequence", "up to 6, and has event 9"]),
        (moved_head(sequence=4), ["up to 4, and has event 6"] * 2),
        (moved_head(hash=bytes(32)), ["event 6 is not the one"] * 2),
        (lambda connection: connection.execute(delete(journal_heads)), ["is not known"] * 2),
        (
            lambda connection: connection.execute(
                update(audit_log).where(audit_log.c.id == 2).values(actor="x")
            ),
            ["audit: entry 2 was changed"],
        ),
        (
            lambda connection: connection.execute(delete(audit_log).where(audit_log.c.id == 2)),
            ["audit: entry 2 is missing"],
        ),
        (
            lambda connection: connection.execute(update(document_rows).values(data=b"other")),
            ["documents: policy 4 of test-site was changed"],
        ),
        (
            lambda connection: connection.execute(
                insert(confirmations).values(controller_id=GATE, kind="policy", version=5, confirmed_at=NOW)
            ),
            ["documents: gate confirmed policy 5, which was never made here"],
        ),
        (
            lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'"),
            ["schema: is 0001"],
        ),
    ],
)
def test_what_was_changed_is_named(
    database: Database, tamper: Callable[[Connection], object], named: list[str]
) -> None:
    """Exactly that, with its place."""
    with database.write() as connection:
        tamper(connection)
    said = found(database)
    assert len(said) == len(named), said
    assert all(part in line for part, line in zip(named, said, strict=True)), said


def test_the_first_event_belongs_to_its_journal(database: Database) -> None:
    """A chain taken over from another journal is found at its beginning."""
    with database.write() as connection:
        (first, _) = journals.heads(connection)
        connection.execute(
            update(journal_heads)
            .where(journal_heads.c.journal_id == first.journal_id)
            .values(journal_id="0" * 32)
        )
        connection.execute(
            update(event_rows).where(COLUMNS.journal_id == first.journal_id).values(journal_id="0" * 32)
        )
    (said,) = found(database)
    assert "event 1 begins another journal" in said


def test_a_file_with_something_missing_is_named(tmp_path: Path) -> None:
    """What SQLite itself finds: a reference to a row that is not there."""
    database = Database.at(tmp_path / "hub.sqlite")
    database.migrate()
    with database.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        driver.execute("PRAGMA foreign_keys=OFF")
        driver.execute("INSERT INTO holidays (site_id, day, name) VALUES ('nowhere', '2026-01-01', 'x')")
    assert found(database) == ["database: holidays, row 1: refers to sites, which is not there"]
    database.close()
