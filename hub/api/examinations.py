"""What a controller found when it examined itself; to have it do so now is a test of one of its doors (``commands``)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Answer
from hub.api.services import services
from hub.operators import Principal
from hub.roles import Permission
from hub.store import controller_reports
from pacs.findings import CODES, Check, Level
from pacs.messages import ReportedFinding

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/controllers", tags=["controllers"])


class Finding(Answer):
    """One line.

    ``check``, ``code``, ``subject`` and ``values`` are for programs; ``check`` is null where this hub does not know the code,
    or the controller sent none. ``name``, ``what`` and ``advice`` are the controller's own words, in English.
    """

    level: Level
    check: Check | None
    code: str | None
    subject: str
    values: dict[str, int | str]
    name: str
    what: str
    advice: str


class Examination(Answer):
    """The newest report of a controller, the worst first; ``received_at`` is null where it has sent none yet."""

    controller_id: fields.Controller
    received_at: datetime | None
    findings: list[Finding]


@router.get("/{controller_id}/examination")
def newest(
    controller_id: fields.Controller,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CONTROLLERS_READ)],
) -> Examination:
    """What a controller found when it examined itself last."""
    with services(request).database.read() as connection:
        scope.controller(connection, principal, controller_id)
        report = controller_reports.get(connection, controller_id)
    return Examination(
        controller_id=controller_id,
        received_at=report.received_at if report else None,
        findings=[_finding(each) for each in (report.findings if report else ())],
    )


def _finding(finding: ReportedFinding) -> Finding:
    known = CODES.get(finding.code)
    return Finding(
        level=finding.level,
        check=known.value.check if known else None,
        code=finding.code or None,
        subject=finding.subject,
        values=dict(finding.values),
        name=finding.name,
        what=finding.what,
        advice=finding.advice,
    )
