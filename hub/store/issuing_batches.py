"""Batches: cards for many people at one station; and who at a site has no card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from hub.store.cards import CardStatus
from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.issuing import OPEN, JobState
from hub.store.schema import cardholders, cards, issuing_batches, issuing_jobs
from hub.store.sites import Sites, within
from pacs.identifiers import CardholderId, SiteId, StationId


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Cards that one station makes one after the other. ``paused``: it takes none of them."""

    id: str
    site_id: SiteId
    station_id: StationId
    created_by: str
    created_at: datetime
    paused: bool = False


def add(connection: Connection, batch: Batch) -> None:
    """Store a batch."""
    connection.execute(insert(issuing_batches).values(asdict(batch)))


def get(connection: Connection, batch_id: str) -> Batch:
    """One batch; raises ``NotFound``."""
    row = connection.execute(select(issuing_batches).where(issuing_batches.c.id == batch_id)).first()
    if row is None:
        raise NotFound("batch is not there")
    return Batch(**{**fields(row), "site_id": SiteId(row.site_id), "station_id": StationId(row.station_id)})


def newest(connection: Connection, sites: Sites = None, *, limit: int) -> list[Batch]:
    """The batches of these sites, the newest first."""
    columns = issuing_batches.c
    query = select(columns.id).where(within(columns.site_id, sites)).order_by(columns.created_at.desc())
    return [get(connection, batch_id) for batch_id in connection.scalars(query.limit(limit)).all()]


def set_paused(connection: Connection, batch_id: str, *, paused: bool) -> None:
    """Let the station go on with it or not."""
    mine = issuing_batches.c.id == batch_id
    connection.execute(update(issuing_batches).where(mine).values(paused=paused))


def counts(connection: Connection, batch_id: str) -> Mapping[JobState, int]:
    """How many of its jobs are how far; of those that are kept."""
    columns = issuing_jobs.c
    query = select(columns.state, func.count()).where(columns.batch_id == batch_id).group_by(columns.state)
    return {JobState(state): number for state, number in connection.execute(query)}


def without_card(connection: Connection, site_id: SiteId, now: datetime) -> list[CardholderId]:
    """Who belongs to a site, may still use a card, has none that is not revoked, and for whom none is being made."""
    people = cardholders.c
    holding = select(cards.c.cardholder_id).where(cards.c.status != CardStatus.REVOKED)
    awaiting = select(issuing_jobs.c.cardholder_id).where(issuing_jobs.c.state.in_(OPEN))
    query = select(people.id).where(
        people.site_id == site_id,
        people.erased_at.is_(None),
        people.valid_until.is_(None) | (people.valid_until > now),
        people.id.not_in(holding),
        people.id.not_in(awaiting),
    )
    return [CardholderId(person) for person in connection.scalars(query.order_by(people.id))]
