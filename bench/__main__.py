"""``python -m bench``: run the measurements, print tables, write flat JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import (
    attended,
    block,
    card,
    desk,
    fleet,
    ingest,
    issuing,
    journal,
    locks,
    metrics,
    muster,
    pages,
    policy,
    process,
    replay,
    several,
    start,
    tap,
    wire,
)
from simulator.scenario import small_site
from simulator.site import VirtualSite

_UNLOCK_MS = 100  # locked again before the next tap, so that each one moves the pin
PARTS = (
    "tap",
    "replay",
    "block",
    "attended",
    "desk",
    "issuing",
    "edge",
    "wire",
    "journal",
    "policy",
    "ingest",
    "several",
    "fleet",
    "metrics",
    "muster",
    "pages",
    "locks",
)
AT_A_SITE = frozenset({"tap", "replay", "block", "attended", "desk", "issuing", "edge"})


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only these; all by default.")
@click.option("--taps", default=120, show_default=True, help="Taps to measure.")
@click.option("--events", default=20_000, show_default=True, help="Events to ingest one by one.")
@click.option("--backlog", default=200_000, show_default=True, help="Events to ingest in batches.")
@click.option(
    "--controllers",
    type=click.IntRange(1, 10_000),
    multiple=True,
    default=(300,),
    show_default=True,
    help="Sizes of the fleet that confirms a block.",
)
@click.option(
    "--stored", default=100_000, show_default=True, help="Events that are stored when locks are measured."
)
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("build/bench.json"), show_default=True
)
def main(
    only: tuple[str, ...],
    taps: int,
    events: int,
    backlog: int,
    controllers: tuple[int, ...],
    stored: int,
    output: Path,
) -> None:
    r"""Measure a small site of real processes; ratios are against floors taken in the same run.

    \b
    python -m bench --only tap --taps 300
    """
    console = Console()
    chosen = only or PARTS
    figures: dict[str, float] = {}

    def measure(part: str, how: Callable[[], dict[str, float]]) -> None:
        if part in chosen:
            console.print(f"… measuring {part}")
            found = how()
            console.print(_table(part, found))
            figures.update(found)

    with tempfile.TemporaryDirectory(prefix="drempel-bench-") as name:
        directory = Path(name)
        with (directory / "processes.log").open("ab") as log:
            if not AT_A_SITE.isdisjoint(chosen):
                with VirtualSite(
                    small_site(datetime.now(UTC), unlock_ms=_UNLOCK_MS), directory, log=log
                ) as site:
                    residents = site.description.residents
                    holders = [site.issue(each) for each in residents[2::3]]  # these may enter by every door
                    site.wait_until_confirmed()
                    tap.wait_for_quiet()
                    measure("tap", lambda: tap.measure(site, holders, count=taps))
                    measure("replay", lambda: replay.measure(site, holders))
                    measure("block", lambda: block.measure(site, holders[0], count=10))
                    measure("attended", lambda: attended.measure(site, holders, count=taps))
                    measure("desk", lambda: desk.measure(site, holders[:8], count=60))
                    measure(
                        "issuing",
                        lambda: issuing.measure(site, count=20) | card.measure(directory, count=20),
                    )
                    measure("edge", lambda: process.measure(site, holders[0]) | start.measure())
            measure("wire", wire.measure)
            measure("journal", journal.measure)
            measure("policy", policy.measure)
            measure("metrics", lambda: metrics.measure(directory, log=log))
            measure("muster", lambda: muster.measure(directory))
            measure("pages", lambda: pages.measure(directory, log=log))
            measure("locks", lambda: locks.measure(directory, stored=stored))
            measure("several", lambda: several.measure(directory, live=events, backlog=backlog, log=log))
            measure("fleet", lambda: fleet.measure(directory, sizes=controllers, log=log))
            measure("ingest", lambda: ingest.measure(directory, live=events, backlog=backlog, log=log))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({key: round(value, 4) for key, value in figures.items()}, indent=2) + "\n")
    console.print(f"written to {output}")


def _table(title: str, figures: dict[str, float]) -> Table:
    table = Table("figure", "value", title=title, title_justify="left")
    for key, value in figures.items():
        table.add_row(key, f"{value:,.3f}" if abs(value) < 1000 else f"{value:,.0f}")
    return table


if __name__ == "__main__":
    main(prog_name="python -m bench")
