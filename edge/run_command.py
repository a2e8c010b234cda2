"""``drempel-edge run``: the controller itself."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import sys
from pathlib import Path

import click

from edge.command_line import config_option, give_up
from edge.config_file import load
from edge.wiring import run_controller
from pacs.errors import PacsError


@click.command("run")
@config_option
@click.option("--allow-root", is_flag=True, help="Run with the rights of root, as a container may have to.")
def run_command(path: Path, *, allow_root: bool) -> None:
    """Run the controller until SIGTERM or SIGINT, as a user of its own.

    Root is refused: what reads cards of strangers needs no more rights than its serial ports and pins. This program
    does not change its user; the service manager does (User= in drempel-edge.service).

    Exit status: 0 stopped as asked, with every strike locked and every event durable; 1 it cannot start, or a disk or
    a broker kept it from ending within 8 s, and standard error says why; 2 wrong usage.

    Example: drempel-edge run --config /etc/drempel/controller.toml
    """
    if os.geteuid() == 0 and not allow_root:
        click.echo(
            "drempel-edge: not as root: start it as its own user (User=drempel in the unit, or sudo -u drempel); "
            "--allow-root where there is no other user, as in a container",
            err=True,
        )
        sys.exit(1)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with contextlib.suppress(io.UnsupportedOperation):  # no descriptor to write to
        faulthandler.enable()  # the manager ends a process that hangs with SIGABRT: its log then says where
    try:
        run_controller(load(path))
    except PacsError as error:
        give_up(error)
