"""A database of a hub with one site becomes one of a hub with several: nothing it holds is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from hub.store import (
    access_levels,
    cardholders,
    cards,
    controllers,
    documents,
    doors,
    operators,
    schedules,
    sites,
)
from hub.store.database import Database
from pacs.identifiers import CredentialId, SiteId
from pacs.messages import DocumentKind
from tests.hub.databases import empty_database

SITE = SiteId("wilgenoord")
CARD = "00000000-0000-4000-8000-000000000001"
ONE_SITE = """
INSERT INTO sites VALUES ('wilgenoord', 'Wilgenoord', 'Europe/Amsterdam', '2026-03-02 09:00:00+00:00');
INSERT INTO controllers (id, event_public_key, certificate_serial, registered_at)
VALUES ('gate', :blob, '0a', '2026-03-02 09:00:00+00:00');
INSERT INTO areas VALUES ('yard', 'Yard', '2026-03-02 09:00:00+00:00');
INSERT INTO doors (id, controller_id, name, mode, unlock_ms, extended_unlock_ms, held_open_after_s, max_policy_age_s,
    when_too_old, when_clock_untrusted, allow_v1, area, created_at)
VALUES ('front', 'gate', 'Front', 'secured', 5000, 15000, 30, 86400, 'deny', 'deny', false, 'yard',
    '2026-03-02 09:00:00+00:00');
INSERT INTO schedules VALUES ('always', 'Always', '[]', '[]', '2026-03-02 09:00:00+00:00');
INSERT INTO holidays VALUES ('2026-12-25', 'Christmas');
INSERT INTO access_levels VALUES ('residents', 'Residents', '2026-03-02 09:00:00+00:00');
INSERT INTO access_rules VALUES ('residents', 'front', 'always');
INSERT INTO cardholders (id, category, given_name, family_name, attended, extended_opening, created_at)
VALUES ('p1', 'resident', 'Ada', 'Example', false, false, '2026-03-02 09:00:00+00:00');
INSERT INTO cardholder_levels VALUES ('p1', 'residents');
INSERT INTO cards (credential_id, cardholder_id, technology, status_index, status, status_since, status_version,
    created_at)
VALUES ('00000000-0000-4000-8000-000000000001', 'p1', 'pkoc-v2', 0, 'suspended', '2026-03-02 09:00:00+00:00', 7,
    '2026-03-02 09:00:00+00:00');
INSERT INTO documents
VALUES ('revocations', 7, :blob, :blob, :blob, 'card.block', '2026-03-02 09:00:00+00:00', '2026-03-02 09:00:00+00:00');
INSERT INTO confirmations VALUES ('gate', 'revocations', 7, '2026-03-02 09:00:00+00:00');
INSERT INTO operators
VALUES ('0011223344556677', 'Night desk', 'night desk', 'guard', NULL, '2026-03-02 09:00:00+00:00', NULL)
"""
"""What a hub with one site held, by the schema before there were several."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = empty_database(tmp_path / "hub.sqlite")
    yield database
    database.close()


def migrated_to(database: Database, revision: str) -> None:
    configuration = Config()
    configuration.set_main_option("script_location", "hub/store/migrations")
    with database.write() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, revision)


def test_what_one_site_had_is_that_sites(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doors, people, rules, documents, confirmations and holidays go on; whoever could sign in sees every site."""
    monkeypatch.chdir(Path(__file__).parents[2])
    migrated_to(database, "0005")
    with database.write() as connection:
        for statement in ONE_SITE.split(";\n"):
            values = {"blob": bytes(32)} if ":blob" in statement else {}
            connection.execute(text(statement), values)
    database.migrate()
    with database.read() as connection:
        assert {each.site_id for each in controllers.list_all(connection)} == {SITE}
        (door,) = doors.list_all(connection, sites=(SITE,))
        assert (door.name, door.door.area) == ("Front", "yard")
        assert [each.level.rules[0].door_id for each in access_levels.list_all(connection, (SITE,))] == [
            "front"
        ]
        assert [each.name for each in schedules.list_all(connection, (SITE,))] == ["Always"]
        assert sites.list_holidays(connection, SITE) == {date(2026, 12, 25): "Christmas"}
        (person,) = cardholders.list_all(connection, sites=(SITE,))
        assert (person.given_name, person.access_level_ids) == ("Ada", ("residents",))
        assert set(cards.entitlements(connection, SITE)) == {CredentialId.parse(CARD)}
        assert cards.status_versions(connection, CredentialId.parse(CARD)) == {SITE: 7}
        assert documents.newest_versions(connection) == {(SITE, DocumentKind.REVOCATIONS): 7}
        confirmed = documents.confirmed_at(connection, SITE, DocumentKind.REVOCATIONS, 7)
        assert confirmed == {"gate": datetime(2026, 3, 2, 9, tzinfo=UTC)}
        assert connection.execute(text("SELECT sites FROM operators")).scalar_one() is None


def test_a_narrowed_token_may_do_what_it_could(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions that were parts of another one are said by themselves now; a token that names none has none to say."""
    monkeypatch.chdir(Path(__file__).parents[2])
    migrated_to(database, "0031")
    row = """INSERT INTO api_tokens (name, token_hash, role, created_at, permissions)
        VALUES (:name, :hash, 'reception', '2026-03-02 09:00:00+00:00', :held)"""
    with database.write() as connection:
        for name, held in (("narrow", '["names.read", "cardholders.manage"]'), ("wide", None)):
            connection.execute(text(row), {"name": name, "hash": name.encode(), "held": held})
    database.migrate()
    with database.read() as connection:
        found = {each.name: each.permissions for each in operators.list_tokens(connection)}
    assert found["wide"] is None
    assert found["narrow"] == ["cardholders.enrol", "cardholders.manage", "movements.read", "names.read"]


def test_a_new_database_has_no_site_until_it_is_told(database: Database) -> None:
    """The migrations run on nothing, too."""
    database.migrate()
    with database.read() as connection:
        assert sites.list_all(connection) == []
