"""Duties, kiosks and reports put together: whom each occurrence expects, the list of it, and what is left of it later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

import structlog
from sqlalchemy import Connection

from hub import registration
from hub.lookout import Lookout
from hub.registration import Hole, KioskRecord, Line, Standing
from hub.store import duties, reports, sites
from hub.store.database import Database
from hub.store.duties import Duty
from hub.store.holds import Hold
from hub.store.reports import Occurrence
from hub.store.sites import Sites
from pacs.identifiers import CardholderId, SiteId

EVERY_S: Final = 20.0
LOOK_BACK: Final = timedelta(days=2)
THRESHOLD: Final = 5
"""A number below it, and above none, is not said where persons are not."""
AT_ONCE: Final = 20
BY_STAFF: Final = "by_staff"

log = structlog.get_logger(__name__)


Kiosks: TypeAlias = Callable[[Connection, SiteId, datetime, datetime], list[KioskRecord]]
"""Tells which kiosks a site had in use between two moments, and when each could take reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """The list of one occurrence as of ``at``; ``lines`` by cardholder id.

    ``holes``: when a kiosk of the site could not take reports while it was open; ``settled``: nothing about it is still to come
    but what staff corrects.
    """

    duty: Duty
    occurrence: Occurrence
    at: datetime
    lines: tuple[Line, ...]
    holes: tuple[Hole, ...]
    settled: bool


def roll(connection: Connection, duty: Duty, occurrence: Occurrence, kiosks: Kiosks, now: datetime) -> Roll:
    """The list of one occurrence, now; empty where persons are no longer kept."""
    if occurrence.counts is not None:
        return Roll(duty=duty, occurrence=occurrence, at=now, lines=(), holes=(), settled=True)
    people = reports.expected_at(connection, *occurrence.key)
    made, said = reports.of_occurrence(connection, *occurrence.key)
    until = min(now, occurrence.closes_at)
    records = kiosks(connection, duty.site_id, occurrence.opens_at, until)
    holes = registration.holes_of(occurrence, records, now)
    everybody = {*people, *made, *said}
    lines = registration.listed(
        occurrence,
        people,
        reports=made,
        corrections=said,
        exemptions=duties.list_exemptions(connection, of=everybody),
        holes=holes,
        now=now,
    )
    return Roll(
        duty=duty,
        occurrence=occurrence,
        at=now,
        lines=tuple(lines),
        holes=tuple(holes),
        settled=registration.is_settled(occurrence, now),
    )


def counted(lines: Iterable[Line]) -> dict[str, int]:
    """How many reported early, on time, late and by staff, and how many there are of each other standing."""
    found = Counter(
        line.standing.value
        if line.standing is not Standing.REPORTED
        else (line.timing.value if line.timing else BY_STAFF)
        for line in lines
    )
    return dict(found)


def published(counts: Mapping[str, int]) -> dict[str, int | None]:
    """The same without persons: None for a few."""
    return {name: None if 0 < count < THRESHOLD else count for name, count in counts.items()}


def due(
    connection: Connection, now: datetime, *, since: datetime, of_sites: Sites = None
) -> list[tuple[Duty, Occurrence]]:
    """Occurrences that have opened since then, and of which it is not laid down yet whom they expect."""
    fixed = reports.fixed_since(connection, (since - timedelta(days=4)).date())
    found = []
    for site in sites.list_all(connection, of_sites):
        holidays = frozenset(sites.list_holidays(connection, site.id))
        for duty in duties.list_all(connection, (site.id,)):
            found += [
                (duty, occurrence)
                for occurrence in registration.occurrences_of(
                    duty, site.time_zone, holidays, since=since, until=now
                )
                if occurrence.key not in fixed
            ]
    return found


def fix_due(connection: Connection, now: datetime, *, since: datetime, of_sites: Sites = None) -> int:
    """Lay down whom these expect, in the caller's write transaction; how many."""
    found = due(connection, now, since=since, of_sites=of_sites)
    for duty, occurrence in found:
        people = duties.members(
            connection,
            duty,
            enrolled_by=occurrence.opens_at,
            since=occurrence.starts_at,
            until=occurrence.ends_at,
        )
        reports.fix(connection, occurrence, people, now)
    return len(found)


def coarsen(
    connection: Connection,
    before: datetime,
    held: Iterable[Hold],
    limit: int,
    sites: Sites = None,
    *,
    kiosks: Kiosks,
    now: datetime,
) -> int:
    """Keep counts without persons of some occurrences that closed ``before``, unless a hold keeps them."""
    keeping = list(held)
    done = 0
    for occurrence in reports.closed_before(connection, before, sites):
        if done == min(limit, AT_ONCE):
            break
        duty = duties.get(connection, occurrence.duty_id)
        found = roll(connection, duty, occurrence, kiosks, now)
        if not any(_is_held(found, hold) for hold in keeping):
            reports.set_counts(connection, occurrence, published(counted(found.lines)))
            reports.forget_occurrence(connection, occurrence)
            done += 1
    return done


def _is_held(found: Roll, hold: Hold) -> bool:
    """A hold about a door keeps nothing of this; one about a person keeps the whole list."""
    people: set[CardholderId] = {line.cardholder_id for line in found.lines}
    return (
        hold.door_id is None
        and hold.site_id == found.duty.site_id
        and hold.since < found.occurrence.closes_at
        and hold.until > found.occurrence.opens_at
        and (hold.cardholder_id is None or hold.cardholder_id in people)
    )


class Reporting:
    """Lays down in time whom occurrences expect: a thread in the process that ``leads``."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        kept: timedelta,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``kept``: how long persons are, which is how far the first look goes back."""
        self._database = database
        self._clock = clock
        self._look_back = kept
        self.lookout = Lookout(
            "reporting", self.fix, every_s=EVERY_S, failed="reporting_failed", leads=leads, ends_in_s=30
        )

    def fix(self, of_sites: Sites = None) -> None:
        """Lay down what is due at these sites now."""
        now = self._clock()
        since = now - self._look_back
        with self._database.read() as connection:
            is_due = bool(due(connection, now, since=since, of_sites=of_sites))
        if is_due:
            with self._database.write() as connection:
                fix_due(connection, now, since=since, of_sites=of_sites)
        if of_sites is None:
            self._look_back = LOOK_BACK
