"""Who can open a door, what somebody can open, when, and why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hub.documents import LIFETIME, REFRESH, SiteDocuments
from hub.keys import SigningKey
from hub.questions import Findings, Questions, Verdict
from hub.store import (
    access_levels,
    cardholders,
    cards,
    controllers,
    documents,
    doors,
    issuers,
    schedules,
    sites,
)
from hub.store.cardholders import Cardholder, Category
from hub.store.cards import CardStatus
from hub.store.controllers import Controller
from hub.store.errors import NotFound
from hub.store.sites import Site
from pacs.card.p256 import encode_point
from pacs.decision import Outcome
from pacs.envelope import trusted_keys
from pacs.identifiers import (
    AccessLevelId,
    CardholderId,
    ControllerId,
    CredentialId,
    DoorId,
    ScheduleId,
    SiteId,
)
from pacs.messages import DocumentKind
from pacs.reason import Reason
from pacs.rules import AccessLevel, AccessRule, Door, DoorMode, ModeRule
from pacs.schedule import ALL_DAYS, ALWAYS, Schedule, Window
from tests.hub.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hub.store.database import Database

SITE = SiteId("s")
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)  # a Monday, ten o'clock in Amsterdam
ISSUER_POINT = encode_point(ec.derive_private_key(7, ec.SECP256R1()).public_key())
GATE, SHED = ControllerId("gate"), ControllerId("shed")
FRONT, BACK, STORE = DoorId("front"), DoorId("back"), DoorId("store")
OFFICE_HOURS = Window(weekdays=frozenset(range(5)), start_minute=8 * 60, end_minute=18 * 60)
CARDS = [CredentialId(bytes([number]) * 16) for number in range(4)]
RESIDENTS, STAFF = AccessLevelId("residents"), AccessLevelId("staff")


class Asked:
    """A site with two controllers and three doors, whose time is set by the test."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = NOW
        key = Ed25519PrivateKey.generate()
        self.site_documents = SiteDocuments(signing=lambda: SigningKey(key=key))
        self.questions = Questions(
            database, trusted=lambda: trusted_keys(key.public_key()), clock=lambda: self.now
        )

    def issue(self, cause: str = REFRESH) -> None:
        """Issue both documents."""
        with self.database.write() as connection:
            for kind in DocumentKind:
                self.site_documents.issue(connection, SITE, kind, cause=cause, now=self.now)

    def confirm(self, controller_id: ControllerId) -> None:
        """A controller confirms what is in force, and is online."""
        with self.database.write() as connection:
            for kind in DocumentKind:
                version = documents.required_newest(connection, SITE, kind).version
                assert documents.confirm(connection, controller_id, kind, version, self.now)
            controllers.saw(connection, controller_id, self.now, online=True)

    def at(self, door: DoorId, number: int, at: datetime | None = None) -> Verdict:
        """What is decided about one card at one door."""
        (found,) = [
            each for each in self.questions.who(door, at=at).verdicts if each.credential_id == CARDS[number]
        ]
        return found


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    database = fresh_database(tmp_path / "hub.sqlite")
    with database.write() as connection:
        sites.ensure(connection, Site(id=SITE, name="S", time_zone="Europe/Amsterdam", created_at=NOW))
        issuers.trust(connection, "DREMPELISSUER001", ISSUER_POINT, NOW)
        for name in (GATE, SHED):
            controllers.register(
                connection,
                Controller(
                    site_id=SITE,
                    id=name,
                    event_public_key=bytes(32),
                    certificate_serial=None,
                    software=None,
                    registered_at=NOW,
                ),
            )
        always = Schedule(id=ScheduleId("always"), windows=(ALWAYS,))
        office = Schedule(id=ScheduleId("office"), windows=(OFFICE_HOURS,))
        for schedule in (always, office):
            schedules.add(connection, schedule, site_id=SITE, name=schedule.id, now=NOW)
        by_day = ModeRule(schedule_id=office.id, mode=DoorMode.ATTENDED)
        for door in (
            Door(id=FRONT, controller_id=GATE),
            Door(id=BACK, controller_id=GATE, mode_rules=(by_day,)),
            Door(id=STORE, controller_id=SHED),
        ):
            doors.add(connection, door, name=door.id, now=NOW)
        residents = AccessLevel(
            id=RESIDENTS,
            rules=(
                AccessRule(door_id=FRONT, schedule_id=always.id),
                AccessRule(door_id=BACK, schedule_id=always.id),
            ),
        )
        staff = AccessLevel(id=STAFF, rules=(AccessRule(door_id=STORE, schedule_id=office.id),))
        for level in (residents, staff):
            access_levels.add(connection, level, site_id=SITE, name=level.id, now=NOW)
        people = [
            person("p0", RESIDENTS),
            person("p1", STAFF, category=Category.STAFF),
            person("p2", RESIDENTS, category=Category.VISITOR, valid_until=NOW + timedelta(days=2)),
            person("p3"),
        ]
        for each, credential_id in zip(people, CARDS, strict=True):
            cardholders.add(connection, each)
            cards.add(
                connection,
                credential_id=credential_id,
                cardholder_id=each.id,
                technology="pkoc-v2",
                now=NOW,
            )
    site = Asked(database)
    site.issue()
    yield site
    database.close()


def person(
    name: str,
    *levels: AccessLevelId,
    category: Category = Category.RESIDENT,
    valid_until: datetime | None = None,
) -> Cardholder:
    return Cardholder(
        site_id=SITE,
        id=CardholderId(name),
        category=category,
        given_name="Ada",
        family_name="Example",
        access_level_ids=levels,
        created_at=NOW,
        valid_until=valid_until,
    )


def reasons(found: Findings) -> dict[tuple[str, str], Reason]:
    return {(each.cardholder_id, each.door_id): each.in_force.reason for each in found.verdicts}


def test_who_can_open_a_door_and_why_not(asked: Asked) -> None:
    """Every card has the outcome and reason that the door's decision gives."""
    found = asked.questions.who(FRONT)
    assert reasons(found) == {
        ("p0", FRONT): Reason.ENTITLED,
        ("p1", FRONT): Reason.NO_ACCESS_LEVEL,
        ("p2", FRONT): Reason.ENTITLED,
        ("p3", FRONT): Reason.NO_ACCESS_LEVEL,
    }
    assert [each.in_force.outcome for each in found.verdicts] == [
        Outcome.GRANT,
        Outcome.DENY,
        Outcome.GRANT,
        Outcome.DENY,
    ]
    assert not found.more


def test_what_a_person_can_open(asked: Asked) -> None:
    """Every door is answered, those that stay shut too."""
    assert reasons(asked.questions.what(CardholderId("p0"))) == {
        ("p0", BACK): Reason.DOOR_ATTENDED,
        ("p0", FRONT): Reason.ENTITLED,
        ("p0", STORE): Reason.NO_ACCESS_LEVEL,
    }


def test_the_list_goes_on_where_it_stopped(asked: Asked) -> None:
    """Portions by credential id together are the whole list."""
    first = asked.questions.who(FRONT, limit=3)
    rest = asked.questions.who(FRONT, limit=3, after=first.verdicts[-1].credential_id)
    assert (first.more, rest.more) == (True, False)
    assert [each.credential_id for each in (*first.verdicts, *rest.verdicts)] == CARDS


def test_what_is_not_there_is_said(asked: Asked) -> None:
    """An unknown door or person is not an empty answer."""
    with pytest.raises(NotFound):
        asked.questions.who(DoorId("nowhere"))
    with pytest.raises(NotFound):
        asked.questions.who(FRONT, cardholder_id=CardholderId("nobody"))
    with pytest.raises(NotFound):
        asked.questions.what(CardholderId("nobody"))


def test_another_moment_is_judged_by_its_own_time(asked: Asked) -> None:
    """Long after the documents' dates it is the rules that answer, as the documents will have been renewed."""
    monday_evening = NOW.replace(hour=20)
    assert asked.at(STORE, 1).in_force.reason is Reason.ENTITLED
    assert asked.at(STORE, 1, at=monday_evening).in_force.reason is Reason.OUTSIDE_SCHEDULE
    in_a_month = NOW + timedelta(days=28)
    assert asked.at(STORE, 1, at=in_a_month).in_force.reason is Reason.ENTITLED
    assert asked.at(FRONT, 2, at=in_a_month).in_force.reason is Reason.CREDENTIAL_EXPIRED


def test_a_visitor_ends_by_themselves(asked: Asked) -> None:
    """The end of a person bounds every card of theirs, and the week says when."""
    (interval,) = asked.at(FRONT, 2).week
    assert (interval.since, interval.until) == (NOW, NOW + timedelta(days=2))


def test_the_week_has_the_schedules_hours(asked: Asked) -> None:
    """The intervals are those of the schedule on the wall clock; a holiday closes its day."""
    with asked.database.write() as connection:
        sites.set_holiday(connection, SITE, (NOW + timedelta(days=2)).date(), "Feast")
    asked.issue()
    week = asked.at(STORE, 1).week
    assert [(each.since.isoformat(), each.until.isoformat()) for each in week] == [
        ("2026-03-02T09:00:00+00:00", "2026-03-02T17:00:00+00:00"),
        ("2026-03-03T07:00:00+00:00", "2026-03-03T17:00:00+00:00"),
        ("2026-03-05T07:00:00+00:00", "2026-03-05T17:00:00+00:00"),
        ("2026-03-06T07:00:00+00:00", "2026-03-06T17:00:00+00:00"),
        ("2026-03-09T07:00:00+00:00", "2026-03-09T09:00:00+00:00"),
    ]
    assert {each.reason for each in week} == {Reason.ENTITLED}


def test_the_week_says_when_somebody_is_asked(asked: Asked) -> None:
    """A door that is attended by day refers by day and opens by night."""
    first, second, *_ = asked.at(BACK, 0).week
    assert (first.outcome, first.reason, first.until.hour) == (Outcome.REFER, Reason.DOOR_ATTENDED, 17)
    assert (second.outcome, second.since, second.until.hour) == (Outcome.GRANT, first.until, 7)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((150, 240), [("2026-03-28T01:30", "2026-03-28T03:00"), ("2026-03-29T01:00", "2026-03-29T02:00")]),
        ((60, 120), [("2026-03-28T00:00", "2026-03-28T01:00"), ("2026-03-29T00:00", "2026-03-29T01:00")]),
    ],
)
def test_the_week_follows_the_night_the_clocks_change(
    asked: Asked, window: tuple[int, int], expected: list[tuple[str, str]]
) -> None:
    """A window that begins in the skipped hour begins when the clocks have gone forward."""
    start_minute, end_minute = window
    night = Window(weekdays=ALL_DAYS, start_minute=start_minute, end_minute=end_minute)
    with asked.database.write() as connection:
        schedules.change(connection, Schedule(id=ScheduleId("office"), windows=(night,)), name="Night")
    asked.issue()
    at = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
    week = asked.at(STORE, 1, at=at).week
    found = [(f"{each.since:%Y-%m-%dT%H:%M}", f"{each.until:%Y-%m-%dT%H:%M}") for each in week]
    assert found[:2] == expected


def test_the_week_agrees_with_the_decision_at_every_hour(asked: Asked) -> None:
    """At any moment of the week the intervals say what the question about that moment says."""
    week = asked.at(BACK, 2).week
    for hour in range(7 * 24):
        moment = NOW + timedelta(hours=hour)
        said = asked.at(BACK, 2, at=moment).in_force
        (*covering,) = (each for each in week if each.since <= moment < each.until)
        outcomes = [(each.outcome, each.reason) for each in covering]
        assert outcomes == ([] if said.outcome is Outcome.DENY else [(said.outcome, said.reason)])


def test_a_door_is_judged_by_what_it_confirmed(asked: Asked) -> None:
    """A block that is in force and has not arrived leaves the card working there, and the answer says so."""
    assert asked.at(FRONT, 0).at_door is not None
    before = asked.at(FRONT, 0).at_door
    assert before is not None
    assert before.reason is Reason.POLICY_MISSING  # nothing was ever confirmed
    asked.confirm(GATE)
    assert not asked.at(FRONT, 0).differs
    with asked.database.write() as connection:
        cards.set_status(connection, CARDS[0], CardStatus.SUSPENDED, now=NOW)
    asked.issue("card.block")
    verdict = asked.at(FRONT, 0)
    assert verdict.differs
    assert verdict.in_force.reason is Reason.CREDENTIAL_SUSPENDED
    assert verdict.at_door is not None
    assert verdict.at_door.reason is Reason.ENTITLED
    basis = asked.questions.who(FRONT).doors[0]
    assert (basis.revocations_version, basis.revocations_in_force, basis.current) == (1, 2, False)
    asked.confirm(GATE)
    assert not asked.at(FRONT, 0).differs


def test_what_an_absent_door_goes_by_is_kept(asked: Asked) -> None:
    """However many versions follow, a door that is away is judged by its own, until that is too old."""
    asked.confirm(GATE)
    asked.confirm(SHED)
    with asked.database.write() as connection:
        cards.set_status(connection, CARDS[0], CardStatus.SUSPENDED, now=NOW)
    for _ in range(6):
        asked.now += timedelta(minutes=30)
        asked.issue()
        asked.confirm(SHED)
    verdict = asked.at(FRONT, 0)
    assert verdict.at_door is not None
    assert verdict.at_door.reason is Reason.ENTITLED
    assert verdict.in_force.reason is Reason.CREDENTIAL_SUSPENDED
    asked.now += timedelta(hours=1, minutes=1)
    asked.issue()
    aged = asked.at(FRONT, 0)
    assert aged.at_door is not None
    assert aged.at_door.reason is Reason.POLICY_TOO_OLD
    later = asked.at(FRONT, 0, at=asked.now + LIFETIME)
    assert later.at_door is not None
    assert later.at_door.reason is Reason.POLICY_TOO_OLD  # it is offline: nothing renews what it has


def test_what_is_no_longer_kept_is_said(asked: Asked) -> None:
    """Of a door whose version was let go nothing is claimed."""
    for _ in range(3):
        asked.issue()
    with asked.database.write() as connection:
        assert documents.confirm(connection, SHED, DocumentKind.POLICY, 1, NOW)
    verdict = asked.at(STORE, 1)
    assert verdict.at_door is None
    assert verdict.differs


def test_a_mode_that_was_ordered_counts_now_and_not_later(asked: Asked) -> None:
    """A lockdown that the door reports shuts it to everybody now; of tomorrow only the rules speak."""
    asked.confirm(GATE)
    with asked.database.write() as connection:
        health = {"doors": [{"door_id": FRONT, "mode": "lockdown", "cause": "command", "alarms": []}]}
        controllers.said(connection, GATE, health=health)
    assert asked.at(FRONT, 0).in_force.reason is Reason.DOOR_LOCKDOWN
    tomorrow = NOW + timedelta(days=1)
    assert asked.at(FRONT, 0, at=tomorrow).in_force.reason is Reason.ENTITLED


def test_a_door_without_a_believed_clock_says_so(asked: Asked) -> None:
    """Now the door's own distrust decides; about another time it is taken to be over."""
    asked.confirm(GATE)
    with asked.database.write() as connection:
        controllers.said(connection, GATE, clock_trusted=False)
    assert asked.at(FRONT, 0).in_force.reason is Reason.CLOCK_UNTRUSTED
    assert asked.at(FRONT, 0, at=NOW + timedelta(days=1)).in_force.reason is Reason.ENTITLED


def test_a_card_that_is_in_no_policy_yet_is_unlisted(asked: Asked) -> None:
    """Between its registration and the next version a card is refused, by its own reason."""
    with asked.database.write() as connection:
        cards.add(
            connection,
            credential_id=CredentialId(b"\xff" * 16),
            cardholder_id=CardholderId("p0"),
            technology="pkoc-v2",
            now=NOW,
        )
    *_, last = asked.questions.who(FRONT).verdicts
    assert (last.in_force.reason, last.week) == (Reason.CREDENTIAL_UNLISTED, ())
