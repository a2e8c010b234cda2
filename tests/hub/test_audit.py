"""The audit log: whatever is changed, removed or cut is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import audit
from hub.audit import AuditBroken, AuditHead
from hub.store.database import Database
from tests.hub.databases import fresh_database

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = fresh_database(tmp_path / "hub.sqlite")
    yield made
    made.close()


def write(database: Database, count: int) -> None:
    for number in range(count):
        with database.write() as connection:
            audit.record(
                connection,
                now=NOW,
                actor="operator:1",
                action="card.block",
                subject=f"card:{number}",
                reason="lost",
                detail={"status": "suspended", "number": number},
            )


def tamper(database: Database, statement: str) -> None:
    with database.write() as connection:
        connection.exec_driver_sql(statement)


def head_of(database: Database, expected: AuditHead | None = None) -> AuditHead:
    with database.read() as connection:
        return audit.verify(connection, expected)


def test_an_untouched_log_verifies_and_its_head_moves(database: Database) -> None:
    """Each entry changes the head, and every earlier head is still found."""
    heads = [head_of(database)]
    for _ in range(3):
        write(database, 1)
        heads.append(head_of(database))
    assert [head.entries for head in heads] == [0, 1, 2, 3]
    assert len({head.hash for head in heads}) == 4
    for head in heads:
        assert head_of(database, head) == heads[-1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET reason = 'found' WHERE id = 2",
        "UPDATE audit SET actor = 'operator:2' WHERE id = 2",
        "UPDATE audit SET detail = '{}' WHERE id = 2",
        "UPDATE audit SET at = '2026-03-02 09:00:01.000000' WHERE id = 2",
        "UPDATE audit SET previous_hash = hash WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit WHERE id = 1",
    ],
)
def test_a_changed_or_removed_entry_is_named(database: Database, statement: str) -> None:
    """Verification says which entry is not what was written."""
    write(database, 4)
    tamper(database, statement)
    with pytest.raises(AuditBroken, match=r"entry [12] "):
        head_of(database)


def test_a_shortened_log_is_found_by_a_noted_head(database: Database) -> None:
    """Cutting the end leaves a valid chain, but not one that holds the head noted before."""
    write(database, 4)
    noted = head_of(database)
    tamper(database, "DELETE FROM audit WHERE id > 2")
    assert head_of(database).entries == 2
    with pytest.raises(AuditBroken, match="noted earlier"):
        head_of(database, noted)


def test_a_log_written_anew_is_found_by_a_noted_head(database: Database, tmp_path: Path) -> None:
    """A forged log of the same length has another head."""
    write(database, 3)
    other = fresh_database(tmp_path / "other.sqlite")
    write(other, 4)
    noted = head_of(other)
    other.close()
    with pytest.raises(AuditBroken, match="noted earlier"):
        head_of(database, noted)


def test_a_rolled_back_change_leaves_no_entry(database: Database) -> None:
    """An entry stands or falls with the transaction that it describes."""

    def blocked_and_failed() -> None:
        with database.write() as connection:
            audit.record(connection, now=NOW, actor=audit.SYSTEM, action="card.block", subject="card:1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        blocked_and_failed()
    assert head_of(database).entries == 0


@given(st.integers(0, 10**6), st.binary(min_size=32, max_size=32))
def test_a_head_survives_being_written_down(entries: int, digest: bytes) -> None:
    """``parse`` reads what ``str`` wrote."""
    head = AuditHead(entries, digest)
    assert AuditHead.parse(str(head)) == head


@given(st.text(max_size=90))
def test_a_head_is_read_or_refused(text: str) -> None:
    """Any other text is a ``ValueError``."""
    try:
        AuditHead.parse(text)
    except ValueError:
        return
