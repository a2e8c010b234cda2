"""``drempel-provision reader``: the places of controllers, and the devices that take them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.wiring import UART, Wiring
from provisioning import command
from provisioning.keystore import read_file
from provisioning.reader_codes import (
    check_qr,
    code_options,
    reader_re_enrol,
    reader_revoke,
    reader_swap,
    say_code,
)
from provisioning.reader_hub import AtHub, at_hub
from provisioning.reader_offline import add_offline, reader_register
from provisioning.readers import DoorWiring, wired
from provisioning.site import Site


@click.group("reader")
def reader_group() -> None:
    """Controllers and their readers."""


for _command in (reader_register, reader_re_enrol, reader_swap, reader_revoke):
    reader_group.add_command(_command)


@reader_group.command(
    "add",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision reader add c-front --door front --hub https://hub.wilgenoord.example --token-file token
  drempel-provision reader add c-hall --door hall,garden \\
      --device /dev/drempel-reader-platform-usb-0_1_1 --device /dev/drempel-reader-platform-usb-0_1_2 \\
      --strike fail-safe --hub https://hub.wilgenoord.example --token-file token --qr c-hall.svg
  drempel-provision reader add c-front --door front --offline --site-dir wilgenoord
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
    "--device", "devices", multiple=True, help=f"Serial port of each door's reader.  [one door: {UART}]"
)
@click.option(
    "--strike",
    type=click.Choice(["fail-secure", "fail-safe"]),
    default="fail-secure",
    show_default=True,
    help="fail-secure unlocks when energised; fail-safe locks when energised.",
)
@click.option("--pins", type=click.Choice(["lgpio", "mock"]), default="lgpio", show_default=True)
@click.option(
    "--wiring",
    "wiring_file",
    type=command.file_path,
    help="Take pins and readers from this controller.toml instead of proposing some.",
)
@code_options
@click.option(
    "--offline",
    is_flag=True,
    help="Make the keys here, into a directory to be carried to the device: for a hub that it cannot reach.",
)
@click.option(
    "--broker-port",
    type=click.IntRange(1, 65535),
    default=8883,
    show_default=True,
    help="With --offline.",
)
@click.option(
    "--site",
    "site_id",
    callback=command.parsed(SiteId),
    help="Another site of the same hub.  [that of --site-dir, or the only one]",
)
@command.passphrase_option
@at_hub
def reader_add(
    *,
    controller: ControllerId,
    doors: tuple[DoorId, ...],
    devices: tuple[str, ...],
    strike: str,
    pins: str,
    wiring_file: Path | None,
    days: int,
    qr_file: Path | None,
    offline: bool,
    broker_port: int,
    site_id: SiteId | None,
    passphrase_file: Path | None,
    at: AtHub,
) -> None:
    """Register a controller's place with its doors at the hub, and print the code that lets a device take it.

    The device makes its own keys: `drempel-edge enrol CODE`. Doing it again makes another code, and the one before it
    works no longer.
    """
    if wiring_file is not None:
        if devices:
            raise click.UsageError("--wiring says which devices there are; leave --device out")
        wiring = _read_wiring(wiring_file)
        if wiring.door_ids != frozenset(doors):
            raise click.UsageError(f"{wiring_file} is about doors {', '.join(sorted(wiring.door_ids))}")
    devices = devices or ((UART,) if len(doors) == 1 else ())
    if wiring_file is None:
        if len(devices) != len(doors):
            raise click.UsageError(f"{len(doors)} doors need as many --device options, one for each reader")
        energise_to = "unlock" if strike == "fail-secure" else "lock"
        asked = [
            DoorWiring(id=door, device=device, energise_to=energise_to)
            for door, device in zip(doors, devices, strict=True)
        ]
        wiring = wired(asked, pins=pins)
    if offline:
        if wiring_file is not None:
            raise click.UsageError("--offline proposes the wiring; correct it in controller.toml")
        site = Site.open(at.site_dir)
        add_offline(
            site.at(site_id) if site_id else site,
            controller,
            asked,
            pins=pins,
            broker_port=broker_port,
            passphrase_file=passphrase_file,
            at=at,
        )
        return
    if site_id is None and (at.site_dir / "site.toml").exists():
        site_id = Site.open(at.site_dir).id
    check_qr(qr_file)
    with at.open() as hub:
        if at.dry_run:
            at.say(
                {"controller": controller, "doors": list(doors), "made": False, "wiring": wiring.fields},
                f"Would register {controller} with {', '.join(doors)} at {at.url}, and make a code for {days} days",
            )
            return
        hub.register_place(controller, doors, wiring, site_id)
        made = hub.make_code(controller, "first", days)
    say_code(made, f"Registered {controller} with {', '.join(doors)}.", qr_file, at)


@reader_group.command(
    "wiring",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader wiring c-front --file controller.toml --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@click.option(
    "--file", "wiring_file", type=command.file_path, required=True, help="The controller.toml that is right."
)
@at_hub
def reader_wiring(
    *,
    controller: ControllerId,
    wiring_file: Path,
    at: AtHub,
) -> None:
    """Tell the hub the pins and readers of a place, for whichever device takes it next."""
    wiring = _read_wiring(wiring_file)
    with at.open() as hub:
        if not at.dry_run:
            hub.set_wiring(controller, wiring)
    what = "Would keep" if at.dry_run else "Kept"
    at.say(
        {"controller": controller, "wiring": wiring.fields, "made": not at.dry_run},
        f"{what} the wiring of {', '.join(sorted(wiring.door_ids))} for {controller}.",
    )


def _read_wiring(path: Path) -> Wiring:
    try:
        return Wiring.from_configuration(tomllib.loads(read_file(path).decode("utf-8")))
    except (ValueError, MalformedData) as error:
        raise StoreError(f"{path}: {error}") from error
