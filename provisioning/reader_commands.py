"""``drempel-provision reader``: the places of controllers, and the devices that take them."""

from __future__ import annotations

import io
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import segno

from pacs.enrolment import EnrolmentCode
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId, DoorId, SiteId
from pacs.wiring import UART, Wiring
from provisioning import command
from provisioning.hub_client import HubClient, HubError
from provisioning.keystore import read_file
from provisioning.readers import DoorWiring, ProvisionedController, add_controller, read_controller, wired
from provisioning.site import Site

_QR_FORMATS: Final = (".svg", ".png")
_LOCAL: Final = ("http://",)


@click.group("reader")
def reader_group() -> None:
    """Controllers and their readers."""


def _code_options(run: Callable[..., None]) -> Callable[..., None]:
    run = click.option(
        "--days",
        type=click.IntRange(1, 31),
        default=7,
        show_default=True,
        help="How long the code may be used.",
    )(run)
    return click.option(
        "--qr", "qr_file", type=command.file_path, help="Write the code's QR for print, as .svg or .png."
    )(run)


_root_option = click.option(
    "--root",
    "root_file",
    type=command.file_path,
    help="The site's root certificate, which vouches for the hub.  [root.cert.pem in --site-dir]",
)
_reason_option = click.option("--reason", required=True, help="Why, for the audit log: 3 to 300 characters.")


@contextmanager
def _named_hub(
    hub_url: str | None, token_file: Path | None, root_file: Path | None, site_dir: Path
) -> Iterator[HubClient]:
    if hub_url is None or token_file is None:
        raise click.UsageError("--hub and --token-file are needed; without a hub: --offline")
    beside = site_dir / "root.cert.pem"
    root = root_file or (beside if beside.exists() else None)
    with HubClient.from_token_file(hub_url, token_file, root) as hub:
        hub.check("controllers")
        yield hub


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
@_code_options
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
@command.site_dir_option
@command.passphrase_option
@command.hub_option
@command.token_option
@_root_option
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
    wiring_file: Path | None,
    days: int,
    qr_file: Path | None,
    offline: bool,
    broker_port: int,
    site_id: SiteId | None,
    site_dir: Path,
    passphrase_file: Path | None,
    hub_url: str | None,
    token_file: Path | None,
    root_file: Path | None,
    dry_run: bool,
    form: str,
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
        site = Site.open(site_dir)
        site = site.at(site_id) if site_id else site
        _add_offline(
            site,
            controller,
            asked,
            pins=pins,
            broker_port=broker_port,
            passphrase_file=passphrase_file,
            hub=(hub_url, token_file),
            dry_run=dry_run,
            form=form,
        )
        return
    if site_id is None and (site_dir / "site.toml").exists():
        site_id = Site.open(site_dir).id
    _check_qr(qr_file)
    with _named_hub(hub_url, token_file, root_file, site_dir) as hub:
        if dry_run:
            would = {"controller": controller, "doors": list(doors), "made": False, "wiring": wiring.fields}
            command.say(
                form,
                would,
                f"Would register {controller} with {', '.join(doors)} at {hub_url}, and make a code for {days} days",
            )
            return
        hub.register_place(controller, doors, wiring, site_id)
        made = hub.make_code(controller, "first", days)
    _say_code(made, f"Registered {controller} with {', '.join(doors)}.", qr_file, form)


def _add_offline(
    site: Site,
    controller: ControllerId,
    doors: list[DoorWiring],
    *,
    pins: str,
    broker_port: int,
    passphrase_file: Path | None,
    hub: tuple[str | None, Path | None],
    dry_run: bool,
    form: str,
) -> None:
    authority = site.authority(site.passphrase(passphrase_file))
    named = ", ".join(door.id for door in doors)
    if dry_run:
        directory = site.directory / "controllers" / controller
        would = {
            "controller": controller,
            "directory": str(directory),
            "doors": named.split(", "),
            "made": False,
        }
        register = f"\nand register it at {hub[0]}" if hub[0] else ""
        text = f"Would make {directory}: device certificate, event key, controller.toml{register}"
        command.say(form, would, text)
        return
    with (
        command.chosen_hub(*hub, site, "controllers") as client,
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
    command.say(form, _described(made, registered=client is not None), text)


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
    """Register a controller made by `reader add --offline` at a hub; doing it again changes nothing."""
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


@reader_group.command(
    "re-enrol",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader re-enrol c-front --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@_code_options
@command.site_dir_option
@command.hub_option
@command.token_option
@_root_option
@command.dry_run_option
@command.format_option
@command.explained
def reader_re_enrol(
    *,
    controller: ControllerId,
    days: int,
    qr_file: Path | None,
    site_dir: Path,
    hub_url: str | None,
    token_file: Path | None,
    root_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Print a code with which the same device gets another certificate: its own ended, or was revoked."""
    _check_qr(qr_file)
    with _named_hub(hub_url, token_file, root_file, site_dir) as hub:
        if dry_run:
            _say_would(controller, "again", days, form)
            return
        made = hub.make_code(controller, "again", days)
    _say_code(made, f"For the device that is {controller}; nothing else of it changes.", qr_file, form)


@reader_group.command(
    "swap",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader swap c-front --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@_code_options
@command.site_dir_option
@command.hub_option
@command.token_option
@_root_option
@command.dry_run_option
@command.format_option
@command.explained
def reader_swap(
    *,
    controller: ControllerId,
    days: int,
    qr_file: Path | None,
    site_dir: Path,
    hub_url: str | None,
    token_file: Path | None,
    root_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Print a code with which a spare takes a controller's place: doors, wiring and rules stay.

    When the spare enrols, the certificate of the device before it is refused at the broker, and what that one had recorded
    and not sent stays unknown: the record of its doors says so.
    """
    _check_qr(qr_file)
    with _named_hub(hub_url, token_file, root_file, site_dir) as hub:
        if dry_run:
            _say_would(controller, "swap", days, form)
            return
        made = hub.make_code(controller, "swap", days)
    _say_code(made, f"For a spare in the place of {controller}.", qr_file, form)


@reader_group.command(
    "revoke",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision reader revoke c-front --reason "Stolen from the wall" \\
      --hub https://hub.wilgenoord.example --token-file token
""",
)
@click.argument("controller", callback=command.parsed(ControllerId))
@_reason_option
@command.site_dir_option
@command.hub_option
@command.token_option
@_root_option
@command.dry_run_option
@command.format_option
@command.explained
def reader_revoke(
    *,
    controller: ControllerId,
    reason: str,
    site_dir: Path,
    hub_url: str | None,
    token_file: Path | None,
    root_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Refuse the device that has a controller's place, at once, at the broker too; the place stays for another.

    Its strike goes on by what it last received, until that is too old: unwire it.
    """
    with _named_hub(hub_url, token_file, root_file, site_dir) as hub:
        if not dry_run:
            hub.revoke(controller, reason)
    result = {"controller": controller, "revoked": not dry_run}
    what = "Would revoke" if dry_run else "Revoked"
    command.say(
        form,
        result,
        f"{what} the device of {controller}. For another: drempel-provision reader swap {controller} …",
    )


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
@command.site_dir_option
@command.hub_option
@command.token_option
@_root_option
@command.dry_run_option
@command.format_option
@command.explained
def reader_wiring(
    *,
    controller: ControllerId,
    wiring_file: Path,
    site_dir: Path,
    hub_url: str | None,
    token_file: Path | None,
    root_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Tell the hub the pins and readers of a place, for whichever device takes it next."""
    wiring = _read_wiring(wiring_file)
    with _named_hub(hub_url, token_file, root_file, site_dir) as hub:
        if not dry_run:
            hub.set_wiring(controller, wiring)
    result = {"controller": controller, "wiring": wiring.fields, "made": not dry_run}
    what = "Would keep" if dry_run else "Kept"
    command.say(form, result, f"{what} the wiring of {', '.join(sorted(wiring.door_ids))} for {controller}.")


def _say_would(controller: ControllerId, purpose: str, days: int, form: str) -> None:
    would = {"controller": controller, "purpose": purpose, "made": False}
    command.say(
        form,
        would,
        f"Would make a code for {controller}, for {days} days; one that was not used is withdrawn.",
    )


def _read_wiring(path: Path) -> Wiring:
    try:
        return Wiring.from_configuration(tomllib.loads(read_file(path).decode("utf-8")))
    except (ValueError, MalformedData) as error:
        raise StoreError(f"{path}: {error}") from error


def _check_qr(path: Path | None) -> None:
    if path is not None and path.suffix.lower() not in _QR_FORMATS:
        raise click.UsageError(f"--qr: a file that ends in {' or '.join(_QR_FORMATS)} expected")


def _say_code(made: dict[str, Any], what: str, qr_file: Path | None, form: str) -> None:
    """The code, its QR, and what is done with it; the code is a secret until it is used."""
    code = EnrolmentCode.parse(made["code"])
    picture = segno.make(str(code), error="m")
    if qr_file is not None:
        try:
            picture.save(str(qr_file), scale=8, border=4)
        except OSError as error:
            raise StoreError(f"{qr_file}: cannot be written ({error.strerror})") from error
    drawn = io.StringIO()
    picture.terminal(out=drawn, compact=True)
    local = (
        "\nThe hub says that it is found on this machine only: set http.origin for devices elsewhere."
        if code.address.startswith(_LOCAL)
        else ""
    )
    text = f"""\
{what}

{drawn.getvalue()}
  Code   {code}
  Hub    {code.address}
  Root   {code.fingerprint.hex(":")} (SHA-256, first half)
  Doors  {", ".join(made["doors"])}
  Until  {made["expires_at"]}
{local}
Whoever has the code first has the place: give it to nobody else. It works once.

Next, on the device:
  sudo -u drempel drempel-edge enrol {code}"""
    command.say(form, made, text)


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
