"""Imports of people: what was asked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from hub.import_rows import Fault
from hub.store.database import fields
from hub.store.errors import NotFound
from hub.store.schema import import_jobs
from hub.store.sites import Sites, within
from pacs.identifiers import SiteId


@unique
class State(StrEnum):
    """How far an import is."""

    QUEUED = "queued"
    CHECKING = "checking"
    APPLYING = "applying"
    DONE = "done"
    REFUSED = "refused"  # faults were found; nothing was changed
    FAILED = "failed"  # by the hub's own fault; nothing was changed
    INTERRUPTED = "interrupted"  # the hub stopped; nothing was changed


ENDED = (State.DONE, State.REFUSED, State.FAILED, State.INTERRUPTED)
FAULTS_KEPT = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One import. After a dry run that is ``done``, ``created`` and ``changed`` say what it would do.

    ``faults``: the first ``FAULTS_KEPT`` of ``fault_count``. ``digest``: SHA-256 of what was sent, hex.
    """

    id: str
    site_id: SiteId
    state: State
    dry_run: bool
    actor: str
    digest: str
    queued_at: datetime
    rows: int = 0
    created: int = 0
    changed: int = 0
    unchanged: int = 0
    fault_count: int = 0
    faults: tuple[Fault, ...] = ()
    ended_at: datetime | None = None


def add(connection: Connection, job: Job) -> None:
    """Store an import."""
    connection.execute(insert(import_jobs).values(_row(job)))


def change(connection: Connection, job: Job) -> None:
    """Store what became of an import."""
    connection.execute(update(import_jobs).where(import_jobs.c.id == job.id).values(_row(job)))


def get(connection: Connection, job_id: str) -> Job:
    """One import; raises ``NotFound``."""
    row = connection.execute(select(import_jobs).where(import_jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound(f"import {job_id} is not there")
    return _job(row)


def newest(connection: Connection, limit: int, sites: Sites = None) -> list[Job]:
    """The imports into these sites that were asked for last, the newest first."""
    query = select(import_jobs).where(within(import_jobs.c.site_id, sites))
    query = query.order_by(import_jobs.c.queued_at.desc(), import_jobs.c.id).limit(limit)
    return [_job(row) for row in connection.execute(query)]


def interrupt(connection: Connection, now: datetime, *, queued_before: datetime) -> None:
    """Imports from before this moment have ended: no process works at them any more."""
    waiting = import_jobs.c.state.not_in(ENDED) & (import_jobs.c.queued_at <= queued_before)
    connection.execute(update(import_jobs).where(waiting).values(state=State.INTERRUPTED, ended_at=now))


def applied(connection: Connection) -> int:
    """How many imports were carried out, whichever process did it."""
    done = (import_jobs.c.state == State.DONE) & ~import_jobs.c.dry_run
    return connection.scalar(select(func.count()).select_from(import_jobs).where(done)) or 0


def _row(job: Job) -> Mapping[str, Any]:
    faults = [[each.row, each.column, each.external_id, each.problem] for each in job.faults[:FAULTS_KEPT]]
    return {field: value for field, value in asdict(job).items() if field != "faults"} | {"faults": faults}


def _job(row: Row[Any]) -> Job:
    faults = tuple(
        Fault(row=number, column=column, external_id=external_id, problem=problem)
        for number, column, external_id, problem in row.faults
    )
    return Job(**{**fields(row), "site_id": SiteId(row.site_id), "state": State(row.state), "faults": faults})
