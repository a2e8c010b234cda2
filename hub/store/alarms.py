"""Alarms: what is or was wrong, who took note of it, and how it ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, case, insert, select, update

from hub.store import webhooks
from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import alarms
from hub.store.sites import Sites, controllers_within
from pacs.identifiers import ControllerId, DoorId
from pacs.rules import Side


@unique
class AlarmKind(StrEnum):
    """Everything that somebody has to look at, the most urgent first."""

    FIRE = "fire"
    FORCED = "forced"
    TAMPER = "tamper"
    HELD = "held"
    DOOR_SILENT = "door_silent"  # its controller is not heard
    READER_LOST = "reader_lost"
    RECORD_BROKEN = "record_broken"
    CONTROLLER_FAULT = "controller_fault"  # its program met what it was not made for
    JOURNAL_FULL = "journal_full"
    CLOCK_UNTRUSTED = "clock_untrusted"
    POLICY_TOO_OLD = "policy_too_old"  # beyond the door's own bound
    POLICY_UNCONFIRMED = "policy_unconfirmed"  # sent, and not confirmed
    RENEWAL_OVERDUE = "renewal_overdue"  # its certificate ends, and it has not taken another


ENDED_BY_HAND = frozenset({AlarmKind.RECORD_BROKEN, AlarmKind.CONTROLLER_FAULT})
"""What is past when it is noticed: acknowledging it is its end, and the next time is another alarm."""


@unique
class Clearance(StrEnum):
    """How an alarm ended."""

    EVENT = "event"  # the door said so
    SEEN = "seen"  # the hub saw that it is over
    RESTARTED = "restarted"  # its controller started anew and would say so if it were still so
    WITHDRAWN = "withdrawn"  # its controller is no longer in use, or has the door no more
    ACKNOWLEDGED = "acknowledged"  # nothing at the door can end it


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What an alarm is about; one stands at a time. ``door_id`` None: every door of the controller."""

    kind: AlarmKind
    controller_id: ControllerId
    door_id: DoorId | None = None
    side: Side | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """The same for the same subject."""
        return "/".join((self.kind, self.controller_id, self.door_id or "", self.side or "", self.detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The event that raised an alarm."""

    journal_id: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm; open until it is both cleared and acknowledged (``closed_at``).

    ``since`` and ``cleared_at`` are by the clock of whoever noticed; ``noticed_at`` is the hub's. ``said_by_door``: an
    event raised it, not the hub's own watching.
    ``acknowledged_by``: as in the audit log.
    """

    id: int
    subject: Subject
    since: datetime
    clock_trusted: bool
    noticed_at: datetime
    said_by_door: bool
    cleared_at: datetime | None
    clearance: Clearance | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str
    remind_at: datetime | None
    closed_at: datetime | None

    @property
    def stands(self) -> bool:
        """Whether it is not over, as far as is known."""
        return self.cleared_at is None

    def reminds(self, now: datetime) -> bool:
        """Whether it was acknowledged so long ago, and still stands, that it comes back."""
        return self.stands and self.remind_at is not None and self.remind_at <= now


def raised(
    connection: Connection,
    subject: Subject,
    *,
    since: datetime,
    now: datetime,
    clock_trusted: bool = True,
    source: Source | None = None,
) -> bool:
    """Raise an alarm; False when one about the same stands, or the event raised one before."""
    columns = alarms.c
    known = columns.standing_key == subject.key
    if source is not None:
        known |= (
            (columns.controller_id == subject.controller_id)
            & (columns.journal_id == source.journal_id)
            & (columns.sequence == source.sequence)
        )
    if connection.execute(select(columns.id).where(known).limit(1)).first() is not None:
        return False
    row = {
        **asdict(subject),
        "since": since,
        "clock_trusted": clock_trusted,
        "noticed_at": now,
        "journal_id": source.journal_id if source else None,
        "sequence": source.sequence if source else None,
        "standing_key": subject.key,
        "note": "",
    }
    connection.execute(insert(alarms).values(row))
    _tell(connection, "alarm.raised", subject, now, since=since.isoformat())
    return True


def cleared(
    connection: Connection,
    controller_id: ControllerId,
    kinds: Collection[AlarmKind],
    *,
    at: datetime,
    now: datetime,
    how: Clearance,
    door_id: DoorId | None = None,
    side: Side | None = None,
    detail: str | None = None,
) -> int:
    """End what stands of these kinds: of one door, side and detail, or of all; how many."""
    columns = alarms.c
    those = (
        (columns.controller_id == controller_id) & columns.kind.in_(kinds) & columns.standing_key.is_not(None)
    )
    for column, wanted in ((columns.door_id, door_id), (columns.side, side), (columns.detail, detail)):
        if wanted is not None:
            those &= column == wanted
    closed_at = case((columns.acknowledged_at.is_not(None), now), else_=None)
    changes = {
        "cleared_at": at,
        "clearance": how,
        "standing_key": None,
        "remind_at": None,
        "closed_at": closed_at,
    }
    ended = [_alarm(row).subject for row in connection.execute(select(alarms).where(those))]
    if not ended:
        return 0
    for subject in ended:
        _tell(connection, "alarm.cleared", subject, now, cleared_at=at.isoformat(), clearance=str(how))
    return connection.execute(update(alarms).where(those).values(changes)).rowcount


def acknowledged(
    connection: Connection, alarm_id: int, *, actor: str, note: str, now: datetime, remind_at: datetime
) -> Alarm:
    """Somebody has seen it; one that nothing at the door can end is over by that. Raises ``NotFound``."""
    found = get(connection, alarm_id)
    ends_here = found.stands and found.subject.kind in ENDED_BY_HAND
    changes: dict[str, Any] = {"acknowledged_at": now, "acknowledged_by": actor, "note": note}
    if ends_here:
        changes |= {"cleared_at": now, "clearance": Clearance.ACKNOWLEDGED, "standing_key": None}
    if ends_here or not found.stands:
        changes |= {"closed_at": now, "remind_at": None}
    else:
        changes |= {"remind_at": remind_at}
    connection.execute(update(alarms).where(alarms.c.id == alarm_id).values(changes))
    _tell(connection, "alarm.acknowledged", found.subject, now, alarm_id=alarm_id)
    return get(connection, alarm_id)


def _tell(connection: Connection, kind: str, subject: Subject, now: datetime, **facts: Any) -> None:
    """Tell subscribers what an alarm is about, and nothing that somebody wrote."""
    about = {
        "alarm": str(subject.kind),
        "controller_id": subject.controller_id,
        "door_id": subject.door_id,
        "side": None if subject.side is None else str(subject.side),
        "detail": subject.detail,
    }
    webhooks.tell(connection, kind, about | facts, now=now, controller_id=subject.controller_id)


def get(connection: Connection, alarm_id: int) -> Alarm:
    """One alarm; raises ``NotFound``."""
    row = connection.execute(select(alarms).where(alarms.c.id == alarm_id)).first()
    if row is None:
        raise NotFound("alarm is not there")
    return _alarm(row)


def listing(
    connection: Connection,
    *,
    is_open: bool | None = None,
    kinds: Iterable[AlarmKind] = (),
    controller_id: ControllerId | None = None,
    door_id: DoorId | None = None,
    after: int = 0,
    limit: int | None = None,
    sites: Sites = None,
) -> list[Alarm]:
    """Alarms of these sites with ``id`` above ``after``, in the order in which the hub noticed; of a door also those of all doors."""
    columns = alarms.c
    query = select(alarms).where(columns.id > after).order_by(columns.id)
    if is_open is not None:
        query = query.where(columns.closed_at.is_(None) if is_open else columns.closed_at.is_not(None))
    wanted = list(kinds)
    if wanted:
        query = query.where(columns.kind.in_(wanted))
    if controller_id is not None:
        query = query.where(columns.controller_id == controller_id)
    if door_id is not None:
        query = query.where((columns.door_id == door_id) | columns.door_id.is_(None))
    if sites is not None:
        query = query.where(columns.controller_id.in_(controllers_within(sites)))
    return [_alarm(row) for row in connection.execute(query if limit is None else query.limit(limit))]


def standing(connection: Connection) -> dict[str, Alarm]:
    """What stands, by the key of its subject."""
    query = select(alarms).where(alarms.c.standing_key.is_not(None), alarms.c.closed_at.is_(None))
    found = [_alarm(row) for row in connection.execute(query)]
    return {alarm.subject.key: alarm for alarm in found}


def ended_after(connection: Connection, subject: Subject, moment: datetime) -> bool:
    """Whether an alarm of this controller, kind and detail ended after ``moment``."""
    columns = alarms.c
    query = select(columns.id).where(
        columns.controller_id == subject.controller_id,
        columns.kind == subject.kind,
        columns.detail == subject.detail,
        columns.cleared_at > moment,
    )
    return connection.execute(query.limit(1)).first() is not None


def _alarm(row: Row[Any]) -> Alarm:
    columns = fields(row)
    subject = Subject(
        kind=AlarmKind(row.kind),
        controller_id=ControllerId(row.controller_id),
        door_id=None if row.door_id is None else DoorId(row.door_id),
        side=None if row.side is None else Side(row.side),
        detail=row.detail,
    )
    kept = "id since clock_trusted noticed_at cleared_at acknowledged_at acknowledged_by note remind_at closed_at"
    return Alarm(
        subject=subject,
        said_by_door=row.journal_id is not None,
        clearance=None if row.clearance is None else Clearance(row.clearance),
        **{name: columns[name] for name in kept.split()},
    )
