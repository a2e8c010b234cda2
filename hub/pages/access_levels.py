"""Access levels: which doors they open at which times, who holds them, and what a change does to whom."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError
from sqlalchemy import Connection

from hub import consequences
from hub.api import access_levels as api
from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import unchanged
from hub.api.fields import Body
from hub.api.problems import Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages.arrival import arrival_context
from hub.pages.changes import confirm_page, effects_of
from hub.pages.naming import NAME_TAKEN, made
from hub.pages.outdated import Version, is_outdated, tag_of
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import access_levels, doors, schedules, sites
from hub.store.access_levels import NamedLevel
from hub.store.errors import AlreadyExists, InUse
from hub.versions import changed_since, version_of
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, DoorId, ScheduleId, SiteId
from pacs.rules import AccessLevel

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

_DONE = {
    "created": N_("Saved. Now give it to people."),
    "changed": N_("Saved."),
    "deleted": N_("The access level is deleted."),
}
_FAULTS = {
    "name": N_("Write a name of 1 to 100 ordinary characters."),
    "rules": N_("Choose among the doors and schedules there are, and both for each."),
}

MOST_ROWS = 990
"""A form has so many fields at most, and some besides: the parser takes 1,000."""
_CHANGES_SHOWN = 20

_Text = Annotated[str, Field(max_length=200)]


class LevelForm(Body):
    """The form as a browser sends it; ``csrf_token`` is checked before.

    ``rule``: one for each row, ``door:schedule``, empty for a door without access; of an id neither holds a colon.
    """

    csrf_token: str = ""
    version: Version = ""
    name: _Text = ""
    site: _Text = ""
    rule: Annotated[list[_Text], Field(max_length=MOST_ROWS)] = Field(default_factory=list)
    more_door: _Text = ""
    more_schedule: _Text = ""
    do: _Text = "save"
    confirmed: _Text = ""

    def rules(self) -> list[dict[str, str]]:
        """The rules as the interface takes them."""
        said = [each.partition(":")[::2] for each in self.rule if each]
        if self.more_schedule:
            said.append((self.more_door, self.more_schedule))
        return [{"door_id": door, "schedule_id": schedule} for door, schedule in said]


@router.get("/access-levels")
def levels_page(
    request: Request, principal: Annotated[Principal, requires(Permission.ACCESS_READ)]
) -> Response:
    """Every access level."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        found = access_levels.list_all(connection, principal.sites)
        people = access_levels.holders(connection, [each.level.id for each in found])
        named = {each.id: each.name for each in sites.list_all(connection, principal.sites)}
        has_schedules = bool(schedules.list_all(connection, principal.sites))
    return pages.response(
        request,
        "access_levels.html",
        principal,
        levels=[
            {
                "id": each.level.id,
                "name": each.name,
                "site": named[each.site_id],
                "doors": len({rule.door_id for rule in each.level.rules}),
                "people": people.get(each.level.id, 0),
            }
            for each in found
        ],
        many_sites=len(named) > 1,
        has_schedules=has_schedules,
        may_manage=principal.may(Permission.ACCESS_MANAGE),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem="",
    )


@router.get("/new-access-level")
def new_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    site: Annotated[str, Field(max_length=48)] = "",
) -> Response:
    """The form for a new access level; who sees several sites chooses one first."""
    return _form(request, principal, LevelForm(site=site))


@router.post("/new-access-level")
def create(
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    form: Annotated[LevelForm, Form()],
) -> Response:
    """Create the access level, or show the form again with what is wrong."""

    def make(level_id: str) -> api.Level:
        body = api.NewLevel.model_validate(
            {"id": level_id, "name": form.name, "rules": form.rules(), "site_id": form.site or None}
        )
        return api.create_level(body, request, Response(), principal)

    def site_of(level_id: str) -> SiteId:
        with services(request).database.read() as connection:
            return scope.access_level(connection, principal, AccessLevelId(level_id)).site_id

    try:
        level = made(form.name, form.site, make, site_of)
    except AlreadyExists:
        return _form(request, principal, form, faults={"name": NAME_TAKEN})
    except (ValidationError, MalformedData, Problem) as error:
        return _form(request, principal, form, faults=_faults(error))
    return RedirectResponse(f"/access-levels/{level.id}?done=created", 303)


@router.get("/access-levels/{level_id}")
def level_page(
    level_id: fields.Level,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_READ)],
) -> Response:
    """One access level: its rules, how many hold it, and where the rules have arrived."""
    return _page(request, principal, level_id)


@router.get("/access-levels/{level_id}/edit")
def edit_page(
    level_id: fields.Level,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Response:
    """The form with the rules as they are."""
    with services(request).database.read() as connection:
        found = scope.access_level(connection, principal, level_id)
    form = LevelForm(
        version=version_of(api.level_parts(found)),
        name=found.name,
        rule=[f"{rule.door_id}:{rule.schedule_id}" for rule in found.level.rules],
    )
    return _form(request, principal, form, level_id=level_id)


@router.post("/access-levels/{level_id}/edit")
def change(
    level_id: fields.Level,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
    form: Annotated[LevelForm, Form()],
) -> Response:
    """Say what the change would do to whom; make it once that is confirmed."""
    with services(request).database.read() as connection:
        found = scope.access_level(connection, principal, level_id)
    if form.do != "save":
        return _form(request, principal, form, level_id=level_id)
    try:
        body = api.LevelChange.model_validate({"name": form.name, "rules": form.rules()})
        unchanged(tag_of(form.version), api.level_parts(found))
        if not form.confirmed and (effects := _effects(request, level_id, body.rules or [])):
            return confirm_page(request, principal, form, effects, thing=form.name)
        api.change_level(level_id, body, request, Response(), principal, if_match=tag_of(form.version))
    except (ValidationError, MalformedData, Problem) as error:
        if is_outdated(error):
            return _form(request, principal, form, level_id=level_id, outdated=True)
        return _form(request, principal, form, level_id=level_id, faults=_faults(error))
    return RedirectResponse(f"/access-levels/{level_id}?done=changed", 303)


@router.post("/access-levels/{level_id}/delete")
def delete(
    level_id: fields.Level,
    request: Request,
    principal: Annotated[Principal, requires(Permission.ACCESS_MANAGE)],
) -> Response:
    """Delete an access level that nobody holds and no door names."""
    try:
        api.delete_level(level_id, request, principal)
    except InUse:
        return _page(request, principal, level_id, problem=N_("Not deleted: it is still in use."))
    return RedirectResponse("/access-levels?done=deleted", 303)


def _page(request: Request, principal: Principal, level_id: AccessLevelId, *, problem: str = "") -> Response:
    hub, pages = services(request), pages_of(request)
    found = api.one_level(level_id, request, Response(), principal)
    with hub.database.read() as connection:
        people = access_levels.holders(connection, (level_id,)).get(level_id, 0)
        timed = {each.schedule.id: each.name for each in schedules.list_all(connection, (found.site_id,))}
        every = doors.list_all(connection, sites=(found.site_id,))
    names = {each.door.id: each.name for each in every}
    return pages.response(
        request,
        "access_level.html",
        principal,
        status_code=409 if problem else 200,
        level=found,
        rules=sorted(
            (names[rule.door_id], rule.door_id, timed[rule.schedule_id], rule.schedule_id)
            for rule in found.rules
        ),
        people=people,
        first_person_at=[each.name for each in every if level_id in each.door.first_person_levels],
        admits_at=[each.name for each in every if level_id in each.door.admitting_levels],
        arrival=arrival_context(request, found.site_id),
        may_manage=principal.may(Permission.ACCESS_MANAGE),
        may_read_people=principal.may(Permission.CARDHOLDERS_READ),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )


def _form(
    request: Request,
    principal: Principal,
    form: LevelForm,
    *,
    level_id: AccessLevelId | None = None,
    faults: dict[str, str] | None = None,
    outdated: bool = False,
) -> Response:
    """``outdated``: somebody else changed it meanwhile; the form goes on from what it is now."""
    hub, pages = services(request), pages_of(request)
    version, changed = form.version, []
    with hub.database.read() as connection:
        named = sites.list_all(connection, principal.sites)
        site_id = _site(connection, principal, level_id, form.site)
        of_site = (site_id,) if site_id else ()
        timed = schedules.list_all(connection, of_site)
        every = doors.list_all(connection, sites=of_site)
        if outdated and level_id is not None:
            stored = scope.access_level(connection, principal, level_id)
            names = {each.door.id: each.name for each in every}
            times = {each.schedule.id: each.name for each in timed}
            version = version_of(api.level_parts(stored))
            changed = _changed(pages, form, stored, names, times)
    return pages.response(
        request,
        "access_level_form.html",
        principal,
        status_code=409 if outdated else 422 if faults else 200,
        version=version,
        outdated=changed,
        typed=form.model_dump(include={"name"}),
        site_id=site_id,
        level_id=level_id,
        faults={name: pages.gettext(text) for name, text in (faults or {}).items()},
        rows=_rows(form, [(each.door.id, each.name) for each in every]),
        doors=sorted(((each.door.id, each.name) for each in every), key=lambda each: each[1]),
        schedules=[(each.schedule.id, each.name) for each in timed],
        sites=[(each.id, each.name) for each in named],
    )


def _changed(
    pages: Pages,
    form: LevelForm,
    stored: NamedLevel,
    doors_named: Mapping[DoorId, str],
    schedules_named: Mapping[ScheduleId, str],
) -> list[tuple[str, str]]:
    """What is changed since the form was shown, and what it is now: of the rules those that the form says otherwise."""
    changed = changed_since(form.version, api.level_parts(stored))
    said = [(pages.gettext("Name"), stored.name)] if "name" in changed else []
    if "rules" not in changed:
        return said
    typed, now = defaultdict(set), defaultdict(set)
    for rule in form.rules():
        typed[rule["door_id"]].add(rule["schedule_id"])
    for held in stored.level.rules:
        now[str(held.door_id)].add(str(held.schedule_id))
    differs = [
        (name, ", ".join(sorted(schedules_named[ScheduleId(each)] for each in now[door_id])))
        for door_id, name in sorted(doors_named.items(), key=lambda each: each[1])
        if typed[door_id] != now[door_id]
    ]
    said += [(name, text or pages.gettext("no access")) for name, text in differs[:_CHANGES_SHOWN]]
    if len(differs) > _CHANGES_SHOWN:
        more = len(differs) - _CHANGES_SHOWN
        said.append(
            (
                pages.gettext("Doors"),
                pages.ngettext("and %(num)d more", "and %(num)d more", more) % {"num": more},
            )
        )
    if not differs:
        said.append((pages.gettext("Doors"), pages.gettext("as you chose them")))
    return said


def _site(
    connection: Connection, principal: Principal, level_id: AccessLevelId | None, chosen: str
) -> SiteId | None:
    """The site whose doors the form is about; None: one has to be chosen first."""
    if level_id is not None:
        return scope.access_level(connection, principal, level_id).site_id
    if chosen:
        return scope.site(connection, principal, SiteId(chosen)).id
    seen = sites.list_all(connection, principal.sites)
    return seen[0].id if len(seen) == 1 else None


def _rows(form: LevelForm, every: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Each door by name, once for each schedule it has in the form, or once without any."""
    chosen: dict[str, list[str]] = {}
    for rule in form.rules():
        chosen.setdefault(rule["door_id"], []).append(rule["schedule_id"])
    return [
        {"door_id": door_id, "name": name, "schedule_id": schedule_id}
        for door_id, name in sorted(every, key=lambda each: each[1])
        for schedule_id in chosen.get(door_id) or [""]
    ]


def _faults(error: Exception) -> dict[str, str]:
    """Field → what is wrong with it; under the empty name what is wrong with the whole."""
    named = ["rules"]
    if isinstance(error, ValidationError):
        named = [str(each["loc"][0]) for each in error.errors()]
    return {name: _FAULTS.get(name, N_("This cannot be stored as it is.")) for name in named}


def _effects(request: Request, level_id: AccessLevelId, rules: list[api.Rule]) -> list[str]:
    """What the change would do to people, in words; raises ``Problem`` for rules that cannot be."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        wanted = AccessLevel(id=level_id, rules=api.as_rules(rules))
        found = consequences.of_level(connection, wanted, hub.clock())
        return effects_of(pages, connection, found)
