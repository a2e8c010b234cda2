"""``drempel-provision card keys``: by what a card knows its issuer."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click

from pacs.card.card_keys import MASTER_BYTES, SIMULATED_BATCH, SIMULATED_MASTER, check_batch
from pacs.errors import MalformedData, StoreError
from provisioning import command
from provisioning.card_keys import FILE_NAME, CardKeys, replace_secret
from provisioning.keystore import read_secret
from provisioning.site import Site


@click.group("keys")
def keys_group() -> None:
    """The keys by which cards know their issuer: one of each batch of blank cards, one of the site's own."""


@keys_group.command(
    "create",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card keys create --dry-run --site-dir wilgenoord
  drempel-provision card keys create --site-dir wilgenoord
""",
)
@command.site_dir_option
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def keys_create(*, site_dir: Path, passphrase_file: Path | None, dry_run: bool, form: str) -> None:
    """Make the card keys of a site that was made before there were any; keys that are there are never replaced."""
    site = Site.open(site_dir)
    passphrase = site.passphrase(passphrase_file)
    if os.path.lexists(path := site.directory / FILE_NAME):
        raise StoreError(f"{path}: is there already; without its keys no card that is out could be reset")
    keys = CardKeys.generate()
    newest = max(keys.administration)
    result = {"administration": newest, "batches": [], "made": not dry_run}
    if dry_run:
        command.say(form, result, f"Would make administration key {newest} in {path}, and no batch.")
        return
    with command.audited(site, "card keys create", administration=newest):
        keys.write(site.directory, passphrase)
    text = f"""Made administration key {newest} in {path}.

Next: drempel-provision card keys add-batch, for the blank cards there are;
      drempel-provision site backup, because no earlier backup has this file."""
    command.say(form, result, text)


@keys_group.command(
    "show",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision card keys show --site-dir wilgenoord
""",
)
@command.site_dir_option
@command.passphrase_option
@command.format_option
@command.explained
def keys_show(*, site_dir: Path, passphrase_file: Path | None, form: str) -> None:
    """Say which batches can be issued, and which administration keys there are; never a key."""
    site = Site.open(site_dir)
    keys = CardKeys.read(site.directory, site.passphrase(passphrase_file))
    result = {"batches": sorted(keys.transport), "administration": sorted(keys.administration)}
    batches = ", ".join(sorted(keys.transport)) or "none: add one, or no blank card can be issued"
    newest = max(keys.administration)
    text = f"batches         {batches}\nadministration  {len(keys.administration)}, newest {newest}"
    command.say(form, result, text)


@keys_group.command(
    "add-batch",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision card keys add-batch B001 --key-file from-the-maker.hex --site-dir wilgenoord
  drempel-provision card keys add-batch B002 --new for-the-maker.hex --site-dir wilgenoord
  drempel-provision card keys add-batch SIM0 --simulated --site-dir demo
""",
)
@click.argument("batch", callback=command.parsed(check_batch))
@click.option(
    "--key-file", type=command.file_path, help="File of mode 0600 with the maker's key, 64 hex digits."
)
@click.option(
    "--new", "new_file", type=command.file_path, help="Make a key, and write it here for the maker."
)
@click.option(
    "--simulated", is_flag=True, help=f"The published key of the simulator's cards, batch {SIMULATED_BATCH}."
)
@command.site_dir_option
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def keys_add_batch(
    *,
    batch: str,
    key_file: Path | None,
    new_file: Path | None,
    simulated: bool,
    site_dir: Path,
    passphrase_file: Path | None,
    dry_run: bool,
    form: str,
) -> None:
    """Let the blank cards of a batch be issued: their transport key is known to the site and to their maker.

    Each chip's own keys are diversified from it by its serial number.
    """
    if (key_file is not None) + (new_file is not None) + simulated != 1:
        raise click.UsageError("one of --key-file, --new and --simulated")
    if simulated is not (batch == SIMULATED_BATCH):
        raise click.UsageError(f"batch {SIMULATED_BATCH} and --simulated belong together")
    if new_file is not None and new_file.exists():
        raise click.UsageError(f"{new_file}: exists already; a key is never overwritten")
    site = Site.open(site_dir)
    passphrase = site.passphrase(passphrase_file)
    keys = CardKeys.read(site.directory, passphrase)
    if simulated:
        master = SIMULATED_MASTER
    elif key_file is not None:
        master = _hex(key_file)
    else:
        master = secrets.token_bytes(MASTER_BYTES)
    added = keys.with_batch(batch, master)
    result = {"batch": batch, "made": not dry_run}
    if dry_run:
        command.say(form, result, f"Would let blank cards of batch {batch} be issued.")
        return
    with command.audited(site, "card keys add-batch", batch=batch):
        if new_file is not None:
            replace_secret(new_file, master.hex().encode() + b"\n")
        added.write(site.directory, passphrase)
    text = f"Blank cards of batch {batch} can be issued."
    if new_file is not None:
        text += f"\n\nNext: bring {new_file} to the maker by a way of its own, and delete it here."
    command.say(form, result, text)


@keys_group.command(
    "rotate",
    cls=command.Verb,
    epilog="""\
Example:
  drempel-provision card keys rotate --site-dir wilgenoord
""",
)
@command.site_dir_option
@command.passphrase_option
@command.dry_run_option
@command.format_option
@command.explained
def keys_rotate(*, site_dir: Path, passphrase_file: Path | None, dry_run: bool, form: str) -> None:
    """Make another administration key for the cards locked from now on; cards that are out keep theirs, and work on."""
    site = Site.open(site_dir)
    passphrase = site.passphrase(passphrase_file)
    rotated = CardKeys.read(site.directory, passphrase).rotated()
    newest = max(rotated.administration)
    if not dry_run:
        with command.audited(site, "card keys rotate", administration=newest):
            rotated.write(site.directory, passphrase)
    text = f"{'Would make' if dry_run else 'Made'} administration key {newest}; the older ones stay for the cards that have them."
    command.say(form, {"administration": newest, "made": not dry_run}, text)


def _hex(path: Path) -> bytes:
    try:
        return bytes.fromhex(read_secret(path).decode("ascii"))
    except ValueError as error:
        raise MalformedData(f"{path}: 64 hex digits expected") from error
