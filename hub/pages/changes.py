"""What a change would do, said before it is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastapi import Request, Response
from sqlalchemy import Connection

from hub.api.fields import Body
from hub.consequences import Change, Consequence
from hub.operators import Principal
from hub.pages.rendering import Pages, pages_of
from hub.store import doors

_ORDER = tuple(Change)


def effects_of(pages: Pages, connection: Connection, found: Iterable[Consequence]) -> list[str]:
    """Each consequence in words, the losses first."""
    every = sorted(found, key=lambda each: (_ORDER.index(each.change), -each.people, each.door_id))
    names = doors.names(connection, {each.door_id for each in every})
    return [_said(pages, each) % {"num": each.people, "door": names[each.door_id]} for each in every]


def _said(pages: Pages, consequence: Consequence) -> str:
    people = consequence.people
    if consequence.change is Change.LOST:
        return pages.ngettext("%(num)d person loses %(door)s", "%(num)d people lose %(door)s", people)
    if consequence.change is Change.GAINED:
        return pages.ngettext("%(num)d person gains %(door)s", "%(num)d people gain %(door)s", people)
    return pages.ngettext(
        "%(num)d person has %(door)s at other times", "%(num)d people have %(door)s at other times", people
    )


def confirm_page(
    request: Request, principal: Principal, form: Body, effects: Sequence[str], *, thing: str
) -> Response:
    """What the change to ``thing`` would do, with the whole form to send again: confirmed, or to be edited further."""
    sent = form.model_dump(exclude={"csrf_token", "do", "confirmed"})
    fields = [
        (name, each)
        for name, value in sent.items()
        for each in (value if isinstance(value, list) else [value])
    ]
    return pages_of(request).response(
        request, "confirm.html", principal, thing=thing, effects=effects, fields=fields
    )
