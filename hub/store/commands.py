"""Commands: what was signed, for which door, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, or_, select, update

from hub.store.database import fields, insert_new
from hub.store.errors import NotFound
from hub.store.schema import commands
from pacs.commands import Action
from pacs.identifiers import ControllerId, CredentialId, DoorId
from pacs.reason import Reason
from pacs.rules import DoorMode

_ABOUT_POSTS: Final = (Action.OPEN_POST, Action.CLOSE_POST)


@unique
class Outcome(StrEnum):
    """What a controller's event says of a command."""

    EXECUTED = "executed"
    REFUSED = "refused"


@unique
class CommandState(StrEnum):
    """Where a command stands. ``unanswered``: it expired, and whether it was carried out is not known."""

    SENT = "sent"
    EXECUTED = "executed"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCommand:
    """One command.

    ``id`` and ``request_id``: hex. ``given_by``: as in the audit log. ``data``: sealed, as it travels.
    ``outcome_at``: by the controller's clock. ``refusal``: why the controller refused it.
    """

    id: str
    controller_id: ControllerId
    door_id: DoorId
    action: Action
    given_by: str
    reason: str
    data: bytes
    issued_at: datetime
    expires_at: datetime
    mode: DoorMode | None = None
    until: datetime | None = None
    request_id: str | None = None
    credential_id: CredentialId | None = None
    outcome: Outcome | None = None
    refusal: Reason | None = None
    outcome_at: datetime | None = None

    def state(self, now: datetime) -> CommandState:
        """Where it stands at this moment."""
        if self.outcome is not None:
            return CommandState(self.outcome.value)
        return CommandState.SENT if now < self.expires_at else CommandState.UNANSWERED


def add(connection: Connection, command: StoredCommand) -> None:
    """Store a command that is about to be sent; raises ``AlreadyExists`` and ``NotFound``."""
    row = asdict(command)
    row["credential_id"] = None if command.credential_id is None else str(command.credential_id)
    insert_new(connection, commands, row)


def get(connection: Connection, command_id: str) -> StoredCommand:
    """One command; raises ``NotFound``."""
    row = connection.execute(select(commands).where(commands.c.id == command_id)).first()
    if row is None:
        raise NotFound("command is not there")
    return _command(row)


def of_door(connection: Connection, door_id: DoorId, *, limit: int) -> list[StoredCommand]:
    """The newest commands to one door, newest first."""
    columns = commands.c
    query = select(commands).where(columns.door_id == door_id)
    rows = connection.execute(query.order_by(columns.issued_at.desc(), columns.id).limit(limit))
    return [_command(row) for row in rows]


def with_ids(connection: Connection, ids: Collection[str]) -> dict[str, StoredCommand]:
    """Those of these commands that are there, by id."""
    if not ids:
        return {}
    return {
        row.id: _command(row) for row in connection.execute(select(commands).where(commands.c.id.in_(ids)))
    }


def pending(connection: Connection, now: datetime) -> list[StoredCommand]:
    """Commands that may still be carried out and of which nothing was heard, oldest first.

    One that opens or closes a post is left out once another does, or once the door was ordered into a mode.
    """
    columns, later = commands.c, commands.alias()
    newer = select(later.c.id).where(
        later.c.door_id == columns.door_id,
        later.c.issued_at > columns.issued_at,
        later.c.action.in_((*_ABOUT_POSTS, Action.SET_MODE)),
    )
    is_overtaken = columns.action.in_(_ABOUT_POSTS) & newer.exists()
    query = select(commands).where(columns.expires_at > now, columns.outcome.is_(None), ~is_overtaken)
    return [_command(row) for row in connection.execute(query.order_by(columns.issued_at))]


def ordered_since(connection: Connection, since: Mapping[DoorId, datetime | None]) -> frozenset[DoorId]:
    """Those of these doors that were ordered into a mode at this time or later; None: never."""
    columns = commands.c
    asked = [(columns.door_id == each) & (columns.issued_at > at) for each, at in since.items() if at]
    if not asked:
        return frozenset()
    query = select(columns.door_id).where(columns.action == Action.SET_MODE, or_(*asked))
    return frozenset(map(DoorId, connection.scalars(query.distinct())))


def remove(connection: Connection, command_id: str) -> None:
    """Forget a command whose outcome another one shows."""
    connection.execute(delete(commands).where(commands.c.id == command_id))


def ended(
    connection: Connection,
    command_id: str,
    controller_id: ControllerId,
    *,
    outcome: Outcome,
    refusal: Reason | None,
    at: datetime,
) -> bool:
    """What its controller recorded of a command; the first word counts. False: it is not one, or said before."""
    columns = commands.c
    mine = (columns.id == command_id) & (columns.controller_id == controller_id)
    values = {"outcome": outcome, "refusal": refusal, "outcome_at": at}
    changed = connection.execute(update(commands).where(mine, columns.outcome.is_(None)).values(**values))
    return changed.rowcount > 0


def give_up(connection: Connection, controller_id: ControllerId, now: datetime) -> int:
    """Send no command to this controller any more: those without an outcome stay unanswered. Returns how many."""
    columns = commands.c
    mine = (columns.controller_id == controller_id) & columns.outcome.is_(None) & (columns.expires_at > now)
    return connection.execute(update(commands).where(mine).values(expires_at=now)).rowcount


def _command(row: Row[Any]) -> StoredCommand:
    columns: Mapping[str, Any] = fields(row)
    parsed = {
        "controller_id": ControllerId(row.controller_id),
        "door_id": DoorId(row.door_id),
        "action": Action(row.action),
        "mode": None if row.mode is None else DoorMode(row.mode),
        "credential_id": None if row.credential_id is None else CredentialId.parse(row.credential_id),
        "outcome": None if row.outcome is None else Outcome(row.outcome),
        "refusal": None if row.refusal is None else Reason(row.refusal),
    }
    return StoredCommand(**{**columns, **parsed})
