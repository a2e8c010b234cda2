"""What a roll call is made from: people with their cards, and the events that say who passed where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from sqlalchemy import Connection, select

from hub.store.cardholders import Category, full_name
from hub.store.schema import cardholders, cards, events
from hub.store.sites import Sites, within
from pacs.events import Event, EventKind
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId, SiteId
from pacs.rules import Side

_KINDS = {kind.value: kind for kind in EventKind}
_controller, _door = lru_cache(8_192)(ControllerId), lru_cache(8_192)(DoorId)
_credential = lru_cache(65_536)(CredentialId.parse)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A person as the list needs them; ``extended_opening``: may need help to get out."""

    id: CardholderId
    site_id: SiteId
    name: str
    category: Category
    room: str | None
    language: str | None
    extended_opening: bool
    valid_until: datetime | None
    credential_ids: tuple[CredentialId, ...]


def people(connection: Connection, sites: Sites = None) -> list[Listed]:
    """Everybody of these sites, by room and name."""
    held: dict[str, list[CredentialId]] = defaultdict(list)
    for row in connection.execute(select(cards.c.cardholder_id, cards.c.credential_id)):
        held[row.cardholder_id].append(CredentialId.parse(row.credential_id))
    columns = cardholders.c
    query = select(
        columns.id,
        columns.site_id,
        columns.given_name,
        columns.family_name,
        columns.latin_given_name,
        columns.latin_family_name,
        columns.category,
        columns.room,
        columns.language,
        columns.extended_opening,
        columns.valid_until,
    ).where(within(columns.site_id, sites))
    found = [
        Listed(
            id=CardholderId(row.id),
            site_id=SiteId(row.site_id),
            name=full_name(row.given_name, row.family_name, row.latin_given_name, row.latin_family_name),
            category=Category(row.category),
            room=row.room,
            language=row.language,
            extended_opening=row.extended_opening,
            valid_until=row.valid_until,
            credential_ids=tuple(held.get(row.id, ())),
        )
        for row in connection.execute(query)
    ]
    return sorted(found, key=lambda each: (each.room is None, each.room or "", each.name.casefold(), each.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One stored event, as far as it says who passed where."""

    id: int
    kind: EventKind
    controller_id: ControllerId
    door_id: DoorId | None
    side: Side | None
    credential_id: CredentialId | None
    occurred_at: datetime
    clock_trusted: bool
    received_at: datetime
    action: object


def traces(connection: Connection, kinds: Collection[EventKind], *, after: int, limit: int) -> list[Trace]:
    """Precise events of these kinds with ``id`` above ``after``, in order of arrival."""
    columns = events.c
    query = (
        select(
            columns.id,
            columns.kind,
            columns.controller_id,
            columns.door_id,
            columns.side,
            columns.credential_id,
            columns.occurred_at,
            columns.clock_trusted,
            columns.received_at,
            columns.data,
        )
        .where(columns.id > after, columns.kind.in_(list(kinds)), ~columns.coarse)
        .order_by(columns.id)
        .limit(limit)
    )
    return [
        Trace(
            id=row.id,
            kind=_KINDS[row.kind],
            controller_id=_controller(row.controller_id),
            door_id=None if row.door_id is None else _door(row.door_id),
            side=None if row.side is None else Side(row.side),
            credential_id=None if row.credential_id is None else _credential(row.credential_id),
            occurred_at=row.occurred_at,
            clock_trusted=row.clock_trusted,
            received_at=row.received_at,
            action=Event.from_bytes(row.data).draft.details.get("action")
            if row.kind == EventKind.COMMAND_EXECUTED and row.data  # its bytes go after their time
            else None,
        )
        for row in connection.execute(query)
    ]
