"""Stored events, and for which times each door's record is whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import Connection

from hub import spreadsheets
from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.changes import looked, note
from hub.api.door_status import HOLES_SHOWN, Completeness, completeness_of
from hub.api.fields import Answer
from hub.api.proven import Record, records, sentences
from hub.api.reasons import Because, requires_reason
from hub.api.services import Services, services
from hub.api.taps import EventAnswer, answers
from hub.operators import Principal
from hub.roles import Permission
from hub.store import events as store
from hub.store.events import StoredEvent
from hub.store.sites import Sites
from pacs.events import EventKind
from pacs.identifiers import CardholderId, ControllerId, CredentialId, DoorId, SiteId
from pacs.reason import Reason

router = APIRouter(route_class=DeclaredRoute, prefix="/api/v1/events", tags=["events"])

PORTION = 500
_COLUMNS = tuple(EventAnswer.model_fields)


@unique
class Outcome(StrEnum):
    """What became of a tap."""

    GRANTED = "granted"
    DENIED = "denied"
    REFERRED = "referred"

    @property
    def kind(self) -> EventKind:
        """The event that says so."""
        return EventKind(f"access_{self.value}")


@unique
class Format(StrEnum):
    """How an export is written."""

    CSV = "csv"
    JSON_LINES = "jsonl"


_MEDIA_TYPES = {Format.CSV: "text/csv; charset=utf-8", Format.JSON_LINES: "application/jsonl"}


class Events(Answer):
    """A portion of the list in order of arrival; go on with ``after=next_after`` until it is null.

    An event that is not listed may still have happened wherever a door's record is not whole: ``records`` says for
    the time that was asked for, without ``since`` for the last three days, what is proven of each door.
    """

    events: list[EventAnswer]
    next_after: int | None
    completeness: list[Completeness]
    records: list[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events are asked for."""

    door: DoorId | None
    controller: ControllerId | None
    kinds: tuple[EventKind, ...]
    since: datetime | None
    until: datetime | None
    site: SiteId | None
    sites: Sites = ()
    reasons: tuple[Reason, ...] = ()
    cardholder: CardholderId | None = None
    credential: CredentialId | None = None

    def seen_by(self, principal: Principal) -> Wanted:
        """What is asked for, of the sites that ``principal`` sees and no others."""
        sites = principal.sites
        if self.site is not None:
            sites = frozenset({self.site} if principal.sees(self.site) else ())
        return replace(self, sites=sites)

    @property
    def person(self) -> str | None:
        """Whose movements these are, as the audit log names them; None: everybody's."""
        if self.cardholder is not None:
            return f"cardholder:{self.cardholder}"
        return None if self.credential is None else f"card:{self.credential}"

    @property
    def doors(self) -> list[DoorId] | None:
        """The doors that what is proven has to be said of; None: every one."""
        return [self.door] if self.door else None

    def listed(
        self,
        connection: Connection,
        *,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
        limit: int,
    ) -> list[StoredEvent]:
        """Those behind ``after`` and before ``before``, in order of arrival, or the newest ones first."""
        return store.listing(
            connection,
            door_id=self.door,
            controller_id=self.controller,
            cardholder_id=self.cardholder,
            credential_id=self.credential,
            kinds=self.kinds,
            reasons=self.reasons,
            since=self.since,
            until=self.until,
            after=after,
            before=before,
            newest_first=newest_first,
            limit=limit,
            sites=self.sites,
        )


def _wanted(
    door: fields.Door | None = None,
    controller: fields.Controller | None = None,
    kind: Annotated[list[EventKind], Query(max_length=20)] = [],  # noqa: B006 - copied by the framework
    outcome: Annotated[list[Outcome], Query(max_length=3)] = [],  # noqa: B006
    since: Annotated[fields.Instant | None, Query()] = None,
    until: Annotated[fields.Instant | None, Query()] = None,
    site: fields.Site | None = None,
    decision_reason: Annotated[list[Reason], Query(max_length=20)] = [],  # noqa: B006
) -> Wanted:
    kinds = (*kind, *(each.kind for each in outcome))
    return Wanted(
        door=door,
        controller=controller,
        kinds=kinds,
        reasons=tuple(decision_reason),
        since=since,
        until=until,
        site=site,
    )


def _of_person(
    wanted: Annotated[Wanted, Depends(_wanted)],
    cardholder: fields.Cardholder | None = None,
    credential: Annotated[str | None, Query(max_length=64)] = None,
) -> Wanted:
    parsed = None if credential is None else CredentialId.parse(credential)
    return replace(wanted, cardholder=cardholder, credential=parsed)


@router.get("")
def listed(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    because: Annotated[Because, requires_reason()],
    wanted: Annotated[Wanted, Depends(_of_person)],
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: fields.Limit = 100,
) -> Events:
    """Events behind ``after``; of one door, controller, kind, outcome, time or person, or all. Names for those who may see them.

    Of one cardholder or credential only with a reason.
    """
    hub = services(request)
    now, wanted = hub.clock(), wanted.seen_by(principal)
    since, until = span(wanted.since, wanted.until, now, hub.settings.retention.coarse)
    with ExitStack() as stack:
        look = stack.enter_context(because.looking_at(principal, wanted.person)) if wanted.person else None
        connection = look.connection if look else stack.enter_context(hub.database.read())
        found = wanted.listed(connection, after=after, limit=limit + 1)
        listed_events = answers(connection, found[:limit])
        completeness = completeness_of(connection, now, wanted.door, sites=wanted.sites)
        proven = records(connection, now, since=since, until=until, door_ids=wanted.doors, sites=wanted.sites)
        if look:
            look.shown = len(listed_events)
    if not principal.may(Permission.NAMES_READ):
        listed_events = [each.without_names() for each in listed_events]
    if not look:
        looked(hub, principal, "events", shown=sum(each.person is not None for each in listed_events))
    more = found[limit - 1].id if len(found) > limit else None
    return Events(events=listed_events, next_after=more, completeness=completeness, records=proven)


@router.get("/export", response_class=Response)
def export(
    request: Request,
    principal: Annotated[Principal, requires(Permission.EVENTS_READ)],
    wanted: Annotated[Wanted, Depends(_wanted)],
    reason: Annotated[fields.ReasonText, Query()],
    form: Annotated[Format, Query(alias="format")] = Format.CSV,
) -> Response:
    """The same events as a file, headed by what is proven of the doors. Names for those who may see them; audited."""
    hub = services(request)
    now, wanted = hub.clock(), wanted.seen_by(principal)
    since, until = span(wanted.since, wanted.until, now, hub.settings.retention.coarse)
    wanted = replace(wanted, since=since, until=until)
    with hub.database.write() as connection:
        note(
            connection,
            hub,
            principal,
            action="events.export",
            subject=f"door:{wanted.door or '*'}",
            reason=reason,
        )
    with hub.database.read() as connection:
        proven = records(connection, now, since=since, until=until, door_ids=wanted.doors, sites=wanted.sites)
    shown = _portions(hub, wanted, names=principal.may(Permission.NAMES_READ))
    written = _csv(shown, proven) if form is Format.CSV else _lines(shown, proven)
    headers = {
        "Content-Disposition": f'attachment; filename="events.{form.value}"',
        "Cache-Control": "no-store",
    }
    return StreamingResponse(written, media_type=_MEDIA_TYPES[form], headers=headers)


def span(
    since: datetime | None, until: datetime | None, now: datetime, kept: timedelta
) -> tuple[datetime, datetime]:
    """The time that a list speaks of: as asked for, else the last three days; not the future, nor what was let go."""
    ends = min(until or now, now)
    return min(max(since or ends - HOLES_SHOWN, now - kept), ends), ends


def _portions(hub: Services, wanted: Wanted, *, names: bool) -> Iterator[EventAnswer]:
    after = 0
    while True:
        with hub.database.read() as connection:
            found = wanted.listed(connection, after=after, limit=PORTION)
            shown = answers(connection, found)
        yield from shown if names else (each.without_names() for each in shown)
        if len(found) < PORTION:
            return
        after = found[-1].id


def _csv(shown: Iterable[EventAnswer], proven: list[Record]) -> Iterator[str]:
    for sentence in sentences(proven):
        yield spreadsheets.line([f"# {sentence}"])
    yield spreadsheets.line(_COLUMNS)
    for event in shown:
        said = event.model_dump(mode="json")
        yield spreadsheets.line(said[name] for name in _COLUMNS)


def _lines(shown: Iterable[EventAnswer], proven: list[Record]) -> Iterator[str]:
    head = {"records": [each.model_dump(mode="json") for each in proven], "notes": list(sentences(proven))}
    yield json.dumps(head) + "\n"
    for event in shown:
        yield json.dumps(event.model_dump(mode="json")) + "\n"
