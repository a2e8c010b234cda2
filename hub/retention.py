"""Retention by purpose (rule R8): a thread that lets go of what was kept as long as it may be.

Small transactions, so that nobody else waits for long; what a legal hold keeps stays; after each run with something to
do the database is made to overwrite it. That a run is late is a failure of the hub's health: overdue data is a breach.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection

from hub import completeness, reporting
from hub.completeness import SETTLED
from hub.erasure import erase_leavers
from hub.kiosks import records
from hub.store import duties, events, expiry, holds, kiosks, reports, totals
from hub.store.database import Database
from hub.store.holds import Hold
from pacs.errors import MalformedData

EVERY_S: Final = 60.0
BATCH: Final = 1_000
LOOK_BACK_EVERY: Final = timedelta(hours=1)
AHEAD: Final = timedelta(days=1)
DOUBT_S: Final = 3600.0
LATE_AFTER: Final = timedelta(hours=1)
LONGEST_PRECISE: Final = timedelta(hours=72)
LONGEST_COARSE: Final = timedelta(days=30)
LONGEST_DOORS: Final = timedelta(days=366)
LONGEST_TOTALS: Final = timedelta(days=1830)
LONGEST_REGISTRATION: Final = timedelta(days=92)
COUNTS_KEPT: Final = timedelta(days=366)
SPAN: Final = timedelta(days=3)  # more than any duty's window with its margins

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """How long what is kept. Raises ``MalformedData`` beyond the longest there may be.

    ``precise``: who tapped where and when. ``coarse``: at which door and hour, and what was decided. ``doors``: what
    happened to doors and controllers, which names nobody. ``leavers``: people whose validity ended. ``totals``: how many
    taps there were at each door, by the hour. ``registration``: who reported in, and who had to; then counts without
    persons stay for a year.
    """

    precise: timedelta = LONGEST_PRECISE
    coarse: timedelta = LONGEST_COARSE
    doors: timedelta = LONGEST_COARSE
    leavers: timedelta = LONGEST_COARSE
    totals: timedelta = timedelta(days=731)
    registration: timedelta = timedelta(days=14)

    def __post_init__(self) -> None:
        if not timedelta() < self.precise <= LONGEST_PRECISE:
            raise MalformedData("retention.precise_h: 1 to 72 hours expected")
        if not self.precise <= self.coarse <= LONGEST_COARSE:
            raise MalformedData("retention.coarse_days: at least as long as precise_h, and 30 days at most")
        if not self.coarse <= self.totals <= LONGEST_TOTALS:
            raise MalformedData(
                "retention.totals_days: at least as long as coarse_days, and 1830 days at most"
            )
        if not self.coarse <= self.doors <= LONGEST_DOORS:
            raise MalformedData("retention.doors_days: at least as long as coarse_days, and 366 days at most")
        if not timedelta() < self.registration <= LONGEST_REGISTRATION:
            raise MalformedData("retention.registration_days: 1 to 92 days expected")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionState:
    """``overdue_since``: when the oldest event came that should have gone; None: nothing is overdue.

    ``runs``: purpose → the end of the last run that had nothing left to do, and what was let go since the first.
    """

    periods: Periods
    overdue_since: datetime | None
    runs: Mapping[str, tuple[datetime, int]]

    def is_late(self, now: datetime) -> bool:
        """Whether the last runs lie too far back."""
        return not self.runs or min(ended_at for ended_at, _ in self.runs.values()) < now - LATE_AFTER


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
        self._leads = leads
        self._held: set[str] = set()
        self._behind = 0
        self._doubted_since_s: float | None = None
        self._look_back_at = datetime.min.replace(tzinfo=UTC)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(30)

    @property
    def is_running(self) -> bool:
        """Whether anything is let go."""
        return self._thread.is_alive()

    def state(self) -> RetentionState:
        """What is overdue, and what was done."""
        now = self._clock()
        with self._database.read() as connection:
            held = holds.keeping(connection, now)
            due = now - self.periods.precise - LATE_AFTER
            return RetentionState(
                periods=self.periods,
                overdue_since=expiry.overdue(connection, due, held),
                runs=expiry.runs(connection),
            )

    def run(self) -> int:
        """Let go of everything that is over; how many rows."""
        now = self._clock()
        with self._database.read() as connection:
            held = holds.keeping(connection, now)
        removed = self._run_events(now, held)
        self._settle(now)
        for purpose, steps in self._steps(now).items():
            done = sum(self._exhaust(step, before) for step, before in steps)
            if not self._stopping.is_set():
                with self._database.write() as connection:
                    expiry.ran(connection, purpose, now, done)
            removed += done
            if done and purpose == "leavers":
                self._site_changed()
        if removed:
            self._database.let_go()
            log.info("retention_ran", removed=removed)
        return removed

    def _run_events(self, now: datetime, held: list[Hold]) -> int:
        """Events are found in a snapshot, and let go of in small transactions."""
        if {hold.id for hold in held} != self._held:  # what was passed over may be due now
            self._held, self._behind, self._look_back_at = {hold.id for hold in held}, 0, now
        late = now >= self._look_back_at
        precise = now - self.periods.precise
        with self._database.read() as connection:
            due, until = expiry.due_events(
                connection,
                held,
                precise=precise,
                coarse=now - self.periods.coarse,
                doors=now - self.periods.doors,
                behind=self._behind,
                late=late,
            )
        gone = self._in_parts(due.gone, expiry.remove_events, held)
        coarse = self._in_parts(due.coarse, expiry.coarsen, held)
        stripped = self._in_parts(due.bytes, expiry.strip, held)
        if not self._stopping.is_set():
            self._behind = until
            if late:
                self._look_back_at = now + LOOK_BACK_EVERY
            with self._database.write() as connection:
                expiry.ran(connection, "precise", now, coarse, before=precise)
                expiry.ran(connection, "gone", now, gone)
        return coarse + gone + stripped

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
            if self._stopping.is_set():
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
        """Purpose → what is done for it, in this order, each with what has to be older."""
        precise, coarse = now - self.periods.precise, now - self.periods.coarse
        reported = now - self.periods.registration
        return {
            "registration": [
                (partial(reporting.coarsen, kiosks=records, now=now), reported),
                (kiosks.remove_before, reported - SPAN),
                (duties.remove_exemptions, reported),
                (reports.remove_before, now - COUNTS_KEPT),
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
                (expiry.remove_anomalies, now - self.periods.doors),
            ],
            "totals": [(totals.hide_small, coarse), (totals.remove, now - self.periods.totals)],
            "sessions": [(expiry.remove_sessions, now)],
            "leavers": [(partial(erase_leavers, now=now), now - self.periods.leavers)],
        }

    def _exhaust(self, step: _Step, before: datetime) -> int:
        """What is held is looked up in each transaction: a hold may have been granted since the last."""
        removed = 0
        while not self._stopping.is_set():
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

    def _work(self) -> None:
        wait_s = 0.0
        while not self._stopping.wait(wait_s):
            wait_s = EVERY_S
            try:
                if self._leads() and not self._doubts_the_clock():
                    self.run()
            except Exception:  # a full disk today must not keep data for good
                log.exception("retention_failed")
