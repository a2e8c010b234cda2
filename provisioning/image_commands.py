"""``drempel-provision image``: a card that makes a blank Pi a controller."""

from __future__ import annotations

import tarfile
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click

from pacs.errors import MalformedData
from pacs.identifiers import ControllerId
from pacs.release import NEWEST
from provisioning import command
from provisioning.image import (
    ImageSettings,
    System,
    boot_files,
    check_code,
    controller_files,
    shipped_files,
    system_of,
    write_boot,
)
from provisioning.image_network import FixedAddress
from provisioning.keystore import read_file
from provisioning.releases import open_release
from provisioning.site import LOOPBACK, Site

_HTTPS_PORT: Final = 443
_BROKER_PORT: Final = 8_883
_FIRMWARE: Final = ("first-boot.sh", "config.txt")


@click.group("image")
def image_group() -> None:
    """The card a controller starts from."""


@image_group.command(
    "config",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision image config --site-dir wilgenoord --controller c-front --code "$CODE" \\
      --release build --release-key release-key/release.pub.pem --out /media/bootfs \\
      --address 10.0.0.5/24 --gateway 10.0.0.1 --dns 10.0.0.2
  drempel-provision image config --site-dir wilgenoord --controller c-front --release build \\
      --release-key release-key/release.pub.pem --out /media/bootfs --dry-run
""",
)
@command.site_dir_option
@click.option(
    "--controller", required=True, callback=command.parsed(ControllerId), help="The controller's id."
)
@click.option("--code", help="The one-time code; without it the keys made by `reader add` go onto the card.")
@click.option(
    "--release",
    "shelf",
    type=command.directory_path,
    required=True,
    help="Directory with newest.manifest and its archive.",
)
@click.option(
    "--release-key", type=command.file_path, required=True, help="The release key's public half (PEM)."
)
@click.option(
    "--out",
    "boot",
    type=command.directory_path,
    required=True,
    help="The card's first partition, mounted; or a copy of its files.",
)
@click.option(
    "--os",
    "system",
    type=click.Choice([system.value for system in System]),
    help="Of the image that was written.  [told by its files]",
)
@click.option(
    "--ntp", multiple=True, help="Time servers, the first first.  [the code's hub, else the site's]"
)
@click.option(
    "--ntp-fallback",
    multiple=True,
    default=("2.debian.pool.ntp.org",),
    show_default=True,
    help="Where those do not answer.",
)
@click.option(
    "--hub-port",
    "hub_ports",
    type=click.IntRange(1, 65_535),
    multiple=True,
    help="TCP ports of the hub that the firewall lets the controller reach.  [8883 and the code's, else 443]",
)
@click.option(
    "--address", metavar="ADDRESS/LENGTH", help="The machine's own, such as 10.0.0.5/24.  [by DHCP]"
)
@click.option("--gateway", help="With --address: the way to other networks, such as to the hub's.")
@click.option("--dns", multiple=True, help="With --address: the name servers.")
@click.option("--updates", metavar="URL", help="Where releases lie; without it the program is never updated.")
@click.option(
    "--ssh-key", type=command.file_path, help="A technician's public key; without it nobody logs in."
)
@click.option(
    "--strike-pin",
    "strike_pins",
    type=int,
    multiple=True,
    help="BCM numbers, low from power-on.  [those of controller.toml, else 17]",
)
@click.option("--tpm", is_flag=True, help="A TPM (SLB 9670) sits on the header, on pins 7 to 11.")
@click.option("--update-at", default="02:00", show_default=True, help="UTC.")
@click.option(
    "--maintenance-at", default="03:00", show_default=True, help="UTC; the machine may restart then."
)
@click.option("--root-mib", type=int, default=6_144, show_default=True, help="Size of the read-only root.")
@command.dry_run_option
@command.format_option
@command.explained
def image_config(
    *,
    site_dir: Path,
    controller: ControllerId,
    code: str | None,
    shelf: Path,
    release_key: Path,
    boot: Path,
    system: str | None,
    ntp: tuple[str, ...],
    ntp_fallback: tuple[str, ...],
    hub_ports: tuple[int, ...],
    address: str | None,
    gateway: str | None,
    dns: tuple[str, ...],
    updates: str | None,
    ssh_key: Path | None,
    strike_pins: tuple[int, ...],
    tpm: bool,
    update_at: str,
    maintenance_at: str,
    root_mib: int,
    dry_run: bool,
    form: str,
) -> None:
    """Write onto a card with Raspberry Pi OS Lite what makes its first start a controller's, without hand work.

    The release is proven before it is written. Doing it again replaces what it wrote.
    """
    if address is None and (gateway or dns):
        raise click.UsageError("--gateway and --dns belong to --address; DHCP gives them otherwise")
    site, made_here = Site.open(site_dir), site_dir / "controllers" / controller
    checked = check_code(code) if code else None
    hub = urlsplit(checked.address if checked else "")
    secrets = {"code": f"{checked}\n".encode()} if checked else controller_files(made_here)
    settings = ImageSettings(
        controller=controller,
        ntp=ntp or tuple(host for host in (hub.hostname or site.broker_host,) if host not in LOOPBACK),
        ntp_fallback=ntp_fallback,
        hub_ports=hub_ports or (hub.port or _HTTPS_PORT, _BROKER_PORT),
        fixed=FixedAddress.parse(address, gateway, dns) if address else None,
        updates=updates,
        ssh_keys=tuple(read_file(ssh_key).decode("utf-8").strip().splitlines()) if ssh_key else (),
        strike_pins=strike_pins or _strike_pins(secrets) or (17,),
        tpm=tpm,
        update_at=update_at,
        maintenance_at=maintenance_at,
        root_mib=root_mib,
    )
    release = open_release(shelf / NEWEST, release_key)
    found = system_of(boot)
    files = boot_files(
        settings,
        System(system) if system else found,
        found={name: read_file(boot / name).decode("utf-8") for name in ("cmdline.txt", "config.txt")},
        release=release,
        firmware=_firmware(shelf / release.archive_name),
        secrets=secrets,
        shipped=shipped_files(shelf, release, release_key),
    )
    if not dry_run:
        with command.audited(
            site, "image config", controller=controller, release=str(release.version), enrols=code is not None
        ):
            write_boot(boot, files)
    result = {
        "controller": controller,
        "release": str(release.version),
        "os": system or found.value,
        "files": sorted(files),
        "enrols": code is not None,
        "made": not dry_run,
    }
    names = [f"  {name}  ({len(files[name])} bytes)" for name in sorted(files)]
    text = "\n".join([f"{'Would write' if dry_run else 'Wrote'} onto {boot}:", *names])
    secret = "the code" if code else "the controller's private keys"
    text += f"\n\nThe card holds {secret} until its first start. Next:\n  put it into the Pi and switch on; "
    text += f"it restarts by itself, and is {settings.hostname}\n"
    text += "  where it does not come up: drempel/first-boot.log on this partition says why"
    command.say(form, result, text)


def _strike_pins(secrets: dict[str, bytes]) -> tuple[int, ...]:
    """Those of the configuration that goes onto the card, if one does."""
    try:
        table = tomllib.loads(secrets.get("controller/controller.toml", b"").decode("utf-8"))
        return tuple(door["strike_pin"] for door in table.get("door", []))
    except (ValueError, KeyError, TypeError) as error:
        raise MalformedData(f"controller.toml: not a controller's configuration ({error})") from error


def _firmware(archive: Path) -> dict[str, bytes]:
    """The files of a proven release that its first start begins with."""
    found = {}
    with tarfile.open(archive, "r:gz") as members:
        for name in _FIRMWARE:
            try:
                source = members.extractfile(f"firmware_config/{name}")
            except KeyError as error:
                raise MalformedData(f"{archive.name}: no firmware_config/{name} in it") from error
            found[name] = source.read() if source else b""
    return found
