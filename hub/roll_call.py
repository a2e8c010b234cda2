"""The roll call of a site: what is stored, told to ``hub.muster`` in order, and judged at this moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from hub import completeness, muster
from hub.completeness import Cause, Proven
from hub.muster import Moment, Passages, Standing, Way
from hub.periods import Periods, of_sites
from hub.store import areas, controllers, door_state, doors, roll
from hub.store.areas import Area
from hub.store.controllers import ControllerState
from hub.store.database import Database
from hub.store.door_state import Contact, DoorState
from hub.store.roll import Listed, Trace
from hub.store.sites import Site, Sites
from hub.times import CLOCKS_DIFFER, EARLIEST
from pacs.commands import Action
from pacs.events import EventKind
from pacs.identifiers import ControllerId, DoorId
from pacs.rules import Door, DoorMode

PORTION = 20_000
_KINDS = (
    EventKind.ACCESS_GRANTED,
    EventKind.DOOR_OPENED,
    EventKind.DOOR_NOT_ENTERED,
    EventKind.EXIT_REQUESTED,
    EventKind.COMMAND_EXECUTED,
    EventKind.DOOR_FORCED,
    EventKind.DOOR_HELD,
    EventKind.DOOR_ALARM_CLEARED,
    EventKind.DOOR_MODE_CHANGED,
    EventKind.FIRE_REPORTED,
    EventKind.FIRE_CLEARED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """One site's roll call as it was made ``at``; ``records``: what is proven of each door that leads anywhere."""

    site: Site
    at: datetime
    areas: tuple[Area, ...]
    people: tuple[tuple[Listed, Standing], ...]
    door_names: Mapping[DoorId, str]
    records: tuple[Proven, ...]


class RollCall:
    """Keeps who passed where, so that a list is made at once; each event is read once. For any thread."""

    def __init__(self, database: Database, clock: Callable[[], datetime], periods: Periods) -> None:
        """Who was not seen for longer than a site keeps who tapped was never seen there."""
        self._periods = periods
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._passages, self._seen_id = Passages(), 0
        self._leads: Mapping[DoorId, object] = {}

    def of(self, site: Site) -> Roll:
        """The site's roll call at this moment."""
        with self._lock, self._database.read() as connection:
            now = self._clock()
            self._catch_up(connection)
            return self._made(connection, site, now)

    def warm_up(self) -> None:
        """Read what is stored, so that the first list after a start is made at once, too."""
        with self._lock, self._database.read() as connection:
            self._catch_up(connection)

    def _catch_up(self, connection: Connection) -> None:
        everywhere = doors.list_all(connection)
        leads = {named.door.id: (named.door.area, named.door.outside) for named in everywhere}
        if leads != self._leads:  # what a passage meant is another thing from now on
            self._passages, self._seen_id, self._leads = Passages(), 0, leads
        by_controller: dict[ControllerId, list[DoorId]] = {}
        for named in everywhere:
            by_controller.setdefault(named.door.controller_id, []).append(named.door.id)
        while True:
            found = roll.traces(connection, _KINDS, after=self._seen_id, limit=PORTION)
            for trace in found:
                for moment in _moments(trace, by_controller):
                    if leads.get(moment.door_id, (None, None)) != (None, None):
                        self._passages.see(moment)
            if found:
                self._seen_id = found[-1].id
            if len(found) < PORTION:
                return

    def _made(self, connection: Connection, site: Site, now: datetime) -> Roll:
        sites: Sites = frozenset({site.id})
        named = {each.door.id: each for each in doors.list_all(connection, sites=sites)}
        leading = {door_id for door_id, each in named.items() if each.door.area or each.door.outside}
        horizon = now - of_sites(connection, self._periods).get(site.id, self._periods).precise
        proven = completeness.proven(connection, now, since=horizon, until=now, door_ids=leading, sites=sites)
        states = controllers.states(connection, now)
        standing = door_state.of_doors(connection)
        ways = [
            _way(named[each.door_id].door, each, states, standing.get(each.door_id), now) for each in proven
        ]
        people = roll.people(connection, sites)
        judged = muster.roll(
            {person.id: person.credential_ids for person in people}, ways, self._passages, horizon=horizon
        )
        known = zip(people, judged, strict=True)
        return Roll(
            site=site,
            at=now,
            areas=tuple(areas.list_all(connection, sites)),
            people=tuple(
                (person, said)
                for person, said in known
                if said.last is not None or person.valid_until is None or person.valid_until > now
            ),
            door_names={door_id: each.name for door_id, each in named.items()},
            records=tuple(proven),
        )


def _moments(trace: Trace, by_controller: Mapping[ControllerId, Iterable[DoorId]]) -> Iterator[Moment]:
    believed = trace.clock_trusted and EARLIEST <= trace.occurred_at <= trace.received_at + CLOCKS_DIFFER
    concerned = [trace.door_id] if trace.door_id else by_controller.get(trace.controller_id, ())
    for door_id in concerned:
        yield Moment(
            kind=trace.kind,
            door_id=door_id,
            at=trace.occurred_at if believed else trace.received_at,
            believed=believed,
            side=trace.side,
            credential_id=trace.credential_id,
            releases=trace.action == Action.UNLOCK_ONCE.value,
        )


def _way(
    door: Door,
    proven: Proven,
    states: Mapping[ControllerId, ControllerState],
    stands: DoorState | None,
    now: datetime,
) -> Way:
    state = states[door.controller_id]
    readers = state.health["readers"] if state.health else ()
    mode = stands.mode if stands and stands.mode else door.mode
    open_since = stands.contact_at if stands and stands.contact is Contact.OPEN else None
    return Way(
        door_id=door.id,
        area=door.area,
        outside=door.outside,
        leaves_by_card=any(each["reader"] == f"{door.id}/exit" for each in readers),
        is_open=mode == DoorMode.UNLOCKED
        or (open_since is not None and now - open_since > timedelta(seconds=door.held_open_after_s)),
        holes=tuple(hole for hole in proven.unknown if hole.cause is not Cause.NOT_TOLD_YET),
        known_until=proven.known_until,
    )
