"""From a blank card on the desk's reader to one that has passed its tap: the real program at an emulated PN532, with a real card's times.

The card's own times are those of ``simulator.virtual_card``; making a key is an estimate. The reader's bridge is running, as at a desk.
"""

from __future__ import annotations

import shlex
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from pacs.card.personalisation import Stage
from pacs.identifiers import SiteId
from provisioning.encoder import Issuer, issue_card
from provisioning.line_card import card_process
from provisioning.site import create_site
from simulator.pn532_process import Pn532Process
from simulator.virtual_card import VirtualCard

_WARM_UP = 1
_WAIT_S = 20.0


def measure(directory: Path, *, count: int) -> dict[str, float]:
    """Issue ``count`` cards; returns the figures, keys beginning with ``card.``. Milliseconds from the card in the field."""
    now = datetime.now(UTC)
    site = create_site(directory / "issuing", SiteId("bench"), now=now)
    issuer = Issuer.of(site, site.passphrase())
    issuer = replace(issuer, keys=issuer.keys.with_simulated_batch())
    link = directory / "issuing-reader"
    totals: list[float] = []
    stages: dict[Stage, list[float]] = {stage: [] for stage in Stage}
    bridge = f"{shlex.quote(sys.executable)} -m edge.desk bridge --reader pn532:{shlex.quote(str(link))}"
    with Pn532Process(timing="realistic", link=link) as reader, card_process(bridge) as card:
        for number in range(_WARM_UP + count):
            inserted_ns = reader.insert(VirtualCard())
            marks: dict[Stage, int] = {}
            issued = issue_card(
                card,
                issuer,
                valid_from=now.date(),
                valid_until=now.date() + timedelta(days=365),
                now=now,
                progress=lambda stage, marks=marks: marks.setdefault(stage, time.monotonic_ns()),  # type: ignore[misc]
            )
            issuer.journal.given_out(issued.serial)
            reader.remove()
            if not card.await_lift(_WAIT_S):
                raise RuntimeError("the card is seen still")
            if number >= _WARM_UP:
                totals.append((marks[Stage.CHECKED] - inserted_ns) / 1e6)
                before = inserted_ns
                for stage, at_ns in marks.items():
                    stages[stage].append((at_ns - before) / 1e6)
                    before = at_ns
    return {
        "card.count": count,
        "card.p50_ms": median(totals),
        "card.max_ms": max(totals),
        **{f"card.phase.{stage}_ms": median(spent) for stage, spent in stages.items()},
    }
