"""Attended requests: who waits at a door for a person's answer, the answer, and what became of those before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.door_status import Completeness, completeness_of
from hub.api.fields import Answer, Body
from hub.api.services import Services, services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import attendance as store
from hub.store import doors, operators, sites
from hub.store.attendance import PENDING, AttendedRequest, PersonAtDoor, RequestState
from hub.store.commands import CommandState
from pacs.commands import Action
from pacs.identifiers import CredentialId
from pacs.reason import Reason
from pacs.rules import Side

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/attended", tags=["attended"])

RequestInPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
_OPERATOR = "operator:"


@unique
class Verdict(StrEnum):
    """What a person decides."""

    GRANT = "grant"
    REFUSE = "refuse"


class GivenAnswer(Body):
    """What whoever is on duty decides, and why if they like; the reason is kept in the audit log."""

    answer: Verdict
    reason: fields.ReasonText | Literal[""] = ""


class AnswerSent(Answer):
    """An answer that was sent.

    ``by`` is as in the audit log; the name is null for those who may not see names. ``state``: what its door made of it, as
    of a command; ``refusal``: why the door refused it.
    """

    verdict: Verdict
    by: str
    name: str | None
    at: datetime
    state: CommandState
    refusal: Reason | None


class Person(Answer):
    """Who stands there. ``guardian``: the name of who answers for a ``minor``; ``door_note``: to whoever decides."""

    cardholder_id: fields.Cardholder
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


class AttendedAnswer(Answer):
    """One request.

    ``asked_at`` is the controller's clock, to be believed when ``clock_trusted``; ``received_at`` and ``expires_at``,
    exclusive, are the hub's. ``came_late``: its time was over when it came, so nobody was asked. ``is_recorded``: false while its door has only
    announced it, because its record is behind. ``reason``: why a person
    decides. ``state``: ``answered``: an answer was sent, the door has not said what became of it; ``unanswered``: its time is
    over by the hub's clock, and the door has not said what became of it. ``outcome_reason``: why the door ended it.
    ``said_by_door``: the end is the door's own word, and ``ended_at`` by its clock. ``looks``: to how many operators it was
    shown. ``person`` and ``credential_id``: while it waits, for who may see names; a ``person`` of null: an unknown card.
    ``blur_photo``: until somebody touches it.
    """

    id: str
    number: int
    state: RequestState
    site_id: fields.Site
    controller_id: fields.Controller
    door_id: fields.Door
    door_name: str
    side: Side | None
    reason: Reason
    asked_at: datetime
    clock_trusted: bool
    received_at: datetime
    expires_at: datetime
    came_late: bool
    is_recorded: bool
    outcome_reason: Reason | None
    said_by_door: bool
    ended_at: datetime | None
    looks: int
    answer: AnswerSent | None
    credential_id: fields.Credential | None
    person: Person | None
    blur_photo: bool

    @property
    def is_pending(self) -> bool:
        """Whether somebody waits."""
        return self.state in PENDING

    def without_names(self) -> AttendedAnswer:
        """The same request, saying nothing about who."""
        answer = self.answer and self.answer.model_copy(update={"name": None})
        return self.model_copy(update={"credential_id": None, "person": None, "answer": answer})


class AttendedRequests(Answer):
    """Requests; those that wait the oldest first, others the newest first, on with ``before=next_before`` until it is null.

    ``completeness``: where a door's record is not whole, somebody may have waited who is not here.
    """

    requests: list[AttendedAnswer]
    next_before: int | None
    completeness: list[Completeness]


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)],
    pending: Annotated[bool, Query()] = True,  # noqa: FBT002 - a parameter of the address
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    limit: fields.Limit = 100,
) -> AttendedRequests:
    """Everybody who waits; or, not ``pending``, all requests that are kept. Each look at a person is audited once."""
    hub = services(request)
    now = hub.clock()
    with hub.database.read() as connection:
        if pending:
            found = store.pending(connection, now, principal.sites)
        else:
            found = store.listing(connection, before=before, limit=limit + 1, sites=principal.sites)
        records = completeness_of(connection, now, None, sites=principal.sites)
    more = None if pending or len(found) <= limit else found[limit - 1].number
    shown = found if pending else found[:limit]
    return AttendedRequests(requests=shown_to(hub, principal, shown), next_before=more, completeness=records)


@router.get("/{request_id}")
def one(
    request_id: RequestInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)],
) -> AttendedAnswer:
    """One request; the look at a person is audited once."""
    hub = services(request)
    with hub.database.read() as connection:
        found = scope.attended(connection, principal, request_id)
    return shown_to(hub, principal, [found])[0]


@router.post("/{request_id}/answer")
def answer(
    request_id: RequestInPath,
    body: GivenAnswer,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ATTENDED_ANSWER)],
) -> AttendedAnswer:
    """Grant or refuse while it waits; the first answer counts, and the door says what became of it.

    One that the door refused, or did not hear of in its time, may be given again.
    """
    hub = services(request)
    with hub.database.read() as connection:
        scope.attended(connection, principal, request_id)
    given = hub.attendance.answer(
        request_id, granted=body.answer is Verdict.GRANT, reason=body.reason, actor=principal.actor
    )
    return shown_to(hub, principal, [given])[0]


def shown_to(
    hub: Services, principal: Principal, requests: Sequence[AttendedRequest]
) -> list[AttendedAnswer]:
    """These requests as this principal may see them, each look at a person audited."""
    names = principal.may(Permission.NAMES_READ)
    people = hub.attendance.show(requests, [principal.actor]) if names else {}
    with hub.database.read() as connection:
        found = answers(connection, requests, people, hub.clock())
    return found if names else [each.without_names() for each in found]


def answers(
    connection: Connection,
    requests: Sequence[AttendedRequest],
    people: Mapping[CredentialId, PersonAtDoor],
    now: datetime,
) -> list[AttendedAnswer]:
    """Requests with the names of doors, operators and these ``people``."""
    if not requests:
        return []
    door_names = doors.names(connection, {each.door_id for each in requests})
    site_of = sites.of_controllers(connection)
    blurs = {site.id: site.blur_photos for site in sites.list_all(connection)}
    everyone = {row.id: row.name for row in operators.list_operators(connection)}
    found = []
    for each in requests:
        state, site_id = each.state(now), site_of[each.controller_id]
        person = people.get(each.credential_id) if state in PENDING else None
        found.append(
            AttendedAnswer(
                **{name: getattr(each, name) for name in _SAME},
                state=state,
                site_id=site_id,
                door_name=door_names.get(each.door_id, each.door_id),
                answer=_sent(each, everyone, now),
                credential_id=each.credential_id if state in PENDING else None,
                person=None if person is None else Person.model_validate(person),
                blur_photo=blurs[site_id],
            )
        )
    return found


_SAME = (
    "id", "number", "controller_id", "door_id", "side", "reason", "asked_at", "clock_trusted", "received_at",
    "expires_at", "came_late", "is_recorded", "outcome_reason", "said_by_door", "ended_at", "looks",
)  # fmt: skip


def _sent(request: AttendedRequest, everyone: Mapping[str, str], now: datetime) -> AnswerSent | None:
    command = request.answer
    if command is None:
        return None
    return AnswerSent(
        verdict=Verdict.GRANT if command.action is Action.GRANT else Verdict.REFUSE,
        by=command.given_by,
        name=everyone.get(command.given_by.removeprefix(_OPERATOR)),
        at=command.issued_at,
        state=command.state(now),
        refusal=command.refusal,
    )
