"""Issuing jobs: for whom which station makes a card, in place of which, and how far it is.

A station holds one job at a time under a lease; what it says counts only with the ``attempt`` that it was given.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import issuing_batches, issuing_jobs
from hub.store.sites import Sites, within
from pacs.credential import Technology
from pacs.identifiers import CardholderId, CredentialId, SiteId, StationId

LEASE: Final = timedelta(seconds=30)
"""A station that says nothing for longer has died; it says something six times as often."""


@unique
class JobState(StrEnum):
    """What has become of a job."""

    QUEUED = "queued"
    TAKEN = "taken"
    DONE = "done"
    FAILED = "failed"
    VOIDED = "voided"
    CANCELLED = "cancelled"


OPEN: Final = (JobState.QUEUED, JobState.TAKEN)


@unique
class Step(StrEnum):
    """How far a card is, in this order. From ``CARD_FOUND`` on it is being written, and nobody can cancel it."""

    WAITING_FOR_CARD = "waiting_for_card"
    CARD_FOUND = "card_found"
    KEY_MADE = "key_made"
    CERTIFICATE_WRITTEN = "certificate_written"
    LOCKED = "locked"
    CHECKED = "checked"


@unique
class Failure(StrEnum):
    """Loss no card came of it."""

    NO_CARD = "no_card"
    CARD_NOT_BLANK = "card_not_blank"
    CARD_REMOVED = "card_removed"
    CARD_FAULT = "card_fault"
    KEY_NOT_PROVEN = "key_not_proven"
    READER_BROKEN = "reader_broken"
    ISSUER_FAULT = "issuer_fault"
    TORN = "torn"
    NOT_REGISTERED = "not_registered"
    PERSON_ERASED = "person_erased"


@unique
class Loss(StrEnum):
    """What became of the card that another one takes the place of."""

    LOST = "lost"
    STOLEN = "stolen"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuingJob:
    """One card to be made. ``first_day`` to ``last_day``, both inclusive, stand on the card.

    ``replaces`` and ``why`` come together. ``attempt`` is that of whoever took it last, until ``lease_until`` unless it
    is heard. ``credential_id``: of the card that was made, or spoilt.
    """

    id: str
    site_id: SiteId
    station_id: StationId
    cardholder_id: CardholderId
    technology: Technology
    first_day: date
    last_day: date
    created_by: str
    created_at: datetime
    replaces: CredentialId | None = None
    why: Loss | None = None
    state: JobState = JobState.QUEUED
    step: Step | None = None
    attempt: str | None = None
    lease_until: datetime | None = None
    failure: Failure | None = None
    credential_id: CredentialId | None = None
    ended_at: datetime | None = None
    batch_id: str | None = None
    number: int = 0

    @property
    def is_open(self) -> bool:
        """Whether a card may still come of it."""
        return self.state in OPEN

    @property
    def is_being_written(self) -> bool:
        """Whether a card lies there that is neither blank nor finished, as far as the station has said."""
        return self.state is JobState.TAKEN and self.step not in (None, Step.WAITING_FOR_CARD)

    def is_interrupted(self, now: datetime) -> bool:
        """Whether its station took it and is not heard any more."""
        return self.state is JobState.TAKEN and self.lease_until is not None and self.lease_until < now


def add(connection: Connection, job: IssuingJob) -> IssuingJob:
    """Store a new job, and return it with its number."""
    row = {name: value for name, value in _row(job).items() if name != "number"}
    number = connection.execute(insert(issuing_jobs).values(row)).inserted_primary_key
    return replace(job, number=number[0] if number else 0)


def change(connection: Connection, job: IssuingJob) -> IssuingJob:
    """Store what has become of a job, and return it."""
    connection.execute(update(issuing_jobs).where(issuing_jobs.c.number == job.number).values(_row(job)))
    return job


def get(connection: Connection, job_id: str) -> IssuingJob:
    """One job; raises ``NotFound``."""
    row = connection.execute(select(issuing_jobs).where(issuing_jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound("issuing job is not there")
    return _job(row)


def list_all(
    connection: Connection,
    sites: Sites = None,
    *,
    station_id: StationId | None = None,
    cardholder_id: CardholderId | None = None,
    batch_id: str | None = None,
    only_open: bool = False,
    before: int | None = None,
    limit: int = 1_000,
) -> list[IssuingJob]:
    """Jobs of these sites, the newest first, from behind the number ``before``."""
    columns = issuing_jobs.c
    query = select(issuing_jobs).where(within(columns.site_id, sites))
    if station_id is not None:
        query = query.where(columns.station_id == station_id)
    if cardholder_id is not None:
        query = query.where(columns.cardholder_id == cardholder_id)
    if batch_id is not None:
        query = query.where(columns.batch_id == batch_id)
    if only_open:
        query = query.where(columns.state.in_(OPEN))
    if before is not None:
        query = query.where(columns.number < before)
    return _jobs(connection, query.order_by(columns.number.desc()).limit(limit))


def open_of(connection: Connection, cardholder_id: CardholderId) -> IssuingJob | None:
    """The job by which a card is being made for somebody; None: there is none."""
    found = list_all(connection, cardholder_id=cardholder_id, only_open=True, limit=1)
    return found[0] if found else None


def take(connection: Connection, station_id: StationId, now: datetime) -> IssuingJob | None:
    """Give a station its oldest job, under a new attempt; None: there is none, or it holds one under a lease that runs.

    A job whose lease is over comes first: its card may lie there unfinished. Those of batches come last, of paused ones
    not at all.
    """
    columns = issuing_jobs.c
    mine = columns.station_id == station_id
    taken = _jobs(connection, select(issuing_jobs).where(mine, columns.state == JobState.TAKEN))
    if any(not job.is_interrupted(now) for job in taken):
        return None
    paused = select(issuing_batches.c.id).where(issuing_batches.c.paused)
    queued = select(issuing_jobs).where(mine, columns.state == JobState.QUEUED)
    queued = queued.where(columns.batch_id.is_(None) | columns.batch_id.not_in(paused))
    in_order = queued.order_by(columns.batch_id.is_not(None), columns.number)
    waiting = taken or _jobs(connection, in_order.limit(1))
    if not waiting:
        return None
    return change(
        connection,
        replace(
            waiting[0],
            state=JobState.TAKEN,
            step=None,
            attempt=secrets.token_hex(16),
            lease_until=now + LEASE,
        ),
    )


def cancel_of_person(connection: Connection, cardholder_id: CardholderId, now: datetime) -> None:
    """End every open job for somebody who is forgotten."""
    columns = issuing_jobs.c
    mine = (columns.cardholder_id == cardholder_id) & columns.state.in_(OPEN)
    ended = {"state": JobState.CANCELLED, "failure": Failure.PERSON_ERASED, "ended_at": now}
    connection.execute(update(issuing_jobs).where(mine).values(ended))


def remove_before(
    connection: Connection, before: datetime, _held: object, limit: int, sites: Sites = None
) -> int:
    """Delete at most ``limit`` jobs of these sites that ended before; how many. No hold is about those."""
    columns = issuing_jobs.c
    due = (columns.ended_at < before) & within(columns.site_id, sites)
    numbers = list(connection.scalars(select(columns.number).where(due).limit(limit)))
    return connection.execute(delete(issuing_jobs).where(columns.number.in_(numbers))).rowcount


def _jobs(connection: Connection, query: Select[Any]) -> list[IssuingJob]:
    return [_job(row) for row in connection.execute(query)]


def _row(job: IssuingJob) -> dict[str, Any]:
    ids = {
        name: None if value is None else str(value)
        for name, value in (("replaces", job.replaces), ("credential_id", job.credential_id))
    }
    return {**asdict(job), **ids}


def _job(row: Row[Any]) -> IssuingJob:
    kinds: dict[str, Any] = {
        "site_id": SiteId,
        "station_id": StationId,
        "cardholder_id": CardholderId,
        "technology": Technology,
        "replaces": CredentialId.parse,
        "why": Loss,
        "state": JobState,
        "step": Step,
        "failure": Failure,
        "credential_id": CredentialId.parse,
    }
    values = fields(row)
    found = {name: kinds[name](values[name]) for name in kinds if values[name] is not None}
    return IssuingJob(**{**values, **found})
