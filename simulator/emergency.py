"""``drempel-sim emergency``: a new site from nothing to open doors and to nothing again, by the commands of ``docs/emergency-site.md``.

What takes time here is the machine; what real cards would add is computed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from pacs.identifiers import SiteId
from provisioning.encoder import Issuer, issue_card
from provisioning.site import create_site
from simulator.airtime import tap_floor
from simulator.emergency_commands import DOORS
from simulator.emergency_site import SITE, Rehearsal
from simulator.virtual_card import VirtualCard


def air_and_card_s(directory: Path) -> float:
    """The least time that a real card, its air and the serial line take from the field to a card that is issued and checked.

    Of the very bytes of one personalisation; the card's own times are those of ``simulator.virtual_card``.
    """
    site = create_site(directory, SiteId(SITE), now=datetime.now(UTC))
    issuer = Issuer.of(site, site.passphrase())
    issuer = replace(issuer, keys=issuer.keys.with_simulated_batch())
    card = VirtualCard()
    exchanges: list[tuple[bytes, bytes]] = []
    computing_ms: list[float] = []

    def transceive(command: bytes, meanwhile: Callable[[], None]) -> bytes:
        computing_ms.append(card.computing_ms(command))
        meanwhile()
        answer = card.answer(command)
        exchanges.append((command, answer))
        return answer

    today = datetime.now(UTC).date()
    issue_card(
        transceive, issuer, valid_from=today, valid_until=today + timedelta(days=30), now=datetime.now(UTC)
    )
    return tap_floor(exchanges, computing_ms=computing_ms).total / 1000


def summary_of(rehearsal: Rehearsal, *, card_s: float, failed: str | None) -> dict[str, Any]:
    """What ``--format json`` prints. ``real_card_s``: what a real card, its air and line take at least, beside what was timed."""
    return {
        "ok": failed is None,
        "opening": rehearsal.opened.summary,
        "closing": rehearsal.closed.summary,
        "real_card_s": round(card_s, 2),
        "failed": failed,
    }


@click.command("emergency")
@click.option("--residents", type=click.IntRange(4, 5_000), default=200, show_default=True)
@click.option("--doors", type=click.IntRange(1, len(DOORS)), default=len(DOORS), show_default=True)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Keep keys, data and logs in this new directory."
)
def emergency_command(residents: int, doors: int, form: str, directory: Path | None) -> None:
    r"""Rehearse an emergency site: the commands of docs/emergency-site.md, with virtual doors and cards, and the time each step takes.

    Exit status: 0 all as it must be; 1 not, and it says what; 2 wrong usage.

    \b
    Example: drempel-sim emergency --residents 20 --doors 2
    """
    with ExitStack() as parts:
        if directory is None:
            directory = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="drempel-")))
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = parts.enter_context((directory / "processes.log").open("ab"))
        failed = None
        card_s = air_and_card_s(Path(parts.enter_context(tempfile.TemporaryDirectory())) / "site")
        say = (lambda step: click.echo(f"… {step}")) if form == "text" else (lambda _step: None)
        rehearsal = Rehearsal(directory, residents=residents, doors=DOORS[:doors], on_step=say, log=log)
        with rehearsal:
            try:
                rehearsal.open()
                rehearsal.close()
            except RuntimeError as error:
                failed = str(error)
    summary = summary_of(rehearsal, card_s=card_s, failed=failed)
    click.echo(json.dumps(summary, indent=2) if form == "json" else "\n".join(_lines(summary, residents)))
    sys.exit(0 if summary["ok"] else 1)


def _lines(summary: Mapping[str, Any], residents: int) -> list[str]:
    lines = []
    for name in ("opening", "closing"):
        part = summary[name]
        lines += [f"{name}: {part['commands']} commands, {part['seconds']:g} s ({part['minutes']:g} min)"]
        lines += [f"  {step:<10}{took_s:7.1f} s" for step, took_s in part["steps_s"].items()]
    if summary["failed"]:
        return [*lines, f"FAILED: {summary['failed']}"]
    opened, closed = summary["opening"], summary["closing"]
    in_all_s = residents * summary["real_card_s"]
    return [
        *lines,
        f"Opened: {', '.join(opened['opened'])}, each by a card; {opened['cards']} cards were issued.",
        f"Closed: each door refused its card, {closed['remaining']} rows that say something of people are left.",
        f"Real cards take {summary['real_card_s']:g} s each at least, {in_all_s:.0f} s in all, and the hand that lays them down.",
    ]
