"""Bringing people in from another system: all of a file, or nothing of it.

Every fault of a file is found, row by row, before anything is written. People are recognised by their external id:
the same file again changes nothing, and nobody is removed because a file does not name them. One transaction holds
all changes and their audit entry; the doors get them as one policy version.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import secrets
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from hub import audit, import_rows
from hub.import_rows import Fault, Format, Said, Sheet
from hub.store import access_levels, cardholders, import_jobs, sites, webhooks
from hub.store import audit as audit_log
from hub.store.cardholders import Cardholder, Category
from hub.store.database import Database
from hub.store.import_jobs import Job, State
from hub.store.webhooks import Told
from pacs.errors import MalformedData, PacsError
from pacs.identifiers import AccessLevelId, CardholderId, SiteId

WAITING = 4
LOOKED_EVERY_S = 2.0  # for imports that another process made
LONGEST = timedelta(hours=1)
"""An import that waits for longer was another process's, which is gone."""

_ABSENT: dict[str, Any] = {
    "category": Category.RESIDENT,
    "access_level_ids": (),
    "given_name": "",  # at fault, as the next one is: such a row is never stored
    "family_name": "",
}

log = structlog.get_logger(__name__)


class ImportsBusy(PacsError):
    """Enough imports are waiting already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sheet would change; nothing may be done while there are ``faults``.

    ``with_other_levels``: who of the changed get other access levels. ``audited_until``: the newest entry of the audit
    log when it was made; it holds until people or access levels change.
    """

    created: tuple[Cardholder, ...]
    changed: tuple[Cardholder, ...]
    with_other_levels: frozenset[CardholderId]
    unchanged: int
    faults: tuple[Fault, ...]
    audited_until: int


def plan(connection: Connection, sheet: Sheet, site_id: SiteId, *, now: datetime) -> Plan:
    """Compare a sheet of a site's people with what is stored; a cell that is at fault already gets no second fault."""
    stored = cardholders.by_external_id(connection)
    levels = {each.level.id for each in access_levels.list_all(connection, (site_id,))}
    faults = list(sheet.faults)
    named = {(fault.row, fault.column) for fault in faults}
    created, changed, with_other_levels, unchanged = [], [], set(), 0
    for row in sheet.rows:
        before = stored.get(row.external_id)
        if before is None:
            fresh = CardholderId(secrets.token_hex(8))
            person = Cardholder(id=fresh, site_id=site_id, created_at=now, **{**_ABSENT, **row.values})
        else:
            person = _with_levels_elsewhere(replace(before, **row.values), before, levels)
        problems = [*cardholders.conflicts(person)]
        if person.site_id != site_id:
            problems.append(("external_id", "this person belongs to another site"))
        if missing := [level for level in row.values.get("access_level_ids", ()) if level not in levels]:
            problems.append(("access_levels", f"no such access level: {', '.join(missing)}"))
        faults += (
            Fault(row=row.row, column=column, problem=problem, external_id=row.external_id)
            for column, problem in problems
            if (row.row, column) not in named
        )
        if before is None:
            created.append(person)
        elif person != before:
            changed.append(person)
            if set(person.access_level_ids) != set(before.access_level_ids):
                with_other_levels.add(person.id)
        else:
            unchanged += 1
    return Plan(
        created=tuple(created),
        changed=tuple(changed),
        with_other_levels=frozenset(with_other_levels),
        unchanged=unchanged,
        faults=tuple(sorted(faults, key=lambda fault: (fault.row, fault.column))),
        audited_until=newest.id if (newest := audit_log.last(connection)) else 0,
    )


def _with_levels_elsewhere(
    person: Cardholder, before: Cardholder, levels: Collection[AccessLevelId]
) -> Cardholder:
    """``person`` with the access levels of other sites that they had: a file of one site says nothing of those."""
    elsewhere = [level for level in before.access_level_ids if level not in levels]
    if set(elsewhere) <= set(person.access_level_ids):
        return person
    return replace(person, access_level_ids=tuple(sorted({*person.access_level_ids, *elsewhere})))


def digest_of(data: bytes) -> str:
    """What the audit log keeps of a file: SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def carry_out(
    database: Database,
    job: Job,
    data: bytes,
    form: Format,
    *,
    clock: Callable[[], datetime],
    said: Callable[[State, int, int], None],
) -> Job:
    """Do what a stored job asks, and store how it ended; ``said``: how far it is, in rows.

    A file with faults is ``refused``, and so is one that cannot be read, with one fault of row 0.
    """
    reading: Said = lambda done, rows: said(State.CHECKING, done, rows)  # noqa: E731 -- a name for its type
    try:
        with database.read() as connection:
            time_zone = sites.get(connection, job.site_id).time_zone
        sheet = import_rows.read(data, form, time_zone=time_zone, said=reading)
    except MalformedData as error:
        fault = Fault(row=0, column="", problem=str(error))
        return _stored(database, _ended(job, State.REFUSED, clock(), faults=(fault,)))
    with database.read() as connection:
        found = plan(connection, sheet, job.site_id, now=clock())
    if found.faults:
        return _stored(database, _planned(job, State.REFUSED, sheet, found, clock()))
    if job.dry_run:
        return _stored(database, _planned(job, State.DONE, sheet, found, clock()))
    said(State.APPLYING, len(sheet.rows), len(sheet.rows))
    with database.write() as connection:
        if _outdated(connection, found):
            found = plan(connection, sheet, job.site_id, now=clock())
        ended = _planned(job, State.REFUSED if found.faults else State.DONE, sheet, found, clock())
        if ended.state is State.DONE:
            cardholders.add_many(connection, found.created)
            cardholders.change_many(connection, found.changed, with_other_levels=found.with_other_levels)
            _audit(connection, ended)
        import_jobs.change(connection, ended)
    return ended


def _outdated(connection: Connection, found: Plan) -> bool:
    """Whether people or access levels changed since; the plan itself takes too long to keep others from writing."""
    done = audit_log.actions_after(connection, found.audited_until)
    return any(action.startswith(("cardholder", "access_level")) for action in done)


def _audit(connection: Connection, job: Job) -> None:
    counts: dict[str, str | int] = {
        "created": job.created,
        "changed": job.changed,
        "unchanged": job.unchanged,
    }
    audit.record(
        connection,
        now=job.ended_at or job.queued_at,
        actor=job.actor,
        action="cardholders.import",
        subject=f"import:{job.id}",
        detail=counts | {"sha256": job.digest, "site": str(job.site_id)},
    )
    facts = {"import_id": job.id, **counts}
    webhooks.tell(connection, Told.IMPORT_DONE, facts, now=job.ended_at or job.queued_at, site_id=job.site_id)


def _planned(job: Job, state: State, sheet: Sheet, found: Plan, now: datetime) -> Job:
    return replace(
        _ended(job, state, now, faults=found.faults),
        rows=len(sheet.rows),
        created=len(found.created),
        changed=len(found.changed),
        unchanged=found.unchanged,
    )


def _ended(job: Job, state: State, now: datetime, *, faults: tuple[Fault, ...] = ()) -> Job:
    kept = faults[: import_jobs.FAULTS_KEPT]
    return replace(job, state=state, ended_at=now, faults=kept, fault_count=len(faults))


def _stored(database: Database, job: Job) -> Job:
    with database.write() as connection:
        import_jobs.change(connection, job)
    return job


def queued(
    database: Database, data: bytes, *, site_id: SiteId, dry_run: bool, actor: str, now: datetime
) -> Job:
    """Store that an import of a site's people was asked for."""
    job = Job(
        id=secrets.token_hex(8),
        site_id=site_id,
        state=State.QUEUED,
        dry_run=dry_run,
        actor=actor,
        digest=digest_of(data),
        queued_at=now,
    )
    with database.write() as connection:
        import_jobs.add(connection, job)
    return job


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is, in rows; ``rows`` is 0 until they are counted."""

    state: State
    done: int
    rows: int


class Imports:
    """Carries imports out one after the other, in a thread of its own.

    ``site_changed`` is called after every import that was applied, by another process too.
    """

    def __init__(
        self, database: Database, *, site_changed: Callable[[], None], clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._site_changed = site_changed
        self._clock = clock
        self._queue: queue.Queue[tuple[Job, bytes, Format] | None] = queue.Queue(WAITING)
        self._progress: dict[str, Progress] = {}
        self._applied = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="imports", daemon=True)

    def start(self) -> None:
        """Begin; what was not finished before is marked so, beside other processes after ``LONGEST``."""
        now = self._clock()
        before = now - LONGEST if self._database.is_shared else now
        with self._database.write() as connection:
            import_jobs.interrupt(connection, now, queued_before=before)
            self._applied = import_jobs.applied(connection)
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the import it is at."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(30)

    def submit(self, data: bytes, form: Format, *, site_id: SiteId, dry_run: bool, actor: str) -> Job:
        """Take an import in; raises ``ImportsBusy``."""
        if self._queue.full():
            raise ImportsBusy("as many imports are waiting as may")
        job = queued(self._database, data, site_id=site_id, dry_run=dry_run, actor=actor, now=self._clock())
        self._progress[job.id] = Progress(State.QUEUED, 0, 0)
        try:
            self._queue.put_nowait((job, data, form))
        except queue.Full as error:
            self._ended_by_us(job, State.INTERRUPTED)
            raise ImportsBusy("as many imports are waiting as may") from error
        return job

    def progress(self, job_id: str) -> Progress | None:
        """How far an import is that has not ended; None: it has, or is not of this process."""
        return self._progress.get(job_id)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                waiting = self._queue.get(timeout=LOOKED_EVERY_S)
            except queue.Empty:
                waiting = None
            try:
                if waiting is not None:
                    self._carry_out(*waiting)
                self._look_for_applied()
            except Exception:  # a full disk today must not end imports for good
                log.exception("imports_failed")

    def _carry_out(self, job: Job, data: bytes, form: Format) -> None:
        def said(state: State, done: int, rows: int) -> None:
            self._progress[job.id] = Progress(state, done, rows)

        try:
            carry_out(self._database, job, data, form, clock=self._clock, said=said)
        except Exception:
            self._ended_by_us(job, State.FAILED)
            raise
        finally:
            self._progress.pop(job.id, None)

    def _ended_by_us(self, job: Job, state: State) -> None:
        self._progress.pop(job.id, None)
        _stored(self._database, _ended(job, state, self._clock()))

    def _look_for_applied(self) -> None:
        with self._database.read() as connection:
            applied = import_jobs.applied(connection)
        if applied != self._applied:
            self._applied = applied
            self._site_changed()
