"""``drempel-edge update``: offer the newest release for trial."""

from __future__ import annotations

from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.command_line import give_up
from edge.updating.offer import NotWanted, Offer
from edge.updating.source import Source
from pacs.envelope import trusted_keys
from pacs.errors import PacsError, StoreError


@click.command("update")
@click.option(
    "--from", "place", required=True, help="A directory, or an https:// address, with newest.manifest."
)
@click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="The release key's public half (PEM)."
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/opt/drempel"),
    show_default=True,
    help="Where releases lie.",
)
def update_command(place: str, key: Path, root: Path) -> None:
    """Fetch a newer release, prove that the release key signed it, lay it down beside the others, and offer it for trial.

    Nothing is switched or restarted: drempel-trial.service does that, watches, and goes back when it does not hold.

    Exit status: 0 offered, or nothing newer to take; 1 not, and standard error says why; 2 wrong usage.

    Example: drempel-edge update --from https://updates.example.org/drempel --key /usr/local/lib/drempel/release.pub.pem
    """
    try:
        for step in Offer(root, Source(place), trusted_keys(_read(key))).steps():
            click.echo(step)
    except NotWanted as error:
        click.echo(str(error))
    except PacsError as error:
        give_up(error)


def _read(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StoreError(f"{path}: not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise StoreError(f"{path}: an Ed25519 key expected")
    return key
