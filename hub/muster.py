"""Who is known to be inside, by area; who was last seen leaving; who cannot be told, since when and why.

Pure: ``Passages`` folds events in order of arrival, ``roll`` judges what came of it against what is proven of each
door. Nobody is called inside, or seen leaving, on the strength of a record that is not whole (rule R2): one is inside
an area when a contact saw the entry and nothing since can have let them out unseen, and was seen leaving when nothing
since can have let them back in. What nobody can see, such as two people at one tap, no list knows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, auto, unique

from hub.completeness import Cause, Hole
from pacs.events import EventKind
from pacs.identifiers import AreaId, CardholderId, CredentialId, DoorId
from pacs.rules import Side

RELEASE = timedelta(minutes=3)
"""Longer than any release stays open: an opening after that belongs to nobody who was granted before."""
UNNAMED_KEPT = 10_000

_UNNAMED = frozenset(
    {
        EventKind.DOOR_FORCED,
        EventKind.DOOR_HELD,
        EventKind.DOOR_ALARM_CLEARED,
        EventKind.DOOR_MODE_CHANGED,
        EventKind.FIRE_REPORTED,
        EventKind.FIRE_CLEARED,
    }
)
"""Around these anybody can pass without a tap, both ways."""


@unique
class Presence(StrEnum):
    """What can be said of somebody."""

    INSIDE = auto()
    LEFT = auto()
    UNKNOWN = auto()


@unique
class Why(StrEnum):
    """Why it cannot be told."""

    NEVER_SEEN = auto()  # no passage is on record
    PASSAGE_NOT_SEEN = auto()  # was let through; no contact saw who went where
    CLOCK = auto()  # when it was is not known
    RECORD = auto()  # a door's record is not whole since: the cause says why
    NO_READER = auto()  # one can leave without a tap
    UNNAMED = auto()  # somebody passed, or could, without a name
    OPEN = auto()  # a door can be passed without a tap at this moment
    DOOR_GONE = auto()  # where the door led to is not known any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One event that matters here; ``at``: when it is believed to have occurred, else when it was received."""

    kind: EventKind
    door_id: DoorId
    at: datetime
    believed: bool = True
    side: Side | None = None
    credential_id: CredentialId | None = None
    releases: bool = False  # an order that opened the door for somebody without a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Somebody went, or was let, through a door."""

    door_id: DoorId
    side: Side
    at: datetime
    believed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One door that leads into or out of an area, and what is proven of it.

    ``leaves_by_card``: a reader sees who goes out. ``is_open``: anybody can pass at this moment. ``holes``: what is not
    known of it up to now, without the last moments behind ``known_until``.
    """

    door_id: DoorId
    area: AreaId | None
    outside: AreaId | None
    leaves_by_card: bool
    is_open: bool
    holes: tuple[Hole, ...]
    known_until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What can be said of one person, by what is known ``as_of``.

    ``area_id``: known to be inside it. ``last``: the last passage on record, ``was_seen`` by a contact. Of whom it
    cannot be told: ``why``, ``since`` when, at which door, and for a record the cause.
    """

    cardholder_id: CardholderId
    presence: Presence
    area_id: AreaId | None = None
    last: Passage | None = None
    was_seen: bool = False
    as_of: datetime | None = None
    why: Why | None = None
    since: datetime | None = None
    door_id: DoorId | None = None
    cause: Cause | None = None


class Passages:
    """Who passed where last, by the events seen so far; those of one controller in its own order."""

    def __init__(self) -> None:
        self._passed: dict[CredentialId, Passage] = {}
        self._let: dict[CredentialId, Passage] = {}
        self._awaited: dict[DoorId, dict[CredentialId, Passage]] = defaultdict(dict)
        self._unseen: dict[DoorId, datetime] = {}
        self._unnamed: dict[DoorId, list[datetime]] = defaultdict(list)
        self._left_unnamed: dict[DoorId, list[datetime]] = defaultdict(list)

    def see(self, moment: Moment) -> None:
        """The next event."""
        door_id, at = moment.door_id, moment.at
        match moment.kind:
            case EventKind.ACCESS_GRANTED if moment.credential_id is not None and moment.side is not None:
                passage = Passage(door_id=door_id, side=moment.side, at=at, believed=moment.believed)
                self._awaited[door_id][moment.credential_id] = passage
                _keep_later(self._let, moment.credential_id, passage)
            case EventKind.ACCESS_GRANTED:
                self._unseen[door_id] = at
                _note(self._unnamed[door_id], at)
            case EventKind.DOOR_OPENED:
                self._opened(moment)
            case EventKind.DOOR_NOT_ENTERED if moment.credential_id is not None:
                missed = self._awaited[door_id].pop(moment.credential_id, None)
                if missed is not None and self._let.get(moment.credential_id) == missed:
                    del self._let[moment.credential_id]
            case EventKind.EXIT_REQUESTED:
                self._unseen[door_id] = at
                _note(self._left_unnamed[door_id], at)
            case EventKind.COMMAND_EXECUTED if moment.releases:
                self._unseen[door_id] = at
                _note(self._unnamed[door_id], at)
            case kind if kind in _UNNAMED:
                _note(self._unnamed[door_id], at)

    def _opened(self, moment: Moment) -> None:
        door_id, at = moment.door_id, moment.at
        awaited = {
            credential_id: passage
            for credential_id, passage in self._awaited.pop(door_id, {}).items()
            if abs(at - passage.at) <= RELEASE
        }
        unseen_at = self._unseen.pop(door_id, None)
        unseen = unseen_at is not None and abs(at - unseen_at) <= RELEASE
        if unseen or not awaited:
            _note(self._unnamed[door_id], at)
        if unseen or len({passage.side for passage in awaited.values()}) > 1:
            return  # nobody knows who went which way
        for credential_id, passage in awaited.items():
            _keep_later(self._passed, credential_id, passage)
            if self._let.get(credential_id) == passage:
                del self._let[credential_id]

    def last(self, credential_ids: Iterable[CredentialId]) -> tuple[Passage | None, bool]:
        """The last passage by any of these cards, and whether a contact saw it."""
        passed = max(filter(None, map(self._passed.get, credential_ids)), key=_at, default=None)
        let = max(filter(None, map(self._let.get, credential_ids)), key=_at, default=None)
        if let is not None and (passed is None or let.at >= passed.at):
            return let, False
        return passed, passed is not None

    def unnamed_since(self, door_id: DoorId, at: datetime, *, leaving: bool) -> datetime | None:
        """The first moment from ``at`` on when anybody could pass without a name; ``leaving``: or only leave."""
        found = [_first_since(self._unnamed.get(door_id, []), at)]
        if leaving:
            found.append(_first_since(self._left_unnamed.get(door_id, []), at))
        return min(filter(None, found), default=None)


def roll(
    people: Mapping[CardholderId, Iterable[CredentialId]],
    ways: Iterable[Way],
    passages: Passages,
    *,
    horizon: datetime,
) -> list[Standing]:
    """What can be said of each of these people, in their order; passages before ``horizon`` are forgotten."""
    by_door = {way.door_id: way for way in ways}
    return [
        _standing(cardholder_id, tuple(credential_ids), by_door, passages, horizon)
        for cardholder_id, credential_ids in people.items()
    ]


def _standing(
    cardholder_id: CardholderId,
    credential_ids: tuple[CredentialId, ...],
    ways: Mapping[DoorId, Way],
    passages: Passages,
    horizon: datetime,
) -> Standing:
    last, was_seen = passages.last(credential_ids)
    if last is None or last.at < horizon:
        return Standing(cardholder_id=cardholder_id, presence=Presence.UNKNOWN, why=Why.NEVER_SEEN)

    def unknown(why: Why, since: datetime, door_id: DoorId, cause: Cause | None = None) -> Standing:
        return Standing(
            cardholder_id=cardholder_id,
            presence=Presence.UNKNOWN,
            last=last,
            was_seen=was_seen,
            why=why,
            since=since,
            door_id=door_id,
            cause=cause,
        )

    if not was_seen:
        return unknown(Why.PASSAGE_NOT_SEEN, last.at, last.door_id)
    if not last.believed:
        return unknown(Why.CLOCK, last.at, last.door_id)
    way = ways.get(last.door_id)
    if way is None:
        return unknown(Why.DOOR_GONE, last.at, last.door_id)
    into = way.area if last.side is Side.ENTRY else way.outside
    doubts: list[tuple[datetime, Why, DoorId, Cause | None]] = []
    concerned = [each for each in ways.values() if into in (each.area, each.outside)]
    for each in concerned:
        leaving = into is not None and into == each.area
        doubts += _doubts(each, last.at, passages, leaving=leaving)
    if doubts:
        since, why, door_id, cause = min(doubts, key=lambda doubt: (doubt[0], doubt[1], doubt[2]))
        return unknown(why, since, door_id, cause)
    reached = [each.known_until for each in concerned if each.known_until is not None]
    return Standing(
        cardholder_id=cardholder_id,
        presence=Presence.LEFT if into is None else Presence.INSIDE,
        area_id=into,
        last=last,
        was_seen=True,
        as_of=max(last.at, min(reached, default=last.at)),
    )


def _doubts(
    way: Way, since: datetime, passages: Passages, *, leaving: bool
) -> Iterable[tuple[datetime, Why, DoorId, Cause | None]]:
    """What could have let somebody through this door unseen after ``since``."""
    for hole in way.holes:
        if hole.until is None or hole.until > since:
            yield max(since, hole.since or since), Why.RECORD, way.door_id, hole.cause
    if leaving and not way.leaves_by_card:
        yield since, Why.NO_READER, way.door_id, None
    if way.is_open:
        yield since, Why.OPEN, way.door_id, None
    at = passages.unnamed_since(way.door_id, since, leaving=leaving)
    if at is not None:
        yield at, Why.UNNAMED, way.door_id, None


def _keep_later(known: dict[CredentialId, Passage], credential_id: CredentialId, passage: Passage) -> None:
    before = known.get(credential_id)
    if before is None or passage.at >= before.at:
        known[credential_id] = passage


def _at(passage: Passage) -> datetime:
    return passage.at


def _note(moments: list[datetime], at: datetime) -> None:
    """Late arrivals find their place; of very many the oldest are taken for one."""
    moments.insert(bisect_right(moments, at), at)
    if len(moments) > UNNAMED_KEPT:
        del moments[1]


def _first_since(moments: list[datetime], at: datetime) -> datetime | None:
    """Equal moments count: which came first is not known."""
    place = bisect_right(moments, at - timedelta(milliseconds=1))
    return moments[place] if place < len(moments) else None
