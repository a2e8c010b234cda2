"""From a card at an attended door to the hub's list, and from the guard's touch to the strike; real processes, as at a site.

A touch is the request that a guard's page sends. What is measured ends at the strike's pin, so that it holds the hub's
transaction, the broker, the door's verification of the signed grant and its journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from statistics import quantiles

from bench.journal import tap as visit
from edge.config_file import load
from edge.journal import Journal
from pacs.identifiers import DoorId
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import DoorStation

QUEUED = 10_000
_WARM_UP = 3
_ROUNDS = 3
_POLL_S = 0.002


def measure(site: VirtualSite, holders: list[Holder], *, count: int) -> dict[str, float]:
    """Answer ``count`` taps at the first door; ring behind backlogs. Returns the figures, keys beginning with ``attended.``."""
    own, other, *_ = site.stations
    with _attended(site, own):
        rings_ms, touches_ms = [], []
        for number in range(_WARM_UP + count):
            ring_ms, touch_ms = _answered(site, holders[number % len(holders)], own)
            if number >= _WARM_UP:
                rings_ms.append(ring_ms)
                touches_ms.append(touch_ms)
        behind_other = [_behind(site, holders[0], own, other) for _ in range(_ROUNDS)]
        behind_own = [_behind(site, holders[0], own, own) for _ in range(_ROUNDS)]
    return {
        "attended.count": count,
        **_cuts("attended.touch_to_strike", touches_ms),
        **_cuts("attended.tap_to_hub", rings_ms),
        "attended.backlog_events": QUEUED,
        "attended.tap_to_hub_behind_another_door_max_ms": max(behind_other),
        "attended.tap_to_hub_behind_its_own_max_ms": max(behind_own),
    }


@contextmanager
def _attended(site: VirtualSite, door_id: DoorId) -> Iterator[None]:
    site.api.patch(f"/doors/{door_id}", {"mode": "attended", "attended_timeout_s": 120})
    site.wait_until_confirmed()
    try:
        yield
    finally:
        site.api.patch(f"/doors/{door_id}", {"mode": "secured"})
        site.wait_until_confirmed()


def _answered(site: VirtualSite, holder: Holder, door_id: DoorId) -> tuple[float, float]:
    """Milliseconds from the door's decision to the hub's list, and from the answer to the strike."""
    station = site.stations[door_id]
    _until(lambda: not station.is_released, "the strike locked")
    request_id, ring_ms = _rung(site, holder, door_id)
    before = station.released_ns
    touched_ns = time.monotonic_ns()
    site.api.post(f"/attended/{request_id}/answer", {"answer": "grant"})
    _until(lambda: station.released_ns != before, "the strike")
    return ring_ms, ((station.released_ns or 0) - touched_ns) / 1e6


def _rung(site: VirtualSite, holder: Holder, door_id: DoorId) -> tuple[str, float]:
    tap = site.tap(holder, door_id)
    if tap.outcome != "access_referred":
        raise RuntimeError(f"{tap.outcome} {tap.reason} where a referral was due")
    found: list[str] = []

    def there() -> bool:
        found[:] = [
            each["id"] for each in site.api.get("/attended")["requests"] if each["state"] == "waiting"
        ]
        return bool(found)

    _until(there, "the request at the hub")
    return found[-1], (time.monotonic_ns() - tap.marks["decide"]) / 1e6


def _behind(site: VirtualSite, holder: Holder, door_id: DoorId, replaying: DoorId) -> float:
    """The same while a door replays what the hub has not heard of: this one, or another."""
    station = site.stations[replaying]
    station.controller.stop()
    _backlog(station, replaying)
    station.controller.start()
    _until(lambda: _is_online(site, replaying), "the door back")
    request_id, ring_ms = _rung(site, holder, door_id)
    site.api.post(f"/attended/{request_id}/answer", {"answer": "refuse"})
    _until(lambda: not site.api.get("/attended")["requests"], "nobody waiting")
    return ring_ms


def _is_online(site: VirtualSite, door_id: DoorId) -> bool:
    return any(each["id"] == door_id and each["online"] for each in site.doors())


def _backlog(station: DoorStation, door_id: DoorId) -> None:
    config = load(station.config)
    with closing(Journal(config.state_dir / "journal", controller_id=config.controller_id)) as journal:
        for number in range(QUEUED):
            journal.append(replace(visit(number)[0], door_id=door_id, occurred_at=datetime.now(UTC)))


def _cuts(name: str, times_ms: list[float]) -> dict[str, float]:
    cuts = quantiles(times_ms, n=100, method="inclusive")
    return {f"{name}_p50_ms": cuts[49], f"{name}_p95_ms": cuts[94]}


def _until(holds: Callable[[], bool], what: str) -> None:
    until_s = time.monotonic() + 60
    while not holds():
        if time.monotonic() > until_s:
            raise RuntimeError(f"not within 60 s: {what}")
        time.sleep(_POLL_S)
