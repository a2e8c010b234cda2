"""What every command of ``drempel-edge`` shares."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from pacs.errors import PacsError

config_option = click.option(
    "--config", "path", type=click.Path(path_type=Path), required=True, help="The controller's TOML file."
)


def give_up(error: PacsError) -> NoReturn:
    """Say on standard error what is wrong, and end with status 1."""
    click.echo(f"drempel-edge: {error}", err=True)
    sys.exit(1)
