"""From a card in the field to the operator's page: a real hub, the real reader program, an emulated PN532, a 33 ms card."""

from __future__ import annotations

from statistics import quantiles

from simulator.desk import DeskPage, DeskProcess
from simulator.reporting_process import WITHIN_S
from simulator.scenario import Holder
from simulator.site import VirtualSite

_WARM_UP = 3


def measure(site: VirtualSite, holders: list[Holder], *, count: int) -> dict[str, float]:
    """Tap ``count`` times at a desk that somebody is signed on to; keys begin with ``desk.``."""
    site_id = site.description.site_id
    made = site.api.post(
        "/stations", {"id": "bench-desk", "kind": "desk", "name": "Desk", "site_id": site_id}
    )
    link = site.hub.command("operator", "link", "--name=Desk", "--role=guard")
    page = DeskPage(site.hub.url, link[link.index("/link/") :].split()[0])
    shown_ms: list[float] = []
    passed_on_ms: list[float] = []
    try:
        if page.sign_on("bench-desk") != 303:
            raise RuntimeError("nobody can sign on to the desk")
        with (
            page.watching() as received,
            DeskProcess(site.directory, site.hub.url, made["token"], timing="realistic") as desk,
        ):
            for number in range(_WARM_UP + count):
                holder = holders[number % len(holders)]
                report, holder.card = desk.tap(holder.card)
                at_ns, kind, look = received.get(timeout=WITHIN_S)
                while kind != "look":
                    at_ns, kind, look = received.get(timeout=WITHIN_S)
                if holder.label not in look["said"]:
                    raise RuntimeError(f"{look['said']} where {holder.label} was due")
                if number >= _WARM_UP:
                    shown_ms.append((at_ns - report["inserted"]) / 1e6)
                    passed_on_ms.append((report["answered"] - report["read"]) / 1e6)
    finally:
        page.close()
    shown = quantiles(shown_ms, n=100, method="inclusive")
    return {
        "desk.count": len(shown_ms),
        "desk.tap_to_shown_p50_ms": shown[49],
        "desk.tap_to_shown_p95_ms": shown[94],
        "desk.tap_to_shown_max_ms": max(shown_ms),
        "desk.hub_answers_p50_ms": quantiles(passed_on_ms, n=100, method="inclusive")[49],
    }
