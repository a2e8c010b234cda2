"""``drempel-edge status``: how the running controller stands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from edge.command_line import config_option, give_up
from edge.config_outline import ConfigOutline
from edge.status_socket import NotRunning, ask
from pacs.errors import PacsError, StoreError

NOT_RUNNING: Final = 3
"""Exit status, as systemctl has it."""
OVERDUE_S: Final = 86_400
"""A renewal that is asked for and goes well takes a moment; the hub's alarm waits for five days."""


@click.command("status")
@config_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def status_command(path: Path, *, form: str) -> None:
    """Say how the running controller stands: doors, readers, journal, hub, documents, clock.

    The json form is one object on one line, of a shape that stays; docs/status.md describes it. Ask as the user the
    controller runs as.

    Exit status: 0 it answered; 1 it did not, and standard error says why; 2 wrong usage; 3 no controller is running.

    Example: drempel-edge status --config /etc/drempel/controller.toml --format json
    """
    try:
        outline = ConfigOutline.read(path)
        if outline.state_dir is None:
            raise StoreError(f"{path}: [controller] state_dir is missing; correct the file")
        document = ask(outline.state_dir)
    except NotRunning as error:
        click.echo(f"drempel-edge: {error}", err=True)
        sys.exit(NOT_RUNNING)
    except PacsError as error:
        give_up(error)
    click.echo(json.dumps(document) if form == "json" else as_text(document))


def as_text(document: dict[str, Any]) -> str:
    """The document for a person, one line for each thing."""
    if document.get("starting"):
        return "the controller is starting"
    clock, journal, link = document["clock"], document["journal"], document["link"]
    lines = [
        ("controller", f"{document['controller']} of {document['site']}, {document['software']}"),
        ("running for", duration(document["uptime_s"])),
        *(("door", _door(door)) for door in document["doors"]),
        *(("reader", _reader(reader)) for reader in document["readers"]),
        ("policy", _held(document["policy"])),
        ("revocations", _held(document["revocations"])),
        ("clock", _clock(clock)),
        ("journal", _journal(journal)),
        ("hub", _link(link)),
        ("certificate", _certificate(document["certificate"])),
        ("watchdog", _watchdog(document["watchdog"])),
    ]
    return "\n".join(f"{name:<12} {what}" for name, what in lines)


def duration(seconds: float) -> str:
    """Days, hours, minutes, seconds: the two largest that say something."""
    rest, parts = max(0, round(seconds)), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def counted(number: int, noun: str) -> str:
    """One day, two days."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _clock(clock: dict[str, Any]) -> str:
    trust = "trusted" if clock["trusted"] else f"NOT trusted: {clock['distrust']}"
    return f"{clock['at']}, {trust}"


def _door(door: dict[str, Any]) -> str:
    cause = f"{door['cause']} {door['by']}".rstrip()
    alarms = f", ALARM: {', '.join(door['alarms'])}" if door["alarms"] else ""
    cause += f" until {door['until']}" if door["until"] else ""
    who = f", the hub is away: {door['attendance']}" if door["attendance"] != "hub" else ""
    return f"{door['door']}: {door['mode']} ({cause}){who}, strike {door['strike']}, contact {door['contact']}{alarms}"


def _reader(reader: dict[str, Any]) -> str:
    said = reader["cause"] or reader["firmware"] or reader["device"]
    if advice := reader.get("advice"):
        said += f"  → {advice}"
    return f"{reader['door']}/{reader['side']}: {reader['state']} for {duration(reader['state_s'])}, {said}"


def _journal(journal: dict[str, Any]) -> str:
    return (
        f"{counted(journal['waiting'], 'event')} waiting for the hub; the last is {journal['last_sequence']}"
    )


def _held(held: dict[str, Any] | None) -> str:
    if held is None:
        return "none: every card is refused until the hub has sent it"
    return f"version {held['version']}, {duration(held['age_s'])} old, expires {held['expires_at']}"


def _link(link: dict[str, Any]) -> str:
    again = f", again in {duration(link['retry_in_s'])}" if link["retry_in_s"] is not None else ""
    silent = ", the hub has not answered" if link["state"] == "online" and not link["answered"] else ""
    words = f": {link['words']}" if link["words"] else ""
    return f"{link['state']}{again}{silent}{words}"


def _certificate(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not known: the link to the hub has not begun"
    if found["left_s"] <= 0:
        return f"ENDED at {found['ends_at']}: drempel-provision reader re-enrol, then drempel-edge enrol"
    left = f"{duration(found['left_s'])} left, ends {found['ends_at']}"
    if found["renews_in_s"] <= -OVERDUE_S:
        return f"{left}; renewal OVERDUE since {found['renews_at']}: the log says why"
    return f"{left}; renews itself from {found['renews_at']}"


def _watchdog(found: dict[str, Any]) -> str:
    interval_s = found["interval_s"]
    watched = f"to be fed every {interval_s:g} s" if interval_s else "nobody watches"
    stalled = f"; NOT coming round: {', '.join(found['stalled'])}" if found["stalled"] else ""
    return f"{watched}, every thread came round {found['fed_s_ago']:.1f} s ago{stalled}"
