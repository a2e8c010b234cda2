"""Backups: everything comes back on either database, or nothing does; and what a hub made of one does next."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Date,
    Integer,
    LargeBinary,
    String,
    Table,
    func,
    insert,
    select,
)

from hub import audit, backup, verification
from hub.audit import AuditBroken
from hub.backup import Expired, NotEmpty, OtherSchema
from hub.backup_file import BackupKey, BackupWriter, CutOff, Damaged, NotABackup, WrongKey, records
from hub.store import cards, documents, events, journals, tables
from hub.store.cards import CardStatus
from hub.store.database import Database, Instant, revision_of
from hub.store.journals import AnomalyKind
from hub.store.schema import metadata
from pacs.errors import MalformedData, StoreError
from pacs.messages import DocumentKind
from tests.hub import databases
from tests.hub.controller import FakeController, SmallHub, eventually, small_hub
from tests.hub.databases import SITE, fresh_database, make_site
from tests.hub.test_distribution import CARD, add_person

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from tests.hub.databases import PostgreSql

NOW = datetime(2026, 11, 28, 6, 0, 0, 123456, tzinfo=UTC)
KEY = BackupKey(bytes(range(32)))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Database]:
    """A database with three rows in every table there is."""
    database = fresh_database(tmp_path / "source" / "hub.sqlite")
    fill(database)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> Iterator[Database]:
    """An empty database without a schema, of either kind."""
    if request.param == "sqlite":
        database = Database.at(tmp_path / "target" / "hub.sqlite")
        yield database
        database.close()
        return
    server: PostgreSql = request.getfixturevalue("postgresql")
    kept = len(server.made)
    database = server.empty()
    yield database
    database.close()
    if not databases.in_use:
        server.drop(kept)


def fill(database: Database) -> None:
    with database.write() as connection:
        for table in metadata.sorted_tables:
            for number in (1, 2, 3):
                connection.execute(insert(table).values(row_of(table, number)))


def row_of(table: Table, number: int) -> dict[str, Any]:
    """Something that fits, the same wherever one column refers to another; the third has nothing where it may."""
    row: dict[str, Any] = {}
    for column in table.columns:
        origin = column
        while origin.foreign_keys:
            (key,) = origin.foreign_keys
            origin = key.column
        row[column.name] = None if column.nullable and number == 3 else value_of(origin, number)
    return row


def value_of(column: Column[Any], number: int) -> Any:
    match column.type:
        case Instant():
            return NOW + timedelta(days=number, microseconds=number)
        case Date():
            return date(2026, 2, 27 - number)
        case Boolean():
            return number % 2 == 0
        case LargeBinary():
            return f"{column} {number}".encode() + bytes(range(256))
        case JSON():
            return {"é": [number, None, 1.5, "‘"], "": {}}
        case String(length=None):
            return f"{number} é‘Z {column}"
        case String():
            return f"{'aBzZ'[number % 4]}{number}-{column.name}"[: column.type.length]
        case Integer():
            return number
    raise AssertionError(f"{column}: a type that no backup was tried with")


def rows_of(database: Database) -> dict[str, list[Any]]:
    with database.read() as connection:
        return {table.name: sorted(map(repr, tables.rows(connection, table))) for table in tables.copied()}


def made(database: Database, directory: Path, **said: Any) -> Path:
    path = directory / "hub.backup"
    backup.make(database, path, KEY, now=said.pop("now", NOW), **said)
    return path


# -- everything, or nothing -------------------------------------------------------------------------


def test_every_row_of_every_table_comes_back(source: Database, target: Database, tmp_path: Path) -> None:
    """From either kind of database to either: the same rows, and the log says that they were restored."""
    path = made(source, tmp_path)
    before = rows_of(source)
    done = backup.restore(target, path, KEY, now=NOW + timedelta(days=1))
    after = rows_of(target)
    assert done.summary.rows == {name: len(rows) for name, rows in before.items()}
    assert {name for name, rows in before.items() if not rows} == set()
    (entry,) = set(after.pop("audit")) - set(before.pop("audit"))
    assert "backup.restore" in entry
    assert after == before
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["hub.backup"]


def test_nobody_is_signed_in_by_a_backup(source: Database, target: Database, tmp_path: Path) -> None:
    """Sessions, links and answers to repeated requests stay behind."""
    backup.restore(target, made(source, tmp_path), KEY, now=NOW)
    with target.read() as connection:
        for name in tables.LEFT_OUT:
            assert name in metadata.tables
            assert tables.count(connection, metadata.tables[name]) == 0


def test_numbering_goes_on_after_what_was_restored(
    source: Database, target: Database, tmp_path: Path
) -> None:
    """The next event, anomaly and alarm get a number above all that there are."""
    backup.restore(target, made(source, tmp_path), KEY, now=NOW)
    with target.write() as connection:
        for name in ("events", "anomalies", "alarms", "quarantine"):
            table = metadata.tables[name]
            row = row_of(table, 9)
            del row["id"]
            connection.execute(insert(table).values(row))
            assert connection.scalar(select(func.max(table.c.id))) == 4


def test_a_hub_is_never_restored_over_another(source: Database, tmp_path: Path) -> None:
    """A database with anything in it is refused and stays as it is."""
    path = made(source, tmp_path)
    there = fresh_database(tmp_path / "there" / "hub.sqlite")
    with there.write() as connection:
        make_site(connection)
    before = rows_of(there)
    with pytest.raises(NotEmpty, match="sites is not empty"):
        backup.restore(there, path, KEY, now=NOW)
    assert rows_of(there) == before
    there.close()


def test_a_backup_is_used_for_as_long_as_it_may_be_kept(
    source: Database, target: Database, tmp_path: Path
) -> None:
    """Up to its last moment; afterwards only with a reason, which is in the audit log."""
    path = made(source, tmp_path, lifetime=timedelta(days=3))
    end = NOW + timedelta(days=3)
    with pytest.raises(Expired, match="2026-12-01 06:00 UTC"):
        backup.restore(target, path, KEY, now=end)
    with pytest.raises(ValueError, match="30 days"):
        made(source, tmp_path / "other", lifetime=timedelta(days=31))
    assert backup.examine(path, KEY).expires_at == end
    backup.restore(target, path, KEY, now=end, despite_expiry="the only one left")
    assert "the only one left" in rows_of(target)["audit"][-1]


def test_a_backup_of_another_schema_is_refused(
    source: Database, target: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the schema it has, and before anything is made."""
    path = made(source, tmp_path)
    monkeypatch.setattr(backup, "newest_revision", lambda: "9999")
    with pytest.raises(OtherSchema, match="9999"):
        backup.restore(target, path, KEY, now=NOW)
    with target.read() as connection:
        assert revision_of(connection) is None
    with pytest.raises(OtherSchema, match="start the hub once"):
        made(source, tmp_path / "..")


def test_a_backup_is_never_overwritten(source: Database, tmp_path: Path) -> None:
    """What is there stays, and a backup that fails leaves nothing."""
    path = made(source, tmp_path)
    before = path.read_bytes()
    with pytest.raises(StoreError, match="is there already"):
        made(source, tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="cannot be written"):
        made(source, tmp_path / "nowhere")

    def stop(table: str, _rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.make(source, tmp_path / "other.backup", KEY, now=NOW, said=stop)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["hub.backup"]


@pytest.fixture(scope="module")
def whole(
    database_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[bytes, Database, Path]]:
    """A backup's bytes, an empty database to restore into, and a place for changed copies."""
    directory = tmp_path_factory.mktemp("whole")
    full = fresh_database(directory / "full" / "hub.sqlite")
    fill(full)
    data = made(full, directory).read_bytes()
    full.close()
    empty = fresh_database(directory / "empty" / "hub.sqlite")
    yield data, empty, directory / "changed.backup"
    empty.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255), cut=st.booleans())
@example(share=0.999999, mask=1, cut=True)
def test_nothing_is_restored_from_a_backup_that_is_not_whole(
    whole: tuple[bytes, Database, Path], share: float, mask: int, cut: bool
) -> None:
    """Whichever byte is another, and wherever it ends: a named refusal, and the database stays empty."""
    data, empty, path = whole
    at = int(share * len(data))
    path.write_bytes(data[:at] if cut else data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
    with pytest.raises((NotABackup, WrongKey, Damaged, CutOff)):
        backup.restore(empty, path, KEY, now=NOW)
    with empty.read() as connection:
        assert tables.first_with_rows(connection) is None


# -- the file ---------------------------------------------------------------------------------------


def written(*said: Any) -> bytes:
    file = io.BytesIO()
    writer = BackupWriter(file, KEY)
    for record in said[:-1]:
        writer.write(record)
    writer.write(said[-1], last=True)
    return file.getvalue()


def read(data: bytes, key: BackupKey = KEY) -> list[Any]:
    return list(records(io.BytesIO(data), key))


SMALL = written({"a": 1}, ["b", [b"c"]], {"d": NOW})
FRAMES = 17 + 32 + 16


def test_every_changed_byte_and_every_cut_is_noticed() -> None:
    """Each byte of a file in turn, and each length it can be cut to."""
    assert read(SMALL) == [{"a": 1}, ["b", [b"c"]], {"d": NOW}]
    for at in range(len(SMALL)):
        for mask in (1, 0x80, 0xFF):
            with pytest.raises(MalformedData):
                read(SMALL[:at] + bytes([SMALL[at] ^ mask]) + SMALL[at + 1 :])
        with pytest.raises((CutOff, NotABackup)):
            read(SMALL[:at])


def test_what_is_wrong_with_a_file_has_a_name() -> None:
    """Another file, another key, a change, a cut, an addition, a missing end, records in another order."""
    first = FRAMES + 5 + int.from_bytes(SMALL[FRAMES + 1 : FRAMES + 5])
    second = first + 5 + int.from_bytes(SMALL[first + 1 : first + 5])
    for data, key, error in (
        (b"SQLite format 3\0" * 8, KEY, NotABackup),
        (b"", KEY, NotABackup),
        (SMALL, BackupKey(bytes(32)), WrongKey),
        (SMALL[:-1] + bytes([SMALL[-1] ^ 1]), KEY, Damaged),
        (SMALL[:-1], KEY, CutOff),
        (SMALL[:second], KEY, CutOff),
        (SMALL + b"\0", KEY, Damaged),
        (SMALL[:FRAMES] + SMALL[first:second] + SMALL[FRAMES:first] + SMALL[second:], KEY, Damaged),
        (SMALL[:first] + SMALL[FRAMES:], KEY, Damaged),
        (written({"z": 0}, {"z": 1})[:FRAMES] + SMALL[FRAMES:], KEY, Damaged),
    ):
        with pytest.raises(error):
            read(data, key)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_make_the_reader_stumble(data: bytes, begins_well: bool) -> None:
    """Anything at all is refused by name."""
    with pytest.raises(MalformedData):
        read((SMALL[:FRAMES] if begins_well else b"") + data)


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    """Mode 0600, never overwritten, refused when others can read it or it is something else, and in no repr."""
    path = tmp_path / "backup.key"
    key = BackupKey.make(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert BackupKey.load(path) == key
    assert key.secret.hex() not in repr(key)
    assert str(key.secret) not in repr(key)
    with pytest.raises(StoreError, match="is there already"):
        BackupKey.make(path)
    path.chmod(0o640)
    with pytest.raises(StoreError, match="chmod 600"):
        BackupKey.load(path)
    path.chmod(0o600)
    path.write_text("hunter2")
    with pytest.raises(StoreError, match="not a key of backups"):
        BackupKey.load(path)
    with pytest.raises(StoreError, match="cannot be read"):
        BackupKey.load(tmp_path / "none")


# -- a hub at work ----------------------------------------------------------------------------------


def restored_into(hub: SmallHub, path: Path, target: Database) -> None:
    """The machine is lost: another hub, with the keys of the first, on what was backed up."""
    hub.stop()
    hub.database.close()
    done = backup.restore(target, path, KEY, now=datetime.now(UTC))
    assert done.faults == ()
    hub.database = target
    hub.start()


def test_a_backup_while_events_arrive_is_of_one_moment(tmp_path: Path) -> None:
    """Heads, events and the audit log in it fit each other, whatever was stored meanwhile."""
    with small_hub(tmp_path, "front", "side") as hub:
        controllers = [hub.controller("front"), hub.controller("side")]
        done = threading.Event()

        def record() -> None:
            while not done.is_set():
                for controller in controllers:
                    for _ in range(20):
                        controller.record()
                    controller.until_acknowledged()

        for controller in controllers:
            controller.connect()
            controller.wait_online()
        recording = threading.Thread(target=record)
        recording.start()
        try:
            paths = []
            for number in range(3):
                eventually(partial(is_stored, hub.database, 60 * (number + 1)), "events are stored")
                paths.append(made(hub.database, fresh(tmp_path / str(number)), now=datetime.now(UTC)))
        finally:
            done.set()
            recording.join()
            for controller in controllers:
                controller.disconnect()
    counts = []
    for path in paths:
        target = fresh_database(path.parent / "target" / "hub.sqlite")
        assert backup.restore(target, path, KEY, now=datetime.now(UTC)).faults == ()
        with target.read() as connection:
            heads = journals.heads(connection)
            assert sum(head.sequence for head in heads) == events.count(connection)
            counts.append(events.count(connection))
        target.close()
    assert counts[0] < counts[1] < counts[2]


def test_a_lost_hub_begins_again_from_its_backup(target: Database, tmp_path: Path) -> None:
    """Doors send again what they hold, what nobody holds is a hole, documents go above, and a lost block is noticed."""
    with small_hub(tmp_path, "gate", "yard") as hub:
        gate, yard = doors = hub.controller("gate"), hub.controller("yard")
        with hub.database.write() as connection:
            add_person(connection)
        hub.link.site_changed()
        for door in doors:
            door.connect()
            door.wait_online()
            eventually(partial(holds_above, door, 0), f"{door.id}: first documents")
            door.until_acknowledged()
        path = made(hub.database, tmp_path, now=datetime.now(UTC))

        # what the backup does not have
        hub.link.revocation.block(CARD, CardStatus.REVOKED, reason="lost", actor="operator:test")
        with hub.database.read() as connection:
            noted = audit.newest(connection)
            blocked = documents.required_newest(connection, SITE, DocumentKind.REVOCATIONS).version
        for door in doors:
            eventually(partial(holds_above, door, blocked - 1), f"{door.id}: the block")
            for _ in range(5):
                door.record()
            door.until_acknowledged()
            door.disconnect()
        yard.pruned = yard.journal.last_sequence  # it let go what was acknowledged

        restored_into(hub, path, target)
        backed_up = sequences(target, yard.id)
        with target.read() as connection:
            assert cards.get(connection, CARD).status is CardStatus.VALID
            assert documents.required_newest(connection, SITE, DocumentKind.REVOCATIONS).version < blocked
            with pytest.raises(AuditBroken, match="not in it"):
                audit.verify(connection, noted)
        for door in doors:
            door.acknowledged = -1
            door.connect()
            door.wait_online()
        for door in doors:
            eventually(partial(beats_and_holds_above, door, blocked), f"{door.id}: a version above {blocked}")
            door.until_acknowledged()
            door.disconnect()

        assert sequences(target, gate.id) == list(range(1, gate.journal.last_sequence + 1))
        kept = [*backed_up, *range(yard.pruned + 1, yard.journal.last_sequence + 1)]
        assert sequences(target, yard.id) == kept
        with target.read() as connection:
            (hole,) = journals.list_anomalies(connection, yard.id, only_holes=True)
            assert hole.kind is AnomalyKind.EVENTS_MISSING
            assert (hole.first_sequence, hole.last_sequence) == (backed_up[-1] + 1, yard.pruned)
            assert journals.list_anomalies(connection, gate.id, only_holes=True) == []
            assert list(verification.faults(connection)) == []


def fresh(directory: Path) -> Path:
    directory.mkdir()
    return directory


def is_stored(database: Database, count: int) -> bool:
    with database.read() as connection:
        return events.count(connection) >= count


def beats_and_holds_above(door: FakeController, version: int) -> bool:
    door.heartbeat()  # as a controller does, over and over
    return holds_above(door, version)


def holds_above(door: FakeController, version: int) -> bool:
    return door.versions[DocumentKind.POLICY] > 0 and door.versions[DocumentKind.REVOCATIONS] > version


def sequences(database: Database, controller_id: Any) -> list[int]:
    with database.read() as connection:
        return [each.sequence for each in events.listing(connection, controller_id=controller_id, limit=1000)]
