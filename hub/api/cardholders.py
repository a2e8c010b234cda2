"""Cardholders: people, whose names never leave the hub."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, StrictBool
from sqlalchemy import Connection

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import create, looked, note
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import cardholders as store
from hub.store.cardholders import Category
from hub.store.errors import NotFound
from pacs.identifiers import CardholderId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/cardholders", tags=["cardholders"])


class NewCardholder(Body):
    """``id`` is drawn when absent. ``attended``: a person on duty decides at every door.
    ``extended_opening``: doors stay unlocked longer. ``escort_required``: opens together with somebody who
    ``may_escort`` only.
    """

    id: fields.Cardholder | None = None
    category: Category
    given_name: fields.Name
    family_name: fields.Name
    access_level_ids: Annotated[list[fields.Level], Field(max_length=100, default_factory=list)]
    attended: StrictBool = False
    extended_opening: StrictBool = False
    escort_required: StrictBool = False
    may_escort: StrictBool = False


class CardholderChange(Body):
    """What may change; what is absent stays."""

    category: Category | None = None
    given_name: fields.Name | None = None
    family_name: fields.Name | None = None
    access_level_ids: Annotated[list[fields.Level], Field(max_length=100)] | None = None
    attended: StrictBool | None = None
    extended_opening: StrictBool | None = None
    escort_required: StrictBool | None = None
    may_escort: StrictBool | None = None


class Cardholder(Answer):
    """One person."""

    id: fields.Cardholder
    category: Category
    given_name: str
    family_name: str
    access_level_ids: list[fields.Level]
    attended: bool
    extended_opening: bool
    escort_required: bool
    may_escort: bool
    created_at: datetime


class Cardholders(Answer):
    """A portion of the list; go on with ``after=next_after`` until it is null."""

    cardholders: list[Cardholder]
    next_after: str | None


@router.post("", status_code=201)
def enrol(
    body: NewCardholder,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Cardholder:
    """Enrol a person."""
    hub = services(request)
    new = store.Cardholder(
        id=body.id or CardholderId(secrets.token_hex(8)),
        category=body.category,
        given_name=body.given_name,
        family_name=body.family_name,
        access_level_ids=tuple(sorted(set(body.access_level_ids))),
        created_at=hub.clock(),
        attended=body.attended,
        extended_opening=body.extended_opening,
        escort_required=body.escort_required,
        may_escort=body.may_escort,
    )

    def add(connection: Connection) -> store.Cardholder:
        store.add(connection, new)
        return new

    made = create(
        hub,
        principal,
        response,
        subject=f"cardholder:{new.id}",
        find=lambda connection: store.get(connection, new.id),
        add=add,
        same=lambda found: _comparable(found) == _comparable(new),
    )
    return Cardholder.model_validate(made)


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
    after: fields.Cardholder | None = None,
    limit: fields.Limit = 100,
) -> Cardholders:
    """Cardholders by id."""
    with services(request).database.read() as connection:
        found = store.list_all(connection, after=after, limit=limit + 1)
    looked(services(request), principal, "cardholders", shown=len(found[:limit]))
    return Cardholders(
        cardholders=[Cardholder.model_validate(each) for each in found[:limit]],
        next_after=found[limit - 1].id if len(found) > limit else None,
    )


@router.get("/{cardholder_id}")
def one(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
) -> Cardholder:
    """One cardholder."""
    with services(request).database.read() as connection:
        found = store.get(connection, cardholder_id)
    looked(services(request), principal, f"cardholder:{cardholder_id}", shown=1)
    return Cardholder.model_validate(found)


@router.patch("/{cardholder_id}")
def change(
    cardholder_id: fields.Cardholder,
    body: CardholderChange,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Cardholder:
    """Change what is said of a person; doors follow with their next policy version."""
    hub = services(request)
    present: dict[str, Any] = body.model_dump(exclude_none=True)
    if "access_level_ids" in present:
        present["access_level_ids"] = tuple(sorted(set(present["access_level_ids"])))
    with hub.database.write() as connection:
        found = store.get(connection, cardholder_id)
        changed = replace(found, **present)
        if _comparable(changed) != _comparable(found):
            try:
                store.change(connection, changed)
            except NotFound as error:
                raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
            note(
                connection,
                hub,
                principal,
                action="cardholder.change",
                subject=f"cardholder:{cardholder_id}",
            )
    hub.site_changed()
    return Cardholder.model_validate(changed)


def _comparable(person: store.Cardholder) -> store.Cardholder:
    levels = tuple(sorted(person.access_level_ids))
    return replace(person, access_level_ids=levels, created_at=datetime.min)  # noqa: DTZ901 - left out
