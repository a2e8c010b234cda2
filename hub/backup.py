"""A copy of everything a hub knows in one encrypted file, and a hub made from it, whichever database either has.

A backup is one snapshot, taken while the hub works: a record that says when it was made, until when it may be kept and
which schema it has; rows, table by table; and a last record with the number and the SHA-256 of each table's rows.
Sessions and one-time links are not in it (``hub.store.tables.LEFT_OUT``).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import cbor2
from sqlalchemy import Connection, Table

from hub import audit, verification
from hub.backup_file import BackupKey, BackupWriter, Damaged, NotABackup, records
from hub.store import tables
from hub.store.database import Database, newest_revision, revision_of
from hub.verification import Fault
from pacs.errors import MalformedData, StoreError

LONGEST_LIFETIME = timedelta(days=30)
USUAL_LIFETIME = timedelta(days=3)
"""What says to the second where people were is kept no longer than that, in backups too."""
"""What says at which hour people went where may be kept no longer, in a backup neither (rule R8)."""

_FORMAT = 1
_BYTES_AT_A_TIME = 256 * 1024

Said = Callable[[str, int], None]
"""Told which table it is at, and how many rows are done in all."""


class Expired(MalformedData):
    """The backup may no longer be kept, let alone used."""


class OtherSchema(StoreError):
    """The backup was made by another version of the program."""


class NotEmpty(StoreError):
    """There is something in the database already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a backup is: ``rows`` by table, ``revision`` of the schema, and the audit log's head when it was made."""

    made_at: datetime
    expires_at: datetime
    revision: str
    rows: Mapping[str, int]
    audit_head: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The backup that was restored, and what was wrong with the hub already when it was made."""

    summary: Summary
    faults: tuple[Fault, ...]


@dataclass(slots=True)
class Tally:
    """The number of a table's rows, and SHA-256 over them as they are encoded."""

    rows: int = 0
    sha256: Any = field(default_factory=hashlib.sha256)

    def add(self, encoded: bytes) -> None:
        """Count one row."""
        self.rows += 1
        self.sha256.update(encoded)

    @property
    def said(self) -> list[int | bytes]:
        """As the last record has it."""
        return [self.rows, self.sha256.digest()]


def _nothing(_table: str, _rows: int) -> None:
    pass


def make(
    database: Database,
    path: Path,
    key: BackupKey,
    *,
    now: datetime,
    lifetime: timedelta = LONGEST_LIFETIME,
    said: Said = _nothing,
) -> Summary:
    """Write a backup to the new file ``path`` (mode 0600), which is there when it is whole and durable, or not at all.

    That it was made is in the audit log, and so in the backup. Raises ``StoreError`` when ``path`` is there already or
    cannot be written, ``OtherSchema``, and ``ValueError`` for a lifetime longer than ``LONGEST_LIFETIME``.
    """
    if not timedelta() < lifetime <= LONGEST_LIFETIME:
        raise ValueError(f"a backup lives for at most {LONGEST_LIFETIME.days} days")
    with _new_file(path) as file:
        with database.read() as connection:
            if (found := revision_of(connection)) != newest_revision():
                raise OtherSchema(
                    f"the database has schema {found}, this program {newest_revision()}; start the hub once"
                )
        with database.write() as connection:
            audit.record(connection, now=now, actor=audit.SYSTEM, action="backup.make", subject=_subject(now))
        with database.read() as connection:
            return _write(connection, BackupWriter(file, key), now, now + lifetime, said)


def examine(path: Path, key: BackupKey, *, said: Said = _nothing) -> Summary:
    """Read a whole backup and say what it is, expired or not.

    Raises ``NotABackup``, ``WrongKey``, ``Damaged`` or ``CutOff``, and ``StoreError`` when it cannot be read.
    """
    with _opened(path) as file:
        contents = _Contents(file, key)
        for _ in contents.portions(said):
            pass
        return contents.summary


def restore(
    database: Database,
    path: Path,
    key: BackupKey,
    *,
    now: datetime,
    despite_expiry: str = "",
    said: Said = _nothing,
) -> Restored:
    """Fill an empty database with what a backup holds: all of it, proven to be the same by reading it again, or nothing.

    ``despite_expiry``: why an expired backup is used all the same; it goes into the audit log, as does the restoring.
    Raises ``Expired``, ``OtherSchema``, ``NotEmpty``, and what ``examine`` does.
    """
    with _opened(path) as file:
        contents = _Contents(file, key)
        if contents.head["revision"] != newest_revision():
            raise OtherSchema(
                f"the backup has schema {contents.head['revision']}, this program {newest_revision()}:"
                " restore it with the version that made it, then upgrade"
            )
        if now >= contents.head["expires_at"] and not despite_expiry:
            raise Expired(
                f"the backup could be kept until {contents.head['expires_at']:%Y-%m-%d %H:%M} UTC: what it says of where"
                " people were may no longer be there (rule R8); delete it, or give a reason with --expired"
            )
        with database.read() as connection:
            if revision_of(connection) not in (None, newest_revision()):
                raise NotEmpty("there is a hub of another version in this database; give an empty one")
        database.migrate()
        with database.write() as connection:
            if (table := tables.first_with_rows(connection)) is not None:
                raise NotEmpty(
                    f"there is a hub in this database already ({table} is not empty); give an empty one"
                )
            _fill(connection, contents, said)
            audit.record(
                connection,
                now=now,
                actor=audit.SYSTEM,
                action="backup.restore",
                subject=_subject(contents.summary.made_at),
                reason=despite_expiry,
            )
            return Restored(summary=contents.summary, faults=tuple(verification.faults(connection)))


class _Contents:
    """What a backup says, while it is read."""

    def __init__(self, file: BinaryIO, key: BackupKey) -> None:
        self._records = records(file, key)
        self.head: dict[str, Any] = next(self._records)
        self.tallies: dict[str, Tally] = {name: Tally() for name in self.head["columns"]}
        self._last: dict[str, Any] = {}
        if self.head["format"] != _FORMAT:
            raise NotABackup(f"a backup of format {self.head['format']}; this program reads format {_FORMAT}")

    def portions(self, said: Said) -> Iterator[tuple[str, list[bytes]]]:
        """Rows as they are encoded, by table; raises ``Damaged`` at the end when they are not those that were counted."""
        done = 0
        for record in self._records:
            if isinstance(record, dict):
                self._last = record
                continue
            name, some = record
            for encoded in some:
                self.tallies[name].add(encoded)
            yield name, some
            done += len(some)
            said(name, done)
        if self._last["tables"] != {name: tally.said for name, tally in self.tallies.items()}:
            raise Damaged("the rows in the backup are not those that were counted when it was made")

    @property
    def summary(self) -> Summary:
        """What was read to its end."""
        return Summary(
            made_at=self.head["made_at"],
            expires_at=self.head["expires_at"],
            revision=self.head["revision"],
            rows={name: tally.rows for name, tally in self.tallies.items()},
            audit_head=self._last["audit_head"],
        )


def _write(
    connection: Connection, writer: BackupWriter, made_at: datetime, expires_at: datetime, said: Said
) -> Summary:
    copied = tables.copied()
    revision = newest_revision() or ""
    columns = {table.name: table.columns.keys() for table in copied}
    writer.write(
        {
            "format": _FORMAT,
            "made_at": made_at,
            "expires_at": expires_at,
            "revision": revision,
            "columns": columns,
        }
    )
    tallies = {table.name: Tally() for table in copied}
    done = 0
    for table in copied:
        for some in _portions(connection, table, tallies[table.name]):
            writer.write([table.name, some])
            done += len(some)
            said(table.name, done)
    audit_head = str(audit.newest(connection))
    last = {"tables": {name: tally.said for name, tally in tallies.items()}, "audit_head": audit_head}
    writer.write(last, last=True)
    return Summary(
        made_at=made_at,
        expires_at=expires_at,
        revision=revision,
        rows={name: tally.rows for name, tally in tallies.items()},
        audit_head=audit_head,
    )


def _fill(connection: Connection, contents: _Contents, said: Said) -> None:
    copied = {table.name: table for table in tables.copied()}
    columns = contents.head["columns"]
    if columns != {name: table.columns.keys() for name, table in copied.items()}:
        raise OtherSchema("the backup has other tables than this program")
    for name, some in contents.portions(said):
        rows = (dict(zip(columns[name], cbor2.loads(encoded), strict=True)) for encoded in some)
        tables.add(connection, copied[name], list(rows))
    for name, table in copied.items():
        tables.go_on_numbering(connection, table)
        there = Tally()
        for _ in _portions(connection, table, there):
            pass
        if there.said != contents.tallies[name].said:
            raise StoreError(
                f"{name}: what the database gives back is not what was restored; nothing was changed"
            )


def _portions(connection: Connection, table: Table, tally: Tally) -> Iterator[list[bytes]]:
    """A table's rows as they are encoded, counted, as many at a time as make a record."""
    some: list[bytes] = []
    size = 0
    for row in tables.rows(connection, table):
        encoded = cbor2.dumps(row)
        tally.add(encoded)
        some.append(encoded)
        size += len(encoded)
        if size >= _BYTES_AT_A_TIME:
            yield some
            some, size = [], 0
    if some:
        yield some


def _subject(made_at: datetime) -> str:
    return f"backup:{made_at:%Y-%m-%dT%H:%M:%SZ}"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file under another name, which gets its own when all of it is on the disk."""
    if path.exists():
        raise StoreError(f"{path}: is there already; a backup is never overwritten")
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        unfinished.unlink(missing_ok=True)
