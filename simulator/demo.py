"""``drempel-sim demo``: a small site's day in front of your eyes, with every part a real process.

Residents tap good cards and bad ones, cards are lost and blocked, a door is forced, one is tampered with and one taken
out of service, and there is a fire; each outcome is held against ``decide()`` and each event against what the hub stored.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from edge.journal import Journal
from simulator.airtime import tap_floor
from simulator.day import CheckedTap, Day, Record, outcome_words
from simulator.scenario import small_site
from simulator.site import VirtualSite
from simulator.station import Tap

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SHOWN_TAPS: Final = 14


class Duration(click.ParamType[float]):
    """``30s``, ``5m``, ``1h``; at least 10 seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(value)
        if found is None:
            self.fail("a duration such as 30s or 5m", param, ctx)
        seconds = float(found[1]) * _UNITS_S[found[2]]
        if seconds < 10:
            self.fail("at least 10s: every kind of card wants its turn", param, ctx)
        return seconds


@click.command("demo")
@click.option(
    "--for", "seconds", type=Duration(), default="10m", show_default=True, help="How long the day lasts."
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--seed", default=1, show_default=True, help="Another day with the same people.")
@click.option("--directory", type=click.Path(path_type=Path), help="Keep keys, data and logs here.")
def demo_command(seconds: float, form: str, seed: int, directory: Path | None) -> None:
    r"""Run a small site: broker, hub, three controllers with readers, twelve residents.

    Exit status: 0 all as it must be; 1 an event is missing, a door did not confirm a block, or an outcome was
    not the one decide() gives; 2 wrong usage. Ctrl-C ends the day early and still reports.

    \b
    Examples:
    drempel-sim demo
    drempel-sim demo --for 30s --format json
    """
    console = Console(stderr=form == "json", highlight=False)
    with contextlib.ExitStack() as parts:
        if directory is None:
            directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="drempel-")))
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = parts.enter_context((directory / "processes.log").open("ab"))
        try:
            summary = _run(console, directory, log, seconds=seconds, seed=seed, live=form == "text")
        except RuntimeError as error:  # the site did not come up
            summary = {"ok": False, "failed": str(error)}
    if form == "json":
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    elif "events" in summary:
        _print_summary(console, summary)
    else:
        console.print(f"FAILED: {summary['failed']}; what the processes said: {directory}", style="bold red")
    sys.exit(0 if summary["ok"] else 1)


def _run(
    console: Console, directory: Path, log: Any, *, seconds: float, seed: int, live: bool
) -> dict[str, Any]:
    description = small_site(datetime.now(UTC))
    with contextlib.ExitStack() as parts:
        site = parts.enter_context(
            VirtualSite(description, directory, log=log, on_step=lambda step: console.print(f"… {step}"))
        )
        day = Day(site, seconds=seconds, seed=seed)
        console.print("… making a card for each resident")
        day.prepare()
        site.wait_until_confirmed()
        console.print(f"\n{site.hub.command('operator', 'link', '--name=Demo')}\n", style="bold")
        failed = _play(console, day, live=live)
        counts = count_events(site)
    return summarise(day.record, counts, seconds=seconds, failed=failed)


def _play(console: Console, day: Day, *, live: bool) -> str | None:
    """Play the day, also to an early end by Ctrl-C; returns what went wrong."""
    with _shown(console, day) if live else contextlib.nullcontext():
        try:
            day.play()
        except KeyboardInterrupt:
            console.print("… ending the day early")
        except RuntimeError as error:
            return str(error)
    return None


# ---------------------------------------------------------------- the live table


@contextlib.contextmanager
def _shown(console: Console, day: Day) -> Iterator[None]:
    """Show the day while it lasts: on a terminal a table, elsewhere one line a tap."""
    if not console.is_terminal:
        day.on_tap = lambda tap: console.print("  ".join(_row(tap)))
        yield
        return
    with Live(console=console, refresh_per_second=4, get_renderable=lambda: _table(day)):
        yield


def _table(day: Day) -> Table:
    record = day.record
    with record.lock:
        taps, incidents = record.taps[-_SHOWN_TAPS:], record.incidents[-3:]
        total = len(record.taps)
    table = Table(
        title=f"{_clock(day.time_of_day)}   {total} taps, {len(record.surprises)} not as decide() says",
        caption="\n".join(incidents),
        expand=False,
    )
    for column in ("time", "door", "card", "outcome", "reason", "tap to strike"):
        table.add_column(column)
    for tap in taps:
        table.add_row(*_row(tap), style=None if tap.as_expected else "bold red")
    return table


def _row(tap: CheckedTap) -> tuple[str, ...]:
    strike_ms = tap.tap.to_strike_ms
    return (
        _clock(tap.time_of_day),
        tap.tap.door_id,
        tap.label,
        tap.tap.outcome.removeprefix("access_"),
        tap.tap.reason,
        "" if strike_ms is None else f"{strike_ms:.0f} ms",
    )


def _clock(time_of_day: Any) -> str:
    minutes = int(time_of_day.total_seconds() // 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"


# ---------------------------------------------------------------- what came of it


def count_events(site: VirtualSite) -> dict[str, int]:
    """Stop the controllers and compare their journals with what the hub stored: every event once, none missing."""
    journalled: set[tuple[str, str, int]] = set()
    for station in site.stations.values():
        controller_id = station.door.controller_id
        with contextlib.suppress(RuntimeError):  # ended already, which the day reports
            station.controller.stop()
        with contextlib.closing(
            Journal(station.config.parent / "state" / "journal", controller_id=controller_id)
        ) as journal:
            journalled |= {
                (controller_id, journal.journal_id, number) for number in range(1, journal.last_sequence + 1)
            }

    def stored() -> list[tuple[str, str, int]]:
        return [(each["controller_id"], each["journal_id"], each["sequence"]) for each in site.events()]

    with contextlib.suppress(RuntimeError):
        site.wait_until(lambda: journalled <= set(stored()), "every event stored", within_s=20)
    found = stored()
    return {
        "journalled": len(journalled),
        "stored": len(set(found)),
        "duplicate": len(found) - len(set(found)),
        "missing": len(journalled - set(found)),
    }


def floor_ms(tap: Tap) -> float:
    """The least time this tap could have taken, from its own bytes."""
    exchanges = [(each.command, each.answer) for each in tap.exchanges]
    return tap_floor(exchanges, computing_ms=[each.computing_ms for each in tap.exchanges]).total


def latency(taps: list[Tap]) -> dict[str, float]:
    """Tap to strike in ms, with the modelled floor and the ratio of the medians; empty without a grant."""
    granted = [tap for tap in taps if tap.to_strike_ms is not None and len(tap.exchanges) == 3]
    if len(granted) < 2:
        return {}
    times = [tap.to_strike_ms or 0.0 for tap in granted]
    floor = median(floor_ms(tap) for tap in granted)
    cuts = quantiles(times, n=100, method="inclusive")
    return {
        "p50": round(cuts[49], 1),
        "p95": round(cuts[94], 1),
        "p99": round(cuts[98], 1),
        "floor": round(floor, 1),
        "p50_over_floor": round(cuts[49] / floor, 3),
    }


def summarise(
    record: Record, events: dict[str, int], *, seconds: float, failed: str | None = None
) -> dict[str, Any]:
    """The summary that ``--format json`` prints; ``failed``: what ended the day before its time."""
    surprises = [
        {
            "door": tap.tap.door_id,
            "card": tap.label,
            "found": [tap.tap.outcome, tap.tap.reason],
            "expected": list(tap.expected),
        }
        for tap in record.surprises
    ]
    return {
        "ok": not surprises and events["missing"] == events["duplicate"] == 0 and failed is None,
        "seconds": seconds,
        **outcome_words(record),
        "tap_to_strike_ms": latency([each.tap for each in record.taps]),
        "events": events,
        "block_to_confirmed_s": {door: round(at, 3) for door, at in sorted(record.blocked_s.items())},
        "not_as_decided": surprises,
        "failed": failed,
    }


def _print_summary(console: Console, summary: dict[str, Any]) -> None:
    strike, events = summary["tap_to_strike_ms"], summary["events"]
    console.print(
        f"\n{summary['taps']} taps: {summary['grants']} granted, {sum(summary['denials'].values())} denied, "
        f"{sum(summary['not_read'].values())} not read"
    )
    for reason, count in summary["denials"].items():
        console.print(f"  {count:4}  {reason}")
    if strike:
        console.print(
            f"tap to strike: p50 {strike['p50']} ms, p95 {strike['p95']} ms, p99 {strike['p99']} ms; "
            f"floor {strike['floor']} ms, ratio {strike['p50_over_floor']}"
        )
    console.print(
        f"events: {events['journalled']} journalled, {events['stored']} stored, "
        f"{events['duplicate']} duplicate, {events['missing']} missing"
    )
    for door, at in summary["block_to_confirmed_s"].items():
        console.print(f"block confirmed by {door} in {at} s at most")
    for tap in summary["not_as_decided"]:
        console.print(f"NOT AS DECIDED: {tap}", style="bold red")
    if summary["failed"]:
        console.print(f"FAILED: {summary['failed']}", style="bold red")
    console.print("everything as it must be" if summary["ok"] else "SOMETHING IS WRONG", style="bold")
