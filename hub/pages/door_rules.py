"""The rules of doors: all of them in a list, each door's in words, and the form that changes them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError
from sqlalchemy import Connection

from hub.api import doors as api
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages import words
from hub.pages.arrival import arrival_context
from hub.pages.door_fields import (
    DEFAULTS,
    GROUPS,
    RULES,
    Choice,
    Flag,
    Group,
    Named,
    Names,
    Number,
    Rule,
    Several,
    said,
)
from hub.pages.outdated import Version, is_outdated, tag_of
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import access_levels, areas, doors, schedules, sites
from hub.store.doors import NamedDoor
from hub.versions import changed_since, version_of
from pacs.errors import MalformedData
from pacs.identifiers import DoorId
from pacs.rules import Antipassback, Door, DoorMode, WhenHubAway

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

MOST_MODE_RULES = 20
_DONE = {"changed": N_("Saved.")}
_NAME = N_("Write a name of 1 to 100 ordinary characters.")
_MODES = N_("Choose among the schedules and modes there are.")
_NUMBER = N_("Write a number from %(least)s to %(most)s.")
_NEEDS_CARDS = N_("Choose above whose cards admit others.")
_NEEDS_AREA = N_("Anti-passback needs the area that the door leads into.")

_Text = Annotated[str, Field(max_length=200)]
_Texts = Annotated[list[_Text], Field(max_length=100)]


class DoorForm(Body):
    """The form as a browser sends it, every rule as typed; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    version: Version = ""
    name: _Text = ""
    rule_schedule: _Texts = Field(default_factory=list)
    rule_mode: _Texts = Field(default_factory=list)
    mode: _Text = ""
    unlock_ms: _Text = ""
    extended_unlock_ms: _Text = ""
    held_open_after_s: _Text = ""
    held_warning_s: _Text = ""
    extended_held_open_after_s: _Text = ""
    relock_on_open: _Text = ""
    attended_timeout_s: _Text = ""
    admitting_levels: _Texts = Field(default_factory=list)
    admits_at_most: _Text = ""
    when_hub_away: _Text = ""
    hub_away_max_s: _Text = ""
    area: _Text = ""
    outside: _Text = ""
    antipassback: _Text = ""
    antipassback_s: _Text = ""
    first_person_levels: _Texts = Field(default_factory=list)
    escort_window_s: _Text = ""
    interlock_with: _Texts = Field(default_factory=list)
    max_policy_age_s: _Text = ""
    when_too_old: _Text = ""
    when_clock_untrusted: _Text = ""
    when_unlisted: _Text = ""
    private: _Text = ""
    allow_v1: _Text = ""
    do: _Text = "save"

    def mode_rules(self) -> list[dict[str, str]]:
        """The modes by schedule as the interface takes them; a row without a schedule is none."""
        pairs = zip(self.rule_schedule, self.rule_mode, strict=False)
        return [{"schedule_id": schedule, "mode": mode} for schedule, mode in pairs if schedule]


@router.get("/door-rules")
def doors_page(
    request: Request, principal: Annotated[Principal, requires(Permission.DOORS_READ)]
) -> Response:
    """Every door with its mode, its controller and its areas."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        every = doors.list_all(connection, sites=principal.sites)
        named = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
        rooms = {each.id: each.name for each in areas.list_all(connection, principal.sites)}
    return pages.response(
        request,
        "door_rules.html",
        principal,
        doors=[
            {
                "id": each.door.id,
                "name": each.name,
                "site": named[each.site_id],
                "mode": pages.gettext(words.MODE_NAMES[each.door.mode]),
                "by_schedule": bool(each.door.mode_rules),
                "controller": each.door.controller_id,
                "area": rooms.get(each.door.area, "") if each.door.area else "",
                "outside": rooms.get(each.door.outside, "") if each.door.outside else "",
                "private": each.door.private,
            }
            for each in sorted(every, key=lambda each: (named[each.site_id], each.name))
        ],
        many_sites=len(named) > 1,
    )


@router.get("/doors/{door_id}")
def door_page(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_READ)],
) -> Response:
    """One door: its rules in words, which access levels open it, and whether it goes by them."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = scope.door(connection, principal, door_id)
        names = _names(connection, found)
        site = sites.get(connection, found.site_id)
        opened = _opened_by(connection, found, names) if principal.may(Permission.ACCESS_READ) else None
    return pages.response(
        request,
        "door_page.html",
        principal,
        door={"id": door_id, "name": found.name, "controller": found.door.controller_id, "site": site.name},
        mode_rules=[
            {
                "id": rule.schedule_id,
                "schedule": names["schedules"][rule.schedule_id],
                "mode": pages.gettext(words.MODE_NAMES[rule.mode]),
            }
            for rule in found.door.mode_rules
        ],
        groups=[_in_words(pages, group, found.door, names) for group in GROUPS],
        opened=opened,
        arrival=arrival_context(request, found.site_id, door_id),
        may_manage=principal.may(Permission.DOORS_MANAGE),
        may_command=principal.may(Permission.DOORS_COMMAND),
        may_read_controllers=principal.may(Permission.CONTROLLERS_READ),
        may_ask=principal.may(Permission.CARDS_READ),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem="",
    )


@router.get("/doors/{door_id}/edit")
def edit_page(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
) -> Response:
    """The form with the rules as they are."""
    with services(request).database.read() as connection:
        found = scope.door(connection, principal, door_id)
    return _form(request, principal, _typed(found), door_id)


@router.post("/doors/{door_id}/edit")
def change(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.DOORS_MANAGE)],
    form: Annotated[DoorForm, Form()],
) -> Response:
    """Change a door's rules, or show the form again: with what is wrong, or with a row more."""
    with services(request).database.read() as connection:
        scope.door(connection, principal, door_id)
    if form.do == "add":
        return _form(request, principal, form, door_id)
    given, faults = _said(pages_of(request), form)
    try:
        if not faults:
            body = api.DoorChange.model_validate(given)
            api.change_door(door_id, body, request, Response(), principal, if_match=tag_of(form.version))
            return RedirectResponse(f"/doors/{door_id}?done=changed", 303)
    except (ValidationError, MalformedData, Problem) as error:
        if is_outdated(error):
            return _form(request, principal, form, door_id, outdated=True)
        faults = _faults(error)
    return _form(request, principal, form, door_id, faults=faults)


def _in_words(pages: Pages, group: Group, door: Door, names: Names) -> dict[str, Any]:
    """A group of rules as a page tells them."""
    return {
        "key": group.key,
        "title": pages.gettext(group.title),
        "is_open": group.usual or _is_unusual(group, door),
        "rules": [
            {
                "label": pages.gettext(rule.label),
                "said": said(rule, getattr(door, rule.name), pages.gettext, names),
                "help": pages.gettext(rule.help),
            }
            for rule in group.rules
        ],
    }


def _changed(pages: Pages, changed: list[str], found: NamedDoor, names: Names) -> list[tuple[str, str]]:
    """What is changed, and what it is now, in words."""
    said_now = []
    for name in changed:
        if name == "name":
            said_now.append((pages.gettext("Name"), found.name))
        elif name == "mode_rules":
            modes = [
                f"{names['schedules'][rule.schedule_id]}: {pages.gettext(words.MODE_NAMES[rule.mode])}"
                for rule in found.door.mode_rules
            ]
            label = pages.gettext("Mode by schedule; the first that holds decides")
            said_now.append((label, "; ".join(modes) or pages.gettext("none")))
        elif name == "controller_id":
            said_now.append((pages.gettext("Controller"), str(found.door.controller_id)))
        else:
            rule, value = RULES[name], getattr(found.door, name)
            said_now.append((pages.gettext(rule.label), said(rule, value, pages.gettext, names)))
    return said_now


def _is_unusual(group: Group, door: Door) -> bool:
    return any(getattr(door, rule.name) != DEFAULTS[rule.name] for rule in group.rules)


def _names(connection: Connection, found: NamedDoor) -> Names:
    """What the things of the door's site are called; of the doors only those beside it."""
    of_site = (found.site_id,)
    beside = doors.list_all(connection, found.door.controller_id)
    return {
        "levels": {each.level.id: each.name for each in access_levels.list_all(connection, of_site)},
        "areas": {each.id: each.name for each in areas.list_all(connection, of_site)},
        "schedules": {each.schedule.id: each.name for each in schedules.list_all(connection, of_site)},
        "doors": {each.door.id: each.name for each in beside if each.door.id != found.door.id},
    }


def _opened_by(connection: Connection, found: NamedDoor, names: Names) -> list[dict[str, str]]:
    """Each access level that opens the door, with its schedule."""
    return [
        {
            "id": each.level.id,
            "level": each.name,
            "schedule_id": rule.schedule_id,
            "schedule": names["schedules"][rule.schedule_id],
        }
        for each in access_levels.list_all(connection, (found.site_id,))
        for rule in each.level.rules
        if rule.door_id == found.door.id
    ]


def _typed(found: NamedDoor) -> DoorForm:
    """The form that says what is stored."""
    typed: dict[str, Any] = {}
    for name, rule in RULES.items():
        value = getattr(found.door, name)
        if isinstance(rule, Number):
            typed[name] = rule.typed(value)
        elif isinstance(rule, Flag):
            typed[name] = "yes" if value else ""
        else:
            typed[name] = sorted(value) if isinstance(rule, Several) else value or ""
    return DoorForm(
        version=version_of(api.parts_of(found)),
        name=found.name,
        rule_schedule=[rule.schedule_id for rule in found.door.mode_rules],
        rule_mode=[rule.mode for rule in found.door.mode_rules],
        **typed,
    )


def _said(pages: Pages, form: DoorForm) -> tuple[dict[str, Any], dict[str, str]]:
    """The form as the interface takes it, and what is wrong with which field."""
    given: dict[str, Any] = {"name": form.name, "mode_rules": form.mode_rules()}
    faults: dict[str, str] = {}
    for name, rule in RULES.items():
        typed = getattr(form, name)
        given[name] = typed
        if isinstance(rule, Number):
            given[name] = rule.read(typed)
            if given[name] is None:
                faults[name] = pages.gettext(_NUMBER) % {"least": f"{rule.least:g}", "most": f"{rule.most:g}"}
        elif isinstance(rule, Flag):
            given[name] = bool(typed)
        elif not isinstance(rule, Several):
            given[name] = typed or None
    if given["antipassback"] != Antipassback.TIMED:
        given["antipassback_s"] = 0
        faults.pop("antipassback_s", None)
    elif not given["antipassback_s"]:
        faults["antipassback_s"] = pages.gettext(_NUMBER) % {"least": "1", "most": "86400"}
    if given["antipassback"] not in (None, Antipassback.OFF) and not given["area"]:
        faults["area"] = pages.gettext(_NEEDS_AREA)
    if given["when_hub_away"] == WhenHubAway.LOCAL and not given["admitting_levels"]:
        faults["when_hub_away"] = pages.gettext(_NEEDS_CARDS)
    return given, faults


def _faults(error: Exception) -> dict[str, str]:
    """Field → what is wrong with it; under the empty name what is wrong with the whole."""
    if not isinstance(error, ValidationError):
        return {
            "": N_("Something it names is not there any more, or two rules do not go together. Choose again.")
        }
    known = {"name": _NAME, "mode_rules": _MODES} | {name: rule.fault for name, rule in RULES.items()}
    return {str(each["loc"][0]): known[str(each["loc"][0])] for each in error.errors()}


def _form(
    request: Request,
    principal: Principal,
    form: DoorForm,
    door_id: DoorId,
    *,
    faults: dict[str, str] | None = None,
    outdated: bool = False,
) -> Response:
    """``outdated``: somebody else changed it meanwhile; the form goes on from what it is now."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = scope.door(connection, principal, door_id)
        names = _names(connection, found)
    parts = api.parts_of(found)
    faults = {name: pages.gettext(text) for name, text in (faults or {}).items()}
    rows = list(zip(form.rule_schedule, form.rule_mode, strict=False))
    if not rows or (form.do == "add" and len(rows) < MOST_MODE_RULES):
        rows.append(("", DoorMode.UNLOCKED))
    return pages.response(
        request,
        "door_form.html",
        principal,
        status_code=409 if outdated else 422 if faults else 200,
        door={"id": door_id, "name": found.name},
        version=version_of(parts) if outdated else form.version,
        outdated=_changed(pages, changed_since(form.version, parts), found, names) if outdated else [],
        typed=form.model_dump(),
        faults=faults,
        rows=rows,
        added=form.do == "add",
        schedules=sorted(names["schedules"].items(), key=lambda each: each[1]),
        modes=[(mode.value, pages.gettext(text)) for mode, text in words.MODE_NAMES.items()],
        groups=[
            {
                "key": group.key,
                "title": pages.gettext(group.title),
                "is_open": group.usual
                or _is_unusual(group, found.door)
                or any(rule.name in faults for rule in group.rules),
                "rules": [_asked(pages, rule, names) for rule in group.rules],
            }
            for group in GROUPS
        ],
    )


def _asked(pages: Pages, rule: Rule, names: Names) -> dict[str, Any]:
    """A rule as the form asks for it."""
    options: list[tuple[str, str]] = []
    if isinstance(rule, Choice):
        options = [(each.value, pages.gettext(rule.said[each])) for each in rule.of]
    elif isinstance(rule, (Named, Several)):
        options = sorted(names[rule.things].items(), key=lambda each: each[1])
    if isinstance(rule, Named):
        options.insert(0, ("", pages.gettext("none")))
    label = pages.gettext(rule.label)
    return {
        "name": rule.name,
        "kind": rule.kind,
        "label": f"{label} ({pages.gettext(rule.unit)})" if isinstance(rule, Number) else label,
        "help": pages.gettext(rule.help),
        "options": options,
        "empty": pages.gettext(rule.empty) if isinstance(rule, Several) else "",
    }
