"""Whether a receipt of reporting in is genuine, and what it is for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Request
from sqlalchemy import Connection

from hub import registration
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import note
from hub.api.fields import Answer
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.registration import Timing
from hub.roles import Permission
from hub.store import directory, duties, reports
from hub.store.errors import NotFound
from pacs.errors import MalformedData

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/registration", tags=["registration"])

ReceiptInPath = Annotated[str, Path(min_length=1, max_length=30)]


class ReceiptLine(Answer):
    """For whom, and which duty of which day; ``stands``: staff did not withdraw it, and no later report took its place."""

    cardholder_id: fields.Cardholder
    person: str | None
    duty_id: str
    duty_name: str
    day: date
    timing: Timing | None
    stands: bool


class Receipt(Answer):
    """What one act at a kiosk reported, as it stands now."""

    receipt: str
    at: datetime
    station_id: str
    reported_by: fields.Cardholder | None
    reported_by_person: str | None
    lines: list[ReceiptLine]


@router.get("/receipts/{receipt}")
def verify_receipt(
    receipt: ReceiptInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
) -> Receipt:
    """Whether a receipt is genuine, and what it is for; audited. Unknown: never given out here, or no longer kept."""
    hub = services(request)
    try:
        number = registration.read_receipt(receipt)
    except MalformedData as error:
        raise Problem(Code.INVALID, "No receipt has this number: it was mistyped.") from error
    with hub.database.write() as connection:
        found = [each for each, site in reports.by_receipt(connection, number) if principal.sees(site)]
        if not found:
            raise NotFound("receipt is not there: never given out here, or no longer kept")
        shown = _receipt(connection, principal, number, found)
        note(connection, hub, principal, action="receipt.verify", subject=f"receipt:{number}")
    return shown


def _receipt(
    connection: Connection, principal: Principal, number: str, found: Sequence[reports.Report]
) -> Receipt:
    first = found[0]
    people = {each.cardholder_id for each in found} | ({first.reported_by} if first.reported_by else set())
    may = principal.may(Permission.NAMES_READ)
    names = directory.names_of(connection, people) if may else {}
    lines = []
    for each in found:
        duty = duties.get(connection, each.duty_id)
        occurrence = reports.get(connection, each.duty_id, each.day)
        made, said = reports.of_occurrence(connection, each.duty_id, each.day, {each.cardholder_id})
        (line,) = registration.listed(
            occurrence, (), reports=made, corrections=said, exemptions=(), holes=(), now=first.at
        )
        lines.append(
            ReceiptLine(
                cardholder_id=each.cardholder_id,
                person=names.get(each.cardholder_id),
                duty_id=duty.id,
                duty_name=duty.name,
                day=each.day,
                timing=registration.timing(occurrence, each.at),
                stands=line.report is not None and line.report.receipt == number,
            )
        )
    return Receipt(
        receipt=registration.written_receipt(number),
        at=first.at,
        station_id=first.station_id,
        reported_by=first.reported_by,
        reported_by_person=names.get(first.reported_by) if first.reported_by else None,
        lines=lines,
    )
