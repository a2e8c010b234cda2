from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text

from hub.store import (
    access_levels,
    areas,
    cardholders,
    cards,
    controllers,
    documents,
    doors,
    issuers,
    journals,
    schedules,
    sites,
)
from hub.store.cardholders import Cardholder, Category
from hub.store.cards import CardStatus
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.documents import Document
from hub.store.errors import AlreadyExists, InUse, NotFound
from hub.store.journals import Anomaly, AnomalyKind, Head
from hub.store.schema import holidays, metadata
from hub.store.sites import Site
from pacs.identifiers import (
    AccessLevelId,
    AreaId,
    CardholderId,
    ControllerId,
    CredentialId,
    DoorId,
    ScheduleId,
    SiteId,
)
from pacs.messages import DocumentKind
from pacs.revocation import Status
from pacs.rules import AccessLevel, AccessRule, Door, DoorMode
from pacs.schedule import ALWAYS, Schedule, Window
from tests.hub.databases import SITE, empty_database, make_site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
GATE = ControllerId("gate")
CARD = CredentialId(bytes(range(16)))
POLICY, REVOCATIONS = DocumentKind.POLICY, DocumentKind.REVOCATIONS


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = empty_database(tmp_path / "data" / "hub.sqlite")
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def furnished(database: Database) -> Database:
    with database.write() as connection:
        make_site(connection)
        controllers.register(
            connection,
            Controller(
                site_id=SITE,
                id=GATE,
                event_public_key=bytes(32),
                certificate_serial="0a",
                software=None,
                registered_at=NOW,
            ),
        )
        doors.add(connection, Door(id=DoorId("front"), controller_id=GATE), name="Front", now=NOW)
        schedules.add(
            connection,
            Schedule(id=ScheduleId("always"), windows=(ALWAYS,)),
            site_id=SITE,
            name="Always",
            now=NOW,
        )
        level = AccessLevel(
            id=AccessLevelId("residents"),
            rules=(AccessRule(door_id=DoorId("front"), schedule_id=ScheduleId("always")),),
        )
        access_levels.add(connection, level, site_id=SITE, name="Residents", now=NOW)
        cardholders.add(connection, person("p1"))
    return database


def person(name: str, *levels: str) -> Cardholder:
    return Cardholder(
        site_id=SITE,
        id=CardholderId(name),
        category=Category.RESIDENT,
        given_name="Ada",
        family_name="Example",
        access_level_ids=tuple(map(AccessLevelId, levels or ("residents",))),
        created_at=NOW,
    )


def test_migrations_build_the_schema_and_run_twice(database: Database) -> None:
    """What the migrations build is what the code expects, and a second start changes nothing."""
    database.migrate()
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_every_commit_is_durable_and_references_are_held(
    database: Database, tmp_path: Path, database_kind: str
) -> None:
    """SQLite runs in WAL mode with full synchronisation and foreign keys, in a file only its owner reads;
    PostgreSQL waits for its log to be on disk.
    """
    if database_kind == "postgresql":
        with database.read() as connection:
            assert connection.scalar(text("SHOW synchronous_commit")) == "on"
            assert connection.scalar(text("SHOW fsync")) == "on"
        return
    with database.read() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA synchronous")) == 2
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    assert (tmp_path / "data" / "hub.sqlite").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0


def test_an_exception_takes_the_whole_transaction_back(database: Database) -> None:
    """A write transaction that is left by an exception leaves nothing behind."""
    with database.write() as connection:
        make_site(connection)

    def interrupted() -> None:
        with database.write() as connection:
            sites.set_holiday(connection, SITE, date(2026, 12, 25), "Christmas")
            raise LookupError

    with pytest.raises(LookupError):
        interrupted()
    with database.read() as connection:
        assert sites.list_holidays(connection, SITE) == {}


def test_writers_wait_for_each_other_and_none_is_lost(database: Database) -> None:
    """Many threads that write at once all succeed; a nested transaction is refused at once."""
    with database.write() as connection:
        make_site(connection)

    def write(first: int) -> None:
        for day in range(first, first + 10):
            with database.write() as connection:
                connection.execute(
                    insert(holidays).values(
                        site_id=SITE, day=date(2026, 1, 1) + timedelta(days=day), name="x"
                    )
                )

    threads = [threading.Thread(target=write, args=(number * 10,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as connection:
        assert len(connection.execute(select(holidays)).all()) == 80
    with database.write(), pytest.raises(RuntimeError), database.write():
        pass


def test_instants_are_utc_whatever_zone_they_came_in(database: Database) -> None:
    """An instant given in another zone comes back as the same moment in UTC; a naive one is refused."""
    local = datetime(2026, 3, 2, 10, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    with database.write() as connection:
        sites.ensure(connection, Site(id=SITE, name="S", time_zone="Europe/Amsterdam", created_at=local))
    with database.read() as connection:
        found = sites.get(connection, SITE)
    assert found.created_at == local
    assert found.created_at.tzinfo is UTC
    with pytest.raises(Exception, match="aware"), database.write() as connection:
        issuers.trust(connection, "A" * 16, b"", datetime(2026, 1, 1))  # noqa: DTZ001 -- the point


def test_a_database_belongs_to_one_site(database: Database) -> None:
    """Opening a database with another site's keys is refused."""
    with database.write() as connection:
        sites.ensure(connection, Site(id=SiteId("one"), name="", time_zone="UTC", created_at=NOW))
        with pytest.raises(NotFound):
            sites.ensure(connection, Site(id=SiteId("two"), name="", time_zone="UTC", created_at=NOW))


def test_rules_come_back_as_they_were_stored(furnished: Database) -> None:
    """Doors, schedules and levels are read as the values that were written, also after a change."""
    door = Door(id=DoorId("front"), controller_id=GATE, mode=DoorMode.LOCKDOWN, unlock_ms=700, allow_v1=True)
    night = Window(weekdays=frozenset({4, 5}), start_minute=1_320, end_minute=1_500)
    schedule = Schedule(id=ScheduleId("night"), windows=(night,), holiday_windows=(ALWAYS,))
    level = AccessLevel(
        id=AccessLevelId("residents"),
        rules=(AccessRule(door_id=DoorId("front"), schedule_id=ScheduleId("night")),),
    )
    with furnished.write() as connection:
        schedules.add(connection, schedule, site_id=SITE, name="Night", now=NOW)
        doors.change(connection, door, name="Gate")
        access_levels.change(connection, level, name="Residents")
    with furnished.read() as connection:
        assert doors.get(connection, DoorId("front")).door == door
        assert schedules.get(connection, ScheduleId("night")).schedule == schedule
        assert [named.level for named in access_levels.list_all(connection)] == [level]
        assert cardholders.get(connection, CardholderId("p1")) == person("p1")


@pytest.mark.parametrize(
    "again",
    [
        lambda connection: cardholders.add(connection, person("p1")),
        lambda connection: doors.add(
            connection, Door(id=DoorId("front"), controller_id=GATE), name="", now=NOW
        ),
        lambda connection: controllers.register(
            connection,
            Controller(
                site_id=SITE,
                id=GATE,
                event_public_key=b"",
                certificate_serial="",
                software=None,
                registered_at=NOW,
            ),
        ),
    ],
)
def test_a_taken_id_is_refused(furnished: Database, again: object) -> None:
    """An id that is taken cannot be used again."""
    with pytest.raises(AlreadyExists), furnished.write() as connection:
        again(connection)  # type: ignore[operator]


@pytest.mark.parametrize(
    "dangling",
    [
        lambda connection: doors.add(
            connection, Door(id=DoorId("x"), controller_id=ControllerId("nowhere")), name="", now=NOW
        ),
        lambda connection: cardholders.add(connection, person("p2", "nothing")),
        lambda connection: cards.add(
            connection, credential_id=CARD, cardholder_id=CardholderId("nobody"), technology="t", now=NOW
        ),
        lambda connection: doors.change(connection, Door(id=DoorId("x"), controller_id=GATE), name=""),
        lambda connection: cards.get(connection, CARD),
        lambda connection: controllers.get(connection, ControllerId("nowhere")),
    ],
)
def test_what_is_not_there_cannot_be_named(furnished: Database, dangling: object) -> None:
    """A reference to something that is not there is refused and nothing of it is stored."""
    with pytest.raises(NotFound), furnished.write() as connection:
        dangling(connection)  # type: ignore[operator]


def test_cards_take_the_next_place_in_the_list(furnished: Database) -> None:
    """Each card has its own place in the revocation list, and only cards that are not valid are listed."""
    others = [CredentialId(bytes([n]) * 16) for n in range(3)]
    with furnished.write() as connection:
        for credential in others:
            cards.add(
                connection,
                credential_id=credential,
                cardholder_id=CardholderId("p1"),
                technology="pkoc-v2",
                now=NOW,
            )
        cards.set_status(connection, others[1], CardStatus.REVOKED, now=NOW)
        cards.set_status(connection, others[2], CardStatus.SUSPENDED, now=NOW)
    with furnished.read() as connection:
        assert [card.status_index for card in cards.list_all(connection)] == [0, 1, 2]
        assert cards.listed_statuses(connection, SITE) == {1: Status.INVALID, 2: Status.SUSPENDED}
        assert cards.list_size(connection, SITE) == 3
    with furnished.write() as connection:
        cards.set_carried(connection, SITE, 4)
        cards.set_carried(connection, SITE, 5, also=others[0])
        assert cards.status_versions(connection, others[0]) == {SITE: 5}
        assert cards.status_versions(connection, others[1]) == {SITE: 4}
        cards.set_status(connection, others[1], CardStatus.VALID, now=NOW)
        assert cards.status_versions(connection, others[1]) == {}


def document(kind: DocumentKind, version: int) -> Document:
    return Document(
        site_id=SITE,
        kind=kind,
        version=version,
        data=b"data%d" % version,
        digest=b"d",
        content_digest=b"c",
        cause="test",
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )


def test_a_later_confirmation_covers_earlier_versions(furnished: Database) -> None:
    """A controller that confirmed version 3 has version 2; one that lost its documents has neither any more."""
    with furnished.write() as connection:
        for version in (1, 2, 3):
            documents.add(connection, document(POLICY, version))
        documents.confirm(connection, GATE, POLICY, 3, NOW)
        documents.confirm(connection, GATE, POLICY, 3, NOW + timedelta(hours=1))
    with furnished.read() as connection:
        assert documents.confirmed_at(connection, SITE, POLICY, 2) == {GATE: NOW}
        assert documents.confirmed_at(connection, SITE, POLICY, 4) == {GATE: None}
        assert documents.confirmed_at(connection, SITE, REVOCATIONS, 1) == {GATE: None}
        assert documents.confirmed_versions(connection) == {(GATE, POLICY): 3}
        newest = documents.newest(connection, SITE, POLICY)
        assert newest == document(POLICY, 3)
    with furnished.write() as connection:
        assert documents.withdraw(connection, GATE, POLICY, above=1) == 1
        assert documents.confirmed_at(connection, SITE, POLICY, 2) == {GATE: None}


def test_versions_that_say_the_same_are_told_from_those_that_do_not(furnished: Database) -> None:
    """Renewed documents say what the first of them said, until one says something else."""
    with furnished.write() as connection:
        assert documents.said_since(connection, SITE, POLICY) == 0
        for version, content in ((1, b"a"), (2, b"b"), (3, b"b"), (4, b"b")):
            added = replace(document(POLICY, version), content_digest=content * 32)
            documents.add(connection, added)
        assert documents.said_since(connection, SITE, POLICY) == 2
        documents.add(connection, replace(document(POLICY, 5), content_digest=b"a" * 32))
        assert documents.said_since(connection, SITE, POLICY) == 5
        assert documents.said_since(connection, SITE, REVOCATIONS) == 0


def test_who_has_heard_of_a_key_statement(furnished: Database) -> None:
    """A controller has, once it confirmed any document with that version or a later one; live cards are told by issuer."""
    with furnished.write() as connection:
        assert documents.newest_statement(connection) == 0
        documents.add(connection, document(POLICY, 1))
        documents.add(connection, replace(document(POLICY, 2), signer=b"a" * 8, statement=7))
        documents.add(connection, replace(document(REVOCATIONS, 1), signer=b"b" * 8, statement=9))
        assert documents.newest_statement(connection) == 9
        assert documents.lacking_statement(connection, 7) == [(GATE, SITE)]
        documents.confirm(connection, GATE, POLICY, 1, NOW)
        assert documents.lacking_statement(connection, 7) == [(GATE, SITE)]
        documents.confirm(connection, GATE, POLICY, 2, NOW)
        assert documents.lacking_statement(connection, 7) == []
        assert documents.lacking_statement(connection, 8) == [(GATE, SITE)]
        documents.confirm(connection, GATE, REVOCATIONS, 1, NOW)
        assert documents.lacking_statement(connection, 8) == []
        assert documents.is_signer(connection, b"a" * 8, 7)
        assert not documents.is_signer(connection, b"a" * 8, 8)
        assert sum(issuers.live_cards(connection, NOW).values()) == len(cards.list_all(connection))


def test_who_holds_a_level_is_counted_and_told_with_their_others(furnished: Database) -> None:
    """All of them are counted; those whose validity has ended lose nothing by a change."""
    residents, staff = AccessLevelId("residents"), AccessLevelId("staff")
    with furnished.write() as connection:
        access_levels.add(connection, AccessLevel(id=staff, rules=()), site_id=SITE, name="Staff", now=NOW)
        cardholders.add(connection, person("p2", "residents", "staff"))
        cardholders.add(connection, replace(person("p3"), valid_until=NOW))
        cardholders.add(connection, replace(person("p4"), valid_until=NOW + timedelta(seconds=1)))
        assert access_levels.holders(connection, (residents, staff)) == {residents: 4, staff: 1}
        found = access_levels.held_with(connection, (residents,), NOW)
        assert sorted(map(sorted, found)) == [["residents"], ["residents"], ["residents", "staff"]]
        assert access_levels.held_with(connection, (staff,), NOW) == [{residents, staff}]


def test_an_area_goes_when_no_door_names_it(furnished: Database) -> None:
    """It is renamed at any time, and deleted once nothing leads into it or out into it."""
    house, yard = AreaId("house"), AreaId("yard")
    with furnished.write() as connection:
        for area_id in (house, yard):
            areas.add(connection, areas.Area(id=area_id, site_id=SITE, name="x", created_at=NOW))
        areas.rename(connection, house, "House")
        assert areas.get(connection, house).name == "House"
        door = doors.get(connection, DoorId("front")).door
        doors.change(connection, replace(door, area=house, outside=yard), name="Front")
        for area_id in (house, yard):
            with pytest.raises(InUse, match="front"):
                areas.remove(connection, area_id)
        doors.change(connection, door, name="Front")
        areas.remove(connection, house)
        assert [each.id for each in areas.list_all(connection)] == [yard]
        with pytest.raises(NotFound):
            areas.remove(connection, house)
        with pytest.raises(NotFound):
            areas.rename(connection, house, "x")


def test_presence_keeps_the_moment_it_began(furnished: Database) -> None:
    """``since`` moves only when online changes; ``last_seen`` with every sign of life."""
    later = NOW + timedelta(minutes=1)
    with furnished.write() as connection:
        controllers.saw(connection, GATE, NOW, online=True)
        controllers.saw(connection, GATE, later, online=True)
        state = controllers.state(connection, GATE, NOW)
        assert (state.online, state.since, state.last_seen) == (True, NOW, later)
        controllers.all_offline(connection, later)
        state = controllers.state(connection, GATE, NOW)
        assert (state.online, state.since, state.last_seen) == (False, later, later)


def test_a_retired_controller_gives_no_sign_of_life(furnished: Database) -> None:
    """What was on its way when a controller was withdrawn does not bring it back online."""
    with furnished.write() as connection:
        controllers.saw(connection, GATE, NOW, online=True)
        assert controllers.retire(connection, GATE, NOW)
        assert not controllers.retire(connection, GATE, NOW)
        controllers.saw(connection, GATE, NOW, online=True)
        assert not controllers.state(connection, GATE, NOW).online


def test_a_new_journal_replaces_the_old_one(furnished: Database) -> None:
    """Opening a journal marks the controller's earlier one as replaced and keeps its head."""
    old = Head(controller_id=GATE, journal_id="a" * 32, sequence=7, hash=b"h", opened_at=NOW)
    new = Head(controller_id=GATE, journal_id="b" * 32, sequence=0, hash=b"g", opened_at=NOW + timedelta(1))
    with furnished.write() as connection:
        journals.open_journal(connection, old)
        journals.open_journal(connection, new)
        first, second = journals.heads(connection)
    assert (first.sequence, first.replaced_at) == (7, new.opened_at)
    assert second == new


def test_the_same_anomaly_is_counted_not_repeated(furnished: Database) -> None:
    """A controller that repeats its mistake makes one row, not one a second."""
    anomaly = Anomaly(
        controller_id=GATE,
        kind=AnomalyKind.EVENTS_MISSING,
        detail="",
        at=NOW,
        first_sequence=3,
        last_sequence=5,
    )
    with furnished.write() as connection:
        assert journals.record(connection, anomaly)
        assert not journals.record(connection, anomaly)
        for _ in range(3):
            journals.set_aside(connection, GATE, topic="t", payload=b"x", cause="poison", now=NOW)
        assert journals.list_anomalies(connection, GATE) == [anomaly]
        assert journals.quarantined(connection) == 1


def test_a_growing_journals_mistake_is_one_row(furnished: Database) -> None:
    """The same first sequence with an ever later last one is the same anomaly; its end moves."""
    with furnished.write() as connection:
        for last in (5, 6, 7):
            anomaly = Anomaly(
                controller_id=GATE,
                kind=AnomalyKind.CHAIN_BROKEN,
                detail=f"to {last}",
                at=NOW + timedelta(seconds=last),
                first_sequence=3,
                last_sequence=last,
            )
            journals.record(connection, anomaly)
        (found,) = journals.list_anomalies(connection, GATE)
        assert (found.last_sequence, found.detail) == (7, "to 7")
        (doubt,) = journals.doubts(connection)[GATE]
        assert (doubt.kind, doubt.times) == (AnomalyKind.CHAIN_BROKEN, 3)
        assert doubt.last_at == NOW + timedelta(seconds=7)


def test_one_controller_does_not_take_the_room_of_others(furnished: Database) -> None:
    """What is set aside is bounded in bytes for each controller."""
    size = journals.QUARANTINE_BYTES
    most = journals.QUARANTINE_BYTES_EACH // size
    with furnished.write() as connection:
        for number in range(most + 5):
            payload = number.to_bytes(4, "big") * (size // 4)
            journals.set_aside(connection, GATE, topic="t", payload=payload, cause="poison", now=NOW)
        assert journals.quarantined(connection) == most
        journals.set_aside(
            connection, ControllerId("other"), topic="t", payload=b"x", cause="poison", now=NOW
        )
        assert journals.quarantined(connection) == most + 1
