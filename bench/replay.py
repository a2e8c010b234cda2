"""A tap while the controller replays what the hub has not heard of, against the same tap when there is nothing to replay.

The journal is filled while the controller is stopped; then it starts, and its door is tapped until the hub has all of it.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from statistics import quantiles

from bench.journal import tap as visit
from edge.config_file import load
from edge.journal import Journal
from edge.status_socket import NotRunning, ask
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import DoorStation, Tap

QUEUED = 10_000
_ROUNDS = 3
_LITTLE = 200
"""Events that wait for the hub when the replay is as good as over."""


def measure(site: VirtualSite, holders: list[Holder]) -> dict[str, float]:
    """Three replays of ``QUEUED`` events at the first door; returns the figures, keys beginning with ``replay.``."""
    door_id, station = next(iter(site.stations.items()))
    config = load(station.config)
    meanwhile: list[Tap] = []
    for _ in range(_ROUNDS):
        station.controller.stop()
        journal = Journal(config.state_dir / "journal", controller_id=config.controller_id)
        with closing(journal):
            for number in range(QUEUED):
                journal.append(replace(visit(number)[0], door_id=door_id, occurred_at=datetime.now(UTC)))
        station.controller.start()
        while _waiting(station) > _LITTLE:
            meanwhile.append(site.tap(holders[len(meanwhile) % len(holders)], door_id))
    quiet = [site.tap(holders[number % len(holders)], door_id) for number in range(len(meanwhile))]
    busy_ms, quiet_ms = _cuts(meanwhile), _cuts(quiet)
    return {
        "replay.queued_events": QUEUED,
        "replay.taps": len(meanwhile),
        "replay.tap_p50_ms": busy_ms[49],
        "replay.tap_p95_ms": busy_ms[94],
        "replay.quiet_tap_p50_ms": quiet_ms[49],
        "replay.quiet_tap_p95_ms": quiet_ms[94],
        "replay.tap_p50_over_quiet": busy_ms[49] / quiet_ms[49],
        "replay.tap_p95_over_quiet": busy_ms[94] / quiet_ms[94],
    }


def _waiting(station: DoorStation) -> int:
    config = load(station.config)
    try:
        document = ask(config.state_dir)
    except NotRunning:
        return QUEUED
    return QUEUED if document.get("starting") else int(document["journal"]["waiting"])


def _cuts(taps: list[Tap]) -> list[float]:
    if any(tap.to_strike_ms is None for tap in taps):
        raise RuntimeError("a tap was refused where a grant was due")
    return quantiles([tap.to_strike_ms or 0.0 for tap in taps], n=100, method="inclusive")
