"""The engine, its transactions and its migrations.

``read()`` is a snapshot; ``write()`` is a transaction of the one writer. Every function of the other
modules in this package takes the connection that one of them yields as its first argument, so that a
caller composes several into one transaction.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Dialect,
    Engine,
    Row,
    Table,
    create_engine,
    event,
    func,
    insert,
    literal,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.types import DateTime, TypeDecorator

from hub.store.errors import AlreadyExists, NotFound
from pacs.errors import MalformedData, StoreError

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_S = 15.0
_ROWS_OF_STATEMENT = 100
"""SQLite is given so many rows to insert at a time: meanwhile other threads go on, and each row costs less."""
_WRITER_LOCK = int.from_bytes(b"drempel")  # any number that nobody else takes


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, whatever the database keeps."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive datetime; SQLite keeps the UTC wall time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("aware datetime expected")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        """Give UTC back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


witnessed: ContextVar[Callable[[Connection], None] | None] = ContextVar("witnessed", default=None)
"""Called first in each write transaction of the context that set it; what it raises keeps the transaction from being."""

_REMEMBERED = text("""
    SELECT quote_ident(tablename), quote_ident(attname), format_type(atttypid, atttypmod)
    FROM pg_stats JOIN pg_attribute USING (attname)
    WHERE schemaname = current_schema() AND attrelid = format('%I.%I', schemaname, tablename)::regclass
    ORDER BY 1, attnum
""")


class Database:
    """One database: ``sqlite:///…`` (one writer, WAL, every commit durable) or ``postgresql+…``."""

    def __init__(self, url: str | URL) -> None:
        self._writer = threading.Lock()
        self._holder: int | None = None
        self.wrote: Callable[[float, float], None] = _nothing
        """Told of each write transaction for how many seconds it waited for the one writer, and how many it took."""
        self._snapshot: dict[str, Any] = {}
        self.engine = _engine(make_url(url))
        if self.engine.dialect.name == "postgresql":
            self._snapshot = {"isolation_level": "REPEATABLE READ"}

    @classmethod
    def of(cls, address: URL) -> Database:
        """The database at this address; a file of SQLite is made as ``at`` does.

        Raises ``MalformedData`` when the driver is not installed.
        """
        if address.get_backend_name() == "sqlite":
            return cls.at(Path(address.database or ""))
        try:
            return cls(address)
        except ModuleNotFoundError as error:
            raise MalformedData(
                f"database.url: {error.name} is not installed (drempel[hub-postgresql])"
            ) from error

    @classmethod
    def at(cls, path: Path) -> Database:
        """The SQLite database in the file ``path``, made with mode 0600 in a directory of mode 0700."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return cls(f"sqlite:///{path}")

    def migrate(self) -> None:
        """Bring the schema to the version this code needs; nothing to do when it is there.

        Raises ``StoreError`` when the database cannot be opened.
        """
        configuration = _alembic()
        try:
            with self._restructuring() as connection:
                configuration.attributes["connection"] = connection
                command.upgrade(configuration, "head")
        except OperationalError as error:
            raise StoreError(f"the database cannot be opened: {error.orig}") from error

    @property
    def is_shared(self) -> bool:
        """Whether several hub processes can have it open."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def _restructuring(self) -> Iterator[Connection]:
        """``write()`` for migrations: SQLite makes tables anew, which nothing may refer to meanwhile.

        Raises ``StoreError`` when something refers to what is not there in the end.
        """
        if self.engine.dialect.name != "sqlite":
            with self.write() as connection:
                yield connection
            return
        with self._writer, self.engine.connect().execution_options(writes=True) as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                        raise StoreError(
                            f"the database refers to what is not there: {broken[0]} → {broken[2]}"
                        )
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    def is_migrated(self) -> bool:
        """Whether the schema is the one that this code needs; raises what the database raises when it is away."""
        with self.read() as connection:
            has = MigrationContext.configure(connection).get_current_revision()
        return has == newest_revision()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent snapshot; what is written to it is rolled back."""
        with self.engine.connect().execution_options(**self._snapshot) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed on leaving, rolled back on any exception.

        Only one runs at a time, on PostgreSQL among all processes that have this database open. Raises
        ``RuntimeError`` when nested in one thread.
        """
        me = threading.get_ident()
        if self._holder == me:
            raise RuntimeError("a write transaction inside another; pass the connection instead")
        asked_s = time.monotonic()
        with self._writer:
            self._holder = me
            had_s = time.monotonic()
            try:
                with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                    had_s = time.monotonic()
                    if witness := witnessed.get():
                        witness(connection)
                    yield connection
            finally:
                self._holder = None
                self.wrote(had_s - asked_s, time.monotonic() - had_s)

    def let_go(self) -> None:
        """Free, and overwrite, what was deleted: empty SQLite's log into its file; vacuum and analyse PostgreSQL."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                connection.exec_driver_sql("VACUUM (ANALYZE)")
                _forget_values(connection)

    def rewrite(self) -> Sequence[str]:
        """Let go of everything that was deleted, at once; which places of the database still hold it, if any.

        On PostgreSQL every table is written anew, which locks it for as long; who connects has to own the tables.
        """
        self.let_go()
        if not self.is_shared:
            return ()
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM FULL")
            with suppress(ProgrammingError):  # who may not: the server does so by itself within minutes
                connection.exec_driver_sql("CHECKPOINT")
        return (
            "the write-ahead log of PostgreSQL, until the server has written over it, and its archive",
            "base backups and replicas of PostgreSQL",
        )

    def close(self) -> None:
        """Give all connections back to the operating system."""
        self.engine.dispose()


def _nothing(_waited_s: float, _held_s: float) -> None:
    """Nobody measures."""


def _alembic() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return configuration


@cache
def newest_revision() -> str | None:
    """Of the schema, by this code."""
    return ScriptDirectory.from_config(_alembic()).get_current_head()


def revision_of(connection: Connection) -> str | None:
    """The schema that a database has, None for one without."""
    return MigrationContext.configure(connection).get_current_revision()


def fields(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """The row's columns by name, for ``SomeRecord(**fields(row))``."""
    return dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's public accessor, named so that no column hides it


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Insert one row.

    Raises ``AlreadyExists`` when its primary key is taken, ``NotFound`` when it names something that is
    not there.
    """
    key = {column.name: row[column.name] for column in table.primary_key}
    there = select(literal(1)).select_from(table).filter_by(**key)
    if connection.execute(there).first() is not None:
        raise AlreadyExists(f"{table.name}: {', '.join(map(str, key.values()))} is there already")
    try:
        connection.execute(insert(table).values(**row))
    except IntegrityError as error:
        raise NotFound(f"{table.name}: names something that is not there") from error


def next_number(connection: Connection, column: Column[int]) -> int:
    """One more than the largest in this column, 1 for the first; inside ``write()`` only."""
    return (connection.scalar(select(func.max(column))) or 0) + 1


def _engine(url: URL) -> Engine:
    return _sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None},
        insertmanyvalues_page_size=_ROWS_OF_STATEMENT,
    )
    engine.dialect.use_insertmanyvalues_wo_returning = True

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, also inside a page
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if _writes(connection) else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    engine = create_engine(url, pool_pre_ping=True, connect_args={"application_name": "drempel-hub"})

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if _writes(connection):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

    return engine


def _writes(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get("writes", False))


def _forget_values(connection: Connection) -> None:
    """Have PostgreSQL's planner forget the commonest values of tables that are empty now.

    An analysis replaces what it keeps (``pg_statistic``) only where it finds a row; a column's type that is set anew
    deletes it. A table in use is left for the next time.
    """
    remembered: dict[str, list[str]] = {}
    for table, column, type_ in connection.execute(_REMEMBERED):
        remembered.setdefault(table, []).append(f"ALTER COLUMN {column} TYPE {type_}")
    connection.exec_driver_sql("SET lock_timeout = '1s'")
    try:
        for table, changes in remembered.items():
            if connection.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1").first() is None:  # noqa: S608 - quoted by the server
                with suppress(OperationalError):
                    connection.exec_driver_sql(f"ALTER TABLE {table} {', '.join(changes)}")
    finally:
        connection.exec_driver_sql("RESET lock_timeout")
