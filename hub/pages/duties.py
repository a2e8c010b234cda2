"""Duties on pages, and what concerns one person: exemptions, the lists they are on, and who reports for whom."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub.api import duties as api
from hub.api import exemptions, fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import ChangedMeanwhile, looked
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages import words
from hub.pages.outdated import Version, tag_of
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import access_levels, directory, sites
from hub.store.duties import Whom
from hub.versions import Parts, changed_since, version_of
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

FOUND_SHOWN = 10
_Text = Annotated[str, Field(max_length=300)]
_NOT_STORED = N_(
    "Not saved: give a name, a weekday, and times of which the end is after the beginning; margins are 0 to 720 minutes."
)
_YES, _NO = N_("yes"), N_("no")
_LIST_CHANGED = N_("Not saved: somebody changed that list at the same moment. Do it again.")
_NOT_EXEMPT = N_("Not saved: give the first and the last day, and a reason.")


class DutyForm(Body):
    """A duty as a browser sends it; ``csrf_token`` is checked before. ``whom``: a category, ``level:<id>`` or ``people``."""

    csrf_token: str = ""
    version: Version = ""
    name: _Text = ""
    whom: _Text = ""
    weekdays: Annotated[list[_Text], Field(max_length=7, default_factory=list)]
    start: _Text = ""
    end: _Text = ""
    early_min: _Text = "0"
    late_min: _Text = "0"
    on_holidays: _Text = ""
    first_day: _Text = ""
    last_day: _Text = ""
    site_id: _Text = ""


class PersonForm(Body):
    """What is changed about one person; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    action: _Text = ""
    other: _Text = ""
    duty_id: _Text = ""
    first_day: _Text = ""
    last_day: _Text = ""
    reason: _Text = ""


@router.get("/registration/duties")
def duties_page(
    request: Request, principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)]
) -> Response:
    """Every duty, and the form for another one."""
    typed = {"whom": "resident", "weekdays": [], "early_min": "0", "late_min": "0"}
    return _duties(request, principal, typed)


@router.post("/registration/duties")
def add(
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
    form: Annotated[DutyForm, Form()],
) -> Response:
    """Lay down a duty, or show the form again."""
    typed = form.model_dump(exclude={"csrf_token"})
    try:
        said = _said(form) | _whom(form.whom)
        said |= {"first_day": form.first_day or None, "site_id": form.site_id or None}
        api.add_duty(api.NewDuty.model_validate(said), request, Response(), principal)
    except (ValidationError, ValueError, MalformedData, Problem):
        return _duties(request, principal, typed, problem=_NOT_STORED)
    return RedirectResponse("/registration/duties?done=saved", 303)


@router.get("/registration/duties/{duty_id}")
def duty_page(
    duty_id: api.DutyInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
) -> Response:
    """The form with what a duty is."""
    duty = api.one_duty(duty_id, request, Response(), principal)
    typed = {
        "version": version_of(api.parts_of(duty)),
        "name": duty.name,
        "weekdays": [str(each) for each in duty.weekdays],
        "start": _time(duty.start_minute),
        "end": _time(duty.end_minute),
        "early_min": str(duty.early_min),
        "late_min": str(duty.late_min),
        "on_holidays": "yes" if duty.on_holidays else "",
        "last_day": duty.last_day.isoformat() if duty.last_day else "",
    }
    return _duties(request, principal, typed, duty=duty)


@router.post("/registration/duties/{duty_id}")
def change(
    duty_id: api.DutyInPath,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
    form: Annotated[DutyForm, Form()],
) -> Response:
    """Change a duty, or show the form again."""
    typed = form.model_dump(exclude={"csrf_token"})
    try:
        body = api.DutyChange.model_validate(_said(form))
        api.change_duty(duty_id, body, request, Response(), principal, if_match=tag_of(form.version))
    except ChangedMeanwhile as error:
        duty = api.one_duty(duty_id, request, Response(), principal)
        return _duties(request, principal, typed, duty=duty, outdated=error)
    except (ValidationError, ValueError, MalformedData, Problem):
        duty = api.one_duty(duty_id, request, Response(), principal)
        return _duties(request, principal, typed, duty=duty, problem=_NOT_STORED)
    return RedirectResponse("/registration/duties?done=saved", 303)


@router.get("/registration/exemptions")
def exemptions_page(
    request: Request, principal: Annotated[Principal, requires(Permission.REGISTRATION_READ)]
) -> Response:
    """Who is exempt, from what, why, and by whose word."""
    found = exemptions.list_exemptions(request, principal).exemptions
    names = {each.id: each.name for each in api.list_duties(request, principal).duties}
    return pages_of(request).response(
        request,
        "registration_exemptions.html",
        principal,
        exemptions=[each.model_dump() | {"duty": names.get(each.duty_id or "")} for each in found],
        may_manage=principal.may(Permission.REGISTRATION_MANAGE),
    )


@router.get("/registration/people/{cardholder_id}")
def person_page(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
    search: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """One person: exemptions, the lists they are on, and who reports for whom."""
    return _person(request, principal, cardholder_id, search=search)


@router.post("/registration/people/{cardholder_id}")
def change_person(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.REGISTRATION_MANAGE)],
    form: Annotated[PersonForm, Form()],
) -> Response:
    """Exempt somebody, end an exemption, put them on a list or take them off it, link them with another or part them."""
    try:
        _do(request, principal, cardholder_id, form)
    except ChangedMeanwhile:
        return _person(request, principal, cardholder_id, problem=_LIST_CHANGED)
    except (ValidationError, ValueError, MalformedData, Problem):
        return _person(request, principal, cardholder_id, problem=_NOT_EXEMPT)
    return RedirectResponse(f"/registration/people/{cardholder_id}?done=saved", 303)


def _do(request: Request, principal: Principal, cardholder_id: CardholderId, form: PersonForm) -> None:
    match form.action:
        case "exempt":
            said = {
                "cardholder_id": cardholder_id,
                "duty_id": form.duty_id or None,
                "first_day": form.first_day,
                "last_day": form.last_day,
                "reason": form.reason,
            }
            exemptions.add_exemption(exemptions.NewExemption.model_validate(said), request, principal)
        case "lift":
            end = exemptions.ExemptionEnd.model_validate({"reason": form.reason})
            exemptions.lift_exemption(form.other, end, request, principal)
        case "link":
            exemptions.set_reporter(cardholder_id, CardholderId(form.other), request, principal)
        case "part":
            exemptions.remove_reporter(cardholder_id, CardholderId(form.other), request, principal)
        case "list" | "unlist":
            read = Response()
            people = set(api.one_duty(form.duty_id, request, read, principal).people) - {cardholder_id}
            wanted = people | ({cardholder_id} if form.action == "list" else set())
            body = api.DutyChange.model_validate({"people": sorted(wanted)})
            tag = read.headers["ETag"]
            api.change_duty(form.duty_id, body, request, Response(), principal, if_match=tag)
        case _:
            raise MalformedData("no such action")


def _duties(
    request: Request,
    principal: Principal,
    typed: dict[str, Any],
    *,
    duty: api.Duty | None = None,
    problem: str = "",
    outdated: ChangedMeanwhile | None = None,
) -> Response:
    """``outdated``: by what somebody else changed meanwhile; the form goes on from what it is now."""
    hub, pages, version = services(request), pages_of(request), typed.get("version", "")
    with hub.database.read() as connection:
        levels = {each.level.id: each.name for each in access_levels.list_all(connection, principal.sites)}
        named = sites.list_all(connection, principal.sites)
    whom = [(each.value, pages.gettext(text)) for each, text in words.CATEGORIES.items()]
    whom += [
        (f"level:{key}", pages.gettext(N_("access level %(name)s")) % {"name": name})
        for key, name in levels.items()
    ]
    whom.append((Whom.PEOPLE.value, pages.gettext(N_("only who is put on its list"))))
    shown = dict(whom)
    return pages.response(
        request,
        "registration_duties.html",
        principal,
        status_code=409 if outdated else 422 if problem else 200,
        version=version_of(outdated.now) if outdated else version,
        outdated=_changed(pages, version, outdated.now) if outdated else [],
        duties=[
            {
                "id": each.id,
                "name": each.name,
                "whom": shown.get(_key(each), each.access_level_id),
                "people": len(each.people) if each.whom is Whom.PEOPLE else None,
                "days": _days(pages, each.weekdays),
                "start": _time(each.start_minute),
                "end": _time(each.end_minute),
                "early_min": each.early_min,
                "late_min": each.late_min,
                "first_day": each.first_day,
                "last_day": each.last_day,
            }
            for each in api.list_duties(request, principal).duties
        ],
        duty=duty,
        whom=whom,
        sites=[(each.id, each.name) for each in named],
        weekdays=[(str(number), pages.language.weekday(number)) for number in range(7)],
        typed=dict.fromkeys(DutyForm.model_fields, "") | typed,
        may_manage=principal.may(Permission.REGISTRATION_MANAGE),
        done="done" in request.query_params,
        problem=pages.gettext(problem),
    )


def _person(
    request: Request,
    principal: Principal,
    cardholder_id: CardholderId,
    *,
    search: str = "",
    problem: str = "",
) -> Response:
    hub, pages = services(request), pages_of(request)
    linked = exemptions.reporters(cardholder_id, request, principal)
    may = principal.may(Permission.NAMES_READ)
    with hub.database.read() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        everybody = {cardholder_id, *linked.reports_for, *linked.reported_by}
        names = directory.names_of(connection, everybody) if may else {}
        found = (
            directory.find_people(connection, search, sites=principal.sites) if may and search.strip() else []
        )
    others = [each for each in found if each.id not in (cardholder_id, *linked.reports_for)][:FOUND_SHOWN]
    looked(hub, principal, f"cardholder:{cardholder_id}", shown=len(names) + len(others))
    every = api.list_duties(request, principal).duties
    by_id = {each.id: each.name for each in every}
    exempt = exemptions.list_exemptions(request, principal, cardholder_id).exemptions
    return pages.response(
        request,
        "registration_person.html",
        principal,
        status_code=422 if problem else 200,
        cardholder_id=cardholder_id,
        name=names.get(cardholder_id, cardholder_id),
        reports_for=[(each, names.get(each, each)) for each in linked.reports_for],
        reported_by=[(each, names.get(each, each)) for each in linked.reported_by],
        others=[(each.id, each.name) for each in others],
        search=search,
        exemptions=[each.model_dump() | {"duty": by_id.get(each.duty_id or "")} for each in exempt],
        duties=list(by_id.items()),
        lists=[
            (each.id, each.name, cardholder_id in each.people) for each in every if each.whom is Whom.PEOPLE
        ],
        done="done" in request.query_params,
        problem=pages.gettext(problem),
    )


def _said(form: DutyForm) -> dict[str, Any]:
    """What a new duty and a changed one have in common, as the interface takes it; raises ``ValueError``."""
    start, end = _minutes(form.start), _minutes(form.end)
    return {
        "name": form.name,
        "weekdays": [int(each) for each in form.weekdays],
        "start_minute": start,
        "end_minute": end if end > start else end + 1440,
        "early_min": int(form.early_min or 0),
        "late_min": int(form.late_min or 0),
        "on_holidays": bool(form.on_holidays),
        "last_day": form.last_day or None,
    }


def _whom(value: str) -> dict[str, Any]:
    kind, _, level = value.partition(":")
    if kind == "level":
        return {"whom": Whom.ACCESS_LEVEL, "access_level_id": level}
    return {"whom": Whom.PEOPLE} if kind == Whom.PEOPLE else {"whom": Whom.CATEGORY, "category": kind}


def _changed(pages: Pages, version: str, now: Parts) -> list[tuple[str, str]]:
    """What is changed since, and what it is now, in words."""
    last_day = now["last_day"]
    said = {
        "name": (N_("Name, as residents read it"), now["name"]),
        "people": (N_("Persons on its list"), str(len(now["people"]))),
        "weekdays": (N_("Weekdays"), _days(pages, now["weekdays"])),
        "start_minute": (N_("From"), _time(now["start_minute"])),
        "end_minute": (N_("To; an earlier time is on the next day"), _time(now["end_minute"])),
        "early_min": (N_("Minutes before, in which a report counts as early"), str(now["early_min"])),
        "late_min": (N_("Minutes after, in which a report counts as late"), str(now["late_min"])),
        "on_holidays": (N_("On holidays, too"), pages.gettext(_YES if now["on_holidays"] else _NO)),
        "last_day": (
            N_("Last day; none if empty"),
            pages.language.day(date.fromisoformat(last_day)) if last_day else pages.gettext("none"),
        ),
    }
    return [(pages.gettext(said[name][0]), said[name][1]) for name in changed_since(version, now)]


def _key(duty: api.Duty) -> str:
    """What stands for whom a duty is for in the form."""
    if duty.whom is Whom.ACCESS_LEVEL:
        return f"level:{duty.access_level_id}"
    return duty.category.value if duty.category else Whom.PEOPLE.value


def _minutes(typed: str) -> int:
    hours, minutes = typed.strip().split(":")[:2]
    return int(hours) * 60 + int(minutes)


def _time(minute: int) -> str:
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def _days(pages: Pages, numbers: list[int]) -> str:
    if len(numbers) == 7:
        return pages.gettext(N_("every day"))
    return ", ".join(pages.language.weekday(each) for each in numbers)
