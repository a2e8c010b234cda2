"""``drempel-provision``: noun, verb. Nothing is overwritten, and no secret is printed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pacs.identifiers import ControllerId, DoorId, SiteId
from provisioning import command
from provisioning.card_commands import card_group
from provisioning.desk_commands import card_desk
from provisioning.hub_client import HubClient, HubError
from provisioning.image_commands import image_group
from provisioning.readers import DoorWiring, ProvisionedController, add_controller, read_controller
from provisioning.release_commands import release_group
from provisioning.site import Site
from provisioning.site_commands import site_group


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drempel", prog_name="drempel-provision")
def main() -> None:
    """Make a site's keys, its controllers' keys, and its cards.

    Exit status: 0 done; 1 files, keys or a malformed value; 2 the command line; 3 the card or its reader; 4 the hub.

    Example: drempel-provision site create wilgenoord --site wilgenoord
    """


@main.group("reader")
def reader_group() -> None:
    """Controllers and their readers."""


main.add_command(site_group)
main.add_command(card_group)
main.add_command(release_group)
main.add_command(image_group)
card_group.add_command(card_desk)


@reader_group.command(
    "add",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision reader add c-front --door front --site-dir wilgenoord
  drempel-provision reader add c-hall --door hall,garden \\
      --device /dev/drempel-reader-platform-usb-0_1_1 --device /dev/drempel-reader-platform-usb-0_1_2 \\
      --strike fail-safe --site-dir wilgenoord --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@click.option(
    "--door",
    "doors",
    required=True,
    callback=command.parsed(lambda text: tuple(DoorId(door) for door in text.split(","))),
    help="Door ids, with commas between.",
)
@click.option(
    "--device", "devices", multiple=True, help="Serial port of each door's reader.  [one door: /dev/ttyAMA0]"
)
@click.option(
    "--strike",
    type=click.Choice(["fail-secure", "fail-safe"]),
    default="fail-secure",
    show_default=True,
    help="fail-secure unlocks when energised; fail-safe locks when energised.",
)
@click.option("--pins", type=click.Choice(["lgpio", "mock"]), default="lgpio", show_default=True)
@click.option("--broker-port", type=click.IntRange(1, 65535), default=8883, show_default=True)
@click.option(
    "--site",
    "site_id",
    callback=command.parsed(SiteId),
    help="Another site of the same hub.  [that of --site-dir]",
)
@command.site_dir_option
@command.passphrase_option
@command.hub_option
@command.token_option
@command.dry_run_option
@command.format_option
@command.explained
def reader_add(
    *,
    controller: ControllerId,
    doors: tuple[DoorId, ...],
    devices: tuple[str, ...],
    strike: str,
    pins: str,
    broker_port: int,
    site_id: SiteId | None,
    site_dir: Path,
    passphrase_file: Path | None,
    hub_url: str | None,
    token_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Make a controller's directory: device certificate, event key, configuration; register it at the hub."""
    devices = devices or (("/dev/ttyAMA0",) if len(doors) == 1 else ())
    if len(devices) != len(doors):
        raise click.UsageError(f"{len(doors)} doors need as many --device options, one for each reader")
    energise_to = "unlock" if strike == "fail-secure" else "lock"
    wiring = [
        DoorWiring(id=door, device=device, energise_to=energise_to)
        for door, device in zip(doors, devices, strict=True)
    ]
    site = Site.open(site_dir)
    site = site.at(site_id) if site_id else site
    authority = site.authority(site.passphrase(passphrase_file))
    if dry_run:
        directory = site_dir / "controllers" / controller
        would = {"controller": controller, "directory": str(directory), "doors": list(doors), "made": False}
        register = f"\nand register it at {hub_url}" if hub_url else ""
        text = f"Would make {directory}: device certificate, event key, controller.toml{register}"
        command.say(form, would, text)
        return
    with (
        command.chosen_hub(hub_url, token_file, site, "controllers") as hub,
        command.audited(site, "reader add", controller=controller, doors=list(doors)) as facts,
    ):
        made = add_controller(
            site, authority, controller, wiring, now=datetime.now(UTC), pins=pins, broker_port=broker_port
        )
        facts["certificate_serial"] = made.certificate_serial
        if hub is not None:
            _register(hub, made)
    again = (
        ""
        if hub
        else f"  register it: drempel-provision reader register {made.id} --hub URL --token-file F\n"
    )
    text = f"""\
Made {made.directory} for {", ".join(made.doors)}, strikes {strike}; its private keys are encrypted.

Next:
{again}  check the pins in {made.directory}/controller.toml against the wiring
  move {made.directory} to the controller, and there: drempel-edge run --config controller.toml"""
    command.say(form, _described(made, registered=hub is not None), text)


@reader_group.command(
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
@command.hub_option
@command.token_option
@command.dry_run_option
@command.format_option
@command.explained
def reader_register(
    *,
    controller: ControllerId,
    site_dir: Path,
    hub_url: str | None,
    token_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Register a controller made by `reader add` at a hub; doing it again changes nothing."""
    site = Site.open(site_dir)
    made = read_controller(site, controller)
    with command.chosen_hub(hub_url, token_file, site, "controllers") as hub:
        if hub is None:
            raise click.UsageError("--hub and --token-file are needed")
        if dry_run:
            text = f"Would register {made.id} with {', '.join(made.doors)} at {hub_url}, which answers."
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


if __name__ == "__main__":
    main(prog_name="drempel-provision")
