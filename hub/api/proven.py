"""For which times what is shown is everything: beside every list, count and export (rule R2)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from sqlalchemy import Connection

from hub import completeness
from hub.api import fields
from hub.api.fields import Answer
from hub.completeness import WAITING, Cause, Proven
from hub.store.sites import Sites
from pacs.identifiers import DoorId

PASSED_UNSEEN = (
    "Somebody who is not listed may still have passed: while a door's record is not complete, through a door"
    " held open, or on the way out by a button."
)


class Known(Answer):
    """From ``since`` to ``until`` every event of the door is stored."""

    since: datetime
    until: datetime


class Unknown(Answer):
    """Nothing can be concluded from what is not listed; ``waiting``: it may still arrive."""

    since: datetime
    until: datetime
    cause: Cause
    waiting: bool


class Record(Answer):
    """What is proven of one door from ``since`` to ``until``; ``complete``: all of it.

    ``known_until``: what its controller has accounted for; null: nothing yet.
    """

    door_id: fields.Door
    name: str
    since: datetime
    until: datetime
    known_until: datetime | None
    complete: bool
    known: list[Known]
    unknown: list[Unknown]


def records(
    connection: Connection,
    now: datetime,
    *,
    since: datetime,
    until: datetime,
    door_ids: Collection[DoorId] | None = None,
    sites: Sites = None,
) -> list[Record]:
    """What is proven for these doors of these sites, or for every door, between two moments."""
    found = completeness.proven(connection, now, since=since, until=until, door_ids=door_ids, sites=sites)
    return [answered(each) for each in found]


def answered(proven: Proven) -> Record:
    """One door's as the interface shows it."""
    return Record(
        door_id=proven.door_id,
        name=proven.name,
        since=proven.since,
        until=proven.until,
        known_until=proven.known_until,
        complete=proven.complete,
        known=[Known.model_validate(stretch) for stretch in proven.known],
        unknown=[
            Unknown(
                since=hole.since or proven.since,
                until=hole.until or proven.until,
                cause=hole.cause,
                waiting=hole.cause in WAITING,
            )
            for hole in proven.unknown
        ],
    )


def sentences(found: Collection[Record]) -> Iterator[str]:
    """The same in words, a line each; for files that people open."""
    for record in found:
        for hole in record.unknown:
            since, until = (at.isoformat(timespec="seconds") for at in (hole.since, hole.until))
            why = hole.cause.value.replace("_", " ")
            yield f"{record.name}: nothing is known from {since} to {until}, {why}"
        if record.complete:
            since, until = (at.isoformat(timespec="seconds") for at in (record.since, record.until))
            yield f"{record.name}: complete from {since} to {until}"
    if not found:
        yield "No door: nothing is known"
    yield PASSED_UNSEEN
