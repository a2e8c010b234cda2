"""The installer and the first start, on a root of Debian's first accounts with this machine's programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edge.updating.trial import Releases
from pacs.identifiers import ControllerId
from provisioning.image import (
    FOLDER,
    ImageSettings,
    System,
    boot_files,
    controller_files,
    shipped_files,
    write_boot,
)
from tests.edge.installed import install
from tests.firmware_config.card import (
    CMDLINE,
    CONFIG,
    FIRMWARE,
    bare_root,
    boot_partition,
    everything,
    inside,
    shelf,
)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
    reason="NOT CHECKED: only root can give a test a root file system of its own, so nobody has run install.sh",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return bare_root(tmp_path / "root")


@pytest.fixture(scope="module")
def installed_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On which the installer has run."""
    root = bare_root(tmp_path_factory.mktemp("installed") / "root")
    installed(root)
    return root


def installed(root: Path, *options: str) -> list[str]:
    """The changes the installer says it makes."""
    return inside(root, "sh", FIRMWARE / "install.sh", "--root", root, *options).splitlines()


def test_installing_again_changes_nothing(root: Path) -> None:
    """And a dry run names what the first one does, without doing it."""
    before = everything(root)
    would = installed(root, "--dry-run")
    assert everything(root) == before
    assert len(installed(root)) >= len(would) > 20
    after = everything(root)
    assert installed(root) == []
    assert everything(root) == after


def test_every_file_is_where_it_says(installed_root: Path) -> None:
    """Each names its place in its first lines, and is there byte for byte."""
    places = 0
    for path in FIRMWARE.iterdir():
        for line in path.read_text(encoding="utf-8").splitlines()[:2]:
            if " Installed as " in line:
                target = installed_root / line.split(" Installed as /")[1]
                assert target.read_bytes() == path.read_bytes()
                places += 1
    assert places >= 18
    assert (installed_root / "usr/local/lib/drempel/trial.py").read_bytes() == (
        FIRMWARE.parent / "edge/updating/trial.py"
    ).read_bytes()


def test_nobody_can_log_in(installed_root: Path) -> None:
    """No account has a password that opens it, and port 22 is neither served nor let through."""
    secrets = [line.split(":")[1] for line in (installed_root / "etc/shadow").read_text().splitlines()]
    assert all(secret.startswith(("!", "*")) for secret in secrets)
    assert not (installed_root / "etc/nftables.d/input-ssh.nft").exists()


def test_the_root_is_read_only_and_what_is_written_has_a_place(installed_root: Path) -> None:
    """Root and boot partition are ro; state, keys and releases lie on the journalled partition, the rest in memory."""
    mounts = {}
    for line in (installed_root / "etc/fstab").read_text().splitlines():
        if not line.startswith("#"):
            device, place, kind, options, *_ = line.split()
            mounts[place] = (device, kind, options.split(","))
    assert "ro" in mounts["/"][2]
    assert "ro" in mounts["/boot/firmware"][2]
    assert mounts["/data"][0] == "LABEL=drempel"
    assert {"data=journal", "commit=1", "nosuid", "nodev"} <= set(mounts["/data"][2])
    for place in ("/etc/drempel", "/var/lib/drempel", "/opt/drempel", "/var/lib/systemd"):
        assert mounts[place][0].startswith("/data/")
    assert mounts["/var/log"][1] == mounts["/tmp"][1] == "tmpfs"


def test_a_first_start_makes_a_controller_of_it_and_can_be_cut_off(root: Path, tmp_path: Path) -> None:
    """Release, keys and system are laid down; done again, as after a power cut, it ends the same; secrets leave the card."""
    install(tmp_path)
    boot = boot_partition(tmp_path / "boot", System.TRIXIE)
    release = shelf(tmp_path / "shelf")
    settings = ImageSettings(
        controller=ControllerId("c_front"),
        ntp=("hub.example",),
        ntp_fallback=("ntp.example",),
        updates="https://updates.example/drempel",
        ssh_keys=(),
    )
    files = boot_files(
        settings,
        System.TRIXIE,
        found={"cmdline.txt": CMDLINE[System.TRIXIE], "config.txt": CONFIG},
        release=release,
        firmware={name: (FIRMWARE / name).read_bytes() for name in ("first-boot.sh", "config.txt")},
        secrets=controller_files(tmp_path / "controller"),
        shipped=shipped_files(tmp_path / "shelf", release, tmp_path / "shelf" / "release.pub.pem"),
    )
    write_boot(boot, files)
    first = boot / FOLDER / "first-boot.sh"
    where = {"DREMPEL_ROOT": str(root), "DREMPEL_DATA": str(root / "data")}
    inside(root, "sh", first, **where)
    once = everything(root)
    inside(root, "sh", first, **where)
    assert everything(root) == once
    assert not (boot / FOLDER / "controller").exists()
    accounts = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
    owner = {name: int(number) for name, _, number, *_ in accounts}
    key = root / "data/config/device.key.pem"
    assert (key.stat().st_uid, key.stat().st_mode & 0o777) == (owner["drempel"], 0o600)
    assert 'state_dir = "/var/lib/drempel"' in (root / "data/config/controller.toml").read_text()
    assert Releases(root / "data/releases").linked("current") == "0.1.0"
    assert (root / "data/releases/current/bin/drempel-edge").stat().st_uid == owner["drempel-update"]
    assert (root / "etc/hostname").read_text() == "c-front\n"
    assert (
        "NTP=hub.example\nFallbackNTP=ntp.example\n"
        in (root / "etc/systemd/timesyncd.conf.d/50-drempel.conf").read_text()
    )


def test_a_damaged_card_is_not_begun_with(root: Path, tmp_path: Path) -> None:
    """What the bureau wrote is checked first; the log on the card says what was wrong."""
    boot = tmp_path / "boot"
    boot.mkdir()
    (boot / "first-boot.sh").write_bytes((FIRMWARE / "first-boot.sh").read_bytes())
    (boot / "settings").write_text("DREMPEL_VERSION='0.1.0'\n")
    (boot / "SHA256SUMS").write_text(f"{'0' * 64}  settings\n")
    before = everything(root)
    with pytest.raises(AssertionError):
        inside(root, "sh", boot / "first-boot.sh", DREMPEL_ROOT=str(root), DREMPEL_DATA=str(root / "data"))
    assert everything(root) == before
    assert "settings: FAILED" in (boot / "first-boot.log").read_text()
