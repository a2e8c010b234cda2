"""Commands to doors: signed, stored, audited, and sent until the door's own event says what became of them.

A command is published QoS 0 and repeated while it may still be carried out. That it was sent means nothing; the
controller's ``command_executed`` or ``command_refused``, which ``hub.ingest`` stores, is the only outcome.
"""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection

from hub import audit
from hub.distribution import Publish
from hub.keys import SigningKey
from hub.lookout import Lookout
from hub.store import commands, controllers, doors
from hub.store.commands import Outcome, StoredCommand
from hub.store.database import Database
from hub.store.doors import NamedDoor
from hub.store.errors import NotFound
from pacs.commands import ID_BYTES, MAX_LIFETIME, Action, Command, seal
from pacs.errors import MalformedData
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, CredentialId, DoorId, OperatorId
from pacs.reason import Reason
from pacs.rules import DoorMode
from pacs.topics import Down, DownTopic

UNLOCK_LIFETIME: Final = timedelta(minutes=1)
"""Of what is for somebody who stands at the door: they may have gone after that."""
LONGEST_ORDER: Final = timedelta(days=366)
FIRST_REPEAT_S: Final = 1.0
LONGEST_REPEAT_S: Final = 10.0

_MILLISECOND = timedelta(milliseconds=1)
_OUTCOMES = {EventKind.COMMAND_EXECUTED: Outcome.EXECUTED, EventKind.COMMAND_REFUSED: Outcome.REFUSED}

log = structlog.get_logger(__name__)


class CommandRefused(MalformedData):
    """A command that makes no sense; the message says which part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an operator wants of a door; ``mode`` and ``until`` belong to ``set_mode``.

    ``request_id`` and ``credential_id`` belong to the answer to an attended request, and so does ``lasts_until``, when the
    request ends: what is given expires then at the latest. ``renews``: it goes on with what was ordered, and is not audited again.
    """

    door_id: DoorId
    action: Action
    mode: DoorMode | None = None
    until: datetime | None = None
    request_id: bytes | None = None
    credential_id: CredentialId | None = None
    lasts_until: datetime | None = None
    renews: bool = False


@dataclass(slots=True)
class _Repetition:
    """``next_s``: monotonic."""

    next_s: float
    wait_s: float = FIRST_REPEAT_S


class Commands:
    """Gives commands, and repeats them in a thread of its own."""

    def __init__(
        self,
        database: Database,
        *,
        signing: Callable[[], SigningKey],
        publish: Publish,
        clock: Callable[[], datetime],
        monotonic_s: Callable[[], float] = time.monotonic,
        holds: Callable[[ControllerId], bool] = lambda _: True,
        given: Callable[[], None] = lambda: None,
    ) -> None:
        """``signing``: asked for what to sign with. ``holds``: whose commands this process repeats; ``given``: told of each."""
        self._database = database
        self._signing = signing
        self._publish = publish
        self._clock = clock
        self._monotonic_s = monotonic_s
        self._holds = holds
        self._tell_given = given
        self._repetitions: dict[str, _Repetition] = {}
        self.lookout = Lookout(
            "commands", self._repeat, every_s=FIRST_REPEAT_S, failed="commands_not_repeated"
        )
        """What was given before its start and may still be carried out is sent again."""

    def give(self, order: Order, *, reason: str, actor: str) -> StoredCommand:
        """Sign, store and send a command; returns before anything is known of its outcome.

        Raises ``NotFound`` when the door is not there or its controller is withdrawn, ``CommandRefused`` when the
        order makes no sense.
        """
        now = self._clock()
        with self._database.write() as connection:
            stored = self.store(connection, order, reason=reason, actor=actor, now=now)
        self.send(stored)
        return stored

    def store(
        self, connection: Connection, order: Order, *, reason: str, actor: str, now: datetime
    ) -> StoredCommand:
        """Sign a command in the caller's transaction, who ``send``s it after the commit; raises as ``give`` does."""
        named = doors.get(connection, order.door_id)
        door = named.door
        controller = controllers.get(connection, door.controller_id)
        if controller.retired_at is not None:
            raise NotFound(f"the controller of door {door.id} is withdrawn")
        if controller.revoked_at is not None:
            raise NotFound(f"the controller of door {door.id} is revoked")
        command = self._command(order, named, actor=actor, now=now)
        stored = StoredCommand(
            id=command.command_id.hex(),
            controller_id=command.controller_id,
            door_id=command.door_id,
            action=command.action,
            given_by=actor,
            reason=reason,
            data=seal(command, self._signing().key),
            issued_at=command.issued_at,
            expires_at=command.expires_at,
            mode=command.mode,
            until=command.until,
            request_id=None if command.request_id is None else command.request_id.hex(),
            credential_id=command.credential_id,
        )
        commands.add(connection, stored)
        if order.renews:
            return stored
        detail = {"command": stored.id, "action": command.action.value}
        if command.mode:
            detail["mode"] = command.mode.value
        if command.until:
            detail["until"] = command.until.isoformat()
        if stored.request_id:
            detail["request"] = stored.request_id
        audit.record(
            connection,
            now=now,
            actor=actor,
            action="command.give",
            subject=f"door:{door.id}",
            reason=reason,
            detail=detail,
        )
        return stored

    def _command(self, order: Order, named: NamedDoor, *, actor: str, now: datetime) -> Command:
        issued_at = now - timedelta(microseconds=now.microsecond % 1000)
        for_somebody = order.action in (Action.UNLOCK_ONCE, Action.TEST_SIGNALS, Action.GRANT)
        expires_at = issued_at + (UNLOCK_LIFETIME if for_somebody else MAX_LIFETIME)
        until = order.until
        if until is not None and not issued_at + _MILLISECOND <= until <= issued_at + LONGEST_ORDER:
            raise CommandRefused(f"until lies in the future, and at most {LONGEST_ORDER.days} days on")
        try:
            return Command(
                command_id=secrets.token_bytes(ID_BYTES),
                site_id=named.site_id,
                controller_id=named.door.controller_id,
                door_id=order.door_id,
                action=order.action,
                issued_at=issued_at,
                expires_at=min(expires_at, order.lasts_until or expires_at),
                operator_id=operator_id(actor),
                mode=order.mode,
                until=until,
                request_id=order.request_id,
                credential_id=order.credential_id,
            )
        except MalformedData as error:
            raise CommandRefused(str(error)) from error

    # ---- sending

    def send(self, command: StoredCommand) -> None:
        """Send what was stored, and again until its door's word comes."""
        self._send(command)
        self.lookout.wake()
        self._tell_given()

    def look(self) -> None:
        """Another process gave commands, or this one serves other controllers from now on."""
        self.lookout.wake()

    def _send(self, command: StoredCommand) -> None:
        self._publish(DownTopic(command.controller_id, Down.COMMAND), command.data)

    def _repeat(self) -> float:
        """Send what is due again; the time until something is, ``inf``: nothing is pending."""
        with self._database.read() as connection:
            pending = [
                each
                for each in commands.pending(connection, self._clock())
                if self._holds(each.controller_id)
            ]
        now_s = self._monotonic_s()
        known = self._repetitions
        self._repetitions = {
            each.id: known.get(each.id) or _Repetition(now_s + FIRST_REPEAT_S) for each in pending
        }
        for each in pending:
            repetition = self._repetitions[each.id]
            if repetition.next_s <= now_s:
                self._send(each)
                repetition.wait_s = min(2 * repetition.wait_s, LONGEST_REPEAT_S)
                repetition.next_s = now_s + repetition.wait_s
        due_s = [repetition.next_s for repetition in self._repetitions.values()]
        return max(0.05, min(due_s) - now_s) if due_s else math.inf


def ended(connection: Connection, controller_id: ControllerId, event: Event) -> None:
    """Take note of what a controller recorded of a command; what is not about one of its commands says nothing."""
    command_id = event.draft.details.get("command")
    if not isinstance(command_id, bytes) or len(command_id) != ID_BYTES:
        return
    if event.draft.reason is Reason.COMMAND_REPEATED:
        return  # it was judged before, which that event says; it may be one that a power cut took
    outcome = _OUTCOMES[event.draft.kind]
    commands.ended(
        connection,
        command_id.hex(),
        controller_id,
        outcome=outcome,
        refusal=event.draft.reason if outcome is Outcome.REFUSED else None,
        at=event.draft.occurred_at,
    )


def operator_id(actor: str) -> OperatorId:
    """What a door is told of who gave a command: always the same, and nothing to anybody but this hub."""
    return OperatorId(hashlib.sha256(b"drempel operator\0" + actor.encode()).hexdigest()[:32])
