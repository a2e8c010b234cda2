"""Who can open this door, what this person can open, and why not."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.fields import Answer
from hub.api.services import services
from hub.operators import Principal
from hub.questions import Findings
from hub.roles import Permission
from hub.store import directory
from pacs.decision import Outcome
from pacs.identifiers import CardholderId
from pacs.reason import Reason

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1", tags=["questions"])


class Decided(Answer):
    """What the decision at the entry side is; ``unlock_ms`` is 0 unless it is a grant."""

    outcome: Outcome
    reason: Reason
    unlock_ms: int


class Interval(Answer):
    """From ``since`` to before ``until`` the door opens, or somebody is asked."""

    since: datetime
    until: datetime
    outcome: Outcome
    reason: Reason


class Verdict(Answer):
    """One card at one door.

    ``in_force``: by the documents in force. ``at_door``: by those the door has confirmed; null: they are not kept here,
    so nothing is known. ``differs``: the two are not known to be the same. ``week``: the seven days that follow, by the
    rules in force alone. ``name`` is null for who may not see names.
    """

    door_id: fields.Door
    credential_id: fields.Credential
    cardholder_id: fields.Cardholder
    name: str | None
    in_force: Decided
    at_door: Decided | None
    differs: bool
    week: list[Interval]


class DoorBasis(Answer):
    """What a door goes by. Versions are 0 for none; ``current``: it confirmed both versions in force."""

    door_id: fields.Door
    name: str
    online: bool
    clock_trusted: bool
    policy_version: int
    policy_in_force: int
    revocations_version: int
    revocations_in_force: int
    current: bool


class Access(Answer):
    """The answer. ``settled``: every change made so far is in the documents in force.

    What the door alone can see is taken as usual: an authentic card in its certificate's dates, no escort, no open
    interlocked door, nobody inside. Go on with ``after=next_after`` until it is null.
    """

    at: datetime
    settled: bool
    doors: list[DoorBasis]
    verdicts: list[Verdict]
    next_after: str | None


@router.get("/doors/{door_id}/access")
def who(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
    at: fields.Instant | None = None,
    cardholder: fields.Cardholder | None = None,
    after: fields.AfterCredential = None,
    limit: fields.Limit = 100,
) -> Access:
    """Which cards open this door, when, and why not; now, or at another time."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.door(connection, principal, door_id)
        if cardholder is not None:
            scope.cardholder(connection, principal, cardholder)
    found = hub.questions.who(door_id, at=at, cardholder_id=cardholder, after=after, limit=limit)
    return _answer(request, principal, found, subject=f"door:{door_id}")


@router.get("/cardholders/{cardholder_id}/access")
def what(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
    at: fields.Instant | None = None,
) -> Access:
    """Which doors a person's cards open, when, and why not; now, or at another time."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.cardholder(connection, principal, cardholder_id)
    found = hub.questions.what(cardholder_id, at=at, sites=principal.sites)
    return _answer(request, principal, found, subject=f"cardholder:{cardholder_id}")


def _answer(request: Request, principal: Principal, found: Findings, *, subject: str) -> Access:
    hub = services(request)
    people = {each.cardholder_id for each in found.verdicts}
    names: dict[CardholderId, str] = {}
    if principal.may(Permission.NAMES_READ):
        with hub.database.read() as connection:
            names = dict(directory.names_of(connection, people))
    looked(hub, principal, subject, shown=len(people))
    verdicts = [
        Verdict(
            door_id=each.door_id,
            credential_id=each.credential_id,
            cardholder_id=each.cardholder_id,
            name=names.get(each.cardholder_id),
            in_force=Decided.model_validate(each.in_force),
            at_door=None if each.at_door is None else Decided.model_validate(each.at_door),
            differs=each.differs,
            week=[Interval.model_validate(interval) for interval in each.week],
        )
        for each in found.verdicts
    ]
    return Access(
        at=found.at,
        settled=hub.is_settled(),
        doors=[DoorBasis.model_validate(each) for each in found.doors],
        verdicts=verdicts,
        next_after=str(found.verdicts[-1].credential_id) if found.more else None,
    )
