"""A fresh Debian to make a controller of, for this machine's processor or for the Pi's; and disks to put it on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provisioning.image import System
from tests.firmware_config.card import ROOT

SYSTEM = System(os.environ.get("DEBIAN", "bookworm"))
PYTHON = {System.BOOKWORM: "3.11", System.TRIXIE: "3.13"}[SYSTEM]
HERE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
ARCH = os.environ.get("IMAGE_ARCH") or HERE
EMULATED = ARCH != HERE
CAN_RUN = not EMULATED or (ARCH == "arm64" and Path("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists())
PROCESSOR = {"QEMU_CPU": "cortex-a53"} if EMULATED else {}
"""The least of the Pis (3 and Zero 2 W): a package that needs a newer one's instructions ends with SIGILL."""
LACKS = (
    {"nftables", "systemd-sysctl", "systemd-tmpfiles-setup", "systemd-tmpfiles-setup-dev"}
    if EMULATED
    else set()
)
"""Services that fail in an emulated machine: the emulator knows no firewall, and no credentials of systemd's own."""
UNSHARED = "[Service]\nPrivateNetwork=no\nPrivateUsers=no\n"
"""What the emulator cannot make for a service; both are there in the machine that is not emulated."""
PACKAGES = "systemd-sysv,dbus,python3,nftables,systemd-timesyncd,passwd,e2fsprogs,unattended-upgrades"


def run(*command: str | Path, **more: Any) -> str:
    """What a command says; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def fetched() -> Path:
    """Fetched once and kept below build."""
    directory = ROOT / "build" / f"debian-{SYSTEM}-{ARCH}"
    if not directory.exists():
        part = directory.with_suffix(".part")
        part.parent.mkdir(exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        run(
            "debootstrap",
            f"--arch={ARCH}",
            "--variant=minbase",
            f"--include={PACKAGES}",
            SYSTEM.value,
            part,
        )
        shutil.rmtree(part / "var/cache/apt/archives", ignore_errors=True)
        shutil.rmtree(part / "var/lib/apt/lists", ignore_errors=True)
        part.rename(directory)
    return directory


@contextmanager
def disk(at: Path, mib: int, *, options: str = "noatime", journal_mib: int = 16) -> Iterator[str]:
    """A file system of its own at a directory: remounting it leaves this machine's alone. Gives its loop device's name."""
    image = at.with_suffix(".disk")
    with image.open("wb") as file:
        file.truncate(mib * 2**20)
    run("mkfs.ext4", "-q", "-F", "-m", "1", "-J", f"size={journal_mib}", image)
    at.mkdir(exist_ok=True)
    loop = run("losetup", "--find", "--show", image).strip()
    try:
        run("mount", "-o", options, loop, at)
        (at / "lost+found").rmdir()
        try:
            yield Path(loop).name
        finally:
            run("umount", "--recursive", at)
    finally:
        run("losetup", "--detach", loop)
        image.unlink()
