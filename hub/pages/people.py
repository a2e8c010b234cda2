"""One person: what is known of them, what their cards open, and the form that says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response, UploadFile
from fastapi.responses import RedirectResponse
from pydantic import Field, ValidationError

from hub import photographs
from hub.api import cardholders as api
from hub.api import fields, questions, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import ChangedMeanwhile, note
from hub.api.fields import Body
from hub.api.problems import Code, Problem
from hub.api.services import services
from hub.operators import Principal
from hub.pages import words
from hub.pages.outdated import Version, tag_of
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.roles import Permission
from hub.store import access_levels, cardholders, cards, directory, sites
from hub.store import photographs as photograph_store
from hub.store.cardholders import Category
from hub.store.errors import AlreadyExists
from hub.versions import Parts, changed_since, version_of
from pacs.decision import Outcome
from pacs.errors import MalformedData
from pacs.identifiers import AccessLevelId, CardholderId

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

FLAGS = {
    "attended": (N_("A person on duty decides"), N_("At every door, each time.")),
    "extended_opening": (N_("Doors stay unlocked longer"), N_("For who walks slowly or uses a wheelchair.")),
    "escort_required": (N_("Needs an escort"), N_("Opens doors together with an escort only.")),
    "may_escort": (N_("May escort others"), N_("Their card admits somebody who needs an escort.")),
    "minor": (N_("Is a minor"), N_("Whoever decides at a door is told, and who answers for them.")),
    "messages_waiting": (N_("Messages waiting"), N_("Something lies at the desk for them.")),
}
LABELS = {
    "given_name": N_("Given name"),
    "family_name": N_("Family name"),
    "latin_given_name": N_("Given name in Latin letters"),
    "latin_family_name": N_("Family name in Latin letters"),
    "category": N_("Category"),
    "room": N_("Room"),
    "language": N_("Language, such as nl, ti or fa-AF"),
    "external_id": N_("Number in the system they come from"),
    "guardian_id": N_("A minor's guardian: their number here or elsewhere"),
    "door_note": N_("Note to staff who decide at a door"),
    "valid_from": N_("Valid from"),
    "valid_until": N_("Valid until; a visitor needs it"),
    "access_level_ids": N_("Access levels"),
} | {name: title for name, (title, _) in FLAGS.items()}
_FAULTS = {
    "given_name": N_("Write a name of 1 to 100 ordinary characters."),
    "family_name": N_("Write a name of 1 to 100 ordinary characters."),
    "latin_given_name": N_("Write at most 100 characters, in Latin letters."),
    "latin_family_name": N_("Write at most 100 characters, in Latin letters."),
    "category": N_("Choose one of the categories."),
    "room": N_("Write at most 50 ordinary characters."),
    "language": N_("Write a language tag such as nl, ti or fa-AF."),
    "external_id": N_("Write at most 100 ordinary characters that nobody else has here."),
    "valid_from": N_("Write a day and a time."),
    "valid_until": N_("Write a day and a time after the beginning; a visitor needs one."),
    "escort_required": N_("Who needs an escort cannot be one."),
    "guardian_id": N_("Write the number of somebody else who is enrolled, for a minor."),
    "door_note": N_("Write at most 200 ordinary characters."),
    "access_level_ids": N_("Choose among the access levels there are."),
    "site_id": N_("Choose the site."),
}
NO_PHOTOGRAPH = N_("That is no photograph: choose a JPEG or PNG.")
_TEXTS = (
    "given_name", "family_name", "latin_given_name", "latin_family_name", "category", "room", "language", "external_id",
    "site_id", "guardian_id", "door_note",
)  # fmt: skip
_MOMENTS = ("valid_from", "valid_until")
_TONES = {Outcome.GRANT: "good", Outcome.REFER: "warn", Outcome.DENY: "bad"}
_OPENS = {
    Outcome.GRANT: N_("Opens"),
    Outcome.REFER: N_("A person decides"),
    Outcome.DENY: N_("Does not open"),
}

_Text = Annotated[str, Field(max_length=200)]


class PersonForm(Body):
    """The form as a browser sends it; ``csrf_token`` is checked before."""

    csrf_token: str = ""
    version: Version = ""
    given_name: _Text = ""
    family_name: _Text = ""
    latin_given_name: _Text = ""
    latin_family_name: _Text = ""
    category: _Text = ""
    room: _Text = ""
    language: _Text = ""
    external_id: _Text = ""
    site_id: _Text = ""
    valid_from: _Text = ""
    valid_until: _Text = ""
    access_level_ids: Annotated[list[_Text], Field(max_length=100, default_factory=list)]
    attended: _Text = ""
    extended_opening: _Text = ""
    escort_required: _Text = ""
    may_escort: _Text = ""
    minor: _Text = ""
    guardian_id: _Text = ""
    door_note: _Text = ""
    messages_waiting: _Text = ""


@router.get("/cardholders/{cardholder_id}")
def person_page(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_READ)],
) -> Response:
    """One person: facts, cards, and what these open."""
    return _person_page(request, principal, cardholder_id)


@router.get("/new-cardholder")
def new_page(
    request: Request, principal: Annotated[Principal, requires(Permission.CARDHOLDERS_ENROL)]
) -> Response:
    """The form for somebody who is not enrolled yet."""
    return _form(request, principal, {"category": Category.RESIDENT, "access_level_ids": []})


@router.post("/new-cardholder")
def enrol(
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_ENROL)],
    form: Annotated[PersonForm, Form()],
) -> Response:
    """Enrol the person, or show the form again with what is wrong."""
    made, faults = enrolled(request, principal, form)
    if made is not None:
        return RedirectResponse(f"/cardholders/{made}?done=enrolled", 303)
    return _form(request, principal, form.model_dump(exclude={"csrf_token"}), faults=faults)


def enrolled(
    request: Request, principal: Principal, form: PersonForm
) -> tuple[CardholderId | None, dict[str, str]]:
    """The id of the person whom the form describes, now enrolled; or None, and field → what is wrong with it."""
    said, faults = _said(pages_of(request), form)
    try:
        if not faults:
            body = api.NewCardholder.model_validate(_with_guardian(request, principal, said))
            return api.enrol(body, request, Response(), principal).id, {}
    except (ValidationError, MalformedData, AlreadyExists, Problem) as error:
        faults = _faults(error)
    return None, faults


@router.get("/cardholders/{cardholder_id}/edit")
def edit_page(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Response:
    """The form with what is known of the person."""
    person = api.one(cardholder_id, request, Response(), principal)
    pages = pages_of(request)
    typed = person.model_dump() | {name: pages.typed_moment(getattr(person, name)) for name in _MOMENTS}
    version = version_of(api.parts_of(person))
    return _form(request, principal, typed | {"version": version}, cardholder_id=cardholder_id)


@router.post("/cardholders/{cardholder_id}/edit")
def change(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    form: Annotated[PersonForm, Form()],
) -> Response:
    """Change what is said of the person, or show the form again with what is wrong."""
    typed = form.model_dump(exclude={"csrf_token"})
    said, faults = _said(pages_of(request), form)
    said.pop("site_id", None)
    try:
        if not faults:
            body = api.CardholderChange.model_validate(_with_guardian(request, principal, said))
            api.change(cardholder_id, body, request, Response(), principal, if_match=tag_of(form.version))
            return RedirectResponse(f"/cardholders/{cardholder_id}?done=changed", 303)
    except ChangedMeanwhile as error:
        return _form(request, principal, typed, cardholder_id=cardholder_id, outdated=error)
    except (ValidationError, MalformedData, AlreadyExists, Problem) as error:
        if isinstance(error, Problem) and error.code is not Code.REFERENCE_UNKNOWN:
            raise
        faults = _faults(error)
    return _form(request, principal, typed, cardholder_id=cardholder_id, faults=faults)


@router.post("/cardholders/{cardholder_id}/photo")
def put_photograph(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
    picture: UploadFile,
) -> Response:
    """Store the photograph that was chosen."""
    try:
        store_photograph(request, principal, cardholder_id, picture)
    except MalformedData:
        return _person_page(request, principal, cardholder_id, NO_PHOTOGRAPH)
    return RedirectResponse(f"/cardholders/{cardholder_id}?done=changed", 303)


def store_photograph(
    request: Request, principal: Principal, cardholder_id: CardholderId, picture: UploadFile
) -> None:
    """Keep what was chosen as somebody's photograph; raises ``MalformedData`` when it is none."""
    hub = services(request)
    prepared = photographs.prepared(picture.file.read())
    with hub.database.write() as connection:
        scope.own_cardholder(connection, principal, cardholder_id)
        photograph_store.put(connection, cardholder_id, prepared, hub.clock())
        note(connection, hub, principal, action="photo.change", subject=f"cardholder:{cardholder_id}")


@router.post("/cardholders/{cardholder_id}/photo/remove")
def remove_photograph(
    cardholder_id: fields.Cardholder,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDHOLDERS_MANAGE)],
) -> Response:
    """Delete the photograph."""
    api.delete_photograph(cardholder_id, request, principal)
    return RedirectResponse(f"/cardholders/{cardholder_id}?done=changed", 303)


_DONE = {"enrolled": N_("Enrolled. Now give them a card."), "changed": N_("Saved.")}


def _person_page(
    request: Request, principal: Principal, cardholder_id: CardholderId, problem: str = ""
) -> Response:
    hub, pages = services(request), pages_of(request)
    person = api.one(cardholder_id, request, Response(), principal)
    access = questions.what(cardholder_id, request, principal)
    with hub.database.read() as connection:
        held = cards.list_all(connection, cardholder_id=cardholder_id)
        names = {each.level.id: each.name for each in access_levels.list_all(connection)}
        has_photograph = photograph_store.exists(connection, cardholder_id)
        guardian = directory.names_of(connection, [person.guardian_id] if person.guardian_id else [])
        stored = scope.cardholder(connection, principal, cardholder_id)
        own = principal.sees(stored.site_id)
    return pages.response(
        request,
        "person.html",
        principal,
        status_code=422 if problem else 200,
        person=person,
        name=stored.name,
        guardian=guardian.get(person.guardian_id) if person.guardian_id else None,
        levels=[names[level] for level in person.access_level_ids],
        flags=[pages.gettext(title) for name, (title, _help) in FLAGS.items() if getattr(person, name)],
        cards=[
            {"credential_id": str(card.credential_id), "short_id": str(card.credential_id)[:8], "status": card.status}
            for card in held
        ],
        opens=_opens(pages, access),
        many_cards=len(held) > 1,
        settled=access.settled,
        has_photograph=has_photograph and principal.may(Permission.NAMES_READ),
        may_manage=own and principal.may(Permission.CARDHOLDERS_MANAGE),
        may_register=own and principal.may(Permission.REGISTRATION_MANAGE),
        may_erase=own and principal.may(Permission.RETENTION_HOLD),
        done=pages.gettext(_DONE.get(request.query_params.get("done", ""), "")),
        problem=pages.gettext(problem),
    )  # fmt: skip


def _opens(pages: Pages, access: questions.Access) -> list[dict[str, Any]]:
    """Each card at each door: what would happen now, and whether the door is known to agree."""
    named = {each.door_id: each for each in access.doors}
    return [
        {
            "door_id": each.door_id,
            "door": named[each.door_id].name,
            "card": str(each.credential_id)[:8],
            "text": pages.gettext(_OPENS[each.in_force.outcome]),
            "tone": _TONES[each.in_force.outcome],
            "reason": pages.gettext(words.REASONS[each.in_force.reason]),
            "differs": each.differs,
            "next_at": _next(access.at, each),
        }
        for each in access.verdicts
    ]


def _next(at: datetime, verdict: questions.Verdict) -> datetime | None:
    """When it opens next, for a card that does not open now."""
    if verdict.in_force.outcome is not Outcome.DENY:
        return None
    return next((each.since for each in verdict.week if each.since > at), None)


def _form(
    request: Request,
    principal: Principal,
    typed: dict[str, Any],
    *,
    cardholder_id: CardholderId | None = None,
    faults: dict[str, str] | None = None,
    outdated: ChangedMeanwhile | None = None,
) -> Response:
    """``outdated``: by what somebody else changed meanwhile; the form goes on from what it is now."""
    pages, version = pages_of(request), typed.get("version", "")
    context = form_context(request, principal, typed, faults or {})
    return pages.response(
        request,
        "person_form.html",
        principal,
        status_code=409 if outdated else 422 if faults else 200,
        cardholder_id=cardholder_id,
        version=version_of(outdated.now) if outdated else version,
        outdated=_changed(pages, version, outdated.now, dict(context["levels"])) if outdated else [],
        **context,
    )


def _changed(
    pages: Pages, version: str, now: Parts, levels: Mapping[AccessLevelId, str]
) -> list[tuple[str, str]]:
    """What is changed since, and what it is now, in words."""
    said = []
    for name in changed_since(version, now):
        value = now[name]
        label, text = pages.gettext(LABELS[name]), value or pages.gettext("none")
        if name in FLAGS:
            text = pages.gettext(N_("yes") if value else N_("no"))
        elif name == "category":
            text = pages.gettext(words.CATEGORIES[value])
        elif name == "access_level_ids":
            text = ", ".join(sorted(levels[each] for each in value)) or pages.gettext("none")
        elif name in _MOMENTS and value:
            text = pages.moment(datetime.fromisoformat(value))
        said.append((label, text))
    return said


def form_context(
    request: Request, principal: Principal, typed: dict[str, Any], faults: dict[str, str]
) -> dict[str, Any]:
    """What a form about a person is made of."""
    hub, pages = services(request), pages_of(request)
    with hub.database.read() as connection:
        levels = access_levels.list_all(connection, principal.sites)
        named = sites.list_all(connection, principal.sites)
    return {
        "typed": dict.fromkeys(PersonForm.model_fields, "")
        | {name: "" if value is None else value for name, value in typed.items()},
        "faults": {name: pages.gettext(text) for name, text in faults.items()},
        "labels": {name: pages.gettext(text) for name, text in LABELS.items()},
        "categories": [(each.value, pages.gettext(text)) for each, text in words.CATEGORIES.items()],
        "levels": [(each.level.id, each.name) for each in levels],
        "sites": [(each.id, each.name) for each in named],
        "flags": [(name, pages.gettext(title), pages.gettext(text)) for name, (title, text) in FLAGS.items()],
    }


def _said(pages: Pages, form: PersonForm) -> tuple[dict[str, Any], dict[str, str]]:
    """The form as the interface takes it, and the fields whose moments cannot be read."""
    said: dict[str, Any] = {name: getattr(form, name).strip() or None for name in _TEXTS}
    said |= {name: bool(getattr(form, name)) for name in FLAGS}
    said["access_level_ids"] = form.access_level_ids
    faults = {}
    for name in _MOMENTS:
        try:
            said[name] = pages.read_moment(getattr(form, name))
        except ValueError:
            faults[name] = _FAULTS[name]
    faults |= {name: _FAULTS[name] for name in ("given_name", "family_name") if said[name] is None}
    return said, faults


def _with_guardian(request: Request, principal: Principal, said: dict[str, Any]) -> dict[str, Any]:
    """The same with the guardian's id where the number that they have elsewhere was written."""
    number = said["guardian_id"]
    if number is None:
        return said
    with services(request).database.read() as connection:
        found = cardholders.list_all(connection, external_id=number, limit=1, sites=principal.sites)
    return said | {"guardian_id": found[0].id} if found else said


def _faults(error: Exception) -> dict[str, str]:
    """Field → what is wrong with it; under the empty name what is wrong with the whole."""
    if isinstance(error, ValidationError):
        named = [str(each["loc"][0]) for each in error.errors()]
    else:
        named = [str(error).partition(":")[0]]
    return {
        name if name in _FAULTS else "": _FAULTS.get(name, N_("This cannot be stored as it is."))
        for name in named
    }
