"""Alarms: from a door's events and the hub's own watching, until somebody took note; and what is last known of a door."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from hub.alarms import AlarmBounds, Alarms, Noticed
from hub.live import LiveBus
from hub.roles import Role
from hub.settings import Settings
from hub.store import alarms as store
from hub.store import controllers, device_certificates, documents, door_state, doors, journals
from hub.store.alarms import Alarm, AlarmKind, Clearance
from hub.store.controllers import Controller
from hub.store.device_certificates import Because, DeviceCertificate
from hub.store.documents import Document
from hub.store.door_state import Contact
from hub.store.errors import NotFound
from hub.store.journals import Anomaly, AnomalyKind, Head
from hub.store.schema import doors as doors_table
from pacs.errors import MalformedData
from pacs.events import Event, EventDraft, EventKind
from pacs.identifiers import ControllerId, DoorId, JournalId
from pacs.messages import DocumentKind
from pacs.rules import Door, Side
from tests.hub.controller import FakeController, eventually
from tests.hub.databases import SITE, empty_address, fresh_database, make_site
from tests.hub.running import RunningHub, csrf_of, running_hub
from tests.hub.test_stream import listening

GATE, FRONT, BACK = ControllerId("gate"), DoorId("front"), DoorId("back")
JOURNAL = JournalId("0" * 32)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUNDS = AlarmBounds()
SECOND = timedelta(seconds=1)


class Bench:
    """Alarms over a real database with two doors at one controller, and a clock that a test moves."""

    def __init__(self, directory: Path) -> None:
        self.database = fresh_database(directory / "hub.sqlite")
        self.now = NOON
        self.sequence = 0
        with self.database.write() as connection:
            make_site(connection)
            controller = Controller(
                site_id=SITE,
                id=GATE,
                event_public_key=bytes(32),
                certificate_serial="00",
                software=None,
                registered_at=NOON,
            )
            controllers.register(connection, controller)
            for door_id in (FRONT, BACK):
                doors.add(connection, Door(id=door_id, controller_id=GATE), name=door_id, now=NOON)
        self.alarms = Alarms(self.database, LiveBus(), BOUNDS, lambda: self.now)

    def event(self, kind: EventKind, *, ago: timedelta = timedelta(), **fields: Any) -> Event:
        """The next event of the controller."""
        self.sequence += 1
        draft = EventDraft(kind=kind, occurred_at=self.now - ago, clock_trusted=True, **fields)
        return Event(sequence=self.sequence, previous_hash=bytes(32), draft=draft)

    def store(self, *events: Event) -> None:
        """One transaction of ingest."""
        with self.database.write() as connection:
            noticed = Noticed(connection, self.now)
            for event in events:
                noticed.see(GATE, JOURNAL, event)
            noticed.finish()

    def happens(self, kind: EventKind, **fields: Any) -> None:
        self.store(self.event(kind, **fields))

    def passes(self, duration: timedelta) -> None:
        """Time passes, and the hub looks."""
        self.now += duration
        self.alarms.look()

    def heard(self, *, online: bool = True, **facts: Any) -> None:
        """A heartbeat, or the last will."""
        with self.database.write() as connection:
            controllers.saw(connection, GATE, self.now, online=online)
            if facts:
                controllers.said(connection, GATE, **facts)

    def made(self, version: int, *confirmed: int) -> None:
        """A policy version was made, and others were confirmed."""
        with self.database.write() as connection:
            for kind in DocumentKind:
                document = Document(
                    site_id=SITE,
                    kind=kind,
                    version=version,
                    data=b"x",
                    digest=bytes(32),
                    content_digest=bytes([version]) * 32,
                    cause="",
                    created_at=self.now,
                    expires_at=self.now,
                )
                documents.add(connection, document)
                for each in confirmed:
                    documents.confirm(connection, GATE, kind, each, self.now)

    @property
    def all(self) -> list[Alarm]:
        with self.database.read() as connection:
            return store.listing(connection)

    @property
    def kinds(self) -> list[AlarmKind]:
        """Of what stands."""
        return [alarm.subject.kind for alarm in self.all if alarm.stands]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.database.close()


# -- from events ------------------------------------------------------------------------------------

CLEARED = EventKind.DOOR_ALARM_CLEARED
RAISED_AND_ENDED = [
    (AlarmKind.FORCED, EventKind.DOOR_FORCED, CLEARED, {"door_id": FRONT}, {"alarm": "forced"}),
    (AlarmKind.HELD, EventKind.DOOR_HELD, CLEARED, {"door_id": FRONT}, {"alarm": "held"}),
    (AlarmKind.TAMPER, EventKind.TAMPER_OPENED, EventKind.TAMPER_CLOSED, {"door_id": FRONT}, {}),
    (AlarmKind.FIRE, EventKind.FIRE_REPORTED, EventKind.FIRE_CLEARED, {}, {}),
    (
        AlarmKind.READER_LOST,
        EventKind.READER_LOST,
        EventKind.READER_RESTORED,
        {"door_id": FRONT, "side": Side.ENTRY},
        {},
    ),
    (
        AlarmKind.JOURNAL_FULL,
        EventKind.JOURNAL_FULL,
        EventKind.JOURNAL_RESTORED,
        {},
        {"cause": "journal_full"},
    ),
]


@pytest.mark.parametrize(("kind", "raises", "ends", "where", "details"), RAISED_AND_ENDED)
def test_a_doors_event_raises_and_another_ends(
    bench: Bench, kind: AlarmKind, raises: EventKind, ends: EventKind, where: Any, details: Any
) -> None:
    """Each with its own time; what is over and not taken note of stays open."""
    bench.happens(raises, ago=2 * SECOND, **where)
    (alarm,) = bench.all
    assert (alarm.subject.kind, alarm.since, alarm.stands) == (kind, NOON - 2 * SECOND, True)
    bench.now += SECOND
    bench.happens(ends, details=details, **where)
    (alarm,) = bench.all
    assert (alarm.cleared_at, alarm.clearance, alarm.closed_at) == (NOON + SECOND, Clearance.EVENT, None)
    bench.alarms.acknowledge(alarm.id, note="seen", actor="operator:1")
    assert bench.all[0].closed_at == bench.now


@pytest.mark.parametrize(
    "kind", sorted({*EventKind} - {each[1] for each in RAISED_AND_ENDED} - {EventKind.INTERNAL_FAULT})
)
def test_nothing_else_is_an_alarm(bench: Bench, kind: EventKind) -> None:
    """The pre-alarm least of all."""
    bench.happens(kind, door_id=FRONT, details={"mode": "secured", "cause": "policy"})
    assert bench.all == []


def test_an_alarm_is_raised_once(bench: Bench) -> None:
    """Neither the event again, nor another about what stands already, makes a second one."""
    forced = bench.event(EventKind.DOOR_FORCED, door_id=FRONT)
    bench.store(forced)
    bench.store(forced)
    bench.happens(EventKind.DOOR_FORCED, door_id=FRONT)
    assert len(bench.all) == 1
    bench.happens(CLEARED, door_id=FRONT, details={"alarm": "forced"})
    bench.store(forced)
    assert bench.kinds == []
    bench.happens(EventKind.DOOR_FORCED, door_id=FRONT)
    assert len(bench.all) == 2


def test_an_end_is_only_of_what_it_names(bench: Bench) -> None:
    """Another door's, another side's, and another kind stay."""
    bench.happens(EventKind.DOOR_FORCED, door_id=FRONT)
    bench.happens(EventKind.DOOR_FORCED, door_id=BACK)
    bench.happens(EventKind.DOOR_HELD, door_id=FRONT)
    bench.happens(EventKind.READER_LOST, door_id=FRONT, side=Side.ENTRY)
    bench.happens(EventKind.READER_LOST, door_id=FRONT, side=Side.EXIT)
    bench.happens(CLEARED, door_id=FRONT, details={"alarm": "forced"})
    bench.happens(EventKind.READER_RESTORED, door_id=FRONT, side=Side.EXIT)
    left = [(a.subject.kind, a.subject.door_id, a.subject.side) for a in bench.all if a.stands]
    assert left == [
        (AlarmKind.FORCED, BACK, None),
        (AlarmKind.HELD, FRONT, None),
        (AlarmKind.READER_LOST, FRONT, Side.ENTRY),
    ]


def test_a_controller_that_starts_says_again_what_is_still_so(bench: Bench) -> None:
    """A start ends what it would repeat, and says that this is how it ended."""
    bench.happens(EventKind.DOOR_FORCED, door_id=FRONT)
    bench.happens(EventKind.TAMPER_OPENED, door_id=BACK)
    bench.store(
        bench.event(EventKind.CONTROLLER_STARTED),
        bench.event(EventKind.TAMPER_OPENED, door_id=BACK),
    )
    assert [alarm.clearance for alarm in bench.all] == [Clearance.RESTARTED, Clearance.RESTARTED, None]
    assert bench.kinds == [AlarmKind.TAMPER]


def test_a_fault_is_over_once_it_is_acknowledged(bench: Bench) -> None:
    """Nothing at the door ends it; the next one is another alarm."""
    bench.happens(EventKind.INTERNAL_FAULT)
    bench.alarms.acknowledge(bench.all[0].id, note="", actor="operator:1")
    assert bench.all[0].clearance is Clearance.ACKNOWLEDGED
    bench.happens(EventKind.INTERNAL_FAULT)
    assert bench.kinds == [AlarmKind.CONTROLLER_FAULT]


# -- from watching ----------------------------------------------------------------------------------


def test_a_silent_controller_is_an_alarm_beyond_its_bound(bench: Bench) -> None:
    """Since when it was not heard; over when it is heard again; not before it was ever heard."""
    bench.passes(timedelta(days=1))
    assert bench.all == []
    bench.heard()
    bench.heard(online=False)
    gone = bench.now
    bench.passes(BOUNDS.silent_after - SECOND)
    assert bench.all == []
    bench.passes(SECOND)
    bench.passes(SECOND)
    (alarm,) = bench.all
    assert (alarm.subject.kind, alarm.since, alarm.said_by_door) == (AlarmKind.DOOR_SILENT, gone, False)
    bench.heard()
    bench.passes(SECOND)
    assert (bench.all[0].cleared_at, bench.all[0].clearance) == (bench.now, Clearance.SEEN)


def test_a_document_that_is_not_confirmed(bench: Bench) -> None:
    """By one that is there, beyond the bound; one that is away has its own alarm."""
    bench.made(1)
    bench.made(2, 1)
    bench.passes(timedelta(minutes=2))
    bench.heard()
    bench.now += BOUNDS.unconfirmed_after - SECOND
    bench.heard()
    bench.passes(timedelta())
    assert bench.all == []
    bench.passes(SECOND)
    assert bench.kinds == [AlarmKind.POLICY_UNCONFIRMED] * 2
    assert {alarm.subject.detail for alarm in bench.all} == {*DocumentKind}
    bench.made(3, 2, 3)
    bench.passes(SECOND)
    assert bench.kinds == []


def test_a_policy_beyond_the_doors_bound(bench: Bench) -> None:
    """Each door has its own; the alarm begins when the bound passed, whoever is online."""
    with bench.database.write() as connection:
        doors.change(connection, Door(id=BACK, controller_id=GATE, max_policy_age_s=60), name="Back")
    bench.heard()
    bench.made(1, 1)
    bench.heard(online=False)
    bench.passes(timedelta(seconds=61))
    (alarm,) = bench.all
    assert (alarm.subject.kind, alarm.subject.door_id) == (AlarmKind.POLICY_TOO_OLD, BACK)
    assert alarm.since == NOON + timedelta(seconds=60)
    bench.made(2, 2)
    bench.heard()
    bench.passes(SECOND)
    assert bench.kinds == []


def test_a_clock_that_is_not_believed(bench: Bench) -> None:
    """By the heartbeat; a controller that is away says nothing of it."""
    bench.heard(clock_trusted=False)
    bench.passes(SECOND)
    bench.heard(online=False)
    bench.passes(SECOND)
    assert bench.kinds == [AlarmKind.CLOCK_UNTRUSTED]
    bench.heard(clock_trusted=True)
    bench.passes(SECOND)
    assert bench.kinds == []


def test_a_certificate_that_is_not_renewed_in_time(bench: Bench) -> None:
    """From 25 days before its end, away or not, until the controller goes by a newer one; one that it does not take ends nothing."""

    def issued(serial: str, days: float) -> None:
        with bench.database.write() as connection:
            certificate = DeviceCertificate(
                serial=serial,
                controller_id=GATE,
                issued_at=bench.now,
                expires_at=bench.now + timedelta(days=days),
            )
            device_certificates.add(connection, certificate)

    def goes_by(serial: str, **said: datetime) -> None:
        with bench.database.write() as connection:
            device_certificates.in_use(connection, GATE, serial, bench.now, **said)

    issued("01", 90)
    goes_by("01")
    bench.passes(timedelta(days=64, hours=23))
    assert bench.kinds == []
    bench.passes(timedelta(hours=2))
    (overdue,) = bench.all
    assert (overdue.subject.kind, overdue.since) == (AlarmKind.RENEWAL_OVERDUE, NOON + timedelta(days=65))
    issued("02", 90)
    bench.passes(SECOND)
    assert bench.kinds == [AlarmKind.RENEWAL_OVERDUE]
    bench.alarms.acknowledge(overdue.id, note="", actor="system")
    goes_by("02")
    bench.passes(SECOND)
    assert bench.kinds == []
    assert bench.all[0].closed_at is not None
    with bench.database.write() as connection:
        device_certificates.revoke(connection, GATE, Because.REVOKED, bench.now)
        elsewhere = DeviceCertificate(serial="03", controller_id=GATE, issued_at=bench.now)
        device_certificates.add(connection, elsewhere)
    bench.passes(timedelta(days=90))
    assert bench.kinds == []
    goes_by("03", ends=bench.now + timedelta(days=24))
    bench.passes(SECOND)
    assert bench.kinds == [AlarmKind.RENEWAL_OVERDUE]


def test_a_full_journal_is_over_when_all_of_it_is_here(bench: Bench) -> None:
    """The oldest were given up; once the rest has arrived there is room."""
    head = Head(controller_id=GATE, journal_id=JOURNAL, sequence=4, hash=b"", opened_at=NOON)
    with bench.database.write() as connection:
        journals.open_journal(connection, head)
    bench.heard(journal_id=JOURNAL, last_sequence=5)
    bench.happens(EventKind.JOURNAL_FULL, details={"outcome": "drop_oldest"})
    bench.passes(SECOND)
    assert bench.kinds == [AlarmKind.JOURNAL_FULL]
    bench.heard(last_sequence=4)
    bench.passes(SECOND)
    assert bench.kinds == []


def test_a_record_that_is_broken(bench: Bench) -> None:
    """What does not fit rings once; after somebody took note, more of it within the hour is only counted."""

    def doubt(kind: AnomalyKind) -> None:
        with bench.database.write() as connection:
            Noticed(connection, bench.now).doubt(
                Anomaly(controller_id=GATE, kind=kind, detail="", at=bench.now)
            )

    for kind in (AnomalyKind.NOT_RUNNING, AnomalyKind.UNCLEAN_START, AnomalyKind.READER_LOST):
        doubt(kind)
    assert bench.all == []
    doubt(AnomalyKind.CHAIN_BROKEN)
    doubt(AnomalyKind.CHAIN_BROKEN)
    (alarm,) = bench.all
    assert (alarm.subject.kind, alarm.subject.detail) == (AlarmKind.RECORD_BROKEN, "chain_broken")
    bench.alarms.acknowledge(alarm.id, note="the technician knows", actor="operator:1")
    doubt(AnomalyKind.CHAIN_BROKEN)
    assert bench.kinds == []
    doubt(AnomalyKind.SIGNATURE_INVALID)
    bench.now += timedelta(hours=2)
    doubt(AnomalyKind.CHAIN_BROKEN)
    assert bench.kinds == [AlarmKind.RECORD_BROKEN] * 2


def test_who_is_no_longer_in_use_rings_no_longer(bench: Bench) -> None:
    """Withdrawing a controller ends whatever stood."""
    bench.heard()
    bench.happens(EventKind.TAMPER_OPENED, door_id=FRONT)
    with bench.database.write() as connection:
        controllers.retire(connection, GATE, bench.now)
    bench.passes(timedelta(hours=1))
    assert [alarm.clearance for alarm in bench.all] == [Clearance.WITHDRAWN]


def test_a_door_that_moved_leaves_no_alarm_behind(bench: Bench) -> None:
    """Its former controller will not say how it ended."""
    bench.happens(EventKind.DOOR_FORCED, door_id=FRONT)
    bench.happens(EventKind.DOOR_FORCED, door_id=BACK)
    other = ControllerId("other")
    with bench.database.write() as connection:
        made = Controller(
            site_id=SITE,
            id=other,
            event_public_key=bytes(32),
            certificate_serial="01",
            software=None,
            registered_at=NOON,
        )
        controllers.register(connection, made)
        connection.execute(update(doors_table).where(doors_table.c.id == FRONT).values(controller_id=other))
    bench.passes(SECOND)
    assert [alarm.clearance for alarm in bench.all] == [Clearance.WITHDRAWN, None]


# -- taking note ------------------------------------------------------------------------------------


def test_what_still_stands_comes_back(bench: Bench) -> None:
    """After the time for reminders, and again each time somebody took note; never once it is over."""
    bench.happens(EventKind.DOOR_HELD, door_id=FRONT)
    for _ in range(2):
        alarm = bench.alarms.acknowledge(bench.all[0].id, note="on my way", actor="operator:1")
        assert not alarm.reminds(bench.now)
        bench.now += BOUNDS.remind_after
        assert alarm.reminds(bench.now)
    bench.happens(CLEARED, door_id=FRONT, details={"alarm": "held"})
    (alarm,) = bench.all
    assert not alarm.reminds(bench.now)
    assert alarm.closed_at == bench.now
    again = bench.alarms.acknowledge(alarm.id, note="somebody else", actor="operator:2")
    assert (again.note, again.acknowledged_by) == ("on my way", "operator:1")


def test_an_unknown_alarm_cannot_be_acknowledged(bench: Bench) -> None:
    """It is said, not ignored."""
    with pytest.raises(NotFound):
        bench.alarms.acknowledge(7, note="", actor="operator:1")


# -- what is last known of a door -------------------------------------------------------------------


def test_contact_and_mode_are_kept_as_last_recorded(bench: Bench) -> None:
    """The last in order of the record, each with its own time; a start forgets what would be said again."""
    bench.store(
        bench.event(EventKind.DOOR_OPENED, door_id=FRONT, ago=3 * SECOND),
        bench.event(
            EventKind.DOOR_MODE_CHANGED, door_id=FRONT, details={"mode": "unlocked", "cause": "schedule"}
        ),
        bench.event(EventKind.DOOR_CLOSED, door_id=FRONT, ago=SECOND),
        bench.event(EventKind.DOOR_FORCED, door_id=BACK),
    )
    with bench.database.read() as connection:
        known = door_state.of_doors(connection)
    assert (known[FRONT].contact, known[FRONT].contact_at) == (Contact.CLOSED, NOON - SECOND)
    assert (known[FRONT].mode, known[FRONT].mode_cause, known[FRONT].mode_at) == (
        "unlocked",
        "schedule",
        NOON,
    )
    assert known[BACK].contact is Contact.OPEN
    bench.store(
        bench.event(EventKind.DOOR_CLOSED, door_id=BACK),
        bench.event(EventKind.CONTROLLER_STARTED),
        bench.event(EventKind.DOOR_OPENED, door_id=FRONT),
    )
    with bench.database.read() as connection:
        known = door_state.of_doors(connection)
    assert (known[FRONT].contact, known[FRONT].mode, known[BACK].contact) == (Contact.OPEN, None, None)


# -- over the network -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, database_kind: str) -> Iterator[RunningHub]:
    address = empty_address() if database_kind == "postgresql" else ""
    with running_hub(tmp_path_factory.mktemp("alarms"), database_url=address) as running:
        running.door("front", "Front door")
        running.door("kitchen", "Kitchen")
        running.until_confirmed()
        yield running


def alarm_of(program: httpx.Client, door: str, kind: str) -> Any:
    """The door's newest alarm of this kind, once there is one."""

    def newest() -> Any:
        found = program.get("/api/v1/alarms", params={"door": door, "kind": kind}).json()["alarms"]
        return found[-1] if found else None

    return eventually(newest, f"{kind} at {door}")


def recorded(controller: FakeController, kind: EventKind, **fields: Any) -> None:
    controller.record(kind, door_id=DoorId(controller.id), **fields)
    controller.until_acknowledged()


def test_from_the_door_to_the_list_and_back(hub: RunningHub) -> None:
    """A door is forced: listed and streamed; somebody takes note, audited; it closes, and is closed."""
    front = hub.controllers["front"]
    with hub.token(Role.GUARD) as guard, listening(hub.token(Role.GUARD)) as stream:
        stream.until("door")
        recorded(front, EventKind.DOOR_FORCED)
        _, _, streamed = stream.until("alarm", kind="forced")
        alarm = alarm_of(guard, "front", "forced")
        assert streamed == alarm
        assert (alarm["state"], alarm["rings"], alarm["late"]) == ("standing", True, False)
        assert alarm["doors"] == [{"id": "front", "name": "Front door"}]
        path = f"/api/v1/alarms/{alarm['id']}"
        noted = guard.post(f"{path}/acknowledge", json={"note": "The cleaner"}).json()
        assert (noted["state"], noted["note"], noted["rings"]) == ("acknowledged", "The cleaner", False)
        assert noted == guard.get(path).json() == stream.until("alarm", state="acknowledged")[2]
        (door,) = (d for d in guard.get("/api/v1/doors").json()["doors"] if d["id"] == "front")
        assert door["alarms"] == ["forced"]
        assert door["last_known"]["contact"] == "open"
        recorded(front, EventKind.DOOR_ALARM_CLEARED, details={"alarm": "forced"})
        stream.until("alarm", state="closed")
        assert guard.get("/api/v1/alarms", params={"open": True, "kind": "forced"}).json()["alarms"] == []
        assert guard.get("/api/v1/alarms", params={"open": False, "kind": "forced"}).json()["alarms"]
    with hub.token(Role.AUDITOR) as auditor:
        entries = auditor.get("/api/v1/audit").json()["entries"]
        assert auditor.post(f"{path}/acknowledge", json={}).status_code == 403
    found = [each for each in entries if each["action"] == "alarm.acknowledge"]
    assert (found[0]["subject"], found[0]["reason"]) == (f"alarm:{alarm['id']}", "The cleaner")


def test_what_arrives_late_says_so_and_does_not_ring_once_it_is_over(hub: RunningHub) -> None:
    """Forced three hours ago and closed since, all arriving at once: shown with its own time, for somebody to note."""
    kitchen = hub.controllers["kitchen"]
    kitchen.disconnect()
    then = datetime.now(UTC) - timedelta(hours=3)
    kitchen.journal.append(EventKind.DOOR_FORCED, door_id=DoorId("kitchen"), occurred_at=then)
    for minute in range(1, 5):
        at = then + timedelta(minutes=minute)
        details = {"alarm": "forced"} if minute == 1 else {}
        kind = EventKind.DOOR_ALARM_CLEARED if minute == 1 else EventKind.EXIT_REQUESTED
        kitchen.journal.append(kind, door_id=DoorId("kitchen"), occurred_at=at, details=details)
    with listening(hub.token(Role.GUARD)) as stream, hub.token(Role.GUARD) as guard:
        stream.until("door")
        kitchen.connect()
        kitchen.wait_online()
        eventually(lambda: kitchen.acknowledged >= 0, "the hub answered the hello")
        first = kitchen.journal.last_sequence - 4
        kitchen.send(first, first)  # its end is still to come, and the hub knows that something is
        alarm = alarm_of(guard, "kitchen", "forced")
        assert (alarm["late"], alarm["rings"], alarm["state"]) == (True, False, "standing")
        assert datetime.fromisoformat(alarm["since"]) == then.replace(
            microsecond=then.microsecond // 1000 * 1000
        )
        kitchen.until_acknowledged()
        assert alarm_of(guard, "kitchen", "forced")["state"] == "over"
        stream.until("alarm", kind="forced", state="over")
        mine = [data for name, _, data in stream.events if name == "alarm" and data["kind"] == "forced"]
        assert not any(data["rings"] for data in mine if data["doors"][0]["id"] == "kitchen")
        guard.post(f"/api/v1/alarms/{alarm['id']}/acknowledge", json={})


def test_a_late_alarm_that_still_stands_rings_once_everything_is_here(hub: RunningHub) -> None:
    """Nothing that is on its way can end it any more."""
    kitchen = hub.controllers["kitchen"]
    then = datetime.now(UTC) - timedelta(hours=1)
    recorded(kitchen, EventKind.TAMPER_OPENED, occurred_at=then)
    with hub.token(Role.GUARD) as guard:
        alarm = alarm_of(guard, "kitchen", "tamper")
        assert (alarm["late"], alarm["rings"]) == (True, True)
    recorded(kitchen, EventKind.TAMPER_CLOSED)


def test_a_door_that_is_away_is_never_shown_as_it_stands(hub: RunningHub) -> None:
    """Offline, its mode in force is unknown; what was known last stays, with when."""
    kitchen = hub.controllers["kitchen"]
    recorded(kitchen, EventKind.DOOR_CLOSED)
    kitchen.drop()

    def away() -> Any:
        with hub.token(Role.GUARD) as guard:
            (door,) = (d for d in guard.get("/api/v1/doors").json()["doors"] if d["id"] == "kitchen")
        return None if door["online"] else door

    door = eventually(away, "offline")
    assert door["effective_mode"] is None
    known = door["last_known"]
    assert known["contact"] == "closed"
    assert known["as_of"] == door["last_seen"]
    kitchen.connect()
    kitchen.wait_online()


def test_who_may_not_see_names_sees_no_operators(hub: RunningHub) -> None:
    """An auditor is shown that somebody took note, and the pseudonym of the audit log."""
    recorded(hub.controllers["front"], EventKind.TAMPER_OPENED)
    with hub.signed_in(Role.GUARD, "Olu") as guard, hub.token(Role.AUDITOR) as auditor:
        alarm = alarm_of(guard, "front", "tamper")
        headers = {"X-CSRF-Token": csrf_of(guard.get("/").text)}
        noted = guard.post(f"/api/v1/alarms/{alarm['id']}/acknowledge", json={}, headers=headers).json()
        seen = auditor.get(f"/api/v1/alarms/{alarm['id']}").json()
    assert noted["acknowledged_name"] == "Olu"
    assert (seen["acknowledged_name"], seen["acknowledged_by"]) == (None, noted["acknowledged_by"])
    recorded(hub.controllers["front"], EventKind.TAMPER_CLOSED)


def test_the_list_goes_on_where_it_ended(hub: RunningHub) -> None:
    """In the order in which the hub noticed, a portion at a time."""
    front = hub.controllers["front"]
    for _ in range(3):
        recorded(front, EventKind.DOOR_HELD)
        recorded(front, EventKind.DOOR_ALARM_CLEARED, details={"alarm": "held"})
    with hub.token(Role.GUARD) as guard:
        whole = guard.get("/api/v1/alarms").json()["alarms"]
        found: list[Any] = []
        after: int | None = 0
        while after is not None:
            answer = guard.get("/api/v1/alarms", params={"limit": 2, "after": after}).json()
            found += answer["alarms"]
            after = answer["next_after"]
    assert [each["id"] for each in found] == [each["id"] for each in whole]
    assert len(found) >= 3


def test_silence_is_noticed_without_an_event(tmp_path: Path) -> None:
    """The hub's own watching: the door goes away, and comes back; what the list cannot know it says."""
    with running_hub(tmp_path) as own, own.token(Role.GUARD) as guard:
        front = own.door("front", "Front door")
        front.drop()
        eventually(lambda: not guard.get("/api/v1/doors").json()["doors"][0]["online"], "offline")
        own.clock.ahead += BOUNDS.silent_after
        alarm = alarm_of(guard, "front", "door_silent")
        assert (alarm["state"], alarm["late"], alarm["rings"]) == ("standing", False, True)
        (record,) = guard.get("/api/v1/alarms").json()["completeness"]
        assert record["complete"] is False
        front.connect()
        eventually(lambda: alarm_of(guard, "front", "door_silent")["state"] == "over", "heard again")


@pytest.mark.parametrize("value", [9, 86_401, "900", True, 60.0])
def test_bounds_are_whole_seconds(tmp_path: Path, value: object) -> None:
    """From ten to a day; anything else is refused with its name."""
    written = tmp_path / "hub.toml"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    written.write_text(f'data_dir = "data"\n[alarms]\nremind_after_s = {text}\n')
    with pytest.raises(MalformedData, match="remind_after_s"):
        Settings.from_toml(written)
    written.write_text('data_dir = "data"\n[alarms]\nremind_after_s = 60\n')
    assert Settings.from_toml(written).alarms == AlarmBounds(remind_after=timedelta(minutes=1))
