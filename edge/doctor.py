"""``drempel-edge doctor``: what is wrong with this controller, and what to do, in one line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from edge.command_line import config_option
from edge.config import Config, ConfigError
from edge.config_file import load
from edge.doctor_door import examine_pins, examine_readers
from edge.doctor_hub import examine_broker, examine_certificates, examine_policy
from edge.doctor_machine import (
    examine_clock,
    examine_disk,
    examine_hardware,
    examine_program,
    examine_watchdog,
)
from edge.finding import Finding, Level
from edge.status import duration
from edge.status_socket import NotRunning, ask
from pacs.errors import StoreError

FORMAT: Final = 1
_COLOURS: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command("doctor")
@config_option
@click.option("--with-pins", is_flag=True, help="Also release each strike for a second, after asking.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor_command(path: Path, *, with_pins: bool, form: str) -> None:
    """Examine readers, pins, clock, certificates, broker, policy, disk and machine.

    While the controller runs it is asked about its readers and doors, and nothing is taken from it. Run it as the
    user the controller runs as. Each line has a level, a name, what was found, and what to do.

    Exit status: 0 nothing failed, warnings included; 1 something did; 2 wrong usage.

    Example: drempel-edge doctor --config /etc/drempel/controller.toml
    """
    found = []
    for finding in examine(path, now=datetime.now(UTC), consent=_ask_first if with_pins else None):
        found.append(finding)
        if form == "text":
            level = click.style(f"{finding.level.value:<4}", fg=_COLOURS[finding.level])
            click.echo(f"{level}  {finding.name:<20}  {finding.line()}")
    failed = any(finding.level is Level.FAIL for finding in found)
    if form == "json":
        findings = [finding.document() for finding in found]
        click.echo(json.dumps({"format": FORMAT, "ok": not failed, "findings": findings}))
    sys.exit(1 if failed else 0)


def examine(path: Path, *, now: datetime, consent: Any = None) -> Iterator[Finding]:
    """Everything, in the order in which one thing needs the other. Raises nothing for what it finds.

    ``consent``: asked with the id of each door before its strike is released; None: no pin is touched.
    """
    try:
        config = load(path)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding.fail("configuration", problem, f"correct {path}")
        return
    yield Finding.ok("configuration", f"controller {config.controller_id}, {len(config.doors)} doors")
    status, finding = _running(config)
    yield finding
    examinations: list[tuple[str, Iterable[Finding]]] = [
        ("reader", examine_readers(config, status)),
        ("pins", examine_pins(config, status, consent)),
        ("clock", examine_clock(config, status, now)),
        ("certificate", examine_certificates(config, now)),
        ("broker", examine_broker(config, status)),
        ("policy", examine_policy(config, now)),
        ("disk", examine_disk(config, status)),
        ("program", examine_program()),
        ("machine", examine_hardware()),
        ("watchdog", examine_watchdog(status)),
    ]
    for name, findings in examinations:
        try:
            yield from findings
        except Exception as error:  # noqa: BLE001 - one examination that fails must not hide the others
            yield Finding.fail(name, f"could not be examined: {type(error).__name__}: {error}", "report this")


def _running(config: Config) -> tuple[dict[str, Any] | None, Finding]:
    """The status of the running controller; None when there is none to ask."""
    name = "controller"
    try:
        status = ask(config.state_dir)
    except NotRunning:
        return None, Finding.warn(name, "not running", "systemctl start drempel-edge")
    except StoreError as error:
        what, _, advice = str(error).partition("; ")
        return {"unknown": True}, Finding.fail(name, what, advice)
    if status.get("starting"):
        return {"unknown": True}, Finding.warn(name, "starting", "ask again in a minute")
    running = f"running for {duration(status['uptime_s'])}, {status['software']}"
    return status, Finding.ok(name, running)


def _ask_first(door_id: str) -> bool:
    with suppress(click.Abort):
        return click.confirm(
            f"The strike of door {door_id} will release for a second: is somebody there?", err=True
        )
    return False
