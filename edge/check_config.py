"""``drempel-edge check-config``: whether a controller could start with this file, and reach its hub."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from edge.command_line import config_option, give_up
from edge.config import Backend, Config, ConfigError
from edge.config_file import load
from edge.doctor_hub import examine_certificates
from edge.finding import Level
from edge.keystore import Keystore
from edge.state_dir import no_directory
from pacs.errors import PacsError, StoreError

_HOST_NAME: Final = re.compile(r"[\w-]{1,63}(\.[\w-]{1,63})*\.?")


@click.command("check-config")
@config_option
def check_config_command(path: Path) -> None:
    """Check the configuration, the keys it names and its directory, without touching a pin, a reader or the network.

    A device that another adapter can become is named on standard error, and is no reason to refuse the file.

    Exit status: 0 usable; 1 not, with one line on standard error for each problem; 2 wrong usage.

    Example: drempel-edge check-config --config /etc/drempel/controller.toml
    """
    try:
        config = load(path)
        if found := tuple(problems(config, datetime.now(UTC))):
            raise ConfigError(config.path, found)
    except PacsError as error:
        give_up(error)
    for reader in (reader for door in config.doors for reader in door.readers if reader.changes_name):
        click.echo(
            f"{path}: device {reader.device} can be another door's reader after a restart; "
            "name the socket: /dev/drempel-reader-* or /dev/serial/by-path/*",
            err=True,
        )
    click.echo(
        f"{path}: controller {config.controller_id}, doors {', '.join(door.id for door in config.doors)}"
    )


def problems(config: Config, now: datetime) -> Iterator[str]:
    """What is wrong with a file that can be read, and with what it names; one line each, with what to do.

    The doors work in spite of what concerns the hub alone, so ``load`` lets it pass.
    """
    try:
        if problem := no_directory(config.state_dir):
            yield f"[controller] state_dir: {config.state_dir} {problem}"
    except OSError as error:
        yield f"[controller] state_dir: {config.state_dir}: {error.strerror}; correct it, or its owner"
    if not _is_host(config.hub_host):
        yield f'[hub] host: "{config.hub_host}" is no name and no address; the port has a line of its own'
    yield from _readers_shared(config)
    unusable = [finding for finding in examine_certificates(config, now) if finding.level is Level.FAIL]
    for finding in unusable:
        yield f"[keys] {finding.line()}"
    if not unusable:
        try:
            Keystore.open(config.keys, config.controller_id).tls_context()
        except StoreError as error:
            yield f"[keys] {error}"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None
    return True


def _readers_shared(config: Config) -> Iterator[str]:
    """Two readers whose paths lead to one device: the second to open it would find it taken."""
    used: dict[Path, str] = {}
    for door in config.doors:
        for reader in door.readers:
            if reader.backend is not Backend.PN532:
                continue
            try:
                device = reader.device.resolve()
            except (OSError, RuntimeError):  # a link that leads to itself
                yield f"{door.id}/{reader.side.value}: {reader.device} leads nowhere; correct device"
                continue
            name = f"{door.id}/{reader.side.value}"
            if (first := used.setdefault(device, name)) != name:
                yield f"{name}: {reader.device} is the device of {first}; choose another"
