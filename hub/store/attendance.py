"""Attended requests: who waits at a door for a person's answer, who was shown it, and how each one ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, func, insert, select, update

from hub.store import commands
from hub.store.commands import CommandState, StoredCommand
from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import attended_looks, attended_requests, cardholders, cards, photographs
from hub.store.sites import Sites, controllers_within
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import Side


@unique
class Outcome(StrEnum):
    """How a request ended.

    ``replaced``: another card was presented. ``unanswered``: its time was over by the hub's clock, and the door has not
    said what became of it. ``unknown``: the door said it in a word that this hub does not know.
    """

    GRANTED = "granted"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    UNANSWERED = "unanswered"
    UNKNOWN = "unknown"


@unique
class RequestState(StrEnum):
    """Where a request stands. ``answered``: an answer was sent, and the door has not said what became of it."""

    WAITING = "waiting"
    ANSWERED = "answered"
    GRANTED = "granted"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    WITHDRAWN = "withdrawn"
    REPLACED = "replaced"
    UNANSWERED = "unanswered"
    UNKNOWN = "unknown"


PENDING: Final = frozenset({RequestState.WAITING, RequestState.ANSWERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class AttendedRequest:
    """One request.

    ``id``: hex, as the door drew it; ``number``: order of arrival. ``asked_at`` is the controller's clock, to be believed
    when ``clock_trusted``; ``received_at`` and ``expires_at``, exclusive, are the hub's. ``came_late``: its time was over
    when it came. ``ended_at`` is by the clock of whoever ended it: the door when ``said_by_door``, else the hub.
    ``answer``: the last one that was sent. ``looks``: to how many it was shown. ``is_recorded``: its event has come in its turn; else
    its door has announced it, and its record is on its way.
    """

    number: int
    id: str
    controller_id: ControllerId
    door_id: DoorId
    side: Side | None
    credential_id: CredentialId
    reason: Reason
    asked_at: datetime
    clock_trusted: bool
    received_at: datetime
    expires_at: datetime
    came_late: bool
    is_recorded: bool = True
    outcome: Outcome | None = None
    outcome_reason: Reason | None = None
    said_by_door: bool = False
    ended_at: datetime | None = None
    answer: StoredCommand | None = None
    looks: int = 0

    def state(self, now: datetime) -> RequestState:
        """Where it stands at this moment; an answer that the door refused, or that ran out, leaves it waiting."""
        if self.outcome is not None:
            return RequestState(self.outcome.value)
        if now >= self.expires_at:
            return RequestState.UNANSWERED
        answered = self.answer is not None and self.answer.state(now) in (
            CommandState.SENT,
            CommandState.EXECUTED,
        )
        return RequestState.ANSWERED if answered else RequestState.WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonAtDoor:
    """What whoever decides at a door has to know of somebody. ``guardian``: the name of who answers for a minor."""

    cardholder_id: CardholderId
    given_name: str
    family_name: str
    latin_given_name: str | None
    language: str | None
    has_photo: bool
    extended_opening: bool
    escort_required: bool
    minor: bool
    guardian: str | None
    door_note: str | None


def asked(connection: Connection, request: AttendedRequest) -> bool:
    """Somebody waits, or, when the request is there, waits on; a late one is kept with its end. False: nothing changed.

    What the hub itself ended waits again when the door asks again in time; another controller's request stays as it is.
    """
    columns = attended_requests.c
    late = {"outcome": Outcome.UNANSWERED, "ended_at": request.expires_at} if request.came_late else {}
    known = connection.execute(select(attended_requests).where(columns.id == request.id)).first()
    if known is None:
        row = {name: getattr(request, name) for name in _STORED}
        row["credential_id"] = str(request.credential_id)
        connection.execute(insert(attended_requests).values(row | {"said_by_door": False} | late))
        return True
    if known.controller_id != request.controller_id:
        return False
    if request.is_recorded and not known.is_recorded:
        connection.execute(update(attended_requests).where(columns.id == request.id).values(is_recorded=True))
    if known.said_by_door:
        return False
    again = {"reason": request.reason, "expires_at": max(request.expires_at, known.expires_at)}
    if not request.came_late:
        again |= {"outcome": None, "ended_at": None}
    connection.execute(update(attended_requests).where(columns.id == request.id).values(again))
    return True


def ended(
    connection: Connection,
    request_id: str,
    controller_id: ControllerId,
    *,
    outcome: Outcome,
    reason: Reason | None,
    at: datetime,
) -> bool:
    """Its door said how it ended: its first word counts, whatever the hub had made of it. False: it says nothing new."""
    columns = attended_requests.c
    mine = (columns.id == request_id) & (columns.controller_id == controller_id) & ~columns.said_by_door
    values = {"outcome": outcome, "outcome_reason": reason, "said_by_door": True, "ended_at": at}
    return connection.execute(update(attended_requests).where(mine).values(values)).rowcount > 0


def forgotten(connection: Connection, controller_id: ControllerId, *, at: datetime) -> bool:
    """A controller that starts anew holds no request any more. False: none of its requests waited.

    One that was only announced began after the start that is told of here: its own event would have come before it.
    """
    columns = attended_requests.c
    mine = (columns.controller_id == controller_id) & columns.ended_at.is_(None) & columns.is_recorded
    values = {"outcome": Outcome.WITHDRAWN, "said_by_door": True, "ended_at": at}
    return connection.execute(update(attended_requests).where(mine).values(values)).rowcount > 0


def answered(connection: Connection, request: AttendedRequest, command_id: str) -> None:
    """This command is its answer from here on."""
    mine = attended_requests.c.number == request.number
    connection.execute(update(attended_requests).where(mine).values(command_id=command_id))


def is_answer(connection: Connection, command_id: str) -> bool:
    """Whether a command is some request's answer."""
    mine = attended_requests.c.command_id == command_id
    return connection.execute(select(attended_requests.c.number).where(mine).limit(1)).first() is not None


def any_over(connection: Connection, now: datetime) -> bool:
    """Whether ``expired`` has something to do."""
    return (
        connection.execute(select(attended_requests.c.number).where(_over(now)).limit(1)).first() is not None
    )


def expired(connection: Connection, now: datetime) -> int:
    """End, by the hub's clock, what nobody ended in time; how many."""
    values = {"outcome": Outcome.UNANSWERED, "ended_at": attended_requests.c.expires_at}
    return connection.execute(update(attended_requests).where(_over(now)).values(values)).rowcount


def looked(connection: Connection, request: AttendedRequest, actor: str, now: datetime) -> bool:
    """It was shown to ``actor``; False: it was before."""
    columns = attended_looks.c
    mine = (columns.number == request.number) & (columns.actor == actor)
    if connection.execute(select(columns.at).where(mine)).first() is not None:
        return False
    connection.execute(insert(attended_looks).values(number=request.number, actor=actor, at=now))
    return True


def get(connection: Connection, request_id: str) -> AttendedRequest:
    """One request; raises ``NotFound``."""
    found = _read(connection, select(attended_requests).where(attended_requests.c.id == request_id))
    if not found:
        raise NotFound("request is not there")
    return found[0]


def pending(connection: Connection, now: datetime, sites: Sites = None) -> list[AttendedRequest]:
    """Those of these sites that wait or whose answer is on its way, the oldest first."""
    columns = attended_requests.c
    query = select(attended_requests).where(columns.ended_at.is_(None), columns.expires_at > now)
    return _read(connection, _within(query, sites).order_by(columns.number))


def count_pending(connection: Connection, now: datetime, sites: Sites = None) -> int:
    """How many of these sites wait, or have an answer on its way."""
    columns = attended_requests.c
    query: Select[tuple[Any, ...]] = select(func.count(columns.number))
    query = query.where(columns.ended_at.is_(None), columns.expires_at > now)
    return int(connection.execute(_within(query, sites)).scalar_one())


def listing(
    connection: Connection,
    *,
    before: int | None = None,
    since: datetime | None = None,
    limit: int,
    sites: Sites = None,
) -> list[AttendedRequest]:
    """Requests of these sites, the newest first: with ``number`` below ``before``, received ``since``."""
    columns = attended_requests.c
    query = _within(select(attended_requests), sites)
    if before is not None:
        query = query.where(columns.number < before)
    if since is not None:
        query = query.where(columns.received_at >= since)
    return _read(connection, query.order_by(columns.number.desc()).limit(limit))


def with_ids(connection: Connection, ids: Collection[str]) -> list[AttendedRequest]:
    """Those of these requests that are there, the oldest first."""
    columns = attended_requests.c
    query = select(attended_requests).where(columns.id.in_(sorted(ids)))
    return _read(connection, query.order_by(columns.number)) if ids else []


def people(
    connection: Connection, credentials: Iterable[CredentialId]
) -> Mapping[CredentialId, PersonAtDoor]:
    """Whose cards these are; unknown cards are left out."""
    guardians = cardholders.alias()
    columns = cardholders.c
    wanted = sorted({str(each) for each in credentials})
    query = (
        select(
            cards.c.credential_id,
            *(columns[name] for name in _OF_PERSON),
            columns.id,
            guardians.c.given_name.label("guardian_given"),
            guardians.c.family_name.label("guardian_family"),
            photographs.c.cardholder_id.is_not(None).label("has_photo"),
        )
        .select_from(cards)
        .join(cardholders, cards.c.cardholder_id == columns.id)
        .outerjoin(guardians, columns.guardian_id == guardians.c.id)
        .outerjoin(photographs, photographs.c.cardholder_id == columns.id)
        .where(cards.c.credential_id.in_(wanted), columns.erased_at.is_(None))
    )
    return {
        CredentialId.parse(row.credential_id): PersonAtDoor(
            cardholder_id=CardholderId(row.id),
            has_photo=row.has_photo,
            guardian=f"{row.guardian_given or ''} {row.guardian_family or ''}".strip() or None,
            **{name: getattr(row, name) for name in _OF_PERSON},
        )
        for row in connection.execute(query)
    }


_STORED = (
    "id", "controller_id", "door_id", "side", "reason", "asked_at", "clock_trusted",
    "received_at", "expires_at", "came_late", "is_recorded",
)  # fmt: skip
_OF_PERSON = (
    "given_name", "family_name", "latin_given_name", "language", "extended_opening", "escort_required", "minor", "door_note",
)  # fmt: skip


def _over(now: datetime) -> ColumnElement[bool]:
    return attended_requests.c.ended_at.is_(None) & (attended_requests.c.expires_at <= now)


def _within(query: Select[tuple[Any, ...]], sites: Sites) -> Select[tuple[Any, ...]]:
    if sites is None:
        return query
    return query.where(attended_requests.c.controller_id.in_(controllers_within(sites)))


def _read(connection: Connection, query: Select[tuple[Any, ...]]) -> list[AttendedRequest]:
    rows = connection.execute(query).all()
    answers = commands.with_ids(connection, [row.command_id for row in rows if row.command_id])
    return [_request(row, answers.get(row.command_id), looks) for row, looks in _with_looks(connection, rows)]


def _with_looks(connection: Connection, rows: Sequence[Row[Any]]) -> Iterable[tuple[Row[Any], int]]:
    number = attended_looks.c.number
    query = select(number, func.count().label("times")).where(number.in_([row.number for row in rows]))
    looks = {row.number: row.times for row in connection.execute(query.group_by(number))} if rows else {}
    return ((row, looks.get(row.number, 0)) for row in rows)


def _request(row: Row[Any], answer: StoredCommand | None, looks: int) -> AttendedRequest:
    columns = fields(row)
    del columns["command_id"]
    parsed = {
        "controller_id": ControllerId(row.controller_id),
        "door_id": DoorId(row.door_id),
        "side": None if row.side is None else Side(row.side),
        "credential_id": CredentialId.parse(row.credential_id),
        "reason": Reason(row.reason),
        "outcome": None if row.outcome is None else Outcome(row.outcome),
        "outcome_reason": None if row.outcome_reason is None else Reason(row.outcome_reason),
    }
    return AttendedRequest(**{**columns, **parsed}, answer=answer, looks=looks)
