"""The release key, and what it signs: which archive a version of the controller's program is."""

from __future__ import annotations

import hashlib
import tarfile
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pacs.envelope import trusted_keys
from pacs.errors import MalformedData, StoreError, VerificationError
from pacs.release import NEWEST, Release, Version
from provisioning.keystore import (
    NewFile,
    Passphrase,
    make_directory,
    public_pem,
    read_file,
    read_key,
    read_public_key,
    seal_key,
)

PUBLIC_KEY: Final = "release.pub.pem"
_PRIVATE_KEY: Final = Path("release.key.pem")


def create_release_key(directory: Path, passphrase: Passphrase | None = None) -> None:
    """Make ``directory`` with a new Ed25519 key, encrypted, and its public half ``release.pub.pem``.

    Without ``passphrase`` one is generated and kept in the directory. Raises ``StoreError`` when it exists already.
    """
    key, secret = Ed25519PrivateKey.generate(), passphrase or Passphrase.generate()
    files = [
        NewFile(path=_PRIVATE_KEY, data=seal_key(key, secret), is_secret=True),
        NewFile(path=Path(PUBLIC_KEY), data=public_pem(key.public_key())),
    ]
    make_directory(directory, files if passphrase else [secret.file, *files])


def seal_release(
    archive: Path, directory: Path, passphrase: Passphrase, *, now: datetime, write: bool = True
) -> Release:
    """Sign the archive ``drempel-VERSION.tar.gz`` with a directory's key, and ``write`` ``newest.manifest`` beside it.

    Raises ``MalformedData`` when it is not so called or not such an archive, ``StoreError`` when the key or a file
    cannot be used. Whatever manifest lay there is replaced.
    """
    key = read_key(directory / _PRIVATE_KEY, passphrase)
    if not isinstance(key, Ed25519PrivateKey):
        raise StoreError(f"{directory / _PRIVATE_KEY}: an Ed25519 key expected")
    content = read_file(archive)
    name = archive.name.removeprefix("drempel-").removesuffix(".tar.gz")
    try:
        with tarfile.open(archive, "r:gz") as members:
            unpacked = sum(member.size for member in members)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise MalformedData(f"{archive}: not a tar archive compressed with gzip") from error
    release = Release(
        version=Version.parse(name),
        built_at=now,
        archive_bytes=len(content),
        archive_sha256=hashlib.sha256(content).digest(),
        unpacked_bytes=unpacked,
    )
    if release.archive_name != archive.name:
        raise MalformedData(f"{archive}: its name is not {release.archive_name}")
    sealed = release.seal(key)
    if write:
        (archive.parent / NEWEST).write_bytes(sealed)
    return release


def open_release(manifest: Path, public_key: Path) -> Release:
    """The release a manifest names, with the archive beside it proven to be the one that was signed.

    Raises ``MalformedData`` when it is not, ``StoreError`` when a file cannot be read.
    """
    key = read_public_key(public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise StoreError(f"{public_key}: an Ed25519 key expected")
    try:
        release = Release.open(read_file(manifest), trusted_keys(key))
    except VerificationError as error:
        raise MalformedData(f"{manifest}: not signed with {public_key}") from error
    content = read_file(manifest.parent / release.archive_name)
    if len(content) != release.archive_bytes or hashlib.sha256(content).digest() != release.archive_sha256:
        raise MalformedData(f"{release.archive_name}: not the archive that was signed")
    return release
