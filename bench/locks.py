"""For how long ordinary work keeps everybody else from writing: the longest write transaction of each kind.

A door's event waits for as long. The worst there is of retention: everything that is stored is over at once, as after
days without a hub.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import house
from hub.documents import SiteDocuments
from hub.import_rows import Format
from hub.imports import carry_out, queued
from hub.keys import SigningKey
from hub.periods import Periods
from hub.retention import Retention
from hub.store import sites
from hub.store.database import Database
from hub.store.sites import Site
from hub.transfers import Transfers
from pacs.identifiers import CardholderId, SiteId

PEOPLE, IMPORTED, MOVED, DOORS = 2_000, 20_000, 200, 12
_ELSEWHERE = SiteId("elsewhere")
_ACTOR = "operator:bench"


def measure(directory: Path, *, stored: int) -> dict[str, float]:
    """With about so many events ``stored``; returns the figures, keys beginning with ``locks.``."""
    place = directory / "locks"
    place.mkdir()
    now = datetime.now(UTC)
    filled = house.database(place, now)
    with filled.write() as connection:
        at = house.add_doors(connection, DOORS, now)
        cards = house.add_people(connection, PEOPLE, now)
        sites.add(connection, Site(id=_ELSEWHERE, name="Elsewhere", time_zone="UTC", created_at=now))
    since = now - timedelta(days=40)
    count = house.add_taps(filled, at, cards, taps=stored // 3, since=since, until=now)
    documents = SiteDocuments(signing=partial(SigningKey, key=Ed25519PrivateKey.generate()))
    transfers = Transfers(filled, documents, clock=lambda: now, issued=lambda: None)
    retention = Retention(filled, Periods(), clock=lambda: now, site_changed=lambda: None)
    people = [CardholderId(f"person-{number:05}") for number in range(MOVED)]
    figures: dict[str, float] = {"locks.events": count}
    figures |= _longest(
        filled,
        "transfer",
        lambda: transfers.move(
            people, _ELSEWHERE, levels=(), may_move_from=lambda _: True, reason="bench", actor=_ACTOR
        ),
    )
    figures |= _longest(filled, "import", lambda: _import(filled, now))
    figures |= _longest(filled, "retention", retention.run)
    filled.close()
    return figures


def _longest(database: Database, what: str, work: Callable[[], object]) -> dict[str, float]:
    held_s: list[float] = []
    database.wrote = lambda _waited_s, took_s: held_s.append(took_s)
    begun_s = time.perf_counter()
    work()
    whole_s = time.perf_counter() - begun_s
    return {
        f"locks.{what}_longest_s": max(held_s),
        f"locks.{what}_transactions": len(held_s),
        f"locks.{what}_s": whole_s,
    }


def _import(database: Database, now: datetime) -> None:
    lines = ["external_id,given_name,family_name,access_levels"]
    lines += (f"new-{number:05},Given{number},Family{number},house" for number in range(IMPORTED))
    data = "\n".join(lines).encode()
    job = queued(database, data, site_id=house.SITE, dry_run=False, actor=_ACTOR, now=now)
    done = carry_out(database, job, data, Format.CSV, clock=lambda: now, said=lambda *_: None)
    if done.created != IMPORTED:
        raise RuntimeError(f"the import ended {done.state}: {done.faults[:1]}")
