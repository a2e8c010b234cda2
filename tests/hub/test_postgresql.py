from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, insert, make_url, select, text

from hub.settings import Settings, database_address
from hub.store import events
from hub.store.database import Database, next_number
from hub.store.schema import audit, holidays, sign_in_tries
from pacs.errors import MalformedData, StoreError
from pacs.events import EventKind
from tests.hub.controller import eventually
from tests.hub.databases import SITE, make_site
from tests.hub.running import running_hub, tap

if TYPE_CHECKING:
    from tests.hub.databases import PostgreSql

AT = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ADDRESS = "postgresql+psycopg://drempel@db.example.org/drempel"


def test_a_whole_hub_runs_on_postgresql(postgresql: PostgreSql, tmp_path: Path) -> None:
    """A door is added, a card enrolled and presented: the tap is stored and acknowledged; tries are counted for all processes; no file of SQLite is made."""
    database = postgresql.empty()
    address = database.engine.url.render_as_string(hide_password=False)
    database.close()
    with running_hub(tmp_path, database_url=address) as hub:
        front = hub.door("front")
        card = hub.card()
        hub.until_confirmed()
        tap(front, card)
        front.until_acknowledged()
        with hub.database.read() as connection:
            (found,) = events.listing(connection, kinds=[EventKind.ACCESS_GRANTED])
        assert (found.credential_id, found.cardholder_id is None) == (card, False)
        assert hub.database.engine.dialect.name == "postgresql"
        with hub.client(origin=hub.url) as stranger:
            stranger.post("/sign-in", data={"name": "Nadia", "password": "wrong"})
        with hub.database.read() as connection:  # where the next process counts on
            assert connection.scalar(select(func.count()).select_from(sign_in_tries)) == 3
    assert not (tmp_path / "data" / "hub.sqlite").exists()
    postgresql.drop(0)


def test_writers_of_several_processes_wait_for_each_other(postgresql: PostgreSql) -> None:
    """Numbers drawn through separate connections, as hub processes would, are never drawn twice."""
    first = postgresql.fresh()
    second = Database(first.engine.url)

    def draw(database: Database) -> None:
        for _ in range(20):
            with database.write() as connection:
                number = next_number(connection, audit.c.id)
                row = {"previous_hash": b"", "hash": number.to_bytes(4), "detail": {}, "reason": ""}
                values = {"id": number, "at": AT, "actor": "a", "action": "x", "subject": "s", **row}
                connection.execute(insert(audit).values(**values))

    threads = [threading.Thread(target=draw, args=(database,)) for database in (first, second) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with first.read() as connection:
        assert connection.scalar(select(func.count()).select_from(audit)) == 80
        assert connection.scalar(select(func.max(audit.c.id))) == 80
    first.close()
    second.close()


def test_a_reader_sees_one_moment(postgresql: PostgreSql) -> None:
    """What another commits meanwhile is not seen by a read that has begun."""
    database = postgresql.fresh()
    with database.write() as connection:
        make_site(connection)
    with database.read() as connection:
        assert connection.execute(select(holidays)).all() == []
        with database.write() as writing:
            writing.execute(insert(holidays).values(site_id=SITE, day=AT.date(), name="x"))
        assert connection.execute(select(holidays)).all() == []
    with database.read() as connection:
        assert len(connection.execute(select(holidays)).all()) == 1
    database.close()


def test_instants_do_not_depend_on_the_servers_time_zone(postgresql: PostgreSql) -> None:
    """A server set to another zone gives the same moments back."""
    database = postgresql.fresh()
    with database.write() as connection:
        connection.execute(text("SET TIME ZONE 'America/Caracas'"))
        row = {"previous_hash": b"", "hash": b"h", "detail": {}, "reason": ""}
        values = {"at": AT, "actor": "a", "action": "x", "subject": "s", **row}
        connection.execute(insert(audit).values(**values))
        assert connection.scalar(select(audit.c.at)) == AT
    with database.read() as connection:
        assert connection.scalar(select(audit.c.at)) == AT
    database.close()


def test_a_lost_connection_is_replaced(postgresql: PostgreSql) -> None:
    """After the server ends a session, the next transaction finds a working one by itself."""
    database = postgresql.fresh()
    with database.read() as connection:
        session = connection.scalar(text("SELECT pg_backend_pid()"))
    other = Database(database.engine.url)
    with other.read() as connection:
        assert connection.scalar(text("SELECT pg_terminate_backend(:session)"), {"session": session})
        gone = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :session")
        eventually(lambda: connection.scalar(gone, {"session": session}) == 0, "the session is gone")
    with database.read() as connection:
        assert connection.scalar(text("SELECT pg_backend_pid()")) != session
    database.close()
    other.close()


def test_a_database_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    """The error names what is wrong, and no password."""
    pytest.importorskip("psycopg")
    database = Database(make_url(f"postgresql+psycopg://u:secret@/x?host={tmp_path}"))
    with pytest.raises(StoreError, match="cannot be opened") as caught:
        database.migrate()
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(database.engine)


def test_the_password_comes_from_a_file_or_the_environment(
    tmp_path: Path,
) -> None:
    """Never from the settings themselves; from a file only when nobody else can read it."""
    secret = tmp_path / "password"
    secret.write_text("from the file\n")
    secret.chmod(0o600)
    named = Settings(
        site_dir=tmp_path, data_dir=tmp_path, database_url=ADDRESS, database_password_file=secret
    )
    assert database_address(named).password == "from the file"
    secret.chmod(0o640)
    with pytest.raises(MalformedData, match="chmod 600"):
        database_address(named)
    secret.unlink()
    with pytest.raises(MalformedData, match="cannot be read"):
        database_address(named)
    path = tmp_path / "hub.toml"
    path.write_text(f'data_dir = "data"\n[database]\nurl = "{ADDRESS}"\n')
    settings = Settings.from_toml(path, {"DREMPEL_DATABASE_PASSWORD": "from the environment"})
    assert database_address(settings).password == "from the environment"
    assert database_address(Settings.from_toml(path)).password is None
    assert "from the" not in repr(named) + repr(settings)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql+psycopg://user:secret@host/name",
        "postgresql+psycopg://host/name?password=secret",
        "mysql://host/name",
        "sqlite:///elsewhere",
        "secret",
    ],
)
def test_an_address_that_is_none_or_holds_a_password_is_refused(tmp_path: Path, address: str) -> None:
    """The message never repeats it."""
    with pytest.raises(MalformedData, match=r"database\.url") as caught:
        Settings(site_dir=tmp_path, data_dir=tmp_path, database_url=address)
    assert "secret" not in str(caught.value)


def test_settings_from_a_file(tmp_path: Path) -> None:
    """The table ``[database]``; the password's file is relative to the settings."""
    path = tmp_path / "hub.toml"
    path.write_text(f'data_dir = "data"\n[database]\nurl = "{ADDRESS}"\npassword_file = "password"\n')
    settings = Settings.from_toml(path)
    assert (settings.database_url, settings.database_password_file) == (ADDRESS, tmp_path / "password")
    path.write_text('data_dir = "data"\n[database]\npassword = "x"\n')
    with pytest.raises(MalformedData, match="DREMPEL_DATABASE_PASSWORD"):
        Settings.from_toml(path)
