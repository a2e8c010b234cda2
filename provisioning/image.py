"""The boot partition of a card with Raspberry Pi OS Lite: what makes the machine that starts from it a controller.

Facts about the images, by the documents that state them: Trixie's carry cloud-init and read ``user-data``, ``meta-data``
and ``network-config`` from the boot partition (Raspberry Pi, "Cloud-init on Raspberry Pi OS"); Bookworm's run what
``systemd.run=`` names (systemd, kernel-command-line(7)); both enlarge the root at the first start because of a word in
``cmdline.txt`` (Raspberry Pi OS image builder).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from pacs.enrolment import EnrolmentCode
from pacs.errors import MalformedData, StoreError
from pacs.identifiers import ControllerId
from pacs.release import NEWEST, Release
from provisioning.image_network import FixedAddress, network_config
from provisioning.keystore import read_file

FOLDER: Final = "drempel"
"""On the boot partition, which is mounted at /boot/firmware."""
_WHERE: Final = f"/boot/firmware/{FOLDER}"
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?", re.ASCII)
_URL: Final = re.compile(r"https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?", re.ASCII)
_TIME: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d", re.ASCII)
_SSH_KEY: Final = re.compile(
    r"(ssh-ed25519|ecdsa-sha2-nistp256|sk-ssh-ed25519@openssh\.com|ssh-rsa) [A-Za-z0-9+/=]+( [^\n]*)?"
)
_CONFIG_BEGIN: Final = "# drempel: begin"
_CONFIG_END: Final = "# drempel: end"
_STRIKE_LINE: Final = re.compile(r"^gpio=\d+=op,dl\n", re.MULTILINE)
TPM_PINS: Final = frozenset(range(7, 12))
_TPM_LINE: Final = re.compile(r"^# (dtparam=spi=on|dtoverlay=tpm-slb9670)$", re.MULTILINE)
_FIRST_RUN: Final = f"""\
#!/bin/sh
# The first start of a controller. Where it fails the machine is switched off, and the next start tries again.
sh {_WHERE}/first-boot.sh || exit 1
sed -i 's| systemd\\.[^ ]*||g' /boot/firmware/cmdline.txt
rm -f /boot/firmware/firstrun.sh
"""
# systemd: kernel-command-line(7). A failure's action is "exit", which ends in power off.
_RUN_FIRST: Final = (
    "systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot "
    "systemd.unit=kernel-command-line.target"
)
_TAKEN_OUT: Final = (
    re.compile(r"console=(serial0|ttyAMA\d+|ttyS\d+)(,\S+)?"),  # the line is the reader's
    re.compile(
        r"resize|init=/usr/lib/raspberrypi-sys-mods/firstboot|init=/usr/lib/raspi-config/init_resize\.sh"
    ),
    re.compile(r"systemd\.(run|run_success_action|run_failure_action|unit)=\S*"),
)


@unique
class System(StrEnum):
    """A release of Raspberry Pi OS Lite, 64 bit."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """What the site decides about one controller's machine. Raises ``MalformedData`` naming what cannot be.

    ``hub_ports``: TCP ports that the controller may reach; ``ntp``: asked first, ``ntp_fallback`` where they do not
    answer; ``fixed``: the machine's own address, None: by DHCP; ``updates``: the https address of releases, None: no updates; ``ssh_keys``: public keys of the technician,
    none: no log-in at all; ``strike_pins``: BCM numbers that are low from power-on; ``tpm``: one sits on the header
    (SLB 9670, SPI), which no strike may be wired to then; ``update_at`` and
    ``maintenance_at``: ``HH:MM`` in UTC; ``root_mib``: the size of the root in MiB.
    """

    controller: ControllerId
    ntp: tuple[str, ...]
    ntp_fallback: tuple[str, ...]
    hub_ports: tuple[int, ...] = (443, 8_883)
    fixed: FixedAddress | None = None
    updates: str | None = None
    ssh_keys: tuple[str, ...] = ()
    strike_pins: tuple[int, ...] = (17,)
    tpm: bool = False
    update_at: str = "02:00"
    maintenance_at: str = "03:00"
    root_mib: int = 6_144

    def __post_init__(self) -> None:
        if not all(map(_HOST.fullmatch, (*self.ntp, *self.ntp_fallback))):
            raise MalformedData("image: a time server is a host name or an address")
        if not self.ntp_fallback:
            raise MalformedData("image: name a time server for when the hub does not answer")
        if not self.hub_ports or not all(0 < port < 65_536 for port in self.hub_ports):
            raise MalformedData("image: the hub's ports are from 1 to 65535")
        if self.updates is not None and not _URL.fullmatch(self.updates):
            raise MalformedData("image: updates come from an https:// address without a query")
        if not all(map(_SSH_KEY.fullmatch, self.ssh_keys)):
            raise MalformedData("image: an OpenSSH public key on one line expected")
        if not self.strike_pins or not all(2 <= pin <= 27 for pin in self.strike_pins):
            raise MalformedData("image: a strike's pin is a BCM number from 2 to 27")
        if self.tpm and not TPM_PINS.isdisjoint(self.strike_pins):
            raise MalformedData("image: a TPM takes pins 7 to 11; wire the strike to another")
        if not (_TIME.fullmatch(self.update_at) and _TIME.fullmatch(self.maintenance_at)):
            raise MalformedData("image: a time of day such as 03:00 expected")
        if not 4_096 <= self.root_mib <= 65_536:
            raise MalformedData("image: a root of 4096 to 65536 MiB expected")

    def as_shell(self, release: Release) -> str:
        """Assignments for first-boot.sh and install.sh; every value was checked to be harmless between quotes."""
        # A host's name has no underscore (RFC 1123 §2.1).
        values = {
            "CONTROLLER": str(self.controller),
            "HOSTNAME": self.hostname,
            "VERSION": str(release.version),
            "NTP": " ".join(self.ntp),
            "NTP_FALLBACK": " ".join(self.ntp_fallback),
            "HUB_PORTS": ", ".join(map(str, self.hub_ports)),
            "UPDATES": self.updates or "",
            "UPDATE_AT": self.update_at,
            "MAINTENANCE_AT": self.maintenance_at,
            "SSH": "yes" if self.ssh_keys else "no",
            "ROOT_MIB": str(self.root_mib),
        }
        return "".join(f"DREMPEL_{name}='{value}'\n" for name, value in values.items())

    @property
    def hostname(self) -> str:
        """The machine's name: the controller's id, as far as RFC 1123 §2.1 has it."""
        return str(self.controller).replace("_", "-").strip("-").lower() or "drempel"


def system_of(boot: Path) -> System:
    """Which system's boot partition this is; raises ``StoreError`` when it is none."""
    for name in ("cmdline.txt", "config.txt"):
        if not (boot / name).is_file():
            raise StoreError(
                f"{boot}: no {name}; name the first partition of a card with Raspberry Pi OS Lite, mounted here"
            )
    return System.TRIXIE if (boot / "user-data").exists() else System.BOOKWORM


def command_line(text: str, system: System) -> str:
    """``cmdline.txt`` for the first start: one line, without a console on the reader's line and without a larger root."""
    words = [word for word in text.split() if not any(pattern.fullmatch(word) for pattern in _TAKEN_OUT)]
    if not any(word.startswith("root=") for word in words):
        raise MalformedData("cmdline.txt: names no root")
    return " ".join([*words, *([_RUN_FIRST] if system is System.BOOKWORM else [])]) + "\n"


def config_text(text: str, fragment: str, strike_pins: Sequence[int], *, tpm: bool = False) -> str:
    """``config.txt`` with our fragment at its end, in place of an earlier one."""
    kept = re.sub(rf"\n*{_CONFIG_BEGIN}\n.*?{_CONFIG_END}\n", "\n", text, flags=re.DOTALL)
    strikes = "".join(f"gpio={pin}=op,dl\n" for pin in strike_pins)
    own, count = _STRIKE_LINE.subn(strikes, fragment)
    if count != 1:
        raise MalformedData("config.txt of the release: one line gpio=…=op,dl expected")
    if tpm:
        own, count = _TPM_LINE.subn(r"\1", own)
        if count != 2:
            raise MalformedData("config.txt of the release: two lines for a TPM expected")
    return f"{kept.rstrip()}\n\n{_CONFIG_BEGIN}\n{own.rstrip()}\n{_CONFIG_END}\n"


def user_data(settings: ImageSettings) -> str:
    """cloud-init's user-data (JSON is YAML): no user but the service's, no password, and our first start until it has succeeded.

    ``bootcmd`` runs at every start; the first that succeeds switches cloud-init off.
    """
    run = f"sh {_WHERE}/first-boot.sh && systemctl --no-block reboot || systemctl --no-block poweroff"
    # Whoever is named here is made in place of the image's own first user.
    service = {"name": "drempel", "system": True, "lock_passwd": True, "no_create_home": True}
    service |= {"homedir": "/var/lib/drempel", "shell": "/usr/sbin/nologin"}
    document = {
        "hostname": settings.hostname,
        "manage_etc_hosts": False,
        "timezone": "Etc/UTC",
        "users": [service],
        "disable_root": True,
        "ssh_pwauth": False,
        "bootcmd": [["sh", "-c", run]],
    }
    return "#cloud-config\n" + json.dumps(document, indent=2) + "\n"


def boot_files(
    settings: ImageSettings,
    system: System,
    *,
    found: Mapping[str, str],
    release: Release,
    firmware: Mapping[str, bytes],
    secrets: Mapping[str, bytes],
    shipped: Mapping[str, bytes],
) -> dict[str, bytes]:
    """Every file of the boot partition that is written, by its path there.

    ``found``: its cmdline.txt and config.txt; ``firmware``: the release's ``firmware_config``; ``secrets``: what makes
    it this controller, below ``drempel/``; ``shipped``: archive, manifest and release key by name. Raises
    ``MalformedData``.
    """
    ours = {**shipped, "first-boot.sh": firmware["first-boot.sh"]}
    ours["settings"] = settings.as_shell(release).encode()
    if settings.ssh_keys:
        ours["authorized_keys"] = "".join(f"{key}\n" for key in settings.ssh_keys).encode()
    if settings.fixed is not None:
        ours["network.nmconnection"] = settings.fixed.keyfile.encode()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(ours.items()))
    files = {f"{FOLDER}/{name}": data for name, data in (ours | dict(secrets)).items()}
    files[f"{FOLDER}/SHA256SUMS"] = sums.encode()
    fragment = firmware["config.txt"].decode("utf-8")
    files["config.txt"] = config_text(
        found["config.txt"], fragment, settings.strike_pins, tpm=settings.tpm
    ).encode()
    files["cmdline.txt"] = command_line(found["cmdline.txt"], system).encode()
    if system is System.BOOKWORM:
        files["firstrun.sh"] = _FIRST_RUN.encode()
    else:
        files["user-data"] = user_data(settings).encode()
        files["meta-data"] = f"dsmode: local\ninstance-id: drempel-{settings.hostname}\n".encode()
        files["network-config"] = network_config(settings.fixed).encode()
    return files


def check_code(text: str) -> EnrolmentCode:
    """The one-time code as somebody typed it; raises ``MalformedData`` that says what is wrong with it."""
    code = EnrolmentCode.parse(text)
    if not code.address.startswith("https:"):
        raise MalformedData(
            "enrolment code: its hub is found on the hub's own machine only; set http.origin there, and make another code"
        )
    return code


def controller_files(directory: Path) -> dict[str, bytes]:
    """The files of a controller's directory, for a card that needs no code; raises ``StoreError``.

    The state is where the card has its partition for it.
    """
    if not (directory / "controller.toml").is_file():
        raise StoreError(
            f"{directory}: no such controller; give its --code, or make it with `reader add --offline`"
        )
    files = {path.name: read_file(path) for path in sorted(directory.iterdir()) if path.is_file()}
    configuration = files["controller.toml"]
    files["controller.toml"] = configuration.replace(
        b'state_dir = "state"', b'state_dir = "/var/lib/drempel"'
    )
    return {f"controller/{name}": data for name, data in files.items()}


def write_boot(boot: Path, files: Mapping[str, bytes]) -> None:
    """Write the files, the ones that a start begins with last, so that a card pulled out too early starts as it was.

    Raises ``StoreError``.
    """
    last = ("config.txt", "cmdline.txt", "user-data", "firstrun.sh")
    try:
        for name in sorted(files, key=lambda name: (name in last, name)):
            path = boot / name
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f"{path.name}.new")
            with temporary.open("wb") as file:
                file.write(files[name])
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{error.filename or boot}: cannot be written ({error.strerror})") from error


def shipped_files(directory: Path, release: Release, public_key: Path) -> dict[str, bytes]:
    """Archive, manifest and release key, by the names they have on the card; raises ``StoreError``."""
    return {
        release.archive_name: read_file(directory / release.archive_name),
        NEWEST: read_file(directory / NEWEST),
        "release.pub.pem": read_file(public_key),
    }
