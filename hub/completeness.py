"""For which times each door's record is whole (rule R2: absence of a tap is not absence of a person).

A record is whole as far as its controller has said what it holds and all of that is stored. It has a hole
where events are known to be missing, where the controller or the door's reader did not work, and, until they
arrive, where events wait at the door.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique

from sqlalchemy import Connection

from hub.store import controllers, doors, expiry, journals, site_periods, totals
from hub.store.controllers import ControllerState
from hub.store.doors import Place
from hub.store.journals import Anomaly, AnomalyKind
from hub.store.sites import Sites
from pacs.events import Event, EventKind
from pacs.identifiers import ControllerId, DoorId, JournalId


@unique
class Cause(StrEnum):
    """Why a door's record is not known to be whole."""

    NEVER_SEEN = "never_seen"  # its controller has not connected yet
    OFFLINE = "offline"  # its controller is not connected, or silent
    NOT_PROVEN = "not_proven"  # its controller has not yet said what it holds
    ARRIVING = "arriving"  # its controller holds events that are not stored yet, or that it cannot send yet
    NOT_RUNNING = "not_running"
    UNCLEAN_START = "unclean_start"  # the last moments before may be missing
    READER_LOST = "reader_lost"
    EVENTS_MISSING = "events_missing"
    JOURNAL_REPLACED = "journal_replaced"
    JOURNAL_GAP = "journal_gap"
    EXPIRED = "expired"  # who it was is no longer kept, and in the end not that anybody was
    DOOR_MOVED = "door_moved"  # to another controller, which does not go by that yet
    CLOCK_WRONG = "clock_wrong"  # when its events occurred is not known
    CLOCK_UNTRUSTED = "clock_untrusted"  # the same, and the controller said so
    CHAIN_BROKEN = "chain_broken"  # events are kept aside that do not continue the record
    DUPLICATE_DIFFERS = "duplicate_differs"  # events are kept aside that contradict the record
    JOURNAL_BEHIND = "journal_behind"  # the controller was set back and gives numbers anew
    NOT_TOLD_YET = "not_told_yet"  # the last moments, of which its controller has not spoken yet
    NOT_THERE_YET = "not_there_yet"  # before the door was added
    PRIVATE = "private"  # nothing about people is recorded there, ever
    NOT_WHOLE = "not_whole"  # why is no longer kept


_MOMENT = timedelta(milliseconds=1)  # as exact as events are
SETTLED = "record"
"""The purpose of the runs that keep, of what is older, for which times records were whole."""
WAITING = frozenset({Cause.OFFLINE, Cause.ARRIVING, Cause.NOT_TOLD_YET})
"""What is missing may still arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Nothing can be concluded from ``since`` (None: the beginning) to ``until`` (None: still)."""

    since: datetime | None
    until: datetime | None
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """One door's record. ``complete``: nothing is unknown up to this moment, whatever was before.

    ``unknown_since``: the beginning of what is still unknown; None when complete, or when it is unknown from
    the very beginning. ``holes``: all of them, the oldest first, what is still unknown included.
    """

    door_id: DoorId
    complete: bool
    unknown_since: datetime | None
    holes: tuple[Hole, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """From ``since``, inclusive, to ``until``, exclusive."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What is proven of one door's record from ``since`` to ``until``.

    ``complete``: every event of that time is stored. ``known``: the stretches for which it is, in order and apart.
    ``unknown``: the rest, by cause; they may overlap and have both ends. ``known_until``: what the controller has
    accounted for, None: nothing.
    """

    door_id: DoorId
    name: str
    since: datetime
    until: datetime
    known_until: datetime | None
    complete: bool
    known: tuple[Stretch, ...]
    unknown: tuple[Hole, ...]

    def covers(self, since: datetime, until: datetime) -> bool:
        """Whether every event from ``since`` to ``until`` is stored."""
        return since >= until or any(
            stretch.since <= since and until <= stretch.until for stretch in self.known
        )


def proven(
    connection: Connection,
    now: datetime,
    *,
    since: datetime,
    until: datetime,
    door_ids: Collection[DoorId] | None = None,
    sites: Sites = None,
) -> list[Proven]:
    """What is proven for these doors, None: for every door, between two moments; every view asks this (rule R2)."""
    return [
        account(
            door.id,
            door.name,
            [*holes, *_never(door)],
            known_until=state.complete_until,
            since=since,
            until=until,
        )
        for door, state, holes in _records(connection, now, doors.places(connection, sites))
        if door_ids is None or door.id in door_ids
    ]


def counted(
    connection: Connection,
    now: datetime,
    *,
    since: datetime,
    until: datetime,
    door_ids: Collection[DoorId] | None = None,
    sites: Sites = None,
) -> list[Proven]:
    """The same for numbers of taps, which are kept when it is not any more who it was; longer than causes are."""
    settled = expiry.ran_before(connection, SETTLED)
    kept = totals.known(connection, since, door_ids)
    return [
        account(
            door.id,
            door.name,
            [
                *(hole for hole in holes if hole.cause is not Cause.EXPIRED),
                *_never(door),
                *_settled(kept.get(door.id, ()), door.created_at, settled),
            ],
            known_until=state.complete_until,
            since=since,
            until=until,
        )
        for door, state, holes in _records(connection, now, doors.places(connection, sites))
        if door_ids is None or door.id in door_ids
    ]


def _settled(
    kept: Iterable[tuple[datetime, datetime]], since: datetime, until: datetime | None
) -> Iterable[Hole]:
    """What lies from ``since``, when the door was added, to ``until`` and is not among what is kept as whole."""
    at = since
    for begins, ends in kept:
        if at < begins:
            yield Hole(since=at, until=begins, cause=Cause.NOT_WHOLE)
        at = ends
    if until is not None and at < until:
        yield Hole(since=at, until=until, cause=Cause.NOT_WHOLE)


def account(
    door_id: DoorId,
    name: str,
    holes: Iterable[Hole],
    *,
    known_until: datetime | None,
    since: datetime,
    until: datetime,
) -> Proven:
    """What is left of the time between when all holes, and what comes behind ``known_until``, are taken out."""
    reached = known_until or since
    tail = [Hole(since=reached, until=None, cause=Cause.NOT_TOLD_YET)]
    cut = {_cut(hole, since, until) for hole in (*holes, *tail)} - {None}
    unknown = sorted(
        (hole for hole in cut if hole is not None), key=lambda hole: (hole.since, hole.until, hole.cause)
    )
    explained = [hole for hole in unknown if hole.cause is not Cause.NOT_TOLD_YET]
    known: list[Stretch] = []
    at = since
    for hole in unknown:
        begins, ends = hole.since or since, hole.until or until
        if begins > at:
            known.append(Stretch(since=at, until=begins))
        at = max(at, ends)
    if at < until:
        known.append(Stretch(since=at, until=until))
    said = tuple(hole for hole in unknown if hole in explained or not _is_within(hole, explained))
    return Proven(
        door_id=door_id,
        name=name,
        since=since,
        until=until,
        known_until=known_until,
        complete=not unknown,
        known=tuple(known),
        unknown=said,
    )


def _cut(hole: Hole, since: datetime, until: datetime) -> Hole | None:
    """The part between; what a clock that went back turned around lies between its ends, and no hole is empty."""
    first, last = hole.since, hole.until
    if first is not None and last is not None:
        first, last = min(first, last), max(first + _MOMENT, last)
    begins = since if first is None else max(first, since)
    ends = until if last is None else min(last, until)
    return Hole(since=begins, until=ends, cause=hole.cause) if begins < ends else None


def _is_within(hole: Hole, others: Iterable[Hole]) -> bool:
    return any(
        other.since
        and hole.since
        and other.until
        and hole.until
        and other.since <= hole.since
        and hole.until <= other.until
        for other in others
    )


def _never(door: Place) -> Iterable[Hole]:
    yield Hole(since=None, until=door.created_at, cause=Cause.NOT_THERE_YET)
    if door.private:
        yield Hole(since=None, until=None, cause=Cause.PRIVATE)


def of_doors(
    connection: Connection,
    now: datetime,
    *,
    since: datetime | None = None,
    places: Collection[Place] | None = None,
    states: Mapping[ControllerId, ControllerState] | None = None,
) -> Mapping[DoorId, Completeness]:
    """The record of these doors, None: of every one, with the holes that reach beyond ``since`` (None: all).

    ``states``: what is known of their controllers, by who has read it already.
    """
    if places is None:
        places = doors.places(connection)
    return {
        door.id: _completeness(door.id, holes, since)
        for door, _state, holes in _records(connection, now, places, states)
    }


def _records(
    connection: Connection,
    now: datetime,
    places: Iterable[Place],
    states: Mapping[ControllerId, ControllerState] | None = None,
) -> Iterable[tuple[Place, ControllerState, list[Hole]]]:
    """Each door, with what is known of its controller and all holes in its record."""
    if states is None:
        states = controllers.presence(connection, now)
    heads = {(head.controller_id, head.journal_id): head.sequence for head in journals.heads(connection)}
    registered = controllers.registered_at(connection)
    anomalies: dict[ControllerId, list[Anomaly]] = {}
    for anomaly in journals.list_anomalies(connection, only_holes=True):
        anomalies.setdefault(anomaly.controller_id, []).append(anomaly)
    everywhere, here = expiry.reduced_before(connection), site_periods.reduced_before(connection)
    for door in places:
        state = states[door.controller_id]
        stored = heads.get((door.controller_id, state.journal_id or ""), 0)
        holes = [
            _hole(anomaly)
            for anomaly in anomalies.get(door.controller_id, ())
            if anomaly.door_id in (None, door.id)
        ]
        expired = [each for each in (everywhere, here.get(door.site_id)) if each is not None]
        if expired:
            holes.append(Hole(since=None, until=max(expired), cause=Cause.EXPIRED))
        holes += _open_holes(state, registered.get(door.controller_id), stored)
        yield door, state, holes


def hole_before(
    controller_id: ControllerId, journal_id: JournalId, event: Event, previous_at: datetime | None
) -> Anomaly | None:
    """What an event says about the time before it; ``previous_at``: when the event before it occurred."""
    draft = event.draft
    match draft.kind:
        case EventKind.CONTROLLER_STARTED:
            unclean = draft.details.get("unclean") is True
            kind = AnomalyKind.UNCLEAN_START if unclean else AnomalyKind.NOT_RUNNING
        case EventKind.JOURNAL_GAP:
            kind = AnomalyKind.JOURNAL_GAP
        case _:
            return None
    return Anomaly(
        controller_id=controller_id,
        journal_id=journal_id,
        kind=kind,
        detail=", ".join(f"{name}={fact!r}" for name, fact in draft.details.items()),
        at=draft.occurred_at,
        first_sequence=event.sequence,
        last_sequence=event.sequence,
        has_hole=True,
        unknown_from=previous_at,
        unknown_until=draft.occurred_at,
    )


def _open_holes(state: ControllerState, registered_at: datetime | None, stored: int) -> Iterable[Hole]:
    since = state.complete_until or registered_at
    if state.last_seen is None:
        yield Hole(since=since, until=None, cause=Cause.NEVER_SEEN)
        return
    if not state.online:
        yield Hole(since=since, until=None, cause=Cause.OFFLINE)
    if stored < (state.last_sequence or 0):
        yield Hole(since=since, until=None, cause=Cause.ARRIVING)
    elif state.complete_until is None:
        yield Hole(since=since, until=None, cause=Cause.NOT_PROVEN)


def _hole(anomaly: Anomaly) -> Hole:
    return Hole(since=anomaly.unknown_from, until=anomaly.unknown_until, cause=Cause(anomaly.kind.value))


def _completeness(door_id: DoorId, holes: Iterable[Hole], since: datetime | None) -> Completeness:
    recent = [hole for hole in holes if since is None or hole.until is None or hole.until > since]
    recent.sort(key=lambda hole: (hole.since is not None, hole.since))
    still = [hole.since for hole in recent if hole.until is None]
    beginnings = [beginning for beginning in still if beginning is not None]
    return Completeness(
        door_id=door_id,
        complete=not still,
        unknown_since=min(beginnings) if len(beginnings) == len(still) and still else None,
        holes=tuple(recent),
    )
