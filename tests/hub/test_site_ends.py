"""The end of a site: what is refused, what is deleted and what stays, in the database and in its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, insert

from hub import audit, site_ends
from hub.__main__ import main
from hub.erasure import HeldBack
from hub.leases import leases_of
from hub.store import cardholders, cards, controllers, sites
from hub.store.cards import CardStatus
from hub.store.errors import NotFound
from hub.store.schema import idempotency_keys, legal_holds
from hub.store.site_ends import remaining
from hub.store.sites import Site
from pacs.identifiers import CardholderId, SiteId
from tests.hub.controller import eventually
from tests.hub.databases import SITE, in_use
from tests.hub.test_retention import ADA, CARDS, GATE, HOUR, NOW, Archive, somebody

OTHER = SiteId("other-site")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Two people, their cards revoked and their controller refused, a hundred taps, and somebody at another site."""
    made = Archive(tmp_path)
    for number in range(100):
        made.tapped(number * HOUR)
    with made.database.write() as connection:
        for card in CARDS.values():
            cards.set_status(connection, card, CardStatus.REVOKED, now=NOW)
        controllers.revoke(connection, GATE, NOW)
        sites.add(connection, Site(id=OTHER, name="Other", time_zone="Europe/Amsterdam", created_at=NOW))
        cardholders.add(connection, somebody(CardholderId("cleo"), site_id=OTHER))
        answered = {
            "actor": "token:bureau", "key": "1", "fingerprint": b"1", "attempt": "1", "state": "answered",
            "begun_at": NOW, "status": 201, "headers": {}, "body": b'{"given_name": "ada-given"}',
        }  # fmt: skip
        connection.execute(insert(idempotency_keys).values(answered))
    return made


def erased(archive: Archive) -> site_ends.Statement:
    return site_ends.erase(
        archive.database, SITE, reason="closed", actor=audit.SYSTEM, clock=lambda: archive.now
    )


def test_nothing_of_anybody_is_left(archive: Archive) -> None:
    """No name, photograph or external id is in a file of tables; the statement says how much went, 0 are left, the log the same."""

    def found(word: bytes) -> bool:
        files = in_use[-1].files() if in_use else archive.path.parent.iterdir()
        return any(word in path.read_bytes() for path in files)

    words = [b"ada-given", b"JPEG of ada", b"case-ada", b"JPEG of ben", bytes(CARDS[ADA])]
    assert all(map(found, words))
    if in_use:  # as the server does by itself: its planner keeps the commonest values
        with archive.database.write() as connection:
            connection.exec_driver_sql("ANALYZE")
    said = erased(archive)
    assert [word for word in words if found(word)] == []
    assert found(b"cleo-given")
    assert (said.deleted["cardholders"], said.deleted["events"]) == (
        2,
        99,
    )  # the newest stays, and says nothing
    assert set(said.remaining.values()) == {0}
    assert any("write-ahead log" in each for each in said.beyond_reach) is bool(in_use)
    with archive.database.read() as connection:
        assert str(audit.verify(connection, audit.AuditHead.parse(said.audit_head))) == said.audit_head
        assert remaining(connection, OTHER)["cardholders"] == 1
        assert cards.get(connection, CARDS[ADA]).status is CardStatus.REVOKED
    again = erased(archive)
    assert set(again.deleted.values()) == {0}
    archive.database.close()


def test_it_is_refused_while_something_is_good(archive: Archive) -> None:
    """An unknown site, a card that opens, a controller that is let in, and a legal hold: each is named, and nothing is deleted."""
    with pytest.raises(NotFound):
        site_ends.check(archive.database, SiteId("elsewhere"), NOW)
    hold = archive.hold()
    with pytest.raises(HeldBack):
        erased(archive)
    with archive.database.write() as connection:
        connection.execute(delete(legal_holds).where(legal_holds.c.id == hold.id))
        controllers.take_place(connection, GATE, event_public_key=bytes(32))
    with pytest.raises(site_ends.StillOpen, match="gate"):
        erased(archive)
    with archive.database.write() as connection:
        cards.set_status(connection, CARDS[ADA], CardStatus.SUSPENDED, now=NOW)
    with pytest.raises(site_ends.StillOpen, match="1 cards"):
        erased(archive)
    assert len(archive.rows()) == 100
    archive.database.close()


def test_the_command_wants_the_hub_to_be_stopped(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that runs has them in memory, too: nothing is deleted beside it, and its end is all that is missing."""
    command = [
        "site", "erase", SITE, "--reason", "closed", "--data-dir", str(archive.path.parent),
    ]  # fmt: skip
    if in_use:
        address = archive.database.engine.url.render_as_string(hide_password=False)
        monkeypatch.setenv("DREMPEL_DATABASE_URL", address)
    hub = leases_of(archive.database)
    hub.claim()
    hub.start(lambda _before, _now: None)
    eventually(lambda: hub.is_running, "a hub")
    refused = CliRunner().invoke(main, command)
    assert (refused.exit_code, "stop it first" in refused.output) == (1, True), refused.output
    assert len(archive.rows()) == 100
    hub.stop()
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    archive.database.close()
