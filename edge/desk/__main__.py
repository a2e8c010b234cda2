"""``drempel-desk``: the card reader beside a desk's computer."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click

from edge.config import Backend
from edge.desk.config import DeskConfig
from edge.desk.hub import DeskHub
from edge.desk.program import DeskReader, Said
from edge.nfc.reader import Antenna
from pacs.errors import MalformedData, PacsError, ReaderBroken

config_option = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    required=True,
    help="The reader's TOML file, mode 0600.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drempel", prog_name="drempel-desk")
def main() -> None:
    r"""Read cards at a desk and pass on to the hub what they answer. It is told nothing, and keeps nothing.

    The file, which only its owner may read (chmod 600):

    \b
      hub = "https://hub.example.org"
      token = "drempel_station_…"          # shown once, when the station was made
      backend = "pcsc"                     # or "pn532"
      device = "ACR1252"                   # a part of the reader's name; of a PN532 its serial port
      # authority = "hub-root.pem"         # when the system does not know who vouches for the hub
      # allow_v1 = true                    # cards with a bare key

    Exit status: 0 done; 1 not, and standard error says why; 2 wrong usage.

    Example: drempel-desk check --config /etc/drempel/desk.toml && drempel-desk run --config /etc/drempel/desk.toml
    """


@main.command("run")
@config_option
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
def run_command(path: Path, form: Literal["text", "json"]) -> None:
    """Read cards until SIGTERM or SIGINT; say on standard output what became of each.

    A hub that is away and a reader that breaks are waited for. Nothing is stored.

    Exit status: 0 told to stop; 1 the file cannot be used; 2 wrong usage.

    Example: drempel-desk run --config /etc/drempel/desk.toml
    """

    def say(said: Said, text: str, marks: Mapping[str, int]) -> None:
        click.echo(json.dumps({"said": said, "text": text, **marks}) if form == "json" else text)
        sys.stdout.flush()

    try:
        config = DeskConfig.load(path)
        with DeskHub(config.hub, config.token, config.authority) as hub:
            reader = DeskReader(antenna_of(config), hub, say=say, allow_v1=config.allow_v1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: reader.stop())
            reader.run()
    except PacsError as error:
        give_up(error)


@main.command("check")
@config_option
def check_command(path: Path) -> None:
    """Say whether file, reader and hub are as they should be. Not while the program runs: it has the reader.

    Exit status: 0 they are; 1 one is not, and standard error says what to do; 2 wrong usage.

    Example: drempel-desk check --config /etc/drempel/desk.toml
    """
    try:
        config = DeskConfig.load(path)
        click.echo(f"{path}: good")
        antenna = antenna_of(config)
        try:
            antenna.open()
            click.echo(f"reader: {antenna.check()}")
        finally:
            antenna.close()
        with DeskHub(config.hub, config.token, config.authority) as hub:
            given = hub.heartbeat("0" * 32, works=False)
        click.echo(f"hub: {config.hub} knows this reader as station {given.station_id}")
    except ReaderBroken as error:
        give_up(error, error.advice)
    except PacsError as error:
        give_up(error)


@main.command("bridge")
@click.option(
    "--reader",
    metavar="KIND:DEVICE",
    help="pn532:/dev/ttyUSB0 (its serial port), or pcsc:NAME (a part of its name).",
)
@click.option(
    "--config", "path", type=click.Path(path_type=Path), help="In place of --reader: the reader's TOML file."
)
def bridge_command(reader: str | None, path: Path | None) -> None:
    """Let another program speak to the card in the reader: a line of hex each way, until its input ends.

    Nothing is sent to a hub. Lines that begin with ! say what is wrong; ?card SECONDS and ?lifted SECONDS ask whether
    a card lies there.

    Exit status: 0 its input ended; 1 the file cannot be used; 2 wrong usage.

    Example: drempel-provision card issue --card-process "drempel-desk bridge --reader pn532:/dev/ttyUSB0"
    """
    from edge.desk.bridge import Bridge, parse_reader

    if (reader is None) == (path is None):
        raise click.UsageError("--reader or --config")
    try:
        if path is not None:
            antenna = antenna_of(DeskConfig.load(path))
        else:
            antenna = antenna_at(*parse_reader(reader or ""))
    except MalformedData as error:
        raise click.UsageError(str(error)) from error
    except PacsError as error:
        give_up(error)
    else:
        Bridge(antenna).serve(sys.stdin.buffer, sys.stdout.buffer)


def antenna_of(config: DeskConfig) -> Antenna:
    """The reader's hardware, not opened."""
    return antenna_at(config.backend, config.device)


def antenna_at(backend: Backend, device: str) -> Antenna:
    """The hardware that is reached so, not opened."""
    if backend is Backend.PCSC:
        from edge.nfc.pcsc import Pcsc

        return Pcsc(device)
    from edge.nfc.pn532 import Pn532

    return Pn532(device)


def give_up(error: PacsError, advice: str = "") -> None:
    """Say on standard error what is wrong, and what to do, and end with status 1."""
    click.echo(f"drempel-desk: {error}{f'; {advice}' if advice else ''}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main(prog_name="drempel-desk")
