"""What the commands that change keys are told: where the root is, and where the hub's directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any

import click

from provisioning import command
from provisioning.authority import Authority
from provisioning.key_delivery import Delivery
from provisioning.keystore import Passphrase
from provisioning.pkcs11_keys import TokenAccess
from provisioning.site import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class RootAccess:
    """Where the root's key is, and what opens it; ``tokens`` for one in a PKCS#11 token."""

    directory: Path | None
    passphrase_file: Path | None
    tokens: TokenAccess | None
    pin_file: Path | None

    def open(self, site: Site) -> Authority:
        """The newest root of a site; raises ``StoreError``."""
        passphrase = Passphrase.from_file(self.passphrase_file) if self.passphrase_file else None
        return site.root(self.directory, passphrase, self.root_tokens)

    @property
    def root_tokens(self) -> TokenAccess | None:
        """Access to the root's token, by its own PIN where it has one."""
        if self.tokens is None or self.pin_file is None:
            return self.tokens
        return replace(self.tokens, pin_file=self.pin_file)


def root_options(group: Callable[..., None]) -> Callable[..., None]:
    """Where the root's key is, and its PIN or passphrase, which become ``root``: ``RootAccess``."""

    @click.option(
        "--root-dir",
        type=command.directory_path,
        help="Where the root's key is.  [default: where it was made in the site's directory]",
    )
    @click.option(
        "--root-passphrase-file",
        type=command.file_path,
        help="File of mode 0600 with the root's passphrase; default: the one beside its key.",
    )
    @command.tokens_options
    @click.option(
        "--root-pin-file", type=command.file_path, help="PIN of the root's token.  [default: --pin-file]"
    )
    @wraps(group)
    def run(
        *,
        root_dir: Path | None,
        root_passphrase_file: Path | None,
        tokens: TokenAccess | None,
        root_pin_file: Path | None,
        **others: Any,
    ) -> None:
        root = RootAccess(
            directory=root_dir,
            passphrase_file=root_passphrase_file,
            tokens=tokens,
            pin_file=root_pin_file,
        )
        group(root=root, **others)

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Bureau:
    """Which site, and where its hub's directory is; each with what opens its keys."""

    site_dir: Path
    passphrase_file: Path | None
    hub_directory: Path | None
    hub_passphrase_file: Path | None

    def open(self) -> Delivery:
        """The site with its keys, and how its hub is given what changed; raises ``StoreError``."""
        site = Site.open(self.site_dir)
        passphrase = site.passphrase(self.passphrase_file)
        return Delivery(site, passphrase, self.hub_directory, self.hub_passphrase_file)


def bureau_options(group: Callable[..., None]) -> Callable[..., None]:
    """Site and hub's directory, with a passphrase each, which become ``bureau``: ``Bureau``."""

    @command.site_dir_option
    @command.passphrase_option
    @click.option(
        "--hub-dir",
        type=command.directory_path,
        help="The hub's directory, when it is at hand.  [default: hub in the site's directory, if it is there]",
    )
    @click.option(
        "--hub-passphrase-file",
        type=command.file_path,
        help="File of mode 0600 with the hub's passphrase; default: the one in its directory.",
    )
    @wraps(group)
    def run(
        *,
        site_dir: Path,
        passphrase_file: Path | None,
        hub_dir: Path | None,
        hub_passphrase_file: Path | None,
        **others: Any,
    ) -> None:
        bureau = Bureau(
            site_dir=site_dir,
            passphrase_file=passphrase_file,
            hub_directory=hub_dir,
            hub_passphrase_file=hub_passphrase_file,
        )
        group(bureau=bureau, **others)

    return run
