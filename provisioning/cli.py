"""``drempel-provision``: noun, verb. Nothing is overwritten, and no secret is printed."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pacs.identifiers import ControllerId, DoorId, SiteId
from provisioning import command
from provisioning.card_commands import card_group
from provisioning.hub_client import HubClient, HubError
from provisioning.image_commands import image_group
from provisioning.keystore import Passphrase
from provisioning.readers import DoorWiring, ProvisionedController, add_controller, read_controller
from provisioning.release_commands import release_group
from provisioning.site import Site, create_site, generate_issuer, site_files


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="drempel", prog_name="drempel-provision")
def main() -> None:
    """Make a site's keys, its controllers' keys, and its cards.

    Exit status: 0 done; 1 files, keys or a malformed value; 2 the command line; 3 the card or its reader; 4 the hub.

    Example: drempel-provision site create wilgenoord --site wilgenoord
    """


@main.group("site")
def site_group() -> None:
    """The site's own keys."""


@main.group("reader")
def reader_group() -> None:
    """Controllers and their readers."""


main.add_command(card_group)
main.add_command(release_group)
main.add_command(image_group)


@site_group.command(
    "create",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision site create wilgenoord --site wilgenoord --broker-host hub.wilgenoord.example
  drempel-provision site create demo --site demo --dry-run --format json
""",
)
@click.argument("directory", type=command.directory_path)
@click.option("--site", "site_id", required=True, callback=command.parsed(SiteId), help="The site's id.")
@click.option(
    "--broker-host",
    "broker_hosts",
    multiple=True,
    default=("localhost",),
    show_default=True,
    help="Name or address of the hub's machine; the first is the one controllers use.",
)
@click.option(
    "--root-dir",
    "root_directory",
    type=command.directory_path,
    help="Where the root's key is put, such as on a medium of its own.  [default: DIRECTORY/root]",
)
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def site_create(
    *,
    directory: Path,
    site_id: SiteId,
    broker_hosts: tuple[str, ...],
    root_directory: Path | None,
    passphrase_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Make a site: root and its two intermediates, card issuer, policy signer, and what its hub is given.

    Without --passphrase-file a passphrase is generated and kept in DIRECTORY/passphrase. The root's key has one of its
    own, beside it: it is needed for no daily work and belongs into a safe.
    """
    passphrase = Passphrase.from_file(passphrase_file) if passphrase_file else None
    now, issuer = datetime.now(UTC), generate_issuer()
    result: dict[str, Any] = {"site": site_id, "directory": str(directory), "made": not dry_run}
    if dry_run:
        files = site_files(site_id, now=now, passphrase=passphrase, broker_hosts=broker_hosts, issuer=issuer)
        result["files"] = sorted(str(file.path) for file in files.site)
        result["root_files"] = sorted(str(file.path) for file in files.root)
        text = "\n".join(
            [
                f"Would make in {directory}:",
                *(f"  {name}" for name in result["files"]),
                f"and in {root_directory or directory / 'root'}:",
                *(f"  {name}" for name in result["root_files"]),
            ]
        )
    else:
        made = create_site(
            directory,
            site_id,
            now=now,
            passphrase=passphrase,
            broker_hosts=broker_hosts,
            issuer=issuer,
            root_directory=root_directory,
        )
        result["files"] = sorted(str(path.relative_to(directory)) for path in directory.rglob("*.*"))
        result["issuer"] = made.issuer
        text = _next_steps_of_site(made, root_directory or made.root_directory)
    command.say(form, result, text)


def _next_steps_of_site(made: Site, root_directory: Path) -> str:
    directory = made.directory
    local = (
        "\nIts broker answers as localhost only; for another machine name it with --broker-host."
        if made.broker_host == "localhost"
        else ""
    )
    return f"""\
Made {directory} for site {made.id}; its private keys are encrypted.{local}

Next:
  take {root_directory} to a safe, its passphrase to another: the root is needed for no daily work
  keep {directory} offline and its passphrase apart from it: who has both can make cards and devices
  move {made.hub_directory} to the hub's machine, and there: drempel-hub run --config hub.toml
  for each controller: drempel-provision reader add CONTROLLER --door DOOR --site-dir {directory}"""


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
        command.say(form, would, f"Would make {directory}: device certificate, event key, controller.toml")
        return
    with command.chosen_hub(hub_url, token_file, site, "controllers") as hub:
        made = add_controller(
            site, authority, controller, wiring, now=datetime.now(UTC), pins=pins, broker_port=broker_port
        )
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
@command.format_option
@command.explained
def reader_register(
    *, controller: ControllerId, site_dir: Path, hub_url: str | None, token_file: Path | None, form: str
) -> None:
    """Register a controller made by `reader add` at a hub; doing it again changes nothing."""
    site = Site.open(site_dir)
    made = read_controller(site, controller)
    with command.chosen_hub(hub_url, token_file, site, "controllers") as hub:
        if hub is None:
            raise click.UsageError("--hub and --token-file are needed")
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
