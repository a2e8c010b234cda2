"""The roll call of a large site: how long it takes to make when it is asked for, and after a start."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench import house
from hub.periods import Periods
from hub.roll_call import RollCall
from hub.store import sites

PEOPLE, DOORS, TAPS = 2_000, 12, 60_000
_CALLS = 15


def measure(directory: Path) -> dict[str, float]:
    """Call the roll of ``PEOPLE`` people; returns the figures, keys beginning with ``muster.``."""
    place = directory / "muster"
    place.mkdir()
    now = datetime.now(UTC)
    filled = house.database(place, now)
    with filled.write() as connection:
        at = house.add_doors(connection, DOORS, now)
        cards = house.add_people(connection, PEOPLE, now)
        site = sites.get(connection, house.SITE)
    stored = house.add_taps(filled, at, cards, taps=TAPS, since=now - timedelta(hours=71), until=now)
    roll_call = RollCall(filled, lambda: datetime.now(UTC), Periods())
    begun_s = time.perf_counter()
    roll_call.warm_up()
    warm_s = time.perf_counter() - begun_s
    took_ms = []
    for _ in range(_CALLS):
        begun_s = time.perf_counter()
        called = roll_call.of(site)
        took_ms.append((time.perf_counter() - begun_s) * 1e3)
    filled.close()
    if len(called.people) != PEOPLE:
        raise RuntimeError(f"{len(called.people)} people on the list, {PEOPLE} expected")
    return {
        "muster.people": PEOPLE,
        "muster.events": stored,
        "muster.first_after_a_start_s": warm_s,
        "muster.call_ms": median(took_ms),
        "muster.call_worst_ms": max(took_ms),
    }
