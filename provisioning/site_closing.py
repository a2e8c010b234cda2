"""``drempel-provision site destroy-keys``: the end of a site's private keys, in every directory of it that is at hand."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from pacs.errors import StoreError
from provisioning import command
from provisioning.card_batch_commands import FOLDER
from provisioning.site import Site

_PATTERNS: Final = ("*.key.pem", "passphrase", "card-keys")


@click.command(
    "destroy-keys",
    cls=command.Verb,
    epilog="""\
Examples:
  drempel-provision site destroy-keys wilgenoord --reason "closed" --dry-run
  drempel-provision site destroy-keys wilgenoord --reason "closed" --root-dir /media/stick/root --hub-dir /media/hub
""",
)
@click.argument("directory", type=command.directory_path)
@click.option("--reason", required=True, metavar="TEXT", help="Why, for the site's log.")
@click.option(
    "--root-dir", type=command.directory_path, help="Where the root's key is, when it is not in DIRECTORY."
)
@click.option(
    "--hub-dir", type=command.directory_path, help="The hub's directory, when it is not in DIRECTORY."
)
@command.dry_run_option
@command.format_option
@command.explained
def destroy_keys(
    *, directory: Path, reason: str, root_dir: Path | None, hub_dir: Path | None, dry_run: bool, form: str
) -> None:
    """Overwrite and delete every private key, passphrase and card key of a site, and its lists of issued cards.

    Nobody can sign, certify, issue or reset anything of the site afterwards, and no backup of its hub's keys is left but
    those made with `site backup`. Certificates, public keys and the log stay: they say what was there, and that it is gone.
    """
    site = Site.open(directory)
    places = [directory, *(each for each in (root_dir, hub_dir) if each is not None)]
    found = [path for place in places for path in secret_files(place)]
    in_tokens = [str(each) for each in (site.root_at, site.card_issuer_at) if each is not None]
    has_root = any(path.name == "root.key.pem" for path in found)
    beyond = [*(f"the key in token {each}" for each in in_tokens), "what `site backup` made, and its shares"]
    if not has_root and site.root_at is None:
        beyond.insert(0, "the root's key: name where it is with --root-dir")
    names = [str(path) for path in found]
    result: dict[str, Any] = {
        "site": site.id,
        "made": not dry_run,
        "destroyed": names,
        "beyond_reach": beyond,
    }
    if not dry_run:
        with command.audited(site, "site destroy-keys", site=site.id, reason=reason) as facts:
            facts["destroyed"] = []
            for path in found:
                destroy(path)
                facts["destroyed"].append(path.name)
    lines = [
        f"{'Would destroy' if dry_run else 'Destroyed'} {len(found)} files:",
        *(f"  {each}" for each in names),
    ]
    lines += ["Not reached, to be destroyed by hand:", *(f"  {each}" for each in beyond)]
    command.say(form, result, "\n".join(lines))


def secret_files(directory: Path) -> Iterator[Path]:
    """What is secret, or lists for whom cards were made, below a directory, by name."""
    found = {path for pattern in _PATTERNS for path in directory.rglob(pattern)}
    found |= set((directory / FOLDER).glob("*"))
    yield from sorted(path for path in found if path.is_file())


def destroy(path: Path) -> None:
    """Overwrite a file with random bytes, durably, and delete it; raises ``StoreError``.

    On a flash medium the old bytes may survive in cells that no program reaches: destroy the medium as well.
    """
    try:
        with path.open("r+b") as file:
            file.write(secrets.token_bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except OSError as error:
        raise StoreError(f"{path}: cannot be destroyed ({error.strerror})") from error
