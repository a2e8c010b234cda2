"""Batches of cards: asking one station for many, how far they are, pausing and going on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import Field

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import issuing_batches as store
from hub.store.errors import NotFound
from hub.store.issuing import JobState

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/issuing/batches", tags=["issuing"])

MOST: int = 500
Issues = Annotated[Principal, requires(Permission.CARDS_MANAGE)]
BatchId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]


class NewBatch(Body):
    """For whom a station makes cards, in this order; each for as long as they stay."""

    station_id: fields.Station
    cardholder_ids: Annotated[list[fields.Cardholder], Field(min_length=1, max_length=MOST)]


class Batch(Answer):
    """One batch, and how many of its cards are how far. ``paused``: its station takes none of them."""

    id: str
    site_id: fields.Site
    station_id: fields.Station
    created_at: datetime
    paused: bool
    queued: int
    taken: int
    done: int
    failed: int
    voided: int
    cancelled: int


class StartedBatch(Batch):
    """``left_out``: people whose stay is over, or for whom a card is being made already."""

    left_out: int


@router.post("", status_code=201)
def ask(body: NewBatch, request: Request, principal: Issues) -> StartedBatch:
    """Ask a station for cards for many people; jobs asked for by themselves come before them."""
    hub = services(request)
    try:
        with hub.database.read() as connection:
            scope.station(connection, principal, body.station_id)
            for person in body.cardholder_ids:
                scope.own_cardholder(connection, principal, person)
        batch, left_out = hub.issuing.ask_many(body.station_id, body.cardholder_ids, actor=principal.actor)
    except NotFound as error:
        raise Problem(Code.REFERENCE_UNKNOWN, str(error)) from error
    return StartedBatch(**one(batch.id, request, principal).model_dump(), left_out=left_out)


@router.get("/{batch_id}")
def one(
    batch_id: BatchId, request: Request, principal: Annotated[Principal, requires(Permission.CARDS_READ)]
) -> Batch:
    """One batch."""
    with services(request).database.read() as connection:
        batch = scope.issuing_batch(connection, principal, batch_id)
        counts = store.counts(connection, batch_id)
    names = ("id", "site_id", "station_id", "created_at", "paused")
    known: dict[str, Any] = {name: getattr(batch, name) for name in names}
    return Batch(**known | {state.value: counts.get(state, 0) for state in JobState})


@router.post("/{batch_id}/pause")
def pause(batch_id: BatchId, request: Request, principal: Issues) -> Batch:
    """Let the station take no more of them; a card that is being made is finished."""
    return _set(request, principal, batch_id, paused=True)


@router.post("/{batch_id}/resume")
def resume(batch_id: BatchId, request: Request, principal: Issues) -> Batch:
    """Let the station go on."""
    return _set(request, principal, batch_id, paused=False)


def _set(request: Request, principal: Principal, batch_id: str, *, paused: bool) -> Batch:
    hub = services(request)
    with hub.database.read() as connection:
        scope.issuing_batch(connection, principal, batch_id)
    hub.issuing.pause(batch_id, paused=paused, actor=principal.actor)
    return one(batch_id, request, principal)
