"""What each controller found when it examined itself last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from hub.store.schema import controller_reports
from pacs.identifiers import ControllerId
from pacs.messages import Report, ReportedFinding


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReport:
    """``received_at``: by the hub's clock. ``findings``: the worst first, as they were sent."""

    received_at: datetime
    findings: Sequence[ReportedFinding]


def put(connection: Connection, controller_id: ControllerId, report: Report, now: datetime) -> None:
    """Store it in place of the one before."""
    found = [each.document for each in report.findings]
    mine = update(controller_reports).where(controller_reports.c.controller_id == controller_id)
    values = {"received_at": now, "findings": found}
    if not connection.execute(mine.values(values)).rowcount:
        connection.execute(insert(controller_reports).values(values | {"controller_id": controller_id}))


def get(connection: Connection, controller_id: ControllerId) -> StoredReport | None:
    """The newest one of a controller; None: it has sent none."""
    query = select(controller_reports).where(controller_reports.c.controller_id == controller_id)
    row = connection.execute(query).first()
    if row is None:
        return None
    return StoredReport(
        received_at=row.received_at, findings=[ReportedFinding.of(each) for each in row.findings]
    )
