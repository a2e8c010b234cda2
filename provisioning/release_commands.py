"""``drempel-provision release``: the key that signs releases, and the signing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from pacs.release import NEWEST
from provisioning import audit_log, command
from provisioning.keystore import Passphrase
from provisioning.releases import PUBLIC_KEY, create_release_key, seal_release


@click.group("release")
def release_group() -> None:
    """Releases of the controllers' program."""


@release_group.command(
    "key",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision release key release-key
""",
)
@click.argument("directory", type=command.directory_path)
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def release_key(*, directory: Path, passphrase_file: Path | None, dry_run: bool, form: str) -> None:
    """Make the key that signs releases: who has it can run a program of theirs at every door.

    Without --passphrase-file a passphrase is generated and kept in DIRECTORY/passphrase.
    """
    result = {"directory": str(directory), "public_key": str(directory / PUBLIC_KEY), "made": not dry_run}
    if dry_run:
        command.say(form, result, f"Would make {directory}: an Ed25519 key, encrypted, and {PUBLIC_KEY}")
        return
    create_release_key(directory, Passphrase.from_file(passphrase_file) if passphrase_file else None)
    audit_log.append(directory, "release key", at=datetime.now(UTC), outcome="done", facts={})
    text = f"Made {directory}.\n\nNext:\n  keep it offline and its passphrase apart from it\n"
    text += f"  controllers get {directory / PUBLIC_KEY}: drempel-provision image config --release-key"
    command.say(form, result, text)


@release_group.command(
    "seal",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision release seal build/drempel-0.2.0.tar.gz --key-dir release-key
""",
)
@click.argument("archive", type=command.file_path)
@click.option("--key-dir", type=command.directory_path, required=True, help="Made by `release key`.")
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def release_seal(
    *, archive: Path, key_dir: Path, passphrase_file: Path | None, dry_run: bool, form: str
) -> None:
    """Sign an archive as the newest release; its manifest is put beside it, and a line in the key's audit.jsonl."""
    audit_log.check_writable(key_dir)
    passphrase, now = Passphrase.from_file(passphrase_file or key_dir / "passphrase"), datetime.now(UTC)
    release = seal_release(archive, key_dir, passphrase, now=now, write=not dry_run)
    if not dry_run:
        facts = {"version": str(release.version), "sha256": release.archive_sha256.hex()}
        audit_log.append(key_dir, "release seal", at=now, outcome="done", facts=facts)
    manifest = archive.parent / NEWEST
    result = {
        "version": str(release.version),
        "manifest": str(manifest),
        "sha256": release.archive_sha256.hex(),
        "bytes": release.archive_bytes,
        "made": not dry_run,
    }
    text = f"{'Would sign' if dry_run else 'Signed'} {archive.name} as {release.version}: {manifest}"
    text += f"\n\nNext:\n  put {release.archive_name} where controllers look for updates, then {NEWEST}"
    command.say(form, result, text)
