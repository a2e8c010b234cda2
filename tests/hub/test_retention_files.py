"""What SQLite's files hold after its time: nothing."""

from __future__ import annotations

import re
from pathlib import Path

from hub import holds as hold_rules
from hub.store import cardholders, site_periods
from hub.store.schema import metadata
from hub.store.site_periods import Shorter
from tests.hub.databases import SITE
from tests.hub.test_retention import ADA, BEN, CARDS, DAY, HOUR, MANAGER, NOW, Archive, somebody


def test_nothing_of_it_is_left_in_the_files(tmp_path: Path) -> None:
    """Neither the database's file nor its log holds a name, a photograph or a card's id after its time."""
    archive = Archive(tmp_path)
    for number in range(300):
        archive.tapped((73 + number) * HOUR)
    with archive.database.write() as connection:
        cardholders.change(connection, somebody(ADA, valid_until=NOW - 31 * DAY))

    def found(word: bytes) -> bool:
        return any(word in path.read_bytes() for path in tmp_path.iterdir())

    words = [b"ada-given", b"JPEG of ada", b"case-ada", bytes(CARDS[ADA])]
    assert all(map(found, words))
    archive.job.run()
    assert not any(map(found, words))
    assert found(b"ben-given")
    archive.database.close()


def test_nothing_of_it_is_left_where_a_site_keeps_less(tmp_path: Path) -> None:
    """At a site that keeps for a day no file holds the card of two days ago, nor the name of who left; a hold's stays."""
    archive = Archive(tmp_path)
    archive.tapped(2 * DAY, who=BEN)
    with archive.database.write() as connection:
        cardholders.change(connection, somebody(ADA, valid_until=NOW - 2 * DAY))
        site_periods.put(connection, SITE, Shorter(precise=DAY, leavers=DAY))
    signed = bytes(next(row.data for row in archive.rows().values()))

    def found(word: bytes) -> bool:
        return any(word in path.read_bytes() for path in tmp_path.iterdir())

    words = [b"ada-given", b"JPEG of ada", signed]
    assert all(map(found, words))
    hold = archive.hold(cardholder_id=ADA)
    archive.job.run()
    assert [found(word) for word in words] == [True, True, False]
    with archive.database.write() as connection:
        hold_rules.lift(connection, hold.id, reason="settled", actor=MANAGER, now=archive.now)
    archive.job.run()
    assert not any(map(found, words))
    assert found(b"ben-given")
    archive.database.close()


def test_every_table_has_a_purpose_and_a_period() -> None:
    """docs/privacy.md names each table of the schema, what it is for and how long it is kept."""
    text = (Path(__file__).parents[2] / "docs" / "privacy.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    assert {name for name, *_ in rows} == set(metadata.tables)
    assert all(len(cell.strip()) > 2 for row in rows for cell in row)
