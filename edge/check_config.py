"""``drempel-edge check-config``: whether a controller could start with this file."""

from __future__ import annotations

from pathlib import Path

import click

from edge.command_line import config_option, give_up
from edge.config_file import load
from edge.keystore import Keystore
from pacs.errors import PacsError


@click.command("check-config")
@config_option
def check_config_command(path: Path) -> None:
    """Check the configuration and the keys it names, without touching a pin.

    Exit status: 0 usable; 1 not, with one line on standard error for each problem; 2 wrong usage.

    Example: drempel-edge check-config --config /etc/drempel/controller.toml
    """
    try:
        config = load(path)
        Keystore.open(config.keys, config.controller_id)
    except PacsError as error:
        give_up(error)
    click.echo(
        f"{path}: controller {config.controller_id}, doors {', '.join(door.id for door in config.doors)}"
    )
