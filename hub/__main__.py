"""drempel-hub: run the hub, sign operators in for the first time, make API tokens, import people, check the audit log, back up.

The hub itself is loaded by the commands that run it.
"""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import click

from hub import audit, backup_commands, broker_node, import_commands, logs, operator_commands, site_commands
from hub.audit import AuditHead
from hub.command_line import configuration, database_of, fail, located, settings_of, told
from hub.settings import KEYS, Address, Settings, faults


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Drempel's hub: administration, live page and the doors' broker.

    Exit status: 0 done, 1 refused or failed, 2 wrong usage.

    Example: drempel-hub run --config wilgenoord/hub/hub.toml
    """


for command in (
    *operator_commands.COMMANDS,
    *import_commands.COMMANDS,
    *backup_commands.COMMANDS,
    *site_commands.COMMANDS,
):
    main.add_command(command)


@main.command(
    epilog="""\b
Examples:
  drempel-hub run --config hub.toml
  drempel-hub run --site-dir wilgenoord/hub --data-dir data --http 127.0.0.1:8000 --mqtt 127.0.0.1:8883"""
)
@located
@click.option("--site-dir", type=click.Path(path_type=Path, file_okay=False), help="The hub's keys.")
@click.option("--http", metavar="HOST:PORT", help="Where pages and API are served. [127.0.0.1:8000]")
@click.option("--mqtt", metavar="HOST:PORT", help="Where controllers connect. [127.0.0.1:8883]")
@click.option("--time-zone", metavar="IANA", help="The site's time zone, such as Europe/Amsterdam.")
def run(
    config: Path | None,
    data_dir: Path | None,
    site_dir: Path | None,
    http: str | None,
    mqtt: str | None,
    time_zone: str | None,
) -> None:
    """Run the hub until it is told to stop."""
    from hub.server import serve

    with told():
        settings = configuration(
            config,
            data_dir,
            site_dir,
            http=Address.parse(http) if http else None,
            mqtt=Address.parse(mqtt) if mqtt else None,
            time_zone=time_zone,
        ).settings
        logs.configure(settings.log_level, settings.log_format)
        serve(settings)


@main.group()
def broker() -> None:
    """The broker that controllers connect to."""


@broker.command(
    "run",
    epilog="""\b
Example:
  drempel-hub broker run --config hub.toml

How a cluster is set up is described in docs/scale.md.""",
)
@located
def broker_run(config: Path | None, data_dir: Path | None) -> None:
    """Run one node of a cluster, without a hub, until it is told to stop."""
    with told():
        settings = configuration(config, data_dir).settings
        logs.configure(settings.log_level, settings.log_format)
        stopping = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopping.set())
        broker_node.run(settings, stopping)


@main.command("openapi")
def print_openapi() -> None:
    """Print the description of the hub's interface (OpenAPI 3.1, JSON)."""
    from hub.app import create_app

    app = create_app(Settings(site_dir=Path(), data_dir=Path()))
    click.echo(json.dumps(app.openapi(), indent=2))


@main.group("config")
def config_group() -> None:
    """What this hub is told, and by whom."""


@config_group.command("show")
@located
def config_show(config: Path | None, data_dir: Path | None) -> None:
    """Print every setting: name, value in force, who gave it. A secret is only said to be set."""
    with told():
        found = configuration(config, data_dir)
        for key in KEYS:
            click.echo(f"{key.name}\t{found.shown(key)}\t{found.origins[key.name]}")


@config_group.command("check")
@located
def config_check(config: Path | None, data_dir: Path | None) -> None:
    """Read the settings and look at the files they name; print what is wrong, and exit 1 when something is."""
    with told():
        wrong = faults(configuration(config, data_dir).settings)
        for fault in wrong:
            click.echo(fault)
        if wrong:
            fail(f"{len(wrong)} things are wrong")
        click.echo("the settings can be used")


@main.group("audit")
def audit_group() -> None:
    """The log of what operators and programs did."""


@audit_group.command("verify")
@located
@click.option("--expect", metavar="COUNT:HASH", help="A head noted earlier, which must still be in the log.")
def audit_verify(config: Path | None, data_dir: Path | None, expect: str | None) -> None:
    """Check the whole log and print its head, COUNT:HASH: worth noting down elsewhere."""
    try:
        expected = AuditHead.parse(expect) if expect else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expect") from error
    with told(), database_of(settings_of(config, data_dir)).read() as connection:
        click.echo(str(audit.verify(connection, expected)))


if __name__ == "__main__":
    main()
