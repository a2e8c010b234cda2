"""Imports of people: sending one, following it, and reading what is wrong with it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from hub import import_rows
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer, Limit
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.import_rows import Format
from hub.imports import ImportsBusy
from hub.operators import Principal
from hub.roles import Permission
from hub.store import import_jobs as store
from hub.store.import_jobs import Job, State

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/imports", tags=["imports"])

FAULTS_SHOWN = 100
ImportId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
_BODIES = {each.value: {"schema": {"type": "string", "format": "binary"}} for each in Format}
_BODIES[Format.JSON.value] = {"schema": {}}  # what it holds is judged row by row, by the import


class Fault(Answer):
    """What is wrong, and where. ``column`` is empty for a row as a whole; row 0 is the file as a whole."""

    row: int
    column: str
    external_id: str
    problem: str


class Import(Answer):
    """One import.

    ``done`` of ``rows`` are looked at. Nothing is changed unless ``state`` is ``done`` and it is no dry run; ``created``
    and ``changed`` say how many people, of a dry run how many it would be. ``faults``: the first 100 of ``fault_count``.
    """

    id: str
    site_id: fields.Site
    state: State
    dry_run: bool
    rows: int
    done: int
    created: int
    changed: int
    unchanged: int
    fault_count: int
    faults: list[Fault]
    queued_at: datetime
    ended_at: datetime | None


class Faults(Answer):
    """A portion of the faults; go on with ``after=next_after`` until it is null."""

    faults: list[Fault]
    next_after: int | None


async def _sent(request: Request) -> bytes:
    return await request.body()


@router.post(
    "",
    status_code=202,
    openapi_extra={"requestBody": {"required": True, "content": _BODIES}},
)
def begin(
    request: Request,
    response: Response,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    sent: Annotated[bytes, Depends(_sent)],
    *,
    dry_run: bool = False,
    site: fields.Site | None = None,
) -> Import:
    """Import people of a site: CSV, a JSON array or JSON lines, all or nothing. A dry run only says what it would do."""
    try:
        form = Format(request.headers.get("content-type", "").partition(";")[0].strip().lower())
    except ValueError as error:
        formats = ", ".join(Format)
        raise Problem(Code.MEDIA_TYPE, f"An import is one of {formats}.") from error
    hub = services(request)
    with hub.database.read() as connection:
        site_id = scope.site_for(connection, principal, site)
    try:
        job = hub.imports.submit(sent, form, site_id=site_id, dry_run=dry_run, actor=principal.actor)
    except ImportsBusy as error:
        raise Problem(Code.NOT_READY, str(error), headers={"Retry-After": "5"}) from error
    response.headers["Location"] = f"/api/v1/imports/{job.id}"
    return _answer(request, job)


@router.get("/{import_id}")
def one(
    import_id: ImportId,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Import:
    """One import: how far it is, or how it ended."""
    return _answer(request, _job(request, principal, import_id))


@router.get("/{import_id}/faults")
def faults(
    import_id: ImportId,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    after: Annotated[int, Query(ge=0, le=store.FAULTS_KEPT)] = 0,
    limit: Limit = 100,
) -> Faults:
    """Everything that is wrong with an import, by row and column."""
    found = _job(request, principal, import_id).faults
    return Faults(
        faults=[Fault.model_validate(each) for each in found[after : after + limit]],
        next_after=after + limit if after + limit < len(found) else None,
    )


@router.get("/{import_id}/faults.csv", response_class=Response)
def faults_as_csv(
    import_id: ImportId,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Response:
    """The same for a spreadsheet; no cell is a formula."""
    table = import_rows.as_csv(_job(request, principal, import_id).faults)
    return Response(
        table.encode("utf-8-sig"),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="import-{import_id}.csv"'},
    )


def _job(request: Request, principal: Principal, import_id: str) -> Job:
    with services(request).database.read() as connection:
        return scope.import_job(connection, principal, import_id)


def _answer(request: Request, job: Job) -> Import:
    progress = None if job.ended_at else services(request).imports.progress(job.id)
    return Import(
        id=job.id,
        site_id=job.site_id,
        state=progress.state if progress else job.state,
        dry_run=job.dry_run,
        rows=progress.rows if progress else job.rows,
        done=progress.done if progress else job.rows,
        created=job.created,
        changed=job.changed,
        unchanged=job.unchanged,
        fault_count=job.fault_count,
        faults=[Fault.model_validate(each) for each in job.faults[:FAULTS_SHOWN]],
        queued_at=job.queued_at,
        ended_at=job.ended_at,
    )
