"""The signed documents that doors decide by."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.cards import Confirmation
from hub.api.fields import Answer
from hub.api.services import services
from hub.operators import Principal
from hub.revocation import confirmations_of
from hub.roles import Permission
from hub.store import documents as store
from hub.store import sites
from hub.store.errors import NotFound
from pacs.messages import DocumentKind

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/documents", tags=["documents"])


class Document(Answer):
    """The version in force of one kind at a site; ``cause`` says why it was made."""

    site_id: fields.Site
    kind: DocumentKind
    version: int
    cause: str
    created_at: datetime


class Documents(Answer):
    """``settled``: every change made so far is in these versions. Which door holds them: ``/api/v1/doors``."""

    settled: bool
    documents: list[Document]


class Arrival(Answer):
    """One version, and every door's word on it or a later one."""

    site_id: fields.Site
    kind: DocumentKind
    version: int
    confirmations: list[Confirmation]
    confirmed: int
    doors: int


@router.get("/{site_id}/{kind}/{version}")
def arrival(
    site_id: fields.Site,
    kind: DocumentKind,
    version: Annotated[int, Path(ge=1, le=2**62)],
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Arrival:
    """At which doors of a site a version of a document has arrived."""
    hub = services(request)
    with hub.database.read() as connection:
        scope.site(connection, principal, site_id)
        if version > store.required_newest(connection, site_id, kind).version:
            raise NotFound(f"{kind} {version} is not there yet")
        found = confirmations_of(connection, site_id, kind, version, hub.clock())
    shown = [Confirmation.model_validate(each) for each in found]
    confirmed = sum(each.confirmed_at is not None for each in shown)
    return Arrival(
        site_id=site_id,
        kind=kind,
        version=version,
        confirmations=shown,
        confirmed=confirmed,
        doors=len(shown),
    )


@router.get("")
def in_force(request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]) -> Documents:
    """The versions in force."""
    hub = services(request)
    settled = hub.is_settled()
    with hub.database.read() as connection:
        every = sites.list_all(connection, principal.sites)
        found = [store.newest(connection, site.id, kind) for site in every for kind in DocumentKind]
    return Documents(settled=settled, documents=[Document.model_validate(each) for each in found if each])
