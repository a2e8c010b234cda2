"""drempel-hub backup, restore and verify from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hub import backup_commands
from hub.audit import AuditHead
from hub.operators import Operators
from hub.roles import Role
from hub.store import controllers, doors
from hub.store.controllers import Controller
from hub.store.database import Database
from pacs.identifiers import ControllerId, DoorId
from pacs.rules import Door
from tests.hub.databases import SITE, fresh_database, make_site
from tests.hub.test_command import hub
from tests.hub.test_distribution import add_person


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A hub's data directory with a person, an operator and a token in it."""
    database = fresh_database(tmp_path / "data" / "hub.sqlite")
    with database.write() as connection:
        make_site(connection)
        gate = ControllerId("gate")
        registered = Controller(
            id=gate,
            site_id=SITE,
            event_public_key=bytes(32),
            certificate_serial="1",
            software=None,
            registered_at=datetime.now(UTC),
        )
        controllers.register(connection, registered)
        doors.add(connection, Door(id=DoorId("gate"), controller_id=gate), name="Gate", now=datetime.now(UTC))
        add_person(connection)
    now = datetime.now(UTC)
    operators = Operators(database)
    link = operators.links.create(name="", role=Role.GUARD, now=now)
    operators.links.follow(link, name="Olufemi", password="correct horse battery", now=now)
    database.close()
    return tmp_path / "data"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "backup.key"
    assert hub("backup-key", path).exit_code == 0
    return path


def test_back_up_verify_and_restore(data: Path, key: Path, tmp_path: Path) -> None:
    """Each says what it did; the restored hub is whole, its tokens work on, and nobody's name or key was printed."""
    token = hub("token", "create", "--name", "bureau", "--data-dir", data).output.strip()
    file, new = tmp_path / "hub.backup", tmp_path / "new"
    made = hub("backup", file, "--key-file", key, "--data-dir", data)
    checked = hub("verify", file, "--key-file", key)
    restored = hub("restore", file, "--key-file", key, "--data-dir", new)
    verified = hub("verify", "--data-dir", new)
    assert [each.exit_code for each in (made, checked, restored, verified)] == [0, 0, 0, 0]
    assert verified.output == "nothing is wrong\n"
    assert "1 people, 1 cards" in made.output
    assert "Controllers send again what they still hold" in restored.output
    head = made.output.split("head of the audit log: ")[1].strip()
    assert hub("audit", "verify", "--data-dir", new, "--expect", head).exit_code == 0
    database = Database.at(new / "hub.sqlite")
    assert Operators(database).tokens.principal(token, datetime.now(UTC)) is not None
    database.close()
    said = "".join(each.output for each in (made, checked, restored, verified))
    secret = key.read_text().strip()
    for private in ("Ada", "Example", "Olufemi", "bureau", token, secret, secret.split(":")[1]):
        assert private not in said
        assert private.encode() not in file.read_bytes()
    again = hub("restore", file, "--key-file", key, "--data-dir", new)
    assert (again.exit_code, "already" in again.output) == (1, True)


def test_programs_read_the_same_as_json(data: Path, key: Path, tmp_path: Path) -> None:
    """One document a command."""
    file = tmp_path / "hub.backup"
    made = json.loads(
        hub("backup", file, "--key-file", key, "--data-dir", data, "--days", 3, "--format", "json").output
    )
    assert made["bytes"] == file.stat().st_size
    assert made["rows"]["cards"] == 1
    lives = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["made_at"])
    assert lives == timedelta(days=3)
    AuditHead.parse(made["audit_head"])
    checked = json.loads(hub("verify", file, "--key-file", key, "--format", "json").output)
    assert (checked["is_expired"], checked["rows"]) == (False, made["rows"])
    where = ("--data-dir", tmp_path / "new", "--format", "json")
    assert json.loads(hub("restore", file, "--key-file", key, *where).output)["faults"] == []
    assert json.loads(hub("verify", *where).output) == {"faults": []}


def test_what_is_wrong_is_said_with_status_1(
    data: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cut file, another key, a key that others read, an expired backup, a changed log."""
    file, other, new = tmp_path / "hub.backup", tmp_path / "other.key", tmp_path / "new"
    assert hub("backup", file, "--key-file", key, "--data-dir", data).exit_code == 0
    assert hub("backup-key", other).exit_code == 0
    cut = tmp_path / "cut.backup"
    cut.write_bytes(file.read_bytes()[:-100])
    for arguments, said in (
        (("verify", cut, "--key-file", key), "cut off"),
        (("restore", cut, "--key-file", key, "--data-dir", new), "cut off"),
        (("verify", file, "--key-file", other), "this key does not open"),
        (("verify", key, "--key-file", key), "not a backup"),
        (("backup", file, "--key-file", key, "--data-dir", data), "is there already"),
        (("backup-key", key), "is there already"),
        (("backup", tmp_path / "b", "--key-file", tmp_path / "none", "--data-dir", data), "cannot be read"),
        (("backup", tmp_path / "b", "--key-file", key, "--data-dir", tmp_path / "x"), "no hub here yet"),
    ):
        done = hub(*arguments)
        assert (done.exit_code, said in done.output) == (1, True), done.output
    monkeypatch.setattr(backup_commands, "utc_now", lambda: datetime.now(UTC) + timedelta(days=31))
    checked = hub("verify", file, "--key-file", key)
    assert (checked.exit_code, "delete it" in checked.output) == (1, True)
    refused = hub("restore", file, "--key-file", key, "--data-dir", new)
    assert (refused.exit_code, "--expired" in refused.output) == (1, True)
    used = hub("restore", file, "--key-file", key, "--data-dir", new, "--expired", "no other is left")
    assert (used.exit_code, "no other is left" in used.output) == (0, True)
    key.chmod(0o644)
    assert "chmod 600" in hub("verify", file, "--key-file", key).output


def test_a_fault_that_was_backed_up_is_restored_and_named(data: Path, key: Path, tmp_path: Path) -> None:
    """Everything is there, and exit status 1 says that it was not sound before."""
    database = Database.at(data / "hub.sqlite")
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE audit SET subject = 'x' WHERE id = 1")
    database.close()
    assert hub("verify", "--data-dir", data).exit_code == 1
    file = tmp_path / "hub.backup"
    assert hub("backup", file, "--key-file", key, "--data-dir", data).exit_code == 0
    done = hub("restore", file, "--key-file", key, "--data-dir", tmp_path / "new")
    assert (done.exit_code, "entry 1 was changed" in done.output) == (1, True)
    database = Database.at(tmp_path / "new" / "hub.sqlite")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM cards").scalar() == 1
    database.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "x"),
        ("backup", "x", "--key-file", "k"),
        ("backup", "x", "--key-file", "k", "--data-dir", "d", "--days", "31"),
        ("restore", "--key-file", "k", "--data-dir", "d"),
        ("verify", "x"),
        ("verify", "--key-file", "k", "--data-dir", "d"),
        ("verify",),
    ],
)
def test_wrong_usage_is_status_2(arguments: tuple[str, ...], key: Path, tmp_path: Path) -> None:
    """A key or place that is not given, a lifetime longer than allowed."""
    assert hub(*(key if each == "k" else each for each in arguments)).exit_code == 2
    assert not (tmp_path / "d").exists()
