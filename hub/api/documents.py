"""The signed documents that doors decide by."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import documents as store
from hub.store import sites
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


@router.get("")
def in_force(request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]) -> Documents:
    """The versions in force."""
    hub = services(request)
    settled = hub.is_settled()
    with hub.database.read() as connection:
        every = sites.list_all(connection, principal.sites)
        found = [store.newest(connection, site.id, kind) for site in every for kind in DocumentKind]
    return Documents(settled=settled, documents=[Document.model_validate(each) for each in found if each])
