"""``drempel-provision site backup`` and ``site restore``."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pacs.errors import MalformedData
from provisioning import command, key_backup
from provisioning.key_backup import Archive
from provisioning.key_shares import MAX_SHARES, Share, ShareSet
from provisioning.keystore import NewFile, Passphrase, make_directory, read_file, refuse_existing
from provisioning.site import Site, under


@click.command(
    "backup",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision site backup wilgenoord --shares 5 --threshold 3 --out backup
  drempel-provision site backup wilgenoord --root-dir /media/safe/root --out backup --dry-run
""",
)
@click.argument("directory", type=command.directory_path)
@click.option("--out", required=True, type=command.directory_path, help="Directory to make for the backup.")
@click.option("--shares", type=click.IntRange(2, MAX_SHARES), default=5, show_default=True)
@click.option(
    "--threshold",
    type=click.IntRange(2, MAX_SHARES),
    default=3,
    show_default=True,
    help="How many of the shares open it.",
)
@click.option(
    "--root-dir",
    "root_directory",
    type=command.directory_path,
    help="Where the root's key is.  [default: DIRECTORY/root, if it is there]",
)
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def backup(
    *,
    directory: Path,
    out: Path,
    shares: int,
    threshold: int,
    root_directory: Path | None,
    passphrase_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Put the keys of a site into one encrypted file, and split what opens it into shares of 33 words.

    Each share is a page of its own, to print and to hand to one person. The site's passphrase is in the file, so that
    shares and file are all that a restore needs.
    """
    if threshold > shares:
        raise click.UsageError(f"--threshold {threshold} of --shares {shares}: at most as many as there are")
    site = Site.open(directory)
    refuse_existing(out)
    files = _files_of(site, site.passphrase(passphrase_file), root_directory)
    lacks = _lacking(site, files)
    result: dict[str, Any] = {
        "site": site.id,
        "files": sorted(str(file.path) for file in files),
        "shares": shares,
        "threshold": threshold,
        "lacks": lacks,
        "made": not dry_run,
    }
    missing = "".join(f"\nNot in it: {each}." for each in lacks)
    if dry_run:
        text = (
            f"Would put {len(files)} files into {out}, for {threshold} of {shares} shares to open.{missing}"
        )
        command.say(form, result, text)
        return
    with command.audited(site, "site backup", shares=shares, threshold=threshold, files=len(files)) as facts:
        made = key_backup.make(files, site.id, shares=shares, threshold=threshold, now=datetime.now(UTC))
        facts["backup"] = made.header.shares.identifier
        make_directory(out, made.files())
    text = f"""\
Put {len(files)} files into {out / f"{site.id}.keys"}, and opened it again by {threshold} of its {shares} shares.{missing}

Next:
  print {out}/share-1.txt to share-{shares}.txt, give each to another person, and delete the files
  keep {site.id}.keys in two places, not where a share is
  rehearse it: drempel-provision site restore {out / f"{site.id}.keys"} ELSEWHERE"""
    command.say(form, result | {"archive": str(out / f"{site.id}.keys")}, text)


def _files_of(site: Site, passphrase: Passphrase, root_directory: Path | None) -> list[NewFile]:
    files = key_backup.collect(site.directory)
    if root_directory is not None and root_directory.resolve() != site.root_directory.resolve():
        files += under(site.root_name, key_backup.collect(root_directory))
    if Path("passphrase") not in {file.path for file in files}:
        files.append(passphrase.file)
    return files


def _lacking(site: Site, files: list[NewFile]) -> list[str]:
    """What a restore from these files would not bring back."""
    there = {file.path for file in files}
    lacks = [
        f"the key of the {what}, which is in its token ({address})"
        for what, address in (("root", site.root_at), ("card issuer", site.card_issuer_at))
        if address is not None
    ]
    if site.root_at is None and Path(site.root_name, "root.key.pem") not in there:
        lacks.append("the key of the root; name where it is with --root-dir")
    return lacks + [f"the passphrase of {place}/" for place in key_backup.without_passphrase(files)]


@click.command(
    "restore",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision site restore backup/wilgenoord.keys wilgenoord
  drempel-provision site restore wilgenoord.keys wilgenoord --share share-1.txt --share share-4.txt --share share-5.txt
""",
)
@click.argument("archive_file", type=command.file_path)
@click.argument("directory", type=command.directory_path)
@click.option(
    "--share",
    "share_files",
    multiple=True,
    type=command.file_path,
    help="A share's page.  [default: its words are asked for]",
)
@click.option(
    "--root-dir",
    "root_directory",
    type=command.directory_path,
    help="Where the root's key is put.  [default: DIRECTORY/root]",
)
@command.dry_run_option
@command.format_option
@command.explained
def restore(
    *,
    archive_file: Path,
    directory: Path,
    share_files: tuple[Path, ...],
    root_directory: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Open a backup of a site's keys by its shares, and put them where nothing is yet.

    Nothing is overwritten, and nothing is written unless the shares open the file. A dry run goes as far as that.
    """
    for place in (directory, root_directory):
        if place is not None:
            refuse_existing(place)
    archive = _read_archive(archive_file)
    shares = _read_shares(share_files) if share_files else _asked(archive.header.shares)
    files = archive.open(shares)
    root = _root_name(files)
    apart = [file for file in files if root_directory and file.path.parts[0] == root]
    result: dict[str, Any] = {
        "site": archive.header.site,
        "directory": str(directory),
        "files": sorted(str(file.path) for file in files),
        "made": not dry_run,
    }
    what = (
        f"{len(files)} files of site {archive.header.site}, as of {archive.header.made_at:%Y-%m-%d %H:%M} UTC"
    )
    if dry_run:
        command.say(form, result, f"The shares open it. Would put {what}, into {directory}.")
        return
    make_directory(directory, [file for file in files if file not in apart])
    if root_directory and apart:
        make_directory(root_directory, [replace(file, path=file.path.relative_to(root)) for file in apart])
    facts = {"backup": archive.header.shares.identifier, "files": len(files)}
    with command.audited(Site.open(directory), "site restore", **facts):
        pass
    text = f"Put {what}, into {directory}.\n\nNext:\n  what was added since is not in it: controllers are added again"
    command.say(form, result, text)


def _root_name(files: Sequence[NewFile]) -> str:
    """The directory of the newest root's key among the files of a site."""
    described = next(file.data for file in files if file.path == Path("site.toml"))
    return str(tomllib.loads(described.decode("utf-8")).get("root_name", "root"))


def _read_archive(path: Path) -> Archive:
    try:
        return Archive.from_bytes(read_file(path))
    except MalformedData as error:
        raise MalformedData(f"{path}: {error}") from error


def _read_shares(paths: tuple[Path, ...]) -> list[Share]:
    return [Share.parse(read_file(path).decode("utf-8", "replace"), str(path)) for path in paths]


def _asked(common: ShareSet) -> list[Share]:
    """Ask for the words of one share after the other, each again until it is without a mistake."""
    shares: list[Share] = []
    while len(shares) < common.threshold:
        name = f"share {len(shares) + 1} of {common.threshold}"
        typed = click.prompt(f"Words of {name} (they are not shown)", hide_input=True, err=True)
        try:
            share = Share.parse(typed, name)
            common.by_number([*shares, share])
        except MalformedData as error:
            click.echo(str(error), err=True)
        else:
            shares.append(share)
    return shares
