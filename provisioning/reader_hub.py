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
from provisioning.hub_client import HubClient


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHub:
    """Where a command is carried out, whether it is only rehearsed, and in which form it is told of.

    ``root_file`` None: ``root.cert.pem`` in ``site_dir``, where there is one.
    """

    url: str | None
    token_file: Path | None
    root_file: Path | None
    site_dir: Path
    dry_run: bool
    form: str

    @contextmanager
    def open(self) -> Iterator[HubClient]:
        """The hub, proven to answer and to admit the token to controllers; raises ``HubError``, ``StoreError``."""
        if self.url is None or self.token_file is None:
            raise click.UsageError("--hub and --token-file are needed; without a hub: reader add --offline")
        beside = self.site_dir / "root.cert.pem"
        root = self.root_file or (beside if beside.exists() else None)
        with HubClient.from_token_file(self.url, self.token_file, root) as hub:
            hub.check("controllers")
            yield hub

    def say(self, result: Mapping[str, Any], text: str) -> None:
        """As JSON or as text."""
        command.say(self.form, result, text)


def at_hub(run: Callable[..., None]) -> Callable[..., None]:
    """``--site-dir``, ``--hub``, ``--token-file``, ``--root``, ``--dry-run`` and ``--format``, which become ``at``: ``AtHub``."""

    @command.site_dir_option
    @command.hub_option
    @command.token_option
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
        hub_url: str | None,
        token_file: Path | None,
        root_file: Path | None,
        site_dir: Path,
        dry_run: bool,
        form: str,
        **rest: Any,
    ) -> None:
        at = AtHub(
            url=hub_url,
            token_file=token_file,
            root_file=root_file,
            site_dir=site_dir,
            dry_run=dry_run,
            form=form,
        )
        run(at=at, **rest)

    return told
