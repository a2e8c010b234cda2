"""What drempel-hub's commands have in common: where the hub is, and how a failure is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from hub.settings import Configuration, Settings, database_address
from hub.store.database import Database
from pacs.errors import PacsError

Command = TypeVar("Command", bound=Callable[..., Any])


def located(command: Command) -> Command:
    """Add the options that say where a hub's data is."""
    command = click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file (hub.toml)."
    )(command)
    return click.option(
        "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where the database is."
    )(command)


def configuration(
    config: Path | None, data_dir: Path | None, site_dir: Path | None = None, **said: Any
) -> Configuration:
    """The settings in force and their origins; wrong usage when nothing says where the hub is."""
    if config is None and data_dir is None and not os.environ.get("DREMPEL_DATA_DIR"):
        raise click.UsageError("give --config hub.toml, --data-dir, or DREMPEL_DATA_DIR in the environment")
    return Configuration.read(config, os.environ, data_dir=data_dir, site_dir=site_dir, **said)


def settings_of(config: Path | None, data_dir: Path | None) -> Settings:
    """The settings in force."""
    return configuration(config, data_dir).settings


def database_of(settings: Settings) -> Database:
    """The hub's database; fails when there is no hub yet."""
    if not settings.database_url and not settings.database.exists():
        fail(f"{settings.database}: there is no hub here yet; start it first: drempel-hub run")
    return Database.of(database_address(settings))


@contextmanager
def told() -> Iterator[None]:
    """Turn an expected failure into one sentence and exit status 1."""
    try:
        yield
    except PacsError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Say why on the error output, and end with exit status 1."""
    click.echo(f"drempel-hub: {message}", err=True)
    sys.exit(1)
