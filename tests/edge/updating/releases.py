"""Signed releases of a program that says its version, and the directory of a controller that runs one."""

from __future__ import annotations

import hashlib
import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.updating.trial import Releases
from pacs.envelope import trusted_keys
from pacs.release import NEWEST, Release, Version

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
TRUSTED = trusted_keys(KEY.public_key())
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


def program(version: str) -> dict[str, bytes]:
    """The files of a release that does nothing but say its version."""
    return {"bin/drempel-edge": f"#!/bin/sh\necho drempel-edge, version {version}\n".encode()}


def archive_of(files: dict[str, bytes]) -> bytes:
    """A release's archive; its files may be executed."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def publish(
    directory: Path, version: str, *, files: dict[str, bytes] | None = None, key: Ed25519PrivateKey = KEY
) -> Release:
    """Put a release into the directory as its newest."""
    files = files or program(version)
    archive = archive_of(files)
    release = Release(
        version=Version.parse(version),
        built_at=NOW,
        archive_bytes=len(archive),
        archive_sha256=hashlib.sha256(archive).digest(),
        unpacked_bytes=sum(map(len, files.values())),
    )
    directory.mkdir(exist_ok=True)
    (directory / release.archive_name).write_bytes(archive)
    (directory / NEWEST).write_bytes(release.seal(key))
    return release


def controller(root: Path, version: str = "0.1.0") -> Releases:
    """A controller on which one release is laid down and runs."""
    releases = Releases(root)
    put = releases.path(version) / "bin"
    put.mkdir(parents=True)
    (put / "drempel-edge").write_bytes(program(version)["bin/drempel-edge"])
    releases.link("current", version)
    return releases
