"""The roll call as a page, and as the sheet that is copied elsewhere each minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

from babel import Locale, UnknownLocaleError
from fastapi import APIRouter, Query, Request, Response

from hub.api import fields
from hub.api.access import DeclaredRoute, requires
from hub.api.muster import Muster, Person, called
from hub.api.proven import Record
from hub.api.services import services
from hub.completeness import Cause
from hub.muster_copies import PREFIX, Made
from hub.operators import Principal
from hub.pages import words
from hub.pages.rendering import Pages, pages_of
from hub.pages.static_files import FILES
from hub.roles import Permission
from pacs.identifiers import SiteId
from pacs.rules import Side

router = APIRouter(route_class=DeclaredRoute, include_in_schema=False)

SAID_OF = timedelta(days=1)
LINES = 12


@router.get("/muster")
def muster_page(
    request: Request,
    principal: Annotated[Principal, requires(Permission.MOVEMENTS_READ)],
    site: Annotated[fields.Site | None, Query()] = None,
) -> Response:
    """The roll call of one site or of each, to be read and printed."""
    pages = pages_of(request)
    found = called(services(request), principal, site)
    return pages.response(
        request,
        "muster.html",
        principal,
        headers={"Cache-Control": "no-store"},
        late=services(request).muster_copies.late(),
        sheets=[sheet_context(pages, each) for each in found],
    )


def sheet(pages: Pages, muster: Muster) -> str:
    """One file that needs nothing else: no script, no style of another file, no image."""
    return pages.whole(
        "muster_sheet.html",
        sheet=sheet_context(pages, muster),
        time_zone=muster.time_zone,
        style=FILES["muster.css"].data.decode(),
    )


def files(pages: Pages, musters: Mapping[SiteId, Muster]) -> Made:
    """The copies of these roll calls: for each site what a person opens, and what a program reads."""
    found: dict[str, bytes] = {}
    for site_id, muster in musters.items():
        found[f"{PREFIX}{site_id}.html"] = sheet(pages, muster).encode()
        found[f"{PREFIX}{site_id}.json"] = muster.model_dump_json(indent=1).encode()
    return found


def sheet_context(pages: Pages, muster: Muster) -> dict[str, Any]:
    """What the sheet shows."""
    _ = pages.gettext
    inside = [area for area in muster.areas if area.people]
    return {
        "site_id": muster.site_id,
        "site_name": muster.site_name,
        "time_zone": muster.time_zone,
        "made_at": muster.made_at,
        "inside": sum(len(area.people) for area in inside),
        "areas": [
            {"name": area.name, "as_of": area.as_of, "people": [_row(pages, each) for each in area.people]}
            for area in inside
        ],
        "empty_areas": [area.name for area in muster.areas if not area.people],
        "has_areas": bool(muster.areas),
        "unknown": [_row(pages, each) for each in muster.unknown],
        "left": [_row(pages, each) for each in muster.left],
        "records": record_lines(pages, muster.records, since=muster.made_at - SAID_OF),
        "has_doors": bool(muster.records),
    }


def record_lines(pages: Pages, records: list[Record], *, since: datetime) -> list[dict[str, Any]]:
    """Where doors' records were not whole since then, the newest first; what still is, before all."""
    holes = [
        (record, hole)
        for record in records
        for hole in record.unknown
        if hole.until > since and hole.cause not in (Cause.NOT_TOLD_YET, Cause.NOT_THERE_YET)
    ]
    holes.sort(key=lambda found: found[1].since, reverse=True)
    holes.sort(key=lambda found: found[1].until < found[0].until)
    return [
        {
            "name": record.name,
            "since": hole.since,
            "until": hole.until if hole.until < record.until else None,
            "text": pages.gettext(words.CAUSES[hole.cause]),
        }
        for record, hole in holes[:LINES]
    ]


def _row(pages: Pages, person: Person) -> dict[str, Any]:
    _ = pages.gettext
    why = ""
    if person.why is not None:
        why = _(words.WHYS[person.why])
        if person.cause is not None:
            why = f"{why}: {_(words.CAUSES[person.cause])}"
    seen = ""
    if person.last is not None:
        entered = person.last.side is Side.ENTRY
        if person.last.was_seen:
            seen = _("entered by") if entered else _("left by")
        else:
            seen = _("let in by") if entered else _("let out by")
    return {
        "name": person.name,
        "room": person.room or "",
        "language": _language(pages, person.language),
        "category": _(words.CATEGORIES[person.category]),
        "help": person.extended_opening,
        "seen": seen,
        "last": person.last,
        "why": why,
        "since": person.since,
        "door_name": person.door_name if person.why is not None and person.cause is not None else None,
    }


def _language(pages: Pages, tag: str | None) -> str:
    """What the list's own language calls it, as somebody at an exit can say it."""
    if tag is None:
        return ""
    try:
        return Locale.parse(tag, sep="-").get_display_name(pages.language.locale) or tag
    except (UnknownLocaleError, ValueError):
        return tag
