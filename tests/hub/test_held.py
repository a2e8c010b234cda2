"""What legal holds keep, of every kind of row that retention lets go of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from hub import holds as hold_rules
from hub.erasure import HeldBack, erase
from hub.periods import Periods
from hub.retention import BATCH, Retention
from hub.store import cardholders, controllers, doors, holds, schema
from hub.store.cardholders import Cardholder
from pacs.identifiers import CardholderId, ControllerId, DoorId, SiteId
from pacs.rules import Door
from tests.hub.databases import SITE, make_site
from tests.hub.test_retention import ADA, BEN, CARDS, DAY, FRONT, GATE, HOUR, MANAGER, NOW, Archive, somebody

ANNEX, FAR = "annex", "far"
AGO = NOW - 40 * DAY
KINDS = {"event", "command", "order", "quarantine", "alarm", "anomaly", "import"}
PLACES: dict[str, tuple[ControllerId, DoorId, CardholderId | None, SiteId]] = {
    "front": (GATE, FRONT, ADA, SITE),
    ANNEX: (ControllerId(ANNEX), DoorId(ANNEX), BEN, SITE),
    FAR: (ControllerId(FAR), DoorId(FAR), None, SiteId(FAR)),
}


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Two sites, three doors, and at each door one row of every kind, all of the same hour long ago."""
    archive = Archive(tmp_path)
    with archive.database.write() as connection:
        make_site(connection, SiteId(FAR))
        for name in (ANNEX, FAR):
            controller, door, _, site = PLACES[name]
            known = controllers.Controller(
                id=controller,
                site_id=site,
                event_public_key=bytes(32),
                certificate_serial=None,
                software=None,
                registered_at=NOW,
            )
            controllers.register(connection, known)
            doors.add(connection, Door(id=door, controller_id=controller), name=name, now=NOW)
        for number, name in enumerate(PLACES):
            for table, row in rows_of(name, number):
                connection.execute(insert(table), [row])
        cardholders.change(connection, left(ADA))
        cardholders.change(connection, left(BEN))
    archive.tapped(timedelta())
    yield archive
    archive.database.close()


def left(person: CardholderId) -> Cardholder:
    """Their time was over before the leavers' bound."""
    return somebody(person, valid_until=NOW - 31 * DAY)


def rows_of(name: str, number: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """One row of each kind at a place, with all that its table asks for."""
    controller, door, person, site = PLACES[name]
    key = f"{number:032x}"
    credential = None if person is None else str(CARDS[person])
    where = {"controller_id": controller, "door_id": door}
    source = {"journal_id": f"journal-{name}", "sequence": number + 1}
    given = {"given_by": MANAGER, "reason": "a reason", "action": "unlock_once", "issued_at": AGO}
    facts: dict[str, dict[str, Any]] = {
        "events": where
        | source
        | {"kind": "access_granted", "credential_id": credential, "occurred_at": AGO, "clock_trusted": True}
        | {"received_at": AGO, "data": b"signed", "coarse": False},
        "commands": where
        | given
        | {"id": key, "credential_id": credential, "data": b"sealed", "expires_at": AGO},
        "orders": given | {"id": key, "site_id": site},
        "order_commands": {"order_id": key, "door_id": door},
        "quarantine": {"controller_id": controller, "topic": "t", "payload": b"who", "digest": key.encode()}
        | {"cause": "chain_broken", "received_at": AGO},
        "alarms": where
        | source
        | {"kind": "forced", "detail": "", "since": AGO, "clock_trusted": True, "noticed_at": AGO, "note": ""}
        | {"closed_at": AGO},
        "anomalies": where
        | {"kind": "unclean_start", "detail": "", "at": AGO, "has_hole": False, "times": 1, "last_at": AGO},
        "import_jobs": {"id": f"{number:016x}", "site_id": site, "state": "refused"}
        | {"dry_run": False, "actor": MANAGER, "digest": "", "rows": 1, "created": 0, "changed": 0}
        | {"unchanged": 0, "fault_count": 1, "faults": [[1, "room", f"case-{person}", "taken"]]}
        | {"queued_at": AGO, "ended_at": AGO},
    }
    for table, row in facts.items():
        yield schema.metadata.tables[table], row


def left_of(archive: Archive) -> set[tuple[str, str]]:
    """Kind and place of what still says what it said."""
    found: set[tuple[str, str]] = set()
    with archive.database.read() as connection:

        def here(kind: str, table: Any, place: Callable[[Any], str], still: Any) -> None:
            rows = connection.execute(select(table).where(still))
            found.update((kind, place(row)) for row in rows)

        def controller(row: Any) -> str:
            return next(name for name, place in PLACES.items() if place[0] == row.controller_id)

        def number(row: Any) -> str:
            return list(PLACES)[int(row.id, 16)]

        here("event", schema.events, controller, schema.events.c.data == b"signed")
        here("command", schema.commands, controller, schema.commands.c.data != b"")
        here("order", schema.orders, number, schema.orders.c.reason != "")
        here("quarantine", schema.quarantine, controller, schema.quarantine.c.payload != b"")
        here("alarm", schema.alarms, controller, schema.alarms.c.kind == "forced")
        here("anomaly", schema.anomalies, controller, schema.anomalies.c.times == 1)
        here("import", schema.import_jobs, number, schema.import_jobs.c.fault_count > 0)
    return found


def people_of(archive: Archive) -> set[CardholderId]:
    with archive.database.read() as connection:
        return {each.id for each in cardholders.list_all(connection)}


def at(*kinds: str, place: str) -> set[tuple[str, str]]:
    return {(kind, place) for kind in kinds}


PART_OF_THE_RECORD = at("quarantine", "anomaly", place="front") | at("quarantine", "anomaly", place=ANNEX)
LONG_AGO = {"since": NOW - 50 * DAY, "until": NOW - 39 * DAY}
HELD: dict[str, tuple[dict[str, Any], set[tuple[str, str]], set[CardholderId]]] = {
    "a site": (LONG_AGO, at(*KINDS, place="front") | at(*KINDS, place=ANNEX), {ADA, BEN}),
    "a site, with all who are known there": (
        LONG_AGO | {"until": NOW + HOUR},
        at(*KINDS, place="front") | at(*KINDS, place=ANNEX),
        {ADA, BEN},
    ),
    "a door": (LONG_AGO | {"door_id": FRONT}, at(*KINDS - {"import"}, place="front"), {ADA}),
    "a person": (
        LONG_AGO | {"cardholder_id": BEN},
        at("event", "command", "alarm", "import", place=ANNEX) | PART_OF_THE_RECORD,
        {BEN},
    ),
    "a person at a door": (
        LONG_AGO | {"cardholder_id": BEN, "door_id": FRONT},
        at("quarantine", "anomaly", place="front"),
        {BEN},
    ),
    "an earlier time": (
        {"since": NOW - 60 * DAY, "until": NOW - 50 * DAY},
        at("quarantine", place="front") | at("quarantine", place=ANNEX),
        set(),
    ),
    "a later time": ({"since": NOW - 30 * DAY, "until": NOW}, set(), set()),
}


@pytest.mark.parametrize("what", HELD)
def test_a_hold_keeps_every_kind_of_row_it_covers(archive: Archive, what: str) -> None:
    """By site, door, person and time; what it does not cover goes, and when it is lifted the rest does."""
    about, rows, people = HELD[what]
    hold = archive.hold(**about)
    archive.job.run()
    assert left_of(archive) == rows
    assert people_of(archive) == people
    for each in people:
        with archive.database.write() as connection, pytest.raises(HeldBack):
            erase(connection, each, reason="asked for", actor=MANAGER, now=NOW)
    with archive.database.write() as connection:
        hold_rules.lift(connection, hold.id, reason="settled", actor=MANAGER, now=NOW)
    archive.job.run()
    assert (left_of(archive), people_of(archive)) == (set(), set())
    with archive.database.read() as connection:
        for table in (schema.orders, schema.order_commands, schema.commands, schema.anomalies, schema.alarms):
            assert connection.execute(select(table)).all() == [], table.name


def test_a_run_that_has_begun_sees_a_hold(tmp_path: Path) -> None:
    """What was found before somebody asked for a hold, and is not gone by then, stays; lifted, it goes with the next run."""
    archive = Archive(tmp_path)
    for _ in range(3):
        archive.tapped(73 * HOUR)
    asked: list[holds.Hold] = []
    looks = 0

    def clock() -> datetime:
        nonlocal looks
        looks += 1
        if looks == 2:  # once the run has begun
            asked.append(archive.hold(confirmed=False))
        return archive.now

    job = Retention(archive.database, Periods(), clock=clock, site_changed=lambda: None)
    job.run()
    assert not any(row.coarse for row in archive.rows().values())
    with archive.database.write() as connection:
        hold_rules.lift(connection, asked[0].id, reason="a mistake", actor=MANAGER, now=archive.now)
    job.run()
    assert all(row.coarse for row in archive.rows().values())
    archive.database.close()


def test_orders_go_in_parts(archive: Archive) -> None:
    """Each order whole, and not all orders in one transaction."""
    made = [f"{number:032x}" for number in range(10, 14)]
    with archive.database.write() as connection:
        order = {"site_id": SITE, "given_by": MANAGER, "reason": "a drill", "action": "set_mode"}
        for key in made:
            connection.execute(insert(schema.orders).values(order | {"id": key, "issued_at": AGO}))
            named = [{"order_id": key, "door_id": f"door-{number}"} for number in range(BATCH // 2)]
            connection.execute(insert(schema.order_commands), named)
    took: list[int] = []

    def wrote(_waited_s: float, _held_s: float) -> None:
        with archive.database.read() as connection:
            took.append(len(connection.execute(select(schema.order_commands)).all()))

    archive.database.wrote = wrote
    archive.job.run()
    assert max(before - after for before, after in itertools.pairwise(took)) < BATCH + BATCH // 2
    assert took[-1] == 0


def test_a_hold_that_is_about_to_end_is_pointed_out(archive: Archive) -> None:
    """A week before its end; one that nobody has agreed to, at once; one that is over or lifted, never."""
    hold = archive.hold(ends_at=NOW + 10 * DAY)
    assert [hold.ends_soon(NOW + days * DAY) for days in (2, 4, 11)] == [False, True, False]
    asked = archive.hold(confirmed=False)
    assert asked.ends_soon(NOW)
    assert asked.keeps_until == NOW + holds.UNCONFIRMED_FOR
