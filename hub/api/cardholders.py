"""Cardholders: people, whose names never leave the hub."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field, StrictBool
from sqlalchemy import Connection

from hub import photographs
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import IfMatch, create, looked, note, tagged, unchanged
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import cardholders as store
from hub.store import photographs as photograph_store
from hub.store.cardholders import Category
from hub.store.errors import NotFound
from hub.versions import Parts
from pacs.identifiers import AccessLevelId, CardholderId

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/cardholders", tags=["cardholders"])


class NewCardholder(Body):
    """``id`` is drawn when absent. ``attended``: a person on duty decides at every door.
    ``extended_opening``: doors stay unlocked longer. ``escort_required``: opens together with somebody who
    ``may_escort`` only. ``valid_from`` inclusive and ``valid_until`` exclusive bound every card of theirs; a visitor
    needs the latter. ``external_id``: their name in the system they come from. ``guardian_id``: who answers for a
    ``minor``. ``door_note``: what staff has to know who decides at a door. ``messages_waiting``: something lies at the
    desk for them. ``latin_given_name``, ``latin_family_name``: in Latin letters, as on their papers.
    """

    id: fields.Cardholder | None = None
    category: Category
    given_name: fields.Name
    family_name: fields.Name
    latin_given_name: fields.LatinName | None = None
    latin_family_name: fields.LatinName | None = None
    access_level_ids: Annotated[list[fields.Level], Field(max_length=100, default_factory=list)]
    attended: StrictBool = False
    extended_opening: StrictBool = False
    escort_required: StrictBool = False
    may_escort: StrictBool = False
    messages_waiting: StrictBool = False
    room: fields.Room | None = None
    language: fields.Language | None = None
    valid_from: fields.Instant | None = None
    valid_until: fields.Instant | None = None
    external_id: fields.ExternalId | None = None
    minor: StrictBool = False
    guardian_id: fields.Cardholder | None = None
    door_note: fields.DoorNote | None = None
    site_id: fields.Site | None = None


class CardholderChange(Body):
    """What may change; what is absent stays. What may be unknown can be set to null: from ``room`` on, but for ``minor``."""

    category: Category | None = None
    given_name: fields.Name | None = None
    family_name: fields.Name | None = None
    access_level_ids: Annotated[list[fields.Level], Field(max_length=100)] | None = None
    attended: StrictBool | None = None
    extended_opening: StrictBool | None = None
    escort_required: StrictBool | None = None
    may_escort: StrictBool | None = None
    messages_waiting: StrictBool | None = None
    room: fields.Room | None = None
    language: fields.Language | None = None
    valid_from: fields.Instant | None = None
    valid_until: fields.Instant | None = None
    external_id: fields.ExternalId | None = None
    minor: StrictBool | None = None
    latin_given_name: fields.LatinName | None = None
    latin_family_name: fields.LatinName | None = None
    guardian_id: fields.Cardholder | None = None
    door_note: fields.DoorNote | None = None

    def applied_to(self, person: store.Cardholder, seen: Collection[AccessLevelId]) -> store.Cardholder:
        """``person`` with what is present here; levels that are not ``seen`` stay."""
        present: dict[str, Any] = {
            name: getattr(self, name)
            for name in self.model_fields_set
            if name in _NULLABLE or getattr(self, name) is not None
        }
        if "access_level_ids" in present:
            held = {*present["access_level_ids"], *(set(person.access_level_ids) - set(seen))}
            present["access_level_ids"] = tuple(sorted(held))
        return replace(person, **present)


_NULLABLE = {
    "latin_given_name",
    "latin_family_name",
    "room",
    "language",
    "valid_from",
    "valid_until",
    "external_id",
    "guardian_id",
    "door_note",
}


class Cardholder(Answer):
    """One person; ``access_level_ids``: of the sites that you see."""

    id: fields.Cardholder
    site_id: fields.Site
    category: Category
    given_name: str
    family_name: str
    latin_given_name: str | None
    latin_family_name: str | None
    access_level_ids: list[fields.Level]
    attended: bool
    extended_opening: bool
    escort_required: bool
    may_escort: bool
    messages_waiting: bool
    room: str | None
    language: str | None
    valid_from: datetime | None
    valid_until: datetime | None
    external_id: str | None
    minor: bool
    guardian_id: fields.Cardholder | None
    door_note: str | None
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
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_ENROL)],
) -> Cardholder:
    """Enrol a person."""
    hub = services(request)
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, body.site_id)
    new = store.Cardholder(
        id=body.id or CardholderId(secrets.token_hex(8)),
        site_id=site_id,
        category=body.category,
        given_name=body.given_name,
        family_name=body.family_name,
        latin_given_name=body.latin_given_name,
        latin_family_name=body.latin_family_name,
        access_level_ids=tuple(sorted(set(body.access_level_ids))),
        created_at=hub.clock(),
        attended=body.attended,
        extended_opening=body.extended_opening,
        escort_required=body.escort_required,
        may_escort=body.may_escort,
        messages_waiting=body.messages_waiting,
        room=body.room,
        language=body.language,
        valid_from=body.valid_from,
        valid_until=body.valid_until,
        external_id=body.external_id,
        minor=body.minor,
        guardian_id=body.guardian_id,
        door_note=body.door_note,
    )

    def add(connection: Connection) -> store.Cardholder:
        scope.seen_levels(connection, principal, new.access_level_ids)
        _check_guardian(connection, principal, new)
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
    shown = Cardholder.model_validate(made)  # all its levels are seen, or it could not be made
    tagged(response, parts_of(shown))
    return shown


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
    after: fields.Cardholder | None = None,
    limit: fields.Limit = 100,
    external_id: Annotated[str | None, Query(max_length=100)] = None,
) -> Cardholders:
    """Cardholders by id; all, or the one with an external id."""
    with services(request).database.read() as connection:
        found = store.list_all(
            connection, after=after, limit=limit + 1, external_id=external_id, sites=principal.sites
        )
        shown = [_answer(connection, principal, each) for each in found[:limit]]
    looked(services(request), principal, "cardholders", shown=len(found[:limit]))
    return Cardholders(
        cardholders=shown,
        next_after=found[limit - 1].id if len(found) > limit else None,
    )


@router.get("/{cardholder_id}")
def one(
    cardholder_id: fields.Cardholder,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
) -> Cardholder:
    """One cardholder."""
    with services(request).database.read() as connection:
        found = scope.cardholder(connection, principal, cardholder_id)
        shown = _answer(connection, principal, found)
    looked(services(request), principal, f"cardholder:{cardholder_id}", shown=1)
    tagged(response, parts_of(shown))
    return shown


@router.patch("/{cardholder_id}")
def change(
    cardholder_id: fields.Cardholder,
    body: CardholderChange,
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    if_match: IfMatch = None,
) -> Cardholder:
    """Change what is said of a person; doors follow with their next policy version."""
    hub = services(request)
    with hub.database.write() as connection:
        found = scope.own_cardholder(connection, principal, cardholder_id)
        unchanged(if_match, parts_of(_answer(connection, principal, found)))
        seen = scope.seen_levels(
            connection, principal, body.access_level_ids or (), beside=found.access_level_ids
        )
        changed = body.applied_to(found, seen)
        if _comparable(changed) != _comparable(found):
            _check_guardian(connection, principal, changed, before=found)
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
        shown = _answer(connection, principal, changed)
    hub.site_changed()
    tagged(response, parts_of(shown))
    return shown


async def _sent_photograph(request: Request) -> bytes:
    return await request.body()


_PHOTOGRAPH_TYPES = {"image/jpeg", "image/png"}
_PHOTOGRAPH = {"schema": {"type": "string", "format": "binary"}}


@router.put(
    "/{cardholder_id}/photo",
    status_code=204,
    openapi_extra={
        "requestBody": {"required": True, "content": {"image/jpeg": _PHOTOGRAPH, "image/png": _PHOTOGRAPH}}
    },
)
def put_photograph(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_ENROL)],
    sent: Annotated[bytes, Depends(_sent_photograph)],
) -> Response:
    """Store a person's photograph: a JPEG or PNG of at most 2 MiB, which is kept smaller and without metadata."""
    if request.headers.get("content-type", "").partition(";")[0].strip() not in _PHOTOGRAPH_TYPES:
        raise Problem(Code.MEDIA_TYPE, "A photograph is image/jpeg or image/png.")
    hub = services(request)
    picture = photographs.prepared(sent)
    with hub.database.write() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        photograph_store.put(connection, cardholder_id, picture, hub.clock())
        note(connection, hub, principal, action="photo.change", subject=f"cardholder:{cardholder_id}")
    return Response(status_code=204)


@router.get("/{cardholder_id}/photo", response_class=Response)
def get_photograph(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.NAMES_READ)],
) -> Response:
    """A person's photograph, as JPEG; never cached. Each look is audited."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.cardholder(connection, principal, cardholder_id)
        picture = photograph_store.get(connection, cardholder_id)
        note(connection, hub, principal, action="photo.read", subject=f"cardholder:{cardholder_id}")
    return Response(picture, media_type=photographs.MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@router.delete("/{cardholder_id}/photo", status_code=204)
def delete_photograph(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Response:
    """Delete a person's photograph; repeating it does no harm."""
    hub = services(request)
    with hub.database.write() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        if photograph_store.remove(connection, cardholder_id):
            note(connection, hub, principal, action="photo.delete", subject=f"cardholder:{cardholder_id}")
    return Response(status_code=204)


def _check_guardian(
    connection: Connection,
    principal: Principal,
    person: store.Cardholder,
    *,
    before: store.Cardholder | None = None,
) -> None:
    """Raise ``Problem`` REFERENCE_UNKNOWN for a guardian who is newly named and not there, or not seen."""
    if person.guardian_id is None or (before and before.guardian_id == person.guardian_id):
        return
    try:
        scope.cardholder(connection, principal, person.guardian_id)
    except NotFound as error:
        raise Problem(Code.REFERENCE_UNKNOWN, f"guardian_id: {error}") from error


def _answer(connection: Connection, principal: Principal, person: store.Cardholder) -> Cardholder:
    shown = Cardholder.model_validate(person)
    if principal.sites is not None:
        shown.access_level_ids = scope.those_seen(connection, principal, person.access_level_ids)
    return shown


def parts_of(person: Cardholder) -> Parts:
    """What of somebody can be changed, as far as it was answered."""
    said = person.model_dump(mode="json", include=set(CardholderChange.model_fields))
    return said | {"access_level_ids": sorted(person.access_level_ids)}


def _comparable(person: store.Cardholder) -> store.Cardholder:
    levels = tuple(sorted(person.access_level_ids))
    return replace(person, access_level_ids=levels, created_at=datetime.min)  # noqa: DTZ901 - left out
