"""Retention by purpose (rule R8): a thread that lets go of what was kept as long as it may be.

Small transactions, so that nobody else waits for long; what a legal hold keeps stays; after each run with something to
do the database is made to overwrite it. That a run is late is a failure of the hub's health: overdue data is a breach.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from hub import completeness, reporting
from hub.completeness import SETTLED
from hub.erasure import erase_leavers
from hub.kiosks import records
from hub.lookout import Lookout
from hub.periods import Periods, of_sites, shorter
from hub.store import duties, events, expiry, holds, issuing, kiosks, reports, site_periods, totals
from hub.store.database import Database
from hub.store.holds import Hold
from hub.store.sites import Sites
from pacs.identifiers import SiteId

EVERY_S: Final = 60.0
BATCH: Final = 1_000
LOOK_BACK_EVERY: Final = timedelta(hours=1)
AHEAD: Final = timedelta(days=1)
DOUBT_S: Final = 3600.0
LATE_AFTER: Final = timedelta(hours=1)
COUNTS_KEPT: Final = timedelta(days=366)
SPAN: Final = timedelta(days=3)  # more than any duty's window with its margins

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionState:
    """``overdue_since``: when the oldest event came that should have gone; None: nothing is overdue.

    ``of_sites``: what is in force at the sites that asked for less than ``periods``.
    ``runs``: purpose → the end of the last run that had nothing left to do, and what was let go since the first.
    """

    periods: Periods
    of_sites: Mapping[SiteId, Periods]
    overdue_since: datetime | None
    runs: Mapping[str, tuple[datetime, int]]

    def is_late(self, now: datetime) -> bool:
        """Whether the last runs lie too far back."""
        return not self.runs or min(ended_at for ended_at, _ in self.runs.values()) < now - LATE_AFTER


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reached:
    """Up to which event all was looked at, and when what came late is looked for again."""

    behind: int = 0
    look_back_at: datetime


_Step = Callable[[Connection, datetime, Sequence[Hold], int], int]
"""Lets go of what is older, at most so many rows, unless a hold keeps it; how many."""


class Retention:
    """Runs the job every minute in the process that ``leads``, and once when told."""

    def __init__(
        self,
        database: Database,
        periods: Periods,
        *,
        clock: Callable[[], datetime],
        site_changed: Callable[[], None],
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        """``site_changed`` is called when people were erased, whose cards the doors have to forget."""
        self._database = database
        self.periods = periods
        self._clock = clock
        self._site_changed = site_changed
        self._held: set[str] = set()
        self._reached: dict[tuple[Periods, Sites], _Reached] = {}
        self._doubted_since_s: float | None = None
        self.lookout = Lookout(
            "retention",
            self._run_if_sure,
            every_s=EVERY_S,
            failed="retention_failed",
            leads=leads,
            ends_in_s=30,
        )

    def state(self) -> RetentionState:
        """What is overdue, and what was done."""
        now = self._clock()
        with self._database.read() as connection:
            held = holds.keeping(connection, now)
            overdue = [
                expiry.overdue(connection, now - periods.precise - LATE_AFTER, held, sites)
                for periods, sites in self._groups(connection)
            ]
            return RetentionState(
                periods=self.periods,
                of_sites=of_sites(connection, self.periods),
                overdue_since=min((each for each in overdue if each is not None), default=None),
                runs=expiry.runs(connection),
            )

    def _groups(self, connection: Connection) -> list[tuple[Periods, Sites]]:
        """What goes for every site, and then what is less for some."""
        return [(self.periods, None), *shorter(connection, self.periods).items()]

    def run(self) -> int:
        """Let go of everything that is over; how many rows."""
        now = self._clock()
        with self._database.read() as connection:
            held = holds.keeping(connection, now)
            groups = self._groups(connection)
        removed = self._run_events(now, held, groups)
        self._settle(now)
        steps: dict[str, list[tuple[_Step, datetime]]] = self._steps(now)
        for periods, sites in groups:
            for purpose, personal in self._personal_steps(now, periods, sites).items():
                steps.setdefault(purpose, []).extend(personal)
        for purpose, of_purpose in steps.items():
            done = sum(self._exhaust(step, before) for step, before in of_purpose)
            if not self.lookout.stopping.is_set():
                with self._database.write() as connection:
                    expiry.ran(connection, purpose, now, done)
            removed += done
            if done and purpose == "leavers":
                self._site_changed()
        if removed:
            self._database.let_go()
            log.info("retention_ran", removed=removed)
        return removed

    def _run_events(self, now: datetime, held: list[Hold], groups: Sequence[tuple[Periods, Sites]]) -> int:
        """Events are found in a snapshot, and let go of in small transactions."""
        if {hold.id for hold in held} != self._held:  # what was passed over may be due now
            self._held, self._reached = {hold.id for hold in held}, {}
        self._reached = {group: self._reached.get(group, _Reached(look_back_at=now)) for group in groups}
        coarse = rest = 0
        for group in groups:
            periods, sites = group
            # said first: while it is under way, or if it breaks off, nobody may take what is left for everything
            with self._database.write() as connection:
                if sites is None:
                    expiry.reduce(connection, now - periods.precise)
                else:
                    site_periods.reduce(connection, sites, now - periods.precise)
            made_coarse, gone = self._run_group(now, held, group)
            coarse, rest = coarse + made_coarse, rest + gone
        if not self.lookout.stopping.is_set():
            with self._database.write() as connection:
                expiry.ran(connection, "precise", now, coarse, before=now - self.periods.precise)
                expiry.ran(connection, "gone", now, rest)
        return coarse + rest

    def _run_group(self, now: datetime, held: list[Hold], group: tuple[Periods, Sites]) -> tuple[int, int]:
        """How many events became coarse, and how many went or lost their bytes."""
        (periods, sites), reached = group, self._reached[group]
        late = now >= reached.look_back_at
        with self._database.read() as connection:
            due, until = expiry.due_events(
                connection,
                held,
                precise=now - periods.precise,
                coarse=now - periods.coarse,
                doors=now - periods.doors,
                behind=reached.behind,
                late=late,
                sites=sites,
            )
        gone = self._in_parts(due.gone, expiry.remove_events, held)
        coarse = self._in_parts(due.coarse, expiry.coarsen, held)
        stripped = self._in_parts(due.bytes, expiry.strip, held)
        if not self.lookout.stopping.is_set():
            look_back_at = now + LOOK_BACK_EVERY if late else reached.look_back_at
            self._reached[group] = _Reached(behind=until, look_back_at=look_back_at)
        return coarse, gone + stripped

    def _settle(self, now: datetime) -> None:
        """Keep for which times each door's record was whole, before what says so goes; by whole hours."""
        until = events.hour(now - self.periods.coarse)
        with self._database.read() as connection:
            since = expiry.ran_before(connection, SETTLED)
            is_due = since is not None and since < until
            found = (
                completeness.counted(connection, now, since=since, until=until) if since and is_due else []
            )
        known = {each.door_id: [(stretch.since, stretch.until) for stretch in each.known] for each in found}
        with self._database.write() as connection:
            if expiry.ran_before(connection, SETTLED) == since:
                totals.settle(connection, known, since or until)
                settled = until if since is None or is_due else since
                expiry.ran(connection, SETTLED, now, 0, before=settled)

    def _in_parts(
        self, found: Sequence[int], let_go: Callable[[Connection, Sequence[int]], None], held: Sequence[Hold]
    ) -> int:
        """Let go of what was found while ``held`` was held, but not of what is held since; how many events."""
        done = 0
        for first in range(0, len(found), BATCH):
            if self.lookout.stopping.is_set():
                break
            part, now = found[first : first + BATCH], self._clock()
            with self._database.write() as connection:
                added = [hold for hold in holds.keeping(connection, now) if hold not in held]
                if added:
                    part = expiry.not_held(connection, part, added)
                let_go(connection, part)
            self._held |= {hold.id for hold in added}
            done += len(part)
        return done

    def _steps(self, now: datetime) -> dict[str, list[tuple[_Step, datetime]]]:
        """Purpose → what is done for it everywhere alike, each with what has to be older."""
        return {
            "registration": [(reports.remove_before, now - COUNTS_KEPT)],
            "details": [(expiry.remove_anomalies, now - self.periods.doors)],
            "totals": [(totals.remove, now - self.periods.totals)],
            "sessions": [(expiry.remove_sessions, now)],
        }

    def _personal_steps(
        self, now: datetime, periods: Periods, sites: Sites
    ) -> dict[str, list[tuple[_Step, datetime]]]:
        """Purpose → what is done for it at these sites by their periods, in this order."""
        precise, coarse, reported = now - periods.precise, now - periods.coarse, now - periods.registration
        steps: dict[str, list[tuple[Callable[..., int], datetime]]] = {
            "registration": [
                (partial(reporting.coarsen, kiosks=records, now=now), reported),
                (kiosks.remove_before, reported - SPAN),
                (duties.remove_exemptions, reported),
            ],
            "details": [
                (expiry.clear_quarantine, precise),
                (expiry.remove_requests, precise),
                (expiry.clear_commands, precise),
                (expiry.clear_imports, precise),
                (expiry.remove_quarantine, coarse),
                (expiry.remove_orders, coarse),
                (expiry.remove_commands, coarse),
                (expiry.remove_imports, coarse),
                (expiry.remove_alarms, coarse),
                (issuing.remove_before, coarse),
            ],
            "totals": [(totals.hide_small, coarse)],
            "leavers": [(partial(erase_leavers, now=now), now - periods.leavers)],
        }
        return {
            purpose: [(partial(step, sites=sites), before) for step, before in of_purpose]
            for purpose, of_purpose in steps.items()
        }

    def _exhaust(self, step: _Step, before: datetime) -> int:
        """What is held is looked up in each transaction: a hold may have been granted since the last."""
        removed = 0
        while not self.lookout.stopping.is_set():
            now = self._clock()
            with self._database.write() as connection:
                done = step(connection, before, holds.keeping(connection, now), BATCH)
            removed += done
            if not done:
                break
        return removed

    def _doubts_the_clock(self) -> bool:
        """Whether to wait: the clock is far ahead of everything known, and may be put right (rule R11).

        A hub that really was off for days lets go an hour later than it could.
        """
        now = self._clock()
        with self._database.read() as connection:
            known = expiry.latest_moment(connection)
        if known is None or now - known < AHEAD:
            self._doubted_since_s = None
            return False
        if self._doubted_since_s is None:
            self._doubted_since_s = time.monotonic()
            log.warning("retention_waits_for_the_clock", ahead_s=int((now - known).total_seconds()))
        return time.monotonic() - self._doubted_since_s < DOUBT_S

    def _run_if_sure(self) -> None:
        if not self._doubts_the_clock():
            self.run()
