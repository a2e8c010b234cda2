"""How long what is kept, in the whole hub and at a site that keeps some of it for less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from hub.store import site_periods
from hub.store.site_periods import Shorter
from pacs.errors import MalformedData
from pacs.identifiers import SiteId

LONGEST_PRECISE: Final = timedelta(hours=72)
LONGEST_COARSE: Final = timedelta(days=30)
LONGEST_DOORS: Final = timedelta(days=366)
LONGEST_TOTALS: Final = timedelta(days=1830)
LONGEST_REGISTRATION: Final = timedelta(days=92)
OF_SITES: Final = ("precise", "coarse", "leavers", "registration")
"""The periods that a site may have shorter: those of what is about people."""


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

    def at(self, site: Shorter) -> Periods:
        """The same at a site: never longer than here, whatever it asked for; what is coarse is kept no less than what is precise."""
        coarse = min(self.coarse, site.coarse or self.coarse)
        return replace(
            self,
            precise=min(self.precise, site.precise or self.precise, coarse),
            coarse=coarse,
            leavers=self.leavers if site.leavers is None else min(self.leavers, site.leavers),
            registration=min(self.registration, site.registration or self.registration),
        )

    def check(self, site: Shorter) -> None:
        """Whether a site may ask for this; raises ``MalformedData`` when it is longer than here, or coarse less than precise."""
        for name in OF_SITES:
            asked: timedelta | None = getattr(site, name)
            if asked is not None and asked > getattr(self, name):
                raise MalformedData(
                    f"{name}: a site may keep for less than the whole hub does, not for longer"
                )
        if site.precise and (site.coarse or self.coarse) < site.precise:
            raise MalformedData("coarse: at least as long as precise")


def shorter(connection: Connection, periods: Periods) -> dict[Periods, frozenset[SiteId]]:
    """What is kept for less than ``periods`` say, and at which sites."""
    found: dict[Periods, set[SiteId]] = {}
    for site_id, asked in site_periods.list_all(connection).items():
        if (mine := periods.at(asked)) != periods:
            found.setdefault(mine, set()).add(site_id)
    return {mine: frozenset(sites) for mine, sites in found.items()}


def of_sites(connection: Connection, periods: Periods) -> Mapping[SiteId, Periods]:
    """What is in force at the sites that asked for less."""
    return {site_id: periods.at(asked) for site_id, asked in site_periods.list_all(connection).items()}


def shortest_precise(connection: Connection, periods: Periods) -> timedelta:
    """For how long who tapped where is kept at the site that keeps it for the least time."""
    return min([periods.precise, *(each.precise for each in shorter(connection, periods))])
