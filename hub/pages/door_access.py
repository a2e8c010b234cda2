"""Who can open a door at a chosen moment, and for one person: when, and why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from hub.api import fields, scope
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked
from hub.api.services import services
from hub.entered import moment
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import Pages, pages_of
from hub.pages.words import N_
from hub.questions import Findings, Verdict
from hub.roles import Permission
from hub.store import directory
from pacs.decision import Outcome
from pacs.errors import MalformedData
from pacs.identifiers import CardholderId, SiteId
from pacs.reason import Reason

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

EVERY_CARD = 100_000
PER_PAGE = 50
_OPENS = {
    Outcome.GRANT: (N_("Opens"), "good"),
    Outcome.REFER: (N_("A person decides"), "warn"),
    Outcome.DENY: (N_("Does not open"), "bad"),
}
_ADVICE = {
    Reason.NO_ACCESS_LEVEL: N_("None of their access levels opens this door: give them one that does."),
    Reason.OUTSIDE_SCHEDULE: N_("Their access levels open it at other times, as listed below."),
    Reason.CREDENTIAL_SUSPENDED: N_("The card is blocked: reinstate it when it is found."),
    Reason.CREDENTIAL_REVOKED: N_("The card is blocked for good: make another one."),
    Reason.CREDENTIAL_UNLISTED: N_("The card is not in the rules that are in force: look again in a moment."),
    Reason.CARD_NOT_ENROLLED: N_("The card is not in the rules that are in force: look again in a moment."),
    Reason.CREDENTIAL_EXPIRED: N_("Their time is over: change until when they are valid."),
    Reason.CREDENTIAL_NOT_YET_VALID: N_("Their time has not begun: change from when they are valid."),
    Reason.TECHNOLOGY_NOT_ALLOWED: N_("This door takes cards with a certificate only: its rules say so."),
    Reason.DOOR_LOCKDOWN: N_("Nobody comes in until the lockdown ends."),
    Reason.DOOR_OUT_OF_SERVICE: N_("The door has to be put into service first."),
    Reason.FIRST_PERSON_AWAITED: N_("One of those who have to come first opens it for everybody."),
    Reason.ESCORT_AWAITED: N_("They come in together with somebody who may escort."),
    Reason.POLICY_TOO_OLD: N_("The door has to be connected to the hub again."),
    Reason.POLICY_MISSING: N_("The door has to be connected to the hub first."),
}
_MOMENT = N_("Write a day and a time, or leave it empty for now.")

Text = Annotated[str, Query(max_length=100)]
After = Annotated[int, Query(ge=0, le=1_000_000)]


@router.get("/doors/{door_id}/access")
def access_page(
    door_id: fields.Door,
    request: Request,
    principal: Annotated[Principal, requires(Permission.CARDS_READ)],
    at: Text = "",
    search: Text = "",
    cardholder: fields.Cardholder | None = None,
    after: After = 0,
) -> Response:
    """Who can open a door, now or at another moment; or what it does for those found, or for one person."""
    hub, pages = services(request), pages_of(request)
    faults, wanted = {}, None
    try:
        wanted = _moment(pages, at)
    except (ValueError, MalformedData):
        faults["at"] = pages.gettext(_MOMENT)
    with hub.database.read() as connection:
        door = scope.door(connection, principal, door_id)
        if cardholder is not None:
            scope.cardholder(connection, principal, cardholder)
    found = hub.questions.who(door_id, at=wanted, cardholder_id=cardholder, limit=EVERY_CARD)
    with hub.database.read() as connection:
        asked = _asked(connection, principal, found, search.strip(), door.site_id)
        names = _names(connection, principal, asked)
    chosen = asked if search.strip() or cardholder else [each for each in asked if _lets(each)]
    ordered = sorted(
        chosen, key=lambda each: (names.get(each.cardholder_id, "").casefold(), each.credential_id)
    )
    shown = ordered[after : after + PER_PAGE]
    looked(hub, principal, f"door:{door_id}", shown=len({each.cardholder_id for each in shown}))
    return pages.response(
        request,
        "door_access.html",
        principal,
        status_code=422 if faults else 200,
        door={"id": door_id, "name": door.name},
        typed={"at": at, "search": search.strip()},
        faults=faults,
        cardholder=cardholder,
        person=names.get(cardholder, "") if cardholder else "",
        moment=found.at,
        is_now=wanted is None,
        settled=hub.is_settled(),
        basis=found.doors[0],
        counts=Counter(_OPENS[each.in_force.outcome][1] for each in found.verdicts),
        verdicts=[_row(pages, each, names, found.at) for each in shown],
        total=len(ordered),
        next_after=after + PER_PAGE if len(ordered) > after + PER_PAGE else None,
        denied=_reasons(pages, found.verdicts),
        by_name=principal.may(Permission.NAMES_READ),
        may_manage=principal.may(Permission.CARDHOLDERS_MANAGE),
        may_read_people=principal.may(Permission.CARDHOLDERS_READ),
    )


def _moment(pages: Pages, typed: str) -> datetime | None:
    """The moment that is asked about, None: now; raises ``ValueError`` and ``MalformedData``."""
    found = pages.read_moment(typed)
    return None if found is None else moment(found).astimezone(UTC)


def _lets(verdict: Verdict) -> bool:
    return verdict.in_force.outcome is not Outcome.DENY


def _asked(
    connection: Connection, principal: Principal, found: Findings, search: str, site_id: SiteId
) -> Sequence[Verdict]:
    """Those that the search finds: by parts of a name, for who may see names, or by how a card's number begins."""
    if not search:
        return found.verdicts
    people: set[CardholderId] = set()
    if principal.may(Permission.NAMES_READ):
        people = {each.id for each in directory.find_people(connection, search, sites=(site_id,))}
    return [
        each
        for each in found.verdicts
        if each.cardholder_id in people or str(each.credential_id).startswith(search.lower())
    ]


def _names(
    connection: Connection, principal: Principal, verdicts: Iterable[Verdict]
) -> Mapping[CardholderId, str]:
    if not principal.may(Permission.NAMES_READ):
        return {}
    return directory.names_of(connection, {each.cardholder_id for each in verdicts})


def _row(pages: Pages, verdict: Verdict, names: Mapping[CardholderId, str], at: datetime) -> dict[str, Any]:
    """A card at the door, with what comes in the week that follows."""
    text, tone = _OPENS[verdict.in_force.outcome]
    opens_next = (
        None if _lets(verdict) else next((each.since for each in verdict.week if each.since > at), None)
    )
    return {
        "cardholder_id": verdict.cardholder_id,
        "name": names.get(verdict.cardholder_id),
        "credential_id": str(verdict.credential_id),
        "short_id": str(verdict.credential_id)[:8],
        "text": pages.gettext(text),
        "tone": tone,
        "reason": pages.gettext(words.REASONS[verdict.in_force.reason]),
        "advice": pages.gettext(_ADVICE.get(verdict.in_force.reason, "")) if not _lets(verdict) else "",
        "differs": verdict.differs,
        "at_door": pages.gettext(words.REASONS[verdict.at_door.reason]) if verdict.at_door else "",
        "opens_next": opens_next,
        "week": [
            {"since": each.since, "until": each.until, "text": pages.gettext(_OPENS[each.outcome][0])}
            for each in verdict.week
        ],
    }


def _reasons(pages: Pages, verdicts: Iterable[Verdict]) -> list[tuple[str, int]]:
    """Why it does not open, and for how many cards, the commonest first."""
    counted = Counter(each.in_force.reason for each in verdicts if not _lets(each))
    return [(pages.gettext(words.REASONS[reason]), count) for reason, count in counted.most_common()]
