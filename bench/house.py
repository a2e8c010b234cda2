"""Databases as large as an agency's or a site's, filled by rows instead of by months of use."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, insert, update

from hub.store import access_levels, areas, controllers, doors, events, schema, sites
from hub.store.areas import Area
from hub.store.controllers import Controller
from hub.store.database import Database
from hub.store.sites import Site
from pacs.events import Event, EventDraft, EventKind, genesis
from pacs.health import ControllerHealth, DoorHealth, ReaderHealth
from pacs.identifiers import AccessLevelId, AreaId, ControllerId, CredentialId, DoorId, JournalId, SiteId
from pacs.reason import Reason
from pacs.rules import AccessLevel, Door, Side

SITE = SiteId("house")
_JOURNAL = JournalId("0" * 32)
_AREA = AreaId("house")
_LEVEL = AccessLevelId("house")
_PORTION = 10_000


def database(directory: Path, now: datetime) -> Database:
    """An empty database with one site."""
    made = Database.at(directory / "data" / "hub.sqlite")
    made.migrate()
    with made.write() as connection:
        sites.ensure(connection, Site(id=SITE, name="House", time_zone="Europe/Amsterdam", created_at=now))
        areas.add(connection, Area(id=_AREA, site_id=SITE, name="House", created_at=now))
        access_levels.add(
            connection, AccessLevel(id=_LEVEL, rules=frozenset()), name="House", site_id=SITE, now=now
        )
    return made


def add_doors(connection: Connection, count: int, now: datetime) -> list[DoorId]:
    """So many doors into the house, each with a controller of its own that is heard and has told everything."""
    found = [DoorId(f"door-{number:04}") for number in range(count)]
    for door_id in found:
        controller_id = ControllerId(door_id)
        controllers.register(
            connection,
            Controller(
                id=controller_id,
                site_id=SITE,
                event_public_key=secrets.token_bytes(32),
                certificate_serial=secrets.token_hex(8),
                software="bench",
                registered_at=now - timedelta(days=90),
            ),
        )
        doors.add(
            connection, Door(id=door_id, controller_id=controller_id, area=_AREA), name=door_id, now=now
        )
        controllers.saw(connection, controller_id, now, online=True)
        controllers.said(
            connection,
            controller_id,
            journal_id=_JOURNAL,
            first_sequence=1,
            last_sequence=0,
            complete_until=now,
            hello_at=now,
            health=asdict(_health(door_id)),
        )
    connection.execute(update(schema.doors).values(created_at=now - timedelta(days=90)))
    return found


def add_people(connection: Connection, count: int, now: datetime) -> list[CredentialId]:
    """So many residents, each with a card and the level of the house."""
    people, cards, levels = [], [], []
    for number in range(count):
        person = f"person-{number:05}"
        people.append(
            {"id": person, "site_id": SITE, "category": "resident", "given_name": f"Given{number}"}
            | {"family_name": f"Family{number}", "attended": False, "extended_opening": number % 50 == 0}
            | {
                "room": f"{number // 4}",
                "language": "ti",
                "external_id": f"case-{number:05}",
                "created_at": now,
            }
        )
        cards.append(
            {"credential_id": str(CredentialId(secrets.token_bytes(16))), "cardholder_id": person}
            | {"technology": "pkoc-v2", "status_index": number, "status": "valid", "status_since": now}
            | {"created_at": now}
        )
        levels.append({"cardholder_id": person, "access_level_id": _LEVEL})
    for table, rows in (
        (schema.cardholders, people),
        (schema.cards, cards),
        (schema.cardholder_levels, levels),
    ):
        connection.execute(insert(table), rows)
    return [CredentialId.parse(card["credential_id"]) for card in cards]


def add_taps(
    filled: Database,
    at: Sequence[DoorId],
    cards: Sequence[CredentialId],
    *,
    taps: int,
    since: datetime,
    until: datetime,
) -> int:
    """So many taps at these doors, one after another, each with the door that opens and closes; how many events."""
    step = (until - since) / taps
    stored = 0
    rows = []
    sequence = dict.fromkeys(at, 0)
    for number in range(taps):
        door_id, moment = at[number % len(at)], since + number * step
        card = cards[number * 7 % len(cards)]
        side = Side.ENTRY if number // len(cards) % 2 == 0 else Side.EXIT
        for draft in _visit(door_id, moment, card, side):
            sequence[door_id] += 1
            controller_id = ControllerId(door_id)
            event = Event(
                sequence=sequence[door_id], previous_hash=genesis(controller_id, _JOURNAL), draft=draft
            )
            rows.append(events.row(controller_id, _JOURNAL, event, bytes(event), draft.occurred_at))
        if len(rows) >= _PORTION or number == taps - 1:
            with filled.write() as connection:
                events.add_many(connection, rows)
            stored += len(rows)
            rows = []
    with filled.write() as connection:
        for door_id, last in sequence.items():
            head = {"controller_id": door_id, "journal_id": _JOURNAL, "sequence": last, "hash": bytes(32)}
            connection.execute(insert(schema.journal_heads).values(head | {"opened_at": since}))
            controllers.said(connection, ControllerId(door_id), last_sequence=last, complete_until=until)
    return stored


def _visit(door_id: DoorId, moment: datetime, card: CredentialId, side: Side) -> Iterator[EventDraft]:
    yield EventDraft(
        kind=EventKind.ACCESS_GRANTED,
        occurred_at=moment,
        clock_trusted=True,
        door_id=door_id,
        side=side,
        credential_id=card,
        reason=Reason.ENTITLED,
    )
    for kind, later_ms in ((EventKind.DOOR_OPENED, 900), (EventKind.DOOR_CLOSED, 4_000)):
        later = moment + timedelta(milliseconds=later_ms)
        yield EventDraft(kind=kind, occurred_at=later, clock_trusted=True, door_id=door_id)


def _health(door_id: DoorId) -> ControllerHealth:
    readers: Iterable[ReaderHealth] = (
        ReaderHealth(reader=f"{door_id}/{side}", state="ok", reads=900, failed=3, losses=0, resets=0)
        for side in Side
    )
    return ControllerHealth(
        uptime_s=86_400,
        policy_age_s=60,
        revocations_age_s=60,
        waiting_events=0,
        temperature_millicelsius=51_000,
        free_bytes=2**33,
        connections=1,
        doors=(DoorHealth(door_id=door_id, mode="secured", cause="policy"),),
        readers=tuple(readers),
    )
