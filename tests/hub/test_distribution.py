from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, select

from hub.distribution import CHUNK_TAKES_S, DRAFTS, FIRST_RETRY_S, LONGEST_RETRY_S, Distribution
from hub.documents import Draft, SiteDocuments
from hub.keys import SigningKey
from hub.live import Confirmed, ControllerChanged, EventStored, LiveBus, Missed
from hub.store import (
    access_levels,
    cardholders,
    cards,
    controllers,
    documents,
    doors,
    issuers,
    schedules,
    schema,
    sites,
)
from hub.store.cardholders import Cardholder, Category
from hub.store.cards import CardStatus
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.errors import NotFound
from hub.store.sites import Site
from pacs import bundle
from pacs.card.p256 import encode_point
from pacs.envelope import trusted_keys
from pacs.events import EventKind
from pacs.identifiers import (
    AccessLevelId,
    CardholderId,
    ControllerId,
    CredentialId,
    DoorId,
    ScheduleId,
    SiteId,
)
from pacs.messages import DocumentAssembler, DocumentChunk, DocumentKind
from pacs.reason import Reason
from pacs.revocation import Status, StatusList
from pacs.rules import AccessLevel, AccessRule, Door
from pacs.schedule import ALWAYS, Schedule
from tests.hub.controller import SmallHub, eventually, small_hub
from tests.hub.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sqlalchemy import Connection

    from pacs.topics import DownTopic

SITE = SiteId("test-site")
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
CARD = CredentialId(bytes(range(16)))
ISSUER_POINT = encode_point(ec.derive_private_key(7, ec.SECP256R1()).public_key())
GATE = ControllerId("gate")
POLICY, REVOCATIONS = DocumentKind.POLICY, DocumentKind.REVOCATIONS


def add_person(connection: Any, credential_id: CredentialId = CARD) -> None:
    """One resident with one card, who may pass the door ``gate`` at all times."""
    schedules.add(
        connection, Schedule(id=ScheduleId("always"), windows=(ALWAYS,)), site_id=SITE, name="Always", now=NOW
    )
    rule = AccessRule(door_id=DoorId("gate"), schedule_id=ScheduleId("always"))
    access_levels.add(
        connection,
        AccessLevel(id=AccessLevelId("residents"), rules=(rule,)),
        site_id=SITE,
        name="Residents",
        now=NOW,
    )
    cardholders.add(
        connection,
        Cardholder(
            site_id=SITE,
            id=CardholderId("p1"),
            category=Category.RESIDENT,
            given_name="Ada",
            family_name="Example",
            access_level_ids=(AccessLevelId("residents"),),
            created_at=NOW,
        ),
    )
    cards.add(
        connection,
        credential_id=credential_id,
        cardholder_id=CardholderId("p1"),
        technology="pkoc-v2",
        now=NOW,
        valid_until=NOW + timedelta(days=400),
    )


# -- the documents themselves


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = fresh_database(tmp_path / "hub.sqlite")
    with database.write() as connection:
        sites.ensure(connection, Site(id=SITE, name="S", time_zone="Europe/Amsterdam", created_at=NOW))
        issuers.trust(connection, "DREMPELISSUER001", ISSUER_POINT, NOW)
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
        doors.add(
            connection,
            Door(id=DoorId("gate"), controller_id=GATE, max_policy_age_s=1_200),
            name="Gate",
            now=NOW,
        )
    yield database
    database.close()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def site_documents(key: Ed25519PrivateKey) -> SiteDocuments:
    return SiteDocuments(signing=lambda: SigningKey(key=key))


def test_the_policy_says_what_the_database_says(
    database: Database, site_documents: SiteDocuments, key: Ed25519PrivateKey
) -> None:
    """Door, level, schedule, holiday, issuer, time zone and entitlement are in the bundle, and no name."""
    with database.write() as connection:
        add_person(connection)
        sites.set_holiday(connection, SITE, date(2026, 12, 25), "Christmas")
        document = site_documents.issue(connection, SITE, POLICY, cause="test", now=NOW)
    policy = bundle.open_bundle(document.data, trusted_keys(key.public_key()))
    assert (policy.site_id, policy.version, policy.issued_at) == ("test-site", 1, NOW)
    assert policy.time_zone == "Europe/Amsterdam"
    assert policy.doors[DoorId("gate")].max_policy_age_s == 1_200
    assert policy.holidays == {date(2026, 12, 25)}
    assert policy.issuers == {"DREMPELISSUER001": ISSUER_POINT}
    entitlement = policy.entitlements[CARD]
    assert (entitlement.status_index, entitlement.access_level_ids) == (0, ("residents",))
    assert entitlement.valid_until == NOW + timedelta(days=400)
    assert b"Ada" not in document.data
    assert b"Example" not in document.data


def test_a_version_is_only_made_when_something_changed(
    database: Database, site_documents: SiteDocuments
) -> None:
    """The same content makes no new version; another makes the next; the kinds count by themselves."""
    with database.write() as connection:
        for kind in DocumentKind:
            assert site_documents.issue_if_changed(connection, SITE, kind, cause="first", now=NOW) is not None
            assert site_documents.issue_if_changed(connection, SITE, kind, cause="again", now=NOW) is None
        add_person(connection)
        policy = site_documents.issue_if_changed(connection, SITE, POLICY, cause="person", now=NOW)
        assert site_documents.issue_if_changed(connection, SITE, REVOCATIONS, cause="person", now=NOW) is None
        assert policy is not None
        assert policy.version == 2
        above = site_documents.issue(connection, SITE, POLICY, cause="restored", now=NOW, above=40)
        assert above.version == 41


def test_a_new_card_is_within_the_list_from_the_start(
    database: Database, site_documents: SiteDocuments, key: Ed25519PrivateKey
) -> None:
    """The list reaches beyond the cards there are, so that a card issued later is valid and not unlisted."""
    with database.write() as connection:
        document = site_documents.issue(connection, SITE, REVOCATIONS, cause="test", now=NOW)
        add_person(connection)
        card = cards.get(connection, CARD)
    listed = StatusList.open(document.data, trusted_keys(key.public_key()))
    assert listed.status(card.status_index) is Status.VALID


# -- the thread, with a fake broker and a fake monotonic clock


class Wire:
    """Collects what is sent, whole documents only."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, DocumentKind, int]] = []
        self._assemblers: dict[str, DocumentAssembler] = {}

    def __call__(self, topic: DownTopic, payload: bytes) -> None:
        chunk = DocumentChunk.from_bytes(payload)
        if self._assemblers.setdefault(topic.controller_id, DocumentAssembler()).add(chunk) is not None:
            self.sent.append((topic.controller_id, chunk.kind, chunk.version))

    def take(self) -> list[tuple[str, DocumentKind, int]]:
        sent, self.sent = self.sent, []
        return sent


class Turn:
    """Distribution turned by hand: ``run`` does what the thread does once."""

    def __init__(self, database: Database, site_documents: SiteDocuments) -> None:
        self.wire = Wire()
        self.room = 1_000
        self.seconds = 1_000.0
        self.distribution = Distribution(
            database,
            site_documents,
            publish=self.wire,
            clock=lambda: NOW + timedelta(seconds=self.seconds - 1_000),
            monotonic=lambda: self.seconds,
            has_room=lambda: len(self.wire.sent) < self.room,
        )

    def run(self, later_s: float = 0.0) -> list[tuple[str, DocumentKind, int]]:
        self.seconds += later_s
        self.distribution._issue()
        self.distribution._push()
        return self.wire.take()


@pytest.fixture
def turn(database: Database, site_documents: SiteDocuments) -> Turn:
    return Turn(database, site_documents)


def test_revocations_go_first_and_are_repeated_until_confirmed(turn: Turn) -> None:
    """A controller that is online gets what it lacks again at growing intervals, until it confirms."""
    assert turn.run() == [("gate", REVOCATIONS, 1), ("gate", POLICY, 1)]
    assert turn.run(10) == []  # not known to be online
    turn.distribution.said(GATE, {POLICY: 0, REVOCATIONS: 0}, hello=True)
    assert turn.run() == [("gate", REVOCATIONS, 1), ("gate", POLICY, 1)]
    turn.distribution.applied(GATE, POLICY, 1)
    repeated = [turn.run(1) for _ in range(20)]
    assert [number for number, sent in enumerate(repeated) if sent == [("gate", REVOCATIONS, 1)]] == [
        1,
        5,
        13,
    ]
    turn.distribution.gone(GATE)
    assert turn.run(LONGEST_RETRY_S) == []
    turn.distribution.said(GATE, {POLICY: 1, REVOCATIONS: 0}, hello=True)
    assert turn.run() == [("gate", REVOCATIONS, 1)]
    turn.distribution.said(GATE, {POLICY: 1, REVOCATIONS: 1}, hello=False)
    assert turn.run(LONGEST_RETRY_S) == []


def test_without_room_on_the_way_documents_wait_and_none_is_lost(turn: Turn) -> None:
    """What the connection cannot take comes next, at once and without anything twice, what blocks cards still first."""
    turn.room = 1
    assert turn.run() == [("gate", REVOCATIONS, 1)]
    assert turn.distribution._work_is_waiting()
    turn.room = 0
    assert turn.run() == []
    turn.room = 1
    assert turn.run() == [("gate", POLICY, 1)]
    assert turn.run() == []


def test_a_refusal_is_not_answered_with_the_same_again(turn: Turn) -> None:
    """After a refusal the same version is left alone for a while; a new one goes out at once."""
    turn.run()
    turn.distribution.said(GATE, {POLICY: 0, REVOCATIONS: 1}, hello=True)
    assert turn.run() == [("gate", POLICY, 1)]
    turn.distribution.refused(GATE, POLICY)
    assert turn.run(LONGEST_RETRY_S) == []


def test_a_door_that_is_ahead_moves_the_hub_on(turn: Turn) -> None:
    """A hub restored from an old copy issues above what a door already holds; a mad claim is not believed."""
    turn.run()
    turn.distribution.said(GATE, {POLICY: 30, REVOCATIONS: 2**52}, hello=True)
    assert turn.run() == [("gate", POLICY, 31)]


def test_a_hello_before_the_documents_are_loaded_is_not_forgotten(turn: Turn) -> None:
    """The first door to greet a restored hub is ahead of it, and need not say so again."""
    turn.distribution.said(GATE, {POLICY: 30, REVOCATIONS: 2**52}, hello=True)
    assert ("gate", POLICY, 31) in turn.run() + turn.run()


def test_a_version_that_is_held_and_not_confirmed_is_not_believed(turn: Turn) -> None:
    """Who says to hold the version in force without an event for it soon gets one above, ever less often."""
    turn.run()
    issued = [1]
    for _ in range(60):
        turn.distribution.said(
            GATE, {REVOCATIONS: issued[-1], POLICY: 1}, hello=False, unproven={REVOCATIONS}
        )
        sent = turn.run(1)
        if sent:
            assert sent == [("gate", REVOCATIONS, issued[-1] + 1)]
            issued.append(issued[-1] + 1)
    assert len(issued) == 4  # after 5, 10 and 20 seconds
    turn.distribution.applied(GATE, REVOCATIONS, issued[-1])
    assert turn.run(60) == []


def test_a_confirmation_in_time_needs_no_further_version(turn: Turn) -> None:
    """The event that is a moment behind the hello is waited for."""
    turn.run()
    turn.distribution.said(GATE, {REVOCATIONS: 1, POLICY: 1}, hello=True, unproven={REVOCATIONS})
    assert turn.run(1) == []
    turn.distribution.applied(GATE, REVOCATIONS, 1)
    assert turn.run(60) == []


def test_renewals_leave_nothing_behind(turn: Turn, database: Database) -> None:
    """Hundreds of versions that only have other dates: a few rows, no audit entry, the first confirmation stays."""
    turn.run()

    def rows() -> list[int]:
        with database.read() as connection:
            return [
                connection.scalar(select(func.count()).select_from(table)) or 0
                for table in (schema.documents, schema.confirmations, schema.audit)
            ]

    most = [0, 0, 0]
    for _ in range(100):
        turn.run(400)
        with database.write() as connection:
            newest = documents.required_newest(connection, SITE, REVOCATIONS)
            documents.confirm(connection, GATE, REVOCATIONS, newest.version, newest.created_at)
        most = [max(pair) for pair in zip(most, rows(), strict=True)]
    assert newest.version > 50
    assert most == [6, 2, 2]
    with database.read() as connection:
        first = documents.confirmed_at(connection, SITE, REVOCATIONS, 1)[GATE]
    assert first is not None
    assert first < NOW + timedelta(seconds=1_000)


def test_documents_are_issued_anew_before_doors_find_them_too_old(turn: Turn, database: Database) -> None:
    """Within a door's bound of 1,200 s there is a newer version, though nothing changed."""
    turn.run()
    ages: list[timedelta] = []
    for _ in range(40):
        turn.run(60)
        at = NOW + timedelta(seconds=turn.seconds - 1_000)
        with database.read() as connection:
            ages += [
                at - documents.required_newest(connection, SITE, kind).created_at for kind in DocumentKind
            ]
    assert max(ages) < timedelta(seconds=600)
    with database.read() as connection:
        assert 4 <= documents.required_newest(connection, SITE, POLICY).version <= 12


def test_changes_in_a_hurry_become_one_version(turn: Turn, database: Database) -> None:
    """Two changes within the spacing are in one version, and none is forgotten."""
    turn.run()
    turn.distribution.site_changed()
    with database.write() as connection:
        add_person(connection)
    assert turn.run(0.1) == []
    sites_change = date(2026, 12, 25)
    with database.write() as connection:
        sites.set_holiday(connection, SITE, sites_change, "Christmas")
    turn.distribution.site_changed()
    assert turn.run(0.5) == [("gate", POLICY, 2)]
    assert turn.run(5) == []


def test_a_large_document_is_given_time_and_never_sent_twice_at_once(
    turn: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending again waits longer the more chunks there are, also when the controller says hello meanwhile."""
    monkeypatch.setattr("pacs.messages.CHUNK_BYTES", 8)
    turn.run()
    chunks = len(turn.distribution._chunks[SITE, POLICY])
    takes_s = CHUNK_TAKES_S * (chunks - 1)
    assert takes_s > FIRST_RETRY_S
    turn.distribution.said(GATE, {POLICY: 0, REVOCATIONS: 1}, hello=True)
    assert turn.run() == [("gate", POLICY, 1)]  # what was sent to nobody is not under way
    assert turn.run(takes_s / 2) == []
    turn.distribution.said(GATE, {POLICY: 0, REVOCATIONS: 1}, hello=True)
    assert turn.run(takes_s / 2 - 0.1) == []
    assert turn.run(0.2) == [("gate", POLICY, 1)]
    assert turn.run(takes_s + FIRST_RETRY_S - 0.1) == []
    assert turn.run(0.2) == [("gate", POLICY, 1)]
    turn.distribution.gone(GATE)
    turn.distribution.said(GATE, {POLICY: 0, REVOCATIONS: 1}, hello=True)
    assert turn.run() == [("gate", POLICY, 1)]  # nothing is under way to who was gone


class Interrupted(SiteDocuments):
    """Documents whose drafts are overtaken: ``meanwhile`` runs behind each snapshot."""

    meanwhile: list[Callable[[], object]] = []  # noqa: RUF012 -- a fixture gives each test its own

    def draft(self, connection: Connection, site_id: SiteId, kind: DocumentKind, *, now: datetime) -> Draft:
        """Draw up, and let somebody else write before it is issued."""
        draft = SiteDocuments.draft(self, connection, site_id, kind, now=now)
        if kind is POLICY and self.meanwhile:
            self.meanwhile.pop(0)()
        return draft


@pytest.mark.parametrize("overtaken", [1, 2])
def test_a_version_overtaken_while_it_was_drawn_up_loses_nothing(
    database: Database,
    key: Ed25519PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    overtaken: int,
) -> None:
    """Another hub issues a newer policy behind the snapshot: the older one never comes after it."""
    other = SiteDocuments(signing=lambda: SigningKey(key=key))
    days = [date(2026, 12, number + 1) for number in range(overtaken)]

    def change(day: date) -> None:
        with database.write() as connection:
            sites.set_holiday(connection, SITE, day, "Feast")
            other.issue(connection, SITE, POLICY, cause="another hub", now=NOW)

    monkeypatch.setattr(Interrupted, "meanwhile", [partial(change, day) for day in days])
    turn = Turn(database, Interrupted(signing=lambda: SigningKey(key=key)))
    turn.run()
    with database.read() as connection:
        newest = documents.required_newest(connection, SITE, POLICY)
    assert newest.version == overtaken
    assert bundle.open_bundle(newest.data, trusted_keys(key.public_key())).holidays == set(days)


def test_a_version_that_is_always_overtaken_is_made_while_others_wait(
    database: Database, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few drafts in vain a version with every change is issued all the same."""
    other = SiteDocuments(signing=lambda: SigningKey(key=key))
    days = [date(2026, 12, number + 1) for number in range(DRAFTS + 1)]

    def overtake(day: date) -> None:
        with database.write() as connection:
            other.issue(connection, SITE, POLICY, cause="another hub", now=NOW)
            sites.set_holiday(connection, SITE, day, "Feast")

    turn = Turn(database, Interrupted(signing=lambda: SigningKey(key=key)))
    turn.run()
    monkeypatch.setattr(Interrupted, "meanwhile", [partial(overtake, day) for day in days[1:]])
    with database.write() as connection:
        sites.set_holiday(connection, SITE, days[0], "Feast")
    turn.distribution.site_changed()
    assert turn.run(1) == [("gate", POLICY, 1 + DRAFTS + 1)]
    with database.read() as connection:
        newest = documents.required_newest(connection, SITE, POLICY)
    assert bundle.open_bundle(newest.data, trusted_keys(key.public_key())).holidays == set(days)


def test_a_change_while_a_version_is_drawn_up_is_in_the_next(
    database: Database, key: Ed25519PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change that the snapshot missed is told, and makes a version of its own."""
    turn = Turn(database, Interrupted(signing=lambda: SigningKey(key=key)))
    turn.run()

    def change() -> None:
        with database.write() as connection:
            sites.set_holiday(connection, SITE, date(2026, 12, 26), "Boxing Day")
        turn.distribution.site_changed()

    monkeypatch.setattr(Interrupted, "meanwhile", [change])
    with database.write() as connection:
        sites.set_holiday(connection, SITE, date(2026, 12, 25), "Christmas")
    turn.distribution.site_changed()
    assert turn.run(1) == [("gate", POLICY, 2)]
    assert not turn.distribution.is_settled
    assert turn.run(1) == [("gate", POLICY, 3)]
    with database.read() as connection:
        newest = documents.required_newest(connection, SITE, POLICY)
    holidays = bundle.open_bundle(newest.data, trusted_keys(key.public_key())).holidays
    assert holidays == {date(2026, 12, 25), date(2026, 12, 26)}


# -- the whole, with three controllers and a real broker


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[SmallHub]:
    assert database_kind
    with small_hub(tmp_path_factory.mktemp("hub"), "gate", "yard", "west") as hub:
        with hub.database.write() as connection:
            add_person(connection)
        hub.link.site_changed()
        yield hub


def test_a_block_reaches_every_door_and_the_hub_says_where_it_has_not(hub: SmallHub) -> None:
    """Two doors confirm a block at once; the third, offline, is named as lacking it until it returns."""
    names = ("gate", "yard", "west")
    fakes = {name: hub.controller(name) for name in names}
    for fake in fakes.values():
        fake.connect()
        fake.wait_online()
    eventually(lambda: all(min(fake.versions.values()) for fake in fakes.values()), "first documents")
    fakes["west"].drop()
    blocked = hub.link.revocation.block(CARD, CardStatus.SUSPENDED, reason="lost", actor="operator:test")
    assert blocked.card.status is CardStatus.SUSPENDED
    assert {each.door_id for each in blocked.confirmations} == set(names)
    assert all(each.confirmed_at is None for each in blocked.confirmations)

    def confirmed() -> set[str]:
        found = hub.link.revocation.distribution_of(CARD)
        assert found.versions == blocked.versions
        return {each.door_id for each in found.confirmations if each.confirmed_at is not None}

    eventually(lambda: confirmed() == {"gate", "yard"}, "two doors")
    lacking = [
        each for each in hub.link.revocation.distribution_of(CARD).confirmations if not each.confirmed_at
    ]
    assert [each.door_id for each in lacking] == ["west"]
    eventually(lambda: not hub.link.revocation.distribution_of(CARD).confirmations[1].online, "west is away")
    fakes["west"].connect()
    eventually(lambda: confirmed() == set(names), "all doors")
    again = hub.link.revocation.block(CARD, CardStatus.SUSPENDED, reason="again", actor="operator:test")
    assert again.versions == blocked.versions
    reinstated = hub.link.revocation.reinstate(CARD, reason="found", actor="operator:test")
    assert reinstated.versions[hub.site.id] > blocked.versions[hub.site.id]
    eventually(lambda: fakes["gate"].versions[REVOCATIONS] == reinstated.versions[hub.site.id], "reinstated")
    for fake in fakes.values():
        fake.disconnect()


def test_a_block_of_an_unknown_card_changes_nothing(hub: SmallHub) -> None:
    """Blocking a card that is not there is refused, as is a block to the status valid."""
    with hub.database.read() as connection:
        before = documents.required_newest(connection, SITE, REVOCATIONS).version
    with pytest.raises(NotFound):
        hub.link.revocation.block(
            CredentialId(bytes(16)), CardStatus.REVOKED, reason="lost", actor="operator:test"
        )
    with pytest.raises(ValueError, match="suspended or revoked"):
        hub.link.revocation.block(CARD, CardStatus.VALID, reason="", actor="operator:test")
    with hub.database.read() as connection:
        assert documents.required_newest(connection, SITE, REVOCATIONS).version == before


def test_a_refusal_is_stored_and_the_door_is_not_confirmed(hub: SmallHub) -> None:
    """A controller that refuses a version stays unconfirmed, with the refusal among its events."""
    gate = hub.controller("gate")
    gate.confirms = False
    gate.connect()
    gate.wait_online()
    eventually(lambda: gate.received, "a document")
    gate.record(EventKind.POLICY_REFUSED, reason=Reason.SIGNER_UNKNOWN, details={"kind": REVOCATIONS.value})
    gate.until_acknowledged()
    found = hub.link.revocation.distribution_of(CARD)
    assert [each.confirmed_at for each in found.confirmations if each.door_id == "gate"] == [None]
    gate.disconnect()


def test_what_happens_is_seen_as_it_happens(hub: SmallHub) -> None:
    """A subscriber hears of a controller coming, of an event stored and of a confirmation."""

    def concerns_yard(heard: Any) -> bool:
        return bool(heard.controller_id == "yard")

    async def listen() -> list[Any]:
        heard: list[Any] = []
        with hub.live.subscribe() as subscription:
            yard = hub.controller("yard")
            await asyncio.to_thread(yard.connect)
            async with asyncio.timeout(30):
                async for event in subscription:
                    heard.append(event)
                    kinds = {type(each) for each in heard if concerns_yard(each)}
                    if {EventStored, Confirmed, ControllerChanged} <= kinds:
                        break
            await asyncio.to_thread(yard.disconnect)
        return heard

    heard = asyncio.run(listen())
    stored = [each for each in heard if isinstance(each, EventStored) and concerns_yard(each)]
    assert stored[0].kind is EventKind.POLICY_APPLIED
    assert hub.live.subscribers == 0


def test_a_subscriber_that_falls_behind_is_told() -> None:
    """Whoever does not keep up gets one word that something was missed instead of an endless backlog."""

    async def listen() -> list[Any]:
        bus = LiveBus()
        with bus.subscribe(backlog=3) as subscription:
            for _ in range(4):
                bus.publish(ControllerChanged(controller_id=GATE))
            await asyncio.sleep(0)
            first = await anext(subscription)
            bus.publish(ControllerChanged(controller_id=GATE))
            return [first, await anext(subscription)]

    assert asyncio.run(listen()) == [Missed(), ControllerChanged(controller_id=GATE)]
