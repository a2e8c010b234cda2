"""Reporting in, for staff: today's lists, who has not yet, corrections, duties, exemptions and kiosks."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import fields, receipts, rolls
from hub.api import kiosks as kiosk_api
from hub.api import registration as api
from hub.api.access import DeclaredRoute, requires
from hub.api.duties import DutyInPath
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.registration import Standing
from hub.roles import Permission
from hub.store.errors import NotFound
from hub.store.reports import CorrectionKind

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

SHOWN = timedelta(days=1)
_Text = Annotated[str, Field(max_length=300)]
_NEEDS_REASON = N_("Say in a few words why.")
_TONES = {
    Standing.REPORTED: "good",
    Standing.EXEMPT: "",
    Standing.NOT_YET: "warn",
    Standing.NOT_REPORTED: "bad",
    Standing.CANNOT_BE_TOLD: "warn",
}


class CorrectionForm(Body):
    """What staff says of one person; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    cardholder_id: _Text = ""
    kind: _Text = ""
    reason: _Text = ""
    standing: _Text = ""


@router.get("/registration")
def today_page(
    request: Request, principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)]
) -> Response:
    """The occurrences of the last day with their counts, whether kiosks work, and the check of a receipt."""
    return _today(request, principal)


@router.get("/registration/receipt")
def receipt_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
    number: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """Whether a receipt is genuine."""
    try:
        found = receipts.verify_receipt(number, request, principal) if number.strip() else None
    except Problem:
        return _today(request, principal, problem=N_("No receipt has this number: it was mistyped."))
    except NotFound:
        return _today(
            request, principal, problem=N_("This number was never given out here, or is no longer kept.")
        )
    return _today(request, principal, receipt=found)


@router.get("/registration/duties/{duty_id}/{duty_day}")
def list_page(
    duty_id: DutyInPath,
    duty_day: api.DutyDay,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)],
    standing: Standing | None = None,
) -> Response:
    """The list of one occurrence, all of it or those of one standing."""
    return _list(request, principal, duty_id, duty_day, standing)


@router.post("/registration/duties/{duty_id}/{duty_day}")
def correct(
    duty_id: DutyInPath,
    duty_day: api.DutyDay,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_CORRECT)],
    form: Annotated[CorrectionForm, Form()],
) -> Response:
    """Correct what is said of somebody, or show the list again."""
    wanted = next((each for each in Standing if each.value == form.standing), None)
    try:
        body = api.NewCorrection.model_validate(
            {"cardholder_id": form.cardholder_id, "kind": form.kind, "reason": form.reason}
        )
        api.correct(duty_id, duty_day, body, request, principal)
    except (ValidationError, Problem):
        return _list(request, principal, duty_id, duty_day, wanted, problem=_NEEDS_REASON)
    query = f"?standing={wanted.value}" if wanted else ""
    return RedirectResponse(f"/registration/duties/{duty_id}/{duty_day}{query}", 303)


@router.post("/registration/kiosks/{station_id}/link")
def link_kiosk(
    station_id: fields.Station,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Response:
    """Make the link that pairs a kiosk's browser, and show it once."""
    made = kiosk_api.link(station_id, request, principal)
    origin = services(request).settings.public_origin
    return _today(request, principal, link=f"{origin}{made.path}", link_until=made.expires_at)


def _today(
    request: Request,
    principal: Principal,
    *,
    problem: str = "",
    receipt: receipts.Receipt | None = None,
    **more: Any,
) -> Response:
    pages = pages_of(request)
    found = api.list_occurrences(request, principal).occurrences
    return pages.response(
        request,
        "registration.html",
        principal,
        status_code=422 if problem else 200,
        occurrences=[_row(pages, each) for each in reversed(found)],
        kiosks=kiosk_api.listed(request, principal).kiosks,
        receipt=receipt,
        timing_text=lambda timing: pages.gettext(words.TIMINGS[timing]) if timing else "",
        may_manage=principal.may(Permission.REGISTRATION_MANAGE),
        problem=pages.gettext(problem),
        **{"link": "", "link_until": None} | more,
    )


def _row(pages: Pages, each: rolls.OccurrenceAnswer) -> dict[str, Any]:
    """One occurrence; how many are of each standing, as on its list."""
    counts: Counter[Standing] = Counter()
    standings = {standing.value: standing for standing in Standing}
    for count in each.counts or ():
        counts[standings.get(count.standing, Standing.REPORTED)] += count.people
    return {
        "duty_id": each.duty_id,
        "name": each.duty_name,
        "day": each.day,
        "starts_at": each.starts_at,
        "ends_at": each.ends_at,
        "settled": each.settled,
        "whole": each.whole,
        "counts": [
            {
                "standing": standing.value,
                "text": pages.gettext(words.STANDINGS[standing]),
                "tone": _TONES[standing],
                "people": counts[standing],
            }
            for standing in words.STANDINGS
            if counts[standing]
        ],
    }


def _list(
    request: Request,
    principal: Principal,
    duty_id: str,
    day: fields.Day,
    wanted: Standing | None,
    *,
    problem: str = "",
) -> Response:
    hub, pages = services(request), pages_of(request)
    found = rolls.answered(hub, principal, rolls.called(hub, principal, duty_id, day))
    if found.occurrence.counts is None:
        raise Problem(Code.NOT_FOUND, "Who reported on that day is no longer kept.")
    order = list(words.STANDINGS)
    lines = sorted(found.lines, key=lambda line: (order.index(line.standing), line.person or ""))
    return pages.response(
        request,
        "registration_list.html",
        principal,
        status_code=422 if problem else 200,
        found=found,
        row=_row(pages, found.occurrence),
        wanted=wanted.value if wanted else "",
        lines=[_line(pages, each) for each in lines if wanted in (None, each.standing)],
        may_manage=principal.may(Permission.REGISTRATION_MANAGE),
        may_correct=principal.may(Permission.REGISTRATION_CORRECT),
        problem=pages.gettext(problem),
    )


def _line(pages: Pages, line: rolls.LineAnswer) -> dict[str, Any]:
    reported = line.standing is Standing.REPORTED
    return {
        "cardholder_id": line.cardholder_id,
        "name": line.person or line.cardholder_id,
        "text": pages.gettext(words.STANDINGS[line.standing]),
        "tone": _TONES[line.standing],
        "timing": pages.gettext(words.TIMINGS[line.timing]) if line.timing else "",
        "exempt_because": line.exempt_because,
        "reports": [
            {
                "at": each.at,
                "receipt": each.receipt,
                "by": None
                if each.reported_by == line.cardholder_id
                else each.reported_by_person or each.reported_by or pages.gettext(N_("somebody forgotten")),
            }
            for each in line.reports
        ],
        "corrections": [
            {
                "at": each.at,
                "text": pages.gettext(words.CORRECTIONS[each.kind]),
                "reason": each.reason,
                "made_by": each.made_by,
            }
            for each in line.corrections
        ],
        "kind": (CorrectionKind.WITHDRAWN if reported else CorrectionKind.REPORTED).value,
        "reported": reported,
    }
