"""Archives of Debian packages as a controller's maintenance window finds them, and packages that tell what they saw."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.firmware_config.debian import run

PROBE = "drempel-probe"


def package(directory: Path, version: str, *, script: str = "") -> Path:
    """A package of that version with a file in /usr; ``script`` runs, as root, when it is configured."""
    tree = directory / f"{PROBE}-{version}"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {PROBE}\nVersion: {version}\nArchitecture: all\nMaintainer: a test <test@localhost>\n"
        "Description: says which version of it is installed\n"
    )
    if script:
        (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\n{script}\n")
        (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "usr/share").mkdir(parents=True, exist_ok=True)
    (tree / "usr/share" / PROBE).write_text(f"{version}\n")
    made = directory / f"{PROBE}_{version}_all.deb"
    run("dpkg-deb", "--root-owner-group", "--build", tree, made)
    return made


def archive(directory: Path, packages: list[Path], *, codename: str, label: str) -> None:
    """Lay these packages out as an archive of that name: ``deb [trusted=yes] copy:DIRECTORY ./``."""
    directory.mkdir(parents=True, exist_ok=True)
    index = ""
    for path in packages:
        content = path.read_bytes()
        (directory / path.name).write_bytes(content)
        index += run("dpkg-deb", "--field", path).strip()
        index += f"\nFilename: ./{path.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"
    (directory / "Packages").write_text(index)
    listed = f" {hashlib.sha256(index.encode()).hexdigest()} {len(index.encode())} Packages\n"
    (directory / "Release").write_text(
        f"Origin: Debian\nLabel: {label}\nCodename: {codename}\nSuite: {codename}\nSHA256:\n{listed}"
    )
