"""Who passes at a post, as whoever watches is shown them; each look is on record."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from hub import audit
from hub.operators import digest
from hub.store import attendance, desks, doors, events, posts, sites
from hub.store.attendance import PersonAtDoor
from hub.store.events import StoredEvent
from pacs.identifiers import PostId

FRESH: Final = timedelta(seconds=30)
"""Somebody who tapped longer ago is not shown: they have passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """Who tapped. ``person`` None: an unknown card. ``photograph``: what one look at it costs."""

    event: StoredEvent
    door_name: str
    shown_s: int
    blur_photo: bool
    person: PersonAtDoor | None = None
    photograph: str | None = None


def watched(
    connection: Connection, post_id: PostId, event_ids: Collection[int], now: datetime
) -> list[StoredEvent]:
    """Those of these taps that were at the post while it was open, a moment ago."""
    here = {each.door_id for each in posts.doors_of(connection, post_id)}
    return [
        each
        for each in events.with_ids(connection, event_ids)
        if each.door_id in here and each.details.get("watched") is True
        if not each.clock_trusted or now - each.occurred_at <= FRESH
    ]


def looks(
    connection: Connection,
    post_id: PostId,
    found: Sequence[StoredEvent],
    *,
    session_hash: bytes,
    actor: str,
    now: datetime,
) -> list[Passing]:
    """Who they were, each look audited; a photograph is for this session, once, for as long as it is shown."""
    post = posts.get(connection, post_id)
    blur = sites.get(connection, post.site_id).blur_photos
    names = doors.names(connection, {each.door_id for each in found if each.door_id})
    people = attendance.people(connection, {each.credential_id for each in found if each.credential_id})
    shown = []
    for event in found:
        person = people.get(event.credential_id) if event.credential_id else None
        photograph = None
        if person is not None and person.has_photo:
            photograph = secrets.token_urlsafe(32)
            until = now + timedelta(seconds=post.shown_s)
            look = digest(photograph)
            desks.add_look(connection, look, session_hash, person.cardholder_id, now=now, until=until)
        subject = f"cardholder:{person.cardholder_id}" if person else f"post:{post.id}"
        detail = {"post": str(post.id), "door": str(event.door_id), "event": str(event.id)}
        audit.record(connection, now=now, actor=actor, action="post.look", subject=subject, detail=detail)
        shown.append(
            Passing(
                event=event,
                door_name=names.get(event.door_id, event.door_id) if event.door_id else "",
                shown_s=post.shown_s,
                blur_photo=blur,
                person=person,
                photograph=photograph,
            )
        )
    return shown
