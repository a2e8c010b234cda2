"""Importing people from a file: checked first, every fault by row and column, then all of it or nothing."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from hub.api import imports as api
from hub.api import scope
from hub.api.access import DeclaredRoute, requires
from hub.api.problems import Problem
from hub.api.services import services
from hub.import_rows import COLUMNS, MAX_ROWS, Format
from hub.imports import ImportsBusy
from hub.operators import Principal
from hub.pages.import_faults import fault_text
from hub.pages.rendering import pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import import_jobs, sites
from hub.store.import_jobs import ENDED, State
from pacs.identifiers import SiteId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

LISTED = 20
_FORMATS = {".csv": Format.CSV, ".json": Format.JSON, ".jsonl": Format.JSON_LINES}
_STATES = {
    State.QUEUED: (N_("Waiting"), ""),
    State.CHECKING: (N_("Being checked"), "warn"),
    State.APPLYING: (N_("Being imported"), "warn"),
    State.DONE: (N_("Done"), "good"),
    State.REFUSED: (N_("Refused: nothing was changed"), "bad"),
    State.FAILED: (N_("Failed by the hub's fault: nothing was changed"), "bad"),
    State.INTERRUPTED: (N_("Interrupted: nothing was changed"), "bad"),
}


@router.get("/imports")
def imports_page(
    request: Request, principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)]
) -> Response:
    """The form, and what was imported before."""
    return _page(request, principal)


@router.post("/imports")
def begin(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    sheet: UploadFile,
    what: Annotated[str, Form(max_length=10)] = "check",
    site_id: Annotated[str, Form(max_length=48)] = "",
) -> Response:
    """Take a file in, to check it or to import it, and show how far it is."""
    hub = services(request)
    form = _FORMATS.get("." + (sheet.filename or "").rpartition(".")[2].lower())
    if form is None:
        return _page(request, principal, N_("Choose a file whose name ends in .csv, .json or .jsonl."))
    try:
        with hub.database.read() as connection:
            of_site = scope.site_for(connection, principal, SiteId(site_id) if site_id else None)
    except Problem:
        return _page(request, principal, N_("Choose the site."))
    try:
        job = hub.imports.submit(
            sheet.file.read(), form, site_id=of_site, dry_run=what != "import", actor=principal.actor
        )
    except ImportsBusy:
        return _page(request, principal, N_("Enough imports are waiting already. Try again in a minute."))
    return RedirectResponse(f"/imports/{job.id}", 303)


@router.get("/imports/{import_id}")
def import_page(
    import_id: api.ImportId,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Response:
    """One import: how far it is, or how it ended, with its faults."""
    pages = pages_of(request)
    told = api.one(import_id, request, principal)
    text, tone = _STATES[told.state]
    return pages.response(
        request,
        "import.html",
        principal,
        headers={} if told.state in ENDED else {"Refresh": "2"},
        job=told,
        state_text=pages.gettext(text),
        tone=tone,
        ended=told.state in ENDED,
        done=told.state is State.DONE,
        fault_text=partial(fault_text, gettext=pages.gettext),
    )


def _page(request: Request, principal: Principal, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = import_jobs.newest(connection, LISTED, principal.sites)
        named = sites.list_all(connection, principal.sites)
    shown: list[dict[str, Any]] = [
        {
            "id": each.id,
            "queued_at": each.queued_at,
            "dry_run": each.dry_run,
            "rows": each.rows,
            "state_text": pages.gettext(_STATES[each.state][0]),
            "tone": _STATES[each.state][1],
        }
        for each in found
    ]
    return pages.response(
        request,
        "imports.html",
        principal,
        status_code=422 if problem else 200,
        jobs=shown,
        sites=[(each.id, each.name) for each in named],
        columns=", ".join(COLUMNS),
        most=MAX_ROWS,
        problem=pages.gettext(problem),
    )
