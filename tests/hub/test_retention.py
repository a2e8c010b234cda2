"""What is kept for how long: looked for in the database, and in its files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from hub import completeness
from hub import holds as hold_rules
from hub.completeness import Cause
from hub.erasure import HeldBack, erase
from hub.periods import Periods
from hub.retention import Retention
from hub.store import cardholders, cards, controllers, doors, events, expiry, holds, photographs, roll
from hub.store.cardholders import Cardholder, Category
from hub.store.cards import CardStatus
from hub.store.database import Database
from hub.store.schema import events as event_rows
from hub.store.schema import idempotency_keys, legal_holds, quarantine, retention_runs
from pacs.errors import MalformedData
from pacs.events import Event, EventKind, genesis
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId, JournalId, SiteId
from pacs.reason import Reason
from pacs.rules import Door, Side
from tests.hub.databases import SITE, fresh_database, make_site

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 20, 12, 34, 56, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GATE, FRONT, ROOM = ControllerId("gate"), DoorId("front"), DoorId("room")
ADA, BEN = CardholderId("ada"), CardholderId("ben")
CARDS = {ADA: CredentialId(bytes(range(16))), BEN: CredentialId(bytes(range(16, 32)))}
GUARD, MANAGER, AUDITOR = "operator:guard", "operator:manager", "operator:auditor"


class Archive:
    """A database with two people, two doors and a clock that a test moves."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "hub.sqlite"
        self.database: Database = fresh_database(self.path)
        self.now = NOW
        self.sequence = 0
        self.told = 0
        self.begin_again()
        with self.database.write() as connection:
            make_site(connection)
            gate = controllers.Controller(
                id=GATE,
                site_id=SITE,
                event_public_key=bytes(32),
                certificate_serial="0a",
                software=None,
                registered_at=NOW,
            )
            controllers.register(connection, gate)
            for door in (FRONT, ROOM):
                doors.add(connection, Door(id=door, controller_id=GATE), name=door, now=NOW)
            for person, credential in CARDS.items():
                cardholders.add(connection, somebody(person))
                cards.add(
                    connection,
                    credential_id=credential,
                    cardholder_id=person,
                    technology="pkoc-v2",
                    now=NOW,
                )
                photographs.put(connection, person, b"JPEG of " + person.encode(), NOW)

    def begin_again(self) -> None:
        """Without events and holds, by a job that knows of none."""
        self.now = NOW
        self.job = Retention(self.database, Periods(), clock=lambda: self.now, site_changed=self._changed)
        with self.database.write() as connection:
            for table in (event_rows, legal_holds, retention_runs):
                connection.execute(delete(table))

    def _changed(self) -> None:
        self.told += 1

    def tapped(
        self,
        ago: timedelta,
        *,
        who: CardholderId = ADA,
        door: DoorId = FRONT,
        received_ago: timedelta | None = None,
        clock_trusted: bool = True,
        kind: EventKind = EventKind.ACCESS_GRANTED,
        controller: ControllerId = GATE,
    ) -> int:
        """An event as ingest stores it; its sequence."""
        self.sequence += 1
        credential = CARDS[who] if kind is EventKind.ACCESS_GRANTED else None
        draft = drafted(kind, self.now - ago, door, credential, clock_trusted=clock_trusted)
        event = Event(
            sequence=self.sequence, previous_hash=genesis(controller, JournalId("0" * 32)), draft=draft
        )
        row = events.row(
            controller,
            JournalId("0" * 32),
            event,
            bytes(event),
            self.now - (ago if received_ago is None else received_ago),
        )
        with self.database.write() as connection:
            events.add_many(connection, [row])
        return self.sequence

    def rows(self) -> dict[int, Any]:
        """Sequence → the row."""
        with self.database.read() as connection:
            return {row.sequence: row for row in connection.execute(select(event_rows))}

    def hold(self, *, confirmed: bool = True, site: SiteId = SITE, **about: Any) -> holds.Hold:
        facts: dict[str, Any] = {
            "cardholder_id": None,
            "door_id": None,
            "since": self.now - 20 * DAY,
            "until": self.now,
            "ends_at": self.now + 60 * DAY,
            "reason": "a complaint",
            "actor": MANAGER,
            "now": self.now,
        }
        with self.database.write() as connection:
            hold = hold_rules.request(connection, site, **(facts | about))
            if confirmed:
                hold = hold_rules.confirm(connection, hold.id, actor=AUDITOR, now=self.now)
        return hold


def drafted(
    kind: EventKind, at: datetime, door: DoorId, credential: CredentialId | None, *, clock_trusted: bool
) -> Any:
    from pacs.events import EventDraft

    return EventDraft(
        kind=kind,
        occurred_at=at,
        clock_trusted=clock_trusted,
        door_id=door,
        side=Side.ENTRY if credential else None,
        credential_id=credential,
        reason=Reason.ENTITLED if credential else None,
    )


def somebody(person: CardholderId, **facts: Any) -> Cardholder:
    return replace(
        Cardholder(
            id=person,
            site_id=SITE,
            category=Category.RESIDENT,
            given_name=f"{person}-given",
            family_name=f"{person}-family",
            access_level_ids=(),
            created_at=NOW,
            room="12a",
            external_id=f"case-{person}",
        ),
        **facts,
    )


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    archive = Archive(tmp_path)
    yield archive
    archive.database.close()


def test_precise_then_coarse_then_gone(archive: Archive) -> None:
    """72 hours: who, to the second; 30 days: the hour and the door; then nothing."""
    ancient, old, fresh = archive.tapped(31 * DAY), archive.tapped(73 * HOUR), archive.tapped(71 * HOUR)
    archive.job.run()
    rows = archive.rows()
    assert rows.keys() == {fresh, old}
    assert rows[fresh].credential_id == str(CARDS[ADA])
    assert rows[fresh].data
    coarse = rows[old]
    assert (coarse.coarse, coarse.credential_id, coarse.data) == (True, None, b"")
    assert (coarse.door_id, coarse.reason) == (FRONT, Reason.ENTITLED)
    assert coarse.occurred_at == (NOW - 73 * HOUR).replace(minute=0, second=0)
    assert ancient not in rows
    archive.now += 30 * DAY
    latest = archive.tapped(timedelta())
    archive.job.run()
    assert archive.rows().keys() == {latest}


def test_no_number_of_an_event_is_given_twice(archive: Archive) -> None:
    """The newest event stays, without a name and with its hour, until another one arrives: who reads on reads on."""
    only = archive.tapped(40 * DAY)
    archive.job.run()
    number = archive.rows()[only].id
    assert archive.rows()[only].coarse
    later = archive.tapped(timedelta())
    archive.job.run()
    assert archive.rows().keys() == {later}
    assert archive.rows()[later].id > number


def test_lists_say_what_is_no_longer_kept(archive: Archive) -> None:
    """A time of which it is not kept who passed is never called complete (rule R2)."""
    archive.tapped(80 * HOUR)
    archive.job.run()
    with archive.database.read() as connection:
        old, *_ = completeness.proven(
            connection, NOW, since=NOW - 5 * DAY, until=NOW - 4 * DAY, door_ids=[FRONT]
        )
    assert not old.complete
    assert Cause.EXPIRED in {hole.cause for hole in old.unknown}


def test_the_bytes_of_neighbours_go_too(archive: Archive) -> None:
    """The hash of the event before stands in the one behind it: with that, who it was could be searched for."""
    archive.tapped(73 * HOUR)
    behind = archive.tapped(73 * HOUR, kind=EventKind.DOOR_FORCED)
    archive.tapped(timedelta())
    archive.job.run()
    row = archive.rows()[behind]
    assert (row.data, row.coarse) == (b"", False)
    assert row.occurred_at == NOW - 73 * HOUR


def test_what_arrives_late_is_not_kept_longer_for_it(archive: Archive) -> None:
    """A door that was away for four days: its taps are coarse at once; by a clock nobody trusts, from arrival on."""
    late = archive.tapped(4 * DAY, received_ago=timedelta())
    doubtful = archive.tapped(4 * DAY, received_ago=timedelta(), clock_trusted=False)
    archive.job.run()
    assert archive.rows()[late].coarse
    assert not archive.rows()[doubtful].coarse
    archive.now += 73 * HOUR
    archive.job.run()
    assert archive.rows()[doubtful].coarse


def test_doors_have_a_period_of_their_own(archive: Archive) -> None:
    """What happened to a door names nobody and stays precise until its time is over."""
    archive.job.periods = Periods(doors=60 * DAY)
    forced = archive.tapped(40 * DAY, kind=EventKind.DOOR_FORCED)
    latest = archive.tapped(timedelta(), kind=EventKind.DOOR_FORCED)
    archive.job.run()
    assert archive.rows()[forced].occurred_at == NOW - 40 * DAY
    archive.now += 21 * DAY
    archive.job.run()
    assert archive.rows().keys() == {latest}


@pytest.mark.parametrize(
    "periods",
    [
        {"precise": timedelta(hours=73)},
        {"coarse": timedelta(days=31)},
        {"coarse": timedelta(hours=1)},
        {"doors": timedelta(days=1)},
        {"precise": timedelta()},
    ],
)
def test_nobody_keeps_longer_than_may_be(periods: dict[str, timedelta]) -> None:
    """The longest periods stand in the program, not in a setting."""
    with pytest.raises(MalformedData, match="retention"):
        Periods(**periods)


def test_a_hold_keeps_what_it_is_about_and_nothing_else(archive: Archive) -> None:
    """One person at one door in one interval; when it is lifted, that goes, too."""
    mine, others = archive.tapped(5 * DAY), archive.tapped(5 * DAY, who=BEN)
    elsewhere, earlier = archive.tapped(5 * DAY, door=ROOM), archive.tapped(9 * DAY)
    hold = archive.hold(cardholder_id=ADA, door_id=FRONT, since=NOW - 6 * DAY)
    archive.job.run()
    assert {sequence for sequence, row in archive.rows().items() if not row.coarse} == {mine}
    assert {others, elsewhere, earlier} < archive.rows().keys()
    archive.now += 40 * DAY
    latest = archive.tapped(timedelta(), who=BEN)
    archive.job.run()
    assert archive.rows().keys() == {mine, latest}
    with archive.database.write() as connection:
        hold_rules.lift(connection, hold.id, reason="settled", actor=MANAGER, now=archive.now)
    archive.job.run()
    assert archive.rows().keys() == {latest}


def test_a_hold_needs_a_second_person_within_two_days(archive: Archive) -> None:
    """Until then what was asked for is kept; unconfirmed it goes; whoever asked cannot agree."""
    kept = archive.tapped(71 * HOUR)
    hold = archive.hold(confirmed=False)
    with archive.database.write() as connection, pytest.raises(hold_rules.SamePerson):
        hold_rules.confirm(connection, hold.id, actor=MANAGER, now=archive.now)
    archive.now += 47 * HOUR
    archive.job.run()
    assert not archive.rows()[kept].coarse
    archive.now += 2 * HOUR
    archive.job.run()
    assert archive.rows()[kept].coarse
    with archive.database.write() as connection, pytest.raises(hold_rules.HoldOver):
        hold_rules.confirm(connection, hold.id, actor=AUDITOR, now=archive.now)


def test_a_hold_ends_by_itself(archive: Archive) -> None:
    """Its end is part of it."""
    kept = archive.tapped(71 * HOUR)
    archive.hold(ends_at=NOW + 10 * DAY)
    archive.now += 9 * DAY
    archive.job.run()
    assert not archive.rows()[kept].coarse
    archive.now += 2 * DAY
    archive.job.run()
    assert archive.rows()[kept].coarse


def test_leavers_are_forgotten(archive: Archive) -> None:
    """30 days after their validity ended: no name, no photograph, no room; their cards stay revoked."""
    with archive.database.write() as connection:
        cardholders.change(connection, somebody(ADA, valid_until=NOW - 31 * DAY))
    archive.job.run()
    assert archive.told == 1
    with archive.database.read() as connection:
        assert [each.id for each in cardholders.list_all(connection)] == [BEN]
        assert cards.get(connection, CARDS[ADA]).status is CardStatus.REVOKED
        assert cards.get(connection, CARDS[BEN]).status is CardStatus.VALID
        assert CARDS[ADA] in cards.entitlements(connection, SITE)
    archive.job.run()
    assert archive.told == 1


def test_nobody_under_a_hold_is_forgotten(archive: Archive) -> None:
    """Neither by the job nor by hand."""
    archive.hold(cardholder_id=ADA)
    with archive.database.write() as connection:
        cardholders.change(connection, somebody(ADA, valid_until=NOW - 31 * DAY))
        with pytest.raises(HeldBack):
            erase(connection, ADA, reason="asked for", actor=MANAGER, now=NOW)
    archive.job.run()
    with archive.database.read() as connection:
        assert cardholders.get(connection, ADA).given_name == "ada-given"


def test_what_was_set_aside_is_emptied_too(archive: Archive) -> None:
    """A message that could not be stored may say who it was."""
    row = {
        "controller_id": GATE,
        "topic": "t",
        "payload": b"who",
        "digest": bytes(32),
        "cause": "chain_broken",
        "received_at": NOW - 4 * DAY,
    }
    with archive.database.write() as connection:
        connection.execute(insert(quarantine).values(row))
    archive.job.run()
    with archive.database.read() as connection:
        assert connection.scalar(select(quarantine.c.payload)) == b""


def test_a_late_job_is_seen(archive: Archive) -> None:
    """What should have gone more than an hour ago is overdue, and a job that never ran is late."""
    archive.tapped(74 * HOUR)
    assert archive.job.state().overdue_since is not None
    assert archive.job.state().is_late(archive.now)
    archive.job.run()
    state = archive.job.state()
    assert (state.overdue_since, state.is_late(archive.now)) == (None, False)
    assert state.runs["precise"] == (archive.now, 1)


TAPS = st.lists(
    st.tuples(
        st.integers(0, 40 * 24), st.integers(0, 40 * 24), st.booleans(), st.sampled_from([FRONT, ROOM])
    ),
    max_size=6,
)
HELD = st.lists(
    st.tuples(
        st.integers(1, 30), st.sampled_from([ADA, BEN, None]), st.sampled_from([FRONT, None]), st.booleans()
    ),
    max_size=2,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(taps=TAPS, held=HELD, later_h=st.integers(0, 35 * 24))
def test_nothing_is_precise_beyond_its_bound_unless_it_is_held(
    archive: Archive, taps: Any, held: Any, later_h: int
) -> None:
    """For any taps, holds and times: who it was is known no longer than 72 hours, and 30 days later nothing is."""
    archive.begin_again()
    for ago_h, received_h, trusted, door in taps:
        archive.tapped(
            ago_h * HOUR,
            who=BEN if door == ROOM else ADA,
            door=door,
            received_ago=min(ago_h, received_h) * HOUR,
            clock_trusted=trusted,
        )
    kept = [
        archive.hold(since=NOW - days * DAY, cardholder_id=person, door_id=door, confirmed=confirmed)
        for days, person, door, confirmed in held
    ]
    archive.now += later_h * HOUR
    archive.job.run()
    rows = archive.rows()
    newest = max((row.id for row in rows.values()), default=0)
    for row in rows.values():
        person = next((who for who, card in CARDS.items() if str(card) == row.credential_id), None)
        is_held = any(
            hold.keeps(archive.now)
            and (
                events.hour(hold.since) <= row.occurred_at < hold.until
                if row.clock_trusted
                else row.received_at >= events.hour(hold.since)
            )
            and hold.door_id in (None, row.door_id)
            and hold.cardholder_id in (None, person)
            for hold in kept
        )
        age = archive.now - row.received_at
        if row.clock_trusted:
            age = max(age, archive.now - row.occurred_at)
        assert age <= 30 * DAY + HOUR or is_held or row.id == newest
        assert row.credential_id is None or age <= 72 * HOUR or is_held
        assert bool(row.data) is (row.credential_id is not None)


def test_a_clock_that_was_wrong_for_a_while_takes_nothing_along(archive: Archive) -> None:
    """Rows that were stamped long ago among newer ones: only their own time counts."""
    fresh = [archive.tapped(30 * HOUR) for _ in range(6)]
    odd = [archive.tapped(30 * HOUR, received_ago=9_000 * DAY) for _ in range(3)]
    latest = archive.tapped(timedelta())
    archive.job.run()
    rows = archive.rows()
    assert set(fresh) | {latest} <= rows.keys()
    assert not any(rows[each].coarse for each in fresh)
    assert not set(odd) & rows.keys()


def test_a_hold_keeps_what_a_doubtful_clock_recorded(archive: Archive) -> None:
    """By when it was received: such events are the likeliest to be in dispute; and the hour a hold begins in is whole."""
    doubtful = archive.tapped(9_000 * DAY, received_ago=5 * DAY, clock_trusted=False)
    archive.hold(since=NOW - 6 * DAY)
    archive.tapped(timedelta())
    archive.job.run()
    assert not archive.rows()[doubtful].coarse


def test_the_roll_is_called_from_what_retention_left(archive: Archive) -> None:
    """A command whose bytes are gone does not end the roll call."""
    archive.tapped(80 * HOUR, kind=EventKind.COMMAND_EXECUTED)
    archive.tapped(timedelta())
    archive.job.run()
    with archive.database.read() as connection:
        assert roll.traces(connection, list(EventKind), after=0, limit=10)


def test_names_do_not_stay_with_keys_of_requests(archive: Archive) -> None:
    """An answer that is kept for who asks again goes after a day, whether or not anybody asks."""
    row = {
        "actor": MANAGER,
        "key": "k",
        "fingerprint": bytes(32),
        "attempt": "a",
        "state": "answered",
        "begun_at": NOW - 25 * HOUR,
    }
    with archive.database.write() as connection:
        connection.execute(insert(idempotency_keys).values(row))
    archive.job.run()
    with archive.database.read() as connection:
        assert connection.execute(select(idempotency_keys)).all() == []


def test_what_is_let_go_of_is_never_taken_for_kept(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter than before: said before the first row goes, if the run breaks off, too. Longer again: what went stays gone."""

    def full(*_: object) -> None:
        raise OSError("the disk is full")

    def reduced_before() -> datetime | None:
        with archive.database.read() as connection:
            return expiry.reduced_before(connection)

    def ran(precise: timedelta) -> None:
        archive.job = Retention(
            archive.database,
            Periods(precise=precise),
            clock=lambda: archive.now,
            site_changed=lambda: None,
        )
        archive.job.run()

    ran(3 * DAY)
    archive.tapped(2 * DAY)
    with monkeypatch.context() as broken:
        broken.setattr(expiry, "coarsen", full)
        with pytest.raises(OSError, match="full"):
            ran(DAY)
    assert reduced_before() == NOW - DAY
    ran(DAY)
    archive.now += HOUR
    ran(3 * DAY)
    assert reduced_before() == NOW - DAY
