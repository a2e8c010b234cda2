"""The signed documents that doors decide by."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request

from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import documents as store
from pacs.messages import DocumentKind

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/documents", tags=["documents"])


class Document(Answer):
    """The version in force of one kind; ``cause`` says why it was made."""

    kind: DocumentKind
    version: int
    cause: str
    created_at: datetime


class Documents(Answer):
    """``settled``: every change made so far is in these versions. Which door holds them: ``/api/v1/doors``."""

    settled: bool
    documents: list[Document]


@router.get("")
def in_force(request: Request, _: Annotated[Principal, requires(Permission.DOORS_READ)]) -> Documents:
    """The versions in force."""
    hub = services(request)
    settled = hub.is_settled()
    with hub.database.read() as connection:
        found = [store.newest(connection, kind) for kind in DocumentKind]
    return Documents(settled=settled, documents=[Document.model_validate(each) for each in found if each])
