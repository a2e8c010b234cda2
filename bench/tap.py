"""From a card in the field to the strike: a real controller, an emulated PN532 at 921,600 baud, a 33 ms card.

The raw verification it is compared with is timed after a rest as long as the card's signing time, which is what the
controller's processor has had when the last byte comes; the figure of a hot loop stands beside it.
"""

from __future__ import annotations

import time
from statistics import median, quantiles

from bench.floor import RawVerification
from simulator.demo import floor_ms
from simulator.scenario import Holder
from simulator.site import VirtualSite
from simulator.station import Tap
from simulator.virtual_card import SIGNING_MS

PHASES = ("detect", "activate", "select", "certificate", "sign", "verify", "decide", "journal", "strike")
_WARM_UP = 5


def measure(site: VirtualSite, holders: list[Holder], *, count: int) -> dict[str, float]:
    """Tap ``count`` times at the first door; returns the figures, keys beginning with ``tap.``."""
    door_id = next(iter(site.stations))
    raw = RawVerification(rest_s=SIGNING_MS / 1000)
    taps: list[Tap] = []
    for number in range(_WARM_UP + count):
        tap = site.tap(holders[number % len(holders)], door_id)
        if tap.strike_ns is None:
            raise RuntimeError(f"{tap.outcome} {tap.reason} where a grant was due")
        if number >= _WARM_UP:
            taps.append(tap)
            raw.sample()
    return {**_latency(taps), **_host(taps, raw), **_phases(taps)}


def _latency(taps: list[Tap]) -> dict[str, float]:
    times_ms = [tap.to_strike_ms or 0.0 for tap in taps]
    floor = median(floor_ms(tap) for tap in taps)
    cuts = quantiles(times_ms, n=100, method="inclusive")
    p50, p95, p99 = cuts[49], cuts[94], cuts[98]
    return {
        "tap.count": len(taps),
        "tap.floor_ms": floor,
        "tap.p50_ms": p50,
        "tap.p95_ms": p95,
        "tap.p99_ms": p99,
        "tap.p50_over_floor": p50 / floor,
        "tap.p95_over_floor": p95 / floor,
    }


def _host(taps: list[Tap], raw: RawVerification) -> dict[str, float]:
    host_us = [((tap.strike_ns or 0) - tap.exchanges[-1].sent_ns) / 1e3 for tap in taps]
    cuts = quantiles(host_us, n=100, method="inclusive")
    return {
        "tap.last_byte_to_strike_us": cuts[49],
        "tap.last_byte_to_strike_p95_us": cuts[94],
        "tap.raw_verify_us": raw.median_us,
        "tap.raw_verify_hot_us": raw.hot_us(),
        "tap.last_byte_to_strike_over_verify": cuts[49] / raw.median_us,
        "tap.last_byte_to_strike_p95_over_verify": cuts[94] / raw.median_us,
    }


def _phases(taps: list[Tap]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for before, phase in zip(("", *PHASES), PHASES, strict=False):
        spent = [tap.marks[phase] - (tap.marks[before] if before else tap.inserted_ns) for tap in taps]
        figures[f"tap.phase.{phase}_ms"] = median(spent) / 1e6
    return figures


def wait_for_quiet(seconds: float = 2.0) -> None:
    """Let what starting left behind settle; measuring only."""
    time.sleep(seconds)
