"""Who is exempt from reporting in, and who may report for whom."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field, model_validator
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked, note
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import directory
from hub.store import duties as store
from hub.store.errors import NotFound
from pacs.identifiers import CardholderId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/registration", tags=["registration"])

ExemptionInPath = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class NewExemption(Body):
    """Somebody need not report on these days, for one duty or, without one, for any."""

    cardholder_id: fields.Cardholder
    duty_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    first_day: fields.Day
    last_day: fields.Day
    reason: fields.ReasonText

    @model_validator(mode="after")
    def _in_order(self) -> NewExemption:
        if self.last_day < self.first_day:
            raise ValueError("last_day is not before first_day")
        return self


class ExemptionEnd(Body):
    """Why an exemption ends; kept in the audit log."""

    reason: fields.ReasonText


class Exemption(Answer):
    """One exemption; ``person`` is null for who may not see names. ``lifted_at``: it holds no more, and never did."""

    id: str
    cardholder_id: fields.Cardholder
    person: str | None
    duty_id: str | None
    first_day: date
    last_day: date
    reason: str
    given_by: str
    given_at: datetime
    lifted_by: str | None
    lifted_at: datetime | None


class Exemptions(Answer):
    """The newest first."""

    exemptions: list[Exemption]


class Reporters(Answer):
    """For whom else somebody may report, and who else may report for them."""

    cardholder_id: fields.Cardholder
    reports_for: list[fields.Cardholder]
    reported_by: list[fields.Cardholder]


@router.post("/exemptions", status_code=201)
def add_exemption(
    body: NewExemption,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Exemption:
    """Exempt somebody, also for days that are over; audited. Write no diagnosis into the reason."""
    hub = services(request)
    with hub.database.write() as connection:
        try:
            person = scope.own_cardholder(connection, principal, body.cardholder_id)
            if body.duty_id is not None:
                scope.duty(connection, principal, body.duty_id)
        except NotFound as error:
            raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
        made = store.Exemption(
            id=secrets.token_hex(16),
            cardholder_id=person.id,
            duty_id=body.duty_id,
            first_day=body.first_day,
            last_day=body.last_day,
            reason=body.reason,
            given_by=principal.actor,
            given_at=hub.clock(),
        )
        store.add_exemption(connection, made)
        note(connection, hub, principal, action="exemption.give", subject=f"cardholder:{person.id}")
    return _exemption(made, None)


@router.get("/exemptions")
def list_exemptions(
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
    cardholder: fields.Cardholder | None = None,
) -> Exemptions:
    """Exemptions of the people of your sites, or of one of them. Names for those who may see them; audited."""
    hub = services(request)
    with hub.database.read() as connection:
        of = None if cardholder is None else [cardholder]
        found = store.list_exemptions(connection, of=of, sites=principal.sites)
        names = _names(connection, principal, (each.cardholder_id for each in found))
    looked(hub, principal, "exemptions", shown=len(names))
    return Exemptions(exemptions=[_exemption(each, names.get(each.cardholder_id)) for each in found])


@router.post("/exemptions/{exemption_id}/lift")
def lift_exemption(
    exemption_id: ExemptionInPath,
    body: ExemptionEnd,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Exemption:
    """End an exemption, as if it had never been; that it was stays on record. Safe to repeat."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.exemption(connection, principal, exemption_id)
        if found.lifted_at is None:
            store.lift_exemption(connection, exemption_id, lifted_by=principal.actor, now=hub.clock())
            subject = f"cardholder:{found.cardholder_id}"
            note(connection, hub, principal, action="exemption.lift", subject=subject, reason=body.reason)
        return _exemption(store.get_exemption(connection, exemption_id), None)


@router.get("/reporters/{cardholder_id}")
def reporters(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
) -> Reporters:
    """For whom else somebody may report, and who else may report for them."""
    with services(request).database.read() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        return _reporters(connection, cardholder_id)


@router.put("/reporters/{cardholder_id}/{for_cardholder_id}")
def set_reporter(
    cardholder_id: fields.Cardholder,
    for_cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Reporters:
    """Let somebody report for another person, such as a parent for a child; safe to repeat."""
    hub = services(request)
    with hub.database.write() as connection:
        _both(connection, principal, cardholder_id, for_cardholder_id)
        if for_cardholder_id not in store.reported_for(connection, cardholder_id):
            store.set_reporter(
                connection, cardholder_id, for_cardholder_id, set_by=principal.actor, now=hub.clock()
            )
            subject = f"cardholder:{cardholder_id}"
            note(connection, hub, principal, action="reporter.set", subject=subject)
        return _reporters(connection, cardholder_id)


@router.delete("/reporters/{cardholder_id}/{for_cardholder_id}", status_code=204)
def remove_reporter(
    cardholder_id: fields.Cardholder,
    for_cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Response:
    """Let somebody report for another person no more; what they reported stays."""
    hub = services(request)
    with hub.database.write() as connection:
        _both(connection, principal, cardholder_id, for_cardholder_id)
        store.remove_reporter(connection, cardholder_id, for_cardholder_id)
        note(connection, hub, principal, action="reporter.remove", subject=f"cardholder:{cardholder_id}")
    return Response(status_code=204)


def _both(connection: Connection, principal: Principal, reporter: CardholderId, other: CardholderId) -> None:
    for each in (reporter, other):
        scope.own_cardholder(connection, principal, each)


def _reporters(connection: Connection, cardholder_id: CardholderId) -> Reporters:
    return Reporters(
        cardholder_id=cardholder_id,
        reports_for=store.reported_for(connection, cardholder_id),
        reported_by=store.reporters_for(connection, cardholder_id),
    )


def _names(
    connection: Connection, principal: Principal, people: Iterable[CardholderId]
) -> dict[CardholderId, str]:
    return dict(directory.names_of(connection, people)) if principal.may(Permission.NAMES_READ) else {}


def _exemption(found: store.Exemption, person: str | None) -> Exemption:
    return Exemption(**{name: getattr(found, name) for name in store.Exemption.__slots__}, person=person)
