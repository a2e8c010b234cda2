"""Events as stored: once per controller, journal and sequence, in order of arrival."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, select

from hub.store.schema import cards, doors, events
from hub.store.sites import Sites, controllers_within
from pacs.events import Event, EventKind
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId, JournalId
from pacs.reason import Reason
from pacs.rules import Side

_KINDS = {kind.value: kind for kind in EventKind}
ABOUT_PEOPLE = (EventKind.ACCESS_GRANTED, EventKind.ACCESS_DENIED, EventKind.ACCESS_REFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One event; ``id`` is the order of arrival, ``occurred_at`` the controller's clock.

    ``cardholder_id`` is whose card it is at the moment of reading, None for unknown cards. ``coarse``: it was precise for as
    long as it may be; ``occurred_at`` and ``received_at`` are the hour, and neither card nor bytes are kept.
    """

    id: int
    controller_id: ControllerId
    journal_id: str
    sequence: int
    kind: EventKind
    occurred_at: datetime
    clock_trusted: bool
    received_at: datetime
    door_id: DoorId | None
    side: Side | None
    credential_id: CredentialId | None
    reason: Reason | None
    cardholder_id: CardholderId | None
    data: bytes
    coarse: bool

    @property
    def details(self) -> Mapping[str, int | str | bytes | bool]:
        """The event's further facts, read from its bytes; none of one whose bytes were let go."""
        return Event.from_bytes(self.data).draft.details if self.data else {}


def hour(at: datetime) -> datetime:
    """The beginning of its hour: what is left of a time that is coarse."""
    return at - timedelta(minutes=at.minute, seconds=at.second, microseconds=at.microsecond)


def row(
    controller_id: ControllerId, journal_id: JournalId, event: Event, data: bytes, received_at: datetime
) -> dict[str, Any]:
    """One event as ``add_many`` takes it; ``data`` are its exact bytes."""
    draft = event.draft
    return {
        "controller_id": controller_id,
        "journal_id": journal_id,
        "sequence": event.sequence,
        "data": data,
        "kind": draft.kind,
        "occurred_at": draft.occurred_at,
        "clock_trusted": draft.clock_trusted,
        "received_at": received_at,
        "door_id": draft.door_id,
        "side": draft.side,
        "credential_id": None if draft.credential_id is None else str(draft.credential_id),
        "reason": draft.reason,
        "coarse": False,
    }


def add_many(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store what ``row`` made, in this order; ``IntegrityError`` when one is there already."""
    if rows:
        connection.execute(insert(events), rows)


def data_at(
    connection: Connection, controller_id: ControllerId, journal_id: JournalId, sequence: int
) -> bytes | None:
    """The exact bytes stored under this sequence, None when there are none, or none any more."""
    found: bytes | None = connection.scalar(
        select(events.c.data).where(
            events.c.controller_id == controller_id,
            events.c.journal_id == journal_id,
            events.c.sequence == sequence,
        )
    )
    return found or None


def listing(
    connection: Connection,
    *,
    door_id: DoorId | None = None,
    controller_id: ControllerId | None = None,
    cardholder_id: CardholderId | None = None,
    credential_id: CredentialId | None = None,
    kinds: Collection[EventKind] = (),
    reasons: Collection[Reason] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    after: int = 0,
    before: int | None = None,
    limit: int = 100,
    newest_first: bool = False,
    sites: Sites = None,
) -> list[StoredEvent]:
    """Events of these sites with ``id`` above ``after`` and below ``before``, in order of arrival, or the newest ones first.

    ``since`` inclusive and ``until`` exclusive are about when they occurred, by the controllers' clocks.
    """
    columns = events.c
    query = select(events, cards.c.cardholder_id).outerjoin(
        cards, cards.c.credential_id == columns.credential_id
    )
    asked: tuple[tuple[object, ColumnElement[bool]], ...] = (
        (door_id, columns.door_id == door_id),
        (controller_id, columns.controller_id == controller_id),
        (sites, columns.controller_id.in_(controllers_within(sites))),
        (cardholder_id, cards.c.cardholder_id == cardholder_id),
        (credential_id, columns.credential_id == str(credential_id)),
        (kinds or None, columns.kind.in_(kinds)),
        (reasons or None, columns.reason.in_(reasons)),
    )
    query = query.where(columns.id > after, *(condition for value, condition in asked if value is not None))
    if before is not None:
        query = query.where(columns.id < before)
    if since is not None:
        query = query.where(columns.occurred_at >= since)
    if until is not None:
        query = query.where(columns.occurred_at < until)
    query = query.order_by(columns.id.desc() if newest_first else columns.id).limit(limit)
    return [_stored(found) for found in connection.execute(query)]


def with_ids(connection: Connection, ids: Iterable[int]) -> list[StoredEvent]:
    """These events, in order of arrival; those that are no longer there are left out."""
    query = select(events, cards.c.cardholder_id).outerjoin(
        cards, cards.c.credential_id == events.c.credential_id
    )
    query = query.where(events.c.id.in_(list(ids))).order_by(events.c.id)
    return [_stored(found) for found in connection.execute(query)]


def newest_per_door(connection: Connection, door_ids: Collection[DoorId]) -> Mapping[DoorId, StoredEvent]:
    """Each of these doors → the event that arrived last; one look at the index for each."""
    newest = select(func.max(events.c.id)).where(events.c.door_id == doors.c.id).scalar_subquery()
    asked = select(newest).select_from(doors).where(doors.c.id.in_(sorted(door_ids)))
    return _by(connection, asked, "door_id")


def newest_per_controller(connection: Connection, kind: EventKind) -> Mapping[ControllerId, StoredEvent]:
    """Controller → the event of this kind that arrived last."""
    newest = select(func.max(events.c.id)).where(events.c.kind == kind).group_by(events.c.controller_id)
    return _by(connection, newest, "controller_id")


def arrived(connection: Connection, after: int, limit: int) -> list[tuple[int, EventKind, ControllerId]]:
    """``id``, kind and controller of the first events behind ``after``, in order of arrival.

    Nothing arrives before what was seen once: ids are given by the one transaction that writes at a time.
    """
    columns = events.c
    query = select(columns.id, columns.kind, columns.controller_id).where(columns.id > after)
    found = connection.execute(query.order_by(columns.id).limit(limit)).all()
    names = {name: ControllerId(name) for name in {name for _, _, name in found}}
    return [(event_id, _KINDS[kind], names[name]) for event_id, kind, name in found]


def last_id(connection: Connection) -> int:
    """The ``id`` of the event that arrived last, 0 before the first."""
    return connection.scalar(select(func.max(events.c.id))) or 0


def count(connection: Connection, controller_id: ControllerId | None = None) -> int:
    """How many events are stored, of one controller or of all."""
    query = select(func.count()).select_from(events)
    if controller_id is not None:
        query = query.where(events.c.controller_id == controller_id)
    return connection.scalar(query) or 0


def before(
    connection: Connection, controller_id: ControllerId, journal_id: JournalId, sequence: int
) -> datetime | None:
    """When the event before this one occurred, by the controller's clock."""
    columns = events.c
    found: datetime | None = connection.scalar(
        select(columns.occurred_at).where(
            and_(
                columns.controller_id == controller_id,
                columns.journal_id == journal_id,
                columns.sequence == sequence - 1,
            )
        )
    )
    return found


def clock_set_before(
    connection: Connection, controller_id: ControllerId, journal_id: JournalId, sequence: int
) -> datetime | None:
    """When the controller's clock was last set, or it started, before this event; None: not stored."""
    columns = events.c
    found: datetime | None = connection.scalar(
        select(columns.occurred_at)
        .where(
            columns.controller_id == controller_id,
            columns.journal_id == journal_id,
            columns.sequence < sequence,
            columns.kind.in_([EventKind.CLOCK_CHANGED, EventKind.CONTROLLER_STARTED]),
        )
        .order_by(columns.sequence.desc())
        .limit(1)
    )
    return found


def _by(connection: Connection, ids: Any, name: str) -> dict[Any, StoredEvent]:
    query = select(events, cards.c.cardholder_id).outerjoin(
        cards, cards.c.credential_id == events.c.credential_id
    )
    found = [_stored(each) for each in connection.execute(query.where(events.c.id.in_(ids)))]
    return {getattr(each, name): each for each in found}


def _stored(found: Row[Any]) -> StoredEvent:
    return StoredEvent(
        id=found.id,
        controller_id=ControllerId(found.controller_id),
        journal_id=found.journal_id,
        sequence=found.sequence,
        kind=EventKind(found.kind),
        occurred_at=found.occurred_at,
        clock_trusted=found.clock_trusted,
        received_at=found.received_at,
        door_id=None if found.door_id is None else DoorId(found.door_id),
        side=None if found.side is None else Side(found.side),
        credential_id=None if found.credential_id is None else CredentialId.parse(found.credential_id),
        reason=None if found.reason is None else Reason(found.reason),
        cardholder_id=None if found.cardholder_id is None else CardholderId(found.cardholder_id),
        data=found.data,
        coarse=found.coarse,
    )
