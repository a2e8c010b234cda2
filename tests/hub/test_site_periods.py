"""A site keeps less long than the whole hub, and never longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import completeness, periods
from hub.completeness import Cause
from hub.periods import Periods
from hub.roll_call import RollCall
from hub.store import areas, cardholders, controllers, doors, site_periods, sites
from hub.store.areas import Area
from hub.store.site_periods import Shorter
from pacs.errors import MalformedData
from pacs.identifiers import AreaId, ControllerId, DoorId, SiteId
from pacs.rules import Door
from tests.hub.databases import make_site
from tests.hub.test_retention import ADA, BEN, DAY, FRONT, HOUR, NOW, Archive, somebody

ANNEX, FAR = SiteId("annex"), ControllerId("far")
BARN = DoorId("barn")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Beside the usual site an annex with a door, which keeps who tapped for a day and the rest for five."""
    archive = Archive(tmp_path)
    with archive.database.write() as connection:
        make_site(connection, ANNEX)
        far = controllers.Controller(
            id=FAR,
            site_id=ANNEX,
            event_public_key=bytes(32),
            certificate_serial="0b",
            software=None,
            registered_at=NOW,
        )
        controllers.register(connection, far)
        doors.add(connection, Door(id=BARN, controller_id=FAR), name="Barn", now=NOW - 90 * DAY)
        site_periods.put(connection, ANNEX, Shorter(precise=DAY, coarse=5 * DAY))
    yield archive
    archive.database.close()


def at_annex(archive: Archive, ago: timedelta) -> int:
    return archive.tapped(ago, door=BARN, controller=FAR)


def expired_at(archive: Archive, door_id: DoorId) -> timedelta | None:
    """How far back who it was is still kept at a door."""
    with archive.database.read() as connection:
        (hole,) = [
            each
            for each in completeness.of_doors(connection, archive.now)[door_id].holes
            if each.cause is Cause.EXPIRED
        ]
    return None if hole.until is None else archive.now - hole.until


def test_what_is_over_at_a_site_goes_there_and_nowhere_else(archive: Archive) -> None:
    """Coarse after a day and gone after five at the annex; the same taps at the other site are what they were."""
    yesterday, last_week = at_annex(archive, 30 * HOUR), at_annex(archive, 6 * DAY)
    mine, older = archive.tapped(30 * HOUR), archive.tapped(6 * DAY)
    fresh = at_annex(archive, HOUR)
    archive.job.run()
    rows = archive.rows()
    assert last_week not in rows
    assert {each: row.coarse for each, row in rows.items()} == {
        yesterday: True,
        mine: False,
        older: True,
        fresh: False,
    }
    assert (expired_at(archive, BARN), expired_at(archive, FRONT)) == (DAY, 72 * HOUR)
    assert archive.job.state().overdue_since is None


def test_what_is_given_back_is_not_whole_again(archive: Archive) -> None:
    """A site that goes back to the whole hub's period keeps saying what it let go, until that is over anyway."""
    archive.job.run()
    with archive.database.write() as connection:
        site_periods.put(connection, ANNEX, Shorter())
    archive.now += DAY
    archive.job.run()
    assert expired_at(archive, BARN) == 2 * DAY
    archive.now += 3 * DAY
    archive.job.run()
    assert expired_at(archive, BARN) == 72 * HOUR


def test_a_hold_keeps_at_a_site_what_it_keeps(archive: Archive) -> None:
    """What it is about stays precise, whatever the site's period."""
    kept, newest = at_annex(archive, 6 * DAY), at_annex(archive, 2 * DAY)
    hold = archive.hold(door_id=BARN, since=NOW - 7 * DAY, until=NOW - 5 * DAY, site=ANNEX)
    archive.job.run()
    rows = archive.rows()
    assert (rows[kept].coarse, rows[newest].coarse) == (False, True), hold


def test_the_roll_call_remembers_no_longer_than_its_site(archive: Archive) -> None:
    """It keeps passages in memory: who was seen before the site's period was not seen, as after a start."""
    with archive.database.write() as connection:
        yard = areas.add(connection, Area(id=AreaId("yard"), site_id=ANNEX, name="Yard", created_at=NOW))
        doors.change(connection, Door(id=BARN, controller_id=FAR, area=yard.id), name="Barn")
        cardholders.change(connection, somebody(ADA, site_id=ANNEX))
        annex = sites.get(connection, ANNEX)
    at_annex(archive, 20 * HOUR)
    roll_call = RollCall(archive.database, lambda: archive.now, Periods())

    def seen() -> bool:
        return roll_call.of(annex).people[0][1].last is not None

    assert seen()
    archive.now += 5 * HOUR
    assert not seen()


def test_people_who_left_are_forgotten_by_their_sites_period(archive: Archive) -> None:
    """Of two whose validity ended two days ago the one at the site that keeps for a day; a shorter period acts at once."""
    with archive.database.write() as connection:
        cardholders.change(connection, somebody(ADA, valid_until=NOW - 2 * DAY, site_id=ANNEX))
        cardholders.change(connection, somebody(BEN, valid_until=NOW - 2 * DAY))
        site_periods.put(connection, ANNEX, Shorter(leavers=3 * DAY))
    archive.job.run()
    with archive.database.write() as connection:
        assert cardholders.get(connection, ADA).given_name
        site_periods.put(connection, ANNEX, Shorter(leavers=DAY))
    archive.job.run()
    with archive.database.read() as connection:
        assert [each.id for each in cardholders.list_all(connection)] == [BEN]


hours = st.none() | st.integers(1, 72).map(lambda each: timedelta(hours=each))
days = st.none() | st.integers(1, 92).map(lambda each: timedelta(days=each))


@given(precise=hours, coarse=days, leavers=days, registration=days, whole=st.integers(1, 30))
def test_no_site_keeps_longer(
    precise: timedelta | None,
    coarse: timedelta | None,
    leavers: timedelta | None,
    registration: timedelta | None,
    whole: int,
) -> None:
    """Whatever was asked for, each period in force is at most the whole hub's, and they fit together."""
    everywhere = Periods(precise=timedelta(hours=whole), coarse=timedelta(days=max(2, whole)))
    asked = Shorter(precise=precise, coarse=coarse, leavers=leavers, registration=registration)
    here = everywhere.at(asked)
    assert all(getattr(here, name) <= getattr(everywhere, name) for name in periods.OF_SITES)
    beyond = [
        name for name in periods.OF_SITES if (getattr(asked, name) or timedelta()) > getattr(everywhere, name)
    ]
    for name in beyond:
        with pytest.raises(MalformedData, match="not for longer"):
            everywhere.check(Shorter(**{name: getattr(asked, name)}))
