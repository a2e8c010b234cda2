"""From the call that blocks a card to the last door's confirmation."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import median

from simulator.scenario import Holder
from simulator.site import VirtualSite


def measure(site: VirtualSite, holder: Holder, *, count: int) -> dict[str, float]:
    """Block and reinstate ``count`` times; returns the figures, keys beginning with ``block.``."""
    if holder.credential is None:
        raise ValueError("a holder with a credential expected")
    credential_id = holder.credential.credential_id
    last_s: list[float] = []
    for number in range(2 * count):
        begun = datetime.now(UTC)
        done = site.reinstate(credential_id) if number % 2 else site.block(credential_id)
        confirmed = site.wait_for_distribution(credential_id, done["version"])
        last_s.append(max((at - begun).total_seconds() for at in confirmed.values()))
    return {
        "block.doors": len(site.stations),
        "block.count": len(last_s),
        "block.last_door_s": median(last_s),
        "block.last_door_max_s": max(last_s),
    }
