"""From the button to a card that is issued, checked and registered: a real hub, the station's program, virtual blank cards."""

from __future__ import annotations

import time
from statistics import quantiles

from simulator.issuing import IssuingDesk
from simulator.site import VirtualSite

_LOOK_S = 0.05
_WITHIN_S = 60.0


def measure(site: VirtualSite, *, count: int) -> dict[str, float]:
    """Ask for ``count`` cards one after the other; keys begin with ``issuing.``. Starting each virtual card is in it."""
    site_id = site.description.site_id
    station = {"id": "bench-cards", "kind": "issuing", "name": "Cards", "site_id": site_id}
    token = site.api.post("/stations", station)["token"]
    residents = site.description.residents
    took_s: list[float] = []
    with IssuingDesk(site.directory, site.directory / "site", site.hub.url, token):
        for number in range(count):
            wanted = {"cardholder_id": residents[number % len(residents)].id, "station_id": "bench-cards"}
            began = time.monotonic()
            job = site.api.post("/issuing/jobs", wanted)
            while job["ended_at"] is None and time.monotonic() < began + _WITHIN_S:
                time.sleep(_LOOK_S)
                job = site.api.get(f"/issuing/jobs/{job['id']}")
            if job["state"] != "done":
                raise RuntimeError(f"no card was made: {job['state']}, {job['failure']}")
            took_s.append(time.monotonic() - began)
    of_all = quantiles(took_s, n=100, method="inclusive")
    return {
        "issuing.count": len(took_s),
        "issuing.asked_to_issued_p50_s": of_all[49],
        "issuing.asked_to_issued_p95_s": of_all[94],
        "issuing.asked_to_issued_max_s": max(took_s),
    }
