"""``drempel-provision reader add --offline`` and ``register``: keys made at the bureau, carried to a device that reaches no hub."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pacs.identifiers import ControllerId
from provisioning import command
from provisioning.command import NamedHub
from provisioning.hub_client import HubClient, HubError
from provisioning.reader_hub import AtHub
from provisioning.readers import DoorWiring, ProvisionedController, add_controller, read_controller
from provisioning.site import Site


def add_offline(
    site: Site,
    controller: ControllerId,
    doors: Sequence[DoorWiring],
    *,
    pins: str,
    broker_port: int,
    passphrase_file: Path | None,
    at: AtHub,
) -> None:
    """Make the controller's directory with all its keys, and register it where a hub is named."""
    authority = site.authority(site.passphrase(passphrase_file))
    named = ", ".join(door.id for door in doors)
    if at.dry_run:
        directory = site.directory / "controllers" / controller
        would = {
            "controller": controller,
            "directory": str(directory),
            "doors": named.split(", "),
            "made": False,
        }
        register = f"\nand register it at {at.url}" if at.url else ""
        text = f"Would make {directory}: device certificate, event key, controller.toml{register}"
        at.say(would, text)
        return
    with (
        command.chosen_hub(at.named_hub, site, "controllers") as client,
        command.audited(
            site, "reader add", controller=controller, doors=[door.id for door in doors]
        ) as facts,
    ):
        made = add_controller(
            site, authority, controller, doors, now=datetime.now(UTC), pins=pins, broker_port=broker_port
        )
        facts["certificate_serial"] = made.certificate_serial
        if client is not None:
            _register(client, made)
    again = (
        ""
        if client
        else f"  register it: drempel-provision reader register {made.id} --hub URL --token-file F\n"
    )
    text = f"""\
Made {made.directory} for {named}; its private keys are encrypted.

Next:
{again}  check the pins in {made.directory}/controller.toml against the wiring
  move {made.directory} to the controller, and there: drempel-edge run --config controller.toml"""
    at.say(_described(made, registered=client is not None), text)


@click.command(
    "register",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader register c-front --site-dir wilgenoord \\
      --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@command.site_dir_option
@command.hub_options
@command.dry_run_option
@command.format_option
@command.explained
def reader_register(
    *,
    controller: ControllerId,
    site_dir: Path,
    named_hub: NamedHub | None,
    dry_run: bool,
    form: str,
) -> None:
    """Register a controller made by `reader add --offline` at a hub; doing it again changes nothing."""
    site = Site.open(site_dir)
    made = read_controller(site, controller)
    with command.chosen_hub(named_hub, site, "controllers") as hub:
        if hub is None or named_hub is None:
            raise click.UsageError("--hub and --token-file are needed")
        if dry_run:
            text = f"Would register {made.id} with {', '.join(made.doors)} at {named_hub.url}, which answers."
            command.say(form, _described(made, registered=False), text)
            return
        with command.audited(site, "reader register", controller=controller):
            _register(hub, made)
    text = f"Registered {made.id} with {', '.join(made.doors)}."
    command.say(form, _described(made, registered=True), text)


def _register(hub: HubClient, made: ProvisionedController) -> None:
    try:
        hub.register_controller(made)
    except HubError as error:
        again = f"drempel-provision reader register {made.id}"
        raise HubError(f"{error}\n{made.directory} is complete; once the hub agrees: {again} …") from error


def _described(made: ProvisionedController, *, registered: bool) -> dict[str, Any]:
    return {
        "controller": made.id,
        "directory": str(made.directory),
        "doors": list(made.doors),
        "event_public_key": made.event_public_key.hex(),
        "certificate_serial": made.certificate_serial,
        "registered": registered,
    }
