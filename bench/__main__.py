"""``python -m bench``: run the measurements, print tables, write flat JSON."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import block, ingest, process, tap
from simulator.scenario import small_site
from simulator.site import VirtualSite

_UNLOCK_MS = 100  # locked again before the next tap, so that each one moves the pin
PARTS = ("tap", "block", "edge", "ingest")


@click.command()
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only these; all by default.")
@click.option("--taps", default=120, show_default=True, help="Taps to measure.")
@click.option("--events", default=20_000, show_default=True, help="Events to ingest, each way.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("build/bench.json"), show_default=True
)
def main(only: tuple[str, ...], taps: int, events: int, output: Path) -> None:
    r"""Measure a small site of real processes; ratios are against floors taken in the same run.

    \b
    python -m bench --only tap --taps 300
    """
    console = Console()
    chosen = only or PARTS
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="drempel-bench-") as name:
        directory = Path(name)
        with (
            (directory / "processes.log").open("ab") as log,
            VirtualSite(small_site(datetime.now(UTC), unlock_ms=_UNLOCK_MS), directory, log=log) as site,
        ):
            residents = site.description.residents
            holders = [site.issue(resident) for resident in residents[2::3]]  # these may enter by every door
            site.wait_until_confirmed()
            tap.wait_for_quiet()
            for part in PARTS:
                if part not in chosen:
                    continue
                console.print(f"… measuring {part}")
                if part == "tap":
                    found = tap.measure(site, holders, count=taps)
                elif part == "block":
                    found = block.measure(site, holders[0], count=10)
                elif part == "edge":
                    found = process.measure(site, holders[0])
                else:
                    found = ingest.measure(site, directory, count=events)
                console.print(_table(part, found))
                figures |= found
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
