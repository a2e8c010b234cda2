from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from hub import completeness, moves
from hub.inbox import Message
from hub.muster import Presence
from hub.periods import Periods
from hub.roll_call import RollCall
from hub.store import areas, cardholders, cards, controllers, doors, events, journals, sites
from hub.store.areas import Area
from hub.store.cardholders import Cardholder, Category
from pacs.events import EventKind
from pacs.identifiers import AreaId, CardholderId, ControllerId, CredentialId, DoorId
from pacs.messages import ControllerStatus
from pacs.rules import Door, Side
from pacs.topics import Up, UpTopic
from tests.hub.controller import MemoryJournal
from tests.hub.databases import SITE
from tests.hub.test_ingest import GATE, NOW, YARD, Desk

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

STEP = timedelta(minutes=30)
STEPS = 144
HOUSE, GARDEN = AreaId("house"), AreaId("garden")
FRONT, BACK, FAR = DoorId("front"), DoorId("back"), DoorId("far")
LEADS = {FRONT: (HOUSE, None), BACK: (HOUSE, None), FAR: (GARDEN, HOUSE)}
PEOPLE = [CardholderId(f"person-{number}") for number in range(6)]
CARDS = {who: CredentialId(bytes([65 + number]) * 16) for number, who in enumerate(PEOPLE)}


class Box:
    """A controller: what it records, whether it has power, a connection, a clock and readers."""

    def __init__(self, desk: Desk, controller_id: ControllerId) -> None:
        self.desk, self.id = desk, controller_id
        self.journal = MemoryJournal(controller_id)
        self.sent = 0
        self.powered = self.online = self.writes = self.trusted = True
        self.skew = timedelta()
        self.deaf: set[tuple[DoorId, Side]] = set()

    def record(self, kind: EventKind, **said: Any) -> None:
        """Keep an event of now, by this clock; a broken disk keeps nothing."""
        if self.powered and self.writes:
            at = self.desk.now + self.skew
            self.journal.append(kind, occurred_at=at, clock_trusted=self.trusted, **said)

    def hello(self) -> None:
        self.desk.hello(self.journal)

    def speaks(self, *, at_most: int = 500) -> None:
        """Send what was not sent, and a heartbeat, when there is power and a connection."""
        if not (self.powered and self.online):
            return
        last = min(self.journal.last_sequence, self.sent + at_most)
        if last > self.sent:
            self.desk.deliver(self.desk.batch(self.journal, self.sent + 1, last, signer=self.id))
            self.sent = last
        self.heartbeat(online=True)

    def heartbeat(self, *, online: bool) -> None:
        status = ControllerStatus(
            online=online,
            sent_at=self.desk.now + self.skew,
            clock_trusted=self.trusted,
            journal_id=self.journal.journal_id,
            last_sequence=self.journal.last_sequence,
        )
        self.desk.deliver(Message(str(UpTopic(self.id, Up.STATUS)), bytes(status)))


class World:
    """Where everybody truly is, and every passage as it truly was."""

    def __init__(self, path: Path) -> None:
        self.desk = Desk(path)
        self.chance = random.Random(4)
        self.where: dict[CardholderId, list[tuple[datetime, AreaId | None]]] = {
            who: [(NOW, None)] for who in PEOPLE
        }
        self.passages: list[tuple[datetime, DoorId, CardholderId]] = []
        self.boxes = {name: Box(self.desk, name) for name in (GATE, YARD)}
        self.wired = {FRONT: self.boxes[GATE], BACK: self.boxes[GATE], FAR: self.boxes[YARD]}
        self.unwired: set[DoorId] = set()
        with self.desk.database.write() as connection:
            for area in (HOUSE, GARDEN):
                areas.add(connection, Area(id=area, site_id=SITE, name=area, created_at=NOW))
            for door_id, (area_in, outside) in LEADS.items():
                door = Door(id=door_id, controller_id=self.wired[door_id].id, area=area_in, outside=outside)
                doors.add(connection, door, name=door_id, now=NOW)
            for who in PEOPLE:
                person = Cardholder(
                    id=who, site_id=SITE, category=Category.RESIDENT, given_name=who, family_name="",
                    access_level_ids=(), created_at=NOW,
                )  # fmt: skip
                cardholders.add(connection, person)
                cards.add(
                    connection,
                    credential_id=CARDS[who], cardholder_id=who, technology="pkoc-v2", public_key=None,
                    now=NOW,
                )  # fmt: skip
            health = {"doors": [], "readers": [{"reader": f"{door_id}/exit"} for door_id in LEADS]}
            for name in self.boxes:
                controllers.said(connection, name, health=health)
            self.site = sites.get(connection, SITE)
        self.roll_call = RollCall(self.desk.database, lambda: self.desk.now, Periods())
        for box in self.boxes.values():
            box.hello()
            box.record(EventKind.CONTROLLER_STARTED)

    def goes(self, door_id: DoorId, who: CardholderId) -> None:
        """Somebody passes, if they are at that door; by the card where that works, else by a button or a key."""
        area, outside = LEADS[door_id]
        here = self.where[who][-1][1]
        if here not in (area, outside):
            return
        self.desk.now += timedelta(seconds=7)
        side = Side.ENTRY if here == outside else Side.EXIT
        box = self.wired[door_id]
        if door_id in self.unwired:
            pass
        elif (door_id, side) not in box.deaf:
            box.record(EventKind.ACCESS_GRANTED, door_id=door_id, side=side, credential_id=CARDS[who])
            box.record(EventKind.DOOR_OPENED, door_id=door_id)
        elif side is Side.EXIT:
            box.record(EventKind.EXIT_REQUESTED, door_id=door_id)
            box.record(EventKind.DOOR_OPENED, door_id=door_id)
        else:
            box.record(EventKind.DOOR_FORCED, door_id=door_id)
        self.passages.append((self.desk.now, door_id, who))
        self.where[who].append((self.desk.now, area if side is Side.ENTRY else outside))

    def truly(self, who: CardholderId, at: datetime) -> AreaId | None:
        return [area for since, area in self.where[who] if since <= at][-1]

    def check(self) -> tuple[int, int]:
        """No view claims what is not so. Returns how many were claimed to be somewhere, and known passages."""
        claims = 0
        for person, said in self.roll_call.of(self.site).people:
            if said.presence is not Presence.UNKNOWN:
                assert said.as_of is not None
                assert self.truly(person.id, said.as_of) == said.area_id, (person.id, said)
                claims += 1
        now = self.desk.now
        with self.desk.database.read() as connection:
            found = events.listing(connection, kinds=[EventKind.ACCESS_GRANTED], limit=10_000)
            records = completeness.proven(connection, now, since=NOW, until=now)
        listed = {(each.occurred_at, each.door_id, each.cardholder_id) for each in found}
        moment, known = timedelta(milliseconds=1), 0
        proven = {record.door_id: record for record in records}
        for at, door_id, who in self.passages:
            if proven[door_id].covers(at, at + moment):
                assert (at, door_id, who) in listed, (at, proven[door_id])
                known += 1
        return claims, known


def _power_fails(world: World) -> None:
    world.boxes[GATE].powered = False
    world.boxes[GATE].heartbeat(online=False)


def _power_is_back(world: World) -> None:
    gate = world.boxes[GATE]
    gate.powered = True
    gate.hello()
    gate.record(EventKind.CONTROLLER_STARTED, details={"unclean": True})


def _network_fails(world: World, name: ControllerId) -> None:
    world.boxes[name].heartbeat(online=False)
    world.boxes[name].online = False


def _network_is_back(world: World, name: ControllerId, *, at_most: int = 500) -> None:
    world.boxes[name].online = True
    world.boxes[name].hello()
    world.boxes[name].speaks(at_most=at_most)


def _events_are_lost(world: World) -> None:
    world.boxes[YARD].writes = False


def _loss_is_found(world: World) -> None:
    world.boxes[YARD].writes = True
    world.boxes[YARD].record(EventKind.JOURNAL_GAP, details={"cause": "damaged"})
    _network_is_back(world, YARD)


def _clock(world: World, name: ControllerId, skew: timedelta, *, trusted: bool = True) -> None:
    box = world.boxes[name]
    step, box.skew, box.trusted = skew - box.skew, skew, trusted
    if not skew:
        box.record(EventKind.CLOCK_CHANGED, details={"step_ms": round(step.total_seconds() * 1000)})


def _controller_is_replaced(world: World) -> None:
    yard = world.boxes[YARD]
    yard.journal, yard.sent, yard.online = MemoryJournal(YARD), 0, True
    yard.record(EventKind.CONTROLLER_STARTED)
    yard.hello()


def _door_is_moved(world: World) -> None:
    with world.desk.database.write() as connection:
        moves.move(connection, doors.get(connection, FRONT).door, YARD, now=world.desk.now)
    world.wired[FRONT] = world.boxes[YARD]
    world.unwired.add(FRONT)


def _door_is_known(world: World) -> None:
    world.unwired.clear()
    with world.desk.database.write() as connection:
        now = world.desk.now
        journals.end_move(connection, YARD, policy_made_at=now, until=now)


def _old_backup(world: World) -> None:
    gate = world.boxes[GATE]
    old = MemoryJournal(GATE)
    old.journal_id, old.encoded = gate.journal.journal_id, gate.journal.encoded[:-6]
    gate.journal, gate.sent = old, old.last_sequence
    gate.hello()


def _begins_anew(world: World) -> None:
    gate = world.boxes[GATE]
    gate.journal, gate.sent = MemoryJournal(GATE), 0
    gate.record(EventKind.CONTROLLER_STARTED)
    gate.hello()


def _reader(world: World, kind: EventKind) -> None:
    box, dead = world.wired[FRONT], (FRONT, Side.EXIT)
    box.record(kind, door_id=FRONT, side=Side.EXIT)
    (box.deaf.add if kind is EventKind.READER_LOST else box.deaf.discard)(dead)


def _hub_restarts(world: World) -> None:
    world.desk.restarted().link_lost()
    world.desk.ingest._everybody_is_gone()


OUTAGES = {
    10: lambda world: _network_fails(world, GATE),
    16: lambda world: _network_is_back(world, GATE, at_most=3),
    24: _power_fails,
    28: _power_is_back,
    33: lambda world: _network_fails(world, YARD),
    35: _events_are_lost,
    38: _loss_is_found,
    46: lambda world: _clock(world, GATE, timedelta(days=-300), trusted=False),
    49: lambda world: _clock(world, GATE, timedelta()),
    56: lambda world: _clock(world, YARD, timedelta(hours=2)),
    59: lambda world: _clock(world, YARD, timedelta()),
    66: lambda world: _clock(world, GATE, timedelta(hours=-1)),
    67: lambda world: _clock(world, GATE, timedelta()),
    74: lambda world: _network_fails(world, YARD),
    76: _controller_is_replaced,
    86: _door_is_moved,
    88: _door_is_known,
    96: _old_backup,
    99: _begins_anew,
    110: lambda world: _reader(world, EventKind.READER_LOST),
    114: lambda world: _reader(world, EventKind.READER_RESTORED),
    125: _hub_restarts,
}


def test_three_days_of_outages_and_no_view_claims_what_it_cannot_prove(tmp_path: Path) -> None:
    """After every half hour: whoever is said to be somewhere is there, and what is listed for a known time is all."""
    world = World(tmp_path / "hub.sqlite")
    claims, known = [], 0
    for step in range(STEPS):
        world.desk.now = NOW + STEP * (step + 1)
        if step in OUTAGES:
            OUTAGES[step](world)
        for _ in range(3):
            world.goes(world.chance.choice(tuple(LEADS)), world.chance.choice(PEOPLE))
            world.check()
        for box in world.boxes.values():
            box.speaks()
        claimed, known = world.check()
        claims.append(claimed)
    unheard = len(world.passages) - known
    assert min(claims) == 0
    assert max(claims) == len(PEOPLE)
    assert sum(claims) > STEPS  # honest, and of use
    assert 0 < unheard < known
    world.desk.database.close()
