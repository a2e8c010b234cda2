"""``drempel-edge run``: the controller itself."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from edge.command_line import config_option, give_up
from edge.config_file import load
from edge.wiring import run_controller
from pacs.errors import PacsError


@click.command("run")
@config_option
def run_command(path: Path) -> None:
    """Run the controller until SIGTERM or SIGINT.

    Exit status: 0 stopped as asked, with every strike locked and every event durable; 1 it cannot start, and
    standard error says why; 2 wrong usage.

    Example: drempel-edge run --config /etc/drempel/controller.toml
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        run_controller(load(path))
    except PacsError as error:
        give_up(error)
