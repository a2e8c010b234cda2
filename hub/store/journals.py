"""How far each controller's journals are stored, and what went wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from dataclasses import fields as fields_of
from datetime import datetime
from enum import StrEnum, unique

from sqlalchemy import Connection, and_, bindparam, case, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from hub.store.database import fields
from hub.store.errors import HeadMoved
from hub.store.schema import anomalies, journal_heads, quarantine
from pacs.identifiers import ControllerId, DoorId

QUARANTINE_LIMIT = 10_000
QUARANTINE_BYTES = 65_536
QUARANTINE_BYTES_EACH = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The last stored event of one journal: highest contiguous sequence (0: none) and its hash."""

    controller_id: ControllerId
    journal_id: str
    sequence: int
    hash: bytes
    opened_at: datetime
    replaced_at: datetime | None = None


@unique
class AnomalyKind(StrEnum):
    """What can be wrong with a record."""

    BATCH_MALFORMED = "batch_malformed"
    SIGNATURE_INVALID = "signature_invalid"
    CHAIN_BROKEN = "chain_broken"
    DUPLICATE_DIFFERS = "duplicate_differs"
    EVENTS_MISSING = "events_missing"  # the controller no longer has what the hub lacks
    JOURNAL_REPLACED = "journal_replaced"
    JOURNAL_BEHIND = "journal_behind"  # the controller lost what the hub has
    JOURNAL_GAP = "journal_gap"  # the controller says that it lost events
    NOT_RUNNING = "not_running"
    UNCLEAN_START = "unclean_start"
    CLOCK_WRONG = "clock_wrong"  # the controller trusted a clock that cannot be right
    CLOCK_UNTRUSTED = "clock_untrusted"  # the controller says that its times are not to be believed
    READER_LOST = "reader_lost"
    DOOR_MOVED = "door_moved"  # to this controller; what the one before it recorded has the holes it had
    PRIVATE_TAP = "private_tap"  # a tap at a private door said whose card it was
    CONTROLLER_REVOKED = "controller_revoked"  # events of a device that is believed no more
    MESSAGE_MALFORMED = "message_malformed"
    NOT_STORABLE = "not_storable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """Something that makes a record incomplete or doubtful, for one door or for all of a controller's.

    With ``has_hole`` the record is not known to be whole from ``unknown_from`` (None: from its beginning) to
    ``unknown_until`` (None: until further notice).
    """

    controller_id: ControllerId
    kind: AnomalyKind
    detail: str
    at: datetime
    door_id: DoorId | None = None
    journal_id: str | None = None
    first_sequence: int | None = None
    last_sequence: int | None = None
    has_hole: bool = False
    unknown_from: datetime | None = None
    unknown_until: datetime | None = None


def heads(connection: Connection) -> list[Head]:
    """Every journal ever seen, the oldest first."""
    query = select(journal_heads).order_by(journal_heads.c.opened_at)
    return [
        Head(**{**fields(row), "controller_id": ControllerId(row.controller_id)})
        for row in connection.execute(query)
    ]


def open_journal(connection: Connection, head: Head) -> None:
    """Begin a journal; the controller's earlier ones are thereby replaced. Raises ``HeadMoved`` when it was begun."""
    columns = journal_heads.c
    connection.execute(
        update(journal_heads)
        .where(columns.controller_id == head.controller_id, columns.replaced_at.is_(None))
        .values(replaced_at=head.opened_at)
    )
    try:
        connection.execute(insert(journal_heads), asdict(head))
    except IntegrityError as error:
        raise HeadMoved(f"journal {head.journal_id} was begun before") from error


# made once, as what each message needs takes longer to put together than to carry out
_ADVANCE = (
    update(journal_heads)
    .where(
        journal_heads.c.controller_id == bindparam("mine"),
        journal_heads.c.journal_id == bindparam("journal"),
        journal_heads.c.sequence == bindparam("stands_at"),
    )
    .values(sequence=bindparam("to"), hash=bindparam("with"))
)
_END_MOVE = (
    update(anomalies)
    .where(
        anomalies.c.controller_id == bindparam("mine"),
        anomalies.c.kind == AnomalyKind.DOOR_MOVED,
        anomalies.c.unknown_until.is_(None),
        anomalies.c.at < bindparam("made_at"),
    )
    .values(unknown_until=bindparam("until"))
)
_OPEN_HOLE = (
    select(anomalies.c.id)
    .where(
        anomalies.c.controller_id == bindparam("mine"),
        anomalies.c.kind.in_(bindparam("kinds", expanding=True)),
        anomalies.c.has_hole,
        anomalies.c.unknown_until.is_(None),
    )
    .limit(1)
)


def advance(connection: Connection, head: Head, *, since: int) -> None:
    """Move a journal's head forward; raises ``HeadMoved`` when it no longer stands at ``since``."""
    moved = connection.execute(
        _ADVANCE,
        {
            "mine": head.controller_id,
            "journal": head.journal_id,
            "stands_at": since,
            "to": head.sequence,
            "with": head.hash,
        },
    )
    if not moved.rowcount:
        raise HeadMoved(f"journal {head.journal_id} no longer stands at {since}")


def record(connection: Connection, anomaly: Anomaly) -> bool:
    """Record an anomaly; the same one again (controller, door, journal, kind, first sequence) is only counted.

    A hole that ended then reaches further. Returns whether it is a new one.
    """
    columns = anomalies.c
    same = and_(
        columns.controller_id == anomaly.controller_id,
        columns.kind == anomaly.kind,
        columns.door_id.is_not_distinct_from(anomaly.door_id),
        columns.journal_id.is_not_distinct_from(anomaly.journal_id),
        columns.first_sequence.is_not_distinct_from(anomaly.first_sequence),
    )
    counted = connection.execute(
        update(anomalies)
        .where(same)
        .values(
            times=columns.times + 1,
            last_at=anomaly.at,
            last_sequence=anomaly.last_sequence,
            detail=anomaly.detail,
            unknown_until=case(
                (columns.unknown_until < anomaly.unknown_until, anomaly.unknown_until),
                else_=columns.unknown_until,
            )
            if anomaly.unknown_until
            else columns.unknown_until,
        )
    )
    if counted.rowcount:
        return False
    connection.execute(insert(anomalies).values(**asdict(anomaly), times=1, last_at=anomaly.at))
    return True


def add_holes(connection: Connection, holes: Sequence[Anomaly]) -> None:
    """Record holes each of which happened once."""
    if holes:
        connection.execute(
            insert(anomalies), [asdict(each) | {"times": 1, "last_at": each.at} for each in holes]
        )


def end_move(
    connection: Connection, controller_id: ControllerId, *, policy_made_at: datetime, until: datetime
) -> None:
    """A controller goes by a policy made then: the doors that were moved to it before are recorded from ``until`` on."""
    connection.execute(_END_MOVE, {"mine": controller_id, "made_at": policy_made_at, "until": until})


def end_holes(
    connection: Connection,
    controller_id: ControllerId,
    kind: AnomalyKind,
    *,
    until: datetime,
    door_id: DoorId | None = None,
    detail: str | None = None,
) -> None:
    """What was unknown until further notice, of this door and detail or of all, is known from ``until`` on."""
    columns = anomalies.c
    change = update(anomalies).where(
        columns.controller_id == controller_id,
        columns.kind == kind,
        columns.has_hole,
        columns.unknown_until.is_(None),
    )
    if door_id is not None:
        change = change.where(columns.door_id == door_id)
    if detail is not None:
        change = change.where(columns.detail == detail)
    connection.execute(change.values(unknown_until=until))


def has_open_hole(
    connection: Connection, controller_id: ControllerId, kinds: Collection[AnomalyKind]
) -> bool:
    """Whether something of these kinds makes the controller's record unknown until further notice."""
    return connection.execute(_OPEN_HOLE, {"mine": controller_id, "kinds": list(kinds)}).first() is not None


def list_anomalies(
    connection: Connection, controller_id: ControllerId | None = None, *, only_holes: bool = False
) -> list[Anomaly]:
    """What was recorded, of one controller or of all, oldest first."""
    names = tuple(field.name for field in fields_of(Anomaly))
    query = select(*(anomalies.c[name] for name in names)).order_by(anomalies.c.id)
    if controller_id is not None:
        query = query.where(anomalies.c.controller_id == controller_id)
    if only_holes:
        query = query.where(anomalies.c.has_hole)
    return [
        Anomaly(
            **{
                **fields(row),
                "controller_id": ControllerId(row.controller_id),
                "door_id": None if row.door_id is None else DoorId(row.door_id),
                "kind": AnomalyKind(row.kind),
            }
        )
        for row in connection.execute(query)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What does not fit in one controller's records, and makes no hole in them: how often, and when last."""

    kind: AnomalyKind
    times: int
    last_at: datetime


def doubts(connection: Connection) -> dict[ControllerId, list[Doubt]]:
    """Every controller that has any → its own, the latest first."""
    columns = anomalies.c
    last_at = func.max(columns.last_at).label("last_at")
    query = select(columns.controller_id, columns.kind, func.sum(columns.times).label("times"), last_at)
    query = (
        query.where(~columns.has_hole).group_by(columns.controller_id, columns.kind).order_by(last_at.desc())
    )
    found: dict[ControllerId, list[Doubt]] = {}
    for row in connection.execute(query):
        doubt = Doubt(kind=AnomalyKind(row.kind), times=int(row.times), last_at=row.last_at)
        found.setdefault(ControllerId(row.controller_id), []).append(doubt)
    return found


def set_aside(
    connection: Connection,
    controller_id: ControllerId,
    *,
    topic: str,
    payload: bytes,
    cause: str,
    now: datetime,
) -> None:
    """Keep a message that cannot be stored as events, for somebody to look at.

    The same bytes are kept once, the first ``QUARANTINE_BYTES`` of them, ``QUARANTINE_BYTES_EACH`` of each
    controller and ``QUARANTINE_LIMIT`` messages in all: a broken sender does not fill the disk, nor the place of
    others.
    """
    digest = hashlib.sha256(topic.encode() + b"\0" + payload).digest()
    kept = connection.execute(select(quarantine.c.id).where(quarantine.c.digest == digest)).first()
    if kept is not None or (connection.scalar(select(func.max(quarantine.c.id))) or 0) >= QUARANTINE_LIMIT:
        return
    mine = select(func.sum(func.length(quarantine.c.payload))).where(
        quarantine.c.controller_id == controller_id
    )
    if (connection.scalar(mine) or 0) + len(payload[:QUARANTINE_BYTES]) > QUARANTINE_BYTES_EACH:
        return
    connection.execute(
        insert(quarantine).values(
            controller_id=controller_id,
            topic=topic,
            payload=payload[:QUARANTINE_BYTES],
            digest=digest,
            cause=cause,
            received_at=now,
        )
    )


def quarantined(connection: Connection) -> int:
    """How many messages were set aside."""
    return connection.scalar(select(func.count()).select_from(quarantine)) or 0
