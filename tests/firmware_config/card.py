"""Cards with Raspberry Pi OS Lite as they come, releases for them, and root file systems that cost nothing."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pacs.release import NEWEST, Release
from provisioning.image import System
from tests.edge.updating.releases import KEY, program, publish

ROOT = Path(__file__).resolve().parents[2]
FIRMWARE = ROOT / "firmware_config"

# cmdline.txt as the image builder of Raspberry Pi OS writes it, of either system.
CMDLINE = {
    System.BOOKWORM: "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 fsck.repair=yes "
    "rootwait quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n",
    System.TRIXIE: "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 fsck.repair=yes "
    "rootwait resize\n",
}
CONFIG = "dtparam=audio=on\nauto_initramfs=1\narm_64bit=1\n[cm4]\notg_mode=1\n[all]\n"


def boot_partition(directory: Path, system: System) -> Path:
    """A boot partition as the image has it."""
    directory.mkdir(exist_ok=True)
    (directory / "cmdline.txt").write_text(CMDLINE[system])
    (directory / "config.txt").write_text(CONFIG)
    if system is System.TRIXIE:
        (directory / "user-data").write_text("#cloud-config\n")
    return directory


def shelf(directory: Path, version: str = "0.1.0") -> Release:
    """A signed release that says its version and holds what turns a Pi into a controller; with the key's public half."""
    files = program(version)
    files["lib/3.11/edge/updating/trial.py"] = (ROOT / "edge" / "updating" / "trial.py").read_bytes()
    for path in FIRMWARE.iterdir():
        files[f"firmware_config/{path.name}"] = path.read_bytes()
    release = publish(directory, version, files=files)
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (directory / "release.pub.pem").write_bytes(pem)
    assert (directory / NEWEST).exists()
    return release


def bare_root(directory: Path) -> Path:
    """A root with Debian's first accounts and this machine's programs, which ``inside`` brings."""
    directory.mkdir()
    for name in (
        "etc",
        "usr/local",
        "var/lib/systemd/timesync",
        "data",
        "tmp",
        "home",
        "proc",
        "dev",
        "root",
    ):
        (directory / name).mkdir(parents=True)
    for part in ("bin", "sbin", "lib", "lib64", "share"):
        (directory / "usr" / part).mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        (directory / name).symlink_to(f"usr/{name}")
    etc = directory / "etc"
    etc.joinpath("passwd").write_text(
        "root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n"
        "pi:x:1000:1000::/home/pi:/bin/bash\n"
    )
    etc.joinpath("group").write_text("root:x:0:\nadm:x:4:\ndialout:x:20:\npi:x:1000:\n")
    etc.joinpath("shadow").write_text("root:*:19000:0:99999:7:::\npi:$6$known$hash:19000:0:99999:7:::\n")
    etc.joinpath("gshadow").write_text("root:*::\n")
    etc.joinpath("hosts").write_text("127.0.0.1 localhost\n")
    etc.joinpath("fstab").write_text(
        "proc            /proc           proc    defaults          0       0\n"
        "PARTUUID=4e639091-01  /boot/firmware  vfat    defaults          0       2\n"
        "PARTUUID=4e639091-02  /               ext4    defaults,noatime  0       1\n"
    )
    shutil.copytree("/etc/pam.d", etc / "pam.d")
    shutil.copy("/etc/login.defs", etc)
    return directory


def inside(root: Path, *command: str | Path, **environment: str) -> str:
    """What a command says while the programs of ``root/usr`` are this machine's, unwritable; the mounts end with it."""
    script = """set -e; root=$1; shift
        for part in bin sbin lib lib64 share; do
            [ ! -d "/usr/$part" ] || { mount --bind "/usr/$part" "$root/usr/$part"; mount -o remount,bind,ro "$root/usr/$part"; }
        done
        exec "$@"
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", root, *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def everything(directory: Path) -> dict[str, str]:
    """Every file below, by path, with mode, owner and content."""
    found = {}
    for path in sorted(directory.rglob("*")):
        about = path.lstat()
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        found[str(path.relative_to(directory))] = f"{about.st_mode:o} {about.st_uid}:{about.st_gid} {content}"
    return found
