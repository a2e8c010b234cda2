"""What the commands about controllers share: the hub that they are carried out at, and how they say what they did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from provisioning import command
from provisioning.command import NamedHub
from provisioning.hub_client import HubClient


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHub:
    """Where a command is carried out, whether it is only rehearsed, and in which form it is told of.

    ``root_file`` None: ``root.cert.pem`` in ``site_dir``, where there is one.
    """

    named_hub: NamedHub | None
    root_file: Path | None
    site_dir: Path
    dry_run: bool
    form: str

    @property
    def url(self) -> str | None:
        """Of the hub that was named."""
        return self.named_hub.url if self.named_hub else None

    @contextmanager
    def open(self) -> Iterator[HubClient]:
        """The hub, proven to answer and to admit the token to controllers; raises ``HubError``, ``StoreError``."""
        if self.named_hub is None:
            raise click.UsageError("--hub and --token-file are needed; without a hub: reader add --offline")
        beside = self.site_dir / "root.cert.pem"
        root = self.root_file or (beside if beside.exists() else None)
        with HubClient.from_token_file(self.named_hub.url, self.named_hub.token_file, root) as hub:
            hub.check("controllers")
            yield hub

    def say(self, result: Mapping[str, Any], text: str) -> None:
        """As JSON or as text."""
        command.say(self.form, result, text)


def at_hub(run: Callable[..., None]) -> Callable[..., None]:
    """``--site-dir``, ``--hub``, ``--token-file``, ``--root``, ``--dry-run`` and ``--format``, which become ``at``: ``AtHub``."""

    @command.site_dir_option
    @command.hub_options
    @click.option(
        "--root",
        "root_file",
        type=command.file_path,
        help="The site's root certificate, which vouches for the hub.  [root.cert.pem in --site-dir]",
    )
    @command.dry_run_option
    @command.format_option
    @wraps(run)
    @command.explained
    def told(
        *,
        named_hub: NamedHub | None,
        root_file: Path | None,
        site_dir: Path,
        dry_run: bool,
        form: str,
        **rest: Any,
    ) -> None:
        at = AtHub(
            named_hub=named_hub,
            root_file=root_file,
            site_dir=site_dir,
            dry_run=dry_run,
            form=form,
        )
        run(at=at, **rest)

    return told
