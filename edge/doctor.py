"""``drempel-edge doctor``: what is wrong with this controller, and what to do, in one line each."""

from __future__ import annotations

import json
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import click

from edge.command_line import config_option
from edge.config import Config, ConfigError
from edge.config_file import load
from edge.doctor_door import examine_pins, examine_readers
from edge.doctor_hub import examine_broker, examine_certificates, examine_policy, held_documents
from edge.doctor_machine import (
    examine_clock,
    examine_disk,
    examine_hardware,
    examine_program,
    examine_watchdog,
)
from edge.doctor_tpm import examine_tpm
from edge.finding import Code, Finding, Level
from edge.policy_store import PAUSE_S
from edge.status_socket import NotRunning, ask
from pacs.errors import StoreError

FORMAT: Final = 1
_BREATH_S: Final = 0.02
"""Between two findings, where a card may be held to a reader meanwhile: what works on it never waits for two of them."""
_COLOURS: Final = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command("doctor")
@config_option
@click.option("--with-pins", is_flag=True, help="Also release each strike for a second, after asking.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor_command(path: Path, *, with_pins: bool, form: str) -> None:
    """Examine readers, pins, clock, TPM, certificates, broker, policy, disk and machine.

    While the controller runs it is asked about its readers and doors, and nothing is taken from it. Run it as the
    user the controller runs as. Each line has a level, a name, what was found, and what to do.

    Exit status: 0 nothing failed, warnings included; 1 something did; 2 wrong usage.

    Example: drempel-edge doctor --config /etc/drempel/controller.toml
    """
    found = []
    for finding in examine(path, now=datetime.now(UTC), consent=_ask_first if with_pins else None):
        found.append(finding)
        if form == "text":
            show(finding)
    failed = any(finding.level is Level.FAIL for finding in found)
    if form == "json":
        findings = [finding.document() for finding in found]
        click.echo(json.dumps({"format": FORMAT, "ok": not failed, "findings": findings}))
    sys.exit(1 if failed else 0)


def show(finding: Finding) -> None:
    """Print one line."""
    level = click.style(f"{finding.level.value:<4}", fg=_COLOURS[finding.level])
    click.echo(f"{level}  {finding.name:<20}  {finding.line()}")


def examine(path: Path, *, now: datetime, consent: Any = None) -> Iterator[Finding]:
    """Everything, in the order in which one thing needs the other. Raises nothing for what it finds.

    ``consent``: asked with the id of each door before its strike is released; None: no pin is touched.
    """
    try:
        config = load(path)
    except ConfigError as error:
        for problem in error.problems:
            yield Finding.of(Code.CONFIGURATION_WRONG, problem=problem, path=path)
        return
    controller, doors = config.controller_id, len(config.doors)
    yield Finding.of(Code.CONFIGURATION_READ, controller=controller, doors=doors)
    yield examine_user(config, path)
    status, finding = _running(config)
    yield finding
    yield from _examined(config, status, now, consent)


def examine_itself(config: Config, *, now: datetime) -> Iterator[Finding]:
    """The same from within the running controller, which keeps its readers and pins. Raises nothing for what it finds."""
    status, finding = _running(config)
    if status is None:
        finding = Finding.of(Code.CONTROLLER_MUTE, path=config.state_dir)
    yield finding
    for finding in _examined(config, status or {"unknown": True}, now, None, pause_for_taps):
        yield finding
        time.sleep(_BREATH_S)


def pause_for_taps() -> None:
    """Let whatever works on a card go first."""
    time.sleep(PAUSE_S)


def _examined(
    config: Config,
    status: dict[str, Any] | None,
    now: datetime,
    consent: Any,
    pause: Callable[[], None] = lambda: None,
) -> Iterator[Finding]:
    """``status``: of the running controller; None only where none runs, whose readers are then opened."""
    documents = cache(partial(held_documents, config, pause))
    examinations: list[tuple[str, Iterable[Finding]]] = [
        ("reader", examine_readers(config, status)),
        ("pins", examine_pins(config, status, consent)),
        ("clock", examine_clock(config, status, now, documents)),
        ("tpm", examine_tpm(config.keys)),
        ("certificate", examine_certificates(config, now)),
        ("broker", examine_broker(config, status, now)),
        ("policy", examine_policy(config, now, documents)),
        ("disk", examine_disk(config, status)),
        ("program", examine_program()),
        ("machine", examine_hardware()),
        ("watchdog", examine_watchdog(status)),
    ]
    for name, findings in examinations:
        try:
            yield from findings
        except PermissionError as error:
            yield Finding.of(Code.EXAMINATION_FORBIDDEN, problem=error, subject=name)
        except Exception as error:  # noqa: BLE001 - one examination that fails must not hide the others
            problem = f"{type(error).__name__}: {error}"
            yield Finding.of(Code.EXAMINATION_FAILED, problem=problem, subject=name)


def examine_user(config: Config, path: Path) -> Finding:
    """Whether what works for this user works for the controller, which is the one its state and keys belong to."""
    owners = {}
    for file in (
        config.state_dir,
        config.keys.device_key,
        config.keys.event_key,
        config.keys.passphrase_file,
    ):
        with suppress(OSError):  # what is not there is told where it is needed
            owners[file] = file.stat().st_uid
    if not owners:
        return Finding.of(Code.USER_UNSEEN)
    first, owner = next(iter(owners.items()))
    other = next((file for file, uid in owners.items() if uid != owner), None)
    if other is not None:
        other_owner = _user_name(owners[other])
        return Finding.of(
            Code.USER_TWO, first=first, owner=_user_name(owner), other=other, other_owner=other_owner
        )
    if owner != os.geteuid():
        user, command = _user_name(os.geteuid()), f"{sys.argv[0]} doctor --config {path}"
        return Finding.of(Code.USER_OTHER, first=first, owner=_user_name(owner), user=user, command=command)
    return Finding.of(Code.USER_RIGHT, user=_user_name(owner))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _running(config: Config) -> tuple[dict[str, Any] | None, Finding]:
    """The status of the running controller; None when there is none to ask."""
    try:
        status = ask(config.state_dir)
    except NotRunning:
        return None, Finding.of(Code.CONTROLLER_STOPPED)
    except StoreError as error:
        return {"unknown": True}, Finding.failed(Code.CONTROLLER_SILENT, error)
    if status.get("starting"):
        return {"unknown": True}, Finding.of(Code.CONTROLLER_STARTING)
    is_same = {door["door"] for door in status["doors"]} == {door.id for door in config.doors}
    code = Code.CONTROLLER_RUNS if is_same else Code.CONTROLLER_OUTDATED
    return status, Finding.of(code, running_s=status["uptime_s"], software=status["software"])


def _ask_first(door_id: str) -> bool:
    with suppress(click.Abort):
        return click.confirm(
            f"The strike of door {door_id} will release for a second: is somebody there?", err=True
        )
    return False
