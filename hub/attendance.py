"""Attended requests at the hub: opened and ended by what doors record, answered by whoever is on duty, and by one of them.

A request has one end: its door's own word, or, when that does not come in time, the hub's clock; what the door says later
still counts. An answer is a signed command that expires with its request. What it came to only the door says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeGuard

import structlog
from sqlalchemy import Connection

from hub import audit
from hub.commands import Commands, Order
from hub.live import LiveBus, RequestsChanged
from hub.lookout import Lookout
from hub.store import attendance, doors
from hub.store.attendance import PENDING, AttendedRequest, Outcome, PersonAtDoor, RequestState
from hub.store.database import Database
from pacs.commands import ID_BYTES, Action
from pacs.errors import StoreError
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, CredentialId
from pacs.reason import Reason

WATCH_EVERY_S: Final = 0.5
LONGEST_WAIT_S: Final = 600  # as pacs.rules.Door has it
SOONEST: Final = timedelta(milliseconds=1)

_PEOPLE_DECIDE: Final = frozenset(
    {Reason.DOOR_ATTENDED, Reason.CARDHOLDER_ATTENDED, Reason.UNLISTED_REFERRED}
)

log = structlog.get_logger(__name__)


class RequestAnswered(StoreError):
    """Somebody answered this request before; ``answered`` says who, what and when."""

    def __init__(self, answered: AttendedRequest) -> None:
        super().__init__("somebody else answered this request before")
        self.answered = answered


class RequestOver(StoreError):
    """Nobody waits for an answer to this request any more."""


class Attendance:
    """Takes answers, and watches in a thread of its own for requests whose time is over."""

    def __init__(
        self,
        database: Database,
        commands: Commands,
        live: LiveBus,
        clock: Callable[[], datetime],
        *,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``leads``: whether it is this process that watches."""
        self._database = database
        self._commands = commands
        self._live = live
        self._clock = clock
        self.lookout = Lookout(
            "attendance",
            self.expire,
            every_s=WATCH_EVERY_S,
            first_s=WATCH_EVERY_S,
            failed="requests_not_watched",
            leads=leads,
        )

    def answer(self, request_id: str, *, granted: bool, reason: str, actor: str) -> AttendedRequest:
        """Grant or refuse; returns before the door has said what became of it. The same from the same actor is the first one.

        One that the door refused, or did not hear of in its time, may be given again, either way, while the request waits.
        Raises ``NotFound`` when the request or its door is not there, ``RequestAnswered`` and ``RequestOver``.
        """
        action = Action.GRANT if granted else Action.REFUSE
        now = self._clock()
        with self._database.write() as connection:
            found = attendance.get(connection, request_id)
            state, before = found.state(now), found.answer
            if before is not None and state in (
                RequestState.ANSWERED,
                RequestState.GRANTED,
                RequestState.REFUSED,
            ):
                if (before.given_by, before.action) != (actor, action):
                    raise RequestAnswered(found)
                return found
            if state is not RequestState.WAITING or found.expires_at - now < SOONEST:
                raise RequestOver("nobody waits for an answer to this request any more")
            order = Order(
                door_id=found.door_id,
                action=action,
                request_id=bytes.fromhex(found.id),
                credential_id=found.credential_id,
                lasts_until=found.expires_at,
            )
            command = self._commands.store(connection, order, reason=reason, actor=actor, now=now)
            attendance.answered(connection, found, command.id)
            given = attendance.get(connection, request_id)
        self._commands.send(command)
        self._live.publish(RequestsChanged())
        return given

    def show(
        self, requests: Sequence[AttendedRequest], actors: Iterable[str]
    ) -> dict[CredentialId, PersonAtDoor]:
        """Who stands there, for requests that wait; each look is audited before, once for each actor and request."""
        now = self._clock()
        waiting = [each for each in requests if each.state(now) in PENDING]
        if not waiting:
            return {}
        with self._database.write() as connection:
            people = dict(attendance.people(connection, {each.credential_id for each in waiting}))
            for request in waiting:
                for actor in actors:
                    if attendance.looked(connection, request, actor, now):
                        _audit_look(connection, request, people.get(request.credential_id), actor, now)
        return people

    def expire(self) -> None:
        """End what nobody ended in time."""
        now = self._clock()
        with self._database.read() as connection:
            if not attendance.any_over(connection, now):
                return
        with self._database.write() as connection:
            count = attendance.expired(connection, now)
        log.info("requests_not_answered", count=count)
        self._live.publish(RequestsChanged())


def _audit_look(
    connection: Connection, request: AttendedRequest, person: PersonAtDoor | None, actor: str, now: datetime
) -> None:
    subject = f"cardholder:{person.cardholder_id}" if person else f"attended:{request.id}"
    audit.record(
        connection,
        now=now,
        actor=actor,
        action="attended.show",
        subject=subject,
        detail={"request": request.id, "door": str(request.door_id)},
    )


def noted(
    connection: Connection, controller_id: ControllerId, event: Event, *, is_believed: bool, now: datetime
) -> bool:
    """Take note of what an event says of requests, in the transaction that stores it; whether pages look different now.

    ``is_believed``: it occurred when it says.
    """
    match event.draft.kind:
        case EventKind.ACCESS_REFERRED:
            return _asked(connection, controller_id, event, is_believed=is_believed, now=now)
        case EventKind.REFERRAL_ENDED:
            return _ended(connection, controller_id, event)
        case EventKind.CONTROLLER_STARTED:
            return attendance.forgotten(connection, controller_id, at=event.draft.occurred_at)
        case EventKind.COMMAND_EXECUTED | EventKind.COMMAND_REFUSED:
            command_id = event.draft.details.get("command")
            return isinstance(command_id, bytes) and attendance.is_answer(connection, command_id.hex())
        case _:
            return False


def announced(
    connection: Connection, controller_id: ControllerId, event: Event, *, is_believed: bool, now: datetime
) -> bool:
    """The same of an event before its turn: its controller's record is behind. One that comes too late opens nothing."""
    match event.draft.kind:
        case EventKind.ACCESS_REFERRED:
            return _asked(
                connection, controller_id, event, is_believed=is_believed, now=now, is_recorded=False
            )
        case EventKind.REFERRAL_ENDED:
            return _ended(connection, controller_id, event)
        case _:
            return False


def _asked(
    connection: Connection,
    controller_id: ControllerId,
    event: Event,
    *,
    is_believed: bool,
    now: datetime,
    is_recorded: bool = True,
) -> bool:
    draft = event.draft
    request, timeout_s = draft.details.get("request"), draft.details.get("timeout_s")
    if draft.door_id is None or draft.credential_id is None or not _is_request(request):
        return False
    if draft.reason is Reason.ESCORT_AWAITED:  # a card at the door is awaited, and no answer from here
        return attendance.ended(
            connection,
            request.hex(),
            controller_id,
            outcome=Outcome.WITHDRAWN,
            reason=draft.reason,
            at=draft.occurred_at,
        )
    if draft.reason not in _PEOPLE_DECIDE or type(timeout_s) is not int:
        return False
    if draft.door_id in doors.private(connection):  # nobody is told who stands there
        return False
    since = min(draft.occurred_at, now) if is_believed else now
    expires_at = since + timedelta(seconds=max(1, min(timeout_s, LONGEST_WAIT_S)))
    expires_at -= timedelta(microseconds=expires_at.microsecond % 1000)
    if not is_recorded and expires_at <= now:  # kept once it comes in its turn
        return False
    return attendance.asked(
        connection,
        AttendedRequest(
            number=0,
            id=request.hex(),
            controller_id=controller_id,
            door_id=draft.door_id,
            side=draft.side,
            credential_id=draft.credential_id,
            reason=draft.reason,
            asked_at=draft.occurred_at,
            clock_trusted=draft.clock_trusted,
            received_at=now,
            expires_at=expires_at,
            came_late=expires_at <= now,
            is_recorded=is_recorded,
        ),
    )


def _ended(connection: Connection, controller_id: ControllerId, event: Event) -> bool:
    request, said = (event.draft.details.get(name) for name in ("request", "outcome"))
    if not _is_request(request):
        return False
    return attendance.ended(
        connection,
        request.hex(),
        controller_id,
        outcome=Outcome(str(said)) if said in _SAID else Outcome.UNKNOWN,
        reason=event.draft.reason,
        at=event.draft.occurred_at,
    )


_SAID: Final = frozenset(each.value for each in Outcome) - {Outcome.UNANSWERED.value, Outcome.UNKNOWN.value}


def _is_request(value: object) -> TypeGuard[bytes]:
    return isinstance(value, bytes) and len(value) == ID_BYTES
