"""A Debian of its own made a controller by its first start, and started: systemd as process 1, read-only root.

Slow, and needs root and the archive of Debian: ``make image-test``. ``DEBIAN=trixie`` takes the newer one, and
``IMAGE_ARCH=arm64`` the Pi's own: every instruction of the machine is then one that a Cortex-A53 has, emulated.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge.status_socket import ask
from edge.updating.trial import Releases
from pacs.errors import PacsError
from pacs.release import NEWEST, Version, archive_name
from provisioning.cli import main
from provisioning.image import System
from provisioning.site import Site
from simulator import pseudo_terminal
from simulator.card_deck import Recipe, deal
from simulator.link_faults import LinkOptions, card_on_link
from simulator.pn532 import VirtualPn532
from tests.edge.installed import install, keep_documents
from tests.edge.small_site import CONTROLLER, RESIDENT
from tests.firmware_config.card import ROOT, boot_partition
from tests.firmware_config.debian import (
    ARCH,
    CAN_RUN,
    EMULATED,
    LACKS,
    PROCESSOR,
    PYTHON,
    SYSTEM,
    UNSHARED,
    disk,
    fetched,
    run,
)
from tests.firmware_config.debian_archive import PROBE, archive, package

WANTED = "DREMPEL_IMAGE_TEST"
READER = "/dev/ttyUSB9"
PATIENCE_S = 600 if EMULATED else 120
TOOLS = ("debootstrap", "systemd-nspawn", "nsenter", "sfdisk", "losetup")
pytestmark = [
    pytest.mark.skipif(
        WANTED not in os.environ, reason="NOT CHECKED: a machine started from scratch; make image-test"
    ),
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root can start a machine"),
    pytest.mark.skipif(
        not all(map(shutil.which, TOOLS)), reason=f"NOT CHECKED: {', '.join(TOOLS)} needed (tools/system.sh)"
    ),
    pytest.mark.skipif(
        not CAN_RUN,
        reason=f"NOT CHECKED: this kernel is not told how to run {ARCH} (tools/system.sh)",
    ),
    pytest.mark.skipif(
        EMULATED and SYSTEM is System.TRIXIE,
        reason="NOT CHECKED: Debian 13's systemd starts no service in Debian 12's emulator (qemu-user 7.2)",
    ),
    pytest.mark.timeout(900 + PATIENCE_S),
]


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end_s, f"after {patience_s} s still not: {what}"
        time.sleep(0.2)


@dataclass
class Machine:
    """A started container, and what stands outside of it."""

    root: Path
    data: Path
    shelf: Path
    site: Site
    reader: VirtualPn532
    key: Path
    process: subprocess.Popen[bytes]

    def inside(self, *command: str) -> str:
        """What a command says in the running machine."""
        return run(
            "nsenter",
            "--target",
            str(self.leader),
            "--all",
            "/usr/bin/env",
            "-i",
            "PATH=/usr/sbin:/usr/bin",
            *(f"{name}={value}" for name, value in PROCESSOR.items()),
            *command,
        )

    @property
    def leader(self) -> int:
        """Its process 1, by this machine's number."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(PacsError):
            return ask(self.data / "state")
        return {}

    def door(self) -> str:
        return str(next((door["strike"] for door in self.status().get("doors", [])), "unknown"))

    def tap(self) -> None:
        """A resident's card opens the door, and it is locked again after."""
        until(lambda: self.door() == "locked", "the strike locked")
        today = datetime.now(UTC).date()
        recipe = Recipe(
            issuer_key=self.site.card_issuer_key(self.site.passphrase()),
            issuer=self.site.issuer,
            credential_id=RESIDENT,
            valid_from=today - timedelta(days=1),
            valid_until=today + timedelta(days=300),
            today=today,
        )
        self.reader.insert(card_on_link(deal("genuine", recipe), LinkOptions()))
        try:
            until(lambda: self.door() == "released", "the strike released")
        finally:
            self.reader.remove()

    def publish(
        self, version: str, change: Callable[[str, bytes], bytes] = lambda _, content: content
    ) -> None:
        """Put a newer release onto the shelf: the first one's files under another version, some of them changed."""
        first = next(self.shelf.glob("drempel-0.*.tar.gz"))
        old = first.name.removeprefix("drempel-").removesuffix(".tar.gz")
        made = io.BytesIO()
        with (
            tarfile.open(first, "r:gz") as source,
            gzip.GzipFile(fileobj=made, mode="wb", compresslevel=1) as compressed,
            tarfile.open(fileobj=compressed, mode="w") as target,
        ):
            for member in source:
                file = source.extractfile(member)
                content = change(member.name, file.read() if file else b"")
                if f"drempel-{old}.dist-info" in member.name:
                    member.name = member.name.replace(old, version)
                    content = content.replace(f"Version: {old}".encode(), f"Version: {version}".encode())
                member.size = len(content)
                target.addfile(member, io.BytesIO(content))
        archive = self.shelf / archive_name(Version.parse(version))
        archive.write_bytes(made.getvalue())
        provision("release", "seal", archive, "--key-dir", self.key)


def provision(*arguments: str | Path) -> None:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the card's three partitions mounted in it: boot, root with a Debian, data as prepare-disk.sh makes it."""
    directory = tmp_path_factory.mktemp("machine")
    with (
        disk(directory / "boot", 128),
        disk(directory / "root", 2048),
        disk(directory / "data", 1024, options="noatime,data=journal,commit=1", journal_mib=64),
    ):
        run("cp", "-a", f"{fetched()}/.", directory / "root")
        yield directory


@pytest.fixture(scope="module")
def machine(disks: Path) -> Iterator[Machine]:
    """The first start has run, and the machine has been started from what it left."""
    directory = disks
    shelf, key, boot = directory / "shelf", directory / "key", boot_partition(directory / "boot", SYSTEM)
    run(
        sys.executable,
        "-m",
        "tools.release",
        "--out",
        shelf,
        "--python",
        PYTHON,
        *([] if ARCH == "arm64" else ["--platform", "here"]),
        cwd=ROOT,
    )
    provision("release", "key", key)
    provision("release", "seal", next(shelf.glob("*.tar.gz")), "--key-dir", key)

    site = install(directory)
    controllers = site.directory / "controllers"
    controllers.mkdir(exist_ok=True)
    (directory / "controller").rename(controllers / CONTROLLER)
    configuration = controllers / CONTROLLER / "controller.toml"
    configuration.write_text(configuration.read_text().replace(str(directory / "reader"), READER))
    given: list[str | Path] = [
        "--site-dir",
        site.directory,
        "--controller",
        CONTROLLER,
        "--release",
        shelf,
        "--out",
        boot,
    ]
    provision(
        "image",
        "config",
        *given,
        "--release-key",
        key / "release.pub.pem",
        "--updates",
        "https://updates.example",
        "--ntp",
        "hub.example",
    )

    root, data = directory / "root", directory / "data"
    (root / "data").mkdir()
    archives = directory / "archives"
    archives.mkdir()
    package(archives, "1.0")
    run("cp", archives / f"{PROBE}_1.0_all.deb", root / "srv")
    (root / "boot/firmware").mkdir(parents=True)
    binds = [f"--bind={boot}:/boot/firmware", f"--bind={data}:/data"]
    quiet = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", f"--directory={root}", *binds]
    quiet += [f"--setenv={name}={value}" for name, value in PROCESSOR.items()]
    for _ in range(2):  # the second time as after a power cut at its very end
        try:
            run(*quiet, "--setenv=DREMPEL_DATA=/data", "/bin/sh", "/boot/firmware/drempel/first-boot.sh")
        except AssertionError as error:
            raise AssertionError((boot / "drempel/first-boot.log").read_text()) from error
    run(*quiet, "/usr/bin/dpkg", "--install", f"/srv/{PROBE}_1.0_all.deb")
    (root / "etc/apt/sources.list").write_text(
        "".join(f"deb [trusted=yes] copy:/srv/archives/{name} ./\n" for name in ("security", "other"))
    )
    keep_documents(site, data, issued_at=datetime.now(UTC))
    shutil.rmtree(data / "state/state", ignore_errors=True)
    run("chown", "-R", "--reference", data / "state", data / "state")
    (root / "srv/shelf").mkdir()
    (root / "srv/archives").mkdir()
    (root / "usr/local/lib/drempel/update.env").write_text("DREMPEL_UPDATES=/srv/shelf\n")
    for unit, lines in {
        "drempel-trial.service": "ExecStart=\nExecStart=/usr/bin/python3 -I -S /usr/local/lib/drempel/trial.py run --settled-s 5\n",
        "drempel-edge.service": "DeviceAllow=char-pts rw\n",  # the reader is a pseudo-terminal
    }.items():
        put = root / "etc/systemd/system" / f"{unit}.d" / "test.conf"
        put.parent.mkdir(exist_ok=True)
        put.write_text(f"[Service]\n{lines}")
    if EMULATED:
        put = root / "etc/systemd/system/drempel-.service.d/emulated.conf"
        put.parent.mkdir()
        put.write_text(UNSHARED)
    put = root / "etc/systemd/system.conf.d/test.conf"
    put.parent.mkdir(exist_ok=True)
    put.write_text(
        "[Manager]\n" + "".join(f"DefaultEnvironment={name}={value}\n" for name, value in PROCESSOR.items())
    )
    run("mount", "-o", "remount,ro", root)
    with pytest.MonkeyPatch.context() as patch, VirtualPn532() as reader:
        if EMULATED:  # the emulator hands 921,600 baud on to this kernel as none
            patch.setitem(pseudo_terminal._SPEEDS, termios.B0, 921_600)
        Path(reader.path).chmod(0o666)
        outside = [
            f"--bind={reader.path}:{READER}",
            f"--bind-ro={shelf}:/srv/shelf",
            f"--bind-ro={archives}:/srv/archives",
        ]
        started = [*quiet, *outside, "--read-only", "--private-network", "--boot"]
        with (directory / "console.log").open("wb") as console:
            process = subprocess.Popen(started, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        machine = Machine(root, data, shelf, site, reader, key, process)
        try:
            try:
                until(lambda: bool(machine.status().get("readers")), "the controller started")
            except AssertionError as error:
                raise AssertionError(machine.inside("journalctl", "-n", "40", "-u", "drempel-*")) from error
            yield machine
        finally:
            (ROOT / "build" / "image-console.log").write_bytes((directory / "console.log").read_bytes())
            leader = machine.leader
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
                os.kill(leader, signal.SIGKILL)  # and with it everything in the machine


def test_a_card_opens_the_door(machine: Machine) -> None:
    """Started from nothing but its card's boot partition: a tap at the emulated PN532 releases the strike."""
    machine.tap()


def test_nothing_has_failed_and_the_root_cannot_be_written(machine: Machine) -> None:
    """Every unit that the installer turned on does what it is for on a read-only root."""
    failed = machine.inside("systemctl", "--failed", "--no-legend", "--plain").splitlines()
    assert {line.split(".service")[0] for line in failed} <= LACKS
    with pytest.raises(AssertionError, match="Read-only file system"):
        machine.inside("touch", "/etc/written")
    for unit in {"drempel-edge", "nftables", "drempel-trial-start"} - LACKS:
        assert machine.inside("systemctl", "is-active", f"{unit}.service") == "active\n"
    if "nftables" not in LACKS:
        assert "policy drop" in machine.inside("nft", "list", "chain", "inet", "drempel", "input")
    assert machine.inside("journalctl", "--header").count("/run/log/journal") > 0
    assert machine.inside("systemctl", "is-enabled", "systemd-timesyncd") == "enabled\n"  # not in a container
    assert "NTP=hub.example\n" in machine.inside("cat", "/etc/systemd/timesyncd.conf.d/50-drempel.conf")


IMPORTS = """
import importlib, pkgutil, platform, sys
sys.path.insert(0, f"/opt/drempel/current/lib/{sys.version_info[0]}.{sys.version_info[1]}")
for found in pkgutil.iter_modules(sys.path[:1]):
    if found.name != "libusb1":  # the library for readers on USB that are no serial line
        importlib.import_module(found.name)
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
generate_private_key(SECP256R1())
print(platform.machine())
"""


def test_every_package_of_the_release_can_be_imported_on_the_processor_it_is_for(machine: Machine) -> None:
    """By the system's Python, compiled parts included."""
    said = machine.inside("python3", "-I", "-c", IMPORTS)
    assert said == {"amd64": "x86_64", "arm64": "aarch64"}[ARCH] + "\n"


def test_the_technicians_commands_find_the_controller_well(machine: Machine) -> None:
    """What doctor calls failed is the hub that is not there, and the door that stands open on mock pins."""
    program = ["runuser", "-u", "drempel", "--", "/opt/drempel/current/bin/drempel-edge"]
    where = ["--config", "/etc/drempel/controller.toml"]
    machine.inside(*program, "check-config", *where)
    said = machine.inside("sh", "-c", f"{' '.join(program)} doctor {' '.join(where)} --format json || true")
    failed = {finding["check"] for finding in json.loads(said)["findings"] if finding["level"] == "fail"}
    assert failed <= {"broker_tcp", "pins"}, said


def test_no_account_opens_and_no_secret_is_left_on_the_card(machine: Machine) -> None:
    """What anybody can read of the card has no key on it any more."""
    shadow = machine.inside("cat", "/etc/shadow").splitlines()
    assert all(line.split(":")[1].startswith(("!", "*")) for line in shadow)
    assert "controller" not in machine.inside("ls", "/boot/firmware/drempel").split()
    owner = machine.inside("stat", "-c", "%U %a", "/etc/drempel/device.key.pem", "/etc/drempel")
    assert owner == "drempel 600\ndrempel 700\n"


def test_what_was_installed_is_what_the_installer_would_install(machine: Machine) -> None:
    """Run again in the machine, dry, it finds nothing to do but what this test put beside it."""
    settings = "/boot/firmware/drempel/settings"
    script = "/opt/drempel/current/firmware_config/install.sh"
    said = machine.inside("sh", script, "--settings", settings, "--dry-run").splitlines()
    assert said == ["write /usr/local/lib/drempel/update.env"]


def releases(machine: Machine) -> Releases:
    return Releases(machine.data / "releases")


def test_a_sound_release_holds_and_the_door_opens(machine: Machine) -> None:
    """Fetched, proven and tried by the real units; the one before is kept."""
    machine.publish("0.8.1")
    machine.inside("systemctl", "start", "drempel-update.service")
    until(lambda: releases(machine).linked("current") == "0.8.1", "the release switched to")
    until(lambda: not (machine.data / "releases/trial.json").exists(), "the trial over")
    assert releases(machine).linked("current") == "0.8.1"
    assert releases(machine).linked("previous") is not None
    machine.tap()


def broken(name: str, content: bytes) -> bytes:
    """A controller that says its version, and ends as soon as it is to run."""
    if name.endswith("edge/run_command.py"):
        return b"raise SystemExit('broken')\n"
    return content


def test_a_broken_release_is_gone_back_from_and_the_door_opens(machine: Machine) -> None:
    """It crashes at its start; the one before runs again without anybody's help, and the version is remembered."""
    before = releases(machine).linked("current")
    machine.publish("0.8.2", broken)
    machine.inside("systemctl", "start", "drempel-update.service")
    until(lambda: "0.8.2" in releases(machine).refused(), "the release given up")
    until(lambda: not (machine.data / "releases/trial.json").exists(), "the trial over")
    assert releases(machine).linked("current") == before
    until(lambda: bool(machine.status().get("readers")), "the controller running again")
    machine.tap()
    machine.inside("systemctl", "start", "drempel-update.service")
    assert "given up" in machine.inside("journalctl", "--unit", "drempel-update", "--output", "cat")


def test_what_the_archive_was_is_refused_when_it_is_changed(machine: Machine) -> None:
    """By the unit as it runs, without its privileges: nothing is laid down, and the service says so."""
    machine.publish("0.8.3")
    archive = machine.shelf / "drempel-0.8.3.tar.gz"
    content = bytearray(archive.read_bytes())
    content[1000] ^= 1
    archive.write_bytes(content)
    with pytest.raises(AssertionError):
        machine.inside("systemctl", "start", "drempel-update.service")
    said = machine.inside("journalctl", "--unit", "drempel-update", "--output", "cat")
    assert "not the archive that was signed" in said
    assert not releases(machine).is_whole("0.8.3")
    assert (machine.shelf / NEWEST).exists()


def written_bytes(machine: Machine) -> int:
    """To the block device below the data partition, its journal included."""
    device = Path(run("findmnt", "--noheadings", "--output", "SOURCE", machine.data).strip()).name
    return int(Path(f"/sys/block/{device}/stat").read_text().split()[6]) * 512


def test_how_much_is_written_to_the_card(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """Printed: by a minute in which nobody comes, and by each tap; none of it is more than a card bears for years."""
    run("sync", "--file-system", machine.data)
    before, until_s = written_bytes(machine), time.monotonic() + 60
    until(lambda: time.monotonic() > until_s, "a minute", 120)
    run("sync", "--file-system", machine.data)
    idle = written_bytes(machine) - before
    began_s, taps = time.monotonic(), 20
    for _ in range(taps):
        machine.tap()
    run("sync", "--file-system", machine.data)
    minutes = (time.monotonic() - began_s) / 60
    tap = (written_bytes(machine) - before - idle * (1 + minutes)) / taps
    with capsys.disabled():
        print(f"\nwritten: {idle / 1024:.0f} KiB in a minute without a tap, {tap / 1024:.0f} KiB by each tap")  # noqa: T201
    assert idle * 60 * 24 + tap * 2_000 < 4 * 2**30  # a day with 2,000 taps at this door


def security_update(machine: Machine, version: str, script: str) -> None:
    """Debian's archive of security updates has this version of the probe, another archive a newer one."""
    archives = machine.shelf.parent / "archives"
    made = package(archives, version, script=script)
    archive(archives / "security", [made], codename=f"{SYSTEM}-security", label="Debian-Security")
    other = package(archives, f"9.{version}")
    archive(archives / "other", [other], codename="other", label="Other")


def installed(machine: Machine) -> str:
    return machine.inside("dpkg-query", "-W", "-f", "${Status} ${Version}", PROBE)


OPENS = pytest.mark.skipif(
    EMULATED,
    reason="NOT CHECKED: the emulator cannot enter the machine's mount namespace; the other machine does",
)


def night(machine: Machine) -> str:
    """The window's hour comes: what the services said."""
    with contextlib.suppress(AssertionError):
        machine.inside("systemctl", "start", "drempel-maintenance.service")
    return machine.inside(
        "journalctl", "--output=cat", "-n", "60", "-u", "drempel-fetch", "-u", "drempel-maintenance"
    )


def is_closed(machine: Machine) -> bool:
    """Whether the root is read-only for everybody, as it was before the window."""
    table = Path(f"/proc/{machine.leader}/mounts").read_text().splitlines()
    return next(line.split()[3].split(",")[0] for line in table if line.split()[1] == "/") == "ro"


def test_the_root_stays_closed_in_a_night_without_updates(machine: Machine) -> None:
    """The archives are looked at; nothing waits, so the window is not opened."""
    security_update(machine, "1.0", "")
    night(machine)
    shown = machine.inside("systemctl", "show", "drempel-maintenance", "-p", "Result", "-p", "ExecStartPre")
    assert "Result=exec-condition" in shown
    assert "start_time=[n/a]" in shown
    assert is_closed(machine)


@OPENS
def test_a_security_update_is_installed_in_a_window_that_closes_again(machine: Machine) -> None:
    """Debian's alone, on a root open for its time, without a network, and with a service restarted by the package."""
    saw = "/var/log/saw"
    script = (
        f"{{ findmnt -no OPTIONS /; ls /sys/class/net; }} >{saw}; systemctl restart systemd-journald.service"
    )
    security_update(machine, "1.1", script)
    said = night(machine)
    assert installed(machine) == "install ok installed 1.1", said
    options, *networks = machine.inside("cat", saw).split()
    assert options.startswith("rw,")
    assert networks == ["lo"]
    assert is_closed(machine)
    with pytest.raises(AssertionError, match="Read-only file system"):
        machine.inside("touch", "/etc/written")
    machine.tap()


@OPENS
def test_a_window_that_is_killed_is_closed_and_the_next_one_goes_on(machine: Machine) -> None:
    """In the middle of a package, as when it hangs: half configured that night, whole the next."""
    security_update(machine, "1.2", "touch /run/configuring; while [ ! -e /run/go ]; do sleep 0.1; done")
    machine.inside("systemctl", "start", "--no-block", "drempel-maintenance.service")
    until(lambda: "configuring" in machine.inside("ls", "/run"), "the package half installed")
    assert not is_closed(machine)
    machine.inside("systemctl", "kill", "--signal=KILL", "drempel-maintenance.service")
    until(lambda: is_closed(machine), "the root closed")
    assert "half-configured" in installed(machine)
    machine.tap()
    machine.inside("touch", "/run/go")
    said = night(machine)
    assert installed(machine) == "install ok installed 1.2", said
    assert is_closed(machine)


def test_a_card_gets_its_partition_and_keeps_it(tmp_path: Path) -> None:
    """On a disk image: the root is enlarged to its size, the rest is labelled; again changes nothing; a full card is refused."""
    image = tmp_path / "card.img"
    with image.open("wb") as file:
        file.truncate(3 * 2**30)
    run("sfdisk", "--quiet", image, input="label: dos\n8192,65536,c\n73728,1048576,L\n")
    loop = run("losetup", "--find", "--show", image).strip()
    try:
        run("partx", "--add", loop)
        until(Path(f"{loop}p2").exists, "the partitions of the image", 20)
        run("mkfs.ext4", "-q", f"{loop}p2")
        script = ROOT / "firmware_config" / "prepare-disk.sh"
        assert run("sh", script, f"{loop}p2", "1536").splitlines()[-1] == f"{loop}p3"
        assert run("blkid", "-p", "-s", "LABEL", "-o", "value", f"{loop}p3") == "drempel\n"
        table = run("sfdisk", "--dump", loop)
        assert f"size=     {1536 * 2048}," in table
        (tmp_path / "data").mkdir()
        run("mount", "-o", "data=journal,commit=1", f"{loop}p3", tmp_path / "data")
        run("umount", tmp_path / "data")
        assert run("sh", script, f"{loop}p2", "1536") == f"{loop}p3\n"
        assert run("sfdisk", "--dump", loop) == table
        run("sfdisk", "--quiet", "--delete", loop, "3")
        run("partx", "--delete", "--nr", "3", loop)
        with pytest.raises(AssertionError, match="larger than 512 MiB"):
            run("sh", script, f"{loop}p2", "512")
    finally:
        run("partx", "--delete", loop)
        run("losetup", "--detach", loop)
